/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Growable buffers and bounded readers, used by every codec. Integers are taken apart byte by
 * byte, so neither alignment nor the byte order of the machine matters. Never logs, never
 * trusts a length it has not compared with what is there.
 */
#include <syncfs/buf.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BUF_FIRST_CAP 64

void buf_fini(struct buf *b)
{
	free(b->data);
	*b = BUF_INIT;
}

void buf_reset(struct buf *b)
{
	b->len = 0;
	b->error = 0;
}

int buf_reserve(struct buf *b, size_t more)
{
	size_t need, cap;
	uint8_t *data;

	if (b->error)
		return b->error;
	if (__builtin_add_overflow(b->len, more, &need) || need > SIZE_MAX / 2) {
		b->error = -ENOMEM;
		return b->error;
	}
	if (need <= b->cap)
		return 0;
	cap = b->cap < BUF_FIRST_CAP ? BUF_FIRST_CAP : b->cap;
	while (cap < need)
		cap *= 2;
	data = realloc(b->data, cap);
	if (!data) {
		b->error = -ENOMEM;
		return b->error;
	}
	b->data = data;
	b->cap = cap;
	return 0;
}

void buf_put(struct buf *b, const void *bytes, size_t len)
{
	if (len == 0 || buf_reserve(b, len) < 0)
		return;
	memcpy(b->data + b->len, bytes, len);
	b->len += len;
}

void buf_put_u8(struct buf *b, uint8_t v)
{
	buf_put(b, &v, 1);
}

void buf_put_u16(struct buf *b, uint16_t v)
{
	uint8_t out[2] = {(uint8_t)v, (uint8_t)(v >> 8)};

	buf_put(b, out, sizeof(out));
}

void buf_put_u32(struct buf *b, uint32_t v)
{
	uint8_t out[4];

	for (int i = 0; i < 4; i++)
		out[i] = (uint8_t)(v >> (8 * i));
	buf_put(b, out, sizeof(out));
}

void buf_put_u64(struct buf *b, uint64_t v)
{
	uint8_t out[8];

	for (int i = 0; i < 8; i++)
		out[i] = (uint8_t)(v >> (8 * i));
	buf_put(b, out, sizeof(out));
}

void buf_put_be32(struct buf *b, uint32_t v)
{
	uint8_t out[4] = {(uint8_t)(v >> 24), (uint8_t)(v >> 16), (uint8_t)(v >> 8), (uint8_t)v};

	buf_put(b, out, sizeof(out));
}

void buf_put_str(struct buf *b, const char *s)
{
	buf_put(b, s, strlen(s));
}

void buf_put_blob(struct buf *b, const void *bytes, size_t len)
{
	if (len > UINT32_MAX) {
		/* Unrepresentable: as unusable to the writer as a failed allocation. */
		if (!b->error)
			b->error = -ENOMEM;
		return;
	}
	buf_put_u32(b, (uint32_t)len);
	buf_put(b, bytes, len);
}

void buf_printf(struct buf *b, const char *fmt, ...)
{
	va_list ap, again;
	int n;

	if (b->error)
		return;
	va_start(ap, fmt);
	va_copy(again, ap);
	n = vsnprintf(b->data ? (char *)b->data + b->len : NULL, b->data ? b->cap - b->len : 0, fmt, ap);
	va_end(ap);
	if (n < 0) {
		b->error = -ENOMEM;
	} else if (buf_reserve(b, (size_t)n + 1) == 0) {
		vsnprintf((char *)b->data + b->len, (size_t)n + 1, fmt, again);
		b->len += (size_t)n;
	}
	va_end(again);
}

const char *buf_cstr(struct buf *b)
{
	if (buf_reserve(b, 1) < 0)
		return NULL;
	b->data[b->len] = '\0';
	return (const char *)b->data;
}

const void *reader_take(struct reader *r, size_t len)
{
	static const uint8_t nothing[1];
	const uint8_t *p;

	if (r->error)
		return NULL;
	if (len > r->len - r->at) {
		r->error = -EBADMSG;
		return NULL;
	}
	/* An empty reader may have no data at all, and NULL is kept for errors. */
	p = r->data ? r->data + r->at : nothing;
	r->at += len;
	return p;
}

static uint64_t reader_le(struct reader *r, size_t bytes)
{
	const uint8_t *p = reader_take(r, bytes);
	uint64_t v = 0;

	if (!p)
		return 0;
	for (size_t i = 0; i < bytes; i++)
		v |= (uint64_t)p[i] << (8 * i);
	return v;
}

uint8_t reader_u8(struct reader *r)
{
	return (uint8_t)reader_le(r, 1);
}

uint16_t reader_u16(struct reader *r)
{
	return (uint16_t)reader_le(r, 2);
}

uint32_t reader_u32(struct reader *r)
{
	return (uint32_t)reader_le(r, 4);
}

uint64_t reader_u64(struct reader *r)
{
	return reader_le(r, 8);
}

const void *reader_blob(struct reader *r, size_t *ret_len)
{
	size_t len = reader_u32(r);
	const void *p = reader_take(r, len);

	if (p)
		*ret_len = len;
	return p;
}

char *reader_str(struct reader *r)
{
	size_t len = 0;
	const void *p = reader_blob(r, &len);
	char *s;

	if (!p)
		return NULL;
	if (len && memchr(p, 0, len)) {
		r->error = -EBADMSG;
		return NULL;
	}
	s = malloc(len + 1);
	if (!s) {
		r->error = -ENOMEM;
		return NULL;
	}
	memcpy(s, p, len);
	s[len] = '\0';
	return s;
}

bool reader_at_end(const struct reader *r)
{
	return !r->error && r->at == r->len;
}
