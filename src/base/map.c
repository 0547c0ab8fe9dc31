/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hash map with linear probing and tombstones, for tables keyed by ids, hashes and names. The
 * hash is SipHash-1-3 (Aumasson and Bernstein, 2012, with fewer rounds) under a key drawn once
 * per process, so a peer cannot prepare collisions. Not locked; owns its keys, not its values.
 */
#include <syncfs/map.h>

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define KEY_MAX_BYTES 512
#define FIRST_SLOTS 16

/* An entry and its key in one allocation; the hash is kept so that growing reads no key. */
struct entry {
	void *value;
	uint64_t hash;
	uint16_t key_len;
	uint8_t key[];
};

/*
 * 1. slot_count is a power of two. 2. used counts entries and tombstones and stays below 3/4 of
 * the slots, so every probe ends at an empty slot.
 */
struct map {
	struct entry **slots; /* NULL: empty; &removed: tombstone */
	size_t slot_count;
	size_t count, used;
};

static struct entry removed;
static uint64_t seed[2];
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void draw_seed(void)
{
	uint8_t *out = (uint8_t *)seed;
	size_t left = sizeof(seed);

	while (left) {
		ssize_t n = getrandom(out, left, 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			abort();
		out += n;
		left -= (size_t)n;
	}
}

static inline uint64_t rotate(uint64_t x, unsigned int bits)
{
	return x << bits | x >> (64 - bits);
}

static inline void sip_round(uint64_t v[4])
{
	v[0] += v[1];
	v[1] = rotate(v[1], 13) ^ v[0];
	v[0] = rotate(v[0], 32);
	v[2] += v[3];
	v[3] = rotate(v[3], 16) ^ v[2];
	v[0] += v[3];
	v[3] = rotate(v[3], 21) ^ v[0];
	v[2] += v[1];
	v[1] = rotate(v[1], 17) ^ v[2];
	v[2] = rotate(v[2], 32);
}

static uint64_t sip_hash(const uint8_t *p, size_t len)
{
	uint64_t v[4] = {
		seed[0] ^ 0x736f6d6570736575u,
		seed[1] ^ 0x646f72616e646f6du,
		seed[0] ^ 0x6c7967656e657261u,
		seed[1] ^ 0x7465646279746573u,
	};
	uint64_t word, last = (uint64_t)len << 56;

	for (; len >= 8; p += 8, len -= 8) {
		memcpy(&word, p, sizeof(word));
		v[3] ^= word;
		sip_round(v);
		v[0] ^= word;
	}
	for (size_t i = 0; i < len; i++)
		last |= (uint64_t)p[i] << (8 * i);
	v[3] ^= last;
	sip_round(v);
	v[0] ^= last;
	v[2] ^= 0xff;
	for (int i = 0; i < 3; i++)
		sip_round(v);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}

static size_t find(const struct map *m, uint64_t hash, const void *key, size_t key_len)
{
	size_t mask = m->slot_count - 1;

	for (size_t i = (size_t)hash & mask;; i = (i + 1) & mask) {
		const struct entry *e = m->slots[i];

		if (!e)
			return SIZE_MAX;
		if (e == &removed || e->hash != hash || e->key_len != key_len)
			continue;
		if (key_len == 0 || memcmp(e->key, key, key_len) == 0)
			return i;
	}
}

static void insert(struct entry **slots, size_t slot_count, struct entry *e)
{
	size_t mask = slot_count - 1, i = (size_t)e->hash & mask;

	while (slots[i])
		i = (i + 1) & mask;
	slots[i] = e;
}

/* Room for one more; also sweeps tombstones out, and shrinks nothing. */
static int make_room(struct map *m)
{
	size_t slot_count = m->slot_count;
	struct entry **slots;

	if ((m->used + 1) * 4 < m->slot_count * 3)
		return 0;
	if ((m->count + 1) * 2 > m->slot_count)
		slot_count *= 2;
	slots = calloc(slot_count, sizeof(*slots));
	if (!slots)
		return -ENOMEM;
	for (size_t i = 0; i < m->slot_count; i++) {
		if (m->slots[i] && m->slots[i] != &removed)
			insert(slots, slot_count, m->slots[i]);
	}
	free(m->slots);
	m->slots = slots;
	m->slot_count = slot_count;
	m->used = m->count;
	return 0;
}

struct map *map_new(void)
{
	struct map *m = calloc(1, sizeof(*m));

	pthread_once(&once, draw_seed);
	if (!m)
		return NULL;
	m->slots = calloc(FIRST_SLOTS, sizeof(struct entry *));
	if (!m->slots) {
		free(m);
		return NULL;
	}
	m->slot_count = FIRST_SLOTS;
	return m;
}

void map_free(struct map *m)
{
	if (!m)
		return;
	for (size_t i = 0; i < m->slot_count; i++) {
		if (m->slots[i] != &removed)
			free(m->slots[i]);
	}
	free(m->slots);
	free(m);
}

void map_free_values(struct map *m)
{
	for (size_t i = 0; m && i < m->slot_count; i++) {
		if (m->slots[i] && m->slots[i] != &removed)
			free(m->slots[i]->value);
	}
	map_free(m);
}

size_t map_count(const struct map *m)
{
	return m->count;
}

void *map_get(const struct map *m, const void *key, size_t key_len)
{
	size_t i = find(m, sip_hash(key, key_len), key, key_len);

	return i == SIZE_MAX ? NULL : m->slots[i]->value;
}

int map_put(struct map *m, const void *key, size_t key_len, void *value)
{
	uint64_t hash = sip_hash(key, key_len);
	size_t i = find(m, hash, key, key_len);
	struct entry *e;

	assert(value && key_len <= KEY_MAX_BYTES);
	if (i != SIZE_MAX) {
		m->slots[i]->value = value;
		return 0;
	}
	if (make_room(m) < 0)
		return -ENOMEM;
	e = malloc(sizeof(*e) + key_len);
	if (!e)
		return -ENOMEM;
	e->value = value;
	e->hash = hash;
	e->key_len = (uint16_t)key_len;
	if (key_len)
		memcpy(e->key, key, key_len);
	insert(m->slots, m->slot_count, e);
	m->count++;
	m->used++;
	return 0;
}

void *map_remove(struct map *m, const void *key, size_t key_len)
{
	size_t i = find(m, sip_hash(key, key_len), key, key_len);
	void *value;

	if (i == SIZE_MAX)
		return NULL;
	value = m->slots[i]->value;
	free(m->slots[i]);
	/* With nothing behind it no probe passes here, so no tombstone is needed. */
	if (!m->slots[(i + 1) & (m->slot_count - 1)]) {
		m->slots[i] = NULL;
		m->used--;
	} else {
		m->slots[i] = &removed;
	}
	m->count--;
	return value;
}

bool map_next(const struct map *m, size_t *pos, const void **ret_key, size_t *ret_key_len, void **ret_value)
{
	for (; *pos < m->slot_count; (*pos)++) {
		const struct entry *e = m->slots[*pos];

		if (!e || e == &removed)
			continue;
		if (ret_key)
			*ret_key = e->key;
		if (ret_key_len)
			*ret_key_len = e->key_len;
		if (ret_value)
			*ret_value = e->value;
		(*pos)++;
		return true;
	}
	return false;
}
