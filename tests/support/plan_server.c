/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The server of plan_world.h: rows for commit_apply() in flat tables, and the books of which contents live.
 * Linked into tests only. Judges nothing: the rules are commit_apply()'s.
 */
#include "plan_world.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <syncfs/message.h>

void pw_fault(struct pw_world *w, const char *what, unsigned node)
{
	if (!w->fault[0])
		(void)snprintf(w->fault, sizeof(w->fault), "%s (node %u)", what, node);
}

uint64_t pw_random(struct pw_world *w)
{
	w->random ^= w->random << 13;
	w->random ^= w->random >> 7;
	w->random ^= w->random << 17;
	return w->random;
}

unsigned pw_below(struct pw_world *w, unsigned n)
{
	return (unsigned)((pw_random(w) >> 20) % n);
}

uint8_t pw_name(struct pw_world *w, const char *name)
{
	for (unsigned i = 0; i < w->names_count; i++) {
		if (strcmp(w->names[i], name) == 0)
			return (uint8_t)i;
	}
	if (w->names_count == PW_NAMES) {
		pw_fault(w, "model: too many names", 0);
		return 0;
	}
	w->names[w->names_count] = strdup(name);
	if (!w->names[w->names_count])
		abort();
	return (uint8_t)w->names_count++;
}

static uint8_t node_of_id(struct pw_world *w, const struct id *id)
{
	if (w->nodes_count == PW_NODES) {
		pw_fault(w, "model: too many nodes", 0);
		return PW_NODES - 1;
	}
	w->ids[w->nodes_count] = *id;
	return (uint8_t)w->nodes_count++;
}

uint8_t pw_new_node(struct pw_world *w)
{
	struct id id = {{0x11}};

	id.b[15] = (uint8_t)w->nodes_count;
	return node_of_id(w, &id);
}

uint8_t pw_node(const struct pw_world *w, const struct id *id)
{
	if (id->b[0] == 0x11 && id->b[15] < w->nodes_count && id_equal(id, &w->ids[id->b[15]]))
		return id->b[15];
	for (unsigned i = 0; i < w->nodes_count; i++) {
		if (id_equal(id, &w->ids[i]))
			return (uint8_t)i;
	}
	return PW_NOBODY;
}

uint32_t pw_new_content(struct pw_world *w)
{
	if (w->contents == PW_CONTENTS - 1)
		pw_fault(w, "model: too many contents", 0);
	else
		w->contents++;
	return w->contents;
}

/* ---- rows ---- */

int pw_row_find(const struct pw_row *row, uint8_t parent, uint8_t name)
{
	for (int i = 0; i < row->names_count; i++) {
		if (row->names[i].parent == parent && row->names[i].name == name)
			return i;
	}
	return -1;
}

void pw_row_add(struct pw_row *row, uint8_t parent, uint8_t name, uint32_t l)
{
	int i = pw_row_find(row, parent, name);

	if (i < 0 && row->names_count == PW_LINKS)
		abort(); /* callers keep below */
	if (i < 0)
		i = row->names_count++;
	row->names[i] = (struct pw_name){parent, name, l};
}

void pw_row_remove(struct pw_row *row, uint8_t parent, uint8_t name)
{
	int i = pw_row_find(row, parent, name);

	if (i < 0)
		return;
	row->names_count--;
	memmove(&row->names[i], &row->names[i + 1], (size_t)(row->names_count - i) * sizeof(row->names[0]));
}

static struct content content_of(uint32_t number)
{
	return (struct content){.size = 1, .hash = {{(uint8_t)number, (uint8_t)(number >> 8), 1}}};
}

static char targets[PW_CONTENTS][8];

void pw_state(const struct pw_world *w, uint8_t node, const struct pw_row *row, struct dentry *names,
	struct node_state *ret)
{
	*ret = (struct node_state){.node = w->ids[node],
		.kind = row->kind,
		.tomb = row->tomb,
		.seq = row->seq,
		.c = row->c,
		.a = row->a,
		.mode = row->mode,
		.names = names,
		.names_count = row->names_count};
	if (row->kind == KIND_FILE)
		ret->content = content_of(row->content);
	if (row->kind == KIND_SYMLINK)
		ret->target = targets[row->content];
	for (unsigned i = 0; i < row->names_count; i++)
		names[i] = (struct dentry){.parent = w->ids[row->names[i].parent],
			.name = w->names[row->names[i].name],
			.l = row->names[i].l};
}

/* ---- what commit_apply() asks ---- */

static int node_get(void *arg, const struct id *id, struct node_state *ret_node)
{
	struct pw_world *w = arg;
	struct dentry names[PW_LINKS];
	struct node_state n;
	uint8_t node = pw_node(w, id);

	if (node == PW_NOBODY || !w->rows[node].is)
		return -ENOENT;
	pw_state(w, node, &w->rows[node], names, &n);
	n.by_client.b[0] = w->by_client[node];
	n.by_client.b[1] = n.by_client.b[0] ? 0xcc : 0;
	n.by_opno = w->by_opno[node];
	return node_state_copy(&n, ret_node);
}

static void hold(struct pw_world *w, uint32_t content)
{
	w->holders[content]++;
	w->committed[content] = true;
}

static void let_go(struct pw_world *w, uint32_t content)
{
	w->holders[content]--;
	if (!w->holders[content] && w->vanished_count < sizeof(w->vanished))
		w->vanished[w->vanished_count++] = (uint8_t)content;
}

static bool is_held(const struct pw_row *row)
{
	return row->is && !row->tomb && row->kind != KIND_DIR;
}

static int node_put(void *arg, const struct node_state *n)
{
	struct pw_world *w = arg;
	uint8_t node = pw_node(w, &n->node);
	struct pw_row *row, old;

	if (node == PW_NOBODY)
		node = node_of_id(w, &n->node);
	row = &w->rows[node];
	old = *row;
	row->is = true;
	row->kind = (uint8_t)n->kind;
	row->tomb = n->tomb;
	row->seq = (uint32_t)n->seq;
	row->c = (uint32_t)n->c;
	row->a = (uint32_t)n->a;
	row->mode = (uint16_t)n->mode;
	row->content = n->kind == KIND_FILE ? n->content.hash.b[0] + 256u * n->content.hash.b[1]
		: n->kind == KIND_SYMLINK   ? (uint32_t)strtoul(n->target + 1, NULL, 10)
					    : 0;
	if (row->c < PW_SEQS)
		w->content_at[row->c] = row->content;
	w->by_client[node] = n->by_client.b[0];
	w->by_opno[node] = (uint32_t)n->by_opno;
	if (is_held(row))
		hold(w, row->content);
	if (is_held(&old))
		let_go(w, old.content);
	return 0;
}

static int dentry_get(
	void *arg, const struct id *parent, const char *name, struct id *ret_node, uint64_t *ret_l)
{
	struct pw_world *w = arg;
	uint8_t dir = pw_node(w, parent), at = pw_name(w, name), node;

	if (dir == PW_NOBODY || !w->grid[dir][at])
		return -ENOENT;
	node = w->grid[dir][at];
	*ret_node = w->ids[node];
	*ret_l = w->rows[node].names[pw_row_find(&w->rows[node], dir, at)].l;
	return 0;
}

static int dentry_put(void *arg, const struct id *parent, const char *name, const struct id *id, uint64_t l)
{
	struct pw_world *w = arg;
	uint8_t dir = pw_node(w, parent), at = pw_name(w, name), node = pw_node(w, id);

	if (dir == PW_NOBODY || node == PW_NOBODY || w->grid[dir][at])
		return -EBADMSG;
	if (w->rows[node].names_count == PW_LINKS)
		return -EMLINK;
	w->grid[dir][at] = node;
	w->children[dir]++;
	pw_row_add(&w->rows[node], dir, at, (uint32_t)l);
	return 0;
}

static int dentry_del(void *arg, const struct id *parent, const char *name)
{
	struct pw_world *w = arg;
	uint8_t dir = pw_node(w, parent), at = pw_name(w, name);

	if (dir == PW_NOBODY || !w->grid[dir][at])
		return -EBADMSG;
	pw_row_remove(&w->rows[w->grid[dir][at]], dir, at);
	w->grid[dir][at] = 0;
	w->children[dir]--;
	return 0;
}

static int has_children(void *arg, const struct id *id)
{
	struct pw_world *w = arg;
	uint8_t node = pw_node(w, id);

	return node != PW_NOBODY && w->children[node] > 0;
}

static int last_name_get(void *arg, const struct id *id, struct id *ret_parent, char **ret_name)
{
	struct pw_world *w = arg;
	uint8_t node = pw_node(w, id);

	if (node == PW_NOBODY || w->last_parent[node] == PW_NOBODY)
		return -ENOENT;
	*ret_parent = w->ids[w->last_parent[node]];
	*ret_name = strdup(w->names[w->last_name[node]]);
	return *ret_name ? 0 : -ENOMEM;
}

static int last_name_put(void *arg, const struct id *id, const struct id *parent, const char *name)
{
	struct pw_world *w = arg;
	uint8_t node = pw_node(w, id);

	w->last_parent[node] = pw_node(w, parent);
	w->last_name[node] = pw_name(w, name);
	return 0;
}

static int alias_get(void *arg, const struct id *alias, struct id *ret_node)
{
	struct pw_world *w = arg;
	uint8_t node = pw_node(w, alias);

	if (node == PW_NOBODY || !w->alias[node])
		return -ENOENT;
	*ret_node = w->ids[w->alias[node]];
	return 0;
}

static int alias_put(void *arg, const struct id *alias, const struct id *to)
{
	struct pw_world *w = arg;

	w->alias[pw_node(w, alias)] = pw_node(w, to);
	return 0;
}

static int own_result(void *arg, uint64_t opno, const struct result **ret_result)
{
	struct pw_world *w = arg;

	if (opno == 0 || opno > w->results_count[w->sender])
		return -ENOENT;
	*ret_result = &w->results[w->sender][opno - 1];
	return 0;
}

static int had(void *arg, const struct id *node, uint64_t c, const struct content *content)
{
	const struct pw_world *w = arg;
	struct content then;

	(void)node; /* one content a commit */
	if (c >= PW_SEQS || !w->content_at[c])
		return 0;
	then = content_of(w->content_at[c]);
	return hash_equal(&then.hash, &content->hash);
}

static int seq_next(void *arg, uint64_t *ret_seq)
{
	struct pw_world *w = arg;

	*ret_seq = ++w->seq;
	if (w->seq >= PW_SEQS)
		pw_fault(w, "model: too many commits", 0);
	return 0;
}

static int place(void *arg, const struct place_step *step)
{
	(void)arg;
	(void)step;
	return 0;
}

/* ---- operations ---- */

static bool had_seen(const struct pw_world *w, int64_t base, uint32_t content)
{
	uint64_t c = base > 0 ? (uint64_t)base : 0;

	if (base < 0 && (uint64_t)-base <= w->results_count[w->sender])
		c = w->results[w->sender][-base - 1].c;
	return c > 0 && c < PW_SEQS && w->content_at[c] == content;
}

/* Bytes may leave the tree only by who had seen them, I2. */
static void check_vanished(struct pw_world *w, const struct op *op)
{
	for (unsigned i = 0; i < w->vanished_count; i++) {
		uint32_t content = w->vanished[i];
		bool seen = false;

		if (w->holders[content])
			continue;
		if (op->type == OP_WRITE || op->type == OP_UNLINK)
			seen = had_seen(w, op->base_c, content);
		if (op->type == OP_RENAME)
			seen = had_seen(w, op->other_base_c, content);
		if (!seen)
			pw_fault(w, "server: bytes left the tree that their remover had not seen", content);
	}
}

static void trace(const struct pw_world *w, unsigned client, const struct op *op, const struct result *r)
{
	printf("%c%u seq %u %s node %u %u/%s c%lld l%lld", client ? 'B' : 'A', (unsigned)op->opno, w->seq,
		op_word(op->type), pw_node(w, &op->node), pw_node(w, &op->parent), op->name ? op->name : "",
		(long long)op->base_c, (long long)op->base_l);
	if (op->type == OP_RENAME || op->type == OP_EXCHANGE)
		printf(" to %u/%s other %d c%lld l%lld", pw_node(w, &op->new_parent), op->new_name,
			id_is_none(&op->other) ? -1 : pw_node(w, &op->other), (long long)op->other_base_c,
			(long long)op->other_base_l);
	printf(": %s node %u c%u a%u l%u %s\n", outcome_word(r->outcome), pw_node(w, &r->node),
		(unsigned)r->c, (unsigned)r->a, (unsigned)r->l, r->name ? r->name : "");
}

const struct result *pw_commit(struct pw_world *w, unsigned client, const struct op *op)
{
	const struct commit_env env = {w, node_get, node_put, dentry_get, dentry_put, dentry_del,
		has_children, last_name_get, last_name_put, alias_get, alias_put, own_result, had, seq_next,
		place};
	const struct commit_sender sender = {
		.client = {{(uint8_t)(client + 1), 0xcc}}, .label = client ? "b" : "a"};
	struct result *result = &w->results[client][w->results_count[client]];
	int r;

	w->sender = client;
	w->vanished_count = 0;
	if (w->results_count[client] == PW_OPS) {
		pw_fault(w, "model: too many operations", 0);
		return NULL;
	}
	r = commit_apply(&env, &sender, op, result);
	if (r < 0) {
		pw_fault(w, "commit_apply() failed", (unsigned)-r);
		return NULL;
	}
	check_vanished(w, op);
	w->results_count[client]++;
	if (w->trace)
		trace(w, client, op, result);
	if (result->outcome == OUTCOME_REJECT)
		pw_fault(w, result->reason, pw_node(w, &op->node));
	w->kept_count += result->outcome == OUTCOME_KEPT;
	w->lost_count += result->outcome == OUTCOME_SUPERSEDED || result->outcome == OUTCOME_CYCLE;
	return result;
}

/* I8, once at the end: the rules are checked after every operation by other tests. */
void pw_check_server(struct pw_world *w)
{
	for (unsigned i = 1; i < w->nodes_count; i++) {
		const struct pw_row *row = &w->rows[i];
		unsigned at = i, depth = 0;

		if (!row->is)
			continue;
		if (row->tomb != (row->names_count == 0) || (row->tomb && w->children[i]))
			pw_fault(w, "server: bad tombstone", i);
		while (at && depth++ < PW_NODES) {
			if (w->rows[at].tomb && at != i)
				pw_fault(w, "server: orphan", i);
			at = w->rows[at].names_count ? w->rows[at].names[0].parent : 0;
		}
		if (at)
			pw_fault(w, "server: cycle", i);
	}
}

void pw_dump(const struct pw_world *w, const char *what, const struct pw_row *rows)
{
	printf("%s:\n", what);
	for (unsigned i = 1; i < w->nodes_count; i++) {
		const struct pw_row *row = &rows[i];

		if (!row->is)
			continue;
		printf("  %u kind %u%s seq %u c%u a%u content %u mode %o", i, row->kind,
			row->tomb ? " dead" : "", row->seq, row->c, row->a, row->content, row->mode);
		for (unsigned k = 0; k < row->names_count; k++)
			printf(" %u/%s l%u", row->names[k].parent, w->names[row->names[k].name],
				row->names[k].l);
		printf("\n");
	}
}

/* ---- the world ---- */

static void seed_client(struct pw_world *w, unsigned client, uint8_t node)
{
	struct pw_client *c = &w->clients[client];
	const struct pw_row *row = &w->rows[node];
	uint8_t object = pw_object_new(w, client, row->kind, row->content, row->mode);

	c->s[node] = *row;
	c->s[node].object = object;
	c->object_of[node] = object;
	c->objects[object].node = node;
	pw_cell_set(c, c->object_of[row->names[0].parent], row->names[0].name, object);
	c->cursor = w->seq;
}

uint8_t pw_seed_node(struct pw_world *w, enum kind kind, uint8_t parent, uint8_t name, uint32_t content)
{
	uint8_t node = pw_new_node(w);
	struct pw_row *row = &w->rows[node];

	w->seq++;
	*row = (struct pw_row){.is = true,
		.kind = (uint8_t)kind,
		.mode = 0644,
		.seq = w->seq,
		.c = w->seq,
		.a = w->seq,
		.content = kind == KIND_DIR ? 0 : content};
	pw_row_add(row, parent, name, w->seq);
	w->content_at[w->seq] = row->content;
	w->grid[parent][name] = node;
	w->children[parent]++;
	if (kind != KIND_DIR)
		hold(w, content);
	seed_client(w, 0, node);
	seed_client(w, 1, node);
	return node;
}

void pw_seed_link(struct pw_world *w, uint8_t node, uint8_t parent, uint8_t name)
{
	w->seq++;
	pw_row_add(&w->rows[node], parent, name, w->seq);
	w->rows[node].seq = w->seq;
	w->grid[parent][name] = node;
	w->children[parent]++;
	for (unsigned i = 0; i < 2; i++) {
		struct pw_client *c = &w->clients[i];
		uint8_t object = c->object_of[node];

		c->s[node] = w->rows[node];
		c->s[node].object = object;
		c->cursor = w->seq;
		pw_cell_set(c, c->object_of[parent], name, object);
	}
}

void pw_init(struct pw_world *w, uint64_t seed)
{
	bool trace_on = w->trace;

	memset(w, 0, sizeof(*w));
	w->trace = trace_on;
	w->random = seed * 0x9e3779b97f4a7c15u | 1;
	for (int i = 0; i < 4; i++)
		(void)pw_random(w);
	memset(w->last_parent, PW_NOBODY, sizeof(w->last_parent));
	(void)node_of_id(w, &ID_ROOT);
	w->rows[0] = (struct pw_row){.is = true, .kind = KIND_DIR};
	for (unsigned i = 0; i < 2; i++) {
		struct pw_client *c = &w->clients[i];

		c->objects_count = 1;
		(void)pw_object_new(w, i, KIND_DIR, 0, 0755);
		c->object_of[0] = 1;
	}
	if (!targets[1][0]) {
		for (unsigned i = 0; i < PW_CONTENTS; i++)
			(void)snprintf(targets[i], sizeof(targets[i]), "t%u", i);
	}
}

void pw_fini(struct pw_world *w)
{
	for (unsigned i = 0; i < w->names_count; i++)
		free(w->names[i]);
	for (unsigned k = 0; k < 2; k++) {
		for (unsigned i = 0; i < w->results_count[k]; i++)
			result_fini(&w->results[k][i]);
	}
}
