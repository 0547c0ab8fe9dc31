/* SPDX-License-Identifier: Apache-2.0 */
/*
 * 128-bit identities: nodes, clients, epochs, runs. Plain values, no ownership.
 * Hex form: 32 lower-case digits.
 */
#ifndef SYNCFS_ID_H
#define SYNCFS_ID_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define ID_BYTES 16
#define ID_HEX_BYTES 33 /* with the NUL */

struct id {
	uint8_t b[ID_BYTES];
};

/* No node. Never on the wire. */
extern const struct id ID_NONE;
/* The root directory of every namespace; made by nobody, never deleted or moved. */
extern const struct id ID_ROOT;

/* A new random id. Aborts the process when the kernel gives no randomness. Any thread. */
struct id id_new(void);

/*
 * An id for a new node: 96 random bits that all nodes of this process share, and a counter. As unique as a
 * random one; neighbours in time are neighbours in every index, so a batch of new files touches a few pages
 * of a database instead of one a file. Any thread.
 */
struct id id_new_node(void);

/* Writes 32 digits and a NUL to hex[ID_HEX_BYTES]; returns hex. */
char *id_to_hex(const struct id *id, char *hex);

/* 0, or -EINVAL unless hex is exactly 32 lower-case hex digits (len bytes). */
int id_from_hex(const char *hex, size_t len, struct id *ret_id);

static inline bool id_equal(const struct id *a, const struct id *b)
{
	return memcmp(a->b, b->b, ID_BYTES) == 0;
}

static inline bool id_is_none(const struct id *id)
{
	return id_equal(id, &ID_NONE);
}

#endif
