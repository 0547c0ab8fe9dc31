/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Spots of the disk and the objects at them, for apply_place.c, under the tree lock: found, compared with
 * what was agreed, filled, emptied into staging. Decides nothing about order: a parent that is to be placed
 * first is not its business.
 */
#include "apply_spot.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

#include <syncfs/io.h>

#include "capture.h"
#include "inode.h"
#include "invalidate.h"

struct job *apply_job_of(const struct round *rd, const struct id *node)
{
	return map_get(rd->by_node, node->b, ID_BYTES);
}

void apply_aside_name(const struct id *node, char name[APPLY_ASIDE_BYTES])
{
	static const char prefix[] = ".moving-";

	memcpy(name, prefix, sizeof(prefix));
	id_to_hex(node, name + strlen(prefix));
}

int apply_peek_base(const struct round *rd, const struct id *node, struct base_row *ret_row)
{
	int r = syncstate_peek_base(rd->config->state, node, ret_row);

	if (r || ret_row->state.names_count)
		return r;
	base_row_fini(ret_row);
	return -ENOENT;
}

/* ---- spots ---- */

void spot_fini(struct spot *s)
{
	if (s->of)
		s->of->dir_users--;
	else if (s->dirfd >= 0)
		close(s->dirfd);
	s->of = NULL;
	s->dirfd = -1;
}

int apply_open_dir(
	const struct applier_config *config, const struct id *dir, int *ret_fd, struct stat_id *ret_stat)
{
	cleanup_buf struct buf path = BUF_INIT;
	cleanup_fd int fd = -1;
	int r = capture_dir_path(config->capture, dir, &path);

	if (r)
		return r;
	fd = tree_open_dir(config->tree, buf_cstr(&path) ? buf_cstr(&path) : "");
	if (fd < 0)
		return fd;
	r = tree_stat(fd, "", ret_stat);
	if (!r)
		*ret_fd = steal_fd(&fd);
	return r;
}

void apply_close_dir(struct round *rd)
{
	cleanup_fd_(&rd->dirfd);
	rd->dir = ID_NONE;
}

/* The directory of the last spot stays open: neighbours in R are mostly neighbours on disk. */
static int find_dir(struct round *rd, struct spot *s)
{
	int r;

	if (!id_equal(&rd->dir, &s->parent)) {
		if (rd->dir_users)
			return apply_open_dir(rd->config, &s->parent, &s->dirfd, &s->dir);
		apply_close_dir(rd);
		r = apply_open_dir(rd->config, &s->parent, &rd->dirfd, &rd->dir_stat);
		if (r)
			return r;
		rd->dir = s->parent;
	}
	rd->dir_users++;
	s->of = rd;
	s->dirfd = rd->dirfd;
	s->dir = rd->dir_stat;
	return 0;
}

int spot_find(struct round *rd, const struct id *parent, const char *name, struct spot *ret_spot)
{
	struct spot s = {.parent = *parent, .name = name, .dirfd = -1};
	int r = find_dir(rd, &s);

	if (!r)
		r = spot_restat(&s);
	if (r)
		spot_fini(&s);
	else
		*ret_spot = s;
	return r;
}

int spot_restat(struct spot *s)
{
	int r = tree_stat(s->dirfd, s->name, &s->now);

	if (r != -ENOENT)
		return r;
	s->now = (struct stat_id){0};
	return 0;
}

/* ---- objects ---- */

bool apply_is_busy(struct round *rd, const struct id *node, const struct stat_id *object)
{
	return capture_is_busy(rd->config->capture, node) || inode_writers(rd->config->inodes, object) > 0;
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

/* Told apart from what comes in by its first letter, and from what somebody else had put there by the number
 * of the object, also after a crash. */
static void trash_name(char *name, const struct stat_id *expected)
{
	stage_name(name);
	name[0] = TRASH_MARK;
	(void)snprintf(name + TRASH_INO_AT, STAGE_NAME_BYTES - TRASH_INO_AT, "%016llx",
		(unsigned long long)expected->ino);
}

void apply_trash(struct round *rd, const char *stage)
{
	void *more = realloc(rd->trash, (rd->trash_count + 1) * sizeof(*rd->trash));

	if (!more)
		return; /* the sweep at the next start finds it */
	rd->trash = more;
	memcpy(rd->trash[rd->trash_count++], stage, STAGE_NAME_BYTES);
}

int apply_take_out(struct round *rd, const struct spot *s, const struct stat_id *expected)
{
	char trash[STAGE_NAME_BYTES];
	int r;

	if (tree_kind(expected->mode) == KIND_DIR)
		return place_rmdir(rd->config->tree, s->dirfd, s->name, expected);
	trash_name(trash, expected);
	r = place_take(rd->config->tree, s->dirfd, s->name, expected, trash);
	if (!r)
		apply_trash(rd, trash);
	return r;
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
	node_state_name_remove(&other->s.state, &s->parent, s->name);
	apply_bind(rd, other);
	if (!other->s.state.names_count)
		inode_displaced(rd->config->inodes, &s->now);
}

/* ---- before placing ---- */

static bool same_state(const struct node_state *a, const struct node_state *b)
{
	bool same = a->seq == b->seq && a->c == b->c && a->a == b->a && a->names_count == b->names_count;

	for (size_t i = 0; same && i < a->names_count; i++)
		same = a->names[i].l == b->names[i].l && id_equal(&a->names[i].parent, &b->names[i].parent) &&
			strcmp(a->names[i].name, b->names[i].name) == 0;
	return same;
}

/* Found here, too, and removed since the plan was made, it is as unknown as it was; but R is not there. */
static int still_told(const struct round *rd, const struct id *node)
{
	struct node_state told;
	int r = syncstate_peek_remote(rd->config->state, node, &told);

	if (!r)
		node_state_fini(&told);
	return r == -ENOENT ? -EAGAIN : r;
}

/*
 * Changes made here may have been sent and settled since the plan was made: then S is another, and the plan
 * is void. Otherwise the uploader keeps off the node until S := R, or that would undo what it settles.
 */
int apply_claim(struct round *rd, struct job *j)
{
	struct base_row now;
	int r;

	if (j->claimed || j->outdated)
		return 0;
	if (capture_is_busy(rd->config->capture, &j->r.node))
		return -EAGAIN;
	r = apply_peek_base(rd, &j->r.node, &now);
	if (r == -ENOENT) {
		r = j->has_s ? -EAGAIN : still_told(rd, &j->r.node);
		j->claimed = !r;
	} else if (!r) {
		r = j->has_s && same_state(&now.state, &j->s.state) &&
				stat_id_same_object(&now.disk, &j->s.disk)
			? 0
			: -EAGAIN;
		j->s.disk = now.disk;
		base_row_fini(&now);
		if (!r)
			r = apply_bind(rd, j);
		j->claimed = !r;
	}
	if (r == -EAGAIN)
		rd->retry = true; /* with a new plan */
	return r;
}

/* Whether everything that is in the dead directory at the spot has its turn in this round. */
static bool is_left(struct round *rd, const struct spot *s)
{
	cleanup_fd int fd = tree_open_at(rd->config->tree, s->dirfd, s->name, O_RDONLY | O_DIRECTORY);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *e;
	bool left = d;

	if (!d)
		return false;
	(void)steal_fd(&fd);
	while (left && (e = readdir(d))) {
		struct stat_id now;
		struct id node;

		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		left = tree_stat(dirfd(d), e->d_name, &now) == 0 &&
			capture_resolve(rd->config->capture, &now, &node) == 0 && apply_job_of(rd, &node) &&
			!apply_is_busy(rd, &node, &now);
	}
	closedir(d);
	return left;
}

/* Aside under its further name already: that one is enough. */
static int give_up_name(struct round *rd, struct spot *s, struct stat_id *ret_left)
{
	struct stat_id expected = s->now;
	int r;

	expected.ctime_ns = 0; /* of any of its names */
	r = apply_take_out(rd, s, &expected);
	if (!r)
		*ret_left = s->now;
	return r;
}

int apply_set_aside(struct round *rd, struct job *other, struct spot *s)
{
	const struct applier_config *c = rd->config;
	char name[APPLY_ASIDE_BYTES];
	struct stat_id placed;
	struct spot to;
	int r = other->r.tomb && !is_left(rd, s) ? -EAGAIN : 0;

	if (r || !stat_id_same_object(&s->now, &other->s.disk))
		return -EAGAIN;
	apply_aside_name(&other->r.node, name);
	r = spot_find(rd, &s->parent, name, &to);
	if (r)
		return r;
	if (to.now.ino && stat_id_same_object(&to.now, &s->now))
		r = give_up_name(rd, s, &placed);
	else
		r = place_move(c->tree, s->dirfd, s->name, to.dirfd, name, &s->now, &placed);
	spot_fini(&to);
	if (r)
		return r;
	rd->retry = true;
	inode_moved(c->inodes, &s->now, &s->dir, name);
	invalidate_entry(c->invalidate, &s->dir, s->name);
	other->s.disk = placed;
	node_state_name_remove(&other->s.state, &s->parent, s->name);
	r = node_state_name_add(&other->s.state, &s->parent, name, 0);
	s->now = (struct stat_id){0};
	return r ? r : apply_bind(rd, other);
}

/* ---- into place ---- */

int spot_put(struct round *rd, struct spot *s, enum holder holder, struct job *other, const char *stage,
	struct stat_id *ret_placed)
{
	const struct applier_config *c = rd->config;
	struct stat_id expected;
	int r = 0;

	if (holder == HOLDER_SWAP) { /* what is new has no place to give in exchange */
		r = apply_set_aside(rd, other, s);
		holder = HOLDER_NONE;
	}
	if (r)
		return r;
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
