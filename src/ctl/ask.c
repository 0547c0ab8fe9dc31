/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The asking end of the control socket. Called by main, once per request. Never touches the mount.
 */
#include "ask.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <syncfs/clock.h>
#include <syncfs/control_path.h>
#include <syncfs/io.h>
#include <syncfs/log.h>

#define ANSWER_TIMEOUT_MS 10000

static int connect_in(const char *dir, const char *mountpoint, int *ret_fd)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	char name[CONTROL_NAME_BYTES];
	cleanup_fd int dir_fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	cleanup_fd int fd = -1;

	if (dir_fd < 0)
		return -errno;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	/* Through the directory's descriptor, since sun_path has room for 107 bytes only. */
	(void)snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d/%s", dir_fd,
		control_name(mountpoint, name));
	if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0)
		return -errno;
	*ret_fd = steal_fd(&fd);
	return 0;
}

static int connect_to(const struct mount_entry *mount, int *ret_fd, struct buf *why)
{
	int r = -ENOENT;

	for (unsigned which = 0;; which++) {
		cleanup_free char *dir = control_dir(which, mount->uid);
		int one;

		if (dir == NULL)
			break;
		one = connect_in(dir, mount->mountpoint, ret_fd);
		if (one == 0)
			return 0;
		if (r == -ENOENT)
			r = one;
	}
	buf_printf(why, "cannot talk to the syncfs of %s: %s", mount->mountpoint,
		r == -ENOENT		     ? "it has no control socket; is it running, and is it yours?"
			: r == -ECONNREFUSED ? "it is not running any more; unmount with fusermount3 -u"
			: r == -EACCES	     ? "it belongs to another user"
					     : err_str(r));
	return r;
}

static int send_request(int fd, const struct control_request *request)
{
	cleanup_buf struct buf out = BUF_INIT;
	size_t at = 0;
	int r = control_request_encode(request, &out);

	while (r == 0 && at < out.len) {
		ssize_t n = send(fd, out.data + at, out.len - at, MSG_NOSIGNAL);

		if (n >= 0)
			at += (size_t)n;
		else if (errno != EINTR)
			r = -errno;
	}
	return r;
}

/* Milliseconds for poll(): what is left, at most a day at a time; 0 when it is over. */
static int left_ms(uint64_t deadline_ms)
{
	uint64_t now = clock_mono_ms();

	if (now >= deadline_ms)
		return 0;
	return deadline_ms - now > 86400000 ? 86400000 : (int)(deadline_ms - now);
}

static int receive_line(int fd, uint64_t deadline_ms, struct buf *line)
{
	for (;;) {
		struct pollfd p = {.fd = fd, .events = POLLIN};
		char bytes[16384];
		ssize_t n;
		int ms = left_ms(deadline_ms), ready;

		if (ms == 0)
			return -ETIMEDOUT;
		ready = poll(&p, 1, ms);
		if (ready == 0 || (ready < 0 && errno == EINTR))
			continue;
		n = recv(fd, bytes, sizeof(bytes), 0);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return line->len == 0 ? -ECONNRESET : -EPROTO;
		buf_put(line, bytes, (size_t)n);
		if (line->error != 0)
			return line->error;
		if (bytes[n - 1] == '\n')
			return 0;
		if (line->len > CONTROL_REPLY_MAX_BYTES)
			return -EMSGSIZE;
	}
}

int ask(const struct mount_entry *mount, const struct control_request *request,
	struct control_reply *ret_reply, struct buf *ret_line, struct buf *why)
{
	uint64_t deadline_ms = clock_mono_ms() + ANSWER_TIMEOUT_MS;
	cleanup_fd int fd = -1;
	int r = connect_to(mount, &fd, why);

	if (r < 0)
		return r;
	if (request->command == CONTROL_WAIT &&
		(request->timeout_ms < 0 ||
			__builtin_add_overflow(deadline_ms, (uint64_t)request->timeout_ms, &deadline_ms)))
		deadline_ms = UINT64_MAX;
	r = send_request(fd, request);
	if (r == 0)
		r = receive_line(fd, deadline_ms, ret_line);
	if (r == 0)
		r = control_reply_decode(ret_line->data, ret_line->len, ret_reply, NULL);
	if (r < 0)
		buf_printf(why, "the syncfs of %s does not answer: %s", mount->mountpoint,
			r == -ECONNRESET       ? "it has closed the socket (it is ending, or too many ask it)"
				: r == -EPROTO ? "it is of another version"
					       : err_str(r));
	return r;
}
