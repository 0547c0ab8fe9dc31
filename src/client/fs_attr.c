/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Attributes that change: setattr and extended attributes. Mode bits 0777, mtime and user.* go through
 * capture; ownership, atime and other namespaces of attributes stay local. user.syncfs.* are computed here,
 * never stored.
 */
#include "fs_view.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <linux/limits.h>

#include <syncfs/io.h>

#define OWN_PREFIX "user.syncfs."
#define USER_PREFIX "user."
/* Stays local, but its base entries are the mode: cp -a sets it that way. */
#define ACCESS_ACL "system.posix_acl_access"

static bool has_prefix(const char *name, const char *prefix)
{
	return strncmp(name, prefix, strlen(prefix)) == 0;
}

/* ---- setattr ---- */

static struct timespec time_to_set(const struct timespec *value, int to_set, int set, int now)
{
	if (to_set & now)
		return (struct timespec){.tv_nsec = UTIME_NOW};
	if (to_set & set)
		return *value;
	return (struct timespec){.tv_nsec = UTIME_OMIT};
}

/* Ownership first: chown takes set-id bits away, which a chmod of the same call then gives. */
static int apply(int fd, const struct stat *attr, int to_set)
{
	int r = 0;

	if (to_set & (FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID))
		r = backing_chown(fd, to_set & FUSE_SET_ATTR_UID ? attr->st_uid : (uid_t)-1,
			to_set & FUSE_SET_ATTR_GID ? attr->st_gid : (gid_t)-1);
	if (!r && (to_set & FUSE_SET_ATTR_MODE))
		r = backing_chmod(fd, attr->st_mode & 07777);
	if (!r &&
		(to_set &
			(FUSE_SET_ATTR_ATIME | FUSE_SET_ATTR_ATIME_NOW | FUSE_SET_ATTR_MTIME |
				FUSE_SET_ATTR_MTIME_NOW))) {
		const struct timespec times[2] = {
			time_to_set(&attr->st_atim, to_set, FUSE_SET_ATTR_ATIME, FUSE_SET_ATTR_ATIME_NOW),
			time_to_set(&attr->st_mtim, to_set, FUSE_SET_ATTR_MTIME, FUSE_SET_ATTR_MTIME_NOW),
		};

		r = backing_utimens(fd, times);
	}
	return r;
}

struct attr_change {
	int (*change)(int fd, void *arg);
	void *arg;
	bool synced; /* goes through capture */
};

/* The frame of every change of attributes: intent, the object at hand and not displaced, change, outcome. */
static int change_attributes(struct view *v, struct inode *i, const struct attr_change *c)
{
	struct intent intent = {.type = OP_SETATTR};
	cleanup_fd int fd = -1;
	int r;

	if (!c->synced) {
		r = inode_open_path(v->inodes, i, &fd);
		return r ? r : c->change(fd, c->arg);
	}
	inode_identity(v->inodes, i, &intent.object);
	r = capture_begin(v->capture, &intent);
	if (r)
		return r;
	r = inode_is_displaced(v->inodes, i) ? -ESTALE : inode_open_path(v->inodes, i, &fd);
	if (!r)
		r = c->change(fd, c->arg);
	capture_end(v->capture, &intent, r, NULL);
	return r;
}

struct setattr_arg {
	const struct stat *attr;
	int to_set;
};

static int change_setattr(int fd, void *arg)
{
	const struct setattr_arg *s = arg;

	return apply(fd, s->attr, s->to_set);
}

static int set_size(struct view *v, struct inode *i, off_t size, struct fuse_file_info *fi)
{
	struct handle *h = fi ? handle_of(fi) : NULL;
	int r, after;

	if (!h || !h->writable)
		return fs_truncate(v, i, size);
	r = fs_before_change(v, h);
	if (r)
		return r;
	r = backing_truncate(h->fd, size);
	after = fs_after_change(v, h);
	return r ? r : after;
}

void fs_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int to_set, struct fuse_file_info *fi)
{
	const int rest = FUSE_SET_ATTR_MODE | FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID | FUSE_SET_ATTR_ATIME |
		FUSE_SET_ATTR_ATIME_NOW | FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_MTIME_NOW;
	struct setattr_arg arg = {.attr = attr, .to_set = to_set};
	struct attr_change change = {.change = change_setattr, .arg = &arg};
	struct view *v = view_of(req);
	struct inode *i = inode_of(v, ino);
	struct stat st;
	int r = 0;

	if (to_set & FUSE_SET_ATTR_SIZE) {
		r = set_size(v, i, attr->st_size, fi);
		arg.to_set &= ~(FUSE_SET_ATTR_MTIME_NOW | FUSE_SET_ATTR_ATIME_NOW); /* came with the size */
	}
	change.synced = arg.to_set & (FUSE_SET_ATTR_MODE | FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_MTIME_NOW);
	if (!r && (arg.to_set & rest))
		r = change_attributes(v, i, &change);
	if (!r)
		r = inode_stat(v->inodes, i, &st, NULL);
	if (r)
		reply_result(req, r);
	else
		(void)fuse_reply_attr(req, &st, CACHE_S);
}

/* ---- extended attributes ---- */

struct xattr_arg {
	const char *name, *value;
	size_t size;
	int flags;
};

static int change_setxattr(int fd, void *arg)
{
	const struct xattr_arg *x = arg;

	return x->value ? backing_xattr_set(fd, x->name, x->value, x->size, x->flags)
			: backing_xattr_remove(fd, x->name);
}

static void change_xattr(fuse_req_t req, fuse_ino_t ino, struct xattr_arg *x)
{
	struct view *v = view_of(req);
	struct attr_change change = {
		.change = change_setxattr,
		.arg = x,
		.synced = has_prefix(x->name, USER_PREFIX) || strcmp(x->name, ACCESS_ACL) == 0,
	};

	if (has_prefix(x->name, OWN_PREFIX))
		reply_result(req, -EPERM);
	else
		reply_result(req, change_attributes(v, inode_of(v, ino), &change));
}

void fs_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name, const char *value, size_t size, int flags)
{
	struct xattr_arg x = {.name = name, .value = value ? value : "", .size = size, .flags = flags};

	change_xattr(req, ino, &x);
}

void fs_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name)
{
	struct xattr_arg x = {.name = name};

	change_xattr(req, ino, &x);
}

/* user.syncfs.*: text into value[size]; its length or -errno. */
static ssize_t own_value(struct view *v, struct inode *i, const char *name, char *value, size_t size)
{
	uint64_t c, seq;
	struct stat_id id;
	int r;

	inode_identity(v->inodes, i, &id);
	if (strcmp(name, OWN_PREFIX "state") == 0)
		return snprintf(value, size, "%s", capture_state(v->capture, &id));
	if (strcmp(name, OWN_PREFIX "version") != 0 && strcmp(name, OWN_PREFIX "seq") != 0)
		return -ENODATA;
	r = capture_version(v->capture, &id, &c, &seq);
	if (r)
		return r;
	return snprintf(value, size, "%" PRIu64, strcmp(name, OWN_PREFIX "seq") == 0 ? seq : c);
}

/* size 0 asks for the length alone. */
static void reply_bytes(fuse_req_t req, const char *bytes, ssize_t len, size_t size)
{
	if (len < 0)
		reply_result(req, (int)len);
	else if (size == 0)
		(void)fuse_reply_xattr(req, (size_t)len);
	else if ((size_t)len > size)
		reply_result(req, -ERANGE);
	else
		(void)fuse_reply_buf(req, bytes, (size_t)len);
}

void fs_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size)
{
	struct view *v = view_of(req);
	cleanup_free char *value = NULL;
	cleanup_fd int fd = -1;
	char own[64];
	ssize_t n;

	if (has_prefix(name, OWN_PREFIX)) {
		n = own_value(v, inode_of(v, ino), name, own, sizeof(own));
		reply_bytes(req, own, n, size);
		return;
	}
	if (size > XATTR_SIZE_MAX)
		size = XATTR_SIZE_MAX;
	n = inode_open_path(v->inodes, inode_of(v, ino), &fd);
	if (n == 0 && size && !(value = malloc(size)))
		n = -ENOMEM;
	if (n == 0)
		n = backing_xattr_get(fd, name, value, size);
	reply_bytes(req, value, n, size);
}

/* Takes out what claims to be computed: it would only have been put there by hand, in the backing directory.
 */
static ssize_t without_own(char *names, ssize_t len)
{
	ssize_t at = 0, kept = 0;

	while (at < len) {
		size_t step = strlen(names + at) + 1;

		if (!has_prefix(names + at, OWN_PREFIX)) {
			memmove(names + kept, names + at, step);
			kept += (ssize_t)step;
		}
		at += (ssize_t)step;
	}
	return kept;
}

void fs_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size)
{
	struct view *v = view_of(req);
	cleanup_free char *names = NULL;
	cleanup_fd int fd = -1;
	ssize_t n = inode_open_path(v->inodes, inode_of(v, ino), &fd);

	if (n == 0 && !(names = malloc(XATTR_LIST_MAX)))
		n = -ENOMEM;
	if (n == 0)
		n = backing_xattr_list(fd, names, XATTR_LIST_MAX);
	if (n > 0)
		n = without_own(names, n);
	reply_bytes(req, names, n, size);
}
