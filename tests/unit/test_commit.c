/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests of commit.h: every row of the conflict matrix (the row's number is in the test's name), what is
 * refused, bases on own operations. Random histories: test_commit_random.c. After every operation the tree is
 * checked whole.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
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

static struct id node_id(int n)
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

static struct content content_of(int x)
{
	struct content content = {.size = 100, .hash = {{(uint8_t)x, (uint8_t)(x >> 8), 1}}};

	return content;
}

static int setup(void **state)
{
	memset(&w, 0, sizeof(w));
	mem_commit_init(&w.m);
	return 0;
}

static int teardown(void **state)
{
	mem_commit_fini(&w.m);
	return 0;
}

static int apply(int who, struct op *op)
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

static int64_t own(int who) /* base: what who's latest operation produced */
{
	return -(int64_t)w.opno[who];
}

static int file(int who, int node, int parent, const char *name, int x)
{
	struct op op = {.type = OP_CREATE,
		.kind = KIND_FILE,
		.node = node_id(node),
		.parent = node_id(parent),
		.name = (char *)name,
		.content = content_of(x)};

	return apply(who, &op);
}

static int dir(int who, int node, int parent, const char *name)
{
	struct op op = {.type = OP_CREATE,
		.kind = KIND_DIR,
		.node = node_id(node),
		.parent = node_id(parent),
		.name = (char *)name};

	return apply(who, &op);
}

static int symlink_(int who, int node, int parent, const char *name, const char *target)
{
	struct op op = {.type = OP_CREATE,
		.kind = KIND_SYMLINK,
		.node = node_id(node),
		.parent = node_id(parent),
		.name = (char *)name,
		.target = (char *)target};

	return apply(who, &op);
}

static int edit(int who, int node, int64_t base_c, int x)
{
	struct op op = {.type = OP_WRITE, .node = node_id(node), .base_c = base_c, .content = content_of(x)};

	return apply(who, &op);
}

static int retarget(int who, int node, int64_t base_c, const char *target)
{
	struct op op = {.type = OP_WRITE, .node = node_id(node), .base_c = base_c, .target = (char *)target};

	return apply(who, &op);
}

static int over(int who, int node, int parent, const char *name, int64_t base_l, int new_parent,
	const char *new_name, int other, int64_t other_base_c)
{
	struct op op = {.type = OP_RENAME,
		.node = node_id(node),
		.parent = node_id(parent),
		.name = (char *)name,
		.base_l = base_l,
		.new_parent = node_id(new_parent),
		.new_name = (char *)new_name,
		.other = node_id(other),
		.other_base_c = other_base_c};

	return apply(who, &op);
}

static int mv(
	int who, int node, int parent, const char *name, int64_t base_l, int new_parent, const char *new_name)
{
	return over(who, node, parent, name, base_l, new_parent, new_name, NONE, 0);
}

static int mv_noreplace(int who, int node, const char *name, int64_t base_l, const char *new_name)
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

static int swap(int who, int a, const char *a_name, int64_t a_l, int b, const char *b_name, int64_t b_l)
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

static int hard(int who, int node, int parent, const char *name)
{
	struct op op = {
		.type = OP_LINK, .node = node_id(node), .parent = node_id(parent), .name = (char *)name};

	return apply(who, &op);
}

static int rm(int who, int node, int parent, const char *name, int64_t base_c, int64_t base_l)
{
	struct op op = {.type = OP_UNLINK,
		.node = node_id(node),
		.parent = node_id(parent),
		.name = (char *)name,
		.base_c = base_c,
		.base_l = base_l};

	return apply(who, &op);
}

static int rmd(int who, int node, int parent, const char *name, int64_t base_l)
{
	struct op op = {.type = OP_RMDIR,
		.node = node_id(node),
		.parent = node_id(parent),
		.name = (char *)name,
		.base_l = base_l};

	return apply(who, &op);
}

static int chmod_(int who, int node, uint32_t mode)
{
	struct op op = {.type = OP_SETATTR, .fields = OP_HAS_MODE, .node = node_id(node), .mode = mode};

	return apply(who, &op);
}

static int touch(int who, int node, int64_t mtime_ns)
{
	struct op op = {
		.type = OP_SETATTR, .fields = OP_HAS_MTIME, .node = node_id(node), .mtime_ns = mtime_ns};

	return apply(who, &op);
}

/* The content number at path; -1 nothing there, -2 no file. */
static int at(const char *path)
{
	const struct node_state *n = mem_commit_find(&w.m, path);

	if (!n)
		return -1;
	return n->kind == KIND_FILE ? n->content.hash.b[0] | n->content.hash.b[1] << 8 : -2;
}

/* The node number at path. */
static int who_is(const char *path)
{
	const struct node_state *n = mem_commit_find(&w.m, path);

	return n ? n->node.b[14] << 8 | n->node.b[15] : -1;
}

static bool is_dead(int node)
{
	struct id id = node_id(node);

	return mem_commit_node(&w.m, &id)->row.tomb;
}

/* All names of the namespace, and how many of them are conflict names. */
static size_t names(size_t *ret_copies)
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

static void with_f(void)
{
	OK(file(A, F, ROOT, "f", 1));
}

static void test_01_edit_edit(void **state)
{
	with_f();
	OK(edit(A, F, C1, 2));
	KEPT(edit(B, F, C1, 3));
	assert_int_equal(at("f"), 2);
	assert_true(conflict_name_is(w.last_name));
	assert_int_equal(at(w.last_name), 3);
	assert_true(id_equal(&w.last.parent, &ID_ROOT));
	EXPECT_NAMES(2, 1);
}

static void test_02_edit_edit_same(void **state)
{
	with_f();
	OK(edit(A, F, C1, 2));
	SAME(edit(B, F, C1, 2));
	assert_int_equal(w.last.c, 2);
	EXPECT_NAMES(1, 0);
}

static void test_03_edit_delete(void **state)
{
	with_f();
	OK(edit(A, F, C1, 2));
	LOST(rm(B, F, ROOT, "f", C1, L1));
	assert_int_equal(at("f"), 2);
}

static void test_04_delete_edit(void **state)
{
	with_f();
	OK(rm(A, F, ROOT, "f", C1, L1));
	OK(edit(B, F, C1, 2));
	assert_int_equal(at("f"), 2);
	assert_int_equal(who_is("f"), F);
	EXPECT_NAMES(1, 0);
}

static void test_05_delete_delete(void **state)
{
	with_f();
	OK(rm(A, F, ROOT, "f", C1, L1));
	SAME(rm(B, F, ROOT, "f", C1, L1));
	EXPECT_NAMES(0, 0);
}

static void test_06_rename_same(void **state)
{
	with_f();
	OK(mv(A, F, ROOT, "f", L1, ROOT, "p"));
	SAME(mv(B, F, ROOT, "f", L1, ROOT, "p"));
	assert_int_equal(w.last.l, 2);
	EXPECT_NAMES(1, 0);
}

static void test_07_rename_rename(void **state)
{
	with_f();
	OK(mv(A, F, ROOT, "f", L1, ROOT, "p"));
	LOST(mv(B, F, ROOT, "f", L1, ROOT, "q"));
	/* What B does to its lost name next is based on nothing. */
	LOST(mv(B, F, ROOT, "q", own(B), ROOT, "r"));
	LOST(rm(B, F, ROOT, "r", C1, own(B)));
	assert_int_equal(at("p"), 1);
	EXPECT_NAMES(1, 0);
}

static void test_08_rename_edit(void **state)
{
	with_f();
	OK(mv(A, F, ROOT, "f", L1, ROOT, "p"));
	OK(edit(B, F, C1, 2));
	assert_int_equal(at("p"), 2);
	EXPECT_NAMES(1, 0);
}

static void test_09_edit_rename(void **state)
{
	with_f();
	OK(edit(A, F, C1, 2));
	OK(mv(B, F, ROOT, "f", L1, ROOT, "p"));
	assert_int_equal(at("p"), 2);
	EXPECT_NAMES(1, 0);
}

static void test_10_rename_delete(void **state)
{
	with_f();
	OK(mv(A, F, ROOT, "f", L1, ROOT, "p"));
	LOST(rm(B, F, ROOT, "f", C1, L1));
	assert_int_equal(at("p"), 1);
}

static void test_11_delete_rename(void **state)
{
	with_f();
	OK(rm(A, F, ROOT, "f", C1, L1));
	OK(mv(B, F, ROOT, "f", L1, ROOT, "p"));
	assert_int_equal(at("p"), 1);
	assert_int_equal(w.m.last_step, PLACE_RESURRECT);
	EXPECT_NAMES(1, 0);
}

static void test_12_create_create_same(void **state)
{
	OK(file(A, 1, ROOT, "n", 7));
	SAME(file(B, 2, ROOT, "n", 7));
	assert_true(id_equal(&w.last.node, &(struct id){{0x11, [15] = 1}}));
	/* B goes on under its own id. */
	OK(edit(B, 2, own(B), 8));
	assert_int_equal(at("n"), 8);
	OK(symlink_(A, 3, ROOT, "s", "t"));
	SAME(symlink_(B, 4, ROOT, "s", "t"));
	EXPECT_NAMES(2, 0);
}

static void test_13_create_create(void **state)
{
	OK(file(A, 1, ROOT, "n", 7));
	KEPT(file(B, 2, ROOT, "n", 8));
	assert_int_equal(at("n"), 7);
	assert_int_equal(at(w.last_name), 8);
	assert_int_equal(who_is(w.last_name), 2);
	EXPECT_NAMES(2, 1);
}

static void test_14_mkdir_mkdir(void **state)
{
	OK(dir(A, 1, ROOT, "d"));
	OK(file(A, 11, 1, "x", 5));
	OK(file(A, 12, 1, "y", 6));
	SAME(dir(B, 2, ROOT, "d"));
	SAME(file(B, 21, 2, "x", 5));
	KEPT(file(B, 22, 2, "y", 7));
	OK(file(B, 23, 2, "z", 8));
	assert_int_equal(at("d/z"), 8);
	EXPECT_NAMES(5, 1);
}

static void test_15_create_other_kind(void **state)
{
	char path[NAME_MAX_BYTES + 8];

	OK(file(A, 1, ROOT, "n", 7));
	KEPT(dir(B, 2, ROOT, "n"));
	(void)snprintf(path, sizeof(path), "%s/x", w.last_name);
	OK(file(B, 3, 2, "x", 8));
	assert_int_equal(at(path), 8);
	OK(dir(A, 4, ROOT, "m"));
	KEPT(file(B, 5, ROOT, "m", 9));
	KEPT(symlink_(B, 6, ROOT, "n", "t"));
	KEPT(symlink_(B, 7, ROOT, "m", "t"));
	assert_int_equal(who_is("n"), 1);
	assert_int_equal(who_is("m"), 4);
	EXPECT_NAMES(7, 4);
}

static void test_16_rename_create(void **state)
{
	with_f();
	OK(mv(A, F, ROOT, "f", L1, ROOT, "n"));
	KEPT(file(B, 2, ROOT, "n", 2));
	EXPECT_NAMES(2, 1);
	/* The other order, and with equal content. */
	OK(file(A, 3, ROOT, "g", 3));
	OK(file(B, 4, ROOT, "m", 4));
	KEPT(mv(A, 3, ROOT, "g", 4, ROOT, "m"));
	assert_int_equal(at("m"), 4);
	assert_int_equal(at(w.last_name), 3);
	OK(file(A, 5, ROOT, "h", 4));
	SAME(mv(A, 5, ROOT, "h", own(A), ROOT, "m"));
	assert_int_equal(at("h"), -1);
	EXPECT_NAMES(4, 2);
}

/* Atomic saves of t (node 1) by A and B from temporary files. */
static void test_17_save_save(void **state)
{
	OK(file(A, 1, ROOT, "t", 1));
	OK(file(A, 2, ROOT, "a.tmp", 2));
	OK(over(A, 2, ROOT, "a.tmp", own(A), ROOT, "t", 1, C1));
	OK(file(B, 3, ROOT, "b.tmp", 3));
	KEPT(over(B, 3, ROOT, "b.tmp", own(B), ROOT, "t", 1, C1));
	assert_int_equal(at("t"), 2);
	assert_int_equal(at(w.last_name), 3);
	assert_int_equal(strncmp(w.last_name, "t (conflict laptop ", 19), 0);
	assert_true(is_dead(1));
	EXPECT_NAMES(2, 1);
	/* B saves again over what it thinks is t: its copy follows, no further one. */
	OK(file(B, 4, ROOT, "b.tmp", 4));
	KEPT(over(B, 4, ROOT, "b.tmp", own(B), ROOT, "t", 3, -1));
	assert_int_equal(at(w.last_name), 4);
	EXPECT_NAMES(2, 1);
}

static void test_17_save_save_same(void **state)
{
	OK(file(A, 1, ROOT, "t", 1));
	OK(file(A, 2, ROOT, "a.tmp", 2));
	OK(over(A, 2, ROOT, "a.tmp", own(A), ROOT, "t", 1, C1));
	OK(file(B, 3, ROOT, "b.tmp", 2));
	SAME(over(B, 3, ROOT, "b.tmp", own(B), ROOT, "t", 1, C1));
	assert_int_equal(who_is("t"), 2);
	/* B's next edit is based on its own create: it saw just these bytes. */
	OK(edit(B, 3, -1, 5));
	assert_int_equal(at("t"), 5);
	EXPECT_NAMES(1, 0);
}

static void test_18_edit_save(void **state)
{
	OK(file(A, 1, ROOT, "t", 1));
	OK(edit(A, 1, C1, 2));
	OK(file(B, 3, ROOT, "b.tmp", 3));
	KEPT(over(B, 3, ROOT, "b.tmp", own(B), ROOT, "t", 1, C1));
	assert_int_equal(at("t"), 2);
	assert_int_equal(at(w.last_name), 3);
	EXPECT_NAMES(2, 1);
}

static void test_19_save_delete(void **state)
{
	OK(file(A, 1, ROOT, "t", 1));
	OK(file(A, 2, ROOT, "a.tmp", 2));
	OK(over(A, 2, ROOT, "a.tmp", own(A), ROOT, "t", 1, C1));
	SAME(rm(B, 1, ROOT, "t", C1, L1));
	assert_int_equal(at("t"), 2);
	/* The other order. */
	OK(rm(B, 2, ROOT, "t", 2, 3));
	OK(file(A, 3, ROOT, "a.tmp", 3));
	OK(over(A, 3, ROOT, "a.tmp", own(A), ROOT, "t", 2, 2));
	assert_int_equal(at("t"), 3);
	EXPECT_NAMES(1, 0);
}

static void test_20_save_edit(void **state)
{
	OK(file(A, 1, ROOT, "t", 1));
	OK(file(A, 2, ROOT, "a.tmp", 2));
	OK(over(A, 2, ROOT, "a.tmp", own(A), ROOT, "t", 1, C1));
	KEPT(edit(B, 1, C1, 3));
	assert_int_equal(at("t"), 2);
	assert_int_equal(at(w.last_name), 3);
	EXPECT_NAMES(2, 1);
}

static void with_tree(void)
{
	OK(dir(A, 10, ROOT, "d"));
	OK(dir(A, 11, 10, "e"));
	OK(file(A, 12, 11, "f", 1));
	OK(file(A, 13, 11, "g", 2));
}

static void without_tree(int who)
{
	OK(rm(who, 12, 11, "f", 3, 3));
	OK(rm(who, 13, 11, "g", 4, 4));
	OK(rmd(who, 11, 10, "e", 2));
	OK(rmd(who, 10, ROOT, "d", 1));
}

static void test_21_rmdir_edit(void **state)
{
	with_tree();
	without_tree(A);
	OK(edit(B, 12, 3, 5));
	assert_int_equal(at("d/e/f"), 5);
	assert_int_equal(who_is("d/e"), 11);
	EXPECT_NAMES(3, 0);
}

static void test_21_rmdir_create(void **state)
{
	with_tree();
	without_tree(A);
	OK(file(B, 20, 11, "new", 5));
	assert_int_equal(at("d/e/new"), 5);
	EXPECT_NAMES(3, 0);
	/* The name of the dead directory is another directory's now: the two are one. */
	OK(rm(A, 20, 11, "new", ANY, ANY));
	OK(rmd(A, 11, 10, "e", ANY));
	OK(dir(A, 30, 10, "e"));
	OK(file(B, 21, 11, "new2", 6));
	assert_int_equal(at("d/e/new2"), 6);
	assert_int_equal(who_is("d/e"), 30);
	/* A file's: the directory comes back beside it. */
	OK(rm(A, 21, 30, "new2", ANY, ANY));
	OK(rmd(A, 30, 10, "e", ANY));
	OK(file(A, 31, 10, "e", 7));
	OK(file(B, 22, 30, "new3", 8));
	assert_int_equal(at("d/e"), 7);
	EXPECT_NAMES(4, 1);
}

static void test_22_create_rm_r(void **state)
{
	with_tree();
	OK(file(A, 20, 11, "new", 5));
	OK(edit(A, 12, 3, 6));
	LOST(rm(B, 12, 11, "f", 3, 3));
	OK(rm(B, 13, 11, "g", 4, 4));
	LOST(rmd(B, 11, 10, "e", 2));
	LOST(rmd(B, 10, ROOT, "d", 1));
	assert_int_equal(at("d/e/new"), 5);
	assert_int_equal(at("d/e/f"), 6);
	EXPECT_NAMES(4, 0);
}

static void test_23_24_rename_dir_child(void **state)
{
	with_tree();
	OK(mv(A, 10, ROOT, "d", 1, ROOT, "x"));
	OK(file(B, 20, 10, "n", 5));
	OK(edit(B, 12, 3, 6));
	OK(mv(A, 10, ROOT, "x", own(A), ROOT, "y"));
	assert_int_equal(at("y/n"), 5);
	assert_int_equal(at("y/e/f"), 6);
	EXPECT_NAMES(5, 0);
}

static void test_25_rename_dir_twice(void **state)
{
	with_tree();
	OK(mv(A, 10, ROOT, "d", 1, ROOT, "x"));
	LOST(mv(B, 10, ROOT, "d", 1, ROOT, "y"));
	assert_int_equal(at("x/e/f"), 1);
	EXPECT_NAMES(4, 0);
}

static void test_26_rename_dir_rm_r(void **state)
{
	with_tree();
	OK(edit(A, 13, 4, 9));
	OK(mv(A, 10, ROOT, "d", 1, ROOT, "x"));
	OK(rm(B, 12, 11, "f", 3, 3));
	LOST(rm(B, 13, 11, "g", 4, 4));
	LOST(rmd(B, 11, 10, "e", 2));
	LOST(rmd(B, 10, ROOT, "d", 1));
	assert_int_equal(at("x/e/g"), 9);
	EXPECT_NAMES(3, 0);
}

static void test_26_rename_empty_dir_rmdir(void **state)
{
	OK(dir(A, 10, ROOT, "d"));
	OK(mv(A, 10, ROOT, "d", 1, ROOT, "x"));
	LOST(rmd(B, 10, ROOT, "d", 1));
	assert_int_equal(at("x"), -2);
}

static void test_27_rm_r_rename_dir(void **state)
{
	with_tree();
	without_tree(A);
	OK(mv(B, 10, ROOT, "d", 1, ROOT, "x"));
	assert_int_equal(who_is("x"), 10);
	EXPECT_NAMES(1, 0);
	/* A child edited by B comes back into it. */
	OK(edit(B, 12, 3, 6));
	assert_int_equal(at("x/e/f"), 6);
}

static void test_28_cycles(void **state)
{
	struct op in = {.type = OP_EXCHANGE,
		.node = node_id(3),
		.parent = ID_ROOT,
		.name = (char *)"c",
		.base_l = ANY,
		.other = node_id(2),
		.new_parent = node_id(3),
		.new_name = (char *)"b",
		.other_base_l = ANY};

	OK(dir(A, 1, ROOT, "a"));
	OK(dir(A, 2, ROOT, "b"));
	OK(dir(A, 3, ROOT, "c"));
	OK(mv(A, 1, ROOT, "a", 1, 2, "a"));
	CYCLE(mv(B, 2, ROOT, "b", 2, 1, "b"));
	CYCLE(mv(B, 2, ROOT, "b", 2, 2, "b"));
	OK(mv(A, 2, ROOT, "b", 2, 3, "b"));
	CYCLE(mv(C, 3, ROOT, "c", 3, 1, "c"));
	assert_int_equal(who_is("c/b/a"), 1);
	/* An exchange of a directory with what is in it. */
	CYCLE(apply(B, &in));
	EXPECT_NAMES(3, 0);
}

/* A dead directory whose last name was inside the one that moves into it. */
static void test_28_cycle_through_dead(void **state)
{
	OK(dir(A, 1, ROOT, "a"));
	OK(dir(A, 2, 1, "b"));
	OK(rmd(A, 2, 1, "b", 2));
	CYCLE(mv(B, 1, ROOT, "a", 1, 2, "a"));
	EXPECT_NAMES(1, 0);
	/* And one whose name the mover has now. */
	OK(dir(A, 3, ROOT, "e"));
	OK(rmd(A, 3, ROOT, "e", own(A)));
	OK(mv(A, 1, ROOT, "a", 1, ROOT, "e"));
	OK(mv(B, 1, ROOT, "e", ANY, 3, "x"));
	EXPECT_NAMES(2, 1);
}

static void test_29_rmdir_move_into(void **state)
{
	with_f();
	OK(dir(A, 2, ROOT, "d"));
	OK(rmd(A, 2, ROOT, "d", 2));
	OK(mv(B, F, ROOT, "f", L1, 2, "f"));
	assert_int_equal(at("d/f"), 1);
	EXPECT_NAMES(2, 0);
}

static void test_30_two_to_one_name(void **state)
{
	with_f();
	OK(file(A, 2, ROOT, "g", 2));
	OK(file(A, 4, ROOT, "h", 4));
	OK(dir(A, 3, ROOT, "d"));
	OK(mv(A, F, ROOT, "f", L1, 3, "n"));
	KEPT(mv(B, 2, ROOT, "g", 2, 3, "n"));
	assert_int_equal(at("d/n"), 1);
	OK(mv(A, F, 3, "n", own(A), ROOT, "n"));
	LOST(mv_noreplace(B, 4, "h", 3, "n"));
	assert_int_equal(at("h"), 4);
	EXPECT_NAMES(4, 1);
}

static void test_31_chmod_chmod(void **state)
{
	with_f();
	OK(chmod_(A, F, 0600));
	OK(chmod_(B, F, 0640));
	SAME(chmod_(A, F, 0640));
	assert_int_equal(mem_commit_find(&w.m, "f")->mode, 0640);
	assert_int_equal(mem_commit_find(&w.m, "f")->c, 1);
}

static void test_32_chmod_edit(void **state)
{
	with_f();
	OK(chmod_(A, F, 0600));
	OK(edit(B, F, C1, 2));
	OK(chmod_(A, F, 0400));
	assert_int_equal(at("f"), 2);
	assert_int_equal(mem_commit_find(&w.m, "f")->mode, 0400);
	EXPECT_NAMES(1, 0);
}

static void test_33_mtime(void **state)
{
	with_f();
	OK(touch(A, F, 1000));
	OK(touch(B, F, 2000));
	OK(edit(B, F, C1, 2));
	OK(touch(A, F, 3000));
	OK(mv(B, F, ROOT, "f", L1, ROOT, "g"));
	OK(touch(A, F, 4000));
	assert_int_equal(mem_commit_find(&w.m, "g")->mtime_ns, 4000);
	EXPECT_NAMES(1, 0);
}

static void test_34_chmod_delete(void **state)
{
	with_f();
	OK(chmod_(A, F, 0600));
	OK(rm(B, F, ROOT, "f", C1, L1));
	LOST(chmod_(A, F, 0644));
	EXPECT_NAMES(0, 0);
}

static void test_35_symlinks(void **state)
{
	OK(symlink_(A, 1, ROOT, "s", "t0"));
	OK(retarget(A, 1, 1, "t1"));
	SAME(retarget(B, 1, 1, "t1"));
	KEPT(retarget(B, 1, 1, "t2"));
	assert_string_equal(mem_commit_find(&w.m, "s")->target, "t1");
	assert_string_equal(mem_commit_find(&w.m, w.last_name)->target, "t2");
	assert_int_equal(mem_commit_find(&w.m, w.last_name)->kind, KIND_SYMLINK);
	EXPECT_NAMES(2, 1);
}

static void test_36_hard_links_edit(void **state)
{
	with_f();
	OK(hard(A, F, ROOT, "h"));
	SAME(hard(B, F, ROOT, "h"));
	OK(edit(A, F, C1, 2));
	KEPT(edit(B, F, C1, 3));
	assert_int_equal(at("f"), 2);
	assert_int_equal(at("h"), 2);
	EXPECT_NAMES(3, 1);
}

static void test_37_hard_link_unlink(void **state)
{
	with_f();
	OK(hard(A, F, ROOT, "h"));
	OK(rm(A, F, ROOT, "f", C1, L1));
	OK(edit(B, F, C1, 2));
	assert_int_equal(at("h"), 2);
	assert_int_equal(at("f"), -1);
	/* Gone already; the other name does not go with it. */
	SAME(rm(B, F, ROOT, "f", C1, 2));
	/* Of several names one goes without looking at the content; the last one not. */
	OK(hard(A, F, ROOT, "i"));
	OK(rm(B, F, ROOT, "i", C1, 5));
	LOST(rm(B, F, ROOT, "h", C1, 2));
	OK(rm(B, F, ROOT, "h", 4, 2));
	assert_true(is_dead(F));
	/* A link to the dead brings it back. */
	OK(hard(C, F, ROOT, "j"));
	assert_int_equal(at("j"), 2);
	EXPECT_NAMES(1, 0);
}

static void with_pair(void)
{
	OK(file(A, 1, ROOT, "a", 1));
	OK(file(A, 2, ROOT, "b", 2));
}

static void test_38_exchange(void **state)
{
	with_pair();
	OK(swap(A, 1, "a", 1, 2, "b", 2));
	assert_int_equal(w.m.last_step, PLACE_EXCHANGE);
	OK(edit(B, 1, 1, 3));
	LOST(rm(B, 2, ROOT, "b", 2, 2));
	LOST(mv(B, 1, ROOT, "a", 1, ROOT, "c"));
	SAME(swap(B, 1, "a", 1, 2, "b", 2));
	assert_int_equal(at("b"), 3);
	assert_int_equal(at("a"), 2);
	/* Own bases reach both sides. */
	OK(swap(A, 1, "b", -3, 2, "a", -3));
	OK(mv(A, 2, ROOT, "b", own(A), ROOT, "c"));
	assert_int_equal(at("a"), 3);
	assert_int_equal(at("c"), 2);
	EXPECT_NAMES(2, 0);
}

static void test_38_exchange_second(void **state)
{
	with_pair();
	OK(edit(A, 1, 1, 3));
	OK(swap(B, 1, "a", 1, 2, "b", 2));
	assert_int_equal(at("b"), 3);
	OK(mv(A, 1, ROOT, "b", 4, ROOT, "c"));
	LOST(swap(B, 1, "b", 4, 2, "a", 4));
	OK(mv(A, 1, ROOT, "c", 5, ROOT, "b"));
	OK(rm(A, 2, ROOT, "a", 2, 4));
	OK(swap(B, 1, "b", 6, 2, "a", 4));
	assert_int_equal(at("a"), 3);
	assert_int_equal(at("b"), 2);
	EXPECT_NAMES(2, 0);
}

static void test_39_swap_via_temp(void **state)
{
	with_pair();
	OK(mv(A, 1, ROOT, "a", 1, ROOT, "t"));
	OK(mv(A, 2, ROOT, "b", 2, ROOT, "a"));
	OK(mv(A, 1, ROOT, "t", -3, ROOT, "b"));
	LOST(mv(B, 1, ROOT, "a", 1, ROOT, "t"));
	SAME(mv(B, 2, ROOT, "b", 2, ROOT, "a"));
	SAME(mv(B, 1, ROOT, "t", -1, ROOT, "b"));
	assert_int_equal(at("a"), 2);
	assert_int_equal(at("b"), 1);
	EXPECT_NAMES(2, 0);
}

static void test_40_offline_chain(void **state)
{
	OK(dir(A, 1, ROOT, "d"));
	OK(dir(A, 2, 1, "e"));
	SAME(dir(B, 11, ROOT, "d"));
	SAME(dir(B, 12, 11, "e"));
	OK(file(B, 13, 12, "f", 5));
	OK(mv(B, 13, 12, "f", own(B), 11, "g"));
	OK(mv(B, 12, 11, "e", -2, 11, "e2"));
	OK(rmd(B, 12, 11, "e2", own(B)));
	assert_int_equal(at("d/g"), 5);
	EXPECT_NAMES(2, 0);
}

static void test_41_recreate_edit(void **state)
{
	with_f();
	OK(rm(A, F, ROOT, "f", C1, L1));
	OK(file(A, 2, ROOT, "f", 2));
	KEPT(edit(B, F, C1, 3));
	assert_int_equal(at("f"), 2);
	assert_int_equal(who_is(w.last_name), F);
	assert_int_equal(at(w.last_name), 3);
	EXPECT_NAMES(2, 1);
}

static void test_42_five_creates(void **state)
{
	OK(file(A, 1, ROOT, "n", 1));
	for (int i = B; i <= E; i++)
		KEPT(file(i, i, ROOT, "n", i));
	EXPECT_NAMES(5, 4);
}

/* What a sender does to bytes of its own that were kept as a copy. */
static void test_own_copy_followed(void **state)
{
	with_f();
	OK(edit(A, F, C1, 2));
	KEPT(edit(B, F, C1, 3));
	KEPT(edit(B, F, own(B), 4));
	KEPT(edit(B, F, own(B), 5));
	assert_int_equal(at(w.last_name), 5);
	EXPECT_NAMES(2, 1);
	OK(rm(B, F, ROOT, "f", own(B), L1));
	assert_int_equal(at("f"), 2);
	EXPECT_NAMES(1, 0);
	/* A created one that was kept: renamed, it loses the conflict name. */
	KEPT(file(B, 2, ROOT, "f", 6));
	OK(mv(B, 2, ROOT, "f", own(B), ROOT, "mine"));
	assert_int_equal(at("mine"), 6);
	EXPECT_NAMES(2, 0);
}

static void test_own_chain(void **state)
{
	OK(file(A, 1, ROOT, "t", 1));
	for (int i = 2; i < 40; i++) {
		OK(file(A, i, ROOT, "tmp", i));
		OK(over(A, i, ROOT, "tmp", own(A), ROOT, "t", i - 1, i == 2 ? -1 : -(2 * i - 4)));
	}
	EXPECT_NAMES(1, 0);
	for (int i = 0; i < 40; i++)
		OK(edit(A, 39, i ? own(A) : own(A) + 1, 100 + i));
	EXPECT_NAMES(1, 0);
}

static void test_replace_directories(void **state)
{
	OK(dir(A, 1, ROOT, "d"));
	OK(dir(A, 2, ROOT, "e"));
	OK(over(A, 1, ROOT, "d", 1, ROOT, "e", 2, 0));
	assert_int_equal(who_is("e"), 1);
	OK(dir(A, 3, ROOT, "x"));
	OK(file(B, 4, 1, "f", 1));
	KEPT(over(A, 3, ROOT, "x", own(A), ROOT, "e", 1, 0));
	assert_int_equal(at("e/f"), 1);
	EXPECT_NAMES(3, 1);
}

static void test_any_base(void **state)
{
	with_f();
	OK(edit(A, F, C1, 2));
	OK(edit(B, F, ANY, 3));
	OK(mv(B, F, ROOT, "f", ANY, ROOT, "g"));
	OK(rm(B, F, ROOT, "g", ANY, ANY));
	SAME(rm(B, F, ROOT, "g", ANY, ANY));
	EXPECT_NAMES(0, 0);
}

static void test_refused(void **state)
{
	with_f();
	REJECT(file(B, F, ROOT, "g", 2), -EEXIST);
	REJECT(file(B, ROOT, ROOT, "g", 2), -EINVAL);
	REJECT(file(B, 2, ROOT, RESERVED_NAME, 2), -EPERM);
	REJECT(mv(B, F, ROOT, "f", L1, ROOT, RESERVED_NAME), -EPERM);
	REJECT(hard(B, F, ROOT, RESERVED_NAME), -EPERM);
	REJECT(file(B, 2, F, "g", 2), -ENOTDIR);
	REJECT(file(B, 2, 99, "g", 2), -ENOENT);
	REJECT(edit(B, 99, 1, 2), -ENOENT);
	REJECT(mv(B, ROOT, ROOT, "x", ANY, ROOT, "y"), -ENOENT);
	REJECT(rmd(B, F, ROOT, "f", L1), -ENOTDIR);
	OK(dir(A, 5, ROOT, "d"));
	REJECT(rm(B, 5, ROOT, "d", ANY, ANY), -EISDIR);
	REJECT(edit(B, 5, ANY, 2), -EISDIR);
	REJECT(hard(B, 5, ROOT, "d2"), -EPERM);
	REJECT(retarget(B, F, ANY, "t"), -EINVAL);
	OK(rm(A, F, ROOT, "f", C1, L1));
	REJECT(file(B, F, ROOT, "f", 2), -EEXIST);
	/* The id of an alias is used, too. */
	SAME(dir(B, 6, ROOT, "d"));
	REJECT(file(B, 6, ROOT, "x", 2), -EEXIST);
	OK(file(B, 7, 5, RESERVED_NAME, 2));
}

static void test_depth(void **state)
{
	int parent = ROOT, i;

	for (i = 1; i < TREE_MAX_DEPTH; i++) {
		OK(dir(A, i, parent, "d"));
		parent = i;
	}
	OK(dir(A, i, parent, "d"));
	REJECT(dir(A, i + 1, i, "d"), -ENAMETOOLONG);
}

static void test_tag(void **state)
{
	struct id client = node_id(1), node = node_id(2);
	uint64_t tag = commit_tag(0, 1, &client, 1, &node);

	assert_int_not_equal(tag, 0);
	assert_int_equal(tag, commit_tag(0, 1, &client, 1, &node));
	assert_int_not_equal(tag, commit_tag(1, 1, &client, 1, &node));
	assert_int_not_equal(tag, commit_tag(0, 2, &client, 1, &node));
	assert_int_not_equal(tag, commit_tag(0, 1, &client, 2, &node));
	assert_int_not_equal(tag, commit_tag(0, 1, &node, 1, &node));
	assert_int_not_equal(tag, commit_tag(0, 1, &client, 1, &client));
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_01_edit_edit),
		T(test_02_edit_edit_same),
		T(test_03_edit_delete),
		T(test_04_delete_edit),
		T(test_05_delete_delete),
		T(test_06_rename_same),
		T(test_07_rename_rename),
		T(test_08_rename_edit),
		T(test_09_edit_rename),
		T(test_10_rename_delete),
		T(test_11_delete_rename),
		T(test_12_create_create_same),
		T(test_13_create_create),
		T(test_14_mkdir_mkdir),
		T(test_15_create_other_kind),
		T(test_16_rename_create),
		T(test_17_save_save),
		T(test_17_save_save_same),
		T(test_18_edit_save),
		T(test_19_save_delete),
		T(test_20_save_edit),
		T(test_21_rmdir_edit),
		T(test_21_rmdir_create),
		T(test_22_create_rm_r),
		T(test_23_24_rename_dir_child),
		T(test_25_rename_dir_twice),
		T(test_26_rename_dir_rm_r),
		T(test_26_rename_empty_dir_rmdir),
		T(test_27_rm_r_rename_dir),
		T(test_28_cycles),
		T(test_28_cycle_through_dead),
		T(test_29_rmdir_move_into),
		T(test_30_two_to_one_name),
		T(test_31_chmod_chmod),
		T(test_32_chmod_edit),
		T(test_33_mtime),
		T(test_34_chmod_delete),
		T(test_35_symlinks),
		T(test_36_hard_links_edit),
		T(test_37_hard_link_unlink),
		T(test_38_exchange),
		T(test_38_exchange_second),
		T(test_39_swap_via_temp),
		T(test_40_offline_chain),
		T(test_41_recreate_edit),
		T(test_42_five_creates),
		T(test_own_copy_followed),
		T(test_own_chain),
		T(test_replace_directories),
		T(test_any_base),
		T(test_refused),
		T(test_depth),
		T(test_tag),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
