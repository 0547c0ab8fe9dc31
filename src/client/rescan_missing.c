/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names that are agreed or queued and not on disk: collected, checked once more, brought back. Called by the
 * scan and after a power loss. Makes no operation of them, and never decides that one was deleted.
 */
#include "rescan_missing.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <syncfs/io.h>

#include "capture.h"
#include "syncstate.h"

bool missing_proves(int r)
{
	return r == -ENOENT || r == -ENOTDIR || r == -ELOOP || r == -EXDEV;
}

static int stat_missing(const struct rescan_config *c, const struct missing *m, struct stat_id *ret_now)
{
	cleanup_buf struct buf path = BUF_INIT;
	cleanup_fd int dirfd = -1;
	int r = capture_dir_path(c->capture, &m->parent, &path);

	if (r)
		return r;
	dirfd = tree_open_dir(c->tree, buf_cstr(&path) ? buf_cstr(&path) : "");
	return dirfd < 0 ? dirfd : tree_stat(dirfd, m->name, ret_now);
}

/* Or nobody can tell. */
static bool is_on_disk(const struct rescan_config *c, const struct missing *m)
{
	struct stat_id now;

	return !missing_proves(stat_missing(c, m, &now));
}

/* Nothing lies there, or what is known as another one, though the name is this one's. */
static bool is_not_there(const struct rescan_config *c, const struct missing *m)
{
	struct stat_id now;
	struct id node;
	int r = stat_missing(c, m, &now);

	if (r)
		return missing_proves(r);
	return capture_has_name(c->capture, &m->node, &m->parent, m->name) &&
		capture_resolve(c->capture, &now, &node) == 0 && !id_equal(&node, &m->node);
}

bool missing_is_gone(const struct rescan_config *c, const struct missing *m)
{
	return capture_has_name(c->capture, &m->node, &m->parent, m->name) && !is_on_disk(c, m);
}

/* Within a transaction. R, when there is one, is newer than what was agreed. */
static int restore_name(struct syncstate *s, const struct missing *m)
{
	struct node_state told;
	struct base_row row;
	int r = syncstate_base_get(s, &m->node, &row);

	if (r)
		return r == -ENOENT ? 0 : r;
	r = syncstate_remote_get(s, &m->node, &told);
	if (r == 0)
		node_state_fini(&told);
	else if (r == -ENOENT)
		r = syncstate_remote_put(s, &row.state);
	node_state_name_remove(&row.state, &m->parent, m->name);
	if (!r)
		r = row.state.names_count ? syncstate_base_put(s, &row) : syncstate_base_delete(s, &m->node);
	base_row_fini(&row);
	return r;
}

int missing_restore(const struct rescan_config *c, const struct missing *list, size_t count, bool undone)
{
	struct syncstate *s = c->state;
	bool take[MISSING_AT_ONCE];
	int r;

	/* With something of its own under way it is no mere loss of the disk: left to the next scan. */
	for (size_t i = 0; i < count; i++)
		take[i] = undone
			? is_not_there(c, &list[i])
			: missing_is_gone(c, &list[i]) && !capture_is_busy(c->capture, &list[i].node);
	r = syncstate_begin(s, true);
	if (r)
		return r;
	for (size_t i = 0; i < count && !r; i++) {
		if (take[i])
			r = restore_name(s, &list[i]);
	}
	return syncstate_end(s, r);
}

int missing_add(struct missing **list, size_t *count, const struct id *node, enum kind kind,
	const struct id *parent, const char *name)
{
	struct missing *more = *list;

	if ((*count & (*count - 1)) == 0) {
		more = realloc(*list, (*count ? *count * 2 : 1) * sizeof(*more));
		if (!more)
			return -ENOMEM;
		*list = more;
	}
	more[*count] = (struct missing){.node = *node, .kind = kind, .parent = *parent, .name = strdup(name)};
	if (!more[*count].name)
		return -ENOMEM;
	++*count;
	return 0;
}

void missing_free(struct missing *list, size_t count)
{
	for (size_t i = 0; i < count; i++)
		free(list[i].name);
	free(list);
}

struct gather {
	struct missing *list;
	size_t count;
	struct id parent;
};

static int gather_child(void *arg, const struct child_row *row)
{
	struct gather *g = arg;

	return missing_add(&g->list, &g->count, &row->node, row->kind, &g->parent, row->name);
}

static bool is_agreed(const struct rescan_config *c, const struct queued_name *q)
{
	struct id at;

	return syncstate_peek_name(c->state, &q->parent, q->name, &at) == 0 && id_equal(&at, &q->node);
}

/* What lies in the directory by the queue alone. */
static int gather_queued(
	const struct rescan_config *c, struct gather *g, const struct queued_name *names, size_t count)
{
	int r = 0;

	for (size_t i = 0; i < count && !r; i++) {
		if (id_equal(&names[i].parent, &g->parent) && !is_agreed(c, &names[i]))
			r = missing_add(&g->list, &g->count, &names[i].node, names[i].kind, &g->parent,
				names[i].name);
	}
	return r;
}

/* Breadth first into the list, then turned round: what lies deeper comes first. */
int missing_expand(const struct rescan_config *c, bool queued, struct missing **list, size_t *count)
{
	struct gather g = {.list = *list, .count = *count};
	struct queued_name *names = NULL;
	size_t names_count = 0;
	int r = queued ? capture_queued_names(c->capture, &names, &names_count) : 0;

	for (size_t i = 0; i < g.count && !r; i++) {
		if (g.list[i].kind != KIND_DIR)
			continue;
		g.parent = g.list[i].node;
		r = syncstate_peek_children(c->state, &g.parent, gather_child, &g);
		if (!r)
			r = gather_queued(c, &g, names, names_count);
	}
	queued_names_free(names, names_count);
	for (size_t i = 0; i < g.count / 2; i++) {
		struct missing m = g.list[i];

		g.list[i] = g.list[g.count - 1 - i];
		g.list[g.count - 1 - i] = m;
	}
	*list = g.list;
	*count = g.count;
	return r;
}

/* How deep a missing name lies, by its path, for those that only the queue knows; 0: it is not missing. */
static size_t lost_depth(const struct rescan_config *c, const struct queued_name *q)
{
	const struct missing m = {.node = q->node, .parent = q->parent, .name = q->name};
	cleanup_buf struct buf path = BUF_INIT;

	if (capture_dir_path(c->capture, &q->parent, &path) || is_on_disk(c, &m))
		return 0;
	if (is_agreed(c, q))
		return 0; /* found missing by the walk */
	return path.len + 1;
}

struct lost {
	struct queued_name *name;
	size_t depth;
};

static int deeper_first(const void *a, const void *b)
{
	size_t x = ((const struct lost *)a)->depth, y = ((const struct lost *)b)->depth;

	return x < y ? 1 : x > y ? -1 : 0;
}

static int lost_sort(const struct rescan_config *c, struct queued_name *names, size_t count,
	struct missing **ret_list, size_t *ret_count)
{
	struct lost *lost = calloc(count ? count : 1, sizeof(*lost));
	size_t n = 0;
	int r = lost ? 0 : -ENOMEM;

	for (size_t i = 0; i < count && !r; i++) {
		lost[n] = (struct lost){&names[i], lost_depth(c, &names[i])};
		n += lost[n].depth > 0;
	}
	if (!r)
		qsort(lost, n, sizeof(*lost), deeper_first);
	for (size_t i = 0; i < n && !r; i++)
		r = missing_add(ret_list, ret_count, &lost[i].name->node, lost[i].name->kind,
			&lost[i].name->parent, lost[i].name->name);
	free(lost);
	return r;
}

int missing_in_queue(const struct rescan_config *c, struct missing **ret_list, size_t *ret_count)
{
	struct queued_name *names = NULL;
	size_t count = 0;
	int r = capture_queued_names(c->capture, &names, &count);

	*ret_list = NULL;
	*ret_count = 0;
	if (!r)
		r = lost_sort(c, names, count, ret_list, ret_count);
	queued_names_free(names, count);
	return r;
}

void missing_filter(const struct rescan_config *c, struct missing *list, size_t *count)
{
	size_t n = 0;

	for (size_t i = 0; i < *count; i++) {
		if (missing_is_gone(c, &list[i]))
			list[n++] = list[i];
		else
			free(list[i].name);
	}
	*count = n;
}
