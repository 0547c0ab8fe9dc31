/* SPDX-License-Identifier: Apache-2.0 */
/* A tree in a directory of its own, for the tests of src/tree. */
#ifndef SYNCFS_TEST_TREE_FIXTURE_H
#define SYNCFS_TEST_TREE_FIXTURE_H

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include <syncfs/io.h>
#include <syncfs/tree.h>

static char fixture_root[64];
static struct tree tree;

static int fixture_remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static inline int fixture_setup(void **state)
{
	(void)state;
	strcpy(fixture_root, "/tmp/syncfs-test-XXXXXX");
	if (!mkdtemp(fixture_root))
		return -1;
	return tree_open(fixture_root, TREE_MARK, &tree);
}

static inline int fixture_teardown(void **state)
{
	(void)state;
	tree_close(&tree);
	return nftw(fixture_root, fixture_remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static inline void fixture_write(int dirfd, const char *name, const char *text)
{
	int fd = openat(dirfd, name, O_WRONLY | O_CREAT | O_TRUNC, 0644);

	assert_true(fd >= 0);
	assert_int_equal(io_write(fd, text, strlen(text)), 0);
	assert_int_equal(close(fd), 0);
}

static inline void fixture_expect(int dirfd, const char *name, const char *text)
{
	char got[64] = "";
	int fd = openat(dirfd, name, O_RDONLY | O_NOFOLLOW);

	assert_true(fd >= 0);
	assert_true(io_read(fd, got, sizeof(got) - 1) >= 0);
	(void)close(fd);
	assert_string_equal(got, text);
}

static inline bool fixture_exists(int dirfd, const char *name)
{
	return faccessat(dirfd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static inline struct stat_id fixture_stat(int dirfd, const char *name)
{
	struct stat_id is;

	assert_int_equal(tree_stat(dirfd, name, &is), 0);
	return is;
}

/* A staged file with this content; its name to name. */
static inline void fixture_stage(char *name, const char *text)
{
	int fd = stage_create(&tree, name);

	assert_true(fd >= 0);
	assert_int_equal(io_write(fd, text, strlen(text)), 0);
	(void)close(fd);
}

static inline size_t fixture_staged_count(void)
{
	int fd = openat(tree.stage_fd, ".", O_RDONLY | O_DIRECTORY);
	DIR *dir = fdopendir(fd);
	size_t count = 0;

	assert_non_null(dir);
	while (readdir(dir))
		count++;
	(void)closedir(dir);
	return count - 2; /* . and .. */
}

/*
 * Runs body in a child as an ordinary user who owns the tree (as whom we are unless root). body returns 0 or
 * the line that failed; cmocka's assertions do not cross processes.
 */
static inline void fixture_as_user(int (*body)(void))
{
	int status;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		int line;

		if (geteuid() == 0) {
			for (int i = 0; i < 3; i++) {
				int fd = i == 0 ? tree.root_fd : i == 1 ? tree.own_fd : tree.stage_fd;

				if (fchown(fd, 65534, 65534) < 0)
					_exit(254);
			}
			if (setresgid(65534, 65534, 65534) < 0 || setresuid(65534, 65534, 65534) < 0)
				_exit(255);
		}
		line = body();
		if (line)
			fprintf(stderr, "as an ordinary user: line %d: %s\n", line, strerror(errno));
		_exit(line ? 1 : 0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

#define MUST(condition)                                                                                      \
	do {                                                                                                 \
		if (!(condition))                                                                            \
			return __LINE__;                                                                     \
	} while (0)

#endif
