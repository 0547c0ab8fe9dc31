/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Native batches: staged in the caller's thread, then committed together with whatever else waits (one caller
 * leads, the others get their answers from it). Called by api_sync. Decides about repeats, gaps and
 * superseded runs; about everything else commit.h decides.
 */
#include "store_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <syncfs/failpoint.h>

#define KEPT_STAY 4096 /* so many operations later one may still be based on what became a conflict copy */

struct store_request {
	struct store_request *next;
	const struct batch *batch;
	struct prepared *prepared;
	struct result *results;
	size_t results_count;
	struct cursor cursor;
	uint64_t expected;
	int r;
	bool done;
};

static void results_drop(struct store_request *q)
{
	for (size_t i = 0; i < q->results_count; i++)
		result_fini(&q->results[i]);
	q->results_count = 0;
}

/* The run that speaks: 0, or -EALREADY when a later one has superseded it. */
static int run_check(struct meta_client *row, const struct id *run)
{
	if (id_equal(&row->run, run))
		return 0;
	for (size_t i = 0; i < row->old_runs_count; i++) {
		if (id_equal(&row->old_runs[i], run))
			return -EALREADY;
	}
	if (!id_is_none(&row->run)) {
		if (row->old_runs_count == META_RUNS)
			row->old_runs_count--;
		memmove(&row->old_runs[1], row->old_runs, row->old_runs_count * sizeof(row->old_runs[0]));
		row->old_runs[0] = row->run;
		row->old_runs_count++;
	}
	row->run = *run;
	return 0;
}

static int repeat(struct txn *x, const struct id *client, const struct op *op, const struct hash *digest,
	struct result *ret_result)
{
	cleanup_buf struct buf packed = BUF_INIT;
	struct hash was;
	int r = meta_done_get(x->s->meta, client, op->opno, &was, &packed);

	if (r == -ENOENT)
		return -EKEYREJECTED;
	if (r < 0)
		return r;
	return hash_equal(&was, digest) ? result_unpack(packed.data, packed.len, ret_result) : -EKEYREJECTED;
}

static int missing(const struct op *op, const struct prepared *p, struct result *ret_result)
{
	struct hash *copy = reallocarray(NULL, p->missing_count, sizeof(*copy));

	if (!copy)
		return -ENOMEM;
	memcpy(copy, p->missing, p->missing_count * sizeof(*copy));
	*ret_result = (struct result){.outcome = OUTCOME_MISSING,
		.opno = op->opno,
		.node = op->node,
		.missing = copy,
		.missing_count = p->missing_count};
	return 0;
}

static int judge_new(struct txn *x, struct store_request *q, size_t i, const struct commit_sender *sender,
	const struct hash *digest)
{
	const struct op *op = &q->batch->ops[i];
	struct prepared *p = &q->prepared[i];
	cleanup_buf struct buf packed = BUF_INIT;
	struct result *result = &q->results[i];
	int r;

	x->results = q->results;
	x->results_count = i;
	if (p->code) {
		r = txn_refuse(x, sender, op, p->code, p->reason, result);
	} else {
		r = txn_apply(x, sender, op, p, result);
		if (r == -ENODATA) {
			p->code = -ENODATA;
			p->reason = "the content to be brought back is no longer kept";
		}
	}
	if (r < 0)
		return r;
	q->results_count++;
	if (result->outcome == OUTCOME_SAME)
		atomic_fetch_add_explicit(&x->s->requests_same, 1, memory_order_relaxed);
	result_pack(result, &packed);
	return packed.error
		? packed.error
		: meta_done_put(x->s->meta, &sender->client, op->opno, digest, packed.data, packed.len);
}

static int judge_ops(struct txn *x, struct store_request *q, struct meta_client *row)
{
	const struct batch *b = q->batch;
	const struct commit_sender sender = {.client = b->client, .label = b->label};

	for (size_t i = 0; i < b->ops_count; i++) {
		const struct op *op = &b->ops[i];
		struct hash digest;
		int r;

		if (op->opno > row->last_opno + 1 || op->opno == 0) {
			q->expected = row->last_opno + 1;
			return -ECHILD;
		}
		digest = op_digest(op);
		if (op->opno <= row->last_opno) {
			r = repeat(x, &b->client, op, &digest, &q->results[i]);
			q->results_count += r == 0;
		} else if (q->prepared[i].missing_count) {
			r = missing(op, &q->prepared[i], &q->results[i]);
			q->results_count += r == 0;
			return r;
		} else {
			r = judge_new(x, q, i, &sender, &digest);
			if (r == 0)
				row->last_opno = op->opno;
		}
		if (r < 0)
			return r;
	}
	return 0;
}

/* Whether an error concerns this request alone and came before it changed anything. */
static bool is_refusal(int r)
{
	return r == -EALREADY || r == -ECHILD || r == -EKEYREJECTED;
}

static int judge(struct txn *x, struct store_request *q)
{
	struct meta *meta = x->s->meta;
	const struct id *client = &q->batch->client;
	struct meta_client row = {0}, before;
	int r = meta_client_get(meta, client, &row);

	if (r < 0 && r != -ENOENT)
		return r;
	before = row;
	r = run_check(&row, &q->batch->run);
	if (r == 0)
		r = judge_ops(x, q, &row);
	if (r < 0)
		return r;
	if (q->batch->acked_opno > row.acked_opno && q->batch->acked_opno <= row.last_opno) {
		row.acked_opno = q->batch->acked_opno;
		r = meta_done_trim(meta, client, row.acked_opno, OUTCOME_KEPT,
			row.acked_opno > KEPT_STAY ? row.acked_opno - KEPT_STAY : 0);
	}
	if (r == 0 && memcmp(&row, &before, sizeof(row)) != 0)
		r = meta_client_put(meta, client, &row);
	q->cursor = x->at;
	return r;
}

static int judge_all(struct txn *x, struct store_request *list)
{
	for (struct store_request *q = list; q; q = q->next) {
		for (size_t i = 0; i < q->batch->ops_count; i++)
			q->prepared[i].taken = false;
		q->r = judge(x, q);
		if (q->r == 0)
			continue;
		results_drop(q);
		if (!is_refusal(q->r))
			return q->r;
	}
	return 0;
}

static int commit_all(struct store *s, struct store_request *list)
{
	struct txn x;
	int r;

	do {
		r = txn_begin(&x, s, false);
		if (r < 0)
			return r;
		r = judge_all(&x, list);
		if (r == 0)
			break;
		txn_rollback(&x);
		for (struct store_request *q = list; q; q = q->next)
			results_drop(q);
	} while (r == -ENODATA); /* again without the one that cannot be */
	if (r < 0)
		return r;
	for (struct store_request *q = list; q; q = q->next) {
		for (size_t i = 0; i < q->batch->ops_count; i++) {
			if (q->prepared[i].taken)
				q->prepared[i].stage[0] = '\0';
		}
	}
	return txn_commit(&x);
}

static void lead(struct store *s)
{
	struct store_request *list, *next;
	uint64_t before;
	bool changed;
	int r;

	{
		MUTEX_GUARD(&s->queue_lock);
		list = s->queue;
		s->queue = NULL;
		s->queue_end = &s->queue;
	}
	{
		MUTEX_GUARD(&s->lock);
		before = s->at.seq;
		r = commit_all(s, list);
		changed = r == 0 && s->at.seq != before;
	}
	FAILPOINT("C5");
	if (changed)
		store_changed(s);
	FAILPOINT("C6");
	MUTEX_GUARD(&s->queue_lock);
	for (; list; list = next) {
		next = list->next;
		if (r < 0 && !is_refusal(list->r))
			list->r = r;
		list->done = true;
	}
	cond_broadcast(&s->queue_cond);
}

static void commit_queued(struct store *s, struct store_request *q)
{
	mutex_lock(&s->queue_lock);
	*s->queue_end = q;
	s->queue_end = &q->next;
	while (!q->done) {
		if (s->has_leader) {
			cond_wait(&s->queue_cond, &s->queue_lock);
			continue;
		}
		s->has_leader = true;
		mutex_unlock(&s->queue_lock);
		lead(s);
		mutex_lock(&s->queue_lock);
		s->has_leader = false;
		cond_broadcast(&s->queue_cond);
	}
	mutex_unlock(&s->queue_lock);
}

static int prepare_all(struct store *s, const struct batch *b, struct prepared *prepared)
{
	size_t i;
	int r = 0;

	for (i = 0; r == 0 && i < b->ops_count; i++) {
		r = prepare_op(s, &b->ops[i], b->raw, b->raw_len, &prepared[i]);
		if (prepared[i].missing_count) /* nothing from here on will be done */
			break;
	}
	FAILPOINT("C2");
	if (r == 0 && prepare_sync(s, prepared, b->ops_count) < 0)
		r = store_fail(s, "make staged content durable", -EIO);
	FAILPOINT("C3");
	return r;
}

int store_sync(
	struct store *s, const struct batch *batch, struct batch_reply *ret_reply, uint64_t *ret_expected)
{
	struct store_request q = {.batch = batch};
	int r;

	if (store_is_failed(s))
		return -EIO;
	q.prepared = calloc(batch->ops_count + 1, sizeof(*q.prepared));
	q.results = calloc(batch->ops_count + 1, sizeof(*q.results));
	r = q.prepared && q.results ? prepare_all(s, batch, q.prepared) : -ENOMEM;
	if (r == 0) {
		commit_queued(s, &q);
		r = q.r;
	}
	for (size_t i = 0; q.prepared && i < batch->ops_count; i++)
		prepared_fini(s, &q.prepared[i]);
	free(q.prepared);
	if (r < 0) {
		results_drop(&q);
		free(q.results);
		if (r == -ECHILD && ret_expected)
			*ret_expected = q.expected;
		return r;
	}
	*ret_reply = (struct batch_reply){
		.results = q.results, .results_count = q.results_count, .cursor = q.cursor};
	return 0;
}
