/* SPDX-License-Identifier: Apache-2.0 */
/*
 * GET /poll?cursor=C&wait=S&client=ID&acked=C and GET /tree?cursor=C, see syncfs-protocol(7). Called by the
 * router, again for each time that a parked poll is woken. Registers with the feed before it looks, so that
 * no commit is missed (feed.h).
 */
#include "api_poll.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <syncfs/clock.h>
#include <syncfs/io.h>
#include <syncfs/limits.h>
#include <syncfs/message.h>
#include <syncfs/settings.h>

#include "api_simple.h"

#define WANT_AGAIN_MS 2000 /* so long after the news even a poll that begins later is answered early */

/* ---- arguments ---- */

/* 0; 1 the response is filled; -errno. Absent or empty is none. */
static int read_cursor_of(
	struct request *rq, const char *key, struct cursor *ret_cursor, bool *ret_has, struct response *rs)
{
	cleanup_free char *text = NULL;
	int r = request_query(rq, key, &text);

	if (r == -ENOENT || (!r && !*text))
		return 0;
	if (!r)
		r = cursor_from_text(text, strlen(text), ret_cursor);
	if (r == -EINVAL)
		return response_refuse(rs, 400, "this is no cursor", "invalid") ?: 1;
	*ret_has = true;
	return r;
}

static int read_cursor(struct request *rq, struct response *rs)
{
	return read_cursor_of(rq, "cursor", &rq->cursor, &rq->has_cursor, rs);
}

static int read_wait(struct request *rq, struct response *rs, uint64_t *ret_wait_s)
{
	cleanup_free char *text = NULL;
	int r = request_query(rq, "wait", &text);

	*ret_wait_s = 0;
	if (r == -ENOENT)
		return 0;
	if (!r)
		r = settings_parse_u64(text, 0, POLL_WAIT_MAX_S, ret_wait_s);
	if (r == -EINVAL)
		return response_refuse(rs, 400, "wait has to be 0 to 55 seconds", "invalid") ?: 1;
	return r;
}

/* 0; 1 the response is filled; -errno. */
static int read_client(struct request *rq, struct response *rs)
{
	cleanup_free char *text = NULL;
	int r = request_query(rq, "client", &text);

	if (r == -ENOENT)
		return 0;
	if (!r && id_from_hex(text, strlen(text), &rq->client) < 0)
		r = -EINVAL;
	if (r == -EINVAL)
		return response_refuse(rs, 400, "client has to be 32 hex digits", "invalid") ?: 1;
	return r;
}

/* ---- pages ---- */

static int refuse_cursor(struct response *rs, int err)
{
	switch (err) {
	case -ECHRNG:
		return response_error(rs, -EXDEV, "the cursor is of another history");
	case -ESTALE:
		return response_error(rs, -ERANGE, "the cursor is not on this history");
	case -EOWNERDEAD:
		return response_error(rs, -ENODATA, "the cursor is too old");
	default:
		return err;
	}
}

static bool wants_frame(struct request *rq)
{
	const char *accept = http_header(rq->x, "Accept");

	return accept && header_has_type(accept, BATCH_CONTENT_TYPE);
}

static int load_page(struct request *rq, struct page *ret_page, struct buf *raw)
{
	struct store *store = rq->space->store;
	const struct cursor *from = rq->has_cursor ? &rq->cursor : NULL;
	int r = rq->has_acked ? store_check_cursor(store, &rq->acked) : 0;

	if (r)
		return r;
	if (wants_frame(rq) && !id_is_none(&rq->client))
		return store_changes_of_others(store, from, &rq->client, ANSWER_MAX_BYTES, ret_page, raw);
	return store_changes(store, from, wants_frame(rq), ANSWER_MAX_BYTES, ret_page, raw);
}

static int answer_page(struct request *rq, const struct page *page, struct response *rs)
{
	bool is_framed = wants_frame(rq);

	response_json(rs, 200);
	if (is_framed)
		rs->content_type = BATCH_CONTENT_TYPE;
	return page_encode(page, is_framed, &rs->body);
}

static bool page_has_news(const struct request *rq, const struct page *page)
{
	uint64_t since_ms;

	return page->changes_count || !rq->has_cursor || page->cursor.seq != rq->cursor.seq ||
		(page->want_count && store_want_news(rq->space->store, &since_ms) != rq->want_news);
}

/* ---- waiting ---- */

/* When it is to be answered at the latest. What is wanted may have come between two polls: then soon. */
static uint64_t deadline_of(struct request *rq, uint64_t wait_ms)
{
	uint64_t now = clock_mono_ms(), since_ms;

	rq->want_news = store_want_news(rq->space->store, &since_ms);
	if (since_ms && now < since_ms + WANT_AGAIN_MS && wait_ms > WANT_AGAIN_MS)
		wait_ms = WANT_AGAIN_MS;
	return now + wait_ms;
}

/* 0; 1 the response is filled; -errno. */
static int begin_poll(struct request *rq, struct response *rs)
{
	uint64_t wait_s;
	int r = read_cursor(rq, rs);

	if (!r)
		r = read_cursor_of(rq, "acked", &rq->acked, &rq->has_acked, rs);
	if (!r)
		r = read_wait(rq, rs, &wait_s);
	if (!r)
		r = read_client(rq, rs);
	if (r)
		return r;
	rq->poll.request = rq->x;
	rq->poll.topic = rq->space;
	memcpy(rq->poll.owner, rq->token.hash.b, HASH_BYTES);
	rq->poll.deadline_ms = deadline_of(rq, wait_s * 1000);
	r = feed_begin(rq->services->feed, &rq->poll);
	if (r == -EDQUOT)
		return response_error(rs, -EUSERS, "too many polls with this token") ?: 1;
	rq->is_poll_begun = !r;
	return r;
}

/* One look: an answer, or parked for the next one. */
static int look(struct request *rq, struct response *rs)
{
	cleanup_buf struct buf raw = BUF_INIT;
	struct page page = {0};
	bool is_parked = feed_park(&rq->poll) == 0;
	int r = load_page(rq, &page, &raw);

	if (r < 0) {
		r = refuse_cursor(rs, r);
	} else if (is_parked && !page_has_news(rq, &page)) {
		page_fini(&page);
		return REQUEST_PARKED;
	} else {
		r = answer_page(rq, &page, rs);
		page_fini(&page);
	}
	if (is_parked)
		feed_unpark(&rq->poll);
	return r;
}

int api_poll(struct request *rq, struct response *rs)
{
	const char *query = rq->x->query;
	bool is_native = query && (!strncmp(query, "cursor=", 7) || strstr(query, "&cursor="));
	int r;

	if (!is_native)
		return api_simple_poll(rq, rs);
	if (!rq->is_poll_begun) {
		r = begin_poll(rq, rs);
		if (r)
			return r < 0 ? r : 0;
	} else if (!auth_is_valid(rq->services->auth, &rq->token)) {
		response_header(rs, "WWW-Authenticate", "Bearer");
		return response_error(rs, -EACCES, "Unauthorized");
	}
	return look(rq, rs);
}

int api_tree(struct request *rq, struct response *rs)
{
	cleanup_buf struct buf raw = BUF_INIT;
	struct page page = {0};
	int r = read_cursor(rq, rs);

	if (r)
		return r < 0 ? r : 0;
	r = load_page(rq, &page, &raw);
	if (r < 0)
		return refuse_cursor(rs, r);
	r = answer_page(rq, &page, rs);
	page_fini(&page);
	return r;
}
