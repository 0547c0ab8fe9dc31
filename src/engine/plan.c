/* SPDX-License-Identifier: Apache-2.0 */
/*
 * plan_node(): S, L and R of one node give the steps. plan_spot(): what becomes of who holds its name. Called
 * by the applier, the poller and by tests; pure. plan_rebase() is for the merge after another history.
 */
#include <syncfs/plan.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void plan_fini(struct plan *p)
{
	free(p->add);
	free(p->remove);
	*p = (struct plan){0};
}

static bool has_name(const struct node_state *n, const struct dentry *d)
{
	return node_state_name_find(n, &d->parent, d->name) >= 0;
}

/* Those of a's names that b does not have. */
static int names_without(
	const struct node_state *a, const struct node_state *b, size_t **ret_index, size_t *ret_count)
{
	size_t *index = calloc(a->names_count ? a->names_count : 1, sizeof(*index));
	size_t count = 0;

	if (!index)
		return -ENOMEM;
	for (size_t i = 0; i < a->names_count; i++) {
		if (!has_name(b, &a->names[i]))
			index[count++] = i;
	}
	*ret_index = index;
	*ret_count = count;
	return 0;
}

static bool same_content(const struct node_state *s, const struct node_state *r)
{
	switch (s->kind) {
	case KIND_DIR:
		return true;
	case KIND_SYMLINK:
		return s->target && r->target && strcmp(s->target, r->target) == 0;
	case KIND_FILE:
		return s->content.size == r->content.size && hash_equal(&s->content.hash, &r->content.hash);
	}
	return false;
}

static bool same_attr(const struct node_state *s, const struct node_state *r)
{
	return s->mode == r->mode && s->mtime_ns == r->mtime_ns && s->xattr.len == r->xattr.len &&
		(!s->xattr.len || memcmp(s->xattr.data, r->xattr.data, s->xattr.len) == 0);
}

/*
 * The versions of the names that stayed may have moved on; that alone is nothing for the disk. Attributes are
 * compared also when their version is the same: what we sent may have been merged with what we had not seen.
 */
static bool is_same_version(const struct node_state *s, const struct node_state *r)
{
	if (s->c != r->c || s->a != r->a || s->names_count != r->names_count || !same_attr(s, r))
		return false;
	for (size_t i = 0; i < s->names_count; i++) {
		bool found = false;

		for (size_t k = 0; k < r->names_count && !found; k++)
			found = s->names[i].l == r->names[k].l && has_name(r, &s->names[i]);
		if (!found)
			return false;
	}
	return true;
}

int plan_node(const struct node_state *s, bool busy, const struct node_state *r, struct plan *ret_plan)
{
	struct plan p = {0};
	int error;

	if (s && r->tomb == false && s->kind != r->kind)
		return -EBADMSG;
	if (s && !r->tomb && is_same_version(s, r)) {
		*ret_plan = p;
		return 0;
	}
	if (busy) {
		p.steps = PLAN_WAIT;
	} else if (!s) {
		p.steps = r->tomb ? PLAN_NOTHING : PLAN_CREATE;
	} else if (r->tomb) {
		p.steps = PLAN_REMOVE;
	} else {
		error = names_without(r, s, &p.add, &p.add_count);
		if (!error)
			error = names_without(s, r, &p.remove, &p.remove_count);
		if (error) {
			plan_fini(&p);
			return error;
		}
		if (!same_content(s, r))
			p.steps |= PLAN_CONTENT;
		if (!same_attr(s, r))
			p.steps |= PLAN_ATTR;
		if (p.add_count || p.remove_count)
			p.steps |= PLAN_NAMES;
		/* Nothing for the disk, but newer versions to take over. */
	}
	*ret_plan = p;
	return 0;
}

enum plan_rebase plan_rebase(struct node_state *s, const struct node_state *r)
{
	bool same;

	if (!r || r->tomb || r->kind != s->kind)
		return REBASE_FORGET;
	same = same_content(s, r);
	if (!same && s->kind == KIND_SYMLINK)
		return REBASE_FORGET;
	for (size_t i = 0; i < s->names_count; i++) {
		ssize_t there = node_state_name_find(r, &s->names[i].parent, s->names[i].name);

		s->names[i].l = there >= 0 ? r->names[there].l : 0; /* 0: elsewhere at the server */
	}
	s->a = same_attr(s, r) ? r->a : 0;
	s->seq = r->seq;
	if (same)
		s->c = r->c;
	else if (s->c >= r->c)
		s->c = 0; /* of the lost history: it must not be taken for one of this */
	return same ? REBASE_KEEP : REBASE_SEND;
}

enum plan_spot plan_spot(const struct plan_holder *h)
{
	if (h->is_self)
		return SPOT_SELF;
	if (!h->is_planned || h->busy)
		return SPOT_WAIT;
	if (h->tomb && h->kind != KIND_DIR)
		return SPOT_DISPLACE;
	if (h->ring)
		return SPOT_ASIDE;
	if (h->tomb)
		return h->active ? SPOT_WAIT : SPOT_EMPTY_FIRST;
	return h->active ? SPOT_SWAP : SPOT_MOVE_FIRST;
}
