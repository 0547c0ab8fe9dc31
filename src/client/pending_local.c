/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The nodes that have anything pending: who they are, by id and by object, and which of them are being
 * written. Called by the queue and by capture; never touches the disk but for reads of the agreed state.
 */
#include "pending_own.h"

#include <errno.h>
#include <stdlib.h>

#include <syncfs/io.h>

#include "syncstate.h"

static struct object_key key_of(const struct stat_id *o)
{
	return (struct object_key){.dev = o->dev, .ino = o->ino, .btime_ns = o->btime_ns};
}

void local_free(struct pending *p, struct local *l)
{
	local_names_clear(p, l);
	free(l->names);
	free(l);
}

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

static int load_names(struct pending *p, struct local *l)
{
	struct base_row row;
	int r = syncstate_peek_base(p->state, &l->node, &row);

	if (r)
		return r == -ENOENT ? 0 : r;
	for (size_t i = 0; i < row.state.names_count && !r; i++)
		r = local_name_add(p, l, &row.state.names[i].parent, row.state.names[i].name);
	if (!l->object.ino)
		l->object = row.disk;
	base_row_fini(&row);
	return r;
}

int local_reload_names(struct pending *p, struct local *l)
{
	local_names_clear(p, l);
	return load_names(p, l);
}

int local_bind(struct pending *p, struct local *l, const struct stat_id *object)
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

void local_unbind(struct pending *p, const struct local *l)
{
	struct object_key key = key_of(&l->object);

	if (l->object.ino && map_get(p->by_object, &key, sizeof(key)) == l)
		map_remove(p->by_object, &key, sizeof(key));
}

struct local *local_get(
	struct pending *p, const struct id *node, enum kind kind, const struct stat_id *object, bool is_new)
{
	struct local *l = pending_find(p, node);

	if (l) {
		if (object && object->ino && !stat_id_same_object(object, &l->object)) {
			local_unbind(p, l);
			if (local_bind(p, l, object))
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
	if ((!is_new && load_names(p, l)) || local_bind(p, l, &l->object) ||
		map_put(p->by_node, node->b, ID_BYTES, l)) {
		local_unbind(p, l);
		local_free(p, l);
		return NULL;
	}
	return l;
}

struct local *pending_local(
	struct pending *p, const struct id *node, enum kind kind, const struct stat_id *object)
{
	return local_get(p, node, kind, object, false);
}

struct local *pending_bound(
	struct pending *p, const struct id *node, enum kind kind, const struct stat_id *object)
{
	return local_get(p, node, kind, object, true);
}

void pending_settle(struct pending *p, struct local *l)
{
	if (l->entries || l->pins || l->promises || l->dirty_lsn)
		return;
	local_unbind(p, l);
	map_remove(p->by_node, l->node.b, ID_BYTES);
	local_free(p, l);
}

void pending_set_dirty(struct pending *p, struct local *l, uint64_t lsn)
{
	bool was = l->dirty_lsn;

	l->dirty_lsn = lsn;
	if (was == (lsn != 0))
		return;
	if (lsn) {
		l->prev_dirty = NULL;
		l->next_dirty = p->first_dirty;
		if (l->next_dirty)
			l->next_dirty->prev_dirty = l;
		p->first_dirty = l;
		return;
	}
	if (l->next_dirty)
		l->next_dirty->prev_dirty = l->prev_dirty;
	if (l->prev_dirty)
		l->prev_dirty->next_dirty = l->next_dirty;
	else
		p->first_dirty = l->next_dirty;
	l->next_dirty = l->prev_dirty = NULL;
}

struct local *pending_first_dirty(const struct pending *p)
{
	return p->first_dirty;
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

void pending_forget_objects(struct pending *p)
{
	memset(p->recent, 0, sizeof(p->recent));
}
