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
#include <syncfs/log.h>

void (*store_hook_committed)(void);

int store_fail(struct store *s, const char *what, int r)
{
	if (!atomic_exchange_explicit(&s->failed, true, memory_order_relaxed))
		log_error("%s: %s; nothing is accepted any more, restart to recover", what, err_str(r));
	return -EIO;
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

/* ---- what steps will leave ---- */

static int predict(struct txn *x, const struct id *node, const struct stat_id *stat)
{
	struct stat_id *is = map_get(x->ids, node->b, ID_BYTES);
	int r = 0;

	if (!is) {
		is = malloc(sizeof(*is));
		r = is ? map_put(x->ids, node->b, ID_BYTES, is) : -ENOMEM;
	}
	if (r < 0)
		free(is);
	else
		*is = *stat;
	return r;
}

static int expect_of(struct txn *x, const struct id *node, struct stat_id *ret_stat)
{
	const struct stat_id *is = map_get(x->ids, node->b, ID_BYTES);
	int r;

	if (is) {
		*ret_stat = *is;
		return 0;
	}
	r = meta_disk_get(x->s->meta, node, ret_stat);
	return r == -ENOENT ? 0 : r;
}

/* ---- steps from the rules ---- */

static int stage_from_history(struct txn *x, struct step *step, const struct node_state *n)
{
	struct store *s = x->s;
	cleanup_fd int from = content_history_open(&s->content, &n->content.hash), to = -1;
	struct id other;
	int r;

	/* content that another file has is not kept in history */
	if (from < 0 && meta_content_nodes(s->meta, &n->content.hash, &other, 1) == 1 &&
		!id_equal(&other, &n->node))
		from = prepare_node_open(s, s->meta, &other);
	if (from < 0) {
		x->no_data = true;
		return -ENODATA;
	}
	to = stage_create(&s->tree, step->stage);
	if (to < 0) {
		step->stage[0] = '\0';
		return to;
	}
	step->own_stage = true;
	r = content_copy(from, to);
	return r < 0 ? r : tree_sync_fd(to);
}

static int stage_resurrected(struct txn *x, struct step *step, const struct node_state *n)
{
	const struct tree *t = &x->s->tree;
	int r;

	if (n->kind == KIND_FILE) {
		r = stage_from_history(x, step, n);
	} else {
		r = n->kind == KIND_DIR ? stage_mkdir(t, step->stage)
					: stage_symlink(t, n->target, step->stage);
		if (r < 0)
			step->stage[0] = '\0';
		step->own_stage = r == 0;
	}
	if (r == 0)
		r = tree_sync_fd(t->stage_fd);
	return r < 0 ? r : tree_stat(t->stage_fd, step->stage, &step->staged);
}

/* The staged object of the operation; what it has not got yet (a link of unknown kind) is made here. */
static int stage_of_op(struct txn *x, struct step *step, const struct node_state *n)
{
	struct prepared *p = x->prepared;

	if (!p || !p->stage[0] || p->taken)
		return stage_resurrected(x, step, n);
	strcpy(step->stage, p->stage);
	step->staged = p->stat;
	step->set_attr = !p->attr_set;
	p->taken = true;
	return 0;
}

static int attr_of_row(struct step *step, const struct node_state *n)
{
	step->mode = n->mode;
	step->mtime_ns = n->mtime_ns;
	if (n->xattr.len == 0)
		return 0;
	step->xattr.data = malloc(n->xattr.len);
	if (!step->xattr.data)
		return -ENOMEM;
	memcpy(step->xattr.data, n->xattr.data, n->xattr.len);
	step->xattr.len = n->xattr.len;
	return 0;
}

static struct step *step_new(struct txn *x, enum place_type type, const struct node_state *n,
	const struct id *dir, const char *name)
{
	struct step *step = steps_add(&x->steps);

	if (!step)
		return NULL;
	step->type = type;
	step->kind = n->kind;
	step->node = n->node;
	step->content = n->content;
	step->name = strdup(name);
	if (!step->name || meta_dir_path(x->s->meta, dir, &step->dir) < 0)
		return NULL;
	return step;
}

static int emit_content(struct txn *x, const struct node_state *n)
{
	struct stat_id expect = {0}, first = {0};
	char stage[STAGE_NAME_BYTES] = "";
	int r = expect_of(x, &n->node, &expect);

	for (size_t i = 0; r == 0 && i < n->names_count; i++) {
		struct step *step = step_new(x, PLACE_CONTENT, n, &n->names[i].parent, n->names[i].name);

		if (!step)
			return -ENOMEM;
		step->expect = expect;
		step->again = i > 0;
		if (i == 0) {
			r = stage_of_op(x, step, n);
			first = step->staged;
			memcpy(stage, step->stage, sizeof(stage));
			step->set_attr = step->set_attr || step->own_stage;
			if (r == 0)
				r = attr_of_row(step, n);
			continue;
		}
		stage_name(step->stage);
		step->own_stage = true;
		step->staged = first;
		r = place_link(
			&x->s->tree, x->s->tree.stage_fd, stage, x->s->tree.stage_fd, step->stage, &first);
	}
	return r < 0 ? r : predict(x, &n->node, &first);
}

static int emit_new(struct txn *x, const struct place_step *said, const struct node_state *n)
{
	struct step *step = step_new(x, said->type, n, &said->parent, said->name);
	int r;

	if (!step)
		return -ENOMEM;
	if (said->type == PLACE_CREATE) {
		r = stage_of_op(x, step, n);
	} else {
		r = stage_resurrected(x, step, n);
		step->set_attr = true;
	}
	if (step->own_stage)
		step->set_attr = true;
	if (r == 0)
		r = attr_of_row(step, n);
	return r < 0 ? r : predict(x, &n->node, &step->staged);
}

/* A name of n other than the new one. */
static const struct dentry *other_name(const struct node_state *n, const struct place_step *said)
{
	for (size_t i = 0; i < n->names_count; i++) {
		if (!id_equal(&n->names[i].parent, &said->parent) ||
			strcmp(n->names[i].name, said->name) != 0)
			return &n->names[i];
	}
	return NULL;
}

static int emit_moved(struct txn *x, const struct place_step *said, const struct node_state *n)
{
	const struct id *dir = &said->parent, *new_dir = &said->new_parent;
	const char *name = said->name, *new_name = said->new_name;
	struct step *step;
	uint64_t l;
	int r;

	if (said->type == PLACE_LINK) {
		const struct dentry *from = other_name(n, said);

		if (!from)
			return -EBADMSG;
		new_dir = &said->parent;
		new_name = said->name;
		dir = &from->parent;
		name = from->name;
	}
	step = step_new(x, said->type, n, dir, name);
	if (!step)
		return -ENOMEM;
	step->new_name = strdup(new_name);
	r = step->new_name ? meta_dir_path(x->s->meta, new_dir, &step->new_dir) : -ENOMEM;
	if (r == 0)
		r = expect_of(x, &n->node, &step->expect);
	if (r == 0 && said->type == PLACE_EXCHANGE)
		r = meta_dentry_get(x->s->meta, &said->parent, said->name, &step->other, &l);
	if (r == 0 && said->type == PLACE_EXCHANGE)
		r = expect_of(x, &step->other, &step->expect_other);
	return r;
}

static int emit_at_name(struct txn *x, enum place_type type, const struct node_state *n, const struct id *dir,
	const char *name)
{
	struct step *step = step_new(x, type, n, dir, name);

	if (!step)
		return -ENOMEM;
	if (type == PLACE_REMOVE && n->kind != KIND_DIR)
		stage_name(step->stage);
	if (type == PLACE_ATTR && attr_of_row(step, n) < 0)
		return -ENOMEM;
	return expect_of(x, &n->node, &step->expect);
}

static int env_place(void *arg, const struct place_step *said)
{
	struct txn *x = arg;
	struct node_state n = {0};
	int r;

	if (x->in_place)
		return 0;
	r = meta_node_get(x->s->meta, &said->node, &n);
	if (r < 0)
		return r;
	switch (said->type) {
	case PLACE_CREATE:
	case PLACE_RESURRECT:
		r = emit_new(x, said, &n);
		break;
	case PLACE_CONTENT:
		r = emit_content(x, &n);
		break;
	case PLACE_MOVE:
	case PLACE_EXCHANGE:
	case PLACE_LINK:
		r = emit_moved(x, said, &n);
		break;
	case PLACE_REMOVE:
		r = emit_at_name(x, PLACE_REMOVE, &n, &said->parent, said->name);
		break;
	case PLACE_ATTR:
		r = n.names_count ? emit_at_name(x, PLACE_ATTR, &n, &n.names[0].parent, n.names[0].name) : 0;
		break;
	}
	node_state_fini(&n);
	return r;
}

/* ---- rows for the rules ---- */

static int env_node_get(void *arg, const struct id *node, struct node_state *ret_node)
{
	return meta_node_get(((struct txn *)arg)->s->meta, node, ret_node);
}

static int env_node_put(void *arg, const struct node_state *n)
{
	struct txn *x = arg;
	struct meta_old old;
	struct stat_id last = {0};
	bool was_live, goes;
	int r = n->tomb ? expect_of(x, &n->node, &last) : 0;

	/* The row of a dead node forgets its object, which the removal has yet to find. */
	if (r == 0 && n->tomb)
		r = predict(x, &n->node, &last);
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
	/* Steps of this operation that displace the node's object keep its content. */
	for (size_t i = x->first_step; i < x->steps.count; i++) {
		struct step *step = &x->steps.list[i];

		if (id_equal(&step->node, &n->node) &&
			(step->type == PLACE_CONTENT || step->type == PLACE_REMOVE)) {
			step->has_old = true;
			step->old = old.content;
		}
	}
	x->old = old;
	x->old_node = n->node;
	return meta_history_put(x->s->meta, &n->node, old.c, &old.content, clock_wall_ns());
}

static int env_dentry_get(
	void *arg, const struct id *parent, const char *name, struct id *ret_node, uint64_t *ret_l)
{
	return meta_dentry_get(((struct txn *)arg)->s->meta, parent, name, ret_node, ret_l);
}

static int env_dentry_put(
	void *arg, const struct id *parent, const char *name, const struct id *node, uint64_t l)
{
	return meta_dentry_put(((struct txn *)arg)->s->meta, parent, name, node, l);
}

static int env_dentry_del(void *arg, const struct id *parent, const char *name)
{
	return meta_dentry_del(((struct txn *)arg)->s->meta, parent, name);
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

int txn_begin(struct txn *x, struct store *s, bool in_place)
{
	int r;

	*x = (struct txn){.s = s, .in_place = in_place, .at = s->at};
	if (atomic_load_explicit(&s->failed, memory_order_relaxed))
		return -EIO;
	x->ids = map_new();
	if (!x->ids)
		return -ENOMEM;
	r = meta_begin(s->meta, true);
	if (r < 0) {
		map_free(x->ids);
		x->ids = NULL;
	}
	return r;
}

static void txn_fini(struct txn *x, bool undone)
{
	const void *key;
	size_t pos = 0, len;
	void *value;

	while (x->ids && map_next(x->ids, &pos, &key, &len, &value))
		free(value);
	map_free(x->ids);
	for (size_t i = 0; undone && i < x->steps.count; i++) {
		if (x->steps.list[i].own_stage && x->steps.list[i].stage[0])
			(void)stage_drop(&x->s->tree, x->steps.list[i].stage);
	}
	steps_fini(&x->steps);
	result_fini(&x->own);
	x->ids = NULL;
	x->own = (struct result){0};
}

void txn_rollback(struct txn *x)
{
	meta_rollback(x->s->meta);
	txn_fini(x, true);
}

/* Steps that were emitted after their node's row was written. */
static void steps_old(struct txn *x)
{
	for (size_t i = x->first_step; i < x->steps.count && !id_is_none(&x->old_node); i++) {
		struct step *step = &x->steps.list[i];

		if (step->has_old || !id_equal(&step->node, &x->old_node))
			continue;
		if (step->type == PLACE_REMOVE || step->type == PLACE_CONTENT) {
			step->has_old = true;
			step->old = x->old.content;
		}
	}
}

int txn_apply(struct txn *x, const struct commit_sender *sender, const struct op *op,
	struct prepared *prepared, struct result *ret_result)
{
	const struct commit_env env = {x, env_node_get, env_node_put, env_dentry_get, env_dentry_put,
		env_dentry_del, env_has_children, env_last_name_get, env_last_name_put, env_alias_get,
		env_alias_put, env_own_result, env_seq_next, env_place};
	int r;

	x->sender = sender;
	x->op = op;
	x->prepared = prepared;
	x->first_step = x->steps.count;
	x->old_node = ID_NONE;
	x->op_seq = 0;
	x->tag_node = op->node;
	r = commit_apply(&env, sender, op, ret_result);
	if (r < 0)
		return r;
	steps_old(x);
	if (!x->op_seq)
		return 0;
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
	r = clear(s, placed, count, intent);
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
	r = meta_commit(s->meta);
	if (r < 0) {
		txn_rollback(x);
		return r == -ENOSPC ? r : store_fail(s, "commit", r);
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
