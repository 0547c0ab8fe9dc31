/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Request bodies, see the header. Called by http.c for each piece that arrives and by handlers for the whole.
 * A spilled file has no name, so nothing is left behind whatever happens to the process.
 */
#include "http_body.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>

#include <syncfs/io.h>

void body_init(struct body *b, int dirfd)
{
	*b = (struct body){.fd = -1, .dirfd = dirfd};
}

void body_fini(struct body *b)
{
	if (b->map)
		(void)munmap(b->map, b->len);
	if (b->fd >= 0)
		(void)close(b->fd);
	buf_fini(&b->memory);
	body_init(b, -1);
}

static int body_spill(struct body *b)
{
	cleanup_fd int fd = -1;
	int r;

	if (b->dirfd < 0)
		return -EMSGSIZE;
	fd = openat(b->dirfd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	r = io_write(fd, b->memory.data, b->memory.len);
	if (r < 0)
		return r;
	buf_fini(&b->memory);
	b->fd = steal_fd(&fd);
	return 0;
}

int body_append(struct body *b, const void *bytes, size_t len)
{
	int r;

	if (b->fd < 0 && b->memory.len + len > BODY_MEMORY_BYTES) {
		r = body_spill(b);
		if (r < 0)
			return r;
	}
	if (b->fd >= 0) {
		r = io_write(b->fd, bytes, len);
		if (r < 0)
			return r;
	} else {
		buf_put(&b->memory, bytes, len);
		if (b->memory.error)
			return b->memory.error;
	}
	b->len += len;
	return 0;
}

int body_bytes(struct body *b, const void **ret_bytes, size_t *ret_len)
{
	if (b->fd >= 0 && !b->map) {
		void *map = mmap(NULL, b->len, PROT_READ, MAP_PRIVATE, b->fd, 0);

		if (map == MAP_FAILED)
			return -errno;
		b->map = map;
	}
	*ret_bytes = b->fd >= 0 ? b->map : b->memory.len ? b->memory.data : (const void *)"";
	*ret_len = b->len;
	return 0;
}
