/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hears of changes in watched directories through inotify and hands them on in bursts. One thread of its own;
 * the callback runs in it, holding nothing.
 */
#ifndef SYNCFS_SERVER_TREE_WATCH_H
#define SYNCFS_SERVER_TREE_WATCH_H

#include <stdbool.h>
#include <stddef.h>

#include <syncfs/id.h>

struct tree_watch;

struct watch_event {
	struct id dir;
	char *name;
};

struct watch_ops {
	void *arg;
	/*
	 * Names that something happened to, each once, after a short quiet; overflow: any number of them is
	 * not known. Returns after how many ms it wants to be called again even without an event, -1: not at
	 * all.
	 */
	int (*changed)(void *arg, const struct watch_event *events, size_t count, bool overflow);
};

int tree_watch_open(const struct watch_ops *ops, struct tree_watch **ret_watch); /* no thread yet */
int tree_watch_start(struct tree_watch *w);
void tree_watch_stop(struct tree_watch *w); /* joins, frees; NULL is fine */
/* Watches name below dirfd ("" dirfd itself) as the directory id. -ENOSPC: the system's limit of watches. */
int tree_watch_add(struct tree_watch *w, int dirfd, const char *name, const struct id *id);
/* The callback is to run soon. Any thread. */
void tree_watch_kick(struct tree_watch *w);

#endif
