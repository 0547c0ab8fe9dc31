/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bytes of files on the simulated disk: reading, writing, sizes, room, durability, maps. Called by syncfs
 * through -Wl,--wrap. What a process writes to descriptor 2 goes to the trace.
 */
#include "sysio_internal.h"

#include <linux/falloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include "sim.h"
#include "sysio_wraps.h"

#define COPY_BYTES 65536u

/* ---- reading ---- */

static ssize_t read_node(struct sysio *s, struct open_file *f, void *buf, size_t len, uint64_t at)
{
	struct node *n = f->name->node;
	int r;

	if (!file_reads(f))
		return -EBADF;
	if (node_is_dir(n))
		return -EISDIR;
	r = disk_fault(s->disk);
	if (r < 0)
		return r;
	return S_ISREG(n->a.mode) ? (ssize_t)node_read(n, buf, len, at) : 0;
}

static ssize_t read_text(const struct open_file *f, void *buf, size_t len, uint64_t at)
{
	if (at >= f->text_len)
		return 0;
	if (len > f->text_len - at)
		len = f->text_len - at;
	memcpy(buf, f->text + at, len);
	return (ssize_t)len;
}

ssize_t __wrap_read(int fd, void *buf, size_t len)
{
	struct sysio *s = fd < FIRST_FD ? NULL : sys_enter("read");
	struct open_file *f;
	ssize_t n;

	if (!s)
		return __real_read(fd, buf, len);
	f = file_of(s, fd);
	if (!f)
		return sys_return(-EBADF);
	switch (f->kind) {
	case FILE_NODE:
		n = read_node(s, f, buf, len, f->pos);
		break;
	case FILE_TEXT:
		n = read_text(f, buf, len, f->pos);
		break;
	case FILE_NOTHING:
		return 0;
	default:
		return sys_return(special_read(s, fd, f, buf, len));
	}
	if (n > 0)
		f->pos += (uint64_t)n;
	return sys_return(n);
}

ssize_t __wrap_pread64(int fd, void *buf, size_t len, off_t at)
{
	struct sysio *s = fd < FIRST_FD ? NULL : sys_enter("pread");
	struct open_file *f;

	if (!s)
		return __real_pread64(fd, buf, len, at);
	f = file_of(s, fd);
	if (!f)
		return sys_return(-EBADF);
	if (at < 0)
		return sys_return(-EINVAL);
	if (f->kind == FILE_NODE)
		return sys_return(read_node(s, f, buf, len, (uint64_t)at));
	return sys_return(f->kind == FILE_TEXT ? read_text(f, buf, len, (uint64_t)at) : -ESPIPE);
}

/* ---- writing ---- */

static ssize_t write_node(struct sysio *s, struct open_file *f, const void *buf, size_t len, uint64_t at)
{
	struct node *n = f->name->node;
	ssize_t done;
	int r;

	if (!file_writes(f))
		return -EBADF;
	r = disk_fault(s->disk);
	if (r < 0)
		return r;
	done = node_write(n, buf, len, at);
	if (done >= 0 && (size_t)done < len)
		sim_count("fault: short write");
	if (done == -ENOSPC)
		sim_count("fault: no room for a write");
	if (done > 0)
		watch_name(f->name, IN_MODIFY, 0);
	if (done > 0 && (f->flags & (O_SYNC | O_DSYNC)))
		node_synced(n);
	return done;
}

static ssize_t write_at_pos(struct sysio *s, struct open_file *f, const void *buf, size_t len)
{
	uint64_t at = f->flags & O_APPEND ? f->name->node->size : f->pos;
	ssize_t n = write_node(s, f, buf, len, at);

	if (n > 0)
		f->pos = at + (uint64_t)n;
	return n;
}

static void trace_lines(struct sysio *s, const char *text, size_t len)
{
	while (len) {
		const char *end = memchr(text, '\n', len);
		size_t n = end ? (size_t)(end - text) : len;

		sim_trace("%s: %.*s", proc_name(s->proc), (int)n, text);
		n += end != NULL;
		text += n;
		len -= n;
	}
}

ssize_t __wrap_write(int fd, const void *buf, size_t len)
{
	struct sysio *s = sys_of(proc_current());
	struct open_file *f;

	if (!s || fd == STDIN_FILENO || fd == STDOUT_FILENO)
		return __real_write(fd, buf, len);
	if (fd == STDERR_FILENO) {
		trace_lines(s, buf, len);
		return (ssize_t)len;
	}
	(void)sys_enter("write");
	f = file_of(s, fd);
	if (!f)
		return sys_return(-EBADF);
	if (f->kind == FILE_NODE)
		return sys_return(write_at_pos(s, f, buf, len));
	return sys_return(f->kind == FILE_NOTHING ? (ssize_t)len : special_write(f, buf, len));
}

/* O_APPEND wins over the position, as on Linux. */
static ssize_t pwrite_to(struct sysio *s, int fd, const void *buf, size_t len, off_t at, bool append)
{
	struct open_file *f;
	struct node *n;
	int r = file_node(s, fd, &f, &n);

	if (r < 0)
		return r == -EINVAL ? -ESPIPE : r;
	if (at < 0)
		return -EINVAL;
	return write_node(s, f, buf, len, append || (f->flags & O_APPEND) ? n->size : (uint64_t)at);
}

ssize_t __wrap_pwrite64(int fd, const void *buf, size_t len, off_t at)
{
	struct sysio *s = fd < FIRST_FD ? NULL : sys_enter("pwrite");

	return s ? sys_return(pwrite_to(s, fd, buf, len, at, false)) : __real_pwrite64(fd, buf, len, at);
}

ssize_t __wrap_pwritev64v2(int fd, const struct iovec *iov, int count, off_t at, int flags)
{
	struct sysio *s = fd < FIRST_FD ? NULL : sys_enter("pwritev2");
	ssize_t total = 0;

	if (!s)
		return __real_pwritev64v2(fd, iov, count, at, flags);
	for (int i = 0; i < count; i++) {
		ssize_t n = pwrite_to(s, fd, iov[i].iov_base, iov[i].iov_len, at + total, flags & RWF_APPEND);

		if (n < 0)
			return total ? total : sys_return(n);
		total += n;
		if ((size_t)n < iov[i].iov_len)
			break;
	}
	return total;
}

static ssize_t copy_range(struct sysio *s, struct open_file *in, uint64_t *in_at, struct open_file *out,
	uint64_t *out_at, size_t len)
{
	static uint8_t block[COPY_BYTES]; /* nobody else runs meanwhile */
	ssize_t total = 0;

	while (len) {
		size_t want = len < sizeof(block) ? len : sizeof(block);
		ssize_t n = (ssize_t)node_read(in->name->node, block, want, *in_at);

		if (n > 0)
			n = write_node(s, out, block, (size_t)n, *out_at);
		if (n <= 0)
			return total ? total : n;
		*in_at += (uint64_t)n;
		*out_at += (uint64_t)n;
		total += n;
		len -= (size_t)n;
	}
	return total;
}

ssize_t __wrap_copy_file_range(int in, off_t *in_at, int out, off_t *out_at, size_t len, unsigned flags)
{
	struct sysio *s = sys_enter("copy_file_range");
	struct open_file *from, *to;
	struct node *from_node, *to_node;
	uint64_t *in_pos, *out_pos;
	int r;

	if (!s)
		return __real_copy_file_range(in, in_at, out, out_at, len, flags);
	r = file_node(s, in, &from, &from_node);
	if (r == 0)
		r = file_node(s, out, &to, &to_node);
	if (r == 0 && (!file_reads(from) || !file_writes(to) || (to->flags & O_APPEND)))
		r = -EBADF;
	if (r == 0 && (node_is_dir(from_node) || node_is_dir(to_node)))
		r = -EISDIR;
	if (r == 0 && (!S_ISREG(from_node->a.mode) || !S_ISREG(to_node->a.mode) || flags))
		r = -EINVAL;
	if (r < 0)
		return sys_return(r);
	in_pos = in_at ? (uint64_t *)in_at : &from->pos;
	out_pos = out_at ? (uint64_t *)out_at : &to->pos;
	if (*in_pos < from_node->size && len > from_node->size - *in_pos)
		len = from_node->size - *in_pos;
	if (from_node == to_node && *in_pos < *out_pos + len && *out_pos < *in_pos + len)
		return sys_return(-EINVAL);
	return sys_return(copy_range(s, from, in_pos, to, out_pos, len));
}

/* ---- sizes and room ---- */

/* Of a regular file open for writing. */
static int writable(struct sysio *s, int fd, struct open_file **ret_file, struct node **ret_node)
{
	int r = file_node(s, fd, ret_file, ret_node);

	if (r == 0 && !file_writes(*ret_file))
		r = -EBADF;
	if (r == 0 && !S_ISREG((*ret_node)->a.mode))
		r = -EINVAL;
	return r == 0 ? disk_fault(s->disk) : r;
}

int __wrap_ftruncate64(int fd, off_t size)
{
	struct sysio *s = sys_enter("ftruncate");
	struct open_file *f;
	struct node *n;
	int r;

	if (!s)
		return __real_ftruncate64(fd, size);
	r = writable(s, fd, &f, &n);
	if (r == -EBADF && file_of(s, fd) && !(file_of(s, fd)->flags & O_PATH))
		r = -EINVAL; /* not open for writing */
	if (r == 0)
		r = size < 0 ? -EINVAL : node_truncate(n, (uint64_t)size);
	if (r == 0)
		watch_name(f->name, IN_MODIFY, 0);
	return (int)sys_return(r);
}

static int allocate(struct sysio *s, int fd, int mode, off_t at, off_t len)
{
	struct open_file *f;
	struct node *n;
	int r = writable(s, fd, &f, &n);

	if (r < 0)
		return r;
	if (at < 0 || len <= 0)
		return -EINVAL;
	switch (mode) {
	case 0:
	case FALLOC_FL_KEEP_SIZE:
		r = node_allocate(n, (uint64_t)at, (uint64_t)len, mode != 0);
		break;
	case FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE:
		node_punch(n, (uint64_t)at, (uint64_t)len);
		break;
	default:
		return -EOPNOTSUPP;
	}
	if (r == 0)
		watch_name(f->name, IN_MODIFY, 0);
	else if (r == -ENOSPC)
		sim_count("fault: no room to allocate");
	return r;
}

int __wrap_fallocate64(int fd, int mode, off_t at, off_t len)
{
	struct sysio *s = sys_enter("fallocate");

	return s ? (int)sys_return(allocate(s, fd, mode, at, len)) : __real_fallocate64(fd, mode, at, len);
}

int __wrap_posix_fallocate64(int fd, off_t at, off_t len)
{
	struct sysio *s = sys_enter("posix_fallocate");

	return s ? -allocate(s, fd, 0, at, len) : __real_posix_fallocate64(fd, at, len);
}

int __wrap_posix_fadvise64(int fd, off_t at, off_t len, int advice)
{
	return sys_of(proc_current()) ? 0 : __real_posix_fadvise64(fd, at, len, advice);
}

/* ---- durability ---- */

static int sync_fd(struct sysio *s, int fd, bool names)
{
	struct open_file *f;
	struct node *n;
	int r = file_node(s, fd, &f, &n);

	if (r < 0)
		return r;
	r = disk_fault(s->disk);
	if (r < 0) {
		node_sync_failed(n);
		return r;
	}
	node_synced(n);
	if (names && (node_is_dir(n) || !sim_options.weak_disk))
		disk_log_durable(s->disk);
	else if (names)
		disk_log_durable_node(n);
	return 0;
}

int __wrap_fsync(int fd)
{
	struct sysio *s = sys_enter("fsync");

	return s ? (int)sys_return(sync_fd(s, fd, true)) : __real_fsync(fd);
}

int __wrap_fdatasync(int fd)
{
	struct sysio *s = sys_enter("fdatasync");

	return s ? (int)sys_return(sync_fd(s, fd, false)) : __real_fdatasync(fd);
}

int __wrap_syncfs(int fd)
{
	struct sysio *s = sys_enter("syncfs");
	int r;

	if (!s)
		return __real_syncfs(fd);
	if (!file_of(s, fd))
		return (int)sys_return(-EBADF);
	r = disk_fault(s->disk);
	for (struct node *n = s->disk->first; r < 0 && n; n = n->next)
		node_sync_failed(n);
	if (r < 0)
		return (int)sys_return(r);
	disk_sync(s->disk);
	return 0;
}

/* ---- maps: private ones for reading, so a copy will do ---- */

struct map {
	struct map *next;
	void *where;
};
static struct map *maps;

void *__wrap_mmap64(void *where, size_t len, int protection, int flags, int fd, off_t at)
{
	struct sysio *s = fd < FIRST_FD ? NULL : sys_enter("mmap");
	struct open_file *f;
	struct node *n;
	struct map *map;
	int r;

	if (!s)
		return __real_mmap64(where, len, protection, flags, fd, at);
	r = file_node(s, fd, &f, &n);
	if (r == 0 && !len)
		r = -EINVAL;
	if (r == 0 && (protection & PROT_WRITE))
		r = -EACCES;
	map = r < 0 ? NULL : malloc(sizeof(*map));
	if (!map) {
		errno = r < 0 ? -r : ENOMEM;
		return MAP_FAILED;
	}
	*map = (struct map){.next = maps, .where = calloc(1, len)};
	if (!map->where)
		abort();
	(void)node_read(n, map->where, len, (uint64_t)at);
	maps = map;
	return map->where;
}

int __wrap_munmap(void *where, size_t len)
{
	for (struct map **at = &maps; *at; at = &(*at)->next) {
		struct map *map = *at;

		if (map->where == where) {
			*at = map->next;
			free(map->where);
			free(map);
			return 0;
		}
	}
	return __real_munmap(where, len);
}
