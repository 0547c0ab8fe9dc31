/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From an inode to its object: by a pin, by an open handle, by a cached directory, else by parent and name,
 * step by step from the nearest directory that is open. What stands at the name must be the very object (dev,
 * ino, btime); if not, the answer is -ESTALE, and the kernel looks the name up again (it retries a path once
 * with LOOKUP_REVAL). Called by fs_*; no lock is held over a syscall that can wait.
 */
#include "inode_own.h"

#include <errno.h>
#include <fcntl.h>

#include <syncfs/io.h>
#include <syncfs/limits.h>

#include "backing.h"

static int gone_is_stale(int r)
{
	return r == -ENOENT || r == -ENOTDIR || r == -ELOOP || r == -EXDEV ? -ESTALE : r;
}

static int check(const struct inode_table *t, const struct inode *i, int dirfd, const char *name,
	struct stat *ret_stat, struct stat_id *ret_id)
{
	struct stat_id id;
	int r = backing_stat(t->tree->dev, dirfd, name, ret_stat, &id);

	if (r)
		return gone_is_stale(r);
	if (id.ino != i->ino || id.btime_ns != i->btime_ns)
		return -ESTALE;
	if (ret_id)
		*ret_id = id;
	return 0;
}

/* ---- directories ---- */

static void use_locked(struct inode *i, struct dir_slot *s, struct dir_ref *ret_ref)
{
	i->refs++;
	*ret_ref = (struct dir_ref){.fd = s->fd, .inode = i, .slot = s};
}

/* Takes fd as the directory's descriptor, unless another thread was faster. */
static int adopt(struct inode_table *t, struct inode *i, int take_fd, struct dir_ref *ret_ref)
{
	cleanup_fd int fd = take_fd;
	struct dir_slot *s;

	MUTEX_GUARD(&t->lock);
	s = i->slot;
	if (s)
		dir_cache_use(&t->dirs, s);
	else
		s = dir_cache_add(&t->dirs, i, steal_fd(&fd));
	if (!s)
		return -ENOMEM;
	use_locked(i, s, ret_ref);
	return 0;
}

/* 0: done. 1: pinned, *ret_fd is a duplicate to be adopted. -ESTALE: has to be opened by its place. */
static int dir_known(struct inode_table *t, struct inode *i, struct dir_ref *ret_ref, int *ret_fd)
{
	MUTEX_GUARD(&t->lock);
	if (!(i->flags & INODE_DIR))
		return -ENOTDIR;
	if (i->slot) {
		dir_cache_use(&t->dirs, i->slot);
		use_locked(i, i->slot, ret_ref);
		return 0;
	}
	if (i->pinned_fd < 0)
		return -ESTALE;
	*ret_fd = backing_dup(i->pinned_fd);
	return *ret_fd < 0 ? *ret_fd : 1;
}

static int dir_at_depth(struct inode_table *t, struct inode *i, int depth, struct dir_ref *ret_ref);

/* An O_PATH descriptor of a directory by its place. */
static int open_by_place(struct inode_table *t, struct inode *i, int depth, int *ret_fd)
{
	char name[NAME_MAX_BYTES + 1];
	cleanup_fd int fd = -1;
	struct inode *parent;
	struct dir_ref up;
	struct stat st;
	int r;

	if (depth > TREE_MAX_DEPTH)
		return -ESTALE;
	r = inode_where(t, i, &parent, name);
	if (r)
		return r;
	r = dir_at_depth(t, parent, depth + 1, &up);
	inode_put(t, parent);
	if (r)
		return r;
	fd = backing_open_path(up.fd, name);
	inode_dir_put(t, &up);
	if (fd < 0)
		return gone_is_stale(fd);
	r = check(t, i, fd, "", &st, NULL);
	if (r)
		return r;
	*ret_fd = steal_fd(&fd);
	return 0;
}

static int dir_at_depth(struct inode_table *t, struct inode *i, int depth, struct dir_ref *ret_ref)
{
	int fd = -1, r;

	if (i == t->root) {
		*ret_ref = (struct dir_ref){.fd = t->tree->root_fd, .inode = i};
		return 0;
	}
	r = dir_known(t, i, ret_ref, &fd);
	if (r == -ESTALE)
		r = open_by_place(t, i, depth, &fd);
	if (r < 0 || fd < 0)
		return r;
	return adopt(t, i, fd, ret_ref);
}

int inode_dir(struct inode_table *t, struct inode *i, struct dir_ref *ret_ref)
{
	return dir_at_depth(t, i, 0, ret_ref);
}

void inode_dir_put(struct inode_table *t, struct dir_ref *ref)
{
	if (!ref->slot)
		return;
	mutex_lock(&t->lock);
	dir_cache_unuse(&t->dirs, ref->slot);
	mutex_unlock(&t->lock);
	inode_put(t, ref->inode);
	ref->slot = NULL;
}

/* ---- any object ---- */

/* A duplicate of a descriptor that we have anyway; -ESTALE: none. */
static int known_fd(struct inode_table *t, struct inode *i)
{
	if (i == t->root)
		return backing_dup(t->tree->root_fd);
	MUTEX_GUARD(&t->lock);
	if (i->pinned_fd >= 0)
		return backing_dup(i->pinned_fd);
	if (i->flags & INODE_DIR)
		return i->slot ? backing_dup(i->slot->fd) : -ESTALE;
	return i->handles ? backing_dup(i->handles->fd) : -ESTALE;
}

/* The directory that should hold i, and its name there. */
static int holder(struct inode_table *t, struct inode *i, struct dir_ref *ret_dir, char *name)
{
	struct inode *parent;
	int r = inode_where(t, i, &parent, name);

	if (r)
		return r;
	r = inode_dir(t, parent, ret_dir);
	inode_put(t, parent);
	return r;
}

int inode_open_path(struct inode_table *t, struct inode *i, int *ret_fd)
{
	char name[NAME_MAX_BYTES + 1];
	cleanup_fd int fd = known_fd(t, i);
	struct dir_ref dir;
	struct stat st;
	int r;

	if (fd == -ESTALE) {
		r = holder(t, i, &dir, name);
		if (r)
			return r;
		fd = backing_open_path(dir.fd, name);
		inode_dir_put(t, &dir);
		if (fd >= 0 && (r = check(t, i, fd, "", &st, NULL)))
			return r;
	}
	if (fd < 0)
		return gone_is_stale(fd);
	*ret_fd = steal_fd(&fd);
	return 0;
}

int inode_open(struct inode_table *t, struct inode *i, int flags, int *ret_fd, struct stat_id *ret_id)
{
	char name[NAME_MAX_BYTES + 1];
	cleanup_fd int known = known_fd(t, i), fd = -1;
	struct dir_ref dir;
	struct stat st;
	int r;

	if (known >= 0) {
		fd = backing_reopen(known, flags);
	} else {
		r = known == -ESTALE ? holder(t, i, &dir, name) : known;
		if (r)
			return r;
		fd = backing_open_at(dir.fd, name, flags);
		inode_dir_put(t, &dir);
	}
	if (fd < 0)
		return gone_is_stale(fd);
	r = check(t, i, fd, "", &st, ret_id);
	if (r)
		return r;
	*ret_fd = steal_fd(&fd);
	return 0;
}

/* The directory's cached descriptor; the kernel asks for a directory's attributes after every change in it.
 */
static bool dir_is_open(struct inode_table *t, struct inode *i, struct dir_ref *ret_ref)
{
	MUTEX_GUARD(&t->lock);
	if (!(i->flags & INODE_DIR) || !i->slot)
		return false;
	dir_cache_use(&t->dirs, i->slot);
	use_locked(i, i->slot, ret_ref);
	return true;
}

int inode_stat(struct inode_table *t, struct inode *i, struct stat *ret_stat, struct stat_id *ret_id)
{
	char name[NAME_MAX_BYTES + 1];
	cleanup_fd int fd = -1;
	struct dir_ref dir;
	int r;

	if (dir_is_open(t, i, &dir)) {
		r = check(t, i, dir.fd, "", ret_stat, ret_id);
		inode_dir_put(t, &dir);
		return r;
	}
	fd = known_fd(t, i);
	if (fd >= 0)
		return check(t, i, fd, "", ret_stat, ret_id);
	if (fd != -ESTALE)
		return fd;
	r = holder(t, i, &dir, name);
	if (r)
		return r;
	r = check(t, i, dir.fd, name, ret_stat, ret_id);
	inode_dir_put(t, &dir);
	return r;
}

static void put_path_locked(const struct inode_table *t, const struct inode *i, struct buf *paths)
{
	const struct inode *way[TREE_MAX_DEPTH];
	size_t depth = 0;

	for (; i != t->root; i = i->parent) {
		if (!i->parent || depth == TREE_MAX_DEPTH)
			return; /* unlinked, or out of reach */
		way[depth++] = i;
	}
	while (depth > 0) {
		buf_put_str(paths, way[--depth]->name);
		buf_put_u8(paths, depth ? '/' : 0);
	}
}

int inode_writer_paths(struct inode_table *t, struct buf *paths)
{
	const struct inode *i;
	size_t n;

	MUTEX_GUARD(&t->lock);
	for (n = 0; n < t->chain_count; n++) {
		for (i = t->chains[n]; i; i = i->next) {
			if (i->writers)
				put_path_locked(t, i, paths);
		}
	}
	return paths->error;
}

/* One level: makes the name of i durable and gives its directory, with a reference. */
static int sync_name(struct inode_table *t, struct inode *i, struct inode **ret_parent)
{
	char name[NAME_MAX_BYTES + 1];
	struct inode *parent;
	struct dir_ref dir;
	int r = inode_where(t, i, &parent, name);

	if (r)
		return r;
	r = inode_dir(t, parent, &dir);
	if (!r) {
		r = backing_sync_dir(dir.fd);
		inode_dir_put(t, &dir);
	}
	if (r) {
		inode_put(t, parent);
		return r;
	}
	*ret_parent = parent;
	return 0;
}

int inode_sync_names(struct inode_table *t, struct inode *i)
{
	struct inode *parent, *held = NULL;
	int r = 0, depth;

	for (depth = 0; depth <= TREE_MAX_DEPTH && i != t->root && inode_take_unsynced(t, i); depth++) {
		r = sync_name(t, i, &parent);
		if (r && r != -ESTALE)
			inode_set_unsynced(t, i);
		if (held)
			inode_put(t, held);
		if (r)
			return r == -ESTALE ? 0 : r; /* unlinked meanwhile: no name to be made durable */
		i = held = parent;
	}
	if (held)
		inode_put(t, held);
	return 0;
}
