/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Placing one node by what its plan says: new, other content, other names, other attributes. Called by
 * apply_place.c under the tree lock; every object that leaves a name is checked to be the one that was
 * agreed.
 */
#include "apply_place.h"

#include <errno.h>
#include <stdlib.h>

#include <syncfs/io.h>
#include <syncfs/log.h>

#include "inode.h"
#include "invalidate.h"

/* Puts a staged object at the spot, over a dying one if need be. The displaced one is in staging under the
 * same name. */
static int put_at(struct round *rd, struct spot *s, enum holder holder, struct job *other, const char *stage,
	struct stat_id *ret_placed)
{
	const struct applier_config *c = rd->config;
	struct stat_id expected;
	int r;

	if (holder == HOLDER_NONE) {
		r = stage_set_owner(c->tree, stage, s->dirfd, c->uid, c->gid);
		if (!r)
			r = place_put(c->tree, stage, s->dirfd, s->name, NULL, ret_placed);
	} else if (holder == HOLDER_DYING) {
		r = apply_expected(rd, &other->s, s, &expected);
		if (!r)
			r = stage_carry_over(c->tree, stage, s->dirfd, s->name);
		if (!r)
			r = place_put(c->tree, stage, s->dirfd, s->name, &expected, ret_placed);
		if (!r) {
			apply_trash(rd, stage);
			apply_lost_name(rd, other, s);
		}
	} else {
		r = -EAGAIN;
	}
	if (!r)
		invalidate_entry(c->invalidate, &s->dir, s->name);
	return r;
}

/* ---- further names ---- */

/* Gives the job's object, which lies at its first name, the further name of the spot. */
static int link_at(struct round *rd, struct job *j, struct spot *s, enum holder holder, struct job *other)
{
	const struct applier_config *c = rd->config;
	const struct dentry *first = &j->s.state.names[0];
	struct stat_id placed, expected = j->s.disk;
	char stage[STAGE_NAME_BYTES];
	struct spot from;
	int r = spot_open(rd, &first->parent, first->name, &from);

	if (r)
		return r;
	expected.ctime_ns = 0; /* moves with every link */
	if (holder == HOLDER_NONE) {
		r = place_link(c->tree, from.dirfd, from.name, s->dirfd, s->name, &expected);
		if (!r)
			invalidate_entry(c->invalidate, &s->dir, s->name);
	} else {
		stage_name(stage);
		r = place_link(c->tree, from.dirfd, from.name, c->tree->stage_fd, stage, &expected);
		if (!r)
			r = put_at(rd, s, holder, other, stage, &placed);
	}
	spot_fini(&from);
	return r;
}

static int add_link(struct round *rd, struct job *j, const struct dentry *d)
{
	struct job *other = NULL;
	enum holder holder;
	struct spot s;
	int r = spot_open(rd, &d->parent, d->name, &s);

	if (r)
		return r;
	r = spot_look(rd, j, &s, &holder, &other);
	if (!r && holder != HOLDER_SELF)
		r = link_at(rd, j, &s, holder, other);
	spot_fini(&s);
	if (!r)
		r = apply_name_add(&j->s.state, &d->parent, d->name, d->l);
	return r ? r : apply_bind(rd, j);
}

/* ---- a new node ---- */

static int create_at(struct round *rd, struct job *j, struct spot *s)
{
	struct job *other = NULL;
	struct stat_id placed;
	enum holder holder;
	int r = spot_look(rd, j, s, &holder, &other);

	if (!r)
		r = put_at(rd, s, holder, other, j->stage, &placed);
	if (r)
		return r;
	j->staged = false;
	j->s.disk = placed;
	return 0;
}

int apply_create(struct round *rd, struct job *j)
{
	const struct dentry *d = j->r.names;
	struct spot s;
	int r;

	if (!j->r.names_count)
		return -EBADMSG;
	r = spot_open(rd, &d->parent, d->name, &s);
	if (r)
		return r;
	r = create_at(rd, j, &s);
	spot_fini(&s);
	if (r)
		return r;
	j->s.state = (struct node_state){.node = j->r.node, .kind = j->r.kind, .content = j->r.content};
	j->has_s = true;
	r = apply_name_add(&j->s.state, &d->parent, d->name, d->l);
	if (!r)
		r = apply_bind(rd, j);
	for (size_t i = 1; i < j->r.names_count && !r; i++)
		r = add_link(rd, j, &j->r.names[i]);
	return r;
}

/* ---- other content ---- */

static int replace_first(struct round *rd, struct job *j, struct stat_id *ret_old)
{
	const struct applier_config *c = rd->config;
	const struct dentry *d = &j->s.state.names[0];
	struct stat_id expected, placed;
	struct spot s;
	int r = spot_open(rd, &d->parent, d->name, &s);

	if (r)
		return r;
	r = apply_expected(rd, &j->s, &s, &expected);
	if (!r)
		r = stage_carry_over(c->tree, j->stage, s.dirfd, s.name);
	if (!r)
		r = place_put(c->tree, j->stage, s.dirfd, s.name, &expected, &placed);
	if (!r) {
		apply_trash(rd, j->stage);
		j->staged = false;
		*ret_old = expected;
		inode_displaced(c->inodes, &expected);
		invalidate_entry(c->invalidate, &s.dir, s.name);
		invalidate_inode(c->invalidate, &expected, true);
		j->s.disk = placed;
	}
	spot_fini(&s);
	return r;
}

/* The other names of a group of hard links follow, or it would be split. */
static int replace_link(struct round *rd, struct job *j, const struct dentry *d, const struct stat_id *old)
{
	const struct applier_config *c = rd->config;
	struct stat_id expected = j->s.disk, displaced = *old, placed;
	char stage[STAGE_NAME_BYTES];
	struct spot from, s;
	int r = spot_open(rd, &j->s.state.names[0].parent, j->s.state.names[0].name, &from);

	if (r)
		return r;
	r = spot_open(rd, &d->parent, d->name, &s);
	expected.ctime_ns = displaced.ctime_ns = 0;
	stage_name(stage);
	if (!r) {
		r = place_link(c->tree, from.dirfd, from.name, c->tree->stage_fd, stage, &expected);
		if (!r)
			r = place_put(c->tree, stage, s.dirfd, s.name, &displaced, &placed);
		apply_trash(rd, stage);
		if (!r)
			invalidate_entry(c->invalidate, &s.dir, s.name);
		spot_fini(&s);
	}
	spot_fini(&from);
	return r;
}

int apply_content(struct round *rd, struct job *j)
{
	struct stat_id old;
	int r = j->s.state.names_count ? replace_first(rd, j, &old) : -EAGAIN;

	for (size_t i = 1; i < j->s.state.names_count && !r; i++)
		r = replace_link(rd, j, &j->s.state.names[i], &old);
	j->s.state.content = j->r.content;
	return r ? r : apply_bind(rd, j);
}

/* ---- other names ---- */

static int swap_with_dying(
	struct round *rd, struct job *j, struct spot *from, struct spot *to, struct job *other)
{
	const struct applier_config *c = rd->config;
	struct stat_id mine = from->now, theirs;
	char trash[STAGE_NAME_BYTES];
	int r = apply_expected(rd, &other->s, to, &theirs);

	if (!r)
		r = place_exchange(c->tree, from->dirfd, from->name, &mine, to->dirfd, to->name, &theirs);
	if (r)
		return r;
	apply_trash_name(trash);
	theirs.ctime_ns = 0;
	if (theirs.mode && tree_kind(theirs.mode) == KIND_DIR)
		r = place_rmdir(c->tree, from->dirfd, from->name, &theirs);
	else
		r = place_take(c->tree, from->dirfd, from->name, &theirs, trash);
	if (!r)
		apply_trash(rd, trash);
	apply_lost_name(rd, other, to);
	(void)j;
	return r;
}

static int swap_with_living(struct round *rd, struct spot *from, struct spot *to, struct job *other)
{
	const struct applier_config *c = rd->config;
	int r = place_exchange(c->tree, from->dirfd, from->name, &from->now, to->dirfd, to->name, &to->now);

	if (r)
		return r;
	apply_name_remove(&other->s.state, &to->parent, to->name);
	r = apply_name_add(&other->s.state, &from->parent, from->name, 0);
	inode_moved(c->inodes, &to->now, &from->dir, from->name);
	return r ? r : apply_bind(rd, other);
}

static int move_between(struct round *rd, struct job *j, struct spot *from, struct spot *to)
{
	const struct applier_config *c = rd->config;
	struct job *other = NULL;
	struct stat_id placed;
	enum holder holder;
	int r;

	if (!stat_id_same_object(&from->now, &j->s.disk))
		return -ESTALE;
	r = spot_look(rd, j, to, &holder, &other);
	if (r || holder == HOLDER_SELF)
		return r;
	if (holder == HOLDER_DYING)
		r = swap_with_dying(rd, j, from, to, other);
	else if (holder == HOLDER_SWAP)
		r = swap_with_living(rd, from, to, other);
	else
		r = place_move(c->tree, from->dirfd, from->name, to->dirfd, to->name, &from->now, &placed);
	if (r)
		return r;
	inode_moved(c->inodes, &from->now, &to->dir, to->name);
	invalidate_entry(c->invalidate, &from->dir, from->name);
	invalidate_entry(c->invalidate, &to->dir, to->name);
	return 0;
}

static int move_name(
	struct round *rd, struct job *j, const struct dentry *from_name, const struct dentry *to_name)
{
	cleanup_free char *old_name = strdup(from_name->name);
	struct id old_parent = from_name->parent;
	struct stat_id now;
	struct spot from, to;
	int r = old_name ? spot_open(rd, &old_parent, old_name, &from) : -ENOMEM;

	if (r)
		return r;
	r = spot_open(rd, &to_name->parent, to_name->name, &to);
	if (!r) {
		r = move_between(rd, j, &from, &to);
		if (!r && tree_stat(to.dirfd, to.name, &now) == 0 && stat_id_same_object(&now, &j->s.disk) &&
			now.mtime_ns == j->s.disk.mtime_ns && now.size == j->s.disk.size)
			j->s.disk = now; /* the inode change time moved with the rename */
		spot_fini(&to);
	}
	spot_fini(&from);
	if (r)
		return r;
	apply_name_remove(&j->s.state, &old_parent, old_name);
	r = apply_name_add(&j->s.state, &to_name->parent, to_name->name, to_name->l);
	return r ? r : apply_bind(rd, j);
}

static int drop_name(struct round *rd, struct job *j, const struct dentry *d)
{
	char trash[STAGE_NAME_BYTES];
	struct stat_id expected;
	struct spot s;
	int r = spot_open(rd, &d->parent, d->name, &s);

	if (r)
		return r;
	if (s.now.ino) {
		r = apply_expected(rd, &j->s, &s, &expected);
		apply_trash_name(trash);
		if (!r)
			r = place_take(rd->config->tree, s.dirfd, s.name, &expected, trash);
		if (!r) {
			apply_trash(rd, trash);
			invalidate_delete(rd->config->invalidate, &s.dir, &s.now, s.name);
		}
	}
	if (!r)
		apply_lost_name(rd, j, &s);
	spot_fini(&s);
	return r;
}

/* Names that the node has here and R does not give it, in its present order. */
static const struct dentry *surplus(const struct job *j)
{
	for (size_t i = 0; i < j->s.state.names_count; i++) {
		const struct dentry *d = &j->s.state.names[i];
		bool wanted = false;

		for (size_t k = 0; k < j->r.names_count && !wanted; k++)
			wanted = id_equal(&j->r.names[k].parent, &d->parent) &&
				strcmp(j->r.names[k].name, d->name) == 0;
		if (!wanted)
			return d;
	}
	return NULL;
}

int apply_names(struct round *rd, struct job *j)
{
	int r = 0;

	for (size_t i = 0; i < j->plan.add_count && !r; i++) {
		const struct dentry *to = &j->r.names[j->plan.add[i]], *from = surplus(j);

		r = from ? move_name(rd, j, from, to) : add_link(rd, j, to);
	}
	for (const struct dentry *d = surplus(j); d && !r; d = surplus(j))
		r = drop_name(rd, j, d);
	return r;
}

/* ---- other attributes ---- */

int apply_attr(struct round *rd, struct job *j)
{
	const struct blob none = {0};
	const struct dentry *d = j->s.state.names;
	struct stat_id now;
	struct spot s;
	int r;

	if (!j->s.state.names_count)
		return -EAGAIN;
	r = spot_open(rd, &d->parent, d->name, &s);
	if (r)
		return r;
	r = place_attr(rd->config->tree, s.dirfd, s.name, &j->s.disk, j->r.mode, j->r.mtime_ns,
		j->r.xattr.len ? &j->r.xattr : &none, &now);
	if (!r) {
		invalidate_inode(rd->config->invalidate, &now, false);
		j->s.disk = now;
	}
	spot_fini(&s);
	return r;
}
