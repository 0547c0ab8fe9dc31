/* SPDX-License-Identifier: Apache-2.0 */
/* A raw HTTP client for tests of the server's outside: sends bytes, reads bytes, with a deadline and no
 * opinion. */
#ifndef SYNCFS_TEST_HTTP_FIXTURE_H
#define SYNCFS_TEST_HTTP_FIXTURE_H

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <syncfs/clock.h>

#define RAW_DEADLINE_MS 5000

/* address is "127.0.0.1:PORT". */
static inline int raw_connect(const char *address)
{
	struct sockaddr_in a = {
		.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(strchr(address, ':') + 1))};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_true(fd >= 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	return fd;
}

static inline void raw_send(int fd, const char *text)
{
	(void)!send(fd, text, strlen(text), MSG_NOSIGNAL);
}

/*
 * Reads until the peer closes, or, with `until`, until that text has come. What came, NUL-terminated, in
 * answer[size]; fails the test after RAW_DEADLINE_MS. Returns whether the peer closed.
 */
static inline bool raw_read(int fd, const char *until, char *answer, size_t size)
{
	uint64_t deadline = clock_mono_ms() + RAW_DEADLINE_MS;
	struct pollfd p = {.fd = fd, .events = POLLIN};
	size_t len = 0;

	answer[0] = '\0';
	for (;;) {
		uint64_t now = clock_mono_ms();
		ssize_t n;

		assert_true(now < deadline);
		if (poll(&p, 1, (int)(deadline - now)) <= 0)
			continue;
		n = recv(fd, answer + len, size - 1 - len, 0);
		if (n <= 0)
			return true;
		len += (size_t)n;
		answer[len] = '\0';
		if (until && strstr(answer, until))
			return false;
		assert_true(len < size - 1);
	}
}

/* One exchange on a connection of its own, read to its end: the status, or 0 when there was no answer. */
static inline int raw_ask(const char *address, const char *request, char *answer, size_t size)
{
	int fd = raw_connect(address), status = 0;

	raw_send(fd, request);
	(void)raw_read(fd, NULL, answer, size);
	(void)close(fd);
	(void)sscanf(answer, "HTTP/1.1 %d", &status);
	return status;
}

/* How often `what` is in text. */
static inline int raw_count(const char *text, const char *what)
{
	int count = 0;

	for (; (text = strstr(text, what)); text += strlen(what))
		count++;
	return count;
}

#endif
