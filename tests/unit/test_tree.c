/* SPDX-License-Identifier: Apache-2.0 */
/* Opening, containment, identity, xattrs, hashing. */
#include "tree_fixture.h"

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/xattr.h>

#include <syncfs/manifest.h>

static void test_open(void **state)
{
	struct tree t, again;
	char path[128], sub[160];

	(void)state;
	(void)snprintf(path, sizeof(path), "%s/x/y", fixture_root);
	assert_int_equal(tree_open(path, TREE_MARK, &t), -ENOENT);
	assert_int_equal(tree_open(path, TREE_CREATE, &t), -ENODATA);
	/* What has no marker may be the directory below a missing mount: nothing was made in it. */
	(void)snprintf(sub, sizeof(sub), "%s/.syncfs", path);
	assert_int_equal(access(sub, F_OK), -1);
	assert_int_equal(tree_open(path, TREE_MARK, &t), 0);
	assert_int_equal(tree_open(path, 0, &again), 0);
	assert_true(id_equal(&t.marker, &again.marker));
	assert_false(id_is_none(&t.marker));
	assert_false(id_equal(&t.marker, &tree.marker));
	assert_true(t.has_exchange);
	assert_int_equal(fixture_stat(t.own_fd, "").mode & 0777, 0700);
	tree_close(&again);
	fixture_write(t.own_fd, "root", "not a marker\n");
	assert_int_equal(tree_open(path, TREE_MARK, &again), -EBADMSG);
	fixture_write(t.own_fd, "root", "");
	assert_int_equal(tree_open(path, TREE_MARK, &again), -EBADMSG);
	tree_close(&t);
	(void)snprintf(path, sizeof(path), "%s/file", fixture_root);
	fixture_write(tree.root_fd, "file", "");
	assert_int_equal(tree_open(path, TREE_MARK, &t), -ENOTDIR);
}

static int containment(void)
{
	int fd, sub;

	MUST((fd = tree_open_dir(&tree, "")) >= 0);
	(void)close(fd);
	MUST((fd = tree_open_dir(&tree, "a/b/c")) >= 0);
	MUST(fstatat(fd, "leaf", &(struct stat){0}, 0) == 0);
	(void)close(fd);
	MUST(tree_open_dir(&tree, "a/link") < 0);
	MUST(tree_open_dir(&tree, "a/link/etc") < 0);
	MUST(tree_open_dir(&tree, "a/../a") == -EINVAL);
	MUST(tree_open_dir(&tree, "..") == -EINVAL);
	MUST(tree_open_dir(&tree, "/etc") == -EINVAL);
	MUST(tree_open_dir(&tree, "a//b") == -EINVAL);
	MUST(tree_open_dir(&tree, "a/b/") == -EINVAL);
	MUST(tree_open_dir(&tree, "nothing") == -ENOENT);
	MUST(tree_open_dir(&tree, "a/b/c/leaf") == -ENOTDIR);
	MUST((sub = tree_open_dir(&tree, "a")) >= 0);
	MUST((fd = tree_open_at(&tree, sub, "b", O_RDONLY | O_DIRECTORY)) >= 0);
	(void)close(fd);
	MUST(tree_open_at(&tree, sub, "link", O_RDONLY) == -ELOOP);
	MUST(tree_open_at(&tree, sub, "..", O_RDONLY) == -EINVAL);
	MUST(tree_open_at(&tree, sub, "b/c", O_RDONLY) == -EINVAL);
	MUST((fd = tree_open_at(&tree, sub, "link", O_PATH)) >= 0);
	(void)close(fd);
	MUST((fd = tree_open_at(&tree, sub, "new", O_RDWR | O_CREAT)) >= 0);
	MUST(fixture_exists(sub, "new"));
	(void)close(fd);
	(void)close(sub);
	return 0;
}

static void make_paths(void)
{
	assert_int_equal(mkdirat(tree.root_fd, "a", 0755), 0);
	assert_int_equal(mkdirat(tree.root_fd, "a/b", 0755), 0);
	assert_int_equal(mkdirat(tree.root_fd, "a/b/c", 0755), 0);
	fixture_write(tree.root_fd, "a/b/c/leaf", "x");
	assert_int_equal(symlinkat("/", tree.root_fd, "a/link"), 0);
}

static void test_containment(void **state)
{
	(void)state;
	make_paths();
	assert_int_equal(containment(), 0);
}

/* From here on openat2 answers error in this process. */
static int refuse_openat2(uint32_t error)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_openat2, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {.len = sizeof(code) / sizeof(code[0]), .filter = code};

	MUST(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
	MUST(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
	MUST(syscall(SYS_openat2, AT_FDCWD, "/", NULL, 0) == -1 && errno == (int)error);
	return 0;
}

static void test_containment_without_openat2(void **state)
{
	static const uint32_t errors[] = {ENOSYS, EPERM};

	(void)state;
	make_paths();
	for (int i = 0; i < 2; i++) {
		pid_t pid = fork();
		int status;

		assert_true(pid >= 0);
		if (pid == 0) {
			int line = refuse_openat2(errors[i]);

			_exit(line ? 100 : containment() ? 1 : 0);
		}
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFEXITED(status));
		assert_int_equal(WEXITSTATUS(status), 0);
		assert_int_equal(unlinkat(tree.root_fd, "a/new", 0), 0);
	}
}

/* A path above PATH_MAX is reached too. */
static void test_deep(void **state)
{
	char name[201], path[201 * 30] = "";
	int fd = dup(tree.root_fd);

	(void)state;
	memset(name, 'd', 200);
	name[200] = '\0';
	for (int i = 0; i < 25; i++) {
		int next;

		assert_int_equal(mkdirat(fd, name, 0755), 0);
		next = openat(fd, name, O_RDONLY | O_DIRECTORY);
		assert_true(next >= 0);
		(void)close(fd);
		fd = next;
		if (i)
			strcat(path, "/");
		strcat(path, name);
	}
	struct stat_id deepest = fixture_stat(fd, "");

	(void)close(fd);
	fd = tree_open_dir(&tree, path);
	assert_true(fd >= 0);
	struct stat_id reached = fixture_stat(fd, "");

	assert_true(stat_id_same_object(&deepest, &reached));
	(void)close(fd);
	/* nftw cannot follow there. */
	char staged[STAGE_NAME_BYTES];

	stage_name(staged);
	assert_int_equal(renameat(tree.root_fd, name, tree.stage_fd, staged), 0);
	assert_int_equal(stage_drop(&tree, staged), 0);
}

static void test_stat(void **state)
{
	struct stat_id a, b;
	struct stat st;

	(void)state;
	fixture_write(tree.root_fd, "f", "one");
	a = fixture_stat(tree.root_fd, "f");
	assert_int_equal(fstatat(tree.root_fd, "f", &st, 0), 0);
	assert_int_equal(a.dev, st.st_dev);
	assert_int_equal(a.ino, st.st_ino);
	assert_int_equal(a.size, 3);
	assert_int_equal(a.mode, st.st_mode);
	b = fixture_stat(tree.root_fd, "f");
	assert_true(stat_id_unchanged(&a, &b));
	assert_int_equal(linkat(tree.root_fd, "f", tree.root_fd, "g", 0), 0);
	fixture_write(tree.root_fd, "f", "longer");
	b = fixture_stat(tree.root_fd, "g");
	assert_true(stat_id_same_object(&a, &b));
	assert_false(stat_id_unchanged(&a, &b));
	assert_int_equal(symlinkat("f", tree.root_fd, "l"), 0);
	b = fixture_stat(tree.root_fd, "l");
	assert_int_equal(tree_kind(b.mode), KIND_SYMLINK);
	assert_int_equal(mkfifoat(tree.root_fd, "p", 0600), 0);
	assert_int_equal(tree_kind(fixture_stat(tree.root_fd, "p").mode), 0);
	assert_int_equal(tree_stat(tree.root_fd, "none", &b), -ENOENT);
}

static void test_xattr(void **state)
{
	int fd = openat(tree.root_fd, "f", O_RDWR | O_CREAT, 0644);
	struct blob got = {0}, again = {0};
	static const char packed[] = "\x06\0user.a\x01\0\0\0x\x06\0user.b\0\0\0\0";

	(void)state;
	assert_int_equal(tree_read_xattr(fd, &got), 0);
	assert_int_equal(got.len, 0);
	free(got.data);
	if (fsetxattr(fd, "user.b", "", 0, 0) < 0 && errno == EOPNOTSUPP)
		skip();
	assert_int_equal(fsetxattr(fd, "user.a", "x", 1, 0), 0);
	assert_int_equal(fsetxattr(fd, "user.syncfs.state", "no", 2, 0), 0);
	assert_int_equal(tree_read_xattr(fd, &got), 0);
	assert_int_equal(got.len, sizeof(packed) - 1);
	assert_memory_equal(got.data, packed, got.len);
	(void)close(fd);
	fd = openat(tree.root_fd, "f", O_PATH);
	assert_int_equal(tree_read_xattr(fd, &again), 0);
	assert_int_equal(again.len, got.len);
	assert_memory_equal(again.data, got.data, got.len);
	free(again.data);
	free(got.data);
	(void)close(fd);
	assert_int_equal(symlinkat("f", tree.root_fd, "l"), 0);
	fd = openat(tree.root_fd, "l", O_PATH | O_NOFOLLOW);
	assert_int_equal(tree_read_xattr(fd, &got), 0);
	assert_int_equal(got.len, 0);
	free(got.data);
	(void)close(fd);
}

static void test_hash(void **state)
{
	static const size_t sizes[] = {0, 1, 4096, 262143, 262144, 262145, 1000000};
	uint8_t *bytes = malloc(1000000);

	(void)state;
	for (size_t i = 0; i < 1000000; i++)
		bytes[i] = (uint8_t)(i * 2654435761u >> 24);
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct content want, got, only;
		struct blob want_manifest, manifest;
		struct stat_id is, now;
		int fd = openat(tree.root_fd, "f", O_RDWR | O_CREAT | O_TRUNC, 0644);

		assert_int_equal(io_write(fd, bytes, sizes[i]), 0);
		assert_int_equal(manifest_of_bytes(bytes, sizes[i], &want, &want_manifest), 0);
		assert_int_equal(tree_hash_file(fd, &got, &manifest, &is), 0);
		assert_int_equal(got.size, sizes[i]);
		assert_true(hash_equal(&got.hash, &want.hash));
		assert_int_equal(manifest.len, want_manifest.len);
		if (manifest.len)
			assert_memory_equal(manifest.data, want_manifest.data, manifest.len);
		now = fixture_stat(fd, "");
		assert_true(stat_id_unchanged(&is, &now));
		assert_int_equal(tree_hash_file(fd, &only, NULL, &is), 0);
		assert_true(hash_equal(&only.hash, &want.hash));
		free(manifest.data);
		free(want_manifest.data);
		(void)close(fd);
	}
	free(bytes);
	struct content none;
	struct stat_id is;

	assert_int_equal(tree_hash_file(tree.root_fd, &none, NULL, &is), -EISDIR);
	assert_int_equal(tree_sync_all(&tree), 0);
	assert_int_equal(tree_sync_fd(tree.root_fd), 0);
}

#define T(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_open),
		T(test_containment),
		T(test_containment_without_openat2),
		T(test_deep),
		T(test_stat),
		T(test_xattr),
		T(test_hash),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
