/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of transport.h and remote.h against a raw socket: whole, cut, slow, long and foreign answers,
 * cancelling. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include <syncfs/clock.h>
#include <syncfs/manifest.h>

#include "remote.h"
#include "transport.h"

#define TOKEN "s3cret-token"
#define STEPS_MAX 8

/* What the peer does for one request. */
struct step {
	const void *answer;
	size_t len;
	bool hold; /* after the answer: wait until the client hangs up, else go on with the connection */
	bool cut; /* after the answer: close */
};

struct peer {
	int listen_fd;
	pthread_t thread;
	char url[64];
	struct step steps[STEPS_MAX];
	size_t steps_count;
	char requests[STEPS_MAX][8192]; /* heads and bodies as they came; read after peer_end() */
	size_t connections;
	void (*on_hold)(void *arg); /* called when a request is held */
	void *on_hold_arg;
};

/* One request with its Content-Length bytes of body. False: the client hung up. */
static bool read_request(int fd, char *out, size_t cap)
{
	size_t len = 0, need = 0;

	while (need == 0 || len < need) {
		ssize_t n = recv(fd, out + len, cap - 1 - len, 0);
		const char *end, *length;

		if (n <= 0)
			return false;
		len += (size_t)n;
		out[len] = '\0';
		end = strstr(out, "\r\n\r\n");
		if (end == NULL)
			continue;
		length = strcasestr(out, "\r\ncontent-length:");
		need = (size_t)(end + 4 - out) + (length != NULL ? strtoul(length + 17, NULL, 10) : 0);
		if (need >= cap)
			return false;
	}
	return true;
}

static void wait_hangup(int fd)
{
	char byte;

	while (recv(fd, &byte, 1, 0) > 0)
		;
}

static void *peer_main(void *arg)
{
	struct peer *p = arg;
	size_t step = 0;

	while (step < p->steps_count) {
		int fd = accept(p->listen_fd, NULL, NULL);
		bool keep = fd >= 0;

		if (fd < 0)
			return NULL;
		p->connections++;
		while (keep && step < p->steps_count &&
			read_request(fd, p->requests[step], sizeof(p->requests[step]))) {
			const struct step *s = &p->steps[step++];

			(void)!send(fd, s->answer, s->len, MSG_NOSIGNAL);
			if (s->hold) {
				if (p->on_hold != NULL)
					p->on_hold(p->on_hold_arg);
				wait_hangup(fd);
			}
			keep = !s->hold && !s->cut;
		}
		(void)close(fd);
	}
	return NULL;
}

static void peer_listen(struct peer *p)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
	socklen_t len = sizeof(address);

	p->listen_fd = socket(AF_INET, SOCK_STREAM, 0);
	assert_true(p->listen_fd >= 0);
	assert_int_equal(bind(p->listen_fd, (struct sockaddr *)&address, len), 0);
	assert_int_equal(getsockname(p->listen_fd, (struct sockaddr *)&address, &len), 0);
	assert_int_equal(listen(p->listen_fd, 8), 0);
	(void)snprintf(p->url, sizeof(p->url), "http://127.0.0.1:%d", ntohs(address.sin_port));
}

static void peer_begin(struct peer *p)
{
	if (p->listen_fd == 0)
		peer_listen(p);
	assert_int_equal(pthread_create(&p->thread, NULL, peer_main, p), 0);
}

static void peer_end(struct peer *p)
{
	(void)shutdown(p->listen_fd, SHUT_RDWR);
	(void)pthread_join(p->thread, NULL);
	(void)close(p->listen_fd);
}

static void add_step(struct peer *p, const char *text)
{
	p->steps[p->steps_count++] = (struct step){.answer = text, .len = strlen(text)};
}

static struct transport *transport_to(const char *url)
{
	struct transport_config c = {.url = url, .token = TOKEN};
	struct transport *t;

	assert_int_equal(transport_new(&c, &t), 0);
	return t;
}

static int get(struct transport *t, uint32_t timeout_ms, size_t max, struct transport_answer *a)
{
	struct transport_request q = {
		.method = "GET", .target = "/poll?x=1", .answer_max_bytes = max, .timeout_ms = timeout_ms};

	return transport_perform(t, &q, a);
}

static void test_whole_answers_on_one_connection(void **state)
{
	struct peer p = {0};
	struct transport_answer a = {0};
	char abc[] = "abc", defgh[] = "defgh";
	struct iovec body[] = {{abc, 3}, {defgh, 0}, {defgh, 5}};
	struct transport_request q = {.method = "PUT",
		.target = "/chunks",
		.accept = "a/b",
		.content_type = "x/y",
		.body = body,
		.body_count = 3,
		.answer_max_bytes = 100,
		.timeout_ms = 5000};
	struct transport *t;

	add_step(&p, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello");
	add_step(&p, "HTTP/1.1 503 Later\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n");
	peer_begin(&p);
	t = transport_to(p.url);
	assert_int_equal(get(t, 5000, 5, &a), 0);
	assert_int_equal(a.status, 200);
	assert_string_equal(a.content_type, "text/plain");
	assert_int_equal(a.body.len, 5);
	assert_memory_equal(a.body.data, "hello", 5);
	assert_int_equal(transport_perform(t, &q, &a), 0);
	assert_int_equal(a.status, 503);
	assert_int_equal(a.retry_after_s, 7);
	assert_int_equal(a.body.len, 0);
	peer_end(&p);
	assert_int_equal(p.connections, 1);
	assert_non_null(strstr(p.requests[0], "GET /poll?x=1 HTTP/1.1\r\n"));
	assert_non_null(strstr(p.requests[0], "Authorization: Bearer " TOKEN "\r\n"));
	assert_non_null(strstr(p.requests[1], "PUT /chunks HTTP/1.1\r\n"));
	assert_non_null(strstr(p.requests[1], "Content-Type: x/y\r\n"));
	assert_non_null(strstr(p.requests[1], "Accept: a/b\r\n"));
	assert_non_null(strstr(p.requests[1], "\r\n\r\nabcdefgh"));
	assert_null(strstr(p.requests[1], "Expect"));
	transport_free(t);
	buf_fini(&a.body);
}

static void test_no_redirect(void **state)
{
	struct peer p = {0};
	struct transport_answer a = {0};
	struct transport *t;

	add_step(&p, "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n");
	peer_begin(&p);
	t = transport_to(p.url);
	assert_int_equal(get(t, 5000, 5, &a), 0);
	assert_int_equal(a.status, 302);
	peer_end(&p);
	transport_free(t);
	buf_fini(&a.body);
}

static void expect_error(const char *answer, bool hold, bool cut, uint32_t timeout_ms, size_t max, int error)
{
	struct peer p = {0};
	struct transport_answer a = {0};
	struct transport *t;

	add_step(&p, answer);
	p.steps[0].hold = hold;
	p.steps[0].cut = cut;
	peer_begin(&p);
	t = transport_to(p.url);
	assert_int_equal(get(t, timeout_ms, max, &a), error);
	assert_int_equal(a.body.len, 0);
	assert_true(strlen(transport_error(t)) > 0);
	assert_null(strstr(transport_error(t), TOKEN));
	transport_free(t);
	peer_end(&p);
	buf_fini(&a.body);
}

static void test_errors(void **state)
{
	/* request taken, nothing comes back */
	expect_error("", false, true, 5000, 100, -EREMOTEIO);
	/* half an answer */
	expect_error("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", false, true, 5000, 100, -EREMOTEIO);
	/* silence */
	expect_error("", true, false, 100, 100, -ETIMEDOUT);
	/* half an answer, then silence */
	expect_error("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", true, false, 200, 100, -ETIMEDOUT);
	/* no HTTP */
	expect_error("220 mail.example ESMTP\r\n", false, true, 5000, 100, -EPROTO);
	/* a byte too long, with a length and without */
	expect_error("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n123456", false, false, 5000, 5, -EMSGSIZE);
	expect_error("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n123456", false, true, 5000, 5, -EMSGSIZE);
}

static void test_nobody_listens(void **state)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
	socklen_t len = sizeof(address);
	struct transport_answer a = {0};
	struct transport *t;
	char url[64];
	int fd = socket(AF_INET, SOCK_STREAM, 0); /* bound and not listening: the port stays ours */

	assert_int_equal(bind(fd, (struct sockaddr *)&address, len), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &len), 0);
	(void)snprintf(url, sizeof(url), "http://127.0.0.1:%d", ntohs(address.sin_port));
	t = transport_to(url);
	assert_int_equal(get(t, 5000, 5, &a), -ENOTCONN);
	transport_free(t);
	(void)close(fd);
}

static void cancel(void *arg)
{
	transport_cancel(arg);
}

static void test_cancel(void **state)
{
	struct peer p = {0};
	struct transport_answer a = {0};
	struct transport *t;
	uint64_t begun_ms = clock_mono_ms();

	add_step(&p, "");
	p.steps[0].hold = true;
	add_step(&p, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
	peer_listen(&p);
	t = transport_to(p.url);
	p.on_hold = cancel;
	p.on_hold_arg = t;
	peer_begin(&p);
	assert_int_equal(get(t, 60000, 5, &a), -ECANCELED);
	assert_true(clock_mono_ms() - begun_ms < 20000);
	/* without a request running, the next one; and only that */
	transport_cancel(t);
	assert_int_equal(get(t, 60000, 5, &a), -ECANCELED);
	assert_int_equal(get(t, 60000, 5, &a), 0);
	peer_end(&p);
	transport_free(t);
	buf_fini(&a.body);
}

static void test_refused_configs(void **state)
{
	struct transport_config bad_token = {.url = "http://127.0.0.1:1", .token = "a\r\nX: y"};
	struct transport_config no_token = {.url = "http://127.0.0.1:1", .token = ""};
	struct transport *t;

	assert_int_equal(transport_new(&bad_token, &t), -EINVAL);
	assert_int_equal(transport_new(&no_token, &t), -EINVAL);
}

/* ---- remote ---- */

static struct remote *remote_to(const char *url)
{
	struct remote_config c = {.url = url, .token = TOKEN};
	struct remote *r;

	assert_int_equal(remote_new(&c, &r), 0);
	return r;
}

static void add_answer(struct peer *p, const char *status, const char *type, const void *body, size_t len)
{
	struct buf out = BUF_INIT;

	buf_printf(&out, "HTTP/1.1 %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n\r\n", status, type, len);
	buf_put(&out, body, len);
	assert_int_equal(out.error, 0);
	p->steps[p->steps_count++] = (struct step){.answer = out.data, .len = out.len};
}

static void free_answers(struct peer *p)
{
	for (size_t i = 0; i < p->steps_count; i++)
		free((void *)(uintptr_t)p->steps[i].answer);
}

static void expect_refusal(const char *status, const char *body, int error, const char *words)
{
	struct peer p = {0};
	struct id client = id_new();
	struct session s;
	struct remote *r;

	add_answer(&p, status, "application/json", body, strlen(body));
	peer_begin(&p);
	r = remote_to(p.url);
	assert_int_equal(remote_session(r, &client, &s), error);
	assert_non_null(strstr(remote_last_error(r), words));
	remote_free(r);
	peer_end(&p);
	free_answers(&p);
}

#define ERROR(code) "{\"error\":\"some words\",\"code\":\"" code "\"}"

static void test_refusals(void **state)
{
	expect_refusal("401 No", "{\"error\":\"Unauthorized\"}", -EACCES, "Unauthorized");
	expect_refusal("403 No", ERROR("forbidden"), -EPERM, "some words");
	expect_refusal("410 Gone", ERROR("epoch"), -ECHRNG, "some words");
	expect_refusal("410 Gone", ERROR("diverged"), -ESTALE, "some words");
	expect_refusal("410 Gone", ERROR("gone"), -EOWNERDEAD, "some words");
	expect_refusal("409 Conflict", ERROR("clone"), -EALREADY, "some words");
	expect_refusal("409 Conflict", ERROR("expected"), -ECHILD, "some words");
	expect_refusal("422 No", ERROR("reused"), -EKEYREJECTED, "some words");
	expect_refusal("429 Later", ERROR("too-many"), -EAGAIN, "some words");
	expect_refusal("500 Oh", ERROR("failed"), -EAGAIN, "some words");
	expect_refusal("502 Bad Gateway", "<html>", -EAGAIN, "502");
	expect_refusal("507 Full", ERROR("no-space"), -ENOSPC, "some words");
	expect_refusal("400 Bad", ERROR("invalid"), -EINVAL, "some words");
	expect_refusal("404 Not Found", "<html>", -EPROTO, "404");
	expect_refusal("410 Gone", "<html>", -EPROTO, "410");
	expect_refusal("302 Found", "", -EPROTO, "302");
	expect_refusal("200 OK", "[1,2,3]", -EPROTO, "sense");
}

static void test_a_web_page_is_no_syncfsd(void **state)
{
	struct peer p = {0};
	struct id client = id_new();
	struct page page;
	struct buf body = BUF_INIT;
	struct remote *r;

	add_answer(&p, "200 OK", "text/html", "<p>Hello", 8);
	peer_begin(&p);
	r = remote_to(p.url);
	assert_int_equal(remote_poll(r, NULL, NULL, 0, &client, &page, &body), -EPROTO);
	assert_non_null(strstr(remote_last_error(r), "text/html"));
	remote_free(r);
	peer_end(&p);
	assert_non_null(strstr(p.requests[0], "GET /poll?cursor=&wait=0&client="));
	assert_non_null(strstr(p.requests[0], "Accept: " BATCH_CONTENT_TYPE "\r\n"));
	free_answers(&p);
}

static void test_poll(void **state)
{
	struct peer p = {0};
	struct id client = id_new();
	struct cursor from = {.epoch = id_new(), .seq = 3, .tag = 5},
		      acked = {.epoch = from.epoch, .seq = 9, .tag = 7};
	struct page sent = {.from = from, .cursor = from, .raw = (const uint8_t *)"rawbytes", .raw_len = 8},
		    page;
	struct buf answer = BUF_INIT, body = BUF_INIT;
	struct remote *r;
	char text[CURSOR_TEXT_BYTES];

	assert_int_equal(page_encode(&sent, true, &answer), 0);
	add_answer(&p, "200 OK", BATCH_CONTENT_TYPE, answer.data, answer.len);
	peer_begin(&p);
	r = remote_to(p.url);
	assert_int_equal(remote_poll(r, &from, &acked, 5, &client, &page, &body), 0);
	assert_int_equal(page.cursor.seq, 3);
	assert_int_equal(page.raw_len, 8);
	assert_memory_equal(page.raw, "rawbytes", 8);
	assert_true(page.raw >= body.data && page.raw + 8 <= body.data + body.len);
	assert_string_equal(remote_last_error(r), "");
	page_fini(&page);
	remote_free(r);
	peer_end(&p);
	assert_non_null(strstr(p.requests[0], cursor_to_text(&from, text)));
	assert_non_null(strstr(p.requests[0], "&acked="));
	assert_non_null(strstr(p.requests[0], cursor_to_text(&acked, text)));
	free_answers(&p);
	buf_fini(&answer);
	buf_fini(&body);
}

static void answer_hashes(struct peer *p, const struct hash *hashes, size_t count)
{
	struct buf json = BUF_INIT;

	assert_int_equal(hashes_encode(hashes, count, &json), 0);
	add_answer(p, "200 OK", "application/json", json.data, json.len);
	buf_fini(&json);
}

static void test_chunks_missing(void **state)
{
	struct peer p = {0};
	struct hash all[3], asked[3], other = hash_bytes("other", 5);
	size_t count = 3;
	struct remote *r;

	for (size_t i = 0; i < 3; i++)
		all[i] = asked[i] = hash_bytes(&i, sizeof(i));
	answer_hashes(&p, &all[1], 2);
	answer_hashes(&p, NULL, 0);
	answer_hashes(&p, &other, 1);
	peer_begin(&p);
	r = remote_to(p.url);
	assert_int_equal(remote_chunks_missing(r, asked, &count), 0);
	assert_int_equal(count, 2);
	assert_memory_equal(asked, &all[1], 2 * sizeof(all[0]));
	assert_int_equal(remote_chunks_missing(r, asked, &count), 0);
	assert_int_equal(count, 0);
	count = 3;
	memcpy(asked, all, sizeof(all));
	assert_int_equal(remote_chunks_missing(r, asked, &count), -EPROTO);
	remote_free(r);
	peer_end(&p);
	free_answers(&p);
}

static void add_chunks(struct peer *p, const struct chunk_ref *refs, size_t count)
{
	struct buf answer = BUF_INIT;

	assert_int_equal(chunks_encode_header(refs, count, &answer), 0);
	for (size_t i = 0; i < count; i++)
		buf_put(&answer, refs[i].data, refs[i].len);
	add_answer(p, "200 OK", BATCH_CONTENT_TYPE, answer.data, answer.len);
	buf_fini(&answer);
}

static void test_get_chunks(void **state)
{
	struct peer p = {0};
	struct hash asked[2] = {hash_bytes("one", 3), hash_bytes("two", 3)};
	struct chunk_ref good = {.hash = asked[1], .len = 3, .data = (const uint8_t *)"two"};
	struct chunk_ref forged = {.hash = asked[1], .len = 3, .data = (const uint8_t *)"owt"};
	struct chunk_ref foreign = {.hash = hash_bytes("x", 1), .len = 1, .data = (const uint8_t *)"x"};
	struct chunk_ref *got;
	struct buf body = BUF_INIT;
	size_t count;
	struct remote *r;

	add_chunks(&p, &good, 1);
	add_chunks(&p, &forged, 1);
	add_chunks(&p, &foreign, 1);
	peer_begin(&p);
	r = remote_to(p.url);
	assert_int_equal(remote_get_chunks(r, asked, 2, &body, &got, &count), 0);
	assert_int_equal(count, 1);
	assert_true(hash_equal(&got[0].hash, &asked[1]));
	assert_memory_equal(got[0].data, "two", 3);
	free(got);
	assert_int_equal(remote_get_chunks(r, asked, 2, &body, &got, &count), -EBADMSG);
	assert_int_equal(remote_get_chunks(r, asked, 2, &body, &got, &count), -EPROTO);
	remote_free(r);
	peer_end(&p);
	free_answers(&p);
	buf_fini(&body);
}

static void test_put_chunks(void **state)
{
	struct peer p = {0};
	struct chunk_ref refs[2] = {
		{.hash = hash_bytes("first", 5), .len = 5, .data = (const uint8_t *)"first"},
		{.hash = hash_bytes("second", 6), .len = 6, .data = (const uint8_t *)"second"},
	};
	struct remote *r;

	add_answer(&p, "204 Stored", "text/plain", "", 0);
	peer_begin(&p);
	r = remote_to(p.url);
	assert_int_equal(remote_put_chunks(r, refs, 2), 0);
	remote_free(r);
	peer_end(&p);
	assert_non_null(strstr(p.requests[0], "PUT /chunks HTTP/1.1\r\n"));
	assert_non_null(strstr(p.requests[0], "Content-Type: " BATCH_CONTENT_TYPE "\r\n"));
	free_answers(&p);
}

static void test_manifest(void **state)
{
	struct peer p = {0};
	struct content content, other;
	struct blob manifest, got;
	struct remote *r;

	assert_int_equal(manifest_of_bytes("some bytes", 10, &content, &manifest), 0);
	assert_int_equal(manifest_of_bytes("none of them", 12, &other, NULL), 0);
	add_answer(&p, "200 OK", "application/octet-stream", manifest.data, manifest.len);
	add_answer(&p, "200 OK", "application/octet-stream", manifest.data, manifest.len);
	peer_begin(&p);
	r = remote_to(p.url);
	assert_int_equal(remote_manifest(r, &content, &got), 0);
	assert_int_equal(got.len, manifest.len);
	assert_memory_equal(got.data, manifest.data, got.len);
	free(got.data);
	assert_int_equal(remote_manifest(r, &other, &got), -EBADMSG);
	remote_free(r);
	peer_end(&p);
	free_answers(&p);
	free(manifest.data);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_whole_answers_on_one_connection),
		cmocka_unit_test(test_no_redirect),
		cmocka_unit_test(test_errors),
		cmocka_unit_test(test_nobody_listens),
		cmocka_unit_test(test_cancel),
		cmocka_unit_test(test_refused_configs),
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_a_web_page_is_no_syncfsd),
		cmocka_unit_test(test_poll),
		cmocka_unit_test(test_chunks_missing),
		cmocka_unit_test(test_get_chunks),
		cmocka_unit_test(test_put_chunks),
		cmocka_unit_test(test_manifest),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
