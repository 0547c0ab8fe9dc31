/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Content-defined chunking: boundaries are a pure function of the content from its start, by a gear hash.
 * Parameters are part of the protocol (syncfs-protocol(7)): minimum 16 KiB, average 64 KiB, maximum 256 KiB,
 * the gear table derived from SHA-256 of a fixed text. A content of at most CHUNK_MIN_BYTES is one chunk.
 */
#ifndef SYNCFS_CHUNKER_H
#define SYNCFS_CHUNKER_H

#include <stddef.h>
#include <stdint.h>

#define CHUNK_MIN_BYTES 16384
#define CHUNK_AVG_BYTES 65536
/* CHUNK_MAX_BYTES is in limits.h */

/*
 * The length of the first chunk of the len bytes, 1..len for len > 0. When len < CHUNK_MAX_BYTES the caller
 * promises that the content ends there. Pure; any thread.
 */
size_t chunk_next(const uint8_t *bytes, size_t len);

#endif
