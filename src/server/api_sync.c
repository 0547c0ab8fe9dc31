/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Native batches, see syncfs-protocol(7). Called by the router. Decides nothing about an operation: that is
 * the store's.
 */
#include "api_sync.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <syncfs/io.h>
#include <syncfs/message.h>

static int refuse_gap(struct response *rs, uint64_t expected)
{
	response_json(rs, 409);
	buf_printf(&rs->body,
		"{\"error\":\"an operation is missing before "
		"these\",\"code\":\"expected\",\"expected\":%llu}",
		(unsigned long long)expected);
	return 0;
}

static int refuse_batch(struct response *rs, int err, uint64_t expected)
{
	switch (err) {
	case -EALREADY:
		return response_refuse(rs, 409, "a later run of this client has been here", "clone");
	case -ECHILD:
		return refuse_gap(rs, expected);
	case -EKEYREJECTED:
		return response_refuse(rs, 422, "another operation of this number has been here", "reused");
	default:
		return err;
	}
}

static int sync_batch(struct request *rq, const struct batch *batch, struct response *rs)
{
	struct batch_reply reply = {0};
	uint64_t expected = 0;
	int r = auth_bind_client(rq->services->auth, &rq->token, &batch->client);

	if (r == -EPERM)
		return response_refuse(rs, 403, "this client belongs to another token", "forbidden");
	if (r < 0)
		return r;
	r = store_sync(rq->space->store, batch, &reply, &expected);
	if (r < 0)
		return refuse_batch(rs, r, expected);
	r = batch_reply_encode(&reply, &rs->body);
	batch_reply_fini(&reply);
	response_json(rs, 200);
	return r;
}

int api_sync(struct request *rq, struct response *rs)
{
	cleanup_buf struct buf why = BUF_INIT;
	struct batch batch = {0};
	const void *bytes;
	size_t len;
	int r = http_body(rq->x, &bytes, &len);

	if (r < 0)
		return r;
	r = batch_decode(bytes, len, &batch, &why);
	if (r < 0)
		return response_error(rs, r, why.len ? buf_cstr(&why) : NULL);
	r = sync_batch(rq, &batch, rs);
	batch_fini(&batch);
	return r;
}

int api_session(struct request *rq, struct response *rs)
{
	cleanup_free char *text = NULL;
	struct session session;
	struct id client;
	int r = request_query(rq, "client", &text);

	if (r == -ENOMEM)
		return r;
	if (r < 0 || id_from_hex(text, strlen(text), &client) < 0)
		return response_refuse(rs, 400, "client has to be 32 hex digits", "invalid");
	r = auth_bind_client(rq->services->auth, &rq->token, &client);
	if (r == -EPERM)
		return response_refuse(rs, 403, "this client belongs to another token", "forbidden");
	if (!r)
		r = store_session(rq->space->store, &client, &session);
	if (!r)
		r = session_encode(&session, &rs->body);
	response_json(rs, 200);
	return r;
}
