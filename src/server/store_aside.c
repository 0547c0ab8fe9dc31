/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What hands have put where a commit places something. They came second, so theirs is the conflict copy: it
 * goes aside under the name of one, and the scan that follows makes it a change of its own. Called by
 * store_place under the store's lock. Never touches rows, and never an object that a commit has placed.
 */
#include "store_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include <syncfs/conflict.h>
#include <syncfs/log.h>

static int history_keep(struct store *s, const char *stage, const struct content *content)
{
	struct id node;
	ssize_t n = meta_content_nodes(s->meta, &content->hash, &node, 1);

	if (n < 0)
		return (int)n;
	return n > 0 ? stage_drop(&s->tree, stage) : content_history_take(&s->content, stage, &content->hash);
}

/* What this run, or at a redo the one before it, has placed. */
static bool is_ours(const struct steps *steps, const struct stat_id *is)
{
	for (size_t i = 0; i < steps->count; i++) {
		const struct stat_id *staged = &steps->list[i].staged;

		if (staged->ino == is->ino && staged->btime_ns == is->btime_ns)
			return true;
	}
	return false;
}

static bool read_content(int dir, const char *name, struct content *ret_content)
{
	cleanup_fd int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	struct stat_id is;

	return fd >= 0 && tree_hash_file(fd, ret_content, NULL, &is) == 0;
}

/* Whether a hand has made just what the step makes: the scan takes it for that. */
static bool is_as_said(
	struct store *s, const struct step *step, int dir, const char *name, const struct stat_id *is)
{
	struct content content;
	struct id known;

	if ((step->type != PLACE_CREATE && step->type != PLACE_RESURRECT && step->type != PLACE_CONTENT) ||
		tree_kind(is->mode) != step->kind || step->kind == KIND_SYMLINK)
		return false;
	if (meta_disk_find(s->meta, is->ino, is->btime_ns, &known) == 0 && !id_equal(&known, &step->node))
		return false;
	if (step->kind == KIND_DIR)
		return true;
	return read_content(dir, name, &content) && hash_equal(&content.hash, &step->content.hash);
}

/* What the owed content was to replace, under a further name: it goes to history. 1: done so, 0: it is
 * something else. */
static int take_older(
	struct store *s, const struct step *step, int dir, const char *name, const struct stat_id *is)
{
	char stage[STAGE_NAME_BYTES];
	struct content content;
	int r;

	if (step->type != PLACE_CONTENT || step->expect.ctime_ns != OWED_CTIME || !S_ISREG(is->mode) ||
		!read_content(dir, name, &content))
		return 0;
	r = meta_history_had(s->meta, &step->node, &content.hash);
	if (r != 1)
		return r;
	stage_name(stage);
	r = place_take(&s->tree, dir, name, is, stage);
	if (r == 0)
		r = is->nlink > 1 ? stage_drop(&s->tree, stage) : history_keep(s, stage, &content);
	return r < 0 ? r : 1;
}

static int put_aside(struct store *s, int dir, const char *name, const struct stat_id *is)
{
	int r = -EEXIST;

	for (unsigned i = 0; r == -EEXIST && i < ASIDE_TRIES; i++) {
		const struct id id = id_new();
		cleanup_free char *aside = conflict_name(name, "server", &id, 0, i);

		if (!aside)
			return -ENOMEM;
		r = place_move(&s->tree, dir, name, dir, aside, is, NULL);
		if (r == 0)
			log_info("\"%s\" was made by hand where a client's came at the same time: it is "
				 "\"%s\" now",
				name, aside);
	}
	return r;
}

int store_aside(struct store *s, const struct steps *steps, const struct step *step, int dir,
	const char *name, bool *ret_was_dir)
{
	int r = -ESTALE;

	for (unsigned i = 0; r == -ESTALE && i < ASIDE_TRIES; i++) {
		struct stat_id is;

		r = tree_stat(dir, name, &is);
		if (r < 0)
			return r == -ENOENT ? 1 : r;
		if (is_ours(steps, &is) || is_as_said(s, step, dir, name, &is))
			return 0;
		r = take_older(s, step, dir, name, &is);
		if (r == 0)
			r = put_aside(s, dir, name, &is);
		*ret_was_dir = S_ISDIR(is.mode);
	}
	if (r == -ESTALE || r == -EEXIST)
		return 0;
	return r < 0 && r != -ENOENT ? r : 1;
}

/* ---- contents that leave the tree ---- */

int store_dispose(struct store *s, const struct step *step)
{
	/* what was owed was never there */
	return step->has_old && step->expect.ctime_ns != OWED_CTIME ? history_keep(s, step->stage, &step->old)
								    : stage_drop(&s->tree, step->stage);
}

/* Our content finds no place. What has a further name, in the tree or in staging, stays there: nobody but us
 * writes to what is in history. */
int store_give_way(struct store *s, const struct step *step)
{
	struct stat_id is;
	int r = tree_stat(s->tree.stage_fd, step->stage, &is);

	if (r == 0)
		r = step->kind == KIND_FILE && is.nlink == 1
			? content_history_take(&s->content, step->stage, &step->content.hash)
			: stage_drop(&s->tree, step->stage);
	return r == -ENOENT ? 0 : r;
}
