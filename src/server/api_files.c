/* SPDX-License-Identifier: Apache-2.0 */
/*
 * /files/PATH with ranges and preconditions (RFC 9110), see syncfs-protocol(7). Called by the router. What is
 * sent is never to be shown by a browser: attachment and nosniff.
 */
#include "api_files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <syncfs/io.h>
#include <syncfs/message.h>
#include <syncfs/path.h>

#define ETAG_BYTES (HASH_HEX_BYTES + 2) /* "HASH" with its quotes and the NUL */

static bool has_path(const struct request *rq)
{
	return rq->arg && path_is_valid(rq->arg, rq->arg_len);
}

static int refuse_path(struct response *rs)
{
	return response_refuse(rs, 400, "Invalid path", "invalid");
}

/* A list of entity tags (or "*") holds this one. */
static bool lists_tag(const char *list, const char *etag)
{
	return !strcmp(list, "*") || strstr(list, etag) != NULL;
}

/* ---- GET ---- */

enum range_verdict { RANGE_NONE, RANGE_OK, RANGE_BAD };

static bool take_number(const char **at, uint64_t *ret_value)
{
	size_t len = strspn(*at, "0123456789");

	if (!len || len > 19)
		return false;
	*ret_value = strtoull(*at, NULL, 10);
	*at += len;
	return true;
}

/* A single range of RFC 9110; what is none, and lists of ranges, count as no range at all, as it allows. */
static enum range_verdict parse_range(const char *text, uint64_t size, uint64_t *ret_from, uint64_t *ret_len)
{
	uint64_t from = 0, to = 0;
	bool has_from, has_to;

	if (!text || strncmp(text, "bytes=", 6) != 0)
		return RANGE_NONE;
	text += 6;
	has_from = take_number(&text, &from);
	if (*text++ != '-')
		return RANGE_NONE;
	has_to = take_number(&text, &to);
	if (*text || (!has_from && !has_to) || (has_from && has_to && to < from))
		return RANGE_NONE;
	if (!has_from) { /* the last `to` bytes */
		if (!to || !size)
			return RANGE_BAD;
		from = to < size ? size - to : 0;
		to = size - 1;
	} else if (from >= size) {
		return RANGE_BAD;
	} else if (!has_to || to >= size) {
		to = size - 1;
	}
	*ret_from = from;
	*ret_len = to - from + 1;
	return RANGE_OK;
}

/* 0: send it; else the status that precondition headers ask for. */
static unsigned judge_conditions(struct request *rq, const char *etag)
{
	const char *match = http_header(rq->x, "If-Match"), *none = http_header(rq->x, "If-None-Match");

	if (match && !lists_tag(match, etag))
		return 412;
	return none && lists_tag(none, etag) ? 304 : 0;
}

static int send_file(struct request *rq, struct response *rs, const char *etag, int fd, uint64_t size)
{
	const char *range = http_header(rq->x, "Range"), *if_range = http_header(rq->x, "If-Range");
	uint64_t from = 0, len = size;
	enum range_verdict verdict =
		if_range && strcmp(if_range, etag) ? RANGE_NONE : parse_range(range, size, &from, &len);

	response_header(rs, "ETag", "%s", etag);
	if (verdict == RANGE_BAD) {
		response_header(rs, "Content-Range", "bytes */%llu", (unsigned long long)size);
		return response_refuse(rs, 416, "the range lies outside of the file", "range");
	}
	if (verdict == RANGE_OK) {
		rs->status = 206;
		response_header(rs, "Content-Range", "bytes %llu-%llu/%llu", (unsigned long long)from,
			(unsigned long long)(from + len - 1), (unsigned long long)size);
	}
	rs->content_type = "application/octet-stream";
	response_header(rs, "Content-Disposition", "attachment");
	response_header(rs, "X-Content-Type-Options", "nosniff");
	response_header(rs, "Accept-Ranges", "bytes");
	rs->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (rs->fd < 0)
		return -errno;
	rs->fd_at = from;
	rs->fd_len = len;
	return 0;
}

int api_file_get(struct request *rq, struct response *rs)
{
	struct node_state node = {0};
	char etag[ETAG_BYTES], hex[HASH_HEX_BYTES];
	cleanup_fd int fd = -1;
	struct stat st;
	unsigned status;
	int r;

	if (!has_path(rq))
		return refuse_path(rs);
	r = store_open_file(rq->space->store, rq->arg, &fd, &node);
	if (r < 0)
		return r;
	(void)snprintf(etag, sizeof(etag), "\"%s\"", hash_to_hex(&node.content.hash, hex));
	node_state_fini(&node);
	if (fstat(fd, &st) < 0)
		return -errno;
	status = judge_conditions(rq, etag);
	if (status == 412)
		return response_refuse(rs, 412, "the file is another", "stale");
	if (status) {
		rs->status = status;
		response_header(rs, "ETag", "%s", etag);
		return 0;
	}
	return send_file(rq, rs, etag, fd, (uint64_t)st.st_size);
}

/* ---- PUT, DELETE ---- */

/* "*", or the hash of a quoted tag in text[ETAG_BYTES]; NULL: no condition. A tag that is none of ours
 * matches nothing. */
static const char *condition(struct request *rq, const char *name, char *text)
{
	const char *value = http_header(rq->x, name);
	size_t len = value ? strlen(value) : 0;

	if (!value || !strcmp(value, "*"))
		return value;
	if (len == HASH_HEX_BYTES + 1 && value[0] == '"' && value[len - 1] == '"')
		(void)snprintf(text, ETAG_BYTES, "%.*s", HASH_HEX_BYTES - 1, value + 1);
	else
		(void)snprintf(text, ETAG_BYTES, "-");
	return text;
}

int api_file_put(struct request *rq, struct response *rs)
{
	char match[ETAG_BYTES], none_match[ETAG_BYTES];
	struct store_condition asked = {.if_match = condition(rq, "If-Match", match),
		.if_none_match = condition(rq, "If-None-Match", none_match)};
	struct store_source source = {.fd = http_body_fd(rq->x)};
	struct store_actor actor = request_actor(rq);
	int r = 0;

	if (!has_path(rq))
		return refuse_path(rs);
	if (source.fd < 0)
		r = http_body(rq->x, &source.bytes, &source.len);
	if (!r)
		r = store_upload(rq->space->store, &actor, rq->arg, &source, &asked);
	if (r == -ECANCELED)
		return response_refuse(rs, 412, "the file is another", "stale");
	if (r < 0)
		return r;
	response_json(rs, 200);
	return simple_answer_encode("File uploaded successfully", &rs->body);
}

int api_file_delete(struct request *rq, struct response *rs)
{
	struct store_actor actor = request_actor(rq);
	int r;

	if (!has_path(rq))
		return refuse_path(rs);
	r = store_delete(rq->space->store, &actor, rq->arg);
	if (r < 0)
		return r;
	response_json(rs, 200);
	return simple_answer_encode("File deleted successfully", &rs->body);
}
