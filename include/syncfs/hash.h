/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SHA-256 through libcrypto, the only user of it. Plain values, no ownership.
 */
#ifndef SYNCFS_HASH_H
#define SYNCFS_HASH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define HASH_BYTES 32
#define HASH_HEX_BYTES 65 /* with the NUL */

struct hash {
	uint8_t b[HASH_BYTES];
};

/* One shot. Any thread. Aborts on failure of libcrypto (out of memory). */
struct hash hash_bytes(const void *bytes, size_t len);

/* Incremental: new, update..., final (which frees). */
struct hasher;
struct hasher *hasher_new(void);
void hasher_update(struct hasher *h, const void *bytes, size_t len);
struct hash hasher_final(struct hasher *h);
void hasher_free(struct hasher *h); /* abandon; NULL is fine */

char *hash_to_hex(const struct hash *hash, char *hex); /* hex[HASH_HEX_BYTES] */
int hash_from_hex(const char *hex, size_t len, struct hash *ret_hash); /* -EINVAL */

static inline bool hash_equal(const struct hash *a, const struct hash *b)
{
	return memcmp(a->b, b->b, HASH_BYTES) == 0;
}

/* Constant-time comparison, for tokens. */
bool hash_equal_secret(const struct hash *a, const struct hash *b);

#endif
