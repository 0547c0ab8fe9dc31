/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Open files of a simulated mount, see view.h: what Linux does in fs/fuse/file.c, without mappings and
 * without the writeback cache (syncfs does not ask for it). Reads go by pages that stay until they are
 * dropped, so that contents that were not invalidated show. Called by threads of people.
 */
#include "view_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#define READ_AHEAD_PAGES 32u

struct view_file {
	struct view *view;
	struct kinode *inode;
	struct fuse_file_info fi;
	bool is_dir;
};

static struct view_file *file_new(struct kinode *k, int flags, const struct fuse_file_info *fi, bool is_dir)
{
	struct view_file *f = calloc(1, sizeof(*f));

	if (!f)
		abort();
	f->view = k->view;
	f->inode = kinode_get(k);
	f->fi = *fi;
	f->fi.flags = flags & ~(O_CREAT | O_EXCL | O_NOCTTY | O_TRUNC);
	f->is_dir = is_dir;
	k->view->open_files++;
	return f;
}

/* ---- open ---- */

static void emptied(struct kinode *k)
{
	k->attr.st_size = 0;
	k->attr_version = ++k->view->attr_version;
	kinode_attr_stale(k);
	pages_drop(k, 0);
}

static int send_open(struct kinode *k, int flags, struct view_file **ret_file)
{
	bool is_dir = kinode_is_dir(k), atomic = k->view->conn.want & FUSE_CAP_ATOMIC_O_TRUNC;
	struct fuse_req *q = req_new(k->view, is_dir ? CALL_OPENDIR : CALL_OPEN, k);
	int r;

	q->fi.flags = flags & ~(O_CREAT | O_EXCL | O_NOCTTY | (atomic ? 0 : O_TRUNC));
	r = req_send(q);
	if (!r) {
		*ret_file = file_new(k, flags, &q->fi, is_dir);
		if (!is_dir && (flags & O_TRUNC) && atomic)
			emptied(k);
		else if (!is_dir && !q->fi.keep_cache)
			pages_drop(k, 0);
	}
	req_put(q);
	return r;
}

static int open_inode(struct kinode *k, int flags, struct view_file **ret_file)
{
	const struct stat empty = {.st_size = 0};
	bool truncates = flags & O_TRUNC;
	int r;

	if (S_ISLNK(k->attr.st_mode))
		return -ELOOP;
	if (kinode_is_dir(k) && ((flags & O_ACCMODE) != O_RDONLY || truncates))
		return -EISDIR;
	if (!kinode_is_dir(k) && (flags & O_DIRECTORY))
		return -ENOTDIR;
	if (truncates)
		klock_write(&k->lock);
	r = send_open(k, flags, ret_file);
	if (!r && truncates && !(k->view->conn.want & FUSE_CAP_ATOMIC_O_TRUNC)) {
		r = send_setattr(k, &empty, FUSE_SET_ATTR_SIZE, NULL, false);
		if (r)
			(void)view_close(*ret_file);
	}
	if (truncates)
		klock_write_done(&k->lock);
	return r;
}

static int create(struct kinode *dir, const char *name, int flags, mode_t mode, struct view_file **ret_file)
{
	struct fuse_req *q = req_new(dir->view, CALL_CREATE, dir);
	struct kinode *k;
	int r;

	strcpy(q->name, name);
	q->mode = S_IFREG | mode;
	q->fi.flags = flags & ~O_NOCTTY;
	r = req_send(q);
	if (!r && (!q->entry.ino || !S_ISREG(q->entry.attr.st_mode)))
		sim_fail("view", "CREATE answers with what is no file");
	if (!r) {
		k = kinode_of_entry(dir->view, &q->entry, q->version);
		r = dentry_set(dir, name, k, q->entry.entry_timeout);
		kinode_attr_stale(dir);
		*ret_file = file_new(k, flags, &q->fi, false);
		if (!q->fi.keep_cache)
			pages_drop(k, 0);
		kinode_put(k);
	}
	req_put(q);
	return r;
}

/* 1: something is there, to be opened. */
static int open_or_create(struct view *v, struct path_call *c, bool again)
{
	char name[NAME_BYTES];
	struct kinode *dir, *k = NULL;
	int r = path_parent(v, c->path, again, &dir, name);

	if (r)
		return r;
	klock_write(&dir->lock);
	r = path_child(dir, name, again, true, &k);
	if (!r && k)
		r = c->flags & O_EXCL ? -EEXIST : 1;
	else if (!r)
		r = create(dir, name, c->flags, c->mode, c->arg);
	klock_write_done(&dir->lock);
	if (k)
		kinode_put(k);
	kinode_put(dir);
	return r;
}

static int do_open(struct view *v, struct path_call *c, bool again)
{
	struct kinode *k;
	int r = c->flags & O_CREAT ? open_or_create(v, c, again) : 1;

	if (r <= 0)
		return r;
	r = path_walk(v, c->path, !(c->flags & O_NOFOLLOW), again, &k);
	if (r)
		return r;
	r = open_inode(k, c->flags, c->arg);
	kinode_put(k);
	return r;
}

int view_open(struct view *v, const char *path, int flags, mode_t mode, struct view_file **ret_file)
{
	struct path_call c = {.path = path, .flags = flags, .mode = mode, .arg = ret_file};

	*ret_file = NULL;
	return view_call(v, &c, do_open);
}

/* ---- read ---- */

static size_t pages_of(off_t size)
{
	return ((size_t)size + PAGE_BYTES - 1) / PAGE_BYTES;
}

/* A short answer: the file ends there, unless the kernel knows of something newer. */
static void ends_at(struct kinode *k, off_t size, uint64_t version)
{
	if (k->attr_version != version || size >= k->attr.st_size)
		return;
	k->attr.st_size = size;
	k->attr_version = ++k->view->attr_version;
}

static int fill_pages(struct view_file *f, size_t first)
{
	struct kinode *k = f->inode;
	size_t end = pages_of(k->attr.st_size), count = 1;
	uint64_t version = k->attr_version;
	struct fuse_req *q;
	int r;

	while (count < READ_AHEAD_PAGES && first + count < end && !page_at(k, first + count))
		count++;
	q = req_new(k->view, CALL_READ, k);
	q->fi = f->fi;
	q->at = (off_t)(first * PAGE_BYTES);
	q->count = count * PAGE_BYTES;
	pages_lock(k);
	r = req_send(q);
	if (!r && q->len > q->count)
		sim_fail("view", "READ answers with more than it was asked for");
	for (size_t i = 0; !r && i < count; i++) {
		size_t at = i * PAGE_BYTES, left = q->len > at ? q->len - at : 0;

		page_set(k, first + i, left ? q->bytes + at : NULL, left < PAGE_BYTES ? left : PAGE_BYTES);
	}
	pages_unlock(k);
	if (!r && q->len < q->count)
		ends_at(k, q->at + (off_t)q->len, version);
	kinode_attr_stale(k); /* atime */
	req_put(q);
	return r;
}

ssize_t view_pread(struct view_file *f, void *buf, size_t len, off_t at)
{
	struct kinode *k = f->inode;
	size_t done = 0;
	int r;

	sim_point("view read");
	if (f->is_dir)
		return -EISDIR;
	if ((f->fi.flags & O_ACCMODE) == O_WRONLY)
		return -EBADF;
	r = kinode_refresh(k);
	while (!r && done < len) {
		off_t pos = at + (off_t)done;
		size_t index = (size_t)pos / PAGE_BYTES, in = (size_t)pos % PAGE_BYTES, n = PAGE_BYTES - in;
		const uint8_t *page;

		if (pos >= k->attr.st_size)
			break;
		page = page_at(k, index);
		if (!page) {
			r = fill_pages(f, index);
			continue;
		}
		if (n > len - done)
			n = len - done;
		if ((off_t)n > k->attr.st_size - pos)
			n = (size_t)(k->attr.st_size - pos);
		memcpy((uint8_t *)buf + done, page + in, n);
		done += n;
	}
	return r && !done ? r : (ssize_t)done;
}

/* ---- write ---- */

static void wrote(struct kinode *k, off_t at, const uint8_t *bytes, size_t len)
{
	for (size_t done = 0; done < len;) {
		size_t pos = (size_t)at + done, in = pos % PAGE_BYTES, n = PAGE_BYTES - in;

		if (n > len - done)
			n = len - done;
		page_patch(k, pos / PAGE_BYTES, in, bytes + done, n);
		done += n;
	}
	k->attr_version = ++k->view->attr_version;
	if (at + (off_t)len > k->attr.st_size)
		k->attr.st_size = at + (off_t)len;
	kinode_attr_stale(k);
}

static ssize_t write_piece(struct view_file *f, const uint8_t *bytes, size_t len, off_t at)
{
	struct kinode *k = f->inode;
	struct fuse_req *q = req_new(k->view, CALL_WRITE, k);
	ssize_t r;

	q->fi = f->fi;
	q->at = at;
	req_set_bytes(q, bytes, len);
	pages_lock(k);
	r = req_send(q);
	if (!r && q->count > len)
		sim_fail("view", "WRITE answers that more was written");
	if (!r) {
		wrote(k, at, bytes, q->count);
		r = (ssize_t)q->count;
	}
	pages_unlock(k);
	if (r < (ssize_t)len)
		pages_drop(k, 0);
	req_put(q);
	return r;
}

ssize_t view_pwrite(struct view_file *f, const void *buf, size_t len, off_t at)
{
	struct kinode *k = f->inode;
	size_t done = 0;
	ssize_t n = 0;

	sim_point("view write");
	if (f->is_dir || (f->fi.flags & O_ACCMODE) == O_RDONLY)
		return -EBADF;
	klock_write(&k->lock);
	if (f->fi.flags & O_APPEND)
		at = k->attr.st_size;
	while (done < len) {
		size_t piece = len - done < f->view->conn.max_write ? len - done : f->view->conn.max_write;

		n = write_piece(f, (const uint8_t *)buf + done, piece, at + (off_t)done);
		if (n <= 0)
			break;
		done += (size_t)n;
		if ((size_t)n < piece)
			break;
	}
	klock_write_done(&k->lock);
	if (n < 0 && !done)
		return n;
	return len && !done ? -EIO : (ssize_t)done;
}

int view_ftruncate(struct view_file *f, off_t size)
{
	const struct stat st = {.st_size = size};
	int r;

	sim_point("view ftruncate");
	if (f->is_dir || (f->fi.flags & O_ACCMODE) == O_RDONLY)
		return -EINVAL;
	klock_write(&f->inode->lock);
	r = send_setattr(f->inode, &st, FUSE_SET_ATTR_SIZE | FUSE_SET_ATTR_FILE, &f->fi, true);
	klock_write_done(&f->inode->lock);
	return r;
}

/* ---- fsync, close ---- */

int view_fsync(struct view_file *f)
{
	struct fuse_req *q = req_new(f->view, f->is_dir ? CALL_FSYNCDIR : CALL_FSYNC, f->inode);
	int r;

	sim_point("view fsync");
	q->fi = f->fi;
	klock_write(&f->inode->lock);
	r = req_send(q);
	klock_write_done(&f->inode->lock);
	req_put(q);
	return r;
}

static int flush(struct view_file *f)
{
	struct fuse_req *q;
	int r;

	if (f->is_dir || f->fi.noflush)
		return 0;
	q = req_new(f->view, CALL_FLUSH, f->inode);
	q->fi = f->fi;
	r = req_send(q);
	req_put(q);
	return r;
}

int view_close(struct view_file *f)
{
	struct view *v = f->view;
	struct fuse_req *q;
	int r;

	sim_point("view close");
	r = flush(f);
	q = req_new(v, f->is_dir ? CALL_RELEASEDIR : CALL_RELEASE, f->inode);
	q->fi = f->fi;
	req_send_async(q);
	v->open_files--;
	kinode_put(f->inode);
	free(f);
	return r;
}
