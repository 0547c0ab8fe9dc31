/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whole directories compared with the rows, each watched before it is read. Called by store_hand at start,
 * for directories that came by hand, and when events were lost. Takes nothing for missing in a directory that
 * could not be read completely.
 */
#include "store_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <syncfs/log.h>

/* ---- scans ---- */

struct listing {
	struct meta_child *names; /* node: not used */
	struct stat_id *stats;
	size_t count, cap;
	bool complete;
};

static int list_entry(void *arg, const struct scan_entry *e)
{
	struct listing *list = arg;

	if (list->count == list->cap) {
		size_t cap = list->cap ? list->cap * 2 : 64;
		struct meta_child *names = reallocarray(list->names, cap, sizeof(*names));
		struct stat_id *stats;

		if (!names)
			return -ENOMEM;
		list->names = names;
		stats = reallocarray(list->stats, cap, sizeof(*stats));
		if (!stats)
			return -ENOMEM;
		list->stats = stats;
		list->cap = cap;
	}
	list->names[list->count].name = strdup(e->name);
	if (!list->names[list->count].name)
		return -ENOMEM;
	list->stats[list->count++] = e->stat;
	return SCAN_SKIP;
}

static int list_done(void *arg, const char *path, const struct stat_id *dir, bool complete)
{
	((struct listing *)arg)->complete = complete;
	return 0;
}

static int compare_names(const void *a, const void *b)
{
	return strcmp(((const struct meta_child *)a)->name, ((const struct meta_child *)b)->name);
}

/* Names of the rows that the directory has not got. listing.names is sorted by now. */
static int note_gone(struct look *l, const struct id *dir, const struct listing *list)
{
	struct meta_child *rows;
	size_t count;
	int r = meta_children(l->s->meta, dir, &rows, &count);

	if (r < 0)
		return r;
	for (size_t i = 0; i < count; i++) {
		if (!list->count ||
			!bsearch(&rows[i], list->names, list->count, sizeof(*list->names), compare_names))
			l->gone(l->arg, dir, rows[i].name);
	}
	meta_children_fini(rows, count);
	return 0;
}

static int scan_entries(struct look *l, const struct id *dir, int fd, const struct listing *list)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < list->count; i++) {
		const char *name = list->names[i].name;
		size_t before = l->dirs_count;
		struct id node;
		uint64_t v;

		r = look_entry(l, dir, fd, name, &list->stats[i]);
		/* known directories are gone into as well */
		if (r == 0 && S_ISDIR(list->stats[i].mode) && l->dirs_count == before &&
			meta_dentry_get(l->s->meta, dir, name, &node, &v) == 0)
			r = look_push(l, &node);
	}
	return r;
}

static int scan_dir(struct look *l, const struct id *dir)
{
	struct listing list = {0};
	const struct scan_ops ops = {.arg = &list, .entry = list_entry, .dir_done = list_done};
	cleanup_free char *path = NULL;
	cleanup_fd int fd = look_open_dir(l, dir, &path);
	int r;

	if (fd < 0)
		return fd == -ENOENT || fd == -EACCES ? 0 : fd;
	/* watched before it is read, so that nothing falls between */
	r = l->s->watch ? tree_watch_add(l->s->watch, fd, "", dir) : 0;
	if (r == -ENOSPC)
		log_warn("not all directories can be watched: raise fs.inotify.max_user_watches");
	r = tree_scan(&l->s->tree, path, false, &ops);
	if (r == 0)
		r = scan_entries(l, dir, fd, &list);
	if (r == 0 && list.complete) {
		if (list.count)
			qsort(list.names, list.count, sizeof(*list.names), compare_names);
		r = note_gone(l, dir, &list);
	}
	for (size_t i = 0; i < list.count; i++)
		free(list.names[i].name);
	free(list.names);
	free(list.stats);
	return r == -ENOENT || r == -EACCES ? 0 : r;
}

int look_scan(struct look *l)
{
	int r = 0;

	/* depth first from the end: a directory's path is right when its turn comes */
	while (r == 0 && l->dirs_count) {
		struct id dir = l->dirs[--l->dirs_count];

		r = scan_dir(l, &dir);
	}
	return r;
}
