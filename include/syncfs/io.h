/* SPDX-License-Identifier: Apache-2.0 */
/* Whole reads and writes, descriptors that close themselves, small files. EINTR is retried. */
#ifndef SYNCFS_IO_H
#define SYNCFS_IO_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/types.h>
#include <unistd.h>

#include <syncfs/buf.h>

/* Close *fd unless negative, keep errno, set -1. */
void cleanup_fd_(int *fd);
#define cleanup_fd __attribute__((cleanup(cleanup_fd_)))

static inline int steal_fd(int *fd)
{
	int r = *fd;

	*fd = -1;
	return r;
}

static inline void cleanup_free_(void *p)
{
	free(*(void **)p);
}
#define cleanup_free __attribute__((cleanup(cleanup_free_)))

static inline void *steal_ptr_(void *pp)
{
	void *r = *(void **)pp;

	*(void **)pp = NULL;
	return r;
}
#define steal_ptr(pp) ((__typeof__(*(pp)))steal_ptr_(pp))

/* Bytes read (short only at end of file) or -errno. */
ssize_t io_read(int fd, void *bytes, size_t len);
ssize_t io_pread(int fd, void *bytes, size_t len, off_t at);
/* All of it: 0 or -errno (-ENOSPC for a short write). */
int io_write(int fd, const void *bytes, size_t len);
int io_pwrite(int fd, const void *bytes, size_t len, off_t at);

/* A whole small file appended to out; -EMSGSIZE when over max. dirfd/path as in openat(2). */
int io_read_file(int dirfd, const char *path, size_t max, struct buf *out);
/* Writes path atomically and durably: temp file beside it, fsync, rename, fsync of the directory. */
int io_write_file(int dirfd, const char *path, const void *bytes, size_t len, mode_t mode);
/* mkdir -p with mode for each new directory; 0 also when it exists. */
int io_make_dirs(const char *path, mode_t mode);

#endif
