/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The commit rules for what nodes hold: write and setattr. Called by commit_apply() only. A write that comes
 * too late is never dropped: its bytes get a node and a name of their own.
 */
#include "commit_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <syncfs/io.h>

/* Takes a copy of the attributes when they differ. */
static int take_xattr(const struct blob *from, struct blob *to, bool *ret_changed)
{
	uint8_t *data = NULL;

	if (from->len == to->len && (from->len == 0 || memcmp(from->data, to->data, to->len) == 0))
		return 0;
	if (from->len > 0) {
		data = malloc(from->len);
		if (!data)
			return -ENOMEM;
		memcpy(data, from->data, from->len);
	}
	free(to->data);
	to->data = data;
	to->len = from->len;
	*ret_changed = true;
	return 0;
}

int commit_attrs(const struct op *op, struct node_state *n, bool *ret_changed)
{
	*ret_changed = false;
	if ((op->fields & OP_HAS_MODE) && n->mode != (op->mode & 0777)) {
		n->mode = op->mode & 0777;
		*ret_changed = true;
	}
	if ((op->fields & OP_HAS_MTIME) && n->mtime_ns != op->mtime_ns) {
		n->mtime_ns = op->mtime_ns;
		*ret_changed = true;
	}
	return op->fields & OP_HAS_XATTR ? take_xattr(&op->xattr, &n->xattr, ret_changed) : 0;
}

static bool op_equals(const struct op *op, const struct node_state *n)
{
	if (n->kind == KIND_SYMLINK)
		return strcmp(op->target, n->target) == 0;
	return op->content.size == n->content.size && hash_equal(&op->content.hash, &n->content.hash);
}

static int take_content(const struct op *op, struct node_state *n)
{
	char *target;

	n->content = op->content;
	if (n->kind != KIND_SYMLINK)
		return 0;
	target = strdup(op->target);
	if (!target)
		return -ENOMEM;
	free(n->target);
	n->target = target;
	return 0;
}

/* Content and attributes of the operation, with their versions, into n. */
static int take_all(struct commit *c, struct node_state *n, bool *ret_attrs)
{
	int r = commit_attrs(c->op, n, ret_attrs);

	if (r >= 0)
		r = take_content(c->op, n);
	if (r >= 0)
		r = commit_seq(c);
	if (r < 0)
		return r;
	n->c = c->seq;
	if (*ret_attrs)
		n->a = c->seq;
	return commit_put(c, n);
}

/* SHA-256("kept", client, opno): the same for every time that the operation is judged. */
static struct id kept_id(const struct commit *c)
{
	uint8_t in[4 + ID_BYTES + 8];
	struct hash h;
	struct id id;

	memcpy(in, "kept", 4);
	memcpy(in + 4, c->sender->client.b, ID_BYTES);
	for (int i = 0; i < 8; i++)
		in[4 + ID_BYTES + i] = (uint8_t)(c->op->opno >> (8 * i));
	h = hash_bytes(in, sizeof(in));
	memcpy(id.b, h.b, ID_BYTES);
	return id;
}

/* The stale bytes become a node of their own beside the first name of n. */
static int keep_copy(struct commit *c, const struct node_state *n)
{
	cleanup_node struct node_state copy = {0}, known = {0};
	cleanup_free char *name = NULL;
	const struct dentry *d = &n->names[0];
	struct id id = kept_id(c);
	bool attrs;
	int r = c->env->node_get(c->env->arg, &id, &known);

	if (r != -ENOENT)
		return r < 0 ? r : commit_reject(c, -EEXIST, "copy is there already");
	r = commit_name_conflict(c, &d->parent, d->name, &name);
	if (r < 0)
		return r;
	copy.node = id;
	copy.kind = n->kind;
	copy.mode = n->mode;
	copy.mtime_ns = n->mtime_ns;
	r = take_xattr(&n->xattr, &copy.xattr, &attrs);
	if (r >= 0)
		r = take_all(c, &copy, &attrs);
	if (r >= 0) {
		copy.a = c->seq;
		r = commit_name_add(c, &copy, &d->parent, name);
	}
	if (r >= 0)
		r = commit_place(c, PLACE_CREATE, &id, &d->parent, name);
	return r < 0 ? r : commit_kept(c, &copy, c->seq, &d->parent, name);
}

/* n was found by following a kept copy: the outcome tells of it again. */
static bool is_followed(const struct commit *c, const struct base *b, const struct node_state *n)
{
	return b->own && b->known && b->outcome == OUTCOME_KEPT && id_equal(&b->node, &n->node) &&
		!id_equal(&c->op->node, &n->node);
}

static int done_content(
	struct commit *c, enum outcome outcome, const struct base *b, const struct node_state *n)
{
	const struct dentry *d = n->names;
	uint64_t l = n->names_count ? d->l : 0;

	if (n->names_count && is_followed(c, b, n))
		return commit_kept(c, n, l, &d->parent, d->name);
	return commit_done(c, outcome, n, l);
}

/* A dead node comes back with the bytes of the write, under its last name when that is free. */
static int write_dead(struct commit *c, const struct base *b, struct node_state *n)
{
	cleanup_node struct node_state there = {0};
	cleanup_free char *last = NULL, *conflict = NULL;
	struct chain chain;
	struct id parent, taker;
	const char *name;
	bool attrs;
	uint64_t l;
	int r = c->env->last_name_get(c->env->arg, &n->node, &parent, &last);

	if (r >= 0)
		r = commit_resolve(c, &parent, &parent);
	if (r < 0)
		return r;
	r = commit_parent_check(c, &parent, NULL, &chain);
	if (r)
		return r;
	r = commit_parent_revive(c, &chain, NULL, &parent);
	if (r < 0)
		return r;
	name = last;
	r = c->env->dentry_get(c->env->arg, &parent, name, &taker, &l);
	if (r >= 0) {
		r = c->env->node_get(c->env->arg, &taker, &there);
		if (r < 0)
			return r;
		if (there.kind == n->kind && n->kind != KIND_DIR && op_equals(c->op, &there)) {
			r = commit_unify(c, n, &there, l, &parent, &parent);
			return r > 0 && is_followed(c, b, n) ? commit_kept(c, &there, l, &parent, name) : r;
		}
		r = commit_name_conflict(c, &parent, last, &conflict);
		name = conflict;
	}
	if (r < 0 && r != -ENOENT)
		return r;
	r = take_all(c, n, &attrs);
	if (r >= 0)
		r = commit_name_add(c, n, &parent, name);
	if (r >= 0)
		r = commit_place(c, PLACE_CREATE, &n->node, &parent, name);
	if (r < 0)
		return r;
	if (conflict || is_followed(c, b, n))
		return commit_kept(c, n, c->seq, &parent, name);
	return commit_done(c, OUTCOME_OK, n, c->seq);
}

/*
 * The base of a write to a node that was merged into n: a version of the merged one counts as n's while their
 * bytes are the same.
 */
static int base_is_merged(struct commit *c, const struct base *b, const struct node_state *n, bool *ret_is)
{
	cleanup_node struct node_state merged = {0};
	int r;

	*ret_is = false;
	if (id_equal(&c->op->node, &n->node))
		return 0;
	r = c->env->node_get(c->env->arg, &c->op->node, &merged);
	if (r == -ENOENT)
		return 0;
	if (r >= 0)
		*ret_is = merged.tomb && b->known && b->version == merged.c && commit_node_equal(&merged, n);
	return r;
}

/*
 * 1: the write is of the very content that its base has. What has become of that since goes on from it: the
 * sender, after a merge of histories, only shows what it has.
 */
static int is_no_edit(struct commit *c, const struct base *b, const struct node_state *n)
{
	if (!b->known || b->own || n->kind != KIND_FILE)
		return 0;
	return c->env->had(c->env->arg, &n->node, b->version, &c->op->content);
}

static int write_live(struct commit *c, const struct base *b, struct node_state *n)
{
	bool equal = op_equals(c->op, n), match = commit_base_is(b, n->c), attrs;
	int r = 0;

	if (!equal && !match)
		r = base_is_merged(c, b, n, &match);
	if (r < 0)
		return r;
	if (!equal && !match) {
		r = is_no_edit(c, b, n);
		return r < 0 ? r : r ? commit_done(c, OUTCOME_SUPERSEDED, n, n->names[0].l) : keep_copy(c, n);
	}
	if (equal) {
		r = commit_attrs(c->op, n, &attrs);
		if (r < 0 || !attrs)
			return r < 0 ? r : done_content(c, OUTCOME_SAME, b, n);
		r = commit_seq(c);
		if (r < 0)
			return r;
		n->a = c->seq;
		r = commit_put(c, n);
	} else {
		r = take_all(c, n, &attrs);
		if (r >= 0)
			r = commit_place(c, PLACE_CONTENT, &n->node, NULL, NULL);
	}
	if (r >= 0 && attrs)
		r = commit_place(c, PLACE_ATTR, &n->node, NULL, NULL);
	return r < 0 ? r : done_content(c, OUTCOME_OK, b, n);
}

int commit_write(struct commit *c)
{
	cleanup_node struct node_state n = {0};
	struct base b;
	int r = commit_base(c, c->op->base_c, BASE_OF_C, &b);

	if (r < 0)
		return r;
	r = commit_subject(c, &c->op->node, &b, &n);
	if (r)
		return r;
	if (n.kind == KIND_DIR)
		return commit_reject(c, -EISDIR, "a directory has no content");
	if ((n.kind == KIND_SYMLINK) != (c->op->target != NULL))
		return commit_reject(c, -EINVAL, "content of another kind");
	return n.tomb ? write_dead(c, &b, &n) : write_live(c, &b, &n);
}

int commit_create_again(struct commit *c)
{
	cleanup_node struct node_state n = {0};
	const struct base none = {0};
	const struct op *op = c->op;
	struct id parent;
	ssize_t i;
	int r = commit_subject(c, &op->node, NULL, &n);

	if (!r)
		r = commit_resolve(c, &op->parent, &parent);
	if (r)
		return r;
	if (n.kind != op->kind || (n.tomb && n.kind == KIND_DIR))
		return commit_reject(c, -EEXIST, "node id used before");
	if (n.tomb)
		return write_dead(c, &none, &n);
	if (n.kind != KIND_DIR && !op_equals(op, &n))
		return keep_copy(c, &n);
	i = node_state_name_find(&n, &parent, op->name);
	return commit_same(c, &n, i < 0 ? 0 : n.names[i].l, &parent, &op->parent);
}

int commit_setattr(struct commit *c)
{
	cleanup_node struct node_state n = {0};
	struct base b;
	bool changed;
	int r = commit_base(c, c->op->base_a, BASE_OF_A, &b);

	if (r < 0)
		return r;
	r = commit_subject(c, &c->op->node, &b, &n);
	if (r)
		return r;
	if (n.tomb)
		return commit_done(c, OUTCOME_SUPERSEDED, &n, 0);
	r = commit_attrs(c->op, &n, &changed);
	if (r < 0)
		return r;
	if (!changed)
		return done_content(c, OUTCOME_SAME, &b, &n);
	r = commit_seq(c);
	if (r < 0)
		return r;
	n.a = c->seq;
	r = commit_put(c, &n);
	if (r >= 0)
		r = commit_place(c, PLACE_ATTR, &n.node, NULL, NULL);
	return r < 0 ? r : done_content(c, OUTCOME_OK, &b, &n);
}
