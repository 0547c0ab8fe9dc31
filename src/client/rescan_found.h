/* SPDX-License-Identifier: Apache-2.0 */
/* What the scan does with a difference: looks again under the locks, then makes an operation of it. Used by
 * rescan.c. */
#ifndef SYNCFS_CLIENT_RESCAN_FOUND_H
#define SYNCFS_CLIENT_RESCAN_FOUND_H

#include <syncfs/change.h>

#include "rescan.h"

struct found_context {
	const struct rescan_config *config;
	uint64_t differences;
	uint64_t aliases; /* capture_aliases() since the locks are held */
	bool doubt; /* after a power loss: what is torn does not count */
};

/* A name of the agreed state that is not on disk. */
struct missing {
	struct id node, parent;
	enum kind kind;
	char *name;
};

/*
 * An object under a name that the agreed state does not give it. Gives its node, and whether that is a new
 * one. -EAGAIN: view or applier were faster.
 */
int found_new(struct found_context *f, const struct scan_entry *e, const struct id *parent,
	struct id *ret_node, bool *ret_is_new);
/* A known object whose stat is another. -EAGAIN likewise. */
int found_changed(struct found_context *f, const struct scan_entry *e, const struct id *node);
/* Gone, if it still is. */
int found_missing(struct found_context *f, const struct missing *m);

/* They come back from the server: what was agreed of them becomes what is to be applied. undone: what took
 * them away has left the queue again, whatever else is in it. */
int found_restore(struct found_context *f, const struct missing *list, size_t count, bool undone);

int missing_add(struct missing **list, size_t *count, const struct id *node, enum kind kind,
	const struct id *parent, const char *name);
/* Leaves out those that are only elsewhere: renamed, and queued as such. */
void missing_filter(struct found_context *f, struct missing *list, size_t *count);
/*
 * Names that only the queue has, of objects that are not on disk: a power cut has kept the journal and not
 * them, or somebody has removed them while nobody looked. What lies deeper comes first.
 */
int missing_in_queue(struct found_context *f, struct missing **ret_list, size_t *ret_count);
/* Adds what lay below missing directories, so that contents come before their directory. */
int missing_expand(struct found_context *f, struct missing **list, size_t *count);
void missing_free(struct missing *list, size_t count);

#endif
