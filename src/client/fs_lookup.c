/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names to inodes and what is read of them without opening: lookup, forget, getattr, readlink, statfs. Also
 * the answers that carry an entry or attributes, which the other fs_* files use. Changes nothing on disk.
 */
#include "fs_view.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

#include <syncfs/io.h>

/* ---- shared by the handlers ---- */

bool fs_is_reserved(const struct view *v, const struct inode *parent, const char *name)
{
	return inode_is_root(v->inodes, parent) && strcmp(name, RESERVED_NAME) == 0;
}

int fs_entry_known(struct view *v, struct inode *parent, const char *name, uint64_t epoch,
	const struct stat *st, const struct stat_id *id, struct fuse_entry_param *ret_entry)
{
	struct inode *i;
	double timeout;
	int r = inode_intern(v->inodes, parent, name, id, &i);

	if (r)
		return r;
	/* See inode_epoch(): an answer from before an invalidation must not outlive it. */
	timeout = epoch == inode_epoch(v->inodes) ? CACHE_S : 0;
	*ret_entry = (struct fuse_entry_param){
		.ino = inode_nodeid(v->inodes, i),
		.generation = 1, /* node ids are addresses: two of one number never live at once */
		.attr = *st,
		.attr_timeout = timeout,
		.entry_timeout = timeout,
	};
	return 0;
}

int fs_entry(
	struct view *v, struct inode *parent, int dirfd, const char *name, struct fuse_entry_param *ret_entry)
{
	uint64_t epoch = inode_epoch(v->inodes);
	struct stat_id id;
	struct stat st;
	int r = backing_stat(v->tree->dev, dirfd, name, &st, &id);

	return r ? r : fs_entry_known(v, parent, name, epoch, &st, &id, ret_entry);
}

void fs_reply_entry(fuse_req_t req, const struct fuse_entry_param *e)
{
	struct view *v = view_of(req);

	if (fuse_reply_entry(req, e) == -ENOENT)
		inode_forget(v->inodes, inode_of(v, e->ino), 1);
}

/* ---- handlers ---- */

void fs_lookup(fuse_req_t req, fuse_ino_t parent_ino, const char *name)
{
	struct view *v = view_of(req);
	struct inode *parent = inode_of(v, parent_ino);
	struct fuse_entry_param e;
	struct dir_ref dir;
	int r;

	if (fs_is_reserved(v, parent, name)) {
		reply_result(req, -ENOENT);
		return;
	}
	r = inode_dir(v->inodes, parent, &dir);
	if (!r) {
		r = fs_entry(v, parent, dir.fd, name, &e);
		inode_dir_put(v->inodes, &dir);
	}
	if (r)
		reply_result(req, r);
	else
		fs_reply_entry(req, &e);
}

void fs_forget(fuse_req_t req, fuse_ino_t ino, uint64_t nlookup)
{
	struct view *v = view_of(req);

	inode_forget(v->inodes, inode_of(v, ino), nlookup);
	fuse_reply_none(req);
}

void fs_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets)
{
	struct view *v = view_of(req);
	size_t n;

	for (n = 0; n < count; n++)
		inode_forget(v->inodes, inode_of(v, forgets[n].ino), forgets[n].nlookup);
	fuse_reply_none(req);
}

void fs_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct view *v = view_of(req);
	uint64_t epoch = inode_epoch(v->inodes);
	struct stat st;
	int r;

	(void)fi; /* an open handle of any program serves as well: inode_stat() takes it */
	r = inode_stat(v->inodes, inode_of(v, ino), &st, NULL);
	if (r)
		reply_result(req, r);
	else
		(void)fuse_reply_attr(req, &st, epoch == inode_epoch(v->inodes) ? CACHE_S : 0);
}

void fs_readlink(fuse_req_t req, fuse_ino_t ino)
{
	struct view *v = view_of(req);
	char target[PATH_MAX + 1];
	cleanup_fd int fd = -1;
	ssize_t n = inode_open_path(v->inodes, inode_of(v, ino), &fd);

	if (n == 0)
		n = backing_readlink(fd, target, sizeof(target));
	if (n >= (ssize_t)sizeof(target))
		n = -ENAMETOOLONG;
	if (n < 0) {
		reply_result(req, (int)n);
		return;
	}
	target[n] = '\0';
	(void)fuse_reply_readlink(req, target);
}

/* By the root's descriptor: a lookup, a removed directory or the network cannot make df wait. */
void fs_statfs(fuse_req_t req, fuse_ino_t ino)
{
	struct view *v = view_of(req);
	struct statvfs fs;
	int r;

	(void)ino;
	r = backing_statfs(v->tree->root_fd, &fs);
	if (r)
		reply_result(req, r);
	else
		(void)fuse_reply_statfs(req, &fs);
}

/*
 * Not asked: every mount has default_permissions, so the kernel checks. ENOSYS says so once and for all; to
 * answer "granted" here would be wrong if that ever changed.
 */
void fs_access(fuse_req_t req, fuse_ino_t ino, int mask)
{
	(void)ino, (void)mask;
	reply_result(req, -ENOSYS);
}
