/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Descriptors that are no files: eventfd, signalfd, poll(2) on them and on inotify, and the files of /proc
 * that syncfs reads. Called by syncfs through -Wl,--wrap, and by sysio*.c. Touches no disk.
 */
#include "sysio_internal.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "sysio.h"
#include "sysio_wraps.h"

#define SIGNALS 64

/* ---- ready or not ---- */

bool special_is_ready(const struct open_file *f, short events, short *ret_revents)
{
	bool in = true, out = true;

	switch (f->kind) {
	case FILE_EVENT:
		in = f->counter > 0;
		out = f->counter < UINT64_MAX - 1;
		break;
	case FILE_SIGNAL:
		in = (f->owner->signals & f->signals) != 0;
		out = false;
		break;
	case FILE_INOTIFY:
		in = watcher_is_ready(f->watcher);
		out = false;
		break;
	default:
		break;
	}
	*ret_revents = (short)(events & ((in ? POLLIN | POLLRDNORM : 0) | (out ? POLLOUT | POLLWRNORM : 0)));
	return *ret_revents != 0;
}

static int look(const struct sysio *s, struct pollfd *fds, nfds_t count)
{
	int ready = 0;

	for (nfds_t i = 0; i < count; i++) {
		const struct open_file *f;

		fds[i].revents = 0;
		if (fds[i].fd < 0)
			continue;
		f = file_of(s, fds[i].fd);
		if (!f || (f->flags & O_PATH)) {
			fds[i].revents = POLLNVAL;
			ready++;
		} else if (special_is_ready(f, fds[i].events, &fds[i].revents)) {
			ready++;
		}
	}
	return ready;
}

int __wrap_poll(struct pollfd *fds, nfds_t count, int timeout_ms)
{
	struct sysio *s = sys_enter("poll");
	uint64_t deadline;
	int ready;

	if (!s)
		return __real_poll(fds, count, timeout_ms);
	deadline = timeout_ms < 0 ? SIM_FOREVER : sim_now_ns() + (uint64_t)timeout_ms * 1000000;
	while ((ready = look(s, fds, count)) == 0 && timeout_ms != 0) {
		if (!waitq_wait(&s->wait, deadline))
			return look(s, fds, count);
	}
	return ready;
}

/* ---- reading and writing ---- */

static bool take_signal(struct open_file *f, struct signalfd_siginfo *ret)
{
	uint64_t ready = f->owner->signals & f->signals;

	for (unsigned i = 1; i < SIGNALS; i++) {
		if (!(ready & UINT64_C(1) << i))
			continue;
		f->owner->signals &= ~(UINT64_C(1) << i);
		*ret = (struct signalfd_siginfo){.ssi_signo = i};
		return true;
	}
	return false;
}

ssize_t special_read(struct sysio *s, int fd, struct open_file *f, void *buf, size_t len)
{
	short revents;

	if (f->kind == FILE_EVENT && len < sizeof(uint64_t))
		return -EINVAL;
	if (f->kind == FILE_SIGNAL && len < sizeof(struct signalfd_siginfo))
		return -EINVAL;
	while (!special_is_ready(f, POLLIN, &revents)) {
		if (f->flags & O_NONBLOCK)
			return -EAGAIN;
		(void)waitq_wait(&s->wait, SIM_FOREVER);
		if (file_of(s, fd) != f)
			return -EBADF;
	}
	if (f->kind == FILE_INOTIFY)
		return watcher_read(f->watcher, buf, len);
	if (f->kind == FILE_SIGNAL) {
		struct signalfd_siginfo info;

		(void)take_signal(f, &info);
		memcpy(buf, &info, sizeof(info));
		return (ssize_t)sizeof(info);
	}
	memcpy(buf, &f->counter, sizeof(f->counter));
	f->counter = 0;
	return (ssize_t)sizeof(f->counter);
}

ssize_t special_write(struct open_file *f, const void *buf, size_t len)
{
	uint64_t add;

	if (f->kind != FILE_EVENT)
		return f->kind == FILE_TEXT ? -EBADF : -EINVAL;
	if (len < sizeof(add))
		return -EINVAL;
	memcpy(&add, buf, sizeof(add));
	if (add == UINT64_MAX)
		return -EINVAL;
	if (add > UINT64_MAX - 1 - f->counter)
		return -EAGAIN;
	f->counter += add;
	if (add)
		waitq_wake_all(&f->owner->wait);
	return (ssize_t)sizeof(add);
}

/* ---- making them ---- */

int __wrap_eventfd(unsigned count, int flags)
{
	struct sysio *s = sys_enter("eventfd");
	struct open_file *f;

	if (!s)
		return __real_eventfd(count, flags);
	f = file_new(s, FILE_EVENT, O_RDWR | (flags & EFD_NONBLOCK ? O_NONBLOCK : 0));
	f->counter = count;
	return file_install(s, f, FIRST_FD);
}

int __wrap_signalfd(int fd, const sigset_t *mask, int flags)
{
	struct sysio *s = sys_enter("signalfd");
	struct open_file *f;

	if (!s)
		return __real_signalfd(fd, mask, flags);
	if (fd != -1)
		return (int)sys_return(-EINVAL);
	f = file_new(s, FILE_SIGNAL, O_RDWR | (flags & SFD_NONBLOCK ? O_NONBLOCK : 0));
	for (int i = 1; i < SIGNALS; i++) {
		if (sigismember(mask, i) == 1)
			f->signals |= UINT64_C(1) << i;
	}
	return file_install(s, f, FIRST_FD);
}

void sysio_raise(struct proc *p, int signo)
{
	struct sysio *s = sys_of(p);

	s->signals |= UINT64_C(1) << signo;
	waitq_wake_all(&s->wait);
}

void sysio_set_event(struct proc *p, int fd, bool ready)
{
	struct sysio *s = sys_of(p);
	struct open_file *f = file_of(s, fd);

	if (!f || f->kind != FILE_EVENT)
		return; /* closed by its process */
	f->counter = ready;
	if (ready)
		waitq_wake_all(&s->wait);
}

/* ---- /proc ---- */

char *special_text(const struct sysio *s, const char *path)
{
	char *text = NULL;
	int n = -1;

	if (strcmp(path, "/proc/sys/kernel/random/boot_id") == 0)
		n = asprintf(&text, "%s\n", s->machine->boot_id);
	else if (strcmp(path, "/proc/self/mountinfo") == 0)
		n = asprintf(&text, "21 1 %u:%u / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n",
			major(s->disk->dev), minor(s->disk->dev));
	return n < 0 ? NULL : text;
}
