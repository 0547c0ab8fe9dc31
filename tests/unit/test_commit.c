/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests of commit.h: every row of the conflict matrix; the row's number is in the test's name. Bases and
 * refusals: test_commit_base.c, random histories: test_commit_random.c.
 */
#include "commit_world.h"

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

/* A write of what its base has is no edit: what became of that since goes on from it. */
static void test_01_edit_no_edit(void **state)
{
	with_f();
	OK(edit(A, F, C1, 2));
	LOST(edit(B, F, C1, 1));
	assert_int_equal(w.last.c, 2);
	OK(edit(A, F, 2, 4));
	LOST(edit(B, F, 2, 2));
	/* Not with a base that was something else, or none. */
	KEPT(edit(B, F, C1, 2));
	KEPT(edit(B, F, 0, 2));
	assert_int_equal(at("f"), 4);
	EXPECT_NAMES(3, 2);
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
	KEPT(over_l(B, 4, ROOT, "b.tmp", own(B), ROOT, "t", 3, -1, -2));
	assert_int_equal(at(w.last_name), 4);
	EXPECT_NAMES(2, 1);
	/* Also when it has been written to meanwhile. */
	{
		int64_t written;

		OK(edit(B, 4, own(B), 5));
		written = own(B);
		OK(file(B, 6, ROOT, "b.tmp", 6));
		KEPT(over_l(B, 6, ROOT, "b.tmp", own(B), ROOT, "t", 4, written, -4));
	}
	assert_int_equal(at(w.last_name), 6);
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
	SAME(rm(B, F, ROOT, "f", C1, 3));
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_01_edit_edit),
		T(test_01_edit_no_edit),
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
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
