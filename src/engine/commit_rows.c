/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The commit rules' hands: stamping rows, giving and taking names, bringing ancestors back. Called by the
 * rules only. Decides nothing about who wins.
 */
#include "commit_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <syncfs/conflict.h>
#include <syncfs/io.h>

/* Eight hex digits of a hash each: more misses than this mean that something is broken. */
#define CONFLICT_TRIES 64

int commit_seq(struct commit *c)
{
	return c->seq ? 0 : c->env->seq_next(c->env->arg, &c->seq);
}

int commit_put(struct commit *c, struct node_state *n)
{
	int r = commit_seq(c);

	if (r < 0)
		return r;
	n->seq = c->seq;
	n->by_client = c->sender->client;
	n->by_opno = c->op->opno;
	return c->env->node_put(c->env->arg, n);
}

int commit_place(struct commit *c, enum place_type type, const struct id *node, const struct id *parent,
	const char *name)
{
	struct place_step step = {.type = type, .node = *node, .name = name};

	if (parent)
		step.parent = *parent;
	if (type == PLACE_CREATE || type == PLACE_CONTENT)
		step.op = c->op;
	return c->env->place(c->env->arg, &step);
}

ssize_t commit_name_made(const struct node_state *n, uint64_t l)
{
	for (size_t i = 0; i < n->names_count; i++) {
		if (n->names[i].l == l)
			return (ssize_t)i;
	}
	return -1;
}

ssize_t commit_name_seen(
	const struct node_state *n, const struct id *parent, const char *name, const struct base *l)
{
	ssize_t i = node_state_name_find(n, parent, name);

	if (i >= 0 && commit_base_is(l, n->names[i].l))
		return i;
	/* It may be elsewhere than the sender has it: an operation of the sender's has put it there, or has
	 * lost and left it there. */
	i = l->known ? commit_name_made(n, l->version) : -1;
	for (unsigned k = 0; i < 0 && k < 2; k++)
		i = l->stayed[k] ? commit_name_made(n, l->stayed[k]) : -1;
	return i;
}

int commit_name_add(struct commit *c, struct node_state *n, const struct id *parent, const char *name)
{
	int r;

	n->tomb = false;
	r = commit_put(c, n);
	if (r < 0)
		return r;
	return c->env->dentry_put(c->env->arg, parent, name, &n->node, c->seq);
}

int commit_name_drop(struct commit *c, struct node_state *n, size_t i)
{
	const struct commit_env *env = c->env;
	struct dentry *d = &n->names[i];
	int r = 0;

	if (n->names_count == 1) {
		n->tomb = true;
		r = env->last_name_put(env->arg, &n->node, &d->parent, d->name);
	}
	if (r >= 0)
		r = env->dentry_del(env->arg, &d->parent, d->name);
	if (r >= 0)
		r = commit_put(c, n);
	if (r >= 0)
		r = commit_place(c, PLACE_REMOVE, &n->node, &d->parent, d->name);
	free(d->name);
	n->names_count--;
	memmove(d, d + 1, (n->names_count - i) * sizeof(*d));
	return r;
}

int commit_name_check(struct commit *c, const struct id *parent, const char *name)
{
	if (id_equal(parent, &ID_ROOT) && strcmp(name, RESERVED_NAME) == 0)
		return commit_reject(c, -EPERM, "reserved name");
	return 0;
}

int commit_name_conflict(struct commit *c, const struct id *parent, const char *name, char **ret_name)
{
	for (unsigned i = 0; i < CONFLICT_TRIES; i++) {
		cleanup_free char *other =
			conflict_name(name, c->sender->label, &c->sender->client, c->op->opno, i);
		struct id node;
		uint64_t l;
		int r;

		if (!other)
			return -ENOMEM;
		r = c->env->dentry_get(c->env->arg, parent, other, &node, &l);
		if (r == -ENOENT) {
			*ret_name = steal_ptr(&other);
			return 0;
		}
		if (r < 0)
			return r;
	}
	return -EEXIST;
}

/* One step up from the directory at; pushes it on the chain when it is dead. */
static int climb(struct commit *c, struct id *at, struct chain *chain)
{
	cleanup_node struct node_state n = {0};
	cleanup_free char *name = NULL;
	struct id parent;
	int r = c->env->node_get(c->env->arg, at, &n);

	if (r == -ENOENT)
		return commit_reject(c, -ENOENT, "unknown parent");
	if (r < 0)
		return r;
	if (n.kind != KIND_DIR)
		return commit_reject(c, -ENOTDIR, "parent is no directory");
	if (!n.tomb && n.names_count == 1) {
		*at = n.names[0].parent;
		return 0;
	}
	if (!n.tomb)
		return -EBADMSG;
	chain->dead[chain->count++] = *at;
	r = c->env->last_name_get(c->env->arg, at, &parent, &name);
	if (r < 0)
		return r == -ENOENT ? -EBADMSG : r;
	return commit_resolve(c, &parent, at);
}

int commit_parent_check(
	struct commit *c, const struct id *parent, const struct id *mover, struct chain *ret_chain)
{
	struct id at = *parent;

	ret_chain->count = 0;
	for (int depth = 1; depth <= TREE_MAX_DEPTH; depth++) {
		int r;

		if (id_equal(&at, &ID_ROOT))
			return 0;
		if (mover && id_equal(&at, mover)) {
			c->result->outcome = OUTCOME_CYCLE;
			return 1;
		}
		r = climb(c, &at, ret_chain);
		if (r)
			return r;
	}
	return commit_reject(c, -ENAMETOOLONG, "tree too deep");
}

/* The dead directory id comes back; *ret_id is it, or the directory that has its name now. */
static int revive_dir(struct commit *c, const struct id *id, const struct id *mover, struct id *ret_id)
{
	cleanup_node struct node_state n = {0}, there = {0};
	cleanup_free char *name = NULL, *free_name = NULL;
	struct id parent, taker;
	uint64_t l;
	int r = c->env->node_get(c->env->arg, id, &n);

	if (r >= 0)
		r = c->env->last_name_get(c->env->arg, id, &parent, &name);
	if (r >= 0)
		r = commit_resolve(c, &parent, &parent);
	if (r < 0)
		return r;
	*ret_id = *id;
	r = c->env->dentry_get(c->env->arg, &parent, name, &taker, &l);
	if (r >= 0) {
		r = c->env->node_get(c->env->arg, &taker, &there);
		if (r < 0)
			return r;
		if (there.kind == KIND_DIR && !(mover && id_equal(mover, &taker))) {
			*ret_id = taker;
			return c->env->alias_put(c->env->arg, id, &taker);
		}
		r = commit_name_conflict(c, &parent, name, &free_name);
		if (r < 0)
			return r;
		free(name);
		name = steal_ptr(&free_name);
	} else if (r != -ENOENT) {
		return r;
	}
	r = commit_name_add(c, &n, &parent, name);
	return r < 0 ? r : commit_place(c, PLACE_RESURRECT, id, &parent, name);
}

int commit_parent_revive(
	struct commit *c, const struct chain *chain, const struct id *mover, struct id *parent)
{
	for (size_t i = chain->count; i > 0; i--) {
		int r = revive_dir(c, &chain->dead[i - 1], mover, parent);

		if (r < 0)
			return r;
	}
	return 0;
}

bool commit_node_equal(const struct node_state *a, const struct node_state *b)
{
	if (a->kind != b->kind || a->kind == KIND_DIR)
		return false;
	if (a->kind == KIND_SYMLINK)
		return strcmp(a->target, b->target) == 0;
	return a->content.size == b->content.size && hash_equal(&a->content.hash, &b->content.hash);
}

int commit_same(struct commit *c, const struct node_state *n, uint64_t l, const struct id *parent,
	const struct id *named)
{
	struct node_state told = *n;
	bool other = c->op->type == OP_RENAME && !id_equal(&n->node, &c->op->node);
	int r = id_equal(parent, named) && !other ? 0 : commit_put(c, &told);

	return r < 0 ? r : commit_done(c, OUTCOME_SAME, n, l);
}

int commit_unify(struct commit *c, const struct node_state *n, const struct node_state *t, uint64_t l,
	const struct id *parent, const struct id *named)
{
	int r = c->env->alias_put(c->env->arg, &n->node, &t->node);

	return r < 0 ? r : commit_same(c, t, l, parent, named);
}
