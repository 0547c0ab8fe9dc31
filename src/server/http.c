/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The daemon's life: listening, libmicrohttpd's options, draining, another certificate, the end. With
 * http_request.c the only door to libmicrohttpd. The listening socket is ours, so that it outlives a change
 * of the certificate.
 */
#include "http.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <syncfs/clock.h>
#include <syncfs/io.h>
#include <syncfs/limits.h>
#include <syncfs/log.h>

#include "http_internal.h"

#define POOL_BYTES 8192 /* per connection: what 10,000 parked polls cost is this */
#define BACKLOG 1024
#define STOP_WAIT_MS 10000
#define TLS_PRIORITIES "SECURE128:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2"

void http_config_init(struct http_config *config)
{
	*config = (struct http_config){
		.workers = 4,
		.connections = 4096,
		.header_deadline_ms = HEADER_DEADLINE_S * 1000,
		.idle_ms = 60000,
		.body_window_ms = BODY_RATE_GRACE_S * 1000,
		.body_window_bytes = BODY_RATE_GRACE_S * BODY_RATE_MIN_BYTES_S,
	};
}

/* ---- listening ---- */

/* "host:port" or "[host]:port", numeric, to an address list; -EINVAL. */
static int resolve(const char *listen, struct addrinfo **ret_list)
{
	struct addrinfo hints = {
		.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE};
	const char *colon = strrchr(listen, ':');
	char host[64];
	size_t len;

	if (!colon || !colon[1] || strspn(colon + 1, "0123456789") != strlen(colon + 1) ||
		strlen(colon + 1) > 5 || atoi(colon + 1) > 65535)
		return -EINVAL;
	len = (size_t)(colon - listen);
	if (len >= 2 && listen[0] == '[' && listen[len - 1] == ']') {
		listen++;
		len -= 2;
	}
	if (!len || len >= sizeof(host))
		return -EINVAL;
	memcpy(host, listen, len);
	host[len] = '\0';
	return getaddrinfo(host, colon + 1, &hints, ret_list) ? -EINVAL : 0;
}

static int open_listener(const struct addrinfo *a)
{
	cleanup_fd int fd = socket(a->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int one = 1;

	if (fd < 0)
		return -errno;
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) < 0 ||
		bind(fd, a->ai_addr, a->ai_addrlen) < 0 || listen(fd, BACKLOG) < 0)
		return -errno;
	return steal_fd(&fd);
}

/* The text form with the real port. */
static int name_listener(int fd, char *text, size_t size)
{
	struct sockaddr_storage address;
	socklen_t len = sizeof(address);
	char host[64], port[8];

	if (getsockname(fd, (struct sockaddr *)&address, &len) < 0)
		return -errno;
	if (getnameinfo((struct sockaddr *)&address, len, host, sizeof(host), port, sizeof(port),
		    NI_NUMERICHOST | NI_NUMERICSERV))
		return -EINVAL;
	(void)snprintf(text, size, strchr(host, ':') ? "[%s]:%s" : "%s:%s", host, port);
	return 0;
}

static int http_listen(struct http *http)
{
	struct addrinfo *list = NULL;
	int r = resolve(http->config.listen, &list);

	if (r < 0)
		return r;
	http->listen_fd = open_listener(list);
	freeaddrinfo(list);
	if (http->listen_fd < 0)
		return http->listen_fd;
	return name_listener(http->listen_fd, http->address, sizeof(http->address));
}

/* ---- the daemon ---- */

static void log_line(void *cls, const char *fmt, va_list ap) __attribute__((format(printf, 2, 0)));
static void log_line(void *cls, const char *fmt, va_list ap)
{
	char line[512];

	(void)vsnprintf(line, sizeof(line), fmt, ap);
	line[strcspn(line, "\n")] = '\0';
	log_debug("http: %s", line);
}

/* Escapes are decoded by whoever knows what they mean, once. */
static size_t keep_escapes(void *cls, struct MHD_Connection *mhd, char *text)
{
	return strlen(text);
}

static int daemon_start(struct http *http, const char *cert, const char *key)
{
	struct MHD_OptionItem tls[] = {{MHD_OPTION_HTTPS_MEM_CERT, 0, (void *)(uintptr_t)cert},
		{MHD_OPTION_HTTPS_MEM_KEY, 0, (void *)(uintptr_t)key},
		{MHD_OPTION_HTTPS_PRIORITIES, 0, (void *)(uintptr_t)TLS_PRIORITIES},
		{MHD_OPTION_END, 0, NULL}};
	struct MHD_OptionItem plain[] = {{MHD_OPTION_END, 0, NULL}};
	unsigned flags =
		MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ITC | MHD_USE_ERROR_LOG;

	/* the library's own copy: what it does with it when it fails is its affair */
	int fd = fcntl(http->listen_fd, F_DUPFD_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	http->is_tls = cert && key;
	atomic_store_explicit(&http->draining, false, memory_order_relaxed);
	http->daemon = MHD_start_daemon(flags | (http->is_tls ? MHD_USE_TLS : 0), 0, NULL, NULL,
		http_on_access, http, MHD_OPTION_EXTERNAL_LOGGER, log_line, NULL, MHD_OPTION_LISTEN_SOCKET,
		fd, MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)POOL_BYTES, MHD_OPTION_CONNECTION_LIMIT,
		http->config.connections, MHD_OPTION_CONNECTION_TIMEOUT, (http->config.idle_ms + 999) / 1000,
		MHD_OPTION_NOTIFY_COMPLETED, http_on_completed, http, MHD_OPTION_NOTIFY_CONNECTION,
		http_on_connection, http, MHD_OPTION_URI_LOG_CALLBACK, http_on_uri, http,
		MHD_OPTION_UNESCAPE_CALLBACK, keep_escapes, NULL, MHD_OPTION_STRICT_FOR_CLIENT, 1,
		MHD_OPTION_ARRAY, http->is_tls ? tls : plain, MHD_OPTION_END);
	return http->daemon ? 0 : http->is_tls ? -EPROTO : -EIO;
}

/* Ends the daemon, keeps the listening socket. Waits for the workers: a suspended connection cannot be
 * closed. */
static void daemon_stop(struct http *http)
{
	if (!http->daemon)
		return;
	mutex_lock(&http->lock);
	while (http->suspended)
		cond_wait(&http->changed, &http->lock);
	mutex_unlock(&http->lock);
	MHD_stop_daemon(http->daemon);
	http->daemon = NULL;
	if (http->quiesced_fd >= 0)
		(void)close(http->quiesced_fd);
	http->quiesced_fd = -1;
}

static int http_start_parts(struct http *http)
{
	struct conns_config conns = {
		.header_deadline_ms = http->config.header_deadline_ms,
		.idle_ms = http->config.idle_ms,
		.body_window_ms = http->config.body_window_ms,
		.body_window_bytes = http->config.body_window_bytes,
	};
	int r = http_listen(http);

	if (!r)
		r = conns_start(&conns, &http->conns);
	if (!r)
		r = workers_start(http->config.workers, http_run_job, http, &http->workers);
	if (!r)
		r = daemon_start(http, http->config.tls_cert, http->config.tls_key);
	return r;
}

int http_start(const struct http_config *config, struct http **ret_http)
{
	struct http *http = calloc(1, sizeof(*http));
	int r;

	if (!http)
		return -ENOMEM;
	mutex_init(&http->lock, RANK_HTTP, "http");
	cond_init(&http->changed);
	http->config = *config;
	http->listen_fd = http->quiesced_fd = -1;
	*ret_http = http; /* before the first request can ask for it */
	r = http_start_parts(http);
	http->config.listen = http->config.tls_cert = http->config.tls_key =
		NULL; /* were borrowed for the call */
	if (r < 0) {
		*ret_http = NULL;
		http_stop(http);
		return r;
	}
	return 0;
}

void http_drain(struct http *http, uint32_t wait_ms)
{
	uint64_t deadline_ms = clock_mono_ms() + wait_ms;

	atomic_store_explicit(&http->draining, true, memory_order_relaxed);
	/* its thread may be using the descriptor still: closed after the daemon has ended */
	if (http->daemon && http->quiesced_fd < 0)
		http->quiesced_fd = MHD_quiesce_daemon(http->daemon);
	MUTEX_GUARD(&http->lock);
	while (http->open)
		if (!cond_wait_until(&http->changed, &http->lock, deadline_ms))
			break;
}

int http_resume(struct http *http, const char *tls_cert, const char *tls_key)
{
	daemon_stop(http);
	return daemon_start(http, tls_cert, tls_key);
}

void http_stop(struct http *http)
{
	if (!http)
		return;
	if (http->daemon)
		http_drain(http, STOP_WAIT_MS);
	daemon_stop(http);
	workers_stop(http->workers);
	conns_stop(http->conns);
	if (http->listen_fd >= 0)
		(void)close(http->listen_fd);
	cond_fini(&http->changed);
	mutex_fini(&http->lock);
	free(http);
}

const char *http_address(const struct http *http)
{
	return http->address;
}

void http_counters(const struct http *http, struct http_counters *ret_counters)
{
	*ret_counters = (struct http_counters){
		.bytes_in = atomic_load_explicit(&http->bytes_in, memory_order_relaxed),
		.bytes_out = atomic_load_explicit(&http->bytes_out, memory_order_relaxed),
		.connections = atomic_load_explicit(&http->connections, memory_order_relaxed),
	};
}
