/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Daily: superseded contents past their days, chunks that no operation came for. A thread of its own, started
 * and stopped by the store. Never touches what a live node or a younger version has.
 */
#include "store_internal.h"

#include <errno.h>

#include <syncfs/clock.h>
#include <syncfs/log.h>

#define DAY_MS ((uint64_t)24 * 3600 * 1000)
#define HOUR_NS ((int64_t)3600 * 1000000000)

static int gone(void *arg, const struct hash *content)
{
	return content_history_drop(&((struct store *)arg)->content, content);
}

static int collect(struct store *s)
{
	int r = content_chunks_sweep(&s->content, clock_wall_ns() - CHUNK_HOURS * HOUR_NS);

	MUTEX_GUARD(&s->lock);
	if (r == 0)
		r = meta_begin(s->meta, true);
	if (r < 0)
		return r;
	r = meta_history_expire(s->meta, txn_history_ns(s) - HISTORY_DAYS * 24 * HOUR_NS, gone, s);
	if (r == 0)
		r = meta_content_gc(s->meta);
	if (r == 0)
		r = meta_want_gc(s->meta);
	if (r == 0)
		r = meta_commit(s->meta);
	if (r < 0)
		meta_rollback(s->meta);
	return r;
}

static void *gc_main(void *arg)
{
	struct store *s = arg;

	do {
		int r = store_is_failed(s) ? 0 : collect(s);

		if (r < 0)
			log_warn("collect old versions: %s, again tomorrow", err_str(r));
	} while (!stop_wait(s->stop, DAY_MS));
	return NULL;
}

int gc_start(struct store *s)
{
	int r;

	s->stop = stop_new();
	if (!s->stop)
		return -errno;
	r = -pthread_create(&s->gc, NULL, gc_main, s);
	s->gc_runs = r == 0;
	return r;
}

void gc_stop(struct store *s)
{
	if (!s->stop)
		return;
	stop_set(s->stop);
	if (s->gc_runs)
		(void)pthread_join(s->gc, NULL);
	stop_free(s->stop);
	s->stop = NULL;
}
