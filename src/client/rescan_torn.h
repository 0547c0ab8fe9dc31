/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files that a power loss has torn: what shows it, and where they are kept. What comes in their place is the
 * caller's business.
 */
#ifndef SYNCFS_CLIENT_RESCAN_TORN_H
#define SYNCFS_CLIENT_RESCAN_TORN_H

#include <syncfs/tree.h>

/* It is empty, or ends with zeros, as what was never made durable does. */
bool torn_is(const struct tree *t, const struct scan_entry *e);
/* Moves it to .syncfs/recovered, durably, and says so. The caller holds the tree lock. 0 or -errno. */
int torn_put_aside(const struct tree *t, const struct scan_entry *e);

#endif
