/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tree compared with the rows: what hands have changed becomes operations of the server itself. Called by
 * store_hand for single names and for scans. Never changes the tree and never decides that something was
 * deleted: it says what is missing.
 */
#include "store_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include <syncfs/limits.h>
#include <syncfs/log.h>

#define OPS_PER_COMMIT 500

/* What is looked at. */
struct spot {
	struct id dir;
	int dirfd;
	const char *name;
	struct stat_id is;
	enum kind kind;
};

/* ---- operations ---- */

static int ready(struct look *l)
{
	int r;

	if (l->open && l->pending >= OPS_PER_COMMIT) {
		l->open = false;
		l->pending = 0;
		r = txn_commit(&l->x);
		if (r < 0)
			return r;
	}
	if (l->open)
		return 0;
	r = txn_begin(&l->x, l->s, true);
	l->open = r == 0;
	return r;
}

/* 0 done; 1 the rules did not want it so: a later scan looks again. */
static int apply(struct look *l, struct op *op, struct prepared *prepared)
{
	const struct commit_sender sender = {.client = l->s->self, .label = "server"};
	struct result result;
	int r = ready(l);

	if (r < 0)
		return r;
	op->opno = l->x.at.seq + 1;
	op->base_c = op->base_l = op->base_a = op->other_base_c = op->other_base_l = BASE_ANY;
	r = txn_apply(&l->x, &sender, op, prepared, &result);
	if (r < 0)
		return r;
	l->pending++;
	r = result.outcome == OUTCOME_OK || result.outcome == OUTCOME_SAME ? 0 : 1;
	if (r == 1)
		log_debug("edit by hand of \"%s\": operation %d gave outcome %d", op->name ? op->name : "",
			(int)op->type, (int)result.outcome);
	result_fini(&result);
	return r;
}

static int know(struct look *l, const struct id *node, const struct stat_id *is)
{
	int r = ready(l);

	return r < 0 ? r : meta_disk_put(l->s->meta, node, is);
}

int look_push(struct look *l, const struct id *dir)
{
	if (l->dirs_count == l->dirs_cap) {
		size_t cap = l->dirs_cap ? l->dirs_cap * 2 : 64;
		struct id *grown = reallocarray(l->dirs, cap, sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		l->dirs = grown;
		l->dirs_cap = cap;
	}
	l->dirs[l->dirs_count++] = *dir;
	return 0;
}

/* ---- reading what is there ---- */

/* Whether somebody has it open for writing: a lease on reading is refused then (fcntl(2)). */
static bool is_being_written(int fd)
{
	if (fcntl(fd, F_SETLEASE, F_RDLCK) < 0)
		return errno == EAGAIN;
	(void)fcntl(fd, F_SETLEASE, F_UNLCK);
	return false;
}

/* Content and attributes of what is there into the operation. -EAGAIN: not now. */
static int read_file(struct look *l, struct spot *at, struct op *op, struct prepared *p)
{
	cleanup_fd int fd = tree_open_at(&l->s->tree, at->dirfd, at->name, O_RDONLY | O_NONBLOCK | O_NOATIME);
	int r;

	if (fd == -EPERM)
		fd = tree_open_at(&l->s->tree, at->dirfd, at->name, O_RDONLY | O_NONBLOCK);
	if (fd < 0)
		return fd;
	if (is_being_written(fd))
		return -EAGAIN;
	r = tree_hash_file(fd, &op->content, &p->manifest, &at->is);
	if (r == 0)
		r = tree_read_xattr(fd, &op->xattr);
	op->fields |= OP_HAS_MODE | OP_HAS_MTIME | (r == 0 ? OP_HAS_XATTR : 0);
	return r == -EOPNOTSUPP ? 0 : r;
}

static int read_dir_attr(struct look *l, const struct spot *at, struct op *op)
{
	cleanup_fd int fd = tree_open_at(&l->s->tree, at->dirfd, at->name, O_RDONLY | O_DIRECTORY);

	op->fields |= OP_HAS_MODE;
	if (fd >= 0 && tree_read_xattr(fd, &op->xattr) == 0)
		op->fields |= OP_HAS_XATTR;
	return 0;
}

static int read_link(const struct spot *at, struct op *op)
{
	char target[SYMLINK_MAX_BYTES + 2];
	ssize_t n = readlinkat(at->dirfd, at->name, target, sizeof(target) - 1);

	if (n < 0)
		return -errno;
	if (n == 0 || n > SYMLINK_MAX_BYTES)
		return -EAGAIN;
	target[n] = '\0';
	op->target = strdup(target);
	op->fields |= OP_HAS_MTIME;
	return op->target ? 0 : -ENOMEM;
}

static int read_spot(struct look *l, struct spot *at, struct op *op, struct prepared *p)
{
	int r = at->kind == KIND_FILE  ? read_file(l, at, op, p)
		: at->kind == KIND_DIR ? read_dir_attr(l, at, op)
				       : read_link(at, op);

	op->mode = at->is.mode & 0777;
	op->mtime_ns = at->is.mtime_ns;
	return r;
}

static void op_done(struct op *op, struct prepared *p)
{
	free(op->target);
	free(op->xattr.data);
	free(p->manifest.data);
}

static int busy(struct look *l, const struct spot *at)
{
	l->busy(l->arg, &at->dir, at->name);
	return 0;
}

/* What of the file's outside differs from the row: fields of a setattr. */
static unsigned attr_changed(const struct op *op, const struct node_state *n)
{
	unsigned fields = op->fields;

	if (op->mode == (n->mode & 0777))
		fields &= ~(unsigned)OP_HAS_MODE;
	if (op->mtime_ns == n->mtime_ns || n->kind != KIND_FILE)
		fields &= ~(unsigned)OP_HAS_MTIME;
	if (op->xattr.len == n->xattr.len &&
		(op->xattr.len == 0 || memcmp(op->xattr.data, n->xattr.data, op->xattr.len) == 0))
		fields &= ~(unsigned)OP_HAS_XATTR;
	return n->kind == KIND_SYMLINK ? 0 : fields;
}

static bool content_changed(const struct op *op, const struct node_state *n)
{
	if (n->kind == KIND_FILE)
		return op->content.size != n->content.size ||
			!hash_equal(&op->content.hash, &n->content.hash);
	return n->kind == KIND_SYMLINK && strcmp(op->target, n->target ? n->target : "") != 0;
}

/* The node is at this place: what it holds and how it looks may have changed. */
static int refresh(struct look *l, struct spot *at, const struct node_state *n)
{
	struct op op = {.type = OP_WRITE, .node = n->node};
	struct prepared p = {0};
	int r = read_spot(l, at, &op, &p);

	if (r == 0 && content_changed(&op, n)) {
		r = apply(l, &op, &p);
	} else if (r == 0 && attr_changed(&op, n)) {
		op.type = OP_SETATTR;
		op.fields = attr_changed(&op, n);
		r = apply(l, &op, NULL);
	}
	if (r == 0)
		r = know(l, &n->node, &at->is);
	op_done(&op, &p);
	if (r == -EAGAIN || r == -ENOENT || r == -ELOOP || r == -EACCES)
		return r == -EAGAIN ? busy(l, at) : 0;
	return r < 0 ? r : 0;
}

static int create(struct look *l, struct spot *at)
{
	struct op op = {.type = OP_CREATE,
		.node = id_new(),
		.kind = at->kind,
		.parent = at->dir,
		.name = (char *)(uintptr_t)at->name};
	struct prepared p = {.is_dir = at->kind == KIND_DIR};
	int r = read_spot(l, at, &op, &p);

	op.fields |= OP_HAS_MTIME;
	if (r == 0)
		r = apply(l, &op, &p);
	if (r == 0)
		r = know(l, &op.node, &at->is);
	if (r == 0 && at->kind == KIND_DIR)
		r = look_push(l, &op.node);
	op_done(&op, &p);
	if (r == -EAGAIN)
		return busy(l, at);
	if (r == -EACCES)
		log_warn("\"%s\" cannot be read and is not synced", at->name);
	return r == -EACCES || r == -ENOENT || r == -ELOOP ? 0 : r < 0 ? r : 0;
}

int look_drop(struct look *l, const struct id *dir, const char *name, const struct id *node)
{
	struct op op = {.type = OP_UNLINK, .node = *node, .parent = *dir, .name = (char *)(uintptr_t)name};
	struct meta_child *children = NULL;
	struct node_state n = {0};
	size_t count = 0;
	int r = meta_node_get(l->s->meta, node, &n);

	if (r < 0)
		return r == -ENOENT ? 0 : r;
	if (n.kind == KIND_DIR) {
		op.type = OP_RMDIR;
		r = meta_children(l->s->meta, node, &children, &count);
	}
	node_state_fini(&n);
	for (size_t i = 0; r >= 0 && i < count; i++)
		r = look_drop(l, node, children[i].name, &children[i].node);
	meta_children_fini(children, count);
	return r < 0 ? r : apply(l, &op, NULL);
}

/* ---- objects that are known from elsewhere ---- */

/* The name of n at which its object no longer is; -1: it is at all of them. */
static ssize_t name_left(struct look *l, const struct node_state *n, const struct stat_id *is)
{
	for (size_t i = 0; i < n->names_count; i++) {
		cleanup_free char *path = NULL;
		cleanup_fd int fd = -1;
		struct stat_id there;

		if (meta_dir_path(l->s->meta, &n->names[i].parent, &path) < 0)
			return (ssize_t)i;
		fd = tree_open_dir(&l->s->tree, path);
		if (fd < 0 || tree_stat(fd, n->names[i].name, &there) < 0 || !stat_id_same_object(&there, is))
			return (ssize_t)i;
	}
	return -1;
}

/* n's object has come to this name: moved, or linked. replaced: whose name it was. */
static int moved(
	struct look *l, struct spot *at, struct node_state *n, const struct id *replaced, bool replaced_dir)
{
	struct op op = {.node = n->node, .parent = at->dir, .name = (char *)(uintptr_t)at->name};
	ssize_t from = name_left(l, n, &at->is);
	int r = 0;

	if (replaced && (from < 0 || replaced_dir))
		r = look_drop(l, &at->dir, at->name, replaced);
	else if (replaced)
		op.other = *replaced;
	if (r < 0)
		return r;
	op.type = OP_LINK;
	if (from >= 0) {
		op.type = OP_RENAME;
		op.parent = n->names[from].parent;
		op.name = n->names[from].name;
		op.new_parent = at->dir;
		op.new_name = (char *)(uintptr_t)at->name;
	} else if (n->kind == KIND_DIR) {
		return 0; /* a directory at two places: something is mounted here */
	}
	r = apply(l, &op, NULL);
	return r < 0 ? r : r == 1 ? 0 : refresh(l, at, n);
}

/* A live node that was seen as this object, of the same kind; its state. */
static int known_as(struct look *l, const struct spot *at, struct node_state *ret_n)
{
	struct id id;
	int r = meta_disk_find(l->s->meta, at->is.ino, at->is.btime_ns, &id);

	if (r == 0)
		r = meta_node_get(l->s->meta, &id, ret_n);
	if (r == 0 && (ret_n->kind != at->kind || ret_n->tomb)) {
		node_state_fini(ret_n);
		*ret_n = (struct node_state){0};
		r = -ENOENT;
	}
	return r;
}

static int arrived(struct look *l, struct spot *at, const struct node_state *replaced)
{
	struct node_state n = {0};
	int r = known_as(l, at, &n);

	if (r == 0)
		r = moved(
			l, at, &n, replaced ? &replaced->node : NULL, replaced && replaced->kind == KIND_DIR);
	else if (r == -ENOENT && replaced)
		r = refresh(l, at, replaced);
	else if (r == -ENOENT)
		r = create(l, at);
	node_state_fini(&n);
	return r;
}

/* The name is in the rows as node. */
static int compare(struct look *l, struct spot *at, const struct id *node)
{
	struct node_state n = {0};
	struct stat_id was;
	bool same;
	int r = meta_disk_get(l->s->meta, node, &was);

	if (r < 0)
		return r;
	was.dev = at->is.dev;
	same = was.ino && stat_id_same_object(&was, &at->is);
	if (same && at->kind != KIND_DIR && stat_id_unchanged(&was, &at->is))
		return 0;
	r = meta_node_get(l->s->meta, node, &n);
	if (r < 0)
		return r;
	if (n.kind != at->kind) {
		r = look_drop(l, &at->dir, at->name, node);
		if (r == 0)
			r = arrived(l, at, NULL);
	} else if (!same) {
		r = arrived(l, at, &n);
		if (r == 0 && n.kind == KIND_DIR)
			r = look_push(l, node);
	} else if (was.ctime_ns != at->is.ctime_ns) {
		r = refresh(l, at, &n);
	}
	node_state_fini(&n);
	return r < 0 ? r : 0;
}

/* One entry that is there. */
static int look_at(struct look *l, struct spot *at)
{
	struct id node;
	uint64_t v;
	int r;

	at->kind = tree_kind(at->is.mode);
	if (!at->kind || (id_equal(&at->dir, &ID_ROOT) && strcmp(at->name, RESERVED_NAME) == 0))
		return 0;
	r = meta_dentry_get(l->s->meta, &at->dir, at->name, &node, &v);
	return r == 0 ? compare(l, at, &node) : r == -ENOENT ? arrived(l, at, NULL) : r;
}

/* The directory as the rows have it, checked to be the one. fd or -errno; -ENOENT: it is not there. */
static int open_dir(struct look *l, const struct id *dir, char **ret_path)
{
	cleanup_free char *path = NULL;
	cleanup_fd int fd = -1;
	struct stat_id was, is;
	int r = meta_dir_path(l->s->meta, dir, &path);

	if (r < 0)
		return r;
	fd = tree_open_dir(&l->s->tree, path);
	if (fd < 0)
		return fd == -ENOTDIR || fd == -ELOOP || fd == -EXDEV ? -ENOENT : fd;
	if (!id_equal(dir, &ID_ROOT) && meta_disk_get(l->s->meta, dir, &was) == 0 &&
		tree_stat(fd, "", &is) == 0 && (was.ino != is.ino || was.btime_ns != is.btime_ns))
		return -ENOENT;
	if (ret_path)
		*ret_path = steal_ptr(&path);
	return steal_fd(&fd);
}

int look_name(struct look *l, const struct id *dir, const char *name)
{
	struct spot at = {.dir = *dir, .name = name};
	cleanup_fd int fd = open_dir(l, dir, NULL);
	struct id node;
	uint64_t v;
	int r;

	if (fd < 0)
		return fd;
	at.dirfd = fd;
	r = tree_stat(fd, name, &at.is);
	if (r == 0)
		return look_at(l, &at);
	if (r != -ENOENT)
		return r == -ENOTDIR ? -ENOENT : r;
	r = meta_dentry_get(l->s->meta, dir, name, &node, &v);
	if (r == 0)
		l->gone(l->arg, dir, name);
	return r == -ENOENT ? 0 : r;
}

int look_missing(struct look *l, const struct id *dir, const char *name, struct id *ret_node)
{
	cleanup_fd int fd = -1;
	struct stat_id is;
	uint64_t v;
	int r = meta_dentry_get(l->s->meta, dir, name, ret_node, &v);

	if (r < 0)
		return r == -ENOENT ? 0 : r;
	fd = open_dir(l, dir, NULL);
	if (fd < 0)
		return fd == -ENOENT ? 0 : fd; /* its directory tells */
	r = tree_stat(fd, name, &is);
	return r == -ENOENT ? 1 : r < 0 ? r : 0;
}

/* ---- scans ---- */

struct listing {
	struct meta_child *names; /* node: not used */
	struct stat_id *stats;
	size_t count, cap;
	bool complete;
};

static int list_entry(void *arg, const struct scan_entry *e)
{
	struct listing *list = arg;

	if (list->count == list->cap) {
		size_t cap = list->cap ? list->cap * 2 : 64;
		struct meta_child *names = reallocarray(list->names, cap, sizeof(*names));
		struct stat_id *stats;

		if (!names)
			return -ENOMEM;
		list->names = names;
		stats = reallocarray(list->stats, cap, sizeof(*stats));
		if (!stats)
			return -ENOMEM;
		list->stats = stats;
		list->cap = cap;
	}
	list->names[list->count].name = strdup(e->name);
	if (!list->names[list->count].name)
		return -ENOMEM;
	list->stats[list->count++] = e->stat;
	return SCAN_SKIP;
}

static int list_done(void *arg, const char *path, const struct stat_id *dir, bool complete)
{
	((struct listing *)arg)->complete = complete;
	return 0;
}

static int compare_names(const void *a, const void *b)
{
	return strcmp(((const struct meta_child *)a)->name, ((const struct meta_child *)b)->name);
}

/* Names of the rows that the directory has not got. listing.names is sorted by now. */
static int note_gone(struct look *l, const struct id *dir, const struct listing *list)
{
	struct meta_child *rows;
	size_t count;
	int r = meta_children(l->s->meta, dir, &rows, &count);

	if (r < 0)
		return r;
	for (size_t i = 0; i < count; i++) {
		if (!list->count ||
			!bsearch(&rows[i], list->names, list->count, sizeof(*list->names), compare_names))
			l->gone(l->arg, dir, rows[i].name);
	}
	meta_children_fini(rows, count);
	return 0;
}

static int scan_entries(struct look *l, const struct id *dir, int fd, const struct listing *list)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < list->count; i++) {
		struct spot at = {
			.dir = *dir, .dirfd = fd, .name = list->names[i].name, .is = list->stats[i]};
		size_t before = l->dirs_count;
		struct id node;
		uint64_t v;

		r = look_at(l, &at);
		/* known directories are gone into as well */
		if (r == 0 && at.kind == KIND_DIR && l->dirs_count == before &&
			meta_dentry_get(l->s->meta, dir, at.name, &node, &v) == 0)
			r = look_push(l, &node);
	}
	return r;
}

static int scan_dir(struct look *l, const struct id *dir)
{
	struct listing list = {0};
	const struct scan_ops ops = {.arg = &list, .entry = list_entry, .dir_done = list_done};
	cleanup_free char *path = NULL;
	cleanup_fd int fd = open_dir(l, dir, &path);
	int r;

	if (fd < 0)
		return fd == -ENOENT || fd == -EACCES ? 0 : fd;
	/* watched before it is read, so that nothing falls between */
	r = l->s->watch ? tree_watch_add(l->s->watch, fd, "", dir) : 0;
	if (r == -ENOSPC)
		log_warn("not all directories can be watched: raise fs.inotify.max_user_watches");
	r = tree_scan(&l->s->tree, path, false, &ops);
	if (r == 0)
		r = scan_entries(l, dir, fd, &list);
	if (r == 0 && list.complete) {
		if (list.count)
			qsort(list.names, list.count, sizeof(*list.names), compare_names);
		r = note_gone(l, dir, &list);
	}
	for (size_t i = 0; i < list.count; i++)
		free(list.names[i].name);
	free(list.names);
	free(list.stats);
	return r == -ENOENT || r == -EACCES ? 0 : r;
}

int look_scan(struct look *l)
{
	int r = 0;

	/* depth first from the end: a directory's path is right when its turn comes */
	while (r == 0 && l->dirs_count) {
		struct id dir = l->dirs[--l->dirs_count];

		r = scan_dir(l, &dir);
	}
	return r;
}

int look_end(struct look *l, int r)
{
	free(l->dirs);
	l->dirs = NULL;
	l->dirs_count = l->dirs_cap = 0;
	if (!l->open)
		return r;
	l->open = false;
	if (r >= 0)
		return txn_commit(&l->x);
	txn_rollback(&l->x);
	return r;
}
