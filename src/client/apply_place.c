/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The second part of a round: each node into place under the tree lock by what its plan says, what is
 * displaced checked. Called by the applier after staging; makes nothing durable and writes no state. A job
 * that cannot be placed now waits: R keeps it. One file, since placing a node may mean placing its parent, or
 * who holds its name, first.
 */
#include "apply_spot.h"

#include <errno.h>
#include <stdlib.h>

#include <syncfs/failpoint.h>
#include <syncfs/io.h>
#include <syncfs/log.h>

#include "capture.h"
#include "inode.h"
#include "invalidate.h"

static void place_job(struct round *rd, struct job *j);

/* ---- spots, and who goes first ---- */

/*
 * Where something is to go: places the parent first when this round has it. That may move what is being
 * placed, so what lies somewhere is looked up with spot_find(). -ENOENT: the directory is not there (yet).
 */
static int spot_open(struct round *rd, const struct id *parent, const char *name, struct spot *ret_spot)
{
	struct job *pj = apply_job_of(rd, parent);

	if (pj && pj->state <= JOB_ACTIVE && pj->plan.steps & (PLAN_CREATE | PLAN_NAMES))
		place_job(rd, pj);
	return spot_find(rd, parent, name, ret_spot);
}

/* The children of a directory that is to go, as far as they leave it in this round, then itself. */
static int leave_dir(struct round *rd, struct job *dir)
{
	unsigned rings = rd->rings;
	bool ring = false;

	for (size_t i = 0; i < rd->count; i++) {
		struct job *j = &rd->jobs[i];
		bool inside = false;

		for (size_t k = 0; k < j->s.state.names_count && !inside; k++)
			inside = id_equal(&j->s.state.names[k].parent, &dir->r.node);
		if (inside && j->has_s && j->r.tomb && j->r.kind == KIND_DIR && j->state == JOB_TODO)
			(void)leave_dir(rd, j);
		else if (inside && j->has_s)
			place_job(rd, j);
		ring |= inside && j->ring;
	}
	place_job(rd, dir);
	dir->ring = dir->state == JOB_WAIT && (ring || rd->rings > rings);
	return dir->state == JOB_DONE ? 0 : -EAGAIN;
}

/*
 * Nothing is there; but as long as operations made here on the name are still to be sent, S has to tell what
 * they are based on, and a name belongs to one node of S.
 */
static int spot_free(struct round *rd, struct job *j, struct spot *s)
{
	struct job *other;
	struct id node;
	int r = capture_name_is_busy(rd->config->capture, &s->parent, s->name)
		? -EAGAIN
		: syncstate_peek_name(rd->config->state, &s->parent, s->name, &node);

	if (r || id_equal(&node, &j->r.node))
		return r == -ENOENT ? 0 : r;
	other = apply_job_of(rd, &node);
	if (other && other->state == JOB_TODO) {
		place_job(rd, other);
		r = spot_restat(s);
		if (r)
			return r;
	}
	if (other && node_state_name_find(&other->s.state, &s->parent, s->name) < 0) {
		rd->retry |= s->now.ino != 0;
		return s->now.ino ? -EAGAIN : 0;
	}
	if (!capture_is_busy(rd->config->capture, &node))
		rd->want_scan = true; /* taken away behind us: it becomes an operation first */
	return -EAGAIN;
}

/* Who holds the spot; somebody who is to live elsewhere is placed there first. -EAGAIN: not now. */
static int spot_look(
	struct round *rd, struct job *j, struct spot *s, enum holder *ret_holder, struct job **ret_other)
{
	struct job *other;
	struct stat_id was;
	enum plan_spot what;
	struct id node;
	int r;

	if (!s->now.ino) {
		*ret_holder = HOLDER_NONE;
		return spot_free(rd, j, s);
	}
	r = capture_resolve(rd->config->capture, &s->now, &node);
	if (r == -ENOENT)
		rd->want_scan = true; /* made behind us: it becomes an operation first */
	if (r)
		return -EAGAIN;
	other = apply_job_of(rd, &node);
	/* What R says of an outdated one is over: dead by it, it may live again by what was sent from here.
	 */
	what = plan_spot(&(struct plan_holder){
		.is_self = id_equal(&node, &j->r.node),
		.is_planned = other && !other->outdated && (other->state != JOB_WAIT || other->ring),
		.ring = other && other->ring,
		.busy = apply_is_busy(rd, &node, &s->now),
		.active = other && other->state == JOB_ACTIVE,
		.tomb = other && other->r.tomb,
		.kind = other ? other->r.kind : KIND_FILE,
	});
	*ret_holder = HOLDER_SELF;
	if (what == SPOT_SELF || what == SPOT_WAIT)
		return what == SPOT_SELF ? 0 : -EAGAIN;
	*ret_other = other;
	r = apply_claim(rd, other);
	if (r)
		return r;
	if (what == SPOT_SWAP || what == SPOT_DISPLACE) {
		*ret_holder = what == SPOT_SWAP ? HOLDER_SWAP : HOLDER_DYING;
		return 0;
	}
	*ret_holder = HOLDER_NONE;
	if (what == SPOT_ASIDE)
		return apply_set_aside(rd, other, s);
	was = s->now;
	if (what == SPOT_EMPTY_FIRST)
		(void)leave_dir(rd, other);
	else if (other->state == JOB_TODO)
		place_job(rd, other);
	r = spot_restat(s);
	if (r)
		return r;
	if (other->ring && stat_id_same_object(&s->now, &was))
		return apply_set_aside(rd, other, s);
	/* The other may have gone round a ring and swapped us into place. */
	*ret_holder = s->now.ino && j->has_s && stat_id_same_object(&s->now, &j->s.disk) ? HOLDER_SELF
											 : HOLDER_NONE;
	if (!s->now.ino || *ret_holder == HOLDER_SELF)
		return 0;
	if (!stat_id_same_object(&s->now, &was))
		rd->retry = true; /* a ring of more than two: the next pass goes on */
	return -EAGAIN;
}

/*
 * Who holds the spot waits for what is to come there, which has no place yet that it could take: it goes
 * beside.
 */
static int make_way(struct round *rd, struct spot *s, enum holder *holder, struct job *other)
{
	int r = *holder == HOLDER_SWAP ? apply_set_aside(rd, other, s) : 0;

	if (!r && *holder == HOLDER_SWAP)
		*holder = HOLDER_NONE;
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
	int r = spot_find(rd, &first->parent, first->name, &from);

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
			r = spot_put(rd, s, holder, other, stage, &placed);
		if (r)
			apply_trash(rd, stage);
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
	if (!r)
		r = make_way(rd, &s, &holder, other);
	if (!r && holder != HOLDER_SELF)
		r = link_at(rd, j, &s, holder, other);
	spot_fini(&s);
	if (!r)
		r = node_state_name_add(&j->s.state, &d->parent, d->name, d->l);
	return r ? r : apply_bind(rd, j);
}

/* ---- a new node ---- */

/*
 * It lies there already, but S has it without a name: when ours was settled, the name was still another's,
 * whom the round before has displaced. S gets the name; what else R says is for the next round.
 */
static int found_at(struct round *rd, struct job *j, const struct spot *s)
{
	struct base_row row;
	int r = syncstate_peek_base(rd->config->state, &j->r.node, &row);

	if (r)
		return -EAGAIN;
	if (row.state.names_count || !stat_id_same_object(&row.disk, &s->now)) {
		base_row_fini(&row);
		return -EAGAIN;
	}
	j->s = row;
	j->has_s = true;
	rd->retry = true;
	r = node_state_name_add(&j->s.state, &s->parent, s->name, 0);
	if (!r)
		r = apply_bind(rd, j);
	return r ? r : -EAGAIN;
}

static int create_at(struct round *rd, struct job *j, struct spot *s)
{
	struct job *other = NULL;
	struct stat_id placed;
	enum holder holder;
	int r = spot_look(rd, j, s, &holder, &other);

	if (!r && holder == HOLDER_SELF)
		r = found_at(rd, j, s);
	if (!r)
		r = make_way(rd, s, &holder, other);
	if (!r)
		r = spot_put(rd, s, holder, other, j->stage, &placed);
	if (r)
		return r;
	j->staged = false;
	j->s.disk = placed;
	return 0;
}

static int node_create(struct round *rd, struct job *j)
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
	r = node_state_name_add(&j->s.state, &d->parent, d->name, d->l);
	if (!r)
		r = apply_bind(rd, j);
	for (size_t i = 1; i < j->r.names_count && !r; i++)
		r = add_link(rd, j, &j->r.names[i]);
	return r;
}

/* ---- other names ---- */

static int swap_with_dying(struct round *rd, struct spot *from, struct spot *to, struct job *other)
{
	const struct applier_config *c = rd->config;
	struct stat_id mine = from->now, theirs;
	int r = apply_expected(rd, &other->s, to, &theirs);

	if (!r)
		r = place_exchange(c->tree, from->dirfd, from->name, &mine, to->dirfd, to->name, &theirs);
	if (r)
		return r;
	theirs.ctime_ns = 0;
	r = apply_take_out(rd, from, &theirs);
	apply_lost_name(rd, other, to);
	return r;
}

static int swap_with_living(struct round *rd, struct spot *from, struct spot *to, struct job *other)
{
	const struct applier_config *c = rd->config;
	int r = place_exchange(c->tree, from->dirfd, from->name, &from->now, to->dirfd, to->name, &to->now);

	if (r)
		return r;
	node_state_name_remove(&other->s.state, &to->parent, to->name);
	r = node_state_name_add(&other->s.state, &from->parent, from->name, 0);
	inode_moved(c->inodes, &to->now, &from->dir, from->name);
	return r ? r : apply_bind(rd, other);
}

/* 1: the steps of another have brought it there; what was its name is as it was. */
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
		return r ? r : 1;
	if (holder == HOLDER_DYING)
		r = swap_with_dying(rd, from, to, other);
	else if (holder == HOLDER_SWAP)
		r = swap_with_living(rd, from, to, other);
	if (holder == HOLDER_SWAP && r == -EINVAL) { /* one lies in the other */
		r = apply_set_aside(rd, other, to);
		holder = HOLDER_NONE;
	}
	if (!r && holder == HOLDER_NONE)
		r = place_move(c->tree, from->dirfd, from->name, to->dirfd, to->name, &from->now, &placed);
	if (r == -EINVAL) { /* into what lies in it: that leaves it first */
		rd->rings++;
		rd->retry = true;
		r = -EAGAIN;
	}
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
		r = node_state_name_find(&j->s.state, &from.parent, from.name) >= 0
			? move_between(rd, j, &from, &to)
			: -EAGAIN;
		if (r >= 0 && tree_stat(to.dirfd, to.name, &now) == 0 &&
			stat_id_same_object(&now, &j->s.disk) && now.mtime_ns == j->s.disk.mtime_ns &&
			now.size == j->s.disk.size)
			j->s.disk = now; /* the inode change time moved with the rename */
		spot_fini(&to);
	}
	spot_fini(&from);
	if (r < 0)
		return r;
	if (!r)
		node_state_name_remove(&j->s.state, &old_parent, old_name);
	r = node_state_name_add(&j->s.state, &to_name->parent, to_name->name, to_name->l);
	return r ? r : apply_bind(rd, j);
}

static int drop_name(struct round *rd, struct job *j, const struct dentry *d)
{
	struct stat_id expected;
	struct spot s;
	int r = spot_find(rd, &d->parent, d->name, &s);

	if (r)
		return r;
	/* Of one that stays it was asked before its first step. */
	if (j->plan.steps & PLAN_REMOVE && apply_is_busy(rd, &j->r.node, &j->s.disk))
		r = -EAGAIN;
	else if (s.now.ino)
		r = apply_expected(rd, &j->s, &s, &expected);
	if (!r && s.now.ino)
		r = apply_take_out(rd, &s, &expected);
	if (!r) {
		invalidate_delete(rd->config->invalidate, &s.dir, &s.now, s.name);
		apply_lost_name(rd, j, &s);
	}
	spot_fini(&s);
	return r;
}

/* Names that the node has here and R does not give it, in its present order. */
static const struct dentry *surplus(const struct job *j)
{
	for (size_t i = 0; i < j->s.state.names_count; i++) {
		const struct dentry *d = &j->s.state.names[i];

		if (node_state_name_find(&j->r, &d->parent, d->name) < 0)
			return d;
	}
	return NULL;
}

static int node_names(struct round *rd, struct job *j)
{
	int r = 0;

	for (size_t i = 0; i < j->plan.add_count && !r; i++) {
		const struct dentry *to = &j->r.names[j->plan.add[i]], *from = surplus(j);

		r = from ? move_name(rd, j, from, to) : add_link(rd, j, to);
	}
	for (const struct dentry *d = surplus(j); d && !r; d = surplus(j))
		r = drop_name(rd, j, d);
	/* By what others have told, the name of this one may be another's too: who came there has moved it.
	 */
	if (!r && j->s.state.names_count != j->r.names_count)
		r = -EAGAIN;
	return r;
}

/* ---- other attributes ---- */

static int node_attr(struct round *rd, struct job *j)
{
	const struct blob none = {0};
	const struct dentry *d = j->s.state.names;
	struct stat_id now;
	struct spot s;
	int r;

	if (!j->s.state.names_count)
		return -EAGAIN;
	r = spot_find(rd, &d->parent, d->name, &s);
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

/* ---- one job ---- */

static int node_remove(struct round *rd, struct job *j)
{
	int r = 0;

	while (j->s.state.names_count && !r)
		r = drop_name(rd, j, &j->s.state.names[0]);
	return r;
}

static int run_steps(struct round *rd, struct job *j)
{
	unsigned steps = j->plan.steps;
	int r = 0;

	if (steps & PLAN_REMOVE)
		return node_remove(rd, j);
	if (steps & PLAN_CREATE)
		return node_create(rd, j);
	if (j->has_s && steps && apply_is_busy(rd, &j->r.node, &j->s.disk))
		return -EAGAIN;
	if (steps & PLAN_CONTENT)
		r = apply_content(rd, j);
	if (!r && steps & PLAN_NAMES)
		r = node_names(rd, j);
	if (!r && steps & PLAN_ATTR && !(steps & PLAN_CONTENT) && j->r.kind != KIND_DIR)
		r = node_attr(rd, j);
	return r;
}

/* A directory that nobody has any more took its names along; what was under way when it went may say
 * otherwise. */
static void forget_lost_names(struct round *rd, struct job *j)
{
	for (size_t i = j->s.state.names_count; i-- > 0;) {
		const struct dentry *d = &j->s.state.names[i];
		cleanup_free char *name = NULL;
		struct id at;

		if (!id_equal(&d->parent, &ID_ROOT) &&
			capture_location(rd->config->capture, &d->parent, &at, &name) == -ENOENT)
			node_state_name_remove(&j->s.state, &d->parent, d->name);
	}
}

static void place_job(struct round *rd, struct job *j)
{
	unsigned rings = rd->rings;
	int r;

	rd->rings += j->state == JOB_ACTIVE;
	if (j->state != JOB_TODO)
		return;
	j->state = JOB_ACTIVE;
	FAILPOINT("A4");
	/* Without a journal there may be changes here that nothing tells of. */
	r = capture_has_failed(rd->config->capture) ? -EAGAIN : apply_claim(rd, j);
	if (!r)
		r = run_steps(rd, j);
	if (r == -ENOENT)
		forget_lost_names(rd, j);
	j->state = r ? JOB_WAIT : JOB_DONE;
	j->ring = r && rd->rings > rings;
	if (r == -ESTALE || r == -ENOTEMPTY || r == -EEXIST)
		rd->want_scan =
			true; /* something else is there than we know of: it becomes an operation first */
	else if (r && r != -EAGAIN && r != -ENOENT)
		log_warn("placing %s: %s, trying again", j->r.names_count ? j->r.names[0].name : "a removal",
			err_str(r));
	if (r && r != -EAGAIN)
		rd->retry = true;
}

/* Directories last: what was placed in them has changed their times. One that fails is not as R says. */
static void place_dir_attr(struct round *rd)
{
	for (size_t i = rd->count; i-- > 0;) {
		struct job *j = &rd->jobs[i];

		if (j->state != JOB_DONE || j->r.kind != KIND_DIR ||
			!(j->plan.steps & (PLAN_CREATE | PLAN_ATTR)) || node_attr(rd, j) == 0)
			continue;
		j->state = JOB_WAIT;
		rd->retry = true;
	}
}

void apply_place_round(struct round *rd)
{
	/* The living first: who takes the name of a dead one replaces it, and the name is never gone in
	 * between. */
	for (size_t i = 0; i < 2 * rd->count; i++) {
		struct job *j = &rd->jobs[i % rd->count];

		if (j->r.tomb != (i >= rd->count) || j->state != JOB_TODO)
			continue;
		rwlock_write(rd->config->tree_lock);
		place_job(rd, j);
		rwlock_unlock(rd->config->tree_lock);
	}
	rwlock_write(rd->config->tree_lock);
	place_dir_attr(rd);
	rwlock_unlock(rd->config->tree_lock);
}
