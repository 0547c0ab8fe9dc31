/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rounds of the applier: R, S and what is pending give plans; contents are staged, placed, made durable; then
 * S := R. Its thread is woken by the poller and by whatever may free a node. Never sends anything, never
 * writes through the mount.
 */
#include "apply.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include <syncfs/backoff.h>
#include <syncfs/clock.h>
#include <syncfs/failpoint.h>
#include <syncfs/io.h>
#include <syncfs/log.h>

#include "apply_spot.h"
#include "capture.h"
#include "inode.h"
#include "link.h"
#include "remote.h"

#define PAGES_MAX 4 /* contents held in memory for the next round: at most so many answers */
#define SYNC_EACH_MAX 4

struct held_page {
	struct held_page *next;
	struct page page;
	struct buf body;
};

struct applier {
	struct applier_config config;
	pthread_t thread;
	struct mutex lock; /* guards down to the blank line */
	struct cond changed;
	struct held_page *pages, **pages_end;
	size_t pages_count;
	bool wake, stopping, busy;
	uint64_t taken_seq; /* of the newest page taken */
	bool waiting; /* the last pass left something in R */

	struct backoff backoff; /* the thread's own */
};

static void held_free(struct held_page *h)
{
	while (h) {
		struct held_page *next = h->next;

		page_fini(&h->page);
		buf_fini(&h->body);
		free(h);
		h = next;
	}
}

/* ---- a round ---- */

static void job_fini(struct job *j)
{
	node_state_fini(&j->r);
	base_row_fini(&j->s);
	plan_fini(&j->plan);
}

static void round_fini(struct round *rd)
{
	for (size_t i = 0; i < rd->count; i++) {
		struct job *j = &rd->jobs[i];

		if (j->bound)
			capture_unbind(rd->config->capture, &j->r.node);
		if (j->staged)
			apply_trash(rd, j->stage);
		job_fini(j);
	}
	FAILPOINT("A10");
	for (size_t i = 0; i < rd->trash_count; i++)
		stage_drop(rd->config->tree, rd->trash[i]);
	apply_close_dir(rd);
	free(rd->trash);
	free(rd->jobs);
	map_free(rd->by_node);
}

static const uint8_t *data_of(
	const struct held_page *pages, const struct map *index, const struct node_state *r)
{
	const struct node_state *n = map_get(index, r->node.b, ID_BYTES);

	(void)pages;
	if (!n || !n->has_data || n->data_len != r->content.size ||
		!hash_equal(&n->content.hash, &r->content.hash))
		return NULL;
	return (const uint8_t *)(uintptr_t)n->data_at; /* made a pointer when the page was indexed */
}

/* node -> its state in the newest page that has it, with data_at turned into a pointer. */
static struct map *index_pages(struct held_page *pages)
{
	struct map *index = map_new();

	for (struct held_page *h = pages; index && h; h = h->next) {
		for (size_t i = 0; i < h->page.changes_count; i++) {
			struct node_state *n = &h->page.changes[i];

			if (!n->has_data)
				continue;
			n->data_at = (uint64_t)(uintptr_t)(h->page.raw + n->data_at);
			if (map_put(index, n->node.b, ID_BYTES, n)) {
				map_free(index);
				return NULL;
			}
		}
	}
	return index;
}

static int plan_job(struct round *rd, struct job *j)
{
	int r = apply_peek_base(rd, &j->r.node, &j->s);
	bool busy;

	if (r && r != -ENOENT)
		return r;
	j->has_s = !r;
	j->outdated = j->has_s && j->r.seq < j->s.state.seq;
	if (j->outdated)
		return 0;
	busy = capture_is_busy(rd->config->capture, &j->r.node) ||
		(j->has_s && j->s.state.kind == KIND_FILE &&
			inode_writers(rd->config->inodes, &j->s.disk) > 0);
	j->is_kept = j->has_s && (int64_t)j->s.state.c < 0;
	r = plan_node(j->has_s ? &j->s.state : NULL, busy, &j->r, &j->plan);
	if (r == -EBADMSG) {
		log_warn("the server tells of another kind of object under a known identity: not applied");
		j->state = JOB_WAIT;
		r = 0;
	}
	if (j->plan.steps & PLAN_WAIT)
		j->state = JOB_WAIT;
	return r;
}

static int round_init(struct round *rd, const struct applier_config *config, struct node_state *nodes,
	size_t count, struct held_page *pages, const struct map *index)
{
	int r = 0;

	*rd = (struct round){.config = config,
		.dirfd = -1,
		.jobs = calloc(count, sizeof(*rd->jobs)),
		.by_node = map_new()};
	if (!rd->jobs || !rd->by_node)
		return -ENOMEM;
	for (size_t i = 0; i < count && !r; i++) {
		struct job *j = &rd->jobs[rd->count++];

		j->r = nodes[i];
		nodes[i] = (struct node_state){0};
		j->data = data_of(pages, index, &j->r);
		r = plan_job(rd, j);
		if (!r)
			r = map_put(rd->by_node, j->r.node.b, ID_BYTES, j);
	}
	return r;
}

/* ---- after placing ---- */

static int sync_parents(struct round *rd, const struct job *j)
{
	const struct tree *t = rd->config->tree;
	int r = tree_sync_fd(t->stage_fd);

	for (size_t i = 0; i < j->s.state.names_count && !r; i++) {
		struct spot s;

		r = spot_find(rd, &j->s.state.names[i].parent, j->s.state.names[i].name, &s);
		if (r)
			return r == -ENOENT ? 0 : r;
		r = tree_sync_fd(s.dirfd);
		spot_fini(&s);
	}
	return r;
}

static int sync_placed(struct round *rd)
{
	size_t placed = 0, names = 0;
	int r = 0;

	for (size_t i = 0; i < rd->count; i++) {
		if (rd->jobs[i].state != JOB_DONE || !rd->jobs[i].plan.steps)
			continue;
		placed++;
		names += (rd->jobs[i].plan.steps & (PLAN_NAMES | PLAN_REMOVE)) !=
			0; /* source directories too */
	}
	if (!placed)
		return 0;
	if (placed > SYNC_EACH_MAX || names)
		return tree_sync_all(rd->config->tree);
	for (size_t i = 0; i < rd->count && !r; i++) {
		if (rd->jobs[i].state == JOB_DONE && rd->jobs[i].plan.steps)
			r = sync_parents(rd, &rd->jobs[i]);
	}
	return r;
}

/*
 * What was made here under another identity and removed again, while this was being placed: the server has
 * unified the two, and the removal, which it did, is to be applied to what has just come. The page that tells
 * of it may have been taken for our own.
 */
static int tell_gone(struct syncstate *s, const struct node_state *placed)
{
	const struct node_state gone = {.node = placed->node,
		.kind = placed->kind,
		.seq = syncstate_gone_at(s, &placed->node),
		.c = placed->c,
		.a = placed->a,
		.tomb = true};

	return gone.seq > placed->seq ? syncstate_remote_put(s, &gone) : 0;
}

/* S := R for what was placed; R goes unless something newer has come meanwhile. */
static int advance(struct round *rd, struct job *j)
{
	struct syncstate *s = rd->config->state;
	struct node_state newer;
	int r = 0;

	if (j->outdated) {
		r = 0;
	} else if (j->r.tomb) {
		r = syncstate_base_delete(s, &j->r.node);
	} else if (j->has_s) {
		struct base_row row = {.state = j->r, .disk = j->s.disk};

		r = syncstate_base_put(s, &row);
	}
	if (!r && j->is_kept)
		r = syncstate_kept_delete(s, &j->r.node);
	if (!r)
		r = syncstate_remote_get(s, &j->r.node, &newer);
	if (r == -ENOENT)
		return j->outdated || j->r.tomb ? 0 : tell_gone(s, &j->r);
	if (r)
		return r;
	if (newer.seq <= j->r.seq)
		r = syncstate_remote_delete(s, &j->r.node);
	node_state_fini(&newer);
	return r;
}

/* A node that lost a name to another, or swapped, and is not where R wants it yet: S says where it lies. */
static int advance_waiting(struct round *rd, struct job *j)
{
	if (!j->bound || !j->has_s)
		return 0;
	if (!j->s.state.names_count)
		return syncstate_base_delete(rd->config->state, &j->r.node);
	return syncstate_base_put(rd->config->state, &j->s);
}

static int advance_round(struct round *rd)
{
	struct syncstate *s = rd->config->state;
	int r = syncstate_begin(s, false);

	if (r)
		return r;
	/* Those that wait give up names first: another node may have them now. */
	for (size_t i = 0; i < rd->count && !r; i++) {
		if (rd->jobs[i].state == JOB_WAIT)
			r = advance_waiting(rd, &rd->jobs[i]);
	}
	for (size_t i = 0; i < rd->count && !r; i++) {
		if (rd->jobs[i].state == JOB_DONE && rd->jobs[i].r.tomb)
			r = advance(rd, &rd->jobs[i]);
	}
	for (size_t i = 0; i < rd->count && !r; i++) {
		if (rd->jobs[i].state == JOB_DONE && !rd->jobs[i].r.tomb)
			r = advance(rd, &rd->jobs[i]);
	}
	if (!r)
		r = syncstate_intents_clear(s);
	return syncstate_end(s, r);
}

/* False: stopping. */
static bool wait_to_retry(struct applier *a)
{
	uint64_t deadline = clock_mono_ms() + backoff_next_ms(&a->backoff);

	MUTEX_GUARD(&a->lock);
	while (!a->stopping && cond_wait_until(&a->changed, &a->lock, deadline))
		;
	return !a->stopping;
}

/*
 * What has been placed has to be agreed, or it looks like changes made here: when disk or state database
 * fail, nothing else is applied or found until they work again. Ended before that, the intents tell the next
 * start.
 */
static int end_round(struct applier *a, struct round *rd)
{
	for (;;) {
		int r = sync_placed(rd);

		FAILPOINT("A7");
		if (!r)
			r = advance_round(rd);
		FAILPOINT("A8");
		if (!r)
			return 0;
		log_warn("what was applied of others is not recorded yet: %s, trying again", err_str(r));
		if (!wait_to_retry(a))
			return r;
	}
}

static int run_round(struct applier *a, struct round *rd)
{
	size_t todo = 0;
	int r;

	for (size_t i = 0; i < rd->count; i++)
		todo += rd->jobs[i].state != JOB_WAIT;
	if (!todo)
		return 0;
	r = apply_stage_round(rd);
	if (r)
		return r;
	FAILPOINT("A3");
	mutex_lock(rd->config->apply_lock);
	apply_place_round(rd);
	FAILPOINT("A6");
	r = end_round(a, rd);
	mutex_unlock(rd->config->apply_lock);
	return r;
}

/* ---- passes ---- */

struct pass {
	uint64_t upto; /* what is newer has a page of its own coming */
	bool progress, retry, want_scan, waiting;
};

static int one_round(struct applier *a, uint64_t *after, struct held_page *pages, const struct map *index,
	struct pass *pass, bool *ret_more)
{
	struct node_state *nodes;
	struct round rd = {.config = &a->config, .dirfd = -1};
	size_t count;
	int r = syncstate_peek_remotes(a->config.state, *after, ROUND_JOBS, &nodes, &count);

	if (r)
		return r;
	*ret_more = count == ROUND_JOBS;
	while (count && nodes[count - 1].seq > pass->upto) {
		node_state_fini(&nodes[--count]);
		*ret_more = false;
		pass->waiting = true;
	}
	if (count) {
		*after = nodes[count - 1].seq;
		r = round_init(&rd, &a->config, nodes, count, pages, index);
		rd.upto = pass->upto;
		if (!r)
			r = run_round(a, &rd);
		for (size_t i = 0; i < rd.count; i++)
			pass->progress |= rd.jobs[i].state == JOB_DONE;
		for (size_t i = 0; i < rd.count; i++)
			pass->waiting |= rd.jobs[i].state != JOB_DONE;
		pass->retry |= rd.retry;
		pass->want_scan |= rd.want_scan;
		round_fini(&rd);
	}
	for (size_t i = 0; i < count; i++)
		node_state_fini(&nodes[i]);
	free(nodes);
	return r;
}

/* All of R once, in rounds. */
static int one_pass(struct applier *a, struct held_page *pages, struct pass *pass)
{
	struct map *index = index_pages(pages);
	uint64_t after = 0;
	bool more = true;
	int r = index ? 0 : -ENOMEM;

	while (!r && more)
		r = one_round(a, &after, pages, index, pass, &more);
	map_free(index);
	return r;
}

/* Passes until one brings nothing further: what waited for another node has had its turn. */
static int apply_all(struct applier *a, struct held_page *pages, uint64_t upto, bool *ret_retry)
{
	bool progress = true, first = true;
	int r = 0;

	*ret_retry = false;
	while (progress && !r) {
		struct pass pass = {.upto = upto};

		r = one_pass(a, pages, &pass);
		progress = pass.progress && pass.retry;
		*ret_retry = pass.retry;
		mutex_lock(&a->lock);
		a->waiting = pass.waiting || r;
		mutex_unlock(&a->lock);
		if (pass.want_scan)
			capture_want_scan(a->config.capture);
		/* Their data pointers were made for this pass only. */
		if (first && progress)
			pages = NULL;
		first = false;
	}
	return r;
}

/* ---- the thread ---- */

static bool wait_for_work(struct applier *a, bool retry, struct held_page **ret_pages, uint64_t *ret_upto)
{
	uint64_t deadline = clock_mono_ms() + backoff_next_ms(&a->backoff);
	bool go;

	mutex_lock(&a->lock);
	a->busy = false;
	cond_broadcast(&a->changed);
	while (!a->stopping && !a->wake && !a->pages) {
		if (!retry)
			cond_wait(&a->changed, &a->lock);
		else if (!cond_wait_until(&a->changed, &a->lock, deadline))
			break;
	}
	if (a->wake || a->pages || !retry)
		backoff_reset(&a->backoff);
	go = !a->stopping;
	a->wake = false;
	a->busy = true;
	*ret_upto = a->taken_seq;
	*ret_pages = a->pages;
	a->pages = NULL;
	a->pages_end = &a->pages;
	a->pages_count = 0;
	cond_broadcast(&a->changed);
	mutex_unlock(&a->lock);
	return go;
}

static void *run(void *arg)
{
	struct applier *a = arg;
	struct held_page *pages;
	uint64_t upto;
	bool retry = true;

	while (wait_for_work(a, retry, &pages, &upto)) {
		bool go = link_wait_resumed(a->config.link) && !capture_has_failed(a->config.capture);
		int r = go ? apply_all(a, pages, upto, &retry) : 0;

		if (r == -ENOSPC || r == -EDQUOT)
			link_note_error(a->config.link, "no space: changes of others wait");
		if (r && r != -ECANCELED) {
			log_warn("applying changes of others: %s, trying again", err_str(r));
			retry = true;
		}
		held_free(pages);
	}
	held_free(pages);
	return NULL;
}

/* Without memory for the page its contents are fetched later. */
static void hold_page_locked(struct applier *a, struct page *page, struct buf *body)
{
	struct held_page *h = calloc(1, sizeof(*h));

	if (!h)
		return;
	h->page = *page;
	h->body = *body;
	*page = (struct page){0};
	*body = BUF_INIT;
	*a->pages_end = h;
	a->pages_end = &h->next;
	a->pages_count++;
}

void applier_take_page(struct applier *a, struct page *page, struct buf *body, bool has_news)
{
	mutex_lock(&a->lock);
	while (has_news && !a->stopping && a->pages_count >= PAGES_MAX)
		cond_wait(&a->changed, &a->lock);
	a->taken_seq = page->cursor.seq;
	if (has_news)
		hold_page_locked(a, page, body);
	if (has_news || a->waiting) {
		a->wake = true;
		cond_broadcast(&a->changed);
	}
	mutex_unlock(&a->lock);
}

void applier_wake(struct applier *a)
{
	mutex_lock(&a->lock);
	a->wake = true;
	cond_broadcast(&a->changed);
	mutex_unlock(&a->lock);
}

void applier_wake_if_waiting(struct applier *a)
{
	mutex_lock(&a->lock);
	if (a->waiting || a->busy) {
		a->wake = true;
		cond_broadcast(&a->changed);
	}
	mutex_unlock(&a->lock);
}

bool applier_is_quiet(struct applier *a)
{
	MUTEX_GUARD(&a->lock);

	return !a->busy && !a->wake && !a->pages;
}

int applier_start(const struct applier_config *config, struct applier **ret_applier)
{
	struct applier *a = calloc(1, sizeof(*a));
	struct cursor cursor;
	int r;

	if (!a)
		return -ENOMEM;
	a->config = *config;
	if (syncstate_peek_cursor(config->state, &cursor) == 0)
		a->taken_seq = cursor.seq;
	a->pages_end = &a->pages;
	a->backoff = (struct backoff){.min_ms = 200, .max_ms = 60000};
	mutex_init(&a->lock, RANK_QUEUE, "applier");
	cond_init(&a->changed);
	r = -pthread_create(&a->thread, NULL, run, a);
	if (r) {
		cond_fini(&a->changed);
		mutex_fini(&a->lock);
		free(a);
		return r;
	}
	*ret_applier = a;
	return 0;
}

void applier_stop(struct applier *a)
{
	if (!a)
		return;
	mutex_lock(&a->lock);
	a->stopping = true;
	cond_broadcast(&a->changed);
	mutex_unlock(&a->lock);
	remote_cancel(a->config.remote);
	pthread_join(a->thread, NULL);
	held_free(a->pages);
	cond_fini(&a->changed);
	mutex_fini(&a->lock);
	free(a);
}
