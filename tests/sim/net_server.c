/* SPDX-License-Identifier: Apache-2.0 */
/*
 * server/http.h over the simulated network: each request is a thread of the server's process. What the real
 * door promises is kept: head() and done() by one at a time (there it is one thread), handle() by a few at
 * once and one more for quick ones, big bodies spilled. Framing of HTTP is not simulated.
 */
#include "net_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "http.h"
#include "http_body.h"

#define MS 1000000ull
#define PIECE_BYTES 65536u
#define WORKERS 4
#define STOP_WAIT_MS 10000

struct http {
	struct proc *proc;
	struct http_config config;
	bool draining;
	unsigned open; /* requests */
	bool loop_is_taken; /* the one thread of head() and done() */
	unsigned busy;
	bool quick_is_busy;
	struct waitq loop, workers, closed;
	struct http_counters counters;
};

struct call {
	struct exchange x; /* first: an exchange is cast back to its call */
	struct http *http;
	struct flight *flight;
	struct body body;
	struct response rs;
	bool woken;
	struct waitq wake;
};

static struct http *listening; /* in the server's process; NULL when that has ended */

static struct call *call_of(struct exchange *x)
{
	return (struct call *)x;
}

struct proc *net_listener(void)
{
	return listening && !listening->draining ? listening->proc : NULL;
}

/* ---- turns ---- */

static void loop_enter(struct http *h)
{
	while (h->loop_is_taken)
		(void)waitq_wait(&h->loop, SIM_FOREVER);
	h->loop_is_taken = true;
}

static void loop_leave(struct http *h)
{
	h->loop_is_taken = false;
	waitq_wake_one(&h->loop);
}

/* True: the one for quick requests was taken. */
static bool worker_take(struct http *h, bool quick)
{
	for (;;) {
		if (h->busy < WORKERS) {
			h->busy++;
			return false;
		}
		if (quick && !h->quick_is_busy) {
			h->quick_is_busy = true;
			return true;
		}
		(void)waitq_wait(&h->workers, SIM_FOREVER);
	}
}

static void worker_give(struct http *h, bool quick_one)
{
	if (quick_one)
		h->quick_is_busy = false;
	else
		h->busy--;
	waitq_wake_all(&h->workers);
}

/* ---- a request ---- */

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

static void refuse(struct call *c, unsigned status, const char *text, const char *code)
{
	c->rs.status = status;
	c->rs.content_type = "application/json";
	buf_printf(&c->rs.body, "{\"error\":\"%s\",\"code\":\"%s\"}", text, code);
}

static void read_answer_file(struct call *c, struct flight *f)
{
	uint8_t piece[4096];

	for (uint64_t done = 0; done < c->rs.fd_len;) {
		uint64_t left = c->rs.fd_len - done;
		ssize_t n = pread(c->rs.fd, piece, left < sizeof(piece) ? left : sizeof(piece),
			(off_t)(c->rs.fd_at + done));

		if (n <= 0) {
			flight_break(f); /* shorter than announced: the connection ends */
			return;
		}
		buf_put(&f->answer, piece, (size_t)n);
		done += (uint64_t)n;
	}
}

static void send_answer(struct call *c)
{
	struct flight *f = c->flight;

	buf_reset(&f->answer);
	if (c->rs.fd >= 0)
		read_answer_file(c, f);
	else
		buf_put(&f->answer, c->rs.body.data, c->rs.body.len);
	c->http->counters.bytes_out += f->answer.len;
	f->status = c->rs.body.error ? 500 : (int)c->rs.status;
	f->answer_type = c->rs.content_type;
	for (size_t i = 0; i < c->rs.headers_count; i++)
		if (!strcasecmp(c->rs.headers[i].name, "Retry-After"))
			f->retry_after_s = (uint32_t)atoi(c->rs.headers[i].value);
	f->is_answered = true;
	waitq_wake_all(&f->q);
}

/* The body piece by piece, as it comes in. False: the answer is there, or the connection has ended. */
static bool read_body(struct call *c)
{
	struct flight *f = c->flight;
	size_t len = f->fate == FATE_HALF ? f->body_len / 2 : f->body_len;
	int r = 0;

	if (c->x.has_body && !c->x.body_max) {
		refuse(c, 400, "this request takes no body", "body");
		return false;
	}
	if (c->x.body_len > c->x.body_max) {
		refuse(c, 413, "the body is too long", "body");
		return false;
	}
	body_init(&c->body, c->x.spill_dirfd);
	for (size_t at = 0; at < len && !r; at += PIECE_BYTES)
		r = body_append(&c->body, f->body + at, len - at < PIECE_BYTES ? len - at : PIECE_BYTES);
	c->http->counters.bytes_in += len;
	if (r)
		refuse(c, 507, "no space for the body", "space");
	else if (f->fate == FATE_HALF)
		flight_break(f);
	return !r && f->fate != FATE_HALF;
}

static void handle(struct call *c)
{
	const struct http_ops *ops = &c->http->config.ops;
	bool quick = c->x.is_quick;
	enum http_verdict v;

	for (;;) {
		bool quick_one = worker_take(c->http, quick);

		c->woken = false;
		v = ops->handle(ops->arg, &c->x, &c->rs);
		worker_give(c->http, quick_one);
		if (v != HTTP_PARKED)
			return;
		while (!c->woken)
			(void)waitq_wait(&c->wake, SIM_FOREVER);
		quick = true;
	}
}

static void call_fini(struct call *c)
{
	body_fini(&c->body);
	buf_fini(&c->rs.body);
	if (c->rs.fd >= 0)
		(void)close(c->rs.fd);
	for (size_t i = 0; i < c->rs.headers_count; i++)
		free(c->rs.headers[i].value);
	flight_put(c->flight);
	free((char *)(uintptr_t)c->x.path);
	free(c);
}

static void serve(void *arg)
{
	struct call *c = arg;
	struct http *h = c->http;
	const struct http_ops *ops = &h->config.ops;
	bool is_known = !h->draining, is_whole = false;

	loop_enter(h);
	if (!is_known)
		refuse(c, 503, "the server is stopping", "stopping");
	else if (ops->head(ops->arg, &c->x, &c->rs) == HTTP_GO_ON)
		is_whole = read_body(c);
	loop_leave(h);
	if (is_whole)
		handle(c);
	if (!c->flight->is_broken)
		send_answer(c);
	loop_enter(h);
	if (is_known)
		ops->done(ops->arg, &c->x);
	loop_leave(h);
	call_fini(c);
	h->open--;
	waitq_wake_all(&h->closed);
}

bool net_arrive(struct flight *f)
{
	struct http *h = listening;
	struct call *c;
	char *query;

	if (!h || h->proc != f->server_proc)
		return false;
	net_count(f);
	c = calloc(1, sizeof(*c));
	if (!c || !(query = strdup(f->target)))
		abort();
	f->refs++;
	c->flight = f;
	c->http = h;
	c->x.method = method_of(f->method);
	c->x.path = query;
	c->x.spill_dirfd = -1;
	query = strchr(query, '?');
	if (query) {
		*query = '\0';
		c->x.query = query + 1;
	}
	c->x.has_body = f->body_len > 0;
	c->x.has_length = f->content_type != NULL;
	c->x.body_len = f->body_len;
	body_init(&c->body, -1);
	c->rs = (struct response){.fd = -1, .status = 200};
	h->open++;
	proc_spawn(h->proc, "request", serve, c);
	return true;
}

/* ---- for handlers ---- */

const char *http_header(struct exchange *x, const char *name)
{
	const struct flight *f = call_of(x)->flight;

	if (!strcasecmp(name, "Authorization"))
		return f->authorization;
	if (!strcasecmp(name, "Content-Type"))
		return f->content_type;
	if (!strcasecmp(name, "Accept"))
		return f->accept;
	return strcasecmp(name, "Syncfs-Namespace") ? NULL : f->space;
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
	struct call *c = call_of(x);

	c->woken = true;
	waitq_wake_all(&c->wake);
}

/* What the server can know: nothing comes through a partition, not even the end of a connection. */
bool http_client_is_gone(struct exchange *x)
{
	const struct flight *f = call_of(x)->flight;

	if (f->client && net_state_of(f->client) == NET_SILENT)
		return false;
	return !f->is_open || f->is_broken || !proc_is_alive(f->client_proc);
}

/* ---- life ---- */

void http_config_init(struct http_config *config)
{
	*config = (struct http_config){.workers = WORKERS, .connections = 4096};
}

static void on_process_end(void *arg)
{
	if (listening != arg)
		return;
	listening = NULL;
	net_break_all(NULL);
}

int http_start(const struct http_config *config, struct http **ret_http)
{
	struct http *h = calloc(1, sizeof(*h));

	if (!h)
		abort();
	h->proc = proc_current();
	h->config = *config;
	listening = h;
	*ret_http = h;
	proc_at_end(h->proc, on_process_end, h);
	return 0;
}

void http_drain(struct http *h, uint32_t wait_ms)
{
	uint64_t until = sim_now_ns() + wait_ms * MS;

	h->draining = true;
	while (h->open)
		if (!waitq_wait(&h->closed, until))
			break;
}

int http_resume(struct http *h, const char *tls_cert, const char *tls_key)
{
	(void)tls_cert, (void)tls_key;
	h->draining = false;
	return 0;
}

void http_stop(struct http *h)
{
	if (!h)
		return;
	http_drain(h, STOP_WAIT_MS);
	while (h->open)
		(void)waitq_wait(&h->closed, SIM_FOREVER);
	listening = NULL;
	net_break_all(NULL);
	free(h);
}

const char *http_address(const struct http *h)
{
	(void)h;
	return "127.0.0.1:3459";
}

void http_counters(const struct http *h, struct http_counters *ret_counters)
{
	*ret_counters = h->counters;
}
