/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of io.h on real files and pipes: whole transfers, atomic replacement, no leftovers. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include <syncfs/io.h>

static char dir[] = "/tmp/test_io.XXXXXX";
static int dir_fd = -1;

static int setup(void **state)
{
	if (!mkdtemp(dir))
		return -1;
	dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return dir_fd < 0 ? -1 : 0;
}

static int teardown(void **state)
{
	close(dir_fd);
	return rmdir(dir);
}

static size_t entries(void)
{
	DIR *d = opendir(dir);
	size_t n = 0;

	assert_non_null(d);
	while (readdir(d))
		n++;
	closedir(d);
	return n - 2;
}

static void test_write_and_read_file(void **state)
{
	cleanup_buf struct buf b = BUF_INIT;
	struct stat st;
	mode_t old = umask(077);

	assert_int_equal(io_write_file(dir_fd, "f", "hello", 5, 0644), 0);
	umask(old);
	assert_int_equal(fstatat(dir_fd, "f", &st, 0), 0);
	assert_int_equal(st.st_mode & 07777, 0644);
	buf_put_str(&b, "> ");
	assert_int_equal(io_read_file(dir_fd, "f", 5, &b), 0);
	assert_string_equal(buf_cstr(&b), "> hello");
	assert_int_equal(io_read_file(dir_fd, "f", 4, &b), -EMSGSIZE);
	assert_string_equal(buf_cstr(&b), "> hello");
	assert_int_equal(io_read_file(dir_fd, "none", 4, &b), -ENOENT);

	assert_int_equal(io_write_file(dir_fd, "f", "", 0, 0600), 0);
	buf_reset(&b);
	assert_int_equal(io_read_file(dir_fd, "f", 0, &b), 0);
	assert_int_equal(b.len, 0);
	assert_int_equal(entries(), 1);
	assert_int_equal(unlinkat(dir_fd, "f", 0), 0);
}

/* A reader of the old file keeps it: the name is replaced, the bytes are not overwritten. */
static void test_replaces_the_name(void **state)
{
	cleanup_fd int old = -1;
	char bytes[8];

	assert_int_equal(io_write_file(dir_fd, "f", "old", 3, 0600), 0);
	old = openat(dir_fd, "f", O_RDONLY | O_CLOEXEC);
	assert_true(old >= 0);
	assert_int_equal(io_write_file(dir_fd, "f", "new", 3, 0600), 0);
	assert_int_equal(io_read(old, bytes, sizeof(bytes)), 3);
	assert_memory_equal(bytes, "old", 3);
	assert_int_equal(unlinkat(dir_fd, "f", 0), 0);
}

static void test_failure_leaves_nothing(void **state)
{
	assert_int_equal(mkdirat(dir_fd, "d", 0700), 0);
	assert_int_equal(io_write_file(dir_fd, "d", "x", 1, 0600), -EISDIR);
	assert_int_equal(io_write_file(dir_fd, "none/f", "x", 1, 0600), -ENOENT);
	assert_int_equal(entries(), 1);
	assert_int_equal(io_write_file(dir_fd, "d/f", "x", 1, 0600), 0);
	assert_int_equal(unlinkat(dir_fd, "d/f", 0), 0);
	assert_int_equal(unlinkat(dir_fd, "d", AT_REMOVEDIR), 0);
}

static void test_large_file(void **state)
{
	size_t len = 300001;
	uint8_t *bytes = malloc(len);
	cleanup_buf struct buf b = BUF_INIT;

	assert_non_null(bytes);
	for (size_t i = 0; i < len; i++)
		bytes[i] = (uint8_t)(i * 7 + i / 256);
	assert_int_equal(io_write_file(dir_fd, "big", bytes, len, 0600), 0);
	assert_int_equal(io_read_file(dir_fd, "big", SIZE_MAX, &b), 0);
	assert_int_equal(b.len, len);
	assert_memory_equal(b.data, bytes, len);
	assert_int_equal(unlinkat(dir_fd, "big", 0), 0);
	free(bytes);
}

#define PIPE_BYTES 1000000

static void *fill_pipe(void *arg)
{
	static const uint8_t zeros[PIPE_BYTES];
	int fd = *(int *)arg;
	int r = io_write(fd, zeros, sizeof(zeros));

	close(fd);
	return r == 0 ? arg : NULL;
}

/* A pipe gives and takes far less per call than asked for. */
static void test_pipe(void **state)
{
	static uint8_t bytes[PIPE_BYTES + 10];
	pthread_t thread;
	void *ok = NULL;
	int fds[2];

	assert_int_equal(pipe(fds), 0);
	assert_int_equal(pthread_create(&thread, NULL, fill_pipe, &fds[1]), 0);
	assert_int_equal(io_read(fds[0], bytes, sizeof(bytes)), PIPE_BYTES);
	pthread_join(thread, &ok);
	assert_non_null(ok);
	close(fds[0]);
	assert_int_equal(io_read(-1, bytes, 1), -EBADF);
	assert_int_equal(io_write(-1, bytes, 1), -EBADF);
}

static void test_positions(void **state)
{
	cleanup_fd int fd = openat(dir_fd, "p", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	char bytes[8];

	assert_true(fd >= 0);
	assert_int_equal(io_pwrite(fd, "abc", 3, 4), 0);
	assert_int_equal(io_pread(fd, bytes, sizeof(bytes), 3), 4);
	assert_memory_equal(bytes, "\0abc", 4);
	assert_int_equal(io_pread(fd, bytes, sizeof(bytes), 100), 0);
	assert_int_equal(unlinkat(dir_fd, "p", 0), 0);
}

static void test_make_dirs(void **state)
{
	char path[128];
	struct stat st;

	snprintf(path, sizeof(path), "%s/a//b/c/", dir);
	assert_int_equal(io_make_dirs(path, 0700), 0);
	assert_int_equal(io_make_dirs(path, 0700), 0);
	assert_int_equal(fstatat(dir_fd, "a/b/c", &st, 0), 0);
	assert_int_equal(st.st_mode & 07777, 0700);
	assert_int_equal(io_write_file(dir_fd, "a/f", "", 0, 0600), 0);
	snprintf(path, sizeof(path), "%s/a/f", dir);
	assert_int_equal(io_make_dirs(path, 0700), -ENOTDIR);
	snprintf(path, sizeof(path), "%s/a/f/g", dir);
	assert_int_equal(io_make_dirs(path, 0700), -ENOTDIR);
	assert_int_equal(io_make_dirs("", 0700), -ENOENT);
	assert_int_equal(unlinkat(dir_fd, "a/f", 0), 0);
	assert_int_equal(unlinkat(dir_fd, "a/b/c", AT_REMOVEDIR), 0);
	assert_int_equal(unlinkat(dir_fd, "a/b", AT_REMOVEDIR), 0);
	assert_int_equal(unlinkat(dir_fd, "a", AT_REMOVEDIR), 0);
}

static void test_cleanup(void **state)
{
	int kept, plain;
	char *text;

	{
		cleanup_fd int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
		cleanup_fd int other = open("/dev/null", O_RDONLY | O_CLOEXEC);
		cleanup_free char *s = strdup("x");

		plain = fd;
		kept = steal_fd(&other);
		text = steal_ptr(&s);
		assert_null(s);
		errno = EXDEV;
	}
	assert_int_equal(errno, EXDEV);
	assert_int_equal(fcntl(plain, F_GETFD), -1);
	assert_true(fcntl(kept, F_GETFD) >= 0);
	assert_string_equal(text, "x");
	free(text);
	close(kept);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_write_and_read_file),
		cmocka_unit_test(test_replaces_the_name),
		cmocka_unit_test(test_failure_leaves_nothing),
		cmocka_unit_test(test_large_file),
		cmocka_unit_test(test_pipe),
		cmocka_unit_test(test_positions),
		cmocka_unit_test(test_make_dirs),
		cmocka_unit_test(test_cleanup),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
