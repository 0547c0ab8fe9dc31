/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The queue and the locals behind pending.h. Called by capture and, under capture's lock, by the uploader,
 * the applier and the scan; never touches the disk but for reads of the agreed state.
 */
#include "pending.h"

#include <errno.h>
#include <stdlib.h>

#include <syncfs/clock.h>
#include <syncfs/io.h>
#include <syncfs/map.h>

#include "promise.h"
#include "syncstate.h"

#define RECENT_COUNT 64 /* power of two */

struct object_key {
	uint64_t dev, ino;
	int64_t btime_ns;
};

struct recent {
	struct object_key key;
	struct id node;
};

struct pending {
	struct syncstate *state;
	struct entry *first, *last;
	size_t count;
	struct map *by_node; /* id -> local */
	struct map *by_object; /* object_key -> local */
	struct map *names; /* name_key -> how many operations of the queue name it */
	struct recent recent[RECENT_COUNT]; /* objects found in S of late: parents, mostly */
};

static struct object_key key_of(const struct stat_id *o)
{
	return (struct object_key){.dev = o->dev, .ino = o->ino, .btime_ns = o->btime_ns};
}

struct pending *pending_new(struct syncstate *state)
{
	struct pending *p = calloc(1, sizeof(*p));

	if (!p)
		return NULL;
	p->state = state;
	p->by_node = map_new();
	p->by_object = map_new();
	p->names = map_new();
	if (!p->by_node || !p->by_object || !p->names) {
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

static void forget_names(struct local *l)
{
	while (l->names_count)
		free(l->names[--l->names_count].name);
	free(l->names);
	l->names = NULL;
}

static void local_free(struct local *l)
{
	forget_names(l);
	free(l);
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
	while (p->by_node && map_next(p->by_node, &pos, &key, &len, &value))
		local_free(value);
	map_free(p->by_node);
	map_free(p->by_object);
	map_free(p->names);
	free(p);
}

/* ---- locals ---- */

struct local *pending_find(const struct pending *p, const struct id *node)
{
	return map_get(p->by_node, node->b, ID_BYTES);
}

int pending_resolve(struct pending *p, const struct stat_id *object, struct id *ret_node)
{
	struct object_key key = key_of(object);
	struct local *l = map_get(p->by_object, &key, sizeof(key));
	struct recent *recent = &p->recent[object->ino & (RECENT_COUNT - 1)];
	int r;

	if (l) {
		*ret_node = l->node;
		return 0;
	}
	if (recent->key.ino && memcmp(&recent->key, &key, sizeof(key)) == 0) {
		*ret_node = recent->node;
		return 0;
	}
	r = syncstate_peek_object(p->state, object, ret_node);
	if (!r && (!object->mode || S_ISDIR(object->mode)))
		*recent = (struct recent){.key = key, .node = *ret_node};
	return r;
}

bool local_has_name(const struct local *l, const struct id *parent, const char *name)
{
	for (size_t i = 0; i < l->names_count; i++) {
		if (id_equal(&l->names[i].parent, parent) && strcmp(l->names[i].name, name) == 0)
			return true;
	}
	return false;
}

static int name_append(struct local *l, const struct id *parent, const char *name)
{
	struct dentry *more = realloc(l->names, (l->names_count + 1) * sizeof(*more));
	char *copy = strdup(name);

	if (more)
		l->names = more;
	if (!more || !copy) {
		free(copy);
		return -ENOMEM;
	}
	more[l->names_count++] = (struct dentry){.parent = *parent, .name = copy};
	return 0;
}

int local_name_add(struct local *l, const struct id *parent, const char *name)
{
	if (local_has_name(l, parent, name))
		return 0;
	return name_append(l, parent, name);
}

void local_name_remove(struct local *l, const struct id *parent, const char *name)
{
	for (size_t i = 0; i < l->names_count; i++) {
		struct dentry *d = &l->names[i];

		if (!id_equal(&d->parent, parent) || strcmp(d->name, name) != 0)
			continue;
		free(d->name);
		*d = l->names[--l->names_count];
		return;
	}
}

static int load_names(struct pending *p, struct local *l)
{
	struct base_row row;
	int r = syncstate_peek_base(p->state, &l->node, &row);

	if (r == -ENOENT)
		return 0;
	if (r)
		return r;
	l->names = row.state.names;
	l->names_count = row.state.names_count;
	row.state.names = NULL;
	row.state.names_count = 0;
	if (!l->object.ino)
		l->object = row.disk;
	base_row_fini(&row);
	return 0;
}

static int bind_object(struct pending *p, struct local *l, const struct stat_id *object)
{
	struct object_key key = key_of(object);
	struct recent *recent = &p->recent[object->ino & (RECENT_COUNT - 1)];

	if (!object->ino)
		return 0;
	if (memcmp(&recent->key, &key, sizeof(key)) == 0)
		*recent = (struct recent){0};
	l->object = *object;
	return map_put(p->by_object, &key, sizeof(key), l);
}

static void unbind_object(struct pending *p, const struct local *l)
{
	struct object_key key = key_of(&l->object);

	if (l->object.ino && map_get(p->by_object, &key, sizeof(key)) == l)
		map_remove(p->by_object, &key, sizeof(key));
}

static struct local *get_local(
	struct pending *p, const struct id *node, enum kind kind, const struct stat_id *object, bool is_new)
{
	struct local *l = pending_find(p, node);

	if (l) {
		if (object && object->ino && !stat_id_same_object(object, &l->object)) {
			unbind_object(p, l);
			if (bind_object(p, l, object))
				return NULL;
		}
		return l;
	}
	l = calloc(1, sizeof(*l));
	if (!l)
		return NULL;
	l->node = *node;
	l->kind = kind;
	if (object)
		l->object = *object;
	if ((!is_new && load_names(p, l)) || bind_object(p, l, &l->object) ||
		map_put(p->by_node, node->b, ID_BYTES, l)) {
		unbind_object(p, l);
		local_free(l);
		return NULL;
	}
	return l;
}

struct local *pending_local(
	struct pending *p, const struct id *node, enum kind kind, const struct stat_id *object)
{
	return get_local(p, node, kind, object, false);
}

struct local *pending_bound(
	struct pending *p, const struct id *node, enum kind kind, const struct stat_id *object)
{
	return get_local(p, node, kind, object, true);
}

void pending_settle(struct pending *p, struct local *l)
{
	if (l->entries || l->pins || l->promises || l->dirty_lsn)
		return;
	unbind_object(p, l);
	map_remove(p->by_node, l->node.b, ID_BYTES);
	local_free(l);
}

bool pending_next_local(const struct pending *p, size_t *pos, struct local **ret_local)
{
	const void *key;
	size_t len;
	void *value;

	if (!map_next(p->by_node, pos, &key, &len, &value))
		return false;
	*ret_local = value;
	return true;
}

/* ---- names in the queue ---- */

size_t name_key(struct name_key *key, const struct id *parent, const char *name)
{
	size_t len = strnlen(name, NAME_MAX_BYTES);

	key->parent = *parent;
	memcpy(key->name, name, len);
	return ID_BYTES + len;
}

static int count_name(struct pending *p, const struct id *parent, const char *name, int by)
{
	struct name_key key;
	size_t len = name ? name_key(&key, parent, name) : 0;
	intptr_t count = name ? (intptr_t)map_get(p->names, &key, len) + by : 0;

	if (!name)
		return 0;
	if (count > 0)
		return map_put(p->names, &key, len, (void *)count);
	map_remove(p->names, &key, len);
	return 0;
}

static int count_names(struct pending *p, const struct entry *e, int by)
{
	int r = count_name(p, &e->parent, e->name, by);

	return r ? r : count_name(p, &e->new_parent, e->new_name, by);
}

bool pending_has_name(const struct pending *p, const struct id *parent, const char *name)
{
	struct name_key key;

	return map_get(p->names, &key, name_key(&key, parent, name)) != NULL;
}

/* ---- the queue ---- */

/* Where l, and the other node (NULL: none), lie after e. */
static int follow_names(struct local *l, struct local *other, struct entry *e)
{
	int r = 0;

	switch (e->type) {
	case OP_CREATE:
	case OP_LINK:
		r = local_name_add(l, &e->parent, e->name);
		break;
	case OP_UNLINK:
	case OP_RMDIR:
		local_name_remove(l, &e->parent, e->name);
		e->remains = l->names_count > 0;
		break;
	case OP_RENAME:
		if (other)
			local_name_remove(other, &e->new_parent, e->new_name);
		e->remains = other && other->names_count > 0;
		local_name_remove(l, &e->parent, e->name);
		r = local_name_add(l, &e->new_parent, e->new_name);
		break;
	case OP_EXCHANGE:
		local_name_remove(other, &e->new_parent, e->new_name);
		local_name_remove(l, &e->parent, e->name);
		r = local_name_add(l, &e->new_parent, e->new_name);
		if (!r)
			r = local_name_add(other, &e->parent, e->name);
		break;
	case OP_WRITE:
	case OP_SETATTR:
		break;
	}
	return r;
}

static int apply_names(struct pending *p, struct local *l, struct entry *e)
{
	struct local *other = id_is_none(&e->other) ? NULL : pending_local(p, &e->other, 0, NULL);
	int r = 0;

	if (!id_is_none(&e->other) && !other)
		return -ENOMEM;
	r = follow_names(l, other, e);
	if (!r && other)
		other->entries++;
	return r;
}

int pending_reload_names(struct pending *p)
{
	struct local *l;
	int r = 0;

	for (size_t pos = 0; !r && pending_next_local(p, &pos, &l);) {
		forget_names(l);
		r = load_names(p, l);
	}
	for (struct entry *e = p->first; e && !r; e = e->next)
		r = follow_names(pending_find(p, &e->node),
			id_is_none(&e->other) ? NULL : pending_find(p, &e->other), e);
	return r;
}

int pending_enqueue(struct pending *p, struct entry *e, const struct stat_id *object)
{
	struct local *l = get_local(p, &e->node, e->kind, object, e->type == OP_CREATE);
	int r = l ? apply_names(p, l, e) : -ENOMEM;

	if (!r)
		r = count_names(p, e, 1);
	if (r) {
		entry_free(e);
		return r;
	}
	l->entries++;
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
	const struct id *nodes[2] = {&e->node, &e->other};

	if (e->prev)
		e->prev->next = e->next;
	else
		p->first = e->next;
	if (e->next)
		e->next->prev = e->prev;
	else
		p->last = e->prev;
	p->count--;
	(void)count_names(p, e, -1); /* less needs no memory */
	let_go_promises(e);
	for (int i = 0; i < 2; i++) {
		struct local *l = id_is_none(nodes[i]) ? NULL : pending_find(p, nodes[i]);

		if (!l)
			continue;
		l->entries--;
		pending_settle(p, l);
	}
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
	bool gives_up_a_name = id_equal(&e->other, from) && id_equal(&e->node, to);
	struct local *l = id_is_none(to) || gives_up_a_name ? NULL : pending_local(p, to, e->kind, NULL);

	if (!l && !id_is_none(to) && !gives_up_a_name)
		return -ENOMEM;
	if (l)
		l->entries++;
	if (gives_up_a_name) {
		/* Renamed over another name of its own, which the server still has there: only the old name
		 * goes. */
		(void)count_name(p, &e->new_parent, e->new_name, -1);
		e->type = OP_UNLINK;
		e->other = e->new_parent = ID_NONE;
		free(e->new_name);
		e->new_name = NULL;
	} else if (id_equal(&e->other, from)) {
		e->other = *to;
	} else {
		e->node = *to;
	}
	l = pending_find(p, from);
	if (l) {
		l->entries--;
		pending_settle(p, l);
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
	struct local *l = pending_find(p, node);
	unsigned left = l ? l->entries : 0;

	for (struct entry *e = p->last; e && left; e = e->prev) {
		if (id_equal(&e->other, node))
			left--;
		if (!id_equal(&e->node, node))
			continue;
		left--;
		if (!e->in_flight && (types & 1u << e->type))
			return e;
	}
	return NULL;
}

void pending_forget_objects(struct pending *p)
{
	memset(p->recent, 0, sizeof(p->recent));
}

static void replace_id(struct id *id, const struct id *from, const struct id *to)
{
	if (id_equal(id, from))
		*id = *to;
}

/* What l holds goes over to the local of the same node; the object is that of l, as the agreed state has it.
 */
static int merge_locals(struct pending *p, struct local *l, struct local *into)
{
	struct stat_id object = l->object;
	int r = 0;

	for (size_t i = 0; i < l->names_count && !r; i++)
		r = local_name_add(into, &l->names[i].parent, l->names[i].name);
	into->entries += l->entries;
	into->pins += l->pins;
	into->promises += l->promises;
	if (!into->dirty_lsn)
		into->dirty_lsn = l->dirty_lsn;
	if (into->changed_ms < l->changed_ms)
		into->changed_ms = l->changed_ms;
	unbind_object(p, l);
	unbind_object(p, into);
	local_free(l);
	return r ? r : bind_object(p, into, &object);
}

int pending_alias(struct pending *p, const struct id *from, const struct id *to)
{
	struct local *l = pending_find(p, from), *into = pending_find(p, to);
	const void *key;
	size_t pos = 0, len;
	void *value;
	int r = 0;

	pending_forget_objects(p);
	for (struct entry *e = p->first; e && !r; e = e->next) {
		bool moves = id_equal(&e->parent, from) || id_equal(&e->new_parent, from);

		if (moves)
			(void)count_names(p, e, -1);
		replace_id(&e->node, from, to);
		replace_id(&e->other, from, to);
		replace_id(&e->parent, from, to);
		replace_id(&e->new_parent, from, to);
		for (struct promise_ref *ref = e->promises; ref; ref = ref->of_entry)
			replace_id(&ref->promise->node, from, to);
		if (moves)
			r = count_names(p, e, 1);
	}
	while (map_next(p->by_node, &pos, &key, &len, &value)) {
		struct local *each = value;

		for (size_t i = 0; i < each->names_count; i++)
			replace_id(&each->names[i].parent, from, to);
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
	name = strdup(l->names[0].name);
	if (!name)
		return -ENOMEM;
	*ret_parent = l->names[0].parent;
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
