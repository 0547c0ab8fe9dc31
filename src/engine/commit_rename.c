/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The commit rules for rename. Called by commit_apply() only. The node that moves is never lost: it moves,
 * stays, comes back from the dead, gets a conflict name, or is found to be equal to what has its new name.
 */
#include "commit_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <syncfs/conflict.h>
#include <syncfs/io.h>

/* Where the node goes. */
struct move {
	struct node_state n;
	ssize_t from; /* index of its name; -1: it is dead */
	struct id parent;
	char *name; /* owned */
	bool kept; /* name is a conflict name */
};

static void move_fini(struct move *m)
{
	node_state_fini(&m->n);
	free(m->name);
}

/* What the sender replaced: the node after aliases and own kept copies, and whether it saw this content. */
struct replaced {
	struct id node; /* ID_NONE: nothing */
	struct base base;
};

static int replaced_get(struct commit *c, struct replaced *ret_replaced)
{
	struct replaced p = {.node = ID_NONE};
	int r = 0;

	if (!id_is_none(&c->op->other) && !(c->op->fields & OP_NOREPLACE)) {
		r = commit_base(c, c->op->other_base_c, BASE_OF_C, &p.base);
		if (r >= 0)
			r = commit_resolve(c, &c->op->other, &p.node);
		if (r >= 0 && commit_follow(&p.base, &p.node))
			r = commit_resolve(c, &p.node, &p.node);
	}
	if (r >= 0)
		*ret_replaced = p;
	return r;
}

/* 1 when t, as it is now, is what the sender meant to replace by m; else 0. */
static int may_replace(
	struct commit *c, const struct move *m, const struct replaced *p, const struct node_state *t)
{
	int r;

	if (!id_equal(&p->node, &t->node) || id_equal(&t->node, &m->n.node))
		return 0;
	if ((t->kind == KIND_DIR) != (m->n.kind == KIND_DIR))
		return 0;
	/* Of several names one goes, and no content with it. */
	if (t->kind != KIND_DIR && c->op->other_base_c == 0)
		return t->names_count > 1;
	if (t->kind != KIND_DIR)
		return commit_base_is(&p->base, t->c);
	r = c->env->has_children(c->env->arg, &t->node);
	return r < 0 ? r : r == 0;
}

/*
 * The sender replaced a node that it saw under this name, but its own earlier operation got a conflict name
 * for that: the mover takes over the conflict name.
 */
static bool kept_earlier(const struct commit *c, const struct move *m, const struct node_state *t)
{
	return !t->tomb && t->names_count == 1 && id_equal(&t->by_client, &c->sender->client) &&
		id_equal(&t->names[0].parent, &m->parent) && conflict_name_is(t->names[0].name);
}

/* Takes over the conflict name that the sender's replaced node has. 1: done so. */
static int retarget(struct commit *c, struct move *m, const struct replaced *p)
{
	cleanup_node struct node_state t = {0};
	cleanup_free char *name = NULL;
	int r;

	if (id_is_none(&p->node) || m->n.kind == KIND_DIR)
		return 0;
	r = c->env->node_get(c->env->arg, &p->node, &t);
	if (r == -ENOENT)
		return 0;
	if (r >= 0)
		r = may_replace(c, m, p, &t);
	if (r <= 0 || !kept_earlier(c, m, &t))
		return r < 0 ? r : 0;
	name = strdup(t.names[0].name);
	if (!name)
		return -ENOMEM;
	r = commit_name_drop(c, &t, 0);
	if (r < 0)
		return r;
	free(m->name);
	m->name = steal_ptr(&name);
	m->kept = true;
	return 1;
}

/* The mover is equal to what has the name: it ends there and means that from now on. */
static int merge(struct commit *c, struct move *m, const struct node_state *t, uint64_t l)
{
	if (m->from >= 0) {
		int r = commit_name_drop(c, &m->n, (size_t)m->from);

		if (r < 0)
			return r;
	}
	return commit_unify(c, &m->n, t, l, &m->parent, &c->op->new_parent);
}

/* The target name is taken by t. 0: m has its way, perhaps by another name. */
static int target_taken(struct commit *c, struct move *m, const struct id *taker, uint64_t l)
{
	cleanup_node struct node_state t = {0};
	struct replaced p;
	char *conflict;
	int r;

	if (id_equal(taker, &m->n.node))
		return commit_same(c, &m->n, l, &m->parent, &c->op->new_parent);
	r = replaced_get(c, &p);
	if (r >= 0)
		r = c->env->node_get(c->env->arg, taker, &t);
	if (r >= 0)
		r = may_replace(c, m, &p, &t);
	if (r < 0)
		return r;
	if (r > 0) {
		ssize_t i = commit_name_find(&t, &m->parent, m->name);

		return i < 0 ? -EBADMSG : commit_name_drop(c, &t, (size_t)i);
	}
	if (m->n.names_count <= 1 && commit_node_equal(&m->n, &t))
		return merge(c, m, &t, l);
	r = retarget(c, m, &p);
	if (r)
		return r < 0 ? r : 0;
	if ((c->op->fields & OP_NOREPLACE) && m->from >= 0)
		return commit_done(c, OUTCOME_SUPERSEDED, &m->n, m->n.names[m->from].l);
	r = commit_name_conflict(c, &m->parent, m->name, &conflict);
	if (r < 0)
		return r;
	free(m->name);
	m->name = conflict;
	m->kept = true;
	return 0;
}

static int carry_out(struct commit *c, struct move *m)
{
	struct place_step step = {
		.type = PLACE_MOVE, .node = m->n.node, .new_parent = m->parent, .new_name = m->name};
	int r = 0;

	if (m->from >= 0) {
		step.parent = m->n.names[m->from].parent;
		step.name = m->n.names[m->from].name;
		r = c->env->dentry_del(c->env->arg, &step.parent, step.name);
	}
	if (r >= 0)
		r = commit_name_add(c, &m->n, &m->parent, m->name);
	if (r >= 0 && m->from >= 0)
		r = c->env->place(c->env->arg, &step);
	else if (r >= 0)
		r = commit_place(c, PLACE_RESURRECT, &m->n.node, &m->parent, m->name);
	if (r < 0)
		return r;
	return m->kept ? commit_kept(c, &m->n, c->seq, &m->parent, m->name)
		       : commit_done(c, OUTCOME_OK, &m->n, c->seq);
}

/* Whose name moves, and whether it may. */
static int find_source(struct commit *c, struct move *m)
{
	struct base l;
	struct id parent;
	ssize_t at;
	int r = commit_base(c, c->op->base_l, BASE_OF_L, &l);

	if (r >= 0)
		r = commit_resolve(c, &c->op->parent, &parent);
	if (r < 0)
		return r;
	r = commit_subject(c, &c->op->node, &l, &m->n);
	if (r)
		return r;
	if (id_equal(&m->n.node, &ID_ROOT))
		return commit_reject(c, -EBUSY, "the root stays");
	m->from = -1;
	at = commit_name_find(&m->n, &m->parent, m->name);
	if (at >= 0)
		return commit_same(c, &m->n, m->n.names[at].l, &m->parent, &c->op->new_parent);
	if (m->n.tomb)
		return 0;
	m->from = commit_name_seen(&m->n, &parent, c->op->name, &l);
	return m->from >= 0 ? 0 : commit_done(c, OUTCOME_SUPERSEDED, &m->n, m->n.names[0].l);
}

static int judge(struct commit *c, struct move *m)
{
	struct chain chain;
	const struct id *mover;
	struct id taker;
	uint64_t l;
	int r = commit_resolve(c, &c->op->new_parent, &m->parent);

	if (r < 0)
		return r;
	m->name = strdup(c->op->new_name);
	if (!m->name)
		return -ENOMEM;
	r = commit_name_check(c, &m->parent, m->name);
	if (!r)
		r = find_source(c, m);
	if (r)
		return r;
	mover = m->n.kind == KIND_DIR ? &m->n.node : NULL;
	r = commit_parent_check(c, &m->parent, mover, &chain);
	if (r)
		return r;
	r = commit_parent_revive(c, &chain, mover, &m->parent);
	if (r < 0)
		return r;
	r = c->env->dentry_get(c->env->arg, &m->parent, m->name, &taker, &l);
	if (r >= 0)
		r = target_taken(c, m, &taker, l);
	else if (r == -ENOENT)
		r = 0;
	return r ? r : carry_out(c, m);
}

int commit_rename(struct commit *c)
{
	struct move m = {0};
	int r = judge(c, &m);

	move_fini(&m);
	return r;
}
