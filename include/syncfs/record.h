/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Codec of the client's journal, pure: segments of framed, checksummed records. Formats: syncfs-journal(5).
 * Frame: u32 length of the whole frame, u32 CRC-32C of what follows, u64 lsn, u8 type, payload, zeros to 8
 * bytes.
 */
#ifndef SYNCFS_RECORD_H
#define SYNCFS_RECORD_H

#include <syncfs/change.h>

#define SEGMENT_HEADER_BYTES 64
#define RECORD_FRAME_BYTES 17 /* length, crc, lsn, type */

enum record_type {
	RECORD_INTENT = 1, /* a namespace or attribute change is about to be made */
	RECORD_DONE = 2, /* how it ended */
	RECORD_DIRTY = 3, /* content is about to change */
	RECORD_CLOSED = 4, /* content is complete for now */
	RECORD_ACKED = 5, /* these lsns are at the server, or need not go there */
	RECORD_SEAL = 6, /* last of its segment */
	RECORD_SYNCED = 7, /* content of this size is on disk; nothing depends on it being read */
};

struct record {
	enum record_type type;
	uint64_t lsn; /* set by the journal */

	/* INTENT */
	enum op_type op;
	enum kind kind;
	struct id node, other, parent, new_parent; /* DIRTY, CLOSED, SYNCED: node */
	char *name, *new_name, *target;
	uint64_t dev, ino; /* identity of the object; DONE: of what was made; DIRTY, CLOSED, SYNCED too */
	int64_t btime_ns;

	uint64_t size; /* SYNCED */

	/* DONE */
	uint64_t intent_lsn;
	bool ok;

	/* ACKED */
	uint64_t *lsns;
	size_t lsns_count;
};

void record_fini(struct record *r);
/* Appends the framed record. -ENOMEM, -EMSGSIZE over RECORD_MAX_BYTES. Strings may be NULL. */
int record_encode(const struct record *r, struct buf *out);
/*
 * Decodes one frame at the start of the bytes. 0 and its length in *ret_len; -ENODATA zeros or too few bytes
 * for a frame (the end of what was written); -EBADMSG a torn or damaged frame.
 */
int record_decode(const void *bytes, size_t len, struct record *ret_record, size_t *ret_len);

struct segment_header {
	struct id journal;
	uint64_t number, first_lsn;
};

void segment_header_encode(const struct segment_header *h, uint8_t bytes[SEGMENT_HEADER_BYTES]);
int segment_header_decode(
	const uint8_t bytes[SEGMENT_HEADER_BYTES], struct segment_header *ret_header); /* -EBADMSG */

#endif
