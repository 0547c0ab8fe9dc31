/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Changes and reads by path: the simple form and plain file access. Each is one operation (missing parents:
 * one more each) of the actor with "whatever is there now" as its base, in a transaction of its own. Called
 * by api_simple and api_files.
 */
#include "store_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include <syncfs/clock.h>
#include <syncfs/limits.h>

/* Where a path leads: its parent and last name, and the node there. */
struct spot {
	struct id parent;
	const char *name; /* into the path */
	struct id node;
	enum kind kind;
	struct hash content; /* files */
	bool found; /* node, kind */
	const char *first_missing; /* the component of the first directory that is not there; NULL: all are */
};

static int kind_of(struct meta *meta, const struct id *node, struct spot *at)
{
	struct node_state n = {0};
	int r = meta_node_get(meta, node, &n);

	if (r < 0)
		return r;
	at->kind = n.kind;
	at->content = n.content.hash;
	node_state_fini(&n);
	return 0;
}

/* One component down from at->parent. */
static int step_down(struct meta *meta, const char *component, size_t len, struct spot *at)
{
	char name[NAME_MAX_BYTES + 1];
	struct id node;
	uint64_t l;
	int r;

	if (len > NAME_MAX_BYTES)
		return -EINVAL;
	memcpy(name, component, len);
	name[len] = '\0';
	r = meta_dentry_get(meta, &at->parent, name, &node, &l);
	if (r < 0)
		return r;
	at->node = node;
	return kind_of(meta, &node, at);
}

static int find(struct meta *meta, const char *path, struct spot *ret_spot)
{
	struct spot at = {.parent = ID_ROOT};
	const char *next;
	int r;

	if (!path_is_valid(path, strlen(path)))
		return -EINVAL;
	for (; (next = strchr(path, '/')); path = next + 1) {
		r = step_down(meta, path, (size_t)(next - path), &at);
		if (r == -ENOENT) {
			at.first_missing = path;
			at.name = strrchr(path, '/') + 1;
			*ret_spot = at;
			return 0;
		}
		if (r < 0)
			return r;
		if (at.kind != KIND_DIR)
			return at.kind == KIND_SYMLINK ? -ELOOP : -ENOTDIR;
		at.parent = at.node;
	}
	at.name = path;
	r = step_down(meta, path, strlen(path), &at);
	if (r < 0 && r != -ENOENT)
		return r;
	at.found = r == 0;
	*ret_spot = at;
	return 0;
}

/* The same; -ENOENT when nothing is there. */
static int find_there(struct meta *meta, const char *path, struct spot *ret_spot)
{
	int r = find(meta, path, ret_spot);

	if (r == -ENOTDIR || r == -ELOOP)
		return -ENOENT;
	return r == 0 && !ret_spot->found ? -ENOENT : r;
}

/* ---- a change: some operations in one transaction ---- */

struct change {
	struct store *s;
	struct txn x;
	struct commit_sender sender;
	uint64_t before;
	bool open;
};

/* REQUIRES(s->lock) until change_end(). */
static int change_begin(struct change *c, struct store *s, const struct store_actor *actor)
{
	int r;

	*c = (struct change){
		.s = s, .sender = {.client = actor->id, .label = actor->label}, .before = s->at.seq};
	r = txn_begin(&c->x, s, false);
	c->open = r == 0;
	return r;
}

static int change_apply(struct change *c, struct op *op, struct prepared *prepared)
{
	struct result result;
	int r;

	op->opno = c->x.at.seq + 1;
	op->base_c = op->base_l = op->base_a = op->other_base_c = op->other_base_l = BASE_ANY;
	r = txn_apply(&c->x, &c->sender, op, prepared, &result);
	if (r < 0)
		return r;
	switch (result.outcome) {
	case OUTCOME_OK:
	case OUTCOME_SAME:
		break;
	case OUTCOME_REJECT:
		r = result.code;
		break;
	case OUTCOME_CYCLE:
		r = -EINVAL;
		break;
	default:
		r = -EEXIST;
	}
	if (result.outcome == OUTCOME_SAME)
		atomic_fetch_add_explicit(&c->s->requests_same, 1, memory_order_relaxed);
	result_fini(&result);
	return r;
}

/* Commits when r is 0, else undoes; returns the outcome. *ret_changed: somebody has to be told. */
static int change_end(struct change *c, int r, bool *ret_changed)
{
	if (!c->open)
		return r;
	if (r < 0)
		txn_rollback(&c->x);
	else
		r = txn_commit(&c->x);
	*ret_changed = r == 0 && c->s->at.seq != c->before;
	return r;
}

static int make_dir(struct change *c, const struct id *parent, const char *name, struct id *ret_node)
{
	struct op op = {.type = OP_CREATE,
		.node = id_new_node(),
		.kind = KIND_DIR,
		.parent = *parent,
		.name = (char *)(uintptr_t)name,
		.fields = OP_HAS_MODE | OP_HAS_MTIME,
		.mode = 0755,
		.mtime_ns = clock_wall_ns()};
	struct prepared p = {0};
	int r = prepare_op(c->s, &op, NULL, 0, &p);

	if (r == 0)
		r = prepare_sync(c->s, &p, 1);
	if (r == 0)
		r = change_apply(c, &op, &p);
	if (p.taken)
		p.stage[0] = '\0';
	prepared_fini(c->s, &p);
	*ret_node = op.node;
	return r;
}

/* Makes what is missing on the way to the last name. */
static int make_parents(struct change *c, struct spot *at)
{
	const char *path = at->first_missing, *next;
	int r = 0;

	for (; r == 0 && path && (next = strchr(path, '/')); path = next + 1) {
		cleanup_free char *name = strndup(path, (size_t)(next - path));

		r = name ? make_dir(c, &at->parent, name, &at->parent) : -ENOMEM;
	}
	return r;
}

/* ---- uploads ---- */

static bool tag_is(const char *asked, const struct spot *at)
{
	char hex[HASH_HEX_BYTES];

	if (!at->found || at->kind != KIND_FILE)
		return false;
	return strcmp(asked, "*") == 0 || strcmp(asked, hash_to_hex(&at->content, hex)) == 0;
}

static int check_condition(const struct store_condition *condition, const struct spot *at)
{
	if (condition && condition->if_match && !tag_is(condition->if_match, at))
		return -ECANCELED;
	if (condition && condition->if_none_match && tag_is(condition->if_none_match, at))
		return -ECANCELED;
	return 0;
}

static int upload_locked(struct change *c, struct spot *at, struct op *op, struct prepared *p)
{
	int r;

	if (at->found && at->kind != KIND_FILE)
		return at->kind == KIND_DIR ? -EISDIR : -ELOOP;
	if (at->found && hash_equal(&at->content, &op->content.hash)) {
		atomic_fetch_add_explicit(&c->s->requests_same, 1, memory_order_relaxed);
		return 0;
	}
	r = make_parents(c, at);
	if (r < 0)
		return r;
	if (at->found) {
		op->type = OP_WRITE;
		op->node = at->node;
		op->fields &= ~(unsigned)OP_HAS_MODE; /* the file's own stays */
		p->attr_set = false;
	}
	op->parent = at->parent;
	op->name = (char *)(uintptr_t)at->name;
	return change_apply(c, op, p);
}

int store_upload(struct store *s, const struct store_actor *actor, const char *path,
	const struct store_source *source, const struct store_condition *condition)
{
	struct op op = {.type = OP_CREATE,
		.node = id_new_node(),
		.kind = KIND_FILE,
		.fields = OP_HAS_MODE | OP_HAS_MTIME,
		.mode = 0644,
		.mtime_ns = clock_wall_ns()};
	struct prepared p = {0};
	bool changed = false;
	int r = store_is_failed(s) ? -EIO : prepare_source(s, &op, source, &p);

	if (r == 0 && prepare_sync(s, &p, 1) < 0)
		r = store_fail(s, "make staged content durable", -EIO);
	if (r == 0) {
		struct change c;
		struct spot at;
		MUTEX_GUARD(&s->lock);

		r = find(s->meta, path, &at);
		if (r == 0)
			r = check_condition(condition, &at);
		if (r == 0)
			r = change_begin(&c, s, actor);
		if (r == 0) {
			r = upload_locked(&c, &at, &op, &p);
			if (r == 0 && p.taken)
				p.stage[0] = '\0';
			r = change_end(&c, r, &changed);
		}
	}
	prepared_fini(s, &p);
	if (changed)
		store_changed(s);
	return r;
}

/* ---- the others ---- */

static int delete_node(struct change *c, const struct id *parent, const char *name, const struct id *node,
	enum kind kind, int depth)
{
	struct op op = {.type = kind == KIND_DIR ? OP_RMDIR : OP_UNLINK,
		.node = *node,
		.parent = *parent,
		.name = (char *)(uintptr_t)name};
	struct meta_child *children = NULL;
	size_t count = 0;
	int r = depth > TREE_MAX_DEPTH ? -ELOOP : 0;

	if (r == 0 && kind == KIND_DIR)
		r = meta_children(c->s->meta, node, &children, &count);
	for (size_t i = 0; r == 0 && i < count; i++) {
		struct spot child = {0};

		r = kind_of(c->s->meta, &children[i].node, &child);
		if (r == 0)
			r = delete_node(c, node, children[i].name, &children[i].node, child.kind, depth + 1);
	}
	meta_children_fini(children, count);
	return r < 0 ? r : change_apply(c, &op, NULL);
}

int store_delete(struct store *s, const struct store_actor *actor, const char *path)
{
	bool changed = false;
	int r;

	{
		struct change c;
		struct spot at;
		MUTEX_GUARD(&s->lock);

		r = find_there(s->meta, path, &at);
		if (r == 0)
			r = change_begin(&c, s, actor);
		if (r == 0)
			r = change_end(
				&c, delete_node(&c, &at.parent, at.name, &at.node, at.kind, 0), &changed);
	}
	if (changed)
		store_changed(s);
	return r;
}

int store_mkdir(struct store *s, const struct store_actor *actor, const char *path)
{
	bool changed = false;
	struct id node;
	int r;

	{
		struct change c;
		struct spot at;
		MUTEX_GUARD(&s->lock);

		r = find(s->meta, path, &at);
		if (r == 0 && at.found)
			return at.kind == KIND_DIR ? 0 : -EEXIST;
		if (r == 0)
			r = change_begin(&c, s, actor);
		if (r == 0) {
			r = make_parents(&c, &at);
			if (r == 0)
				r = make_dir(&c, &at.parent, at.name, &node);
			r = change_end(&c, r, &changed);
		}
	}
	if (changed)
		store_changed(s);
	return r;
}

/* What rename(2) says of the two. */
static int check_rename(struct meta *meta, const struct spot *from, const struct spot *to)
{
	if (!from->found)
		return -ENOENT;
	if (!to->found || id_equal(&from->node, &to->node))
		return 0;
	if (from->kind == KIND_DIR && to->kind != KIND_DIR)
		return -ENOTDIR;
	if (from->kind != KIND_DIR && to->kind == KIND_DIR)
		return -EISDIR;
	if (to->kind != KIND_DIR)
		return 0;
	return meta_has_children(meta, &to->node) ? -ENOTEMPTY : 0;
}

static int rename_locked(struct change *c, const struct spot *from, struct spot *to)
{
	struct op op = {.type = OP_RENAME,
		.node = from->node,
		.parent = from->parent,
		.name = (char *)(uintptr_t)from->name,
		.new_name = (char *)(uintptr_t)to->name,
		.other = ID_NONE};
	int r = make_parents(c, to);

	if (r < 0)
		return r;
	op.new_parent = to->parent;
	if (to->found && to->kind == KIND_DIR)
		r = delete_node(c, &to->parent, to->name, &to->node, to->kind, 0);
	else if (to->found)
		op.other = to->node;
	return r < 0 ? r : change_apply(c, &op, NULL);
}

int store_rename(struct store *s, const struct store_actor *actor, const char *path, const char *new_path)
{
	bool changed = false;
	int r;

	{
		struct change c;
		struct spot from, to;
		MUTEX_GUARD(&s->lock);

		r = find(s->meta, path, &from);
		if (r == -ENOTDIR || r == -ELOOP)
			r = -ENOENT;
		if (r == 0)
			r = find(s->meta, new_path, &to);
		if (r == 0)
			r = check_rename(s->meta, &from, &to);
		if (r < 0 || (to.found && id_equal(&from.node, &to.node)))
			return r;
		r = change_begin(&c, s, actor);
		if (r == 0)
			r = change_end(&c, rename_locked(&c, &from, &to), &changed);
	}
	if (changed)
		store_changed(s);
	return r;
}

/* ---- reading ---- */

int store_open_file(struct store *s, const char *path, int *ret_fd, struct node_state *ret_node)
{
	struct node_state n = {0};
	struct spot at;
	int r, fd;

	if (store_is_failed(s))
		return -EIO;
	/* Under the lock of commits: the file that is opened is the one that the row tells of. */
	MUTEX_GUARD(&s->lock);
	r = find_there(s->meta, path, &at);
	if (r == 0 && at.kind != KIND_FILE)
		r = at.kind == KIND_DIR ? -EISDIR : -ENOENT;
	if (r == 0)
		r = meta_node_get(s->meta, &at.node, &n);
	if (r < 0)
		return r;
	fd = prepare_node_open(s, s->meta, &at.node);
	if (fd < 0) {
		node_state_fini(&n);
		return fd;
	}
	*ret_fd = fd;
	*ret_node = n;
	return 0;
}

int store_path(struct store *s, const struct id *node, char **ret_path)
{
	struct node_state n = {0};
	cleanup_free char *dir = NULL;
	int r;

	if (id_equal(node, &ID_ROOT)) {
		*ret_path = strdup("");
		return *ret_path ? 0 : -ENOMEM;
	}
	MUTEX_GUARD(&s->read_lock);
	r = meta_node_get(s->reader, node, &n);
	if (r == 0 && n.names_count == 0)
		r = -ENOENT;
	if (r == 0)
		r = meta_dir_path(s->reader, &n.names[0].parent, &dir);
	if (r == 0) {
		cleanup_buf struct buf path = BUF_INIT;

		if (*dir) {
			buf_put_str(&path, dir);
			buf_put_str(&path, "/");
		}
		buf_put_str(&path, n.names[0].name);
		*ret_path = buf_cstr(&path) ? strdup(buf_cstr(&path)) : NULL;
		r = *ret_path ? 0 : -ENOMEM;
	}
	node_state_fini(&n);
	return r;
}
