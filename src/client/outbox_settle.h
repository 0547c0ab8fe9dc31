/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by outbox*.c, by nobody else. */
#ifndef SYNCFS_CLIENT_OUTBOX_SETTLE_H
#define SYNCFS_CLIENT_OUTBOX_SETTLE_H

#include "capture_internal.h"
#include "outbox.h"

#include <string.h>

/* The node that id has become in this batch, or id. */
static inline struct id outbox_alias(const struct outbox *o, const struct id *id)
{
	const struct id *to = map_get(o->alias, id->b, ID_BYTES);

	return to ? *to : *id;
}

/*
 * Gives row the name, unless the applier has placed another node there meanwhile: then ours has left it, as a
 * later operation will say, and row may be without a name until then.
 */
int settle_take_name(
	struct syncstate *s, struct base_row *row, const struct id *parent, const char *name, uint64_t l);
int settle_copy_bytes(struct blob *to, const struct blob *from);

/* -ECHILD: the server has forgotten what it had; all is to be merged anew. */
int settle_refused(
	struct syncstate *s, const struct outbox *o, const struct item *i, const struct result *res);

static inline bool same_name(const struct id *a, const char *an, const struct id *b, const char *bn)
{
	return an && bn && id_equal(a, b) && strcmp(an, bn) == 0;
}

/* Entries that leave queue and journal together. */
struct let_go {
	struct entry **entries;
	size_t count;
};

int let_go_add(struct let_go *g, struct entry *e);
/* All of them, or, after an error (the given one, or the journal's), none. g is empty afterwards. */
int let_go_locked(struct capture *c, struct let_go *g, int error);
/* The same of those of a batch that which() tells (NULL: all), which have no entry from then on. */
int let_go_items_locked(
	struct capture *c, struct item *items, size_t count, bool (*which)(const struct item *), int error);

/*
 * When what create has made is gone before any of it was sent, nobody need hear of it: 1, and *ret_next is
 * where the queue goes on (NULL: it ends). 0: it is to be sent.
 */
int ghost_lay_locked(struct capture *c, struct entry *create, struct entry **ret_next);

#endif
