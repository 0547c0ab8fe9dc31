/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Routing, authorization and the refusals that need no body, see the header. Called by http.c; calls the
 * handlers of the table it is given. Answers 401 to whoever has no token whatever they ask for, so that
 * nothing shows which routes exist.
 */
#include "router.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <syncfs/log.h>

static const unsigned statuses[] = {
	200, 206, 304, 400, 401, 403, 404, 405, 409, 410, 411, 412, 413, 415, 416, 422, 429, 500, 503, 507};
#define STATUSES (sizeof(statuses) / sizeof(statuses[0]))

struct router {
	/* set at start, then read-only */
	const struct route *routes;
	size_t routes_count;
	const struct services *services;

	/* [route][status]; the last route is "none", the last status "other". Counters: no order needed */
	_Atomic uint64_t (*counts)[STATUSES + 1];
};

static void count(struct router *r, const struct route *route, unsigned status)
{
	size_t at = route ? (size_t)(route - r->routes) : r->routes_count, s = 0;

	while (s < STATUSES && statuses[s] != status)
		s++;
	atomic_fetch_add_explicit(&r->counts[at][s], 1, memory_order_relaxed);
}

/* ---- finding the route ---- */

static bool path_fits(const struct route *route, const char *path)
{
	size_t len = strlen(route->path);

	if (route->flags & ROUTE_PREFIX)
		return !strncmp(path, route->path, len) && path[len];
	return !strcmp(path, route->path);
}

static bool method_fits(const struct route *route, enum http_method method)
{
	return route->method == method || (route->method == HTTP_GET && method == HTTP_HEAD);
}

/* Of routes for the same method and path the one for the body's type; *ret_err says why there is none. */
static const struct route *find_route(const struct router *r, struct exchange *x, int *ret_err)
{
	const char *type = http_header(x, "Content-Type");

	*ret_err = -ENOENT;
	for (const struct route *route = r->routes; route->path; route++) {
		if (!path_fits(route, x->path))
			continue;
		if (!method_fits(route, x->method)) {
			if (*ret_err == -ENOENT)
				*ret_err = -EOPNOTSUPP;
			continue;
		}
		if (!route->content_type || (type && header_has_type(type, route->content_type)))
			return route;
		*ret_err = -EMEDIUMTYPE;
	}
	return NULL;
}

static void add_allow(const struct router *r, const struct exchange *x, struct response *rs)
{
	static const char *const names[] = {
		[HTTP_GET] = "GET, HEAD", [HTTP_POST] = "POST", [HTTP_PUT] = "PUT", [HTTP_DELETE] = "DELETE"};
	char allow[64] = "";
	unsigned seen = 0;

	for (const struct route *route = r->routes; route->path; route++) {
		if (!path_fits(route, x->path) || (seen & 1u << route->method))
			continue;
		seen |= 1u << route->method;
		if (*allow)
			strcat(allow, ", "); /* at most "GET, HEAD, POST, PUT, DELETE" */
		strcat(allow, names[route->method]);
	}
	response_header(rs, "Allow", "%s", allow);
}

static void refuse_route(const struct router *r, const struct exchange *x, struct response *rs, int err)
{
	if (err == -EOPNOTSUPP) {
		(void)response_refuse(rs, 405, "method not allowed", "method");
		add_allow(r, x, rs);
	} else if (err == -EMEDIUMTYPE) {
		(void)response_refuse(rs, 415, "unsupported content type", "content-type");
	} else {
		(void)response_refuse(rs, 404, "no such page", "not-found");
	}
}

/* ---- who asks ---- */

static bool authorize(struct router *r, struct exchange *x, struct token *ret_token, struct response *rs)
{
	int err = auth_check(r->services->auth, http_header(x, "Authorization"), ret_token);

	if (!err)
		return true;
	if (err != -EACCES) {
		(void)response_error(rs, err, NULL);
		return false;
	}
	response_json(rs, 401);
	buf_put_str(&rs->body, "{\"error\":\"Unauthorized\"}");
	response_header(rs, "WWW-Authenticate", "Bearer");
	return false;
}

/* A client that names a tree must not get another one. */
static bool asks_for(struct exchange *x, const struct token *token)
{
	const char *name = http_header(x, "Syncfs-Namespace");

	return !name || !strcmp(name, token->ns);
}

static struct space *find_space(const struct services *services, const char *name)
{
	for (size_t i = 0; i < services->spaces_count; i++)
		if (!strcmp(services->spaces[i].name, name))
			return &services->spaces[i];
	return NULL;
}

/* ---- may the body come ---- */

/* True: it may. */
static bool judge_body(const struct route *route, struct exchange *x, struct response *rs)
{
	const char *encoding = http_header(x, "Content-Encoding");

	if (encoding && strcasecmp(encoding, "identity")) {
		(void)response_refuse(rs, 415, "unsupported content encoding", "content-encoding");
		return false;
	}
	if ((x->method == HTTP_POST || x->method == HTTP_PUT) && !x->has_length) {
		(void)response_refuse(rs, 411, "a length is needed", "length");
		return false;
	}
	if (x->has_body && x->body_len > route->body_max) {
		(void)response_refuse(rs, route->body_max ? 413 : 400, "the body is too long", "body");
		return false;
	}
	x->body_max = route->body_max;
	return true;
}

static int decode_arg(struct request *rq, const struct route *route, const char *path)
{
	if (!(route->flags & ROUTE_PREFIX))
		return 0;
	path += strlen(route->path);
	return percent_decode(path, strlen(path), &rq->arg, &rq->arg_len);
}

static void request_free(struct request *rq)
{
	if (!rq)
		return;
	feed_end(&rq->poll);
	free(rq->arg);
	free(rq);
}

/* False: rs says why not. */
static bool admit(struct router *r, struct request *rq, struct exchange *x, struct response *rs)
{
	const struct route *route;
	int err;

	route = find_route(r, x, &err);
	rq->route = route;
	if ((!route || !(route->flags & ROUTE_OPEN)) && !authorize(r, x, &rq->token, rs))
		return false;
	if (!route) {
		refuse_route(r, x, rs, err);
		return false;
	}
	if (!(route->flags & ROUTE_OPEN)) {
		if (!asks_for(x, &rq->token)) {
			(void)response_refuse(rs, 403, "this token is for another namespace", "forbidden");
			return false;
		}
		rq->space = find_space(r->services, rq->token.ns);
		if (!rq->space) {
			(void)response_refuse(
				rs, 403, "this token's namespace is not served here", "forbidden");
			return false;
		}
		x->spill_dirfd = rq->space->stage_fd;
	}
	if ((route->flags & ROUTE_WRITES) && rq->token.read_only) {
		(void)response_refuse(rs, 403, "this token may only read", "read-only");
		return false;
	}
	if (decode_arg(rq, route, x->path) < 0) {
		(void)response_refuse(rs, 400, "a bad escape in the path", "invalid");
		return false;
	}
	return judge_body(route, x, rs);
}

/* ---- http_ops ---- */

static enum http_verdict router_head(void *arg, struct exchange *x, struct response *rs)
{
	struct router *r = arg;
	struct request *rq = calloc(1, sizeof(*rq));

	if (!rq) {
		rs->status = 503;
		return HTTP_ANSWER;
	}
	x->user = rq;
	rq->x = x;
	rq->services = r->services;
	if (admit(r, rq, x, rs)) {
		x->is_quick = rq->route->flags & ROUTE_QUICK;
		return HTTP_GO_ON;
	}
	count(r, rq->route, rs->status);
	log_debug("refused with %u: %s", rs->status, x->path);
	return HTTP_ANSWER;
}

static enum http_verdict router_handle(void *arg, struct exchange *x, struct response *rs)
{
	struct router *r = arg;
	struct request *rq = x->user;
	int err = rq->route->handler(rq, rs);

	if (err == REQUEST_PARKED)
		return HTTP_PARKED;
	if (err < 0)
		(void)response_error(rs, err, NULL);
	count(r, rq->route, rs->status);
	log_debug("%u: %s", rs->status, x->path);
	return HTTP_ANSWER;
}

static void router_done(void *arg, struct exchange *x)
{
	request_free(x->user);
	x->user = NULL;
}

struct http_ops router_ops(struct router *r)
{
	return (struct http_ops){.arg = r, .head = router_head, .handle = router_handle, .done = router_done};
}

int router_new(const struct route *routes, const struct services *services, struct router **ret_router)
{
	struct router *r = calloc(1, sizeof(*r));

	if (!r)
		return -ENOMEM;
	r->routes = routes;
	r->services = services;
	while (routes[r->routes_count].path)
		r->routes_count++;
	r->counts = calloc(r->routes_count + 1, sizeof(*r->counts));
	if (!r->counts) {
		free(r);
		return -ENOMEM;
	}
	*ret_router = r;
	return 0;
}

void router_free(struct router *r)
{
	if (!r)
		return;
	free(r->counts);
	free(r);
}

void router_metrics(struct router *r, struct buf *out)
{
	static const char *const methods[] = {"", "GET", "HEAD", "POST", "PUT", "DELETE", ""};

	buf_put_str(out, "# TYPE syncfs_requests_total counter\n");
	for (size_t i = 0; i <= r->routes_count; i++)
		for (size_t s = 0; s <= STATUSES; s++) {
			uint64_t n = atomic_load_explicit(&r->counts[i][s], memory_order_relaxed);
			bool is_route = i < r->routes_count;

			if (!n)
				continue;
			buf_printf(out,
				"syncfs_requests_total{method=\"%s\",route=\"%s\",type=\"%s\",status=\"",
				is_route ? methods[r->routes[i].method] : "",
				is_route ? r->routes[i].path : "none",
				is_route && r->routes[i].content_type ? r->routes[i].content_type : "");
			if (s < STATUSES)
				buf_printf(out, "%u", statuses[s]);
			else
				buf_put_str(out, "other");
			buf_printf(out, "\"} %llu\n", (unsigned long long)n);
		}
}
