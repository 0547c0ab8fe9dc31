/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an interrupted round left in staging. Called once at start, before anything is applied. What came in
 * is dropped (R still has it); what was displaced is dropped only when it is proven to be what was agreed,
 * and otherwise kept under .syncfs/recovered.
 */
#include "apply.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <fcntl.h>
#include <sys/stat.h>

#include <syncfs/io.h>
#include <syncfs/log.h>
#include <syncfs/map.h>

#include "capture.h"
#include "syncstate.h"

struct recovery {
	const struct applier_config *config;
	struct map *intents; /* stage name -> struct apply_intent, its state owned */
	struct apply_intent **order; /* the same, ascending seq */
	size_t count;
};

static int note_intent(void *arg, const struct apply_intent *i)
{
	struct recovery *rc = arg;
	struct apply_intent **more = realloc(rc->order, (rc->count + 1) * sizeof(*more));
	struct apply_intent *copy = calloc(1, sizeof(*copy));
	int r = -ENOMEM;

	if (more)
		rc->order = more;
	if (more && copy) {
		*copy = *i;
		r = node_state_copy(&i->state, &copy->state);
	}
	if (!r)
		r = map_put(rc->intents, copy->stage_name, strlen(copy->stage_name), copy);
	if (r)
		free(copy);
	else
		more[rc->count++] = copy;
	return r;
}

/* Taken out as agreed, and S forgot it with the round: only the removal from staging was missing. */
static bool is_settled(const char *name, const struct stat_id *st)
{
	return name[0] == TRASH_MARK && strlen(name) > TRASH_INO_AT &&
		strtoull(name + TRASH_INO_AT, NULL, 16) == st->ino;
}

/* The staged object is one that S knows, with the content it had. */
static bool is_agreed(struct recovery *rc, const char *name, const struct stat_id *st)
{
	const struct tree *t = rc->config->tree;
	cleanup_fd int fd = -1;
	struct base_row row;
	struct content now;
	struct stat_id read;
	struct id node;
	bool same;
	int r;

	if (tree_kind(st->mode) != KIND_FILE)
		return true; /* directories leave only when empty, links are names */
	r = syncstate_peek_object(rc->config->state, st, &node);
	if (r == -ENOENT && syncstate_peek_count(rc->config->state) > 0)
		return is_settled(name, st);
	if (r || syncstate_peek_base(rc->config->state, &node, &row))
		return false;
	fd = tree_open_at(t, t->stage_fd, name, 0);
	same = fd >= 0 && tree_hash_file(fd, &now, NULL, &read) == 0 && now.size == row.state.content.size &&
		hash_equal(&now.hash, &row.state.content.hash);
	base_row_fini(&row);
	return same;
}

static void recover(struct recovery *rc, const char *name)
{
	const struct tree *t = rc->config->tree;
	cleanup_fd int dirfd = -1;

	if (mkdirat(t->own_fd, "recovered", 0700) < 0 && errno != EEXIST) {
		log_error("staging: keeping %s: %s", name, err_str(-errno));
		return;
	}
	dirfd = openat(t->own_fd, "recovered", O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (dirfd < 0 || renameat(t->stage_fd, name, dirfd, name) < 0)
		log_error("staging: keeping %s: %s", name, err_str(-errno));
	else
		log_warn(
			"a file that was changed while it was being replaced is kept as .syncfs/recovered/%s",
			name);
}

static bool keep(void *arg, const char *name)
{
	struct recovery *rc = arg;
	const struct apply_intent *i = map_get(rc->intents, name, strlen(name));
	struct stat_id st;

	if ((!i && name[0] != TRASH_MARK) || tree_stat(rc->config->tree->stage_fd, name, &st))
		return false;
	if (i && st.ino == i->staged.ino && st.btime_ns == i->staged.btime_ns)
		return false;
	if (is_agreed(rc, name, &st))
		return false;
	recover(rc, name);
	return true;
}

/* ---- what the round had placed before it could say so ---- */

/* What lies under a name of R; -ENOENT. */
static int open_dir_of(struct recovery *rc, const struct dentry *d)
{
	cleanup_buf struct buf path = BUF_INIT;
	int r = capture_dir_path(rc->config->capture, &d->parent, &path);

	return r ? r : tree_open_dir(rc->config->tree, buf_cstr(&path) ? buf_cstr(&path) : "");
}

static int stat_name(struct recovery *rc, const struct dentry *d, struct stat_id *ret_stat)
{
	cleanup_fd int dirfd = open_dir_of(rc, d);

	return dirfd < 0 ? dirfd : tree_stat(dirfd, d->name, ret_stat);
}

/* The object is where R wants it, under all its names. */
static bool is_placed(struct recovery *rc, const struct apply_intent *i, const struct base_row *base,
	struct stat_id *ret_now)
{
	const struct node_state *r = &i->state;
	struct stat_id now;

	for (size_t k = 0; k < r->names_count; k++) {
		if (stat_name(rc, &r->names[k], &now))
			return false;
		if (i->staged.ino ? now.ino != i->staged.ino || now.btime_ns != i->staged.btime_ns
				  : !stat_id_same_object(&now, &base->disk))
			return false;
		*ret_now = now;
	}
	return r->names_count > 0;
}

static bool is_removed(struct recovery *rc, const struct base_row *base)
{
	struct stat_id now;

	for (size_t k = 0; k < base->state.names_count; k++) {
		if (stat_name(rc, &base->state.names[k], &now) == 0 && stat_id_same_object(&now, &base->disk))
			return false;
	}
	return true;
}

/*
 * S := what was being applied, as far as the disk proves it: a staged object had its attributes before it was
 * placed; without one only the names are known. R goes unless there is more in it, or something newer.
 */
static int settle(struct recovery *rc, const struct apply_intent *i, const struct base_row *base,
	const struct stat_id *now)
{
	struct syncstate *s = rc->config->state;
	struct base_row row = {.state = i->state, .disk = *now};
	bool whole = i->state.tomb || i->staged.ino;
	struct node_state told;
	int r;

	if (!whole) {
		row.state = base->state;
		row.state.names = i->state.names; /* borrowed, both */
		row.state.names_count = i->state.names_count;
	} else if (i->state.kind == KIND_FILE &&
		(now->size != i->state.content.size || now->mtime_ns != i->state.mtime_ns)) {
		row.disk = i->staged; /* changed since: by its identity alone, so that the scan looks at it */
	}
	r = i->state.tomb ? syncstate_base_delete(s, &i->node) : syncstate_base_put(s, &row);
	if (!r)
		r = syncstate_remote_get(s, &i->node, &told);
	if (r)
		return r == -ENOENT ? 0 : r;
	if (told.seq <= i->state.seq && whole)
		r = syncstate_remote_delete(s, &i->node);
	node_state_fini(&told);
	return r;
}

static int settle_in_turn(struct recovery *rc, const struct apply_intent *i, const struct base_row *base,
	const struct stat_id *now)
{
	int r = syncstate_begin(rc->config->state, false);

	if (r)
		return r;
	r = settle(rc, i, base, now);
	if (r) {
		syncstate_rollback(rc->config->state);
		return r;
	}
	return syncstate_commit(rc->config->state);
}

/* A further name of a linked file, where the old object still is, for the new one. */
static int link_over(struct recovery *rc, const struct dentry *from, struct stat_id object,
	const struct dentry *to, struct stat_id old)
{
	const struct tree *t = rc->config->tree;
	cleanup_fd int from_dirfd = open_dir_of(rc, from), dirfd = open_dir_of(rc, to);
	char stage[STAGE_NAME_BYTES];
	struct stat_id placed;
	int r;

	if (from_dirfd < 0 || dirfd < 0)
		return from_dirfd < 0 ? from_dirfd : dirfd;
	stage_name(stage);
	object.ctime_ns = old.ctime_ns = 0; /* both move with every link */
	r = place_link(t, from_dirfd, from->name, t->stage_fd, stage, &object);
	if (r)
		return r;
	r = place_put(t, stage, dirfd, to->name, &old, &placed);
	(void)stage_drop(t, stage);
	return r;
}

static bool is_staged(const struct apply_intent *i, const struct stat_id *now)
{
	return i->staged.ino && now->ino == i->staged.ino && now->btime_ns == i->staged.btime_ns;
}

/* S := the content that was being applied; where it is to lie, R still tells. */
static int settle_content(struct recovery *rc, const struct apply_intent *i, const struct base_row *base,
	const struct stat_id *now)
{
	struct base_row row = {.state = i->state, .disk = *now};
	int r = syncstate_begin(rc->config->state, false);

	if (r)
		return r;
	row.state.seq = base->state.seq;
	row.state.names = base->state.names; /* borrowed */
	row.state.names_count = base->state.names_count;
	r = syncstate_base_put(rc->config->state, &row);
	if (r) {
		syncstate_rollback(rc->config->state);
		return r;
	}
	return syncstate_commit(rc->config->state);
}

/* Ended between the names of a linked file: it would be two files from then on. */
static int finish_links(struct recovery *rc, const struct apply_intent *i, const struct base_row *base)
{
	const struct node_state *n = &base->state;
	const struct dentry *from = NULL;
	struct stat_id now, object;
	int r = 0;

	if (i->state.tomb || n->kind != KIND_FILE || n->names_count < 2)
		return 0;
	for (size_t k = 0; k < n->names_count && !from; k++) {
		if (!stat_name(rc, &n->names[k], &object) && is_staged(i, &object))
			from = &n->names[k];
	}
	for (size_t k = 0; from && k < n->names_count && !r; k++) {
		if (!stat_name(rc, &n->names[k], &now) && stat_id_same_object(&now, &base->disk))
			r = link_over(rc, from, object, &n->names[k], base->disk);
	}
	/* Changed since: the scan looks at it. */
	return r == -ESTALE || !from ? 0 : r ? r : settle_content(rc, i, base, &object);
}

static int finish(struct recovery *rc, const struct apply_intent *i)
{
	struct base_row base = {0};
	struct stat_id now = {0};
	bool done, has_base;
	int r = syncstate_peek_base(rc->config->state, &i->node, &base);

	if (r && r != -ENOENT)
		return r;
	has_base = !r;
	r = has_base ? finish_links(rc, i, &base) : 0;
	if (r) {
		base_row_fini(&base);
		return r;
	}
	done = i->state.tomb ? has_base && is_removed(rc, &base)
			     : (has_base || i->staged.ino) && is_placed(rc, i, &base, &now);
	r = done ? settle_in_turn(rc, i, &base, &now) : 0;
	base_row_fini(&base);
	return r;
}

static int compare_seq(const void *a, const void *b)
{
	const struct apply_intent *const *x = a, *const *y = b;

	return (*x)->state.seq < (*y)->state.seq ? -1 : (*x)->state.seq > (*y)->state.seq;
}

/*
 * Ended between placing and saying so. Without this the scan would take what was placed for changes made
 * here, with an old base: conflicts with ourselves. Parents come first, so paths can be told.
 */
static int finish_all(struct recovery *rc)
{
	int r = 0;

	if (rc->count)
		qsort(rc->order, rc->count, sizeof(*rc->order), compare_seq);
	/* Twice: a directory whose attributes changed last comes behind its children. The journal may tell
	 * more of what this settles. */
	for (int pass = 0; pass < 2; pass++) {
		for (size_t k = 0; k < rc->count && !r; k++)
			r = finish(rc, rc->order[k]);
		if (!r && rc->count)
			r = capture_reload_names(rc->config->capture);
	}
	return r;
}

static int clear_intents(struct recovery *rc)
{
	int r = syncstate_begin(rc->config->state, false);

	if (r)
		return r;
	r = syncstate_intents_clear(rc->config->state);
	if (r) {
		syncstate_rollback(rc->config->state);
		return r;
	}
	return syncstate_commit(rc->config->state);
}

int applier_recover(const struct applier_config *config)
{
	struct recovery rc = {.config = config, .intents = map_new()};
	int r = rc.intents ? syncstate_intents(config->state, note_intent, &rc) : -ENOMEM;

	if (!r)
		r = stage_sweep(config->tree, keep, &rc);
	if (!r)
		r = finish_all(&rc);
	if (!r)
		r = clear_intents(&rc);
	for (size_t k = 0; k < rc.count; k++) {
		node_state_fini(&rc.order[k]->state);
		free(rc.order[k]);
	}
	free(rc.order);
	map_free(rc.intents);
	return r;
}
