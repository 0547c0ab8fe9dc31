/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The queue of a client of plan_world.h on its way: bases, sending, and how results settle into S, as the
 * outbox does it. Linked into tests only.
 */
#include <string.h>

#include "plan_world.h"

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
	if (p->type == OP_EXCHANGE || (p->other && p->type == OP_RENAME))
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
	struct pw_client *c, const struct pw_op *p, const struct pw_row *row, uint8_t parent, uint32_t l)
{
	c->s[p->node] = *row;
	pw_row_add(&c->s[p->node], parent, p->name, l);
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

	if (node != p->node && c->s[node].is) {
		settle_doubled(c, p, &row, parent, (uint32_t)res->l);
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

/* A move that has lost leaves the name in its version. */
static uint32_t name_l(const struct pw_row *row, uint8_t parent, uint8_t name)
{
	int at = pw_row_find(row, parent, name);

	return at < 0 ? 0 : row->names[at].l;
}

static void settle_rename(
	struct pw_world *w, unsigned client, const struct pw_op *p, const struct result *res, uint8_t node)
{
	struct pw_client *c = &w->clients[client];
	struct pw_row *s = &c->s[node];
	bool done = res->outcome == OUTCOME_OK || res->outcome == OUTCOME_SAME;
	bool ours = pw_node(w, &res->node) == node; /* not: the feed tells of both */
	uint32_t old_l = name_l(s, p->parent, p->name);

	if (res->outcome == OUTCOME_KEPT && ours) {
		c->r[node] = *s;
		pw_row_remove(&c->r[node], p->parent, p->name);
		c->r[node].seq = (uint32_t)res->seq;
		pw_row_add(&c->r[node], pw_node(w, &res->parent), pw_name(w, res->name), (uint32_t)res->l);
	} else if (res->outcome != OUTCOME_KEPT && !done) {
		expect_old(c, node);
	} else if (done && ours) {
		s->seq = (uint32_t)res->seq;
	}
	if (p->other && c->s[p->other].is) {
		/* It may live on where the server had moved it, or have stayed for what is equal to it. */
		if (res->outcome != OUTCOME_OK && !(done && ours))
			expect_old(c, p->other);
		pw_row_remove(&c->s[p->other], p->new_parent, p->new_name);
		put_or_gone(c, p->other, 0);
	}
	pw_row_remove(s, p->parent, p->name);
	pw_row_add(s, p->new_parent, p->new_name,
		done				       ? (uint32_t)res->l
			: res->outcome == OUTCOME_KEPT ? 0
						       : old_l);
}

static void settle_exchange(
	struct pw_client *c, const struct pw_op *p, const struct result *res, uint8_t node)
{
	struct pw_row *s = &c->s[node], *other = &c->s[p->other];
	bool done = res->outcome == OUTCOME_OK || res->outcome == OUTCOME_SAME;
	uint32_t l, other_l;

	if (!other->is)
		return;
	if (!done) {
		expect_old(c, node);
		expect_old(c, p->other);
	}
	l = done ? (uint32_t)res->l : name_l(s, p->parent, p->name);
	other_l = done ? (uint32_t)res->l : name_l(other, p->new_parent, p->new_name);
	pw_row_remove(s, p->parent, p->name);
	pw_row_remove(other, p->new_parent, p->new_name);
	pw_row_add(s, p->new_parent, p->new_name, l);
	pw_row_add(other, p->parent, p->name, other_l);
}

static void settle_names(struct pw_world *w, struct pw_client *c, const struct pw_op *p,
	const struct result *res, uint8_t node)
{
	bool done = res->outcome == OUTCOME_OK || res->outcome == OUTCOME_SAME;
	bool ours = pw_node(w, &res->node) == node; /* not: a copy of ours was meant */
	struct pw_row *s = &c->s[node];

	if (!done)
		expect_old(c, node);
	else if (ours)
		s->seq = (uint32_t)res->seq;
	if (p->type == OP_LINK)
		pw_row_add(s, p->parent, p->name, done ? (uint32_t)res->l : 0);
	else
		pw_row_remove(s, p->parent, p->name);
	put_or_gone(c, node, done && ours ? (uint32_t)res->seq : 0);
}

/* As write and setattr settle: versions when the server took it, what was sent in any case. */
static void settle_held(struct pw_world *w, struct pw_client *c, const struct pw_op *p,
	const struct result *res, uint8_t node)
{
	struct pw_row *s = &c->s[node];
	bool done = res->outcome == OUTCOME_OK || res->outcome == OUTCOME_SAME;

	if (done)
		s->a = (uint32_t)res->a;
	if (done && p->type == OP_WRITE)
		s->c = (uint32_t)res->c;
	if (done && pw_node(w, &res->node) == node)
		s->seq = (uint32_t)res->seq;
	if (p->has_mode)
		s->mode = p->mode;
	if (p->type == OP_WRITE)
		s->content = p->content;
	if (c->object_of[node])
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
