/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading directories. Each handle has its own stream on its own descriptor; offsets are the cookies of the
 * backing file system (telldir), so they stay valid while names come and go. Attributes of entries are
 * interned by readdirplus. Writes nothing but what fsyncdir asks for.
 */
#include "fs_view.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include <syncfs/io.h>

struct dir_handle {
	struct dir_handle *next, **at_next; /* of the view; guarded by its dirs_lock */

	struct mutex lock; /* below every other lock: entries are interned while it is held */
	DIR *stream;
	off_t at; /* cookie of what readdir() gives next */
	struct dirent *pending; /* read, but did not fit; owned by the stream */
};

static struct dir_handle *dir_handle_of(const struct fuse_file_info *fi)
{
	return (struct dir_handle *)(uintptr_t)fi->fh; /* NOLINT: what opendir put there */
}

static void dir_handle_add(struct view *v, struct dir_handle *h)
{
	MUTEX_GUARD(&v->dirs_lock);
	h->next = v->dirs;
	h->at_next = &v->dirs;
	if (h->next)
		h->next->at_next = &h->next;
	v->dirs = h;
}

static void dir_handle_free(struct view *v, struct dir_handle *h)
{
	mutex_lock(&v->dirs_lock);
	*h->at_next = h->next;
	if (h->next)
		h->next->at_next = h->at_next;
	mutex_unlock(&v->dirs_lock);
	/* Nobody reads it any more. That the last one is done is known by way of the kernel; said here, too.
	 */
	mutex_lock(&h->lock);
	mutex_unlock(&h->lock);
	(void)closedir(h->stream);
	mutex_fini(&h->lock);
	free(h);
}

void fs_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct view *v = view_of(req);
	struct dir_handle *h = NULL;
	cleanup_fd int fd = -1;
	struct dir_ref dir;
	DIR *stream = NULL;
	int r = inode_dir(v->inodes, inode_of(v, ino), &dir);

	if (!r) {
		fd = backing_open_at(dir.fd, ".", O_RDONLY | O_DIRECTORY);
		inode_dir_put(v->inodes, &dir);
		r = fd < 0 ? fd : 0;
	}
	if (!r) {
		h = calloc(1, sizeof(*h));
		stream = h ? fdopendir(fd) : NULL;
	}
	if (!h || !stream) {
		free(h);
		reply_result(req, r ? r : -ENOMEM);
		return;
	}
	(void)steal_fd(&fd); /* the stream's */
	mutex_init(&h->lock, RANK_INODE_TABLE, "directory handle");
	h->stream = stream;
	dir_handle_add(v, h);
	fi->fh = (uintptr_t)h;
	if (fuse_reply_open(req, fi) == -ENOENT)
		dir_handle_free(v, h);
}

void fs_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)ino;
	dir_handle_free(view_of(req), dir_handle_of(fi));
	reply_result(req, 0);
}

void fs_drop_dirs(struct view *v)
{
	while (v->dirs)
		dir_handle_free(v, v->dirs);
}

/* ---- reading ---- */

/* The next entry, kept in h->pending until it was used. 0 with NULL: the end. */
static int next_entry(struct dir_handle *h)
{
	if (h->pending)
		return 0;
	errno = 0;
	h->pending = readdir(h->stream);
	return h->pending ? 0 : -errno;
}

static void move_to(struct dir_handle *h, off_t off)
{
	if (off == h->at)
		return;
	/* To the start: what is there now, not what the stream has buffered. */
	if (off == 0)
		rewinddir(h->stream);
	else
		seekdir(h->stream, off);
	h->pending = NULL;
	h->at = off;
}

static bool is_dots(const char *name)
{
	return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

struct fill {
	fuse_req_t req;
	struct view *v;
	struct inode *dir;
	struct dir_handle *h;
	bool plus;
	char *bytes;
	size_t size, used;
};

/* 1: added; 0: does not fit. */
static int add_plain(struct fill *f, const struct dirent *d)
{
	const struct stat st = {.st_ino = d->d_ino, .st_mode = DTTOIF(d->d_type)};
	size_t n = fuse_add_direntry(f->req, f->bytes + f->used, f->size - f->used, d->d_name, &st, d->d_off);

	if (n > f->size - f->used)
		return 0;
	f->used += n;
	return 1;
}

static int add_plus(struct fill *f, const struct dirent *d)
{
	/* Without a node id the kernel takes name and type and nothing else (fuse_direntplus_link()). */
	struct fuse_entry_param e = {.attr = {.st_ino = d->d_ino, .st_mode = DTTOIF(d->d_type)}};
	size_t n = fuse_add_direntry_plus(f->req, NULL, 0, d->d_name, NULL, 0);
	int r;

	/* Asked before the lookup is counted: an entry that does not fit is read again. */
	if (n > f->size - f->used)
		return 0;
	if (!is_dots(d->d_name)) {
		r = fs_entry(f->v, f->dir, dirfd(f->h->stream), d->d_name, &e);
		if (r == -ENOENT)
			return 1; /* gone since */
		if (r && r != -EXDEV)
			return r;
	}
	f->used += fuse_add_direntry_plus(
		f->req, f->bytes + f->used, f->size - f->used, d->d_name, &e, d->d_off);
	return 1;
}

static int fill(struct fill *f, off_t off)
{
	int r;

	MUTEX_GUARD(&f->h->lock);
	move_to(f->h, off);
	for (;;) {
		r = next_entry(f->h);
		if (r || !f->h->pending)
			return r;
		if (!fs_is_reserved(f->v, f->dir, f->h->pending->d_name)) {
			r = f->plus ? add_plus(f, f->h->pending) : add_plain(f, f->h->pending);
			if (r <= 0)
				return r;
		}
		f->h->at = f->h->pending->d_off;
		f->h->pending = NULL;
	}
}

static void read_entries(
	fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi, bool plus)
{
	struct view *v = view_of(req);
	struct fill f = {
		.req = req,
		.v = v,
		.dir = inode_of(v, ino),
		.h = dir_handle_of(fi),
		.plus = plus,
		.size = size,
	};
	cleanup_free char *bytes = malloc(size);
	int r = -ENOMEM;

	f.bytes = bytes;
	if (bytes)
		r = fill(&f, off);
	/* An error after the first entry comes back with the next call; the entries (and lookups) must not be
	 * lost. */
	if (r && f.used == 0)
		reply_result(req, r);
	else
		(void)fuse_reply_buf(req, bytes, f.used);
}

void fs_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	read_entries(req, ino, size, off, fi, false);
}

void fs_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	read_entries(req, ino, size, off, fi, true);
}

/* Never waits for the network: the kernel holds the directory's lock meanwhile, which invalidation needs. */
void fs_fsyncdir(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	struct view *v = view_of(req);
	int r = backing_sync(dirfd(dir_handle_of(fi)->stream), datasync);

	if (!r)
		r = inode_sync_names(v->inodes, inode_of(v, ino));
	if (!r)
		r = capture_sync(v->capture);
	reply_result(req, r);
}
