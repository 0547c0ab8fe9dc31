/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whether the directories of a configuration can be what they are meant to be. Called by main once, before
 * mounting. Makes default directories; never looks into a mount of syncfs, which may be dead.
 */
#include "config.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <syncfs/io.h>
#include <syncfs/log.h>
#include <syncfs/mountinfo.h>

#include "config_dirs.h"
#include "unmount.h"

struct check {
	struct client_config *config;
	struct mount_list mounts;
	struct buf *why;
};

static int __attribute__((format(printf, 3, 4))) refuse(const struct check *c, int err, const char *fmt, ...)
{
	va_list args;
	char *text = NULL;

	va_start(args, fmt);
	if (vasprintf(&text, fmt, args) < 0)
		text = NULL;
	va_end(args);
	buf_put_str(c->why, text != NULL ? text : err_str(-ENOMEM));
	free(text);
	return err;
}

/* After a call that failed: never 0. */
static int last_error(void)
{
	return errno > 0 ? -errno : -EIO;
}

static bool is_mounted(const struct check *c, const char *path)
{
	const struct mount_entry *e = mount_list_find(&c->mounts, path);

	return e != NULL && strcmp(e->mountpoint, path) == 0;
}

/* *path without links, after a look at the table: a path in a mount of ours is not touched. */
static int make_real(const struct check *c, char **path, const char *what)
{
	char *real;
	struct stat st;
	int r;

	assert(*path != NULL);
	if (is_mounted(c, *path))
		return refuse(c, -EBUSY,
			"%s is a mountpoint of syncfs already: unmount it first with fusermount3 -u %s",
			*path, *path);
	if (mount_list_find(&c->mounts, *path) != NULL)
		return refuse(
			c, -EINVAL, "the %s %s lies in a mount of syncfs: choose one outside", what, *path);
	real = realpath(*path, NULL);
	if (real == NULL) {
		r = last_error();
		return refuse(c, r,
			r == -ENOENT ? "the %s %s does not exist: make it first"
				     : "the %s %s cannot be used: %s",
			what, *path, err_str(r));
	}
	free(*path);
	*path = real;
	if (is_mounted(c, real))
		return refuse(c, -EBUSY,
			"%s is a mountpoint of syncfs already: unmount it first with fusermount3 -u %s", real,
			real);
	if (mount_list_find(&c->mounts, real) != NULL)
		return refuse(
			c, -EINVAL, "the %s %s lies in a mount of syncfs: choose one outside", what, real);
	if (stat(real, &st) < 0) {
		r = last_error();
		return refuse(c, r, "the %s %s cannot be used: %s", what, real, err_str(r));
	}
	if (!S_ISDIR(st.st_mode))
		return refuse(c, -ENOTDIR, "the %s %s is not a directory: name a directory", what, real);
	return 0;
}

static int check_empty(const struct check *c, const char *path)
{
	DIR *dir = opendir(path);
	const struct dirent *e;
	bool is_empty = true;
	int r;

	if (dir == NULL) {
		r = last_error();
		return refuse(c, r, "the mountpoint %s cannot be used: %s", path, err_str(r));
	}
	errno = 0;
	while (is_empty && (e = readdir(dir)) != NULL)
		is_empty = strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0;
	r = -errno;
	(void)closedir(dir);
	if (!is_empty)
		return refuse(c, -ENOTEMPTY,
			"the mountpoint %s is not empty: choose an empty directory, or give it as the "
			"backing directory, too (-o backing=%s)",
			path, path);
	return r < 0 ? refuse(c, r, "the mountpoint %s cannot be read: %s", path, err_str(r)) : 0;
}

static int make_default(const struct check *c, char **at, char *prefix, const char *of, const char *option)
{
	int r = prefix != NULL ? 0 : last_error();

	if (r == 0) {
		*at = config_dirs_name_for(prefix, of);
		r = *at != NULL ? io_make_dirs(*at, 0700) : last_error();
	}
	if (r < 0)
		r = refuse(c, r, "there is no place for %s (%s): name one with -o %s=DIR",
			*at != NULL ? *at : "files of one's own", err_str(r), option);
	free(prefix);
	return r;
}

static int check_writable(const struct check *c, const char *path, const char *what)
{
	int r;

	if (faccessat(AT_FDCWD, path, R_OK | W_OK | X_OK, AT_EACCESS) == 0)
		return 0;
	r = last_error();
	if (r == -EROFS)
		return refuse(c, r, "the %s %s is read-only: choose one that can be written", what, path);
	return refuse(c, r,
		"the %s %s cannot be read and written by this user: change its mode or choose another", what,
		path);
}

static int check_backing(const struct check *c)
{
	struct client_config *f = c->config;
	int r = 0;

	if (f->backing == NULL)
		r = make_default(c, &f->backing, config_dirs_data("syncfs"), f->mountpoint, "backing");
	if (r == 0)
		r = make_real(c, &f->backing, "backing directory");
	if (r < 0)
		return r;
	assert(f->backing != NULL);
	f->backing_is_mountpoint = strcmp(f->backing, f->mountpoint) == 0;
	if (!f->backing_is_mountpoint && path_is_within(f->mountpoint, f->backing))
		return refuse(c, -EINVAL,
			"the mountpoint %s lies in the backing directory %s: choose one outside it",
			f->mountpoint, f->backing);
	if (!f->backing_is_mountpoint && path_is_within(f->backing, f->mountpoint))
		return refuse(c, -EINVAL,
			"the backing directory %s lies in the mountpoint %s and would be hidden: choose one "
			"outside it",
			f->backing, f->mountpoint);
	return check_writable(c, f->backing, "backing directory");
}

static int check_state(const struct check *c)
{
	struct client_config *f = c->config;
	int r = 0;

	if (f->state == NULL)
		r = make_default(c, &f->state, config_dirs_state("syncfs"), f->backing, "state");
	else if (path_is_within(f->state, f->backing) || path_is_within(f->state, f->mountpoint))
		r = refuse(c, -EINVAL,
			"the state directory %s lies in the tree that is mirrored: choose one outside it",
			f->state);
	else if (mount_list_find(&c->mounts, f->state) == NULL) {
		r = io_make_dirs(f->state, 0700);
		if (r < 0)
			r = refuse(c, r, "the state directory %s cannot be made: %s", f->state, err_str(r));
	}
	if (r == 0)
		r = make_real(c, &f->state, "state directory");
	assert(r < 0 || f->state != NULL);
	if (r == 0 && (path_is_within(f->state, f->backing) || path_is_within(f->state, f->mountpoint)))
		r = refuse(c, -EINVAL,
			"the state directory %s lies in the tree that is mirrored: choose one outside it",
			f->state);
	return r == 0 ? check_writable(c, f->state, "state directory") : r;
}

static int check_all(const struct check *c)
{
	int r = make_real(c, &c->config->mountpoint, "mountpoint");

	assert(c->config->mountpoint != NULL);
	if (r == 0)
		r = check_backing(c);
	if (r == 0 && !c->config->backing_is_mountpoint)
		r = check_empty(c, c->config->mountpoint);
	return r == 0 ? check_state(c) : r;
}

/* What a syncfs has left on the mountpoint that was killed. */
static int free_mountpoint(struct check *c)
{
	const char *path = c->config->mountpoint;
	int r = mount_list_read(&c->mounts);

	while (r == 0 && is_mounted(c, path) && unmount_abandoned(mount_list_find(&c->mounts, path))) {
		mount_list_fini(&c->mounts);
		r = mount_list_read(&c->mounts);
	}
	return r;
}

int config_check(struct client_config *config, struct buf *why)
{
	struct check c = {.config = config, .why = why};
	int r = free_mountpoint(&c);

	if (r < 0)
		return refuse(&c, r, "cannot read /proc/self/mountinfo: %s", err_str(r));
	r = check_all(&c);
	mount_list_fini(&c.mounts);
	return r;
}
