/* SPDX-License-Identifier: Apache-2.0 */
/* Placing, with somebody who interferes at the worst moment: renameat2 is defined here, before the library's.
 */
#include "tree_fixture.h"

#include <sys/syscall.h>

static void (*before_rename)(void); /* once, between the look and the rename */
static bool refuse_flags; /* a file system whose rename takes no flags */

int renameat2(int from_dirfd, const char *from, int to_dirfd, const char *to, unsigned int flags)
{
	void (*hook)(void) = before_rename;

	before_rename = NULL;
	if (hook)
		hook();
	if (refuse_flags && flags) {
		errno = EINVAL;
		return -1;
	}
	return (int)syscall(SYS_renameat2, from_dirfd, from, to_dirfd, to, flags);
}

static int setup(void **state)
{
	before_rename = NULL;
	refuse_flags = false;
	return fixture_setup(state);
}

/* Exchange, exchange that is missing, and no flags at all. */
static int setup_plain(void **state)
{
	int r = setup(state);

	tree.has_exchange = false;
	return r;
}

static int setup_bare(void **state)
{
	int r = setup_plain(state);

	refuse_flags = true;
	return r;
}

static void test_put_new(void **state)
{
	char name[STAGE_NAME_BYTES];
	struct stat_id placed, now;

	(void)state;
	fixture_stage(name, "new");
	assert_int_equal(place_put(&tree, name, tree.root_fd, "f", NULL, &placed), 0);
	fixture_expect(tree.root_fd, "f", "new");
	now = fixture_stat(tree.root_fd, "f");
	assert_true(stat_id_unchanged(&placed, &now));
	assert_int_equal(now.nlink, 1);
	assert_int_equal(fixture_staged_count(), 0);
	fixture_stage(name, "second");
	assert_int_equal(place_put(&tree, name, tree.root_fd, "f", NULL, &placed), -EEXIST);
	fixture_expect(tree.root_fd, "f", "new");
	fixture_expect(tree.stage_fd, name, "second");
	assert_int_equal(stage_mkdir(&tree, name), 0);
	assert_int_equal(place_put(&tree, name, tree.root_fd, "f", NULL, &placed), -EEXIST);
	assert_int_equal(place_put(&tree, name, tree.root_fd, "d", NULL, NULL), 0);
	assert_int_equal(stage_symlink(&tree, "dangling", name), 0);
	assert_int_equal(place_put(&tree, name, tree.root_fd, "d", NULL, &placed), -EEXIST);
	assert_int_equal(place_put(&tree, name, tree.root_fd, "l", NULL, &placed), 0);
	assert_int_equal(tree_kind(placed.mode), KIND_SYMLINK);
	assert_int_equal(place_put(&tree, "missing", tree.root_fd, "m", NULL, &placed), -ENOENT);
}

static void test_put_over(void **state)
{
	char name[STAGE_NAME_BYTES];
	struct stat_id old, placed, now;

	(void)state;
	fixture_write(tree.root_fd, "f", "old");
	old = fixture_stat(tree.root_fd, "f");
	fixture_stage(name, "new");
	assert_int_equal(place_put(&tree, name, tree.root_fd, "f", &old, &placed), 0);
	fixture_expect(tree.root_fd, "f", "new");
	fixture_expect(tree.stage_fd, name, "old");
	now = fixture_stat(tree.root_fd, "f");
	assert_true(stat_id_unchanged(&placed, &now));
	assert_int_equal(fixture_staged_count(), 1);
	now = fixture_stat(tree.stage_fd, name);
	assert_true(stat_id_same_object(&old, &now));
	/* By then it is another one. */
	fixture_stage(name, "newer");
	assert_int_equal(place_put(&tree, name, tree.root_fd, "f", &old, &placed), -ESTALE);
	assert_int_equal(place_put(&tree, name, tree.root_fd, "gone", &old, &placed), -ESTALE);
	fixture_expect(tree.root_fd, "f", "new");
}

static void test_put_over_changed(void **state)
{
	char name[STAGE_NAME_BYTES];
	struct stat_id old, without;

	(void)state;
	fixture_write(tree.root_fd, "f", "old");
	old = fixture_stat(tree.root_fd, "f");
	fixture_stage(name, "new");
	/* The same size, and the mtime put back: ctime alone tells. */
	old.ctime_ns -= 1;
	assert_int_equal(place_put(&tree, name, tree.root_fd, "f", &old, NULL), -ESTALE);
	without = old;
	without.ctime_ns = 0;
	without.mtime_ns -= 1;
	assert_int_equal(place_put(&tree, name, tree.root_fd, "f", &without, NULL), -ESTALE);
	without.mtime_ns += 1;
	without.size += 1;
	assert_int_equal(place_put(&tree, name, tree.root_fd, "f", &without, NULL), -ESTALE);
	without.size -= 1;
	assert_int_equal(place_put(&tree, name, tree.root_fd, "f", &without, NULL), 0);
	fixture_expect(tree.root_fd, "f", "new");
	/* An identity alone. */
	old = fixture_stat(tree.root_fd, "f");
	without =
		(struct stat_id){.dev = old.dev, .ino = old.ino, .btime_ns = old.btime_ns, .mode = old.mode};
	assert_int_equal(place_put(&tree, name, tree.root_fd, "f", &without, NULL), 0);
	fixture_expect(tree.root_fd, "f", "old");
	assert_int_equal(place_put(&tree, name, tree.root_fd, "f", &without, NULL), -ESTALE);
}

static void test_put_kinds(void **state)
{
	char name[STAGE_NAME_BYTES];
	struct stat_id old, placed;

	(void)state;
	assert_int_equal(mkdirat(tree.root_fd, "d", 0755), 0);
	old = fixture_stat(tree.root_fd, "d");
	fixture_write(tree.root_fd, "d/child", "c"); /* a directory's times follow its children */
	fixture_stage(name, "file");
	assert_int_equal(place_put(&tree, name, tree.root_fd, "d", &old, &placed), 0);
	fixture_expect(tree.root_fd, "d", "file");
	assert_true(fixture_exists(tree.stage_fd, name));
	assert_int_equal(tree_kind(fixture_stat(tree.stage_fd, name).mode), KIND_DIR);
	old = fixture_stat(tree.root_fd, "d");
	assert_int_equal(place_put(&tree, name, tree.root_fd, "d", &old, &placed), 0);
	fixture_expect(tree.root_fd, "d/child", "c");
	/* A link is replaced itself. */
	fixture_write(tree.root_fd, "target", "untouched");
	assert_int_equal(symlinkat("target", tree.root_fd, "l"), 0);
	old = fixture_stat(tree.root_fd, "l");
	fixture_stage(name, "instead");
	assert_int_equal(place_put(&tree, name, tree.root_fd, "l", &old, &placed), 0);
	fixture_expect(tree.root_fd, "l", "instead");
	fixture_expect(tree.root_fd, "target", "untouched");
}

static void user_saves(void)
{
	fixture_write(tree.root_fd, "tmp", "saved by the user");
	assert_int_equal(renameat(tree.root_fd, "tmp", tree.root_fd, "f"), 0);
}

static void user_writes(void)
{
	fixture_write(tree.root_fd, "f", "written by the user");
}

static void user_makes(void)
{
	fixture_write(tree.root_fd, "g", "made by the user");
}

static void user_fills(void)
{
	fixture_write(tree.root_fd, "d/late", "late");
}

static void (*const edits[])(void) = {user_saves, user_writes};
static const char *const edited[] = {"saved by the user", "written by the user"};

static void test_put_race(void **state)
{
	(void)state;
	for (int i = 0; i < 2; i++) {
		char name[STAGE_NAME_BYTES];
		struct stat_id old;

		fixture_write(tree.root_fd, "f", "old");
		old = fixture_stat(tree.root_fd, "f");
		fixture_stage(name, "new");
		before_rename = edits[i];
		assert_int_equal(place_put(&tree, name, tree.root_fd, "f", &old, NULL), -ESTALE);
		assert_null(before_rename);
		fixture_expect(tree.root_fd, "f", edited[i]);
		fixture_expect(tree.stage_fd, name, "new");
	}
	char name[STAGE_NAME_BYTES];

	fixture_stage(name, "new");
	before_rename = user_makes;
	assert_int_equal(place_put(&tree, name, tree.root_fd, "g", NULL, NULL), -EEXIST);
	fixture_expect(tree.root_fd, "g", "made by the user");
}

static void test_take(void **state)
{
	char name[STAGE_NAME_BYTES];
	struct stat_id old;

	(void)state;
	fixture_write(tree.root_fd, "f", "old");
	old = fixture_stat(tree.root_fd, "f");
	stage_name(name);
	assert_int_equal(place_take(&tree, tree.root_fd, "gone", &old, name), -ENOENT);
	assert_int_equal(place_take(&tree, tree.root_fd, "f", &old, name), 0);
	assert_false(fixture_exists(tree.root_fd, "f"));
	fixture_expect(tree.stage_fd, name, "old");
	for (int i = 0; i < 2; i++) {
		stage_name(name);
		fixture_write(tree.root_fd, "f", "old");
		old = fixture_stat(tree.root_fd, "f");
		before_rename = edits[i];
		assert_int_equal(place_take(&tree, tree.root_fd, "f", &old, name), -ESTALE);
		assert_null(before_rename);
		fixture_expect(tree.root_fd, "f", edited[i]);
		assert_false(fixture_exists(tree.stage_fd, name));
	}
}

static void test_rmdir(void **state)
{
	struct stat_id old;

	(void)state;
	assert_int_equal(mkdirat(tree.root_fd, "d", 0755), 0);
	old = fixture_stat(tree.root_fd, "d");
	fixture_write(tree.root_fd, "d/child", "c");
	before_rename = user_makes;
	assert_int_equal(place_rmdir(&tree, tree.root_fd, "d", &old), -ENOTEMPTY);
	assert_non_null(before_rename); /* it did not even vanish for a moment */
	fixture_expect(tree.root_fd, "d/child", "c");
	assert_int_equal(unlinkat(tree.root_fd, "d/child", 0), 0);
	before_rename = user_fills;
	assert_int_equal(place_rmdir(&tree, tree.root_fd, "d", &old), -ENOTEMPTY);
	assert_null(before_rename);
	fixture_expect(tree.root_fd, "d/late", "late");
	assert_int_equal(unlinkat(tree.root_fd, "d/late", 0), 0);
	assert_int_equal(place_rmdir(&tree, tree.root_fd, "d", &old), 0);
	assert_false(fixture_exists(tree.root_fd, "d"));
	assert_int_equal(mkdirat(tree.root_fd, "e", 0755), 0);
	assert_int_equal(mkdirat(tree.root_fd, "d", 0755), 0);
	old = fixture_stat(tree.root_fd, "e");
	assert_int_equal(place_rmdir(&tree, tree.root_fd, "d", &old), -ESTALE);
	assert_true(fixture_exists(tree.root_fd, "d"));
	fixture_write(tree.root_fd, "f", "");
	old = fixture_stat(tree.root_fd, "f");
	assert_int_equal(place_rmdir(&tree, tree.root_fd, "f", &old), -ENOTDIR);
	assert_int_equal(fixture_staged_count(), 0);
}

static void test_move(void **state)
{
	struct stat_id old, placed, now;

	(void)state;
	fixture_write(tree.root_fd, "f", "old");
	fixture_write(tree.root_fd, "taken", "taken");
	assert_int_equal(mkdirat(tree.root_fd, "d", 0755), 0);
	int d = tree_open_dir(&tree, "d");

	old = fixture_stat(tree.root_fd, "f");
	assert_int_equal(place_move(&tree, tree.root_fd, "f", tree.root_fd, "taken", &old, &placed), -EEXIST);
	before_rename = user_saves;
	assert_int_equal(place_move(&tree, tree.root_fd, "f", d, "g", &old, &placed), -ESTALE);
	fixture_expect(tree.root_fd, "f", "saved by the user");
	assert_false(fixture_exists(d, "g"));
	assert_int_equal(place_move(&tree, tree.root_fd, "f", d, "g", &old, &placed), -ESTALE);
	old = fixture_stat(tree.root_fd, "f");
	assert_int_equal(place_move(&tree, tree.root_fd, "f", d, "g", &old, &placed), 0);
	fixture_expect(d, "g", "saved by the user");
	now = fixture_stat(d, "g");
	assert_true(stat_id_unchanged(&placed, &now));
	assert_int_equal(place_move(&tree, tree.root_fd, "f", d, "h", &old, &placed), -ENOENT);
	/* A directory, and one that would go into itself. */
	old = fixture_stat(tree.root_fd, "d");
	assert_int_equal(place_move(&tree, tree.root_fd, "d", d, "inside", &old, &placed), -EINVAL);
	assert_false(fixture_exists(d, "inside"));
	assert_int_equal(place_move(&tree, tree.root_fd, "d", tree.root_fd, "e", &old, &placed), 0);
	fixture_expect(tree.root_fd, "e/g", "saved by the user");
	(void)close(d);
}

static void test_exchange(void **state)
{
	struct stat_id a, b;

	(void)state;
	fixture_write(tree.root_fd, "f", "one");
	assert_int_equal(mkdirat(tree.root_fd, "d", 0755), 0);
	fixture_write(tree.root_fd, "d/child", "two");
	a = fixture_stat(tree.root_fd, "f");
	b = fixture_stat(tree.root_fd, "d");
	assert_int_equal(place_exchange(&tree, tree.root_fd, "f", &a, tree.root_fd, "d", &b), 0);
	fixture_expect(tree.root_fd, "d", "one");
	fixture_expect(tree.root_fd, "f/child", "two");
	assert_int_equal(place_exchange(&tree, tree.root_fd, "f", &a, tree.root_fd, "d", &b), -ESTALE);
	a = fixture_stat(tree.root_fd, "d");
	assert_int_equal(place_exchange(&tree, tree.root_fd, "f", &b, tree.root_fd, "d", &a), 0);
	a = fixture_stat(tree.root_fd, "f");
	before_rename = user_saves;
	assert_int_equal(place_exchange(&tree, tree.root_fd, "f", &a, tree.root_fd, "d", &b), -ESTALE);
	fixture_expect(tree.root_fd, "f", "saved by the user");
	fixture_expect(tree.root_fd, "d/child", "two");
	assert_int_equal(fixture_staged_count(), 0);
}

static void test_link(void **state)
{
	struct stat_id is, other;

	(void)state;
	fixture_write(tree.root_fd, "f", "one");
	fixture_write(tree.root_fd, "o", "other");
	is = fixture_stat(tree.root_fd, "f");
	other = fixture_stat(tree.root_fd, "o");
	assert_int_equal(place_link(&tree, tree.root_fd, "f", tree.root_fd, "g", &other), -ESTALE);
	assert_int_equal(place_link(&tree, tree.root_fd, "f", tree.root_fd, "g", &is), 0);
	assert_int_equal(fixture_stat(tree.root_fd, "g").nlink, 2);
	is = fixture_stat(tree.root_fd, "f");
	assert_int_equal(place_link(&tree, tree.root_fd, "f", tree.root_fd, "o", &is), -EEXIST);
	/* A link itself, not what it leads to. */
	assert_int_equal(symlinkat("f", tree.root_fd, "l"), 0);
	is = fixture_stat(tree.root_fd, "l");
	assert_int_equal(place_link(&tree, tree.root_fd, "l", tree.root_fd, "m", &is), 0);
	assert_int_equal(tree_kind(fixture_stat(tree.root_fd, "m").mode), KIND_SYMLINK);
}

static void test_attr(void **state)
{
	struct stat_id is, now, disk, other;

	(void)state;
	fixture_write(tree.root_fd, "f", "one");
	assert_int_equal(fchmodat(tree.root_fd, "f", 04644, 0), 0);
	is = fixture_stat(tree.root_fd, "f");
	assert_int_equal(place_attr(&tree, tree.root_fd, "f", &is, 0751, 42, NULL, &now), 0);
	disk = fixture_stat(tree.root_fd, "f");
	assert_true(stat_id_unchanged(&now, &disk));
	assert_int_equal(disk.mode & 07777, 04751);
	assert_int_equal(disk.mtime_ns, 42);
	fixture_write(tree.root_fd, "o", "");
	other = fixture_stat(tree.root_fd, "o");
	assert_int_equal(place_attr(&tree, tree.root_fd, "f", &other, 0, 1, NULL, &now), -ESTALE);
	/* What is a link by now is never followed. */
	assert_int_equal(symlinkat("f", tree.root_fd, "l"), 0);
	assert_int_equal(place_attr(&tree, tree.root_fd, "l", &is, 0, 1, NULL, &now), -ESTALE);
	other = fixture_stat(tree.root_fd, "l");
	assert_int_equal(place_attr(&tree, tree.root_fd, "l", &other, 0, 99, NULL, &now), 0);
	assert_int_equal(now.mtime_ns, 99);
	disk = fixture_stat(tree.root_fd, "f");
	assert_int_equal(disk.mode & 07777, 04751);
	assert_int_equal(disk.mtime_ns, 42);
}

static int forbidden(void)
{
	char name[STAGE_NAME_BYTES];
	struct stat_id is, placed;
	int d;

	MUST(mkdirat(tree.root_fd, "d", 0700) == 0);
	MUST((d = tree_open_dir(&tree, "d")) >= 0);
	MUST(stage_mkdir(&tree, name) == 0);
	MUST(stage_set_attr(&tree, name, 0555, 3, NULL) == 0);
	MUST(place_put(&tree, name, d, "ro", NULL, &placed) == 0);
	MUST((placed.mode & 07777) == 0555);
	MUST(fchmod(d, 0555) == 0);
	MUST(openat(d, "x", O_WRONLY | O_CREAT, 0600) < 0); /* the control: it does forbid it */
	MUST(stage_mkdir(&tree, name) == 0);
	MUST(place_put(&tree, name, d, "e", NULL, NULL) == 0);
	MUST(tree_stat(d, "", &is) == 0 && (is.mode & 07777) == 0555);
	MUST(tree_stat(d, "ro", &is) == 0);
	MUST(place_move(&tree, d, "ro", tree.root_fd, "moved", &is, &placed) == 0);
	MUST((placed.mode & 07777) == 0555);
	MUST(tree_stat(d, "e", &is) == 0);
	MUST(place_rmdir(&tree, d, "e", &is) == 0);
	/* A file that its owner may neither read nor write. */
	MUST((d = stage_create(&tree, name)) >= 0);
	MUST(stage_set_attr(&tree, name, 0, 3, NULL) == 0);
	MUST(place_put(&tree, name, tree.root_fd, "zero", NULL, &placed) == 0);
	MUST(place_attr(&tree, tree.root_fd, "zero", &placed, 0400, 4, &(struct blob){0}, &is) == 0);
	MUST((is.mode & 07777) == 0400 && is.mtime_ns == 4);
	return 0;
}

static void test_ordinary_user(void **state)
{
	(void)state;
	fixture_as_user(forbidden);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, fixture_teardown)
#define P(test)                                                                                              \
	{                                                                                                    \
#test " without exchange", test, setup_plain, fixture_teardown, NULL                         \
	}
#define B(test)                                                                                              \
	{                                                                                                    \
#test " without flags", test, setup_bare, fixture_teardown, NULL                             \
	}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_put_new),
		T(test_put_over),
		T(test_put_over_changed),
		T(test_put_kinds),
		T(test_put_race),
		T(test_take),
		T(test_rmdir),
		T(test_move),
		T(test_exchange),
		T(test_link),
		T(test_attr),
		T(test_ordinary_user),
		P(test_put_new),
		P(test_put_over),
		P(test_put_over_changed),
		P(test_put_kinds),
		P(test_exchange),
		B(test_put_new),
		B(test_put_over),
		B(test_put_kinds),
		B(test_take),
		B(test_rmdir),
		B(test_move),
		B(test_exchange),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
