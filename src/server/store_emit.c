/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The rules' orders to the plain tree as place steps: paths as they are at that point, what goes in staged,
 * what is expected to be there noted. Called by the transaction for each order. Changes neither rows nor the
 * visible tree.
 */
#include "store_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define OTHERS_TRIED 16

/* ---- what steps will leave ---- */

int txn_predict(struct txn *x, const struct id *node, const struct stat_id *stat)
{
	struct stat_id *is = map_get(x->ids, node->b, ID_BYTES);
	int r = 0;

	if (!is) {
		is = malloc(sizeof(*is));
		r = is ? map_put(x->ids, node->b, ID_BYTES, is) : -ENOMEM;
	}
	if (r < 0)
		free(is);
	else
		*is = *stat;
	return r;
}

/* What the step makes of an object: should a crash come between it and the next one, that has to know it
 * again.
 */
static int predict_attr(struct txn *x, const struct step *step, const struct stat_id *stat)
{
	struct stat_id is = *stat;

	if (step->set_attr || step->type == PLACE_ATTR)
		is.mtime_ns = step->mtime_ns;
	return txn_predict(x, &step->node, &is);
}

int txn_expect(struct txn *x, const struct id *node, struct stat_id *ret_stat)
{
	const struct stat_id *is = map_get(x->ids, node->b, ID_BYTES);
	int r;

	if (is) {
		*ret_stat = *is;
		return 0;
	}
	r = meta_disk_get(x->s->meta, node, ret_stat);
	return r == -ENOENT ? 0 : r;
}

/* ---- steps from the rules ---- */

/* meta_dir_path() of a directory as the rows are now. */
static int dir_path(struct txn *x, const struct id *dir, char **ret_path)
{
	int r;

	if (!x->path || !id_equal(&x->path_of, dir)) {
		free(x->path);
		x->path = NULL;
		r = meta_dir_path(x->s->meta, dir, &x->path);
		if (r < 0)
			return r;
		x->path_of = *dir;
	}
	*ret_path = strdup(x->path);
	return *ret_path ? 0 : -ENOMEM;
}

/* A file of the tree that has the content of n, opened, when it has it in truth. */
static int open_holder(struct store *s, const struct id *node, const struct node_state *n)
{
	cleanup_fd int fd = prepare_node_open(s, s->reader, node);
	struct content is;
	struct stat_id stat;

	if (fd < 0 || tree_hash_file(fd, &is, NULL, &stat) < 0 || !hash_equal(&is.hash, &n->content.hash))
		return -ENOENT;
	return lseek(fd, 0, SEEK_SET) < 0 ? -errno : steal_fd(&fd);
}

/* The tree is as the last commit left it: it also has what this transaction has removed or moved. */
static int open_in_tree(struct store *s, const struct node_state *n)
{
	struct id holders[OTHERS_TRIED];
	int fd = -ENOENT;
	ssize_t count;

	MUTEX_GUARD(&s->read_lock);
	count = meta_content_nodes(s->reader, &n->content.hash, holders, OTHERS_TRIED);
	for (ssize_t i = 0; fd < 0 && i < count; i++)
		fd = open_holder(s, &holders[i], n);
	return fd;
}

/* What this transaction has brought, and is not in the tree yet. */
static int open_staged(struct txn *x, const struct step *own, const struct node_state *n)
{
	int fd = -ENOENT;

	for (size_t i = 0; fd < 0 && i < x->steps.count; i++) {
		const struct step *step = &x->steps.list[i];

		if (step != own && step->stage[0] && step->kind == KIND_FILE &&
			hash_equal(&step->content.hash, &n->content.hash))
			fd = tree_open_at(&x->s->tree, x->s->tree.stage_fd, step->stage, O_RDONLY);
	}
	return fd;
}

static int stage_from_history(struct txn *x, struct step *step, const struct node_state *n)
{
	struct store *s = x->s;
	cleanup_fd int from = content_history_open(&s->content, &n->content.hash), to = -1;
	int r;

	/* content that a file of the tree has is not kept in history */
	if (from < 0)
		from = open_in_tree(s, n);
	if (from < 0)
		from = open_staged(x, step, n);
	if (from < 0 && n->content.size)
		return -ENODATA;
	to = stage_create(&s->tree, step->stage);
	if (to < 0) {
		step->stage[0] = '\0';
		return to;
	}
	step->own_stage = true;
	r = from < 0 ? 0 : content_copy(from, to);
	return r < 0 ? r : tree_sync_fd(to);
}

static int stage_resurrected(struct txn *x, struct step *step, const struct node_state *n)
{
	const struct tree *t = &x->s->tree;
	int r;

	if (n->kind == KIND_FILE) {
		r = stage_from_history(x, step, n);
	} else {
		r = n->kind == KIND_DIR ? stage_mkdir(t, step->stage)
					: stage_symlink(t, n->target, step->stage);
		if (r < 0)
			step->stage[0] = '\0';
		step->own_stage = r == 0;
	}
	if (r == 0)
		r = tree_sync_fd(t->stage_fd);
	return r < 0 ? r : tree_stat(t->stage_fd, step->stage, &step->staged);
}

/* The staged object of the operation; what it has not got yet (a link of unknown kind) is made here. */
static int stage_of_op(struct txn *x, struct step *step, const struct node_state *n)
{
	struct prepared *p = x->prepared;

	if (!p || !p->stage[0] || p->taken)
		return stage_resurrected(x, step, n);
	strcpy(step->stage, p->stage);
	step->staged = p->stat;
	step->set_attr = !p->attr_set;
	p->taken = true;
	return 0;
}

static int attr_of_row(struct txn *x, struct step *step, const struct node_state *n)
{
	step->mode = store_disk_mode(x->s, n->kind, n->mode);
	step->mtime_ns = n->mtime_ns;
	if (n->xattr.len == 0)
		return 0;
	step->xattr.data = malloc(n->xattr.len);
	if (!step->xattr.data)
		return -ENOMEM;
	memcpy(step->xattr.data, n->xattr.data, n->xattr.len);
	step->xattr.len = n->xattr.len;
	return 0;
}

static struct step *step_new(struct txn *x, enum place_type type, const struct node_state *n,
	const struct id *dir, const char *name)
{
	struct step *step = steps_add(&x->steps);

	if (!step)
		return NULL;
	step->type = type;
	step->kind = n->kind;
	step->node = n->node;
	step->content = n->content;
	if ((type == PLACE_CONTENT || type == PLACE_REMOVE) && id_equal(&n->node, &x->old_node)) {
		step->has_old = true;
		step->old = x->old;
	}
	step->name = strdup(name);
	if (!step->name || dir_path(x, dir, &step->dir) < 0)
		return NULL;
	return step;
}

static int emit_content(struct txn *x, const struct node_state *n)
{
	struct stat_id expect = {0}, first = {0};
	char stage[STAGE_NAME_BYTES] = "";
	size_t at = x->steps.count;
	int r = txn_expect(x, &n->node, &expect);

	for (size_t i = 0; r == 0 && i < n->names_count; i++) {
		struct step *step = step_new(x, PLACE_CONTENT, n, &n->names[i].parent, n->names[i].name);

		if (!step)
			return -ENOMEM;
		step->expect = expect;
		step->again = i > 0;
		if (i == 0) {
			r = stage_of_op(x, step, n);
			first = step->staged;
			first.ctime_ns = 0; /* moves with every further name */
			memcpy(stage, step->stage, sizeof(stage));
			step->set_attr = step->set_attr || step->own_stage;
			if (r == 0)
				r = attr_of_row(x, step, n);
			continue;
		}
		stage_name(step->stage);
		step->own_stage = true;
		step->staged = first;
		r = place_link(
			&x->s->tree, x->s->tree.stage_fd, stage, x->s->tree.stage_fd, step->stage, &first);
	}
	return r < 0 || n->names_count == 0 ? r : predict_attr(x, &x->steps.list[at], &first);
}

static int emit_new(struct txn *x, const struct place_step *said, const struct node_state *n)
{
	struct step *step = step_new(x, said->type, n, &said->parent, said->name);
	int r;

	if (!step)
		return -ENOMEM;
	if (said->type == PLACE_CREATE) {
		r = stage_of_op(x, step, n);
	} else {
		r = stage_resurrected(x, step, n);
		step->set_attr = true;
	}
	if (step->own_stage)
		step->set_attr = true;
	if (r == 0)
		r = attr_of_row(x, step, n);
	return r < 0 ? r : predict_attr(x, step, &step->staged);
}

/* A name of n other than the new one. */
static const struct dentry *other_name(const struct node_state *n, const struct place_step *said)
{
	size_t i = node_state_name_find(n, &said->parent, said->name) == 0 ? 1 : 0;

	return i < n->names_count ? &n->names[i] : NULL;
}

static int emit_moved(struct txn *x, const struct place_step *said, const struct node_state *n)
{
	const struct id *dir = &said->parent, *new_dir = &said->new_parent;
	const char *name = said->name, *new_name = said->new_name;
	struct step *step;
	uint64_t l;
	int r;

	if (said->type == PLACE_LINK) {
		const struct dentry *from = other_name(n, said);

		if (!from)
			return -EBADMSG;
		new_dir = &said->parent;
		new_name = said->name;
		dir = &from->parent;
		name = from->name;
	}
	step = step_new(x, said->type, n, dir, name);
	if (!step)
		return -ENOMEM;
	step->new_name = strdup(new_name);
	r = step->new_name ? dir_path(x, new_dir, &step->new_dir) : -ENOMEM;
	if (r == 0)
		r = txn_expect(x, &n->node, &step->expect);
	if (r == 0 && said->type == PLACE_EXCHANGE)
		r = meta_dentry_get(x->s->meta, &said->parent, said->name, &step->other, &l);
	if (r == 0 && said->type == PLACE_EXCHANGE)
		r = txn_expect(x, &step->other, &step->expect_other);
	return r;
}

static int emit_at_name(struct txn *x, enum place_type type, const struct node_state *n, const struct id *dir,
	const char *name)
{
	struct step *step = step_new(x, type, n, dir, name);
	int r;

	if (!step)
		return -ENOMEM;
	if (type == PLACE_REMOVE && n->kind != KIND_DIR)
		stage_name(step->stage);
	if (type == PLACE_ATTR && attr_of_row(x, step, n) < 0)
		return -ENOMEM;
	r = txn_expect(x, &n->node, &step->expect);
	return r < 0 || type != PLACE_ATTR ? r : predict_attr(x, step, &step->expect);
}

int txn_place_again(struct txn *x, const struct node_state *n, const struct id *dir, const char *name)
{
	const struct place_step said = {
		.type = PLACE_RESURRECT, .node = n->node, .parent = *dir, .name = name};
	size_t before = x->steps.count;
	int r = emit_new(x, &said, n);

	if (r < 0 && x->steps.count > before) {
		struct steps last = {.list = NULL};
		struct step *step = steps_add(&last);

		if (!step)
			return -ENOMEM;
		*step = x->steps.list[--x->steps.count];
		steps_fini(&last);
	}
	return r;
}

int txn_emit(void *arg, const struct place_step *said)
{
	struct txn *x = arg;
	struct node_state n = {0};
	int r;

	if (x->in_place)
		return 0;
	r = meta_node_get(x->s->meta, &said->node, &n);
	if (r < 0)
		return r;
	switch (said->type) {
	case PLACE_CREATE:
	case PLACE_RESURRECT:
		r = emit_new(x, said, &n);
		break;
	case PLACE_CONTENT:
		r = emit_content(x, &n);
		break;
	case PLACE_MOVE:
	case PLACE_EXCHANGE:
	case PLACE_LINK:
		r = emit_moved(x, said, &n);
		break;
	case PLACE_REMOVE:
		r = emit_at_name(x, PLACE_REMOVE, &n, &said->parent, said->name);
		break;
	case PLACE_ATTR:
		r = n.names_count ? emit_at_name(x, PLACE_ATTR, &n, &n.names[0].parent, n.names[0].name) : 0;
		break;
	}
	node_state_fini(&n);
	return r;
}
