/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The commit rules for new names: create and link. Called by commit_apply() only. Neither ever takes a name
 * away from another node.
 */
#include "commit_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <syncfs/io.h>

/* Names of one node: what ext4 allows, the smallest limit of the usual file systems (EXT4_LINK_MAX). */
#define LINKS_MAX 65000

/* The operation as a node; everything in it is borrowed. */
static struct node_state node_of_op(const struct op *op)
{
	struct node_state n = {.node = op->node, .kind = op->kind};

	n.mode = op->kind == KIND_DIR ? 0755 : op->kind == KIND_SYMLINK ? 0777 : 0644;
	if (op->fields & OP_HAS_MODE)
		n.mode = op->mode & 0777;
	if (op->fields & OP_HAS_MTIME)
		n.mtime_ns = op->mtime_ns;
	if (op->fields & OP_HAS_XATTR)
		n.xattr = op->xattr;
	if (op->kind == KIND_FILE)
		n.content = op->content;
	if (op->kind == KIND_SYMLINK)
		n.target = op->target;
	return n;
}

/*
 * A node id is made once. One that lives already, or became another's alias, is a client that lost its memory
 * of having told so; one that is dead comes back as a create makes it.
 */
static int check_new(struct commit *c)
{
	cleanup_node struct node_state known = {0};
	const struct op *op = c->op;
	struct id to;
	int r;

	if (id_is_none(&op->node) || id_equal(&op->node, &ID_ROOT))
		return commit_reject(c, -EINVAL, "no node of a client's");
	if (op->kind == KIND_SYMLINK && !op->target)
		return commit_reject(c, -EINVAL, "symlink without target");
	r = c->env->alias_get(c->env->arg, &op->node, &to);
	if (r == -ENOENT)
		r = c->env->node_get(c->env->arg, &op->node, &known);
	if (r == -ENOENT)
		return 0;
	if (r >= 0 && known.tomb)
		return known.kind == op->kind ? 0 : commit_reject(c, -EEXIST, "node id used before");
	return r < 0 ? r : commit_create_again(c);
}

/* The parent and name of the operation, made ready to take a new name. */
static int ready_parent(struct commit *c, struct id *ret_parent)
{
	/* A dead directory does not come back inside of itself. */
	const struct id *mover = c->op->type == OP_CREATE ? &c->op->node : NULL;
	struct chain chain;
	int r = commit_resolve(c, &c->op->parent, ret_parent);

	if (r < 0)
		return r;
	r = commit_name_check(c, ret_parent, c->op->name);
	if (r)
		return r;
	r = commit_parent_check(c, ret_parent, mover, &chain);
	if (r)
		return r;
	return commit_parent_revive(c, &chain, NULL, ret_parent);
}

int commit_create(struct commit *c)
{
	cleanup_node struct node_state there = {0};
	cleanup_free char *conflict = NULL;
	struct node_state n = node_of_op(c->op);
	const char *name = c->op->name;
	struct id parent, taker;
	uint64_t l;
	int r = check_new(c);

	if (r)
		return r;
	r = ready_parent(c, &parent);
	if (r)
		return r;
	r = c->env->dentry_get(c->env->arg, &parent, name, &taker, &l);
	if (r >= 0) {
		r = c->env->node_get(c->env->arg, &taker, &there);
		if (r < 0)
			return r;
		if ((n.kind == KIND_DIR && there.kind == KIND_DIR) || commit_node_equal(&n, &there))
			return commit_unify(c, &n, &there, l, &parent, &c->op->parent);
		r = commit_name_conflict(c, &parent, name, &conflict);
		name = conflict;
	}
	if (r < 0 && r != -ENOENT)
		return r;
	r = commit_seq(c);
	if (r < 0)
		return r;
	n.c = n.a = c->seq;
	r = commit_name_add(c, &n, &parent, name);
	if (r >= 0)
		r = commit_place(c, PLACE_CREATE, &n.node, &parent, name);
	if (r < 0)
		return r;
	return conflict ? commit_kept(c, &n, c->seq, &parent, name) : commit_done(c, OUTCOME_OK, &n, c->seq);
}

/* The name is taken by another node. Live bytes have a name already; dead ones get one beside it. */
static int link_taken(struct commit *c, struct node_state *n, const struct id *parent, const struct id *taker)
{
	cleanup_node struct node_state there = {0};
	cleanup_free char *conflict = NULL;
	int r;

	if (!n->tomb)
		return commit_done(c, OUTCOME_SUPERSEDED, n, 0);
	r = c->env->node_get(c->env->arg, taker, &there);
	if (r < 0)
		return r;
	if (commit_node_equal(n, &there))
		return commit_unify(c, n, &there, there.names[0].l, parent, &c->op->parent);
	r = commit_name_conflict(c, parent, c->op->name, &conflict);
	if (r >= 0)
		r = commit_name_add(c, n, parent, conflict);
	if (r >= 0)
		r = commit_place(c, PLACE_RESURRECT, &n->node, parent, conflict);
	return r < 0 ? r : commit_kept(c, n, c->seq, parent, conflict);
}

int commit_link(struct commit *c)
{
	cleanup_node struct node_state n = {0};
	struct id parent, taker;
	uint64_t l;
	bool dead;
	int r = commit_subject(c, &c->op->node, NULL, &n);

	if (r)
		return r;
	if (n.kind == KIND_DIR)
		return commit_reject(c, -EPERM, "a directory has one name");
	if (n.names_count >= LINKS_MAX)
		return commit_reject(c, -EMLINK, "too many names");
	r = ready_parent(c, &parent);
	if (r)
		return r;
	r = c->env->dentry_get(c->env->arg, &parent, c->op->name, &taker, &l);
	if (r >= 0 && id_equal(&taker, &n.node))
		return commit_same(c, &n, l, &parent, &c->op->parent);
	if (r >= 0)
		return link_taken(c, &n, &parent, &taker);
	if (r != -ENOENT)
		return r;
	dead = n.tomb;
	r = commit_name_add(c, &n, &parent, c->op->name);
	if (r >= 0)
		r = commit_place(c, dead ? PLACE_RESURRECT : PLACE_LINK, &n.node, &parent, c->op->name);
	return r < 0 ? r : commit_done(c, OUTCOME_OK, &n, c->seq);
}
