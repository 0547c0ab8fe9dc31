/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of power.h: files that a power loss has emptied or torn, on a real tree. */
#include "client_fixture.h"

#include <dirent.h>

#include <syncfs/manifest.h>

#include "inflight.h"
#include "journal.h"
#include "power.h"

static size_t repair(struct fixture *f)
{
	size_t count = 99;

	assert_int_equal(
		power_repair(f->state, &f->tree, &f->tree_lock, f->capture, f->state_dirfd, &count), 0);
	return count;
}

static bool is_there(struct fixture *f, const char *path)
{
	struct stat_id id;

	return tree_stat(f->tree.root_fd, path, &id) == 0;
}

static size_t recovered(struct fixture *f)
{
	int fd = openat(f->tree.own_fd, "recovered", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;
	size_t count = 0;

	while (dir && (e = readdir(dir)))
		count += e->d_name[0] != '.';
	if (dir)
		closedir(dir);
	return count;
}

/* The agreed version waits to be fetched, under the name that it had. */
static void expect_fetch(struct fixture *f, const struct id *node, const char *name)
{
	struct node_state told;
	struct base_row row;

	assert_int_equal(syncstate_peek_base(f->state, node, &row), -ENOENT);
	assert_int_equal(syncstate_peek_remote(f->state, node, &told), 0);
	assert_int_equal(told.names_count, 1);
	assert_string_equal(told.names[0].name, name);
	assert_true(told.content.size > 0);
	node_state_fini(&told);
}

static struct id make_file(struct fixture *f, const char *name, const char *text)
{
	write_file(f, name, text);
	return agree(f, &ID_ROOT, name, 1);
}

static void make_torn(struct fixture *f, const char *name)
{
	static const char zeros[700];
	cleanup_fd int fd = openat(f->tree.root_fd, name, O_WRONLY | O_TRUNC | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(io_write(fd, "text", 4), 0);
	assert_int_equal(io_write(fd, zeros, sizeof(zeros)), 0);
}

static void test_whole_files_stay(void **state)
{
	struct fixture *f = *state;
	struct id empty = make_file(f, "empty", "");

	make_file(f, "same", "text");
	make_file(f, "edited", "text");
	write_file(f, "edited", "other text");
	do_create(f, "", "new", KIND_FILE); /* empty, and nothing was there before */
	write_file(f, "empty", "");
	assert_int_equal(repair(f), 0);
	assert_int_equal(recovered(f), 0);
	assert_string_equal(queue(f), "Cnew");
	assert_true(is_there(f, "same") && is_there(f, "edited") && is_there(f, "new"));
	assert_true(capture_has_name(f->capture, &empty, &ID_ROOT, "empty"));
}

static void test_torn_files(void **state)
{
	struct fixture *f = *state;
	struct id queued = make_file(f, "queued", "text"), unheard = make_file(f, "unheard", "text"),
		  torn = make_file(f, "torn", "text");

	do_write(f, "queued", "");
	write_file(f, "unheard", ""); /* the journal lost its mark */
	make_torn(f, "torn");
	assert_int_equal(repair(f), 3);
	assert_int_equal(recovered(f), 3);
	assert_string_equal(queue(f), "");
	expect_fetch(f, &queued, "queued");
	expect_fetch(f, &unheard, "unheard");
	expect_fetch(f, &torn, "torn");
	assert_false(is_there(f, "queued") || is_there(f, "unheard") || is_there(f, "torn"));
	fixture_reopen(f);
	assert_string_equal(queue(f), "");
	assert_int_equal(repair(f), 0);
}

/* Saved by an editor: written beside, renamed over. The bytes were not on disk when the name was. */
static void test_replaced(void **state)
{
	struct fixture *f = *state;
	struct id doc = make_file(f, "doc", "text"), moved = make_file(f, "old", "text");

	do_create(f, "", "doc~", KIND_FILE);
	do_write(f, "doc~", "");
	do_rename(f, "doc~", "doc", 0);
	do_write(f, "old", "");
	do_rename(f, "old", "new", 0);
	assert_int_equal(repair(f), 2);
	assert_string_equal(queue(f), "");
	expect_fetch(f, &doc, "doc");
	expect_fetch(f, &moved, "old");
	assert_false(is_there(f, "doc") || is_there(f, "new"));
}

/* Moved away before that, and another one has its old name: that one is not taken for it. */
static void test_name_used_again(void **state)
{
	struct fixture *f = *state;
	struct id doc = make_file(f, "doc", "text");

	do_rename(f, "doc", "moved", 0);
	do_create(f, "", "doc", KIND_FILE);
	do_write(f, "moved", "");
	assert_int_equal(repair(f), 1);
	assert_string_equal(queue(f), "Cdoc");
	expect_fetch(f, &doc, "doc");
	assert_true(is_there(f, "doc"));
}

/* Under one of two names, and the other one was replaced, too. */
static void test_replaced_twice(void **state)
{
	struct fixture *f = *state;
	struct id doc = make_file(f, "doc", "text");
	struct base_row row;
	struct node_state told;

	assert_int_equal(linkat(f->tree.root_fd, "doc", f->tree.root_fd, "more", 0), 0);
	assert_int_equal(syncstate_peek_base(f->state, &doc, &row), 0);
	row.disk = stat_of(f, "doc");
	assert_int_equal(node_state_name_add(&row.state, &ID_ROOT, "more", 2), 0);
	assert_int_equal(syncstate_begin(f->state, false), 0);
	assert_int_equal(syncstate_base_put(f->state, &row), 0);
	assert_int_equal(syncstate_commit(f->state), 0);
	base_row_fini(&row);
	do_write(f, "doc", "edited");
	do_create(f, "", "new", KIND_FILE);
	do_write(f, "new", "new");
	do_rename(f, "new", "more", 0);
	do_create(f, "", "doc~", KIND_FILE);
	do_write(f, "doc~", "");
	do_rename(f, "doc~", "doc", 0);
	fixture_reopen(f);
	assert_int_equal(repair(f), 1);
	assert_string_equal(queue(f), "W Cnew Rnew>more");
	assert_int_equal(syncstate_peek_base(f->state, &doc, &row), 0);
	assert_int_equal(row.state.names_count, 1);
	assert_string_equal(row.state.names[0].name, "more");
	base_row_fini(&row);
	assert_int_equal(syncstate_peek_remote(f->state, &doc, &told), 0);
	assert_int_equal(told.names_count, 2);
	node_state_fini(&told);
	assert_false(is_there(f, "doc"));
}

/* What only the queue knows cannot come back: that it was replaced is told. */
static void test_replaced_unsent(void **state)
{
	struct fixture *f = *state;
	struct id doc = make_file(f, "doc", "text");

	do_create(f, "", "new", KIND_FILE);
	do_write(f, "new", "new");
	do_rename(f, "doc", "new", 0);
	do_write(f, "new", "");
	fixture_reopen(f);
	assert_int_equal(repair(f), 1);
	assert_string_equal(queue(f), "Cnew Unew");
	expect_fetch(f, &doc, "doc");
	assert_false(is_there(f, "doc") || is_there(f, "new"));
	fixture_reopen(f);
	assert_string_equal(queue(f), "Cnew Unew");
}

/* The same, of which the journal has lost all. */
static void test_replaced_unheard(void **state)
{
	struct fixture *f = *state;
	struct id doc = make_file(f, "doc", "text");

	write_file(f, "doc~", "");
	assert_int_equal(renameat(f->tree.root_fd, "doc~", f->tree.root_fd, "doc"), 0);
	assert_int_equal(repair(f), 1);
	assert_string_equal(queue(f), "");
	expect_fetch(f, &doc, "doc");
	assert_false(is_there(f, "doc"));
}

/* What was fsynced is as it was left, until it is written again. */
static void test_synced(void **state)
{
	struct fixture *f = *state;
	struct stat_id object;
	struct id doc = make_file(f, "doc", "text");

	make_file(f, "saved", "text");
	do_write(f, "doc", "");
	object = stat_of(f, "doc");
	assert_int_equal(capture_closed(f->capture, &object, true), 0);
	do_create(f, "", "saved~", KIND_FILE);
	object = stat_of(f, "saved~");
	assert_int_equal(capture_synced(f->capture, &object), 0);
	do_rename(f, "saved~", "saved", 0);
	fixture_reopen(f);
	assert_int_equal(repair(f), 0);
	assert_string_equal(queue(f), "W Csaved~ Rsaved~>saved");
	do_write(f, "doc", "");
	fixture_reopen(f);
	assert_int_equal(repair(f), 1);
	assert_string_equal(queue(f), "Csaved~ Rsaved~>saved");
	expect_fetch(f, &doc, "doc");
}

/* The batch that may be at the server must not say of what was put aside that it is agreed. */
static void test_batch_is_dropped(void **state)
{
	struct fixture *f = *state;
	struct item item = {.op = {.type = OP_WRITE, .opno = 1, .kind = KIND_FILE}};
	struct outbox o = {.items = &item, .count = 1};
	struct batch b = {
		.client = id_new(), .run = id_new(), .label = (char *)(uintptr_t) "a", .ops_count = 1};
	cleanup_buf struct buf encoded = BUF_INIT;

	item.op.node = make_file(f, "other", "text");
	item.op.fields = OP_HAS_DATA;
	assert_int_equal(manifest_of_bytes("", 0, &item.op.content, NULL), 0);
	b.ops = &item.op;
	assert_int_equal(batch_encode(&b, &encoded), 0);
	assert_int_equal(inflight_save(f->state_dirfd, &o, &encoded), 0);
	make_file(f, "doc", "text");
	write_file(f, "doc", "");
	assert_int_equal(repair(f), 1);
	assert_int_equal(faccessat(f->state_dirfd, "inflight", F_OK, 0), 0);
	write_file(f, "other", "");
	assert_int_equal(repair(f), 1);
	assert_int_equal(faccessat(f->state_dirfd, "inflight", F_OK, 0), -1);
}

static void test_journal_is_set_aside(void **state)
{
	struct fixture *f = *state;

	do_create(f, "", "new", KIND_FILE);
	assert_int_equal(journal_set_aside(f->state_dirfd), 0);
	assert_int_equal(faccessat(f->state_dirfd, "journal.00000001", F_OK, 0), -1);
	fixture_reopen(f);
	assert_int_equal(f->replayed, 0);
}

static void test_linked_files_stay(void **state)
{
	struct fixture *f = *state;

	make_file(f, "a", "text");
	do_link(f, "a", "b");
	do_write(f, "a", "");
	assert_int_equal(repair(f), 0);
	assert_true(is_there(f, "a") && is_there(f, "b"));
}

static bool was_lost(struct fixture *f)
{
	bool lost = true;

	assert_int_equal(power_was_lost(f->state, &lost), 0);
	return lost;
}

static void put_mark(struct fixture *f, const char *mark)
{
	assert_int_equal(syncstate_begin(f->state, true), 0);
	assert_int_equal(syncstate_meta_put(f->state, "boot", mark, strlen(mark)), 0);
	assert_int_equal(syncstate_commit(f->state), 0);
}

static void test_was_lost(void **state)
{
	struct fixture *f = *state;

	assert_false(was_lost(f)); /* the first run */
	assert_int_equal(power_running(f->state, false), 0);
	assert_false(was_lost(f)); /* killed, but the machine runs on */
	assert_int_equal(power_ended(f->state, &f->tree), 0);
	assert_false(was_lost(f));
	put_mark(f, "00000000-0000-0000-0000-000000000000\ne");
	assert_false(was_lost(f)); /* another boot, after an orderly end */
	put_mark(f, "00000000-0000-0000-0000-000000000000\nr");
	assert_true(was_lost(f));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_whole_files_stay),
		TEST(test_torn_files),
		TEST(test_replaced),
		TEST(test_name_used_again),
		TEST(test_replaced_twice),
		TEST(test_replaced_unsent),
		TEST(test_replaced_unheard),
		TEST(test_synced),
		TEST(test_batch_is_dropped),
		TEST(test_journal_is_set_aside),
		TEST(test_linked_files_stay),
		TEST(test_was_lost),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
