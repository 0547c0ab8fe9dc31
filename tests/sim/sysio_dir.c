/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading directories of the simulated disk. Called by syncfs through -Wl,--wrap. Names come in the order in
 * which they were made, a cookie of a name stays valid when it is gone; what comes or goes while somebody
 * reads may be seen or not.
 */
#include "sysio_internal.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "sysio_wraps.h"

#define COOKIE_DOT 1
#define COOKIE_DOTDOT 2

struct stream {
	int fd;
	struct open_file *file;
	struct dirent entry;
};

static struct stream *stream_of(DIR *dir)
{
	return (struct stream *)(void *)dir;
}

static DIR *stream_new(struct sysio *s, int fd)
{
	struct open_file *f = file_of(s, fd);
	struct stream *d;
	int r = 0;

	if (!f || (f->flags & O_PATH))
		r = -EBADF;
	else if (f->kind != FILE_NODE || !node_is_dir(f->name->node))
		r = -ENOTDIR;
	d = r < 0 ? NULL : calloc(1, sizeof(*d));
	if (!d) {
		errno = r < 0 ? -r : ENOMEM;
		return NULL;
	}
	d->fd = fd;
	d->file = f;
	return (DIR *)(void *)d;
}

DIR *__wrap_fdopendir(int fd)
{
	struct sysio *s = sys_of(proc_current());

	return s ? stream_new(s, fd) : __real_fdopendir(fd);
}

DIR *__wrap_opendir(const char *path)
{
	struct sysio *s = sys_of(proc_current());
	int fd;

	if (!s)
		return __real_opendir(path);
	fd = __wrap_open64(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? NULL : stream_new(s, fd);
}

static struct dirent *give(
	struct stream *d, uint64_t ino, const char *text, size_t len, mode_t mode, uint64_t cookie)
{
	struct dirent *e = &d->entry;

	*e = (struct dirent){.d_ino = ino,
		.d_off = (off_t)cookie,
		.d_reclen = sizeof(*e),
		.d_type = (unsigned char)IFTODT(mode)};
	memcpy(e->d_name, text, len + 1);
	d->file->pos = cookie;
	return e;
}

struct dirent *__wrap_readdir64(DIR *dir)
{
	struct sysio *s = sys_enter("readdir");
	struct stream *d = stream_of(dir);
	const struct node *n;
	const struct name *m;
	int r;

	if (!s)
		return __real_readdir64(dir);
	n = d->file->name->node;
	if (!n->nlink)
		return NULL;
	if (d->file->pos == 0) { /* one reading of the disk for many names */
		r = disk_fault(s->disk);
		if (r < 0) {
			errno = -r;
			return NULL;
		}
		return give(d, n->ino, ".", 1, S_IFDIR, COOKIE_DOT);
	}
	if (d->file->pos == COOKIE_DOT) {
		const struct name *self = n->self;
		const struct node *up = self && self->dir ? self->dir : n;

		return give(d, up->ino, "..", 2, S_IFDIR, COOKIE_DOTDOT);
	}
	m = names_next(n, d->file->pos);
	return m ? give(d, m->node->ino, m->text, m->len, m->node->a.mode, m->cookie) : NULL;
}

void __wrap_rewinddir(DIR *dir)
{
	if (!sys_of(proc_current()))
		__real_rewinddir(dir);
	else
		stream_of(dir)->file->pos = 0;
}

void __wrap_seekdir(DIR *dir, long at)
{
	if (!sys_of(proc_current()))
		__real_seekdir(dir, at);
	else
		stream_of(dir)->file->pos = (uint64_t)at;
}

int __wrap_dirfd(DIR *dir)
{
	return sys_of(proc_current()) ? stream_of(dir)->fd : __real_dirfd(dir);
}

int __wrap_closedir(DIR *dir)
{
	int fd;

	if (!sys_of(proc_current()))
		return __real_closedir(dir);
	fd = stream_of(dir)->fd;
	free(dir);
	return __wrap_close(fd);
}
