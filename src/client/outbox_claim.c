/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The batch that was on its way when the last run ended finds its operations in the replayed queue. Called by
 * the uploader before anything else is sent; sends nothing itself.
 */
#include "outbox.h"

#include <errno.h>

#include "capture_internal.h"

/* lsn -> entry */
static int index_queue(struct capture *c, struct map *by_lsn)
{
	int r = 0;

	for (struct entry *e = pending_first(c->pending); e && !r; e = e->next)
		r = map_put(by_lsn, &e->lsn, sizeof(e->lsn), e);
	return r;
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

static int claim_locked(struct capture *c, struct item *i, struct map *by_lsn)
{
	struct entry *e = map_get(by_lsn, &i->lsn, sizeof(i->lsn)), *absorbed;
	int r;

	/* A power loss takes the end of the journal, and its numbers are given again: then it is another one.
	 */
	if (!e || e->type != i->op.type || !id_equal(&e->node, capture_replayed_id(c, &i->op.node)))
		return 0;
	r = queue_newer(c, i, e);
	e->in_flight = true;
	i->entry = e;
	for (size_t k = 0; k < i->covers_count && !r; k++) {
		absorbed = map_get(by_lsn, &i->covers[k], sizeof(i->covers[k]));
		if (!absorbed || absorbed == e)
			continue;
		map_remove(by_lsn, &i->covers[k], sizeof(i->covers[k]));
		r = pending_absorb(c->pending, e, absorbed);
	}
	return r;
}

int outbox_claim(struct capture *c, struct outbox *o)
{
	struct map *by_lsn = map_new();
	int r = by_lsn ? 0 : -ENOMEM;

	mutex_lock(&c->lock);
	if (!r)
		r = index_queue(c, by_lsn);
	for (size_t i = 0; i < o->count && !r; i++)
		r = claim_locked(c, &o->items[i], by_lsn);
	mutex_unlock(&c->lock);
	map_free(by_lsn);
	return r;
}
