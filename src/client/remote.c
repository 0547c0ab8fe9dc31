/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests of the native protocol over transport, shapes by message, statuses by error. Called by uploader,
 * poller and fetch, each with a remote of its own. Keeps no state of sync, never retries, never logs.
 */
#include "remote.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <syncfs/error.h>
#include <syncfs/io.h>
#include <syncfs/limits.h>
#include <syncfs/log.h>
#include <syncfs/manifest.h>

#include "transport.h"

#define REQUEST_TIMEOUT_MS 60000
#define TRANSFER_TIMEOUT_MS 600000 /* 64 MiB at 110 kB/s; the stall time ends dead ones earlier */
#define JSON_CONTENT_TYPE "application/json"
#define ERROR_TEXT_BYTES 512

struct remote {
	struct transport *transport;
	struct transport_answer answer;
	uint32_t retry_after_s;
	char error[ERROR_TEXT_BYTES];
};

int remote_new(const struct remote_config *config, struct remote **ret_remote)
{
	struct transport_config c = {
		.url = config->url,
		.token = config->token,
		.namespace = config->namespace,
	};
	struct remote *r = calloc(1, sizeof(*r));
	int err;

	if (r == NULL)
		return -ENOMEM;
	err = transport_new(&c, &r->transport);
	if (err < 0) {
		free(r);
		return err;
	}
	*ret_remote = r;
	return 0;
}

void remote_free(struct remote *r)
{
	if (r == NULL)
		return;
	transport_free(r->transport);
	buf_fini(&r->answer.body);
	free(r);
}

void remote_cancel(struct remote *r)
{
	transport_cancel(r->transport);
}

uint64_t remote_moved_ms(const struct remote *r)
{
	return transport_moved_ms(r->transport);
}

const char *remote_last_error(const struct remote *r)
{
	return r->error;
}

uint32_t remote_retry_after_s(const struct remote *r)
{
	return r->retry_after_s;
}

static int __attribute__((format(printf, 3, 4))) fail(struct remote *r, int err, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	(void)vsnprintf(r->error, sizeof(r->error), fmt, args);
	va_end(args);
	return err;
}

/* What a status and a code word of error.h mean to a client. */
static int error_for_client(int status, const char *code)
{
	int err;

	if (status == 409 && strcmp(code, "clone") == 0)
		return -EALREADY;
	if (status == 409 && strcmp(code, "expected") == 0)
		return -ECHILD;
	if (status == 422)
		return -EKEYREJECTED;
	err = error_from_http(status, code);
	switch (err) {
	case -EXDEV:
		return -ECHRNG;
	case -ERANGE:
		return -ESTALE;
	case -ENODATA:
		return -EOWNERDEAD;
	case -EDQUOT:
		return -ENOSPC;
	case -EUSERS:
	case -ETIMEDOUT:
		return -EAGAIN;
	case -EROFS:
		return -EPERM;
	case -EACCES:
	case -EPERM:
	case -ENOENT:
	case -ENOSPC:
	case -EMSGSIZE:
		return err;
	default:
		if (status >= 500)
			return -EAGAIN;
		return status == 400 ? -EINVAL : -EPROTO;
	}
}

/* An answer that is no success. Proxies may say "later" and "who are you"; all else has to come from a
 * syncfsd. */
static int refuse(struct remote *r)
{
	const struct transport_answer *a = &r->answer;
	char text[ERROR_TEXT_BYTES / 2], code[64];
	int err;

	error_decode(a->body.data, a->body.len, text, sizeof(text), code, sizeof(code));
	err = error_for_client(a->status, code);
	if (text[0] != '\0')
		return fail(r, err, "the server answers %d: %s", a->status, text);
	if (err != -EAGAIN && err != -ENOSPC && err != -EACCES && err != -EPERM)
		err = -EPROTO;
	return fail(r, err, "the server answers %d%s", a->status,
		err == -EPROTO ? " in a way that no syncfsd does" : "");
}

static int nonsense(struct remote *r, int err, struct buf *why)
{
	const char *text = buf_cstr(why);

	if (err == -ENOMEM)
		return fail(r, err, "out of memory");
	return fail(r, err, "the server's answer makes no sense: %s",
		text != NULL && *text != '\0' ? text : err_str(err));
}

static bool has_type(const struct transport_answer *a, const char *type)
{
	size_t len = strlen(type);

	return strncasecmp(a->content_type, type, len) == 0 && strchr(" ;\t", a->content_type[len]) != NULL;
}

/* Sends q. 0 when the answer is a success of the wanted type (NULL: any), which is then in r->answer. */
static int ask(struct remote *r, struct transport_request *q, const char *want_type)
{
	int err;

	r->error[0] = '\0';
	r->retry_after_s = 0;
	if (q->answer_max_bytes == 0)
		q->answer_max_bytes = BODY_MAX_BYTES;
	if (q->timeout_ms == 0)
		q->timeout_ms = REQUEST_TIMEOUT_MS;
	err = transport_perform(r->transport, q, &r->answer);
	if (err < 0) {
		const char *text = transport_error(r->transport);

		return fail(r, err, "%s", *text != '\0' ? text : err_str(err));
	}
	r->retry_after_s = r->answer.retry_after_s;
	if (r->answer.status < 200 || r->answer.status > 299)
		return refuse(r);
	if (want_type != NULL && !has_type(&r->answer, want_type))
		return fail(r, -EPROTO, "what answers is no syncfsd: it sends \"%s\" where %s is due",
			r->answer.content_type, want_type);
	return 0;
}

int remote_session(struct remote *r, const struct id *client, struct session *ret_session)
{
	char hex[ID_HEX_BYTES], target[64];
	struct transport_request q = {
		.method = "GET", .target = target, .accept = JSON_CONTENT_TYPE, .answer_max_bytes = 65536};
	cleanup_buf struct buf why = BUF_INIT;
	int err;

	(void)snprintf(target, sizeof(target), "/session?client=%s", id_to_hex(client, hex));
	err = ask(r, &q, JSON_CONTENT_TYPE);
	if (err < 0)
		return err;
	err = session_decode(r->answer.body.data, r->answer.body.len, ret_session, &why);
	return err < 0 ? nonsense(r, err, &why) : 0;
}

int remote_sync_bytes(struct remote *r, const struct buf *encoded_batch, struct batch_reply *ret_reply)
{
	struct iovec body = {encoded_batch->data, encoded_batch->len};
	struct transport_request q = {.method = "POST",
		.target = "/sync",
		.accept = JSON_CONTENT_TYPE,
		.content_type = BATCH_CONTENT_TYPE,
		.body = &body,
		.body_count = 1,
		.timeout_ms = TRANSFER_TIMEOUT_MS};
	cleanup_buf struct buf why = BUF_INIT;
	int err;

	if (encoded_batch->len > BODY_MAX_BYTES)
		return fail(r, -EMSGSIZE, "a batch of %zu bytes is over the limit", encoded_batch->len);
	err = ask(r, &q, JSON_CONTENT_TYPE);
	if (err < 0)
		return err;
	err = batch_reply_decode(r->answer.body.data, r->answer.body.len, ret_reply, &why);
	return err < 0 ? nonsense(r, err, &why) : 0;
}

/* The answer's bytes become the caller's; what the caller had is the next answer's memory. */
static void hand_over(struct remote *r, struct buf *body)
{
	struct buf mine = r->answer.body;

	r->answer.body = *body;
	*body = mine;
}

int remote_poll(struct remote *r, const struct cursor *from, const struct cursor *acked, unsigned wait_s,
	const struct id *client, struct page *ret_page, struct buf *ret_body)
{
	char cursor[CURSOR_TEXT_BYTES] = "", ack[CURSOR_TEXT_BYTES] = "", hex[ID_HEX_BYTES],
	     target[2 * CURSOR_TEXT_BYTES + 104];
	struct transport_request q = {
		.method = "GET",
		.target = target,
		.accept = BATCH_CONTENT_TYPE,
		.timeout_ms = TRANSFER_TIMEOUT_MS,
		.silence_s = wait_s,
	};
	cleanup_buf struct buf why = BUF_INIT;
	bool framed;
	int err;

	if (from != NULL)
		(void)cursor_to_text(from, cursor);
	if (acked != NULL)
		(void)cursor_to_text(acked, ack);
	(void)snprintf(target, sizeof(target), "/poll?cursor=%s&wait=%u&client=%s%s%s", cursor, wait_s,
		id_to_hex(client, hex), acked ? "&acked=" : "", ack);
	err = ask(r, &q, NULL);
	if (err < 0)
		return err;
	framed = has_type(&r->answer, BATCH_CONTENT_TYPE);
	if (!framed && !has_type(&r->answer, JSON_CONTENT_TYPE))
		return fail(r, -EPROTO,
			"what answers is no syncfsd: it sends \"%s\" where a page of changes is due",
			r->answer.content_type);
	err = page_decode(r->answer.body.data, r->answer.body.len, framed, ret_page, &why);
	if (err < 0)
		return nonsense(r, err, &why);
	hand_over(r, ret_body);
	return 0;
}

static size_t find_hash(const struct hash *hashes, size_t count, size_t from, const struct hash *wanted)
{
	for (size_t i = 0; i < count; i++) {
		size_t at =
			(from + i) % count; /* the answer is in the order of the question: found at once */

		if (hash_equal(&hashes[at], wanted))
			return at;
	}
	return count;
}

static int ask_hashes(
	struct remote *r, const char *target, const char *want_type, const struct hash *hashes, size_t count)
{
	cleanup_buf struct buf json = BUF_INIT;
	struct iovec body;
	struct transport_request q = {
		.method = "POST",
		.target = target,
		.accept = want_type,
		.content_type = JSON_CONTENT_TYPE,
		.body = &body,
		.body_count = 1,
		.timeout_ms = TRANSFER_TIMEOUT_MS,
	};
	int err = hashes_encode(hashes, count, &json);

	if (err < 0)
		return fail(r, err, "hashes cannot be encoded: %s", err_str(err));
	body = (struct iovec){json.data, json.len};
	return ask(r, &q, want_type);
}

/* One request's worth: those of hashes[] that the answer names to to[], which may be hashes itself or before
 * it. */
static int missing_of(struct remote *r, const char *target, const struct hash *hashes, size_t count,
	struct hash *to, size_t *ret_count)
{
	cleanup_buf struct buf why = BUF_INIT;
	cleanup_free struct hash *missing = NULL;
	size_t missing_count = 0, at = 0;
	int err = ask_hashes(r, target, JSON_CONTENT_TYPE, hashes, count);

	if (err < 0)
		return err;
	err = hashes_decode(r->answer.body.data, r->answer.body.len, &missing, &missing_count, &why);
	if (err < 0)
		return nonsense(r, err, &why);
	if (missing_count > count)
		return fail(r, -EPROTO, "the server misses more than it was asked for");
	for (size_t i = 0; i < missing_count; i++) {
		at = find_hash(hashes, count, at, &missing[i]);
		if (at == count)
			return fail(r, -EPROTO, "the server misses what it was not asked for");
	}
	if (missing_count > 0)
		memmove(to, missing, missing_count * sizeof(*to));
	*ret_count = missing_count;
	return 0;
}

int remote_chunks_missing(struct remote *r, struct hash *hashes, size_t *count)
{
	size_t kept = 0;

	r->error[0] = '\0';
	for (size_t at = 0; at < *count;) {
		size_t n = *count - at < HASHES_PER_REQUEST ? *count - at : HASHES_PER_REQUEST, missing = 0;
		int err = missing_of(r, "/chunks/missing", hashes + at, n, hashes + kept, &missing);

		if (err < 0)
			return err;
		kept += missing;
		at += n;
	}
	*count = kept;
	return 0;
}

int remote_supply(struct remote *r, struct hash *contents, size_t *count)
{
	if (*count > HASHES_PER_REQUEST)
		return fail(r, -EMSGSIZE, "%zu contents are over the limit of one request", *count);
	return missing_of(r, "/supply", contents, *count, contents, count);
}

int remote_put_chunks(struct remote *r, const struct chunk_ref *chunks, size_t count)
{
	cleanup_buf struct buf header = BUF_INIT;
	cleanup_free struct iovec *body = NULL;
	struct transport_request q = {
		.method = "PUT",
		.target = "/chunks",
		.content_type = BATCH_CONTENT_TYPE,
		.body_count = count + 1,
		.timeout_ms = TRANSFER_TIMEOUT_MS,
	};
	uint64_t total;
	int err;

	r->error[0] = '\0';
	if (count == 0)
		return 0;
	err = chunks_encode_header(chunks, count, &header);
	if (err < 0)
		return fail(r, err, "chunks cannot be encoded: %s", err_str(err));
	body = calloc(count + 1, sizeof(*body));
	if (body == NULL)
		return fail(r, -ENOMEM, "out of memory");
	body[0] = (struct iovec){header.data, header.len};
	total = header.len;
	for (size_t i = 0; i < count; i++) {
		body[i + 1] = (struct iovec){(void *)(uintptr_t)chunks[i].data, chunks[i].len};
		total += chunks[i].len;
	}
	if (total > BODY_MAX_BYTES)
		return fail(r, -EMSGSIZE, "%zu chunks are over the limit of one request", count);
	q.body = body;
	return ask(r, &q, NULL);
}

static int check_chunks(struct remote *r, const struct hash *asked, size_t asked_count,
	const struct chunk_ref *chunks, size_t count)
{
	size_t at = 0;

	if (count > asked_count)
		return fail(r, -EPROTO, "the server sends more chunks than it was asked for");
	for (size_t i = 0; i < count; i++) {
		struct hash is;

		at = find_hash(asked, asked_count, at, &chunks[i].hash);
		if (at == asked_count)
			return fail(r, -EPROTO, "the server sends a chunk that it was not asked for");
		is = hash_bytes(chunks[i].data, chunks[i].len);
		if (!hash_equal(&is, &chunks[i].hash))
			return fail(
				r, -EBADMSG, "the server sends a chunk with other bytes than its hash says");
	}
	return 0;
}

int remote_get_chunks(struct remote *r, const struct hash *hashes, size_t count, struct buf *ret_body,
	struct chunk_ref **ret_chunks, size_t *ret_count)
{
	cleanup_buf struct buf why = BUF_INIT;
	cleanup_free struct chunk_ref *chunks = NULL;
	size_t chunks_count = 0;
	int err;

	if (count == 0 || count > HASHES_PER_REQUEST)
		return fail(r, -EMSGSIZE, "%zu chunks cannot be asked for at once", count);
	err = ask_hashes(r, "/chunks/get", BATCH_CONTENT_TYPE, hashes, count);
	if (err < 0)
		return err;
	err = chunks_decode(r->answer.body.data, r->answer.body.len, &chunks, &chunks_count, &why);
	if (err < 0)
		return nonsense(r, err, &why);
	err = check_chunks(r, hashes, count, chunks, chunks_count);
	if (err < 0)
		return err;
	hand_over(r, ret_body);
	*ret_chunks = steal_ptr(&chunks);
	*ret_count = chunks_count;
	return 0;
}

int remote_manifest(struct remote *r, const struct content *content, struct blob *ret_manifest)
{
	char hex[HASH_HEX_BYTES], target[HASH_HEX_BYTES + 16];
	struct transport_request q = {
		.method = "GET",
		.target = target,
		.answer_max_bytes = MANIFEST_MAX_BYTES,
		.timeout_ms = TRANSFER_TIMEOUT_MS,
	};
	struct blob m;
	int err;

	(void)snprintf(target, sizeof(target), "/manifest/%s", hash_to_hex(&content->hash, hex));
	err = ask(r, &q, NULL);
	if (err < 0)
		return err;
	m = (struct blob){r->answer.body.data, r->answer.body.len};
	if (manifest_check(&m, content) < 0)
		return fail(
			r, -EBADMSG, "the server sends a manifest that is not the one of content %s", hex);
	r->answer.body = BUF_INIT;
	*ret_manifest = m;
	return 0;
}
