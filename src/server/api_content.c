/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Chunks and manifests by hash, see syncfs-protocol(7). Called by the router. Holds nothing itself; what
 * another namespace holds is missing here.
 */
#include "api_content.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <syncfs/io.h>
#include <syncfs/limits.h>
#include <syncfs/log.h>
#include <syncfs/message.h>

static int refuse_decoded(struct response *rs, int err, struct buf *why)
{
	return response_error(rs, err, why->len ? buf_cstr(why) : NULL);
}

static int read_hashes(struct request *rq, struct hash **ret_hashes, size_t *ret_count, struct buf *why)
{
	const void *bytes;
	size_t len;
	int r = http_body(rq->x, &bytes, &len);

	return r < 0 ? r : hashes_decode(bytes, len, ret_hashes, ret_count, why);
}

int api_chunks_missing(struct request *rq, struct response *rs)
{
	cleanup_buf struct buf why = BUF_INIT;
	cleanup_free struct hash *hashes = NULL;
	size_t count = 0;
	ssize_t missing;
	int r = read_hashes(rq, &hashes, &count, &why);

	if (r < 0)
		return refuse_decoded(rs, r, &why);
	missing = store_chunks_missing(rq->space->store, hashes, count);
	if (missing < 0)
		return (int)missing;
	response_json(rs, 200);
	return hashes_encode(hashes, (size_t)missing, &rs->body);
}

static int put_chunk(
	struct request *rq, const struct hash *hash, const void *bytes, size_t len, struct response *rs)
{
	int r = store_chunk_put(rq->space->store, hash, bytes, len);

	if (r == -EBADMSG)
		return response_refuse(rs, 422, "a chunk's bytes are not those of its name", "hash") ?: 1;
	return r;
}

static int answer_stored(struct response *rs, size_t count)
{
	response_json(rs, 200);
	buf_printf(&rs->body, "{\"stored\":%zu}", count);
	return 0;
}

int api_chunks_put(struct request *rq, struct response *rs)
{
	cleanup_buf struct buf why = BUF_INIT;
	cleanup_free struct chunk_ref *chunks = NULL;
	const void *bytes;
	size_t len, count = 0;
	int r = http_body(rq->x, &bytes, &len);

	if (r < 0)
		return r;
	r = chunks_decode(bytes, len, &chunks, &count, &why);
	if (r < 0)
		return refuse_decoded(rs, r, &why);
	for (size_t i = 0; i < count && !r; i++)
		r = put_chunk(rq, &chunks[i].hash, chunks[i].data, chunks[i].len, rs);
	if (r)
		return r < 0 ? r : 0;
	return answer_stored(rs, count);
}

int api_chunk_put(struct request *rq, struct response *rs)
{
	struct hash hash;
	const void *bytes;
	size_t len;
	int r;

	if (hash_from_hex(rq->arg, rq->arg_len, &hash) < 0)
		return response_refuse(rs, 400, "a chunk's name is 64 hex digits", "invalid");
	r = http_body(rq->x, &bytes, &len);
	if (!r)
		r = put_chunk(rq, &hash, bytes, len, rs);
	if (r)
		return r < 0 ? r : 0;
	return answer_stored(rs, 1);
}

/* Those that are held, as far as ANSWER_MAX_BYTES reaches; their lengths and hashes in refs. */
static int gather(struct request *rq, const struct hash *hashes, size_t count, struct chunk_ref *refs,
	size_t *ret_count, struct buf *out)
{
	for (size_t i = 0; i < count && out->len < ANSWER_MAX_BYTES; i++) {
		size_t before = out->len;
		int r = store_chunk_get(rq->space->store, &hashes[i], out);

		if (r == -EBADMSG) {
			log_error("a chunk is damaged in namespace %s: not delivered", rq->space->name);
			out->len = before;
			continue;
		}
		if (r == -ENOENT)
			continue;
		if (r < 0)
			return r;
		refs[(*ret_count)++] =
			(struct chunk_ref){.hash = hashes[i], .len = (uint32_t)(out->len - before)};
	}
	return out->error;
}

int api_chunks_get(struct request *rq, struct response *rs)
{
	cleanup_buf struct buf why = BUF_INIT, content = BUF_INIT;
	cleanup_free struct hash *hashes = NULL;
	cleanup_free struct chunk_ref *refs = NULL;
	size_t count = 0, found = 0;
	int r = read_hashes(rq, &hashes, &count, &why);

	if (r < 0)
		return refuse_decoded(rs, r, &why);
	refs = calloc(count ? count : 1, sizeof(*refs));
	if (!refs)
		return -ENOMEM;
	r = gather(rq, hashes, count, refs, &found, &content);
	if (!r)
		r = chunks_encode_header(refs, found, &rs->body);
	if (r < 0)
		return r;
	buf_put(&rs->body, content.data, content.len);
	response_json(rs, 200);
	rs->content_type = BATCH_CONTENT_TYPE;
	return rs->body.error;
}

int api_manifest(struct request *rq, struct response *rs)
{
	struct blob manifest = {0};
	struct hash hash;
	int r;

	if (hash_from_hex(rq->arg, rq->arg_len, &hash) < 0)
		return response_refuse(rs, 400, "a content's name is 64 hex digits", "invalid");
	r = store_manifest(rq->space->store, &hash, &manifest);
	if (r < 0)
		return r;
	rs->content_type = "application/octet-stream";
	rs->body = (struct buf){.data = manifest.data, .len = manifest.len, .cap = manifest.len};
	return 0;
}

int api_supply(struct request *rq, struct response *rs)
{
	cleanup_buf struct buf why = BUF_INIT;
	cleanup_free struct hash *contents = NULL;
	size_t count = 0;
	int r = read_hashes(rq, &contents, &count, &why);

	if (r < 0)
		return refuse_decoded(rs, r, &why);
	r = store_supply(rq->space->store, contents, &count);
	if (r < 0)
		return r;
	response_json(rs, 200);
	return hashes_encode(contents, count, &rs->body);
}
