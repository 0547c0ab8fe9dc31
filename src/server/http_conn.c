/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Deadlines of connections, see the header. Called by http.c from the library's thread; the own thread only
 * looks, and shuts down. A descriptor is touched under the lock and before conn_free() returns, so never
 * after it was closed.
 */
#include "http_conn.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <syncfs/clock.h>
#include <syncfs/mutex.h>

#define LINGER_MAX 64 /* refused connections that are drained at once; more are closed hard */
#define LINGER_MS 2000
#define LINGER_TICK_MS 10

enum phase { PHASE_HEADER, PHASE_BODY, PHASE_OURS, PHASE_IDLE };

struct conn {
	struct conns *conns;
	struct conn *next, **prev_link;
	int fd;
	bool is_tls, is_refused;
	enum phase phase;
	uint64_t deadline_ms; /* end of the phase, or of the body's window */
	uint64_t window_bytes;
};

struct lingering {
	int fd;
	uint64_t deadline_ms;
};

struct conns {
	struct mutex lock;
	struct cond wake;
	struct conn *first;
	struct lingering lingering[LINGER_MAX];
	size_t lingering_count;
	bool stopping, is_asleep; /* asleep: without a bound */

	/* set at start, then read-only */
	struct conns_config config;
	uint32_t tick_ms;
	pthread_t thread;
};

static void shut_locked(struct conn *c, unsigned status, const char *reason, const char *body)
{
	char answer[512];
	int len;

	if (c->is_refused)
		return;
	c->is_refused = true;
	if (!c->is_tls && status) {
		len = snprintf(answer, sizeof(answer),
			"HTTP/1.1 %u %s\r\nConnection: close\r\nContent-Type: application/json\r\n\r\n%s",
			status, reason, body);
		if (len > 0 && (size_t)len < sizeof(answer))
			(void)!send(c->fd, answer, (size_t)len, MSG_DONTWAIT | MSG_NOSIGNAL);
	}
	(void)shutdown(c->fd, SHUT_RDWR);
}

static void check_locked(struct conn *c, uint64_t now)
{
	const struct conns_config *config = &c->conns->config;

	if (c->phase == PHASE_OURS || now < c->deadline_ms)
		return;
	switch (c->phase) {
	case PHASE_BODY:
		if (c->window_bytes >= config->body_window_bytes) {
			c->window_bytes = 0;
			c->deadline_ms = now + config->body_window_ms;
			return;
		}
		shut_locked(c, 408, "Request Timeout",
			"{\"error\":\"the body comes too slowly\",\"code\":\"slow\"}");
		return;
	case PHASE_HEADER:
		shut_locked(c, 408, "Request Timeout",
			"{\"error\":\"the header comes too slowly\",\"code\":\"slow\"}");
		return;
	case PHASE_IDLE:
		shut_locked(c, 0, NULL, NULL);
		return;
	case PHASE_OURS:
		return;
	}
}

/* False: done with it. */
static bool drain(struct lingering *l, uint64_t now)
{
	char waste[16384];
	ssize_t n;

	for (int i = 0; i < 256; i++) {
		n = recv(l->fd, waste, sizeof(waste), MSG_DONTWAIT);
		if (n <= 0)
			break;
	}
	return now < l->deadline_ms && (n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR)));
}

static void drain_locked(struct conns *conns, uint64_t now)
{
	for (size_t i = 0; i < conns->lingering_count;) {
		if (drain(&conns->lingering[i], now)) {
			i++;
			continue;
		}
		(void)close(conns->lingering[i].fd);
		conns->lingering[i] = conns->lingering[--conns->lingering_count];
	}
}

static bool is_any_timed_locked(const struct conns *conns)
{
	for (const struct conn *c = conns->first; c; c = c->next)
		if (c->phase != PHASE_OURS && !c->is_refused)
			return true;
	return false;
}

static void *conns_thread(void *arg)
{
	struct conns *conns = arg;

	mutex_lock(&conns->lock);
	while (!conns->stopping) {
		uint64_t now = clock_mono_ms();

		for (struct conn *c = conns->first; c; c = c->next)
			check_locked(c, now);
		drain_locked(conns, now);
		if (conns->lingering_count)
			(void)cond_wait_until(&conns->wake, &conns->lock, now + LINGER_TICK_MS);
		else if (is_any_timed_locked(conns))
			(void)cond_wait_until(&conns->wake, &conns->lock, now + conns->tick_ms);
		else {
			conns->is_asleep = true;
			cond_wait(&conns->wake, &conns->lock);
			conns->is_asleep = false;
		}
	}
	mutex_unlock(&conns->lock);
	return NULL;
}

static uint32_t tick_of(const struct conns_config *config)
{
	uint32_t shortest = config->header_deadline_ms;

	if (config->body_window_ms < shortest)
		shortest = config->body_window_ms;
	shortest /= 8;
	return shortest < 10 ? 10 : shortest > 1000 ? 1000 : shortest;
}

int conns_start(const struct conns_config *config, struct conns **ret_conns)
{
	struct conns *conns = calloc(1, sizeof(*conns));
	int r;

	if (!conns)
		return -ENOMEM;
	mutex_init(&conns->lock, RANK_HTTP, "conns");
	cond_init(&conns->wake);
	conns->config = *config;
	conns->tick_ms = tick_of(config);
	r = -pthread_create(&conns->thread, NULL, conns_thread, conns);
	if (r) {
		cond_fini(&conns->wake);
		mutex_fini(&conns->lock);
		free(conns);
		return r;
	}
	*ret_conns = conns;
	return 0;
}

void conns_stop(struct conns *conns)
{
	if (!conns)
		return;
	mutex_lock(&conns->lock);
	conns->stopping = true;
	cond_signal(&conns->wake);
	mutex_unlock(&conns->lock);
	(void)pthread_join(conns->thread, NULL);
	for (size_t i = 0; i < conns->lingering_count; i++)
		(void)close(conns->lingering[i].fd);
	cond_fini(&conns->wake);
	mutex_fini(&conns->lock);
	free(conns);
}

static void enter_locked(struct conn *c, enum phase phase, uint32_t ms)
{
	if (c->conns->is_asleep && phase != PHASE_OURS)
		cond_signal(&c->conns->wake);
	c->phase = phase;
	c->window_bytes = 0;
	c->deadline_ms = clock_mono_ms() + ms;
}

struct conn *conn_new(struct conns *conns, int fd, bool is_tls)
{
	struct conn *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	c->conns = conns;
	c->fd = fd;
	c->is_tls = is_tls;
	c->phase = PHASE_OURS;
	MUTEX_GUARD(&conns->lock);
	c->next = conns->first;
	c->prev_link = &conns->first;
	if (c->next)
		c->next->prev_link = &c->next;
	conns->first = c;
	enter_locked(c, PHASE_HEADER, conns->config.header_deadline_ms);
	return c;
}

void conn_free(struct conn *c)
{
	if (!c)
		return;
	mutex_lock(&c->conns->lock);
	*c->prev_link = c->next;
	if (c->next)
		c->next->prev_link = c->prev_link;
	mutex_unlock(&c->conns->lock);
	free(c);
}

void conn_request_line(struct conn *c)
{
	if (!c)
		return;
	MUTEX_GUARD(&c->conns->lock);
	if (c->phase == PHASE_IDLE)
		enter_locked(c, PHASE_HEADER, c->conns->config.header_deadline_ms);
}

void conn_body_begins(struct conn *c)
{
	if (!c)
		return;
	MUTEX_GUARD(&c->conns->lock);
	enter_locked(c, PHASE_BODY, c->conns->config.body_window_ms);
}

void conn_body_bytes(struct conn *c, size_t len)
{
	if (!c)
		return;
	MUTEX_GUARD(&c->conns->lock);
	c->window_bytes += len;
}

void conn_is_ours(struct conn *c)
{
	if (!c)
		return;
	MUTEX_GUARD(&c->conns->lock);
	enter_locked(c, PHASE_OURS, 0);
}

void conn_is_idle(struct conn *c)
{
	if (!c)
		return;
	MUTEX_GUARD(&c->conns->lock);
	/* the library ends idle connections by itself; this bounds a request line that trickles in */
	enter_locked(c, PHASE_IDLE, c->conns->config.idle_ms + c->conns->config.header_deadline_ms);
}

void conn_refuse(struct conn *c, unsigned status, const char *reason, const char *body)
{
	if (!c)
		return;
	MUTEX_GUARD(&c->conns->lock);
	shut_locked(c, status, reason, body);
}

void conn_linger(struct conn *c)
{
	int fd;

	if (!c)
		return;
	MUTEX_GUARD(&c->conns->lock);
	if (c->conns->lingering_count == LINGER_MAX)
		return;
	fd = fcntl(c->fd, F_DUPFD_CLOEXEC, 0);
	if (fd < 0)
		return;
	c->conns->lingering[c->conns->lingering_count++] =
		(struct lingering){.fd = fd, .deadline_ms = clock_mono_ms() + LINGER_MS};
	cond_signal(&c->conns->wake);
}

bool conn_peer_is_gone(struct conn *c)
{
	struct pollfd p;

	if (!c)
		return false;
	p = (struct pollfd){.fd = c->fd, .events = POLLRDHUP};
	return poll(&p, 1, 0) > 0 && (p.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0;
}
