/* SPDX-License-Identifier: Apache-2.0 */
/*
 * http.h over real sockets: what is refused before a handler sees it, deadlines, bodies in memory and in a
 * file, parking and waking, draining.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>

#include <syncfs/mutex.h>

#include "http.h"
#include "http_body.h"
#include "http_fixture.h"

#define ANSWER_BYTES 16384
#define SMALL_MAX 100 /* body_max of every path but /big */

struct fixture {
	struct http *http;
	struct mutex lock;
	struct cond changed;
	unsigned handled, done;
	struct exchange *parked;
	bool is_woken, was_spilled;
	uint64_t body_len;
	int dirfd;
	char answer[ANSWER_BYTES];
};

static enum http_verdict on_head(void *arg, struct exchange *x, struct response *rs)
{
	struct fixture *f = arg;

	if (!strcmp(x->path, "/refused")) {
		rs->status = 401;
		buf_put_str(&rs->body, "no");
		return HTTP_ANSWER;
	}
	x->body_max = !strcmp(x->path, "/big") ? UINT64_MAX : SMALL_MAX;
	x->spill_dirfd = f->dirfd;
	return HTTP_GO_ON;
}

static enum http_verdict on_park(struct fixture *f, struct exchange *x, struct response *rs)
{
	if (f->is_woken) {
		buf_put_str(&rs->body, "woken");
		return HTTP_ANSWER;
	}
	f->parked = x;
	cond_broadcast(&f->changed);
	return HTTP_PARKED;
}

static enum http_verdict on_handle(void *arg, struct exchange *x, struct response *rs)
{
	struct fixture *f = arg;
	const void *bytes;
	size_t len;

	MUTEX_GUARD(&f->lock);
	f->handled++;
	f->body_len = http_body_len(x);
	f->was_spilled = http_body_fd(x) >= 0;
	if (!strcmp(x->path, "/park"))
		return on_park(f, x, rs);
	assert_int_equal(http_body(x, &bytes, &len), 0);
	rs->content_type = "text/plain";
	buf_printf(&rs->body, "path=%s query=%s body=", x->path, x->query ? x->query : "(none)");
	if (len <= SMALL_MAX)
		buf_put(&rs->body, bytes, len);
	else
		buf_printf(
			&rs->body, "%d..%d", ((const uint8_t *)bytes)[0], ((const uint8_t *)bytes)[len - 1]);
	return HTTP_ANSWER;
}

static void on_done(void *arg, struct exchange *x)
{
	struct fixture *f = arg;

	MUTEX_GUARD(&f->lock);
	f->done++;
	cond_broadcast(&f->changed);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct http_config config;

	mutex_init(&f->lock, RANK_FEED, "fixture");
	cond_init(&f->changed);
	f->dirfd = open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	http_config_init(&config);
	config.listen = "127.0.0.1:0";
	config.header_deadline_ms = 200;
	config.body_window_ms = 200;
	config.ops = (struct http_ops){.arg = f, .head = on_head, .handle = on_handle, .done = on_done};
	*state = f;
	return http_start(&config, &f->http);
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	http_stop(f->http);
	(void)close(f->dirfd);
	cond_fini(&f->changed);
	mutex_fini(&f->lock);
	free(f);
	return 0;
}

static int ask(struct fixture *f, const char *request)
{
	return raw_ask(http_address(f->http), request, f->answer, sizeof(f->answer));
}

/* Refused with this status, by one answer, with the connection closed and no handler run. */
static void expect_refused(struct fixture *f, int status, const char *request)
{
	assert_int_equal(ask(f, request), status);
	assert_int_equal(raw_count(f->answer, "\r\n\r\n"), 1);
	assert_int_equal(f->handled, 0);
}

#define NEXT "GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"

static void answers_and_keeps_the_connection(void **state)
{
	struct fixture *f = *state;
	int fd = raw_connect(http_address(f->http));

	for (int i = 0; i < 3; i++) {
		raw_send(fd, "POST /a%2Fb?c=%20d HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello");
		assert_false(raw_read(fd, "hello", f->answer, sizeof(f->answer)));
		assert_non_null(strstr(f->answer, "HTTP/1.1 200 OK"));
		assert_non_null(strstr(f->answer, "path=/a%2Fb query=c=%20d body=hello"));
		assert_null(strstr(f->answer, "Connection: close"));
	}
	(void)close(fd);
}

static void refuses_bad_framing(void **state)
{
	struct fixture *f = *state;

	expect_refused(f, 400,
		"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\n{}" NEXT);
	expect_refused(f, 400,
		"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}" NEXT);
	expect_refused(f, 400, "GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n" NEXT);
	expect_refused(
		f, 400, "GET / HTTP/1.1\r\nHost: x\r\nAuthorization: a\r\nauthorization: b\r\n\r\n" NEXT);
	expect_refused(f, 400,
		"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: "
		"2\r\n\r\n0\r\n\r\n" NEXT);
	expect_refused(
		f, 400, "POST / HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" NEXT);
	expect_refused(
		f, 501, "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" NEXT);
	expect_refused(f, 400, "GET http://y/ HTTP/1.1\r\nHost: x\r\n\r\n" NEXT);
	expect_refused(f, 501, "BREW / HTTP/1.1\r\nHost: x\r\n\r\n" NEXT);
}

static void refuses_bad_lengths(void **state)
{
	static const char *const lengths[] = {"+5", "-1", "0x10", "5, 6", "5 6"};
	struct fixture *f = *state;
	char request[256];

	for (size_t i = 0; i < sizeof(lengths) / sizeof(*lengths); i++) {
		(void)snprintf(request, sizeof(request),
			"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %s\r\n\r\n{}", lengths[i]);
		assert_int_equal(ask(f, request), 400);
	}
	assert_int_equal(
		ask(f, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9223372036854775808\r\n\r\n{}"), 413);
	assert_int_equal(f->handled, 0);
}

static void refuses_long_headers(void **state)
{
	struct fixture *f = *state;
	char *request = malloc(100000);
	int at = sprintf(request, "GET / HTTP/1.1\r\nHost: x\r\nA: ");

	memset(request + at, 'a', 6500);
	strcpy(request + at + 6500, "\r\n\r\n");
	assert_int_equal(ask(f, request), 431);
	memset(request + at, 'a', 90000);
	strcpy(request + at + 90000, "\r\n\r\n");
	assert_int_equal(ask(f, request), 431);
	/* the control: one below the limit */
	memset(request + at, 'a', 5900);
	strcpy(request + at + 5900, "\r\nConnection: close\r\n\r\n");
	assert_int_equal(f->handled, 0);
	assert_int_equal(ask(f, request), 200);
	free(request);
}

static void refuses_before_the_body_comes(void **state)
{
	struct fixture *f = *state;

	/* not a byte of these bodies is sent, and the answers come */
	expect_refused(f, 401, "POST /refused HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\n");
	expect_refused(f, 413, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 101\r\n\r\n");
	expect_refused(f, 401, "POST /refused HTTP/1.1\r\nHost: x\r\nContent-Length: 36\r\n\r\n" NEXT);
}

static void refuses_a_chunked_body_when_it_gets_too_long(void **state)
{
	struct fixture *f = *state;
	char request[512];
	int at = sprintf(request, "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n96\r\n");

	memset(request + at, 'x', 150);
	request[at + 150] = '\0'; /* and never an end */
	assert_int_equal(ask(f, request), 413);
	assert_int_equal(f->handled, 0);
}

static void ends_a_slow_header(void **state)
{
	struct fixture *f = *state;
	int fd = raw_connect(http_address(f->http));
	uint64_t before = clock_mono_ms();

	raw_send(fd, "GET / HTTP/1.1\r\nHost:");
	assert_true(raw_read(fd, NULL, f->answer, sizeof(f->answer)));
	assert_non_null(strstr(f->answer, "HTTP/1.1 408"));
	assert_true(clock_mono_ms() - before >= 150);
	(void)close(fd);
}

static void ends_a_slow_body(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(ask(f, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\n1"), 408);
	assert_int_equal(f->handled, 0);
}

static void keeps_big_bodies_in_a_file(void **state)
{
	struct fixture *f = *state;
	size_t len = BODY_MEMORY_BYTES + 12345;
	char *body = malloc(len + 1);
	int fd = raw_connect(http_address(f->http));
	char head[128];

	memset(body, 7, len);
	body[len - 1] = 9;
	body[len] = '\0';
	(void)snprintf(
		head, sizeof(head), "PUT /big HTTP/1.1\r\nHost: x\r\nContent-Length: %zu\r\n\r\n", len);
	raw_send(fd, head);
	raw_send(fd, body);
	assert_false(raw_read(fd, "body=7..9", f->answer, sizeof(f->answer)));
	assert_true(f->was_spilled);
	assert_int_equal(f->body_len, len);
	raw_send(fd, "PUT /big HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nab");
	assert_false(raw_read(fd, "body=ab", f->answer, sizeof(f->answer)));
	assert_false(f->was_spilled);
	(void)close(fd);
	free(body);
}

/* The parked request, once it is parked. */
static struct exchange *await_parked(struct fixture *f)
{
	MUTEX_GUARD(&f->lock);
	while (!f->parked)
		assert_true(cond_wait_until(&f->changed, &f->lock, clock_mono_ms() + RAW_DEADLINE_MS));
	return f->parked;
}

/* As the feed does it: whoever takes a parked request out of its place wakes it, once, under the lock. */
static void wake_parked(struct fixture *f, bool is_last)
{
	(void)await_parked(f);
	MUTEX_GUARD(&f->lock);
	f->is_woken = is_last;
	http_wake(f->parked);
	f->parked = NULL;
}

static void parks_and_wakes(void **state)
{
	struct fixture *f = *state;
	int fd = raw_connect(http_address(f->http));

	raw_send(fd, "GET /park HTTP/1.1\r\nHost: x\r\n\r\n");
	wake_parked(f, false); /* for nothing: it parks again */
	assert_false(http_client_is_gone(await_parked(f)));
	wake_parked(f, true);
	assert_false(raw_read(fd, "woken", f->answer, sizeof(f->answer)));
	assert_int_equal(f->handled, 3);
	(void)close(fd);
}

static void sees_a_parked_client_go(void **state)
{
	struct fixture *f = *state;
	int fd = raw_connect(http_address(f->http));
	uint64_t deadline = clock_mono_ms() + RAW_DEADLINE_MS;

	raw_send(fd, "GET /park HTTP/1.1\r\nHost: x\r\n\r\n");
	(void)await_parked(f);
	(void)close(fd);
	while (!http_client_is_gone(f->parked))
		assert_true(clock_mono_ms() < deadline);
	wake_parked(f, true);
	mutex_lock(&f->lock);
	while (!f->done)
		assert_true(cond_wait_until(&f->changed, &f->lock, deadline));
	mutex_unlock(&f->lock);
}

static void drains(void **state)
{
	struct fixture *f = *state;
	int fd = raw_connect(http_address(f->http));

	raw_send(fd, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
	assert_false(raw_read(fd, "body=", f->answer, sizeof(f->answer)));
	http_drain(f->http, RAW_DEADLINE_MS);
	raw_send(fd, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
	assert_true(raw_read(fd, NULL, f->answer, sizeof(f->answer)));
	assert_non_null(strstr(f->answer, "HTTP/1.1 503"));
	(void)close(fd);
	assert_int_equal(http_resume(f->http, NULL, NULL), 0);
	assert_int_equal(ask(f, "GET / HTTP/1.0\r\n\r\n"), 200);
}

static void refuses_bad_addresses(void **state)
{
	static const char *const bad[] = {
		"", "127.0.0.1", "127.0.0.1:", "127.0.0.1:65536", "host.example:1", ":1"};
	struct fixture *f = *state;
	struct http_config config;
	struct http *http = NULL;

	http_config_init(&config);
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		config.listen = bad[i];
		assert_int_equal(http_start(&config, &http), -EINVAL);
		assert_null(http);
	}
	config.listen = http_address(f->http);
	assert_int_equal(http_start(&config, &http), -EADDRINUSE);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(answers_and_keeps_the_connection),
		TEST(refuses_bad_framing),
		TEST(refuses_bad_lengths),
		TEST(refuses_long_headers),
		TEST(refuses_before_the_body_comes),
		TEST(refuses_a_chunked_body_when_it_gets_too_long),
		TEST(ends_a_slow_header),
		TEST(ends_a_slow_body),
		TEST(keeps_big_bodies_in_a_file),
		TEST(parks_and_wakes),
		TEST(sees_a_parked_client_go),
		TEST(drains),
		TEST(refuses_bad_addresses),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
