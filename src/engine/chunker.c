/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Content-defined chunk boundaries by a gear hash with normalised chunking (FastCDC). Called by the manifest
 * builder; sender and server must agree on every boundary, so nothing here may change. Never reads behind
 * len.
 */
#include <syncfs/chunker.h>

#include <pthread.h>
#include <stdio.h>

#include <syncfs/hash.h>
#include <syncfs/limits.h>

/* Bytes that one value of the gear hash depends on: each step shifts by one bit out of 64. */
#define WINDOW_BYTES 64

/*
 * The top bits of the hash, those that the whole window has a say in. 18 before the average and 14 after it,
 * that is two more and two fewer than log2(65536): FastCDC's normalisation level 2 (Xia et al., USENIX ATC
 * '16).
 */
#define MASK_HARD (UINT64_C(0x3ffff) << 46)
#define MASK_EASY (UINT64_C(0x3fff) << 50)

static uint64_t gear[256];
static pthread_once_t gear_once = PTHREAD_ONCE_INIT;

static void gear_fill(void)
{
	for (int i = 0; i < 256; i++) {
		char text[32];
		int len = snprintf(text, sizeof(text), "syncfs gear v1 %d", i);
		struct hash h = hash_bytes(text, (size_t)len);
		uint64_t v = 0;

		for (int k = 7; k >= 0; k--)
			v = v << 8 | h.b[k];
		gear[i] = v;
	}
}

/* The first i in from..to-1 behind whose byte the hash has all bits of mask clear; to when there is none. */
static size_t find_cut(const uint8_t *bytes, size_t from, size_t to, uint64_t mask, uint64_t *hash)
{
	uint64_t h = *hash;
	size_t i;

	for (i = from; i < to; i++) {
		h = (h << 1) + gear[bytes[i]];
		if (!(h & mask))
			break;
	}
	*hash = h;
	return i;
}

size_t chunk_next(const uint8_t *bytes, size_t len)
{
	size_t end = len < CHUNK_MAX_BYTES ? len : CHUNK_MAX_BYTES;
	size_t avg = end < CHUNK_AVG_BYTES ? end : CHUNK_AVG_BYTES;
	uint64_t h = 0;
	size_t i;

	if (len <= CHUNK_MIN_BYTES)
		return len;
	(void)pthread_once(&gear_once, gear_fill);
	/* The window is full at the first place where a cut is allowed, so that a cut depends on its window
	 * alone. */
	for (i = CHUNK_MIN_BYTES - WINDOW_BYTES; i < CHUNK_MIN_BYTES; i++)
		h = (h << 1) + gear[bytes[i]];
	i = find_cut(bytes, CHUNK_MIN_BYTES, avg, MASK_HARD, &h);
	if (i < avg)
		return i + 1;
	i = find_cut(bytes, avg, end, MASK_EASY, &h);
	return i < end ? i + 1 : end;
}
