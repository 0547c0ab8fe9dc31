/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a request handler needs: the view (userdata of the FUSE session), the small helpers that every fs_*
 * file uses, and the list of the handlers, for mount.c. A handler answers exactly once, holds no lock while
 * it does, and never waits for the network.
 */
#ifndef SYNCFS_CLIENT_FS_VIEW_H
#define SYNCFS_CLIENT_FS_VIEW_H

#define FUSE_USE_VERSION 314
#include <fuse_lowlevel.h>

#include <syncfs/mutex.h>
#include <syncfs/tree.h>

#include "await.h"
#include "backing.h"
#include "capture.h"
#include "inode.h"
#include "invalidate.h"

/*
 * How long the kernel may trust names and attributes without asking, in seconds. What comes from the server
 * is announced (invalidate.c); this is for changes made straight in the backing directory, which have to show
 * within a second.
 */
#define CACHE_S 1.0
/*
 * Names that do not exist are not cached: a program that waits for a file asks in a loop, and an answer
 * overtaken by the file's arrival would hide it for CACHE_S.
 */

struct dir_handle;

struct view {
	const struct tree *tree;
	struct rwlock *tree_lock;
	struct inode_table *inodes;
	struct invalidate *invalidate;
	struct capture *capture; /* set before the loop */
	bool sync_at_close; /* durable=local and close */
	bool wait_at_fsync, wait_at_close; /* for the server: durable=fsync, close */
	struct await *await; /* set before the loop */

	struct mutex dirs_lock; /* guards dirs; nothing is taken under it */
	struct dir_handle *dirs; /* open directories */
};

static inline struct view *view_of(fuse_req_t req)
{
	return fuse_req_userdata(req);
}

static inline struct inode *inode_of(const struct view *v, fuse_ino_t ino)
{
	return inode_from_nodeid(v->inodes, ino);
}

static inline struct handle *handle_of(const struct fuse_file_info *fi)
{
	return (struct handle *)(uintptr_t)fi->fh; /* NOLINT: what open put there */
}

static inline struct caller caller_of(fuse_req_t req)
{
	const struct fuse_ctx *ctx = fuse_req_ctx(req);

	return (struct caller){.uid = ctx->uid, .gid = ctx->gid};
}

/* r: 0 or -errno. */
static inline void reply_result(fuse_req_t req, int r)
{
	(void)fuse_reply_err(req, -r);
}

/* `.syncfs` at the root: ours, not to be seen or made. */
bool fs_is_reserved(const struct view *v, const struct inode *parent, const char *name);
/* Looks at dir/name, interns it (one lookup more) and fills the answer. epoch: inode_epoch() from before the
 * look. */
int fs_entry(struct view *v, struct inode *parent, int dirfd, const char *name,
	struct fuse_entry_param *ret_entry);
/* The same when stat and identity are known already. */
int fs_entry_known(struct view *v, struct inode *parent, const char *name, uint64_t epoch,
	const struct stat *st, const struct stat_id *id, struct fuse_entry_param *ret_entry);
/* Answers with e; takes the lookup back when the kernel did not get it (interrupted). */
void fs_reply_entry(fuse_req_t req, const struct fuse_entry_param *e);

/* ---- fs_change.c: content that changes ---- */

/* Before the data of a handle changes. 0, or what the caller must answer instead. */
int fs_before_change(struct view *v, struct handle *h);
/* After it, always when that gave 0; also when the change failed half way. 0, or what must be answered
 * instead of success. */
int fs_after_change(struct view *v, struct handle *h);
/* What the handle wrote is complete for now. synced: it is on disk. */
int fs_complete(struct view *v, struct handle *h, const struct stat_id *synced);
/* Sets the size of a file that the caller has not opened. */
int fs_truncate(struct view *v, struct inode *i, off_t size);

/* ---- fs_wait.c: answers that wait for the server ---- */

/* Answers when the file is at the server, as await.h says. changes: of the handle, from before its local
 * fsync.
 */
void fs_reply_when_kept(fuse_req_t req, struct handle *h, uint64_t changes);

/* ---- fs_file.c, for create ---- */

/* Opens a known inode and counts it; O_TRUNC is done. ret_id: the file as it was before that. */
int fs_open_handle(
	struct view *v, struct inode *i, int flags, struct handle **ret_handle, struct stat_id *ret_id);
/* A handle on a file that was just made: takes fd. The caller holds the tree lock. NULL: no memory, fd is
 * closed. */
struct handle *fs_new_handle(struct view *v, struct inode *i, int flags, int take_fd);
void fs_set_open_flags(
	const struct handle *h, struct fuse_file_info *fi); /* what the kernel shall know of a new handle */
void fs_drop_handle(struct view *v, struct handle *h); /* all that a release does */

/* ---- the handlers ---- */

void fs_lookup(fuse_req_t req, fuse_ino_t parent, const char *name);
void fs_forget(fuse_req_t req, fuse_ino_t ino, uint64_t nlookup);
void fs_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets);
void fs_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void fs_readlink(fuse_req_t req, fuse_ino_t ino);
void fs_statfs(fuse_req_t req, fuse_ino_t ino);
void fs_access(fuse_req_t req, fuse_ino_t ino, int mask);

void fs_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int to_set, struct fuse_file_info *fi);
void fs_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name, const char *value, size_t size, int flags);
void fs_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size);
void fs_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size);
void fs_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name);

void fs_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev);
void fs_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode);
void fs_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name);
void fs_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t new_parent, const char *new_name);
void fs_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi);
void fs_unlink(fuse_req_t req, fuse_ino_t parent, const char *name);
void fs_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name);
void fs_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t new_parent,
	const char *new_name, unsigned int flags);

void fs_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void fs_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi);
void fs_write_buf(
	fuse_req_t req, fuse_ino_t ino, struct fuse_bufvec *in, off_t off, struct fuse_file_info *fi);
void fs_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void fs_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void fs_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi);
void fs_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t off, off_t len, struct fuse_file_info *fi);
void fs_copy_file_range(fuse_req_t req, fuse_ino_t ino_in, off_t off_in, struct fuse_file_info *fi_in,
	fuse_ino_t ino_out, off_t off_out, struct fuse_file_info *fi_out, size_t len, int flags);
void fs_lseek(fuse_req_t req, fuse_ino_t ino, off_t off, int whence, struct fuse_file_info *fi);

void fs_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
/* What the kernel could not release any more; when nothing is served. */
void fs_drop_dirs(struct view *v);
void fs_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi);
void fs_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi);
void fs_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void fs_fsyncdir(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi);

#endif
