/* SPDX-License-Identifier: Apache-2.0 */
/* What the scan does with a difference: looks again under the locks, then makes an operation of it. Used by
 * rescan.c. */
#ifndef SYNCFS_CLIENT_RESCAN_FOUND_H
#define SYNCFS_CLIENT_RESCAN_FOUND_H

#include <syncfs/change.h>

#include "rescan.h"
#include "rescan_missing.h"

struct found_context {
	const struct rescan_config *config;
	uint64_t differences;
	uint64_t aliases; /* capture_aliases() since the locks are held */
	bool doubt; /* after a power loss: what is torn does not count */
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

/* They come back from the server, see missing_restore(). */
int found_restore(struct found_context *f, const struct missing *list, size_t count, bool undone);

#endif
