/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Walking a tree: one openat and one stat per directory, one stat per entry, in the order of the file system.
 * Called by the client's rescan and the server's scan of edits made by hand. It reports and never decides:
 * what could not be read is said to be incomplete, so that nobody takes absence for a deletion.
 */
#include <syncfs/tree.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <syncfs/buf.h>
#include <syncfs/io.h>
#include <syncfs/limits.h>
#include <syncfs/path.h>

#include "attr.h"

struct walk {
	const struct tree *t;
	const struct scan_ops *ops;
	bool recursive;
	struct buf path; /* of the directory being read, then of the entry being reported; NUL-terminated */
	int depth;
};

static int scan_dir(struct walk *w, int take_fd, const struct stat_id *dir);

static const char *path_of(struct walk *w)
{
	return (const char *)w->path.data;
}

/* The path is `len` bytes of directory and, unless NULL, this name below it. */
static int set_path(struct walk *w, size_t len, const char *name)
{
	w->path.len = len;
	if (name) {
		if (len)
			buf_put_u8(&w->path, '/');
		buf_put_str(&w->path, name);
	}
	return buf_cstr(&w->path) ? 0 : -ENOMEM;
}

static int report_dir(struct walk *w, const struct stat_id *dir, bool complete)
{
	int r = w->ops->dir_done ? w->ops->dir_done(w->ops->arg, path_of(w), dir, complete) : 0;

	return r < 0 ? r : 0;
}

static int descend(struct walk *w, int dirfd, const char *name, const struct stat_id *is)
{
	struct stat_id opened;
	int fd, r;

	if (w->depth >= TREE_MAX_DEPTH)
		return report_dir(w, is, false);
	fd = tree_open_at(w->t, dirfd, name, O_RDONLY | O_DIRECTORY);
	if (fd == -ENOENT || fd == -ENOTDIR || fd == -ELOOP) /* gone, or something else by now */
		return 0;
	if (fd < 0)
		return report_dir(w, is, false);
	r = tree_stat(fd, "", &opened);
	if (r < 0 || !stat_id_same_object(is, &opened)) {
		(void)close(fd);
		return report_dir(w, is, false);
	}
	w->depth++;
	r = scan_dir(w, fd, &opened);
	w->depth--;
	return r;
}

/* One name of an open directory. *complete becomes false when it could not be looked at. */
static int scan_entry_at(
	struct walk *w, int dirfd, const char *name, const struct stat_id *dir, bool *complete)
{
	struct scan_entry e = {.path = path_of(w), .name = name, .dirfd = dirfd, .dir = *dir};
	bool mount;
	int r = tree_stat_mount(dirfd, name, &e.stat, &mount);

	if (r == -ENOENT)
		return 0;
	if (r < 0) {
		*complete = false;
		return 0;
	}
	if (mount || e.stat.dev != w->t->dev || !tree_kind(e.stat.mode)) {
		if (w->ops->local_only)
			w->ops->local_only(w->ops->arg, e.path);
		return 0;
	}
	r = w->ops->entry(w->ops->arg, &e);
	if (r < 0)
		return r;
	if (r == SCAN_DESCEND && w->recursive && S_ISDIR(e.stat.mode))
		return descend(w, dirfd, name, &e.stat);
	return 0;
}

static bool is_left_out(const struct walk *w, size_t base, const char *name)
{
	if (name[0] != '.')
		return false;
	return !name[1] || (name[1] == '.' && !name[2]) || (base == 0 && strcmp(name, RESERVED_NAME) == 0);
}

static int scan_dir(struct walk *w, int take_fd, const struct stat_id *dir)
{
	size_t base = w->path.len;
	bool complete = true;
	struct dirent *e;
	DIR *stream = fdopendir(take_fd);
	int r = 0;

	if (!stream) {
		(void)close(take_fd);
		return report_dir(w, dir, false);
	}
	while (r == 0 && (errno = 0, e = readdir(stream))) {
		if (is_left_out(w, base, e->d_name))
			continue;
		r = set_path(w, base, e->d_name);
		if (r == 0)
			r = scan_entry_at(w, dirfd(stream), e->d_name, dir, &complete);
	}
	if (r == 0 && errno)
		complete = false;
	(void)closedir(stream);
	if (r == 0)
		r = set_path(w, base, NULL);
	return r < 0 ? r : report_dir(w, dir, complete);
}

int tree_scan(const struct tree *t, const char *path, bool recursive, const struct scan_ops *ops)
{
	struct walk w = {.t = t, .ops = ops, .recursive = recursive, .path = BUF_INIT};
	struct stat_id dir;
	int fd = tree_open_dir(t, path);
	int r;

	if (fd < 0)
		return fd;
	r = tree_stat(fd, "", &dir);
	if (r == 0) {
		for (const char *p = path; *p; p++)
			w.depth += *p == '/' || p == path;
		buf_put_str(&w.path, path);
		r = buf_cstr(&w.path) ? 0 : -ENOMEM;
	}
	if (r < 0)
		(void)close(fd);
	else
		r = scan_dir(&w, fd, &dir);
	buf_fini(&w.path);
	return r;
}
