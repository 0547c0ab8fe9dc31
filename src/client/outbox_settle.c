/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The server's results become the agreed state, then the journal and the queue let go. Called by the uploader
 * after a whole answer. What the server decided otherwise is written as R, so that the applier brings the
 * disk to it.
 */
#include "outbox_settle.h"

#include <errno.h>
#include <stdlib.h>

#include <syncfs/failpoint.h>
#include <syncfs/io.h>

struct settle {
	struct capture *c;
	struct outbox *o;
};

/* For the queue when the batch is settled, and in the same transaction for a journal that is replayed. */
static int note_alias(struct settle *st, const struct id *from, const struct id *to)
{
	struct outbox *o = st->o;
	struct id *copy;
	int r;

	if (id_equal(from, to))
		return 0;
	r = syncstate_alias_put(st->c->state, from, to);
	if (r || map_get(o->alias, from->b, ID_BYTES))
		return r;
	copy = malloc(sizeof(*copy));
	if (!copy)
		return -ENOMEM;
	*copy = *to;
	return map_put(o->alias, from->b, ID_BYTES, copy);
}

/* ---- rows ---- */

static int put_or_delete(struct syncstate *s, const struct base_row *row)
{
	if (row->state.names_count)
		return syncstate_base_put(s, row);
	return syncstate_base_delete(s, &row->state.node);
}

/*
 * After a removal that the server has made at seq (0: it has not, or does not say). What it told before that,
 * or before what S had, is old, even when it is heard only now.
 */
static int put_or_gone(struct syncstate *s, const struct base_row *row, uint64_t seq)
{
	if (!seq)
		seq = row->state.seq;
	if (row->state.names_count || !seq)
		return put_or_delete(s, row);
	return syncstate_gone(s, &row->state.node, seq);
}

/* What the server has, to be applied; unless it has told something newer: the answer may come long after the
 * page. What ours has become one with has attributes that S has not got yet: those that were told. */
static int tell(struct syncstate *s, const struct node_state *n)
{
	struct node_state told, both = *n;
	int r = syncstate_remote_get(s, &n->node, &told);

	if (r)
		return r == -ENOENT ? syncstate_remote_put(s, n) : r;
	if (!n->a) {
		both.a = told.a;
		both.mode = told.mode;
		both.mtime_ns = told.mtime_ns;
		both.xattr = told.xattr;
	}
	r = told.seq >= n->seq ? 0 : syncstate_remote_put(s, &both);
	node_state_fini(&told);
	return r;
}

/* The server is still where S says; not under names that only we have given it, for which there is R already.
 */
static int expect_old(struct syncstate *s, const struct node_state *old)
{
	struct node_state n;
	int r = node_state_copy(old, &n);

	if (r)
		return r;
	for (size_t i = n.names_count; i-- > 0;) {
		if ((int64_t)n.names[i].l <= 0)
			node_state_name_remove(&n, &n.names[i].parent, n.names[i].name);
	}
	if (n.names_count && (int64_t)n.c > 0)
		r = tell(s, &n);
	node_state_fini(&n);
	return r;
}

int settle_take_name(
	struct syncstate *s, struct base_row *row, const struct id *parent, const char *name, uint64_t l)
{
	struct id there;
	int r = syncstate_name_get(s, parent, name, &there);

	if (r == 0 && !id_equal(&there, &row->state.node))
		return 0;
	return r && r != -ENOENT ? r : node_state_name_add(&row->state, parent, name, l);
}

/*
 * The version in S of what the server keeps elsewhere than it lies here: as a base, "what this operation
 * made", so that what follows before the applier has moved it finds it there.
 */
static uint64_t base_own(const struct item *i)
{
	return (uint64_t) - (int64_t)i->op.opno;
}

/* 0: it is not there. */
static uint64_t name_l(const struct node_state *n, const struct dentry *d)
{
	ssize_t i = node_state_name_find(n, &d->parent, d->name);

	return i >= 0 ? n->names[i].l : 0;
}

/*
 * The version of a name after its move from one to the other has lost: where others have put it there, too,
 * the one that was told; else that of where it was, which the server still has.
 */
static int lost_l(struct syncstate *s, const struct node_state *n, const struct dentry *from,
	const struct dentry *to, uint64_t *ret_l)
{
	struct node_state told;
	int r = syncstate_remote_get(s, &n->node, &told);

	*ret_l = name_l(n, from);
	if (r)
		return r == -ENOENT ? 0 : r;
	if (name_l(&told, to))
		*ret_l = name_l(&told, to);
	node_state_fini(&told);
	return 0;
}

/* ---- by operation ---- */

int settle_copy_bytes(struct blob *to, const struct blob *from)
{
	free(to->data);
	*to = (struct blob){0};
	if (!from->len)
		return 0;
	to->data = malloc(from->len);
	if (!to->data)
		return -ENOMEM;
	memcpy(to->data, from->data, from->len);
	to->len = from->len;
	return 0;
}

/* Attributes (and content, when with_content) of row := what was sent. */
static int take_sent(struct base_row *row, const struct item *i, bool with_content)
{
	struct node_state *n = &row->state;
	const struct op *op = &i->op;
	int r = 0;

	if (op->fields & OP_HAS_MODE)
		n->mode = op->mode;
	if (op->fields & OP_HAS_MTIME)
		n->mtime_ns = op->mtime_ns;
	if (op->fields & OP_HAS_XATTR)
		r = settle_copy_bytes(&n->xattr, &op->xattr);
	if (with_content) {
		n->content = op->content;
		if (op->target) {
			free(n->target);
			n->target = strdup(op->target);
			if (!n->target)
				r = -ENOMEM;
		}
	}
	row->disk = i->disk;
	return r;
}

/*
 * Ours is one with another node. When that lies here already, under another name, ours gives way to it:
 * *ret_node stays ours and is to be removed. Else ours becomes it.
 */
static int unify(struct settle *st, const struct item *i, const struct result *res, struct id *ret_node)
{
	struct base_row there;
	int r = syncstate_base_get(st->c->state, &res->node, &there);

	if (r == -ENOENT)
		return note_alias(st, &i->op.node, &res->node);
	if (r)
		return r;
	base_row_fini(&there);
	*ret_node = i->op.node;
	return 0;
}

/* The page that tells of the other node has been taken when this is applied: it is not newer. */
static int give_way(struct settle *st, const struct item *i, const struct result *res)
{
	const struct node_state gone = {
		.node = i->op.node, .kind = i->op.kind, .seq = res->seq, .c = res->c, .tomb = true};

	return tell(st->c->state, &gone);
}

/*
 * The one that ours became had died before the answer came: told of up to the cursor, it is neither in S nor
 * waits in R, as whoever lives would. Nobody will tell of its death again.
 */
static int tell_dead(struct settle *st, const struct item *i, const struct result *res)
{
	struct node_state n = {.node = res->node, .kind = i->op.kind, .c = res->c, .a = res->a, .tomb = true};
	struct cursor cursor;
	struct node_state told;
	int r = syncstate_remote_get(st->c->state, &res->node, &told);

	if (!r)
		node_state_fini(&told);
	if (r != -ENOENT)
		return r;
	r = syncstate_peek_cursor(st->c->state, &cursor);
	if (r || cursor.seq < res->seq)
		return r == -ENOENT ? 0 : r;
	n.seq = cursor.seq;
	return syncstate_remote_put(st->c->state, &n);
}

static int settle_create(struct settle *st, const struct item *i, const struct result *res)
{
	struct base_row row = {
		.state = {.node = res->node, .kind = i->op.kind, .seq = res->seq, .c = res->c, .a = res->a}};
	struct id parent = outbox_alias(st->o, &i->op.parent);
	bool is_other = !id_equal(&res->node, &i->op.node);
	int r = 0;

	if (res->outcome != OUTCOME_OK && res->outcome != OUTCOME_SAME && res->outcome != OUTCOME_KEPT)
		return 0;
	if (is_other) {
		row.state.a = 0; /* attributes of the one we became are still to be taken */
		r = unify(st, i, res, &row.state.node);
		if (!r && id_equal(&row.state.node, &res->node))
			r = tell_dead(st, i, res);
	}
	if (!r)
		r = take_sent(&row, i, true);
	if (!r && res->outcome == OUTCOME_KEPT) {
		/* Here it still has our name; the server has it under the conflict name. */
		r = node_state_name_add(&row.state, &res->parent, res->name, res->l);
		if (!r)
			r = tell(st->c->state, &row.state);
		node_state_name_remove(&row.state, &res->parent, res->name);
	}
	if (!r)
		r = settle_take_name(st->c->state, &row, &parent, i->op.name,
			res->outcome == OUTCOME_KEPT ? base_own(i) : res->l);
	if (!r)
		r = syncstate_base_put(st->c->state, &row);
	if (!r && is_other && id_equal(&row.state.node, &i->op.node))
		r = give_way(st, i, res);
	base_row_fini(&row);
	return r;
}

static bool is_done(const struct result *res)
{
	return res->outcome == OUTCOME_OK || res->outcome == OUTCOME_SAME;
}

/*
 * Done to this very node. Done to another one that ours is one with, the result does not tell how new our
 * knowledge of ours is: its removal is still to be applied.
 */
static bool is_of(const struct result *res, const struct base_row *row)
{
	return is_done(res) && id_equal(&res->node, &row->state.node);
}

/* What was told and has no newer content than was agreed: ours comes from that, and must not go back to it.
 * What ours has lost against, with all names, is still to be told. */
static int forget_older(struct syncstate *s, const struct node_state *agreed)
{
	struct node_state told;
	int r = syncstate_remote_get(s, &agreed->node, &told);

	if (r)
		return r == -ENOENT ? 0 : r;
	if (!told.tomb && (int64_t)agreed->c > 0 && told.c <= agreed->c)
		r = syncstate_remote_delete(s, &agreed->node);
	node_state_fini(&told);
	return r;
}

static int settle_write(
	struct settle *st, const struct item *i, const struct result *res, struct base_row *row)
{
	int r = res->outcome == OUTCOME_KEPT ? forget_older(st->c->state, &row->state) : 0;

	if (r)
		return r;
	if (is_done(res)) {
		row->state.c = res->c;
		row->state.a = res->a;
	}
	if (is_of(res, row))
		row->state.seq = res->seq;
	/* KEPT: our bytes are safe at the server under another name; here they may be replaced by what it has
	 * told. What is written until then goes on from them. */
	if (res->outcome == OUTCOME_KEPT) {
		row->state.c = base_own(i);
		r = syncstate_kept_put(st->c->state, &row->state.node, &res->node, res->seq);
	}
	if (!r)
		r = take_sent(row, i, true);
	return r ? r : syncstate_base_put(st->c->state, row);
}

static int settle_setattr(
	struct settle *st, const struct item *i, const struct result *res, struct base_row *row)
{
	int r;

	if (is_done(res))
		row->state.a = res->a;
	if (is_of(res, row))
		row->state.seq = res->seq;
	r = take_sent(row, i, false);
	return r ? r : syncstate_base_put(st->c->state, row);
}

/* Done or not, the replaced node may live on where the server had moved it: what the feed tells of it is
 * news. */
static int settle_replaced(struct settle *st, const struct item *i, bool done)
{
	struct id other = outbox_alias(st->o, &i->op.other), parent = outbox_alias(st->o, &i->op.new_parent);
	struct base_row row;
	int r = syncstate_base_get(st->c->state, &other, &row);

	if (r)
		return r == -ENOENT ? 0 : r;
	if (!done)
		r = expect_old(st->c->state, &row.state);
	node_state_name_remove(&row.state, &parent, i->op.new_name);
	if (!r)
		r = put_or_gone(st->c->state, &row, 0);
	base_row_fini(&row);
	return r;
}

/* Who was renamed is not agreed: its create was refused. Whom it replaced has left the name here all the
 * same. */
static int settle_unknown(struct settle *st, const struct item *i, const struct result *res)
{
	if (i->op.type != OP_RENAME || id_is_none(&i->op.other))
		return 0;
	return settle_replaced(st, i, is_done(res));
}

static int settle_rename(
	struct settle *st, const struct item *i, const struct result *res, struct base_row *row)
{
	struct dentry from = {outbox_alias(st->o, &i->op.parent), i->op.name, 0},
		      to = {outbox_alias(st->o, &i->op.new_parent), i->op.new_name, res->l};
	bool done = is_done(res), replaced = res->outcome == OUTCOME_OK || is_of(res, row);
	int r = 0;

	if (res->outcome == OUTCOME_KEPT && !id_equal(&res->node, &row->state.node)) {
		/* The one that ours was merged with has the conflict name: the feed tells of both. */
		to.l = base_own(i);
	} else if (res->outcome == OUTCOME_KEPT) {
		struct node_state at_server;

		r = node_state_copy(&row->state, &at_server);
		if (r)
			return r;
		node_state_name_remove(&at_server, &from.parent, from.name);
		at_server.seq = res->seq;
		r = node_state_name_add(&at_server, &res->parent, res->name, res->l);
		if (!r)
			r = tell(st->c->state, &at_server);
		node_state_fini(&at_server);
		to.l = base_own(i);
	} else if (!done) {
		r = expect_old(st->c->state, &row->state);
		if (!r)
			r = lost_l(st->c->state, &row->state, &from, &to, &to.l);
	} else if (is_of(res, row)) {
		row->state.seq = res->seq;
	}
	/* What is equal to the one we have replaced took that one's place; at the server that has stayed. */
	if (!r && !id_is_none(&i->op.other))
		r = settle_replaced(st, i, replaced);
	node_state_name_remove(&row->state, &from.parent, from.name);
	if (!r)
		r = settle_take_name(st->c->state, row, &to.parent, to.name, to.l);
	return r ? r : syncstate_base_put(st->c->state, row);
}

static int settle_exchange(
	struct settle *st, const struct item *i, const struct result *res, struct base_row *row)
{
	struct dentry from = {outbox_alias(st->o, &i->op.parent), i->op.name, res->l},
		      to = {outbox_alias(st->o, &i->op.new_parent), i->op.new_name, res->l};
	struct id other_id = outbox_alias(st->o, &i->op.other);
	bool done = is_done(res);
	struct base_row other;
	int r = syncstate_base_get(st->c->state, &other_id, &other);

	if (r)
		return r == -ENOENT ? 0 : r;
	if (!done) {
		r = expect_old(st->c->state, &row->state);
		if (!r)
			r = expect_old(st->c->state, &other.state);
		if (!r)
			r = lost_l(st->c->state, &row->state, &from, &to, &from.l);
		if (!r)
			r = lost_l(st->c->state, &other.state, &to, &from, &to.l);
	}
	node_state_name_remove(&row->state, &from.parent, from.name);
	node_state_name_remove(&other.state, &to.parent, to.name);
	if (!r)
		r = node_state_name_add(&row->state, &to.parent, to.name, from.l);
	if (!r)
		r = node_state_name_add(&other.state, &from.parent, from.name, to.l);
	/* The names swap owners: free both before either is written. */
	if (!r)
		r = syncstate_base_delete(st->c->state, &other_id);
	if (!r)
		r = put_or_delete(st->c->state, row);
	if (!r)
		r = put_or_delete(st->c->state, &other);
	base_row_fini(&other);
	return r;
}

static int settle_names(
	struct settle *st, const struct item *i, const struct result *res, struct base_row *row)
{
	struct id parent = outbox_alias(st->o, &i->op.parent);
	bool done = is_done(res), kept = res->outcome == OUTCOME_KEPT;
	int r = 0;

	/* Kept: it was dead, and lives again under another name, of which the feed tells. */
	if (!done && !kept)
		r = expect_old(st->c->state, &row->state);
	else if (is_of(res, row))
		row->state.seq = res->seq;
	if (r)
		return r;
	if (i->op.type == OP_LINK) {
		r = settle_take_name(st->c->state, row, &parent, i->op.name,
			done	       ? res->l
				: kept ? base_own(i)
				       : 0);
		return r ? r : syncstate_base_put(st->c->state, row);
	}
	node_state_name_remove(&row->state, &parent, i->op.name);
	/* A copy of ours that was kept may be gone then, while the node lives on. */
	return put_or_gone(st->c->state, row, is_of(res, row) ? res->seq : 0);
}

static int settle_item(struct settle *st, const struct item *i, const struct result *res)
{
	struct id node = outbox_alias(st->o, &i->op.node);
	struct base_row row;
	int r = 0;

	if (res->outcome == OUTCOME_REJECT)
		r = settle_refused(st->c->state, st->o, i, res);
	if (r || i->op.type == OP_CREATE)
		return r ? r : settle_create(st, i, res);
	r = syncstate_base_get(st->c->state, &node, &row);
	if (r)
		return r == -ENOENT ? settle_unknown(st, i, res) : r;
	switch (i->op.type) {
	case OP_WRITE:
		r = settle_write(st, i, res, &row);
		break;
	case OP_SETATTR:
		r = settle_setattr(st, i, res, &row);
		break;
	case OP_RENAME:
		r = settle_rename(st, i, res, &row);
		break;
	case OP_EXCHANGE:
		r = settle_exchange(st, i, res, &row);
		break;
	default:
		r = settle_names(st, i, res, &row);
		break;
	}
	base_row_fini(&row);
	return r;
}

static int settle_all(struct settle *st, const struct batch_reply *reply, uint64_t last_opno)
{
	size_t at = 0;
	/* Durable before the journal lets go, and before the server may forget the results. */
	int r = syncstate_begin(st->c->state, true);

	if (r)
		return r;
	for (size_t i = 0; i < st->o->count && !r; i++) {
		struct item *item = &st->o->items[i];

		if (at == reply->results_count)
			break;
		item->refused = reply->results[at].outcome == OUTCOME_REJECT;
		r = settle_item(st, item, &reply->results[at++]);
	}
	if (!r)
		r = syncstate_meta_put(st->c->state, "opno", &last_opno, sizeof(last_opno));
	if (!r && !id_is_none(&reply->cursor.epoch))
		r = syncstate_acked_put(st->c->state, &reply->cursor);
	return syncstate_end(st->c->state, r);
}

static int follow_aliases_locked(struct capture *c, const struct outbox *o)
{
	const void *key;
	size_t pos = 0, len;
	void *value;
	int r = 0;

	while (!r && map_next(o->alias, &pos, &key, &len, &value)) {
		struct id from;

		memcpy(from.b, key, ID_BYTES);
		c->aliases++;
		r = pending_alias(c->pending, &from, value);
	}
	return r;
}

int outbox_let_go(struct capture *c, struct outbox *o)
{
	int r;

	mutex_lock(&c->lock);
	r = let_go_items_locked(c, o->items, o->count, NULL, follow_aliases_locked(c, o));
	mutex_unlock(&c->lock);
	c->released(c->released_arg);
	return r;
}

int outbox_settle(struct capture *c, struct outbox *o, const struct batch_reply *reply, uint64_t last_opno)
{
	struct settle st = {.c = c, .o = o};
	int r = settle_all(&st, reply, last_opno);

	FAILPOINT("O4");
	if (!r)
		r = outbox_let_go(c, o);
	FAILPOINT("O5");
	return r;
}
