/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Second part of a commit, and what ties the parts together: one transaction over the rows with the rules of
 * commit.h, the place-intents in it, COMMIT, the placing, the clearing. Called under the store's lock by all
 * who change anything. Never answers before the tree shows what was committed.
 */
#include "store_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include <syncfs/clock.h>
#include <syncfs/failpoint.h>
#include <syncfs/log.h>

void (*store_hook_committed)(void), (*store_hook_placed)(void);

int store_fail(struct store *s, const char *what, int r)
{
	if (!atomic_exchange_explicit(&s->failed, true, memory_order_relaxed))
		log_error("%s: %s; nothing is accepted any more, restart to recover", what, err_str(r));
	return -EIO;
}

bool store_is_failed(const struct store *s)
{
	return atomic_load_explicit(&s->failed, memory_order_relaxed);
}

/* ---- results as bytes ---- */

void result_pack(const struct result *r, struct buf *out)
{
	buf_put_u8(out, (uint8_t)r->outcome);
	buf_put_u64(out, r->opno);
	buf_put_u64(out, r->seq);
	buf_put_u64(out, r->c);
	buf_put_u64(out, r->l);
	buf_put_u64(out, r->a);
	buf_put(out, r->node.b, ID_BYTES);
	buf_put(out, r->parent.b, ID_BYTES);
	buf_put_blob(out, r->name ? r->name : "", r->name ? strlen(r->name) : 0);
	buf_put_u32(out, (uint32_t)-r->code);
	buf_put_blob(out, r->reason ? r->reason : "", r->reason ? strlen(r->reason) : 0);
}

int result_unpack(const void *bytes, size_t len, struct result *ret_result)
{
	struct reader in = READER_INIT(bytes, len);
	struct result r = {.outcome = (enum outcome)reader_u8(&in)};
	const void *id;

	r.opno = reader_u64(&in);
	r.seq = reader_u64(&in);
	r.c = reader_u64(&in);
	r.l = reader_u64(&in);
	r.a = reader_u64(&in);
	id = reader_take(&in, ID_BYTES);
	if (id)
		memcpy(r.node.b, id, ID_BYTES);
	id = reader_take(&in, ID_BYTES);
	if (id)
		memcpy(r.parent.b, id, ID_BYTES);
	r.name = reader_str(&in);
	r.code = -(int)reader_u32(&in);
	r.reason = reader_str(&in);
	if (!reader_at_end(&in)) {
		result_fini(&r);
		return -EBADMSG;
	}
	if (r.outcome != OUTCOME_KEPT) {
		free(r.name);
		r.name = NULL;
	}
	if (r.outcome != OUTCOME_REJECT) {
		free(r.reason);
		r.reason = NULL;
	}
	*ret_result = r;
	return 0;
}

/* ---- rows for the rules ---- */

static void dirs_forget(struct txn *x)
{
	for (size_t i = 0; i < x->dirs_count; i++)
		node_state_fini(&x->dirs[i]);
	x->dirs_count = x->dirs_next = 0;
	free(x->path);
	x->path = NULL;
}

static const struct node_state *dirs_find(const struct txn *x, const struct id *node)
{
	for (size_t i = 0; i < x->dirs_count; i++) {
		if (id_equal(&x->dirs[i].node, node))
			return &x->dirs[i];
	}
	return NULL;
}

/* Takes the place of the oldest; without memory it is not kept. */
static void dirs_keep(struct txn *x, const struct node_state *n)
{
	struct node_state copy;

	if (node_state_copy(n, &copy) < 0)
		return;
	if (x->dirs_count < TXN_DIRS) {
		x->dirs[x->dirs_count++] = copy;
		return;
	}
	node_state_fini(&x->dirs[x->dirs_next]);
	x->dirs[x->dirs_next] = copy;
	x->dirs_next = (x->dirs_next + 1) % TXN_DIRS;
}

static int env_node_get(void *arg, const struct id *node, struct node_state *ret_node)
{
	struct txn *x = arg;
	const struct node_state *kept = dirs_find(x, node);
	int r;

	if (kept)
		return node_state_copy(kept, ret_node);
	r = meta_node_get(x->s->meta, node, ret_node);
	if (r == 0 && ret_node->kind == KIND_DIR && !ret_node->tomb)
		dirs_keep(x, ret_node);
	return r;
}

int txn_history_start(struct store *s)
{
	s->history_from_ms = clock_mono_ms();
	return meta_history_newest(s->meta, &s->history_ns);
}

int64_t txn_history_ns(const struct store *s)
{
	return s->history_ns + (int64_t)(clock_mono_ms() - s->history_from_ms) * 1000000;
}

static int env_node_put(void *arg, const struct node_state *n)
{
	struct txn *x = arg;
	struct meta_old old;
	struct stat_id last = {0};
	bool was_live, goes;
	int r = n->tomb ? txn_expect(x, &n->node, &last) : 0;

	if (n->tomb || dirs_find(x, &n->node))
		dirs_forget(x);
	/* The row of a dead node forgets its object, which the removal has yet to find. */
	if (r == 0 && n->tomb)
		r = txn_predict(x, &n->node, &last);
	if (r == 0)
		r = meta_node_put(x->s->meta, n, &old);
	if (r < 0)
		return r;
	was_live = old.exists && !old.tomb;
	x->nodes_delta += (n->tomb ? 0 : 1) - (was_live ? 1 : 0);
	x->tag_node = n->node;
	goes = was_live && old.kind == KIND_FILE &&
		(n->tomb || !hash_equal(&old.content.hash, &n->content.hash) ||
			old.content.size != n->content.size);
	if (!goes)
		return 0;
	x->old = old.content;
	x->old_node = n->node;
	return meta_history_put(x->s->meta, &n->node, old.c, &old.content, txn_history_ns(x->s));
}

static int env_dentry_get(
	void *arg, const struct id *parent, const char *name, struct id *ret_node, uint64_t *ret_l)
{
	return meta_dentry_get(((struct txn *)arg)->s->meta, parent, name, ret_node, ret_l);
}

static int env_dentry_put(
	void *arg, const struct id *parent, const char *name, const struct id *node, uint64_t l)
{
	struct txn *x = arg;

	/* the name of a new file is no part of any directory's path, every other one may be */
	if (x->op->type != OP_CREATE || x->op->kind == KIND_DIR || !id_equal(node, &x->op->node) ||
		dirs_find(x, node))
		dirs_forget(x);
	return meta_dentry_put(x->s->meta, parent, name, node, l);
}

static int env_dentry_del(void *arg, const struct id *parent, const char *name)
{
	struct txn *x = arg;

	dirs_forget(x);
	return meta_dentry_del(x->s->meta, parent, name);
}

static int env_has_children(void *arg, const struct id *node)
{
	return meta_has_children(((struct txn *)arg)->s->meta, node);
}

static int env_last_name_get(void *arg, const struct id *node, struct id *ret_parent, char **ret_name)
{
	return meta_last_name_get(((struct txn *)arg)->s->meta, node, ret_parent, ret_name);
}

static int env_last_name_put(void *arg, const struct id *node, const struct id *parent, const char *name)
{
	return meta_last_name_put(((struct txn *)arg)->s->meta, node, parent, name);
}

static int env_alias_get(void *arg, const struct id *alias, struct id *ret_node)
{
	return meta_alias_get(((struct txn *)arg)->s->meta, alias, ret_node);
}

static int env_had(void *arg, const struct id *node, uint64_t c, const struct content *content)
{
	return meta_history_has(((struct txn *)arg)->s->meta, node, c, content);
}

static int env_alias_put(void *arg, const struct id *alias, const struct id *node)
{
	return meta_alias_put(((struct txn *)arg)->s->meta, alias, node);
}

static int env_own_result(void *arg, uint64_t opno, const struct result **ret_result)
{
	struct txn *x = arg;
	cleanup_buf struct buf packed = BUF_INIT;
	struct hash digest;
	int r;

	for (size_t i = 0; i < x->results_count; i++) {
		if (x->results[i].opno == opno) {
			*ret_result = &x->results[i];
			return 0;
		}
	}
	r = meta_done_get(x->s->meta, &x->sender->client, opno, &digest, &packed);
	if (r < 0)
		return r;
	result_fini(&x->own);
	x->own = (struct result){0};
	r = result_unpack(packed.data, packed.len, &x->own);
	*ret_result = &x->own;
	return r;
}

static int env_seq_next(void *arg, uint64_t *ret_seq)
{
	struct txn *x = arg;

	x->op_seq = ++x->at.seq;
	*ret_seq = x->op_seq;
	return 0;
}

/* ---- the transaction ---- */

static int begin(struct txn *x, struct store *s, bool in_place, bool durable)
{
	int r;

	*x = (struct txn){.s = s, .in_place = in_place, .at = s->at};
	if (atomic_load_explicit(&s->failed, memory_order_relaxed))
		return -EIO;
	x->ids = map_new();
	if (!x->ids)
		return -ENOMEM;
	r = meta_begin(s->meta, durable);
	if (r < 0) {
		map_free(x->ids);
		x->ids = NULL;
	}
	return r;
}

int txn_begin(struct txn *x, struct store *s, bool in_place)
{
	return begin(x, s, in_place, true);
}

int txn_begin_known(struct txn *x, struct store *s)
{
	return begin(x, s, true, false);
}

static void txn_fini(struct txn *x, bool undone)
{
	map_free_values(x->ids);
	for (size_t i = 0; undone && i < x->steps.count; i++) {
		if (x->steps.list[i].own_stage && x->steps.list[i].stage[0])
			(void)stage_drop(&x->s->tree, x->steps.list[i].stage);
	}
	steps_fini(&x->steps);
	result_fini(&x->own);
	dirs_forget(x);
	x->ids = NULL;
	x->own = (struct result){0};
}

void txn_rollback(struct txn *x)
{
	meta_rollback(x->s->meta);
	txn_fini(x, true);
}

static struct commit_env env_of(struct txn *x)
{
	return (struct commit_env){x, env_node_get, env_node_put, env_dentry_get, env_dentry_put,
		env_dentry_del, env_has_children, env_last_name_get, env_last_name_put, env_alias_get,
		env_alias_put, env_own_result, env_had, env_seq_next, txn_emit};
}

int txn_refuse(struct txn *x, const struct commit_sender *sender, const struct op *op, int code,
	const char *reason, struct result *ret_result)
{
	const struct commit_env env = env_of(x);

	x->sender = sender;
	return commit_refuse(&env, op, code, reason, ret_result);
}

int txn_apply(struct txn *x, const struct commit_sender *sender, const struct op *op,
	struct prepared *prepared, struct result *ret_result)
{
	const struct commit_env env = env_of(x);
	int r;

	x->sender = sender;
	x->op = op;
	x->prepared = prepared;
	x->old_node = ID_NONE;
	x->op_seq = 0;
	x->tag_node = op->node;
	r = commit_apply(&env, sender, op, ret_result);
	if (r < 0 || !x->op_seq)
		return r;
	x->ops++;
	x->at.tag = commit_tag(x->at.tag, x->op_seq, &sender->client, op->opno, &op->node);
	r = meta_log_put(x->s->meta, x->op_seq, x->at.tag);
	if (r == 0 && prepared && (op->type == OP_CREATE || op->type == OP_WRITE) && !op->target &&
		!prepared->is_dir)
		r = meta_content_put(x->s->meta, &op->content, &prepared->manifest);
	if (r < 0)
		result_fini(ret_result);
	return r;
}

/* Identities and the end of the intent: need not be durable, since both can be found out again. */
static int clear(struct store *s, const struct placed *placed, size_t count, int64_t intent)
{
	int r = meta_begin(s->meta, false);

	for (size_t i = 0; r == 0 && i < count; i++)
		r = meta_disk_put(s->meta, &placed[i].node, &placed[i].disk);
	if (r == 0)
		r = meta_intent_del(s->meta, intent);
	if (r == 0)
		r = meta_commit(s->meta);
	if (r < 0)
		meta_rollback(s->meta);
	return r;
}

static int carry_out(struct store *s, struct steps *steps, bool redo, int64_t intent)
{
	struct placed *placed = NULL;
	size_t count;
	int r = store_place(s, steps, redo, &placed, &count);

	if (r < 0)
		return store_fail(s, "place in the tree", r);
	FAILPOINT("C4e");
	if (store_hook_placed)
		store_hook_placed();
	r = clear(s, placed, count, intent);
	FAILPOINT("C4f");
	free(placed);
	return r < 0 ? store_fail(s, "clear place-intents", r) : 0;
}

static int put_intent(struct txn *x, int64_t *ret_intent)
{
	cleanup_buf struct buf bytes = BUF_INIT;
	int r;

	if (x->steps.count == 0)
		return 0;
	r = steps_encode(&x->steps, &bytes);
	return r < 0 ? r : meta_intent_put(x->s->meta, bytes.data, bytes.len, ret_intent);
}

int txn_commit(struct txn *x)
{
	struct store *s = x->s;
	int64_t intent = 0;
	int r = put_intent(x, &intent);

	if (r < 0) {
		txn_rollback(x);
		return r;
	}
	/* What hands have made, nobody may have made durable. */
	if (x->in_place && x->ops && tree_sync_all(&s->tree) < 0) {
		txn_rollback(x);
		return store_fail(s, "sync what was made by hand", -EIO);
	}
	FAILPOINT("C4");
	r = meta_commit(s->meta);
	FAILPOINT("C4b");
	if (r == -ENOSPC) {
		txn_rollback(x);
		return r;
	}
	if (r < 0) { /* nobody knows whether it is on disk: the next start does, and needs what is staged */
		meta_rollback(s->meta);
		txn_fini(x, false);
		return store_fail(s, "commit", r);
	}
	if (store_hook_committed)
		store_hook_committed();
	s->at = x->at;
	s->nodes = (uint64_t)((int64_t)s->nodes + x->nodes_delta);
	atomic_fetch_add_explicit(&s->commits, x->ops, memory_order_relaxed);
	if (x->steps.count)
		r = carry_out(s, &x->steps, false, intent);
	txn_fini(x, false);
	if (r == 0) {
		MUTEX_GUARD(&s->seen_lock);
		s->seen = s->at;
	}
	if (r == 0 && atomic_load_explicit(&s->rescan_wanted, memory_order_relaxed) && s->watch)
		tree_watch_kick(s->watch);
	return r;
}

int txn_redo(struct store *s)
{
	int64_t intent;
	int r = 0;

	while (r == 0) {
		cleanup_buf struct buf bytes = BUF_INIT;
		struct steps steps = {0};

		r = meta_intent_first(s->meta, &intent, &bytes);
		if (r == -ENOENT)
			return 0;
		if (r == 0)
			r = steps_decode(bytes.data, bytes.len, &steps);
		if (r == 0)
			r = carry_out(s, &steps, true, intent);
		steps_fini(&steps);
	}
	return r;
}

void store_changed(struct store *s)
{
	if (s->on_change)
		s->on_change(s->arg);
}

int store_apply_one(struct store *s, const struct commit_sender *sender, struct op *op,
	struct prepared *prepared, struct result *ret_result)
{
	uint64_t before;
	bool changed;
	int r;

	{
		struct txn x;
		MUTEX_GUARD(&s->lock);

		before = s->at.seq;
		op->opno = before + 1;
		r = txn_begin(&x, s, false);
		if (r < 0)
			return r;
		r = txn_apply(&x, sender, op, prepared, ret_result);
		if (r < 0) {
			txn_rollback(&x);
			return r;
		}
		if (prepared && prepared->taken)
			prepared->stage[0] = '\0'; /* the steps have it; sweeping finds it when they fail */
		r = txn_commit(&x);
		changed = s->at.seq != before;
	}
	if (r < 0)
		result_fini(ret_result);
	else if (changed)
		store_changed(s);
	return r;
}
