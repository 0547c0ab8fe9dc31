/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Nodes of the simulated disk: bytes, attributes, and the undo of writes. Called by disk*.c and sysio*.c.
 * Never looks at names, except that a node without any dies with its last descriptor.
 */
#include "disk_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "sim.h"

#define SECTOR 512u /* what a drive writes whole */
#define INO_REST_NS INT64_C(5000000) /* longer than a tick of the clock: numbers come again after it */
#define FILE_MAX_BYTES (UINT64_C(1) << 43)

struct undo {
	struct undo *older;
	uint64_t at, len; /* what was written */
	uint64_t old_len; /* of it, bytes that were there: in old */
	uint64_t old_size, old_high;
	int64_t old_mtime, old_ctime;
	uint8_t old[];
};

/* What is on the disk instead of the bytes that a failed sync should have written, block by block. */
struct lost {
	uint8_t *bytes;
	uint64_t size, high;
	bool size_is_known; /* the length has changed since, so it will be written */
	bool *written; /* since then, by block; of the bytes up to high */
};

/* ---- life ---- */

static uint64_t take_ino(struct disk *d, int64_t now)
{
	struct free_ino f;

	if (!d->free_count || d->free_inos[d->free_first].at + INO_REST_NS > now)
		return d->next_ino++;
	f = d->free_inos[d->free_first];
	d->free_first = (d->free_first + 1) % d->free_cap;
	d->free_count--;
	return f.ino;
}

static void free_ino(struct disk *d, uint64_t ino, int64_t now)
{
	if (d->free_count == d->free_cap) {
		size_t cap = d->free_cap ? d->free_cap * 2 : 64;
		struct free_ino *grown = need(calloc(cap, sizeof(*grown)));

		for (size_t i = 0; i < d->free_count; i++)
			grown[i] = d->free_inos[(d->free_first + i) % d->free_cap];
		free(d->free_inos);
		d->free_inos = grown;
		d->free_first = 0;
		d->free_cap = cap;
	}
	d->free_inos[(d->free_first + d->free_count++) % d->free_cap] = (struct free_ino){ino, now};
}

struct node *node_new(struct disk *d, mode_t mode, dev_t rdev)
{
	struct node *n = need(calloc(1, sizeof(*n)));
	int64_t now = disk_now(d);

	n->disk = d;
	n->refs = 1;
	n->ino = take_ino(d, now);
	n->btime = now;
	n->rdev = rdev;
	n->a = (struct attrs){.mode = mode, .atime = now, .mtime = now, .ctime = now};
	n->nlink = S_ISDIR(mode) ? 2 : 0;
	n->next_cookie = 3; /* after . and .. */
	n->prev = d->last;
	*(d->last ? &d->last->next : &d->first) = n;
	d->last = n;
	d->used += node_space(n);
	return n;
}

struct node *node_get(struct node *n)
{
	n->refs++;
	return n;
}

static void undo_free(struct node *n)
{
	while (n->undo) {
		struct undo *u = n->undo;

		n->undo = u->older;
		free(u);
	}
	n->undo_count = 0;
}

static void lost_free(struct node *n)
{
	if (!n->lost)
		return;
	free(n->lost->bytes);
	free(n->lost->written);
	free(n->lost);
	n->lost = NULL;
}

void node_put(struct node *n)
{
	struct disk *d = n->disk;

	if (--n->refs)
		return;
	n->nlink = 0;
	node_maybe_dead(n);
	*(n->prev ? &n->prev->next : &d->first) = n->next;
	*(n->next ? &n->next->prev : &d->last) = n->prev;
	undo_free(n);
	lost_free(n);
	xattrs_put(n->a.xattrs);
	names_free(&n->names);
	free(n->bytes);
	free(n);
}

void node_maybe_dead(struct node *n)
{
	struct disk *d = n->disk;

	if (n->opens || n->ino_freed || n->nlink > 0)
		return;
	n->ino_freed = true;
	free_ino(d, n->ino, disk_now(d));
	d->used -= node_space(n);
}

bool node_is_dir(const struct node *n)
{
	return S_ISDIR(n->a.mode);
}

static struct timespec spec(int64_t ns)
{
	int64_t s = ns / 1000000000, rest = ns % 1000000000;

	if (rest < 0) {
		rest += 1000000000;
		s--;
	}
	return (struct timespec){.tv_sec = s, .tv_nsec = rest};
}

void node_stat(const struct node *n, struct stat *st)
{
	*st = (struct stat){
		.st_dev = n->disk->dev,
		.st_ino = n->ino,
		.st_mode = n->a.mode,
		.st_nlink = n->nlink,
		.st_uid = n->a.uid,
		.st_gid = n->a.gid,
		.st_rdev = n->rdev,
		.st_size = node_is_dir(n) ? (off_t)DISK_BLOCK : (off_t)n->size,
		.st_blksize = DISK_BLOCK,
		.st_blocks = (blkcnt_t)((node_space(n) - DISK_NODE_COST) / 512),
		.st_atim = spec(n->a.atime),
		.st_mtim = spec(n->a.mtime),
		.st_ctim = spec(n->a.ctime),
	};
}

uint64_t node_space(const struct node *n)
{
	uint64_t bytes = n->size > n->reserved ? n->size : n->reserved;

	if (!S_ISREG(n->a.mode))
		return DISK_NODE_COST;
	return DISK_NODE_COST + (bytes + DISK_BLOCK - 1) / DISK_BLOCK * DISK_BLOCK;
}

void node_charge(struct node *n, uint64_t before)
{
	if (!n->ino_freed)
		n->disk->used += node_space(n) - before;
}

/* ---- bytes ---- */

static void reserve(struct node *n, uint64_t cap)
{
	uint64_t want = n->cap ? n->cap : 64;

	if (cap <= n->cap)
		return;
	while (want < cap)
		want *= 2;
	n->bytes = need(realloc(n->bytes, want));
	n->cap = want;
}

/* Bytes up to high are really there. */
static void raise_high(struct node *n, uint64_t high)
{
	if (high <= n->high)
		return;
	reserve(n, high + 1);
	memset(n->bytes + n->high, 0, high - n->high);
	n->high = high;
}

size_t node_read(const struct node *n, void *buf, size_t len, uint64_t at)
{
	uint64_t there;

	if (at >= n->size)
		return 0;
	if (len > n->size - at)
		len = n->size - at;
	there = at >= n->high ? 0 : n->high - at < len ? n->high - at : len;
	if (there)
		memcpy(buf, n->bytes + at, there);
	memset((uint8_t *)buf + there, 0, len - there);
	return len;
}

static void remember(struct node *n, uint64_t at, uint64_t len)
{
	uint64_t old_len = at >= n->high ? 0 : n->high - at < len ? n->high - at : len;
	struct undo *u = need(malloc(sizeof(*u) + old_len));

	if (!n->undo)
		n->min_size = n->size;
	*u = (struct undo){.older = n->undo,
		.at = at,
		.len = len,
		.old_len = old_len,
		.old_size = n->size,
		.old_high = n->high,
		.old_mtime = n->a.mtime,
		.old_ctime = n->a.ctime};
	if (old_len)
		memcpy(u->old, n->bytes + at, old_len);
	n->undo = u;
	n->undo_count++;
	for (uint64_t b = at; n->lost && b < at + len && b < n->lost->high; b += DISK_BLOCK)
		n->lost->written[b / DISK_BLOCK] = true;
	if (n->lost && len && at + len <= n->lost->high)
		n->lost->written[(at + len - 1) / DISK_BLOCK] = true;
}

void node_modified(struct node *n)
{
	n->a.mtime = n->a.ctime = disk_now(n->disk);
	n->changes++;
}

static void put_bytes(struct node *n, const void *buf, size_t len, uint64_t at)
{
	if (at > n->high)
		raise_high(n, at);
	reserve(n, at + len + 1);
	memcpy(n->bytes + at, buf, len);
	if (at + len > n->high)
		n->high = at + len;
	if (at + len > n->size) {
		n->size = at + len;
		if (n->lost)
			n->lost->size_is_known = true;
	}
}

ssize_t node_write(struct node *n, const void *buf, size_t len, uint64_t at)
{
	uint64_t before = node_space(n), end = at + len, has = before - DISK_NODE_COST;

	if (end < at || end > FILE_MAX_BYTES)
		return -EFBIG;
	if (len == 0)
		return 0;
	if (end > has && !disk_has_room(n->disk, (end - has + DISK_BLOCK - 1) / DISK_BLOCK * DISK_BLOCK)) {
		uint64_t left = n->disk->room > n->disk->used ? n->disk->room - n->disk->used : 0;

		has += left / DISK_BLOCK * DISK_BLOCK;
		if (has <= at)
			return -ENOSPC;
		len = has - at;
		end = has;
	}
	remember(n, at, len);
	put_bytes(n, buf, len, at);
	node_charge(n, before);
	node_modified(n);
	return (ssize_t)len;
}

static void cut_bytes(struct node *n, uint64_t size)
{
	if (n->lost)
		n->lost->size_is_known = true;
	if (n->high > size)
		n->high = size;
	n->size = size;
	if (size < n->min_size)
		n->min_size = size;
}

int node_truncate(struct node *n, uint64_t size)
{
	uint64_t before = node_space(n);

	if (size > FILE_MAX_BYTES)
		return -EFBIG;
	/* A longer file is a hole: it needs no room on a real disk, but here holes are not told apart. */
	if (size > n->size && !disk_has_room(n->disk, (size - n->size) / DISK_BLOCK * DISK_BLOCK))
		return -ENOSPC;
	if (n->size > size)
		disk_changing(n->disk, NULL, n);
	remember(n, size, n->size > size ? n->size - size : 0);
	cut_bytes(n, size);
	n->reserved = 0;
	node_charge(n, before);
	node_modified(n);
	return 0;
}

int node_allocate(struct node *n, uint64_t at, uint64_t len, bool keep_size)
{
	uint64_t before = node_space(n), end = at + len, has = before - DISK_NODE_COST;

	if (end < at || end > FILE_MAX_BYTES)
		return -EFBIG;
	if (end > has && !disk_has_room(n->disk, (end - has + DISK_BLOCK - 1) / DISK_BLOCK * DISK_BLOCK))
		return -ENOSPC;
	if (!keep_size && end > n->size) {
		remember(n, n->size, 0);
		n->size = end;
	}
	if (end > n->reserved)
		n->reserved = end;
	node_charge(n, before);
	node_modified(n);
	return 0;
}

void node_punch(struct node *n, uint64_t at, uint64_t len)
{
	uint64_t end = at + len < at || at + len > n->size ? n->size : at + len;

	if (at < end) {
		remember(n, at, end - at);
		if (at < n->high)
			memset(n->bytes + at, 0, (end < n->high ? end : n->high) - at);
	}
	node_modified(n);
}

int node_set_target(struct node *n, const char *target, size_t len)
{
	put_bytes(n, target, len, 0);
	n->bytes[len] = '\0';
	return 0;
}

const uint8_t *node_bytes(struct node *n)
{
	if (!n->size)
		return (const uint8_t *)"";
	raise_high(n, n->size);
	return n->bytes;
}

/* ---- durable or not ---- */

void node_synced(struct node *n)
{
	undo_free(n);
	n->min_size = n->size;
}

static void undo_one(struct node *n, bool times)
{
	struct undo *u = n->undo;

	n->size = u->old_size;
	if (u->old_high > n->high)
		raise_high(n, u->old_high);
	n->high = u->old_high;
	if (u->old_len)
		memcpy(n->bytes + u->at, u->old, u->old_len);
	if (times) {
		n->a.mtime = u->old_mtime;
		n->a.ctime = u->old_ctime;
	}
	n->undo = u->older;
	n->undo_count--;
	free(u);
}

static void undo_all(struct node *n, bool times)
{
	while (n->undo)
		undo_one(n, times);
}

/* The writes up to one of them, and of this one perhaps a part. */
static void keep_prefix(struct node *n, bool times)
{
	uint64_t keep = sim_below(STREAM_DISK, n->undo_count + 1u), torn, at;
	uint8_t *part = NULL;

	while (n->undo_count > keep + 1)
		undo_one(n, times);
	if (!n->undo)
		return;
	at = n->undo->at;
	torn = n->undo->len && at + n->undo->len <= n->size ? sim_below(STREAM_DISK, n->undo->len) : 0;
	torn = (at + torn) / SECTOR * SECTOR;
	torn = torn > at ? torn - at : 0;
	if (torn) {
		part = need(malloc(torn));
		(void)node_read(n, part, torn, at);
	}
	undo_one(n, times);
	if (torn)
		put_bytes(n, part, torn, at);
	free(part);
}

/* The length is new, the blocks have not been written. */
static void keep_length(struct node *n, bool times)
{
	uint64_t size = n->size, low = n->min_size;

	undo_all(n, times);
	if (low < n->size)
		cut_bytes(n, low);
	if (size < n->size)
		cut_bytes(n, size);
	n->size = size;
}

/* Each block is the old or the new one. */
static void keep_blocks(struct node *n, bool times)
{
	uint64_t size = n->size, end = n->high;
	uint8_t *now;

	for (const struct undo *u = n->undo; u; u = u->older)
		end = u->old_high > end ? u->old_high : end;
	end = end < size ? end : size;
	now = need(malloc(end + 1));
	(void)node_read(n, now, end, 0);
	undo_all(n, times);
	if (size < n->size)
		cut_bytes(n, size);
	n->size = size;
	for (uint64_t at = 0; at < end; at += DISK_BLOCK) {
		uint64_t len = end - at < DISK_BLOCK ? end - at : DISK_BLOCK;

		if (sim_chance(STREAM_DISK, PPM / 2))
			put_bytes(n, now + at, len, at);
	}
	free(now);
}

static void keep_some(struct node *n, bool mixed)
{
	/* Times and bytes reach the disk independently of each other. */
	bool times = sim_chance(STREAM_DISK, PPM / 2);

	switch (sim_below(STREAM_DISK, mixed ? 5 : 4)) {
	case 0:
		undo_all(n, times);
		break;
	case 1:
		undo_free(n);
		break;
	case 2:
		keep_prefix(n, times);
		undo_free(n);
		break;
	case 3:
		keep_length(n, times);
		break;
	default:
		keep_blocks(n, times);
	}
}

static void put_lost(struct node *n)
{
	struct lost *l = n->lost;

	n->lost = NULL;
	if (!l->size_is_known && l->size < n->size)
		cut_bytes(n, l->size);
	for (uint64_t at = 0; at < l->high && at < n->size; at += DISK_BLOCK) {
		uint64_t len = n->size - at < DISK_BLOCK ? n->size - at : DISK_BLOCK;

		if (len > l->high - at)
			len = l->high - at;
		if (!l->written[at / DISK_BLOCK])
			put_bytes(n, l->bytes + at, len, at);
	}
	n->lost = l;
	lost_free(n);
}

void node_power_cut(struct node *n, bool mixed)
{
	uint64_t before = node_space(n);

	if (n->undo)
		keep_some(n, mixed);
	if (n->lost)
		put_lost(n);
	n->min_size = n->size;
	n->reserved = 0;
	node_charge(n, before);
}

void node_sync_failed(struct node *n)
{
	struct node now = *n;
	struct lost *l;

	if (!n->undo)
		return;
	n->bytes = need(malloc(n->cap + 1));
	if (now.high)
		memcpy(n->bytes, now.bytes, now.high);
	keep_some(n, true);
	if (n->lost)
		put_lost(n);
	/* n is as on the disk now */
	l = need(calloc(1, sizeof(*l)));
	l->bytes = n->bytes;
	l->size = n->size;
	/* Beyond its bytes the disk has zeros, where the file may have others. */
	raise_high(n, n->size < now.high ? n->size : now.high);
	l->bytes = n->bytes;
	l->high = n->high;
	l->written = need(calloc(l->high / DISK_BLOCK + 1, sizeof(*l->written)));
	n->bytes = now.bytes;
	n->size = n->min_size = now.size;
	n->high = now.high;
	n->cap = now.cap;
	n->a.mtime = now.a.mtime;
	n->a.ctime = now.a.ctime;
	n->lost = l;
}

/* ---- extended attributes ---- */

struct xattrs *xattrs_get(struct xattrs *x)
{
	if (x)
		x->refs++;
	return x;
}

void xattrs_put(struct xattrs *x)
{
	if (x && --x->refs == 0)
		free(x);
}

static size_t item_len(const char *item)
{
	uint32_t len;
	size_t name = strlen(item) + 1;

	memcpy(&len, item + name, sizeof(len));
	return name + sizeof(len) + len;
}

const char *xattrs_find(const struct xattrs *x, const char *name, size_t *ret_len)
{
	for (size_t at = 0; x && at < x->len; at += item_len(x->bytes + at)) {
		const char *item = x->bytes + at;

		if (strcmp(item, name) == 0) {
			size_t head = strlen(item) + 1 + sizeof(uint32_t);

			*ret_len = item_len(item) - head;
			return item + head;
		}
	}
	return NULL;
}

struct xattrs *xattrs_with(const struct xattrs *x, const char *name, const char *value, size_t len)
{
	size_t old = x ? x->len : 0, name_len = strlen(name) + 1;
	struct xattrs *out = need(malloc(sizeof(*out) + old + name_len + sizeof(uint32_t) + len));
	uint32_t len32 = (uint32_t)len;

	*out = (struct xattrs){.refs = 1};
	for (size_t at = 0, n; at < old; at += n) {
		n = item_len(x->bytes + at);
		if (strcmp(x->bytes + at, name) == 0)
			continue;
		memcpy(out->bytes + out->len, x->bytes + at, n);
		out->len += (unsigned)n;
	}
	if (value) {
		memcpy(out->bytes + out->len, name, name_len);
		memcpy(out->bytes + out->len + name_len, &len32, sizeof(len32));
		if (len)
			memcpy(out->bytes + out->len + name_len + sizeof(len32), value, len);
		out->len += (unsigned)(name_len + sizeof(len32) + len);
	}
	return out;
}
