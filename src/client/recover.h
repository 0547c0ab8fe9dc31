/* SPDX-License-Identifier: Apache-2.0 */
/* Opening and closing capture: the journal of the last run becomes the queue of this one. */
#ifndef SYNCFS_CLIENT_RECOVER_H
#define SYNCFS_CLIENT_RECOVER_H

#include "capture.h"

struct syncstate;
struct inode_table;

struct capture_config {
	int state_dirfd; /* borrowed; holds the journal */
	struct syncstate *state;
	const struct tree *tree;
	struct rwlock *tree_lock;
	struct inode_table *inodes;
	/* A writer has gone or an operation was settled: the applier may have work. Any thread, no locks held
	 * but capture's. */
	void (*released)(void *arg);
	void *arg;
};

/* -EBADMSG: the journal is damaged (kept as it is, see journal_set_aside()). *ret_replayed: operations found
 * in it. */
int capture_open(const struct capture_config *config, struct capture **ret_capture, size_t *ret_replayed);
void capture_close(struct capture *c); /* makes the journal durable */

#endif
