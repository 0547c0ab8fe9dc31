/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Other content for a node that lies here: the staged object takes the place of the old one under all names,
 * or under none. Called by apply_place.c under the tree lock; never moves anything, and throws nothing away.
 */
#include "apply_spot.h"

#include <errno.h>
#include <stdlib.h>

#include <syncfs/log.h>

#include "inode.h"
#include "invalidate.h"

/* All names of the node from one object to another, or none: in between it would be two files. */
struct replacing {
	struct round *rd;
	struct job *j;
	char (*stage)[STAGE_NAME_BYTES]; /* by name: the new object; once exchanged, what was there */
	struct stat_id old, placed;
};

/* Nothing can be seen of these yet. */
static int link_staged(struct replacing *re)
{
	const struct tree *t = re->rd->config->tree;
	struct stat_id staged = re->j->staged_stat;
	int r = 0;

	staged.ctime_ns = 0; /* moves with every link */
	for (size_t i = 1; i < re->j->s.state.names_count && !r; i++) {
		stage_name(re->stage[i]);
		r = place_link(t, t->stage_fd, re->j->stage, t->stage_fd, re->stage[i], &staged);
	}
	return r;
}

static int exchange_name(struct replacing *re, size_t i)
{
	const struct tree *t = re->rd->config->tree;
	const struct dentry *d = &re->j->s.state.names[i];
	struct spot s;
	int r = spot_find(re->rd, &d->parent, d->name, &s);

	if (r)
		return r;
	if (i == 0) {
		r = apply_expected(re->rd, &re->j->s, &s, &re->old);
		if (!r)
			r = stage_carry_over(t, re->stage[0], s.dirfd, s.name);
	}
	if (!r)
		r = place_put(t, re->stage[i], s.dirfd, s.name, &re->old, &re->placed);
	if (!r)
		invalidate_entry(re->rd->config->invalidate, &s.dir, s.name);
	re->old.ctime_ns = 0; /* moves with every further name */
	spot_fini(&s);
	return r;
}

static int exchange_back(struct replacing *re, size_t i)
{
	const struct dentry *d = &re->j->s.state.names[i];
	struct stat_id expected = re->placed;
	struct spot s;
	int r = spot_find(re->rd, &d->parent, d->name, &s);

	if (r)
		return r;
	expected.ctime_ns = 0;
	r = place_put(re->rd->config->tree, re->stage[i], s.dirfd, s.name, &expected, NULL);
	if (!r)
		invalidate_entry(re->rd->config->invalidate, &s.dir, s.name);
	spot_fini(&s);
	return r;
}

static int exchange_names(struct replacing *re)
{
	size_t done = 0;
	int r = 0, back = 0;

	while (!r && done < re->j->s.state.names_count) {
		r = exchange_name(re, done);
		done += !r;
	}
	while (r && done && !back)
		back = exchange_back(re, --done);
	if (back)
		log_error("a file with several names is two files by now: %s", err_str(back));
	return r;
}

static void note_replaced(struct replacing *re)
{
	const struct applier_config *c = re->rd->config;
	struct job *j = re->j;

	inode_displaced(c->inodes, &re->old);
	invalidate_inode(c->invalidate, &re->old, true);
	j->s.disk = re->placed;
	apply_trash(re->rd, j->stage);
	j->staged = false;
}

static int replace_names(struct round *rd, struct job *j)
{
	struct replacing re = {.rd = rd, .j = j};
	int r;

	if (!j->s.state.names_count)
		return -EAGAIN;
	re.stage = calloc(j->s.state.names_count, sizeof(*re.stage));
	if (!re.stage)
		return -ENOMEM;
	memcpy(re.stage[0], j->stage, STAGE_NAME_BYTES);
	r = link_staged(&re);
	if (!r)
		r = exchange_names(&re);
	if (!r)
		note_replaced(&re);
	for (size_t i = 1; i < j->s.state.names_count; i++) {
		if (*re.stage[i])
			apply_trash(rd, re.stage[i]);
	}
	free(re.stage);
	return r;
}

/* Also when the names have to wait: what is written here from now on goes on from R's content. */
static int take_content(struct job *j)
{
	char *target = j->r.target ? strdup(j->r.target) : NULL;

	if (j->r.target && !target)
		return -ENOMEM;
	free(j->s.state.target);
	j->s.state.target = target;
	j->s.state.content = j->r.content;
	j->s.state.c = j->r.c;
	return 0;
}

int apply_content(struct round *rd, struct job *j)
{
	int r = replace_names(rd, j);

	if (!r)
		r = take_content(j);
	return r ? r : apply_bind(rd, j);
}
