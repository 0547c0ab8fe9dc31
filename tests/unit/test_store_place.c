/* SPDX-License-Identifier: Apache-2.0 */
/* store_place(): steps that were carried out in part before a crash, carried out once more. */
#include "store_fixture.h"

#include "store_internal.h"

static struct stat_id stat_in(struct fixture *f, int dirfd, const char *name)
{
	struct stat_id is;

	(void)f;
	assert_int_equal(tree_stat(dirfd, name, &is), 0);
	return is;
}

static struct step *add_step(struct steps *s, const struct id *node, const char *name)
{
	struct step *step = steps_add(s);

	assert_non_null(step);
	step->type = PLACE_CONTENT;
	step->kind = KIND_FILE;
	step->node = *node;
	step->dir = strdup("");
	step->name = strdup(name);
	return step;
}

/* Stages "newer" as what the step is to put there. */
static void stage_newer(struct fixture *f, struct step *step)
{
	const struct tree *t = &f->store->tree;
	int fd;

	assert_int_equal(manifest_of_bytes("newer", 5, &step->content, NULL), 0);
	fd = stage_create(t, step->stage);
	assert_true(fd >= 0);
	assert_int_equal(io_write(fd, "newer", 5), 0);
	assert_int_equal(close(fd), 0);
	step->staged = stat_in(f, t->stage_fd, step->stage);
}

/* New content for a file with two names, ended when the first had it. */
static void content_of_two_names(void **state)
{
	struct fixture *f = *state;
	struct tree *t = &f->store->tree;
	struct id node = add_file(f, ID_ROOT, "a", "old");
	struct steps steps = {0};
	struct step *first, *second;
	struct placed *placed;
	size_t count;
	struct op *op;

	op = add_op(f, OP_LINK, node);
	op->parent = ID_ROOT;
	op->name = (char *)(uintptr_t) "b";
	send_all(f, OUTCOME_OK);

	first = add_step(&steps, &node, "a");
	first->expect = stat_in(f, t->root_fd, "a");
	first->has_old = true;
	assert_int_equal(manifest_of_bytes("old", 3, &first->old, NULL), 0);
	stage_newer(f, first);
	second = add_step(&steps, &node, "b");
	first = &steps.list[0];
	second->again = true;
	second->content = first->content;
	second->expect = first->expect;
	second->staged = first->staged;
	stage_name(second->stage);
	assert_int_equal(linkat(t->stage_fd, first->stage, t->stage_fd, second->stage, 0), 0);
	assert_int_equal(renameat2(t->stage_fd, first->stage, t->root_fd, "a", RENAME_EXCHANGE), 0);

	assert_int_equal(store_place(f->store, &steps, true, &placed, &count), 0);
	disk_is(f, "a", "newer");
	disk_is(f, "b", "newer");
	assert_int_equal(stat_in(f, t->root_fd, "a").ino, stat_in(f, t->root_fd, "b").ino);
	assert_int_equal(stat_in(f, t->root_fd, "a").nlink, 2);
	assert_int_equal(tree_stat(t->stage_fd, steps.list[0].stage, &(struct stat_id){0}), -ENOENT);
	assert_int_equal(tree_stat(t->stage_fd, steps.list[1].stage, &(struct stat_id){0}), -ENOENT);
	free(placed);
	steps_fini(&steps);
}

/* What finds no place, since somebody has written the same by hand, is no file of the history under a second
 * name.
 */
static void history_has_files_of_its_own(void **state)
{
	struct fixture *f = *state;
	struct tree *t = &f->store->tree;
	struct id node = add_file(f, ID_ROOT, "a", "old");
	struct steps steps = {0};
	struct step *step;
	struct placed *placed;
	size_t count;

	send_all(f, OUTCOME_OK);
	step = add_step(&steps, &node, "a");
	step->again = true;
	step->expect = stat_in(f, t->root_fd, "a");
	stage_newer(f, step);
	assert_int_equal(linkat(t->stage_fd, step->stage, t->root_fd, "other", 0), 0);
	disk_write(f, "a", "newer");
	assert_int_equal(store_place(f->store, &steps, false, &placed, &count), 0);
	disk_is(f, "a", "newer");
	assert_int_equal(stat_in(f, t->root_fd, "other").nlink, 1);
	free(placed);
	steps_fini(&steps);
}

/* Nor is what was replaced, when hands have given it another name, or moved one of its names. */
static void history_is_not_shared(void **state)
{
	struct fixture *f = *state;
	struct id a = add_file(f, ID_ROOT, "a", "one"), b = add_file(f, ID_ROOT, "b", "two");
	struct op *op = add_op(f, OP_LINK, a);
	const struct tree *t = &f->store->tree;
	struct content one;
	cleanup_fd int fd = -1;

	op->parent = ID_ROOT;
	op->name = (char *)(uintptr_t) "a2";
	send_all(f, OUTCOME_OK);
	assert_int_equal(renameat(t->root_fd, "a2", t->root_fd, "moved"), 0);
	assert_int_equal(linkat(t->root_fd, "b", t->root_fd, "backup", 0), 0);
	op = add_op(f, OP_WRITE, a);
	set_data(f, op, "newer", 5);
	op = add_op(f, OP_UNLINK, b);
	op->parent = ID_ROOT;
	op->name = (char *)(uintptr_t) "b";
	send_all(f, OUTCOME_OK);
	disk_is(f, "a", "newer");
	disk_is(f, "moved", "one");
	disk_is(f, "backup", "two");
	assert_int_equal(stat_in(f, t->root_fd, "moved").nlink, 1);
	assert_int_equal(stat_in(f, t->root_fd, "backup").nlink, 1);
	assert_int_equal(manifest_of_bytes("one", 3, &one, NULL), 0);
	fd = content_history_open(&f->store->content, &one.hash);
	assert_true(fd >= 0);
}

static void add_mtime(struct fixture *f, struct id node, int64_t mtime_ns)
{
	struct op *op = add_op(f, OP_SETATTR, node);

	op->fields = OP_HAS_MTIME;
	op->mtime_ns = mtime_ns;
}

static void add_write(struct fixture *f, struct id node, const char *data)
{
	struct op *op = add_op(f, OP_WRITE, node);

	set_data(f, op, data, strlen(data));
	op->fields |= OP_HAS_MTIME;
	op->mtime_ns = 3000000000;
}

static void set_mtime(struct fixture *f, const char *path, int64_t mtime_ns)
{
	const struct timespec times[2] = {
		{.tv_nsec = UTIME_OMIT}, {.tv_sec = mtime_ns / 1000000000, .tv_nsec = mtime_ns % 1000000000}};

	assert_int_equal(utimensat(AT_FDCWD, path_in(f, path), times, 0), 0);
}

/* The time had been set, and is set again before the content comes. */
static void attributes_before_content(void **state)
{
	struct fixture *f = *state;
	struct id a = add_file(f, ID_ROOT, "a", "old");
	struct feed feed;

	send_all(f, OUTCOME_OK);
	add_mtime(f, a, 1000000000);
	add_mtime(f, a, 2000000000);
	add_write(f, a, "newer");
	send_and_die(f, &store_hook_committed);
	set_mtime(f, "a", 2000000000);
	assert_int_equal(fixture_reopen(f, false), 0);
	disk_is(f, "a", "newer");
	feed_read(f, NULL, 1 << 20, &feed);
	assert_int_equal(feed_get(&feed, "a", NULL)->content.size, 5);
	feed_fini(&feed);
}

/* The same, and it had been moved, so that no step finds it under its old name. */
static void attributes_before_a_move(void **state)
{
	struct fixture *f = *state;
	struct id a = add_file(f, ID_ROOT, "a", "old");
	char from[128];

	send_all(f, OUTCOME_OK);
	add_mtime(f, a, 1000000000);
	(void)add_move(f, OP_RENAME, a, "a", "b");
	add_write(f, a, "newer");
	send_and_die(f, &store_hook_committed);
	set_mtime(f, "a", 1000000000);
	strcpy(from, path_in(f, "a"));
	assert_int_equal(rename(from, path_in(f, "b")), 0);
	assert_int_equal(fixture_reopen(f, false), 0);
	disk_is(f, "b", "newer");
	assert_false(disk_has(f, "a"));
}

/* A name is taken away from a file, and given to it again: a redo of the first would be the end of it. */
static void taken_and_given_back(void **state)
{
	struct fixture *f = *state;
	struct id a = add_file(f, ID_ROOT, "a", "first"), b;
	struct op *op = add_op(f, OP_LINK, a);

	op->parent = ID_ROOT;
	op->name = (char *)(uintptr_t) "l";
	send_all(f, OUTCOME_OK);
	b = add_file(f, ID_ROOT, "b", "second");
	op = add_move(f, OP_RENAME, b, "b", "a");
	op->other = a;
	op = add_move(f, OP_EXCHANGE, b, "a", "l");
	op->other = a;
	(void)add_file(f, ID_ROOT, "c", "third");
	send_and_die(f, &store_hook_placed);
	assert_int_equal(fixture_reopen(f, false), 0);
	disk_is(f, "a", "first");
	disk_is(f, "l", "second");
	disk_is(f, "c", "third");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define STORE_TEST(name) cmocka_unit_test_setup_teardown(name, fixture_open, fixture_close)
		STORE_TEST(content_of_two_names),
		STORE_TEST(history_has_files_of_its_own),
		STORE_TEST(history_is_not_shared),
		STORE_TEST(attributes_before_content),
		STORE_TEST(attributes_before_a_move),
		STORE_TEST(taken_and_given_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
