/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The first part of a round: contents into staging, verified, with their attributes, durable, and the intents
 * written. Called by the applier; touches nothing visible.
 */
#include "apply.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include <syncfs/failpoint.h>
#include <syncfs/io.h>
#include <syncfs/log.h>
#include <syncfs/manifest.h>

#include "apply_spot.h"
#include "fetch.h"
#include "link.h"
#include "remote.h"

#define SYNC_EACH_MAX 4 /* up to so many files are synced one by one: cheaper than syncfs(2) */

static int write_inline(const struct job *j, int fd)
{
	struct content now;
	int r = manifest_of_bytes(j->data, j->r.content.size, &now, NULL);

	if (r)
		return r;
	if (!hash_equal(&now.hash, &j->r.content.hash))
		return -EBADMSG;
	return io_write(fd, j->data, j->r.content.size);
}

static int stage_file(struct round *rd, struct job *j)
{
	const struct applier_config *c = rd->config;
	cleanup_fd int fd = stage_create(c->tree, j->stage);
	int r;

	if (fd < 0)
		return fd;
	j->staged = true;
	r = j->data || !j->r.content.size ? write_inline(j, fd) : fetch_content(c->remote, &j->r.content, fd);
	return r ? r
		 : stage_set_new(fd, j->r.mode, j->r.mtime_ns, j->r.xattr.len ? &j->r.xattr : NULL,
			   &j->staged_stat);
}

static int stage_job(struct round *rd, struct job *j)
{
	const struct applier_config *c = rd->config;
	const struct blob none = {0};
	int r;

	switch (j->r.kind) {
	case KIND_FILE:
		return stage_file(rd, j);
	case KIND_DIR:
		r = stage_mkdir(c->tree, j->stage);
		break;
	case KIND_SYMLINK:
		r = stage_symlink(c->tree, j->r.target, j->stage);
		break;
	default:
		return -EBADMSG;
	}
	if (r)
		return r;
	j->staged = true;
	r = stage_set_attr(c->tree, j->stage, j->r.mode, j->r.mtime_ns, j->r.xattr.len ? &j->r.xattr : &none);
	return r ? r : tree_stat(c->tree->stage_fd, j->stage, &j->staged_stat);
}

static void drop_stage(struct round *rd, struct job *j)
{
	if (j->staged && stage_drop(rd->config->tree, j->stage))
		rd->want_scan = true;
	j->staged = false;
}

static int sync_staged(struct round *rd, size_t files)
{
	const struct tree *t = rd->config->tree;

	if (files > SYNC_EACH_MAX)
		return tree_sync_all(t);
	for (size_t i = 0; i < rd->count; i++) {
		struct job *j = &rd->jobs[i];
		int fd, r;

		if (!j->staged || j->r.kind != KIND_FILE)
			continue;
		fd = tree_open_at(t, t->stage_fd, j->stage, 0);
		if (fd < 0)
			return fd;
		r = tree_sync_fd(fd);
		close(fd);
		if (r)
			return r;
	}
	return 0;
}

static int put_intents(struct round *rd)
{
	struct syncstate *s = rd->config->state;
	int r = syncstate_begin(s, true);

	if (r)
		return r;
	for (size_t i = 0; i < rd->count && !r; i++) {
		struct job *j = &rd->jobs[i];
		/* Its names are borrowed for the call. */
		struct apply_intent intent = {.node = j->r.node, .staged = j->staged_stat, .state = j->r};

		if (j->state == JOB_WAIT || !j->plan.steps)
			continue;
		if (j->staged)
			memcpy(intent.stage_name, j->stage, sizeof(intent.stage_name));
		else
			stage_name(intent.stage_name);
		r = syncstate_intent_put(s, &intent);
	}
	return syncstate_end(s, r);
}

static bool is_network(int r)
{
	return r == -ENOTCONN || r == -ETIMEDOUT || r == -EREMOTEIO || r == -EAGAIN;
}

/*
 * Whether somebody else is to have this name who does not come in this round: not fetched, waiting for
 * something, or told of since the pass began. Who comes in another round of the pass does so in a moment.
 */
static int comes_later(struct round *rd, const struct dentry *d)
{
	const struct job *comer;
	struct node_state told;
	struct id node;
	int r = syncstate_peek_remote_name(rd->config->state, &d->parent, d->name, &node);

	if (r)
		return r == -ENOENT ? 0 : r;
	comer = apply_job_of(rd, &node);
	if (comer && node_state_name_find(&comer->r, &d->parent, d->name) >= 0)
		return comer->state == JOB_WAIT && !comer->outdated;
	r = syncstate_peek_remote(rd->config->state, &node, &told);
	if (r)
		return r == -ENOENT ? 0 : r;
	r = told.seq > rd->upto;
	node_state_fini(&told);
	return r;
}

/* Whether the job takes a name from its node for somebody who comes later. */
static int leaves_early(struct round *rd, const struct job *j)
{
	const struct node_state *s = &j->s.state;
	bool all = j->plan.steps & PLAN_REMOVE;
	size_t count = all ? s->names_count : j->plan.remove_count;
	int r = 0;

	for (size_t i = 0; i < count && !r; i++)
		r = comes_later(rd, &s->names[all ? i : j->plan.remove[i]]);
	return r;
}

/*
 * Who is to make room stays until the other is here: somebody reads it under that name. So does who makes
 * room for one that stays.
 */
static int keep_room_makers(struct round *rd)
{
	bool again = true;

	while (again) {
		again = false;
		for (size_t i = 0; i < rd->count; i++) {
			struct job *j = &rd->jobs[i];
			int r = j->state == JOB_WAIT || !j->has_s || j->outdated ? 0 : leaves_early(rd, j);

			if (r < 0)
				return r;
			if (!r)
				continue;
			drop_stage(rd, j);
			j->state = JOB_WAIT;
			again = true;
		}
	}
	return 0;
}

/* The copy of what lies here is here as well, or is at least staged. */
static bool copy_is_here(struct round *rd, const struct job *j)
{
	struct node_state told;
	const struct job *copy;
	struct id node;
	uint64_t seq;
	int r = syncstate_peek_kept(rd->config->state, &j->r.node, &node, &seq);

	if (r)
		return r == -ENOENT;
	if (seq > rd->upto)
		return false;
	copy = apply_job_of(rd, &node);
	if (copy)
		return copy->state != JOB_WAIT &&
			(copy->staged || !(copy->plan.steps & (PLAN_CREATE | PLAN_CONTENT)));
	r = syncstate_peek_remote(rd->config->state, &node, &told);
	if (!r)
		node_state_fini(&told);
	return r == -ENOENT;
}

/* Should the server be put back to an older state just now, only these bytes tell what was kept. */
static void keep_own_bytes(struct round *rd)
{
	for (size_t i = 0; i < rd->count; i++) {
		struct job *j = &rd->jobs[i];

		if (!j->is_kept || j->state == JOB_WAIT || !(j->plan.steps & (PLAN_CONTENT | PLAN_REMOVE)) ||
			copy_is_here(rd, j))
			continue;
		drop_stage(rd, j);
		j->state = JOB_WAIT;
		rd->retry = true;
	}
}

/* -errno: nothing more can be staged in this round. */
static int stage_failed(struct round *rd, struct job *j, int r)
{
	drop_stage(rd, j);
	j->state = JOB_WAIT;
	rd->retry = true;
	if (r == -ECANCELED || r == -ENOMEM)
		return r;
	if (r == -ENOSPC || r == -EDQUOT)
		link_note_error(rd->config->link, "the backing file system is full: changes of others wait");
	if (!is_network(r))
		log_warn("fetching %s: %s, trying again", j->r.names_count ? j->r.names[0].name : "a file",
			err_str(r));
	return 0;
}

/* Every content that is to come, with what has to wait for those that did not. ret_files: how many did. */
static int stage_all(struct round *rd, size_t *ret_files)
{
	bool offline = false;
	size_t files = 0;

	for (size_t i = 0; i < rd->count; i++) {
		struct job *j = &rd->jobs[i];
		int r;

		if (j->state == JOB_WAIT || !(j->plan.steps & (PLAN_CREATE | PLAN_CONTENT)))
			continue;
		r = offline && !j->data && j->r.content.size ? -ENOTCONN : stage_job(rd, j);
		if (!r) {
			files += j->r.kind == KIND_FILE;
			continue;
		}
		offline = offline || is_network(r);
		r = stage_failed(rd, j, r);
		if (r)
			return r;
	}
	*ret_files = files;
	keep_own_bytes(rd);
	return keep_room_makers(rd);
}

static bool has_work(const struct round *rd)
{
	for (size_t i = 0; i < rd->count; i++) {
		if (rd->jobs[i].state != JOB_WAIT && rd->jobs[i].plan.steps != PLAN_NOTHING)
			return true;
	}
	return false;
}

int apply_stage_round(struct round *rd)
{
	size_t files = 0;
	int r = keep_room_makers(rd); /* before anything is fetched for them */

	if (!r)
		r = stage_all(rd, &files);
	FAILPOINT("A1");
	if (!r && files)
		r = sync_staged(rd, files);
	FAILPOINT("A2");
	return r || !has_work(rd) ? r : put_intents(rd);
}
