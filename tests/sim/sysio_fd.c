/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Descriptors of simulated processes: the table, close, dup, fcntl, flock, lseek and the end of a process.
 * Called by syncfs through -Wl,--wrap, and by sysio*.c. Never looks at names.
 */
#include "sysio_internal.h"

#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "sim.h"
#include "sysio_wraps.h"

/* ---- the table ---- */

static void close_all(void *arg)
{
	struct sysio *s = arg;

	for (int fd = 0; fd < s->cap; fd++) {
		if (s->files[fd])
			file_put(s->files[fd]);
		s->files[fd] = NULL;
	}
}

struct sysio *sys_of(struct proc *p)
{
	struct machine *m = p ? proc_machine(p) : NULL;
	void **slot;
	struct sysio *s;

	if (!m)
		return NULL;
	slot = proc_files(p);
	s = *slot;
	if (s) {
		s->disk = m->disk; /* another one after a restore; what is open stays on the old one */
		return s;
	}
	s = need(calloc(1, sizeof(*s)));
	s->proc = p;
	s->machine = m;
	s->disk = m->disk;
	s->mask = 022;
	*slot = s;
	proc_at_end(p, close_all, s);
	return s;
}

struct sysio *sys_enter(const char *what)
{
	struct sysio *s = sys_of(proc_current());
	int saved = errno;

	if (s)
		sim_point(what);
	errno = saved;
	return s;
}

long sys_return(long r)
{
	if (r >= 0)
		return r;
	errno = (int)-r;
	return -1;
}

struct open_file *file_of(const struct sysio *s, int fd)
{
	return fd < 0 || fd >= s->cap ? NULL : s->files[fd];
}

int file_node(const struct sysio *s, int fd, struct open_file **ret_file, struct node **ret_node)
{
	struct open_file *f = file_of(s, fd);

	if (!f || (f->flags & O_PATH))
		return -EBADF;
	if (f->kind != FILE_NODE)
		return -EINVAL;
	*ret_file = f;
	*ret_node = f->name->node;
	return 0;
}

struct open_file *file_new(struct sysio *s, enum file_kind kind, int flags)
{
	struct open_file *f = need(calloc(1, sizeof(*f)));

	*f = (struct open_file){.kind = kind, .refs = 1, .flags = flags, .owner = s};
	return f;
}

int file_install(struct sysio *s, struct open_file *take_file, int from)
{
	int fd = from < FIRST_FD ? FIRST_FD : from;

	while (fd < s->cap && s->files[fd])
		fd++;
	if (fd >= s->cap) {
		int cap = s->cap ? s->cap : 32;

		while (cap <= fd)
			cap *= 2;
		s->files = need(reallocarray(s->files, (size_t)cap, sizeof(struct open_file *)));
		memset(s->files + s->cap, 0, (size_t)(cap - s->cap) * sizeof(struct open_file *));
		s->cap = cap;
	}
	s->files[fd] = take_file;
	return fd;
}

static void unlock(struct open_file *f)
{
	struct node *n = f->name->node;

	if (n->lock_owner == f)
		n->lock_owner = NULL;
}

static void close_node(struct open_file *f)
{
	struct node *n = f->name->node;

	unlock(f);
	if (!(f->flags & O_PATH)) {
		if (file_writes(f))
			n->writers--;
		watch_name(f->name, file_writes(f) ? IN_CLOSE_WRITE : IN_CLOSE_NOWRITE, 0);
	}
	n->opens--;
	node_maybe_dead(n);
	name_put(f->name);
}

void file_put(struct open_file *f)
{
	if (--f->refs)
		return;
	if (f->kind == FILE_NODE)
		close_node(f);
	watcher_free(f->watcher);
	free(f->text);
	free(f);
}

/* ---- calls ---- */

int __wrap_close(int fd)
{
	struct sysio *s = fd < FIRST_FD ? NULL : sys_enter("close");
	struct open_file *f;

	if (!s)
		return __real_close(fd);
	f = file_of(s, fd);
	if (!f)
		return (int)sys_return(-EBADF);
	s->files[fd] = NULL;
	file_put(f);
	return 0;
}

static int dup_from(struct sysio *s, int fd, int from)
{
	struct open_file *f = file_of(s, fd);

	if (!f)
		return -EBADF;
	f->refs++;
	return file_install(s, f, from);
}

int __wrap_dup(int fd)
{
	struct sysio *s = sys_enter("dup");

	return s ? (int)sys_return(dup_from(s, fd, FIRST_FD)) : __real_dup(fd);
}

/* Enough of leases to find out whether a file is open for writing: nobody breaks one. */
static int set_lease(const struct open_file *f, long kind)
{
	if (f->kind != FILE_NODE || !S_ISREG(f->name->node->a.mode) || (f->flags & O_PATH))
		return f->flags & O_PATH ? -EBADF : -EINVAL;
	if (kind == F_UNLCK)
		return 0;
	if (kind == F_RDLCK)
		return file_writes(f) || f->name->node->writers ? -EAGAIN : 0;
	return f->name->node->opens > 1 ? -EAGAIN : 0;
}

int __wrap_fcntl64(int fd, int command, ...)
{
	struct sysio *s = sys_enter("fcntl");
	struct open_file *f;
	va_list ap;
	long arg;

	va_start(ap, command);
	arg = va_arg(ap, long);
	va_end(ap);
	if (!s)
		return __real_fcntl64(fd, command, arg);
	f = file_of(s, fd);
	if (!f)
		return (int)sys_return(-EBADF);
	switch (command) {
	case F_DUPFD:
	case F_DUPFD_CLOEXEC:
		return (int)sys_return(dup_from(s, fd, (int)arg));
	case F_GETFD:
		return FD_CLOEXEC;
	case F_SETFD:
		return 0;
	case F_GETFL:
		return f->flags;
	case F_SETFL:
		f->flags = (f->flags & ~(O_APPEND | O_NONBLOCK)) | ((int)arg & (O_APPEND | O_NONBLOCK));
		return 0;
	case F_SETLEASE:
		return (int)sys_return(set_lease(f, (int)arg));
	default:
		return (int)sys_return(-EINVAL);
	}
}

/* No reflinks, and nothing else either. */
int __wrap_ioctl(int fd, unsigned long request, ...)
{
	struct sysio *s = fd < FIRST_FD ? NULL : sys_enter("ioctl");
	va_list ap;
	void *arg;

	va_start(ap, request);
	arg = va_arg(ap, void *);
	va_end(ap);
	if (!s)
		return __real_ioctl(fd, request, arg);
	return (int)sys_return(file_of(s, fd) ? -EOPNOTSUPP : -EBADF);
}

/* Exclusive ones only: syncfs uses no others, and never waits for one. */
int __wrap_flock(int fd, int operation)
{
	struct sysio *s = sys_enter("flock");
	struct open_file *f;
	struct node *n;
	int r;

	if (!s)
		return __real_flock(fd, operation);
	r = file_node(s, fd, &f, &n);
	if (r < 0)
		return (int)sys_return(r);
	switch (operation & ~LOCK_NB) {
	case LOCK_UN:
		unlock(f);
		return 0;
	case LOCK_EX:
		break;
	default:
		return (int)sys_return(-EINVAL);
	}
	if (n->lock_owner && n->lock_owner != f)
		return (int)sys_return(operation & LOCK_NB ? -EWOULDBLOCK : -EDEADLK);
	n->lock_owner = f;
	return 0;
}

static off_t seek_data(const struct node *n, off_t at, bool hole)
{
	if (at < 0 || (uint64_t)at >= n->size)
		return -ENXIO;
	return hole ? (off_t)n->size : at;
}

static off_t seek_to(struct open_file *f, off_t at, int whence)
{
	const struct node *n = f->kind == FILE_NODE ? f->name->node : NULL;
	off_t to;

	if (f->kind != FILE_NODE && f->kind != FILE_TEXT)
		return -ESPIPE;
	switch (whence) {
	case SEEK_SET:
		to = at;
		break;
	case SEEK_CUR:
		to = (off_t)f->pos + at;
		break;
	case SEEK_END:
		if (n && node_is_dir(n))
			return -EINVAL;
		to = (off_t)(n ? n->size : f->text_len) + at;
		break;
	case SEEK_DATA:
	case SEEK_HOLE:
		to = n && S_ISREG(n->a.mode) ? seek_data(n, at, whence == SEEK_HOLE) : -EINVAL;
		break;
	default:
		return -EINVAL;
	}
	if (to < 0)
		return whence == SEEK_DATA || whence == SEEK_HOLE ? to : -EINVAL;
	f->pos = (uint64_t)to;
	return to;
}

off_t __wrap_lseek64(int fd, off_t at, int whence)
{
	struct sysio *s = sys_enter("lseek");
	struct open_file *f;

	if (!s)
		return __real_lseek64(fd, at, whence);
	f = file_of(s, fd);
	if (!f || (f->flags & O_PATH))
		return sys_return(-EBADF);
	return sys_return(seek_to(f, at, whence));
}
