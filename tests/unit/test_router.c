/* SPDX-License-Identifier: Apache-2.0 */
/* router.h behind a real http: routes, tokens and limits, all judged before a body is read; arguments of
 * requests. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>

#include "http_fixture.h"
#include "router.h"

#define ANSWER_BYTES 16384
#define BATCH "application/x-batch"

static int say(struct request *rq, struct response *rs, const char *what)
{
	buf_printf(&rs->body, "[%s ns=%s arg=%s]", what, rq->space ? rq->space->name : "-",
		rq->arg ? rq->arg : "-");
	return 0;
}

static int on_open(struct request *rq, struct response *rs)
{
	return say(rq, rs, "open");
}

static int on_json(struct request *rq, struct response *rs)
{
	return say(rq, rs, "json");
}

static int on_batch(struct request *rq, struct response *rs)
{
	return say(rq, rs, "batch");
}

static int on_file(struct request *rq, struct response *rs)
{
	return say(rq, rs, "file");
}

static int on_missing(struct request *rq, struct response *rs)
{
	return -ENOENT;
}

static int on_query(struct request *rq, struct response *rs)
{
	char *value = NULL;
	int r = request_query(rq, "b", &value);

	if (r == -EINVAL)
		return r;
	buf_printf(&rs->body, "b=%s", r ? "(none)" : value);
	free(value);
	return 0;
}

static const struct route routes[] = {
	{HTTP_GET, "/open", ROUTE_OPEN | ROUTE_QUICK, NULL, 0, on_open},
	{HTTP_POST, "/sync", ROUTE_WRITES, "application/json", 100, on_json},
	{HTTP_POST, "/sync", ROUTE_WRITES, BATCH, 100, on_batch},
	{HTTP_GET, "/files/", ROUTE_PREFIX, NULL, 0, on_file},
	{HTTP_PUT, "/files/", ROUTE_PREFIX | ROUTE_WRITES, NULL, 100, on_file},
	{HTTP_GET, "/missing", 0, NULL, 0, on_missing},
	{HTTP_GET, "/query", 0, NULL, 0, on_query},
	{0},
};

struct fixture {
	char dir[40];
	struct services services;
	struct space spaces[2];
	char writer[TOKEN_TEXT_BYTES], reader[TOKEN_TEXT_BYTES], stray[TOKEN_TEXT_BYTES];
	char answer[ANSWER_BYTES];
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct http_config config;
	struct buf why = BUF_INIT;
	char path[64];

	strcpy(f->dir, "/tmp/test_router.XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	(void)snprintf(path, sizeof(path), "%s/auth.db", f->dir);
	assert_int_equal(auth_open(path, &f->services.auth, &why), 0);
	assert_int_equal(auth_add(f->services.auth, "w", auth_make_text(f->writer), "default", false, 0), 0);
	assert_int_equal(auth_add(f->services.auth, "r", auth_make_text(f->reader), "work", true, 0), 0);
	assert_int_equal(auth_add(f->services.auth, "s", auth_make_text(f->stray), "elsewhere", false, 0), 0);
	f->spaces[0] = (struct space){.name = "default", .stage_fd = -1};
	f->spaces[1] = (struct space){.name = "work", .stage_fd = -1};
	f->services.spaces = f->spaces;
	f->services.spaces_count = 2;
	assert_int_equal(router_new(routes, &f->services, &f->services.router), 0);
	http_config_init(&config);
	config.listen = "127.0.0.1:0";
	config.ops = router_ops(f->services.router);
	*state = f;
	return http_start(&config, &f->services.http);
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	char command[64];
	int r;

	http_stop(f->services.http);
	router_free(f->services.router);
	auth_close(f->services.auth);
	(void)snprintf(command, sizeof(command), "rm -r %s", f->dir);
	r = system(command);
	free(f);
	return r;
}

/* token NULL: none. headers end in "\r\n"; a body is announced by them and follows. */
static int ask(struct fixture *f, const char *token, const char *line, const char *headers, const char *body)
{
	char request[2048];

	(void)snprintf(request, sizeof(request),
		"%s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n%s%s%s%s\r\n%s", line,
		token ? "Authorization: Bearer " : "", token ? token : "", token ? "\r\n" : "", headers,
		body);
	return raw_ask(http_address(f->services.http), request, f->answer, sizeof(f->answer));
}

static bool answered(struct fixture *f, const char *text)
{
	return strstr(f->answer, text) != NULL;
}

static void asks_for_a_token(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(ask(f, NULL, "GET /open", "", ""), 200);
	assert_int_equal(ask(f, NULL, "GET /files/a", "", ""), 401);
	assert_true(answered(f, "WWW-Authenticate: Bearer\r\n"));
	assert_true(answered(f, "\r\n\r\n{\"error\":\"Unauthorized\"}"));
	assert_int_equal(ask(f, "wrong", "GET /files/a", "", ""), 401);
	assert_int_equal(ask(f, NULL, "GET /no/such", "", ""), 401); /* as if it were there */
	assert_int_equal(ask(f, f->writer, "GET /no/such", "", ""), 404);
	/* before a byte of the body */
	assert_int_equal(
		ask(f, NULL, "POST /sync", "Content-Type: application/json\r\nContent-Length: 50\r\n", ""),
		401);
}

static void chooses_by_method_and_type(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(
		ask(f, f->writer, "POST /sync",
			"Content-Type: application/json; charset=utf-8\r\nContent-Length: 2\r\n", "{}"),
		200);
	assert_true(answered(f, "[json ns=default arg=-]"));
	assert_int_equal(
		ask(f, f->writer, "POST /sync", "Content-Type: " BATCH "\r\nContent-Length: 2\r\n", "{}"),
		200);
	assert_true(answered(f, "[batch "));
	assert_int_equal(
		ask(f, f->writer, "POST /sync", "Content-Type: text/plain\r\nContent-Length: 2\r\n", "{}"),
		415);
	assert_int_equal(ask(f, f->writer, "POST /sync", "Content-Length: 2\r\n", "{}"), 415);
	assert_int_equal(ask(f, f->writer, "GET /sync", "", ""), 405);
	assert_true(answered(f, "Allow: POST\r\n"));
	assert_int_equal(ask(f, f->writer, "DELETE /files/a", "", ""), 405);
	assert_true(answered(f, "Allow: GET, HEAD, PUT\r\n"));
}

static void judges_bodies(void **state)
{
	struct fixture *f = *state;
	const char *json = "Content-Type: application/json\r\n";
	char headers[128];

	assert_int_equal(ask(f, f->writer, "POST /sync", json, ""), 411);
	(void)snprintf(headers, sizeof(headers), "%sContent-Length: 101\r\n", json);
	assert_int_equal(ask(f, f->writer, "POST /sync", headers, ""), 413);
	(void)snprintf(headers, sizeof(headers), "%sContent-Encoding: gzip\r\nContent-Length: 2\r\n", json);
	assert_int_equal(ask(f, f->writer, "POST /sync", headers, ""), 415);
	assert_int_equal(ask(f, f->writer, "GET /missing", "Content-Length: 2\r\n", "{}"), 400);
}

static void knows_namespaces_and_rights(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(ask(f, f->reader, "GET /files/a", "", ""), 200);
	assert_true(answered(f, "ns=work"));
	assert_int_equal(ask(f, f->reader, "PUT /files/a", "Content-Length: 1\r\n", "x"), 403);
	assert_int_equal(ask(f, f->writer, "PUT /files/a", "Content-Length: 1\r\n", "x"), 200);
	assert_int_equal(ask(f, f->stray, "GET /files/a", "", ""), 403);
}

static void decodes_arguments_once(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(ask(f, f->writer, "GET /files/a%20b/c%252e", "", ""), 200);
	assert_true(answered(f, "arg=a b/c%2e]"));
	assert_int_equal(ask(f, f->writer, "GET /files/a%00", "", ""), 400);
	assert_int_equal(ask(f, f->writer, "GET /files/a%2", "", ""), 400);
	assert_int_equal(ask(f, f->writer, "GET /files/a%zz", "", ""), 400);
	assert_int_equal(ask(f, f->writer, "GET /query?a=1&b=x%3d%26&bb=2", "", ""), 200);
	assert_true(answered(f, "b=x=&"));
	assert_int_equal(ask(f, f->writer, "GET /query?ab=1&bb=2", "", ""), 200);
	assert_true(answered(f, "b=(none)"));
	assert_int_equal(ask(f, f->writer, "GET /query?b=%0", "", ""), 400);
}

static void maps_errors_and_counts(void **state)
{
	struct fixture *f = *state;
	struct buf text = BUF_INIT;

	assert_int_equal(ask(f, f->writer, "GET /missing", "", ""), 404);
	assert_true(answered(f, "\"code\":\"not-found\""));
	assert_int_equal(ask(f, NULL, "GET /missing", "", ""), 401);
	router_metrics(f->services.router, &text);
	assert_non_null(strstr(buf_cstr(&text), "route=\"/missing\",type=\"\",status=\"404\"} 1\n"));
	assert_non_null(strstr(buf_cstr(&text), "route=\"/missing\",type=\"\",status=\"401\"} 1\n"));
	buf_fini(&text);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(asks_for_a_token),
		TEST(chooses_by_method_and_type),
		TEST(judges_bodies),
		TEST(knows_namespaces_and_rights),
		TEST(decodes_arguments_once),
		TEST(maps_errors_and_counts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
