/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The commit rules for names that go: unlink and rmdir. Called by commit_apply() only. A deletion never takes
 * what its sender had not seen.
 */
#include "commit_internal.h"

#include <errno.h>

/* The name is gone already, or has become another since. */
static int name_gone(struct commit *c, const struct node_state *n, const struct base *l)
{
	for (size_t i = 0; i < n->names_count; i++) {
		/* A name from after the base: the node was moved or linked, and lives on there. */
		if (!l->any && (!l->known || n->names[i].l > l->version))
			return commit_done(c, OUTCOME_SUPERSEDED, n, n->names[i].l);
	}
	return commit_done(c, OUTCOME_SAME, n, n->names_count ? n->names[0].l : 0);
}

/* Whether the node may lose its last name. */
static int last_check(struct commit *c, const struct node_state *n, const struct base *content, uint64_t l)
{
	int r;

	if (n->kind != KIND_DIR)
		return commit_base_is(content, n->c) ? 0 : commit_done(c, OUTCOME_SUPERSEDED, n, l);
	r = c->env->has_children(c->env->arg, &n->node);
	if (r > 0)
		return commit_done(c, OUTCOME_SUPERSEDED, n, l);
	return r;
}

/*
 * Whose name goes. A write of the sender's may have been kept as a copy: to the sender that is the node. Of
 * several names only one goes, and with it no bytes: then the copy stays.
 */
static int subject(struct commit *c, const struct base *content, struct node_state *ret_n)
{
	int r = commit_subject(c, &c->op->node, NULL, ret_n);

	if (r || ret_n->names_count > 1)
		return r;
	node_state_fini(ret_n);
	return commit_subject(c, &c->op->node, content, ret_n);
}

int commit_unlink(struct commit *c)
{
	cleanup_node struct node_state n = {0};
	const struct op *op = c->op;
	bool is_rmdir = op->type == OP_RMDIR;
	struct base content = {0}, l;
	struct id parent;
	ssize_t i;
	int r = commit_base(c, op->base_l, BASE_OF_L, &l);

	if (r >= 0 && !is_rmdir)
		r = commit_base(c, op->base_c, BASE_OF_C, &content);
	if (r >= 0)
		r = commit_resolve(c, &op->parent, &parent);
	if (r < 0)
		return r;
	r = subject(c, &content, &n);
	if (r)
		return r;
	if (id_equal(&n.node, &ID_ROOT))
		return commit_reject(c, -EBUSY, "the root stays");
	if ((n.kind == KIND_DIR) != is_rmdir)
		return commit_reject(c, is_rmdir ? -ENOTDIR : -EISDIR, "of another kind");
	if (n.tomb)
		return commit_done(c, OUTCOME_SAME, &n, 0);
	i = commit_name_seen(&n, &parent, op->name, &l);
	/* Bytes of the sender's that were kept as a copy: to the sender this was the name, unless it is one
	 * that an operation of the sender's failed to make. */
	if (i < 0 && (!l.own || l.known) && content.own && content.known && content.outcome == OUTCOME_KEPT &&
		id_equal(&content.node, &n.node))
		i = commit_name_made(&n, content.l);
	if (i < 0 && node_state_name_find(&n, &parent, op->name) >= 0)
		return commit_done(c, OUTCOME_SUPERSEDED, &n, n.names[0].l);
	if (i < 0)
		return name_gone(c, &n, &l);
	if (n.names_count == 1) {
		r = last_check(c, &n, &content, n.names[i].l);
		if (r)
			return r;
	}
	r = commit_name_drop(c, &n, (size_t)i);
	return r < 0 ? r : commit_done(c, OUTCOME_OK, &n, c->seq);
}
