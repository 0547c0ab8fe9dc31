/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The manifest of a content: its chunks in order, each u32 big-endian length and 32 bytes of SHA-256. A
 * content's hash is the SHA-256 of its manifest (so of no bytes at all for an empty file).
 */
#ifndef SYNCFS_MANIFEST_H
#define SYNCFS_MANIFEST_H

#include <syncfs/change.h>

#define MANIFEST_ENTRY_BYTES 36

/* Chunks and hashes what it is fed, in any portions. */
struct manifest_builder;
struct manifest_builder *manifest_builder_new(void); /* NULL: out of memory; at most 256 KiB + the manifest */
int manifest_builder_feed(struct manifest_builder *b, const void *bytes, size_t len); /* -ENOMEM, -EMSGSIZE */
/* Ends it: content and manifest (caller frees ret_manifest->data; may be NULL when not wanted). Frees b. */
int manifest_builder_finish(
	struct manifest_builder *b, struct content *ret_content, struct blob *ret_manifest);
void manifest_builder_free(struct manifest_builder *b);

/* One shot over bytes in memory; ret_manifest may be NULL. */
int manifest_of_bytes(const void *bytes, size_t len, struct content *ret_content, struct blob *ret_manifest);

/* 0 when m is well-formed (entries of 1..CHUNK_MAX_BYTES) and matches content (hash and sum); else -EBADMSG.
 */
int manifest_check(const struct blob *m, const struct content *content);
size_t manifest_count(const struct blob *m);
/* Entry i: its hash and length; offset is the sum of those before, kept by the caller. */
void manifest_entry(const struct blob *m, size_t i, struct hash *ret_hash, uint32_t *ret_len);

#endif
