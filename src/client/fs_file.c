/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Open files: open, read, write, flush, release, fsync, fallocate, copy_file_range, lseek. Content changes by
 * the rules of fs_change.c; what may fail at close is reported by flush, since nobody hears what release
 * says. Success is never answered when the backing file system failed.
 */
#include "fs_view.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#include <syncfs/io.h>
#include <syncfs/log.h>

/* Above this, pages go by splice; below, two copies are cheaper than setting up a pipe. */
#define SPLICE_MIN_BYTES (64u << 10)

/*
 * What the backing file is opened with. O_APPEND is ours to do: with it on the descriptor, pwrite(2) would
 * put pages of a shared mapping at the end, too. O_DIRECT would demand alignment of us. O_NOATIME is the
 * owner's alone.
 */
static int backing_flags(int flags)
{
	return flags & (O_ACCMODE | O_SYNC | O_DSYNC);
}

static bool is_writable(int flags)
{
	return (flags & O_ACCMODE) != O_RDONLY;
}

static int start_empty(struct view *v, struct handle *h)
{
	int r = fs_before_change(v, h), after;

	if (r)
		return r;
	r = backing_truncate(h->fd, 0);
	after = fs_after_change(v, h);
	atomic_store(&h->changes, 0); /* nothing was written: a close need not wait for this alone */
	return r ? r : after;
}

static void handle_close(struct view *v, struct handle *h)
{
	struct stat_id id;
	int r;

	inode_identity(v->inodes, h->inode, &id);
	/* Pages of a mapping are written after the last close() (flush); the mapping's own end brings only a
	 * release. */
	r = fs_complete(v, h, NULL);
	if (r)
		log_error("release inode=%llu: %s, the content is found by the next scan",
			(unsigned long long)id.ino, err_str(r));
	inode_handle_remove(
		v->inodes, h); /* before the close: other requests borrow the descriptor by the inode */
	(void)close(h->fd);
	if (h->writable)
		capture_released(v->capture, &id);
	free(h);
}

/* The tree lock keeps the applier from displacing the object between the look at it and the writer's being
 * counted. */
static int open_handle(struct view *v, struct inode *i, int flags, struct handle *h, struct stat_id *ret_id)
{
	int r;

	if (!h->writable) {
		r = inode_open(v->inodes, i, backing_flags(flags), &h->fd, ret_id);
		if (!r)
			inode_handle_add(v->inodes, i, h);
		return r;
	}
	rwlock_read(v->tree_lock);
	r = inode_is_displaced(v->inodes, i) ? -ESTALE
					     : inode_open(v->inodes, i, backing_flags(flags), &h->fd, ret_id);
	if (!r)
		inode_handle_add(v->inodes, i, h);
	rwlock_unlock(v->tree_lock);
	return r;
}

static struct handle *make_handle(int flags)
{
	struct handle *h = calloc(1, sizeof(*h));

	if (!h)
		return NULL;
	h->fd = -1;
	h->writable = is_writable(flags);
	h->append = flags & O_APPEND;
	return h;
}

int fs_open_handle(
	struct view *v, struct inode *i, int flags, struct handle **ret_handle, struct stat_id *ret_id)
{
	struct handle *h = make_handle(flags);
	int r;

	if (!h)
		return -ENOMEM;
	r = open_handle(v, i, flags, h, ret_id);
	if (r) {
		free(h);
		return r;
	}
	if (h->writable && (flags & O_TRUNC) && (r = start_empty(v, h))) {
		handle_close(v, h);
		return r;
	}
	*ret_handle = h;
	return 0;
}

struct handle *fs_new_handle(struct view *v, struct inode *i, int flags, int take_fd)
{
	struct handle *h = make_handle(flags);

	if (!h) {
		(void)close(take_fd);
		return NULL;
	}
	h->fd = take_fd;
	inode_handle_add(v->inodes, i, h);
	return h;
}

void fs_drop_handle(struct view *v, struct handle *h)
{
	handle_close(v, h);
}

void fs_set_open_flags(const struct handle *h, struct fuse_file_info *fi)
{
	fi->fh = (uintptr_t)h;
	fi->noflush = !h->writable; /* nothing to report at close: a round trip less */
}

void fs_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct view *v = view_of(req);
	struct inode *i = inode_of(v, ino);
	struct stat_id id;
	struct handle *h;
	int r = fs_open_handle(v, i, fi->flags, &h, &id);

	if (r) {
		reply_result(req, r);
		return;
	}
	fs_set_open_flags(h, fi);
	fi->keep_cache = inode_same_as_last_open(v->inodes, i, &id) && !(fi->flags & O_TRUNC);
	if (fuse_reply_open(req, fi) == -ENOENT)
		handle_close(v, h);
}

void fs_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)ino;
	handle_close(view_of(req), handle_of(fi));
	reply_result(req, 0);
}

/* ---- reading ---- */

static void read_small(fuse_req_t req, const struct handle *h, size_t size, off_t off)
{
	char bytes[SPLICE_MIN_BYTES];
	ssize_t n = backing_read(h->fd, bytes, size, off);

	if (n < 0)
		reply_result(req, (int)n);
	else
		(void)fuse_reply_buf(req, bytes, (size_t)n);
}

void fs_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	struct handle *h = handle_of(fi);
	struct fuse_bufvec out = FUSE_BUFVEC_INIT(size);

	(void)ino;
	if (size <= SPLICE_MIN_BYTES) {
		read_small(req, h, size, off);
		return;
	}
	out.buf[0].flags = FUSE_BUF_IS_FD | FUSE_BUF_FD_SEEK;
	out.buf[0].fd = h->fd;
	out.buf[0].pos = off;
	/* Not FUSE_BUF_SPLICE_MOVE: it would take the pages out of the backing file's cache. */
	(void)fuse_reply_data(req, &out, 0);
}

/* ---- writing ---- */

static ssize_t append(struct view *v, struct handle *h, struct fuse_bufvec *in, off_t off)
{
	size_t size = fuse_buf_size(in);
	struct fuse_bufvec mem = FUSE_BUFVEC_INIT(size);
	cleanup_free char *bytes = malloc(size);
	struct stat_id id;
	off_t end;
	ssize_t n;

	if (!bytes)
		return -ENOMEM;
	mem.buf[0].mem = bytes;
	n = fuse_buf_copy(&mem, in, 0);
	if (n <= 0)
		return n;
	n = backing_append(h->fd, bytes, (size_t)n, &end);
	/* The kernel has the bytes in its cache where it believed the end to be. */
	if (n > 0 && end != off + n) {
		inode_identity(v->inodes, h->inode, &id);
		invalidate_inode(v->invalidate, &id, true);
	}
	return n;
}

void fs_write_buf(
	fuse_req_t req, fuse_ino_t ino, struct fuse_bufvec *in, off_t off, struct fuse_file_info *fi)
{
	struct view *v = view_of(req);
	struct handle *h = handle_of(fi);
	struct fuse_bufvec out = FUSE_BUFVEC_INIT(fuse_buf_size(in));
	ssize_t n = fs_before_change(v, h);
	int r;

	(void)ino;
	if (n < 0) {
		reply_result(req, (int)n);
		return;
	}
	if (h->append && !fi->writepage) {
		n = append(v, h, in, off);
	} else {
		out.buf[0].flags = FUSE_BUF_IS_FD | FUSE_BUF_FD_SEEK;
		out.buf[0].fd = h->fd;
		out.buf[0].pos = off;
		n = fuse_buf_copy(&out, in, 0);
	}
	r = fs_after_change(v, h);
	if (n < 0 || r)
		reply_result(req, n < 0 ? (int)n : r);
	else
		(void)fuse_reply_write(req, (size_t)n);
}

void fs_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t off, off_t len, struct fuse_file_info *fi)
{
	struct view *v = view_of(req);
	struct handle *h = handle_of(fi);
	int r = fs_before_change(v, h), after;

	(void)ino;
	if (!r) {
		r = backing_allocate(h->fd, mode, off, len);
		after = fs_after_change(v, h);
		r = r ? r : after;
	}
	reply_result(req, r);
}

void fs_copy_file_range(fuse_req_t req, fuse_ino_t ino_in, off_t off_in, struct fuse_file_info *fi_in,
	fuse_ino_t ino_out, off_t off_out, struct fuse_file_info *fi_out, size_t len, int flags)
{
	struct view *v = view_of(req);
	struct handle *h = handle_of(fi_out);
	ssize_t n = fs_before_change(v, h);
	int after;

	(void)ino_in, (void)ino_out, (void)flags;
	if (n == 0) {
		n = backing_copy(handle_of(fi_in)->fd, off_in, h->fd, off_out, len);
		after = fs_after_change(v, h);
		n = n >= 0 && after ? after : n;
	}
	if (n < 0)
		reply_result(req, (int)n);
	else
		(void)fuse_reply_write(req, (size_t)n);
}

void fs_lseek(fuse_req_t req, fuse_ino_t ino, off_t off, int whence, struct fuse_file_info *fi)
{
	/* The descriptor's own offset moves, which nothing here uses. */
	off_t r = backing_seek(handle_of(fi)->fd, off, whence);

	(void)ino;
	if (r < 0)
		reply_result(req, (int)r);
	else
		(void)fuse_reply_lseek(req, r);
}

/* ---- completion ---- */

static int sync_file(struct view *v, fuse_ino_t ino, struct handle *h, int datasync)
{
	struct stat_id before; /* what is written meanwhile may not be on disk */
	int r = tree_stat(h->fd, "", &before);

	if (!r)
		r = backing_sync(h->fd, datasync);
	if (!r)
		r = inode_sync_names(v->inodes, inode_of(v, ino));
	return r ? r : fs_complete(v, h, &before);
}

/* Once per close() of each duplicate, so possibly often: only what was written since the last time is
 * reported. */
void fs_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct view *v = view_of(req);
	struct handle *h = handle_of(fi);
	uint64_t changes = atomic_load(&h->changes);
	int r = v->sync_at_close && h->writable ? sync_file(v, ino, h, 0) : fs_complete(v, h, NULL);

	if (!r && v->wait_at_close && changes != atomic_load(&h->kept))
		fs_reply_when_kept(req, h, changes);
	else
		reply_result(req, r);
}

void fs_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	struct view *v = view_of(req);
	struct handle *h = handle_of(fi);
	uint64_t changes = atomic_load(&h->changes);
	int r = sync_file(v, ino, h, datasync);

	if (!r && v->wait_at_fsync)
		fs_reply_when_kept(req, h, changes);
	else
		reply_result(req, r);
}
