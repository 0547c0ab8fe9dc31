/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernel's side of capture: names the nodes of an intent, journals it before and its outcome after the
 * change, queues the operation. Called by fs_*; never waits for the network, never reads or writes user data.
 */
#include "capture_internal.h"

#include <errno.h>
#include <stdlib.h>

#include <syncfs/clock.h>
#include <syncfs/failpoint.h>
#include <syncfs/io.h>
#include <syncfs/log.h>

#define ABSORBS_ATTR (1u << OP_CREATE | 1u << OP_WRITE | 1u << OP_SETATTR)

bool capture_is_enough_locked(const struct capture *c)
{
	return pending_count(c->pending) >= c->gather || c->promises || c->stopping;
}

void capture_wake_locked(struct capture *c)
{
	c->wakeups++;
	if (capture_is_enough_locked(c))
		cond_broadcast(&c->work);
}

void capture_settled_locked(struct capture *c)
{
	cond_broadcast(&c->settled);
	cond_broadcast(&c->awaited);
}

static char *copy_string(const char *s, int *error)
{
	char *copy = s ? strdup(s) : NULL;

	if (s && !copy)
		*error = -ENOMEM;
	return copy;
}

int capture_enqueue_locked(struct capture *c, const struct record *r, const struct stat_id *object)
{
	struct entry *e = calloc(1, sizeof(*e));
	int error = 0;

	if (!e)
		return -ENOMEM;
	e->lsn = r->lsn;
	e->type = r->op;
	e->kind = r->kind;
	e->node = r->node;
	e->other = r->other;
	e->parent = r->parent;
	e->new_parent = r->new_parent;
	e->name = copy_string(r->name, &error);
	e->new_name = copy_string(r->new_name, &error);
	e->target = copy_string(r->target, &error);
	if (error) {
		entry_free(e);
		return error;
	}
	error = pending_enqueue(c->pending, e, object);
	if (error)
		return error;
	capture_wake_locked(c);
	return 0;
}

/* What cannot be queued the scan finds again: the journal must not tell of it a second time. */
static int enqueue_or_forget(struct capture *c, const struct record *r, const struct stat_id *object)
{
	int error = capture_enqueue_locked(c, r, object);

	if (error)
		(void)journal_ack(c->journal, &r->lsn, 1); /* failed, it takes nothing any more */
	return error;
}

int capture_fact_locked(struct capture *c, struct record *r, const struct stat_id *object)
{
	struct record done = {.type = RECORD_DONE, .ok = true};
	int error;

	r->type = RECORD_INTENT;
	r->dev = object->dev;
	r->ino = object->ino;
	r->btime_ns = object->btime_ns;
	error = journal_append(c->journal, r);
	if (error)
		return error;
	done.intent_lsn = r->lsn;
	done.dev = object->dev;
	done.ino = object->ino;
	done.btime_ns = object->btime_ns;
	error = journal_append(c->journal, &done);
	return error ? error : enqueue_or_forget(c, r, object);
}

void capture_want_scan_locked(struct capture *c)
{
	c->scan_wanted = true;
	cond_broadcast(&c->scan);
}

/* 0 known, 1 unknown (left to the scan), -errno. An object of inode 0 stands for none. */
int capture_resolve_locked(struct capture *c, const struct stat_id *object, struct id *ret_node)
{
	int r;

	*ret_node = ID_NONE;
	if (!object->ino)
		return 0;
	if (stat_id_same_object(object, &c->root)) {
		*ret_node = ID_ROOT;
		return 0;
	}
	r = pending_resolve(c->pending, object, ret_node);
	return r == -ENOENT ? 1 : r;
}

static int resolve_intent(struct capture *c, struct intent *i)
{
	int r;

	i->aliases = c->aliases;
	r = capture_resolve_locked(c, &i->parent, &i->parent_node);

	if (r == 0)
		r = capture_resolve_locked(c, &i->new_parent, &i->new_parent_node);
	if (r == 0)
		r = capture_resolve_locked(c, &i->object, &i->node);
	if (r == 0) {
		r = capture_resolve_locked(c, &i->other, &i->other_node);
		/* Who is replaced may be a stranger; who changes places may not. */
		if (r > 0 && i->type != OP_EXCHANGE)
			r = 0;
	}
	return r;
}

static bool is_reserved(const struct capture *c, const struct stat_id *parent, const char *name)
{
	return name && strcmp(name, RESERVED_NAME) == 0 && stat_id_same_object(parent, &c->root);
}

static struct record record_of(const struct intent *i)
{
	return (struct record){
		.type = RECORD_INTENT,
		.op = i->type,
		.kind = i->kind,
		.node = i->node,
		.other = i->other_node,
		.parent = i->parent_node,
		.new_parent = i->new_parent_node,
		/* borrowed: never freed through this record */
		.name = (char *)(uintptr_t)i->name,
		.new_name = (char *)(uintptr_t)i->new_name,
		.target = (char *)(uintptr_t)i->target,
		.dev = i->object.dev,
		.ino = i->object.ino,
		.btime_ns = i->object.btime_ns,
	};
}

/* 0: go on; the intent is recorded unless it is somebody else's matter. */
static int begin_locked(struct capture *c, struct intent *i)
{
	struct record rec;
	int r;

	if (i->type != OP_CREATE && i->object.mode) {
		i->kind = tree_kind(i->object.mode);
		if (!i->kind) {
			/* Local only; but not who it takes the place of. */
			i->unknown = i->other.ino && tree_kind(i->other.mode);
			return 0;
		}
	} else if (i->type == OP_CREATE && !i->kind) {
		return 0;
	}
	r = resolve_intent(c, i);
	if (r > 0) {
		i->unknown = true;
		return 0;
	}
	if (r < 0)
		return r;
	if (i->type == OP_CREATE)
		i->node = id_new_node();
	if (i->type == OP_SETATTR &&
		(id_equal(&i->node, &ID_ROOT) || pending_unsent(c->pending, &i->node, ABSORBS_ATTR))) {
		i->recorded = !id_equal(&i->node, &ID_ROOT); /* lsn 0: decided at the end */
		return 0;
	}
	rec = record_of(i);
	r = journal_append(c->journal, &rec);
	if (r)
		return r;
	i->lsn = rec.lsn;
	i->recorded = true;
	FAILPOINT("U2");
	return 0;
}

int capture_begin(struct capture *c, struct intent *i)
{
	int r;

	if (is_reserved(c, &i->parent, i->name) || is_reserved(c, &i->new_parent, i->new_name))
		return -EPERM;
	rwlock_read(c->tree_lock);
	FAILPOINT("U0");
	mutex_lock(&c->lock);
	r = begin_locked(c, i);
	mutex_unlock(&c->lock);
	if (r)
		rwlock_unlock(c->tree_lock);
	else
		i->locked = true;
	return r;
}

/* Who makes a file is about to write to it: it is not idle yet. */
static void note_made(struct capture *c, const struct id *node)
{
	struct local *l = pending_find(c->pending, node);

	if (l)
		l->changed_ms = clock_mono_ms();
}

/* Between beginning and end the uploader may have made a node of ours one with another. */
static void follow_aliases(struct capture *c, struct intent *i)
{
	struct intent now = *i;

	if (i->aliases == c->aliases || resolve_intent(c, &now))
		return;
	i->parent_node = now.parent_node;
	i->new_parent_node = now.new_parent_node;
	i->other_node = now.other_node;
	if (i->type != OP_CREATE)
		i->node = now.node;
}

static int end_locked(struct capture *c, struct intent *i, int error, const struct stat_id *object)
{
	struct record done = {.type = RECORD_DONE, .intent_lsn = i->lsn, .ok = !error};
	struct record rec;
	int r;

	follow_aliases(c, i);
	rec = record_of(i);
	if (!i->lsn) {
		/* An attribute change that an unsent operation was to carry. */
		if (error || pending_unsent(c->pending, &i->node, ABSORBS_ATTR))
			return 0;
		return capture_fact_locked(c, &rec, object);
	}
	done.dev = object->dev;
	done.ino = object->ino;
	done.btime_ns = object->btime_ns;
	FAILPOINT("U3");
	r = journal_append(c->journal, &done);
	FAILPOINT("U4");
	if (error)
		return journal_ack(c->journal, &i->lsn, 1);
	rec.lsn = i->lsn;
	if (!r)
		r = enqueue_or_forget(c, &rec, object);
	if (!r && i->type == OP_CREATE)
		note_made(c, &i->node);
	return r;
}

void capture_end(struct capture *c, struct intent *i, int error, const struct stat_id *created)
{
	int r = 0;

	if (i->recorded || i->unknown) {
		mutex_lock(&c->lock);
		if (i->recorded)
			r = end_locked(c, i, error, i->type == OP_CREATE && created ? created : &i->object);
		/* Not at the beginning: a scan could be through before the call is. */
		if (r || i->unknown)
			capture_want_scan_locked(c);
		mutex_unlock(&c->lock);
	}
	if (r)
		log_error("journal: recording what was done: %s; the next scan finds it", err_str(r));
	if (i->locked)
		rwlock_unlock(c->tree_lock);
	i->locked = false;
}

/* ---- content ---- */

int capture_dirty(struct capture *c, const struct stat_id *object)
{
	struct record rec = {
		.type = RECORD_DIRTY, .dev = object->dev, .ino = object->ino, .btime_ns = object->btime_ns};
	struct local *l;
	int r;

	MUTEX_GUARD(&c->lock);
	r = capture_resolve_locked(c, object, &rec.node);
	if (r) {
		if (r > 0)
			capture_want_scan_locked(c);
		return r > 0 ? 0 : r;
	}
	l = pending_local(c->pending, &rec.node, KIND_FILE, object);
	if (!l)
		return -EIO;
	l->changed_ms = clock_mono_ms();
	if (l->dirty_lsn)
		return 0;
	r = journal_append(c->journal, &rec);
	if (r)
		pending_settle(c->pending, l);
	else
		pending_set_dirty(c->pending, l, rec.lsn);
	FAILPOINT("U1");
	return r;
}

/* Should the power fail before it is sent: what lies there with this size is whole. */
static int note_synced(struct capture *c, const struct id *node, const struct stat_id *object)
{
	struct record rec = {.type = RECORD_SYNCED,
		.node = *node,
		.dev = object->dev,
		.ino = object->ino,
		.btime_ns = object->btime_ns,
		.size = object->size};

	return journal_append(c->journal, &rec);
}

static int closed_locked(struct capture *c, const struct stat_id *object, bool synced, uint64_t generation)
{
	struct record rec = {.type = RECORD_CLOSED, .op = OP_WRITE, .kind = KIND_FILE};
	struct entry *e;
	struct local *l;
	int r = capture_resolve_locked(c, object, &rec.node);

	if (r) {
		if (r > 0)
			capture_want_scan_locked(c);
		return r > 0 ? 0 : r;
	}
	l = pending_local(c->pending, &rec.node, KIND_FILE, object);
	if (!l)
		return -EIO;
	l->changed_ms = clock_mono_ms();
	e = pending_unsent(c->pending, &rec.node, 1u << OP_CREATE | 1u << OP_WRITE);
	if (!e) {
		rec.dev = object->dev;
		rec.ino = object->ino;
		rec.btime_ns = object->btime_ns;
		r = journal_append(c->journal, &rec);
		if (!r)
			r = enqueue_or_forget(c, &rec, object);
		if (r)
			return r;
		e = pending_unsent(c->pending, &rec.node, 1u << OP_WRITE);
	}
	if (!e)
		return -EIO;
	if (l->dirty_lsn && e->dirty_lsn)
		r = journal_ack(c->journal, &l->dirty_lsn, 1);
	else if (l->dirty_lsn)
		e->dirty_lsn = l->dirty_lsn;
	pending_set_dirty(c->pending, l, 0);
	if (synced) {
		r = r ? r : note_synced(c, &rec.node, object);
		e->synced = true;
		e->generation = generation;
	}
	e->not_before_ms = 0;
	capture_wake_locked(c);
	return r;
}

int capture_closed(struct capture *c, const struct stat_id *object, bool synced)
{
	uint64_t generation = synced ? inode_generation(c->inodes, object) : 0;
	int r;

	mutex_lock(&c->lock);
	r = closed_locked(c, object, synced, generation);
	mutex_unlock(&c->lock);
	FAILPOINT("U5");
	if (!r && synced)
		r = journal_sync(c->journal);
	return r;
}

int capture_synced(struct capture *c, const struct stat_id *object)
{
	struct id node;
	int r = 0;

	mutex_lock(&c->lock);
	if (!object->size && capture_resolve_locked(c, object, &node) == 0 && pending_find(c->pending, &node))
		r = note_synced(c, &node, object);
	mutex_unlock(&c->lock);
	return r ? r : journal_sync(c->journal);
}

void capture_released(struct capture *c, const struct stat_id *object)
{
	static const enum op_type contents[2] = {OP_CREATE, OP_WRITE};
	struct entry *e;
	struct local *l;
	struct id node;

	mutex_lock(&c->lock);
	if (capture_resolve_locked(c, object, &node) == 0) {
		/* A write is queued behind the create when that was being read at the close. */
		for (size_t i = 0; i < 2; i++) {
			e = pending_unsent(c->pending, &node, 1u << contents[i]);
			if (e)
				e->not_before_ms = 0;
		}
		l = pending_find(c->pending, &node);
		if (l)
			l->releases++;
	}
	capture_wake_locked(c);
	mutex_unlock(&c->lock);
	c->released(c->released_arg);
}

bool capture_has_failed(struct capture *c)
{
	return journal_has_failed(c->journal);
}

int capture_sync(struct capture *c)
{
	return journal_sync(c->journal);
}

/* ---- for the rest of the client ---- */

void capture_want_scan(struct capture *c)
{
	MUTEX_GUARD(&c->lock);
	capture_want_scan_locked(c);
}

bool capture_await_scan(struct capture *c, uint64_t deadline_ms)
{
	MUTEX_GUARD(&c->lock);
	while (!c->stopping && !c->scan_wanted) {
		if (deadline_ms == UINT64_MAX)
			cond_wait(&c->scan, &c->lock);
		else if (!cond_wait_until(&c->scan, &c->lock, deadline_ms))
			break;
	}
	c->scan_wanted = false;
	return !c->stopping;
}

void capture_hold(struct capture *c, bool hold)
{
	MUTEX_GUARD(&c->lock);
	c->stopping = hold;
	capture_wake_locked(c);
	cond_broadcast(&c->settled);
	cond_broadcast(&c->scan);
}

static uint64_t count_dirty_locked(struct capture *c)
{
	uint64_t n = 0;

	for (const struct local *l = pending_first_dirty(c->pending); l; l = l->next_dirty)
		n++;
	return n;
}

void capture_count(struct capture *c, uint64_t *ret_operations, uint64_t *ret_writers)
{
	MUTEX_GUARD(&c->lock);
	*ret_operations = pending_count(c->pending);
	*ret_writers = count_dirty_locked(c);
}

void capture_count_waiting(struct capture *c, uint64_t *ret_waiting, uint64_t *ret_deferred)
{
	MUTEX_GUARD(&c->lock);
	*ret_waiting = 0;
	for (const struct promise *p = c->promises; p; p = p->next)
		++*ret_waiting;
	*ret_deferred = c->deferred;
}

bool capture_is_behind_locked(struct capture *c, uint64_t lsn)
{
	struct entry *first = pending_first(c->pending);

	if (first && first->lsn <= lsn)
		return true;
	for (const struct local *l = pending_first_dirty(c->pending); l; l = l->next_dirty) {
		if (l->dirty_lsn <= lsn)
			return true;
	}
	return false;
}

uint64_t capture_mark(struct capture *c)
{
	return journal_last_lsn(c->journal);
}

int capture_wait(struct capture *c, uint64_t mark, uint64_t deadline_ms)
{
	MUTEX_GUARD(&c->lock);
	while (capture_is_behind_locked(c, mark)) {
		if (c->stopping)
			return -ECANCELED;
		if (!cond_wait_until(&c->settled, &c->lock, deadline_ms))
			return -ETIMEDOUT;
	}
	return 0;
}

void capture_await_settled(struct capture *c, uint64_t deadline_ms)
{
	MUTEX_GUARD(&c->lock);
	if (!c->stopping)
		(void)cond_wait_until(&c->settled, &c->lock, deadline_ms);
}

/* ---- questions ---- */

const char *capture_state(struct capture *c, const struct stat_id *object)
{
	struct node_state remote;
	unsigned writers = inode_writers(c->inodes, object);
	struct local *l;
	struct id node;

	MUTEX_GUARD(&c->lock);
	if ((object->mode && !tree_kind(object->mode)) || capture_resolve_locked(c, object, &node) != 0)
		return "local-only";
	l = pending_find(c->pending, &node);
	if (l && (l->dirty_lsn || (l->entries && writers)))
		return "dirty";
	if (l && l->entries)
		return pending_unsent(c->pending, &node, ~0u) ? "queued" : "uploading";
	if (syncstate_peek_remote(c->state, &node, &remote) == 0) {
		node_state_fini(&remote);
		return "remote-newer";
	}
	return "synced";
}

int capture_version(struct capture *c, const struct stat_id *object, uint64_t *ret_c, uint64_t *ret_seq)
{
	struct base_row row;
	struct id node;
	int r;

	mutex_lock(&c->lock);
	r = capture_resolve_locked(c, object, &node);
	mutex_unlock(&c->lock);
	if (r)
		return r > 0 ? -ENODATA : r;
	r = syncstate_peek_base(c->state, &node, &row);
	if (r)
		return r == -ENOENT ? -ENODATA : r;
	*ret_c = (int64_t)row.state.c > 0 ? row.state.c : 0; /* else kept elsewhere by the server */
	*ret_seq = row.state.seq;
	base_row_fini(&row);
	return 0;
}
