/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rebase.h over state database, queue and network. Called by the session, and by the scan that ends the
 * merge. plan_rebase() decides; touches no file but through the queue.
 */
#include "rebase.h"

#include <errno.h>
#include <stdlib.h>

#include <syncfs/backoff.h>
#include <syncfs/log.h>
#include <syncfs/plan.h>
#include <syncfs/record.h>

#include "capture.h"
#include "link.h"
#include "outbox.h"
#include "remote.h"
#include "syncstate.h"

#define NODES_AT_ONCE 512

static const char key[] = "merge", due[] = "fetch", merging[] = "scan";

static bool is_at(struct syncstate *s, const char *step)
{
	char text[16];
	size_t len = 0;

	return syncstate_peek_meta(s, key, text, sizeof(text), &len) == 0 && len == strlen(step) &&
		memcmp(text, step, len) == 0;
}

bool rebase_is_due(struct syncstate *s)
{
	return is_at(s, due);
}

bool rebase_is_merging(struct syncstate *s)
{
	return is_at(s, merging);
}

int rebase_begin(struct syncstate *s)
{
	int r = syncstate_begin(s, true);

	if (r)
		return r;
	r = syncstate_forget_told(s);
	if (!r)
		r = syncstate_meta_put(s, key, due, strlen(due));
	return syncstate_end(s, r);
}

int rebase_end(struct syncstate *s)
{
	int r = syncstate_begin(s, false);

	return r ? r : syncstate_end(s, syncstate_meta_put(s, key, "", 0));
}

/* ---- what the server has ---- */

static int store_page(struct syncstate *s, const struct page *page)
{
	int r = syncstate_begin(s, false);

	if (r)
		return r;
	for (size_t i = 0; i < page->changes_count && !r; i++) {
		const struct node_state *n = &page->changes[i];

		r = n->tomb ? syncstate_remote_delete(s, &n->node) : syncstate_remote_put(s, n);
	}
	return syncstate_end(s, r);
}

/* One page; *has_cursor false: from the beginning. */
static int fetch_page(struct syncstate *s, struct remote *remote, const struct id *client, bool *has_cursor,
	struct cursor *cursor, bool *ret_more)
{
	struct page page = {0};
	struct buf body = BUF_INIT;
	int r = remote_poll(remote, *has_cursor ? cursor : NULL, NULL, 0, client, &page, &body);

	if (!r)
		r = store_page(s, &page);
	if (!r) {
		*cursor = page.cursor;
		*has_cursor = true;
		*ret_more = page.more;
	}
	page_fini(&page);
	buf_fini(&body);
	return r;
}

static bool is_other_history(int r)
{
	return r == -ECHRNG || r == -ESTALE || r == -EOWNERDEAD;
}

int rebase_fetch(struct syncstate *s, struct remote *remote, struct link *link, const struct id *client,
	struct cursor *ret_cursor)
{
	struct backoff backoff = {.min_ms = 250, .max_ms = 60000};
	bool more = true, has_cursor = false;
	int r = rebase_begin(s); /* what was fetched before it broke off may have died since */

	if (r)
		return r;
	while (more) {
		const char *why;

		if (!link_wait_resumed(link))
			return -ECANCELED;
		r = fetch_page(s, remote, client, &has_cursor, ret_cursor, &more);
		if (!r) {
			backoff_reset(&backoff);
			continue;
		}
		if (r == -ECANCELED)
			return r;
		if (is_other_history(r)) { /* once more, in between */
			has_cursor = false;
			r = rebase_begin(s);
			if (!r)
				continue;
		}
		why = remote_last_error(remote);
		link_down(link, r, *why ? why : err_str(r));
		if (!link_wait_retry(link, backoff_next_ms(&backoff)))
			return -ECANCELED;
	}
	return 0;
}

/* ---- compared with what was agreed ---- */

typedef int (*judge_fn)(
	void *arg, const struct base_row *before, enum plan_rebase what, const struct base_row *row);

static int judge_node(struct syncstate *s, const struct id *node, judge_fn fn, void *arg)
{
	struct base_row before, row = {0};
	struct node_state told;
	enum plan_rebase what;
	int r = syncstate_peek_base(s, node, &before);

	if (r)
		return r;
	row.disk = before.disk;
	r = node_state_copy(&before.state, &row.state);
	if (!r) {
		r = syncstate_peek_remote(s, node, &told);
		what = plan_rebase(&row.state, r ? NULL : &told);
		if (!r)
			node_state_fini(&told);
		r = r && r != -ENOENT ? r : fn(arg, &before, what, &row);
	}
	base_row_fini(&before);
	base_row_fini(&row);
	return r;
}

/* Reads what was committed before: fn may write each node that it is told of. */
static int judge_all(struct syncstate *s, judge_fn fn, void *arg)
{
	struct id nodes[NODES_AT_ONCE], after = ID_NONE;
	ssize_t count;
	int r = 0;

	do {
		count = syncstate_peek_nodes(s, &after, nodes, NODES_AT_ONCE);
		for (ssize_t i = 0; i < count && !r; i++) {
			after = nodes[i];
			if (!id_equal(&after, &ID_ROOT))
				r = judge_node(s, &after, fn, arg);
		}
	} while (!r && count == NODES_AT_ONCE);
	return count < 0 ? (int)count : r;
}

struct finish {
	struct syncstate *s;
	struct capture *capture;
	uint64_t kept, sent, forgotten;
};

/* Another content than the server's: shown to it, on the version that it comes from. */
static int queue_content(
	void *arg, const struct base_row *before, enum plan_rebase what, const struct base_row *row)
{
	struct finish *f = arg;
	struct record rec = {.op = OP_WRITE, .kind = KIND_FILE, .node = before->state.node};

	(void)row;
	if (what != REBASE_SEND)
		return 0;
	return capture_found(f->capture, capture_aliases(f->capture), &rec, &before->disk);
}

static int store_verdict(
	void *arg, const struct base_row *before, enum plan_rebase what, const struct base_row *row)
{
	struct finish *f = arg;

	f->kept += what == REBASE_KEEP;
	f->sent += what == REBASE_SEND;
	f->forgotten += what == REBASE_FORGET;
	return what == REBASE_FORGET ? syncstate_base_delete(f->s, &before->state.node)
				     : syncstate_base_put(f->s, row);
}

static int store_all(struct finish *f, const struct id *client, const struct cursor *cursor)
{
	int r = syncstate_begin(f->s, true);

	if (r)
		return r;
	r = judge_all(f->s, store_verdict, f);
	if (!r)
		r = syncstate_forget_orphans(f->s);
	if (!r)
		r = syncstate_client_put(f->s, client);
	if (!r)
		r = syncstate_cursor_put(f->s, cursor);
	if (!r)
		r = syncstate_meta_put(f->s, key, merging, strlen(merging));
	return syncstate_end(f->s, r);
}

/* What differs is in the journal before S says that it is no more than a base. */
int rebase_finish(
	struct syncstate *s, struct capture *capture, const struct id *client, const struct cursor *cursor)
{
	struct finish f = {.s = s, .capture = capture};
	int r = judge_all(s, queue_content, &f);

	if (!r)
		r = capture_sync(capture);
	if (!r)
		r = store_all(&f, client, cursor);
	if (!r)
		r = outbox_forget_unknown(capture);
	if (!r)
		log_info("merge: %llu objects are as the server has them, %llu files differ, %llu it has not",
			(unsigned long long)f.kept, (unsigned long long)f.sent,
			(unsigned long long)f.forgotten);
	return r;
}
