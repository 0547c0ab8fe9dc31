/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests of rebase.h over a real tree, database and queue, without a server: what stays agreed with another
 * history, what is shown to the server again, what counts as made here.
 */
#include "client_fixture.h"

#include "link.h"
#include "outbox.h"
#include "rebase.h"

static const struct cursor cursor = {.epoch = {{7}}, .seq = 50, .tag = 3};
static const struct id client = {{9}};

static struct id make(struct fixture *f, const struct id *parent, const char *path, uint64_t version)
{
	if (path[strlen(path) - 1] == 'd')
		assert_int_equal(mkdirat(f->tree.root_fd, path, 0755), 0);
	else
		write_file(f, path, path);
	return agree(f, parent, path, version);
}

static struct base_row row_of(struct fixture *f, const struct id *node)
{
	struct base_row row;

	assert_int_equal(syncstate_peek_base(f->state, node, &row), 0);
	return row;
}

/* The server has the node as it was agreed, but for c and, unless 0, the first byte of its hash. */
static void told(struct fixture *f, const struct id *node, uint64_t c, uint8_t content)
{
	struct base_row row = row_of(f, node);

	row.state.c = c;
	row.state.seq = 40;
	if (content)
		row.state.content.hash.b[0] = content;
	assert_int_equal(syncstate_begin(f->state, false), 0);
	assert_int_equal(syncstate_remote_put(f->state, &row.state), 0);
	assert_int_equal(syncstate_commit(f->state), 0);
	base_row_fini(&row);
}

static void expect_c(struct fixture *f, const struct id *node, uint64_t c)
{
	struct base_row row = row_of(f, node);

	assert_int_equal(row.state.c, c);
	base_row_fini(&row);
}

static void finish(struct fixture *f)
{
	assert_int_equal(outbox_forget(f->capture), 0);
	assert_int_equal(rebase_finish(f->state, f->capture, &client, &cursor), 0);
}

static void test_kept_and_forgotten(void **state)
{
	struct fixture *f = *state;
	struct id d = make(f, &ID_ROOT, "d", 3), kept = make(f, &d, "d/kept", 4),
		  lost = make(f, &d, "d/lost", 5);
	struct base_row row;
	struct cursor now;
	struct id who;
	size_t len;

	assert_int_equal(rebase_begin(f->state), 0);
	told(f, &d, 3, 0);
	told(f, &kept, 4, 0);
	finish(f);
	row = row_of(f, &kept);
	assert_int_equal(row.state.c, 4);
	assert_int_equal(row.state.seq, 40);
	assert_int_equal(row.state.names[0].l, 4);
	base_row_fini(&row);
	assert_int_equal(syncstate_peek_base(f->state, &lost, &row), -ENOENT);
	assert_string_equal(queue(f), "");
	assert_int_equal(syncstate_peek_cursor(f->state, &now), 0);
	assert_memory_equal(&now, &cursor, sizeof(now));
	assert_int_equal(syncstate_peek_meta(f->state, "client", who.b, ID_BYTES, &len), 0);
	assert_true(id_equal(&who, &client));
}

/* A base of the lost history must not pass for one of this. */
static void test_other_content(void **state)
{
	struct fixture *f = *state;
	struct id older = make(f, &ID_ROOT, "older", 4), same = make(f, &ID_ROOT, "same", 5),
		  newer = make(f, &ID_ROOT, "newer", 6);

	assert_int_equal(rebase_begin(f->state), 0);
	told(f, &older, 3, 1);
	told(f, &same, 5, 1);
	told(f, &newer, 7, 1);
	finish(f);
	expect_c(f, &older, 0);
	expect_c(f, &same, 0);
	expect_c(f, &newer, 6);
	assert_string_equal(queue(f), "W W W");
	fixture_reopen(f);
	assert_string_equal(queue(f), "W W W");
}

/* What is in a directory that the server has not got is found there, with it. */
static void test_orphans(void **state)
{
	struct fixture *f = *state;
	struct id d = make(f, &ID_ROOT, "d", 3), sub = make(f, &d, "d/d", 4),
		  file = make(f, &sub, "d/d/f", 5), other = make(f, &sub, "d/d/g", 6);
	struct base_row row;

	assert_int_equal(rebase_begin(f->state), 0);
	told(f, &sub, 4, 0);
	told(f, &file, 5, 0);
	told(f, &other, 6, 1);
	finish(f);
	assert_int_equal(syncstate_peek_base(f->state, &sub, &row), -ENOENT);
	assert_int_equal(syncstate_peek_base(f->state, &file, &row), -ENOENT);
	assert_int_equal(syncstate_peek_count(f->state), 0);
	assert_string_equal(queue(f), "");
}

/* Elsewhere at the server, with other attributes: the applier brings both. */
static void test_name_and_attributes(void **state)
{
	struct fixture *f = *state;
	struct id node = make(f, &ID_ROOT, "f", 4);
	struct base_row row = row_of(f, &node);

	assert_int_equal(rebase_begin(f->state), 0);
	free(row.state.names[0].name);
	row.state.names[0].name = strdup("g");
	row.state.mode ^= 0100;
	assert_int_equal(syncstate_begin(f->state, false), 0);
	assert_int_equal(syncstate_remote_put(f->state, &row.state), 0);
	assert_int_equal(syncstate_commit(f->state), 0);
	base_row_fini(&row);
	finish(f);
	row = row_of(f, &node);
	assert_string_equal(row.state.names[0].name, "f");
	assert_int_equal(row.state.names[0].l, 0);
	assert_int_equal(row.state.a, 0);
	assert_int_equal(row.state.c, 4);
	base_row_fini(&row);
}

/* What was made here goes, with its mark; what is agreed stays, though it has replaced something unknown. */
static void test_unknown(void **state)
{
	struct fixture *f = *state;
	struct stat_id written;

	make(f, &ID_ROOT, "known", 4);
	do_create(f, "", "new", KIND_FILE);
	do_rename(f, "known", "new", 0);
	do_create(f, "", "written", KIND_FILE);
	written = stat_of(f, "written");
	assert_int_equal(capture_dirty(f->capture, &written), 0);
	alarm(30);
	assert_int_equal(outbox_forget_unknown(f->capture), 0);
	alarm(0);
	assert_string_equal(queue(f), "Rknown>new");
	fixture_reopen(f);
	assert_string_equal(queue(f), "Rknown>new");
}

/* Killed before the end: from the beginning; what was told of the old history is not acted on. */
static void test_begun(void **state)
{
	struct fixture *f = *state;
	struct id node = make(f, &ID_ROOT, "f", 4);
	struct cursor now;

	told(f, &node, 4, 1);
	assert_false(rebase_is_due(f->state));
	assert_int_equal(rebase_begin(f->state), 0);
	assert_true(rebase_is_due(f->state));
	assert_int_equal(syncstate_peek_remote_count(f->state), 0);
	assert_int_equal(syncstate_peek_cursor(f->state, &now), -ENOENT);
	assert_int_equal(syncstate_peek_count(f->state), 1);
	told(f, &node, 4, 0);
	finish(f);
	assert_true(rebase_is_merging(f->state) && !rebase_is_due(f->state));
	assert_int_equal(rebase_end(f->state), 0);
	assert_false(rebase_is_merging(f->state) || rebase_is_due(f->state));
}

/* The fetch was broken off, and begins anew: what has died since is in no page of it. */
static void test_fetched_in_part(void **state)
{
	struct fixture *f = *state;
	struct id node = make(f, &ID_ROOT, "f", 4);
	struct link *link = link_new("http://127.0.0.1:1");
	struct cursor now;

	assert_non_null(link);
	assert_int_equal(rebase_begin(f->state), 0);
	told(f, &node, 4, 1);
	link_stop(link);
	assert_int_equal(rebase_fetch(f->state, NULL, link, &client, &now), -ECANCELED);
	assert_int_equal(syncstate_peek_remote_count(f->state), 0);
	assert_true(rebase_is_due(f->state));
	link_free(link);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_kept_and_forgotten),
		TEST(test_other_content),
		TEST(test_orphans),
		TEST(test_name_and_attributes),
		TEST(test_unknown),
		TEST(test_begun),
		TEST(test_fetched_in_part),
	};

	return cmocka_run_group_tests_name("rebase", tests, NULL, NULL);
}
