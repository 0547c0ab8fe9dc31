/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Operations of people on contents: writing whole files, in place, into another one and over it, cutting,
 * reading. Each state that a file passes through is told to the oracle before it comes into being. Called
 * from people's threads; one at a time on a client (its gate), so that people do not mix their bytes.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "disk.h"
#include "oracle.h"
#include "user_ops_own.h"

#define PIECE_BYTES 65536 /* one request of the kernel */
#define LONG_PAUSE_MS 1500 /* from here on an open file may be sent as it is */
#define FILE_BYTES_MAX (8u << 20)

size_t user_length(void)
{
	size_t max = sim_options.max_bytes ? sim_options.max_bytes : 1;

	switch (sim_below(STREAM_USER, 8)) {
	case 0:
		return max;
	case 1:
	case 2:
		return 1 + sim_below(STREAM_USER, max);
	default:
		return 1 + sim_below(STREAM_USER, max < 700 ? max : 700);
	}
}

/* A file that is being written: what it holds, and what it is to hold. */
struct writing {
	struct person *p;
	const char *path;
	struct view_file *file;
	uint8_t *bytes; /* now */
	size_t len;
	unsigned state; /* version of what it holds now */
	unsigned final, pred;
};

static struct oracle *oracle_of(const struct writing *w)
{
	return w->p->world->oracle;
}

/* After an error in the middle: whatever is there now is what it is. */
static void note_left(struct person *p, const char *path)
{
	struct world *w = p->world;
	struct disk_entry e;
	char full[PATH_MAX];

	(void)snprintf(full, sizeof(full), "%s/%s", HOST_BACKING, path);
	if (disk_get(w->clients[p->client].machine.disk, full, &e) || !S_ISREG(e.st.st_mode))
		return;
	oracle_published(w->oracle, oracle_version(w->oracle, p->client, e.bytes, e.len, false));
}

static void pause_within(struct writing *w)
{
	uint64_t ms;

	if (w->p->brisk || !sim_chance(STREAM_USER, 150000))
		return;
	ms = sim_chance(STREAM_USER, 200000) ? 2000 + sim_below(STREAM_USER, 2000)
					     : sim_below(STREAM_USER, 400);
	if (ms >= LONG_PAUSE_MS)
		oracle_published(oracle_of(w), w->state);
	sim_sleep_ms(ms);
}

/* Fsync of a state that is maybe in between. */
static int sync_now(struct writing *w)
{
	int r;

	oracle_published(oracle_of(w), w->state);
	r = user_called(w->p, "fsync", w->path, view_fsync(w->file));
	if (r == 0)
		oracle_synced(oracle_of(w), w->state);
	return r;
}

static int write_piece(struct writing *w, const uint8_t *from, size_t at, size_t len)
{
	size_t new_len = at + len > w->len ? at + len : w->len;
	unsigned old = w->state;
	ssize_t n;

	memcpy(w->bytes + at, from, len);
	w->len = new_len;
	w->state = oracle_version(oracle_of(w), w->p->client, w->bytes, w->len, false);
	n = view_pwrite(w->file, from, len, (off_t)at);
	(void)user_called(w->p, "pwrite", w->path, n < 0 ? (int)n : 0);
	if (n >= 0 && (size_t)n == len)
		return 0;
	oracle_published(oracle_of(w), old);
	oracle_published(oracle_of(w), w->state);
	note_left(w->p, w->path);
	return n < 0 ? (int)n : -ENOSPC;
}

/* bytes [at, at + len) as they are to be, in a few writes. */
static int write_range(struct writing *w, const uint8_t *final, size_t at, size_t len)
{
	size_t step = len;
	int r = 0;

	if (sim_chance(STREAM_USER, 400000) && !w->p->brisk)
		step = 1 + sim_below(STREAM_USER, len);
	if (step < len / 4 + 1)
		step = len / 4 + 1;
	if (step > PIECE_BYTES)
		step = PIECE_BYTES;
	for (size_t done = 0; done < len && !r; done += step) {
		if (done)
			pause_within(w);
		r = write_piece(w, final + at + done, at + done, len - done < step ? len - done : step);
		if (!r && done + step < len && !w->p->brisk && sim_chance(STREAM_USER, 50000))
			r = sync_now(w);
	}
	return r;
}

/* Closes it; when all went well the content is there. */
static int finish(struct writing *w, int r)
{
	int closed;

	if (!r && sim_chance(STREAM_USER, 300000))
		r = sync_now(w);
	closed = user_called(w->p, "close", w->path, view_close(w->file));
	if (!r)
		r = closed;
	if (r) {
		oracle_published(oracle_of(w), w->state);
		note_left(w->p, w->path);
	} else {
		oracle_finished(oracle_of(w), w->final, w->p->client, w->path, w->pred);
	}
	return r;
}

static int write_whole(struct writing *w, const uint8_t *final, size_t len)
{
	struct oracle_spot spot;
	int r;

	w->state = oracle_version(oracle_of(w), w->p->client, "", 0, false);
	oracle_spot_begin(oracle_of(w), &spot, w->p->client, w->path);
	r = user_called(w->p, "open to write", w->path,
		view_open(user_view(w->p), w->path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW,
			sim_chance(STREAM_USER, 200000) ? 0600 : 0644, &w->file));
	oracle_spot_end(oracle_of(w), &spot, r);
	if (r) {
		if (r == -ENOTCONN || r == -EIO || r == -ENOSPC)
			oracle_published(oracle_of(w), w->state);
		return r;
	}
	w->pred = spot.here;
	pause_within(w);
	return finish(w, write_range(w, final, 0, len));
}

int op_write(struct person *p, const char *path, uint32_t number, size_t len)
{
	struct writing w = {.p = p, .path = path};
	uint8_t *final;
	int r;

	if (!user_view(p))
		return -ENOTCONN;
	final = malloc(len + 1);
	w.bytes = malloc(len + 1);
	if (!final || !w.bytes)
		abort();
	oracle_bytes(number ? 99 : p->client, number ? number : oracle_number(p->world->oracle), final, len);
	w.final = oracle_version(p->world->oracle, p->client, final, len, true);
	gate_close(user_gate(p));
	r = user_view(p) ? write_whole(&w, final, len) : -ENOTCONN;
	gate_open(user_gate(p));
	free(final);
	free(w.bytes);
	return r;
}

/* ---- in place ---- */

/* Reads all of it. -errno or its length. */
static ssize_t read_all(struct view_file *f, uint8_t **ret_bytes)
{
	size_t len = 0, size = 4096;
	uint8_t *bytes = malloc(size);

	for (;;) {
		ssize_t n;

		if (!bytes)
			abort();
		n = view_pread(f, bytes + len, size - len, (off_t)len);
		if (n < 0) {
			free(bytes);
			return n;
		}
		if (n == 0)
			break;
		len += (size_t)n;
		if (len == size) {
			size *= 4;
			bytes = realloc(bytes, size);
		}
	}
	*ret_bytes = bytes;
	return (ssize_t)len;
}

/* What it is to hold: base with new blocks. Gives the range to write. */
static uint8_t *edited(struct writing *w, enum edit how, size_t *ret_at, size_t *ret_len, size_t *ret_total)
{
	size_t blocks = w->len / 64, add = 64 * (1 + sim_below(STREAM_USER, 4)), at = w->len, len = add;
	uint8_t *final, *fresh;
	uint32_t number = oracle_number(w->p->world->oracle);

	if (how == EDIT_BLOCK && blocks) {
		at = 64 * sim_below(STREAM_USER, blocks);
		len = 64 * (1 + sim_below(STREAM_USER, 3));
	} else if (how == EDIT_ALL) {
		at = 0;
		len = user_length();
	}
	*ret_at = at;
	*ret_len = len;
	*ret_total = how == EDIT_ALL ? len : at + len > w->len ? at + len : w->len;
	final = malloc((*ret_total > w->len ? *ret_total : w->len) + 64);
	fresh = malloc(at + len + 64);
	if (!final || !fresh)
		abort();
	oracle_bytes(w->p->client, number, fresh, at + len);
	memcpy(final, w->bytes, w->len);
	memcpy(final + at, fresh + at, len);
	free(fresh);
	return final;
}

static int cut(struct writing *w, size_t len)
{
	unsigned old = w->state;
	int r;

	w->len = len;
	w->state = oracle_version(oracle_of(w), w->p->client, w->bytes, len, false);
	r = user_called(w->p, "ftruncate", w->path, view_ftruncate(w->file, (off_t)len));
	if (r) {
		oracle_published(oracle_of(w), old);
		oracle_published(oracle_of(w), w->state);
	}
	return r;
}

static int change(struct writing *w, enum edit how)
{
	size_t at, len, total;
	uint8_t *final;
	int r = 0;

	if (how == EDIT_CUT && w->len > 64) {
		len = 1 + sim_below(STREAM_USER, w->len - 1);
		w->final = oracle_version(oracle_of(w), w->p->client, w->bytes, len, true);
		return cut(w, len);
	}
	final = edited(w, how, &at, &len, &total);
	w->final = oracle_version(oracle_of(w), w->p->client, final, total, true);
	w->bytes = realloc(w->bytes, (w->len > total ? w->len : total) + 64);
	if (!w->bytes)
		abort();
	if (how == EDIT_ALL)
		r = cut(w, 0);
	if (!r)
		r = write_range(w, final, at, len);
	free(final);
	return r;
}

static int edit_open(struct writing *w, enum edit how)
{
	struct person *p = w->p;
	struct oracle_spot spot;
	ssize_t n = read_all(w->file, &w->bytes);

	if (n < 0) {
		(void)user_called(p, "pread", w->path, (int)n);
		(void)view_close(w->file);
		return (int)n;
	}
	w->len = (size_t)n;
	if (w->len > FILE_BYTES_MAX)
		how = EDIT_ALL;
	oracle_seen(oracle_of(w), p->client, w->path, w->bytes, w->len);
	w->state = w->pred = oracle_version(oracle_of(w), p->client, w->bytes, w->len, false);
	oracle_spot_begin(oracle_of(w), &spot, p->client, w->path);
	oracle_spot_edited(oracle_of(w), &spot, w->pred);
	return finish(w, change(w, how));
}

int op_edit(struct person *p, const char *path, enum edit how)
{
	struct writing w = {.p = p, .path = path};
	int r = -ENOTCONN;

	gate_close(user_gate(p));
	if (user_view(p)) {
		r = user_called(p, "open to edit", path,
			view_open(user_view(p), path, O_RDWR | O_NOFOLLOW, 0, &w.file));
		if (!r)
			r = edit_open(&w, how);
	}
	gate_open(user_gate(p));
	free(w.bytes);
	return r;
}

/* What may lie there, cut to the length, are versions; ret: what lies here. */
static unsigned prefix(struct world *w, unsigned client, const char *root, const struct machine *m,
	const char *path, size_t len)
{
	struct disk_entry e;
	char full[PATH_MAX];

	(void)snprintf(full, sizeof(full), "%s/%s", root, path);
	if (disk_get(m->disk, full, &e) || !S_ISREG(e.st.st_mode) || e.len < len)
		return NO_VERSION;
	return oracle_version(w->oracle, client, e.bytes, len, false);
}

static int truncate_now(struct person *p, const char *path, size_t len)
{
	struct world *w = p->world;
	const struct machine *m = &w->clients[p->client].machine;
	unsigned here = prefix(w, p->client, HOST_BACKING, m, path, len);
	unsigned there = prefix(w, p->client, HOST_ROOT, &w->server.machine, path, len);
	struct oracle_spot spot;
	unsigned at_first;
	int r;

	oracle_spot_begin(w->oracle, &spot, p->client, path);
	at_first = spot.here;
	r = user_called(p, "truncate", path, view_truncate(user_view(p), path, (off_t)len));
	oracle_spot_end(w->oracle, &spot, r);
	if (spot.here != at_first) /* cut, and elsewhere by now */
		oracle_published(w->oracle, oracle_prefix(w->oracle, p->client, spot.here, len));
	if (r == 0 && here == spot.here)
		return 0;
	oracle_published(w->oracle, here);
	oracle_published(w->oracle, there);
	note_left(p, path);
	if (r == 0 && here != NO_VERSION && (spot.server == spot.here || there == NO_VERSION) &&
		oracle_at(w->oracle, p->client, path) == here)
		oracle_finished(w->oracle, here, p->client, path, spot.here);
	return r;
}

int op_truncate(struct person *p, const char *path)
{
	struct world *w = p->world;
	struct disk_entry e;
	char full[PATH_MAX];
	int r = -ENOTCONN;

	(void)snprintf(full, sizeof(full), "%s/%s", HOST_BACKING, path);
	gate_close(user_gate(p));
	if (user_view(p) && !disk_get(w->clients[p->client].machine.disk, full, &e) &&
		S_ISREG(e.st.st_mode) && e.len > 64)
		r = truncate_now(p, path, 1 + sim_below(STREAM_USER, e.len - 1));
	gate_open(user_gate(p));
	return r;
}

/* ---- over ---- */

int op_save(struct person *p, const char *path, uint32_t number, size_t len)
{
	const char *slash = strrchr(path, '/');
	char temp[PATH_MAX];
	int r;

	(void)snprintf(
		temp, sizeof(temp), "%.*s.save%u", slash ? (int)(slash - path + 1) : 0, path, p->number);
	r = op_write(p, temp, number, len);
	if (r)
		return r;
	r = op_rename(p, temp, path);
	if (r && r != -ENOTCONN)
		(void)op_unlink(p, temp);
	return r;
}

/* ---- reading ---- */

int op_read(struct person *p, const char *path)
{
	struct view_file *f;
	uint8_t *bytes = NULL;
	ssize_t n;
	int r = -ENOTCONN;

	gate_close(user_gate(p));
	if (user_view(p))
		r = user_called(
			p, "open to read", path, view_open(user_view(p), path, O_RDONLY | O_NOFOLLOW, 0, &f));
	if (!r) {
		n = read_all(f, &bytes);
		(void)view_close(f);
		r = user_called(p, "read", path, n < 0 ? (int)n : 0);
		if (!r) {
			oracle_seen(p->world->oracle, p->client, path, bytes, (size_t)n);
			free(bytes);
		}
	}
	gate_open(user_gate(p));
	return r;
}
