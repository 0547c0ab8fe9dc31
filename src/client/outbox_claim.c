/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The batch that was on its way when the last run ended finds its operations in the replayed queue. Called by
 * the uploader before anything else is sent; sends nothing itself.
 */
#include "outbox.h"

#include "capture_internal.h"

/* The entry with this lsn; looked for from `near` on, since both are nearly in the same order. */
static struct entry *find_lsn(struct capture *c, struct entry *near, uint64_t lsn)
{
	struct entry *e = near;

	while (e && e->lsn != lsn)
		e = e->next;
	if (e)
		return e;
	for (e = pending_first(c->pending); e && e != near; e = e->next) {
		if (e->lsn == lsn)
			return e;
	}
	return NULL;
}

static bool covers(const struct item *i, uint64_t lsn)
{
	for (size_t k = 0; k < i->covers_count; k++) {
		if (i->covers[k] == lsn)
			return true;
	}
	return false;
}

/* What was written after the batch was read (dirty marks that it does not cover) is sent anew. */
static int queue_newer(struct capture *c, const struct item *i, struct entry *e)
{
	struct local *l = pending_find(c->pending, &e->node);
	size_t kept = 0;
	uint64_t newer = 0;

	if (e->dirty_lsn && !covers(i, e->dirty_lsn)) {
		newer = e->dirty_lsn;
		e->dirty_lsn = 0;
	}
	for (size_t k = 0; k < e->absorbed_count; k++) {
		if (covers(i, e->absorbed[k]) || newer)
			e->absorbed[kept++] = e->absorbed[k];
		else
			newer = e->absorbed[k];
	}
	e->absorbed_count = kept;
	return newer && l ? capture_requeue_locked(c, l, newer) : 0;
}

static int claim_locked(struct capture *c, struct item *i, struct entry **near)
{
	struct entry *e = find_lsn(c, *near ? *near : pending_first(c->pending), i->lsn), *absorbed;
	int r;

	/* A power loss takes the end of the journal, and its numbers are given again: then it is another one.
	 */
	if (!e || e->type != i->op.type || !id_equal(&e->node, &i->op.node))
		return 0;
	r = queue_newer(c, i, e);
	e->in_flight = true;
	i->entry = e;
	for (size_t k = 0; k < i->covers_count && !r; k++) {
		absorbed = find_lsn(c, pending_first(c->pending), i->covers[k]);
		if (absorbed && absorbed != e)
			r = pending_absorb(c->pending, e, absorbed);
	}
	*near = e->next;
	return r;
}

int outbox_claim(struct capture *c, struct outbox *o)
{
	struct entry *near = NULL;
	int r = 0;

	MUTEX_GUARD(&c->lock);
	for (size_t i = 0; i < o->count && !r; i++)
		r = claim_locked(c, &o->items[i], &near);
	return r;
}
