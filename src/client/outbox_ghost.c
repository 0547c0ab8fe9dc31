/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What came and went unsent is not sent at all. Called when a batch is chosen, under capture's lock; never
 * looks at the disk.
 */
#include "outbox_settle.h"

/*
 * A file that was made, and is gone before any of it was sent: removed, or replaced by the next one under its
 * name (an editor's saves, git's lock files). Nobody need ever hear of it, and nobody could: its bytes are no
 * more. What it had replaced itself, its end replaces.
 */
struct ghost {
	struct entry *end; /* the unlink of it, or the rename over it */
	struct id replaced; /* what it had taken the name of; ID_NONE */
	bool remains; /* that has other names */
};

/* One more operation on the ghost; false: not so simple, it is sent as it happened. */
static bool ghost_step(struct ghost *g, struct entry *e, const struct id *node, struct entry **last_rename)
{
	if (e->in_flight || e->type == OP_LINK || e->type == OP_EXCHANGE)
		return false;
	if (e->type == OP_WRITE || e->type == OP_SETATTR)
		return true; /* after a restart also behind the end */
	if (g->end)
		return false;
	if (id_equal(&e->other, node)) {
		g->end = e;
		return true;
	}
	if (e->type == OP_UNLINK)
		g->end = e;
	if (e->type != OP_RENAME)
		return true;
	if (!id_is_none(&g->replaced))
		return false;
	g->replaced = e->other;
	g->remains = e->remains;
	*last_rename = e;
	return true;
}

static bool find_ghost(struct capture *c, struct entry *create, struct ghost *ret_ghost)
{
	struct local *l = pending_find(c->pending, &create->node);
	struct entry *last_rename = NULL;
	struct ghost g = {.replaced = ID_NONE};

	if (create->type != OP_CREATE || create->kind == KIND_DIR || !l || l->names_count)
		return false;
	if (l->queued.first != &create->of_node)
		return false;
	for (struct entry_link *link = l->queued.first; link; link = link->next) {
		if (!ghost_step(&g, link->entry, &create->node, &last_rename))
			return false;
	}
	if (!g.end)
		return false;
	if (!id_is_none(&g.replaced)) {
		const struct entry *end = g.end;
		bool by_rename = id_equal(&end->other, &create->node);

		if (!same_name(&last_rename->new_parent, last_rename->new_name,
			    by_rename ? &end->new_parent : &end->parent,
			    by_rename ? end->new_name : end->name))
			return false;
	}
	*ret_ghost = g;
	return true;
}

/*
 * Drops every operation of the ghost, in one record: half of it after a power loss would be of a node that
 * nobody knows. When its end stays, as one on what the ghost had replaced, the others stay in the journal
 * until that is settled: a replay comes to the same.
 */
static int lay_ghost(struct capture *c, struct entry *create, const struct ghost *g, struct entry **ret_next)
{
	struct id node = create->node;
	bool end_stays = id_equal(&g->end->other, &node) || !id_is_none(&g->replaced);
	struct entry *into = end_stays ? g->end : create;
	struct entry_link *next;
	int r = end_stays ? pending_retarget(c->pending, g->end, &node, &g->replaced) : 0;

	if (end_stays) {
		const struct local *replaced = pending_find(c->pending, &g->replaced);

		/* The end is later than the name went: others that were there then may have gone before it.
		 */
		g->end->remains = g->remains && replaced && replaced->names_count;
	}
	*ret_next = create->next;
	while (*ret_next && id_equal(&(*ret_next)->node, &node))
		*ret_next = (*ret_next)->next;
	for (struct entry_link *link = &create->of_node; link && !r; link = next) {
		next = link->next;
		if (link->entry != into)
			r = pending_absorb(c->pending, into, link->entry);
	}
	return r || end_stays ? r : outbox_drop_locked(c, create);
}

int ghost_lay_locked(struct capture *c, struct entry *create, struct entry **ret_next)
{
	struct ghost g;
	int r;

	if (!find_ghost(c, create, &g))
		return 0;
	r = lay_ghost(c, create, &g, ret_next);
	return r ? r : 1;
}
