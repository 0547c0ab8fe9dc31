/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The answer to a native POST /sync. Encoded by the server, decoded by the client's uploader. Never decides
 * what a result means for the journal or the tree.
 */
#include <syncfs/message.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <syncfs/error.h>
#include <syncfs/limits.h>

#include "json.h"

static const char *const outcome_words[] = {
	[OUTCOME_OK] = "ok",
	[OUTCOME_SAME] = "same",
	[OUTCOME_KEPT] = "kept",
	[OUTCOME_SUPERSEDED] = "superseded",
	[OUTCOME_CYCLE] = "cycle",
	[OUTCOME_MISSING] = "missing",
	[OUTCOME_REJECT] = "reject",
};

const char *outcome_word(enum outcome outcome)
{
	return outcome_words[outcome];
}

static bool outcome_has_versions(enum outcome outcome)
{
	return outcome == OUTCOME_OK || outcome == OUTCOME_SAME || outcome == OUTCOME_KEPT;
}

void batch_reply_fini(struct batch_reply *r)
{
	for (size_t i = 0; i < r->results_count; i++)
		result_fini(&r->results[i]);
	free(r->results);
	*r = (struct batch_reply){0};
}

static void put_hashes(struct buf *out, const struct hash *hashes, size_t count)
{
	json_put_open(out, "hashes", '[');
	for (size_t i = 0; i < count; i++)
		json_put_hash(out, NULL, &hashes[i]);
	json_put_close(out, ']');
}

static void put_reject(struct buf *out, const struct result *r)
{
	const char *word;

	error_to_http(r->code, &word);
	json_put_text(out, "code", word);
	json_put_text(out, "error", r->reason != NULL ? r->reason : word);
}

static int put_result(struct buf *out, const struct result *r)
{
	if (r->outcome < OUTCOME_OK || r->outcome > OUTCOME_REJECT)
		return -EINVAL;
	if (r->outcome == OUTCOME_KEPT && (r->name == NULL || id_is_none(&r->node) || id_is_none(&r->parent)))
		return -EINVAL;
	json_put_open(out, NULL, '{');
	json_put_u64(out, "opno", r->opno);
	json_put_text(out, "result", outcome_words[r->outcome]);
	if (outcome_has_versions(r->outcome)) {
		json_put_u64(out, "seq", r->seq);
		json_put_u64(out, "c", r->c);
		json_put_u64(out, "l", r->l);
		json_put_u64(out, "a", r->a);
	}
	if (!id_is_none(&r->node))
		json_put_id(out, "node", &r->node);
	if (!id_is_none(&r->parent))
		json_put_id(out, "parent", &r->parent);
	if (r->name != NULL)
		json_put_bytes(out, "name", r->name);
	/* A part of what is missing will do: the client sends it and asks again. */
	if (r->outcome == OUTCOME_MISSING)
		put_hashes(out, r->missing,
			r->missing_count < HASHES_PER_REQUEST ? r->missing_count : HASHES_PER_REQUEST);
	if (r->outcome == OUTCOME_REJECT)
		put_reject(out, r);
	json_put_close(out, '}');
	return 0;
}

int batch_reply_encode(const struct batch_reply *r, struct buf *out)
{
	size_t begin = out->len;

	buf_put_u8(out, '{');
	json_put_open(out, "results", '[');
	for (size_t i = 0; i < r->results_count; i++) {
		int error = put_result(out, &r->results[i]);

		if (error < 0)
			return error;
	}
	json_put_close(out, ']');
	json_put_cursor(out, "cursor", &r->cursor);
	json_put_close(out, '}');
	if (out->error == 0 && out->len - begin > JSON_MAX_BYTES)
		return -EMSGSIZE;
	return out->error;
}

static enum outcome get_outcome(struct json_in *in, const json_t *o)
{
	size_t len;
	const char *word = json_get_text(in, o, "result", true, &len);

	if (word == NULL)
		return OUTCOME_REJECT;
	for (enum outcome k = OUTCOME_OK; k <= OUTCOME_REJECT; k++) {
		if (strcmp(outcome_words[k], word) == 0)
			return k;
	}
	json_refuse(in, -EPROTO, "result", "unknown word");
	return OUTCOME_REJECT;
}

static void get_missing(struct json_in *in, const json_t *o, struct result *r)
{
	const json_t *list = json_get_array(in, o, "hashes", true, HASHES_PER_REQUEST);
	size_t count = json_array_size(list);

	if (in->error != 0)
		return;
	if (count == 0) {
		json_refuse(in, -EPROTO, "hashes", "empty");
		return;
	}
	r->missing = calloc(count, sizeof(r->missing[0]));
	if (r->missing == NULL) {
		json_refuse(in, -ENOMEM, "hashes", "out of memory");
		return;
	}
	for (size_t i = 0; i < count; i++) {
		if (!json_as_hash(json_array_get(list, i), &r->missing[i]))
			json_refuse(in, -EPROTO, "hashes", "not a hash");
	}
	r->missing_count = count;
}

static void get_reject(struct json_in *in, const json_t *o, struct result *r)
{
	size_t len;
	const char *word = json_get_text(in, o, "code", true, &len);

	r->reason = json_get_text_copy(in, o, "error", false);
	r->code = error_from_http(0, word);
}

static void get_result(struct json_in *in, const json_t *o, struct result *r)
{
	bool kept;

	if (!json_is_object(o)) {
		json_refuse(in, -EPROTO, NULL, "not an object");
		return;
	}
	r->opno = json_get_u64(in, o, "opno", true, INT64_MAX);
	r->outcome = get_outcome(in, o);
	kept = r->outcome == OUTCOME_KEPT;
	if (outcome_has_versions(r->outcome)) {
		r->seq = json_get_u64(in, o, "seq", true, INT64_MAX);
		r->c = json_get_u64(in, o, "c", false, INT64_MAX);
		r->l = json_get_u64(in, o, "l", false, INT64_MAX);
		r->a = json_get_u64(in, o, "a", false, INT64_MAX);
	}
	r->node = json_get_id(in, o, "node", kept);
	r->parent = json_get_id(in, o, "parent", kept);
	r->name = json_get_name(in, o, "name", kept, &r->parent);
	if (r->outcome == OUTCOME_MISSING)
		get_missing(in, o, r);
	if (r->outcome == OUTCOME_REJECT)
		get_reject(in, o, r);
}

static void get_results(struct json_in *in, const json_t *root, struct batch_reply *reply)
{
	const json_t *list = json_get_array(in, root, "results", true, BATCH_MAX_OPS);
	size_t count = json_array_size(list);

	if (in->error != 0 || count == 0)
		return;
	reply->results = calloc(count, sizeof(reply->results[0]));
	if (reply->results == NULL) {
		json_refuse(in, -ENOMEM, "results", "out of memory");
		return;
	}
	in->list = "results";
	for (in->item = 0; in->item < count && in->error == 0; in->item++) {
		struct result *r = &reply->results[in->item];

		reply->results_count = in->item + 1;
		get_result(in, json_array_get(list, in->item), r);
		if (in->error != 0)
			continue;
		if (r->opno == 0 || (in->item > 0 && r->opno != r[-1].opno + 1))
			json_refuse(in, -EPROTO, "opno", "not dense from 1 or more");
		if (r->outcome == OUTCOME_MISSING && in->item + 1 < count)
			json_refuse(in, -EPROTO, "result", "results after a missing one");
	}
	in->list = NULL;
}

int batch_reply_decode(const void *bytes, size_t len, struct batch_reply *ret_reply, struct buf *why)
{
	struct json_in in = {.why = why};
	cleanup_json json_t *root = json_in_parse(&in, bytes, len, JSON_MAX_BYTES, false);
	struct batch_reply reply = {0};

	if (root == NULL)
		return in.error;
	reply.cursor = json_get_cursor(&in, root, "cursor", true);
	get_results(&in, root, &reply);
	if (in.error != 0) {
		batch_reply_fini(&reply);
		return in.error;
	}
	*ret_reply = reply;
	return 0;
}
