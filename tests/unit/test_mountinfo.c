/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of mountinfo.h: which mount a path lies in, and paths as text. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <syncfs/mountinfo.h>

static const char table[] =
	"22 28 0:21 / /proc rw,nosuid shared:12 - proc proc rw\n"
	"90 28 0:50 / /home/me/Shared rw,nosuid,nodev,relatime shared:50 - fuse.syncfs /home/me/.data "
	"rw,user_id=1000,group_id=1000\n"
	"91 28 0:51 / /home/me/Shared/deep rw,relatime shared:51 master:3 propagate_from:2 - fuse.syncfs "
	"none rw,user_id=0,group_id=0,allow_other\n"
	"92 28 0:52 / /mnt/with\\040space\\011tab\\134back rw - fuse.syncfs back\\040ing rw\n"
	"93 28 0:53 / /mnt/other rw - fuse.sshfs host: rw,user_id=1000\n"
	"94 28 0:54 / /home/me/Shared rw - fuse.syncfs second rw,user_id=99999999999\n"
	"nonsense\n"
	"95 28 0:55 / relative rw - fuse.syncfs x rw\n"
	"96 28 0:56 / /cut rw - fuse.syncfs\n";

static void test_parse(void **state)
{
	struct mount_list list = {0};

	assert_int_equal(mount_list_parse(table, sizeof(table) - 1, &list), 0);
	assert_int_equal(list.count, 4);
	assert_string_equal(list.entries[0].mountpoint, "/home/me/Shared");
	assert_string_equal(list.entries[0].source, "/home/me/.data");
	assert_int_equal(list.entries[0].uid, 1000);
	assert_string_equal(list.entries[1].mountpoint, "/home/me/Shared/deep");
	assert_int_equal(list.entries[1].uid, 0);
	assert_string_equal(list.entries[2].mountpoint, "/mnt/with space\ttab\\back");
	assert_string_equal(list.entries[2].source, "back ing");
	assert_int_equal(list.entries[2].uid, -1);
	assert_int_equal(list.entries[3].uid, -1);
	mount_list_fini(&list);
	assert_int_equal(list.count, 0);
}

static const char *source_of(const struct mount_list *list, const char *path)
{
	const struct mount_entry *e = mount_list_find(list, path);

	return e ? e->source : "no mount";
}

static void test_find(void **state)
{
	struct mount_list list = {0};

	assert_int_equal(mount_list_parse(table, sizeof(table) - 1, &list), 0);
	assert_string_equal(source_of(&list, "/home/me/Shared"), "second");
	assert_string_equal(source_of(&list, "/home/me/Shared/a/b"), "second");
	assert_string_equal(source_of(&list, "/home/me/Shared/deep/a"), "none");
	assert_string_equal(source_of(&list, "/home/me/Shared/deeper"), "second");
	assert_string_equal(source_of(&list, "/home/me/Sharedx"), "no mount");
	assert_string_equal(source_of(&list, "/home/me"), "no mount");
	assert_string_equal(source_of(&list, "/mnt/other/x"), "no mount");
	assert_string_equal(source_of(&list, "/"), "no mount");
	mount_list_fini(&list);
}

static void test_own_table(void **state)
{
	struct mount_list list = {0};

	assert_int_equal(mount_list_read(&list), 0);
	mount_list_fini(&list);
}

static void test_within(void **state)
{
	assert_true(path_is_within("/a/b", "/a"));
	assert_true(path_is_within("/a", "/a"));
	assert_true(path_is_within("/a", "/"));
	assert_true(path_is_within("/", "/"));
	assert_false(path_is_within("/ab", "/a"));
	assert_false(path_is_within("/a", "/a/b"));
}

static void expect_absolute(const char *cwd, const char *path, const char *expected)
{
	char *got = path_absolute(cwd, path);

	assert_string_equal(got, expected);
	free(got);
}

static void test_absolute(void **state)
{
	expect_absolute("/home/me", "x", "/home/me/x");
	expect_absolute("/home/me", "", "/home/me");
	expect_absolute("/home/me", ".", "/home/me");
	expect_absolute("/home/me", "..", "/home");
	expect_absolute("/home/me", "../../../..", "/");
	expect_absolute("/home/me", "/a//b/./c/../d/", "/a/b/d");
	expect_absolute("/home/me", "../you/.hidden/..x", "/home/you/.hidden/..x");
	expect_absolute("/", "x", "/x");
	expect_absolute("/x", "/", "/");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parse),
		cmocka_unit_test(test_find),
		cmocka_unit_test(test_own_table),
		cmocka_unit_test(test_within),
		cmocka_unit_test(test_absolute),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
