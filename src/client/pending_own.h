/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The insides of the queue, for pending*.c only. Nothing that one operation needs may cost a walk over the
 * others: a client may have been without a server for a hundred thousand of them.
 *
 * Invariants:
 * 1. An entry is in `queued` of the locals of its node and its other, in `contents` of its node's when it is
 * of a type of CONTENT_TYPES, and in `entries` of its names. Lists of locals ascend by place.
 * 2. A pending_name lives while it has an entry or a holder; it is in names by its key, and in the list of
 * its directory, whose first is in by_parent.
 * 3. A local is in by_node by its node and, when it has an object, in by_object, unless another has taken
 * that over.
 */
#ifndef SYNCFS_CLIENT_PENDING_OWN_H
#define SYNCFS_CLIENT_PENDING_OWN_H

#include "pending.h"

#include <syncfs/map.h>

#define RECENT_COUNT 64 /* power of two */
#define CONTENT_TYPES (1u << OP_CREATE | 1u << OP_WRITE | 1u << OP_SETATTR)

struct object_key {
	uint64_t dev, ino;
	int64_t btime_ns;
};

struct recent {
	struct object_key key;
	struct id node;
};

struct pending {
	struct syncstate *state;
	struct entry *first, *last;
	size_t count;
	uint64_t last_place;
	struct map *by_node; /* id -> local */
	struct map *by_object; /* object_key -> local */
	struct map *names; /* name_key -> pending_name */
	struct map *by_parent; /* id of a directory -> the first pending_name in it */
	struct local *first_dirty;
	struct recent recent[RECENT_COUNT]; /* objects found in S of late: parents, mostly */
};

/* ---- pending_names.c ---- */

/* e names both, or neither is named (-ENOMEM). */
int pending_names_link(struct pending *p, struct entry *e);
void pending_names_unlink(struct pending *p, struct entry *e);
void pending_names_unlink_new(struct pending *p, struct entry *e);
/* What lies in the directory `from` lies in `to` from now on: entries and locals follow. */
int pending_names_move(struct pending *p, const struct id *from, const struct id *to);
void pending_names_free(struct pending *p);

/* ---- pending_local.c ---- */

struct local *local_get(
	struct pending *p, const struct id *node, enum kind kind, const struct stat_id *object, bool is_new);
int local_bind(struct pending *p, struct local *l, const struct stat_id *object);
void local_unbind(struct pending *p, const struct local *l);
void local_free(struct pending *p, struct local *l);
/* Its names are those of the agreed state. */
int local_reload_names(struct pending *p, struct local *l);

#endif
