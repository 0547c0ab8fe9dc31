/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A growable byte buffer and a bounded reader over borrowed bytes.
 * All integers are little-endian. A writer remembers the first failure in `error`
 * (-ENOMEM) and does nothing afterwards, so only the end needs a check; a reader
 * likewise remembers -EBADMSG when it is asked for more than there is.
 */
#ifndef SYNCFS_BUF_H
#define SYNCFS_BUF_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct buf {
	uint8_t *data; /* heap; NULL while empty */
	size_t len, cap;
	int error;
};

#define BUF_INIT ((struct buf){0})

void buf_fini(struct buf *b); /* frees, leaves BUF_INIT */
void buf_reset(struct buf *b); /* len = 0, error = 0, memory kept */
int buf_reserve(struct buf *b, size_t more); /* 0 or -ENOMEM */
void buf_put(struct buf *b, const void *bytes, size_t len);
void buf_put_u8(struct buf *b, uint8_t v);
void buf_put_u16(struct buf *b, uint16_t v);
void buf_put_u32(struct buf *b, uint32_t v);
void buf_put_u64(struct buf *b, uint64_t v);
void buf_put_be32(struct buf *b, uint32_t v);
void buf_put_str(struct buf *b, const char *s); /* the bytes, without NUL */
void buf_put_blob(struct buf *b, const void *bytes, size_t len); /* u32 length, bytes */
void buf_printf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* The content as a NUL-terminated string (the NUL is not counted in len); NULL on error. */
const char *buf_cstr(struct buf *b);

struct reader {
	const uint8_t *data; /* borrowed */
	size_t len, at;
	int error;
};

#define READER_INIT(ptr, n) ((struct reader){.data = (ptr), .len = (n)})

const void *reader_take(struct reader *r, size_t len); /* NULL and error set when short */
uint8_t reader_u8(struct reader *r);
uint16_t reader_u16(struct reader *r);
uint32_t reader_u32(struct reader *r);
uint64_t reader_u64(struct reader *r);
/* A u32 length and that many bytes, borrowed from the input; NULL on error. */
const void *reader_blob(struct reader *r, size_t *ret_len);
/* The same, copied and NUL-terminated; NULL on error, or when it holds a NUL. Caller frees. */
char *reader_str(struct reader *r);
bool reader_at_end(const struct reader *r); /* all read, no error */

#define cleanup_buf __attribute__((cleanup(buf_fini)))

#endif
