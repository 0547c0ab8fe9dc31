/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A hash map from short byte keys to pointers. Open addressing; the hash is seeded per
 * process, so that a peer cannot choose colliding keys. Keys are copied. Not locked.
 */
#ifndef SYNCFS_MAP_H
#define SYNCFS_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct map;

struct map *map_new(void); /* NULL: out of memory */
void map_free(struct map *m); /* values are not freed; NULL is fine */
void map_free_values(struct map *m); /* the map, and each value with free(); NULL is fine */
size_t map_count(const struct map *m);
void *map_get(const struct map *m, const void *key, size_t key_len); /* NULL: none */
/* Sets or replaces; value must not be NULL. 0 or -ENOMEM. key_len <= 512. */
int map_put(struct map *m, const void *key, size_t key_len, void *value);
void *map_remove(struct map *m, const void *key, size_t key_len); /* the value, NULL: none */

/* Visits every entry in no order; the map must not change meanwhile, except that the
 * current entry may be removed. Start with *pos = 0; false at the end. */
bool map_next(const struct map *m, size_t *pos, const void **ret_key, size_t *ret_key_len, void **ret_value);

#endif
