/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Journal records as bytes. Called by the journal (append, replay) and by tests. Pure: never touches a file;
 * a frame that is not exactly what record_encode() writes is refused whole.
 */
#include <syncfs/record.h>

#include <errno.h>
#include <stdlib.h>

#include <syncfs/crc32c.h>
#include <syncfs/limits.h>
#include <syncfs/path.h>

static const char segment_magic[8] = {'S', 'Y', 'N', 'C', 'F', 'S', 'J', '1'};

void record_fini(struct record *r)
{
	free(r->name);
	free(r->new_name);
	free(r->target);
	free(r->lsns);
	*r = (struct record){0};
}

static void put_id(struct buf *b, const struct id *id)
{
	buf_put(b, id->b, ID_BYTES);
}

static void put_string(struct buf *b, const char *s)
{
	buf_put_blob(b, s ? s : "", s ? strlen(s) : 0);
}

static void put_identity(struct buf *b, const struct record *r)
{
	buf_put_u64(b, r->dev);
	buf_put_u64(b, r->ino);
	buf_put_u64(b, (uint64_t)r->btime_ns);
}

static void put_payload(struct buf *b, const struct record *r)
{
	switch (r->type) {
	case RECORD_INTENT:
		buf_put_u8(b, (uint8_t)r->op);
		buf_put_u8(b, (uint8_t)r->kind);
		put_id(b, &r->node);
		put_id(b, &r->other);
		put_id(b, &r->parent);
		put_id(b, &r->new_parent);
		put_identity(b, r);
		put_string(b, r->name);
		put_string(b, r->new_name);
		put_string(b, r->target);
		break;
	case RECORD_DONE:
		buf_put_u64(b, r->intent_lsn);
		buf_put_u8(b, r->ok);
		put_identity(b, r);
		break;
	case RECORD_DIRTY:
	case RECORD_CLOSED:
		put_id(b, &r->node);
		put_identity(b, r);
		break;
	case RECORD_ACKED:
		buf_put_u32(b, (uint32_t)r->lsns_count);
		for (size_t i = 0; i < r->lsns_count; i++)
			buf_put_u64(b, r->lsns[i]);
		break;
	case RECORD_SYNCED:
		put_id(b, &r->node);
		put_identity(b, r);
		buf_put_u64(b, r->size);
		break;
	case RECORD_SEAL:
		break;
	}
}

static void store_u32(uint8_t *at, uint32_t v)
{
	for (int i = 0; i < 4; i++)
		at[i] = (uint8_t)(v >> (8 * i));
}

int record_encode(const struct record *r, struct buf *out)
{
	static const uint8_t zeros[8];
	size_t start = out->len, len;

	buf_put_u32(out, 0);
	buf_put_u32(out, 0);
	buf_put_u64(out, r->lsn);
	buf_put_u8(out, (uint8_t)r->type);
	put_payload(out, r);
	buf_put(out, zeros, (8 - (out->len - start) % 8) % 8);
	if (out->error)
		return out->error;
	len = out->len - start;
	if (len > RECORD_MAX_BYTES) {
		out->len = start;
		return -EMSGSIZE;
	}
	store_u32(out->data + start, (uint32_t)len);
	store_u32(out->data + start + 4, crc32c(0, out->data + start + 8, len - 8));
	return 0;
}

static struct id take_id(struct reader *r)
{
	struct id id = ID_NONE;
	const void *p = reader_take(r, ID_BYTES);

	if (p)
		memcpy(id.b, p, ID_BYTES);
	return id;
}

/* An empty string stands for none. */
static char *take_string(struct reader *r)
{
	char *s = reader_str(r);

	if (s && !*s) {
		free(s);
		s = NULL;
	}
	return s;
}

static void take_identity(struct reader *r, struct record *rec)
{
	rec->dev = reader_u64(r);
	rec->ino = reader_u64(r);
	rec->btime_ns = (int64_t)reader_u64(r);
}

static int take_acked(struct reader *r, struct record *rec)
{
	size_t count = reader_u32(r);

	if (r->error || count > (r->len - r->at) / 8)
		return -EBADMSG;
	rec->lsns = calloc(count ? count : 1, sizeof(*rec->lsns));
	if (!rec->lsns)
		return -ENOMEM;
	rec->lsns_count = count;
	for (size_t i = 0; i < count; i++)
		rec->lsns[i] = reader_u64(r);
	return 0;
}

static bool is_name(const char *name)
{
	return name && name_is_valid(name, strlen(name));
}

/* Whoever replays an intent relies on the members that its operation needs. */
static bool intent_is_valid(const struct record *r)
{
	if (r->kind > KIND_SYMLINK || (r->target && strlen(r->target) > SYMLINK_MAX_BYTES))
		return false;
	switch (r->op) {
	case OP_CREATE:
	case OP_LINK:
	case OP_UNLINK:
	case OP_RMDIR:
		return is_name(r->name);
	case OP_RENAME:
		return is_name(r->name) && is_name(r->new_name);
	case OP_EXCHANGE:
		return is_name(r->name) && is_name(r->new_name) && !id_is_none(&r->other);
	case OP_WRITE:
	case OP_SETATTR:
		return true;
	}
	return false;
}

static bool take_bool(struct reader *r)
{
	uint8_t v = reader_u8(r);

	if (v > 1)
		r->error = -EBADMSG;
	return v;
}

static int take_payload(struct reader *r, struct record *rec)
{
	switch (rec->type) {
	case RECORD_INTENT:
		rec->op = reader_u8(r);
		rec->kind = reader_u8(r);
		rec->node = take_id(r);
		rec->other = take_id(r);
		rec->parent = take_id(r);
		rec->new_parent = take_id(r);
		take_identity(r, rec);
		rec->name = take_string(r);
		rec->new_name = take_string(r);
		rec->target = take_string(r);
		return r->error || intent_is_valid(rec) ? 0 : -EBADMSG;
	case RECORD_DONE:
		rec->intent_lsn = reader_u64(r);
		rec->ok = take_bool(r);
		take_identity(r, rec);
		return 0;
	case RECORD_DIRTY:
	case RECORD_CLOSED:
		rec->node = take_id(r);
		take_identity(r, rec);
		return 0;
	case RECORD_ACKED:
		return take_acked(r, rec);
	case RECORD_SYNCED:
		rec->node = take_id(r);
		take_identity(r, rec);
		rec->size = reader_u64(r);
		return 0;
	case RECORD_SEAL:
		return 0;
	}
	return -EBADMSG;
}

/* Fewer than 8 bytes, all zero. */
static bool is_padding(struct reader *r)
{
	size_t len = r->len - r->at;

	if (len >= 8)
		return false;
	while (len--) {
		if (reader_u8(r))
			return false;
	}
	return true;
}

int record_decode(const void *bytes, size_t len, struct record *ret_record, size_t *ret_len)
{
	struct reader r = READER_INIT(bytes, len);
	struct record rec = {0};
	uint32_t frame, crc;
	int error;

	frame = reader_u32(&r);
	crc = reader_u32(&r);
	if (r.error || (frame == 0 && crc == 0))
		return -ENODATA;
	if (frame < RECORD_FRAME_BYTES || frame > RECORD_MAX_BYTES || frame % 8 || frame > len)
		return -EBADMSG;
	if (crc32c(0, (const uint8_t *)bytes + 8, frame - 8) != crc)
		return -EBADMSG;
	r.len = frame;
	rec.lsn = reader_u64(&r);
	rec.type = reader_u8(&r);
	error = take_payload(&r, &rec);
	if (!error && r.error)
		error = r.error;
	if (!error && !is_padding(&r))
		error = -EBADMSG;
	if (error) {
		record_fini(&rec);
		return error;
	}
	*ret_record = rec;
	*ret_len = frame;
	return 0;
}

void segment_header_encode(const struct segment_header *h, uint8_t bytes[SEGMENT_HEADER_BYTES])
{
	cleanup_buf struct buf b = BUF_INIT;
	static const uint8_t zeros[SEGMENT_HEADER_BYTES];

	buf_put(&b, segment_magic, sizeof(segment_magic));
	buf_put(&b, h->journal.b, ID_BYTES);
	buf_put_u64(&b, h->number);
	buf_put_u64(&b, h->first_lsn);
	memset(bytes, 0, SEGMENT_HEADER_BYTES);
	if (b.error)
		return; /* a header of zeros is refused when read */
	buf_put(&b, zeros, SEGMENT_HEADER_BYTES - 4 - b.len);
	buf_put_u32(&b, crc32c(0, b.data, b.len));
	if (!b.error)
		memcpy(bytes, b.data, SEGMENT_HEADER_BYTES);
}

int segment_header_decode(const uint8_t bytes[SEGMENT_HEADER_BYTES], struct segment_header *ret_header)
{
	struct reader r = READER_INIT(bytes, SEGMENT_HEADER_BYTES);
	struct segment_header h;
	const void *magic = reader_take(&r, sizeof(segment_magic));

	if (!magic || memcmp(magic, segment_magic, sizeof(segment_magic)) != 0)
		return -EBADMSG;
	h.journal = take_id(&r);
	h.number = reader_u64(&r);
	h.first_lsn = reader_u64(&r);
	while (r.at < SEGMENT_HEADER_BYTES - 4) {
		if (reader_u8(&r))
			return -EBADMSG;
	}
	if (reader_u32(&r) != crc32c(0, bytes, SEGMENT_HEADER_BYTES - 4))
		return -EBADMSG;
	*ret_header = h;
	return 0;
}
