/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests of commit.h beside the matrix: bases on own operations and what became of them, replaced directories,
 * dead sides of an exchange, what is refused, and the tag.
 */
#include <errno.h>

#include "commit_world.h"

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

/* A copy that was removed comes back with what is written next, and the sender hears where it is. */
static void test_own_copy_comes_back(void **state)
{
	int64_t kept;

	with_f();
	OK(edit(A, F, C1, 2));
	KEPT(edit(B, F, C1, 3));
	kept = own(B);
	OK(rm(B, F, ROOT, "f", kept, L1));
	EXPECT_NAMES(1, 0);
	KEPT(edit(B, F, kept, 4));
	assert_int_equal(at(w.last_name), 4);
	KEPT(edit(B, F, own(B), 5));
	assert_int_equal(at(w.last_name), 5);
	assert_int_equal(at("f"), 2);
	EXPECT_NAMES(2, 1);
}

/* Of two names one goes: what was kept of the sender's bytes is under the other still. */
static void test_own_copy_of_links(void **state)
{
	with_f();
	OK(hard(A, F, ROOT, "g"));
	OK(edit(A, F, C1, 2));
	KEPT(edit(B, F, C1, 3));
	OK(rm(B, F, ROOT, "f", own(B), L1));
	assert_int_equal(at("f"), -1);
	assert_int_equal(at("g"), 2);
	EXPECT_NAMES(2, 1);
	/* The last one takes it along. */
	OK(rm(B, F, ROOT, "g", own(B) + 1, 2));
	assert_int_equal(at("g"), 2);
	EXPECT_NAMES(1, 0);
}

/* Something equal has the name of the copy that was deleted: the next edit is one with that, as a copy. */
static void test_own_copy_equalled(void **state)
{
	char name[NAME_MAX_BYTES + 1];

	with_f();
	OK(edit(A, F, C1, 2));
	KEPT(edit(B, F, C1, 3));
	(void)snprintf(name, sizeof(name), "%s", w.last_name);
	OK(rm(B, F, ROOT, "f", own(B), L1));
	OK(file(A, 2, ROOT, name, 4));
	KEPT(edit(B, F, own(B) + 1, 4));
	assert_int_equal(who_is(name), 2);
	assert_string_equal(w.last_name, name);
	EXPECT_NAMES(2, 1);
}

/* A name that the sender could not give to its copy: taking it away again leaves the copy alone. */
static void test_own_copy_not_linked(void **state)
{
	with_f();
	OK(rm(A, F, ROOT, "f", C1, L1));
	OK(file(A, 2, ROOT, "f", 2));
	OK(file(A, 3, ROOT, "g", 3));
	KEPT(edit(B, F, C1, 4));
	LOST(hard(B, F, ROOT, "g"));
	LOST(rm(B, F, ROOT, "g", own(B) + 1, own(B)));
	EXPECT_NAMES(3, 1);
}

/* A move that is refused leaves the names, too. */
static void test_refused_moves(void **state)
{
	with_f();
	REJECT(mv(B, F, ROOT, "f", L1, ROOT, RESERVED_NAME), -EPERM);
	OK(rm(B, F, ROOT, RESERVED_NAME, C1, own(B)));
	assert_true(is_dead(F));
	/* Unless it was elsewhere already. */
	OK(file(A, 2, ROOT, "g", 2));
	OK(mv(A, 2, ROOT, "g", own(A), ROOT, "h"));
	LOST(mv(B, 2, ROOT, "g", 3, ROOT, "i"));
	REJECT(mv(B, 2, ROOT, "i", own(B), ROOT, RESERVED_NAME), -EPERM);
	LOST(rm(B, 2, ROOT, RESERVED_NAME, 3, own(B)));
	EXPECT_NAMES(1, 0);
}

/* Replaced under one of several names: no content is replaced, so none need be known, and no copy goes. */
static void test_one_name_replaced(void **state)
{
	with_f();
	OK(hard(A, F, ROOT, "g"));
	OK(edit(A, F, C1, 2));
	KEPT(edit(B, F, C1, 3));
	OK(file(B, 2, ROOT, "x", 4));
	OK(over(B, 2, ROOT, "x", own(B), ROOT, "g", F, 0));
	assert_int_equal(at("g"), 4);
	assert_int_equal(at("f"), 2);
	EXPECT_NAMES(3, 1);
	/* The last one is another matter. */
	OK(file(B, 3, ROOT, "y", 5));
	KEPT(over(B, 3, ROOT, "y", own(B), ROOT, "f", F, 0));
	assert_int_equal(at("f"), 2);
}

/* A move that has lost leaves the names where they are, and who has seen those may go on with them. */
static void test_lost_moves(void **state)
{
	OK(file(A, 1, ROOT, "a", 1));
	OK(file(A, 2, ROOT, "b", 2));
	OK(mv(B, 1, ROOT, "a", 1, ROOT, "c"));
	LOST(swap(A, 1, "a", 1, 2, "b", 2));
	LOST(rm(A, 1, ROOT, "b", 1, own(A)));
	LOST(swap(A, 1, "a", 1, 2, "b", 2));
	OK(rm(A, 2, ROOT, "a", 2, own(A)));
	assert_true(is_dead(2));
	/* Answered meanwhile, the sender says the version itself. */
	OK(mv(A, 1, ROOT, "b", 3, ROOT, "d"));
	assert_int_equal(at("d"), 1);
	EXPECT_NAMES(1, 0);
}

/* Of an exchange that has lost, the side that others have put where it was to go is there as the sender has
 * it. */
static void test_lost_half(void **state)
{
	OK(file(A, 1, ROOT, "a", 1));
	OK(file(A, 2, ROOT, "b", 2));
	OK(mv(B, 2, ROOT, "b", 2, ROOT, "x"));
	OK(mv(B, 1, ROOT, "a", 1, ROOT, "b"));
	LOST(swap(A, 1, "a", 1, 2, "b", 2));
	LOST(rm(A, 2, ROOT, "a", 2, own(A)));
	LOST(swap(A, 1, "a", 1, 2, "b", 2));
	OK(rm(A, 1, ROOT, "b", 1, own(A)));
	assert_true(is_dead(1));
	EXPECT_NAMES(1, 0);
}

/* A move that has lost replaces nothing that was agreed; one whose mover is there already has had its way. */
static void test_lost_replacing(void **state)
{
	OK(file(A, 1, ROOT, "m", 1));
	OK(file(A, 2, ROOT, "t", 2));
	OK(mv(B, 1, ROOT, "m", 1, ROOT, "n"));
	LOST(over_l(A, 1, ROOT, "m", 1, ROOT, "t", 2, 2, 2));
	assert_int_equal(at("t"), 2);
	assert_int_equal(at("n"), 1);
	EXPECT_NAMES(2, 0);
	/* What the sender made just before goes, as if it had never been sent; not when others have changed
	 * it. */
	OK(file(A, 5, ROOT, "u", 5));
	LOST(over_l(A, 1, ROOT, "m", 1, ROOT, "u", 5, own(A), own(A)));
	assert_true(is_dead(5));
	OK(file(A, 6, ROOT, "v", 6));
	OK(edit(B, 6, w.m.seq, 7));
	LOST(over_l(A, 1, ROOT, "m", 1, ROOT, "v", 6, own(A), own(A)));
	assert_int_equal(at("v"), 7);
	EXPECT_NAMES(3, 0);
	OK(file(A, 4, ROOT, "x", 4));
	SAME(over_l(A, 1, ROOT, "m", 1, ROOT, "n", 4, own(A), own(A)));
	assert_true(is_dead(4));
	EXPECT_NAMES(3, 0);
}

/* A further name that got a conflict name goes when the sender replaces what it takes to be there. */
static void test_kept_link_replaced(void **state)
{
	char copy[NAME_MAX_BYTES + 1];

	with_f();
	OK(rm(A, F, ROOT, "f", C1, L1));
	OK(file(A, 2, ROOT, "g", 2));
	KEPT(hard(B, F, ROOT, "g"));
	OK(hard(B, F, ROOT, "h"));
	OK(file(B, 3, ROOT, "x", 3));
	KEPT(over_l(B, 3, ROOT, "x", own(B), ROOT, "g", F, C1, -1));
	assert_int_equal(at(w.last_name), 3);
	EXPECT_NAMES(3, 1);
	/* Free by now, the mover gets the name that it is to have. */
	(void)snprintf(copy, sizeof(copy), "%s", w.last_name);
	KEPT(over_l(B, F, ROOT, "h", -2, ROOT, "g", 3, own(B) + 1, own(B)));
	assert_int_equal(at(copy), 1);
	OK(rm(A, 2, ROOT, "g", 3, 3));
	OK(file(B, 4, ROOT, "y", 4));
	OK(over_l(B, 4, ROOT, "y", own(B), ROOT, "g", F, C1, own(B) + 1));
	EXPECT_NAMES(1, 0);
}

/* A directory that died and had its name taken means the one that took it. Who meets its own there is told of
 * it. */
static void test_same_in_another_directory(void **state)
{
	uint64_t told;

	OK(dir(A, 2, ROOT, "d"));
	OK(dir(A, 3, ROOT, "e"));
	OK(file(A, 4, 3, "x", 1));
	OK(rmd(A, 2, ROOT, "d", 1));
	OK(mv(A, 3, ROOT, "e", 2, ROOT, "d"));
	told = w.m.seq;
	SAME(mv(B, 4, 3, "x", 3, 2, "x"));
	assert_int_equal(w.m.seq, told + 1);
	assert_int_equal(w.last.seq, told + 1);
	SAME(mv(B, 4, 3, "x", 3, 3, "x"));
	assert_int_equal(w.m.seq, told + 1);
	assert_int_equal(at("d/x"), 1);
	/* So is who moves one that was merged with what it meets. */
	OK(file(A, 5, ROOT, "p", 7));
	OK(file(A, 6, ROOT, "q", 7));
	SAME(mv(A, 5, ROOT, "p", own(A) + 1, ROOT, "q"));
	told = w.m.seq;
	SAME(mv(B, 5, ROOT, "p", 1, ROOT, "q"));
	assert_int_equal(w.m.seq, told + 1);
	assert_int_equal(w.last.node.b[15], 6);
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
	/* A dead one does not come back inside of itself. */
	OK(dir(B, 9, ROOT, "z"));
	OK(rmd(B, 9, ROOT, "z", 1));
	CYCLE(dir(B, 9, 9, "z"));
	EXPECT_NAMES(0, 0);
	OK(dir(A, 1, ROOT, "d"));
	OK(dir(A, 2, ROOT, "e"));
	OK(over(A, 1, ROOT, "d", own(A) + 1, ROOT, "e", 2, 0));
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
	REJECT(dir(B, F, ROOT, "g"), -EEXIST);
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
	REJECT(dir(B, F, ROOT, "f"), -EEXIST);
	/* The id of an alias is used, too. */
	SAME(dir(B, 6, ROOT, "d"));
	REJECT(file(B, 6, ROOT, "x", 2), -EEXIST);
	OK(file(B, 7, 5, RESERVED_NAME, 2));
}

/* A client that lost what it knew of its own creates: told again, they change nothing and lose nothing. */
static void test_made_again(void **state)
{
	with_f();
	SAME(file(A, F, ROOT, "f", 1));
	EXPECT_NAMES(1, 0);
	KEPT(file(A, F, ROOT, "f", 2));
	assert_int_equal(at("f"), 1);
	OK(mv(A, F, ROOT, "f", L1, ROOT, "g"));
	SAME(file(A, F, ROOT, "f", 1));
	assert_int_equal(at("g"), 1);
	OK(rm(A, F, ROOT, "g", ANY, ANY));
	OK(file(A, F, ROOT, "f", 3));
	assert_int_equal(at("f"), 3);
	OK(dir(A, 5, ROOT, "d"));
	SAME(dir(B, 6, ROOT, "d"));
	SAME(dir(B, 6, ROOT, "d"));
	SAME(dir(A, 5, ROOT, "e"));
	EXPECT_NAMES(3, 1);
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

/* Two dead nodes whose senders claim one name; one dead and one alive. */
static void test_exchange_dead(void **state)
{
	OK(file(A, 1, ROOT, "a", 1));
	OK(file(A, 2, ROOT, "b", 2));
	OK(rm(A, 1, ROOT, "a", ANY, ANY));
	LOST(swap(B, 1, "b", ANY, 2, "b", ANY));
	OK(rm(A, 2, ROOT, "b", ANY, ANY));
	LOST(swap(B, 1, "x", ANY, 2, "x", ANY));
	OK(swap(B, 1, "a", 1, 2, "b", 2));
	assert_int_equal(at("a"), 2);
	assert_int_equal(at("b"), 1);
	EXPECT_NAMES(2, 0);
}

/* A node with a second name is not merged away from there. */
static void test_no_merge_of_links(void **state)
{
	with_f();
	OK(hard(A, F, ROOT, "h"));
	OK(file(B, 2, ROOT, "n", 1));
	KEPT(mv(A, F, ROOT, "f", L1, ROOT, "n"));
	assert_int_equal(who_is("h"), F);
	assert_int_equal(who_is("n"), 2);
	assert_int_equal(who_is(w.last_name), F);
	EXPECT_NAMES(3, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_own_copy_followed),
		T(test_own_copy_comes_back),
		T(test_own_copy_of_links),
		T(test_own_copy_equalled),
		T(test_own_copy_not_linked),
		T(test_one_name_replaced),
		T(test_lost_moves),
		T(test_lost_half),
		T(test_refused_moves),
		T(test_lost_replacing),
		T(test_kept_link_replaced),
		T(test_same_in_another_directory),
		T(test_own_chain),
		T(test_replace_directories),
		T(test_any_base),
		T(test_refused),
		T(test_made_again),
		T(test_depth),
		T(test_exchange_dead),
		T(test_no_merge_of_links),
		T(test_tag),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
