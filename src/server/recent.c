/* SPDX-License-Identifier: Apache-2.0 */
/*
 * recent.h as a ring of bytes and a map into it. Called by store_prepare for what is staged and by store_read
 * for pages. Never grows: what is put in takes the room of the oldest.
 */
#include "recent.h"

#include <stdlib.h>
#include <string.h>

#include <syncfs/limits.h>
#include <syncfs/map.h>
#include <syncfs/mutex.h>

/* Lies before its bytes in the ring. */
struct entry {
	struct hash content;
	size_t len, step; /* step: to the next entry */
};

struct recent {
	struct mutex lock;
	struct map *at; /* content -> its entry in the ring */
	uint8_t *ring;
	uint64_t head, tail; /* counted without end; the place is that modulo RECENT_BYTES */
};

struct recent *recent_new(void)
{
	struct recent *r = calloc(1, sizeof(*r));

	if (!r)
		return NULL;
	mutex_init(&r->lock, RANK_FEED, "recent contents");
	r->at = map_new();
	r->ring = malloc(RECENT_BYTES); /* pages of it come into being when they are used */
	if (!r->at || !r->ring) {
		recent_free(r);
		return NULL;
	}
	return r;
}

void recent_free(struct recent *r)
{
	if (!r)
		return;
	map_free(r->at);
	free(r->ring);
	mutex_fini(&r->lock);
	free(r);
}

static struct entry *entry_at(struct recent *r, uint64_t pos)
{
	return (struct entry *)(void *)(r->ring + pos % RECENT_BYTES);
}

static void drop_oldest_locked(struct recent *r)
{
	struct entry *e = entry_at(r, r->tail);

	if (e->len && map_get(r->at, e->content.b, HASH_BYTES) == e)
		(void)map_remove(r->at, e->content.b, HASH_BYTES);
	r->tail += e->step;
}

/* Room for a whole entry that does not go over the ring's end. */
static struct entry *take_room_locked(struct recent *r, size_t step)
{
	size_t left = RECENT_BYTES - (size_t)(r->head % RECENT_BYTES);
	struct entry *e;

	if (left < step + sizeof(*e)) { /* so that there is always one to say how the ring ends */
		while (r->head + left - r->tail > RECENT_BYTES)
			drop_oldest_locked(r);
		e = entry_at(r, r->head);
		e->len = 0;
		e->step = left;
		r->head += left;
	}
	while (r->head + step - r->tail > RECENT_BYTES)
		drop_oldest_locked(r);
	e = entry_at(r, r->head);
	e->step = step;
	r->head += step;
	return e;
}

void recent_put(struct recent *r, const struct hash *content, const void *bytes, size_t len)
{
	const size_t align = sizeof(struct entry);
	struct entry *e;

	if (len == 0 || len > INLINE_DOWN_MAX_BYTES)
		return;
	MUTEX_GUARD(&r->lock);
	if (map_get(r->at, content->b, HASH_BYTES))
		return;
	e = take_room_locked(r, sizeof(*e) + (len + align - 1) / align * align);
	e->content = *content;
	e->len = len;
	memcpy(e + 1, bytes, len);
	if (map_put(r->at, content->b, HASH_BYTES, e) < 0)
		e->len = 0;
}

bool recent_get(struct recent *r, const struct hash *content, size_t len, struct buf *out)
{
	const struct entry *e;

	MUTEX_GUARD(&r->lock);
	e = map_get(r->at, content->b, HASH_BYTES);
	if (!e || e->len != len)
		return false;
	buf_put(out, e + 1, len);
	return out->error == 0;
}
