/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests of journal.h over real directories: what was appended is replayed, what was acknowledged goes, a torn
 * end is cut, damage is refused, a full disk is said beforehand.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <syncfs/io.h>

#include "journal.h"

#define SEGMENT "journal.00000001"
#define SEGMENT_BYTES (4u << 20)

struct fixture {
	char path[64];
	int dirfd;
	struct journal *j;
	/* what replay saw */
	enum record_type types[16384];
	uint64_t lsns[16384];
	size_t count;
	int replay_gives;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	strcpy(f->path, "/tmp/syncfs-journal-XXXXXX");
	assert_non_null(mkdtemp(f->path));
	f->dirfd = open(f->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(f->dirfd >= 0);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	char command[96];

	journal_close(f->j);
	close(f->dirfd);
	(void)umount2(f->path, MNT_DETACH); /* of test_full_disk */
	snprintf(command, sizeof(command), "rm -rf %s", f->path);
	assert_int_equal(system(command), 0);
	free(f);
	return 0;
}

static int collect(void *arg, const struct record *r)
{
	struct fixture *f = arg;

	assert_true(f->count < 16384);
	f->types[f->count] = r->type;
	f->lsns[f->count++] = r->lsn;
	return f->replay_gives;
}

static int try_open(struct fixture *f)
{
	journal_close(f->j);
	f->j = NULL;
	f->count = 0;
	return journal_open(f->dirfd, collect, f, &f->j);
}

static void must_open(struct fixture *f)
{
	assert_int_equal(try_open(f), 0);
}

static void must_close(struct fixture *f)
{
	journal_close(f->j);
	f->j = NULL;
}

/* An intent with a link target of this many bytes. */
static struct record intent(size_t target_len)
{
	static char target[4096];
	static char name[] = "name";

	memset(target, 't', sizeof(target) - 1);
	return (struct record){.type = RECORD_INTENT,
		.op = OP_CREATE,
		.kind = KIND_SYMLINK,
		.name = name,
		.target = target_len ? target + sizeof(target) - 1 - target_len : NULL};
}

static uint64_t append(struct fixture *f, struct record r)
{
	assert_int_equal(journal_append(f->j, &r), 0);
	return r.lsn;
}

static uint64_t append_done(struct fixture *f, uint64_t lsn)
{
	return append(f, (struct record){.type = RECORD_DONE, .intent_lsn = lsn, .ok = true});
}

static uint64_t append_dirty(struct fixture *f)
{
	return append(f, (struct record){.type = RECORD_DIRTY, .node = ID_ROOT, .btime_ns = -1});
}

static size_t count_segments(const struct fixture *f)
{
	size_t count = 0;
	char name[32];

	for (int i = 1; i < 64; i++) {
		snprintf(name, sizeof(name), "journal.%08d", i);
		count += faccessat(f->dirfd, name, F_OK, 0) == 0;
	}
	return count;
}

static void poke(const struct fixture *f, const char *name, off_t at, uint8_t flip)
{
	cleanup_fd int fd = openat(f->dirfd, name, O_RDWR | O_CLOEXEC);
	uint8_t byte;

	assert_true(fd >= 0);
	assert_int_equal(pread(fd, &byte, 1, at), 1);
	byte ^= flip;
	assert_int_equal(pwrite(fd, &byte, 1, at), 1);
}

static void zero(const struct fixture *f, const char *name, off_t at, size_t len)
{
	cleanup_fd int fd = openat(f->dirfd, name, O_RDWR | O_CLOEXEC);
	static const uint8_t zeros[4096];

	assert_true(fd >= 0 && len <= sizeof(zeros));
	assert_int_equal(pwrite(fd, zeros, len, at), len);
}

/* A refused journal is left as it was, byte for byte. */
static void expect_refused(struct fixture *f, const char *name)
{
	cleanup_buf struct buf before = BUF_INIT, after = BUF_INIT;
	size_t segments = count_segments(f);

	assert_int_equal(io_read_file(f->dirfd, name, SEGMENT_BYTES, &before), 0);
	assert_int_equal(try_open(f), -EBADMSG);
	assert_int_equal(count_segments(f), segments);
	assert_int_equal(io_read_file(f->dirfd, name, SEGMENT_BYTES, &after), 0);
	assert_int_equal(before.len, after.len);
	assert_memory_equal(before.data, after.data, before.len);
}

static void test_append_and_replay(void **state)
{
	struct fixture *f = *state;
	uint64_t lsn;

	must_open(f);
	assert_int_equal(f->count, 0);
	assert_int_equal(journal_last_lsn(f->j), 0);
	lsn = append(f, intent(0));
	assert_int_equal(lsn, 1);
	assert_int_equal(append_done(f, lsn), 2);
	assert_int_equal(append_dirty(f), 3);
	assert_int_equal(append(f, (struct record){.type = RECORD_CLOSED, .node = ID_ROOT}), 4);
	assert_int_equal(journal_ack(f->j, &lsn, 1), 0);
	assert_int_equal(journal_last_lsn(f->j), 5);
	must_open(f);
	assert_int_equal(f->count, 5);
	for (size_t i = 0; i < 5; i++) {
		assert_int_equal(f->types[i], RECORD_INTENT + i);
		assert_int_equal(f->lsns[i], i + 1);
	}
	assert_int_equal(append_dirty(f), 6);
	/* An error of replay ends the opening. */
	f->replay_gives = -ECANCELED;
	assert_int_equal(try_open(f), -ECANCELED);
	assert_int_equal(f->count, 1);
}

static void test_too_long(void **state)
{
	struct fixture *f = *state;
	static uint64_t many[1 << 17];
	struct record r = {.type = RECORD_ACKED, .lsns = many, .lsns_count = 1 << 17};

	must_open(f);
	assert_int_equal(journal_append(f->j, &r), -EMSGSIZE);
	assert_int_equal(journal_last_lsn(f->j), 0);
	assert_int_equal(append_dirty(f), 1);
}

/* Fills three segments and something; gives the lsns of what keeps them. */
static size_t fill(struct fixture *f, uint64_t *lsns)
{
	size_t n = 0;

	while (count_segments(f) < 4 || n % 512) {
		lsns[n++] = append(f, intent(4000));
		append_done(f, lsns[n - 1]);
	}
	return n;
}

static void test_segments(void **state)
{
	struct fixture *f = *state;
	static uint64_t lsns[8192];
	size_t n;

	must_open(f);
	n = fill(f, lsns);
	assert_true(n > 3000);
	must_open(f);
	assert_int_equal(f->count, 2 * n);
	assert_int_equal(f->lsns[f->count - 1], journal_last_lsn(f->j));
	/* All but the first: it keeps the oldest segment, and that the younger ones. */
	assert_int_equal(journal_ack(f->j, lsns + 1, n - 1), 0);
	assert_int_equal(count_segments(f), 4);
	must_open(f);
	assert_true(f->count > 2 * n);
	assert_int_equal(count_segments(f), 4);
	assert_int_equal(journal_ack(f->j, lsns, 1), 0);
	assert_int_equal(count_segments(f), 1);
	must_open(f);
	assert_int_equal(journal_last_lsn(f->j), f->lsns[f->count - 1]);
	/* The numbers go on. */
	assert_true(append_dirty(f) > 2 * n);
	must_open(f);
	assert_int_equal(f->types[f->count - 1], RECORD_DIRTY);
}

/* The oldest segment goes as soon as it may, not with the last one. */
static void test_oldest_goes_first(void **state)
{
	struct fixture *f = *state;
	static uint64_t lsns[8192];
	size_t n;

	must_open(f);
	n = fill(f, lsns);
	assert_int_equal(journal_ack(f->j, lsns, n / 2), 0);
	assert_true(count_segments(f) < 4);
	assert_int_equal(faccessat(f->dirfd, SEGMENT, F_OK, 0), -1);
	must_open(f);
	assert_true(f->count > 0);
	assert_int_equal(f->lsns[f->count - 1], journal_last_lsn(f->j));
}

/* Three records of 64 bytes behind the header of 64. */
static void make_three(struct fixture *f)
{
	must_open(f);
	for (int i = 0; i < 3; i++)
		append_dirty(f);
	must_close(f);
}

#define THIRD (64 + 2 * 64)
#define DIRTY_BYTES 64

static void test_torn_tail(void **state)
{
	struct fixture *f = *state;

	make_three(f);
	/* The third, cut at every place: gone, the others stay, and the fourth takes its number. */
	for (off_t cut = 1; cut < 57; cut += 5) {
		zero(f, SEGMENT, THIRD + cut, (size_t)(DIRTY_BYTES - cut));
		must_open(f);
		assert_int_equal(f->count, 2);
		assert_int_equal(append_dirty(f), 3);
		must_open(f);
		assert_int_equal(f->count, 3);
		must_close(f);
	}
	/* Rubbish behind the end. */
	poke(f, SEGMENT, THIRD + DIRTY_BYTES + 20, 0x55);
	must_open(f);
	assert_int_equal(f->count, 3);
	must_close(f);
	/* A file that is cut. */
	{
		cleanup_fd int fd = openat(f->dirfd, SEGMENT, O_RDWR | O_CLOEXEC);

		assert_int_equal(ftruncate(fd, THIRD + 10), 0);
	}
	must_open(f);
	assert_int_equal(f->count, 2);
	assert_int_equal(append_dirty(f), 3);
	must_open(f);
	assert_int_equal(f->count, 3);
}

static void test_damage_is_refused(void **state)
{
	struct fixture *f = *state;

	make_three(f);
	for (off_t at = 64; at < THIRD; at += 7) {
		poke(f, SEGMENT, at, 0x10);
		expect_refused(f, SEGMENT);
		poke(f, SEGMENT, at, 0x10);
	}
	must_open(f);
	assert_int_equal(f->count, 3);
	must_close(f);
	/* Its header: the records behind it are not thrown away with it. */
	for (off_t at = 0; at < 64; at += 5) {
		poke(f, SEGMENT, at, 0x10);
		expect_refused(f, SEGMENT);
		poke(f, SEGMENT, at, 0x10);
	}
	/* A hole: what follows it was written once. */
	zero(f, SEGMENT, 64, DIRTY_BYTES);
	expect_refused(f, SEGMENT);
}

static void test_damage_of_other_segments(void **state)
{
	struct fixture *f = *state;
	static uint64_t lsns[8192];
	size_t n;

	must_open(f);
	n = fill(f, lsns);
	must_close(f);
	poke(f, "journal.00000002", 100, 1);
	expect_refused(f, "journal.00000002");
	poke(f, "journal.00000002", 100, 1);
	/* Zeros to the end where records were: no torn tail, for others follow. */
	{
		cleanup_fd int fd = openat(f->dirfd, "journal.00000002", O_RDWR | O_CLOEXEC);
		cleanup_buf struct buf bytes = BUF_INIT;

		assert_int_equal(io_read_file(f->dirfd, "journal.00000002", SEGMENT_BYTES, &bytes), 0);
		assert_int_equal(ftruncate(fd, SEGMENT_BYTES / 2), 0);
		expect_refused(f, "journal.00000002");
		assert_int_equal(io_pwrite(fd, bytes.data, bytes.len, 0), 0);
	}
	must_open(f);
	assert_int_equal(f->count, 2 * n);
	must_close(f);
	/* One is missing. */
	assert_int_equal(renameat(f->dirfd, "journal.00000002", f->dirfd, "away"), 0);
	expect_refused(f, "journal.00000003");
	assert_int_equal(renameat(f->dirfd, "away", f->dirfd, "journal.00000002"), 0);
	/* One of another journal, or twice the same. */
	assert_int_equal(renameat(f->dirfd, "journal.00000003", f->dirfd, "away"), 0);
	assert_int_equal(linkat(f->dirfd, "journal.00000002", f->dirfd, "journal.00000003", 0), 0);
	expect_refused(f, "journal.00000003");
}

static void write_header(struct fixture *f, const char *name, const struct segment_header *h, size_t size)
{
	cleanup_fd int fd = openat(f->dirfd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	uint8_t bytes[SEGMENT_HEADER_BYTES] = {0};

	if (h)
		segment_header_encode(h, bytes);
	assert_true(fd >= 0);
	if (h)
		assert_int_equal(io_write(fd, bytes, sizeof(bytes)), 0);
	assert_int_equal(ftruncate(fd, (off_t)size), 0);
}

/* We died while the second segment was being made. */
static void test_started_segment(void **state)
{
	struct fixture *f = *state;
	static const size_t sizes[] = {0, 10, 64, SEGMENT_BYTES};
	struct segment_header h;
	uint8_t bytes[SEGMENT_HEADER_BYTES];
	cleanup_fd int fd = -1;

	make_three(f);
	for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
		write_header(f, "journal.00000002", NULL, sizes[i]);
		/* And with it the last write to the first one. */
		if (i == 3)
			poke(f, SEGMENT, THIRD + 30, 1);
		must_open(f);
		assert_int_equal(f->count, i == 3 ? 2 : 3);
		assert_int_equal(count_segments(f), 1);
		must_close(f);
	}
	/* Its header is there, the seal of the first is not. */
	fd = openat(f->dirfd, SEGMENT, O_RDONLY | O_CLOEXEC);
	assert_int_equal(pread(fd, bytes, sizeof(bytes), 0), sizeof(bytes));
	assert_int_equal(segment_header_decode(bytes, &h), 0);
	h.number = 2;
	h.first_lsn = 4;
	write_header(f, "journal.00000002", &h, SEGMENT_BYTES);
	must_open(f);
	assert_int_equal(f->count, 2);
	assert_int_equal(append_dirty(f), 4);
	must_open(f);
	assert_int_equal(f->count, 3);
	must_close(f);
	/* More than the seal is missing. */
	h.first_lsn = 5;
	write_header(f, "journal.00000002", &h, SEGMENT_BYTES);
	expect_refused(f, "journal.00000002");
	h.first_lsn = 2;
	write_header(f, "journal.00000002", &h, SEGMENT_BYTES);
	expect_refused(f, "journal.00000002");
	h.first_lsn = 4;
	h.journal.b[0] ^= 1;
	write_header(f, "journal.00000002", &h, SEGMENT_BYTES);
	expect_refused(f, "journal.00000002");
}

static void *append_and_sync(void *arg)
{
	struct fixture *f = arg;

	for (int i = 0; i < 20; i++) {
		struct record r = {.type = RECORD_DIRTY, .node = ID_ROOT, .btime_ns = -1};

		if (journal_append(f->j, &r) || journal_sync(f->j))
			return f;
	}
	return NULL;
}

static void test_sync(void **state)
{
	struct fixture *f = *state;
	pthread_t threads[4];

	must_open(f);
	assert_int_equal(journal_sync(f->j), 0);
	for (int i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, append_and_sync, f), 0);
	for (int i = 0; i < 4; i++) {
		void *failed;

		assert_int_equal(pthread_join(threads[i], &failed), 0);
		assert_null(failed);
	}
	assert_int_equal(journal_last_lsn(f->j), 80);
	must_open(f);
	assert_int_equal(f->count, 80);
}

/* A write that fails for another reason than room: nothing is taken any more, what was stays. */
static void test_failed_write_is_final(void **state)
{
	struct fixture *f = *state;
	struct rlimit old, none;
	struct record r = {.type = RECORD_DIRTY, .node = ID_ROOT, .btime_ns = -1};
	uint64_t one = 1;

	must_open(f);
	append_dirty(f);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	none = (struct rlimit){.rlim_cur = 64, .rlim_max = old.rlim_max};
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &none), 0);
	assert_int_equal(journal_append(f->j, &r), -EIO);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
	assert_int_equal(journal_append(f->j, &r), -EIO);
	assert_int_equal(journal_sync(f->j), -EIO);
	assert_int_equal(journal_ack(f->j, &one, 1), -EIO);
	must_open(f);
	assert_int_equal(f->count, 1);
	assert_int_equal(append_dirty(f), 2);
}

static bool mount_small(struct fixture *f)
{
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
		mount("none", f->path, "tmpfs", 0, "size=6m") < 0)
		return false;
	close(f->dirfd);
	f->dirfd = open(f->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(f->dirfd >= 0);
	return true;
}

static void test_full_disk(void **state)
{
	struct fixture *f = *state;
	static uint64_t lsns[8192];
	struct record r;
	size_t n = 0;
	int error;

	if (!mount_small(f))
		skip(); /* needs to mount a tmpfs */
	must_open(f);
	while ((r = intent(4000), error = journal_append(f->j, &r)) == 0)
		lsns[n++] = r.lsn;
	assert_int_equal(error, -ENOSPC);
	assert_true(n > 900 && n < 1100);
	assert_int_equal(count_segments(f), 1);
	/* Nothing was kept of the last, and each promise holds. */
	assert_int_equal(journal_last_lsn(f->j), n);
	for (size_t i = 0; i < n; i++)
		append_done(f, lsns[i]);
	assert_int_equal(journal_sync(f->j), 0);
	must_open(f);
	assert_int_equal(f->count, 2 * n);
	/* Room again: it goes on. */
	assert_int_equal(mount("none", f->path, "tmpfs", MS_REMOUNT, "size=32m"), 0);
	for (int i = 0; i < 16; i++)
		append(f, intent(4000));
	assert_int_equal(count_segments(f), 2);
	must_open(f);
	assert_int_equal(f->count, 2 * n + 16);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_append_and_replay),
		TEST(test_too_long),
		TEST(test_segments),
		TEST(test_oldest_goes_first),
		TEST(test_torn_tail),
		TEST(test_damage_is_refused),
		TEST(test_damage_of_other_segments),
		TEST(test_started_segment),
		TEST(test_sync),
		TEST(test_failed_write_is_final),
		TEST(test_full_disk),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
