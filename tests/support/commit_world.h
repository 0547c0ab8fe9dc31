/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One namespace, some senders, and one short function per operation, for test programs of the commit rules
 * (included once by each). Every operation is followed by a check of the whole tree. Nodes and contents are
 * small numbers.
 */
#ifndef SYNCFS_COMMIT_WORLD_H
#define SYNCFS_COMMIT_WORLD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <syncfs/conflict.h>
#include <syncfs/limits.h>

#include "mem_commit.h"

enum { A = 1, B = 2, C = 3, D = 4, E = 5 };
#define ROOT 0 /* node number */
#define NONE (-1)
#define ANY BASE_ANY

/* A namespace, the senders' counters, and the last result. Nodes and contents are small numbers. */
struct world {
	struct mem_commit m;
	uint64_t opno[8];
	struct result last;
	char last_name[NAME_MAX_BYTES + 1];
};

static struct world w;

static inline struct id node_id(int n)
{
	struct id id = {{0x11}};

	if (n == ROOT)
		return ID_ROOT;
	if (n == NONE)
		return ID_NONE;
	id.b[14] = (uint8_t)(n >> 8);
	id.b[15] = (uint8_t)n;
	return id;
}

static inline struct content content_of(int x)
{
	struct content content = {.size = 100, .hash = {{(uint8_t)x, (uint8_t)(x >> 8), 1}}};

	return content;
}

static inline int setup(void **state)
{
	memset(&w, 0, sizeof(w));
	mem_commit_init(&w.m);
	return 0;
}

static inline int teardown(void **state)
{
	mem_commit_fini(&w.m);
	return 0;
}

static inline int apply(int who, struct op *op)
{
	struct commit_sender sender = {.client = {{(uint8_t)who, 0xcc}}, .label = "laptop"};
	struct result r;
	const char *why;

	op->opno = ++w.opno[who];
	assert_int_equal(mem_commit_apply(&w.m, &sender, op, &r), 0);
	why = mem_commit_check(&w.m);
	if (why)
		fail_msg("%s", why);
	assert_int_equal(r.opno, op->opno);
	if (r.outcome == OUTCOME_REJECT) {
		assert_non_null(r.reason);
		assert_int_equal(w.m.seq, w.m.seq_before);
	}
	w.last = r;
	w.last_name[0] = '\0';
	if (r.name)
		(void)snprintf(w.last_name, sizeof(w.last_name), "%s", r.name);
	result_fini(&r);
	return (int)w.last.outcome;
}

static inline int64_t own(int who) /* base: what who's latest operation produced */
{
	return -(int64_t)w.opno[who];
}

static inline int file(int who, int node, int parent, const char *name, int x)
{
	struct op op = {.type = OP_CREATE,
		.kind = KIND_FILE,
		.node = node_id(node),
		.parent = node_id(parent),
		.name = (char *)name,
		.content = content_of(x)};

	return apply(who, &op);
}

static inline int dir(int who, int node, int parent, const char *name)
{
	struct op op = {.type = OP_CREATE,
		.kind = KIND_DIR,
		.node = node_id(node),
		.parent = node_id(parent),
		.name = (char *)name};

	return apply(who, &op);
}

static inline int symlink_(int who, int node, int parent, const char *name, const char *target)
{
	struct op op = {.type = OP_CREATE,
		.kind = KIND_SYMLINK,
		.node = node_id(node),
		.parent = node_id(parent),
		.name = (char *)name,
		.target = (char *)target};

	return apply(who, &op);
}

static inline int edit(int who, int node, int64_t base_c, int x)
{
	struct op op = {.type = OP_WRITE, .node = node_id(node), .base_c = base_c, .content = content_of(x)};

	return apply(who, &op);
}

static inline int retarget(int who, int node, int64_t base_c, const char *target)
{
	struct op op = {.type = OP_WRITE, .node = node_id(node), .base_c = base_c, .target = (char *)target};

	return apply(who, &op);
}

static inline int over_l(int who, int node, int parent, const char *name, int64_t base_l, int new_parent,
	const char *new_name, int other, int64_t other_base_c, int64_t other_base_l)
{
	struct op op = {.type = OP_RENAME,
		.node = node_id(node),
		.parent = node_id(parent),
		.name = (char *)name,
		.base_l = base_l,
		.new_parent = node_id(new_parent),
		.new_name = (char *)new_name,
		.other = node_id(other),
		.other_base_c = other_base_c,
		.other_base_l = other_base_l};

	return apply(who, &op);
}

static inline int over(int who, int node, int parent, const char *name, int64_t base_l, int new_parent,
	const char *new_name, int other, int64_t other_base_c)
{
	return over_l(who, node, parent, name, base_l, new_parent, new_name, other, other_base_c, 0);
}

static inline int mv(
	int who, int node, int parent, const char *name, int64_t base_l, int new_parent, const char *new_name)
{
	return over(who, node, parent, name, base_l, new_parent, new_name, NONE, 0);
}

static inline int mv_noreplace(int who, int node, const char *name, int64_t base_l, const char *new_name)
{
	struct op op = {.type = OP_RENAME,
		.fields = OP_NOREPLACE,
		.node = node_id(node),
		.parent = ID_ROOT,
		.name = (char *)name,
		.base_l = base_l,
		.new_parent = ID_ROOT,
		.new_name = (char *)new_name};

	return apply(who, &op);
}

static inline int swap(
	int who, int a, const char *a_name, int64_t a_l, int b, const char *b_name, int64_t b_l)
{
	struct op op = {.type = OP_EXCHANGE,
		.node = node_id(a),
		.parent = ID_ROOT,
		.name = (char *)a_name,
		.base_l = a_l,
		.other = node_id(b),
		.new_parent = ID_ROOT,
		.new_name = (char *)b_name,
		.other_base_l = b_l};

	return apply(who, &op);
}

static inline int hard(int who, int node, int parent, const char *name)
{
	struct op op = {
		.type = OP_LINK, .node = node_id(node), .parent = node_id(parent), .name = (char *)name};

	return apply(who, &op);
}

static inline int rm(int who, int node, int parent, const char *name, int64_t base_c, int64_t base_l)
{
	struct op op = {.type = OP_UNLINK,
		.node = node_id(node),
		.parent = node_id(parent),
		.name = (char *)name,
		.base_c = base_c,
		.base_l = base_l};

	return apply(who, &op);
}

static inline int rmd(int who, int node, int parent, const char *name, int64_t base_l)
{
	struct op op = {.type = OP_RMDIR,
		.node = node_id(node),
		.parent = node_id(parent),
		.name = (char *)name,
		.base_l = base_l};

	return apply(who, &op);
}

static inline int chmod_(int who, int node, uint32_t mode)
{
	struct op op = {.type = OP_SETATTR, .fields = OP_HAS_MODE, .node = node_id(node), .mode = mode};

	return apply(who, &op);
}

static inline int touch(int who, int node, int64_t mtime_ns)
{
	struct op op = {
		.type = OP_SETATTR, .fields = OP_HAS_MTIME, .node = node_id(node), .mtime_ns = mtime_ns};

	return apply(who, &op);
}

/* The content number at path; -1 nothing there, -2 no file. */
static inline int at(const char *path)
{
	const struct node_state *n = mem_commit_find(&w.m, path);

	if (!n)
		return -1;
	return n->kind == KIND_FILE ? n->content.hash.b[0] | n->content.hash.b[1] << 8 : -2;
}

/* The node number at path. */
static inline int who_is(const char *path)
{
	const struct node_state *n = mem_commit_find(&w.m, path);

	return n ? n->node.b[14] << 8 | n->node.b[15] : -1;
}

static inline bool is_dead(int node)
{
	struct id id = node_id(node);

	return mem_commit_node(&w.m, &id)->row.tomb;
}

/* All names of the namespace, and how many of them are conflict names. */
static inline size_t names(size_t *ret_copies)
{
	const void *key;
	size_t pos = 0, len, count = 0;
	void *value;

	*ret_copies = 0;
	while (map_next(w.m.dentries, &pos, &key, &len, &value)) {
		count++;
		*ret_copies += conflict_name_is(((struct mem_dentry *)value)->name);
	}
	return count;
}

#define EXPECT_NAMES(all, copies_)                                                                           \
	do {                                                                                                 \
		size_t copies;                                                                               \
		assert_int_equal(names(&copies), all);                                                       \
		assert_int_equal(copies, copies_);                                                           \
	} while (0)
#define OK(call) assert_int_equal(call, OUTCOME_OK)
#define SAME(call) assert_int_equal(call, OUTCOME_SAME)
#define KEPT(call) assert_int_equal(call, OUTCOME_KEPT)
#define LOST(call) assert_int_equal(call, OUTCOME_SUPERSEDED)
#define CYCLE(call) assert_int_equal(call, OUTCOME_CYCLE)
#define REJECT(call, error)                                                                                  \
	do {                                                                                                 \
		assert_int_equal(call, OUTCOME_REJECT);                                                      \
		assert_int_equal(w.last.code, error);                                                        \
	} while (0)

/* "/f" is node 1 with content 1, and everybody has seen it: c = l = a = 1. */
#define F 1
#define C1 1
#define L1 1

static inline void with_f(void)
{
	OK(file(A, F, ROOT, "f", 1));
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

#endif
