/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A client of plan_world.h: what a user does to its disk, its queue, how results settle into S, and how the
 * feed comes into R; as capture, outbox and poller do it. Linked into tests only.
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

/* ---- numbers and bases ---- */

/* What earlier operations of the batch made. */
struct made {
	struct {
		uint8_t node, parent, name;
		bool is_l;
		uint32_t opno;
	} of[2 * PW_OPS];
	unsigned count;
};

static void made_c(struct made *m, uint8_t node, uint32_t opno)
{
	m->of[m->count].node = node;
	m->of[m->count].is_l = false;
	m->of[m->count++].opno = opno;
}

static void made_l(struct made *m, uint8_t node, uint8_t parent, uint8_t name, uint32_t opno)
{
	made_c(m, node, opno);
	m->of[m->count - 1].is_l = true;
	m->of[m->count - 1].parent = parent;
	m->of[m->count - 1].name = name;
}

static int64_t base_c(const struct pw_client *c, const struct made *m, uint8_t node)
{
	for (unsigned i = m->count; i-- > 0;) {
		if (!m->of[i].is_l && m->of[i].node == node)
			return -(int64_t)m->of[i].opno;
	}
	return c->s[node].is ? c->s[node].c : 0;
}

static int64_t base_l(
	const struct pw_client *c, const struct made *m, uint8_t node, uint8_t parent, uint8_t name)
{
	int at;

	for (unsigned i = m->count; i-- > 0;) {
		if (m->of[i].is_l && m->of[i].node == node && m->of[i].parent == parent &&
			m->of[i].name == name)
			return -(int64_t)m->of[i].opno;
	}
	at = c->s[node].is ? pw_row_find(&c->s[node], parent, name) : -1;
	return at < 0 ? 0 : c->s[node].names[at].l;
}

static void set_bases(const struct pw_client *c, const struct made *m, const struct pw_op *p, struct op *op)
{
	if (p->type == OP_WRITE || p->type == OP_UNLINK)
		op->base_c = base_c(c, m, p->node);
	if (p->type == OP_UNLINK || p->type == OP_RMDIR || p->type == OP_RENAME || p->type == OP_EXCHANGE)
		op->base_l = base_l(c, m, p->node, p->parent, p->name);
	if (p->other && p->type == OP_RENAME)
		op->other_base_c = base_c(c, m, p->other);
	if (p->type == OP_EXCHANGE)
		op->other_base_l = base_l(c, m, p->other, p->new_parent, p->new_name);
}

static void remember(struct made *m, const struct pw_op *p, uint32_t opno)
{
	if (p->type == OP_CREATE || p->type == OP_WRITE)
		made_c(m, p->node, opno);
	if (p->type == OP_CREATE || p->type == OP_LINK)
		made_l(m, p->node, p->parent, p->name, opno);
	if (p->type == OP_RENAME || p->type == OP_EXCHANGE)
		made_l(m, p->node, p->new_parent, p->new_name, opno);
	if (p->type == OP_EXCHANGE)
		made_l(m, p->other, p->parent, p->name, opno);
}

static const struct result *send_one(
	struct pw_world *w, unsigned client, const struct pw_op *p, struct made *m)
{
	struct pw_client *c = &w->clients[client];
	struct pw_row content = {.kind = p->kind, .content = p->content};
	struct dentry none;
	struct node_state n;
	struct op op = {.type = p->type,
		.kind = p->kind,
		.node = w->ids[p->node],
		.other = p->other ? w->ids[p->other] : ID_NONE,
		.parent = w->ids[p->parent],
		.new_parent = w->ids[p->new_parent],
		.name = w->names[p->name],
		.new_name = w->names[p->new_name],
		.fields = p->has_mode ? OP_HAS_MODE : 0,
		.mode = p->mode,
		.opno = ++c->opno};

	pw_state(w, p->node, &content, &none, &n);
	op.content = n.content;
	if (p->type == OP_CREATE || p->type == OP_WRITE)
		op.target = n.target;
	set_bases(c, m, p, &op);
	remember(m, p, c->opno);
	return pw_commit(w, client, &op);
}

/* ---- results ---- */

/* The server is still where S says: that is to be applied, unless it has told something newer. */
static void expect_old(struct pw_client *c, uint8_t node)
{
	if (!c->r[node].is)
		c->r[node] = c->s[node];
}

static void put_or_gone(struct pw_client *c, uint8_t node, uint32_t seq)
{
	if (c->s[node].names_count)
		return;
	c->s[node].is = false;
	if (seq)
		c->gone[node] = seq;
}

/* Our node became one of the server's. */
static void follow_alias(struct pw_world *w, unsigned client, uint8_t from, uint8_t to)
{
	struct pw_client *c = &w->clients[client];
	uint8_t mine = c->object_of[from];

	for (unsigned i = 0; i < c->queue_count; i++) {
		struct pw_op *p = &c->queue[i];
		uint8_t *at[] = {&p->node, &p->other, &p->parent, &p->new_parent};

		for (unsigned k = 0; k < 4; k++) {
			if (*at[k] == from)
				*at[k] = to;
		}
	}
	c->entries[to] = (uint8_t)(c->entries[to] + c->entries[from]);
	c->entries[from] = 0;
	c->object_of[from] = 0;
	if (!mine)
		return;
	c->objects[mine].node = to;
	c->object_of[to] = mine;
}

/*
 * Our new node is one that lies here elsewhere, whose move to this place has not come yet: as a node of its
 * own it dies, and leaves the place to the one that comes.
 */
static void settle_doubled(
	struct pw_client *c, const struct pw_op *p, const struct pw_row *row, uint8_t parent)
{
	c->s[p->node] = *row;
	c->s[p->node].c = 0;
	pw_row_add(&c->s[p->node], parent, p->name, 0);
	c->r[p->node] = *row;
	c->r[p->node].tomb = true;
}

static uint8_t settle_create(
	struct pw_world *w, unsigned client, const struct pw_op *p, const struct result *res, uint8_t parent)
{
	struct pw_client *c = &w->clients[client];
	uint8_t node = pw_node(w, &res->node);
	struct pw_row row = {.is = true,
		.kind = p->kind,
		.seq = (uint32_t)res->seq,
		.c = (uint32_t)res->c,
		.a = node == p->node ? (uint32_t)res->a : 0,
		.content = p->content,
		.mode = p->mode,
		.object = c->object_of[p->node]};

	if (node != p->node && c->s[node].is && c->object_of[node]) {
		settle_doubled(c, p, &row, parent);
		return p->node;
	}
	if (res->outcome == OUTCOME_KEPT) {
		c->r[node] = row;
		pw_row_add(&c->r[node], pw_node(w, &res->parent), pw_name(w, res->name), (uint32_t)res->l);
	}
	pw_row_add(&row, parent, p->name, res->outcome == OUTCOME_KEPT ? 0 : (uint32_t)res->l);
	c->s[node] = row;
	return node;
}

static void settle_rename(
	struct pw_world *w, unsigned client, const struct pw_op *p, const struct result *res, uint8_t node)
{
	struct pw_client *c = &w->clients[client];
	struct pw_row *s = &c->s[node];
	bool done = res->outcome == OUTCOME_OK || res->outcome == OUTCOME_SAME;
	bool ours = pw_node(w, &res->node) == node; /* not: the feed tells of both */

	if (res->outcome == OUTCOME_KEPT && ours) {
		c->r[node] = *s;
		pw_row_remove(&c->r[node], p->parent, p->name);
		c->r[node].seq = (uint32_t)res->seq;
		pw_row_add(&c->r[node], pw_node(w, &res->parent), pw_name(w, res->name), (uint32_t)res->l);
	} else if (!done && ours) {
		expect_old(c, node);
	} else if (done && ours) {
		s->seq = (uint32_t)res->seq;
	}
	if (p->other && c->s[p->other].is) {
		if (!done)
			expect_old(c, p->other);
		pw_row_remove(&c->s[p->other], p->new_parent, p->new_name);
		put_or_gone(c, p->other, 0); /* it may live on where the server moved it meanwhile */
	}
	pw_row_remove(s, p->parent, p->name);
	pw_row_add(s, p->new_parent, p->new_name, done ? (uint32_t)res->l : 0);
}

static void settle_exchange(
	struct pw_client *c, const struct pw_op *p, const struct result *res, uint8_t node)
{
	struct pw_row *s = &c->s[node], *other = &c->s[p->other];
	bool done = res->outcome == OUTCOME_OK || res->outcome == OUTCOME_SAME;

	if (!other->is)
		return;
	if (!done) {
		expect_old(c, node);
		expect_old(c, p->other);
	}
	pw_row_remove(s, p->parent, p->name);
	pw_row_remove(other, p->new_parent, p->new_name);
	pw_row_add(s, p->new_parent, p->new_name, done ? (uint32_t)res->l : 0);
	pw_row_add(other, p->parent, p->name, done ? (uint32_t)res->l : 0);
}

static void settle_names(struct pw_world *w, struct pw_client *c, const struct pw_op *p,
	const struct result *res, uint8_t node)
{
	bool done = res->outcome == OUTCOME_OK || res->outcome == OUTCOME_SAME;
	bool other = pw_node(w, &res->node) != node; /* a copy of ours was meant */
	struct pw_row *s = &c->s[node];

	if (other)
		done = false;
	else if (done)
		s->seq = (uint32_t)res->seq;
	else
		expect_old(c, node);
	if (p->type == OP_LINK)
		pw_row_add(s, p->parent, p->name, done ? (uint32_t)res->l : 0);
	else
		pw_row_remove(s, p->parent, p->name);
	put_or_gone(c, node, done ? (uint32_t)res->seq : 0);
}

/* As write and setattr settle: versions when the server took it, what was sent in any case. */
static void settle_held(struct pw_world *w, struct pw_client *c, const struct pw_op *p,
	const struct result *res, uint8_t node)
{
	struct pw_row *s = &c->s[node];
	bool done = res->outcome == OUTCOME_OK || res->outcome == OUTCOME_SAME;

	if (done && pw_node(w, &res->node) == node) {
		s->a = (uint32_t)res->a;
		s->seq = (uint32_t)res->seq;
		if (p->type == OP_WRITE)
			s->c = (uint32_t)res->c;
	}
	if (p->has_mode)
		s->mode = p->mode;
	if (p->type == OP_WRITE)
		s->content = p->content;
	s->object = c->object_of[node];
}

static void settle(struct pw_world *w, unsigned client, const struct pw_op *sent, const struct result *res,
	uint8_t *alias)
{
	struct pw_client *c = &w->clients[client];
	struct pw_op op = *sent;
	uint8_t *at[] = {&op.node, &op.other, &op.parent, &op.new_parent}, node;

	for (unsigned k = 0; k < 4; k++) {
		if (alias[*at[k]])
			*at[k] = alias[*at[k]];
	}
	node = op.node;
	if (op.type == OP_CREATE) {
		node = settle_create(w, client, sent, res, op.parent);
		if (node != sent->node)
			alias[sent->node] = node;
		return;
	}
	if (!c->s[node].is)
		return;
	switch (op.type) {
	case OP_WRITE:
	case OP_SETATTR:
		settle_held(w, c, &op, res, node);
		break;
	case OP_RENAME:
		settle_rename(w, client, &op, res, node);
		break;
	case OP_EXCHANGE:
		settle_exchange(c, &op, res, node);
		break;
	default:
		settle_names(w, c, &op, res, node);
		break;
	}
}

void pw_send(struct pw_world *w, unsigned client, unsigned count)
{
	struct pw_client *c = &w->clients[client];
	const struct result *results[PW_OPS];
	uint8_t alias[PW_NODES] = {0};
	struct made made = {.count = 0};

	count = count < c->queue_count ? count : c->queue_count;
	for (unsigned i = 0; i < count; i++) {
		results[i] = send_one(w, client, &c->queue[i], &made);
		if (!results[i] || w->fault[0])
			return;
	}
	for (unsigned i = 0; i < count; i++)
		settle(w, client, &c->queue[i], results[i], alias);
	for (unsigned i = 0; i < count; i++) {
		c->entries[c->queue[i].node]--;
		if (c->queue[i].other)
			c->entries[c->queue[i].other]--;
	}
	c->queue_count -= count;
	memmove(c->queue, c->queue + count, c->queue_count * sizeof(c->queue[0]));
	for (unsigned i = 1; i < w->nodes_count; i++) {
		if (alias[i])
			follow_alias(w, client, (uint8_t)i, alias[i]);
	}
	for (unsigned i = 1; i < w->nodes_count; i++) {
		/* Nobody's any more: a scan finds it, when somebody meets it. */
		if (c->object_of[i] && !c->s[i].is && !c->entries[i]) {
			c->objects[c->object_of[i]].node = PW_NOBODY;
			c->object_of[i] = 0;
		}
	}
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
