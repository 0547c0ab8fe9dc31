/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Choosing what goes into a batch, and in what words. Called by the uploader; never reads user data, never
 * talks to the server.
 */
#include "outbox_settle.h"

#include <errno.h>
#include <stdlib.h>

#include <syncfs/clock.h>
#include <syncfs/io.h>
#include <syncfs/limits.h>
#include <syncfs/log.h>

#define GATHER_QUIET_MS 10
#define LOOK_AHEAD_MAX                                                                                       \
	20000 /* entries looked at for one batch, so that a blocked head costs a bounded walk */

static void item_fini(struct item *i)
{
	op_fini(&i->op);
	free(i->covers);
	free(i->dir_path);
	free(i->name);
	node_state_fini(&i->remote);
}

void outbox_fini(struct outbox *o)
{
	for (size_t i = 0; i < o->count; i++)
		item_fini(&o->items[i]);
	free(o->items);
	map_free_values(o->alias);
	*o = (struct outbox){0};
}

/* ---- what waits for what ---- */

/* The directory that an operation removes, if it does: whatever happened in it goes first. */
static const struct id *removed_dir(enum op_type type, const struct id *node, const struct id *other)
{
	if (type == OP_RMDIR)
		return node;
	return type == OP_RENAME && !id_is_none(other) ? other : NULL;
}

struct inside_key {
	struct id dir;
	char mark;
};

static size_t inside_key(struct inside_key *key, const struct id *dir)
{
	*key = (struct inside_key){.dir = *dir, .mark = '/'};
	return ID_BYTES + 1;
}

/* Where a directory may go hangs on where those above its new place are by then: such moves keep their order.
 */
static bool moves_dir(enum op_type type, enum kind kind)
{
	return type == OP_EXCHANGE || (type == OP_RENAME && kind != KIND_FILE && kind != KIND_SYMLINK);
}

static const char dir_moves[] = "moves of directories"; /* a key */

static bool touches(const struct map *blocked, const struct entry *e)
{
	const struct id *ids[4] = {&e->node, &e->other, &e->parent, &e->new_parent},
			*dir = removed_dir(e->type, &e->node, &e->other);
	struct inside_key inside;
	struct name_key key;

	if (map_count(blocked) == 0)
		return false;
	for (int i = 0; i < 4; i++) {
		if (!id_is_none(ids[i]) && map_get(blocked, ids[i]->b, ID_BYTES))
			return true;
	}
	if (dir && map_get(blocked, &inside, inside_key(&inside, dir)))
		return true;
	if (moves_dir(e->type, e->kind) && map_get(blocked, dir_moves, sizeof(dir_moves)))
		return true;
	if (e->name && map_get(blocked, &key, name_key(&key, &e->parent, e->name)))
		return true;
	return e->new_name && map_get(blocked, &key, name_key(&key, &e->new_parent, e->new_name));
}

static int block(struct map *blocked, const struct entry *e)
{
	struct inside_key inside;
	struct name_key key;
	int r = map_put(blocked, e->node.b, ID_BYTES, blocked);

	if (!r && !id_is_none(&e->parent))
		r = map_put(blocked, &inside, inside_key(&inside, &e->parent), blocked);
	if (!r && !id_is_none(&e->new_parent))
		r = map_put(blocked, &inside, inside_key(&inside, &e->new_parent), blocked);
	if (!r && !id_is_none(&e->other))
		r = map_put(blocked, e->other.b, ID_BYTES, blocked);
	if (!r && moves_dir(e->type, e->kind))
		r = map_put(blocked, dir_moves, sizeof(dir_moves), blocked);
	if (!r && e->name)
		r = map_put(blocked, &key, name_key(&key, &e->parent, e->name), blocked);
	if (!r && e->new_name)
		r = map_put(blocked, &key, name_key(&key, &e->new_parent, e->new_name), blocked);
	return r;
}

bool outbox_depends(const struct item *b, const struct item *a)
{
	const struct op *x = &a->op, *y = &b->op;
	const struct id *touched[4] = {&y->node, &y->other, &y->parent, &y->new_parent},
			*dir = removed_dir(y->type, &y->node, &y->other);

	if (dir && (id_equal(dir, &x->parent) || id_equal(dir, &x->new_parent)))
		return true;
	if (moves_dir(x->type, x->kind) && moves_dir(y->type, y->kind))
		return true;
	for (int i = 0; i < 4; i++) {
		if (id_is_none(touched[i]))
			continue;
		if (id_equal(touched[i], &x->node) || id_equal(touched[i], &x->other))
			return true;
	}
	return same_name(&x->parent, x->name, &y->parent, y->name) ||
		same_name(&x->parent, x->name, &y->new_parent, y->new_name) ||
		same_name(&x->new_parent, x->new_name, &y->parent, y->name) ||
		same_name(&x->new_parent, x->new_name, &y->new_parent, y->new_name);
}

/* ---- collecting ---- */

static char *copy(const char *s, int *error)
{
	char *r = s ? strdup(s) : NULL;

	if (s && !r)
		*error = -ENOMEM;
	return r;
}

/* The directory of the last item: neighbours in the queue are mostly neighbours on disk. */
struct last_dir {
	struct id dir;
	struct buf path;
};

static int dir_path(struct capture *c, const struct id *dir, struct last_dir *last, char **ret_path)
{
	int r = 0;

	if (!id_equal(dir, &last->dir)) {
		buf_reset(&last->path);
		last->dir = ID_NONE;
		r = pending_dir_path(c->pending, dir, &last->path);
		if (r)
			return r;
		last->dir = *dir;
	}
	*ret_path = copy(buf_cstr(&last->path) ? buf_cstr(&last->path) : "", &r);
	return r;
}

static int fill_place(struct capture *c, const struct entry *e, struct item *i, struct last_dir *last)
{
	struct local *l = pending_find(c->pending, &e->node);
	int r;

	if (l) {
		i->object = l->object;
		i->changed_ms = l->changed_ms;
		i->releases = l->releases;
	}
	if (e->type != OP_CREATE && e->type != OP_WRITE && e->type != OP_SETATTR)
		return 0;
	r = pending_locate(c->pending, &e->node, &i->dir, &i->name);
	if (!r)
		r = dir_path(c, &i->dir, last, &i->dir_path);
	if (r == -ENOENT) {
		free(i->name);
		i->name = NULL;
		return 0;
	}
	return r;
}

/* Whether the node still has names here when all of the queue is done. */
static bool has_names(struct capture *c, const struct id *node)
{
	const struct local *l = pending_find(c->pending, node);

	return !l || l->names_count;
}

static int fill_item(struct capture *c, struct entry *e, struct item *i, struct last_dir *last)
{
	int r = 0;

	*i = (struct item){.entry = e,
		.lsn = e->lsn,
		.send_all = e->send_all,
		.remains = e->remains && has_names(c, e->type == OP_RENAME ? &e->other : &e->node),
		.synced = e->synced,
		.promised = e->promises,
		.generation = e->generation,
		.unstable = e->unstable};
	i->op = (struct op){
		.type = e->type,
		.kind = e->kind,
		.node = e->node,
		.other = e->other,
		.parent = e->parent,
		.new_parent = e->new_parent,
		.name = copy(e->name, &r),
		.new_name = copy(e->new_name, &r),
		.target = copy(e->target, &r),
	};
	if (!r)
		r = fill_place(c, e, i, last);
	if (r)
		item_fini(i);
	else
		e->in_flight = true;
	return r;
}

/* The applier has just placed it: until the agreed state says so, the base would be an old one. */
static bool is_bound(struct capture *c, const struct entry *e)
{
	const struct local *l = pending_find(c->pending, &e->node);
	const struct local *other = id_is_none(&e->other) ? NULL : pending_find(c->pending, &e->other);

	return (l && l->pins) || (other && other->pins);
}

/* awaited: only what calls wait for, as far as it does not depend on the rest. */
static int collect_locked(struct capture *c, size_t max, bool awaited, struct map *blocked, struct outbox *o)
{
	uint64_t now = clock_mono_ms();
	struct entry *e = pending_first(c->pending), *next;
	struct last_dir last = {.path = BUF_INIT};
	int r = 0;

	for (size_t looked = 0; e && looked < LOOK_AHEAD_MAX && o->count < max && !r; e = next, looked++) {
		next = e->next;
		if (e->in_flight)
			continue;
		r = ghost_lay_locked(c, e, &next);
		if (r) {
			o->freed |= r > 0;
			r = r > 0 ? 0 : r;
			continue;
		}
		if (e->not_before_ms > now && (!o->next_due_ms || e->not_before_ms < o->next_due_ms))
			o->next_due_ms = e->not_before_ms;
		if (e->not_before_ms > now || is_bound(c, e) || (awaited && !e->promises) ||
			touches(blocked, e)) {
			r = block(blocked, e);
			continue;
		}
		r = fill_item(c, e, &o->items[o->count], &last);
		if (!r)
			o->count++;
	}
	buf_fini(&last.path);
	return r;
}

/* What calls wait for goes before the rest, in every other batch: a stream of calls must not starve it. */
static int collect_by_turns_locked(struct capture *c, size_t max, struct outbox *o)
{
	bool awaited = c->promises && !c->awaited_last;
	struct map *blocked;
	int r = 0;

	c->awaited_last = awaited;
	for (int pass = awaited ? 0 : 1; pass < 2 && !r && !o->count; pass++) {
		blocked = map_new();
		r = blocked ? collect_locked(c, max, pass == 0, blocked, o) : -ENOMEM;
		map_free(blocked);
	}
	return r;
}

int outbox_collect(struct capture *c, size_t max, struct outbox *ret_outbox)
{
	struct outbox o = {.items = calloc(max, sizeof(*o.items)), .alias = map_new()};
	int r = -ENOMEM;

	if (o.items && o.alias) {
		mutex_lock(&c->lock);
		r = collect_by_turns_locked(c, max, &o);
		mutex_unlock(&c->lock);
	}
	if (o.freed)
		c->released(c->released_arg);
	if (r) {
		outbox_return(c, &o);
		outbox_fini(&o);
	} else {
		*ret_outbox = o;
	}
	return r;
}

void outbox_put_off(struct capture *c, struct item *item, uint64_t delay_ms)
{
	const struct local *l;

	MUTEX_GUARD(&c->lock);
	l = pending_find(c->pending, &item->entry->node);
	item->entry->in_flight = false;
	item->entry->unstable = item->unstable;
	item->entry->send_all |= item->missing;
	/* fsynced or released while it was being looked at: no reason any more to wait for its writers. */
	if (item->entry->synced != item->synced || (l && l->releases != item->releases))
		delay_ms = 0;
	item->entry->not_before_ms = delay_ms ? clock_mono_ms() + delay_ms : 0;
	item->entry = NULL;
}

void outbox_return(struct capture *c, struct outbox *o)
{
	MUTEX_GUARD(&c->lock);
	for (size_t i = 0; i < o->count; i++) {
		if (o->items[i].entry)
			o->items[i].entry->in_flight = false;
		o->items[i].entry = NULL;
	}
}

bool outbox_wait(struct capture *c, uint64_t *seen_wakeups, uint64_t deadline_ms)
{
	bool go;

	mutex_lock(&c->lock);
	while (!c->stopping && c->wakeups == *seen_wakeups &&
		cond_wait_until(&c->work, &c->lock, deadline_ms))
		;
	*seen_wakeups = c->wakeups;
	go = !c->stopping;
	mutex_unlock(&c->lock);
	return go;
}

void outbox_gather(struct capture *c, size_t max, uint64_t deadline_ms)
{
	MUTEX_GUARD(&c->lock);
	c->gather = max;
	while (!capture_is_enough_locked(c)) {
		uint64_t seen = c->wakeups, quiet_ms = clock_mono_ms() + GATHER_QUIET_MS;

		cond_wait_until(&c->work, &c->lock, quiet_ms < deadline_ms ? quiet_ms : deadline_ms);
		if (c->wakeups == seen || clock_mono_ms() >= deadline_ms)
			break;
	}
	c->gather = 0;
}

/* ---- numbers and bases ---- */

/*
 * What earlier operations of this batch made, as -opno, or have been recognised as, as the version that the
 * server has told: c by node, l by node and name.
 */
struct made {
	struct map *c, *l;
};

static void made_put(struct map *m, const void *key, size_t len, int64_t base)
{
	map_put(m, key, len, (void *)(intptr_t)base); // NOLINT
}

static int64_t made_get(const struct map *m, const void *key, size_t len)
{
	return (intptr_t)map_get(m, key, len);
}

struct dentry_key {
	struct id node;
	struct name_key name;
};

static size_t dentry_key(
	struct dentry_key *key, const struct id *node, const struct id *parent, const char *name)
{
	key->node = *node;
	return ID_BYTES + name_key(&key->name, parent, name);
}

static int64_t base_c(struct capture *c, const struct made *m, const struct id *node)
{
	int64_t base = made_get(m->c, node->b, ID_BYTES);
	struct base_row row;

	if (base || syncstate_peek_base(c->state, node, &row))
		return base;
	base = (int64_t)row.state.c;
	base_row_fini(&row);
	return base;
}

static int64_t base_l(struct capture *c, const struct made *m, const struct id *node, const struct id *parent,
	const char *name)
{
	struct dentry_key key;
	int64_t base = made_get(m->l, &key, dentry_key(&key, node, parent, name));
	struct base_row row;

	if (base || syncstate_peek_base(c->state, node, &row))
		return base;
	for (size_t i = 0; i < row.state.names_count; i++) {
		if (same_name(&row.state.names[i].parent, row.state.names[i].name, parent, name))
			base = (int64_t)row.state.names[i].l;
	}
	base_row_fini(&row);
	return base;
}

static void set_bases(struct capture *c, const struct made *m, struct op *op)
{
	if (op->type == OP_WRITE || op->type == OP_UNLINK)
		op->base_c = base_c(c, m, &op->node);
	if (op->type == OP_UNLINK || op->type == OP_RMDIR || op->type == OP_RENAME || op->type == OP_EXCHANGE)
		op->base_l = base_l(c, m, &op->node, &op->parent, op->name);
	if (id_is_none(&op->other))
		return;
	if (op->type == OP_RENAME)
		op->other_base_c = base_c(c, m, &op->other);
	if (op->type == OP_RENAME || op->type == OP_EXCHANGE)
		op->other_base_l = base_l(c, m, &op->other, &op->new_parent, op->new_name);
}

static void remember(const struct made *m, const struct op *op)
{
	struct dentry_key key;

	int64_t base = -(int64_t)op->opno;

	if (op->type == OP_CREATE || op->type == OP_WRITE)
		made_put(m->c, op->node.b, ID_BYTES, base);
	if (op->type == OP_CREATE || op->type == OP_LINK)
		made_put(m->l, &key, dentry_key(&key, &op->node, &op->parent, op->name), base);
	if (op->type == OP_RENAME || op->type == OP_EXCHANGE)
		made_put(m->l, &key, dentry_key(&key, &op->node, &op->new_parent, op->new_name), base);
	if (op->type == OP_EXCHANGE)
		made_put(m->l, &key, dentry_key(&key, &op->other, &op->parent, op->name), base);
}

static void compact(struct outbox *o)
{
	size_t n = 0;

	for (size_t i = 0; i < o->count; i++) {
		if (o->items[i].entry)
			o->items[n++] = o->items[i];
		else
			item_fini(&o->items[i]);
	}
	o->count = n;
}

int outbox_number(struct capture *c, struct outbox *o, uint64_t first_opno)
{
	struct made m = {.c = map_new(), .l = map_new()};
	int r = m.c && m.l ? 0 : -ENOMEM;

	compact(o);
	for (size_t i = 0; i < o->count && !r; i++) {
		struct op *op = &o->items[i].op;

		op->node = outbox_alias(o, &op->node);
		op->other = outbox_alias(o, &op->other);
		op->parent = outbox_alias(o, &op->parent);
		op->new_parent = outbox_alias(o, &op->new_parent);
		op->opno = first_opno++;
		set_bases(c, &m, op);
		if (o->items[i].remains) /* should it be the last one there, the content stays */
			op->base_c = op->other_base_c = 0;
		remember(&m, op);
	}
	map_free(m.c);
	map_free(m.l);
	return r;
}
