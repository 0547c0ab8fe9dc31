/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A client of plan_world.h: what a user does to its disk and queue, and how the feed comes into R; as capture
 * and poller do it. Linked into tests only.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "plan_world.h"

/* ---- disk ---- */

uint8_t pw_object_new(struct pw_world *w, unsigned client, enum kind kind, uint32_t content, uint16_t mode)
{
	struct pw_client *c = &w->clients[client];

	if (c->objects_count == PW_OBJECTS - 1)
		pw_fault(w, "model: too many objects", 0);
	else
		c->objects_count++;
	c->objects[c->objects_count - 1] = (struct pw_object){
		.kind = (uint8_t)kind, .content = kind == KIND_DIR ? 0 : content, .mode = mode};
	return (uint8_t)(c->objects_count - 1);
}

void pw_cell_set(struct pw_client *c, uint8_t dir, uint8_t name, uint8_t object)
{
	uint8_t old = c->grid[dir][name];

	if (old) {
		c->objects[old].links--;
		c->objects[dir].children--;
	}
	c->grid[dir][name] = object;
	if (object) {
		c->objects[object].links++;
		c->objects[object].up = dir;
		c->objects[dir].children++;
	}
}

bool pw_is_under(const struct pw_client *c, uint8_t object, uint8_t dir)
{
	for (unsigned depth = 0; dir > 1 && depth < PW_OBJECTS; depth++) {
		if (dir == object)
			return true;
		dir = c->objects[dir].up;
	}
	return false;
}

/* ---- what a user does ---- */

void pw_enqueue(struct pw_world *w, unsigned client, const struct pw_op *op)
{
	struct pw_client *c = &w->clients[client];

	if (c->queue_count == PW_OPS) {
		pw_fault(w, "model: too many operations", op->node);
		return;
	}
	c->queue[c->queue_count++] = *op;
	c->entries[op->node]++;
	if (op->other)
		c->entries[op->other]++;
}

/* The cell of a name in a directory that is here; NULL: it is not. */
static uint8_t *cell(struct pw_client *c, uint8_t parent, uint8_t name)
{
	uint8_t dir = c->object_of[parent];

	return dir && c->objects[dir].kind == KIND_DIR ? &c->grid[dir][name] : NULL;
}

bool pw_create(struct pw_world *w, unsigned client, enum kind kind, uint8_t node, uint8_t parent,
	uint8_t name, uint32_t content)
{
	struct pw_client *c = &w->clients[client];
	struct pw_op op = {.type = OP_CREATE,
		.kind = (uint8_t)kind,
		.node = node,
		.parent = parent,
		.name = name,
		.has_mode = true,
		.mode = 0644,
		.content = content};
	uint8_t *at = cell(c, parent, name), object;

	if (!at || *at)
		return false;
	if (kind == KIND_DIR)
		op.content = 0;
	object = pw_object_new(w, client, kind, content, 0644);
	c->objects[object].node = node;
	c->object_of[node] = object;
	pw_cell_set(c, c->object_of[parent], name, object);
	pw_enqueue(w, client, &op);
	return true;
}

bool pw_write(struct pw_world *w, unsigned client, uint8_t node, uint32_t content)
{
	struct pw_client *c = &w->clients[client];
	struct pw_object *o = &c->objects[c->object_of[node]];
	const struct pw_op op = {.type = OP_WRITE, .kind = o->kind, .node = node, .content = content};

	if (!c->object_of[node] || o->kind == KIND_DIR)
		return false;
	o->content = content;
	pw_enqueue(w, client, &op);
	return true;
}

bool pw_chmod(struct pw_world *w, unsigned client, uint8_t node, uint16_t mode)
{
	struct pw_client *c = &w->clients[client];
	struct pw_object *o = &c->objects[c->object_of[node]];
	const struct pw_op op = {
		.type = OP_SETATTR, .kind = o->kind, .node = node, .has_mode = true, .mode = mode};

	if (!c->object_of[node] || o->kind == KIND_SYMLINK)
		return false;
	o->mode = mode;
	pw_enqueue(w, client, &op);
	return true;
}

static void forget(struct pw_client *c, uint8_t object)
{
	if (!c->objects[object].links)
		c->object_of[c->objects[object].node] = 0;
}

bool pw_rename(
	struct pw_world *w, unsigned client, uint8_t parent, uint8_t name, uint8_t to_parent, uint8_t to_name)
{
	struct pw_client *c = &w->clients[client];
	uint8_t *from = cell(c, parent, name), *to = cell(c, to_parent, to_name), object, other;
	struct pw_op op = {.type = OP_RENAME,
		.parent = parent,
		.name = name,
		.new_parent = to_parent,
		.new_name = to_name};

	if (!from || !to || !*from || *from == *to)
		return false;
	object = *from;
	other = *to;
	if (other &&
		(c->objects[other].children ||
			(c->objects[other].kind == KIND_DIR) != (c->objects[object].kind == KIND_DIR)))
		return false;
	if (pw_is_under(c, object, c->object_of[to_parent]))
		return false;
	op.node = c->objects[object].node;
	op.kind = c->objects[object].kind;
	op.other = other ? c->objects[other].node : 0;
	pw_cell_set(c, c->object_of[to_parent], to_name, object);
	pw_cell_set(c, c->object_of[parent], name, 0);
	c->objects[object].up = c->object_of[to_parent];
	if (other)
		forget(c, other);
	pw_enqueue(w, client, &op);
	return true;
}

bool pw_exchange(
	struct pw_world *w, unsigned client, uint8_t parent, uint8_t name, uint8_t to_parent, uint8_t to_name)
{
	struct pw_client *c = &w->clients[client];
	uint8_t *from = cell(c, parent, name), *to = cell(c, to_parent, to_name), a, b;
	struct pw_op op = {.type = OP_EXCHANGE,
		.parent = parent,
		.name = name,
		.new_parent = to_parent,
		.new_name = to_name};

	if (!from || !to || !*from || !*to || *from == *to)
		return false;
	a = *from;
	b = *to;
	if (pw_is_under(c, a, c->object_of[to_parent]) || pw_is_under(c, b, c->object_of[parent]))
		return false;
	op.node = c->objects[a].node;
	op.other = c->objects[b].node;
	pw_cell_set(c, c->object_of[parent], name, b);
	pw_cell_set(c, c->object_of[to_parent], to_name, a);
	pw_enqueue(w, client, &op);
	return true;
}

bool pw_link(struct pw_world *w, unsigned client, uint8_t node, uint8_t parent, uint8_t name)
{
	struct pw_client *c = &w->clients[client];
	uint8_t *at = cell(c, parent, name), object = c->object_of[node];
	const struct pw_op op = {.type = OP_LINK, .node = node, .parent = parent, .name = name};

	if (!at || *at || !object || c->objects[object].kind == KIND_DIR || c->objects[object].links >= 3)
		return false;
	pw_cell_set(c, c->object_of[parent], name, object);
	pw_enqueue(w, client, &op);
	return true;
}

bool pw_remove(struct pw_world *w, unsigned client, uint8_t parent, uint8_t name)
{
	struct pw_client *c = &w->clients[client];
	uint8_t *at = cell(c, parent, name), object;
	struct pw_op op = {.type = OP_UNLINK, .parent = parent, .name = name};

	if (!at || !*at || c->objects[*at].children)
		return false;
	object = *at;
	op.node = c->objects[object].node;
	if (c->objects[object].kind == KIND_DIR)
		op.type = OP_RMDIR;
	pw_cell_set(c, c->object_of[parent], name, 0);
	forget(c, object);
	pw_enqueue(w, client, &op);
	return true;
}

/* ---- the feed ---- */

static bool is_news(struct pw_world *w, struct pw_client *c, uint8_t node)
{
	const struct pw_row *n = &w->rows[node], *s = &c->s[node];
	struct dentry names[2][PW_LINKS];
	struct node_state states[2];
	struct plan plan;
	bool same = s->c == n->c && s->a == n->a && s->names_count == n->names_count;

	if (c->r[node].is)
		return n->seq >= c->r[node].seq;
	if (!s->is)
		return !n->tomb && n->seq >= c->gone[node];
	if (n->seq < s->seq)
		return false;
	for (unsigned i = 0; same && i < n->names_count; i++) {
		int at = pw_row_find(s, n->names[i].parent, n->names[i].name);

		same = at >= 0 && s->names[at].l == n->names[i].l;
	}
	if (n->tomb || !same)
		return true;
	pw_state(w, node, s, names[0], &states[0]);
	pw_state(w, node, n, names[1], &states[1]);
	if (plan_node(&states[0], false, &states[1], &plan))
		return true;
	same = plan.steps == PLAN_NOTHING;
	plan_fini(&plan);
	return !same;
}

void pw_poll(struct pw_world *w, unsigned client, unsigned count)
{
	struct pw_client *c = &w->clients[client];

	while (count--) {
		unsigned next = 0;

		for (unsigned i = 1; i < w->nodes_count; i++) {
			if (w->rows[i].is && w->rows[i].seq > c->cursor &&
				(!next || w->rows[i].seq < w->rows[next].seq))
				next = i;
		}
		if (!next) {
			c->cursor = w->seq;
			return;
		}
		/* All nodes of one seq go in one page. */
		for (unsigned i = 1; i < w->nodes_count; i++) {
			if (w->rows[i].is && w->rows[i].seq == w->rows[next].seq && is_news(w, c, (uint8_t)i))
				c->r[i] = w->rows[i];
		}
		c->cursor = w->rows[next].seq;
	}
}

/* ---- the end ---- */

bool pw_is_quiet(const struct pw_world *w, unsigned client)
{
	const struct pw_client *c = &w->clients[client];

	for (unsigned i = 1; i < w->nodes_count; i++) {
		if (c->r[i].is)
			return false;
	}
	return !c->queue_count && c->cursor == w->seq && !c->want_scan;
}

static void compare_name(struct pw_world *w, struct pw_client *c, uint8_t dir, uint8_t name)
{
	uint8_t node = w->grid[dir][name], object = c->grid[c->object_of[dir]][name];
	const struct pw_row *row = &w->rows[node];
	const struct pw_object *o = &c->objects[object];

	if (!node && !object)
		return;
	if (!node || !object || c->object_of[node] != object || o->node != node)
		pw_fault(w, node ? "disk: a name is missing or another's" : "disk: a name too many",
			node ? node : o->node);
	else if (o->kind != row->kind || o->content != row->content)
		pw_fault(w, "disk: other content", node);
	else if (o->mode != row->mode && row->kind != KIND_SYMLINK)
		pw_fault(w, "disk: other mode", node);
	else if (!c->s[node].is || c->s[node].c != row->c || c->s[node].content != row->content ||
		c->s[node].names_count != row->names_count)
		pw_fault(w, "S is not what the server has", node);
}

void pw_compare(struct pw_world *w, unsigned client)
{
	struct pw_client *c = &w->clients[client];

	for (unsigned d = 0; d < w->nodes_count && !w->fault[0]; d++) {
		if (w->rows[d].kind != KIND_DIR || w->rows[d].tomb || !w->rows[d].is)
			continue;
		if (!c->object_of[d]) {
			pw_fault(w, "disk: a directory is missing", d);
			return;
		}
		for (unsigned i = 0; i < w->names_count; i++)
			compare_name(w, c, (uint8_t)d, (uint8_t)i);
	}
}
