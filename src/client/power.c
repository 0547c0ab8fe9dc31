/* SPDX-License-Identifier: Apache-2.0 */
/*
 * power.h. Called by client.c alone: at the start before session and mount, and at the end after them.
 * Removes nothing: what it doubts goes to .syncfs/recovered.
 */
#include "power.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include <syncfs/io.h>
#include <syncfs/log.h>

#include "capture_internal.h"
#include "inflight.h"
#include "outbox.h"
#include "rescan.h"
#include "rescan_found.h"
#include "rescan_torn.h"

#define BOOT_ID "/proc/sys/kernel/random/boot_id"
#define BOOT_ID_MAX_BYTES 64
#define REPLACED_MAX 8

enum end { RUNNING = 'r', ENDED = 'e' };

/* ---- how the last run ended ---- */

/* "ID\n", and how it ended; without /proc the machine counts as never started anew. */
static int boot_mark(enum end end, struct buf *out)
{
	int r = io_read_file(AT_FDCWD, BOOT_ID, BOOT_ID_MAX_BYTES, out);

	if (r && r != -ENOENT)
		return r;
	buf_put_u8(out, (uint8_t)end);
	return out->error;
}

static int put_mark(struct syncstate *s, enum end end, bool lost)
{
	cleanup_buf struct buf mark = BUF_INIT;
	int r = boot_mark(end, &mark);

	if (!r)
		r = syncstate_begin(s, true);
	if (r)
		return r;
	r = syncstate_meta_put(s, "boot", mark.data, mark.len);
	if (!r && lost)
		r = rescan_doubt(s);
	return syncstate_end(s, r);
}

int power_was_lost(struct syncstate *s, bool *ret_lost)
{
	cleanup_buf struct buf now = BUF_INIT;
	uint8_t last[BOOT_ID_MAX_BYTES + 1];
	size_t len;
	int r = syncstate_peek_meta(s, "boot", last, sizeof(last), &len);

	*ret_lost = false;
	if (r)
		return r == -ENOENT ? 0 : r;
	r = boot_mark(RUNNING, &now);
	if (!r)
		*ret_lost = len > 0 && last[len - 1] == RUNNING &&
			(len != now.len || memcmp(last, now.data, len) != 0);
	return r;
}

int power_running(struct syncstate *s, bool lost)
{
	return put_mark(s, RUNNING, lost);
}

int power_ended(struct syncstate *s, const struct tree *t)
{
	int r = tree_sync_all(t);

	return r ? r : put_mark(s, ENDED, false);
}

/* ---- what it has done ---- */

struct repair {
	struct rescan_config config;
	struct found_context found;
	int state_dirfd; /* borrowed */
	struct outbox batch; /* that was on its way */
	bool drop_batch; /* something of it was put aside: it may not be settled here */
	size_t count;
};

/* Nodes whose agreed content is to come back. */
struct victims {
	struct id nodes[REPLACED_MAX + 1];
	size_t count;
};

static bool had_content(struct repair *rp, const struct id *node)
{
	struct base_row row;
	bool had;

	if (syncstate_peek_base(rp->config.state, node, &row))
		return false;
	had = row.state.kind == KIND_FILE && row.state.content.size > 0;
	base_row_fini(&row);
	return had;
}

static bool is_unchanged(struct repair *rp, const struct id *node, const struct stat_id *now)
{
	struct base_row row;
	bool same;

	if (capture_is_busy(rp->config.capture, node) || syncstate_peek_base(rp->config.state, node, &row))
		return false;
	same = stat_id_unchanged(&row.disk, now);
	base_row_fini(&row);
	return same;
}

/* Of its names nothing is under way but what the node's operations have done, and further ones that went. */
static bool is_settled(struct capture *c, const struct id *victim, const struct id *node)
{
	const struct local *l;

	MUTEX_GUARD(&c->lock);
	l = pending_find(c->pending, victim);
	for (const struct entry_link *link = l ? l->queued.first : NULL; link; link = link->next) {
		const struct entry *e = link->entry;

		if (id_equal(&e->node, node))
			continue;
		if (link == &e->of_node ? e->type != OP_WRITE && e->type != OP_SETATTR
					: e->type != OP_RENAME || !e->remains)
			return false;
	}
	return true;
}

/* What the node's operations have replaced; false: not so simple, they stay. */
static bool undoable_locked(struct capture *c, const struct id *node, struct victims *v)
{
	const struct local *l = pending_find(c->pending, node);

	for (const struct entry_link *link = l ? l->queued.first : NULL; link; link = link->next) {
		const struct entry *e = link->entry;

		if (link == &e->of_other || e->in_flight)
			return false;
		if (e->type != OP_CREATE && e->type != OP_WRITE && e->type != OP_SETATTR &&
			e->type != OP_RENAME)
			return false;
		if (id_is_none(&e->other))
			continue;
		if (v->count > REPLACED_MAX)
			return false;
		v->nodes[v->count++] = e->other;
	}
	return true;
}

static bool is_victim(const struct victims *v, const struct id *node)
{
	for (size_t i = 0; i < v->count; i++) {
		if (id_equal(&v->nodes[i], node))
			return true;
	}
	return false;
}

/* What the node's operations have replaced and does not come back: it is under its name again, and missing.
 */
static int give_back_locked(struct capture *c, const struct id *node, const struct victims *v,
	struct missing **list, size_t *count)
{
	const struct local *l = pending_find(c->pending, node);
	int r = 0;

	for (const struct entry_link *link = l ? l->queued.first : NULL; link && !r; link = link->next) {
		const struct entry *e = link->entry;
		struct local *other = id_is_none(&e->other) ? NULL : pending_find(c->pending, &e->other);

		if (!other || is_victim(v, &e->other))
			continue;
		r = local_name_add(c->pending, other, &e->new_parent, e->new_name);
		if (!r)
			r = missing_add(list, count, &e->other, other->kind, &e->new_parent, e->new_name);
	}
	return r;
}

static int undo_locked(struct capture *c, const struct id *node)
{
	const struct local *l;
	int r = 0;

	/* The local goes with the last. */
	while (!r && (l = pending_find(c->pending, node)) && l->queued.first)
		r = outbox_drop_locked(c, l->queued.first->entry);
	return r;
}

static int undo(struct repair *rp, const struct id *node, const struct victims *v)
{
	struct capture *c = rp->config.capture;
	struct missing *list = NULL;
	size_t count = 0;
	int r;

	mutex_lock(&c->lock);
	r = give_back_locked(c, node, v, &list, &count);
	if (!r)
		r = undo_locked(c, node);
	mutex_unlock(&c->lock);
	for (size_t i = 0; i < count && !r; i++)
		r = found_missing(&rp->found, &list[i]);
	missing_free(list, count);
	return r;
}

/* The agreed version of the node, or of what it replaced, when there is one and nothing speaks against its
 * coming back. */
static bool find_victims(struct repair *rp, const struct id *node, struct victims *v)
{
	struct capture *c = rp->config.capture;
	size_t n = 0;
	bool simple;

	*v = (struct victims){.nodes = {*node}, .count = 1};
	mutex_lock(&c->lock);
	simple = undoable_locked(c, node, v);
	mutex_unlock(&c->lock);
	for (size_t i = 0; simple && i < v->count; i++) {
		if (!had_content(rp, &v->nodes[i]))
			continue;
		simple = is_settled(c, &v->nodes[i], node);
		v->nodes[n++] = v->nodes[i];
	}
	v->count = n;
	return simple && n > 0;
}

static int bring_back(struct repair *rp, const struct victims *v)
{
	struct missing *list = NULL;
	struct base_row row;
	size_t count = 0;
	int r = 0;

	for (size_t i = 0; i < v->count && !r; i++) {
		r = syncstate_peek_base(rp->config.state, &v->nodes[i], &row);
		for (size_t k = 0; !r && k < row.state.names_count; k++)
			r = missing_add(&list, &count, &row.state.node, row.state.kind,
				&row.state.names[k].parent, row.state.names[k].name);
		if (r != -ENOENT)
			base_row_fini(&row);
	}
	if (!r)
		r = found_restore(&rp->found, list, count, true);
	missing_free(list, count);
	return r;
}

/*
 * Settled here, the batch would say of an object that is put aside that it was agreed, and then is gone.
 * Without it the server knows more of us than we do, if it has carried it out: then all is merged, nothing
 * deleted.
 */
static bool is_in_batch(const struct repair *rp, const struct id *node)
{
	for (size_t i = 0; i < rp->batch.count; i++) {
		if (id_equal(&rp->batch.items[i].op.node, node))
			return true;
	}
	return false;
}

static int load_batch(struct repair *rp)
{
	cleanup_buf struct buf encoded = BUF_INIT;
	uint64_t last_opno;
	int r = inflight_load(rp->state_dirfd, &rp->batch, &encoded, &last_opno);

	return r == -ENOENT || r == -EBADMSG ? 0 : r;
}

static int put_aside(
	struct repair *rp, const struct scan_entry *e, const struct id *node, const struct victims *v)
{
	int r = torn_put_aside(rp->config.tree, e);

	if (r)
		return r;
	rp->count++;
	rp->drop_batch |= is_in_batch(rp, node);
	r = undo(rp, node, v);
	return r ? r : bring_back(rp, v);
}

/* The node that the file stands for; one that nobody knows has taken the place of who has its name by the
 * agreed state. -ENOENT. */
static int find_node(struct repair *rp, const struct scan_entry *e, struct id *ret_node)
{
	struct id parent;
	int r = capture_resolve(rp->config.capture, &e->stat, ret_node);

	if (r == -ENOENT)
		r = capture_resolve(rp->config.capture, &e->dir, &parent);
	else
		return r;
	return r ? r : syncstate_peek_name(rp->config.state, &parent, e->name, ret_node);
}

/* Nothing was written to it after an fsync, at which it had this size. */
static bool is_synced(struct repair *rp, const struct id *node, uint64_t size)
{
	struct capture *c = rp->config.capture;
	const struct local *l;
	bool synced;

	mutex_lock(&c->lock);
	l = pending_find(c->pending, node);
	synced = l && l->is_synced && l->synced_size == size;
	mutex_unlock(&c->lock);
	return synced;
}

static int on_entry(void *arg, const struct scan_entry *e)
{
	struct repair *rp = arg;
	struct victims v;
	struct id node;
	int r;

	if (tree_kind(e->stat.mode) != KIND_FILE)
		return SCAN_DESCEND;
	if (e->stat.nlink > 1 || find_node(rp, e, &node) || is_synced(rp, &node, e->stat.size) ||
		is_unchanged(rp, &node, &e->stat))
		return SCAN_SKIP;
	if (!torn_is(rp->config.tree, e) || !find_victims(rp, &node, &v))
		return SCAN_SKIP;
	r = put_aside(rp, e, &node, &v);
	return r ? r : SCAN_SKIP;
}

int power_repair(struct syncstate *s, const struct tree *t, struct rwlock *tree_lock, struct capture *c,
	int state_dirfd, size_t *ret_count)
{
	struct mutex apply_lock;
	struct repair rp = {
		.config = {.tree = t,
			.tree_lock = tree_lock,
			.apply_lock = &apply_lock,
			.capture = c,
			.state = s},
		.state_dirfd = state_dirfd,
	};
	struct scan_ops ops = {.arg = &rp, .entry = on_entry};
	int r;

	mutex_init(&apply_lock, RANK_APPLY, "apply");
	rp.found.config = &rp.config;
	r = load_batch(&rp);
	if (!r)
		r = tree_scan(t, "", true, &ops);
	if (!r && rp.drop_batch)
		r = inflight_remove(state_dirfd);
	if (!r && rp.count)
		r = tree_sync_all(t);
	if (!r && rp.count)
		r = capture_sync(c);
	outbox_fini(&rp.batch);
	mutex_fini(&apply_lock);
	*ret_count = rp.count;
	return r;
}
