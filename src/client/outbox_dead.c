/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files that were made and are gone again, of which more has to be told than that (else the queue forgets
 * them, see outbox_ghost.c). Their bytes are no more, so nobody may ever see them: all that happened to one
 * goes in one batch, which the server commits at once. Called by the uploader for a batch that has been read;
 * sends nothing itself.
 */
#include "outbox.h"

#include <errno.h>
#include <stdlib.h>

#include <syncfs/io.h>

#include "capture_internal.h"

#define TRIES_MAX 240 /* then it goes without the rest: something that it waits for may last for days */

static bool is_dead_create(const struct item *i)
{
	return i->entry && i->op.type == OP_CREATE && i->op.kind == KIND_FILE && !i->dir_path;
}

/* All operations of the queue on the node that item `at` makes are in the batch. */
static bool is_whole(struct capture *c, const struct outbox *o, size_t at)
{
	const struct id *node = &o->items[at].op.node;
	const struct local *l;
	unsigned left;

	mutex_lock(&c->lock);
	l = pending_find(c->pending, node);
	left = l ? l->entries : 0;
	mutex_unlock(&c->lock);
	for (size_t k = at; k < o->count && left; k++) {
		const struct item *i = &o->items[k];

		left -= i->entry && (id_equal(&i->op.node, node) || id_equal(&i->op.other, node));
	}
	return !left;
}

/* Item `at`, and what depends on it. */
static void put_off(struct capture *c, struct outbox *o, size_t at, uint64_t delay_ms, bool *off)
{
	o->items[at].unstable++;
	outbox_put_off(c, &o->items[at], delay_ms);
	off[at] = true;
	for (size_t k = at + 1; k < o->count; k++) {
		for (size_t i = at; i < k && !off[k] && o->items[k].entry; i++)
			off[k] = off[i] && outbox_depends(&o->items[k], &o->items[i]);
		if (off[k] && o->items[k].entry)
			outbox_put_off(c, &o->items[k], 0);
	}
}

int outbox_put_off_dead(struct capture *c, struct outbox *o, bool full, uint64_t delay_ms)
{
	cleanup_free bool *off = calloc(o->count + 1, sizeof(*off));
	bool again = off, any = false;
	size_t first = 0;

	if (!off)
		return -ENOMEM;
	while (first < o->count && !o->items[first].entry)
		first++;
	while (again) {
		again = false;
		for (size_t i = first; i < o->count; i++) {
			/* The first of a full batch would never go. */
			if (!is_dead_create(&o->items[i]) || (full && i == first) ||
				o->items[i].unstable >= TRIES_MAX || is_whole(c, o, i))
				continue;
			put_off(c, o, i, full ? 0 : delay_ms, off);
			again = any = true;
		}
	}
	return any;
}
