/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The segment files behind journal.h. Called by capture (append, sync) and the uploader (ack); never reads
 * what it wrote but at journal_open(). Segments are recycled oldest first, because an ACKED record counts
 * only while the segment it lies in exists.
 */
#include "journal.h"

#include <errno.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <syncfs/io.h>
#include <syncfs/limits.h>
#include <syncfs/log.h>
#include <syncfs/mutex.h>

#define SEGMENT_BYTES (4u << 20)
#define TAIL_RESERVE_BYTES 64 /* one DONE or SEAL frame */

struct segment {
	uint64_t number, first_lsn;
	size_t live; /* records that still need a replay */
};

struct journal {
	struct mutex lock;
	int dirfd;
	int fd; /* of the last segment */
	struct id id;
	struct segment *segments; /* ascending; the last one is open */
	size_t segments_count;
	size_t at; /* end of the last segment's records */
	size_t reserved; /* bytes promised to outstanding DONE records */
	uint64_t next_lsn;
	uint64_t synced_lsn, syncing;
	struct cond sync_done;
	struct buf frame; /* scratch of append */
	int failed; /* -EIO once and for all */
};

static void segment_path(uint64_t number, char path[32])
{
	snprintf(path, 32, "journal.%08llu", (unsigned long long)number);
}

static struct segment *last_segment(struct journal *j)
{
	return &j->segments[j->segments_count - 1];
}

static int add_segment(struct journal *j, uint64_t number, uint64_t first_lsn)
{
	struct segment *more = realloc(j->segments, (j->segments_count + 1) * sizeof(*more));

	if (!more)
		return -ENOMEM;
	j->segments = more;
	more[j->segments_count++] = (struct segment){.number = number, .first_lsn = first_lsn};
	return 0;
}

static int seal_segment(struct journal *j)
{
	struct record seal = {.type = RECORD_SEAL, .lsn = j->next_lsn};
	int r;

	buf_reset(&j->frame);
	r = record_encode(&seal, &j->frame);
	if (!r)
		r = io_pwrite(j->fd, j->frame.data, j->frame.len, (off_t)j->at);
	if (!r && fdatasync(j->fd) < 0)
		r = -errno;
	if (!r)
		j->next_lsn++;
	return r;
}

/* Makes the next segment, then seals the present one. -ENOSPC, -EDQUOT: there is no room for one, nothing has
 * changed. */
static int start_segment(struct journal *j)
{
	bool has_last = j->segments_count > 0;
	struct segment_header h = {.journal = j->id,
		.number = has_last ? last_segment(j)->number + 1 : 1,
		.first_lsn = has_last ? j->next_lsn + 1 : j->next_lsn};
	uint8_t bytes[SEGMENT_HEADER_BYTES];
	cleanup_fd int fd = -1;
	char path[32];
	int r;

	segment_path(h.number, path);
	fd = openat(j->dirfd, path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return -errno;
	segment_header_encode(&h, bytes);
	r = posix_fallocate(fd, 0, SEGMENT_BYTES);
	r = r ? -r : io_pwrite(fd, bytes, sizeof(bytes), 0);
	/* Its name has to survive what its records are to survive. */
	if (!r && fsync(j->dirfd) < 0)
		r = -errno;
	if (!r && has_last)
		r = seal_segment(j);
	if (!r)
		r = add_segment(j, h.number, h.first_lsn);
	if (r) {
		unlinkat(j->dirfd, path, 0);
		return r;
	}
	cleanup_fd_(&j->fd);
	j->fd = steal_fd(&fd);
	j->at = SEGMENT_HEADER_BYTES;
	return 0;
}

static void recycle_locked(struct journal *j)
{
	while (j->segments_count > 1 && j->segments[0].live == 0) {
		char path[32];

		segment_path(j->segments[0].number, path);
		if (unlinkat(j->dirfd, path, 0) < 0 && errno != ENOENT) {
			log_warn("journal: removing %s: %s, kept", path, err_str(-errno));
			return;
		}
		j->segments_count--;
		memmove(j->segments, j->segments + 1, j->segments_count * sizeof(*j->segments));
	}
}

static struct segment *segment_of(struct journal *j, uint64_t lsn)
{
	size_t low = 0, high = j->segments_count;

	while (high - low > 1) {
		size_t mid = (low + high) / 2;

		if (j->segments[mid].first_lsn <= lsn)
			low = mid;
		else
			high = mid;
	}
	return j->segments_count && j->segments[low].first_lsn <= lsn ? &j->segments[low] : NULL;
}

static int fail_locked(struct journal *j, int error, const char *what)
{
	if (!j->failed)
		log_error("journal: %s: %s, no change is accepted any more; free the disk or check it, then "
			  "mount again",
			what, err_str(error));
	j->failed = -EIO;
	return -EIO;
}

static bool keeps_segment(enum record_type type)
{
	return type == RECORD_INTENT || type == RECORD_DIRTY || type == RECORD_CLOSED;
}

static int append_locked(struct journal *j, struct record *r)
{
	size_t keep = j->reserved + TAIL_RESERVE_BYTES;
	int error;

	if (r->type == RECORD_INTENT)
		keep += TAIL_RESERVE_BYTES;
	else if (r->type == RECORD_DONE)
		keep = TAIL_RESERVE_BYTES;
	r->lsn = j->next_lsn;
	buf_reset(&j->frame);
	error = record_encode(r, &j->frame);
	if (error)
		return error;
	if (j->at + j->frame.len + keep > SEGMENT_BYTES) {
		error = start_segment(j);
		if (error == -ENOSPC || error == -EDQUOT)
			return -ENOSPC;
		if (error)
			return fail_locked(j, error, "starting a segment");
		r->lsn = j->next_lsn;
		buf_reset(&j->frame);
		error = record_encode(r, &j->frame);
		if (error)
			return error;
	}
	error = io_pwrite(j->fd, j->frame.data, j->frame.len, (off_t)j->at);
	if (error)
		return fail_locked(j, error, "appending");
	j->at += j->frame.len;
	j->next_lsn++;
	if (keeps_segment(r->type))
		last_segment(j)->live++;
	if (r->type == RECORD_INTENT)
		j->reserved += TAIL_RESERVE_BYTES;
	else if (r->type == RECORD_DONE && j->reserved >= TAIL_RESERVE_BYTES)
		j->reserved -= TAIL_RESERVE_BYTES;
	return 0;
}

int journal_append(struct journal *j, struct record *r)
{
	MUTEX_GUARD(&j->lock);

	return j->failed ? j->failed : append_locked(j, r);
}

int journal_sync(struct journal *j)
{
	uint64_t want;
	int r = 0;

	mutex_lock(&j->lock);
	want = j->next_lsn - 1;
	while (!j->failed && j->synced_lsn < want) {
		uint64_t upto = j->next_lsn - 1;
		int fd;

		if (j->syncing) {
			cond_wait(&j->sync_done, &j->lock);
			continue;
		}
		fd = fcntl(j->fd, F_DUPFD_CLOEXEC, 0);
		if (fd < 0) {
			r = -errno;
			break;
		}
		j->syncing = 1;
		mutex_unlock(&j->lock);
		r = fdatasync(fd) < 0 ? -errno : 0;
		close(fd);
		mutex_lock(&j->lock);
		j->syncing = 0;
		if (r)
			fail_locked(j, r, "making records durable");
		else if (upto > j->synced_lsn)
			j->synced_lsn = upto;
		cond_broadcast(&j->sync_done);
	}
	if (j->failed)
		r = j->failed;
	mutex_unlock(&j->lock);
	return r;
}

bool journal_has_failed(struct journal *j)
{
	MUTEX_GUARD(&j->lock);

	return j->failed != 0;
}

uint64_t journal_last_lsn(struct journal *j)
{
	MUTEX_GUARD(&j->lock);

	return j->next_lsn - 1;
}

static void settle_locked(struct journal *j, const uint64_t *lsns, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		struct segment *s = segment_of(j, lsns[i]);

		if (s && s->live)
			s->live--;
	}
}

int journal_ack(struct journal *j, const uint64_t *lsns, size_t count)
{
	int r = 0;

	MUTEX_GUARD(&j->lock);
	if (j->failed)
		return j->failed;
	for (size_t done = 0; done < count && !r; done += 8192) {
		size_t n = count - done < 8192 ? count - done : 8192;
		struct record rec = {
			.type = RECORD_ACKED, .lsns = (uint64_t *)(uintptr_t)(lsns + done), .lsns_count = n};

		r = append_locked(j, &rec);
		if (!r)
			settle_locked(j, lsns + done, n);
	}
	recycle_locked(j);
	return r;
}

/* ---- opening ---- */

struct replay {
	struct journal *j;
	int (*fn)(void *arg, const struct record *r);
	void *arg;
};

static int replay_record(struct replay *rp, const struct record *r)
{
	struct journal *j = rp->j;

	if (keeps_segment(r->type))
		last_segment(j)->live++;
	if (r->type == RECORD_ACKED)
		settle_locked(j, r->lsns, r->lsns_count);
	j->next_lsn = r->lsn + 1;
	return r->type == RECORD_SEAL ? 0 : rp->fn(rp->arg, r);
}

/* Behind it nothing was ever written. */
static size_t written_end(const struct buf *bytes)
{
	size_t end = bytes->len & ~(size_t)7;
	uint64_t word = 0;

	while (end && !word) {
		end -= 8;
		memcpy(&word, bytes->data + end, sizeof(word));
	}
	return word ? end + 8 : 0;
}

/* True when any whole record lies behind the damage: then it is no torn tail. */
static bool has_records_after(const struct buf *bytes, size_t at)
{
	size_t end = written_end(bytes);

	for (at += 8; at < end && at + RECORD_FRAME_BYTES <= bytes->len; at += 8) {
		struct record r;
		size_t n;

		if (record_decode(bytes->data + at, bytes->len - at, &r, &n) == 0) {
			record_fini(&r);
			return true;
		}
	}
	return false;
}

static int cut_tail(int fd, size_t at)
{
	if (ftruncate(fd, (off_t)at) < 0)
		return -errno;
	return -posix_fallocate(fd, 0, SEGMENT_BYTES);
}

static int replay_segment(struct replay *rp, int fd, const struct buf *bytes, bool is_last, const char *path)
{
	struct journal *j = rp->j;
	size_t at = SEGMENT_HEADER_BYTES;
	int r = 0;

	while (at < bytes->len) {
		struct record rec;
		size_t n;

		r = record_decode(bytes->data + at, bytes->len - at, &rec, &n);
		if (!r && rec.lsn != j->next_lsn) {
			record_fini(&rec);
			r = -EBADMSG;
		} else if (r == -ENODATA && !has_records_after(bytes, at)) {
			break;
		} else if (r == -EBADMSG && is_last && !has_records_after(bytes, at)) {
			log_info("journal: %s: torn tail at %zu cut (a write was under way at the last end)",
				path, at);
			r = cut_tail(fd, at);
			break;
		}
		if (r == -ENOMEM)
			return r;
		if (r) {
			log_error("journal: %s is damaged at %zu; nothing was deleted", path, at);
			return -EBADMSG;
		}
		r = replay_record(rp, &rec);
		record_fini(&rec);
		if (r)
			return r;
		at += n;
	}
	j->at = at;
	return r == -ENODATA ? 0 : r;
}

/* The segment follows the one before. That one may lack its seal: the next segment is made first. */
static bool is_next(const struct journal *j, const struct segment_header *h)
{
	if (j->segments_count == 0)
		return true;
	return id_equal(&j->id, &h->journal) && h->number == j->segments[j->segments_count - 1].number + 1 &&
		(h->first_lsn == j->next_lsn || h->first_lsn == j->next_lsn + 1);
}

static int load_segment(struct replay *rp, uint64_t number, bool is_last)
{
	struct journal *j = rp->j;
	cleanup_buf struct buf bytes = BUF_INIT;
	struct segment_header h;
	cleanup_fd int fd = -1;
	char path[32];
	int r;

	segment_path(number, path);
	fd = openat(j->dirfd, path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return -errno;
	r = io_read_file(j->dirfd, path, SEGMENT_BYTES, &bytes);
	if (r)
		return r;
	if (bytes.len < SEGMENT_HEADER_BYTES || segment_header_decode(bytes.data, &h) || h.number != number ||
		!is_next(j, &h)) {
		log_error("journal: %s is damaged, or one before it is missing; nothing was deleted", path);
		return -EBADMSG;
	}
	j->id = h.journal;
	j->next_lsn = h.first_lsn;
	r = add_segment(j, number, h.first_lsn);
	if (!r)
		r = replay_segment(rp, fd, &bytes, is_last, path);
	if (!r) {
		cleanup_fd_(&j->fd);
		j->fd = steal_fd(&fd);
	}
	return r;
}

/* Made but never written (the disk was full, or we died in between): removed, 1. Else 0. */
static int drop_unwritten(struct journal *j, uint64_t number)
{
	cleanup_buf struct buf bytes = BUF_INIT;
	struct segment_header h;
	char path[32];
	int r;

	segment_path(number, path);
	r = io_read_file(j->dirfd, path, SEGMENT_BYTES, &bytes);
	if (r)
		return r;
	if (bytes.len >= SEGMENT_HEADER_BYTES &&
		(segment_header_decode(bytes.data, &h) == 0 ||
			has_records_after(&bytes, SEGMENT_HEADER_BYTES - 8)))
		return 0;
	return unlinkat(j->dirfd, path, 0) < 0 ? -errno : 1;
}

static int compare_u64(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static int list_segments(int dirfd, uint64_t **ret_numbers, size_t *ret_count)
{
	int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	uint64_t *numbers = NULL;
	struct dirent *e;
	size_t count = 0;

	if (!dir)
		return -errno;
	while ((e = readdir(dir))) {
		unsigned long long n;
		uint64_t *more;
		int end = 0;

		if (sscanf(e->d_name, "journal.%8llu%n", &n, &end) != 1 || e->d_name[end])
			continue;
		more = realloc(numbers, (count + 1) * sizeof(*numbers));
		if (!more) {
			free(numbers);
			closedir(dir);
			return -ENOMEM;
		}
		numbers = more;
		numbers[count++] = n;
	}
	closedir(dir);
	if (count)
		qsort(numbers, count, sizeof(*numbers), compare_u64);
	*ret_numbers = numbers;
	*ret_count = count;
	return 0;
}

int journal_open(
	int dirfd, int (*replay)(void *arg, const struct record *r), void *arg, struct journal **ret_journal)
{
	cleanup_free uint64_t *numbers = NULL;
	struct journal *j = calloc(1, sizeof(*j));
	struct replay rp = {.j = j, .fn = replay, .arg = arg};
	size_t count = 0;
	int r;

	if (!j)
		return -ENOMEM;
	mutex_init(&j->lock, RANK_JOURNAL, "journal");
	cond_init(&j->sync_done);
	j->dirfd = dirfd;
	j->fd = -1;
	j->next_lsn = 1;
	r = list_segments(dirfd, &numbers, &count);
	if (!r && count) {
		r = drop_unwritten(j, numbers[count - 1]);
		if (r > 0) {
			count--;
			r = 0;
		}
	}
	for (size_t i = 0; i < count && !r; i++)
		r = load_segment(&rp, numbers[i], i == count - 1);
	if (!r && j->segments_count == 0) {
		j->id = id_new();
		r = start_segment(j);
	}
	if (r) {
		journal_close(j);
		return r;
	}
	*ret_journal = j;
	return 0;
}

int journal_set_aside(int dirfd)
{
	cleanup_free uint64_t *numbers = NULL;
	char path[32], to[80], hex[ID_HEX_BYTES];
	struct id random = id_new();
	size_t count = 0;
	int r = list_segments(dirfd, &numbers, &count);

	id_to_hex(&random, hex);
	for (size_t i = 0; i < count && !r; i++) {
		segment_path(numbers[i], path);
		snprintf(to, sizeof(to), "%s.%.8s.damaged", path, hex);
		if (renameat(dirfd, path, dirfd, to) < 0)
			r = -errno;
	}
	if (!r && fsync(dirfd) < 0)
		r = -errno;
	return r;
}

void journal_close(struct journal *j)
{
	if (!j)
		return;
	cleanup_fd_(&j->fd);
	buf_fini(&j->frame);
	free(j->segments);
	cond_fini(&j->sync_done);
	mutex_fini(&j->lock);
	free(j);
}
