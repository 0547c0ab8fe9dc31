/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names that go away or move: unlink, rmdir, rename. The intent names the objects that are there; whether
 * they still are is looked at again under the tree lock, so that the journal never tells of another object
 * than the syscall touched. An object that loses its last name while the kernel knows it is pinned, so that
 * it stays reachable (a working directory, an O_PATH descriptor).
 */
#include "fs_view.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

#include <syncfs/io.h>

#include "invalidate.h"

/* The applier or somebody in the backing directory was faster between look and intent; each time is one more
 * look. */
#define LOOKS_MAX 32

/* What stands at a name, or ino 0. Another error than absence is one. */
static int look(const struct view *v, int dirfd, const char *name, struct stat_id *ret_id)
{
	struct stat st;
	int r = backing_stat(v->tree->dev, dirfd, name, &st, ret_id);

	if (r == -ENOENT) {
		*ret_id = (struct stat_id){0};
		return 0;
	}
	return r;
}

static int look_again(const struct view *v, int dirfd, const char *name, const struct stat_id *seen)
{
	struct stat_id now;
	int r = look(v, dirfd, name, &now);

	if (r)
		return r;
	return stat_id_same_object(seen, &now) ? 0 : -EAGAIN;
}

static int pin_for(const struct view *v, int dirfd, const char *name, const struct stat_id *object)
{
	if (!object->ino || !inode_wants_pin(v->inodes, object))
		return -1;
	return backing_open_path(dirfd, name); /* without one, its holders get ESTALE: no reason to fail */
}

/* ---- unlink, rmdir ---- */

/* -EAGAIN: another object is there now. */
static int remove_once(struct view *v, struct inode *parent, int dirfd, const char *name, bool dir)
{
	struct intent intent = {.type = dir ? OP_RMDIR : OP_UNLINK, .name = name};
	cleanup_fd int pin = -1;
	int r = look(v, dirfd, name, &intent.object);

	if (r)
		return r;
	if (!intent.object.ino)
		return -ENOENT;
	inode_identity(v->inodes, parent, &intent.parent);
	r = capture_begin(v->capture, &intent);
	if (r)
		return r;
	r = inode_is_displaced(v->inodes, parent) ? -ESTALE : look_again(v, dirfd, name, &intent.object);
	if (!r) {
		pin = pin_for(v, dirfd, name, &intent.object);
		r = backing_unlink(dirfd, name, dir);
	}
	if (!r)
		inode_unnamed(v->inodes, &intent.object, parent, name, steal_fd(&pin));
	capture_end(v->capture, &intent, r, NULL);
	return r;
}

static int remove_name(struct view *v, struct inode *parent, const char *name, bool dir)
{
	struct dir_ref ref;
	int r, n;

	if (fs_is_reserved(v, parent, name))
		return -ENOENT;
	r = inode_dir(v->inodes, parent, &ref);
	if (r)
		return r;
	r = -EAGAIN;
	for (n = 0; n < LOOKS_MAX && r == -EAGAIN; n++)
		r = remove_once(v, parent, ref.fd, name, dir);
	inode_dir_put(v->inodes, &ref);
	return r;
}

void fs_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct view *v = view_of(req);

	reply_result(req, remove_name(v, inode_of(v, parent), name, false));
}

void fs_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct view *v = view_of(req);

	reply_result(req, remove_name(v, inode_of(v, parent), name, true));
}

/* ---- rename ---- */

struct move {
	struct inode *parent, *new_parent;
	struct dir_ref from, to;
	const char *name, *new_name;
	unsigned flags; /* of renameat2(2) */
};

static void table_follows(struct view *v, const struct move *m, const struct intent *i, int take_pin)
{
	cleanup_fd int pin = take_pin;

	if (m->flags & RENAME_EXCHANGE)
		inode_named(v->inodes, &i->other, m->parent, m->name);
	else if (i->other.ino)
		inode_unnamed(v->inodes, &i->other, m->new_parent, m->new_name, steal_fd(&pin));
	inode_named(v->inodes, &i->object, m->new_parent, m->new_name);
}

/* Under the tree lock: the applier places nothing meanwhile. */
static bool is_due(struct view *v, const struct move *m)
{
	bool due = invalidate_is_due(v->invalidate, m->parent, m->name);

	if (m->flags & RENAME_EXCHANGE)
		due |= invalidate_is_due(v->invalidate, m->new_parent, m->new_name);
	return due;
}

static int move_recorded(struct view *v, const struct move *m, const struct intent *i)
{
	cleanup_fd int pin = -1;
	int r;

	if (inode_is_displaced(v->inodes, m->parent) || inode_is_displaced(v->inodes, m->new_parent) ||
		is_due(v, m))
		return -ESTALE;
	r = look_again(v, m->from.fd, m->name, &i->object);
	if (!r)
		r = look_again(v, m->to.fd, m->new_name, &i->other);
	if (r)
		return r;
	if (!(m->flags & RENAME_EXCHANGE))
		pin = pin_for(v, m->to.fd, m->new_name, &i->other);
	r = backing_rename(m->from.fd, m->name, m->to.fd, m->new_name, m->flags);
	if (!r)
		table_follows(v, m, i, steal_fd(&pin));
	return r;
}

static int move_once(struct view *v, const struct move *m)
{
	struct intent i = {
		.type = m->flags & RENAME_EXCHANGE ? OP_EXCHANGE : OP_RENAME,
		.name = m->name,
		.new_name = m->new_name,
	};
	int r = look(v, m->from.fd, m->name, &i.object);

	if (!r)
		r = look(v, m->to.fd, m->new_name, &i.other);
	if (r)
		return r;
	if (!i.object.ino || (!i.other.ino && (m->flags & RENAME_EXCHANGE)))
		return -ENOENT;
	if (i.other.ino && (m->flags & RENAME_NOREPLACE))
		return -EEXIST;
	if (stat_id_same_object(&i.object, &i.other))
		return 0; /* two names of one file: rename(2) does nothing */
	inode_identity(v->inodes, m->parent, &i.parent);
	inode_identity(v->inodes, m->new_parent, &i.new_parent);
	r = capture_begin(v->capture, &i);
	if (r)
		return r;
	r = move_recorded(v, m, &i);
	capture_end(v->capture, &i, r, NULL);
	return r;
}

static int move_name(struct view *v, struct move *m)
{
	int r, n;

	if (m->flags & ~(unsigned)(RENAME_NOREPLACE | RENAME_EXCHANGE))
		return -EINVAL; /* whiteouts are devices: nothing that could be synced */
	if (fs_is_reserved(v, m->parent, m->name))
		return -ENOENT;
	if (fs_is_reserved(v, m->new_parent, m->new_name))
		return -EPERM;
	r = inode_dir(v->inodes, m->parent, &m->from);
	if (r)
		return r;
	r = inode_dir(v->inodes, m->new_parent, &m->to);
	if (!r) {
		r = -EAGAIN;
		for (n = 0; n < LOOKS_MAX && r == -EAGAIN; n++)
			r = move_once(v, m);
		inode_dir_put(v->inodes, &m->to);
	}
	inode_dir_put(v->inodes, &m->from);
	return r;
}

void fs_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t new_parent,
	const char *new_name, unsigned int flags)
{
	struct view *v = view_of(req);
	struct move m = {
		.parent = inode_of(v, parent),
		.new_parent = inode_of(v, new_parent),
		.name = name,
		.new_name = new_name,
		.flags = flags,
	};

	reply_result(req, move_name(v, &m));
}
