/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by outbox*.c, by nobody else. */
#ifndef SYNCFS_CLIENT_OUTBOX_SETTLE_H
#define SYNCFS_CLIENT_OUTBOX_SETTLE_H

#include "capture_internal.h"
#include "outbox.h"

/* The node that id has become in this batch, or id. */
struct id outbox_alias(const struct outbox *o, const struct id *id);
/*
 * Gives row the name, unless the applier has placed another node there meanwhile: then ours has left it, as a
 * later operation will say, and row may be without a name until then.
 */
int settle_take_name(
	struct syncstate *s, struct base_row *row, const struct id *parent, const char *name, uint64_t l);
int settle_copy_bytes(struct blob *to, const struct blob *from);

/* Items that leave queue and journal. */
struct let_go {
	uint64_t *lsns; /* room for all of the batch */
	size_t count;
};

int let_go_init(struct let_go *g, const struct outbox *o);
void let_go_item_locked(struct capture *c, struct item *i, struct let_go *g);

#endif
