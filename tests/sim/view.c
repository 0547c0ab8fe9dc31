/* SPDX-License-Identifier: Apache-2.0 */
/*
 * System calls on names and attributes in a simulated mount, see view.h: the order of requests and locks is
 * that of Linux (fs/namei.c, fs/fuse/dir.c). Called by threads of people. Open files are in view_file.c,
 * directories in view_dir.c.
 */
#include "view_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>

#define SHRINK_ONE_IN 400

int view_call(struct view *v, struct path_call *c, int (*fn)(struct view *, struct path_call *, bool again))
{
	int r;

	sim_point("view");
	if (!v->connected)
		return -ENOTCONN;
	v->calls++;
	if (sim_below(STREAM_SCHEDULE, SHRINK_ONE_IN) == 0)
		cache_shrink(v);
	r = fn(v, c, false);
	if (r == -ESTALE)
		r = fn(v, c, true);
	v->calls--;
	return r;
}

/* ---- what appears ---- */

/* The entry of an answer under a name: create_new_entry(). */
static int enter(struct kinode *dir, const char *name, struct fuse_req *q, mode_t type)
{
	struct kinode *k;
	int r;

	if (!q->entry.ino || ((q->entry.attr.st_mode ^ type) & S_IFMT))
		return -EIO;
	k = kinode_of_entry(dir->view, &q->entry, q->version);
	r = dentry_set(dir, name, k, q->entry.entry_timeout);
	kinode_put(k);
	kinode_attr_stale(dir);
	return r;
}

/* With the directory's lock: nothing may be there. */
static int must_be_free(struct kinode *dir, const char *name, bool again)
{
	struct kinode *child;
	int r = path_child(dir, name, again, true, &child);

	if (r || !child)
		return r;
	kinode_put(child);
	return -EEXIST;
}

static int make(struct view *v, struct path_call *c, bool again, enum call call)
{
	char name[NAME_BYTES];
	struct kinode *dir;
	struct fuse_req *q;
	int r = path_parent(v, c->path, again, &dir, name);

	if (r)
		return r;
	klock_write(&dir->lock);
	r = must_be_free(dir, name, again);
	if (!r) {
		q = req_new(v, call, dir);
		strcpy(q->name, name);
		q->mode = c->mode;
		if (call == CALL_SYMLINK)
			req_set_bytes(q, c->new_path, strlen(c->new_path));
		r = req_send(q);
		if (!r)
			r = enter(dir, name, q, call == CALL_MKDIR ? S_IFDIR : S_IFLNK);
		req_put(q);
	}
	klock_write_done(&dir->lock);
	kinode_put(dir);
	return r;
}

static int do_mkdir(struct view *v, struct path_call *c, bool again)
{
	return make(v, c, again, CALL_MKDIR);
}

static int do_symlink(struct view *v, struct path_call *c, bool again)
{
	return make(v, c, again, CALL_SYMLINK);
}

int view_mkdir(struct view *v, const char *path, mode_t mode)
{
	struct path_call c = {.path = path, .mode = mode};

	return view_call(v, &c, do_mkdir);
}

int view_symlink(struct view *v, const char *target, const char *path)
{
	struct path_call c = {.path = path, .new_path = target};

	return view_call(v, &c, do_symlink);
}

static int link_in(struct kinode *k, struct kinode *dir, const char *name, bool again)
{
	struct fuse_req *q;
	int r;

	klock_write(&dir->lock);
	r = must_be_free(dir, name, again);
	if (!r && kinode_is_dir(k))
		r = -EPERM;
	if (!r) {
		klock_write(&k->lock);
		q = req_new(k->view, CALL_LINK, k);
		q->new_nodeid = dir->nodeid;
		strcpy(q->new_name, name);
		r = req_send(q);
		if (!r)
			r = enter(dir, name, q, k->attr.st_mode);
		req_put(q);
		klock_write_done(&k->lock);
	}
	klock_write_done(&dir->lock);
	return r;
}

static int do_link(struct view *v, struct path_call *c, bool again)
{
	char name[NAME_BYTES];
	struct kinode *k, *dir;
	int r = path_walk(v, c->path, false, again, &k);

	if (r)
		return r;
	r = path_parent(v, c->new_path, again, &dir, name);
	if (!r) {
		r = link_in(k, dir, name, again);
		kinode_put(dir);
	}
	kinode_put(k);
	return r;
}

int view_link(struct view *v, const char *path, const char *new_path)
{
	struct path_call c = {.path = path, .new_path = new_path};

	return view_call(v, &c, do_link);
}

/* ---- what goes away ---- */

static int send_name(struct kinode *dir, enum call call, const char *name)
{
	struct fuse_req *q = req_new(dir->view, call, dir);
	struct dentry *d;
	int r;

	strcpy(q->name, name);
	r = req_send(q);
	req_put(q);
	d = dentry_find(dir, name);
	if (!r)
		kinode_attr_stale(dir);
	if (d && d->inode && !r)
		kinode_attr_stale(d->inode);
	if (d && (!r || r == -ENOENT || r == -EINTR))
		dentry_drop(d);
	return r;
}

static int take_away(struct view *v, struct path_call *c, bool again, bool is_dir)
{
	char name[NAME_BYTES];
	struct kinode *dir, *k;
	int r = path_parent(v, c->path, again, &dir, name);

	if (r)
		return r;
	klock_write(&dir->lock);
	r = path_child(dir, name, again, true, &k);
	if (!r && !k)
		r = -ENOENT;
	if (!r) {
		if (kinode_is_dir(k) != is_dir)
			r = is_dir ? -ENOTDIR : -EISDIR;
		if (!r) {
			klock_write(&k->lock);
			r = send_name(dir, is_dir ? CALL_RMDIR : CALL_UNLINK, name);
			klock_write_done(&k->lock);
		}
		kinode_put(k);
	}
	klock_write_done(&dir->lock);
	kinode_put(dir);
	return r;
}

static int do_unlink(struct view *v, struct path_call *c, bool again)
{
	return take_away(v, c, again, false);
}

static int do_rmdir(struct view *v, struct path_call *c, bool again)
{
	return take_away(v, c, again, true);
}

int view_unlink(struct view *v, const char *path)
{
	struct path_call c = {.path = path};

	return view_call(v, &c, do_unlink);
}

int view_rmdir(struct view *v, const char *path)
{
	struct path_call c = {.path = path};

	return view_call(v, &c, do_rmdir);
}

/* ---- rename ---- */

struct move {
	struct kinode *dir, *new_dir;
	char name[NAME_BYTES], new_name[NAME_BYTES];
	unsigned flags;
};

static void move_dentries(const struct move *m)
{
	struct dentry *from = dentry_find(m->dir, m->name), *to = dentry_find(m->new_dir, m->new_name);

	if ((m->flags & RENAME_EXCHANGE) && from && to) {
		dentry_swap(from, to);
		return;
	}
	if (to)
		dentry_drop(to);
	if (from)
		dentry_rename(from, m->new_dir, m->new_name);
}

static int send_rename(const struct move *m, struct kinode *k, struct kinode *other)
{
	struct fuse_req *q = req_new(m->dir->view, CALL_RENAME, m->dir);
	struct dentry *d;
	int r;

	strcpy(q->name, m->name);
	q->new_nodeid = m->new_dir->nodeid;
	strcpy(q->new_name, m->new_name);
	q->flags = m->flags;
	r = req_send(q);
	req_put(q);
	if (!r) {
		kinode_attr_stale(m->dir);
		kinode_attr_stale(m->new_dir);
		kinode_attr_stale(k);
		if (other)
			kinode_attr_stale(other);
		move_dentries(m);
	} else if (r == -EINTR || r == -ENOENT) {
		if ((d = dentry_find(m->dir, m->name)))
			dentry_drop(d);
		if ((d = dentry_find(m->new_dir, m->new_name)) && d->inode)
			dentry_drop(d);
	}
	return r;
}

/* What the kernel refuses by itself. 1: nothing to be done. */
static int judge_rename(const struct move *m, const struct kinode *k, const struct kinode *other)
{
	if (!k || (!other && (m->flags & RENAME_EXCHANGE)))
		return -ENOENT;
	if (other && (m->flags & RENAME_NOREPLACE))
		return -EEXIST;
	if (kinode_is_below(m->new_dir, k))
		return -EINVAL;
	if (other && kinode_is_below(m->dir, other))
		return m->flags & RENAME_EXCHANGE ? -EINVAL : -ENOTEMPTY;
	if (!other)
		return 0;
	if (k == other)
		return 1;
	if (!(m->flags & RENAME_EXCHANGE) && kinode_is_dir(k) != kinode_is_dir(other))
		return kinode_is_dir(k) ? -ENOTDIR : -EISDIR;
	return 0;
}

/* With both directories locked. */
static int rename_in(const struct move *m, bool again)
{
	struct kinode *k = NULL, *other = NULL;
	int r = path_child(m->dir, m->name, again, true, &k);

	if (!r)
		r = path_child(m->new_dir, m->new_name, again, true, &other);
	if (!r)
		r = judge_rename(m, k, other);
	if (!r)
		r = send_rename(m, k, other);
	if (k)
		kinode_put(k);
	if (other)
		kinode_put(other);
	return r > 0 ? 0 : r;
}

static int rename_locked(struct view *v, const struct move *m, bool again)
{
	struct kinode *first = m->dir, *second = m->new_dir;
	int r;

	if (first == second) {
		klock_write(&first->lock);
		r = rename_in(m, again);
		klock_write_done(&first->lock);
		return r;
	}
	klock_write(&v->rename_lock);
	if (kinode_is_below(first, second) ||
		(!kinode_is_below(second, first) && first->serial > second->serial)) {
		first = m->new_dir;
		second = m->dir;
	}
	klock_write(&first->lock);
	klock_write(&second->lock);
	r = rename_in(m, again);
	klock_write_done(&second->lock);
	klock_write_done(&first->lock);
	klock_write_done(&v->rename_lock);
	return r;
}

static int do_rename(struct view *v, struct path_call *c, bool again)
{
	struct move m = {.flags = c->rename_flags};
	int r = path_parent(v, c->path, again, &m.dir, m.name);

	if (r)
		return r;
	r = path_parent(v, c->new_path, again, &m.new_dir, m.new_name);
	if (!r) {
		r = rename_locked(v, &m, again);
		kinode_put(m.new_dir);
	}
	kinode_put(m.dir);
	return r;
}

int view_rename(struct view *v, const char *path, const char *new_path, unsigned flags)
{
	struct path_call c = {.path = path, .new_path = new_path, .rename_flags = flags};

	return view_call(v, &c, do_rename);
}

/* ---- attributes ---- */

int send_setattr(
	struct kinode *k, const struct stat *st, int to_set, const struct fuse_file_info *fi, bool has_fi)
{
	struct fuse_req *q = req_new(k->view, CALL_SETATTR, k);
	off_t old = k->attr.st_size;
	int r;

	q->attr = *st;
	q->to_set = to_set;
	q->has_fi = has_fi;
	if (has_fi)
		q->fi = *fi;
	r = req_send(q);
	if (!r && ((q->attr.st_mode ^ k->attr.st_mode) & S_IFMT))
		r = -EIO;
	if (r == -EINTR)
		kinode_attr_stale(k);
	if (!r) {
		k->attr = q->attr;
		k->attr_version = ++k->view->attr_version;
		k->attr_until_ns = q->timeout > 0 ? sim_now_ns() + (uint64_t)(q->timeout * 1e9) : 0;
		if (S_ISREG(k->attr.st_mode) && old != k->attr.st_size)
			pages_drop(k, 0);
	}
	req_put(q);
	return r;
}

struct setattr {
	struct stat st;
	int to_set;
};

static int do_setattr(struct view *v, struct path_call *c, bool again)
{
	const struct setattr *s = c->arg;
	struct kinode *k;
	int r = path_walk(v, c->path, true, again, &k);

	if (r)
		return r;
	klock_write(&k->lock);
	if ((s->to_set & FUSE_SET_ATTR_SIZE) && !S_ISREG(k->attr.st_mode))
		r = kinode_is_dir(k) ? -EISDIR : -EINVAL;
	if (!r)
		r = send_setattr(k, &s->st, s->to_set, NULL, false);
	klock_write_done(&k->lock);
	kinode_put(k);
	return r;
}

int view_chmod(struct view *v, const char *path, mode_t mode)
{
	struct setattr s = {.st = {.st_mode = mode}, .to_set = FUSE_SET_ATTR_MODE};
	struct path_call c = {.path = path, .arg = &s};

	return view_call(v, &c, do_setattr);
}

int view_utimens(struct view *v, const char *path, const struct timespec times[2])
{
	struct setattr s = {.st = {.st_atim = times[0], .st_mtim = times[1]}};
	struct path_call c = {.path = path, .arg = &s};

	if (times[0].tv_nsec != UTIME_OMIT)
		s.to_set |= FUSE_SET_ATTR_ATIME;
	if (times[0].tv_nsec == UTIME_NOW)
		s.to_set |= FUSE_SET_ATTR_ATIME_NOW;
	if (times[1].tv_nsec != UTIME_OMIT)
		s.to_set |= FUSE_SET_ATTR_MTIME;
	if (times[1].tv_nsec == UTIME_NOW)
		s.to_set |= FUSE_SET_ATTR_MTIME_NOW;
	return s.to_set ? view_call(v, &c, do_setattr) : 0;
}

int view_truncate(struct view *v, const char *path, off_t size)
{
	struct setattr s = {.st = {.st_size = size},
		.to_set = FUSE_SET_ATTR_SIZE | FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_MTIME_NOW};
	struct path_call c = {.path = path, .arg = &s};

	return view_call(v, &c, do_setattr);
}

static int do_stat(struct view *v, struct path_call *c, bool again)
{
	struct kinode *k;
	int r = path_walk(v, c->path, false, again, &k);

	if (r)
		return r;
	r = kinode_refresh(k);
	if (!r)
		*(struct stat *)c->arg = k->attr;
	kinode_put(k);
	return r;
}

int view_stat(struct view *v, const char *path, struct stat *ret_st)
{
	struct path_call c = {.path = path, .arg = ret_st};

	return view_call(v, &c, do_stat);
}

struct text {
	char *buf;
	size_t size;
};

static int do_readlink(struct view *v, struct path_call *c, bool again)
{
	const struct text *t = c->arg;
	struct kinode *k;
	int r = path_walk(v, c->path, false, again, &k);

	if (r)
		return r;
	r = S_ISLNK(k->attr.st_mode) ? path_target(k, t->buf, t->size) : -EINVAL;
	kinode_put(k);
	return r;
}

int view_readlink(struct view *v, const char *path, char *buf, size_t size)
{
	struct text t = {.buf = buf, .size = size};
	struct path_call c = {.path = path, .arg = &t};

	return view_call(v, &c, do_readlink);
}

/* ---- extended attributes ---- */

struct xattr {
	const char *name;
	const void *value; /* setxattr */
	void *to; /* getxattr */
	size_t len;
};

static int do_setxattr(struct view *v, struct path_call *c, bool again)
{
	const struct xattr *x = c->arg;
	struct kinode *k;
	struct fuse_req *q;
	int r = path_walk(v, c->path, true, again, &k);

	if (r)
		return r;
	klock_write(&k->lock);
	q = req_new(v, CALL_SETXATTR, k);
	(void)snprintf(q->name, sizeof(q->name), "%s", x->name);
	req_set_bytes(q, x->value, x->len);
	r = req_send(q);
	if (!r)
		kinode_attr_stale(k);
	req_put(q);
	klock_write_done(&k->lock);
	kinode_put(k);
	return r;
}

int view_setxattr(struct view *v, const char *path, const char *name, const void *value, size_t len)
{
	struct xattr x = {.name = name, .value = value, .len = len};
	struct path_call c = {.path = path, .arg = &x};

	return view_call(v, &c, do_setxattr);
}

static int do_getxattr(struct view *v, struct path_call *c, bool again)
{
	const struct xattr *x = c->arg;
	struct kinode *k;
	struct fuse_req *q;
	int r = path_walk(v, c->path, true, again, &k);

	if (r)
		return r;
	q = req_new(v, CALL_GETXATTR, k);
	(void)snprintf(q->name, sizeof(q->name), "%s", x->name);
	q->count = x->len;
	r = req_send(q);
	if (!r && x->len) {
		memcpy(x->to, q->bytes, q->len < x->len ? q->len : x->len);
		r = (int)q->len;
	} else if (!r) {
		r = (int)q->count;
	}
	req_put(q);
	kinode_put(k);
	return r;
}

int view_getxattr(struct view *v, const char *path, const char *name, void *value, size_t len)
{
	struct xattr x = {.name = name, .to = value, .len = len};
	struct path_call c = {.path = path, .arg = &x};

	return view_call(v, &c, do_getxattr);
}
