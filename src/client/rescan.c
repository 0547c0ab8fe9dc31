/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One walk over the backing directory against the agreed state. Called on its own thread; each difference is
 * looked at again under the locks that keep view and applier away before it becomes an operation. Deletes
 * nothing itself.
 */
#include "rescan.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include <syncfs/backoff.h>
#include <syncfs/clock.h>
#include <syncfs/io.h>
#include <syncfs/log.h>
#include <syncfs/map.h>

#include "capture.h"
#include "rebase.h"
#include "rescan_found.h"
#include "syncstate.h"

#define RETRY_MIN_MS 1000 /* after a scan that failed: what it was to find is found by nobody else */
#define RETRY_MAX_MS 600000
#define HELD_MIN 1000 /* deletions found by a scan are held from max(50 %, 1000) nodes on */

struct rescan {
	struct rescan_config config;
	pthread_t thread;
	_Atomic uint64_t held; /* relaxed */
	_Atomic uint64_t approved; /* relaxed: so many of the held may go */
	_Atomic bool restore; /* relaxed: the held are to come back */
	_Atomic bool first_done, stopping; /* relaxed flags */
	bool doubt; /* the thread's own: files are read, whatever their identity says */
};

/* One child that the agreed state has in the directory being walked. */
struct child {
	struct id node;
	enum kind kind;
	uint32_t mode;
	struct stat_id disk;
	bool seen;
	char name[];
};

struct frame {
	struct id node; /* ID_NONE: could not be told; nothing below it is looked at */
	struct map *children; /* name -> child */
	bool is_new; /* not in the agreed state: nothing can be missing in it */
};

struct walk {
	struct rescan *s;
	struct found_context found;
	struct frame frames[512];
	int depth;
	bool skipped; /* something */
	bool merging; /* histories: what is missing comes back */
	bool unread; /* something could not be read: another scan is to look at it */
	uint64_t entries;
	struct missing *missing, *lost; /* names of the agreed state, and of the queue alone */
	size_t missing_count, lost_count;
	int error;
};

static int add_child(void *arg, const struct child_row *row)
{
	struct frame *f = arg;
	size_t len = strlen(row->name);
	struct child *c = calloc(1, sizeof(*c) + len + 1);
	int r;

	if (!c)
		return -ENOMEM;
	c->node = row->node;
	c->kind = row->kind;
	c->mode = row->mode;
	c->disk = row->disk;
	memcpy(c->name, row->name, len + 1);
	r = map_put(f->children, c->name, len, c);
	if (r)
		free(c);
	return r;
}

static void pop(struct walk *w)
{
	struct frame *f = &w->frames[--w->depth];

	map_free_values(f->children);
	*f = (struct frame){0};
}

static int push(struct walk *w, const struct id *node, bool is_new)
{
	struct frame *f;
	int r;

	if (w->depth == (int)(sizeof(w->frames) / sizeof(*w->frames)))
		return -ELOOP;
	f = &w->frames[w->depth++];
	*f = (struct frame){.node = *node, .is_new = is_new, .children = map_new()};
	r = f->children ? 0 : -ENOMEM;
	if (!r && !is_new)
		r = syncstate_peek_children(w->s->config.state, node, add_child, f);
	if (r)
		pop(w);
	return r;
}

/* The same object, with what we compare as it was: a directory's own times say nothing. */
static bool is_unchanged(const struct walk *w, const struct child *c, const struct stat_id *now)
{
	if (!stat_id_same_object(&c->disk, now) || (w->s->doubt && c->kind == KIND_FILE))
		return false;
	if (c->kind == KIND_DIR)
		return (now->mode & 0777) == c->mode;
	return stat_id_unchanged(&c->disk, now);
}

static int on_entry(void *arg, const struct scan_entry *e)
{
	struct walk *w = arg;
	struct frame *f = &w->frames[w->depth - 1];
	struct child *c = map_get(f->children, e->name, strlen(e->name));
	struct id node = c ? c->node : ID_NONE;
	bool is_dir = tree_kind(e->stat.mode) == KIND_DIR, is_new = false, dead;
	int r = 0;

	w->entries++;
	if (atomic_load_explicit(&w->s->stopping, memory_order_relaxed))
		return -ECANCELED;
	if (c)
		c->seen = true;
	if (c && stat_id_same_object(&c->disk, &e->stat) &&
		!capture_has_left(w->s->config.capture, &c->node, &f->node, e->name, &dead)) {
		if (!is_unchanged(w, c, &e->stat))
			r = found_changed(&w->found, e, &c->node);
	} else {
		r = found_new(&w->found, e, &f->node, &node, &is_new);
	}
	w->skipped |= r == -EAGAIN || r == -EIO;
	w->unread |= r == -EIO;
	if (r == -EAGAIN || r == -EIO)
		return SCAN_SKIP; /* somebody else is at it; it is known by now, or the next scan sees it */
	if (r)
		return r;
	if (!is_dir)
		return SCAN_SKIP;
	r = push(w, &node, is_new);
	return r ? r : SCAN_DESCEND;
}

static int on_dir_done(void *arg, const char *path, const struct stat_id *dir, bool complete)
{
	struct walk *w = arg;
	struct frame *f = &w->frames[w->depth - 1];
	const void *key;
	size_t pos = 0, len;
	void *value;
	int r = 0;

	(void)path;
	(void)dir;
	while (complete && !f->is_new && !r && map_next(f->children, &pos, &key, &len, &value)) {
		struct child *c = value;

		if (!c->seen)
			r = missing_add(&w->missing, &w->missing_count, &c->node, c->kind, &f->node, c->name);
	}
	pop(w);
	return r;
}

/* Whoever approved saw no more than these: a disk that has gone since is another matter. */
static bool is_approved(const struct walk *w)
{
	return w->missing_count <= atomic_load_explicit(&w->s->approved, memory_order_relaxed);
}

static void end_answer(struct rescan *s)
{
	atomic_store_explicit(&s->held, 0, memory_order_relaxed);
	atomic_store_explicit(&s->approved, 0, memory_order_relaxed);
	atomic_store_explicit(&s->restore, false, memory_order_relaxed);
}

static int restore_missing(struct walk *w)
{
	struct rescan *s = w->s;
	int r = found_restore(&w->found, w->missing, w->missing_count, false);

	if (r)
		return r;
	log_info("%zu files that were missing in the backing directory are fetched again", w->missing_count);
	end_answer(s);
	s->config.restored(s->config.arg);
	return 0;
}

/*
 * What was deleted here while the server had another history comes back. What the server is asked about
 * anyhow is deleted if it agrees; what only the queue knows nobody else has.
 */
static int settle_merge(struct walk *w)
{
	int r = found_restore(&w->found, w->missing, w->missing_count, false);

	for (size_t i = 0; i < w->lost_count && !r; i++)
		r = found_missing(&w->found, &w->lost[i]);
	for (size_t i = 0; i < w->missing_count && !r; i++)
		r = found_missing(&w->found, &w->missing[i]);
	w->s->config.restored(w->s->config.arg);
	return r;
}

static int settle_missing(struct walk *w)
{
	struct rescan *s = w->s;
	int64_t nodes = syncstate_peek_count(s->config.state);
	uint64_t limit = nodes > 2 * HELD_MIN ? (uint64_t)nodes / 2 : HELD_MIN;
	int r;

	missing_filter(&s->config, w->missing, &w->missing_count);
	r = missing_expand(&s->config, false, &w->missing, &w->missing_count);
	if (!r)
		r = missing_in_queue(&s->config, &w->lost, &w->lost_count);
	if (r)
		return r;
	if (w->merging)
		return settle_merge(w);
	if (w->missing_count && atomic_load_explicit(&s->restore, memory_order_relaxed))
		return restore_missing(w);
	if (!is_approved(w) &&
		(w->missing_count >= limit || (w->missing_count + w->lost_count && w->entries == 0))) {
		if (!atomic_exchange_explicit(&s->held, w->missing_count, memory_order_relaxed))
			log_warn("%zu of %lld files are missing in the backing directory: no deletion is "
				 "sent; `syncfsctl approve` sends it, `syncfsctl restore` fetches them again",
				w->missing_count, (long long)nodes);
		return 0;
	}
	end_answer(s);
	for (size_t i = 0; i < w->lost_count && !r; i++)
		r = found_missing(&w->found, &w->lost[i]);
	for (size_t i = 0; i < w->missing_count && !r; i++)
		r = found_missing(&w->found, &w->missing[i]);
	return r;
}

/* ---- doubt ---- */

int rescan_doubt(struct syncstate *s)
{
	return syncstate_meta_put(s, "doubt", "1", 1);
}

bool rescan_is_in_doubt(struct syncstate *s)
{
	char mark[1];
	size_t len = 0;

	return syncstate_peek_meta(s, "doubt", mark, sizeof(mark), &len) != -ENOENT && len > 0;
}

static int end_doubt(struct syncstate *s)
{
	int r = syncstate_begin(s, false);

	if (r)
		return r;
	r = syncstate_meta_put(s, "doubt", "", 0);
	return syncstate_end(s, r);
}

static int scan_once(struct rescan *s)
{
	struct walk *w = calloc(1, sizeof(*w));
	struct scan_ops ops = {.arg = w, .entry = on_entry, .dir_done = on_dir_done};
	int r;

	if (!w)
		return -ENOMEM;
	w->s = s;
	s->doubt = rescan_is_in_doubt(s->config.state);
	w->found = (struct found_context){.config = &s->config, .doubt = s->doubt};
	w->merging = rebase_is_merging(s->config.state);
	r = push(w, &ID_ROOT, false);
	if (!r)
		r = tree_scan(s->config.tree, "", true, &ops);
	if (!r)
		r = settle_missing(w);
	if (!r && s->doubt && !w->skipped)
		r = end_doubt(s->config.state);
	if (!r && w->merging && !w->skipped)
		r = rebase_end(s->config.state);
	if (!r && w->unread)
		r = -EIO;
	while (w->depth)
		pop(w);
	missing_free(w->missing, w->missing_count);
	missing_free(w->lost, w->lost_count);
	if (!r)
		log_debug("scan: %llu entries, %llu differences", (unsigned long long)w->entries,
			(unsigned long long)w->found.differences);
	free(w);
	return r;
}

static void *run(void *arg)
{
	struct backoff backoff = {.min_ms = RETRY_MIN_MS, .max_ms = RETRY_MAX_MS};
	struct rescan *s = arg;
	uint64_t again_ms;

	do {
		int r = scan_once(s);

		again_ms = UINT64_MAX;
		if (r && r != -ECANCELED) {
			again_ms = clock_mono_ms() + backoff_next_ms(&backoff);
			log_warn("scan of the backing directory: %s, trying again", err_str(r));
		} else {
			backoff_reset(&backoff);
		}
		atomic_store_explicit(&s->first_done, true, memory_order_relaxed);
	} while (capture_await_scan(s->config.capture, again_ms));
	return NULL;
}

int rescan_start(const struct rescan_config *config, struct rescan **ret_rescan)
{
	struct rescan *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return -ENOMEM;
	s->config = *config;
	r = -pthread_create(&s->thread, NULL, run, s);
	if (r)
		free(s);
	else
		*ret_rescan = s;
	return r;
}

void rescan_stop(struct rescan *s)
{
	if (!s)
		return;
	atomic_store_explicit(&s->stopping, true, memory_order_relaxed);
	pthread_join(s->thread, NULL);
	free(s);
}

bool rescan_first_is_done(const struct rescan *s)
{
	return atomic_load_explicit(&s->first_done, memory_order_relaxed);
}

int rescan_answer(struct rescan *s, bool approve)
{
	uint64_t held = rescan_held(s);

	if (!held)
		return -ENOENT;
	if (approve)
		atomic_store_explicit(&s->approved, held, memory_order_relaxed);
	else
		atomic_store_explicit(&s->restore, true, memory_order_relaxed);
	return 0;
}

uint64_t rescan_held(const struct rescan *s)
{
	return atomic_load_explicit(&s->held, memory_order_relaxed);
}
