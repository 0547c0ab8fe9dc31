/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Replays the journal into the queue. Called by client at start and end; an intent without an outcome is left
 * to the scan, which looks at the disk; a file that was being written counts as changed.
 */
#include "recover.h"

#include <errno.h>
#include <stdlib.h>

#include <syncfs/io.h>
#include <syncfs/log.h>
#include <syncfs/map.h>

#include "capture_internal.h"

/* What one open lsn stands for during the replay. */
struct replayed {
	struct record record; /* INTENT, CLOSED or DIRTY; its strings are ours */
	struct entry *entry; /* once queued */
	bool is_settled; /* the agreed state has it, only that was not noted here any more */
};

/* ---- nodes that became others ---- */

static int note_became(void *arg, const struct id *node, const struct id *became)
{
	struct capture *c = arg;
	struct id *copy = malloc(sizeof(*copy));
	int r = copy ? map_put(c->became, node->b, ID_BYTES, copy) : -ENOMEM;

	if (r)
		free(copy);
	else
		*copy = *became;
	return r;
}

const struct id *capture_replayed_id(const struct capture *c, const struct id *node)
{
	const struct id *next = node;

	/* Each became another once; more steps than there are would be a ring, which nobody has written. */
	for (size_t left = map_count(c->became); next && left; left--) {
		next = map_get(c->became, node->b, ID_BYTES);
		node = next ? next : node;
	}
	return node;
}

static void forget_became(struct capture *c)
{
	map_free_values(c->became);
	c->became = NULL;
}

/* Once nothing is replayed that names them, they are not needed any more. */
static int clear_became(struct capture *c)
{
	int r;

	if (!map_count(c->became) || pending_count(c->pending))
		return 0;
	r = syncstate_begin(c->state, false);
	if (r)
		return r;
	r = syncstate_aliases_clear(c->state);
	return syncstate_end(c->state, r);
}

/* ---- records ---- */

static int copy_record(const struct record *from, struct record *to)
{
	*to = *from;
	to->lsns = NULL;
	to->name = from->name ? strdup(from->name) : NULL;
	to->new_name = from->new_name ? strdup(from->new_name) : NULL;
	to->target = from->target ? strdup(from->target) : NULL;
	if ((from->name && !to->name) || (from->new_name && !to->new_name) || (from->target && !to->target)) {
		record_fini(to);
		return -ENOMEM;
	}
	return 0;
}

static int remember(struct capture *c, const struct record *r, struct replayed **ret_replayed)
{
	struct replayed *rp = calloc(1, sizeof(*rp));
	int error = rp ? copy_record(r, &rp->record) : -ENOMEM;

	if (!error)
		error = map_put(c->replayed, &r->lsn, sizeof(r->lsn), rp);
	if (error)
		free(rp);
	else
		*ret_replayed = rp;
	return error;
}

static void forget_dirty(struct capture *c, const struct record *r)
{
	struct local *l = pending_find(c->pending, &r->node);

	if (!l || l->dirty_lsn != r->lsn)
		return;
	pending_set_dirty(c->pending, l, 0);
	pending_settle(c->pending, l);
}

static void forget(struct capture *c, uint64_t lsn)
{
	struct replayed *rp = map_remove(c->replayed, &lsn, sizeof(lsn));

	if (!rp)
		return;
	if (rp->record.type == RECORD_DIRTY)
		forget_dirty(c, &rp->record);
	if (rp->entry)
		pending_remove(c->pending, rp->entry);
	record_fini(&rp->record);
	free(rp);
}

static int enqueue(struct capture *c, struct replayed *rp, const struct record *identity)
{
	struct stat_id object = {.dev = identity->dev, .ino = identity->ino, .btime_ns = identity->btime_ns};
	int r = capture_enqueue_locked(c, &rp->record, &object);

	if (!r)
		rp->entry = pending_unsent(c->pending, &rp->record.node, 1u << rp->record.op);
	return r;
}

/* A close answers the dirty mark before it. */
static uint64_t take_dirty(struct capture *c, const struct id *node)
{
	struct local *l = pending_find(c->pending, node);
	uint64_t lsn = l ? l->dirty_lsn : 0;

	if (l)
		pending_set_dirty(c->pending, l, 0);
	return lsn;
}

/* The unsent operation on the file's content has this mark's change in it. 1: there is none. */
static int answer_dirty(struct capture *c, const struct id *node, uint64_t lsn)
{
	struct entry *e = pending_unsent(c->pending, node, 1u << OP_CREATE | 1u << OP_WRITE);

	if (!e)
		return 1;
	if (e->dirty_lsn)
		return entry_absorb(e, lsn);
	e->dirty_lsn = lsn;
	return 0;
}

static int replay_dirty(struct capture *c, const struct record *r)
{
	struct stat_id object = {.dev = r->dev, .ino = r->ino, .btime_ns = r->btime_ns};
	struct replayed *rp;
	struct local *l;
	int error = remember(c, r, &rp);

	if (error)
		return error;
	l = pending_local(c->pending, &r->node, KIND_FILE, &object);
	if (!l)
		return -ENOMEM;
	/* There was a close in between, of which an unsent operation needed no record. */
	error = l->dirty_lsn ? answer_dirty(c, &r->node, l->dirty_lsn) : 0;
	pending_set_dirty(c->pending, l, r->lsn);
	l->is_synced = false;
	return error < 0 ? error : 0;
}

static int replay_closed(struct capture *c, const struct record *r)
{
	struct replayed *rp;
	int error = remember(c, r, &rp);

	if (error)
		return error;
	rp->record.op = OP_WRITE;
	rp->record.kind = KIND_FILE;
	error = enqueue(c, rp, r);
	if (!error && rp->entry)
		rp->entry->dirty_lsn = take_dirty(c, &r->node);
	return error;
}

static void replay_synced(struct capture *c, const struct record *r)
{
	struct local *l = pending_find(c->pending, &r->node);

	if (!l)
		return; /* it is at the server */
	l->is_synced = true;
	l->synced_size = r->size;
}

static int replay_done(struct capture *c, const struct record *r)
{
	struct replayed *rp = map_get(c->replayed, &r->intent_lsn, sizeof(r->intent_lsn));

	if (!rp || rp->entry || rp->is_settled)
		return 0;
	if (r->ok)
		return enqueue(c, rp, r);
	return 0; /* its ACKED follows */
}

static int replay_intent(struct capture *c, const struct record *r, bool is_settled)
{
	struct replayed *rp;
	int error = remember(c, r, &rp);

	if (!error)
		rp->is_settled = is_settled;
	return error;
}

static int replay(void *arg, const struct record *said)
{
	struct capture *c = arg;
	struct record is = *said, *r = &is; /* its strings are borrowed */
	bool other;

	r->node = *capture_replayed_id(c, &said->node);
	r->other = *capture_replayed_id(c, &said->other);
	r->parent = *capture_replayed_id(c, &said->parent);
	r->new_parent = *capture_replayed_id(c, &said->new_parent);
	other = !id_equal(&r->node, &said->node);
	switch (r->type) {
	case RECORD_INTENT:
		return replay_intent(c, r, other && r->op == OP_CREATE);
	case RECORD_DONE:
		return replay_done(c, r);
	case RECORD_DIRTY:
		return replay_dirty(c, r);
	case RECORD_CLOSED:
		return replay_closed(c, r);
	case RECORD_ACKED:
		for (size_t i = 0; i < r->lsns_count; i++)
			forget(c, r->lsns[i]);
		return 0;
	case RECORD_SYNCED:
		replay_synced(c, r);
		return 0;
	case RECORD_SEAL:
		return 0;
	}
	return -EBADMSG;
}

int capture_requeue_locked(struct capture *c, struct local *l, uint64_t dirty_lsn)
{
	struct record rec = {.type = RECORD_CLOSED,
		.op = OP_WRITE,
		.kind = KIND_FILE,
		.node = l->node,
		.dev = l->object.dev,
		.ino = l->object.ino,
		.btime_ns = l->object.btime_ns};
	struct entry *e;
	int r = journal_append(c->journal, &rec);

	if (!r)
		r = capture_enqueue_locked(c, &rec, &l->object);
	e = r ? NULL : pending_unsent(c->pending, &rec.node, 1u << OP_WRITE);
	if (e)
		e->dirty_lsn = dirty_lsn;
	return r;
}

/*
 * Files that were being written when we ended: as if they had been closed. What is unsent of them is read
 * when it is sent, and needs no second operation; should it be on its way already, outbox_claim() makes one.
 */
static int close_dirty(struct capture *c)
{
	struct local *l;
	int r = 0;

	while (!r && (l = pending_first_dirty(c->pending))) {
		uint64_t lsn = l->dirty_lsn;

		pending_set_dirty(c->pending, l, 0);
		r = answer_dirty(c, &l->node, lsn);
		if (r > 0)
			r = capture_requeue_locked(c, l, lsn);
	}
	return r;
}

/* The queue has what it needs of them. */
static void forget_replayed(struct capture *c)
{
	const void *key;
	size_t pos = 0, len;
	void *value;

	while (c->replayed && map_next(c->replayed, &pos, &key, &len, &value)) {
		struct replayed *rp = value;

		record_fini(&rp->record);
		free(rp);
	}
	map_free(c->replayed);
	c->replayed = NULL;
}

/*
 * It was under way when we ended, and has happened: a name that was to be removed is gone. What attributes
 * were to be is read when it is sent: should they be as they were, nothing changes.
 */
static bool has_happened(struct capture *c, const struct record *r)
{
	cleanup_buf struct buf path = BUF_INIT;
	cleanup_fd int dirfd = -1;
	struct stat_id now;

	if (r->type == RECORD_INTENT && r->op == OP_SETATTR)
		return true;
	if (r->type != RECORD_INTENT || (r->op != OP_UNLINK && r->op != OP_RMDIR) ||
		pending_dir_path(c->pending, &r->parent, &path))
		return false;
	dirfd = tree_open_dir(c->tree, buf_cstr(&path) ? buf_cstr(&path) : "");
	return dirfd >= 0 && tree_stat(dirfd, r->name, &now) == -ENOENT;
}

/*
 * It is said who did it. A scan would only find a name missing, and pass over attributes of a file on which
 * other operations are waiting.
 */
static int finish_intent(struct capture *c, struct replayed *rp)
{
	const struct record *r = &rp->record;
	struct record done = {.type = RECORD_DONE,
		.intent_lsn = r->lsn,
		.ok = true,
		.dev = r->dev,
		.ino = r->ino,
		.btime_ns = r->btime_ns};
	int error = journal_append(c->journal, &done);

	return error ? error : enqueue(c, rp, &done);
}

/* What the replay still holds: queued (then the queue has it), or an intent without an outcome: then the disk
 * tells of some, and of all else the scan finds out. */
static int end_replay(struct capture *c)
{
	const void *key;
	size_t pos = 0, len;
	void *value;
	int r = 0;

	while (!r && map_next(c->replayed, &pos, &key, &len, &value)) {
		struct replayed *rp = value;

		if (!rp->entry && has_happened(c, &rp->record)) {
			r = finish_intent(c, rp);
		} else if (!rp->entry && rp->record.type == RECORD_INTENT) {
			r = journal_ack(c->journal, &rp->record.lsn, 1);
			c->scan_wanted = true;
		}
	}
	forget_replayed(c);
	return r;
}

static int open_parts(struct capture *c, const struct capture_config *config)
{
	int r = tree_stat(config->tree->root_fd, "", &c->root);

	if (r)
		return r;
	c->pending = pending_new(config->state);
	c->replayed = map_new();
	c->became = map_new();
	if (!c->pending || !c->replayed || !c->became)
		return -ENOMEM;
	r = syncstate_aliases(config->state, note_became, c);
	if (r)
		return r;
	mutex_lock(&c->lock);
	r = journal_open(config->state_dirfd, replay, c, &c->journal);
	if (!r)
		r = end_replay(c);
	if (!r)
		r = close_dirty(c);
	if (!r)
		r = clear_became(c);
	mutex_unlock(&c->lock);
	return r;
}

int capture_open(const struct capture_config *config, struct capture **ret_capture, size_t *ret_replayed)
{
	struct capture *c = calloc(1, sizeof(*c));
	int r;

	if (!c)
		return -ENOMEM;
	mutex_init(&c->lock, RANK_CAPTURE, "capture");
	cond_init(&c->work);
	cond_init(&c->scan);
	cond_init(&c->settled);
	cond_init(&c->awaited);
	c->state = config->state;
	c->tree = config->tree;
	c->tree_lock = config->tree_lock;
	c->inodes = config->inodes;
	c->released = config->released;
	c->released_arg = config->arg;
	r = open_parts(c, config);
	if (r) {
		capture_close(c);
		return r;
	}
	*ret_replayed = pending_count(c->pending);
	*ret_capture = c;
	return 0;
}

void capture_close(struct capture *c)
{
	if (!c)
		return;
	if (c->journal && journal_sync(c->journal))
		log_error("journal: the last records may not survive a power loss");
	journal_close(c->journal);
	pending_free(c->pending);
	forget_replayed(c);
	forget_became(c);
	cond_fini(&c->settled);
	cond_fini(&c->awaited);
	cond_fini(&c->scan);
	cond_fini(&c->work);
	mutex_fini(&c->lock);
	free(c);
}
