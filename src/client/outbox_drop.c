/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Operations leave queue and journal: the journal first, in one record for all that belong together. Should
 * that fail, they stay. Called by outbox*.c and the uploader; knows nothing of what they said.
 */
#include "outbox_settle.h"

#include <errno.h>
#include <stdlib.h>

#include <syncfs/io.h>

int let_go_add(struct let_go *g, struct entry *e)
{
	struct entry **more = g->entries;

	if ((g->count & (g->count - 1)) == 0) {
		more = realloc(more, (g->count ? g->count * 2 : 1) * sizeof(*more));
		if (!more)
			return -ENOMEM;
		g->entries = more;
	}
	more[g->count++] = e;
	return 0;
}

static size_t lsns_of(const struct entry *e, uint64_t *lsns)
{
	size_t n = 0;

	lsns[n++] = e->lsn;
	if (e->dirty_lsn)
		lsns[n++] = e->dirty_lsn;
	for (size_t i = 0; i < e->absorbed_count; i++)
		lsns[n++] = e->absorbed[i];
	return n;
}

static int ack(struct capture *c, const struct let_go *g)
{
	cleanup_free uint64_t *lsns = NULL;
	size_t room = 0, count = 0;

	for (size_t i = 0; i < g->count; i++)
		room += 2 + g->entries[i]->absorbed_count;
	lsns = calloc(room ? room : 1, sizeof(*lsns));
	if (!lsns)
		return -ENOMEM;
	for (size_t i = 0; i < g->count; i++)
		count += lsns_of(g->entries[i], lsns + count);
	return journal_ack(c->journal, lsns, count);
}

int let_go_locked(struct capture *c, struct let_go *g, int error)
{
	int r = error ? error : ack(c, g);

	for (size_t i = 0; i < g->count && !r; i++)
		pending_remove(c->pending, g->entries[i]);
	free(g->entries);
	*g = (struct let_go){0};
	capture_settled_locked(c);
	return r;
}

int let_go_items_locked(
	struct capture *c, struct item *items, size_t count, bool (*which)(const struct item *), int error)
{
	struct let_go g = {0};
	int r = error;

	for (size_t i = 0; i < count && !r; i++) {
		if (!items[i].entry || (which && !which(&items[i])))
			continue;
		if (items[i].refused)
			pending_refuse(items[i].entry, -EIO);
		r = let_go_add(&g, items[i].entry);
	}
	r = let_go_locked(c, &g, r);
	for (size_t i = 0; i < count && !r; i++) {
		if (!which || which(&items[i]))
			items[i].entry = NULL;
	}
	return r;
}

int outbox_drop_locked(struct capture *c, struct entry *e)
{
	struct let_go g = {0};

	return let_go_locked(c, &g, let_go_add(&g, e));
}

int outbox_drop(struct capture *c, struct item *item)
{
	int r;

	mutex_lock(&c->lock);
	r = outbox_drop_locked(c, item->entry);
	mutex_unlock(&c->lock);
	if (r)
		return r;
	item->entry = NULL;
	c->released(c->released_arg);
	return 0;
}
