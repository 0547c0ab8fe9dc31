/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names that appear: mknod, mkdir, symlink, link, create. Each: intent in the journal (which takes the tree
 * lock), the syscall, the table's new place, outcome, answer. Objects are made as the calling user. What goes
 * away or moves is in fs_rename.c.
 */
#include "fs_view.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include <syncfs/io.h>

/* What is to be made; the caller's wishes, borrowed. */
struct wish {
	const char *name;
	const char *target; /* symlink */
	mode_t mode; /* with type bits */
	dev_t rdev;
	int flags; /* create: of open(2) */
	struct caller who;
};

/* 0, a descriptor (create) or -errno. */
static int make_object(int dirfd, const struct wish *w, bool open)
{
	if (open)
		return backing_create(
			dirfd, w->name, w->flags & (O_ACCMODE | O_SYNC | O_DSYNC), w->mode & 07777, w->who);
	switch (w->mode & S_IFMT) {
	case S_IFDIR:
		return backing_mkdir(dirfd, w->name, w->mode & 07777, w->who);
	case S_IFLNK:
		return backing_symlink(w->target, dirfd, w->name, w->who);
	default:
		return backing_mknod(dirfd, w->name, w->mode, w->rdev, w->who);
	}
}

/* Interns what was made; the lookup is the kernel's. */
static int enter(struct view *v, struct inode *parent, const char *name, const struct stat *st,
	const struct stat_id *id, struct fuse_entry_param *ret_entry)
{
	uint64_t epoch = inode_epoch(v->inodes);
	int r = fs_entry_known(v, parent, name, epoch, st, id, ret_entry);

	if (!r)
		inode_named(v->inodes, id, parent, name);
	return r;
}

/* Between intent and outcome. ret_handle: NULL unless the object is to be opened as well (create). */
static int make_recorded(struct view *v, struct inode *parent, int dirfd, const struct wish *w,
	struct stat_id *ret_id, struct fuse_entry_param *ret_entry, struct handle **ret_handle,
	int *ret_reply, bool *ret_unseen)
{
	cleanup_fd int fd = -1;
	struct stat st;
	int r = make_object(dirfd, w, ret_handle != NULL);

	if (r < 0)
		return r;
	if (ret_handle)
		fd = r;
	r = backing_stat(v->tree->dev, ret_handle ? fd : dirfd, ret_handle ? "" : w->name, &st, ret_id);
	if (r && r != -ENOENT)
		*ret_unseen = true; /* it may be there */
	if (r)
		return r; /* made and taken away again behind our back */
	/* From here on it exists and is recorded so, whatever the kernel is told. */
	*ret_reply = enter(v, parent, w->name, &st, ret_id, ret_entry);
	if (*ret_reply || !ret_handle)
		return 0;
	*ret_handle = fs_new_handle(v, inode_of(v, ret_entry->ino), w->flags, steal_fd(&fd));
	if (!*ret_handle) {
		inode_forget(v->inodes, inode_of(v, ret_entry->ino), 1);
		*ret_reply = -ENOMEM;
	}
	return 0;
}

static int make(struct view *v, struct inode *parent, const struct wish *w,
	struct fuse_entry_param *ret_entry, struct handle **ret_handle)
{
	struct intent intent = {
		.type = OP_CREATE,
		.name = w->name,
		.kind = tree_kind(w->mode),
		.target = w->target,
	};
	struct stat_id created;
	struct dir_ref dir;
	int r, reply = 0;

	if (fs_is_reserved(v, parent, w->name))
		return -EPERM;
	r = inode_dir(v->inodes, parent, &dir);
	if (r)
		return r;
	inode_identity(v->inodes, parent, &intent.parent);
	r = capture_begin(v->capture, &intent);
	if (!r) {
		r = inode_is_displaced(v->inodes, parent)
			? -ESTALE
			: make_recorded(v, parent, dir.fd, w, &created, ret_entry, ret_handle, &reply,
				  &intent.unknown);
		capture_end(v->capture, &intent, r, r ? NULL : &created);
	}
	inode_dir_put(v->inodes, &dir);
	return r ? r : reply;
}

static void make_and_reply(fuse_req_t req, fuse_ino_t parent, const struct wish *w)
{
	struct view *v = view_of(req);
	struct fuse_entry_param e;
	int r = make(v, inode_of(v, parent), w, &e, NULL);

	if (r)
		reply_result(req, r);
	else
		fs_reply_entry(req, &e);
}

void fs_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
	struct wish w = {.name = name, .mode = mode, .rdev = rdev, .who = caller_of(req)};

	make_and_reply(req, parent, &w);
}

void fs_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	struct wish w = {.name = name, .mode = S_IFDIR | (mode & 07777), .who = caller_of(req)};

	make_and_reply(req, parent, &w);
}

void fs_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
	struct wish w = {.name = name, .mode = S_IFLNK | 0777, .target = target, .who = caller_of(req)};

	make_and_reply(req, parent, &w);
}

/* ---- create ---- */

/* Somebody made the name between the kernel's lookup and now: an open like any other. */
static int open_existing(struct view *v, struct inode *parent, const struct wish *w,
	struct fuse_entry_param *ret_entry, struct handle **ret_handle)
{
	struct stat_id id;
	struct dir_ref dir;
	int r = inode_dir(v->inodes, parent, &dir);

	if (r)
		return r;
	r = fs_entry(v, parent, dir.fd, w->name, ret_entry);
	inode_dir_put(v->inodes, &dir);
	if (r)
		return r;
	/* A symlink, directory or device is not for us to open; ESTALE makes the kernel look again. */
	r = S_ISREG(ret_entry->attr.st_mode)
		? fs_open_handle(v, inode_of(v, ret_entry->ino), w->flags, ret_handle, &id)
		: -ESTALE;
	if (!r && (w->flags & O_TRUNC))
		ret_entry->attr_timeout = 0; /* the size has changed since the look */
	if (r)
		inode_forget(v->inodes, inode_of(v, ret_entry->ino), 1);
	return r;
}

void fs_create(
	fuse_req_t req, fuse_ino_t parent_ino, const char *name, mode_t mode, struct fuse_file_info *fi)
{
	struct view *v = view_of(req);
	struct inode *parent = inode_of(v, parent_ino);
	struct wish w = {
		.name = name, .mode = S_IFREG | (mode & 07777), .flags = fi->flags, .who = caller_of(req)};
	struct fuse_entry_param e;
	struct handle *h = NULL;
	int r = make(v, parent, &w, &e, &h);

	if (r == -EEXIST && !(fi->flags & O_EXCL))
		r = open_existing(v, parent, &w, &e, &h);
	if (r) {
		reply_result(req, r);
		return;
	}
	fs_set_open_flags(h, fi);
	if (fuse_reply_create(req, &e, fi) == -ENOENT) {
		fs_drop_handle(v, h);
		inode_forget(v->inodes, inode_of(v, e.ino), 1);
	}
}

/* ---- link ---- */

static int link_recorded(struct view *v, struct inode *i, struct inode *parent, int dirfd, const char *name,
	struct fuse_entry_param *ret_entry, int *ret_reply)
{
	cleanup_fd int fd = -1;
	struct stat_id id;
	struct stat st;
	int r = inode_is_displaced(v->inodes, i) || inode_is_displaced(v->inodes, parent)
		? -ESTALE
		: inode_open_path(v->inodes, i, &fd);

	if (!r)
		r = backing_link(fd, dirfd, name);
	if (r)
		return r;
	*ret_reply = backing_stat(v->tree->dev, fd, "", &st, &id);
	if (!*ret_reply)
		*ret_reply = enter(v, parent, name, &st, &id, ret_entry);
	return 0;
}

static int make_link(struct view *v, struct inode *i, struct inode *parent, const char *name,
	struct fuse_entry_param *ret_entry)
{
	struct intent intent = {.type = OP_LINK, .name = name};
	struct dir_ref dir;
	int r, reply = 0;

	if (fs_is_reserved(v, parent, name))
		return -EPERM;
	r = inode_dir(v->inodes, parent, &dir);
	if (r)
		return r;
	inode_identity(v->inodes, parent, &intent.parent);
	inode_identity(v->inodes, i, &intent.object);
	r = capture_begin(v->capture, &intent);
	if (!r) {
		r = link_recorded(v, i, parent, dir.fd, name, ret_entry, &reply);
		capture_end(v->capture, &intent, r, NULL);
	}
	inode_dir_put(v->inodes, &dir);
	return r ? r : reply;
}

void fs_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t new_parent, const char *new_name)
{
	struct view *v = view_of(req);
	struct fuse_entry_param e;
	int r = make_link(v, inode_of(v, ino), inode_of(v, new_parent), new_name, &e);

	if (r)
		reply_result(req, r);
	else
		fs_reply_entry(req, &e);
}
