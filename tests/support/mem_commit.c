/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A namespace in memory, see mem_commit.h. Linked into tests only. Judges nothing: the rules are
 * commit_apply()'s.
 */
#include "mem_commit.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <syncfs/limits.h>

#define KEY_MAX_BYTES (ID_BYTES + NAME_MAX_BYTES + 1)

static void *must(void *p)
{
	if (!p)
		abort();
	return p;
}

static char *copy_text(const char *s)
{
	return must(strdup(s));
}

static void put(struct map *map, const void *key, size_t len, void *value)
{
	if (map_put(map, key, len, value) < 0)
		abort();
}

static size_t dentry_key(uint8_t *key, const struct id *parent, const char *name)
{
	size_t len = strlen(name);

	assert(len > 0 && len <= NAME_MAX_BYTES);
	memcpy(key, parent->b, ID_BYTES);
	memcpy(key + ID_BYTES, name, len);
	return ID_BYTES + len;
}

static struct mem_dentry *dentry_at(struct map *map, const struct id *parent, const char *name)
{
	uint8_t key[KEY_MAX_BYTES];
	size_t len = dentry_key(key, parent, name);

	return map_get(map, key, len);
}

static void dentry_new(
	struct map *map, const struct id *parent, const char *name, const struct id *node, uint64_t l)
{
	struct mem_dentry *d = must(calloc(1, sizeof(*d)));
	uint8_t key[KEY_MAX_BYTES];
	size_t len = dentry_key(key, parent, name);

	d->parent = *parent;
	d->node = *node;
	d->name = copy_text(name);
	d->l = l;
	put(map, key, len, d);
}

static void dentry_free(struct map *map, const struct id *parent, const char *name)
{
	uint8_t key[KEY_MAX_BYTES];
	size_t len = dentry_key(key, parent, name);
	struct mem_dentry *d = map_remove(map, key, len);

	free(d->name);
	free(d);
}

static struct mem_node *node_at(const struct mem_commit *m, const struct id *id)
{
	return map_get(m->nodes, id->b, ID_BYTES);
}

static void touch(struct mem_commit *m, const struct id *id)
{
	if (m->touched_count < MEM_TOUCHED_MAX)
		m->touched[m->touched_count++] = *id;
}

static size_t history_key(uint8_t *key, const struct id *node, uint64_t c)
{
	memcpy(key, node->b, ID_BYTES);
	memcpy(key + ID_BYTES, &c, sizeof(c));
	return ID_BYTES + sizeof(c);
}

static void remember(struct mem_commit *m, const struct node_state *n)
{
	struct content *content = must(malloc(sizeof(*content)));
	uint8_t key[ID_BYTES + sizeof(n->c)];
	size_t len = history_key(key, &n->node, n->c);

	*content = n->content;
	free(map_remove(m->history, key, len));
	put(m->history, key, len, content);
}

static int had(void *arg, const struct id *node, uint64_t c, const struct content *content)
{
	struct mem_commit *m = arg;
	uint8_t key[ID_BYTES + sizeof(c)];
	const struct content *then = map_get(m->history, key, history_key(key, node, c));

	return then && then->size == content->size && hash_equal(&then->hash, &content->hash);
}

static int node_get(void *arg, const struct id *node, struct node_state *ret_node)
{
	struct mem_node *n = node_at(arg, node);

	return n ? node_state_copy(&n->row, ret_node) : -ENOENT;
}

static int node_put(void *arg, const struct node_state *node)
{
	struct mem_commit *m = arg;
	struct mem_node *n = node_at(m, &node->node);
	struct node_state row, bare = *node;

	bare.names = NULL;
	bare.names_count = 0;
	if (node_state_copy(&bare, &row) < 0)
		abort();
	if (!n) {
		n = must(calloc(1, sizeof(*n)));
		put(m->nodes, node->node.b, ID_BYTES, n);
	}
	row.names = n->row.names;
	row.names_count = n->row.names_count;
	n->row.names = NULL;
	n->row.names_count = 0;
	node_state_fini(&n->row);
	n->row = row;
	remember(m, &row);
	touch(m, &node->node);
	return 0;
}

static int dentry_get(
	void *arg, const struct id *parent, const char *name, struct id *ret_node, uint64_t *ret_l)
{
	struct mem_commit *m = arg;
	struct mem_dentry *d = dentry_at(m->dentries, parent, name);

	if (!d)
		return -ENOENT;
	*ret_node = d->node;
	*ret_l = d->l;
	return 0;
}

static int dentry_del(void *arg, const struct id *parent, const char *name)
{
	struct mem_commit *m = arg;
	struct mem_dentry *d = dentry_at(m->dentries, parent, name);
	struct mem_node *n, *dir;

	if (!d)
		return -EBADMSG;
	n = must(node_at(m, &d->node));
	for (size_t i = 0; i < n->row.names_count; i++) {
		struct dentry *at = &n->row.names[i];

		if (!id_equal(&at->parent, parent) || strcmp(at->name, name) != 0)
			continue;
		free(at->name);
		n->row.names_count--;
		memmove(at, at + 1, (n->row.names_count - i) * sizeof(*at));
		break;
	}
	dir = node_at(m, parent);
	if (dir)
		dir->children--;
	touch(m, &d->node);
	dentry_free(m->dentries, parent, name);
	return 0;
}

static int dentry_put(void *arg, const struct id *parent, const char *name, const struct id *node, uint64_t l)
{
	struct mem_commit *m = arg;
	struct mem_node *n = node_at(m, node), *dir = node_at(m, parent);
	struct dentry *d;

	/* A store may take it, but the rules free a name first. */
	if (!n || dentry_at(m->dentries, parent, name))
		return -EBADMSG;
	n->row.names = must(realloc(n->row.names, (n->row.names_count + 1) * sizeof(*d)));
	d = &n->row.names[n->row.names_count++];
	*d = (struct dentry){.parent = *parent, .name = copy_text(name), .l = l};
	if (dir)
		dir->children++;
	touch(m, node);
	dentry_new(m->dentries, parent, name, node, l);
	return 0;
}

static int has_children(void *arg, const struct id *node)
{
	struct mem_node *n = node_at(arg, node);

	return n && n->children > 0;
}

static int last_name_get(void *arg, const struct id *node, struct id *ret_parent, char **ret_name)
{
	struct mem_node *n = node_at(arg, node);

	if (!n || !n->last_name)
		return -ENOENT;
	*ret_parent = n->last_parent;
	*ret_name = copy_text(n->last_name);
	return 0;
}

static int last_name_put(void *arg, const struct id *node, const struct id *parent, const char *name)
{
	struct mem_node *n = must(node_at(arg, node));
	char *copy = copy_text(name);

	free(n->last_name);
	n->last_name = copy;
	n->last_parent = *parent;
	return 0;
}

static int alias_get(void *arg, const struct id *alias, struct id *ret_node)
{
	struct mem_commit *m = arg;
	const struct id *to = map_get(m->aliases, alias->b, ID_BYTES);

	if (!to)
		return -ENOENT;
	*ret_node = *to;
	return 0;
}

static int alias_put(void *arg, const struct id *alias, const struct id *node)
{
	struct mem_commit *m = arg;
	struct id *to = must(malloc(sizeof(*to)));

	free(map_remove(m->aliases, alias->b, ID_BYTES));
	*to = *node;
	put(m->aliases, alias->b, ID_BYTES, to);
	return 0;
}

static void result_key(uint8_t *key, const struct id *client, uint64_t opno)
{
	memcpy(key, client->b, ID_BYTES);
	memcpy(key + ID_BYTES, &opno, sizeof(opno));
}

static int own_result(void *arg, uint64_t opno, const struct result **ret_result)
{
	struct mem_commit *m = arg;
	uint8_t key[ID_BYTES + sizeof(opno)];
	const struct result *r;

	result_key(key, &m->client, opno);
	r = map_get(m->results, key, sizeof(key));
	if (!r)
		return -ENOENT;
	*ret_result = r;
	return 0;
}

static int seq_next(void *arg, uint64_t *ret_seq)
{
	struct mem_commit *m = arg;

	*ret_seq = ++m->seq;
	return 0;
}

/* The plain tree: node has parent/name. */
static bool holds(struct mem_commit *m, const struct id *parent, const char *name, const struct id *node)
{
	struct mem_dentry *d = dentry_at(m->placed, parent, name);

	return d && (!node || id_equal(&d->node, node));
}

static void place_appear(struct mem_commit *m, const struct place_step *s)
{
	if (holds(m, &s->parent, s->name, NULL))
		(void)snprintf(m->fault, sizeof(m->fault), "step %d: name is taken", s->type);
	else
		dentry_new(m->placed, &s->parent, s->name, &s->node, 0);
	if ((s->type == PLACE_CREATE) != (s->op != NULL))
		(void)snprintf(m->fault, sizeof(m->fault), "step %d: op of the content", s->type);
}

static void place_move(struct mem_commit *m, const struct place_step *s)
{
	struct mem_dentry *other = dentry_at(m->placed, &s->new_parent, s->new_name);
	struct id node = other ? other->node : ID_NONE;

	if (!holds(m, &s->parent, s->name, &s->node) || (other != NULL) != (s->type == PLACE_EXCHANGE)) {
		(void)snprintf(m->fault, sizeof(m->fault), "step %d: cannot move", s->type);
		return;
	}
	dentry_free(m->placed, &s->parent, s->name);
	if (other) {
		dentry_free(m->placed, &s->new_parent, s->new_name);
		dentry_new(m->placed, &s->parent, s->name, &node, 0);
	}
	dentry_new(m->placed, &s->new_parent, s->new_name, &s->node, 0);
}

static int place(void *arg, const struct place_step *s)
{
	struct mem_commit *m = arg;

	m->steps_count++;
	m->last_step = s->type;
	switch (s->type) {
	case PLACE_CREATE:
	case PLACE_RESURRECT:
	case PLACE_LINK:
		place_appear(m, s);
		break;
	case PLACE_MOVE:
	case PLACE_EXCHANGE:
		place_move(m, s);
		break;
	case PLACE_REMOVE:
		if (holds(m, &s->parent, s->name, &s->node))
			dentry_free(m->placed, &s->parent, s->name);
		else
			(void)snprintf(m->fault, sizeof(m->fault), "remove: not there");
		break;
	case PLACE_CONTENT:
	case PLACE_ATTR:
		if (!node_at(m, &s->node) || node_at(m, &s->node)->row.tomb)
			(void)snprintf(m->fault, sizeof(m->fault), "step %d: of no live node", s->type);
		if ((s->type == PLACE_CONTENT) != (s->op != NULL))
			(void)snprintf(m->fault, sizeof(m->fault), "step %d: op of the content", s->type);
		break;
	}
	return 0;
}

static struct result *result_copy(const struct result *r)
{
	struct result *copy = must(malloc(sizeof(*copy)));

	*copy = *r;
	copy->name = r->name ? copy_text(r->name) : NULL;
	copy->reason = r->reason ? copy_text(r->reason) : NULL;
	return copy;
}

int mem_commit_apply(struct mem_commit *m, const struct commit_sender *sender, const struct op *op,
	struct result *ret_result)
{
	const struct commit_env env = {m, node_get, node_put, dentry_get, dentry_put, dentry_del,
		has_children, last_name_get, last_name_put, alias_get, alias_put, own_result, had, seq_next,
		place};
	uint8_t key[ID_BYTES + sizeof(op->opno)];
	int r;

	m->client = sender->client;
	m->seq_before = m->seq;
	m->touched_count = m->steps_count = 0;
	m->fault[0] = '\0';
	r = commit_apply(&env, sender, op, ret_result);
	if (r < 0)
		return r;
	result_key(key, &sender->client, op->opno);
	put(m->results, key, sizeof(key), result_copy(ret_result));
	return 0;
}

void mem_commit_init(struct mem_commit *m)
{
	memset(m, 0, sizeof(*m));
	m->nodes = must(map_new());
	m->dentries = must(map_new());
	m->placed = must(map_new());
	m->aliases = must(map_new());
	m->results = must(map_new());
	m->history = must(map_new());
}

static void free_all(struct map *map, void (*fini)(void *value))
{
	const void *key;
	size_t pos = 0, len;
	void *value;

	while (map_next(map, &pos, &key, &len, &value)) {
		if (fini)
			fini(value);
		free(value);
	}
	map_free(map);
}

static void node_fini(void *value)
{
	struct mem_node *n = value;

	node_state_fini(&n->row);
	free(n->last_name);
}

static void dentry_fini(void *value)
{
	free(((struct mem_dentry *)value)->name);
}

static void stored_result_fini(void *value)
{
	result_fini(value);
}

void mem_commit_fini(struct mem_commit *m)
{
	free_all(m->nodes, node_fini);
	free_all(m->dentries, dentry_fini);
	free_all(m->placed, dentry_fini);
	free_all(m->aliases, NULL);
	free_all(m->results, stored_result_fini);
	free_all(m->history, NULL);
	memset(m, 0, sizeof(*m));
}

static const char *check_dentry(struct mem_commit *m, const struct mem_dentry *d)
{
	const struct mem_node *n = node_at(m, &d->node);
	struct id at = d->parent;

	if (!n || n->row.tomb)
		return "a name of no live node";
	if (n->row.kind == KIND_DIR && n->row.names_count != 1)
		return "a directory with several names";
	if (!holds(m, &d->parent, d->name, &d->node))
		return "the plain tree lacks a name";
	for (int depth = 0; !id_equal(&at, &ID_ROOT); depth++) {
		const struct mem_node *dir = node_at(m, &at);

		if (!dir || dir->row.tomb || dir->row.kind != KIND_DIR || dir->row.names_count != 1)
			return "an orphan";
		if (depth > 2 * TREE_MAX_DEPTH)
			return "a cycle";
		at = dir->row.names[0].parent;
	}
	return NULL;
}

const char *mem_commit_check(struct mem_commit *m)
{
	const void *key;
	size_t pos = 0, len;
	void *value;

	if (m->fault[0])
		return m->fault;
	if (m->seq > m->seq_before + 1)
		return "more than one seq";
	if (m->seq == m->seq_before && (m->touched_count || m->steps_count))
		return "a change without seq";
	for (size_t i = 0; i < m->touched_count; i++) {
		const struct mem_node *n = node_at(m, &m->touched[i]);

		if (n->row.seq != m->seq || !id_equal(&n->row.by_client, &m->client))
			return "a touched node without the seq";
		if (n->row.tomb != (n->row.names_count == 0))
			return "tomb and names disagree";
		if (n->row.tomb && (!n->last_name || n->children))
			return "a bad tombstone";
	}
	if (map_count(m->dentries) != map_count(m->placed))
		return "the plain tree has other names";
	while (map_next(m->dentries, &pos, &key, &len, &value)) {
		const char *why = check_dentry(m, value);

		if (why)
			return why;
	}
	return NULL;
}

const struct node_state *mem_commit_find(const struct mem_commit *m, const char *path)
{
	struct id at = ID_ROOT;

	for (;;) {
		size_t len = strcspn(path, "/");
		char name[NAME_MAX_BYTES + 1];
		const struct mem_dentry *d;

		assert(len <= NAME_MAX_BYTES);
		memcpy(name, path, len);
		name[len] = '\0';
		d = dentry_at(m->dentries, &at, name);
		if (!d)
			return NULL;
		if (!path[len])
			return &node_at(m, &d->node)->row;
		at = d->node;
		path += len + 1;
	}
}

const struct mem_node *mem_commit_node(const struct mem_commit *m, const struct id *id)
{
	return node_at(m, id);
}
