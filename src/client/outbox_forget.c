/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The queue is emptied before a merge: what is here is compared with the server anew, by content. Called by
 * the session while no other part runs; touches no files but the journal.
 */
#include "outbox.h"

#include "capture_internal.h"

/* A file that is being written: the scan finds it as a new one, its close queues what is written until then.
 */
static int drop_mark(struct capture *c, struct local *l)
{
	int r = l->dirty_lsn ? journal_ack(c->journal, &l->dirty_lsn, 1) : 0;

	pending_set_dirty(c->pending, l, 0);
	l->pins = l->promises = 0;
	pending_settle(c->pending, l);
	return r;
}

int outbox_forget_unknown(struct capture *c)
{
	struct entry *next;
	struct local *l;
	size_t pos = 0;
	int r = 0;

	MUTEX_GUARD(&c->lock);
	for (struct entry *e = pending_first(c->pending); !r && e; e = next) {
		next = e->next;
		if (!syncstate_peek_has_base(c->state, &e->node))
			r = outbox_drop_locked(c, e);
	}
	while (!r && pending_next_local(c->pending, &pos, &l)) {
		if (!syncstate_peek_has_base(c->state, &l->node))
			r = drop_mark(c, l);
	}
	pending_forget_objects(c->pending);
	return r;
}

int outbox_forget(struct capture *c)
{
	struct local *l;
	int r = 0;

	MUTEX_GUARD(&c->lock);
	promise_forget_all_locked(c); /* what is dropped here is not at the server */
	while (!r && pending_first(c->pending))
		r = outbox_drop_locked(c, pending_first(c->pending));
	for (size_t pos = 0; !r && pending_next_local(c->pending, &pos, &l);)
		r = drop_mark(c, l);
	pending_forget_objects(c->pending);
	return r;
}
