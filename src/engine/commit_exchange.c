/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The commit rules for exchange: two names swap in one step. Called by commit_apply() only. A side that was
 * deleted meanwhile comes back at its new name, as with rename; anything else stale leaves both where they
 * are.
 */
#include "commit_internal.h"

#include <errno.h>
#include <string.h>

/* One side as it is, and its name as the sender saw it. */
struct side {
	struct node_state n;
	struct id parent;
	const char *name; /* borrowed from n or the operation */
	ssize_t at; /* index of its name; -1: dead, or elsewhere */
};

static int side_get(struct commit *c, const struct id *id, const struct id *parent, const char *name,
	int64_t base, struct side *s)
{
	struct base l;
	int r = commit_base(c, base, BASE_OF_L, &l);

	if (r >= 0)
		r = commit_resolve(c, parent, &s->parent);
	if (r < 0)
		return r;
	s->name = name;
	r = commit_subject(c, id, &l, &s->n);
	if (r)
		return r;
	if (id_equal(&s->n.node, &ID_ROOT))
		return commit_reject(c, -EBUSY, "the root stays");
	s->at = commit_name_seen(&s->n, &s->parent, name, &l);
	return 0;
}

/* The name that a dead side had must be free, in a directory that lives. 1: decided against. */
static int dead_check(struct commit *c, const struct side *s, const struct node_state *subject)
{
	cleanup_node struct node_state dir = {0};
	struct id taker;
	uint64_t l;
	int r;

	if (s->at >= 0)
		return 0;
	if (!id_equal(&s->parent, &ID_ROOT)) {
		r = c->env->node_get(c->env->arg, &s->parent, &dir);
		if (r < 0 && r != -ENOENT)
			return r;
		if (r == -ENOENT || dir.tomb || dir.kind != KIND_DIR)
			return commit_done(c, OUTCOME_SUPERSEDED, subject, 0);
	}
	r = c->env->dentry_get(c->env->arg, &s->parent, s->name, &taker, &l);
	if (r >= 0)
		return commit_done(c, OUTCOME_SUPERSEDED, subject, 0);
	return r == -ENOENT ? 0 : r;
}

/* s may stand where to stands. */
static int cycle_check(struct commit *c, const struct side *s, const struct side *to)
{
	struct chain chain;

	return commit_parent_check(c, &to->parent, s->n.kind == KIND_DIR ? &s->n.node : NULL, &chain);
}

/* Takes the name of a live side away, without a step of its own. */
static int lift(struct commit *c, const struct side *s)
{
	return s->at < 0 ? 0 : c->env->dentry_del(c->env->arg, &s->parent, s->name);
}

static int settle(struct commit *c, struct side *s, const struct side *to)
{
	struct place_step step = {.type = PLACE_MOVE,
		.node = s->n.node,
		.parent = s->parent,
		.name = s->name,
		.new_parent = to->parent,
		.new_name = to->name};

	/* Of two live ones the exchange tells; of a live and a dead one the live one has moved already. */
	if (s->at < 0)
		return commit_place(c, PLACE_RESURRECT, &s->n.node, &to->parent, to->name);
	if (to->at >= 0)
		step.type = PLACE_EXCHANGE;
	return c->env->place(c->env->arg, &step);
}

static int carry_out(struct commit *c, struct side *a, struct side *b)
{
	struct side *first = a->at >= 0 ? a : b, *second = a->at >= 0 ? b : a;
	int r = lift(c, a);

	if (r >= 0)
		r = lift(c, b);
	if (r >= 0)
		r = commit_name_add(c, &a->n, &b->parent, b->name);
	if (r >= 0)
		r = commit_name_add(c, &b->n, &a->parent, a->name);
	if (r >= 0)
		r = settle(c, first, second);
	if (r >= 0 && second->at < 0)
		r = settle(c, second, first);
	return r < 0 ? r : commit_done(c, OUTCOME_OK, &a->n, c->seq);
}

static int judge(struct commit *c, struct side *a, struct side *b)
{
	ssize_t a_there = node_state_name_find(&a->n, &b->parent, b->name);
	ssize_t b_there = node_state_name_find(&b->n, &a->parent, a->name);
	int r;

	if (a_there >= 0 && (b_there >= 0 || id_equal(&a->n.node, &b->n.node)))
		return commit_done(c, OUTCOME_SAME, &a->n, a->n.names[a_there].l);
	if ((!a->n.tomb && a->at < 0) || (!b->n.tomb && b->at < 0) || id_equal(&a->n.node, &b->n.node))
		return commit_done(c, OUTCOME_SUPERSEDED, &a->n, 0);
	for (struct side *s = a; s; s = s == a ? b : NULL) {
		if (s->at >= 0) { /* its name may be another than the sender knew */
			s->parent = s->n.names[s->at].parent;
			s->name = s->n.names[s->at].name;
		}
	}
	/* Two dead ones may claim the same name. */
	if (id_equal(&a->parent, &b->parent) && strcmp(a->name, b->name) == 0)
		return commit_done(c, OUTCOME_SUPERSEDED, &a->n, 0);
	r = commit_name_check(c, &a->parent, a->name);
	if (!r)
		r = commit_name_check(c, &b->parent, b->name);
	if (!r)
		r = dead_check(c, a, &a->n);
	if (!r)
		r = dead_check(c, b, &a->n);
	if (!r)
		r = cycle_check(c, a, b);
	if (!r)
		r = cycle_check(c, b, a);
	return r ? r : carry_out(c, a, b);
}

/* The version of a name that the sender has seen, of a side that has lost: where it stays, or where it was to
 * go, since others have put it there. 0: neither. */
static uint64_t stays_l(const struct side *s, const struct side *to)
{
	ssize_t i = s->at >= 0 ? s->at : node_state_name_find(&s->n, &to->parent, to->name);

	return i < 0 ? 0 : s->n.names[i].l;
}

int commit_exchange(struct commit *c)
{
	const struct op *op = c->op;
	struct side a = {0}, b = {0};
	int r = side_get(c, &op->node, &op->parent, op->name, op->base_l, &a);

	if (!r)
		r = side_get(c, &op->other, &op->new_parent, op->new_name, op->other_base_l, &b);
	if (!r)
		r = judge(c, &a, &b);
	if (r > 0 && commit_has_lost(c->result->outcome))
		commit_stays(c, stays_l(&a, &b), stays_l(&b, &a));
	node_state_fini(&a.n);
	node_state_fini(&b.n);
	return r;
}
