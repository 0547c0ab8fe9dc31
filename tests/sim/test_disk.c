/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests of the simulated disk: the same random calls on it and on a real directory must give the same results
 * and the same tree; and what a power cut may leave.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "disk.h"
#include "run.h"
#include "sched.h"
#include "sysio_wraps.h"

#define CALLS 4000
#define OPEN_MAX_FILES 6

#define CHECK(what)                                                                                          \
	do {                                                                                                 \
		if (!(what))                                                                                 \
			sim_fail("test", "line %d: %s (errno %d)", __LINE__, #what, errno);                  \
	} while (0)

static struct machine machine = {.name = "A", .boot_id = "boot"};

/* ---- the same calls twice ---- */

struct side {
	bool real;
	int root;
	int fds[OPEN_MAX_FILES];
};

static struct side sides[2];
static char real_dir[64];

static const char *const names[] = {"a", "b", "c", "d", "a/x", "a/y", "b/x", "b/b", "c/x/y", "a/x/z", "d/",
	"a/.", "a/..", "b/../c", "link", "link/x", "loop", ".", "..x", "a/x/", "c/x", "d/x"};

static const char *some_name(void)
{
	return names[sim_below(STREAM_USER, sizeof(names) / sizeof(names[0]))];
}

struct call {
	unsigned what, fd;
	const char *from, *to;
	int flags;
	off_t at;
	size_t len;
	mode_t mode;
};

#define BOTH(real, call, ...) ((real) ? __real_##call(__VA_ARGS__) : __wrap_##call(__VA_ARGS__))

static long run_names(struct side *s, const struct call *c)
{
	static const char *const targets[] = {"a", "b/x", "loop", "../x", "missing", "c/"};
	static const unsigned flags[] = {0, 0, RENAME_NOREPLACE, RENAME_EXCHANGE};

	switch (c->what) {
	case 0:
		return BOTH(s->real, mkdirat, s->root, c->from, c->mode);
	case 1:
		return BOTH(s->real, unlinkat, s->root, c->from, c->flags & 1 ? AT_REMOVEDIR : 0);
	case 2:
	case 3:
		return BOTH(s->real, renameat2, s->root, c->from, s->root, c->to, flags[c->flags & 3]);
	case 4:
		return BOTH(s->real, linkat, s->root, c->from, s->root, c->to,
			c->flags & 1 ? AT_SYMLINK_FOLLOW : 0);
	case 5:
		return BOTH(s->real, symlinkat, targets[c->flags % 6], s->root, c->from);
	case 6:
		return BOTH(s->real, fchmodat, s->root, c->from, c->mode, 0);
	default:
		return BOTH(
			s->real, faccessat, s->root, c->from, F_OK, c->flags & 1 ? AT_SYMLINK_NOFOLLOW : 0);
	}
}

static long run_open(struct side *s, const struct call *c)
{
	static const int flags[] = {O_RDONLY, O_RDWR, O_RDWR | O_CREAT, O_RDWR | O_CREAT | O_EXCL,
		O_WRONLY | O_CREAT | O_TRUNC, O_RDONLY | O_DIRECTORY, O_PATH | O_NOFOLLOW,
		O_RDONLY | O_NOFOLLOW, O_RDWR | O_APPEND | O_CREAT, O_RDWR | O_TRUNC,
		O_RDWR | O_CREAT | O_NOFOLLOW, O_PATH, O_RDONLY | O_DIRECTORY | O_NOFOLLOW};
	int fd = BOTH(s->real, openat64, s->root, c->from,
		flags[c->flags % (int)(sizeof(flags) / sizeof(flags[0]))] | O_CLOEXEC | O_NONBLOCK, c->mode);

	if (fd < 0)
		return -1;
	if (s->fds[c->fd] >= 0)
		(void)BOTH(s->real, close, s->fds[c->fd]);
	s->fds[c->fd] = fd;
	return 0;
}

static long run_bytes(struct side *s, const struct call *c)
{
	static uint8_t out[20000];
	uint8_t in[20000];
	int fd = s->fds[c->fd];
	long sum = 0, n;

	memset(out, (int)(c->at % 251) + 1, sizeof(out));
	switch (c->what) {
	case 10:
		return BOTH(s->real, pwrite64, fd, out, c->len, c->at);
	case 11:
		return BOTH(s->real, write, fd, out, c->len);
	case 12:
		n = BOTH(s->real, pread64, fd, in, c->len, c->at);
		break;
	case 13:
		n = BOTH(s->real, read, fd, in, c->len);
		break;
	case 14:
		return BOTH(s->real, ftruncate64, fd, c->at);
	case 15:
		return BOTH(s->real, lseek64, fd, c->at, c->flags % 3);
	case 16:
		return BOTH(s->real, fallocate64, fd, 0, c->at, (off_t)c->len);
	default:
		return BOTH(s->real, fchmod, fd, c->mode);
	}
	for (long i = 0; i < n; i++)
		sum = sum * 31 + in[i];
	return n < 0 ? n : sum + n;
}

static long run_call(struct side *s, const struct call *c)
{
	long r;

	errno = 0;
	r = c->what < 8 ? run_names(s, c) : c->what < 10 ? run_open(s, c) : run_bytes(s, c);
	return r < 0 ? -errno : r;
}

static struct call some_call(void)
{
	struct call c = {.what = (unsigned)sim_below(STREAM_USER, 18),
		.fd = (unsigned)sim_below(STREAM_USER, OPEN_MAX_FILES),
		.from = some_name(),
		.to = some_name(),
		.flags = (int)sim_below(STREAM_USER, 1000),
		.at = (off_t)sim_below(STREAM_USER, 30000),
		.len = sim_below(STREAM_USER, 20000),
		.mode = (mode_t)sim_below(STREAM_USER, 0777)};

	c.mode |= 0700;
	return c;
}

/* Attributes and bytes of all below the directory, as text. */
static void describe(struct side *s, int dirfd, const char *path, char *out, size_t size, int depth);

static void describe_name(
	struct side *s, int dirfd, const char *path, const char *name, char *out, size_t size, int depth)
{
	static uint8_t bytes[60000]; /* stacks of fibers are small */
	struct stat st;
	size_t used = strlen(out);
	unsigned sum = 0;
	int fd;
	ssize_t n;

	CHECK(BOTH(s->real, fstatat64, dirfd, name, &st, AT_SYMLINK_NOFOLLOW) == 0);
	(void)snprintf(out + used, size - used, "%s/%s %o nlink=%u size=%lld", path, name, st.st_mode,
		(unsigned)st.st_nlink, S_ISDIR(st.st_mode) ? 0LL : (long long)st.st_size);
	used = strlen(out);
	if (S_ISREG(st.st_mode)) {
		fd = BOTH(s->real, openat64, dirfd, name, O_RDONLY);
		CHECK(fd >= 0);
		n = BOTH(s->real, pread64, fd, bytes, sizeof(bytes), 0);
		CHECK(n == st.st_size || n == (ssize_t)sizeof(bytes));
		for (ssize_t i = 0; i < n; i++)
			sum = sum * 31 + bytes[i];
		(void)BOTH(s->real, close, fd);
	} else if (S_ISLNK(st.st_mode)) {
		n = BOTH(s->real, readlinkat, dirfd, name, (char *)bytes, 100);
		CHECK(n > 0);
		for (ssize_t i = 0; i < n; i++)
			sum = sum * 31 + bytes[i];
	}
	(void)snprintf(out + used, size - used, " sum=%u\n", sum);
	if (S_ISDIR(st.st_mode)) {
		char below[200];

		(void)snprintf(below, sizeof(below), "%s/%s", path, name);
		fd = BOTH(s->real, openat64, dirfd, name, O_RDONLY | O_DIRECTORY);
		CHECK(fd >= 0);
		describe(s, fd, below, out, size, depth + 1);
	}
}

static int by_text(const void *a, const void *b)
{
	return strcmp(a, b);
}

/* Takes the descriptor. */
static void describe(struct side *s, int take_fd, const char *path, char *out, size_t size, int depth)
{
	char list[64][32];
	size_t count = 0;
	struct dirent *e;
	DIR *dir = BOTH(s->real, fdopendir, take_fd);

	CHECK(dir && depth < 40);
	while ((errno = 0, e = BOTH(s->real, readdir64, dir))) {
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0 && count < 64)
			(void)snprintf(list[count++], sizeof(list[0]), "%.31s", e->d_name);
	}
	CHECK(errno == 0);
	qsort(list, count, sizeof(list[0]), by_text);
	for (size_t i = 0; i < count; i++)
		describe_name(s, take_fd, path, list[i], out, size, depth);
	(void)BOTH(s->real, closedir, dir);
}

static void compare_trees(unsigned call)
{
	static char text[2][200000];

	for (int i = 0; i < 2; i++) {
		int fd = BOTH(sides[i].real, openat64, sides[i].root, ".", O_RDONLY | O_DIRECTORY);

		text[i][0] = '\0';
		describe(&sides[i], fd, "", text[i], sizeof(text[i]), 0);
	}
	if (strcmp(text[0], text[1]) != 0)
		sim_fail("test", "after call %u, disk:\n%s\nreal:\n%s", call, text[0], text[1]);
}

static void same_calls(void *arg)
{
	CHECK(__wrap_mkdirat(AT_FDCWD, "/top", 0755) == 0);
	sides[0].root = __wrap_open64("/top", O_RDONLY | O_DIRECTORY);
	CHECK(__real_mkdir(real_dir, 0755) == 0);
	sides[1] = (struct side){.real = true, .root = __real_open64(real_dir, O_RDONLY | O_DIRECTORY)};
	for (int i = 0; i < OPEN_MAX_FILES; i++)
		sides[0].fds[i] = sides[1].fds[i] = -1;
	for (unsigned i = 0; i < CALLS; i++) {
		struct call c = some_call();
		long ours = run_call(&sides[0], &c), theirs = run_call(&sides[1], &c);

		if (ours != theirs)
			sim_fail("test",
				"call %u (what %u, %s, %s, flags %d, at %lld, len %zu): %ld, really %ld", i,
				c.what, c.from, c.to, c.flags, (long long)c.at, c.len, ours, theirs);
		if (i % 50 == 0)
			compare_trees(i);
	}
	compare_trees(CALLS);
}

/* ---- power cuts ---- */

static void put_file(const char *path, const char *text, bool sync)
{
	int fd = __wrap_open64(path, O_RDWR | O_CREAT, 0644);

	CHECK(fd >= 0 && __wrap_pwrite64(fd, text, strlen(text), 0) == (ssize_t)strlen(text));
	CHECK(!sync || __wrap_fsync(fd) == 0);
	CHECK(__wrap_close(fd) == 0);
}

static void before_cut(void *arg)
{
	put_file("/durable", "old text", true);
	put_file("/durable", "NEW", false);
	put_file("/lost", "text", false);
	CHECK(__wrap_rename("/durable", "/renamed") == 0);
}

static bool entry_is(const char *path, const char *text)
{
	struct disk_entry e;

	return disk_get(machine.disk, path, &e) == 0 && e.len == strlen(text) &&
		memcmp(e.bytes, text, e.len) == 0;
}

/* Runs as the world. What was synced is there under one of its names, and some runs show each outcome. */
static void cut_once(unsigned *ret_seen)
{
	struct proc *p;
	struct disk_entry e;
	bool old, renamed;

	machine.disk = disk_new("A");
	p = proc_new("cut", &machine);
	proc_spawn(p, "main", before_cut, NULL);
	while (proc_is_alive(p))
		sim_sleep_ms(1);
	disk_power_cut(machine.disk);
	old = entry_is("durable", "old text") || entry_is("durable", "NEW text");
	renamed = entry_is("renamed", "old text") || entry_is("renamed", "NEW text");
	CHECK(old != renamed);
	*ret_seen |= old ? 1u : 2u;
	*ret_seen |= disk_get(machine.disk, "lost", &e) < 0 ? 4u : e.len == 0 ? 8u : 16u;
	CHECK(!renamed || disk_get(machine.disk, "lost", &e) == 0); /* in the order of the calls */
	disk_free(machine.disk);
}

/* After a sync that failed, another one helps nothing: what is on the disk is not known. */
static void before_failed_sync(void *arg)
{
	int fd = __wrap_open64("/suspect", O_RDWR | O_CREAT, 0644);

	CHECK(__wrap_pwrite64(fd, "old text", 8, 0) == 8 && __wrap_fsync(fd) == 0);
	CHECK(__wrap_pwrite64(fd, "NEW TEXT", 8, 0) == 8);
	disk_fail_at(machine.disk, 1, EIO);
	CHECK(__wrap_fsync(fd) == -1 && errno == EIO);
	CHECK(__wrap_pwrite64(fd, "more", 4, 8192) == 4);
	CHECK(__wrap_fsync(fd) == 0);
	CHECK(__wrap_close(fd) == 0);
}

static void fail_once(unsigned *ret_seen)
{
	struct disk_entry e;
	struct proc *p;

	machine.disk = disk_new("A");
	p = proc_new("fail", &machine);
	proc_spawn(p, "main", before_failed_sync, NULL);
	while (proc_is_alive(p))
		sim_sleep_ms(1);
	CHECK(disk_get(machine.disk, "suspect", &e) == 0 && memcmp(e.bytes, "NEW TEXT", 8) == 0);
	disk_power_cut(machine.disk);
	CHECK(disk_get(machine.disk, "suspect", &e) == 0 && e.len == 8196 &&
		memcmp(e.bytes + 8192, "more", 4) == 0);
	*ret_seen |= memcmp(e.bytes, "old text", 8) == 0 ? 1u : memcmp(e.bytes, "NEW TEXT", 8) == 0 ? 2u : 4u;
	disk_free(machine.disk);
}

static void full_disk(void *arg)
{
	char block[10000] = "";
	int fd = __wrap_open64("/full", O_RDWR | O_CREAT, 0644);

	disk_set_room(machine.disk, disk_used(machine.disk) + 8192);
	CHECK(__wrap_write(fd, block, sizeof(block)) == 8192);
	CHECK(__wrap_write(fd, block, 1) == -1 && errno == ENOSPC);
	CHECK(__wrap_mkdirat(AT_FDCWD, "/dir", 0755) == -1 && errno == ENOSPC);
	CHECK(__wrap_unlinkat(AT_FDCWD, "/full", 0) == 0);
	CHECK(__wrap_mkdirat(AT_FDCWD, "/dir", 0755) == -1 && errno == ENOSPC); /* still open */
	CHECK(__wrap_close(fd) == 0);
	CHECK(__wrap_mkdirat(AT_FDCWD, "/dir", 0755) == 0);
	disk_set_room(machine.disk, UINT64_MAX);
	disk_fail_at(machine.disk, 2, EIO);
	CHECK(__wrap_mkdirat(AT_FDCWD, "/e", 0755) == 0);
	CHECK(__wrap_mkdirat(AT_FDCWD, "/f", 0755) == -1 && errno == EIO);
	CHECK(__wrap_mkdirat(AT_FDCWD, "/f", 0755) == 0);
}

static void events(void *arg)
{
	static const uint32_t masks[] = {IN_CREATE, IN_CLOSE_WRITE, IN_MOVED_FROM, IN_MOVED_TO, IN_DELETE};
	_Alignas(struct inotify_event) char block[4096];
	int fd = __wrap_inotify_init1(IN_NONBLOCK);
	size_t i = 0;
	ssize_t n;

	CHECK(__wrap_mkdirat(AT_FDCWD, "/watched", 0755) == 0);
	CHECK(__wrap_inotify_add_watch(fd, "/watched",
		      IN_CREATE | IN_CLOSE_WRITE | IN_MOVED_FROM | IN_MOVED_TO | IN_DELETE) == 1);
	put_file("/watched/a", "x", false);
	CHECK(__wrap_rename("/watched/a", "/watched/b") == 0 && __wrap_unlink("/watched/b") == 0);
	n = __wrap_read(fd, block, sizeof(block));
	for (ssize_t at = 0; at < n; i++) {
		const struct inotify_event *e = (const struct inotify_event *)(const void *)(block + at);

		CHECK(i < 5 && e->mask == masks[i] && strcmp(e->name, i < 3 ? "a" : "b") == 0);
		at += (ssize_t)(sizeof(*e) + e->len);
	}
	CHECK(i == 5);
	CHECK(__wrap_unlinkat(AT_FDCWD, "/watched", AT_REMOVEDIR) == 0);
	n = __wrap_read(fd, block, sizeof(block));
	CHECK(n == (ssize_t)sizeof(struct inotify_event) &&
		((const struct inotify_event *)(const void *)block)->mask == IN_IGNORED);
}

static void run_proc(void (*fn)(void *arg))
{
	struct proc *p = proc_new("test", &machine);

	proc_spawn(p, "main", fn, NULL);
	while (proc_is_alive(p))
		sim_sleep_ms(1);
}

static void all(void *arg)
{
	unsigned seen = 0;

	machine.disk = disk_new("A");
	run_proc(full_disk);
	run_proc(events);
	run_proc(same_calls);
	disk_free(machine.disk);
	sim_options.weak_disk = false;
	for (int i = 0; i < 200; i++)
		cut_once(&seen);
	CHECK(seen == 31);
	seen = 0;
	for (int i = 0; i < 50; i++)
		fail_once(&seen);
	CHECK(seen == 3);
}

void world_run(void *arg)
{
	all(arg);
}

int main(int argc, char **argv)
{
	static struct run_result result;
	struct run_config config = {.seed = argc > 1 ? strtoull(argv[1], NULL, 10) : 1, .report_lines = 20};
	char top[] = "/dev/shm/test_disk.XXXXXX";
	int r;

	if (!mkdtemp(top))
		return 77;
	(void)snprintf(real_dir, sizeof(real_dir), "%s/top", top); /* "../x" leads to a place of ours, too */
	r = fork();
	if (r == 0) {
		(void)umask(022);
		run_begin(&config, &result);
		sched_run(all, NULL);
		run_end();
		_exit(0);
	}
	if (r < 0 || waitpid(r, &r, 0) < 0)
		return 2;
	{
		char command[100];

		(void)snprintf(command, sizeof(command), "rm -rf %s", top);
		(void)!system(command);
	}
	return WIFEXITED(r) ? WEXITSTATUS(r) : 1;
}
