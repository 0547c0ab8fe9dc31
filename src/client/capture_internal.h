/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by capture.c (the kernel's side), outbox.c (the server's side) and recover.c (start-up), by nobody
 * else. */
#ifndef SYNCFS_CLIENT_CAPTURE_INTERNAL_H
#define SYNCFS_CLIENT_CAPTURE_INTERNAL_H

#include "capture.h"

#include "inode.h"
#include "journal.h"
#include "pending.h"
#include "promise.h"
#include "syncstate.h"

struct map;

struct capture {
	struct mutex lock; /* rank 25; guards down to the blank line */
	struct cond work; /* queue, writers or stop changed: the uploader looks again */
	struct cond scan; /* a scan is wanted, or stop */
	struct cond settled; /* entries left the queue: waiters look again */
	struct cond awaited; /* the same, and calls that wait came or changed: await looks again */
	struct pending *pending;
	bool stopping, scan_wanted;
	uint64_t aliases; /* how often nodes of ours became others: who has named some looks again */
	uint64_t wakeups; /* grows with every signal of work */
	size_t gather; /* the uploader is to be woken when so many operations are pending; 0: by each */
	struct map *replayed; /* recovery: intents without an outcome, by lsn */
	struct map *became; /* what nodes had become when the journal was replayed: id -> struct id */
	struct promise *promises; /* calls that wait for the server */
	bool awaited_last; /* the last batch was of what they wait for */
	uint64_t deferred; /* calls that were answered before the server had it all (await.h) */

	/* set at open, then read-only */
	struct journal *journal;
	struct syncstate *state;
	const struct tree *tree;
	struct rwlock *tree_lock;
	struct inode_table *inodes;
	struct stat_id root;
	void (*released)(void *arg); /* a writer has gone or a node is free: the applier may go on */
	void *released_arg;
};

void capture_wake_locked(struct capture *c);
/* The uploader has no reason to wait for more operations (outbox_gather). */
bool capture_is_enough_locked(const struct capture *c);
/* An object is not known yet: the scan finds out what it is. */
void capture_want_scan_locked(struct capture *c);
/* Entries have left the queue. */
void capture_settled_locked(struct capture *c);
/* Anything in the queue, or being written since, that is not newer than lsn. */
bool capture_is_behind_locked(struct capture *c, uint64_t lsn);
/* 0 known, 1 unknown, -errno. An object of inode 0 stands for none. */
int capture_resolve_locked(struct capture *c, const struct stat_id *object, struct id *ret_node);
/* Queues an operation whose record is in the journal already. */
int capture_enqueue_locked(struct capture *c, const struct record *r, const struct stat_id *object);
/* The content of a file counts as changed once more; dirty_lsn: the mark that says so, settled with it. */
int capture_requeue_locked(struct capture *c, struct local *l, uint64_t dirty_lsn);
/* Appends INTENT and DONE for what is a fact already (found by the scan, an attribute change absorbed too
 * late), and queues it. */
int capture_fact_locked(struct capture *c, struct record *r, const struct stat_id *object);

/* recover.c: what the node had become when the journal was replayed; else itself. */
const struct id *capture_replayed_id(const struct capture *c, const struct id *node);

#endif
