/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The thread that makes the backing directory what the server has told: the walk inward.
 * Driven by R in the state database; pages of the poll bring contents along. applier_recover() is in
 * apply_recover.c.
 */
#ifndef SYNCFS_CLIENT_APPLIER_H
#define SYNCFS_CLIENT_APPLIER_H

#include <syncfs/message.h>
#include <syncfs/mutex.h>
#include <syncfs/tree.h>

struct applier;
struct capture;
struct syncstate;
struct inode_table;
struct invalidate;
struct remote;
struct link;

struct applier_config {
	const struct tree *tree;
	struct rwlock *tree_lock;
	struct mutex *apply_lock; /* held while disk and S may differ by our own doing: the scan waits */
	struct capture *capture;
	struct syncstate *state;
	struct inode_table *inodes;
	struct invalidate *invalidate;
	struct remote *remote; /* the applier's own connection */
	struct link *link;
	int64_t uid, gid; /* owner of what comes from elsewhere; -1: the parent directory's */
};

int applier_start(const struct applier_config *config, struct applier **ret_applier);
void applier_stop(struct applier *a);
/*
 * Takes a page whose changes are in R already, for the contents in it; body holds its bytes and is taken too.
 * Waits while too much is queued. has_news false: nothing of it went into R. What is newer than the pages
 * taken is left alone: its contents are on the way.
 */
void applier_take_page(struct applier *a, struct page *page, struct buf *body, bool has_news);
/* Look at R again. Any thread. */
void applier_wake(struct applier *a);
/* The same, if anything in R was left waiting; cheap otherwise. */
void applier_wake_if_waiting(struct applier *a);
/* At start, and before another thread than the one that was stopped: looks after what an interrupted run left
 * in staging. */
int applier_recover(const struct applier_config *config);
/* Versions up to this seq are applied, as far as the server has told. */
bool applier_is_quiet(struct applier *a);

#endif
