/* SPDX-License-Identifier: Apache-2.0 */
/*
 * POST /sync and GET /poll in the simple form, see syncfs-protocol(7). Called by the router and by api_poll.
 * Never waits for news.
 */
#include "api_simple.h"

#include <errno.h>
#include <string.h>

#include <syncfs/message.h>

static int refuse(struct response *rs, const char *text)
{
	/* these two are fixed to the letter, without a code */
	if (strcmp(text, "Invalid data") && strcmp(text, "Invalid action"))
		return response_refuse(rs, 400, text, "invalid");
	response_json(rs, 400);
	buf_printf(&rs->body, "{\"error\":\"%s\"}", text);
	return 0;
}

static int carry_out(struct request *rq, const struct simple_request *simple, const char **ret_message)
{
	struct store *store = rq->space->store;
	struct store_actor actor = request_actor(rq);
	struct store_source source = {.bytes = simple->content.data, .len = simple->content.len, .fd = -1};
	int r = -EINVAL;

	switch (simple->action) {
	case SIMPLE_UPLOAD:
		*ret_message = "File uploaded successfully";
		r = store_upload(store, &actor, simple->path, &source, NULL);
		break;
	case SIMPLE_DELETE:
		*ret_message = "File deleted successfully";
		r = store_delete(store, &actor, simple->path);
		if (r == -ENOENT) {
			*ret_message = "File does not exist";
			r = 0;
		}
		break;
	case SIMPLE_MKDIR:
		*ret_message = "Directory created successfully";
		r = store_mkdir(store, &actor, simple->path);
		break;
	case SIMPLE_RENAME:
		*ret_message = "File renamed successfully";
		r = store_rename(store, &actor, simple->path, simple->new_path);
		break;
	}
	return r;
}

int api_simple_sync(struct request *rq, struct response *rs)
{
	struct simple_request simple = {0};
	const char *text = NULL;
	const void *bytes;
	size_t len;
	int r = http_body(rq->x, &bytes, &len);

	if (r < 0)
		return r;
	r = simple_request_decode(bytes, len, &simple, &text);
	if (r == -EPROTO)
		return refuse(rs, text);
	if (r < 0)
		return r;
	r = carry_out(rq, &simple, &text);
	simple_request_fini(&simple);
	if (r < 0)
		return r;
	response_json(rs, 200);
	return simple_answer_encode(text, &rs->body);
}

int api_simple_poll(struct request *rq, struct response *rs)
{
	struct store_actor actor = request_actor(rq);
	ssize_t n = store_simple_poll(rq->space->store, &actor, "/files/", &rs->body);

	if (n < 0)
		return (int)n;
	response_json(rs, 200);
	return 0;
}
