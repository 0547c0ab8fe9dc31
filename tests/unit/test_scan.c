/* SPDX-License-Identifier: Apache-2.0 */
/* The scan: every entry once, nesting, what is left out, what could not be read, what vanishes. */
#include "tree_fixture.h"

#include <syncfs/buf.h>
#include <syncfs/limits.h>

struct seen {
	struct buf entries, done, local; /* each path between newlines; done with + or - before it */
	int count, fail_at;
	const char *skip, *remove_on, *remove;
};

static int see(void *arg, const struct scan_entry *e)
{
	struct seen *s = arg;
	struct stat_id is;
	const char *slash = strrchr(e->path, '/');

	if (strcmp(slash ? slash + 1 : e->path, e->name) != 0)
		return -EPROTO;
	if (tree_stat(e->dirfd, e->name, &is) < 0 || !stat_id_unchanged(&is, &e->stat))
		return -EPROTO;
	if (tree_stat(e->dirfd, "", &is) < 0 || !stat_id_same_object(&is, &e->dir))
		return -EPROTO;
	buf_printf(&s->entries, "\n%s\n", e->path);
	if (++s->count == s->fail_at)
		return -ECANCELED;
	if (s->remove_on && strcmp(e->path, s->remove_on) == 0)
		(void)unlinkat(tree.root_fd, s->remove, AT_REMOVEDIR);
	return s->skip && strcmp(e->path, s->skip) == 0 ? SCAN_SKIP : SCAN_DESCEND;
}

static void see_local(void *arg, const char *path)
{
	struct seen *s = arg;

	buf_printf(&s->local, "\n%s\n", path);
}

static int see_done(void *arg, const char *path, const struct stat_id *dir, bool complete)
{
	struct seen *s = arg;

	if (!S_ISDIR(dir->mode))
		return -EPROTO;
	buf_printf(&s->done, "\n%c%s\n", complete ? '+' : '-', path);
	return 0;
}

static int scan(struct seen *s, const char *path, bool recursive)
{
	struct scan_ops ops = {.arg = s, .entry = see, .local_only = see_local, .dir_done = see_done};

	return tree_scan(&tree, path, recursive, &ops);
}

static size_t times(struct buf *in, const char *path)
{
	char line[300];
	size_t n = 0;

	(void)snprintf(line, sizeof(line), "\n%s\n", path);
	for (const char *p = buf_cstr(in); (p = strstr(p, line)); p++)
		n++;
	return n;
}

static void seen_fini(struct seen *s)
{
	buf_fini(&s->entries);
	buf_fini(&s->done);
	buf_fini(&s->local);
}

static void make_some(void)
{
	assert_int_equal(mkdirat(tree.root_fd, "d", 0755), 0);
	assert_int_equal(mkdirat(tree.root_fd, "d/e", 0755), 0);
	assert_int_equal(mkdirat(tree.root_fd, "d/.syncfs", 0755), 0);
	fixture_write(tree.root_fd, "d/e/f", "x");
	fixture_write(tree.root_fd, "top", "x");
	fixture_write(tree.root_fd, ".hidden", "x");
	fixture_write(tree.root_fd, "d/\n\xff", "x");
	assert_int_equal(symlinkat("/", tree.root_fd, "d/link"), 0);
	assert_int_equal(mkfifoat(tree.root_fd, "d/pipe", 0600), 0);
}

static void test_all(void **state)
{
	struct seen s = {0};

	(void)state;
	make_some();
	assert_int_equal(scan(&s, "", true), 0);
	assert_int_equal(s.count, 8);
	assert_int_equal(times(&s.entries, "top"), 1);
	assert_int_equal(times(&s.entries, ".hidden"), 1);
	assert_int_equal(times(&s.entries, "d/e/f"), 1);
	assert_int_equal(times(&s.entries, "d/link"), 1);
	assert_int_equal(times(&s.entries, "d/\n\xff"), 1);
	assert_int_equal(times(&s.entries, "d/.syncfs"), 1); /* reserved at the root only */
	assert_int_equal(times(&s.entries, ".syncfs"), 0);
	assert_int_equal(times(&s.local, "d/pipe"), 1);
	assert_int_equal(times(&s.done, "+"), 1);
	assert_int_equal(times(&s.done, "+d"), 1);
	assert_int_equal(times(&s.done, "+d/e"), 1);
	/* A directory is done after those in it. */
	assert_true(strstr(buf_cstr(&s.done), "+d/e\n") < strstr(buf_cstr(&s.done), "+d\n"));
	assert_null(strchr(buf_cstr(&s.done), '-'));
	seen_fini(&s);
}

static void test_part(void **state)
{
	struct seen s = {.skip = "d/e"}, flat = {0}, ended = {.fail_at = 2}, none = {0};

	(void)state;
	make_some();
	assert_int_equal(scan(&s, "d", true), 0);
	assert_int_equal(s.count, 4);
	assert_int_equal(times(&s.entries, "d/e"), 1);
	assert_int_equal(times(&s.done, "+d"), 1);
	assert_int_equal(times(&s.done, "+d/e"), 0);
	seen_fini(&s);
	assert_int_equal(scan(&flat, "", false), 0);
	assert_int_equal(flat.count, 3);
	seen_fini(&flat);
	assert_int_equal(scan(&ended, "", true), -ECANCELED);
	assert_int_equal(ended.count, 2);
	seen_fini(&ended);
	assert_int_equal(scan(&none, "nothing", true), -ENOENT);
	assert_true(scan(&none, "d/link", true) < 0);
	assert_int_equal(none.count, 0);
}

/* A directory that is gone when it is its turn is no error, and nothing is said about it. */
static void test_vanish(void **state)
{
	struct seen s = {.remove_on = "d", .remove = "d"};

	(void)state;
	assert_int_equal(mkdirat(tree.root_fd, "d", 0755), 0);
	assert_int_equal(scan(&s, "", true), 0);
	assert_int_equal(times(&s.entries, "d"), 1);
	assert_null(strstr(buf_cstr(&s.done), "d\n"));
	assert_int_equal(times(&s.done, "+"), 1);
	seen_fini(&s);
}

static int unreadable(void)
{
	struct seen s = {0};

	MUST(mkdirat(tree.root_fd, "closed", 0) == 0);
	MUST(mkdirat(tree.root_fd, "names", 0700) == 0);
	MUST(mkdirat(tree.root_fd, "names/x", 0700) == 0);
	MUST(fchmodat(tree.root_fd, "names", 0400, 0) == 0);
	MUST(scan(&s, "", true) == 0);
	MUST(times(&s.entries, "closed") == 1);
	MUST(times(&s.done, "-closed") == 1);
	MUST(times(&s.done, "-names") == 1);
	MUST(times(&s.done, "+") == 1);
	MUST(fchmodat(tree.root_fd, "names", 0700, 0) == 0);
	seen_fini(&s);
	return 0;
}

static void test_unreadable(void **state)
{
	(void)state;
	fixture_as_user(unreadable);
}

static void test_depth(void **state)
{
	struct seen s = {0};
	char staged[STAGE_NAME_BYTES];
	int fd = dup(tree.root_fd);

	(void)state;
	for (int i = 0; i < TREE_MAX_DEPTH + 3; i++) {
		int next;

		assert_int_equal(mkdirat(fd, "d", 0755), 0);
		next = openat(fd, "d", O_RDONLY | O_DIRECTORY);
		assert_true(next >= 0);
		(void)close(fd);
		fd = next;
	}
	(void)close(fd);
	assert_int_equal(scan(&s, "", true), 0);
	assert_int_equal(s.count, TREE_MAX_DEPTH + 1);
	assert_non_null(strstr(buf_cstr(&s.done), "-d/d/d"));
	seen_fini(&s);
	/* What is deeper than staging may go is refused, not half removed without a word. */
	stage_name(staged);
	assert_int_equal(renameat(tree.root_fd, "d", tree.stage_fd, staged), 0);
	fd = openat(tree.stage_fd, staged, O_RDONLY | O_DIRECTORY);
	assert_int_equal(renameat(fd, "d", tree.stage_fd, "rest"), 0);
	(void)close(fd);
	assert_int_equal(stage_drop(&tree, staged), 0);
	fd = openat(tree.stage_fd, "rest", O_RDONLY | O_DIRECTORY);
	assert_int_equal(renameat(fd, "d", tree.stage_fd, "more"), 0);
	(void)close(fd);
	assert_int_equal(stage_drop(&tree, "more"), 0);
}

static void test_many(void **state)
{
	struct seen s = {0};
	char name[32];

	(void)state;
	assert_int_equal(mkdirat(tree.root_fd, "many", 0755), 0);
	for (int i = 0; i < 3000; i++) {
		(void)snprintf(name, sizeof(name), "many/%d", i);
		assert_int_equal(mknodat(tree.root_fd, name, S_IFREG | 0644, 0), 0);
	}
	assert_int_equal(scan(&s, "many", false), 0);
	assert_int_equal(s.count, 3000);
	assert_int_equal(times(&s.entries, "many/2999"), 1);
	seen_fini(&s);
}

#define T(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_all),
		T(test_part),
		T(test_vanish),
		T(test_unreadable),
		T(test_depth),
		T(test_many),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
