/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The applier of plan_world.h, on a disk in memory: what plan_node() and plan_spot() say is
 * carried out as apply_place.c does it. Linked into tests only. Every object that goes is checked to be what
 * was agreed.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "plan_world.h"

enum state { JOB_TODO, JOB_ACTIVE, JOB_DONE, JOB_WAIT };

struct job {
	uint8_t node;
	struct pw_row s, r;
	struct plan plan;
	enum state state;
	bool outdated, bound, ring;
};

struct round {
	struct pw_world *w;
	struct pw_client *c;
	unsigned client, count, rings;
	struct job jobs[PW_NODES];
	struct job *of[PW_NODES];
};

static int place_job(struct round *rd, struct job *j);

/* ---- spots ---- */

struct spot {
	uint8_t dir, name, object; /* dir: its object */
};

static int spot_find(const struct round *rd, uint8_t parent, uint8_t name, struct spot *ret)
{
	ret->dir = rd->c->object_of[parent];
	ret->name = name;
	if (!ret->dir)
		return -ENOENT;
	ret->object = rd->c->grid[ret->dir][name];
	return 0;
}

/* Where something is to go. */
static int spot_open(struct round *rd, uint8_t parent, uint8_t name, struct spot *ret)
{
	struct job *pj = rd->of[parent];

	if (pj && pj->state <= JOB_ACTIVE && pj->plan.steps & (PLAN_CREATE | PLAN_NAMES))
		(void)place_job(rd, pj);
	return spot_find(rd, parent, name, ret);
}

/* What goes is what was agreed, and the server has had it: I2 and I13. */
static int expected(struct round *rd, const struct job *j, uint8_t object)
{
	const struct pw_object *o = &rd->c->objects[object];

	if (j->s.object != object || o->content != j->s.content)
		return -ESTALE;
	if (o->kind != KIND_DIR && !rd->w->committed[o->content])
		pw_fault(rd->w, "applier: bytes would go that the server never had", j->node);
	return 0;
}

static void lost_name(struct round *rd, struct job *j, const struct spot *s)
{
	for (unsigned i = 0; i < rd->w->nodes_count; i++) {
		if (rd->c->object_of[i] != s->dir)
			continue;
		pw_row_remove(&j->s, (uint8_t)i, s->name);
		break;
	}
	j->bound = true;
}

static void take_out(struct round *rd, const struct spot *s)
{
	uint8_t object = rd->c->grid[s->dir][s->name], node = rd->c->objects[object].node;

	pw_cell_set(rd->c, s->dir, s->name, 0);
	if (!rd->c->objects[object].links && node != PW_NOBODY && rd->c->object_of[node] == object)
		rd->c->object_of[node] = 0;
}

static int leave_dir(struct round *rd, struct job *dir)
{
	unsigned rings = rd->rings;
	bool ring = false;

	for (unsigned i = 0; i < rd->count; i++) {
		struct job *j = &rd->jobs[i];
		bool inside = false;

		for (unsigned k = 0; k < j->s.names_count && !inside; k++)
			inside = j->s.names[k].parent == dir->node;
		if (inside && j->s.is && j->r.tomb && j->r.kind == KIND_DIR && j->state == JOB_TODO)
			(void)leave_dir(rd, j);
		else if (inside && j->s.is)
			(void)place_job(rd, j);
		ring |= inside && j->ring;
	}
	(void)place_job(rd, dir);
	dir->ring = dir->state == JOB_WAIT && (ring || rd->rings > rings);
	return dir->state == JOB_DONE ? 0 : -EAGAIN;
}

/* Who holds the spot waits for who wants it, or what is in it does: it goes beside. */
static int set_aside(struct round *rd, struct job *other, const struct spot *s)
{
	struct pw_client *c = rd->c;
	uint8_t aside = pw_name(rd->w, ".leaving"), parent = c->objects[s->dir].node;

	for (unsigned i = 0; i < rd->w->names_count && other->r.tomb; i++) {
		uint8_t node = c->objects[c->grid[s->object][i]].node;

		if (c->grid[s->object][i] && (node == PW_NOBODY || !rd->of[node] || c->entries[node]))
			return -EAGAIN;
	}
	if (c->grid[s->dir][aside] || s->object != other->s.object || c->entries[other->node])
		return -EAGAIN;
	pw_cell_set(c, s->dir, s->name, 0);
	pw_cell_set(c, s->dir, aside, s->object);
	pw_row_remove(&other->s, parent, s->name);
	pw_row_add(&other->s, parent, aside, 0);
	other->bound = true;
	return 0;
}

/* 0: *ret_what is SPOT_SELF, SPOT_DISPLACE, SPOT_SWAP, or SPOT_MOVE_FIRST for a free name. */
static int spot_look(
	struct round *rd, struct job *j, struct spot *s, enum plan_spot *ret_what, struct job **ret_other)
{
	uint8_t node = rd->c->objects[s->object].node;
	struct job *other;

	*ret_what = SPOT_MOVE_FIRST;
	if (!s->object)
		return 0;
	if (node == PW_NOBODY) {
		rd->c->want_scan = true;
		return -EAGAIN;
	}
	other = rd->of[node];
	*ret_other = other;
	*ret_what = plan_spot(&(struct plan_holder){.is_self = node == j->node,
		.is_planned = other && (other->state != JOB_WAIT || other->ring) && !other->outdated,
		.ring = other && other->ring,
		.busy = rd->c->entries[node] > 0,
		.active = other && other->state == JOB_ACTIVE,
		.tomb = other && other->r.tomb,
		.kind = other ? (enum kind)other->r.kind : KIND_FILE});
	if (*ret_what == SPOT_WAIT)
		return -EAGAIN;
	if (*ret_what == SPOT_ASIDE) {
		*ret_what = SPOT_MOVE_FIRST;
		return set_aside(rd, other, s);
	}
	if (*ret_what != SPOT_EMPTY_FIRST && *ret_what != SPOT_MOVE_FIRST)
		return 0;
	if (*ret_what == SPOT_EMPTY_FIRST)
		(void)leave_dir(rd, other);
	else if (other->state == JOB_TODO)
		(void)place_job(rd, other);
	*ret_what = SPOT_MOVE_FIRST;
	s->object = rd->c->grid[s->dir][s->name];
	if (s->object && rd->c->objects[s->object].node == node && other->ring)
		return set_aside(rd, other, s);
	if (!s->object)
		return 0;
	*ret_what = SPOT_SELF;
	return j->s.is && s->object == j->s.object ? 0 : -EAGAIN;
}

/* The object appears at the spot; who was there is displaced. */
static int spot_put(
	struct round *rd, const struct spot *s, enum plan_spot what, struct job *other, uint8_t object)
{
	int r = 0;

	if (what == SPOT_DISPLACE) {
		r = expected(rd, other, s->object);
		if (!r) {
			take_out(rd, s);
			lost_name(rd, other, s);
		}
	} else if (what != SPOT_MOVE_FIRST) {
		r = -EAGAIN;
	}
	if (!r)
		pw_cell_set(rd->c, s->dir, s->name, object);
	return r;
}

/* ---- steps ---- */

static int add_link(struct round *rd, struct job *j, const struct pw_name *d)
{
	enum plan_spot what;
	struct job *other;
	struct spot s;
	int r = spot_open(rd, d->parent, d->name, &s);

	if (!r)
		r = spot_look(rd, j, &s, &what, &other);
	if (!r && what != SPOT_SELF)
		r = spot_put(rd, &s, what, other, j->s.object);
	if (r)
		return r;
	pw_row_add(&j->s, d->parent, d->name, d->l);
	j->bound = true;
	return 0;
}

static int node_create(struct round *rd, struct job *j)
{
	struct pw_client *c = rd->c;
	const struct pw_name *d = j->r.names;
	enum plan_spot what;
	struct job *other;
	uint8_t object;
	struct spot s;
	int r = spot_open(rd, d->parent, d->name, &s);

	if (!r)
		r = spot_look(rd, j, &s, &what, &other);
	if (r)
		return r;
	object = pw_object_new(rd->w, rd->client, j->r.kind, j->r.content, j->r.mode);
	r = spot_put(rd, &s, what, other, object);
	if (r)
		return r;
	c->objects[object].node = j->node;
	c->object_of[j->node] = object;
	j->s = (struct pw_row){
		.is = true, .kind = j->r.kind, .content = j->r.content, .mode = j->r.mode, .object = object};
	pw_row_add(&j->s, d->parent, d->name, d->l);
	j->bound = true;
	for (unsigned i = 1; i < j->r.names_count && !r; i++)
		r = add_link(rd, j, &j->r.names[i]);
	return r;
}

static int node_content(struct round *rd, struct job *j)
{
	struct pw_client *c = rd->c;
	uint8_t old = j->s.object, object;
	int r = j->s.names_count ? 0 : -EAGAIN;

	for (unsigned i = 0; i < j->s.names_count && !r; i++) {
		struct spot s;

		r = spot_find(rd, j->s.names[i].parent, j->s.names[i].name, &s);
		if (!r)
			r = i ? (s.object == old ? 0 : -ESTALE) : expected(rd, j, s.object);
		if (!r && !i) {
			object = pw_object_new(rd->w, rd->client, j->r.kind, j->r.content, j->r.mode);
			c->objects[object].node = j->node;
			c->object_of[j->node] = object;
			j->s.object = object;
			j->bound = true;
		}
		if (!r && !i) {
			j->s.content = j->r.content;
			j->s.c = j->r.c;
		}
		if (!r)
			pw_cell_set(c, s.dir, s.name, j->s.object);
	}
	return r;
}

/* from is the job's own object and goes to the spot to. 1: another's steps have brought it there, from stays.
 */
static int move_between(struct round *rd, struct job *j, struct spot *from, struct spot *to)
{
	struct pw_client *c = rd->c;
	struct job *other = NULL;
	enum plan_spot what;
	int r = from->object == j->s.object ? 0 : -ESTALE;

	if (!r)
		r = spot_look(rd, j, to, &what, &other);
	if (r || what == SPOT_SELF)
		return r ? r : 1;
	if (c->grid[from->dir][from->name] != from->object)
		return -ESTALE; /* renameat2 and the look at what it moved */
	if (c->objects[from->object].kind == KIND_DIR && pw_is_under(c, from->object, to->dir)) {
		rd->rings++;
		return -EINVAL;
	}
	if (what == SPOT_SWAP && pw_is_under(c, to->object, from->dir)) {
		r = set_aside(rd, other, to);
		if (r)
			return r;
		what = SPOT_MOVE_FIRST;
	}
	if (what == SPOT_SWAP) {
		uint8_t theirs = to->object;

		if (pw_is_under(c, theirs, from->dir))
			return -EINVAL;
		pw_cell_set(c, from->dir, from->name, theirs);
		pw_cell_set(c, to->dir, to->name, from->object);
		lost_name(rd, other, to);
		for (unsigned i = 0; i < rd->w->nodes_count; i++) {
			if (c->object_of[i] == from->dir)
				pw_row_add(&other->s, (uint8_t)i, from->name, 0);
		}
		return 0;
	}
	r = what == SPOT_DISPLACE ? expected(rd, other, to->object) : 0;
	if (r)
		return r;
	if (what == SPOT_DISPLACE) {
		take_out(rd, to);
		lost_name(rd, other, to);
	}
	pw_cell_set(c, from->dir, from->name, 0);
	pw_cell_set(c, to->dir, to->name, from->object);
	return 0;
}

static int move_name(struct round *rd, struct job *j, struct pw_name from_name, const struct pw_name *to_name)
{
	struct spot from, to;
	int r = spot_open(rd, from_name.parent, from_name.name, &from);

	if (!r)
		r = spot_open(rd, to_name->parent, to_name->name, &to);
	if (!r)
		r = move_between(rd, j, &from, &to);
	if (r < 0)
		return r;
	if (!r)
		pw_row_remove(&j->s, from_name.parent, from_name.name);
	pw_row_add(&j->s, to_name->parent, to_name->name, to_name->l);
	j->bound = true;
	return 0;
}

static int drop_name(struct round *rd, struct job *j, struct pw_name d)
{
	struct spot s;
	int r = spot_find(rd, d.parent, d.name, &s);

	if (!r && s.object) {
		r = expected(rd, j, s.object);
		if (!r)
			take_out(rd, &s);
	}
	if (!r)
		lost_name(rd, j, &s);
	return r;
}

static const struct pw_name *surplus(const struct job *j)
{
	for (unsigned i = 0; i < j->s.names_count; i++) {
		if (pw_row_find(&j->r, j->s.names[i].parent, j->s.names[i].name) < 0)
			return &j->s.names[i];
	}
	return NULL;
}

static int node_names(struct round *rd, struct job *j)
{
	int r = 0;

	for (size_t i = 0; i < j->plan.add_count && !r; i++) {
		const struct pw_name *to = &j->r.names[j->plan.add[i]], *from = surplus(j);

		r = from ? move_name(rd, j, *from, to) : add_link(rd, j, to);
	}
	for (const struct pw_name *d = surplus(j); d && !r; d = surplus(j))
		r = drop_name(rd, j, *d);
	/* By what others have told, the name of this one may be another's too: who came there has moved it.
	 */
	if (!r && j->s.names_count != j->r.names_count)
		r = -EAGAIN;
	return r;
}

static int node_remove(struct round *rd, struct job *j)
{
	int r = j->r.tomb ? 0 : -EBADMSG;

	if (r)
		pw_fault(rd->w, "plan: a removal without a tombstone", j->node);
	while (j->s.names_count && !r) {
		struct pw_name d = j->s.names[0];
		struct spot s;

		r = spot_find(rd, d.parent, d.name, &s);
		if (!r && rd->c->entries[j->node])
			r = -EAGAIN;
		if (!r && s.object)
			r = expected(rd, j, s.object);
		if (!r && s.object && rd->c->objects[s.object].children)
			r = -ENOTEMPTY;
		if (!r && s.object)
			take_out(rd, &s);
		if (!r)
			lost_name(rd, j, &s);
	}
	return r;
}

static int run_steps(struct round *rd, struct job *j)
{
	unsigned steps = j->plan.steps;
	int r = 0;

	if (steps & PLAN_REMOVE)
		return node_remove(rd, j);
	if (steps & PLAN_CREATE)
		return node_create(rd, j);
	if (steps & PLAN_CONTENT)
		r = node_content(rd, j);
	if (!r && steps & PLAN_NAMES)
		r = node_names(rd, j);
	if (!r && steps & PLAN_ATTR)
		rd->c->objects[j->s.object].mode = j->r.mode;
	return r;
}

static int place_job(struct round *rd, struct job *j)
{
	unsigned rings = rd->rings;
	int r = 0;

	rd->rings += j->state == JOB_ACTIVE;
	if (j->state != JOB_TODO)
		return 0;
	j->state = JOB_ACTIVE;
	if (!j->outdated)
		r = rd->c->entries[j->node] ? -EAGAIN : run_steps(rd, j);
	j->state = r ? JOB_WAIT : JOB_DONE;
	j->ring = r && rd->rings > rings;
	if (r == -ESTALE || r == -ENOTEMPTY || r == -EEXIST)
		rd->c->want_scan = true;
	return r;
}

/* ---- a round ---- */

static void plan_job(struct round *rd, uint8_t node)
{
	struct pw_client *c = rd->c;
	struct job *j = &rd->jobs[rd->count++];
	struct dentry names[2][PW_LINKS];
	struct node_state s, r;

	*j = (struct job){.node = node, .s = c->s[node], .r = c->r[node]};
	rd->of[node] = j;
	j->outdated = j->s.is && j->r.seq < j->s.seq;
	if (j->outdated)
		return;
	pw_state(rd->w, node, &j->s, names[0], &s);
	pw_state(rd->w, node, &j->r, names[1], &r);
	if (plan_node(j->s.is ? &s : NULL, c->entries[node] > 0, &r, &j->plan))
		pw_fault(rd->w, "plan_node() failed", node);
	if (j->plan.steps & PLAN_WAIT)
		j->state = JOB_WAIT;
}

/* What is left of a dead node's object, where a directory was split, is nobody's. */
static void unbind(struct pw_client *c, uint8_t node)
{
	uint8_t object = c->object_of[node];

	if (!object)
		return;
	c->objects[object].node = PW_NOBODY;
	c->object_of[node] = 0;
	c->want_scan = true;
}

static void advance(struct round *rd, const struct job *j)
{
	struct pw_client *c = rd->c;

	if (rd->w->trace)
		printf("%c applies node %u seq %u steps %x: %s\n", rd->client ? 'B' : 'A', j->node, j->r.seq,
			j->plan.steps,
			j->state == JOB_WAIT  ? "waits"
				: j->outdated ? "outdated"
					      : "done");

	if (j->state == JOB_WAIT) {
		if (j->bound && c->s[j->node].is) {
			c->s[j->node] = j->s;
			c->s[j->node].is = j->s.names_count > 0;
		} else if (j->bound && j->s.is && j->s.names_count) {
			c->s[j->node] = j->s;
		}
		return;
	}
	if (!j->outdated) {
		if (j->r.tomb) {
			c->s[j->node].is = false;
			unbind(c, j->node);
		} else if (j->s.is) {
			c->s[j->node] = j->r;
			c->s[j->node].object = j->s.object;
		}
	}
	if (c->r[j->node].seq <= j->r.seq)
		c->r[j->node].is = false;
}

bool pw_apply(struct pw_world *w, unsigned client)
{
	struct round rd = {.w = w, .c = &w->clients[client], .client = client};
	bool progress = false;
	unsigned start = pw_below(w, w->nodes_count), step = 1;

	while (w->nodes_count % step == 0 && step < 7)
		step += 2; /* 3, 5 or 7: mostly another order than the server's */
	if (w->nodes_count % step == 0)
		step = 1;
	for (unsigned i = 0; i < w->nodes_count; i++) {
		unsigned node = (start + i * step) % w->nodes_count;

		if (rd.c->r[node].is)
			plan_job(&rd, (uint8_t)node);
	}
	for (unsigned i = 0; i < 2 * rd.count; i++) {
		struct job *j = &rd.jobs[i % rd.count];

		if (j->r.tomb == (i >= rd.count))
			(void)place_job(&rd, j);
	}
	for (unsigned i = 0; i < rd.count; i++) {
		advance(&rd, &rd.jobs[i]);
		progress |= rd.jobs[i].state == JOB_DONE;
		plan_fini(&rd.jobs[i].plan);
	}
	return progress;
}
