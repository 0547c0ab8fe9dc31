/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The flag that ends threads: an eventfd that is written once and never read, so every waiter
 * sees it, in poll(2) or not. Called from any thread, stop_set() also from a signal handler.
 */
#include <syncfs/stop.h>

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <syncfs/clock.h>

struct stop {
	atomic_bool set; /* release/acquire: what was written before the stop is seen after it */

	int fd; /* set at new, then read-only */
};

struct stop *stop_new(void)
{
	struct stop *s = malloc(sizeof(*s));

	if (!s)
		return NULL;
	atomic_init(&s->set, false);
	s->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (s->fd < 0) {
		int saved = errno;

		free(s);
		errno = saved;
		return NULL;
	}
	return s;
}

void stop_free(struct stop *s)
{
	if (!s)
		return;
	(void)close(s->fd);
	free(s);
}

void stop_set(struct stop *s)
{
	uint64_t one = 1;
	int saved = errno;

	if (!atomic_exchange_explicit(&s->set, true, memory_order_acq_rel)) {
		/* Cannot fail: the counter is 0 before, and eventfd writes are not interrupted then. */
		ssize_t n = write(s->fd, &one, sizeof(one));

		(void)n;
	}
	errno = saved;
}

bool stop_is_set(const struct stop *s)
{
	return atomic_load_explicit(&s->set, memory_order_acquire);
}

int stop_fd(const struct stop *s)
{
	return s->fd;
}

bool stop_wait(const struct stop *s, uint64_t ms)
{
	uint64_t now = clock_mono_ms(), end = ms > UINT64_MAX - now ? UINT64_MAX : now + ms;

	while (!stop_is_set(s)) {
		struct pollfd p = {.fd = s->fd, .events = POLLIN};
		uint64_t left;

		now = clock_mono_ms();
		if (now >= end)
			return false;
		left = end - now;
		/* A failure (EINTR, ENOMEM) is a short wait; the loop looks again. */
		(void)poll(&p, 1, left > INT_MAX ? INT_MAX : (int)left);
	}
	return true;
}
