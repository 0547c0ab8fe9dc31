/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What was made here and is equal to what the server has told becomes one with it, without a question. Called
 * by the uploader for a batch that has been read, before the rest of it is sent; what the applier does
 * meanwhile is noticed.
 */
#include "outbox_settle.h"

#include <errno.h>
#include <stdlib.h>

#include <syncfs/io.h>

struct adopting {
	struct capture *c;
	struct outbox *o;
};

/* Equal to what the server has told: S takes it over, with where it lies here. Attributes that differ stay to
 * be applied. */
static int settle_adopted(struct adopting *a, const struct item *i)
{
	struct id parent = outbox_alias(a->o, &i->op.parent);
	const struct node_state *n = &i->remote;
	bool same_attr = (i->disk.mode & 0777) == n->mode &&
		(i->op.kind == KIND_DIR || i->disk.mtime_ns == n->mtime_ns) &&
		i->op.xattr.len == n->xattr.len &&
		(!n->xattr.len || memcmp(i->op.xattr.data, n->xattr.data, n->xattr.len) == 0);
	struct base_row row = {.disk = i->disk};
	ssize_t at = node_state_name_find(n, &parent, i->op.name);
	int r = node_state_copy(n, &row.state);

	for (size_t k = 0; !r && k < n->names_count; k++)
		node_state_name_remove(&row.state, &n->names[k].parent, n->names[k].name);
	if (!r)
		r = settle_take_name(a->c->state, &row, &parent, i->op.name, at >= 0 ? n->names[at].l : 0);
	if (!r && !same_attr) {
		row.state.a = 0;
		row.state.mode = i->disk.mode & 0777;
		row.state.mtime_ns = i->disk.mtime_ns;
		r = settle_copy_bytes(&row.state.xattr, &i->op.xattr);
	}
	if (!r)
		r = syncstate_base_put(a->c->state, &row);
	if (!r)
		r = syncstate_alias_put(a->c->state, &i->op.node, &n->node);
	if (!r && same_attr && n->names_count == 1)
		r = syncstate_remote_delete(a->c->state, &n->node);
	base_row_fini(&row);
	return r;
}

/* The applier and the poller go on while a batch is read. -EAGAIN: R is not what it was, or has been placed.
 */
static int is_still_told(struct adopting *a, const struct item *i)
{
	struct id parent = outbox_alias(a->o, &i->op.parent), there;
	struct node_state told;
	struct base_row row;
	bool same;
	int r = syncstate_remote_get(a->c->state, &i->remote.node, &told);

	if (r)
		return r == -ENOENT ? -EAGAIN : r;
	same = told.seq == i->remote.seq;
	node_state_fini(&told);
	if (!same)
		return -EAGAIN;
	r = syncstate_base_get(a->c->state, &i->remote.node, &row);
	if (!r)
		base_row_fini(&row);
	if (r == -ENOENT)
		r = syncstate_name_get(a->c->state, &parent, i->op.name, &there);
	return r == -ENOENT ? 0 : r ? r : -EAGAIN;
}

/* Those before the first that is not equal any more; the number of items up to there. */
static int settle_all_adopted(struct adopting *a, size_t *ret_upto)
{
	int r = syncstate_begin(a->c->state, true), failed;

	if (r)
		return r;
	for (*ret_upto = 0; *ret_upto < a->o->count && !r; ++*ret_upto) {
		const struct item *item = &a->o->items[*ret_upto];

		r = item->adopt ? is_still_told(a, item) : 0;
		if (r == -EAGAIN)
			break;
		if (!r && item->adopt)
			r = settle_adopted(a, item);
	}
	failed = syncstate_end(a->c->state, r == -EAGAIN ? 0 : r);
	return failed ? failed : r;
}

static bool is_adopted(const struct item *i)
{
	return i->adopt;
}

static int let_adopted_go(struct capture *c, struct outbox *o, size_t upto)
{
	int r = 0;

	MUTEX_GUARD(&c->lock);
	for (size_t i = 0; i < upto && !r; i++) {
		if (!o->items[i].adopt)
			continue;
		c->aliases++;
		r = pending_alias(c->pending, &o->items[i].op.node, &o->items[i].remote.node);
	}
	return let_go_items_locked(c, o->items, upto, is_adopted, r);
}

int outbox_adopt(struct capture *c, struct outbox *o)
{
	struct adopting a = {.c = c, .o = o};
	bool any = false;
	size_t upto = 0;
	int r, failed;

	for (size_t i = 0; i < o->count; i++)
		any |= o->items[i].adopt;
	if (!any)
		return 0;
	r = settle_all_adopted(&a, &upto);
	if (r && r != -EAGAIN)
		return r;
	failed = let_adopted_go(c, o, upto);
	if (failed)
		return failed;
	c->released(c->released_arg);
	return r;
}
