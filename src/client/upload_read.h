/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads what a batch is to carry: attributes and content of each item from the backing directory, stable or
 * not at all; what the server has told already is recognised by content. Used by the
 * uploader's thread.
 */
#ifndef SYNCFS_CLIENT_UPLOAD_READ_H
#define SYNCFS_CLIENT_UPLOAD_READ_H

#include <stdatomic.h>

#include "outbox.h"

struct remote;
struct syncstate;
struct inode_table;

struct upload_read {
	const struct tree *tree;
	struct syncstate *state;
	struct inode_table *inodes;
	struct remote *remote; /* for chunks of large files */

	atomic_bool at_disk; /* relaxed: busy on this machine, so that the silence is not the network's */

	/* During a batch, from upload_read_begin() to upload_read_end(). */
	bool server_has_told; /* something waits in R: what we are about to send may be there already */
	char *dir_path; /* the directory of the last item, open */
	int dirfd;
};

void upload_read_begin(struct upload_read *u);
void upload_read_end(struct upload_read *u);

enum read_verdict {
	READ_READY = 0,
	READ_ADOPTED, /* equal to what the server has told: nothing to send */
	READ_LATER, /* being written, or moved meanwhile: put off for *ret_delay_ms */
	READ_LOST, /* not where it should be, and nobody told us: put off, and a scan finds out */
	READ_NEEDLESS, /* the object is gone: the operation says nothing any more */
};

/* Fills item's op (content appended to raw, data_at counts from its start) and disk. A verdict or -errno (of
 * the server or the disk). */
int upload_read_item(
	struct upload_read *u, struct outbox *o, struct item *item, struct buf *raw, uint64_t *ret_delay_ms);

#endif
