/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random histories against commit.h: three senders with bases that are right, stale, of their own operations
 * or made up. After every operation the tree is checked whole, and no content may leave it unless the
 * operation that took it away had seen it. The seed is printed and may be given: test_commit_random SEED.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <syncfs/clock.h>

#include "mem_commit.h"

#define OPS 20000
#define SENDERS 3
#define NODES_MAX (2 * OPS + 1)
#define NAMES_MANY 120 /* from here on most operations remove */
#define HISTORY 8 /* latest own operations that a base may name */

/* What is remembered of a node: by its number, which is in the first bytes of its id for those that senders
 * make. */
struct seen {
	struct id id;
	unsigned content; /* 0: dead or no file */
	uint64_t c; /* version of content */
};

struct history {
	struct mem_commit m;
	uint64_t random;
	struct seen *nodes;
	size_t nodes_count;
	struct map *index; /* id -> struct seen */
	unsigned holders[OPS + 1]; /* content -> live nodes that hold it */
	unsigned at_version[OPS + 1]; /* c -> content */
	uint64_t opno[SENDERS];
	uint64_t result_c[SENDERS][OPS + 1]; /* opno -> c, 0: none */
	size_t outcomes[8];
};

static uint64_t seed_given;

static uint64_t next(struct history *h)
{
	h->random ^= h->random << 13;
	h->random ^= h->random >> 7;
	h->random ^= h->random << 17;
	return h->random;
}

static size_t below(struct history *h, size_t n)
{
	return (next(h) >> 20) % n;
}

static struct seen *seen_of(struct history *h, const struct id *id)
{
	struct seen *s = map_get(h->index, id->b, ID_BYTES);

	if (!s) {
		assert_true(h->nodes_count < NODES_MAX);
		s = &h->nodes[h->nodes_count++];
		s->id = *id;
		assert_int_equal(map_put(h->index, id->b, ID_BYTES, s), 0);
	}
	return s;
}

/* Mostly among the latest nodes, so that senders meet. */
static const struct mem_node *any_node(struct history *h, struct id *ret_id)
{
	size_t span = h->nodes_count < 60 || below(h, 20) == 0 ? h->nodes_count : 60;

	if (h->nodes_count == 0) {
		*ret_id = ID_ROOT;
		return NULL;
	}
	*ret_id = h->nodes[h->nodes_count - 1 - below(h, span)].id;
	return mem_commit_node(&h->m, ret_id);
}

static struct id any_dir(struct history *h)
{
	struct id id;

	for (int i = 0; i < 12 && below(h, 4) > 0; i++) {
		const struct mem_node *n = any_node(h, &id);

		if (n && (n->row.kind == KIND_DIR || below(h, 50) == 0))
			return id;
	}
	return ID_ROOT;
}

static int64_t any_base(struct history *h, size_t who, uint64_t current)
{
	uint64_t back = below(h, HISTORY);

	switch (below(h, 12)) {
	case 0:
		return BASE_ANY;
	case 1:
		return 0;
	case 2:
	case 3:
		return current > 1 ? (int64_t)(1 + below(h, current)) : 0;
	case 4:
	case 5:
		return h->opno[who] > back ? -(int64_t)(h->opno[who] - back) : 0;
	}
	return (int64_t)current;
}

/* A name that the node has, or one of a few. */
static void any_name(
	struct history *h, const struct mem_node *n, struct id *ret_parent, char **ret_name, uint64_t *ret_l)
{
	static const char *const few[] = {"a", "b", "c.txt", "d", "e.d", ".f"};

	*ret_parent = any_dir(h);
	*ret_name = (char *)few[below(h, 6)];
	*ret_l = 1 + below(h, h->m.seq + 1);
	if (n && n->row.names_count && below(h, 8) > 0) {
		const struct dentry *d = &n->row.names[below(h, n->row.names_count)];

		*ret_parent = d->parent;
		*ret_name = d->name;
		*ret_l = d->l;
	}
}

static void fill_content(struct history *h, struct op *op, unsigned number)
{
	/* Now and then what somebody else has written, so that equal contents meet. */
	if (number > 1 && below(h, 5) == 0)
		number = 1 + (unsigned)below(h, number - 1);
	op->content.size = number;
	memcpy(op->content.hash.b, &number, sizeof(number));
}

static void fill_create(struct history *h, struct op *op, unsigned number)
{
	static const char *const targets[] = {"t1", "t2"};
	uint64_t l;

	op->type = OP_CREATE;
	op->kind = below(h, 3) == 0 ? KIND_DIR : below(h, 8) == 0 ? KIND_SYMLINK : KIND_FILE;
	op->target = op->kind == KIND_SYMLINK ? (char *)targets[below(h, 2)] : NULL;
	if (below(h, 40) == 0) {
		(void)any_node(h, &op->node); /* used before */
	} else {
		memcpy(op->node.b, &number, sizeof(number));
		op->node.b[15] = 0x77;
	}
	any_name(h, NULL, &op->parent, &op->name, &l);
	fill_content(h, op, number);
}

/* The tree has grown large: something of it is to go, whether its sender has seen the latest or not. */
static bool fill_removal(struct history *h, size_t who, struct op *op)
{
	const struct mem_node *n = NULL;
	uint64_t l;

	for (int i = 0; i < 100 && (!n || n->row.tomb); i++) {
		op->node = h->nodes[below(h, h->nodes_count)].id;
		n = mem_commit_node(&h->m, &op->node);
	}
	if (!n || n->row.tomb)
		return false;
	op->type = n->row.kind == KIND_DIR ? OP_RMDIR : OP_UNLINK;
	any_name(h, n, &op->parent, &op->name, &l);
	op->base_c = any_base(h, who, n->row.c);
	op->base_l = any_base(h, who, l);
	return true;
}

static void fill(struct history *h, size_t who, unsigned number, struct op *op)
{
	static const enum op_type types[] = {OP_CREATE, OP_CREATE, OP_CREATE, OP_WRITE, OP_WRITE, OP_WRITE,
		OP_RENAME, OP_RENAME, OP_RENAME, OP_EXCHANGE, OP_LINK, OP_UNLINK, OP_UNLINK, OP_UNLINK,
		OP_RMDIR, OP_SETATTR};
	enum op_type type = types[below(h, sizeof(types) / sizeof(types[0]))];
	const struct mem_node *n, *other;
	uint64_t l, other_l;

	*op = (struct op){.type = type, .opno = ++h->opno[who]};
	if (map_count(h->m.dentries) > NAMES_MANY && below(h, 3) > 0 && fill_removal(h, who, op))
		return;
	if (type == OP_CREATE) {
		fill_create(h, op, number);
		return;
	}
	n = any_node(h, &op->node);
	for (int i = 0; i < 20 && n && (n->row.kind == KIND_DIR) != (type == OP_RMDIR) && type != OP_RENAME;
		i++)
		n = any_node(h, &op->node);
	if (n && n->row.kind == KIND_SYMLINK)
		op->target = (char *)"t3";
	any_name(h, n, &op->parent, &op->name, &l);
	op->base_c = any_base(h, who, n ? n->row.c : 0);
	op->base_a = any_base(h, who, n ? n->row.a : 0);
	op->base_l = any_base(h, who, l);
	fill_content(h, op, number);
	if (type == OP_SETATTR || below(h, 4) == 0) {
		op->fields |= OP_HAS_MODE | OP_HAS_MTIME;
		op->mode = (uint32_t)below(h, 01000);
		op->mtime_ns = (int64_t)below(h, 3);
	}
	other = any_node(h, &op->other);
	any_name(h, other, &op->new_parent, &op->new_name, &other_l);
	op->other_base_c = any_base(h, who, other ? other->row.c : 0);
	op->other_base_l = any_base(h, who, other_l);
	if (type == OP_LINK)
		any_name(h, NULL, &op->parent, &op->name, &l);
	if (type == OP_RENAME && below(h, 2) == 0) {
		op->other = ID_NONE;
		any_name(h, NULL, &op->new_parent, &op->new_name, &other_l);
		op->fields |= below(h, 4) == 0 ? OP_NOREPLACE : 0;
	}
}

/* Whether the sender of the base had seen the content. */
static bool had_seen(const struct history *h, size_t who, int64_t base, unsigned content)
{
	uint64_t c;

	if (base == BASE_ANY)
		return true;
	c = base > 0 ? (uint64_t)base : base < 0 ? h->result_c[who][-base] : 0;
	return c > 0 && c <= OPS && h->at_version[c] == content;
}

static bool may_vanish(const struct history *h, size_t who, const struct op *op, unsigned content)
{
	if (op->type == OP_WRITE || op->type == OP_UNLINK)
		return had_seen(h, who, op->base_c, content);
	return op->type == OP_RENAME && had_seen(h, who, op->other_base_c, content);
}

static unsigned content_of(const struct mem_node *n)
{
	return n && !n->row.tomb && n->row.kind == KIND_FILE ? (unsigned)n->row.content.size : 0;
}

/* Takes the changes of the last operation into the books; fails when a content is gone that nobody had seen.
 */
static void account(struct history *h, size_t who, const struct op *op, const struct result *r)
{
	unsigned gone[8];
	size_t gone_count = 0;
	bool content_op =
		(op->type == OP_CREATE && op->kind == KIND_FILE) || (op->type == OP_WRITE && !op->target);
	bool accepted = r->outcome == OUTCOME_OK || r->outcome == OUTCOME_SAME || r->outcome == OUTCOME_KEPT;

	for (size_t i = 0; i < h->m.touched_count; i++) {
		struct seen *s = seen_of(h, &h->m.touched[i]);
		const struct mem_node *n = mem_commit_node(&h->m, &s->id);
		unsigned now = content_of(n);

		if (n->row.c == h->m.seq && n->row.kind == KIND_FILE)
			h->at_version[n->row.c] = (unsigned)n->row.content.size;
		if (s->content == now)
			continue;
		if (s->content && gone_count < 8)
			gone[gone_count++] = s->content;
		h->holders[s->content]--;
		h->holders[now]++;
		s->content = now;
	}
	for (size_t i = 0; i < gone_count; i++) {
		if (h->holders[gone[i]] == 0 && !may_vanish(h, who, op, gone[i]))
			fail_msg("op %u type %d outcome %d: content %u is lost", (unsigned)op->opno, op->type,
				r->outcome, gone[i]);
	}
	if (accepted && content_op)
		assert_true(h->holders[op->content.size] > 0);
	h->result_c[who][op->opno] = accepted ? r->c : 0;
}

static void one(struct history *h, unsigned number)
{
	static const char *const labels[SENDERS] = {"laptop", NULL, "desk/top"};
	size_t who = below(h, SENDERS);
	struct commit_sender sender = {.client = {{(uint8_t)who, 0xcc}}, .label = labels[who]};
	struct result r;
	const char *why;
	struct op op;

	fill(h, who, number, &op);
	assert_int_equal(mem_commit_apply(&h->m, &sender, &op, &r), 0);
	why = mem_commit_check(&h->m);
	if (why)
		fail_msg("op %u type %d outcome %d: %s", number, op.type, r.outcome, why);
	if (r.outcome == OUTCOME_REJECT || r.outcome == OUTCOME_CYCLE)
		assert_int_equal(h->m.seq, h->m.seq_before);
	if (r.outcome == OUTCOME_KEPT && !r.name)
		fail_msg("kept without a name");
	account(h, who, &op, &r);
	h->outcomes[r.outcome]++;
	result_fini(&r);
}

static void test_random(void **state)
{
	struct history *h = calloc(1, sizeof(*h));
	uint64_t seed = seed_given ? seed_given : (uint64_t)clock_wall_ns() | 1;

	assert_non_null(h);
	print_message("seed %llu\n", (unsigned long long)seed);
	h->random = seed;
	h->nodes = calloc(NODES_MAX, sizeof(*h->nodes));
	h->index = map_new();
	assert_non_null(h->nodes);
	assert_non_null(h->index);
	mem_commit_init(&h->m);
	for (unsigned i = 1; i <= OPS; i++)
		one(h, i);
	for (int i = OUTCOME_OK; i <= OUTCOME_REJECT; i++)
		print_message("outcome %d: %zu\n", i, h->outcomes[i]);
	print_message("names %zu, nodes %zu, aliases %zu\n", map_count(h->m.dentries), map_count(h->m.nodes),
		map_count(h->m.aliases));
	/* The history has been a lively one. */
	assert_true(h->outcomes[OUTCOME_OK] > OPS / 5);
	assert_true(h->outcomes[OUTCOME_SAME] > OPS / 100);
	assert_true(h->outcomes[OUTCOME_KEPT] > OPS / 100);
	assert_true(h->outcomes[OUTCOME_SUPERSEDED] > OPS / 100);
	mem_commit_fini(&h->m);
	map_free(h->index);
	free(h->nodes);
	free(h);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_random),
	};

	if (argc > 1)
		seed_given = strtoull(argv[1], NULL, 10);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
