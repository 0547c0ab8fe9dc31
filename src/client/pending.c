/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The queue behind pending.h, and where nodes lie by it. Called by capture and, under capture's lock, by the
 * uploader, the applier and the scan; never touches the disk but for reads of the agreed state.
 */
#include "pending_own.h"

#include <errno.h>
#include <stdlib.h>

#include <syncfs/io.h>

#include "promise.h"
#include "syncstate.h"

struct pending *pending_new(struct syncstate *state)
{
	struct pending *p = calloc(1, sizeof(*p));

	if (!p)
		return NULL;
	p->state = state;
	p->by_node = map_new();
	p->by_object = map_new();
	p->names = map_new();
	p->by_parent = map_new();
	if (!p->by_node || !p->by_object || !p->names || !p->by_parent) {
		pending_free(p);
		return NULL;
	}
	return p;
}

void entry_free(struct entry *e)
{
	if (!e)
		return;
	free(e->name);
	free(e->new_name);
	free(e->target);
	free(e->absorbed);
	free(e);
}

void pending_free(struct pending *p)
{
	const void *key;
	size_t pos = 0, len;
	void *value;

	if (!p)
		return;
	while (p->first) {
		struct entry *e = p->first;

		p->first = e->next;
		entry_free(e);
	}
	while (p->by_node && map_next(p->by_node, &pos, &key, &len, &value)) {
		free(((struct local *)value)->names);
		free(value);
	}
	pending_names_free(p);
	map_free(p->by_node);
	map_free(p->by_object);
	free(p);
}

/* ---- the queue ---- */

/* Where l, and the other node (NULL: none), lie after e. */
static int apply_names(struct pending *p, struct local *l, struct local *other, struct entry *e)
{
	int r = 0;

	switch (e->type) {
	case OP_CREATE:
	case OP_LINK:
		r = local_name_add(p, l, &e->parent, e->name);
		break;
	case OP_UNLINK:
	case OP_RMDIR:
		local_name_remove(p, l, &e->parent, e->name);
		e->remains = l->names_count > 0;
		break;
	case OP_RENAME:
		if (other)
			local_name_remove(p, other, &e->new_parent, e->new_name);
		e->remains = other && other->names_count > 0;
		local_name_remove(p, l, &e->parent, e->name);
		r = local_name_add(p, l, &e->new_parent, e->new_name);
		break;
	case OP_EXCHANGE:
		local_name_remove(p, other, &e->new_parent, e->new_name);
		local_name_remove(p, l, &e->parent, e->name);
		r = local_name_add(p, l, &e->new_parent, e->new_name);
		if (!r)
			r = local_name_add(p, other, &e->parent, e->name);
		break;
	case OP_WRITE:
	case OP_SETATTR:
		break;
	}
	return r;
}

/* In the order of the queue; what is put there late is mostly one of the last. */
static void list_add(struct entry_list *list, struct entry_link *link, struct entry *e)
{
	struct entry_link *after = list->last;

	while (after && after->entry->place > e->place)
		after = after->prev;
	*link = (struct entry_link){.entry = e, .prev = after, .next = after ? after->next : list->first};
	if (link->next)
		link->next->prev = link;
	else
		list->last = link;
	if (after)
		after->next = link;
	else
		list->first = link;
}

static void list_remove(struct entry_list *list, struct entry_link *link)
{
	if (!link->entry)
		return;
	if (link->next)
		link->next->prev = link->prev;
	else
		list->last = link->prev;
	if (link->prev)
		link->prev->next = link->next;
	else
		list->first = link->next;
	*link = (struct entry_link){0};
}

static void node_link(struct local *l, struct entry *e)
{
	l->entries++;
	list_add(&l->queued, &e->of_node, e);
	if (CONTENT_TYPES & 1u << e->type)
		list_add(&l->contents, &e->of_content, e);
}

static void other_link(struct local *l, struct entry *e)
{
	l->entries++;
	list_add(&l->queued, &e->of_other, e);
}

static void node_unlink(struct pending *p, struct entry *e)
{
	struct local *l = e->of_node.entry ? pending_find(p, &e->node) : NULL;

	if (!l)
		return;
	list_remove(&l->queued, &e->of_node);
	list_remove(&l->contents, &e->of_content);
	l->entries--;
	pending_settle(p, l);
}

static void other_unlink(struct pending *p, struct entry *e)
{
	struct local *l = e->of_other.entry ? pending_find(p, &e->other) : NULL;

	if (!l)
		return;
	list_remove(&l->queued, &e->of_other);
	l->entries--;
	pending_settle(p, l);
}

int pending_reload_names(struct pending *p)
{
	struct local *l;
	int r = 0;

	for (size_t pos = 0; !r && pending_next_local(p, &pos, &l);)
		r = local_reload_names(p, l);
	for (struct entry *e = p->first; e && !r; e = e->next)
		r = apply_names(p, pending_find(p, &e->node),
			id_is_none(&e->other) ? NULL : pending_find(p, &e->other), e);
	return r;
}

int pending_enqueue(struct pending *p, struct entry *e, const struct stat_id *object)
{
	struct local *l = local_get(p, &e->node, e->kind, object, e->type == OP_CREATE), *other = NULL;
	int r = l ? pending_names_link(p, e) : -ENOMEM;

	if (!r && !id_is_none(&e->other)) {
		other = pending_local(p, &e->other, 0, NULL);
		r = other ? 0 : -ENOMEM;
	}
	if (!r)
		r = apply_names(p, l, other, e);
	if (r) {
		pending_names_unlink(p, e);
		entry_free(e);
		if (l)
			pending_settle(p, l);
		return r;
	}
	e->place = ++p->last_place;
	node_link(l, e);
	if (other)
		other_link(other, e);
	e->next = NULL;
	e->prev = p->last;
	if (p->last)
		p->last->next = e;
	else
		p->first = e;
	p->last = e;
	p->count++;
	return 0;
}

/* Who waits for e has one operation less to wait for. */
static void let_go_promises(struct entry *e)
{
	while (e->promises) {
		struct promise_ref *ref = e->promises;

		e->promises = ref->of_entry;
		ref->entry = NULL;
		ref->promise->left--;
	}
}

void pending_refuse(struct entry *e, int error)
{
	for (struct promise_ref *ref = e->promises; ref; ref = ref->of_entry)
		ref->promise->error = error;
}

void pending_remove(struct pending *p, struct entry *e)
{
	if (e->prev)
		e->prev->next = e->next;
	else
		p->first = e->next;
	if (e->next)
		e->next->prev = e->prev;
	else
		p->last = e->prev;
	p->count--;
	pending_names_unlink(p, e);
	let_go_promises(e);
	node_unlink(p, e);
	other_unlink(p, e);
	entry_free(e);
}

int pending_absorb(struct pending *p, struct entry *into, struct entry *e)
{
	size_t count = into->absorbed_count + e->absorbed_count + 2;
	uint64_t *more = realloc(into->absorbed, count * sizeof(*more));

	if (!more)
		return -ENOMEM;
	into->absorbed = more;
	more[into->absorbed_count++] = e->lsn;
	if (e->dirty_lsn)
		more[into->absorbed_count++] = e->dirty_lsn;
	for (size_t i = 0; i < e->absorbed_count; i++)
		more[into->absorbed_count++] = e->absorbed[i];
	pending_remove(p, e);
	return 0;
}

int entry_absorb(struct entry *into, uint64_t lsn)
{
	uint64_t *more = realloc(into->absorbed, (into->absorbed_count + 1) * sizeof(*more));

	if (!more)
		return -ENOMEM;
	into->absorbed = more;
	more[into->absorbed_count++] = lsn;
	return 0;
}

int pending_retarget(struct pending *p, struct entry *e, const struct id *from, const struct id *to)
{
	bool is_other = id_equal(&e->other, from), gives_up_a_name = is_other && id_equal(&e->node, to);
	struct local *l = id_is_none(to) || gives_up_a_name ? NULL : pending_local(p, to, e->kind, NULL);

	if (!l && !id_is_none(to) && !gives_up_a_name)
		return -ENOMEM;
	if (is_other)
		other_unlink(p, e);
	else
		node_unlink(p, e);
	if (gives_up_a_name) {
		/* Renamed over another name of its own, which the server still has there: only the old name
		 * goes. */
		pending_names_unlink_new(p, e);
		e->type = OP_UNLINK;
		e->other = e->new_parent = ID_NONE;
		free(e->new_name);
		e->new_name = NULL;
	} else if (is_other) {
		e->other = *to;
		if (l)
			other_link(l, e);
	} else {
		e->node = *to;
		if (l)
			node_link(l, e);
	}
	return 0;
}

struct entry *pending_first(const struct pending *p)
{
	return p->first;
}

struct entry *pending_last(const struct pending *p)
{
	return p->last;
}

size_t pending_count(const struct pending *p)
{
	return p->count;
}

struct entry *pending_unsent(const struct pending *p, const struct id *node, unsigned types)
{
	const struct local *l = pending_find(p, node);
	const struct entry_list *list;

	if (!l)
		return NULL;
	list = types & ~CONTENT_TYPES ? &l->queued : &l->contents;
	for (const struct entry_link *link = list->last; link; link = link->prev) {
		struct entry *e = link->entry;

		if (link != &e->of_other && !e->in_flight && (types & 1u << e->type))
			return e;
	}
	return NULL;
}

static void replace_id(struct id *id, const struct id *from, const struct id *to)
{
	if (id_equal(id, from))
		*id = *to;
}

/*
 * What l holds goes over to the local of the same node; the object is that of l, as the agreed state has it,
 * unless l is gone here and the other is not.
 */
static int merge_locals(struct pending *p, struct local *l, struct local *into)
{
	struct stat_id object = l->names_count || !into->names_count ? l->object : into->object;
	int r = 0;

	for (size_t i = 0; i < l->names_count && !r; i++)
		r = local_name_add(p, into, &l->names[i]->at->parent, l->names[i]->at->name);
	while (l->queued.first) {
		struct entry *e = l->queued.first->entry;

		if (l->queued.first == &e->of_other) {
			list_remove(&l->queued, &e->of_other);
			other_link(into, e);
		} else {
			list_remove(&l->queued, &e->of_node);
			list_remove(&l->contents, &e->of_content);
			node_link(into, e);
		}
	}
	into->pins += l->pins;
	into->promises += l->promises;
	if (!into->dirty_lsn)
		pending_set_dirty(p, into, l->dirty_lsn);
	pending_set_dirty(p, l, 0);
	if (into->changed_ms < l->changed_ms)
		into->changed_ms = l->changed_ms;
	local_unbind(p, l);
	local_unbind(p, into);
	local_free(p, l);
	return r ? r : local_bind(p, into, &object);
}

int pending_alias(struct pending *p, const struct id *from, const struct id *to)
{
	struct local *l = pending_find(p, from), *into = pending_find(p, to);
	int r = pending_names_move(p, from, to);

	pending_forget_objects(p);
	for (struct entry_link *link = l ? l->queued.first : NULL; link; link = link->next) {
		replace_id(&link->entry->node, from, to);
		replace_id(&link->entry->other, from, to);
		for (struct promise_ref *ref = link->entry->promises; ref; ref = ref->of_entry)
			replace_id(&ref->promise->node, from, to);
	}
	if (r || !l)
		return r;
	map_remove(p->by_node, from->b, ID_BYTES);
	if (into && into != l)
		return merge_locals(p, l, into);
	l->node = *to;
	return map_put(p->by_node, to->b, ID_BYTES, l);
}

/* ---- where ---- */

int pending_locate(struct pending *p, const struct id *node, struct id *ret_parent, char **ret_name)
{
	struct local *l = pending_find(p, node);
	char *name;

	if (!l)
		return syncstate_peek_parent(p->state, node, ret_parent, ret_name);
	if (!l->names_count)
		return -ENOENT;
	name = strdup(l->names[0]->at->name);
	if (!name)
		return -ENOMEM;
	*ret_parent = l->names[0]->at->parent;
	*ret_name = name;
	return 0;
}

int pending_dir_path(struct pending *p, const struct id *dir, struct buf *out)
{
	char *names[TREE_MAX_DEPTH];
	struct id at = *dir;
	int depth = 0, r = 0;

	while (!id_equal(&at, &ID_ROOT)) {
		if (depth == TREE_MAX_DEPTH) {
			r = -ELOOP;
			break;
		}
		r = pending_locate(p, &at, &at, &names[depth]);
		if (r)
			break;
		depth++;
	}
	for (int i = depth; i-- > 0;) {
		if (!r) {
			buf_put_str(out, names[i]);
			if (i)
				buf_put_u8(out, '/');
		}
		free(names[i]);
	}
	return r ? r : out->error;
}
