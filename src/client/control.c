/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The control socket of a mount: a thread that accepts, and one short-lived thread per connection. Started
 * and stopped by client. Knows nothing of sync: hands decoded requests to its ops and encodes what they
 * reply.
 */
#include "control.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <syncfs/clock.h>
#include <syncfs/control_path.h>
#include <syncfs/io.h>
#include <syncfs/mountinfo.h>
#include <syncfs/stop.h>

#define CALLS_MAX 16
#define TALK_TIMEOUT_MS 5000 /* for a request to come and for a reply to be taken */

enum call_state { CALL_FREE, CALL_RUNNING, CALL_DONE };

/* The accepting thread takes free slots and joins done ones; a call's thread only says that it is done. */
struct control_call {
	atomic_int state; /* enum call_state; release/acquire: what the thread did is seen by who joins it */
	struct control *control;
	pthread_t thread;
	int fd;
};

struct control {
	struct control_call calls[CALLS_MAX]; /* the accepting thread's; after it the stopping one's */

	char *mountpoint; /* set at start, then read-only */
	const struct control_ops *ops;
	void *arg;
	struct stop *stop;
	pthread_t thread;
	int dir_fd, listen_fd;
	ino_t ino; /* of the socket's name, 0: none yet */
	char name[CONTROL_NAME_BYTES];
};

bool control_call_is_over(const struct control_call *call)
{
	struct pollfd p = {.fd = call->fd, .events = POLLRDHUP};

	return stop_is_set(call->control->stop) || (poll(&p, 1, 0) > 0 && p.revents != 0);
}

/* Readable or writable before the deadline; -ECANCELED when stopping. */
static int await(const struct control_call *call, short events, uint64_t deadline_ms)
{
	struct pollfd p[2] = {
		{.fd = call->fd, .events = events}, {.fd = stop_fd(call->control->stop), .events = POLLIN}};
	uint64_t now = clock_mono_ms();
	int n;

	if (now >= deadline_ms)
		return -ETIMEDOUT;
	n = poll(p, 2, (int)(deadline_ms - now));
	if (n < 0)
		return errno == EINTR ? 0 : -errno;
	if (p[1].revents != 0)
		return -ECANCELED;
	return n == 0 ? -ETIMEDOUT : 0;
}

/* Bytes up to and with the first newline; what follows is not ours to read. */
static int read_line(const struct control_call *call, struct buf *line)
{
	uint64_t deadline_ms = clock_mono_ms() + TALK_TIMEOUT_MS;

	for (;;) {
		char bytes[4096];
		ssize_t n;
		int r = await(call, POLLIN, deadline_ms);

		if (r < 0)
			return r;
		n = recv(call->fd, bytes, sizeof(bytes), MSG_DONTWAIT);
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return -EPROTO;
		buf_put(line, bytes, (size_t)n);
		if (line->error != 0)
			return line->error;
		if (memchr(bytes, '\n', (size_t)n) != NULL)
			return bytes[n - 1] == '\n' ? 0 : -EPROTO;
		if (line->len > CONTROL_REQUEST_MAX_BYTES)
			return -EMSGSIZE;
	}
}

static void write_all(const struct control_call *call, const struct buf *out)
{
	uint64_t deadline_ms = clock_mono_ms() + TALK_TIMEOUT_MS;

	for (size_t at = 0; at < out->len;) {
		ssize_t n;

		if (await(call, POLLOUT, deadline_ms) < 0)
			return;
		n = send(call->fd, out->data + at, out->len - at, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n > 0)
			at += (size_t)n;
		else if (n < 0 && errno != EAGAIN && errno != EINTR)
			return; /* the asker is gone */
	}
}

static void refuse(struct control_reply *reply, int code, const char *sentence)
{
	control_reply_fini(reply);
	reply->ok = false;
	reply->code = code;
	reply->error = strdup(sentence);
}

static void dispatch(
	const struct control_call *call, const struct control_request *q, struct control_reply *reply)
{
	const struct control *c = call->control;
	int r;

	if (q->path != NULL && !path_is_within(q->path, c->mountpoint)) {
		refuse(reply, -EINVAL, "the path is not in this mount");
		return;
	}
	switch (q->command) {
	case CONTROL_STATUS:
		c->ops->status(c->arg, q->path, reply);
		break;
	case CONTROL_WAIT:
		r = c->ops->wait(c->arg, q->path, q->token,
			q->timeout_ms < 0 ? UINT64_MAX : (uint64_t)q->timeout_ms, call, reply);
		if (r < 0) {
			reply->ok = false;
			reply->code = r;
		}
		break;
	case CONTROL_TOKEN:
		c->ops->token(c->arg, q->path, reply);
		break;
	case CONTROL_PAUSE:
	case CONTROL_RESUME:
		c->ops->pause(c->arg, q->command == CONTROL_PAUSE);
		break;
	case CONTROL_RECONNECT:
		c->ops->reconnect(c->arg);
		break;
	case CONTROL_APPROVE:
	case CONTROL_RESTORE:
		c->ops->answer_held(c->arg, q->command == CONTROL_APPROVE, reply);
		break;
	case CONTROL_CONFLICTS:
		c->ops->conflicts(c->arg, q->path, reply);
		break;
	}
}

static void answer(const struct control_call *call)
{
	cleanup_buf struct buf line = BUF_INIT, out = BUF_INIT, why = BUF_INIT;
	struct control_request request = {0};
	struct control_reply reply = {.ok = true};
	int r = read_line(call, &line);

	if (r == 0)
		r = control_request_decode(line.data, line.len, &request, &why);
	if (r == -EPROTO || r == -EMSGSIZE)
		refuse(&reply, r, "the request makes no sense to this version of syncfs");
	else if (r < 0)
		return;
	else
		dispatch(call, &request, &reply);
	r = control_reply_encode(&reply, &out);
	if (r < 0) {
		buf_reset(&out);
		refuse(&reply, r, "the reply is too long");
		r = control_reply_encode(&reply, &out);
	}
	if (r == 0)
		write_all(call, &out);
	control_reply_fini(&reply);
	control_request_fini(&request);
}

static void *call_main(void *arg)
{
	struct control_call *call = arg;

	answer(call);
	(void)shutdown(call->fd, SHUT_RDWR); /* the asker sees the end now; the slot is reaped later */
	atomic_store_explicit(&call->state, CALL_DONE, memory_order_release);
	return NULL;
}

static void end_call(struct control_call *call)
{
	(void)pthread_join(call->thread, NULL);
	(void)close(call->fd);
	atomic_store_explicit(&call->state, CALL_FREE, memory_order_relaxed);
}

static bool is_allowed(int fd)
{
	struct ucred peer;
	socklen_t len = sizeof(peer);

	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0 && len == sizeof(peer) &&
		(peer.uid == geteuid() || peer.uid == 0);
}

/* A free slot; those of calls that have ended are freed on the way. NULL: all are in use. */
static struct control_call *find_slot(struct control *c)
{
	struct control_call *slot = NULL;

	for (size_t i = 0; i < CALLS_MAX; i++) {
		struct control_call *call = &c->calls[i];

		if (atomic_load_explicit(&call->state, memory_order_acquire) == CALL_DONE)
			end_call(call);
		if (atomic_load_explicit(&call->state, memory_order_relaxed) == CALL_FREE)
			slot = call;
	}
	return slot;
}

/* Over the bound the asker sees the socket closed. */
static void take_call(struct control *c, int take_fd)
{
	cleanup_fd int fd = take_fd;
	struct control_call *call = find_slot(c);

	if (call == NULL || !is_allowed(fd))
		return;
	call->control = c;
	call->fd = fd;
	atomic_store_explicit(&call->state, CALL_RUNNING, memory_order_relaxed);
	if (pthread_create(&call->thread, NULL, call_main, call) != 0)
		atomic_store_explicit(&call->state, CALL_FREE, memory_order_relaxed);
	else
		(void)steal_fd(&fd);
}

static void *accept_main(void *arg)
{
	struct control *c = arg;

	while (!stop_is_set(c->stop)) {
		struct pollfd p[2] = {
			{.fd = c->listen_fd, .events = POLLIN}, {.fd = stop_fd(c->stop), .events = POLLIN}};
		int fd;

		if (poll(p, 2, -1) < 0 || p[0].revents == 0)
			continue;
		fd = accept4(c->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (fd >= 0)
			take_call(c, fd);
		else if (errno != EINTR && errno != EAGAIN && errno != ECONNABORTED)
			(void)stop_wait(c->stop, 100); /* no descriptors left: not a busy loop */
	}
	return NULL;
}

static int open_dir(int *ret_fd)
{
	cleanup_free char *dir = control_dir(0, (int64_t)geteuid());
	cleanup_fd int fd = -1;
	struct stat st;
	int r;

	if (dir == NULL)
		return -errno;
	if (mkdir(dir, 0700) < 0 && errno != EEXIST)
		return -errno;
	fd = open(dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0) {
		r = -errno;
		return r;
	}
	if (st.st_uid != geteuid() || (st.st_mode & 0022) != 0)
		return -EPERM;
	*ret_fd = steal_fd(&fd);
	return 0;
}

/* The name may by now be the socket of a daemon that was started after the unmount. */
static void remove_socket(const struct control *c)
{
	struct stat st;

	if (c->ino != 0 && fstatat(c->dir_fd, c->name, &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_ino == c->ino)
		(void)unlinkat(c->dir_fd, c->name, 0);
}

/* Through the directory's descriptor, since sun_path has room for 107 bytes only. */
static int open_socket(struct control *c)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct stat st;
	int r = open_dir(&c->dir_fd);

	if (r < 0)
		return r;
	c->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (c->listen_fd < 0)
		return -errno;
	(void)snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d/%s", c->dir_fd, c->name);
	(void)unlinkat(c->dir_fd, c->name, 0); /* of a daemon that was killed: a mountpoint has one daemon */
	if (bind(c->listen_fd, (const struct sockaddr *)&address, sizeof(address)) < 0 ||
		fstatat(c->dir_fd, c->name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	c->ino = st.st_ino;
	if (fchmodat(c->dir_fd, c->name, 0600, 0) < 0 || listen(c->listen_fd, CALLS_MAX) < 0)
		return -errno;
	return 0;
}

static void free_control(struct control *c)
{
	remove_socket(c);
	if (c->listen_fd >= 0)
		(void)close(c->listen_fd);
	if (c->dir_fd >= 0)
		(void)close(c->dir_fd);
	stop_free(c->stop);
	free(c->mountpoint);
	free(c);
}

int control_start(
	const char *mountpoint, const struct control_ops *ops, void *arg, struct control **ret_control)
{
	struct control *c = calloc(1, sizeof(*c));
	int r;

	if (c == NULL)
		return -ENOMEM;
	c->ops = ops;
	c->arg = arg;
	c->dir_fd = c->listen_fd = -1;
	(void)control_name(mountpoint, c->name);
	c->mountpoint = strdup(mountpoint);
	c->stop = stop_new();
	r = c->mountpoint == NULL || c->stop == NULL ? -ENOMEM : open_socket(c);
	if (r == 0)
		r = -pthread_create(&c->thread, NULL, accept_main, c);
	if (r < 0) {
		free_control(c);
		return r;
	}
	*ret_control = c;
	return 0;
}

void control_stop(struct control *c)
{
	if (c == NULL)
		return;
	stop_set(c->stop);
	(void)pthread_join(c->thread, NULL);
	for (size_t i = 0; i < CALLS_MAX; i++) {
		if (atomic_load_explicit(&c->calls[i].state, memory_order_relaxed) != CALL_FREE)
			end_call(&c->calls[i]);
	}
	free_control(c);
}
