/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Third part of a commit: the steps carried out in the plain tree, by exchange, each object checked before it
 * is replaced. Called after COMMIT under the store's lock, and at start for what was left open. Never loses
 * what hands have put there meanwhile: it came second, so it goes aside under the name of a conflict copy,
 * and a scan makes it a change of its own.
 */
#include "store_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include <syncfs/failpoint.h>
#include <syncfs/log.h>

struct place {
	struct store *s;
	const struct tree *t;
	const struct steps *steps;
	bool redo;
	struct place_dirs dirs;
	struct map *ids; /* node -> struct placed in list, by index + 1 */
	struct placed *list;
	size_t count, cap;
	struct stat_id group_expect; /* of the step that `again` refers to */
};

/* ---- identities ---- */

static int id_set(struct place *p, const struct id *node, const struct stat_id *disk)
{
	size_t at = (size_t)(uintptr_t)map_get(p->ids, node->b, ID_BYTES);

	if (at) {
		p->list[at - 1].disk = *disk;
		return 0;
	}
	if (p->count == p->cap) {
		size_t cap = p->cap ? p->cap * 2 : 16;
		struct placed *grown = reallocarray(p->list, cap, sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		p->list = grown;
		p->cap = cap;
	}
	p->list[p->count++] = (struct placed){*node, *disk};
	return map_put(p->ids, node->b, ID_BYTES, (void *)(uintptr_t)p->count); // NOLINT
}

/* What is expected of node: as this run left it, else as the step says. */
static struct stat_id expected(struct place *p, const struct id *node, const struct stat_id *said)
{
	size_t at = (size_t)(uintptr_t)map_get(p->ids, node->b, ID_BYTES);
	struct stat_id is = at ? p->list[at - 1].disk : *said;

	is.dev = p->t->dev;
	return is;
}

static bool same_content(const struct stat_id *a, const struct stat_id *b)
{
	return a->size == b->size && a->mtime_ns == b->mtime_ns;
}

/* Something made by hand is in the way, or what we knew is gone: a scan will tell. */
static int torn(struct place *p, const struct step *step, const char *what)
{
	log_debug("place \"%s\" in \"%s\": %s by hand meanwhile, to be scanned", step->name, step->dir, what);
	atomic_store_explicit(&p->s->rescan_wanted, 1, memory_order_relaxed);
	return 0;
}

/* The directory that a step happens in is not there: at a redo a later step has moved it, else hands have. */
static bool is_nowhere(int dir)
{
	return dir == -ENOENT || dir == -ENOTDIR || dir == -ELOOP || dir == -EXDEV || dir == -EACCES;
}

/* The same of one of the two directories of a step. */
static int between(struct place *p, const struct step *step, int dir, int new_dir)
{
	int r = dir < 0 ? dir : new_dir;

	return is_nowhere(r) ? torn(p, step, "a directory was moved") : r;
}

/* Only the name or the attributes of a node have changed: what is owed is so still. */
static int id_moved(
	struct place *p, const struct id *node, const struct stat_id *expect, const struct stat_id *now)
{
	struct stat_id is = *now;

	if (expect->ctime_ns == OWED_CTIME)
		is.ctime_ns = OWED_CTIME;
	return id_set(p, node, &is);
}

/* ---- what hands have put where something is to go ---- */

/* A hand has made the same, and a scan compares the rest. */
static int adopt(struct place *p, const struct step *step)
{
	int dir = place_dir(&p->dirs, step->dir), r = store_give_way(p->s, step);
	struct stat_id is;

	if (r == 0 && dir >= 0 && tree_stat(dir, step->name, &is) == 0) {
		is.ctime_ns = 0;
		r = id_set(p, &step->node, &is);
	}
	return r < 0 ? r : torn(p, step, "the same was made");
}

/* store_aside() for a name in one of our directories. */
static int make_way(struct place *p, const struct step *step, const char *dir_path, const char *name)
{
	int dir = place_dir(&p->dirs, dir_path), r;
	bool was_dir = false;

	if (dir < 0)
		return dir;
	r = store_aside(p->s, p->steps, step, dir, name, &was_dir);
	if (was_dir)
		place_dirs_forget(&p->dirs);
	if (r == 1)
		(void)torn(p, step, "something was made");
	return r;
}

/* ---- steps ---- */

static int watch_dir(struct place *p, const struct step *step, int dir)
{
	int r = p->s->watch ? tree_watch_add(p->s->watch, dir, step->name, &step->node) : 0;

	if (r < 0)
		log_debug("watch \"%s\": %s", step->name, err_str(r));
	return 0;
}

static int attr_of_step(struct place *p, const struct step *step)
{
	int r;

	if (!step->set_attr)
		return 0;
	p->dirs.sync_all = true;
	r = stage_set_attr(p->t, step->stage, step->mode, step->mtime_ns, &step->xattr);
	if (r == -EOPNOTSUPP || r == -EPERM || r == -E2BIG || r == -ENOSPC)
		r = stage_set_attr(p->t, step->stage, step->mode, step->mtime_ns, NULL);
	return r;
}

/* Puts what is staged at a name that nothing expected is at; -EEXIST: a hand's is there, and is to stay. */
static int put_free(struct place *p, const struct step *step, struct stat_id *ret_now)
{
	int r = -EEXIST, free = 1;

	for (unsigned i = 0; r == -EEXIST && free == 1 && i < ASIDE_TRIES; i++) {
		int dir = place_dir(&p->dirs, step->dir);

		if (dir < 0)
			return dir;
		r = place_put(p->t, step->stage, dir, step->name, NULL, ret_now);
		if (r == -EEXIST)
			free = make_way(p, step, step->dir, step->name);
	}
	return r == -EEXIST && free < 0 ? free : r;
}

static int place_create(struct place *p, const struct step *step, int dir)
{
	struct stat_id now;
	int r = 0;

	if (p->s->is_root && !place_dir_is_own(&p->dirs, dir))
		r = stage_set_owner(p->t, step->stage, dir, -1, -1);
	if (r == 0)
		r = attr_of_step(p, step);
	if (r == 0)
		r = put_free(p, step, &now);
	if (r == -ENOENT && p->redo)
		return 0;
	if (r == -EEXIST)
		return adopt(p, step);
	if (r < 0)
		return r;
	dir = place_dir(&p->dirs, step->dir);
	if (step->kind == KIND_DIR && dir >= 0)
		(void)watch_dir(p, step, dir);
	return id_set(p, &step->node, &now);
}

/* At a redo: 1 the exchange was done (what is staged is the displaced one), 0 it was not, -ENOENT nothing
 * left to do. */
static int content_done(struct place *p, const struct step *step)
{
	struct stat_id staged;
	int r = tree_stat(p->t->stage_fd, step->stage, &staged);

	if (r < 0)
		return r;
	return staged.ino != step->staged.ino || staged.btime_ns != step->staged.btime_ns;
}

/*
 * A ctime moves also with links and attributes: where only it differs, the bytes are looked at. 1, 0; -errno:
 * who cannot look does not know that somebody has changed it.
 */
static int content_unchanged(const struct step *step, int dir, const struct stat_id *expect)
{
	cleanup_fd int fd = -1;
	struct stat_id is;
	struct content content;
	int r = tree_stat(dir, step->name, &is);

	if (r < 0)
		return r == -ENOENT ? 0 : r;
	if (!stat_id_same_object(&is, expect) || !same_content(&is, expect))
		return 0;
	if (is.ctime_ns == expect->ctime_ns || expect->ctime_ns == OWED_CTIME || step->again ||
		step->kind != KIND_FILE)
		return 1;
	fd = openat(dir, step->name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return errno == EIO || errno == ENOMEM || errno == ENFILE || errno == EMFILE ? -errno : 0;
	r = tree_hash_file(fd, &content, NULL, &is);
	if (r < 0)
		return r == -EAGAIN ? 0 : r;
	return step->has_old && hash_equal(&content.hash, &step->old.hash);
}

static int place_content(struct place *p, const struct step *step, int dir)
{
	struct stat_id expect = step->again ? p->group_expect : expected(p, &step->node, &step->expect), now;
	int r;

	if (p->redo) {
		r = content_done(p, step);
		if (r && !step->again) { /* further names may have it still */
			p->group_expect = expect;
			p->group_expect.ctime_ns = 0;
		}
		if (r)
			return r == 1 ? store_dispose(p->s, step) : r == -ENOENT ? 0 : r;
	}
	r = content_unchanged(step, dir, &expect);
	if (r < 0)
		return r;
	expect.ctime_ns = r ? 0 : expect.ctime_ns;
	p->group_expect = expect;
	r = stage_carry_over(p->t, step->stage, dir, step->name);
	if (r == 0 || r == -ENOENT || r == -ESTALE)
		r = attr_of_step(p, step);
	if (r == 0)
		r = place_put(p->t, step->stage, dir, step->name, &expect, &now);
	if (r == 0)
		r = store_dispose(p->s, step);
	else if (r == -ESTALE) /* deleted by hand, or replaced */
		r = put_free(p, step, &now);
	if (r == -EEXIST)
		return adopt(p, step);
	return r < 0 ? r : id_set(p, &step->node, &now);
}

/* What lies at dir/name: 1 the expected object, 0 another or none. */
static int look(int dir, const char *name, const struct stat_id *expect, struct stat_id *ret_is)
{
	int r = tree_stat(dir, name, ret_is);

	if (r == -ENOENT || r == -ENOTDIR)
		return 0;
	return r < 0 ? r : ret_is->ino == expect->ino && ret_is->btime_ns == expect->btime_ns;
}

/* A redo has made the old name again, as a link; it was moved before the crash. */
static int moved_before(struct place *p, const struct step *step, int dir)
{
	if (unlinkat(dir, step->name, 0) == 0)
		return 0;
	return errno == ENOENT ? 0 : torn(p, step, "a name that was moved is there again");
}

static int place_moved(struct place *p, const struct step *step, int dir, bool again);

/* The new name was taken by a hand. */
static int move_again(struct place *p, const struct step *step)
{
	int r = make_way(p, step, step->new_dir, step->new_name);

	return r < 0 ? r : place_moved(p, step, 0, true);
}

static int place_moved(struct place *p, const struct step *step, int dir, bool again)
{
	struct stat_id expect = expected(p, &step->node, &step->expect), is, now;
	int new_dir, r;

	new_dir = place_dir(&p->dirs, step->new_dir);
	dir = place_dir(&p->dirs, step->dir); /* the first may have been forgotten for the second */
	if (dir < 0 || new_dir < 0)
		return between(p, step, dir, new_dir);
	r = look(dir, step->name, &expect, &is);
	if (r <= 0)
		return r < 0 ? r : p->redo ? 0 : torn(p, step, "it was moved");
	r = place_move(p->t, dir, step->name, new_dir, step->new_name, &is, &now);
	if (r == -EEXIST && p->redo && look(new_dir, step->new_name, &expect, &now) == 1)
		return moved_before(p, step, dir);
	if (r == -EEXIST)
		return again ? torn(p, step, "something was made") : move_again(p, step);
	if (r == -ESTALE || r == -ENOENT)
		return torn(p, step, "something was made");
	if (r < 0)
		return r;
	if (step->kind == KIND_DIR)
		place_dirs_forget(&p->dirs);
	return step->kind == KIND_DIR || same_content(&is, &expect) ? id_moved(p, &step->node, &expect, &now)
								    : torn(p, step, "it was changed");
}

static int place_exchanged(struct place *p, const struct step *step, int dir)
{
	struct stat_id a = expected(p, &step->node, &step->expect),
		       b = expected(p, &step->other, &step->expect_other);
	struct stat_id is_a, is_b, now;
	int new_dir = place_dir(&p->dirs, step->new_dir), r;

	dir = place_dir(&p->dirs, step->dir);
	if (dir < 0 || new_dir < 0)
		return between(p, step, dir, new_dir);
	r = look(dir, step->name, &a, &is_a);
	if (r == 1)
		r = look(new_dir, step->new_name, &b, &is_b);
	if (r <= 0)
		return r < 0 ? r : p->redo ? 0 : torn(p, step, "it was moved");
	r = place_exchange(p->t, dir, step->name, &is_a, new_dir, step->new_name, &is_b);
	if (r == -ESTALE || r == -ENOENT)
		return torn(p, step, "it was changed");
	if (r == 0 && same_content(&a, &is_a) && tree_stat(new_dir, step->new_name, &now) == 0)
		r = id_moved(p, &step->node, &a, &now);
	if (r == 0 && same_content(&b, &is_b) && tree_stat(dir, step->name, &now) == 0)
		r = id_moved(p, &step->other, &b, &now);
	place_dirs_forget(&p->dirs);
	return r;
}

static int place_linked(struct place *p, const struct step *step, int dir)
{
	struct stat_id expect = expected(p, &step->node, &step->expect), is, now;
	int new_dir = place_dir(&p->dirs, step->new_dir), r;

	dir = place_dir(&p->dirs, step->dir);
	if (dir < 0 || new_dir < 0)
		return between(p, step, dir, new_dir);
	r = look(dir, step->name, &expect, &is);
	if (r <= 0)
		return r < 0 ? r : p->redo ? 0 : torn(p, step, "it was moved");
	r = place_link(p->t, dir, step->name, new_dir, step->new_name, &is);
	if (r == -EEXIST && p->redo)
		return 0;
	if (r == -EEXIST || r == -ESTALE || r == -ENOENT)
		return torn(p, step, "something was made");
	if (r == 0 && same_content(&expect, &is) && tree_stat(new_dir, step->new_name, &now) == 0)
		r = id_moved(p, &step->node, &expect, &now);
	return r;
}

/* Taken away before the crash: it may be in staging still. */
static int dispose_left(struct place *p, const struct step *step)
{
	struct stat_id staged;

	return step->stage[0] && tree_stat(p->t->stage_fd, step->stage, &staged) == 0
		? store_dispose(p->s, step)
		: 0;
}

static int place_removed(struct place *p, const struct step *step, int dir)
{
	struct stat_id expect = expected(p, &step->node, &step->expect), is;
	int r = look(dir, step->name, &expect, &is);

	if (r < 0)
		return r;
	if (r == 0 || (!p->redo && step->kind != KIND_DIR && !same_content(&expect, &is))) {
		if (tree_stat(dir, step->name, &is) == 0 && !p->redo)
			return torn(p, step, "it was changed");
		return dispose_left(p, step);
	}
	if (step->kind == KIND_DIR) {
		r = place_rmdir(p->t, dir, step->name, &is);
		place_dirs_forget(&p->dirs);
	} else {
		r = place_take(p->t, dir, step->name, &is, step->stage);
		if (r == 0)
			return store_dispose(p->s, step);
	}
	if (r == -ENOENT)
		return 0;
	return r == -ESTALE || r == -ENOTEMPTY ? torn(p, step, "something was made") : r;
}

/* Nobody has changed it by hand; at a redo it may have later attributes of ours. */
static bool is_as_left(struct place *p, const struct step *step, int dir, const struct stat_id *expect,
	const struct stat_id *is)
{
	cleanup_fd int fd = -1;
	struct content content;
	struct stat_id read;

	if (step->kind == KIND_DIR || same_content(expect, is))
		return true;
	if (!p->redo || step->kind != KIND_FILE || is->size != step->content.size)
		return false;
	fd = openat(dir, step->name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	return fd >= 0 && tree_hash_file(fd, &content, NULL, &read) == 0 && read.ino == is->ino &&
		hash_equal(&content.hash, &step->content.hash);
}

/* A later step has taken the name away before the crash: then this one was done, too. */
static int attrs_before(struct place *p, const struct step *step, const struct stat_id *expect)
{
	struct stat_id now = *expect;

	if (step->kind != KIND_DIR)
		now.mtime_ns = step->mtime_ns;
	now.ctime_ns = 0;
	return id_moved(p, &step->node, expect, &now);
}

static int place_attrs(struct place *p, const struct step *step, int dir)
{
	struct stat_id expect = expected(p, &step->node, &step->expect), is, now;
	int r = look(dir, step->name, &expect, &is);

	if (r <= 0)
		return r < 0 ? r : p->redo ? attrs_before(p, step, &expect) : torn(p, step, "it was changed");
	p->dirs.sync_all = true;
	r = place_attr(p->t, dir, step->name, &is, step->mode, step->mtime_ns, &step->xattr, &now);
	if (r == -EOPNOTSUPP || r == -EPERM || r == -E2BIG || r == -ENOSPC)
		r = place_attr(p->t, dir, step->name, &is, step->mode, step->mtime_ns, NULL, &now);
	if (r == -ESTALE || r == -ENOENT)
		return torn(p, step, "it was changed");
	if (r < 0)
		return r;
	return is_as_left(p, step, dir, &expect, &is) ? id_moved(p, &step->node, &expect, &now)
						      : torn(p, step, "it was changed");
}

/* What has no place is owed; attributes are compared with those of the object, wherever it is now. */
static int place_nowhere(struct place *p, const struct step *step)
{
	struct stat_id is = expected(p, &step->node, &step->expect);
	bool brings = step->stage[0] &&
		(step->type == PLACE_CREATE || step->type == PLACE_CONTENT || step->type == PLACE_RESURRECT);
	int r = brings && p->redo ? content_done(p, step) : 0;

	if (r == 1 || r == -ENOENT) { /* placed before a later step has moved the directory */
		r = r == 1 ? store_dispose(p->s, step) : 0;
	} else if (r == 0 && brings) {
		r = store_give_way(p->s, step);
		is.ctime_ns = OWED_CTIME;
		p->s->owed = true;
	} else if (step->type == PLACE_ATTR && is.ctime_ns != OWED_CTIME) {
		is.ctime_ns = 0;
	}
	if (r == 0 && (step->type == PLACE_ATTR || is.ctime_ns == OWED_CTIME))
		r = id_set(p, &step->node, &is);
	return r < 0 ? r : torn(p, step, "its directory was moved");
}

static int place_step(struct place *p, const struct step *step)
{
	int dir = place_dir(&p->dirs, step->dir);

	if (dir == -EACCES)
		log_warn("\"%s\" forbids us to change what is in it: what is new there waits in the history",
			step->dir);
	if (is_nowhere(dir))
		return place_nowhere(p, step);
	if (dir < 0)
		return dir;
	switch (step->type) {
	case PLACE_CREATE:
	case PLACE_RESURRECT:
		return place_create(p, step, dir);
	case PLACE_CONTENT:
		return place_content(p, step, dir);
	case PLACE_MOVE:
		return place_moved(p, step, dir, false);
	case PLACE_EXCHANGE:
		return place_exchanged(p, step, dir);
	case PLACE_LINK:
		return place_linked(p, step, dir);
	case PLACE_REMOVE:
		return place_removed(p, step, dir);
	case PLACE_ATTR:
		return place_attrs(p, step, dir);
	}
	return -EBADMSG;
}

/* A crash came between the swap and the removal. */
static bool replaced_halfway(struct place *p, const struct step *gone, const struct step *moved)
{
	struct stat_id is;
	int to = place_dir(&p->dirs, moved->new_dir), from = place_dir(&p->dirs, moved->dir);

	if (to < 0 || from < 0)
		return false;
	to = place_dir(&p->dirs, moved->new_dir);
	return to >= 0 && look(to, moved->new_name, &moved->expect, &is) == 1 &&
		look(from, moved->name, &gone->expect, &is) == 1;
}

/* What is to be removed is there; if not, a hand's object there has to go aside for what comes. */
static bool target_is_known(struct place *p, const struct step *gone)
{
	const struct stat_id expect = expected(p, &gone->node, &gone->expect);
	struct stat_id is;
	int dir = place_dir(&p->dirs, gone->dir);

	return dir >= 0 && look(dir, gone->name, &expect, &is) == 1;
}

/*
 * A removal and a move onto its name are one replacement: swapped first, so that the name is never missing,
 * then the removed one is taken away from where the other came from. 1: done so.
 */
static int place_replace(struct place *p, const struct step *gone, const struct step *moved)
{
	struct step swap, rest = *gone;
	int r;

	if (gone->type != PLACE_REMOVE || moved->type != PLACE_MOVE || gone->kind == KIND_DIR ||
		moved->kind == KIND_DIR || !p->t->has_exchange || strcmp(gone->dir, moved->new_dir) != 0 ||
		strcmp(gone->name, moved->new_name) != 0)
		return 0;
	if (p->redo && !replaced_halfway(p, gone, moved))
		return 0;
	if (!p->redo && !target_is_known(p, gone))
		return 0;
	swap = *moved;
	swap.other = gone->node;
	swap.expect_other = gone->expect;
	r = p->redo ? 0 : place_exchanged(p, &swap, 0);
	if (r == -ENOENT || r == -ENOTDIR)
		return 0;
	if (r < 0)
		return r;
	rest.dir = moved->dir;
	rest.name = moved->name;
	r = place_step(p, &rest);
	return r < 0 ? r : 1;
}

/* What was replaced or removed may have a further name, given by hand, or one that hands have moved. */
static void own_history(struct place *p)
{
	for (size_t i = 0; i < p->steps->count; i++) {
		const struct step *step = &p->steps->list[i];
		int r = step->has_old ? content_history_own(&p->s->content, &step->old.hash) : 0;

		if (r < 0)
			log_warn("history of \"%s\" in \"%s\": %s; a file of the tree shares its bytes",
				step->name, step->dir, err_str(r));
	}
}

/*
 * Steps are taken in order: all before one whose object has left staging were. At a redo they are not taken
 * again, for under a name may lie what a later one has put there, and an earlier one had taken away.
 */
static size_t taken_before(struct place *p)
{
	struct stat_id staged;

	for (size_t i = p->steps->count; i > 0; i--) {
		const struct step *step = &p->steps->list[i - 1];

		if (step->type == PLACE_CREATE && step->stage[0] &&
			tree_stat(p->t->stage_fd, step->stage, &staged) == -ENOENT)
			return i - 1;
		if (step->type == PLACE_CONTENT && !step->again && content_done(p, step) == 1)
			return i - 1;
	}
	return 0;
}

/* 1: the step was taken, and what it took away is cared for. 0: it tells by itself. */
static int was_taken(struct place *p, const struct step *step)
{
	int r;

	if (step->type == PLACE_CREATE || step->type == PLACE_CONTENT)
		return 0;
	r = dispose_left(p, step);
	return r < 0 ? r : 1;
}

int store_place(
	struct store *s, struct steps *steps, bool redo, struct placed **ret_placed, size_t *ret_count)
{
	struct place p = {
		.s = s, .t = &s->tree, .dirs.tree = &s->tree, .steps = steps, .redo = redo, .ids = map_new()};
	size_t taken = redo ? taken_before(&p) : 0;
	int r = p.ids ? 0 : -ENOMEM;

	for (size_t i = 0; r >= 0 && i < steps->count; i++) {
		const struct step *step = &steps->list[i];

		r = i < taken ? was_taken(&p, step) : 0;
		if (r == 1)
			continue;
		if (r == 0 && i + 1 < steps->count)
			r = place_replace(&p, step, step + 1);
		if (r == 1)
			i++;
		else if (r == 0)
			r = place_step(&p, step);
		FAILPOINT("C4c");
		if (r < 0)
			log_debug("place step %d \"%s\"/\"%s\": %s", (int)step->type, step->dir, step->name,
				err_str(r));
	}
	FAILPOINT("C4d");
	own_history(&p);
	if (r >= 0)
		r = place_dirs_sync(&p.dirs);
	place_dirs_forget(&p.dirs);
	map_free(p.ids);
	if (r < 0) {
		free(p.list);
		return r;
	}
	*ret_placed = p.list;
	*ret_count = p.count;
	return 0;
}
