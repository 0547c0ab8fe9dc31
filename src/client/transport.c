/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The only door to libcurl: one easy handle in one multi handle, since only curl_multi_poll() can be woken by
 * another thread. Called by remote. Knows nothing of sync, decides nothing about statuses, never retries
 * (libcurl itself does once, when a kept connection turns out to be closed and nothing of an answer came).
 */
#include "transport.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <curl/curl.h>

#include <syncfs/clock.h>

#define CONNECT_TIMEOUT_MS 10000L
#define STALL_S 30L
#define POLL_MS 1000 /* curl_multi_poll() returns earlier for curl's own timers and for a wakeup */
#define BUFFER_BYTES 262144L

struct transport {
	atomic_bool cancelled; /* release/acquire: set by any thread, taken by the owner */
	_Atomic uint64_t
		moved_ms; /* relaxed: when bytes last went either way, a guide for people's patience */

	CURLM *multi; /* set at new, then read-only; curl_multi_wakeup() is the one call for any thread */
	CURL *easy; /* the rest is the owner's thread's */
	char *url, *auth, *namespace_header;
	bool is_local;
	char error[CURL_ERROR_SIZE];

	/* of the request that is running */
	const struct transport_request *request;
	struct transport_answer *answer;
	size_t part, part_at; /* where in request->body */
	int failed; /* -errno found by a callback */
};

static pthread_once_t global_once = PTHREAD_ONCE_INIT;
static CURLcode global_result;

static void global_init(void)
{
	global_result = curl_global_init(CURL_GLOBAL_DEFAULT);
}

static void note_moved(struct transport *t)
{
	atomic_store_explicit(&t->moved_ms, clock_mono_ms(), memory_order_relaxed);
}

static size_t on_read(char *to, size_t size, size_t count, void *arg)
{
	struct transport *t = arg;
	size_t room = size * count, done = 0;

	note_moved(t);
	while (done < room && t->part < t->request->body_count) {
		const struct iovec *v = &t->request->body[t->part];
		size_t n = v->iov_len - t->part_at;

		if (n > room - done)
			n = room - done;
		if (n > 0)
			memcpy(to + done, (const char *)v->iov_base + t->part_at, n);
		done += n;
		t->part_at += n;
		if (t->part_at == v->iov_len) {
			t->part++;
			t->part_at = 0;
		}
	}
	return done;
}

/* libcurl rewinds to send again on a fresh connection. */
static int on_seek(void *arg, curl_off_t offset, int origin)
{
	struct transport *t = arg;

	if (origin != SEEK_SET || offset != 0)
		return CURL_SEEKFUNC_CANTSEEK;
	t->part = t->part_at = 0;
	return CURL_SEEKFUNC_OK;
}

static size_t on_write(char *bytes, size_t size, size_t count, void *arg)
{
	struct transport *t = arg;
	struct buf *body = &t->answer->body;
	size_t n = size * count;

	note_moved(t);
	if (n > t->request->answer_max_bytes - body->len) {
		t->failed = -EMSGSIZE;
		return 0;
	}
	buf_put(body, bytes, n);
	if (body->error != 0) {
		t->failed = body->error;
		return 0;
	}
	return n;
}

/* A loopback server is never asked through a proxy of the environment. */
static int look_at_url(struct transport *t)
{
	CURLU *u = curl_url();
	char *host = NULL;
	int r = -EINVAL;

	if (u == NULL)
		return -ENOMEM;
	if (curl_url_set(u, CURLUPART_URL, t->url, 0) == CURLUE_OK &&
		curl_url_get(u, CURLUPART_HOST, &host, 0) == CURLUE_OK) {
		t->is_local = strcasecmp(host, "localhost") == 0 || strncmp(host, "127.", 4) == 0 ||
			strcmp(host, "[::1]") == 0;
		r = 0;
	}
	curl_free(host);
	curl_url_cleanup(u);
	return r;
}

static bool fits_header(const char *text)
{
	for (const char *p = text; *p; p++) {
		if (*p < 0x20 || *p > 0x7e)
			return false;
	}
	return *text != '\0';
}

static int fill(struct transport *t, const struct transport_config *config)
{
	if (!fits_header(config->token) || (config->namespace != NULL && !fits_header(config->namespace)))
		return -EINVAL;
	t->url = strdup(config->url);
	if (t->url == NULL)
		return -ENOMEM;
	if (asprintf(&t->auth, "Authorization: Bearer %s", config->token) < 0) {
		t->auth = NULL;
		return -ENOMEM;
	}
	if (config->namespace != NULL &&
		asprintf(&t->namespace_header, "Syncfs-Namespace: %s", config->namespace) < 0) {
		t->namespace_header = NULL;
		return -ENOMEM;
	}
	pthread_once(&global_once, global_init);
	if (global_result != CURLE_OK)
		return -ENOMEM;
	t->multi = curl_multi_init();
	t->easy = curl_easy_init();
	if (t->multi == NULL || t->easy == NULL)
		return -ENOMEM;
	(void)curl_multi_setopt(t->multi, CURLMOPT_MAXCONNECTS, 1L);
	return look_at_url(t);
}

int transport_new(const struct transport_config *config, struct transport **ret_transport)
{
	struct transport *t = calloc(1, sizeof(*t));
	int r;

	if (t == NULL)
		return -ENOMEM;
	atomic_init(&t->cancelled, false);
	atomic_init(&t->moved_ms, 0);
	r = fill(t, config);
	if (r < 0) {
		transport_free(t);
		return r;
	}
	*ret_transport = t;
	return 0;
}

void transport_free(struct transport *t)
{
	if (t == NULL)
		return;
	if (t->easy != NULL)
		curl_easy_cleanup(t->easy);
	if (t->multi != NULL)
		(void)curl_multi_cleanup(t->multi);
	if (t->auth != NULL)
		explicit_bzero(t->auth, strlen(t->auth));
	free(t->auth);
	free(t->namespace_header);
	free(t->url);
	free(t);
}

static int add_header(struct curl_slist **list, const char *name, const char *value)
{
	struct curl_slist *more;
	char *line = NULL;

	if (asprintf(&line, "%s%s", name, value) < 0)
		return -ENOMEM;
	more = curl_slist_append(*list, line);
	explicit_bzero(line, strlen(line));
	free(line);
	if (more == NULL)
		return -ENOMEM;
	*list = more;
	return 0;
}

static void free_headers(struct curl_slist *list)
{
	for (struct curl_slist *h = list; h != NULL; h = h->next)
		explicit_bzero(h->data, strlen(h->data)); /* one is the token */
	curl_slist_free_all(list);
}

static int make_headers(const struct transport *t, struct curl_slist **ret_list)
{
	const struct transport_request *q = t->request;
	struct curl_slist *list = NULL;
	int r = add_header(&list, t->auth, "");

	if (r == 0 && t->namespace_header != NULL)
		r = add_header(&list, t->namespace_header, "");
	if (r == 0 && q->accept != NULL)
		r = add_header(&list, "Accept: ", q->accept);
	if (r == 0 && q->content_type != NULL)
		r = add_header(&list, "Content-Type: ", q->content_type);
	if (r == 0) /* no round trip for a 100 Continue before a body */
		r = add_header(&list, "Expect:", "");
	if (r < 0)
		free_headers(list);
	else
		*ret_list = list;
	return r;
}

#define SET(option, value)                                                                                   \
	do {                                                                                                 \
		if (curl_easy_setopt(t->easy, option, value) != CURLE_OK)                                    \
			return -ENOMEM;                                                                      \
	} while (0)

static int set_connection_options(struct transport *t)
{
	curl_easy_reset(t->easy); /* keeps connections */
	SET(CURLOPT_ERRORBUFFER, t->error);
	SET(CURLOPT_NOSIGNAL, 1L);
	SET(CURLOPT_PROTOCOLS_STR, "http,https");
	SET(CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	SET(CURLOPT_FOLLOWLOCATION, 0L);
	SET(CURLOPT_TCP_NODELAY, 1L);
	SET(CURLOPT_TCP_KEEPALIVE, 1L);
	SET(CURLOPT_CONNECTTIMEOUT_MS, CONNECT_TIMEOUT_MS);
	SET(CURLOPT_LOW_SPEED_LIMIT, 1L);
	SET(CURLOPT_BUFFERSIZE, BUFFER_BYTES);
	SET(CURLOPT_UPLOAD_BUFFERSIZE, BUFFER_BYTES);
	SET(CURLOPT_USERAGENT, "syncfs/" SYNCFS_VERSION);
	if (t->is_local)
		SET(CURLOPT_PROXY, "");
	return 0;
}

static int set_body_options(struct transport *t)
{
	const struct transport_request *q = t->request;
	curl_off_t len = 0;

	if (q->content_type == NULL) {
		if (strcmp(q->method, "GET") != 0)
			SET(CURLOPT_CUSTOMREQUEST, q->method);
		return 0;
	}
	for (size_t i = 0; i < q->body_count; i++)
		len += (curl_off_t)q->body[i].iov_len;
	if (strcmp(q->method, "POST") == 0) {
		SET(CURLOPT_POST, 1L);
		SET(CURLOPT_POSTFIELDSIZE_LARGE, len);
	} else {
		SET(CURLOPT_UPLOAD, 1L);
		SET(CURLOPT_INFILESIZE_LARGE, len);
		SET(CURLOPT_CUSTOMREQUEST, q->method);
	}
	SET(CURLOPT_READFUNCTION, on_read);
	SET(CURLOPT_READDATA, t);
	SET(CURLOPT_SEEKFUNCTION, on_seek);
	SET(CURLOPT_SEEKDATA, t);
	return 0;
}

static int set_options(struct transport *t, struct curl_slist *headers)
{
	const struct transport_request *q = t->request;
	char *url = NULL;
	CURLcode set;
	int r = set_connection_options(t);

	if (r == 0)
		r = set_body_options(t);
	if (r < 0)
		return r;
	if (asprintf(&url, "%s%s", t->url, q->target) < 0)
		return -ENOMEM;
	set = curl_easy_setopt(t->easy, CURLOPT_URL, url);
	free(url);
	if (set != CURLE_OK)
		return -ENOMEM;
	SET(CURLOPT_HTTPHEADER, headers);
	SET(CURLOPT_WRITEFUNCTION, on_write);
	SET(CURLOPT_WRITEDATA, t);
	SET(CURLOPT_LOW_SPEED_TIME, STALL_S + (long)q->silence_s);
	SET(CURLOPT_TIMEOUT_MS, (long)q->timeout_ms);
	return 0;
}

/* A time-out while connecting has sent nothing; one later leaves the outcome unknown. */
static int timed_out(const struct transport *t)
{
	curl_off_t sent_at_us = 0;

	(void)curl_easy_getinfo(t->easy, CURLINFO_PRETRANSFER_TIME_T, &sent_at_us);
	return sent_at_us > 0 ? -ETIMEDOUT : -ENOTCONN;
}

static int error_of(const struct transport *t, CURLcode code)
{
	if (t->failed != 0)
		return t->failed;
	switch (code) {
	case CURLE_OK:
		return 0;
	case CURLE_COULDNT_RESOLVE_PROXY:
	case CURLE_COULDNT_RESOLVE_HOST:
	case CURLE_COULDNT_CONNECT:
	case CURLE_INTERFACE_FAILED:
	case CURLE_PROXY:
	case CURLE_SSL_CONNECT_ERROR:
	case CURLE_SSL_ENGINE_NOTFOUND:
	case CURLE_SSL_CERTPROBLEM:
	case CURLE_SSL_CIPHER:
	case CURLE_SSL_CACERT_BADFILE:
	case CURLE_SSL_CRL_BADFILE:
	case CURLE_SSL_ISSUER_ERROR:
	case CURLE_SSL_PINNEDPUBKEYNOTMATCH:
	case CURLE_SSL_INVALIDCERTSTATUS:
	case CURLE_PEER_FAILED_VERIFICATION:
		return -ENOTCONN;
	case CURLE_OPERATION_TIMEDOUT:
		return timed_out(t);
	case CURLE_OUT_OF_MEMORY:
		return -ENOMEM;
	case CURLE_WEIRD_SERVER_REPLY:
	case CURLE_UNSUPPORTED_PROTOCOL: /* an answer without a status line: HTTP/0.9 */
	case CURLE_BAD_CONTENT_ENCODING:
	case CURLE_URL_MALFORMAT:
		return -EPROTO;
	default:
		return -EREMOTEIO;
	}
}

/* Runs the added handle to its end. 0 with *ret_code, or -errno when it was not brought to an end. */
static int drive(struct transport *t, CURLcode *ret_code)
{
	for (;;) {
		int running = 0, left = 0;
		const CURLMsg *message;
		CURLMcode m;

		if (atomic_exchange_explicit(&t->cancelled, false, memory_order_acq_rel))
			return -ECANCELED;
		m = curl_multi_perform(t->multi, &running);
		if (m != CURLM_OK)
			return m == CURLM_OUT_OF_MEMORY ? -ENOMEM : -EREMOTEIO;
		message = curl_multi_info_read(t->multi, &left);
		if (message != NULL && message->msg == CURLMSG_DONE) {
			*ret_code = message->data.result;
			return 0;
		}
		m = curl_multi_poll(t->multi, NULL, 0, POLL_MS, NULL);
		if (m != CURLM_OK)
			return m == CURLM_OUT_OF_MEMORY ? -ENOMEM : -EREMOTEIO;
	}
}

static int fill_answer(const struct transport *t)
{
	struct transport_answer *a = t->answer;
	const char *type = NULL;
	curl_off_t retry_after = 0;
	long status = 0;

	(void)curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &status);
	(void)curl_easy_getinfo(t->easy, CURLINFO_CONTENT_TYPE, &type);
	(void)curl_easy_getinfo(t->easy, CURLINFO_RETRY_AFTER, &retry_after);
	if (status < 100 || status > 999)
		return -EPROTO;
	a->status = (int)status;
	a->retry_after_s = retry_after > 0 && retry_after < INT32_MAX ? (uint32_t)retry_after : 0;
	(void)snprintf(a->content_type, sizeof(a->content_type), "%s", type != NULL ? type : "");
	return 0;
}

static int run(struct transport *t)
{
	struct curl_slist *headers = NULL;
	CURLcode code = CURLE_OK;
	int r = make_headers(t, &headers);

	if (r < 0)
		return r;
	r = set_options(t, headers);
	if (r == 0 && curl_multi_add_handle(t->multi, t->easy) != CURLM_OK)
		r = -ENOMEM;
	if (r == 0) {
		r = drive(t, &code);
		if (r == 0)
			r = error_of(t, code);
		if (r == 0)
			r = fill_answer(t);
		if (r < 0 && r != -ECANCELED && t->error[0] == '\0')
			(void)snprintf(t->error, sizeof(t->error), "%s", curl_easy_strerror(code));
		(void)curl_multi_remove_handle(t->multi, t->easy); /* closes a connection that is in use */
	}
	(void)curl_easy_setopt(t->easy, CURLOPT_HTTPHEADER, NULL);
	free_headers(headers);
	return r;
}

int transport_perform(
	struct transport *t, const struct transport_request *request, struct transport_answer *answer)
{
	int r;

	buf_reset(&answer->body);
	answer->status = 0;
	t->request = request;
	t->answer = answer;
	t->part = t->part_at = 0;
	t->failed = 0;
	t->error[0] = '\0';
	r = run(t);
	if (r == -EMSGSIZE)
		(void)snprintf(t->error, sizeof(t->error), "the answer is longer than %zu bytes",
			request->answer_max_bytes);
	if (r < 0)
		buf_reset(&answer->body);
	t->request = NULL;
	t->answer = NULL;
	return r;
}

void transport_cancel(struct transport *t)
{
	atomic_store_explicit(&t->cancelled, true, memory_order_release);
	(void)curl_multi_wakeup(t->multi);
}

uint64_t transport_moved_ms(const struct transport *t)
{
	return atomic_load_explicit(&t->moved_ms, memory_order_relaxed);
}

const char *transport_error(const struct transport *t)
{
	return t->error;
}
