/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Long poll, store, hand on. Called by nobody but its own thread; never applies anything. An entry that says
 * what is agreed already (mostly our own changes coming back) is dropped here, by versions, never by time.
 */
#include "poller.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include <syncfs/backoff.h>
#include <syncfs/clock.h>
#include <syncfs/failpoint.h>
#include <syncfs/log.h>
#include <syncfs/plan.h>

#include "applier.h"
#include "capture.h"
#include "link.h"
#include "remote.h"
#include "supply.h"
#include "syncstate.h"

#define CURSOR_LAG_MS 1000
#define OWN_WAIT_MS 200
#define OWN_SLICE_MS 5

struct poller {
	struct poller_config config;
	pthread_t thread;
	struct cursor cursor; /* the thread's own */
	bool has_cursor;
	uint64_t stored_ms; /* when the cursor was last stored; 0: not yet in this run */
	struct backoff backoff;
	_Atomic uint64_t seq; /* relaxed: for questions */
};

uint64_t poller_moved_ms(const struct poller *p)
{
	return remote_moved_ms(p->config.remote);
}

uint64_t poller_seq(const struct poller *p)
{
	return atomic_load_explicit(&p->seq, memory_order_relaxed);
}

static bool same_names(const struct node_state *a, const struct node_state *b)
{
	for (size_t i = 0; i < a->names_count; i++) {
		ssize_t k = node_state_name_find(b, &a->names[i].parent, a->names[i].name);

		if (k < 0 || b->names[k].l != a->names[i].l)
			return false;
	}
	return a->names_count == b->names_count;
}

/*
 * 1: S says the same already, or what we have sent has made something newer: the answer was on its way when
 * that was settled, and the newer comes in one of the next.
 */
static int is_agreed(struct poller *p, const struct node_state *n)
{
	struct base_row row;
	bool same;
	int r = syncstate_base_get(p->config.state, &n->node, &row);

	/* Unknown and dead: our own, maybe, whose creation was not answered yet. The applier waits for that.
	 * What we have taken the last name from that we knew may live on under one that we did not know. */
	if (r == -ENOENT) {
		uint64_t gone = syncstate_gone_at(p->config.state, &n->node);

		return n->tomb ? n->seq <= gone : n->seq < gone;
	}
	if (r)
		return r;
	same = n->seq < row.state.seq;
	if (!same && !n->tomb && row.state.c == n->c && row.state.a == n->a && same_names(&row.state, n)) {
		struct plan plan;

		/* Sent attributes may have been merged with others that we had not seen. */
		r = plan_node(&row.state, false, n, &plan);
		same = !r && plan.steps == PLAN_NOTHING;
		if (!r)
			plan_fini(&plan);
	}
	base_row_fini(&row);
	return same;
}

/*
 * 1: nothing new. An earlier entry that still waits in R, or is being applied right now, makes the newer one
 * news in any case: S is about to become the earlier one.
 */
static int is_told(struct poller *p, const struct node_state *n)
{
	struct node_state waiting;
	int r = syncstate_remote_get(p->config.state, &n->node, &waiting);

	if (r == -ENOENT)
		return is_agreed(p, n);
	if (r)
		return r;
	r = n->seq < waiting.seq;
	node_state_fini(&waiting);
	return r;
}

/*
 * R and the cursor in one transaction. A page without news moves only the cursor, which may lag behind by a
 * second: what comes again is known, and our own changes coming back cost no write.
 */
static int store_page(struct poller *p, const struct page *page, size_t *ret_news)
{
	uint64_t now = clock_mono_ms();
	int r = syncstate_begin(p->config.state, false);

	if (r)
		return r;
	for (size_t i = 0; i < page->changes_count && r >= 0; i++) {
		r = is_told(p, &page->changes[i]);
		if (r == 0) {
			r = syncstate_remote_put(p->config.state, &page->changes[i]);
			++*ret_news;
		}
	}
	if (r >= 0 && !*ret_news && p->stored_ms && now - p->stored_ms < CURSOR_LAG_MS) {
		syncstate_rollback(p->config.state);
		return 0;
	}
	if (r >= 0)
		r = syncstate_cursor_put(p->config.state, &page->cursor);
	if (!r)
		p->stored_ms = now;
	return syncstate_end(p->config.state, r);
}

/* At the end: what the last pages moved. */
static void store_cursor(struct poller *p)
{
	if (!p->has_cursor || syncstate_begin(p->config.state, false))
		return;
	/* An older cursor asks for known entries again. */
	(void)syncstate_end(p->config.state, syncstate_cursor_put(p->config.state, &p->cursor));
}

/* Our own changes come back while their answer is being worked on: a moment later they are known. */
static void let_uploader_settle(struct poller *p, const struct page *page)
{
	uint64_t deadline = clock_mono_ms() + OWN_WAIT_MS, newest = 0;

	for (size_t i = 0; i < page->changes_count; i++) {
		const struct node_state *n = &page->changes[i];

		if (id_equal(&n->by_client, &p->config.client) && n->by_opno > newest)
			newest = n->by_opno;
	}
	while (newest > p->config.acked_opno(p->config.arg) && clock_mono_ms() < deadline)
		capture_await_settled(p->config.capture, clock_mono_ms() + OWN_SLICE_MS);
}

static int one_poll(struct poller *p, unsigned wait_s, bool *ret_more)
{
	struct page page = {0};
	struct buf body = BUF_INIT;
	struct cursor acked;
	size_t news = 0;
	bool is_ahead;
	int r = syncstate_peek_acked(p->config.state, &acked);

	if (r && r != -ENOENT)
		return r;
	/* The server may be on another history since, of which the older cursor would not tell. */
	is_ahead = !r && p->has_cursor && acked.seq > p->cursor.seq;
	r = remote_poll(p->config.remote, p->has_cursor ? &p->cursor : NULL, is_ahead ? &acked : NULL, wait_s,
		&p->config.client, &page, &body);
	if (!r && p->has_cursor &&
		(!id_equal(&page.cursor.epoch, &p->cursor.epoch) || page.cursor.seq < p->cursor.seq))
		r = -EPROTO;
	if (!r) {
		let_uploader_settle(p, &page);
		r = store_page(p, &page, &news);
		FAILPOINT("P1");
	}
	if (!r) {
		p->cursor = page.cursor;
		p->has_cursor = true;
		*ret_more = page.more;
		atomic_store_explicit(&p->seq, p->cursor.seq, memory_order_relaxed);
		if (page.want_count)
			supply_offer(p->config.supply, page.want, page.want_count);
		applier_take_page(p->config.applier, &page, &body, news > 0);
	}
	page_fini(&page);
	buf_fini(&body);
	return r;
}

static const char *why_rebase(int r)
{
	switch (r) {
	case -ECHRNG:
		return "the server has another history (it was made anew, or restored)";
	case -ESTALE:
		return "the server was restored from an older copy";
	case -EOWNERDEAD:
		return "this client was away for longer than the server remembers";
	default:
		return NULL;
	}
}

static const char *reason(struct poller *p, int r)
{
	const char *text = remote_last_error(p->config.remote);

	return *text ? text : err_str(r);
}

static void *run(void *arg)
{
	struct poller *p = arg;
	bool up = false;

	while (link_wait_resumed(p->config.link)) {
		bool more = false;
		int r = one_poll(p, up ? p->config.wait_s : 0, &more);

		if (r == -ECANCELED)
			break;
		if (why_rebase(r)) {
			p->config.rebase(p->config.arg, why_rebase(r));
			break;
		}
		if (!r) {
			backoff_reset(&p->backoff);
			if (!more && !up) {
				link_up(p->config.link);
				applier_wake(p->config.applier);
			}
			up = up || !more;
			continue;
		}
		up = false;
		link_down(p->config.link, r, reason(p, r));
		if (!link_wait_retry(p->config.link, backoff_next_ms(&p->backoff)))
			break;
	}
	store_cursor(p);
	return NULL;
}

int poller_start(const struct poller_config *config, struct poller **ret_poller)
{
	struct poller *p = calloc(1, sizeof(*p));
	int r;

	if (!p)
		return -ENOMEM;
	p->config = *config;
	p->backoff = (struct backoff){.min_ms = 250, .max_ms = 60000};
	r = syncstate_peek_cursor(config->state, &p->cursor);
	p->has_cursor = !r;
	atomic_init(&p->seq, r ? 0 : p->cursor.seq);
	if (r == -ENOENT)
		r = 0;
	if (!r)
		r = -pthread_create(&p->thread, NULL, run, p);
	if (r)
		free(p);
	else
		*ret_poller = p;
	return r;
}

void poller_stop(struct poller *p)
{
	if (!p)
		return;
	remote_cancel(p->config.remote);
	pthread_join(p->thread, NULL);
	free(p);
}
