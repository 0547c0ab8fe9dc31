/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From difference to operation. Called by the scan's thread only. Every decision is made under apply lock and
 * tree lock, on a fresh look at the disk: what view or applier have done meanwhile is not a difference.
 */
#include "rescan_found.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include <syncfs/io.h>
#include <syncfs/limits.h>
#include <syncfs/record.h>

#include "capture.h"
#include "rescan_torn.h"
#include "syncstate.h"

static void lock(struct found_context *f)
{
	mutex_lock(f->config->apply_lock);
	rwlock_write(f->config->tree_lock);
	f->aliases = capture_aliases(f->config->capture);
}

static void unlock(struct found_context *f)
{
	rwlock_unlock(f->config->tree_lock);
	mutex_unlock(f->config->apply_lock);
}

static int queue(struct found_context *f, struct record *r, const struct stat_id *object)
{
	f->differences++;
	return capture_found(f->config->capture, f->aliases, r, object);
}

static int queue_removal(struct found_context *f, const struct missing *m)
{
	struct record r = {.op = m->kind == KIND_DIR ? OP_RMDIR : OP_UNLINK,
		.kind = m->kind,
		.node = m->node,
		.parent = m->parent,
		.name = m->name};
	const struct stat_id none = {0};

	return queue(f, &r, &none);
}

/*
 * Where the agreed state or the queue has the node now is looked at: is its object there still? 1, 0, -errno.
 * *ret_taken: another one is.
 */
static int is_at_old_place(struct found_context *f, const struct id *node, const struct stat_id *object,
	struct id *ret_parent, char **ret_name, bool *ret_taken)
{
	cleanup_buf struct buf path = BUF_INIT;
	cleanup_fd int dirfd = -1;
	struct stat_id now;
	char *slash;
	int r;

	*ret_name = NULL;
	*ret_taken = false;
	if (capture_location(f->config->capture, node, ret_parent, ret_name))
		return 0;
	if (capture_path(f->config->capture, node, &path) || !buf_cstr(&path))
		return 0;
	slash = strrchr((char *)path.data, '/');
	if (slash)
		*slash = '\0';
	dirfd = tree_open_dir(f->config->tree, slash ? (char *)path.data : "");
	r = dirfd < 0 ? dirfd : tree_stat(dirfd, slash ? slash + 1 : (char *)path.data, &now);
	if (r)
		return missing_proves(r) ? 0 : r;
	*ret_taken = !stat_id_same_object(&now, object);
	return !*ret_taken;
}

/* Whose name it is that something else lies at. */
struct holder {
	struct id node; /* ID_NONE: nobody's */
	enum kind kind;
};

static int remove_replaced(struct found_context *f, const struct scan_entry *e, const struct id *parent,
	const struct id *node, enum kind kind)
{
	struct missing *list = NULL;
	size_t count = 0;
	int r = missing_add(&list, &count, node, kind, parent, e->name);

	if (!r)
		r = missing_expand(f->config, kind == KIND_DIR, &list, &count);
	for (size_t i = 0; i < count && !r; i++)
		r = queue_removal(f, &list[i]);
	missing_free(list, count);
	return r;
}

/* A known object under a further or another name. */
static int found_known(struct found_context *f, const struct scan_entry *e, const struct id *parent,
	const struct holder *replaced, const struct id *node)
{
	cleanup_free char *old_name = NULL;
	struct record r = {.node = *node, .kind = tree_kind(e->stat.mode)};
	int error = 0, still_there;
	bool over, taken;

	if (capture_has_name(f->config->capture, node, parent, e->name))
		return -EAGAIN;
	still_there = is_at_old_place(f, node, &e->stat, &r.parent, &old_name, &taken);
	if (!old_name)
		return -EAGAIN;
	if (still_there < 0)
		return still_there;
	if (still_there && r.kind == KIND_DIR)
		return -EAGAIN;
	if (taken) /* by what the walk has taken for the node, saved anew, if it was there before */
		capture_want_scan(f->config->capture);
	over = !still_there && replaced->kind != KIND_DIR && r.kind != KIND_DIR;
	if (!over && !id_is_none(&replaced->node))
		error = remove_replaced(f, e, parent, &replaced->node, replaced->kind);
	if (still_there) {
		r.op = OP_LINK;
		r.parent = *parent;
		r.name = (char *)(uintptr_t)e->name;
	} else {
		r.op = OP_RENAME;
		r.name = old_name;
		r.new_parent = *parent;
		r.new_name = (char *)(uintptr_t)e->name;
		if (over)
			r.other = replaced->node;
	}
	return error ? error : queue(f, &r, &e->stat);
}

static int read_link(const struct scan_entry *e, char target[SYMLINK_MAX_BYTES + 1])
{
	ssize_t n = readlinkat(e->dirfd, e->name, target, SYMLINK_MAX_BYTES + 1);

	if (n < 0)
		return -errno;
	if (n > SYMLINK_MAX_BYTES)
		return -ENAMETOOLONG;
	target[n] = '\0';
	return 0;
}

/*
 * An object that nobody knows. Over the only name of a known file it is that file, saved anew; else it is
 * new, and a file that has further names keeps those.
 */
static int found_unknown(struct found_context *f, const struct scan_entry *e, const struct id *parent,
	const struct holder *replaced, struct id *ret_node)
{
	char target[SYMLINK_MAX_BYTES + 1];
	enum kind kind = tree_kind(e->stat.mode);
	struct record r = {.op = OP_CREATE,
		.kind = kind,
		.node = id_new_node(),
		.parent = *parent,
		.name = (char *)(uintptr_t)e->name};
	int error = 0;

	if (replaced->kind == KIND_FILE && kind == KIND_FILE &&
		capture_names(f->config->capture, &replaced->node) == 1) {
		r = (struct record){.op = OP_WRITE, .kind = kind, .node = replaced->node};
		*ret_node = replaced->node;
		return queue(f, &r, &e->stat);
	}
	if (!id_is_none(&replaced->node))
		error = remove_replaced(f, e, parent, &replaced->node, replaced->kind);
	if (!error && kind == KIND_SYMLINK) {
		error = read_link(e, target);
		r.target = target;
	}
	*ret_node = r.node;
	return error ? error : queue(f, &r, &e->stat);
}

/* The walk goes by names: since it has looked up the directory, another one may have been placed there. */
static bool is_in(struct found_context *f, const struct scan_entry *e, const struct id *parent)
{
	struct stat_id dir;
	struct id node;

	return tree_stat(e->dirfd, "", &dir) == 0 && capture_resolve(f->config->capture, &dir, &node) == 0 &&
		id_equal(&node, parent);
}

/* As it is now: since the walk came into the directory, the server may have taken what was under way. */
static int find_holder(
	struct found_context *f, const struct id *parent, const char *name, struct holder *ret_holder)
{
	struct holder h = {.node = ID_NONE};
	struct base_row row;
	int r = capture_holder(f->config->capture, parent, name, &h.node, &h.kind);

	if (r == -ENOENT)
		h = (struct holder){.node = ID_NONE};
	else if (!r && syncstate_peek_base(f->config->state, &h.node, &row) == 0) {
		h.kind = row.state.kind;
		base_row_fini(&row);
	}
	*ret_holder = h;
	return r == -ENOENT ? 0 : r;
}

static int look_new(struct found_context *f, const struct scan_entry *e, const struct id *parent,
	struct id *ret_node, bool *ret_is_new)
{
	struct holder replaced;
	struct stat_id now;
	bool dead = false;
	int r = tree_stat(e->dirfd, e->name, &now);

	if (r || !stat_id_same_object(&now, &e->stat))
		return -EAGAIN;
	if (!is_in(f, e, parent)) {
		capture_want_scan(f->config->capture);
		return -EAGAIN;
	}
	r = find_holder(f, parent, e->name, &replaced);
	if (r)
		return r;
	r = capture_resolve(f->config->capture, &now, ret_node);
	/* Removed, says the journal, but a power cut has left it on the disk: it is there, so it begins anew.
	 */
	if (!r && capture_has_left(f->config->capture, ret_node, parent, e->name, &dead) && dead)
		r = -ENOENT;
	if (r == -ENOENT) {
		*ret_is_new = true;
		return found_unknown(f, e, parent, &replaced, ret_node);
	}
	if (r)
		return r;
	r = found_known(f, e, parent, &replaced, ret_node);
	/* Known by now under this very name: a directory is walked all the same. */
	return r == -EAGAIN && tree_kind(now.mode) == KIND_DIR &&
			capture_has_name(f->config->capture, ret_node, parent, e->name)
		? 0
		: r;
}

/* The directory as it is known by now: since the walk went into it, it may have become one with another. */
static int parent_now(
	struct found_context *f, const struct scan_entry *e, const struct id *parent, struct id *ret)
{
	struct stat_id dir;
	int r = tree_stat(e->dirfd, "", &dir);

	*ret = *parent;
	if (r)
		return r;
	r = capture_resolve(f->config->capture, &dir, ret);
	return r == -ENOENT ? -EAGAIN : r;
}

/* ---- changed ---- */

/* Within a transaction. What was compared is still agreed; its names may have become others since. */
static int put_identity(struct syncstate *s, const struct stat_id *now, const struct base_row *seen)
{
	struct base_row row;
	int r = syncstate_base_get(s, &seen->state.node, &row);

	if (r)
		return r == -ENOENT ? -EAGAIN : r;
	r = row.state.c == seen->state.c && row.state.a == seen->state.a ? 0 : -EAGAIN;
	row.disk = *now;
	if (!r)
		r = syncstate_base_put(s, &row);
	base_row_fini(&row);
	return r;
}

/* Only the inode change time moved, or the attributes did: the agreed identity follows. */
static int refresh(struct found_context *f, const struct stat_id *now, const struct base_row *seen)
{
	int r = syncstate_begin(f->config->state, false);

	if (r)
		return r;
	r = put_identity(f->config->state, now, seen);
	return syncstate_end(f->config->state, r);
}

static bool has_other_attr(int fd, const struct stat_id *now, const struct base_row *row)
{
	struct blob xattr = {0};
	bool other = (now->mode & 0777) != row->state.mode;

	if (row->state.kind != KIND_DIR && now->mtime_ns != row->state.mtime_ns)
		other = true;
	if (fd >= 0 && tree_read_xattr(fd, &xattr) == 0)
		other |= xattr.len != row->state.xattr.len ||
			(xattr.len && memcmp(xattr.data, row->state.xattr.data, xattr.len) != 0);
	free(xattr.data);
	return other;
}

/* Hashes outside the locks; the look under them says whether it still holds. */
static int compare(struct found_context *f, const struct scan_entry *e, const struct base_row *row,
	struct stat_id *ret_now, bool *ret_content, bool *ret_attr)
{
	cleanup_fd int fd = -1;
	struct content content;
	int r = tree_stat(e->dirfd, e->name, ret_now);

	*ret_content = *ret_attr = false;
	if (r)
		return -EAGAIN;
	if (row->state.kind != KIND_SYMLINK) {
		fd = tree_open_at(f->config->tree, e->dirfd, e->name, O_RDONLY | O_NONBLOCK);
		if (fd < 0)
			return fd == -EIO ? fd : -EAGAIN;
	}
	if (row->state.kind == KIND_FILE) {
		r = tree_hash_file(fd, &content, NULL, ret_now);
		if (r)
			return r == -EIO ? r : -EAGAIN;
		*ret_content = content.size != row->state.content.size ||
			!hash_equal(&content.hash, &row->state.content.hash);
	}
	*ret_attr = has_other_attr(fd, ret_now, row);
	return 0;
}

/* What is different about an object that has another name than was agreed, looked at before the locks. */
struct moved {
	struct id node; /* ID_NONE: nothing to compare with, or known already */
	enum kind kind;
	struct stat_id seen;
	bool content, attr;
};

static void compare_moved(struct found_context *f, const struct scan_entry *e, struct moved *ret)
{
	struct base_row row;

	*ret = (struct moved){.node = ID_NONE};
	if (capture_resolve(f->config->capture, &e->stat, &ret->node) ||
		capture_is_busy(f->config->capture, &ret->node) ||
		syncstate_peek_base(f->config->state, &ret->node, &row)) {
		ret->node = ID_NONE;
		return;
	}
	ret->kind = row.state.kind;
	if (compare(f, e, &row, &ret->seen, &ret->content, &ret->attr))
		ret->node = ID_NONE;
	base_row_fini(&row);
}

/* It was not only moved. */
static int queue_moved(struct found_context *f, const struct scan_entry *e, const struct moved *m)
{
	struct record r = {.op = m->content ? OP_WRITE : OP_SETATTR, .kind = m->kind, .node = m->node};
	struct stat_id now;

	if (id_is_none(&m->node) || (!m->content && !m->attr))
		return 0;
	if (tree_stat(e->dirfd, e->name, &now) || !stat_id_unchanged(&now, &m->seen))
		return -EAGAIN;
	return queue(f, &r, &now);
}

int found_new(struct found_context *f, const struct scan_entry *e, const struct id *parent,
	struct id *ret_node, bool *ret_is_new)
{
	struct moved moved;
	struct id dir;
	int r;

	compare_moved(f, e, &moved);
	lock(f);
	r = parent_now(f, e, parent, &dir);
	if (!r)
		r = look_new(f, e, &dir, ret_node, ret_is_new);
	if (!r && !*ret_is_new && id_equal(ret_node, &moved.node))
		r = queue_moved(f, e, &moved);
	unlock(f);
	return r;
}

/* Under both locks. 1: it is on its way. */
static int fetch_again(struct found_context *f, const struct scan_entry *e, const struct base_row *row)
{
	const struct dentry *d = row->state.names;
	struct missing m;
	int r;

	if (row->state.names_count != 1)
		return -EAGAIN;
	r = torn_put_aside(f->config->tree, e);
	m = (struct missing){
		.node = row->state.node, .kind = row->state.kind, .parent = d->parent, .name = d->name};
	if (!r)
		r = missing_restore(f->config, &m, 1, false);
	return r ? r : 1;
}

static int look_changed(struct found_context *f, const struct scan_entry *e, const struct stat_id *seen,
	struct base_row *row, bool content, bool attr)
{
	struct record r = {
		.op = content ? OP_WRITE : OP_SETATTR, .kind = row->state.kind, .node = row->state.node};
	struct stat_id now;

	if (tree_stat(e->dirfd, e->name, &now) || !stat_id_unchanged(&now, seen))
		return -EAGAIN;
	if (capture_is_busy(f->config->capture, &row->state.node))
		return -EAGAIN;
	if (content && f->doubt && row->state.content.size && now.nlink == 1 && torn_is(f->config->tree, e))
		return fetch_again(f, e, row);
	if (content || attr)
		return queue(f, &r, &now);
	return row->state.kind == KIND_DIR || stat_id_unchanged(&row->disk, &now) ? 0 : refresh(f, &now, row);
}

int found_changed(struct found_context *f, const struct scan_entry *e, const struct id *node)
{
	struct base_row row;
	struct stat_id seen;
	bool content, attr;
	int r = syncstate_peek_base(f->config->state, node, &row);

	if (r)
		return r == -ENOENT ? -EAGAIN : r;
	r = compare(f, e, &row, &seen, &content, &attr);
	if (!r) {
		lock(f);
		r = look_changed(f, e, &seen, &row, content, attr);
		unlock(f);
	}
	base_row_fini(&row);
	if (r > 0) {
		f->config->restored(f->config->arg);
		return 0;
	}
	return r == -EAGAIN && tree_kind(e->stat.mode) == KIND_DIR ? 0 : r;
}

/* ---- missing ---- */

int found_missing(struct found_context *f, const struct missing *m)
{
	int error = 0;

	lock(f);
	if (missing_is_gone(f->config, m))
		error = queue_removal(f, m);
	unlock(f);
	return error == -EAGAIN ? 0 : error;
}

int found_restore(struct found_context *f, const struct missing *list, size_t count, bool undone)
{
	int r = 0;

	for (size_t at = 0; at < count && !r; at += MISSING_AT_ONCE) {
		size_t left = count - at;

		lock(f);
		r = missing_restore(
			f->config, list + at, left < MISSING_AT_ONCE ? left : MISSING_AT_ONCE, undone);
		unlock(f);
	}
	return r;
}
