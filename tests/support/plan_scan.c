/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The scan of plan_world.h: what lies on the disk in memory and is not what S says becomes operations, as the
 * real scan does it. Linked into tests only.
 */
#include <string.h>

#include "plan_world.h"

static uint8_t holder_in_s(const struct pw_world *w, const struct pw_client *c, uint8_t parent, uint8_t name)
{
	for (unsigned i = 1; i < w->nodes_count; i++) {
		if (c->s[i].is && pw_row_find(&c->s[i], parent, name) >= 0)
			return (uint8_t)i;
	}
	return 0;
}

static bool is_at(const struct pw_client *c, struct pw_name d, uint8_t object)
{
	uint8_t dir = c->object_of[d.parent];

	return object && dir && c->grid[dir][d.name] == object;
}

static void found_unknown(struct pw_world *w, unsigned client, uint8_t parent, uint8_t name, uint8_t object)
{
	struct pw_client *c = &w->clients[client];
	struct pw_object *o = &c->objects[object];
	uint8_t replaced = holder_in_s(w, c, parent, name);
	struct pw_op op = {.type = OP_CREATE,
		.kind = o->kind,
		.parent = parent,
		.name = name,
		.content = o->content,
		.has_mode = true,
		.mode = o->mode};

	if (replaced && !c->object_of[replaced] && c->s[replaced].kind == KIND_FILE && o->kind == KIND_FILE) {
		op.type = OP_WRITE;
		op.node = replaced;
	} else if (replaced && !c->object_of[replaced]) {
		pw_enqueue(w, client,
			&(struct pw_op){.type = c->s[replaced].kind == KIND_DIR ? OP_RMDIR : OP_UNLINK,
				.node = replaced,
				.parent = parent,
				.name = name});
		op.node = pw_new_node(w);
	} else {
		op.node = pw_new_node(w);
	}
	if (replaced && !c->object_of[replaced])
		c->lifted[replaced] |= (uint8_t)(1u << pw_row_find(&c->s[replaced], parent, name));
	o->node = op.node;
	c->object_of[op.node] = object;
	pw_enqueue(w, client, &op);
}

static void find_everywhere(struct pw_world *w, unsigned client, uint8_t object);

/* A further or another name of a known object. Who had the name before moves first; a ring of them is for
 * others to test. */
static void found_moved(struct pw_world *w, unsigned client, uint8_t parent, uint8_t name, uint8_t object)
{
	struct pw_client *c = &w->clients[client];
	uint8_t node = c->objects[object].node, holder = holder_in_s(w, c, parent, name);
	struct pw_op op = {.type = OP_LINK, .node = node, .parent = parent, .name = name};
	const struct pw_row *s = &c->s[node];

	c->moving[node] = true;
	if (holder && c->object_of[holder] && c->moving[holder])
		pw_fault(w, "model: a ring of moves", node);
	else if (holder && c->object_of[holder])
		find_everywhere(w, client, c->object_of[holder]);
	for (unsigned i = 0; i < s->names_count && op.type == OP_LINK; i++) {
		bool free = !(c->lifted[node] & 1u << i) && !is_at(c, s->names[i], object);

		if (!free && s->kind != KIND_DIR)
			continue;
		c->lifted[node] |= (uint8_t)(1u << i);
		op.type = OP_RENAME;
		op.parent = s->names[i].parent;
		op.name = s->names[i].name;
		op.new_parent = parent;
		op.new_name = name;
		op.other = holder && !(c->lifted[holder] & 1u << pw_row_find(&c->s[holder], parent, name))
			? holder
			: 0;
	}
	pw_enqueue(w, client, &op);
	if (op.other)
		c->lifted[holder] |= (uint8_t)(1u << pw_row_find(&c->s[holder], parent, name));
}

static void found_known(struct pw_world *w, unsigned client, uint8_t parent, uint8_t name, uint8_t object)
{
	struct pw_client *c = &w->clients[client];
	const struct pw_object *o = &c->objects[object];
	const struct pw_row *s = &c->s[o->node];
	struct pw_op op = {.node = o->node, .kind = o->kind, .content = o->content};

	if (!s->is || c->was_busy[o->node])
		return;
	if (pw_row_find(s, parent, name) < 0 || c->lifted[o->node] & 1u << pw_row_find(s, parent, name)) {
		if (!c->moving[o->node])
			found_moved(w, client, parent, name, object);
		return;
	}
	op.type = o->content == s->content ? OP_SETATTR : OP_WRITE;
	op.has_mode = o->mode != s->mode;
	op.mode = o->mode;
	if (!c->entries[o->node] && (o->content != s->content || op.has_mode))
		pw_enqueue(w, client, &op);
}

/* All names of one object. */
static void find_everywhere(struct pw_world *w, unsigned client, uint8_t object)
{
	struct pw_client *c = &w->clients[client];

	for (unsigned dir = 1; dir < c->objects_count && c->objects[object].links; dir++) {
		for (unsigned i = 0; i < w->names_count && c->objects[dir].children; i++) {
			if (c->grid[dir][i] == object && c->objects[dir].node != PW_NOBODY)
				found_known(w, client, c->objects[dir].node, (uint8_t)i, object);
		}
	}
}

static void scan_dir(struct pw_world *w, unsigned client, uint8_t dir)
{
	struct pw_client *c = &w->clients[client];

	for (unsigned i = 0; i < w->names_count; i++) {
		uint8_t object = c->grid[dir][i], parent = c->objects[dir].node;

		if (!object)
			continue;
		if (c->objects[object].node == PW_NOBODY)
			found_unknown(w, client, parent, (uint8_t)i, object);
		else
			found_known(w, client, parent, (uint8_t)i, object);
		if (c->objects[object].kind == KIND_DIR)
			scan_dir(w, client, object);
	}
}

/* Deepest first: S of what is gone still tells where it lay. */
static void found_missing(struct pw_world *w, unsigned client, uint8_t node)
{
	struct pw_client *c = &w->clients[client];
	struct pw_row s = c->s[node];

	if (!s.is || c->was_busy[node])
		return;
	for (unsigned i = 1; i < w->nodes_count && s.kind == KIND_DIR && !c->object_of[node]; i++) {
		for (unsigned k = 0; k < c->s[i].names_count && c->s[i].is; k++) {
			if (c->s[i].names[k].parent == node) {
				found_missing(w, client, (uint8_t)i);
				break;
			}
		}
	}
	for (unsigned i = 0; i < s.names_count; i++) {
		if (c->lifted[node] & 1u << i || is_at(c, s.names[i], c->object_of[node]))
			continue;
		c->lifted[node] |= (uint8_t)(1u << i);
		pw_enqueue(w, client,
			&(struct pw_op){.type = s.kind == KIND_DIR ? OP_RMDIR : OP_UNLINK,
				.node = node,
				.parent = s.names[i].parent,
				.name = s.names[i].name});
	}
}

void pw_scan(struct pw_world *w, unsigned client)
{
	struct pw_client *c = &w->clients[client];

	c->want_scan = false;
	memset(c->moving, 0, sizeof(c->moving));
	memcpy(c->was_busy, c->entries, sizeof(c->was_busy));
	memset(c->lifted, 0, sizeof(c->lifted));
	scan_dir(w, client, 1);
	for (unsigned i = 1; i < w->nodes_count; i++)
		found_missing(w, client, (uint8_t)i);
}
