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
#define BIG_BYTES ((uint64_t)1 << 20) /* takes about a millisecond to read and hash */

/* What is looked at. */
struct spot {
	struct id dir;
	int dirfd;
	const char *name;
	struct stat_id is;
	enum kind kind;
};

/* ---- operations ---- */

/* A transaction that may take operations, or one that need not: what is placed changes its directory, and
 * that is noted after each batch. */
static int ready(struct look *l, bool for_ops)
{
	int r;

	if (l->open && (l->pending >= OPS_PER_COMMIT || (for_ops && !l->takes_ops))) {
		l->open = false;
		l->pending = 0;
		r = txn_commit(&l->x);
		if (r < 0)
			return r;
	}
	if (l->open)
		return 0;
	r = for_ops ? txn_begin(&l->x, l->s, true) : txn_begin_known(&l->x, l->s);
	l->open = r == 0;
	l->takes_ops = for_ops;
	return r;
}

/* 0 done; 1 the rules did not want it so: a later scan looks again. */
static int apply(struct look *l, struct op *op, struct prepared *prepared)
{
	const struct commit_sender sender = {.client = l->s->self, .label = "server"};
	struct result result;
	int r = ready(l, true);

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
	int r = ready(l, false);

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

/* A node's name as the rows have it, for reading only. */
static int open_unlocked(struct store *s, const struct id *dir, const char *name, struct stat_id *ret_known)
{
	cleanup_free char *path = NULL;
	cleanup_fd int dirfd = -1;
	struct id node;
	uint64_t v;

	*ret_known = (struct stat_id){0};
	{
		MUTEX_GUARD(&s->read_lock);
		if (meta_dir_path(s->reader, dir, &path) < 0)
			return -ENOENT;
		if (meta_dentry_get(s->reader, dir, name, &node, &v) == 0)
			(void)meta_disk_get(s->reader, &node, ret_known);
	}
	dirfd = tree_open_dir(&s->tree, path);
	return dirfd < 0 ? dirfd : tree_open_at(&s->tree, dirfd, name, O_RDONLY | O_NONBLOCK);
}

int look_hash(struct store *s, const struct id *dir, const char *name, struct look_hashed *ret_hashed)
{
	struct look_hashed h = {.content.size = 0};
	struct stat_id known, is;
	cleanup_fd int fd = open_unlocked(s, dir, name, &known);

	if (fd < 0 || tree_stat(fd, "", &is) < 0 || !S_ISREG(is.mode) || is.size < BIG_BYTES)
		return 0;
	known.dev = is.dev;
	if (stat_id_unchanged(&known, &is) || is_being_written(fd) ||
		tree_hash_file(fd, &h.content, &h.manifest, &h.is) < 0)
		return 0;
	*ret_hashed = h;
	return 1;
}

/* Content of an open file: as it was read before, when it has not changed since. */
static int hash_file(
	struct look *l, int fd, struct content *content, struct blob *manifest, struct stat_id *is)
{
	struct stat_id now;
	int r = tree_stat(fd, "", &now);

	for (size_t i = 0; r == 0 && i < l->hashed_count; i++) {
		const struct look_hashed *h = &l->hashed[i];

		if (!stat_id_unchanged(&h->is, &now))
			continue;
		manifest->data = malloc(h->manifest.len + 1);
		if (!manifest->data)
			return -ENOMEM;
		if (h->manifest.len)
			memcpy(manifest->data, h->manifest.data, h->manifest.len);
		manifest->len = h->manifest.len;
		*content = h->content;
		*is = now;
		return 0;
	}
	return r < 0 ? r : tree_hash_file(fd, content, manifest, is);
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
	r = hash_file(l, fd, &op->content, &p->manifest, &at->is);
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
static unsigned attr_changed(const struct look *l, const struct op *op, const struct node_state *n)
{
	unsigned fields = op->fields;

	if (op->mode == (n->mode & 0777) || op->mode == store_disk_mode(l->s, n->kind, n->mode))
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
	int r;

	if (owed_is(l->s, &n->node)) /* an older state */
		return 0;
	r = read_spot(l, at, &op, &p);

	if (r == 0 && content_changed(&op, n)) {
		r = apply(l, &op, &p);
	} else if (r == 0 && attr_changed(l, &op, n)) {
		op.type = OP_SETATTR;
		op.fields = attr_changed(l, &op, n);
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
		.node = id_new_node(),
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

static int owe(struct look *l, const struct id *node)
{
	const struct stat_id owed = {.ctime_ns = OWED_CTIME};

	l->s->owed = true;
	return know(l, node, &owed);
}

int look_drop(struct look *l, const struct id *dir, const char *name, const struct id *node)
{
	struct op op = {.type = OP_UNLINK, .node = *node, .parent = *dir, .name = (char *)(uintptr_t)name};
	struct meta_child *children = NULL;
	struct node_state n = {0};
	size_t count = 0;
	int r = owed_is(l->s, node) ? -ENOENT : meta_node_get(l->s->meta, node, &n);

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
	if (r >= 0)
		r = apply(l, &op, NULL);
	/* what is owed in it needs it */
	return r == 1 && op.type == OP_RMDIR ? owe(l, node) : r;
}

/* ---- objects that are known from elsewhere ---- */

/* The directory of a name, wherever the rows have it; fd or -errno. */
static int open_name_dir(struct look *l, const struct dentry *name)
{
	cleanup_free char *path = NULL;
	int r = meta_dir_path(l->s->meta, &name->parent, &path);

	return r < 0 ? r : tree_open_dir(&l->s->tree, path);
}

/* The name of n at which its object no longer is; -1: it is at all of them. */
static ssize_t name_left(struct look *l, const struct node_state *n, const struct stat_id *is)
{
	for (size_t i = 0; i < n->names_count; i++) {
		cleanup_fd int fd = open_name_dir(l, &n->names[i]);
		struct stat_id there;

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

/* Whether n, whose object has been replaced here, still lies at another of its names: 1, 0, -errno. */
static int has_another_name(struct look *l, const struct spot *at, const struct node_state *n)
{
	ssize_t here = node_state_name_find(n, &at->dir, at->name);
	struct stat_id was, is;
	int r = n->names_count > 1 ? meta_disk_get(l->s->meta, &n->node, &was) : 0;

	if (r < 0 || n->names_count < 2)
		return r;
	for (size_t i = 0; i < n->names_count; i++) {
		cleanup_fd int fd = -1;

		if ((ssize_t)i == here)
			continue;
		fd = open_name_dir(l, &n->names[i]);
		if (fd >= 0 && tree_stat(fd, n->names[i].name, &is) == 0 && was.ino == is.ino &&
			was.btime_ns == is.btime_ns)
			return 1;
	}
	return 0;
}

/* An unknown object has the name of n: the next state of n, or, where n has its own elsewhere, not n. */
static int took_name(struct look *l, struct spot *at, const struct node_state *n)
{
	int r = has_another_name(l, at, n);

	if (r <= 0)
		return r < 0 ? r : refresh(l, at, n);
	r = look_drop(l, &at->dir, at->name, &n->node);
	return r < 0 ? r : create(l, at);
}

static int arrived(struct look *l, struct spot *at, const struct node_state *replaced)
{
	struct node_state n = {0};
	int r = known_as(l, at, &n);

	if (r == 0)
		r = moved(
			l, at, &n, replaced ? &replaced->node : NULL, replaced && replaced->kind == KIND_DIR);
	else if (r == -ENOENT && replaced)
		r = took_name(l, at, replaced);
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
	if (was.ctime_ns == OWED_CTIME)
		return 0;
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

int look_entry(struct look *l, const struct id *dir, int dirfd, const char *name, const struct stat_id *is)
{
	struct spot at = {.dir = *dir, .dirfd = dirfd, .name = name, .is = *is};

	return look_at(l, &at);
}

/* The directory as the rows have it, checked to be the one. fd or -errno; -ENOENT: it is not there. */
int look_open_dir(struct look *l, const struct id *dir, char **ret_path)
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
	cleanup_fd int fd = look_open_dir(l, dir, NULL);
	struct id node;
	uint64_t v;
	int r;

	if (fd < 0)
		return fd == -EACCES ? 0 : fd;
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
	fd = look_open_dir(l, dir, NULL);
	if (fd < 0)
		return fd == -ENOENT ? 0 : fd; /* its directory tells */
	r = tree_stat(fd, name, &is);
	if (r != -ENOENT)
		return r < 0 ? r : 0;
	r = owed_is(l->s, ret_node) ? 1 : want_is_absent(l->s, ret_node);
	return r < 0 ? r : !r;
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
