/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The file `inflight` of the state directory. Called by the uploader; written before a batch is sent, and
 * left until the next one.
 */
#include "inflight.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#include <syncfs/crc32c.h>
#include <syncfs/io.h>
#include <syncfs/limits.h>

#include "pending.h"

#define INFLIGHT_NAME "inflight"
#define INFLIGHT_MAX_BYTES ((size_t)BODY_MAX_BYTES + (4u << 20))
#define HEAD_BYTES 16 /* magic, crc, count */

static const char magic[8] = {'S', 'Y', 'N', 'C', 'F', 'S', 'I', '2'};

static void put_stat(struct buf *b, const struct stat_id *s)
{
	buf_put_u64(b, s->dev);
	buf_put_u64(b, s->ino);
	buf_put_u64(b, (uint64_t)s->btime_ns);
	buf_put_u64(b, (uint64_t)s->mtime_ns);
	buf_put_u64(b, (uint64_t)s->ctime_ns);
	buf_put_u64(b, s->size);
	buf_put_u32(b, s->mode);
	buf_put_u32(b, s->nlink);
}

static void take_stat(struct reader *r, struct stat_id *s)
{
	s->dev = reader_u64(r);
	s->ino = reader_u64(r);
	s->btime_ns = (int64_t)reader_u64(r);
	s->mtime_ns = (int64_t)reader_u64(r);
	s->ctime_ns = (int64_t)reader_u64(r);
	s->size = reader_u64(r);
	s->mode = reader_u32(r);
	s->nlink = reader_u32(r);
}

/* The lsns besides its own that the item's result settles. */
static void put_covers(struct buf *b, const struct entry *e)
{
	uint32_t dirty = e && e->dirty_lsn;

	buf_put_u32(b, e ? dirty + (uint32_t)e->absorbed_count : 0);
	if (dirty)
		buf_put_u64(b, e->dirty_lsn);
	for (size_t i = 0; e && i < e->absorbed_count; i++)
		buf_put_u64(b, e->absorbed[i]);
}

static int take_covers(struct reader *r, struct item *i)
{
	uint32_t count = reader_u32(r);

	if (r->error || count > (r->len - r->at) / sizeof(uint64_t))
		return -EBADMSG;
	i->covers = count ? calloc(count, sizeof(*i->covers)) : NULL;
	if (count && !i->covers)
		return -ENOMEM;
	for (i->covers_count = 0; i->covers_count < count; i->covers_count++)
		i->covers[i->covers_count] = reader_u64(r);
	return 0;
}

int inflight_save(int dirfd, const struct outbox *o, const struct buf *encoded)
{
	cleanup_buf struct buf items = BUF_INIT, head = BUF_INIT;
	cleanup_fd int fd = -1;
	uint32_t count = 0, crc;
	int r;

	for (size_t i = 0; i < o->count; i++) {
		buf_put_u64(&items, o->items[i].lsn);
		put_stat(&items, &o->items[i].disk);
		put_covers(&items, o->items[i].entry);
		count++;
	}
	crc = crc32c(crc32c(0, items.data, items.len), encoded->data, encoded->len);
	buf_put(&head, magic, sizeof(magic));
	buf_put_u32(&head, crc);
	buf_put_u32(&head, count);
	if (items.error || head.error)
		return -ENOMEM;
	fd = openat(dirfd, INFLIGHT_NAME, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return -errno;
	r = io_write(fd, head.data, head.len);
	if (!r)
		r = io_write(fd, items.data, items.len);
	if (!r)
		r = io_write(fd, encoded->data, encoded->len);
	if (!r && fdatasync(fd) < 0)
		r = -errno;
	return r;
}

static int decode(const struct buf *bytes, struct outbox *o, struct buf *ret_encoded, uint64_t *ret_last_opno)
{
	struct reader r = READER_INIT(bytes->data, bytes->len);
	const void *head = reader_take(&r, sizeof(magic));
	uint32_t crc = reader_u32(&r), count = reader_u32(&r);
	struct batch b = {0};
	int error = 0;

	if (!head || r.error || memcmp(head, magic, sizeof(magic)) != 0 || count > BATCH_MAX_OPS ||
		crc32c(0, bytes->data + HEAD_BYTES, bytes->len - HEAD_BYTES) != crc)
		return -EBADMSG;
	o->items = calloc(count ? count : 1, sizeof(*o->items));
	o->alias = map_new();
	if (!o->items || !o->alias)
		return -ENOMEM;
	for (uint32_t i = 0; i < count && !error; i++) {
		o->items[i].lsn = reader_u64(&r);
		take_stat(&r, &o->items[i].disk);
		error = take_covers(&r, &o->items[i]);
		o->count++;
	}
	if (error || r.error)
		return error ? error : -EBADMSG;
	error = batch_decode(bytes->data + r.at, bytes->len - r.at, &b, NULL);
	if (!error && b.ops_count != count)
		error = -EBADMSG;
	for (uint32_t i = 0; i < count && !error; i++) {
		o->items[i].op = b.ops[i];
		b.ops[i] = (struct op){0};
		*ret_last_opno = o->items[i].op.opno;
	}
	batch_fini(&b);
	if (!error)
		buf_put(ret_encoded, bytes->data + r.at, bytes->len - r.at);
	return error ? error : ret_encoded->error;
}

int inflight_load(int dirfd, struct outbox *ret_outbox, struct buf *ret_encoded, uint64_t *ret_last_opno)
{
	cleanup_buf struct buf bytes = BUF_INIT;
	struct outbox o = {0};
	int r = io_read_file(dirfd, INFLIGHT_NAME, INFLIGHT_MAX_BYTES, &bytes);

	if (r)
		return r;
	if (bytes.len < HEAD_BYTES)
		return -EBADMSG;
	r = decode(&bytes, &o, ret_encoded, ret_last_opno);
	if (r)
		outbox_fini(&o);
	else
		*ret_outbox = o;
	return r;
}

int inflight_remove(int dirfd)
{
	return unlinkat(dirfd, INFLIGHT_NAME, 0) < 0 && errno != ENOENT ? -errno : 0;
}
