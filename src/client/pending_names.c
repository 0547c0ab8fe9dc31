/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The names that the queue and its locals have: who names one, who lies there, and what else is in the same
 * directory. Called by the rest of pending*.c and, for the locals' names, by capture; knows nothing of nodes
 * beyond their ids.
 */
#include "pending_own.h"

#include <errno.h>
#include <stdlib.h>

size_t name_key(struct name_key *key, const struct id *parent, const char *name)
{
	size_t len = strnlen(name, NAME_MAX_BYTES);

	key->parent = *parent;
	memcpy(key->name, name, len);
	return ID_BYTES + len;
}

static struct pending_name *find(const struct pending *p, const struct id *parent, const char *name)
{
	struct name_key key;

	return map_get(p->names, &key, name_key(&key, parent, name));
}

/* n has this name in parent from now on, besides the one it has. The list of a directory keeps its first, so
 * that the map is left alone. On -ENOMEM nothing has changed. */
static int enter_maps(
	struct pending *p, struct pending_name *n, const struct id *parent, struct pending_name **ret_first)
{
	struct pending_name *first = map_get(p->by_parent, parent->b, ID_BYTES);
	struct name_key key;
	size_t len = name_key(&key, parent, n->name);

	if (map_put(p->names, &key, len, n))
		return -ENOMEM;
	if (!first && map_put(p->by_parent, parent->b, ID_BYTES, n)) {
		map_remove(p->names, &key, len);
		return -ENOMEM;
	}
	*ret_first = first;
	return 0;
}

static void join_list(struct pending_name *n, struct pending_name *first)
{
	n->prev = first;
	n->next = first ? first->next : NULL;
	if (n->next)
		n->next->prev = n;
	if (first)
		first->next = n;
}

static void take_out(struct pending *p, struct pending_name *n)
{
	struct name_key key;

	map_remove(p->names, &key, name_key(&key, &n->parent, n->name));
	if (n->next)
		n->next->prev = n->prev;
	if (n->prev)
		n->prev->next = n->next;
	else if (n->next)
		(void)map_put(p->by_parent, n->parent.b, ID_BYTES, n->next); /* is there: needs no memory */
	else
		map_remove(p->by_parent, n->parent.b, ID_BYTES);
}

static struct pending_name *get(struct pending *p, const struct id *parent, const char *name)
{
	struct pending_name *n = find(p, parent, name), *first;
	size_t len = strnlen(name, NAME_MAX_BYTES);

	if (n)
		return n;
	n = calloc(1, sizeof(*n) + len + 1);
	if (!n)
		return NULL;
	n->parent = *parent;
	memcpy(n->name, name, len);
	if (enter_maps(p, n, parent, &first)) {
		free(n);
		return NULL;
	}
	join_list(n, first);
	return n;
}

static void drop_if_unused(struct pending *p, struct pending_name *n)
{
	if (!n || n->entries.first || n->holders)
		return;
	take_out(p, n);
	free(n);
}

/* ---- entries ---- */

static void link_in(struct pending_name *n, struct entry_link *link, struct entry *e)
{
	*link = (struct entry_link){.entry = e, .next = n->entries.first};
	if (link->next)
		link->next->prev = link;
	else
		n->entries.last = link;
	n->entries.first = link;
}

static void link_out(struct pending *p, struct pending_name **of, struct entry_link *link)
{
	struct pending_name *n = *of;

	if (!n)
		return;
	if (link->next)
		link->next->prev = link->prev;
	else
		n->entries.last = link->prev;
	if (link->prev)
		link->prev->next = link->next;
	else
		n->entries.first = link->next;
	*link = (struct entry_link){0};
	*of = NULL;
	drop_if_unused(p, n);
}

int pending_names_link(struct pending *p, struct entry *e)
{
	struct pending_name *n = e->name ? get(p, &e->parent, e->name) : NULL, *new = NULL;

	if (e->name && !n)
		return -ENOMEM;
	if (e->new_name)
		new = get(p, &e->new_parent, e->new_name);
	if (e->new_name && !new) {
		drop_if_unused(p, n);
		return -ENOMEM;
	}
	e->named = n;
	e->new_named = new;
	if (n)
		link_in(n, &e->of_name, e);
	if (new)
		link_in(new, &e->of_new_name, e);
	return 0;
}

void pending_names_unlink_new(struct pending *p, struct entry *e)
{
	link_out(p, &e->new_named, &e->of_new_name);
}

void pending_names_unlink(struct pending *p, struct entry *e)
{
	link_out(p, &e->named, &e->of_name);
	pending_names_unlink_new(p, e);
}

bool pending_has_name(const struct pending *p, const struct id *parent, const char *name)
{
	const struct pending_name *n = find(p, parent, name);

	return n && n->entries.first;
}

/* ---- locals ---- */

bool local_has_name(const struct local *l, const struct id *parent, const char *name)
{
	for (size_t i = 0; i < l->names_count; i++) {
		const struct pending_name *n = l->names[i]->at;

		if (id_equal(&n->parent, parent) && strcmp(n->name, name) == 0)
			return true;
	}
	return false;
}

int local_name_add(struct pending *p, struct local *l, const struct id *parent, const char *name)
{
	struct local_name **more, *ln;

	if (local_has_name(l, parent, name))
		return 0;
	more = realloc(l->names, (l->names_count + 1) * sizeof(*more));
	ln = calloc(1, sizeof(*ln));
	if (more)
		l->names = more;
	if (more && ln)
		ln->at = get(p, parent, name);
	if (!ln || !ln->at) {
		free(ln);
		return -ENOMEM;
	}
	ln->local = l;
	ln->next = ln->at->holders;
	if (ln->next)
		ln->next->prev = ln;
	ln->at->holders = ln;
	more[l->names_count++] = ln;
	return 0;
}

void local_name_remove(struct pending *p, struct local *l, const struct id *parent, const char *name)
{
	for (size_t i = 0; i < l->names_count; i++) {
		struct local_name *ln = l->names[i];

		if (!id_equal(&ln->at->parent, parent) || strcmp(ln->at->name, name) != 0)
			continue;
		l->names[i] = l->names[--l->names_count];
		if (ln->next)
			ln->next->prev = ln->prev;
		if (ln->prev)
			ln->prev->next = ln->next;
		else
			ln->at->holders = ln->next;
		drop_if_unused(p, ln->at);
		free(ln);
		return;
	}
}

void local_names_clear(struct pending *p, struct local *l)
{
	while (l->names_count) {
		const struct pending_name *n = l->names[l->names_count - 1]->at;

		local_name_remove(p, l, &n->parent, n->name);
	}
}

struct local *pending_holder(const struct pending *p, const struct id *parent, const char *name)
{
	const struct pending_name *n = find(p, parent, name);

	for (struct local_name *ln = n ? n->holders : NULL; ln; ln = ln->next) {
		if (ln->local->entries)
			return ln->local;
	}
	return NULL;
}

/* ---- directories that become others ---- */

/* n is what `into` is from now on, in another directory. */
static void entries_follow(struct pending_name *n, struct pending_name *into, const struct id *parent)
{
	for (struct entry_link *link = n->entries.first; link; link = link->next) {
		struct entry *e = link->entry;

		if (link == &e->of_name) {
			e->parent = *parent;
			e->named = into;
		} else {
			e->new_parent = *parent;
			e->new_named = into;
		}
	}
}

/* There is one of that name already. n goes. */
static void merge(struct pending_name *n, struct pending_name *into)
{
	struct local_name *last = NULL;

	entries_follow(n, into, &into->parent);
	for (struct local_name *ln = n->holders; ln; ln = ln->next) {
		ln->at = into;
		last = ln;
	}
	if (last) {
		last->next = into->holders;
		if (last->next)
			last->next->prev = last;
		into->holders = n->holders;
	}
	if (n->entries.last) {
		n->entries.last->next = into->entries.first;
		if (into->entries.first)
			into->entries.first->prev = n->entries.last;
		else
			into->entries.last = n->entries.last;
		into->entries.first = n->entries.first;
	}
	free(n);
}

int pending_names_move(struct pending *p, const struct id *from, const struct id *to)
{
	struct pending_name *n, *there, *first;

	while (!id_equal(from, to) && (n = map_get(p->by_parent, from->b, ID_BYTES))) {
		there = find(p, to, n->name);
		if (!there && enter_maps(p, n, to, &first))
			return -ENOMEM;
		take_out(p, n);
		if (there) {
			merge(n, there);
			continue;
		}
		entries_follow(n, n, to);
		n->parent = *to;
		join_list(n, first);
	}
	return 0;
}

void pending_names_free(struct pending *p)
{
	const void *key;
	size_t pos = 0, len;
	void *value;

	while (p->names && map_next(p->names, &pos, &key, &len, &value)) {
		struct pending_name *n = value;

		while (n->holders) {
			struct local_name *ln = n->holders;

			n->holders = ln->next;
			free(ln);
		}
		free(n);
	}
	map_free(p->names);
	map_free(p->by_parent);
}
