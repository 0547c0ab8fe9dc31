/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests of outbox_settle() where the server has made one node out of two, or another node has been placed
 * where ours was: each object on disk must keep a row of its own until it is removed.
 */
#include "client_fixture.h"

#include <syncfs/plan.h>

#include "outbox.h"

static struct outbox collect(struct fixture *f, size_t count)
{
	struct outbox o;

	assert_int_equal(outbox_collect(f->capture, 100, &o), 0);
	assert_int_equal(o.count, count);
	for (size_t i = 0; i < o.count; i++) {
		struct item *item = &o.items[i];

		if (!item->name)
			continue;
		item->disk = stat_of(f, item->name);
		item->op.fields |= OP_HAS_MODE | OP_HAS_MTIME;
		item->op.mode = item->disk.mode & 0777;
		item->op.mtime_ns = item->disk.mtime_ns;
	}
	assert_int_equal(outbox_number(f->capture, &o, 1), 0);
	return o;
}

static void answer(struct fixture *f, struct outbox *o, struct result *results)
{
	struct batch_reply reply = {.results = results, .results_count = results ? o->count : 0};

	assert_int_equal(outbox_settle(f->capture, o, &reply, 9), 0);
	outbox_fini(o);
}

static struct result result_of(enum outcome outcome, const struct id *node, uint64_t seq, uint64_t version)
{
	return (struct result){
		.outcome = outcome, .seq = seq, .c = version, .l = version, .a = version, .node = *node};
}

/* S has the node under this name only; NULL: under none; "-": not at all. */
static void expect_name(struct fixture *f, const struct id *node, const char *name)
{
	struct base_row row;
	int r = syncstate_peek_base(f->state, node, &row);

	if (name && strcmp(name, "-") == 0) {
		assert_int_equal(r, -ENOENT);
		return;
	}
	assert_int_equal(r, 0);
	assert_int_equal(row.state.names_count, name != NULL);
	if (name)
		assert_string_equal(row.state.names[0].name, name);
	base_row_fini(&row);
}

static void expect_remote(struct fixture *f, const struct id *node, bool tomb, uint64_t seq)
{
	struct node_state n;

	assert_int_equal(syncstate_peek_remote(f->state, node, &n), 0);
	assert_int_equal(n.tomb, tomb);
	assert_int_equal(n.seq, seq);
	node_state_fini(&n);
}

/* They renamed f to n, we made an equal n: f is moved onto ours, which goes. */
static void test_made_what_was_moved(void **state)
{
	struct fixture *f = *state;
	struct id theirs, ours;
	struct result r;
	struct outbox o;

	write_file(f, "f", "");
	theirs = agree(f, &ID_ROOT, "f", 3);
	do_create(f, "", "n", KIND_FILE);
	ours = node_of(f, "n");
	o = collect(f, 1);
	r = result_of(OUTCOME_SAME, &theirs, 5, 3);
	answer(f, &o, &r);
	expect_name(f, &theirs, "f");
	expect_name(f, &ours, "n");
	expect_remote(f, &ours, true, 5);
}

/* t is agreed; we have replaced it by a new file. */
static void replace_t(
	struct fixture *f, struct id *ret_theirs, struct id *ret_ours, struct outbox *ret_outbox)
{
	write_file(f, "t", "");
	*ret_theirs = agree(f, &ID_ROOT, "t", 3);
	do_create(f, "", "new", KIND_FILE);
	*ret_ours = node_of(f, "new");
	do_rename(f, "new", "t", 0);
	*ret_outbox = collect(f, 2);
}

/* They wrote t, we replaced it by an equal file: theirs stays, ours goes; theirs is not forgotten. */
static void test_replaced_by_an_equal_one(void **state)
{
	struct fixture *f = *state;
	struct id theirs, ours;
	struct result r[2];
	struct outbox o;

	replace_t(f, &theirs, &ours, &o);
	r[0] = result_of(OUTCOME_OK, &ours, 6, 6);
	r[1] = result_of(OUTCOME_SAME, &theirs, 7, 5);
	answer(f, &o, r);
	expect_name(f, &theirs, "-");
	/* Told again, in its new state, it is news; a page that is older than what we had is not. */
	expect_remote(f, &theirs, false, 3);
	assert_int_equal(syncstate_gone_at(f->state, &theirs), 3);
	expect_name(f, &ours, "t");
	/* And so is the removal of ours, which came with seq 7. */
	{
		struct base_row row;

		assert_int_equal(syncstate_peek_base(f->state, &ours, &row), 0);
		assert_true(row.state.seq < 7);
		base_row_fini(&row);
	}
}

/* Who took t's name here is not agreed: t has left it all the same, and comes back as it is at the server. */
static void test_replaced_by_a_refused_one(void **state)
{
	struct fixture *f = *state;
	struct id theirs, ours;
	struct result r[2];
	struct outbox o;

	replace_t(f, &theirs, &ours, &o);
	r[0] = result_of(OUTCOME_REJECT, &ours, 0, 0);
	r[1] = result_of(OUTCOME_SUPERSEDED, &ours, 0, 0);
	answer(f, &o, r);
	expect_name(f, &ours, "-");
	expect_name(f, &theirs, "-");
	expect_remote(f, &theirs, false, 3);
}

/* They made n, which was free here by then: ours had moved on to m. */
static void test_name_taken_meanwhile(void **state)
{
	struct fixture *f = *state;
	struct id theirs, ours;
	struct result r[2];
	struct outbox o;

	do_create(f, "", "n", KIND_FILE);
	ours = node_of(f, "n");
	do_rename(f, "n", "m", 0);
	write_file(f, "n", "theirs");
	theirs = agree(f, &ID_ROOT, "n", 3);
	o = collect(f, 2);
	r[0] = result_of(OUTCOME_KEPT, &ours, 4, 4);
	r[0].parent = ID_ROOT;
	r[0].name = strdup("n (conflict)");
	r[1] = result_of(OUTCOME_OK, &ours, 5, 5);
	answer(f, &o, r);
	free(r[0].name);
	expect_name(f, &theirs, "n");
	expect_name(f, &ours, "m");
}

/* S has the name in this version. */
static void expect_version(struct fixture *f, const struct id *node, const char *name, uint64_t l)
{
	struct base_row row;

	expect_name(f, node, name);
	assert_int_equal(syncstate_peek_base(f->state, node, &row), 0);
	assert_int_equal(row.state.names[0].l, l);
	base_row_fini(&row);
}

/* They have moved it to where our move, which has lost, has put it here, and had told so before. */
static void test_lost_but_there(void **state)
{
	struct fixture *f = *state;
	static char name[] = "b";
	struct dentry d = {.parent = ID_ROOT, .name = name, .l = 7};
	struct node_state told = {.seq = 7, .kind = KIND_FILE, .c = 3, .a = 3, .names = &d, .names_count = 1};
	struct id other;
	struct result r;
	struct outbox o;

	write_file(f, "a", "a");
	write_file(f, "b", "b");
	told.node = agree(f, &ID_ROOT, "a", 3);
	other = agree(f, &ID_ROOT, "b", 4);
	assert_int_equal(syncstate_begin(f->state, false), 0);
	assert_int_equal(syncstate_remote_put(f->state, &told), 0);
	assert_int_equal(syncstate_commit(f->state), 0);
	do_rename(f, "a", "b", RENAME_EXCHANGE);
	o = collect(f, 1);
	r = result_of(OUTCOME_SUPERSEDED, &other, 0, 0);
	answer(f, &o, &r);
	expect_version(f, &told.node, "b", 7);
	expect_version(f, &other, "a", 4);
}

/* What we removed was the copy that the server had made of our bytes: theirs, told before, comes back. */
static void test_removed_a_copy(void **state)
{
	struct fixture *f = *state;
	struct node_state told = {.seq = 4, .kind = KIND_FILE, .c = 4};
	const struct id copy = id_new();
	struct result r;
	struct outbox o;

	write_file(f, "f", "ours");
	told.node = agree(f, &ID_ROOT, "f", 3);
	assert_int_equal(syncstate_begin(f->state, false), 0);
	assert_int_equal(syncstate_remote_put(f->state, &told), 0);
	assert_int_equal(syncstate_commit(f->state), 0);
	do_unlink(f, "f");
	o = collect(f, 1);
	r = result_of(OUTCOME_OK, &copy, 6, 5);
	answer(f, &o, &r);
	expect_name(f, &told.node, "-");
	expect_remote(f, &told.node, false, 4);
	assert_int_equal(syncstate_gone_at(f->state, &told.node), 3);
}

/* Equal to what was told, but for the attributes: these are still to be applied. */
static void test_adopted_with_other_attributes(void **state)
{
	struct fixture *f = *state;
	static char name[] = "f";
	struct dentry d = {.parent = ID_ROOT, .name = name, .l = 8};
	struct node_state remote = {
		.node = id_new(), .seq = 9, .kind = KIND_FILE, .c = 9, .a = 9, .mode = 0600, .mtime_ns = 1};
	struct base_row row;
	struct plan plan;
	struct outbox o;

	remote.names = &d;
	remote.names_count = 1;
	do_create(f, "", "f", KIND_FILE);
	assert_int_equal(syncstate_begin(f->state, false), 0);
	assert_int_equal(syncstate_remote_put(f->state, &remote), 0);
	assert_int_equal(syncstate_commit(f->state), 0);
	o = collect(f, 1);
	o.items[0].adopt = true;
	assert_int_equal(node_state_copy(&remote, &o.items[0].remote), 0);
	assert_int_equal(outbox_adopt(f->capture, &o), 0);
	outbox_fini(&o);
	assert_int_equal(syncstate_peek_base(f->state, &remote.node, &row), 0);
	row.state.content = remote.content;
	assert_int_equal(plan_node(&row.state, false, &remote, &plan), 0);
	assert_int_equal(plan.steps, PLAN_ATTR);
	plan_fini(&plan);
	base_row_fini(&row);
}

/* Operations that follow on one that was adopted are based on what the server has told of it. */
static void test_bases_of_adopted(void **state)
{
	struct fixture *f = *state;
	static char name[] = "f";
	struct dentry d = {.parent = ID_ROOT, .name = name, .l = 8};
	struct node_state remote = {.node = id_new(), .seq = 9, .kind = KIND_FILE, .c = 7, .a = 9};
	struct outbox o;

	remote.names = &d;
	remote.names_count = 1;
	do_create(f, "", "f", KIND_FILE);
	do_rename(f, "f", "g", 0);
	assert_int_equal(syncstate_begin(f->state, false), 0);
	assert_int_equal(syncstate_remote_put(f->state, &remote), 0);
	assert_int_equal(syncstate_commit(f->state), 0);
	assert_int_equal(outbox_collect(f->capture, 100, &o), 0);
	assert_int_equal(o.count, 2);
	o.items[0].adopt = true;
	assert_int_equal(node_state_copy(&remote, &o.items[0].remote), 0);
	{
		struct id *to = malloc(sizeof(*to));

		assert_non_null(to);
		*to = remote.node;
		assert_int_equal(map_put(o.alias, o.items[0].op.node.b, ID_BYTES, to), 0);
	}
	assert_int_equal(outbox_adopt(f->capture, &o), 0);
	assert_int_equal(outbox_number(f->capture, &o, 1), 0);
	assert_int_equal(o.count, 1);
	assert_int_equal(o.items[0].op.opno, 1);
	assert_true(id_equal(&o.items[0].op.node, &remote.node));
	assert_int_equal(o.items[0].op.base_l, 8);
	outbox_return(f->capture, &o);
	outbox_fini(&o);
	/* The record of the rename has the old id: after a restart it still means the other node. */
	fixture_reopen(f);
	assert_string_equal(queue(f), "Rf>g");
	assert_true(id_equal(&pending_first(f->capture->pending)->node, &remote.node));
}

/* The same for who was put into a directory that became another. */
static void test_parent_of_alias(void **state)
{
	struct fixture *f = *state;
	struct id d = id_new(), node;
	struct result results[] = {result_of(OUTCOME_SAME, &d, 5, 5), {.outcome = OUTCOME_MISSING}};
	struct outbox o;

	do_create(f, "", "d", KIND_DIR);
	assert_int_equal(outbox_collect(f->capture, 1, &o), 0);
	outbox_return(f->capture, &o);
	outbox_fini(&o);
	o = collect(f, 1);
	node = o.items[0].op.node;
	do_create(f, "d", "f", KIND_FILE);
	answer(f, &o, results);
	fixture_reopen(f);
	assert_string_equal(queue(f), "Cf");
	assert_false(id_equal(&pending_first(f->capture->pending)->parent, &node));
	assert_true(id_equal(&pending_first(f->capture->pending)->parent, &d));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_made_what_was_moved),
		TEST(test_replaced_by_an_equal_one),
		TEST(test_replaced_by_a_refused_one),
		TEST(test_name_taken_meanwhile),
		TEST(test_lost_but_there),
		TEST(test_removed_a_copy),
		TEST(test_adopted_with_other_attributes),
		TEST(test_bases_of_adopted),
		TEST(test_parent_of_alias),
	};

	return cmocka_run_group_tests_name("settle", tests, NULL, NULL);
}
