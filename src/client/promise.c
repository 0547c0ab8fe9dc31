/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which operations a file depends on: its own, and those that make and move the directories above it. What
 * these depend on themselves goes before them anyway (outbox). Called by await and outbox under capture's
 * lock; never waits.
 */
#include "promise.h"

#include <errno.h>
#include <stdlib.h>

#include <syncfs/limits.h>
#include <syncfs/map.h>

#include "capture_internal.h"

#define OF_CONTENT (1u << OP_CREATE | 1u << OP_WRITE)
#define OF_PLACE (1u << OP_CREATE | 1u << OP_RENAME | 1u << OP_EXCHANGE)

/* The directories above the node, wherever it has a name, as a set of ids. */
static int find_above(struct capture *c, const struct local *l, struct map *above)
{
	int r = 0;

	for (size_t i = 0; i < l->names_count && !r; i++) {
		struct id at = l->names[i]->at->parent;

		while (!r && !id_equal(&at, &ID_ROOT) && !map_get(above, at.b, ID_BYTES)) {
			char *name = NULL;

			r = map_put(above, at.b, ID_BYTES, above);
			if (!r)
				r = pending_locate(c->pending, &at, &at, &name);
			free(name);
		}
		if (r == -ENOENT)
			r = 0; /* on its way out */
	}
	return r;
}

static bool is_above(const struct map *above, const struct id *id)
{
	return !id_is_none(id) && map_get(above, id->b, ID_BYTES);
}

static int add_ref(struct promise *p, struct entry *e)
{
	struct promise_ref *ref = calloc(1, sizeof(*ref));

	if (!ref)
		return -ENOMEM;
	ref->promise = p;
	ref->entry = e;
	ref->of_promise = p->refs;
	p->refs = ref;
	ref->of_entry = e->promises;
	e->promises = ref;
	p->refs_count++;
	p->left++;
	return 0;
}

/* The entry is one of the promise's: sent as soon as it can be, also from under a writer. */
static int follow(struct promise *p, struct entry *e)
{
	if (id_equal(&e->node, &p->node) && (OF_CONTENT & 1u << e->type)) {
		e->synced = true;
		e->not_before_ms = 0;
	}
	return add_ref(p, e);
}

static int follow_own(struct promise *p, const struct local *l, bool *ret_is_new)
{
	int r = 0;

	for (struct entry_link *link = l->queued.first; link && !r; link = link->next) {
		if (link != &link->entry->of_other && link->entry->type == OP_CREATE)
			*ret_is_new = true;
		r = follow(p, link->entry);
	}
	return r;
}

/* What says where a directory above is; each operation once. */
static int follow_above(struct promise *p, const struct local *dir, const struct map *above)
{
	int r = 0;

	for (struct entry_link *link = dir->queued.first; link && !r; link = link->next) {
		struct entry *e = link->entry;
		bool by_node = is_above(above, &e->node) && (OF_PLACE & 1u << e->type);

		if (id_equal(&e->node, &p->node) || id_equal(&e->other, &p->node))
			continue;
		if (link == &e->of_other ? !by_node && e->type == OP_EXCHANGE : by_node)
			r = follow(p, e);
	}
	return r;
}

static int follow_all(struct capture *c, struct promise *p, const struct local *l, const struct map *above,
	bool *ret_is_new)
{
	const void *key;
	size_t pos = 0, len;
	void *value;
	int r = follow_own(p, l, ret_is_new);

	while (!r && map_next(above, &pos, &key, &len, &value)) {
		const struct local *dir;
		struct id id;

		memcpy(id.b, key, ID_BYTES);
		dir = pending_find(c->pending, &id);
		if (dir)
			r = follow_above(p, dir, above);
	}
	return r;
}

static void drop_refs(struct promise *p)
{
	while (p->refs) {
		struct promise_ref *ref = p->refs, **at;

		p->refs = ref->of_promise;
		if (ref->entry) {
			for (at = &ref->entry->promises; *at != ref;)
				at = &(*at)->of_entry;
			*at = ref->of_entry;
		}
		free(ref);
	}
	p->refs_count = p->left = 0;
}

static void unresolve(struct capture *c, struct promise *p)
{
	struct local *l = id_is_none(&p->node) ? NULL : pending_find(c->pending, &p->node);

	drop_refs(p);
	p->node = ID_NONE;
	p->error = 0;
	if (!l)
		return;
	l->promises--;
	pending_settle(c->pending, l);
}

static int resolve(struct capture *c, struct promise *p)
{
	struct map *above;
	struct local *l;
	bool is_new = false;
	int r = capture_resolve_locked(c, &p->object, &p->node);

	if (r) {
		p->node = ID_NONE;
		return r > 0 ? -EAGAIN : r;
	}
	l = pending_local(c->pending, &p->node, KIND_FILE, &p->object);
	if (!l) {
		p->node = ID_NONE;
		return -ENOMEM;
	}
	l->promises++;
	above = map_new();
	r = above ? find_above(c, l, above) : -ENOMEM;
	if (!r)
		r = follow_all(c, p, l, above, &is_new);
	map_free(above);
	if (!r && !is_new && !syncstate_peek_has_base(c->state, &p->node))
		r = -EAGAIN;
	if (r)
		unresolve(c, p);
	else if (p->left)
		capture_wake_locked(c);
	return r;
}

void promise_begin_locked(struct capture *c, struct promise *p)
{
	p->next = c->promises;
	c->promises = p;
}

int promise_look_locked(struct capture *c, struct promise *p)
{
	int r = id_is_none(&p->node) ? resolve(c, p) : 0;

	if (r)
		return r;
	return p->error ? p->error : p->left ? 1 : 0;
}

void promise_end_locked(struct capture *c, struct promise *p)
{
	struct promise **at = &c->promises;

	unresolve(c, p);
	while (*at != p)
		at = &(*at)->next;
	*at = p->next;
}

void promise_forget_all_locked(struct capture *c)
{
	for (struct promise *p = c->promises; p; p = p->next)
		unresolve(c, p);
}
