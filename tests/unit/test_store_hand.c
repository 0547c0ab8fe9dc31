/* SPDX-License-Identifier: Apache-2.0 */
/* store.h: edits made by hand become changes, while it runs and while it was down; deletions in bulk wait for
 * an answer. */
#include "store_fixture.h"

#include "store_internal.h"

#include <glob.h>
#include <sys/xattr.h>

static void edits_while_running(void **state)
{
	struct fixture *f = *state;
	struct feed feed;
	struct id a = add_file(f, ID_ROOT, "a", "one"), moved_id;

	send_all(f, OUTCOME_OK);
	disk_write(f, "a", "two by hand");
	feed_wait(f, "a", "two by hand", false);
	disk_write(f, "new", "fresh");
	feed_wait(f, "new", "fresh", false);
	assert_int_equal(mkdir(path_in(f, "dir"), 0755), 0);
	disk_write(f, "dir/inner", "in");
	feed_wait(f, "inner", "in", false);
	disk_write(f, "dir/later", "l");
	feed_wait(f, "later", "l", false);
	assert_int_equal(symlink("target", path_in(f, "link")), 0);
	feed_wait(f, "link", NULL, false);
	{
		char from[128];

		strcpy(from, path_in(f, "a"));
		assert_int_equal(rename(from, path_in(f, "dir/moved")), 0);
	}
	feed_wait(f, "moved", "two by hand", false);
	feed_read(f, NULL, 1 << 20, &feed);
	moved_id = feed_get(&feed, "moved", NULL)->node;
	feed_fini(&feed);
	assert_memory_equal(&moved_id, &a, sizeof(a)); /* the same node */
	assert_int_equal(chmod(path_in(f, "dir/moved"), 0600), 0);
	assert_int_equal(unlink(path_in(f, "new")), 0);
	feed_wait(f, "new", NULL, true);
	assert_int_equal(unlink(path_in(f, "link")), 0);
	feed_wait(f, "link", NULL, true);
	feed_read(f, NULL, 1 << 20, &feed);
	assert_int_equal(feed_get(&feed, "moved", NULL)->mode, 0600);
	feed_fini(&feed);
}

static void atomic_save_is_an_edit(void **state)
{
	struct fixture *f = *state;
	char from[128];

	add_file(f, ID_ROOT, "a", "one");
	send_all(f, OUTCOME_OK);
	disk_write(f, "a.tmp", "saved");
	strcpy(from, path_in(f, "a.tmp"));
	assert_int_equal(rename(from, path_in(f, "a")), 0);
	feed_wait(f, "a", "saved", false);
	feed_wait(f, "a.tmp", NULL, true);
}

static void big_file_by_hand(void **state)
{
	struct fixture *f = *state;
	char command[160];

	snprintf(command, sizeof(command), "head -c 5000000 /dev/zero >%s/big", f->root);
	assert_int_equal(system(command), 0);
	feed_wait(f, "big", NULL, false);
	snprintf(command, sizeof(command), "echo tail >>%s/big", f->root);
	assert_int_equal(system(command), 0);
	disk_write(f, "mark", "m");
	feed_wait(f, "mark", "m", false);
	{
		struct feed feed;

		feed_read(f, NULL, 1 << 20, &feed);
		assert_int_equal(feed_get(&feed, "big", NULL)->content.size, 5000005);
		feed_fini(&feed);
	}
}

static void edits_while_down(void **state)
{
	struct fixture *f = *state;
	struct feed feed;
	struct id d = add_dir(f, ID_ROOT, "d"), a = add_file(f, d, "a", "one"), moved_id;
	struct cursor before, after;
	char from[128];

	add_file(f, d, "b", "bee");
	add_file(f, ID_ROOT, "c", "sea");
	add_file(f, ID_ROOT, "same", "same");
	send_all(f, OUTCOME_OK);
	store_cursor(f->store, &before);
	fixture_shut(f);
	strcpy(from, path_in(f, "d"));
	assert_int_equal(rename(from, path_in(f, "e")), 0);
	strcpy(from, path_in(f, "e/a"));
	assert_int_equal(rename(from, path_in(f, "top")), 0);
	disk_write(f, "c", "changed while down");
	assert_int_equal(unlink(path_in(f, "e/b")), 0);
	disk_write(f, "e/new", "n");
	assert_int_equal(fixture_reopen(f, false), 0);
	feed_read(f, NULL, 1 << 20, &feed);
	assert_non_null(feed_find(&feed, "e", NULL));
	assert_null(feed_find(&feed, "d", NULL));
	assert_null(feed_find(&feed, "b", NULL));
	assert_non_null(feed_find(&feed, "new", NULL));
	moved_id = feed_get(&feed, "top", NULL)->node;
	assert_memory_equal(&moved_id, &a, sizeof(a));
	moved_id = feed_get(&feed, "e", NULL)->node;
	assert_memory_equal(&moved_id, &d, sizeof(d));
	feed_fini(&feed);
	feed_wait(f, "c", "changed while down", false);
	feed_read(f, &before, 1 << 20, &feed);
	assert_null(feed_find(&feed, "same", NULL));
	feed_fini(&feed);
	/* once more: nothing has changed, so nothing is told */
	store_cursor(f->store, &before);
	fixture_shut(f);
	assert_int_equal(fixture_reopen(f, false), 0);
	store_cursor(f->store, &after);
	assert_int_equal(before.seq, after.seq);
}

static void own_placements_are_no_edits(void **state)
{
	struct fixture *f = *state;
	struct cursor before, after;
	char names[100][16];

	for (int i = 0; i < 100; i++) {
		snprintf(names[i], sizeof(names[i]), "n%d", i);
		add_file(f, ID_ROOT, names[i], names[i]);
	}
	send_all(f, OUTCOME_OK);
	store_cursor(f->store, &before);
	/* an edit made after them is heard after them */
	disk_write(f, "mark", "m");
	feed_wait(f, "mark", "m", false);
	store_cursor(f->store, &after);
	assert_int_equal(after.seq, before.seq + 1);
}

static void edit_in_the_way_of_a_write_is_kept(void **state)
{
	struct fixture *f = *state;
	struct id a = add_file(f, ID_ROOT, "a", "one");
	struct content content;
	struct blob manifest;
	struct buf got = BUF_INIT;
	struct hash chunk = hash_bytes("client", 6);
	struct op *op;

	send_all(f, OUTCOME_OK);
	disk_write(f, "a", "by hand, newer");
	op = add_op(f, OP_WRITE, a);
	set_data(f, op, "client", 6);
	content = op->content;
	send_all(f, OUTCOME_OK);
	/* Whichever came first, the other is not lost. */
	feed_wait(f, "a", NULL, false);
	assert_int_equal(store_manifest(f->store, &content.hash, &manifest), 0);
	free(manifest.data);
	assert_int_equal(store_chunk_get(f->store, &chunk, &got), 0);
	buf_fini(&got);
}

/* What a hand does between COMMIT and placing: a file saved under this name. */
static struct fixture *hook_fixture;
static const char *hook_name;

static void hook_saves(void)
{
	char from[128];

	store_hook_committed = NULL;
	disk_write(hook_fixture, "by hand.tmp", "by hand");
	strcpy(from, path_in(hook_fixture, "by hand.tmp"));
	assert_int_equal(rename(from, path_in(hook_fixture, hook_name)), 0);
}

static void hand_saves_at_commit(struct fixture *f, const char *name)
{
	hook_fixture = f;
	hook_name = name;
	store_hook_committed = hook_saves;
}

/* The hand's file is under the name of a conflict copy, and told of. */
static void hand_is_copy_of(struct fixture *f, const char *name)
{
	char pattern[160];
	glob_t found;

	snprintf(pattern, sizeof(pattern), "%s/%s (conflict server *)", f->root, name);
	assert_int_equal(glob(pattern, 0, NULL, &found), 0);
	assert_int_equal(found.gl_pathc, 1);
	feed_wait(f, strrchr(found.gl_pathv[0], '/') + 1, "by hand", false);
	globfree(&found);
}

static void both_are_kept_of_two_writes(void **state)
{
	struct fixture *f = *state;
	struct id a = add_file(f, ID_ROOT, "a", "one");

	send_all(f, OUTCOME_OK);
	set_data(f, add_op(f, OP_WRITE, a), "client", 6);
	hand_saves_at_commit(f, "a");
	send_all(f, OUTCOME_OK);
	disk_is(f, "a", "client");
	hand_is_copy_of(f, "a");
	feed_wait(f, "a", "client", false);
}

static void both_are_kept_of_two_creates(void **state)
{
	struct fixture *f = *state;

	add_file(f, ID_ROOT, "a", "client");
	hand_saves_at_commit(f, "a");
	send_all(f, OUTCOME_OK);
	disk_is(f, "a", "client");
	hand_is_copy_of(f, "a");
	feed_wait(f, "a", "client", false);
}

static void the_same_made_twice_is_one(void **state)
{
	struct fixture *f = *state;
	char pattern[160];
	glob_t found;

	add_file(f, ID_ROOT, "a", "by hand");
	add_dir(f, ID_ROOT, "mark");
	hand_saves_at_commit(f, "a");
	send_all(f, OUTCOME_OK);
	feed_wait(f, "a", "by hand", false);
	disk_write(f, "mark/m", "m");
	feed_wait(f, "m", "m", false);
	snprintf(pattern, sizeof(pattern), "%s/*conflict*", f->root);
	assert_int_equal(glob(pattern, 0, NULL, &found), GLOB_NOMATCH);
}

static void both_are_kept_of_move_and_create(void **state)
{
	struct fixture *f = *state;
	struct id a = add_file(f, ID_ROOT, "a", "client");

	send_all(f, OUTCOME_OK);
	(void)add_move(f, OP_RENAME, a, "a", "b");
	hand_saves_at_commit(f, "b");
	send_all(f, OUTCOME_OK);
	disk_is(f, "b", "client");
	assert_false(disk_has(f, "a"));
	hand_is_copy_of(f, "b");
	feed_wait(f, "b", "client", false);
}

static void both_are_kept_of_two_replacements(void **state)
{
	struct fixture *f = *state;
	struct id a = add_file(f, ID_ROOT, "a", "old"), tmp = add_file(f, ID_ROOT, "a.tmp", "client");
	struct op *op;

	send_all(f, OUTCOME_OK);
	op = add_move(f, OP_RENAME, tmp, "a.tmp", "a");
	op->other = a;
	hand_saves_at_commit(f, "a");
	send_all(f, OUTCOME_OK);
	disk_is(f, "a", "client");
	assert_false(disk_has(f, "a.tmp"));
	hand_is_copy_of(f, "a");
	feed_wait(f, "a", "client", false);
}

static void replacing_one_of_two_names_leaves_the_other(void **state)
{
	struct fixture *f = *state;
	struct id a = add_file(f, ID_ROOT, "a", "one");
	struct op *op;
	char from[128];

	send_all(f, OUTCOME_OK);
	op = add_op(f, OP_LINK, a);
	op->parent = ID_ROOT;
	op->name = (char *)(uintptr_t) "a2";
	send_all(f, OUTCOME_OK);
	disk_write(f, "a.tmp", "saved");
	strcpy(from, path_in(f, "a.tmp"));
	assert_int_equal(rename(from, path_in(f, "a")), 0);
	feed_wait(f, "a", "saved", false);
	feed_wait(f, "a2", "one", false);
}

static void hook_moves_dir(void)
{
	char from[128];

	store_hook_committed = NULL;
	strcpy(from, path_in(hook_fixture, "d"));
	assert_int_equal(rename(from, path_in(hook_fixture, "e")), 0);
}

static void disk_wait(struct fixture *f, const char *path, const char *data)
{
	for (uint64_t deadline = clock_mono_ms() + DEADLINE_MS;;) {
		struct buf is = BUF_INIT;
		bool same = io_read_file(AT_FDCWD, path_in(f, path), 1 << 20, &is) == 0 &&
			is.len == strlen(data) && memcmp(is.data, data, is.len) == 0;

		buf_fini(&is);
		if (same)
			return;
		if (clock_mono_ms() >= deadline)
			fail_msg("\"%s\" is not \"%s\" in time", path, data);
		usleep(2000);
	}
}

static void what_comes_to_a_moved_directory_follows_it(void **state)
{
	struct fixture *f = *state;
	struct id d = add_dir(f, ID_ROOT, "d"), old = add_file(f, d, "old", "one");
	char pattern[160];
	glob_t found;

	send_all(f, OUTCOME_OK);
	set_data(f, add_op(f, OP_WRITE, old), "two", 3);
	add_file(f, add_dir(f, d, "sub"), "new", "client");
	hook_fixture = f;
	store_hook_committed = hook_moves_dir;
	send_all(f, OUTCOME_OK);
	disk_wait(f, "e/sub/new", "client");
	disk_wait(f, "e/old", "two");
	feed_wait(f, "e", NULL, false);
	feed_wait(f, "new", "client", false);
	feed_wait(f, "old", "two", false);
	assert_false(disk_has(f, "d"));
	snprintf(pattern, sizeof(pattern), "%s/e/*conflict*", f->root);
	assert_int_equal(glob(pattern, 0, NULL, &found), GLOB_NOMATCH);
}

static void hook_removes_dir(void)
{
	char command[160];

	store_hook_committed = NULL;
	snprintf(command, sizeof(command), "rm -r '%s/d'", hook_fixture->root);
	assert_int_equal(system(command), 0);
}

static void what_comes_to_a_removed_directory_brings_it_back(void **state)
{
	struct fixture *f = *state;
	struct id d = add_dir(f, ID_ROOT, "d"), sub = add_dir(f, d, "sub");

	add_file(f, d, "old", "one");
	add_file(f, ID_ROOT, "other", "stays");
	send_all(f, OUTCOME_OK);
	add_file(f, sub, "new", "client");
	hook_fixture = f;
	store_hook_committed = hook_removes_dir;
	send_all(f, OUTCOME_OK);
	disk_wait(f, "d/sub/new", "client");
	feed_wait(f, "old", NULL, true);
	feed_wait(f, "new", "client", false);
	assert_false(disk_has(f, "d/old"));
}

static void fill(struct fixture *f, int count)
{
	static char names[1300][16];
	struct id d = add_dir(f, ID_ROOT, "many");

	send_all(f, OUTCOME_OK);
	for (int i = 0; i < count; i++) {
		snprintf(names[i], sizeof(names[i]), "m%d", i);
		add_file(f, d, names[i], "same content");
		if (f->count == 500)
			send_all(f, OUTCOME_OK);
	}
	send_all(f, OUTCOME_OK);
}

static void delete_many(struct fixture *f)
{
	char command[128];

	snprintf(command, sizeof(command), "rm -r '%s/many'", f->root);
	assert_int_equal(system(command), 0);
}

static void bulk_deletion_is_held(void **state)
{
	struct fixture *f = *state;
	struct store_status status;
	struct id old = add_file(f, ID_ROOT, "old", "same content");
	struct op *op;

	/* what was deleted once is in the history, and so can be brought back */
	send_all(f, OUTCOME_OK);
	op = add_op(f, OP_UNLINK, old);
	op->parent = ID_ROOT;
	op->name = (char *)(uintptr_t) "old";
	send_all(f, OUTCOME_OK);
	fill(f, 1200);
	add_file(f, ID_ROOT, "other", "stays");
	send_all(f, OUTCOME_OK);
	fixture_shut(f);
	delete_many(f);
	assert_int_equal(fixture_reopen(f, false), 0);
	store_status(f->store, &status);
	assert_int_equal(status.held_deletions, 1201);
	assert_int_equal(status.nodes, 1202);
	assert_int_equal(store_answer_held(f->store, false), 0);
	store_status(f->store, &status);
	assert_int_equal(status.held_deletions, 0);
	disk_is(f, "many/m7", "same content");
	disk_is(f, "many/m1199", "same content");
	fixture_shut(f);
	delete_many(f);
	assert_int_equal(fixture_reopen(f, false), 0);
	store_status(f->store, &status);
	assert_int_equal(status.held_deletions, 1201);
	assert_int_equal(store_answer_held(f->store, true), 0);
	store_status(f->store, &status);
	assert_int_equal(status.held_deletions, 0);
	assert_int_equal(status.nodes, 1);
	feed_wait(f, "many", NULL, true);
}

static void emptied_root_deletes_nothing(void **state)
{
	struct fixture *f = *state;
	struct feed feed;

	add_file(f, ID_ROOT, "a", "x");
	add_file(f, ID_ROOT, "b", "y");
	add_file(f, ID_ROOT, "c", "z");
	send_all(f, OUTCOME_OK);
	assert_int_equal(unlink(path_in(f, "a")), 0);
	assert_int_equal(unlink(path_in(f, "b")), 0);
	assert_int_equal(unlink(path_in(f, "c")), 0);
	held_wait(f, 3);
	feed_read(f, NULL, 1 << 20, &feed);
	assert_non_null(feed_find(&feed, "a", NULL));
	feed_fini(&feed);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define STORE_TEST(name) cmocka_unit_test_setup_teardown(name, fixture_open, fixture_close)
		STORE_TEST(edits_while_running),
		STORE_TEST(atomic_save_is_an_edit),
		STORE_TEST(big_file_by_hand),
		STORE_TEST(edits_while_down),
		STORE_TEST(own_placements_are_no_edits),
		STORE_TEST(edit_in_the_way_of_a_write_is_kept),
		STORE_TEST(both_are_kept_of_two_writes),
		STORE_TEST(both_are_kept_of_two_creates),
		STORE_TEST(the_same_made_twice_is_one),
		STORE_TEST(both_are_kept_of_move_and_create),
		STORE_TEST(both_are_kept_of_two_replacements),
		STORE_TEST(replacing_one_of_two_names_leaves_the_other),
		STORE_TEST(what_comes_to_a_moved_directory_follows_it),
		STORE_TEST(what_comes_to_a_removed_directory_brings_it_back),
		STORE_TEST(bulk_deletion_is_held),
		STORE_TEST(emptied_root_deletes_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
