/* SPDX-License-Identifier: Apache-2.0 */
/* Names that are missing on disk, for rescan.c, rescan_found.c and power.c. */
#ifndef SYNCFS_CLIENT_RESCAN_MISSING_H
#define SYNCFS_CLIENT_RESCAN_MISSING_H

#include <syncfs/change.h>

#include "rescan.h"

/* A name of the agreed state, or of the queue, that is not on disk. */
struct missing {
	struct id node, parent;
	enum kind kind;
	char *name;
};

/* Whether this error of a look says that nothing is there, or that what was on the way to it is none any
 * more; another one proves nothing. */
bool missing_proves(int r);
/* Not on disk, and not only elsewhere: renamed, and queued as such. */
bool missing_is_gone(const struct rescan_config *c, const struct missing *m);
/*
 * Those that are gone come back from the server: what was agreed of them becomes what is to be applied.
 * undone: what took them away has left the queue again, whatever else is in it. Under apply lock and tree
 * lock, so at most MISSING_AT_ONCE.
 */
#define MISSING_AT_ONCE 256 /* the view waits meanwhile */
int missing_restore(const struct rescan_config *c, const struct missing *list, size_t count, bool undone);

/* ---- lists ---- */

int missing_add(struct missing **list, size_t *count, const struct id *node, enum kind kind,
	const struct id *parent, const char *name);
void missing_free(struct missing *list, size_t count);
/* Adds what lay below missing directories, so that contents come before their directory. queued: also what
 * only the queue knows. */
int missing_expand(const struct rescan_config *c, bool queued, struct missing **list, size_t *count);
/*
 * Names that only the queue has, of objects that are not on disk: a power cut has kept the journal and not
 * them, or somebody has removed them while nobody looked. What lies deeper comes first.
 */
int missing_in_queue(const struct rescan_config *c, struct missing **ret_list, size_t *ret_count);
/* Leaves those that are gone. */
void missing_filter(const struct rescan_config *c, struct missing *list, size_t *count);

#endif
