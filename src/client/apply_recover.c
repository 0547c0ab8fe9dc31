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

#include "syncstate.h"

struct recovery {
	const struct applier_config *config;
	struct map *intents; /* stage name -> struct apply_intent */
};

static int note_intent(void *arg, const struct apply_intent *i)
{
	struct recovery *rc = arg;
	struct apply_intent *copy = malloc(sizeof(*copy));
	int r;

	if (!copy)
		return -ENOMEM;
	*copy = *i;
	r = map_put(rc->intents, copy->stage_name, strlen(copy->stage_name), copy);
	if (r)
		free(copy);
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

int applier_recover(const struct applier_config *config)
{
	struct recovery rc = {.config = config, .intents = map_new()};
	const void *key;
	size_t pos = 0, len;
	void *value;
	int r = rc.intents ? syncstate_intents(config->state, note_intent, &rc) : -ENOMEM;

	if (!r)
		r = stage_sweep(config->tree, keep, &rc);
	if (!r)
		r = syncstate_begin(config->state, false);
	if (!r) {
		r = syncstate_intents_clear(config->state);
		if (r)
			syncstate_rollback(config->state);
		else
			r = syncstate_commit(config->state);
	}
	while (rc.intents && map_next(rc.intents, &pos, &key, &len, &value))
		free(value);
	map_free(rc.intents);
	return r;
}
