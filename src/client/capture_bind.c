/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The applier's and the scan's side of capture: who an object is, where a node lies, and objects that the
 * agreed state does not know yet. Never called by the view.
 */
#include "capture_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <syncfs/io.h>

int capture_resolve(struct capture *c, const struct stat_id *object, struct id *ret_node)
{
	int r;

	mutex_lock(&c->lock);
	r = capture_resolve_locked(c, object, ret_node);
	mutex_unlock(&c->lock);
	return r > 0 ? -ENOENT : r;
}

bool capture_is_busy(struct capture *c, const struct id *node)
{
	struct local *l;

	MUTEX_GUARD(&c->lock);
	l = pending_find(c->pending, node);
	return l && (l->entries || l->promises || l->dirty_lsn);
}

bool capture_name_is_busy(struct capture *c, const struct id *parent, const char *name)
{
	MUTEX_GUARD(&c->lock);

	return pending_has_name(c->pending, parent, name);
}

int capture_dir_path(struct capture *c, const struct id *dir, struct buf *out)
{
	MUTEX_GUARD(&c->lock);

	return pending_dir_path(c->pending, dir, out);
}

int capture_location(struct capture *c, const struct id *node, struct id *ret_parent, char **ret_name)
{
	MUTEX_GUARD(&c->lock);

	return pending_locate(c->pending, node, ret_parent, ret_name);
}

bool capture_has_name(struct capture *c, const struct id *node, const struct id *parent, const char *name)
{
	struct local *l;
	struct id at;

	MUTEX_GUARD(&c->lock);
	l = pending_find(c->pending, node);
	if (!l)
		return syncstate_peek_name(c->state, parent, name, &at) == 0 && id_equal(&at, node);
	return local_has_name(l, parent, name);
}

size_t capture_names(struct capture *c, const struct id *node)
{
	struct base_row row;
	struct local *l;
	size_t count;

	MUTEX_GUARD(&c->lock);
	l = pending_find(c->pending, node);
	if (l)
		return l->names_count;
	if (syncstate_peek_base(c->state, node, &row))
		return 0;
	count = row.state.names_count;
	base_row_fini(&row);
	return count;
}

bool capture_has_left(
	struct capture *c, const struct id *node, const struct id *parent, const char *name, bool *ret_dead)
{
	const struct local *l;

	MUTEX_GUARD(&c->lock);
	l = pending_find(c->pending, node);
	if (!l || !l->entries)
		return false;
	*ret_dead = !l->names_count;
	return !local_has_name(l, parent, name);
}

static int has_left_root(void *arg, const struct child_row *row)
{
	const struct capture *c = arg;
	const struct local *l = pending_find(c->pending, &row->node);

	return l && l->entries && !local_has_name(l, &ID_ROOT, row->name) ? 0 : -ENODATA;
}

bool capture_has_emptied(struct capture *c)
{
	struct local *l;
	size_t pos = 0;

	MUTEX_GUARD(&c->lock);
	while (pending_next_local(c->pending, &pos, &l)) {
		for (size_t i = 0; i < l->names_count; i++) {
			if (id_equal(&l->names[i]->at->parent, &ID_ROOT))
				return false;
		}
	}
	return syncstate_peek_children(c->state, &ID_ROOT, has_left_root, c) == 0;
}

int capture_holder(struct capture *c, const struct id *parent, const char *name, struct id *ret_node,
	enum kind *ret_kind)
{
	struct local *l;
	int r;

	MUTEX_GUARD(&c->lock);
	l = pending_has_name(c->pending, parent, name) ? pending_holder(c->pending, parent, name) : NULL;
	r = l ? 0 : syncstate_peek_name(c->state, parent, name, ret_node);
	if (r)
		return r;
	if (!l)
		l = pending_find(c->pending, ret_node);
	*ret_kind = l ? l->kind : 0;
	if (!l)
		return 0;
	*ret_node = l->node;
	return local_has_name(l, parent, name) ? 0 : -ENOENT;
}

int capture_reload_names(struct capture *c)
{
	MUTEX_GUARD(&c->lock);

	return pending_reload_names(c->pending);
}

static int copy_names(const struct local *l, struct queued_name **names, size_t *count)
{
	struct queued_name *more;

	if (!l->entries || !l->kind || !l->names_count)
		return 0;
	more = realloc(*names, (*count + l->names_count) * sizeof(*more));
	if (!more)
		return -ENOMEM;
	*names = more;
	for (size_t i = 0; i < l->names_count; i++) {
		more[*count] = (struct queued_name){.node = l->node,
			.kind = l->kind,
			.parent = l->names[i]->at->parent,
			.name = strdup(l->names[i]->at->name)};
		if (!more[*count].name)
			return -ENOMEM;
		++*count;
	}
	return 0;
}

void queued_names_free(struct queued_name *names, size_t count)
{
	for (size_t i = 0; i < count; i++)
		free(names[i].name);
	free(names);
}

int capture_queued_names(struct capture *c, struct queued_name **ret_names, size_t *ret_count)
{
	struct queued_name *names = NULL;
	size_t count = 0, pos = 0;
	struct local *l;
	int r = 0;

	mutex_lock(&c->lock);
	while (!r && pending_next_local(c->pending, &pos, &l))
		r = copy_names(l, &names, &count);
	mutex_unlock(&c->lock);
	if (r) {
		queued_names_free(names, count);
		return r;
	}
	*ret_names = names;
	*ret_count = count;
	return 0;
}

int capture_path(struct capture *c, const struct id *node, struct buf *out)
{
	cleanup_free char *name = NULL;
	struct id parent;
	size_t len;
	int r;

	MUTEX_GUARD(&c->lock);
	if (id_equal(node, &ID_ROOT))
		return 0;
	r = pending_locate(c->pending, node, &parent, &name);
	len = out->len;
	if (!r)
		r = pending_dir_path(c->pending, &parent, out);
	if (r)
		return r;
	if (out->len > len)
		buf_put_u8(out, '/');
	buf_put_str(out, name);
	return out->error;
}

static int set_names(struct pending *p, struct local *l, const struct node_state *where)
{
	int r = 0;

	local_names_clear(p, l);
	for (size_t i = 0; i < where->names_count && !r; i++)
		r = local_name_add(p, l, &where->names[i].parent, where->names[i].name);
	return r;
}

int capture_bind(struct capture *c, const struct node_state *where, const struct stat_id *object)
{
	struct local *l;

	MUTEX_GUARD(&c->lock);
	l = pending_bound(c->pending, &where->node, where->kind, object);
	if (!l)
		return -ENOMEM;
	if (!l->pins)
		l->pins = 1;
	return set_names(c->pending, l, where);
}

void capture_unbind(struct capture *c, const struct id *node)
{
	struct local *l;

	MUTEX_GUARD(&c->lock);
	l = pending_find(c->pending, node);
	if (!l)
		return;
	l->pins = 0;
	if (l->entries)
		capture_wake_locked(c);
	pending_settle(c->pending, l);
}

uint64_t capture_aliases(struct capture *c)
{
	MUTEX_GUARD(&c->lock);

	return c->aliases;
}

int capture_found(struct capture *c, uint64_t aliases, struct record *r, const struct stat_id *object)
{
	MUTEX_GUARD(&c->lock);
	if (c->aliases != aliases) {
		capture_want_scan_locked(c);
		return -EAGAIN;
	}
	return capture_fact_locked(c, r, object);
}
