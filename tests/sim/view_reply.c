/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How the handlers of the client answer: fuse_reply_*, and what they use to make answers (buffers, entries of
 * directories). Called by client/fs_*.c through -Wl,--wrap. Descriptors in buffers are those of the
 * simulated process.
 */
#include "view_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

const struct fuse_ctx *__wrap_fuse_req_ctx(fuse_req_t req);
const struct fuse_ctx *__wrap_fuse_req_ctx(fuse_req_t req)
{
	return &req->ctx;
}

/* ---- answers ---- */

int __wrap_fuse_reply_err(fuse_req_t req, int err);
int __wrap_fuse_reply_err(fuse_req_t req, int err)
{
	if (err < 0)
		sim_fail("view", "a handler answers with errno %d", err);
	return req_answer(req, -err);
}

void __wrap_fuse_reply_none(fuse_req_t req);
void __wrap_fuse_reply_none(fuse_req_t req)
{
	(void)req_answer(req, 0);
}

int __wrap_fuse_reply_entry(fuse_req_t req, const struct fuse_entry_param *e);
int __wrap_fuse_reply_entry(fuse_req_t req, const struct fuse_entry_param *e)
{
	req->entry = *e;
	return req_answer(req, 0);
}

int __wrap_fuse_reply_create(
	fuse_req_t req, const struct fuse_entry_param *e, const struct fuse_file_info *fi);
int __wrap_fuse_reply_create(
	fuse_req_t req, const struct fuse_entry_param *e, const struct fuse_file_info *fi)
{
	req->entry = *e;
	req->fi = *fi;
	return req_answer(req, 0);
}

int __wrap_fuse_reply_open(fuse_req_t req, const struct fuse_file_info *fi);
int __wrap_fuse_reply_open(fuse_req_t req, const struct fuse_file_info *fi)
{
	req->fi = *fi;
	return req_answer(req, 0);
}

int __wrap_fuse_reply_attr(fuse_req_t req, const struct stat *attr, double attr_timeout);
int __wrap_fuse_reply_attr(fuse_req_t req, const struct stat *attr, double attr_timeout)
{
	req->attr = *attr;
	req->timeout = attr_timeout;
	return req_answer(req, 0);
}

static int answer_bytes(struct fuse_req *q, const void *bytes, size_t len)
{
	free(q->bytes);
	req_set_bytes(q, bytes, len);
	return req_answer(q, 0);
}

int __wrap_fuse_reply_readlink(fuse_req_t req, const char *link);
int __wrap_fuse_reply_readlink(fuse_req_t req, const char *link)
{
	return answer_bytes(req, link, strlen(link));
}

int __wrap_fuse_reply_buf(fuse_req_t req, const char *buf, size_t size);
int __wrap_fuse_reply_buf(fuse_req_t req, const char *buf, size_t size)
{
	return answer_bytes(req, buf, size);
}

int __wrap_fuse_reply_write(fuse_req_t req, size_t count);
int __wrap_fuse_reply_write(fuse_req_t req, size_t count)
{
	req->count = count;
	return req_answer(req, 0);
}

int __wrap_fuse_reply_xattr(fuse_req_t req, size_t count);
int __wrap_fuse_reply_xattr(fuse_req_t req, size_t count)
{
	req->count = count;
	return req_answer(req, 0);
}

int __wrap_fuse_reply_lseek(fuse_req_t req, off_t off);
int __wrap_fuse_reply_lseek(fuse_req_t req, off_t off)
{
	req->at = off;
	return req_answer(req, 0);
}

int __wrap_fuse_reply_statfs(fuse_req_t req, const struct statvfs *stbuf);
int __wrap_fuse_reply_statfs(fuse_req_t req, const struct statvfs *stbuf)
{
	(void)stbuf;
	return req_answer(req, 0);
}

/* ---- buffers ---- */

size_t __wrap_fuse_buf_size(const struct fuse_bufvec *bufv);
size_t __wrap_fuse_buf_size(const struct fuse_bufvec *bufv)
{
	size_t size = 0;

	for (size_t i = 0; i < bufv->count; i++)
		size += bufv->buf[i].size;
	return size;
}

/* Between one piece of memory and one place in a file, which is all that is needed. -errno as libfuse. */
ssize_t __wrap_fuse_buf_copy(
	struct fuse_bufvec *dst, struct fuse_bufvec *src, enum fuse_buf_copy_flags flags);
ssize_t __wrap_fuse_buf_copy(struct fuse_bufvec *dst, struct fuse_bufvec *src, enum fuse_buf_copy_flags flags)
{
	struct fuse_buf *from = &src->buf[0], *to = &dst->buf[0];
	size_t size = from->size < to->size ? from->size : to->size, done = 0;

	(void)flags;
	if (src->count != 1 || dst->count != 1 || (from->flags & FUSE_BUF_IS_FD))
		sim_fail("view", "fuse_buf_copy() in a form that is not simulated");
	if (!(to->flags & FUSE_BUF_IS_FD)) {
		memcpy(to->mem, from->mem, size);
		return (ssize_t)size;
	}
	while (done < size) {
		ssize_t n = pwrite(to->fd, (char *)from->mem + done, size - done, to->pos + (off_t)done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return done ? (ssize_t)done : -errno;
		if (n == 0)
			break;
		done += (size_t)n;
	}
	return (ssize_t)done;
}

int __wrap_fuse_reply_data(fuse_req_t req, struct fuse_bufvec *bufv, enum fuse_buf_copy_flags flags);
int __wrap_fuse_reply_data(fuse_req_t req, struct fuse_bufvec *bufv, enum fuse_buf_copy_flags flags)
{
	struct fuse_buf *b = &bufv->buf[0];
	char *bytes = malloc(b->size + 1);
	size_t done = 0;
	int r = 0;

	(void)flags;
	while (bytes && done < b->size) {
		ssize_t n = pread(b->fd, bytes + done, b->size - done, b->pos + (off_t)done);

		if (n < 0)
			r = -errno;
		if (n <= 0)
			break;
		done += (size_t)n;
	}
	r = r && !done ? req_answer(req, r) : answer_bytes(req, bytes, done);
	free(bytes);
	return r;
}

/* ---- entries of directories ---- */

static size_t add(
	char *buf, size_t size, const char *name, const struct fuse_entry_param *e, bool is_plus, uint64_t at)
{
	size_t len = strlen(name);
	/* As long as the kernel's own: what fits into one answer is then the same. */
	size_t step = ((is_plus ? 152 : 24) + len + 7) & ~(size_t)7;
	size_t packed = (offsetof(struct packed_entry, name) + len + 8) & ~(size_t)7;
	struct packed_entry *p;

	if (step < packed)
		step = packed;
	if (step > size || !buf)
		return step;
	p = (struct packed_entry *)(void *)buf;
	memset(p, 0, step);
	p->param = *e;
	p->at = at;
	p->len = (uint32_t)len;
	p->step = (uint32_t)step;
	p->is_plus = is_plus;
	memcpy(p->name, name, len + 1);
	return step;
}

size_t __wrap_fuse_add_direntry(
	fuse_req_t req, char *buf, size_t bufsize, const char *name, const struct stat *stbuf, off_t off);
size_t __wrap_fuse_add_direntry(
	fuse_req_t req, char *buf, size_t bufsize, const char *name, const struct stat *stbuf, off_t off)
{
	struct fuse_entry_param e = {.ino = 0};

	(void)req;
	if (stbuf)
		e.attr = *stbuf;
	return add(buf, bufsize, name, &e, false, (uint64_t)off);
}

size_t __wrap_fuse_add_direntry_plus(fuse_req_t req, char *buf, size_t bufsize, const char *name,
	const struct fuse_entry_param *e, off_t off);
size_t __wrap_fuse_add_direntry_plus(fuse_req_t req, char *buf, size_t bufsize, const char *name,
	const struct fuse_entry_param *e, off_t off)
{
	static const struct fuse_entry_param none;

	(void)req;
	return add(buf, bufsize, name, e ? e : &none, true, (uint64_t)off);
}
