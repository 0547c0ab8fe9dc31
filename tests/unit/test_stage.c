/* SPDX-License-Identifier: Apache-2.0 */
/* Staging: making, attributes, owners, carrying over, dropping. */
#include "tree_fixture.h"

#include <sys/xattr.h>

static const char two_xattr[] = "\x06\0user.a\x01\0\0\0x\x06\0user.b\0\0\0\0";
static const char one_xattr[] = "\x06\0user.b\x02\0\0\0yz";

static struct blob blob_of(const char *bytes, size_t len)
{
	return (struct blob){.data = (uint8_t *)(uintptr_t)bytes, .len = len};
}

static bool has_xattr_support(void)
{
	return fsetxattr(tree.stage_fd, "user.probe", "", 0, 0) == 0 || errno != EOPNOTSUPP;
}

static void test_make(void **state)
{
	char a[STAGE_NAME_BYTES], b[STAGE_NAME_BYTES], c[STAGE_NAME_BYTES], target[5000], got[64] = "";
	int fd = stage_create(&tree, a);

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(fcntl(fd, F_GETFL) & O_ACCMODE, O_RDWR);
	(void)close(fd);
	assert_int_equal(fixture_stat(tree.stage_fd, a).mode, S_IFREG | 0600);
	assert_int_equal(stage_mkdir(&tree, b), 0);
	assert_int_equal(fixture_stat(tree.stage_fd, b).mode, S_IFDIR | 0700);
	assert_int_equal(stage_symlink(&tree, "some/where", c), 0);
	assert_int_equal(readlinkat(tree.stage_fd, c, got, sizeof(got)), 10);
	assert_string_equal(got, "some/where");
	assert_string_not_equal(a, b);
	memset(target, 't', sizeof(target) - 1);
	target[sizeof(target) - 1] = '\0';
	assert_int_equal(stage_symlink(&tree, target, c), -EMSGSIZE);
	assert_int_equal(stage_symlink(&tree, "", c), -EINVAL);
	assert_int_equal(fixture_staged_count(), 3);
}

static void test_set_attr(void **state)
{
	struct blob two = blob_of(two_xattr, sizeof(two_xattr) - 1),
		    one = blob_of(one_xattr, sizeof(one_xattr) - 1);
	struct blob none = {0}, got;
	char name[STAGE_NAME_BYTES];
	struct stat_id is;
	int fd;

	(void)state;
	if (!has_xattr_support())
		skip();
	fixture_stage(name, "text");
	assert_int_equal(stage_set_attr(&tree, name, 07640, -5000000001, &two), 0);
	is = fixture_stat(tree.stage_fd, name);
	assert_int_equal(is.mode, S_IFREG | 0640);
	assert_int_equal(is.mtime_ns, -5000000001);
	fd = openat(tree.stage_fd, name, O_RDONLY);
	assert_int_equal(tree_read_xattr(fd, &got), 0);
	assert_int_equal(got.len, two.len);
	assert_memory_equal(got.data, two.data, two.len);
	free(got.data);
	assert_int_equal(stage_set_attr(&tree, name, 0604, 7, &one), 0);
	assert_int_equal(tree_read_xattr(fd, &got), 0);
	assert_int_equal(got.len, one.len);
	assert_memory_equal(got.data, one.data, one.len);
	free(got.data);
	assert_int_equal(stage_set_attr(&tree, name, 0604, 7, NULL), 0);
	assert_int_equal(fgetxattr(fd, "user.b", NULL, 0), 2);
	assert_int_equal(stage_set_attr(&tree, name, 0604, 7, &none), 0);
	assert_int_equal(fgetxattr(fd, "user.b", NULL, 0), -1);
	(void)close(fd);
	assert_int_equal(stage_symlink(&tree, "nowhere", name), 0);
	assert_int_equal(stage_set_attr(&tree, name, 0, 1234567890123456789, &one), 0);
	assert_int_equal(fixture_stat(tree.stage_fd, name).mtime_ns, 1234567890123456789);
	assert_int_equal(stage_set_attr(&tree, "missing", 0, 1, &one), -ENOENT);
}

/* What the network sends as xattrs is refused whole unless it is canonical and nothing but user.*. */
static void test_hostile_xattr(void **state)
{
	static const struct {
		const char *bytes;
		size_t len;
	} bad[] = {
#define BAD(text) {text, sizeof(text) - 1}
		BAD("\x06"),
		BAD("\x06\0user.a"),
		BAD("\x06\0user.a\x01\0\0\0"),
		BAD("\x06\0user.a\xff\xff\xff\xff"),
		BAD("\xff\xff"),
		BAD("\0\0\0\0\0\0"),
		BAD("\x05\0user.\0\0\0\0"),
		BAD("\x06\0user\0a\0\0\0\0"),
		BAD("\x09\0trusted.a\0\0\0\0"),
		BAD("\x0a\0security.a\0\0\0\0"),
		BAD("\x0d\0user.syncfs.x\0\0\0\0"),
		BAD("\x06\0user.b\0\0\0\0\x06\0user.a\0\0\0\0"),
		BAD("\x06\0user.a\0\0\0\0\x06\0user.a\0\0\0\0"),
		BAD("\x06\0user.a\0\0\0\0\x06\0user.b\0\0"),
	};
	char name[STAGE_NAME_BYTES];
	char list[64];

	(void)state;
	fixture_stage(name, "");
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct blob b = blob_of(bad[i].bytes, bad[i].len);
		int fd;

		assert_int_equal(stage_set_attr(&tree, name, 0777, 1, &b), -EBADMSG);
		fd = openat(tree.stage_fd, name, O_RDONLY);
		assert_int_equal(
			flistxattr(fd, list, sizeof(list)) > 0 ? memcmp(list, "user.", 5) == 0 : 0, 0);
		(void)close(fd);
		assert_int_equal(fixture_stat(tree.stage_fd, name).mode & 0777, 0600);
	}
}

static void test_owner(void **state)
{
	char name[STAGE_NAME_BYTES];
	struct stat st;

	(void)state;
	if (geteuid() != 0)
		skip();
	assert_int_equal(mkdirat(tree.root_fd, "d", 0755), 0);
	assert_int_equal(fchownat(tree.root_fd, "d", 1234, 4321, 0), 0);
	int dir = tree_open_dir(&tree, "d");

	fixture_stage(name, "");
	assert_int_equal(stage_set_owner(&tree, name, dir, -1, -1), 0);
	assert_int_equal(fstatat(tree.stage_fd, name, &st, 0), 0);
	assert_int_equal(st.st_uid, 1234);
	assert_int_equal(st.st_gid, 4321);
	assert_int_equal(stage_set_owner(&tree, name, dir, 77, -1), 0);
	assert_int_equal(fstatat(tree.stage_fd, name, &st, 0), 0);
	assert_int_equal(st.st_uid, 77);
	assert_int_equal(st.st_gid, 4321);
	(void)close(dir);
}

static void test_carry_over(void **state)
{
	char name[STAGE_NAME_BYTES], value[16];
	struct stat st;
	int fd;

	(void)state;
	if (geteuid() != 0)
		skip();
	fixture_write(tree.root_fd, "old", "old");
	assert_int_equal(fchownat(tree.root_fd, "old", 1234, 4321, 0), 0);
	assert_int_equal(fchmodat(tree.root_fd, "old", 06711, 0), 0);
	fd = openat(tree.root_fd, "old", O_RDONLY);
	assert_int_equal(fsetxattr(fd, "user.mine", "u", 1, 0), 0);
	assert_int_equal(fsetxattr(fd, "trusted.local", "t", 1, 0), 0);
	(void)close(fd);
	fixture_stage(name, "new");
	assert_int_equal(stage_set_attr(&tree, name, 0640, 1, NULL), 0);
	assert_int_equal(stage_carry_over(&tree, name, tree.root_fd, "old"), 0);
	assert_int_equal(fstatat(tree.stage_fd, name, &st, 0), 0);
	assert_int_equal(st.st_uid, 1234);
	assert_int_equal(st.st_gid, 4321);
	assert_int_equal(st.st_mode & 07777, 06640);
	fd = openat(tree.stage_fd, name, O_RDONLY);
	assert_int_equal(fgetxattr(fd, "trusted.local", value, sizeof(value)), 1);
	assert_int_equal(fgetxattr(fd, "user.mine", value, sizeof(value)), -1);
	(void)close(fd);
	/* The mode may also come afterwards. */
	assert_int_equal(stage_set_attr(&tree, name, 0755, 1, NULL), 0);
	assert_int_equal(fixture_stat(tree.stage_fd, name).mode & 07777, 06755);
	/* Set-id bits belong to a kind as well. */
	assert_int_equal(stage_mkdir(&tree, name), 0);
	assert_int_equal(stage_carry_over(&tree, name, tree.root_fd, "old"), 0);
	assert_int_equal(fixture_stat(tree.stage_fd, name).mode & 07777, 0700);
	assert_int_equal(stage_carry_over(&tree, name, tree.root_fd, "missing"), -ENOENT);
}

static void make_full(const char *name)
{
	char path[128];

	assert_int_equal(mkdirat(tree.stage_fd, name, 0700), 0);
	for (int i = 0; i < 3; i++) {
		(void)snprintf(path, sizeof(path), "%s/d%d", name, i);
		assert_int_equal(mkdirat(tree.stage_fd, path, 0700), 0);
		(void)snprintf(path, sizeof(path), "%s/d%d/f", name, i);
		fixture_write(tree.stage_fd, path, "x");
		(void)snprintf(path, sizeof(path), "%s/l%d", name, i);
		assert_int_equal(symlinkat(fixture_root, tree.stage_fd, path), 0);
	}
}

static bool keep_full(void *arg, const char *name)
{
	return strcmp(name, arg) == 0;
}

static void test_drop(void **state)
{
	char name[STAGE_NAME_BYTES];

	(void)state;
	fixture_write(tree.root_fd, "outside", "stays");
	fixture_stage(name, "x");
	assert_int_equal(stage_drop(&tree, name), 0);
	assert_int_equal(stage_drop(&tree, name), 0);
	assert_int_equal(stage_drop(&tree, "../root"), -EINVAL);
	make_full("full");
	assert_int_equal(stage_drop(&tree, "full"), 0);
	assert_int_equal(fixture_staged_count(), 0);
	make_full("full");
	make_full("other");
	fixture_stage(name, "x");
	assert_int_equal(stage_sweep(&tree, keep_full, (char[]){"full"}), 0);
	assert_int_equal(fixture_staged_count(), 1);
	assert_true(fixture_exists(tree.stage_fd, "full/d2/f"));
	assert_int_equal(stage_sweep(&tree, NULL, NULL), 0);
	assert_int_equal(fixture_staged_count(), 0);
	fixture_expect(tree.root_fd, "outside", "stays");
	assert_true(fixture_exists(tree.own_fd, "root"));
}

static int unreadable(void)
{
	struct blob two = blob_of(two_xattr, sizeof(two_xattr) - 1);
	char name[STAGE_NAME_BYTES], path[128];
	struct stat_id is;
	int fd = stage_create(&tree, name);

	MUST(fd >= 0);
	MUST(stage_set_attr(&tree, name, 0, 5, NULL) == 0);
	MUST(openat(tree.stage_fd, name, O_RDONLY) < 0); /* the control: it is unreadable for us */
	MUST(stage_set_attr(&tree, name, 0, 6, &two) == 0);
	MUST(tree_stat(tree.stage_fd, name, &is) == 0);
	MUST((is.mode & 07777) == 0 && is.mtime_ns == 6);
	MUST(stage_set_attr(&tree, name, 0600, 6, NULL) == 0);
	MUST(fgetxattr(fd, "user.a", path, sizeof(path)) == 1 || errno == EOPNOTSUPP);
	/* An owner that cannot be given is no failure. */
	MUST(stage_set_owner(&tree, name, tree.root_fd, 0, 0) == 0);
	(void)close(fd);
	/* A directory that its owner may not enter is dropped with all in it. */
	MUST(stage_mkdir(&tree, name) == 0);
	(void)snprintf(path, sizeof(path), "%s/sub", name);
	MUST(mkdirat(tree.stage_fd, path, 0700) == 0);
	MUST(fchmodat(tree.stage_fd, name, 0, 0) == 0);
	MUST(stage_drop(&tree, name) == 0);
	MUST(!fixture_exists(tree.stage_fd, name));
	return 0;
}

static void test_ordinary_user(void **state)
{
	(void)state;
	fixture_as_user(unreadable);
}

#define T(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_make),
		T(test_set_attr),
		T(test_hostile_xattr),
		T(test_owner),
		T(test_carry_over),
		T(test_drop),
		T(test_ordinary_user),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
