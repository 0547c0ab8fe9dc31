/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Power losses: whether the last run ended by one, and what it has done to files whose content was never made
 * durable. A file that is empty now, or ends with zeros, is not sent over a good version: it is kept in
 * .syncfs/recovered, and what the server has comes back.
 */
#ifndef SYNCFS_CLIENT_POWER_H
#define SYNCFS_CLIENT_POWER_H

#include <stdbool.h>
#include <stddef.h>

struct capture;
struct rwlock;
struct syncstate;
struct tree;

/* The machine has been started anew since the last run, which did not end by itself. -errno. */
int power_was_lost(struct syncstate *s, bool *ret_lost);
/* From now on an end without power_ended() is a crash. -errno. */
/* lost: what was written in place and was not synced may be there, while size and times are the old ones: the
 * scan reads all files once. */
int power_running(struct syncstate *s, bool lost);
/* All is on disk, and nothing runs any more. -errno: then the next start takes it for a power loss. */
int power_ended(struct syncstate *s, const struct tree *t);
/*
 * Looks through the tree. What was fsynced with the size that it has now is as it was left. Before anything
 * is sent, applied or served; takes the tree lock. 0 and how many files were put aside, or -errno.
 */
int power_repair(struct syncstate *s, const struct tree *t, struct rwlock *tree_lock, struct capture *c,
	int state_dirfd, size_t *ret_count);

#endif
