/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One request from its header to its answer: framing checks that the library of Debian 12 does not make, the
 * body, the way to a worker and back. Called by libmicrohttpd on its thread and by the workers. Knows no
 * route; never blocks the library's thread but for writing a spilled body to the page cache.
 */
#include "http_internal.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

#include <syncfs/io.h>
#include <syncfs/limits.h>
#include <syncfs/log.h>

#include "http_body.h"

enum stage { STAGE_NEW, STAGE_READING, STAGE_WORKING, STAGE_ANSWERED };

struct call {
	struct exchange x; /* first: an exchange is cast back to its call */
	struct http *http;
	struct MHD_Connection *mhd;
	struct conn *conn;
	char *uri;
	struct job job;
	struct body body;
	struct response rs;
	enum stage stage;
	bool is_known; /* head() has seen it, so done() has to */
};

static struct call *call_of(struct exchange *x)
{
	return (struct call *)x;
}

static void response_fini(struct response *rs)
{
	buf_fini(&rs->body);
	if (rs->fd >= 0)
		(void)close(rs->fd);
	for (size_t i = 0; i < rs->headers_count; i++)
		free(rs->headers[i].value);
	*rs = (struct response){.fd = -1, .status = 200};
}

/* ---- answers ---- */

static struct MHD_Response *response_make(struct response *rs)
{
	struct MHD_Response *made;

	if (rs->fd >= 0 && rs->fd_len) {
		made = MHD_create_response_from_fd_at_offset64(rs->fd_len, rs->fd, rs->fd_at);
		if (made)
			rs->fd = -1;
		return made;
	}
	if (rs->body.error || !rs->body.len)
		return MHD_create_response_from_buffer(0, (void *)"", MHD_RESPMEM_PERSISTENT);
	made = MHD_create_response_from_buffer(rs->body.len, rs->body.data, MHD_RESPMEM_MUST_FREE);
	if (made)
		rs->body = BUF_INIT;
	return made;
}

static enum MHD_Result answer(struct call *c)
{
	struct response *rs = &c->rs;
	uint64_t len = rs->fd >= 0 ? rs->fd_len : rs->body.len;
	unsigned status = rs->body.error ? 500 : rs->status;
	struct MHD_Response *made = response_make(rs);
	enum MHD_Result r;

	if (!made)
		return MHD_NO;
	if (rs->content_type)
		(void)MHD_add_response_header(made, MHD_HTTP_HEADER_CONTENT_TYPE, rs->content_type);
	for (size_t i = 0; i < rs->headers_count; i++)
		(void)MHD_add_response_header(made, rs->headers[i].name, rs->headers[i].value);
	if (rs->is_last || atomic_load_explicit(&c->http->draining, memory_order_relaxed))
		(void)MHD_add_response_header(made, MHD_HTTP_HEADER_CONNECTION, "close");
	c->stage = STAGE_ANSWERED;
	if (c->x.method != HTTP_HEAD)
		atomic_fetch_add_explicit(&c->http->bytes_out, len, memory_order_relaxed);
	r = MHD_queue_response(c->mhd, status, made);
	MHD_destroy_response(made);
	return r;
}

/* An answer before the body was read: the connection ends with it, whatever else it carries is never looked
 * at. */
static enum MHD_Result refuse_early(struct call *c)
{
	c->rs.is_last = true;
	if (c->x.has_body)
		conn_linger(c->conn);
	conn_is_ours(c->conn);
	return answer(c);
}

static enum MHD_Result refuse_with(struct call *c, unsigned status, const char *text, const char *code)
{
	c->rs.status = status;
	c->rs.content_type = "application/json";
	buf_printf(&c->rs.body, "{\"error\":\"%s\",\"code\":\"%s\"}", text, code);
	return refuse_early(c);
}

/* ---- the header ---- */

struct framing {
	unsigned hosts, lengths, authorizations, encodings, types;
	size_t bytes;
	bool has_nul, is_chunked;
	uint64_t length;
};

static enum MHD_Result look_at_header(void *cls, enum MHD_ValueKind kind, const char *key, size_t key_len,
	const char *value, size_t value_len)
{
	struct framing *f = cls;

	f->bytes += key_len + value_len + 4;
	if (strlen(key) != key_len || (value && strlen(value) != value_len))
		f->has_nul = true;
	if (!strcasecmp(key, "host")) {
		f->hosts++;
	} else if (!strcasecmp(key, "authorization")) {
		f->authorizations++;
	} else if (!strcasecmp(key, "content-type") || !strcasecmp(key, "content-encoding")) {
		f->types += !strcasecmp(key, "content-type") ? 1 : 0x100;
	} else if (!strcasecmp(key, "transfer-encoding")) {
		f->encodings++;
		f->is_chunked = value && !strcasecmp(value, "chunked");
	} else if (!strcasecmp(key, "content-length")) {
		f->lengths++;
		f->length = value_len && value_len < 20 && strspn(value, "0123456789") == value_len
			? strtoull(value, NULL, 10)
			: UINT64_MAX;
	}
	return MHD_YES;
}

/* NULL: sound; else what to refuse it with. */
static const char *judge_framing(const struct framing *f, bool is_http_1_1, unsigned *ret_status)
{
	*ret_status = 400;
	if (f->bytes > HEADER_MAX_BYTES) {
		*ret_status = 431;
		return "the header is too long";
	}
	if (f->hosts > 1 || f->lengths > 1 || f->authorizations > 1 || f->encodings > 1 ||
		(f->types & 0xfe) || (f->types & 0xfe00))
		return "a header field is there twice";
	if (f->has_nul)
		return "a header field has a NUL";
	if (is_http_1_1 && !f->hosts)
		return "no Host";
	if (f->encodings && (f->lengths || !is_http_1_1))
		return "contradicting framing";
	if (f->lengths && f->length == UINT64_MAX)
		return "bad Content-Length";
	if (f->encodings && !f->is_chunked) {
		*ret_status = 501;
		return "unknown Transfer-Encoding";
	}
	return NULL;
}

static enum http_method method_of(const char *method)
{
	static const char *const names[] = {[HTTP_GET] = "GET",
		[HTTP_HEAD] = "HEAD",
		[HTTP_POST] = "POST",
		[HTTP_PUT] = "PUT",
		[HTTP_DELETE] = "DELETE"};

	for (int m = HTTP_GET; m <= HTTP_DELETE; m++)
		if (!strcmp(method, names[m]))
			return (enum http_method)m;
	return HTTP_OTHER;
}

static enum MHD_Result begin(struct call *c, const char *method, const char *version)
{
	bool is_http_1_1 = !strcmp(version, MHD_HTTP_VERSION_1_1);
	struct framing f = {0};
	const char *bad;
	unsigned status;

	c->x.method = method_of(method);
	f.bytes = strlen(c->uri) + strlen(method) + 12;
	(void)MHD_get_connection_values_n(c->mhd, MHD_HEADER_KIND, look_at_header, &f);
	c->x.has_body = f.encodings || f.length;
	c->x.has_length = f.encodings || f.lengths;
	c->x.body_len = f.lengths && f.length != UINT64_MAX ? f.length : 0;
	bad = judge_framing(&f, is_http_1_1, &status);
	if (bad)
		return refuse_with(c, status, bad, "request");
	if (c->uri[0] != '/')
		return refuse_with(c, 400, "the target is no path", "request");
	if (c->x.method == HTTP_OTHER)
		return refuse_with(c, 501, "unknown method", "method");
	if (atomic_load_explicit(&c->http->draining, memory_order_relaxed))
		return refuse_with(c, 503, "the server is stopping", "stopping");
	c->is_known = true;
	if (c->http->config.ops.head(c->http->config.ops.arg, &c->x, &c->rs) == HTTP_ANSWER)
		return c->x.has_body || c->rs.is_last ? refuse_early(c) : (conn_is_ours(c->conn), answer(c));
	if (c->x.has_body && !c->x.body_max)
		return refuse_with(c, 400, "this request takes no body", "body");
	if (c->x.body_len > c->x.body_max)
		return refuse_with(c, 413, "the body is too long", "body");
	body_init(&c->body, c->x.spill_dirfd);
	c->stage = STAGE_READING;
	if (c->x.has_body)
		conn_body_begins(c->conn);
	return MHD_YES;
}

/* ---- the body, and over to a worker ---- */

static enum MHD_Result body_piece(struct call *c, const char *bytes, size_t *len)
{
	int r;

	conn_body_bytes(c->conn, *len);
	atomic_fetch_add_explicit(&c->http->bytes_in, *len, memory_order_relaxed);
	if (c->body.len + *len > c->x.body_max) {
		conn_refuse(c->conn, 413, "Content Too Large",
			"{\"error\":\"the body is too long\",\"code\":\"body\"}");
		return MHD_NO;
	}
	r = body_append(&c->body, bytes, *len);
	if (r < 0) {
		log_error("a request's body could not be kept: %s", err_str(r));
		conn_refuse(c->conn, 507, "Insufficient Storage",
			"{\"error\":\"no space for the body\",\"code\":\"space\"}");
		return MHD_NO;
	}
	*len = 0;
	return MHD_YES;
}

static enum MHD_Result hand_over(struct call *c)
{
	conn_is_ours(c->conn);
	c->stage = STAGE_WORKING;
	mutex_lock(&c->http->lock);
	c->http->suspended++;
	mutex_unlock(&c->http->lock);
	MHD_suspend_connection(c->mhd);
	workers_submit(c->http->workers, &c->job, c->x.is_quick);
	return MHD_YES;
}

enum job_verdict http_run_job(void *arg, struct job *job)
{
	struct http *http = arg;
	struct call *c = (void *)((char *)job - offsetof(struct call, job));

	if (http->config.ops.handle(http->config.ops.arg, &c->x, &c->rs) == HTTP_PARKED)
		return JOB_PARKED;
	/* resumed under the lock: http_stop() must not see 0 before the library has been told */
	MUTEX_GUARD(&http->lock);
	http->suspended--;
	MHD_resume_connection(c->mhd);
	cond_broadcast(&http->changed);
	return JOB_DONE;
}

/* ---- callbacks ---- */

void *http_on_uri(void *cls, const char *uri, struct MHD_Connection *mhd)
{
	struct http *http = cls;
	struct call *c = calloc(1, sizeof(*c));
	const union MHD_ConnectionInfo *info;
	char *query;

	if (!c)
		return NULL;
	c->uri = strdup(uri);
	if (!c->uri) {
		free(c);
		return NULL;
	}
	info = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
	c->conn = info ? info->socket_context : NULL;
	c->http = http;
	c->mhd = mhd;
	c->x.path = c->uri;
	c->x.spill_dirfd = -1;
	query = strchr(c->uri, '?');
	if (query) {
		*query = '\0';
		c->x.query = query + 1;
	}
	body_init(&c->body, -1);
	c->rs = (struct response){.fd = -1, .status = 200};
	conn_request_line(c->conn);
	mutex_lock(&http->lock);
	http->open++;
	mutex_unlock(&http->lock);
	return c;
}

enum MHD_Result http_on_access(void *cls, struct MHD_Connection *mhd, const char *url, const char *method,
	const char *version, const char *upload_data, size_t *upload_data_size, void **con_cls)
{
	struct call *c = *con_cls;

	if (!c)
		return MHD_NO; /* out of memory */
	switch (c->stage) {
	case STAGE_NEW:
		return begin(c, method, version);
	case STAGE_READING:
		return *upload_data_size ? body_piece(c, upload_data, upload_data_size) : hand_over(c);
	case STAGE_WORKING:
		return answer(c);
	case STAGE_ANSWERED:
		*upload_data_size = 0;
		return MHD_YES;
	}
	return MHD_NO;
}

void http_on_completed(
	void *cls, struct MHD_Connection *mhd, void **con_cls, enum MHD_RequestTerminationCode why)
{
	struct http *http = cls;
	struct call *c = *con_cls;

	if (!c)
		return;
	*con_cls = NULL;
	conn_is_idle(c->conn);
	if (c->is_known)
		http->config.ops.done(http->config.ops.arg, &c->x);
	body_fini(&c->body);
	response_fini(&c->rs);
	free(c->uri);
	free(c);
	MUTEX_GUARD(&http->lock);
	http->open--;
	cond_broadcast(&http->changed);
}

void http_on_connection(void *cls, struct MHD_Connection *mhd, void **socket_context,
	enum MHD_ConnectionNotificationCode what)
{
	struct http *http = cls;
	const union MHD_ConnectionInfo *info;
	int one = 1;

	if (what == MHD_CONNECTION_NOTIFY_CLOSED) {
		conn_free(*socket_context);
		*socket_context = NULL;
		return;
	}
	atomic_fetch_add_explicit(&http->connections, 1, memory_order_relaxed);
	info = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CONNECTION_FD);
	if (!info)
		return;
	(void)setsockopt(info->connect_fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	*socket_context = conn_new(http->conns, info->connect_fd, http->is_tls);
}

/* ---- for handlers ---- */

const char *http_header(struct exchange *x, const char *name)
{
	return MHD_lookup_connection_value(call_of(x)->mhd, MHD_HEADER_KIND, name);
}

int http_body(struct exchange *x, const void **ret_bytes, size_t *ret_len)
{
	return body_bytes(&call_of(x)->body, ret_bytes, ret_len);
}

int http_body_fd(struct exchange *x)
{
	return call_of(x)->body.fd;
}

uint64_t http_body_len(struct exchange *x)
{
	return call_of(x)->body.len;
}

void http_wake(struct exchange *x)
{
	workers_submit(call_of(x)->http->workers, &call_of(x)->job, true);
}

bool http_client_is_gone(struct exchange *x)
{
	return conn_peer_is_gone(call_of(x)->conn);
}
