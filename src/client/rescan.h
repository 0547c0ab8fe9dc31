/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The scan: finds what was made in the backing directory by others than the mount, by comparing identities,
 * and hashes only what differs. At start, and whenever somebody met something unknown. What it finds becomes
 * operations like any other.
 */
#ifndef SYNCFS_CLIENT_RESCAN_H
#define SYNCFS_CLIENT_RESCAN_H

#include <syncfs/mutex.h>
#include <syncfs/tree.h>

struct rescan;
struct capture;
struct syncstate;

struct rescan_config {
	const struct tree *tree;
	struct rwlock *tree_lock;
	struct mutex *apply_lock;
	struct capture *capture;
	struct syncstate *state;
	/* What was restored waits to be applied. The scan's thread, no lock held. */
	void (*restored)(void *arg);
	void *arg;
};

/* Within a transaction: nothing is believed about contents any more, until a whole scan has read them all. */
int rescan_doubt(struct syncstate *s);
bool rescan_is_in_doubt(struct syncstate *s); /* any time */
/* Starts the thread and with it the first scan. */
int rescan_start(const struct rescan_config *config, struct rescan **ret_rescan);
void rescan_stop(struct rescan *s); /* after capture_hold() */
bool rescan_first_is_done(const struct rescan *s);
/* Deletions that are held back because they are too many at once; 0. */
uint64_t rescan_held(const struct rescan *s);
/* What the next scan does with these: approve sends them, otherwise all comes back from the server. The
 * caller asks for that scan. -ENOENT: none. */
int rescan_answer(struct rescan *s, bool approve);

#endif
