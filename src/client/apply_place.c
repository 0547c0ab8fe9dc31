/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Steps A4 to A6 of a round: each node into place under the tree lock, what is displaced checked. Called by
 * the applier after staging; makes nothing durable and writes no state. A job that cannot be placed now
 * waits: R keeps it.
 */
#include "apply_place.h"

#include <errno.h>
#include <stdlib.h>

#include <syncfs/io.h>
#include <syncfs/log.h>

#include "capture.h"
#include "inode.h"
#include "invalidate.h"

struct job *apply_job_of(const struct round *rd, const struct id *node)
{
	return map_get(rd->by_node, node->b, ID_BYTES);
}

/* ---- names of a state ---- */

int apply_name_add(struct node_state *n, const struct id *parent, const char *name, uint64_t l)
{
	struct dentry *more = realloc(n->names, (n->names_count + 1) * sizeof(*more));
	char *copy = strdup(name);

	if (more)
		n->names = more;
	if (!more || !copy) {
		free(copy);
		return -ENOMEM;
	}
	more[n->names_count++] = (struct dentry){.parent = *parent, .name = copy, .l = l};
	return 0;
}

void apply_name_remove(struct node_state *n, const struct id *parent, const char *name)
{
	for (size_t i = 0; i < n->names_count; i++) {
		if (!id_equal(&n->names[i].parent, parent) || strcmp(n->names[i].name, name) != 0)
			continue;
		free(n->names[i].name);
		n->names[i] = n->names[--n->names_count];
		return;
	}
}

/* ---- spots ---- */

void spot_fini(struct spot *s)
{
	if (s->dirfd >= 0)
		close(s->dirfd);
	s->dirfd = -1;
}

int spot_open(struct round *rd, const struct id *parent, const char *name, struct spot *ret_spot)
{
	cleanup_buf struct buf path = BUF_INIT;
	struct job *pj = apply_job_of(rd, parent);
	struct spot s = {.parent = *parent, .name = name};
	int r;

	if (pj && pj->state == JOB_TODO && pj->plan.steps & (PLAN_CREATE | PLAN_NAMES))
		apply_place_job(rd, pj);
	r = capture_dir_path(rd->config->capture, parent, &path);
	if (r)
		return r;
	s.dirfd = tree_open_dir(rd->config->tree, buf_cstr(&path) ? buf_cstr(&path) : "");
	if (s.dirfd < 0)
		return s.dirfd;
	r = tree_stat(s.dirfd, "", &s.dir);
	if (!r) {
		r = tree_stat(s.dirfd, name, &s.now);
		if (r == -ENOENT) {
			s.now = (struct stat_id){0};
			r = 0;
		}
	}
	if (r)
		spot_fini(&s);
	else
		*ret_spot = s;
	return r;
}

bool apply_is_busy(struct round *rd, const struct id *node, const struct stat_id *object)
{
	return capture_is_busy(rd->config->capture, node) || inode_writers(rd->config->inodes, object) > 0;
}

static int restat(struct spot *s)
{
	int r = tree_stat(s->dirfd, s->name, &s->now);

	if (r != -ENOENT)
		return r;
	s->now = (struct stat_id){0};
	return 0;
}

int spot_look(
	struct round *rd, struct job *j, struct spot *s, enum holder *ret_holder, struct job **ret_other)
{
	struct job *other;
	struct id node;
	int r;

	if (!s->now.ino) {
		*ret_holder = HOLDER_NONE;
		return 0;
	}
	r = capture_resolve(rd->config->capture, &s->now, &node);
	if (r == -ENOENT)
		rd->want_scan = true; /* made behind us: it becomes an operation first */
	if (r)
		return -EAGAIN;
	if (id_equal(&node, &j->r.node)) {
		*ret_holder = HOLDER_SELF;
		return 0;
	}
	other = apply_job_of(rd, &node);
	if (!other || other->state == JOB_WAIT || apply_is_busy(rd, &node, &s->now))
		return -EAGAIN;
	*ret_other = other;
	if (other->r.tomb) {
		*ret_holder = HOLDER_DYING;
		return 0;
	}
	if (other->state == JOB_ACTIVE) {
		*ret_holder = HOLDER_SWAP;
		return 0;
	}
	if (other->state == JOB_TODO)
		apply_place_job(rd, other);
	r = restat(s);
	*ret_holder = HOLDER_NONE;
	return r ? r : s->now.ino ? -EAGAIN : 0;
}

/*
 * What stat must say of a node's object for it to be what was agreed. Only the inode change time differs
 * after a rename or a link: then the content decides.
 */
int apply_expected(
	struct round *rd, const struct base_row *row, const struct spot *s, struct stat_id *ret_expected)
{
	cleanup_fd int fd = -1;
	struct content now;
	int r;

	if (!stat_id_same_object(&row->disk, &s->now))
		return -ESTALE;
	*ret_expected = s->now;
	if (row->state.kind != KIND_FILE || stat_id_unchanged(&row->disk, &s->now))
		return 0;
	fd = tree_open_at(rd->config->tree, s->dirfd, s->name, 0);
	if (fd < 0)
		return fd;
	r = tree_hash_file(fd, &now, NULL, ret_expected);
	if (r)
		return r;
	return now.size == row->state.content.size && hash_equal(&now.hash, &row->state.content.hash)
		? 0
		: -ESTALE;
}

void apply_trash_name(char *name)
{
	stage_name(name);
	name[0] = TRASH_MARK;
}

void apply_trash(struct round *rd, const char *stage)
{
	void *more = realloc(rd->trash, (rd->trash_count + 1) * sizeof(*rd->trash));

	if (!more)
		return; /* the sweep at the next start finds it */
	rd->trash = more;
	memcpy(rd->trash[rd->trash_count++], stage, STAGE_NAME_BYTES);
}

int apply_bind(struct round *rd, struct job *j)
{
	int r = capture_bind(rd->config->capture, &j->s.state, &j->s.disk);

	if (!r)
		j->bound = true;
	return r;
}

void apply_lost_name(struct round *rd, struct job *other, const struct spot *s)
{
	apply_name_remove(&other->s.state, &s->parent, s->name);
	apply_bind(rd, other);
	if (!other->s.state.names_count)
		inode_displaced(rd->config->inodes, &s->now);
}

/* ---- one job ---- */

static int place_remove(struct round *rd, struct job *j)
{
	while (j->s.state.names_count) {
		struct dentry *d = &j->s.state.names[0];
		char trash[STAGE_NAME_BYTES];
		struct stat_id expected;
		struct spot s;
		int r = spot_open(rd, &d->parent, d->name, &s);

		if (r)
			return r;
		if (apply_is_busy(rd, &j->r.node, &j->s.disk))
			r = -EAGAIN;
		else if (s.now.ino)
			r = apply_expected(rd, &j->s, &s, &expected);
		if (!r && s.now.ino && j->s.state.kind == KIND_DIR) {
			r = place_rmdir(rd->config->tree, s.dirfd, s.name, &expected);
		} else if (!r && s.now.ino) {
			apply_trash_name(trash);
			r = place_take(rd->config->tree, s.dirfd, s.name, &expected, trash);
			if (!r)
				apply_trash(rd, trash);
		}
		if (!r) {
			invalidate_delete(rd->config->invalidate, &s.dir, &s.now, s.name);
			apply_lost_name(rd, j, &s);
		}
		spot_fini(&s);
		if (r)
			return r;
	}
	return 0;
}

static int run_steps(struct round *rd, struct job *j)
{
	unsigned steps = j->plan.steps;
	int r = 0;

	if (steps & PLAN_REMOVE)
		return place_remove(rd, j);
	if (steps & PLAN_CREATE)
		return apply_create(rd, j);
	if (j->has_s && steps && apply_is_busy(rd, &j->r.node, &j->s.disk))
		return -EAGAIN;
	if (steps & PLAN_CONTENT)
		r = apply_content(rd, j);
	if (!r && steps & PLAN_NAMES)
		r = apply_names(rd, j);
	if (!r && steps & PLAN_ATTR && !(steps & PLAN_CONTENT) && j->r.kind != KIND_DIR)
		r = apply_attr(rd, j);
	return r;
}

void apply_place_job(struct round *rd, struct job *j)
{
	int r;

	if (j->state != JOB_TODO)
		return;
	j->state = JOB_ACTIVE;
	r = run_steps(rd, j);
	j->state = r ? JOB_WAIT : JOB_DONE;
	if (r == -ESTALE || r == -ENOTEMPTY || r == -EEXIST)
		rd->want_scan =
			true; /* something else is there than we know of: it becomes an operation first */
	else if (r && r != -EAGAIN && r != -ENOENT)
		log_warn("placing %s: %s, trying again", j->r.names_count ? j->r.names[0].name : "a removal",
			err_str(r));
	if (r && r != -EAGAIN)
		rd->retry = true;
}

/* Directories last: what was placed in them has changed their times. */
static void place_dir_attr(struct round *rd)
{
	for (size_t i = rd->count; i-- > 0;) {
		struct job *j = &rd->jobs[i];

		if (j->state == JOB_DONE && j->r.kind == KIND_DIR &&
			j->plan.steps & (PLAN_CREATE | PLAN_ATTR) && apply_attr(rd, j))
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
		apply_place_job(rd, j);
		rwlock_unlock(rd->config->tree_lock);
	}
	rwlock_write(rd->config->tree_lock);
	place_dir_attr(rd);
	rwlock_unlock(rd->config->tree_lock);
}
