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

/* What the sender replaced: the node after aliases and own kept copies, whether it saw this content, and
 * which of its names. */
struct replaced {
	struct id node; /* ID_NONE: nothing */
	struct base base, l;
};

static int replaced_get(struct commit *c, struct replaced *ret_replaced)
{
	struct replaced p = {.node = ID_NONE};
	int r = 0;

	if (!id_is_none(&c->op->other) && !(c->op->fields & OP_NOREPLACE)) {
		r = commit_base(c, c->op->other_base_c, BASE_OF_C, &p.base);
		if (r >= 0)
			r = commit_base(c, c->op->other_base_l, BASE_OF_L, &p.l);
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

/* The name of t that the sender replaced: there, or where the sender's own operations have put or left it. */
static ssize_t replaced_name(const struct move *m, const struct replaced *p, const struct node_state *t)
{
	ssize_t i = commit_name_seen(t, &m->parent, m->name, &p->l);

	if (i < 0 && p->base.own && p->base.known && p->base.outcome == OUTCOME_KEPT)
		i = commit_name_made(t, p->base.l);
	return i;
}

/*
 * What the sender replaced goes, wherever the name is that it had for the sender. The mover may have a
 * conflict name that is free with that: *ret_name, else NULL.
 */
static int drop_replaced(struct commit *c, struct move *m, const struct replaced *p, char **ret_name)
{
	cleanup_node struct node_state t = {0};
	ssize_t i;
	int r;

	*ret_name = NULL;
	if (id_is_none(&p->node) || m->n.kind == KIND_DIR)
		return 0;
	r = c->env->node_get(c->env->arg, &p->node, &t);
	if (r < 0)
		return r == -ENOENT ? 0 : r;
	i = t.tomb ? -1 : replaced_name(m, p, &t);
	r = i < 0 ? 0 : may_replace(c, m, p, &t);
	if (r <= 0)
		return r;
	if (id_equal(&t.names[i].parent, &m->parent) && conflict_name_is(t.names[i].name)) {
		*ret_name = strdup(t.names[i].name);
		if (!*ret_name)
			return -ENOMEM;
	}
	return commit_name_drop(c, &t, (size_t)i);
}

static bool is_equal_to(const struct move *m, const struct node_state *t)
{
	return m->n.names_count <= 1 && commit_node_equal(&m->n, t);
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
static int target_taken(
	struct commit *c, struct move *m, const struct replaced *p, const struct id *taker, uint64_t l)
{
	cleanup_node struct node_state t = {0};
	cleanup_free char *conflict = NULL;
	int r;

	if (id_equal(taker, &m->n.node))
		return commit_same(c, &m->n, l, &m->parent, &c->op->new_parent);
	r = c->env->node_get(c->env->arg, taker, &t);
	if (r >= 0)
		r = may_replace(c, m, p, &t);
	if (r < 0)
		return r;
	if (r > 0) {
		ssize_t i = node_state_name_find(&t, &m->parent, m->name);

		return i < 0 ? -EBADMSG : commit_name_drop(c, &t, (size_t)i);
	}
	if ((c->op->fields & OP_NOREPLACE) && m->from >= 0 && !is_equal_to(m, &t))
		return commit_done(c, OUTCOME_SUPERSEDED, &m->n, 0);
	r = drop_replaced(c, m, p, &conflict);
	if (r < 0)
		return r;
	if (is_equal_to(m, &t))
		return merge(c, m, &t, l);
	if (!conflict)
		r = commit_name_conflict(c, &m->parent, m->name, &conflict);
	if (r < 0)
		return r;
	free(m->name);
	m->name = steal_ptr(&conflict);
	m->kept = true;
	return 0;
}

/* No name that the mover could have is free with it: the target is free, or the mover stays where it is. */
static int only_drop_replaced(struct commit *c, struct move *m, const struct replaced *p)
{
	cleanup_free char *unused = NULL;

	return drop_replaced(c, m, p, &unused);
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
	at = node_state_name_find(&m->n, &m->parent, m->name);
	if (at >= 0)
		return commit_same(c, &m->n, m->n.names[at].l, &m->parent, &c->op->new_parent);
	if (m->n.tomb)
		return 0;
	m->from = commit_name_seen(&m->n, &parent, c->op->name, &l);
	return m->from >= 0 ? 0 : commit_done(c, OUTCOME_SUPERSEDED, &m->n, 0);
}

static int judge(struct commit *c, struct move *m)
{
	struct chain chain;
	const struct id *mover;
	struct replaced p;
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
	r = replaced_get(c, &p);
	if (r < 0)
		return r;
	r = c->env->dentry_get(c->env->arg, &m->parent, m->name, &taker, &l);
	if (r >= 0)
		r = target_taken(c, m, &p, &taker, l);
	else if (r == -ENOENT)
		r = only_drop_replaced(c, m, &p);
	return r ? r : carry_out(c, m);
}

/*
 * The mover stays where it is by now. Where it should go it has had its way: what it was to replace goes,
 * should that have moved on. A move that has lost replaces nothing, but for what the sender has made and
 * replaced before it was answered about it: that might as well never have been sent.
 */
static int stay(struct commit *c, struct move *m)
{
	enum outcome outcome = c->result->outcome;
	struct replaced p;
	int r;

	if (commit_has_lost(outcome))
		commit_stays(c, m->from < 0 ? 0 : m->n.names[m->from].l, 0);
	if (outcome != OUTCOME_SUPERSEDED && outcome != OUTCOME_SAME)
		return 1;
	r = replaced_get(c, &p);
	if (r >= 0 && (outcome == OUTCOME_SAME || p.base.own))
		r = only_drop_replaced(c, m, &p);
	return r < 0 ? r : 1;
}

int commit_rename(struct commit *c)
{
	struct move m = {.from = -1};
	int r = judge(c, &m);

	if (r > 0)
		r = stay(c, &m);
	move_fini(&m);
	return r;
}
