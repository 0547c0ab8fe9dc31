/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The commit rules' words: results, bases and aliases. Called by every part of the commit rules. Changes no
 * row.
 */
#include "commit_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Aliases of aliases: only a merged copy whose winner was merged again makes one. */
#define ALIAS_MAX_STEPS 64

int commit_reject(struct commit *c, int code, const char *reason)
{
	c->result->outcome = OUTCOME_REJECT;
	c->result->code = code;
	c->result->reason = strdup(reason);
	return c->result->reason ? 1 : -ENOMEM;
}

int commit_done(struct commit *c, enum outcome outcome, const struct node_state *n, uint64_t l)
{
	struct result *r = c->result;

	r->outcome = outcome;
	r->node = n->node;
	r->seq = c->seq ? c->seq : n->seq;
	r->c = n->c;
	r->a = n->a;
	r->l = l;
	return 1;
}

bool commit_has_lost(enum outcome outcome)
{
	return outcome == OUTCOME_SUPERSEDED || outcome == OUTCOME_CYCLE;
}

void commit_stays(struct commit *c, uint64_t l, uint64_t other_l)
{
	c->result->l = l;
	c->result->a = other_l;
}

int commit_kept(
	struct commit *c, const struct node_state *n, uint64_t l, const struct id *parent, const char *name)
{
	c->result->name = strdup(name);
	if (!c->result->name)
		return -ENOMEM;
	c->result->parent = *parent;
	return commit_done(c, OUTCOME_KEPT, n, l);
}

int commit_resolve(struct commit *c, const struct id *id, struct id *ret_id)
{
	struct id at = *id;

	for (int i = 0; i < ALIAS_MAX_STEPS; i++) {
		struct id to;
		int r = c->env->alias_get(c->env->arg, &at, &to);

		if (r == -ENOENT) {
			*ret_id = at;
			return 0;
		}
		if (r < 0)
			return r;
		at = to;
	}
	return -ELOOP;
}

int commit_base(struct commit *c, int64_t base, enum base_kind kind, struct base *ret_base)
{
	const struct result *own;
	struct base b = {0};
	int r;

	if (base == BASE_ANY) {
		b.any = true;
	} else if (base > 0) {
		b.known = true;
		b.version = (uint64_t)base;
	} else if (base < 0) {
		b.own = true;
		r = c->env->own_result(c->env->arg, (uint64_t)-base, &own);
		if (r < 0 && r != -ENOENT)
			return r;
		/* An operation that lost produced no version, so nothing can be based on it. */
		if (r >= 0 &&
			(own->outcome == OUTCOME_OK || own->outcome == OUTCOME_SAME ||
				own->outcome == OUTCOME_KEPT)) {
			b.known = true;
			b.version = kind == BASE_OF_C ? own->c : kind == BASE_OF_L ? own->l : own->a;
			b.l = own->l;
			b.outcome = own->outcome;
			b.node = own->node;
		} else if (r >= 0 && kind == BASE_OF_L &&
			(commit_has_lost(own->outcome) || own->outcome == OUTCOME_REJECT)) {
			b.stayed[0] = own->l;
			b.stayed[1] = own->a;
		}
	}
	*ret_base = b;
	return 0;
}

bool commit_base_is(const struct base *b, uint64_t version)
{
	return b->any || (b->known && b->version == version);
}

bool commit_follow(const struct base *b, struct id *node)
{
	/* Of SAME the alias tells; OK of an exchange names only one of its two nodes. */
	if (!b->own || !b->known || b->outcome != OUTCOME_KEPT || id_equal(&b->node, node))
		return false;
	*node = b->node;
	return true;
}

int commit_subject(struct commit *c, const struct id *id, const struct base *b, struct node_state *ret_n)
{
	struct id node;
	int r = commit_resolve(c, id, &node);

	if (r < 0)
		return r;
	if (b && commit_follow(b, &node)) {
		r = commit_resolve(c, &node, &node);
		if (r < 0)
			return r;
	}
	r = c->env->node_get(c->env->arg, &node, ret_n);
	if (r == -ENOENT)
		return commit_reject(c, -ENOENT, "unknown node");
	return r < 0 ? r : 0;
}
