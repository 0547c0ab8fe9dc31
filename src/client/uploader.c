/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Collect, read, number, save, send, settle: the walk outward of src/README.md. Owns the operation numbers.
 * Never decides what a result means (outbox does), never probes the connection (the poller does).
 */
#include "uploader.h"

#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include <syncfs/backoff.h>
#include <syncfs/clock.h>
#include <syncfs/failpoint.h>
#include <syncfs/io.h>
#include <syncfs/limits.h>
#include <syncfs/log.h>

#include "capture.h"
#include "inflight.h"
#include "link.h"
#include "rescan.h"
#include "syncstate.h"
#include "upload_sync.h"

#define BATCH_OPS                                                                                            \
	512 /* small enough that the next side starts early, large enough that a round trip is shared */
/*
 * A batch costs both sides two transactions, syncs and answers, whatever is in it: one that follows another
 * at once waits until this much time has passed since that one began, while more keeps coming.
 */
#define GATHER_MS 100
#define GATHER_FROM_OPS 16 /* after fewer there is no stream to wait for */
#define BATCH_RAW_BYTES (4u << 20)
#define IDLE_WAIT_MS 60000
#define TRIM_OPS 2000
#define UNREADABLE_WAIT_MS 30000
#define DEAD_WAIT_MS 250
#define MISSING_WAIT_MS 1000 /* all of it was sent, and still the server misses some */

struct uploader {
	struct uploader_config config;
	pthread_t thread;
	struct id run; /* of this start: a clone of us is told apart by it */
	uint64_t next_opno; /* the thread's own */
	uint64_t wakeups;
	uint64_t trimmed_ops; /* sent when memory was last given back */
	/*
	 * The file may have a batch that the server has carried out: it goes first, as it is. One of this run
	 * is kept with its entries in flight, or what is written meanwhile would count as sent with them.
	 */
	bool unsettled, has_kept;
	struct outbox kept;
	struct buf kept_bytes;
	uint64_t kept_last_opno;
	size_t batch_ops; /* small after a batch that the server refused whole, so that its culprit is found
			   */
	size_t last_ops; /* of the batch before */
	uint64_t begun_ms; /* when that began */
	uint64_t next_due_ms; /* when something that was put off is due again; 0: nothing */
	bool doubt; /* what was pending at the start is to be looked at once it has been sent */
	struct backoff backoff;
	/* relaxed counters for status; acked is released after the agreed state is committed */
	_Atomic uint64_t acked_opno, ops, batches, failures;
};

uint64_t uploader_acked_opno(const struct uploader *u)
{
	return atomic_load_explicit(&u->acked_opno, memory_order_acquire);
}

void uploader_counters(const struct uploader *u, uint64_t *ret_ops, uint64_t *ret_batches)
{
	*ret_ops = atomic_load_explicit(&u->ops, memory_order_relaxed);
	*ret_batches = atomic_load_explicit(&u->batches, memory_order_relaxed);
}

void uploader_progress(const struct uploader *u, uint64_t *ret_failures, uint64_t *ret_moved_ms)
{
	*ret_failures = atomic_load_explicit(&u->failures, memory_order_relaxed);
	*ret_moved_ms = atomic_load_explicit(&u->config.read.at_disk, memory_order_relaxed)
		? clock_mono_ms()
		: remote_moved_ms(u->config.read.remote);
}

static void note_failure(struct uploader *u)
{
	atomic_fetch_add_explicit(&u->failures, 1, memory_order_relaxed);
}

/* ---- reading ---- */

static bool depends_on_any(const struct outbox *o, size_t at, const size_t *off, size_t off_count)
{
	for (size_t i = 0; i < off_count; i++) {
		if (outbox_depends(&o->items[at], &o->items[off[i]]))
			return true;
	}
	return false;
}

static void put_off(struct uploader *u, struct item *i, uint64_t delay_ms)
{
	uint64_t due = clock_mono_ms() + delay_ms;

	outbox_put_off(u->config.capture, i, delay_ms);
	if (!u->next_due_ms || due < u->next_due_ms)
		u->next_due_ms = due;
}

/* The fault of one file: the others need not wait for it. */
static bool is_of_the_object(int r)
{
	return r == -EIO || r == -EFBIG || r == -EMSGSIZE || r == -ENAMETOOLONG || r == -ELOOP ||
		r == -EBADMSG;
}

/* Reads item `at`; 1: it stays in the batch, 0: put off. */
static int read_one(struct uploader *u, struct outbox *o, size_t at, struct buf *raw)
{
	uint64_t delay_ms = 0;
	int r = upload_read_item(&u->config.read, o, &o->items[at], raw, &delay_ms);

	switch (r) {
	case READ_READY:
	case READ_ADOPTED:
		return 1;
	case READ_LOST:
		capture_want_scan(u->config.capture);
		put_off(u, &o->items[at], delay_ms);
		return 0;
	case READ_LATER:
		put_off(u, &o->items[at], delay_ms);
		return 0;
	case READ_NEEDLESS:
		r = outbox_drop(u->config.capture, &o->items[at]);
		return r;
	default:
		if (!is_of_the_object(r))
			return r;
		log_warn("reading %s to send it: %s, trying again in %u s",
			o->items[at].name ? o->items[at].name : "a file", err_str(r),
			UNREADABLE_WAIT_MS / 1000);
		put_off(u, &o->items[at], UNREADABLE_WAIT_MS);
		return 0;
	}
}

static int put_off_dead(struct uploader *u, struct outbox *o, const struct buf *raw)
{
	bool full = o->count == u->batch_ops || raw->len >= BATCH_RAW_BYTES;
	int r = outbox_put_off_dead(u->config.capture, o, full, DEAD_WAIT_MS);
	uint64_t due = clock_mono_ms() + DEAD_WAIT_MS;

	if (r > 0 && (!u->next_due_ms || due < u->next_due_ms))
		u->next_due_ms = due;
	return r < 0 ? r : 0;
}

static int read_batch(struct uploader *u, struct outbox *o, struct buf *raw)
{
	cleanup_free size_t *off = calloc(o->count + 1, sizeof(*off));
	size_t off_count = 0;

	if (!off)
		return -ENOMEM;
	for (size_t i = 0; i < o->count; i++) {
		int r = 0;

		if (raw->len >= BATCH_RAW_BYTES || depends_on_any(o, i, off, off_count))
			put_off(u, &o->items[i], 0);
		else
			r = read_one(u, o, i, raw);
		if (r < 0)
			return r;
		if (!r)
			off[off_count++] = i;
	}
	return raw->error ? raw->error : put_off_dead(u, o, raw);
}

static int encode(struct uploader *u, const struct outbox *o, const struct buf *raw, struct buf *out)
{
	struct batch b = {.client = u->config.client,
		.run = u->run,
		.acked_opno = uploader_acked_opno(u),
		.label = (char *)(uintptr_t)u->config.label,
		.raw = raw->data,
		.raw_len = raw->len};
	int r;

	b.ops = calloc(o->count, sizeof(*b.ops));
	if (!b.ops)
		return -ENOMEM;
	for (size_t i = 0; i < o->count; i++)
		b.ops[b.ops_count++] = o->items[i].op; /* borrowed: only encoded */
	r = b.ops_count ? batch_encode(&b, out) : 0;
	free(b.ops);
	return r;
}

/* ---- sending ---- */

static int settle(struct uploader *u, struct outbox *o, const struct batch_reply *reply, uint64_t last_opno)
{
	int r = outbox_settle(u->config.capture, o, reply, last_opno);

	if (r)
		return r;
	u->unsettled = false;
	atomic_fetch_add_explicit(&u->ops, reply->results_count, memory_order_relaxed);
	atomic_fetch_add_explicit(&u->batches, reply->results_count ? 1 : 0, memory_order_relaxed);
	u->next_opno = last_opno + 1;
	atomic_store_explicit(&u->acked_opno, last_opno, memory_order_release);
	return 0;
}

/* Content went missing at the server between asking and sending: this one and what follows is read anew. */
static int settle_partly(struct uploader *u, struct outbox *o, struct batch_reply *reply)
{
	size_t done = reply->results_count - 1, at = 0, i;
	uint64_t last_opno = u->next_opno - 1;

	result_fini(&reply->results[done]);
	reply->results_count = done;
	for (i = 0; i < o->count; i++) {
		if (at++ < done) {
			last_opno = o->items[i].op.opno;
			continue;
		}
		if (!o->items[i].entry)
			continue;
		o->items[i].missing = at == done + 1;
		outbox_put_off(u->config.capture, &o->items[i],
			o->items[i].missing && o->items[i].send_all ? MISSING_WAIT_MS : 0);
	}
	return settle(u, o, reply, last_opno);
}

static int digest_reply(struct uploader *u, struct outbox *o, struct batch_reply *reply, uint64_t last_opno)
{
	size_t n = reply->results_count;

	if (n && reply->results[n - 1].outcome == OUTCOME_MISSING)
		return settle_partly(u, o, reply);
	if (n != o->count)
		return -EPROTO;
	return settle(u, o, reply, last_opno);
}

static bool is_identity_error(int r)
{
	return r == -EALREADY || r == -ECHILD || r == -EKEYREJECTED;
}

/* Sends the bytes until the outcome is known. 0 settled; -ECANCELED stopping; another error: the batch was
 * not carried out. */
static int send_until_known(
	struct uploader *u, struct outbox *o, const struct buf *encoded, uint64_t last_opno)
{
	for (;;) {
		struct batch_reply reply = {0};
		int r;

		if (!link_wait_up(u->config.link))
			return -ECANCELED;
		r = remote_sync_bytes(u->config.read.remote, encoded, &reply);
		if (!r) {
			FAILPOINT("O3");
			r = digest_reply(u, o, &reply, last_opno);
			batch_reply_fini(&reply);
			if (!r)
				backoff_reset(&u->backoff);
			return r;
		}
		if (r == -ECANCELED || is_identity_error(r) || r == -EINVAL || r == -EMSGSIZE)
			return r;
		note_failure(u);
		link_note_error(u->config.link, remote_last_error(u->config.read.remote));
		log_debug("batch up to opno %llu: %s, the same bytes again", (unsigned long long)last_opno,
			err_str(r));
		if (!link_wait_retry(u->config.link, backoff_next_ms(&u->backoff)))
			return -ECANCELED;
	}
}

/*
 * The server refuses the request as such, and has carried out nothing. Alone in its batch an operation is the
 * culprit: it goes to the dead letters, its number is free again. Else the next batches are of one operation
 * until it is found.
 */
static int narrow_down(struct uploader *u, struct outbox *o, int error)
{
	struct result refused = {.outcome = OUTCOME_REJECT, .code = error};
	struct batch_reply reply = {.results = &refused, .results_count = 1};
	int r;

	u->unsettled = false;
	if (o->count > 1) {
		u->batch_ops = 1;
		return 0;
	}
	refused.reason = strdup(remote_last_error(u->config.read.remote));
	r = settle(u, o, &reply, u->next_opno - 1);
	free(refused.reason);
	u->batch_ops = BATCH_OPS;
	return r;
}

static bool ends_the_run(int r)
{
	return r == -ECANCELED || is_identity_error(r);
}

/* Takes both when the batch has to go again as it is. */
static void keep_unsettled(
	struct uploader *u, int r, struct outbox *o, struct buf *encoded, uint64_t last_opno)
{
	if (!u->unsettled || !r || ends_the_run(r))
		return;
	u->kept = *o;
	u->kept_bytes = *encoded;
	u->kept_last_opno = last_opno;
	u->has_kept = true;
	*o = (struct outbox){0};
	*encoded = (struct buf)BUF_INIT;
}

static void drop_kept(struct uploader *u)
{
	if (!u->has_kept)
		return;
	outbox_return(u->config.capture, &u->kept);
	outbox_fini(&u->kept);
	buf_fini(&u->kept_bytes);
	u->has_kept = false;
}

/*
 * The journal goes first: it tells of all that the batch has, whatever a power loss takes; and it has let go
 * of the batch before, of which nothing but its lines is left when this one takes its place in the file.
 */
static int save_batch(struct uploader *u, const struct outbox *o, const struct buf *encoded)
{
	int r = capture_sync(u->config.capture);

	return r ? r : inflight_save(u->config.state_dirfd, o, encoded);
}

static int send_batch(struct uploader *u, struct outbox *o, const struct buf *raw)
{
	cleanup_buf struct buf encoded = BUF_INIT;
	uint64_t last_opno;
	int r = upload_sync(u->config.read.tree, u->config.capture, o);

	if (!r)
		r = outbox_adopt(u->config.capture, o);
	if (r)
		return r == -EAGAIN ? 0 : r;
	r = outbox_number(u->config.capture, o, u->next_opno);
	if (r || !o->count)
		return r;
	last_opno = o->items[o->count - 1].op.opno;
	r = encode(u, o, raw, &encoded);
	if (r)
		return r;
	r = save_batch(u, o, &encoded);
	FAILPOINT("O1");
	if (!r) {
		u->unsettled = true;
		r = send_until_known(u, o, &encoded, last_opno);
	}
	if (!r && u->batch_ops < BATCH_OPS)
		u->batch_ops *= 2;
	if (r == -EINVAL || r == -EMSGSIZE)
		return narrow_down(u, o, r);
	keep_unsettled(u, r, o, &encoded, last_opno);
	return r;
}

static int one_batch(struct uploader *u, bool *ret_idle)
{
	cleanup_buf struct buf raw = BUF_INIT;
	struct outbox o;
	int r;

	if (u->last_ops >= GATHER_FROM_OPS)
		outbox_gather(u->config.capture, u->batch_ops, u->begun_ms + GATHER_MS);
	u->begun_ms = clock_mono_ms();
	r = outbox_collect(u->config.capture, u->batch_ops, &o);
	u->last_ops = r ? 0 : o.count;
	if (r)
		return r;
	*ret_idle = o.count == 0;
	u->next_due_ms = o.next_due_ms;
	upload_read_begin(&u->config.read);
	r = read_batch(u, &o, &raw);
	upload_read_end(&u->config.read);
	if (!r)
		r = send_batch(u, &o, &raw);
	outbox_return(u->config.capture, &o);
	outbox_fini(&o);
	return r;
}

/* ---- start ---- */

/* What was on its way when we ended goes first, as it was. */
static int load_kept(struct uploader *u)
{
	int r = inflight_load(u->config.state_dirfd, &u->kept, &u->kept_bytes, &u->kept_last_opno);

	if (r == -EBADMSG)
		r = inflight_remove(u->config.state_dirfd);
	else if (!r)
		u->has_kept = true;
	if (u->has_kept) {
		r = outbox_claim(u->config.capture, &u->kept);
		if (r)
			drop_kept(u);
		return r;
	}
	if (!r || r == -ENOENT)
		u->unsettled = false;
	return r == -ENOENT ? 0 : r;
}

static int resend(struct uploader *u)
{
	int r = u->has_kept ? 0 : load_kept(u);

	if (r || !u->unsettled)
		return r;
	if (u->kept_last_opno < u->next_opno) { /* settled; that the journal lets go may be missing */
		r = outbox_let_go(u->config.capture, &u->kept);
		u->unsettled = r != 0;
	} else {
		r = send_until_known(u, &u->kept, &u->kept_bytes, u->kept_last_opno);
	}
	if (r == -EINVAL || r == -EMSGSIZE) { /* it has carried out nothing of it */
		u->unsettled = false;
		u->batch_ops = 1;
		r = 0;
	}
	if (!u->unsettled)
		drop_kept(u);
	return r;
}

/* The server must not know more of us than we do: then our state is an old copy; nor less:
 * then its own is. */
static int check_session(struct uploader *u)
{
	struct session session;

	for (;;) {
		int r;

		if (!link_wait_up(u->config.link))
			return -ECANCELED;
		r = remote_session(u->config.read.remote, &u->config.client, &session);
		if (!r)
			return session.last_opno >= u->next_opno       ? -EALREADY
				: session.last_opno + 1 < u->next_opno ? -ECHILD
								       : 0;
		if (r == -ECANCELED)
			return r;
		note_failure(u);
		link_note_error(u->config.link, remote_last_error(u->config.read.remote));
		if (!link_wait_retry(u->config.link, backoff_next_ms(&u->backoff)))
			return -ECANCELED;
	}
}

static const char *why_identity(int r)
{
	switch (r) {
	case -EALREADY:
		return "the server knows later operations of this client than its state does: it is a copy "
		       "or was restored";
	case -ECHILD:
		return "the server does not know what it had taken from here: this state or the server was "
		       "restored";
	default:
		return "the server knows other operations under our numbers: this state was restored";
	}
}

/* A backlog that has been sent leaves holes behind: the process is to be small again when nothing happens. */
static void give_memory_back(struct uploader *u)
{
	uint64_t ops = atomic_load_explicit(&u->ops, memory_order_relaxed);

	if (ops - u->trimmed_ops < TRIM_OPS)
		return;
	u->trimmed_ops = ops;
	(void)malloc_trim(0);
}

static void *run(void *arg)
{
	struct uploader *u = arg;
	bool checked = false;
	int r = 0;

	while (!ends_the_run(r)) {
		bool idle = false;

		if (!link_wait_up(u->config.link))
			break;
		if (capture_has_failed(u->config.capture)) { /* it cannot be noted what has been sent */
			r = -EIO;
		} else if (u->unsettled) {
			r = resend(u);
		} else if (checked) {
			r = one_batch(u, &idle);
		} else {
			r = check_session(u);
			checked = !r;
		}
		if (r && !ends_the_run(r)) {
			note_failure(u);
			log_warn("sending changes: %s, trying again", err_str(r));
			if (!link_wait_retry(u->config.link, backoff_next_ms(&u->backoff)))
				break;
			continue;
		}
		if (r || !idle)
			continue;
		give_memory_back(u);
		if (u->doubt)
			capture_want_scan(u->config.capture);
		u->doubt = false;
		if (!outbox_wait(u->config.capture, &u->wakeups,
			    u->next_due_ms ? u->next_due_ms : clock_mono_ms() + IDLE_WAIT_MS))
			break;
	}
	drop_kept(u);
	if (r == -ECHILD)
		u->config.rebase(u->config.arg, why_identity(r));
	else if (is_identity_error(r))
		u->config.reidentify(u->config.arg, why_identity(r));
	return NULL;
}

int uploader_start(const struct uploader_config *config, struct uploader **ret_uploader)
{
	struct uploader *u = calloc(1, sizeof(*u));
	uint64_t opno = 0;
	size_t len;
	int r;

	if (!u)
		return -ENOMEM;
	u->config = *config;
	u->run = id_new();
	u->batch_ops = BATCH_OPS;
	u->backoff = (struct backoff){.min_ms = 100, .max_ms = 60000};
	r = syncstate_peek_meta(config->read.state, "opno", &opno, sizeof(opno), &len);
	if (!r && len != sizeof(opno))
		r = -EBADMSG;
	if (r == -ENOENT)
		r = 0;
	u->next_opno = opno + 1;
	u->doubt = rescan_is_in_doubt(config->read.state);
	atomic_init(&u->acked_opno, opno);
	u->unsettled = true;
	/* Before anything can be added to its operations. What fails here the thread tries again. */
	if (!r)
		(void)load_kept(u);
	if (!r)
		r = -pthread_create(&u->thread, NULL, run, u);
	if (r) {
		drop_kept(u);
		free(u);
		return r;
	}
	*ret_uploader = u;
	return 0;
}

void uploader_stop(struct uploader *u)
{
	if (!u)
		return;
	remote_cancel(u->config.read.remote);
	pthread_join(u->thread, NULL);
	free(u);
}
