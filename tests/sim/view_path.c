/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Walking in the simulated kernel: names by the cache or by LOOKUP, as fs/namei.c and fs/fuse/dir.c do.
 * Called by the system calls of view*.c. again: what ESTALE asks for (LOOKUP_REVAL), no cached name is
 * believed.
 */
#include "view_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LINKS_MAX 8

/* A second one who needs the same name waits for the answer to the first. */
struct lookup {
	struct lookup *next;
	struct kinode *dir;
	const char *name; /* of whoever looks */
	struct waitq over;
};

static struct fuse_req *ask(struct kinode *dir, const char *name, int *ret_error)
{
	struct fuse_req *q = req_new(dir->view, CALL_LOOKUP, dir);

	strcpy(q->name, name);
	*ret_error = req_send(q);
	return q;
}

/* The lookup that came with an answer that is not used. */
static void give_back(struct view *v, const struct fuse_entry_param *e)
{
	struct kinode *k = kinode_find(v, e->ino);
	struct fuse_req *q;

	if (k) {
		k->nlookup++; /* goes with the others */
		return;
	}
	q = req_new(v, CALL_FORGET, v->root);
	q->nodeid = e->ino;
	q->serial = 0;
	q->count = 1;
	req_send_async(q);
}

/* 1: the name still stands for what it did; 0: no longer; -errno. */
static int revalidate(struct kinode *dir, const char *name, uint64_t serial)
{
	struct view *v = dir->view;
	struct dentry *d;
	struct kinode *k;
	struct fuse_req *q;
	int r;

	q = ask(dir, name, &r);
	d = dentry_find(dir, name);
	if (r == -ENOTCONN || r == -ENOMEM || r == -EINTR) {
		req_put(q);
		return r;
	}
	if (!d || d->serial != serial) { /* somebody has put something else there */
		if (!r && q->entry.ino)
			give_back(v, &q->entry);
		req_put(q);
		return 0;
	}
	if (r || !q->entry.ino || !d->inode || d->inode->nodeid != q->entry.ino ||
		((d->inode->attr.st_mode ^ q->entry.attr.st_mode) & S_IFMT)) {
		if (!r && q->entry.ino)
			give_back(v, &q->entry);
		req_put(q);
		dentry_drop(d);
		return 0;
	}
	d->until_ns =
		q->entry.entry_timeout > 0 ? sim_now_ns() + (uint64_t)(q->entry.entry_timeout * 1e9) : 0;
	k = kinode_of_entry(v, &q->entry, q->version);
	kinode_put(k);
	req_put(q);
	return 1;
}

static int look_up(struct kinode *dir, const char *name, struct kinode **ret_child)
{
	struct view *v = dir->view;
	struct fuse_req *q;
	int r;

	*ret_child = NULL;
	q = ask(dir, name, &r);
	if (!r && q->entry.ino) {
		*ret_child = kinode_of_entry(v, &q->entry, q->version);
		r = dentry_set(dir, name, *ret_child, q->entry.entry_timeout);
		if (r) {
			kinode_put(*ret_child);
			*ret_child = NULL;
		}
	} else if (!r) {
		r = dentry_set(dir, name, NULL, q->entry.entry_timeout);
	} else if (r == -ENOENT) {
		struct dentry *d = dentry_find(dir, name);

		r = 0;
		if (d)
			dentry_drop(d);
	}
	req_put(q);
	return r;
}

/* True: somebody else has looked meanwhile. */
static bool wait_for_other(struct kinode *dir, const char *name)
{
	for (struct lookup *l = dir->view->lookups; l; l = l->next) {
		if (l->dir == dir && strcmp(l->name, name) == 0) {
			(void)waitq_wait(&l->over, SIM_FOREVER);
			return true;
		}
	}
	return false;
}

static int look_up_alone(struct kinode *dir, const char *name, struct kinode **ret_child)
{
	struct view *v = dir->view;
	struct lookup *own = calloc(1, sizeof(*own)), **at;
	int r;

	if (!own)
		abort();
	own->dir = dir;
	own->name = name;
	own->next = v->lookups;
	v->lookups = own;
	r = look_up(dir, name, ret_child);
	for (at = &v->lookups; *at != own; at = &(*at)->next)
		;
	*at = own->next;
	waitq_wake_all(&own->over);
	free(own);
	return r;
}

int path_child(struct kinode *dir, const char *name, bool again, bool is_locked, struct kinode **ret_child)
{
	struct dentry *d;
	int r;

	*ret_child = NULL;
	if (strlen(name) > NAME_MAX)
		return -ENAMETOOLONG;
	for (;;) {
		d = dentry_find(dir, name);
		if (!d) {
			if (!is_locked)
				klock_read(&dir->lock);
			if (wait_for_other(dir, name)) {
				if (!is_locked)
					klock_read_done(&dir->lock);
				continue;
			}
			d = dentry_find(dir, name);
			r = d ? 0 : look_up_alone(dir, name, ret_child);
			if (!is_locked)
				klock_read_done(&dir->lock);
			if (d)
				continue;
			return r;
		}
		if (again || sim_now_ns() >= d->until_ns) {
			r = revalidate(dir, name, d->serial);
			if (r < 0)
				return r;
			if (r == 0)
				continue; /* dropped, or another one is there */
			d = dentry_find(dir, name);
			if (!d)
				continue;
		}
		*ret_child = d->inode ? kinode_get(d->inode) : NULL;
		return 0;
	}
}

/* ---- whole paths ---- */

int path_target(struct kinode *k, char *buf, size_t size)
{
	struct fuse_req *q = req_new(k->view, CALL_READLINK, k);
	int r = req_send(q);

	if (!r && q->len >= size)
		r = -ENAMETOOLONG;
	if (!r)
		memcpy(buf, q->bytes, q->len + 1);
	req_put(q);
	return r;
}

/* path becomes where the link in its directory dir_len points, with rest behind. ".." is taken literally. */
static int follow(struct kinode *link, char *path, size_t dir_len, const char *rest)
{
	char target[PATH_MAX], tail[PATH_MAX], joined[2 * PATH_MAX];
	size_t len = dir_len;
	int r = path_target(link, target, sizeof(target));

	if (r)
		return r;
	if (target[0] == '/' || strlen(rest) >= sizeof(tail))
		return -ENOENT; /* out of the mount */
	strcpy(tail, rest);
	(void)snprintf(joined, sizeof(joined), "%s/%s", target, tail);
	for (char *at = joined, *part; (part = strsep(&at, "/"));) {
		if (!*part || strcmp(part, ".") == 0)
			continue;
		if (strcmp(part, "..") == 0) {
			if (!len)
				return -ENOENT;
			while (len && path[len - 1] != '/')
				len--;
			len -= len ? 1 : 0;
			continue;
		}
		if (len + strlen(part) + 2 > PATH_MAX)
			return -ENAMETOOLONG;
		len += (size_t)sprintf(path + len, "%s%s", len ? "/" : "", part);
	}
	path[len] = '\0';
	return 0;
}

/* One walk until the end or a link. 0; 1: path was rewritten, from the start. */
static int walk_once(struct view *v, char *path, bool follow_last, bool again, struct kinode **ret_inode)
{
	struct kinode *k = kinode_get(v->root), *child;
	size_t at = 0;
	int r = 0;

	while (path[at]) {
		size_t len = strcspn(path + at, "/");
		size_t next = at + len + strspn(path + at + len, "/");
		char name[NAME_BYTES];

		if (len > NAME_MAX)
			r = -ENAMETOOLONG;
		else if (!kinode_is_dir(k))
			r = -ENOTDIR;
		if (r)
			break;
		memcpy(name, path + at, len);
		name[len] = '\0';
		r = path_child(k, name, again, false, &child);
		if (!r && !child)
			r = -ENOENT;
		if (r)
			break;
		kinode_put(k);
		k = child;
		if (S_ISLNK(k->attr.st_mode) && (path[next] || follow_last)) {
			r = follow(k, path, at ? at - 1 : 0, path + next);
			kinode_put(k);
			return r ? r : 1;
		}
		at = next;
	}
	if (r) {
		kinode_put(k);
		return r;
	}
	*ret_inode = k;
	return 0;
}

int path_walk(struct view *v, const char *path, bool follow_last, bool again, struct kinode **ret_inode)
{
	char work[PATH_MAX];
	int r = 1;

	if (!v->connected)
		return -ENOTCONN;
	if (strlen(path) >= sizeof(work))
		return -ENAMETOOLONG;
	strcpy(work, path);
	for (int links = 0; r > 0 && links <= LINKS_MAX; links++)
		r = walk_once(v, work, follow_last, again, ret_inode);
	return r > 0 ? -ELOOP : r;
}

int path_parent(struct view *v, const char *path, bool again, struct kinode **ret_dir, char name[NAME_BYTES])
{
	const char *slash = strrchr(path, '/'), *last = slash ? slash + 1 : path;
	char dir[PATH_MAX] = "";
	int r;

	if (!*last)
		return -ENOENT;
	if (strlen(last) > NAME_MAX || strlen(path) >= sizeof(dir))
		return -ENAMETOOLONG;
	if (slash)
		memcpy(dir, path, (size_t)(slash - path));
	strcpy(name, last);
	r = path_walk(v, dir, true, again, ret_dir);
	if (r)
		return r;
	if (!kinode_is_dir(*ret_dir)) {
		kinode_put(*ret_dir);
		return -ENOTDIR;
	}
	return 0;
}

int kinode_refresh(struct kinode *k)
{
	struct fuse_req *q;
	int r;

	if (sim_now_ns() < k->attr_until_ns)
		return k->view->connected ? 0 : -ENOTCONN;
	q = req_new(k->view, CALL_GETATTR, k);
	r = req_send(q);
	if (!r && ((q->attr.st_mode ^ k->attr.st_mode) & S_IFMT))
		r = -EIO;
	if (!r)
		kinode_attributes(k, &q->attr, q->timeout, q->version);
	req_put(q);
	return r;
}
