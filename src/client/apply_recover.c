/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an interrupted round left in staging. Called before anything is applied: at start, and when a merge
 * has stopped the applier. What came in is dropped (R still has it); what was displaced is dropped only when
 * it is proven to be what was agreed, and otherwise kept under .syncfs/recovered.
 */
#include "apply_spot.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <fcntl.h>

#include <syncfs/io.h>
#include <syncfs/log.h>
#include <syncfs/map.h>

#include "capture.h"
#include "syncstate.h"

/* One node of the round. */
struct unfinished {
	struct apply_intent i; /* its state owned */
	struct node_state strays; /* names only: where else it may lie */
};

struct recovery {
	const struct applier_config *config;
	struct map *intents; /* stage name -> struct unfinished */
	struct map *by_node; /* the same */
	struct unfinished **order; /* the same, ascending seq */
	size_t count;
};

static void unfinished_free(struct unfinished *u)
{
	node_state_fini(&u->i.state);
	node_state_fini(&u->strays);
	free(u);
}

static int note_intent(void *arg, const struct apply_intent *i)
{
	struct recovery *rc = arg;
	struct unfinished **more = realloc(rc->order, (rc->count + 1) * sizeof(struct unfinished *));
	struct unfinished *u = calloc(1, sizeof(*u));
	int r = -ENOMEM;

	if (more)
		rc->order = more;
	if (more && u) {
		u->i = *i;
		r = node_state_copy(&i->state, &u->i.state);
	}
	if (r) {
		free(u);
		return r;
	}
	more[rc->count++] = u;
	r = map_put(rc->intents, u->i.stage_name, strlen(u->i.stage_name), u);
	return r ? r : map_put(rc->by_node, u->i.node.b, ID_BYTES, u);
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
	cleanup_fd int dirfd = tree_open_recovered(t);
	int r = dirfd < 0 ? dirfd : renameat(t->stage_fd, name, dirfd, name) < 0 ? -errno : 0;

	if (r)
		log_error("staging: keeping %s: %s", name, err_str(r));
	else
		log_warn(
			"a file that was changed while it was being replaced is kept as .syncfs/recovered/%s",
			name);
}

static bool keep(void *arg, const char *name)
{
	struct recovery *rc = arg;
	const struct unfinished *u = map_get(rc->intents, name, strlen(name));
	struct stat_id st;

	if ((!u && name[0] != TRASH_MARK) || tree_stat(rc->config->tree->stage_fd, name, &st))
		return false;
	if (u && st.ino == u->i.staged.ino && st.btime_ns == u->i.staged.btime_ns)
		return false;
	if (is_agreed(rc, name, &st))
		return false;
	recover(rc, name);
	return true;
}

/* ---- what the round had placed before it could say so ---- */

/* A directory by node, when what lies where it is thought to be is it. -ENOENT. */
static int open_dir_node(struct recovery *rc, const struct id *dir)
{
	cleanup_fd int fd = -1;
	struct stat_id now;
	struct id node;
	int r = apply_open_dir(rc->config, dir, &fd, &now);

	if (r)
		return r;
	if (capture_resolve(rc->config->capture, &now, &node) || !id_equal(&node, dir))
		return -ENOENT;
	return steal_fd(&fd);
}

static bool is_staged(const struct apply_intent *i, const struct stat_id *now)
{
	return i->staged.ino && now->ino == i->staged.ino && now->btime_ns == i->staged.btime_ns;
}

/* The same while it is looked at. */
struct half {
	const struct apply_intent *i;
	struct base_row base; /* without a node when there is none */
	bool has_base;
	struct node_state lies; /* names only: where it is */
	struct stat_id now; /* its object, when it was seen at one of them */
	bool placed; /* that is the staged one */
	bool has_attr; /* it was there, and has the attributes of R */
};

static bool same_bytes(const struct blob *a, const struct blob *b)
{
	return a->len == b->len && (!a->len || memcmp(a->data, b->data, a->len) == 0);
}

enum seen {
	SEEN_THERE,
	SEEN_GONE,
	SEEN_NOT, /* its directory is not where it was: it may be placed, but nobody has said so yet */
};

static enum seen see(struct recovery *rc, struct half *h, const struct dentry *d)
{
	cleanup_fd int dirfd = open_dir_node(rc, &d->parent);
	struct base_row parent = {0};
	struct stat_id now;
	int r;

	if (dirfd < 0) {
		if (syncstate_peek_base(rc->config->state, &d->parent, &parent) == -ENOENT)
			return SEEN_GONE; /* with it, or it has not come yet */
		base_row_fini(&parent);
		return SEEN_NOT;
	}
	r = tree_stat(dirfd, d->name, &now);
	if (r && r != -ENOENT)
		return SEEN_NOT;
	if (r || !(is_staged(h->i, &now) || (h->has_base && stat_id_same_object(&now, &h->base.disk))))
		return SEEN_GONE;
	h->now = now;
	h->placed |= is_staged(h->i, &now);
	return SEEN_THERE;
}

static const struct dentry *name_in(const struct node_state *n, const struct dentry *d)
{
	ssize_t k = node_state_name_find(n, &d->parent, d->name);

	return k >= 0 ? &n->names[k] : NULL;
}

/*
 * Where the node lies, as far as the disk proves it. An agreed name that R has, too, and that is not there
 * was taken away by somebody else: that is for the scan to find.
 */
static int find_names(struct recovery *rc, struct half *h, const struct node_state *strays)
{
	const struct node_state *s = &h->base.state, *r = &h->i->state;
	int error = 0;

	for (size_t k = 0; k < s->names_count && !error; k++) {
		const struct dentry *d = &s->names[k], *told = name_in(r, d);
		enum seen seen = see(rc, h, d);

		if (seen != SEEN_GONE || told)
			error = node_state_name_add(
				&h->lies, &d->parent, d->name, told && seen == SEEN_THERE ? told->l : d->l);
	}
	for (size_t k = 0; k < r->names_count && !error; k++) {
		const struct dentry *d = &r->names[k];

		if (!name_in(s, d) && see(rc, h, d) == SEEN_THERE)
			error = node_state_name_add(&h->lies, &d->parent, d->name, d->l);
	}
	for (size_t k = 0; k < strays->names_count && !error; k++) {
		const struct dentry *d = &strays->names[k];

		if (!name_in(&h->lies, d) && see(rc, h, d) == SEEN_THERE)
			error = node_state_name_add(&h->lies, &d->parent, d->name, 0);
	}
	return error;
}

/* A further name of a linked file, where the old object still is, for the new one. */
static int link_over(struct recovery *rc, const struct dentry *from, struct stat_id object,
	const struct dentry *to, struct stat_id old)
{
	const struct tree *t = rc->config->tree;
	cleanup_fd int from_dirfd = open_dir_node(rc, &from->parent), dirfd = open_dir_node(rc, &to->parent);
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

static int stat_name(struct recovery *rc, const struct dentry *d, struct stat_id *ret_stat)
{
	cleanup_fd int dirfd = open_dir_node(rc, &d->parent);

	return dirfd < 0 ? dirfd : tree_stat(dirfd, d->name, ret_stat);
}

/* Ended between the names of a linked file: it would be two files from then on. */
static int finish_links(struct recovery *rc, const struct half *h)
{
	const struct node_state *n = &h->base.state;
	const struct dentry *from = NULL;
	struct stat_id now, object;
	int r = 0;

	if (h->i->state.tomb || n->kind != KIND_FILE || n->names_count < 2)
		return 0;
	for (size_t k = 0; k < n->names_count && !from; k++) {
		if (!stat_name(rc, &n->names[k], &object) && is_staged(h->i, &object))
			from = &n->names[k];
	}
	for (size_t k = 0; from && k < n->names_count && !r; k++) {
		if (!stat_name(rc, &n->names[k], &now) && stat_id_same_object(&now, &h->base.disk))
			r = link_over(rc, from, object, &n->names[k], h->base.disk);
	}
	return r;
}

/* ---- attributes that were set in place ---- */

/* What they are: those of R, or of S as far as they were not set yet; and at least one has been. */
static bool is_being_set(const struct half *h, const struct stat_id *now, const struct blob *xattr)
{
	const struct node_state *s = &h->base.state, *r = &h->i->state;
	bool is_dir = r->kind == KIND_DIR; /* whose time moves with what is in it */
	bool old_mode = (now->mode & 0777) == s->mode, new_mode = (now->mode & 0777) == r->mode,
	     old_time = is_dir || now->mtime_ns == s->mtime_ns,
	     new_time = is_dir || now->mtime_ns == r->mtime_ns, old_xattr = same_bytes(xattr, &s->xattr),
	     new_xattr = same_bytes(xattr, &r->xattr);

	return (old_mode || new_mode) && (old_time || new_time) && (old_xattr || new_xattr) &&
		!(old_mode && old_time && old_xattr);
}

static int set_rest(struct recovery *rc, struct half *h, int dirfd, const char *name)
{
	const struct tree *t = rc->config->tree;
	const struct node_state *r = &h->i->state;
	const struct blob none = {0};
	cleanup_fd int fd = tree_open_at(t, dirfd, name, O_RDONLY | O_NONBLOCK);
	struct stat_id now;
	struct blob xattr = {0};
	int error = fd < 0 ? fd : tree_stat(fd, "", &now);

	if (!error)
		error = tree_read_xattr(fd, &xattr);
	if (error == -EOPNOTSUPP)
		error = 0;
	if (!error && stat_id_same_object(&now, &h->base.disk) && now.size == h->base.disk.size &&
		is_being_set(h, &now, &xattr)) {
		error = place_attr(t, dirfd, name, &now, r->mode, r->mtime_ns,
			r->xattr.len ? &r->xattr : &none, &h->now);
		h->has_attr = !error;
	}
	free(xattr.data);
	return error;
}

/* Half of them set, the scan would send them as set here: over newer ones of others. */
static int finish_attr(struct recovery *rc, struct half *h)
{
	const struct node_state *r = &h->i->state;
	const struct dentry *d = h->lies.names;
	cleanup_fd int dirfd = -1;
	int error;

	if (h->placed || !h->has_base || !h->now.ino || r->tomb || r->kind == KIND_SYMLINK ||
		!h->lies.names_count || h->base.state.a == r->a ||
		capture_is_busy(rc->config->capture, &r->node))
		return 0;
	dirfd = open_dir_node(rc, &d->parent);
	error = dirfd < 0 ? dirfd : set_rest(rc, h, dirfd, d->name);
	return error == -EACCES || error == -EPERM ? 0 : error;
}

/* ---- what is known then ---- */

/* Names, and content and attributes when they are those of R: then R has nothing more to say. */
static bool is_whole(const struct half *h)
{
	const struct node_state *r = &h->i->state;

	if (r->tomb)
		return h->lies.names_count == 0;
	if (!(h->placed || (h->has_attr && h->base.state.c == r->c)) || h->lies.names_count != r->names_count)
		return false;
	for (size_t k = 0; k < r->names_count; k++) {
		if (!name_in(&h->lies, &r->names[k]))
			return false;
	}
	return true;
}

/* S says so; or nothing that is known lies anywhere, and it is the scan's. */
static bool is_up_to_date(const struct half *h)
{
	if (!h->lies.names_count)
		return !h->has_base || !h->i->state.tomb;
	if (!h->has_base || h->lies.names_count != h->base.state.names_count)
		return false;
	for (size_t k = 0; k < h->lies.names_count; k++) {
		if (!name_in(&h->base.state, &h->lies.names[k]))
			return false;
	}
	return !h->has_attr &&
		(!h->placed ||
			(h->base.state.c == h->i->state.c && stat_id_same_object(&h->now, &h->base.disk)));
}

static int put_row(struct recovery *rc, const struct half *h, bool whole)
{
	const struct node_state *r = &h->i->state;
	struct base_row row = {.state = h->placed ? *r : h->base.state, .disk = h->base.disk};

	if (r->tomb && whole)
		return syncstate_base_delete(rc->config->state, &r->node);
	if (h->has_attr) {
		row.state.a = r->a;
		row.state.mode = r->mode;
		row.state.mtime_ns = r->mtime_ns;
		row.state.xattr = r->xattr; /* borrowed */
	}
	if (h->placed || h->has_attr) {
		row.disk = h->now;
		row.disk.ctime_ns = 0; /* somebody may have changed it since: the scan looks at it */
	}
	if (!whole && h->has_base)
		row.state.seq = h->base.state.seq;
	row.state.names = h->lies.names; /* borrowed */
	row.state.names_count = h->lies.names_count;
	return syncstate_base_put(rc->config->state, &row);
}

/* R goes when there is no more in it, nor anything newer. */
static int drop_told(struct recovery *rc, const struct node_state *done)
{
	struct node_state told;
	int r = syncstate_remote_get(rc->config->state, &done->node, &told);

	if (r)
		return r == -ENOENT ? 0 : r;
	if (told.seq <= done->seq)
		r = syncstate_remote_delete(rc->config->state, &done->node);
	node_state_fini(&told);
	return r;
}

static int settle(struct recovery *rc, const struct half *h)
{
	bool whole = is_whole(h);
	int r = syncstate_begin(rc->config->state, false);

	if (r)
		return r;
	r = put_row(rc, h, whole);
	if (!r && whole)
		r = drop_told(rc, &h->i->state);
	return syncstate_end(rc->config->state, r);
}

/* S := what was being applied, as far as it was. 1: that was further than S said. */
static int finish(struct recovery *rc, const struct unfinished *u)
{
	struct half h = {.i = &u->i};
	int r = syncstate_peek_base(rc->config->state, &u->i.node, &h.base);

	h.has_base = !r;
	r = r == -ENOENT ? 0 : r ? r : finish_links(rc, &h);
	if (!r)
		r = find_names(rc, &h, &u->strays);
	if (!r)
		r = finish_attr(rc, &h);
	if (!r && !is_up_to_date(&h)) {
		r = settle(rc, &h);
		r = r ? r : 1;
	}
	node_state_fini(&h.lies);
	base_row_fini(&h.base);
	return r == -ESTALE || r == -ENOENT ? 0 : r; /* changed since: the scan looks at it */
}

/* ---- where else ---- */

static int add_stray(struct unfinished *u, const struct id *parent, const char *name)
{
	const struct dentry d = {.parent = *parent, .name = (char *)(uintptr_t)name};

	return name_in(&u->strays, &d) ? 0 : node_state_name_add(&u->strays, parent, name, 0);
}

/* Beside one of these it may have had to make room. */
static int may_be_aside(struct unfinished *u, const struct node_state *of)
{
	char name[APPLY_ASIDE_BYTES];
	int r = 0;

	apply_aside_name(&u->i.node, name);
	for (size_t k = 0; k < of->names_count && !r; k++)
		r = add_stray(u, &of->names[k].parent, name);
	return r;
}

/* Who has changed places with it lies where it was. */
static int find_other(struct recovery *rc, const struct dentry *d, const struct id *node)
{
	struct unfinished *other;
	struct stat_id now;
	struct id there;

	if (stat_name(rc, d, &now) || capture_resolve(rc->config->capture, &now, &there) ||
		id_equal(&there, node))
		return 0;
	other = map_get(rc->by_node, there.b, ID_BYTES);
	return other ? add_stray(other, &d->parent, d->name) : 0;
}

static int find_strays(struct recovery *rc, struct unfinished *u)
{
	struct base_row base;
	int r = may_be_aside(u, &u->i.state);

	if (!r)
		r = syncstate_peek_base(rc->config->state, &u->i.node, &base);
	if (r)
		return r == -ENOENT ? 0 : r;
	r = may_be_aside(u, &base.state);
	for (size_t k = 0; k < base.state.names_count && !r; k++)
		r = find_other(rc, &base.state.names[k], &u->i.node);
	base_row_fini(&base);
	return r;
}

static int compare_seq(const void *a, const void *b)
{
	const struct unfinished *const *x = a, *const *y = b;
	uint64_t m = (*x)->i.state.seq, n = (*y)->i.state.seq;

	return m < n ? -1 : m > n;
}

/*
 * Ended between placing and saying so. Without this the scan would take what was placed for changes made
 * here, with an old base: conflicts with ourselves, and names that come back. Where a directory lies says
 * where to look for what is in it: again, as long as one brings something.
 */
static int finish_all(struct recovery *rc)
{
	bool progress = true;
	int r = 0;

	if (rc->count)
		qsort(rc->order, rc->count, sizeof(*rc->order), compare_seq);
	for (size_t k = 0; k < rc->count && !r; k++) /* as long as S tells of all of them */
		r = find_strays(rc, rc->order[k]);
	for (size_t pass = 0; pass <= rc->count && progress; pass++) {
		progress = false;
		for (size_t k = 0; k < rc->count && r >= 0; k++) {
			r = finish(rc, rc->order[k]);
			progress |= r > 0;
		}
		if (r >= 0 && progress) /* the journal may tell more of what this has settled */
			r = capture_reload_names(rc->config->capture);
	}
	return r < 0 ? r : 0;
}

static int clear_intents(struct recovery *rc)
{
	int r = syncstate_begin(rc->config->state, false);

	if (r)
		return r;
	r = syncstate_intents_clear(rc->config->state);
	return syncstate_end(rc->config->state, r);
}

int applier_recover(const struct applier_config *config)
{
	struct recovery rc = {.config = config, .intents = map_new(), .by_node = map_new()};
	int r = rc.intents && rc.by_node ? syncstate_intents(config->state, note_intent, &rc) : -ENOMEM;

	if (!r)
		r = stage_sweep(config->tree, keep, &rc);
	if (!r)
		r = finish_all(&rc);
	if (!r)
		r = clear_intents(&rc);
	for (size_t k = 0; k < rc.count; k++)
		unfinished_free(rc.order[k]);
	free(rc.order);
	map_free(rc.intents);
	map_free(rc.by_node);
	return r;
}
