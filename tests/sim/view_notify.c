/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Notifications of the client's kernel: fuse_lowlevel_notify_*, as Linux carries them out
 * (fuse_reverse_inval_*). Called by client/invalidate.c through -Wl,--wrap. They wait for the lock of the
 * directory and for pages that are being read, so that a handler that waits for the notifying thread hangs
 * here, too.
 */
#include "view_internal.h"

#include <errno.h>
#include <string.h>

static int begin(struct fuse_session *se, fuse_ino_t ino, struct view **ret_view, struct kinode **ret_inode)
{
	struct view *v = session_view(se);
	struct kinode *k;

	sim_point("notify");
	if (!v || !v->connected)
		return -ENODEV;
	k = kinode_find(v, ino);
	if (!k)
		return -ENOENT;
	*ret_view = v;
	*ret_inode = kinode_get(k);
	return 0;
}

int __wrap_fuse_lowlevel_notify_inval_inode(struct fuse_session *se, fuse_ino_t ino, off_t off, off_t len);
int __wrap_fuse_lowlevel_notify_inval_inode(struct fuse_session *se, fuse_ino_t ino, off_t off, off_t len)
{
	struct view *v;
	struct kinode *k;
	int r = begin(se, ino, &v, &k);

	if (r)
		return r;
	if (len)
		sim_fail("view", "a part of a file is invalidated: not simulated");
	k->attr_version = ++v->attr_version;
	kinode_attr_stale(k);
	if (off >= 0)
		pages_drop(k, (size_t)off / PAGE_BYTES);
	sim_trace("notify inode #%llu %s", (unsigned long long)k->serial, off < 0 ? "attributes" : "data");
	kinode_put(k);
	return 0;
}

/* Under the directory's lock. */
static int inval_entry(struct kinode *dir, const char *name, bool is_delete, fuse_ino_t child)
{
	struct dentry *d = dentry_find(dir, name);
	bool is_child;

	if (!d)
		return -ENOENT;
	kinode_attr_stale(dir);
	is_child = d->inode && d->inode->nodeid == child;
	if (d->inode)
		kinode_attr_stale(d->inode);
	dentry_drop(d); /* also when another object is there now */
	return is_delete && !is_child ? -ENOENT : 0;
}

static int notify_entry(
	struct fuse_session *se, fuse_ino_t parent, const char *name, bool is_delete, fuse_ino_t child)
{
	struct view *v;
	struct kinode *dir;
	int r = begin(se, parent, &v, &dir);

	if (r)
		return r;
	klock_write(&dir->lock);
	r = inval_entry(dir, name, is_delete, child);
	klock_write_done(&dir->lock);
	sim_trace("notify %s #%llu %s = %d", is_delete ? "delete" : "entry", (unsigned long long)dir->serial,
		name, r);
	kinode_put(dir);
	return r;
}

int __wrap_fuse_lowlevel_notify_inval_entry(
	struct fuse_session *se, fuse_ino_t parent, const char *name, size_t namelen);
int __wrap_fuse_lowlevel_notify_inval_entry(
	struct fuse_session *se, fuse_ino_t parent, const char *name, size_t namelen)
{
	if (name[namelen])
		sim_fail("view", "a name without its end");
	return notify_entry(se, parent, name, false, 0);
}

int __wrap_fuse_lowlevel_notify_delete(
	struct fuse_session *se, fuse_ino_t parent, fuse_ino_t child, const char *name, size_t namelen);
int __wrap_fuse_lowlevel_notify_delete(
	struct fuse_session *se, fuse_ino_t parent, fuse_ino_t child, const char *name, size_t namelen)
{
	if (name[namelen])
		sim_fail("view", "a name without its end");
	return notify_entry(se, parent, name, true, child);
}
