/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Attributes by descriptor: modes, times, extended attributes, also of objects whose mode forbids their owner
 * to open them (then through /proc/self/fd of an O_PATH descriptor). Called by stage.c, place.c and whoever
 * reads xattrs. Never takes a name apart from attr_open(), so nothing here can hit another object than the
 * one that was opened.
 */
#include "attr.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include <syncfs/buf.h>
#include <syncfs/clock.h>
#include <syncfs/io.h>
#include <syncfs/limits.h>
#include <syncfs/log.h>

#define OWN_PREFIX "user.syncfs." /* computed by the mount, never stored */
#define LIST_FIRST_BYTES 1024
#define LIST_MAX_BYTES 65536 /* XATTR_LIST_MAX and XATTR_SIZE_MAX of linux/limits.h */
#define VALUE_MAX_BYTES 65536

struct proc_path {
	char text[32];
};

static struct proc_path proc_path(int fd)
{
	struct proc_path p;

	(void)snprintf(p.text, sizeof(p.text), "/proc/self/fd/%d", fd);
	return p;
}

/* f*xattr and fchmod answer EBADF for an O_PATH descriptor; its magic link leads to the very object. */

static ssize_t list_xattr(int fd, char *list, size_t size)
{
	ssize_t n = flistxattr(fd, list, size);

	if (n < 0 && errno == EBADF)
		n = listxattr(proc_path(fd).text, list, size);
	return n < 0 ? -errno : n;
}

static ssize_t get_xattr(int fd, const char *name, void *value, size_t size)
{
	ssize_t n = fgetxattr(fd, name, value, size);

	if (n < 0 && errno == EBADF)
		n = getxattr(proc_path(fd).text, name, value, size);
	return n < 0 ? -errno : n;
}

static int set_xattr(int fd, const char *name, const void *value, size_t size)
{
	int r = fsetxattr(fd, name, value, size, 0);

	if (r < 0 && errno == EBADF)
		r = setxattr(proc_path(fd).text, name, value, size, 0);
	return r < 0 ? -errno : 0;
}

static int remove_xattr(int fd, const char *name)
{
	int r = fremovexattr(fd, name);

	if (r < 0 && errno == EBADF)
		r = removexattr(proc_path(fd).text, name);
	return r < 0 && errno != ENODATA ? -errno : 0;
}

int attr_chmod(int fd, uint32_t mode)
{
	int r = fchmod(fd, mode & 07777);

	if (r < 0 && errno == EBADF)
		r = chmod(proc_path(fd).text, mode & 07777);
	return r < 0 ? -errno : 0;
}

static int set_mtime(int fd, int64_t mtime_ns)
{
	struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, timespec_from_ns(mtime_ns)};

	if (utimensat(fd, "", times, AT_EMPTY_PATH) == 0)
		return 0;
	/* Before Linux 5.8 AT_EMPTY_PATH is EINVAL here. */
	if (errno == EINVAL && utimensat(AT_FDCWD, proc_path(fd).text, times, 0) == 0)
		return 0;
	return -errno;
}

int attr_open(int dirfd, const char *name, const struct stat_id *is)
{
	int flags = O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC;
	cleanup_fd int fd = -1;
	struct stat_id now;
	int r;

	if (S_ISREG(is->mode) || S_ISDIR(is->mode))
		fd = openat(dirfd, name, flags);
	if (fd < 0)
		fd = openat(dirfd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	r = tree_stat(fd, "", &now);
	if (r < 0)
		return r;
	return stat_id_same_object(is, &now) ? steal_fd(&fd) : -ESTALE;
}

/* ---- reading ---- */

/* Names, each with its NUL; *ret_list is heap. The length or -errno; nothing where there are no xattrs. */
static ssize_t read_names(int fd, char **ret_list)
{
	char first[LIST_FIRST_BYTES];
	cleanup_free char *list = NULL;
	ssize_t n = list_xattr(fd, first, sizeof(first));

	if (n == -EOPNOTSUPP || n == 0)
		return 0;
	if (n == -ERANGE) {
		list = malloc(LIST_MAX_BYTES);
		if (!list)
			return -ENOMEM;
		n = list_xattr(fd, list, LIST_MAX_BYTES);
		if (n == -EOPNOTSUPP)
			return 0;
	} else if (n > 0) {
		list = malloc((size_t)n);
		if (!list)
			return -ENOMEM;
		memcpy(list, first, (size_t)n);
	}
	if (n < 0)
		return n;
	*ret_list = steal_ptr(&list);
	return n;
}

static bool has_prefix(const char *name, const char *prefix)
{
	return strncmp(name, prefix, strlen(prefix)) == 0;
}

static bool is_synced_name(const char *name)
{
	return has_prefix(name, "user.") && !has_prefix(name, OWN_PREFIX);
}

static int compare_names(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The names that are synced, ascending; pointers into list. */
static int sort_names(const char *list, size_t len, const char ***ret_names, size_t *ret_count)
{
	cleanup_free const char **names = NULL;
	size_t count = 0, n = 0;

	for (size_t at = 0; at < len; at += strlen(list + at) + 1)
		count += is_synced_name(list + at);
	*ret_count = count;
	if (!count)
		return 0;
	names = calloc(count, sizeof(*names));
	if (!names)
		return -ENOMEM;
	for (size_t at = 0; at < len; at += strlen(list + at) + 1) {
		if (is_synced_name(list + at))
			names[n++] = list + at;
	}
	qsort(names, count, sizeof(*names), compare_names);
	*ret_names = steal_ptr(&names);
	return 0;
}

static int pack_values(int fd, const char *const *names, size_t count, struct buf *out)
{
	cleanup_free uint8_t *value = malloc(VALUE_MAX_BYTES);

	if (!value)
		return -ENOMEM;
	for (size_t i = 0; i < count; i++) {
		ssize_t n = get_xattr(fd, names[i], value, VALUE_MAX_BYTES);

		if (n == -ENODATA) /* removed since it was listed */
			continue;
		if (n < 0)
			return (int)n;
		buf_put_u16(out, (uint16_t)strlen(names[i]));
		buf_put_str(out, names[i]);
		buf_put_blob(out, value, (size_t)n);
		if (out->len > XATTRS_MAX_BYTES)
			return -EMSGSIZE;
	}
	return out->error;
}

int tree_read_xattr(int fd, struct blob *ret_xattr)
{
	cleanup_buf struct buf out = BUF_INIT;
	cleanup_free char *list = NULL;
	cleanup_free const char **names = NULL;
	size_t count = 0;
	ssize_t n = read_names(fd, &list);
	int r;

	if (n < 0)
		return (int)n;
	r = n ? sort_names(list, (size_t)n, &names, &count) : 0;
	if (r == 0 && count)
		r = pack_values(fd, names, count, &out);
	if (r < 0)
		return r;
	*ret_xattr = (struct blob){.data = out.data, .len = out.len};
	out = BUF_INIT;
	return 0;
}

/* ---- writing ---- */

struct pair {
	char name[XATTR_NAME_MAX_BYTES + 1];
	const void *value;
	size_t len;
};

/* 1 and a pair, 0 at the end, -EBADMSG. */
static int next_pair(struct reader *r, struct pair *ret_pair)
{
	size_t len;
	const void *name;

	if (reader_at_end(r))
		return 0;
	len = reader_u16(r);
	name = reader_take(r, len);
	if (!name || len > XATTR_NAME_MAX_BYTES || memchr(name, '\0', len))
		return -EBADMSG;
	memcpy(ret_pair->name, name, len);
	ret_pair->name[len] = '\0';
	ret_pair->value = reader_blob(r, &ret_pair->len);
	return r->error ? -EBADMSG : 1;
}

/* It comes from the network: canonical, within bounds, and never a name outside user. or one of the computed
 * ones. */
static int check_packed(const struct blob *xattr)
{
	struct reader r = READER_INIT(xattr->data, xattr->len);
	char last[XATTR_NAME_MAX_BYTES + 1] = "";
	struct pair pair;
	int n;

	if (xattr->len > XATTRS_MAX_BYTES)
		return -EMSGSIZE;
	while ((n = next_pair(&r, &pair)) > 0) {
		if (!is_synced_name(pair.name) || !pair.name[strlen("user.")] || strcmp(last, pair.name) >= 0)
			return -EBADMSG;
		memcpy(last, pair.name, sizeof(last));
	}
	return n;
}

static int merge_xattr(int fd, const struct blob *have, const struct blob *want)
{
	struct reader hr = READER_INIT(have->data, have->len), wr = READER_INIT(want->data, want->len);
	struct pair h, w;
	bool has_h = next_pair(&hr, &h) > 0, has_w = next_pair(&wr, &w) > 0;

	while (has_h || has_w) {
		int order = !has_h ? 1 : !has_w ? -1 : strcmp(h.name, w.name);
		int r = 0;

		if (order < 0)
			r = remove_xattr(fd, h.name);
		else if (order > 0 || h.len != w.len || (w.len && memcmp(h.value, w.value, w.len) != 0))
			r = set_xattr(fd, w.name, w.value, w.len);
		if (r < 0)
			return r;
		if (order <= 0)
			has_h = next_pair(&hr, &h) > 0;
		if (order >= 0)
			has_w = next_pair(&wr, &w) > 0;
	}
	return 0;
}

static int write_xattr(int fd, const struct blob *want)
{
	struct blob have = {0};
	int r = tree_read_xattr(fd, &have);

	if (r < 0)
		return r;
	if (have.len != want->len || (want->len && memcmp(have.data, want->data, want->len) != 0))
		r = merge_xattr(fd, &have, want);
	free(have.data);
	if (r == -EOPNOTSUPP) {
		log_debug("extended attributes: this file system has none, left out");
		r = 0;
	}
	return r;
}

int attr_apply(int fd, uint32_t mode, int64_t mtime_ns, const struct blob *xattr)
{
	struct stat st;
	uint32_t now, want;
	int r;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (S_ISLNK(st.st_mode))
		return set_mtime(fd, mtime_ns);
	r = xattr ? check_packed(xattr) : 0;
	if (r < 0)
		return r;
	now = st.st_mode & 07777;
	want = (now & 07000) | (mode & 0777);
	r = xattr ? write_xattr(fd, xattr) : 0;
	if (r == -EACCES && (now & 0600) != 0600) {
		/* Reading and writing user.* asks for the bits even of an owner with an open descriptor. */
		int restore = now;

		r = attr_chmod(fd, now | 0600);
		if (r < 0)
			return r;
		now |= 0600;
		r = write_xattr(fd, xattr);
		if (r < 0)
			(void)attr_chmod(fd, (uint32_t)restore);
	}
	if (r == 0 && now != want)
		r = attr_chmod(fd, want);
	return r < 0 ? r : set_mtime(fd, mtime_ns);
}

int attr_apply_new(int fd, uint32_t mode, int64_t mtime_ns, const struct blob *xattr)
{
	const struct blob none = {0};
	int r = xattr ? check_packed(xattr) : 0;

	if (r == 0 && xattr && xattr->len)
		r = merge_xattr(fd, &none, xattr);
	if (r == -EOPNOTSUPP) {
		log_debug("extended attributes: this file system has none, left out");
		r = 0;
	}
	if (r == 0 && (mode & 0777) != 0600)
		r = attr_chmod(fd, mode & 0777);
	return r < 0 ? r : set_mtime(fd, mtime_ns);
}

static bool is_local_name(const char *name)
{
	/* IMA and EVM sign the content that is being replaced. */
	if (strcmp(name, "security.ima") == 0 || strcmp(name, "security.evm") == 0)
		return false;
	return has_prefix(name, "system.posix_acl_") || has_prefix(name, "security.") ||
		has_prefix(name, "trusted.");
}

int attr_copy_local(int from_fd, int to_fd)
{
	cleanup_free char *list = NULL;
	cleanup_free uint8_t *value = NULL;
	ssize_t len = read_names(from_fd, &list);

	if (len < 0)
		return (int)len;
	for (size_t at = 0; at < (size_t)len; at += strlen(list + at) + 1) {
		ssize_t n;

		if (!is_local_name(list + at))
			continue;
		if (!value)
			value = malloc(VALUE_MAX_BYTES);
		if (!value)
			return -ENOMEM;
		n = get_xattr(from_fd, list + at, value, VALUE_MAX_BYTES);
		if (n >= 0)
			n = set_xattr(to_fd, list + at, value, (size_t)n);
		if (n < 0)
			log_debug("carry over of %s: %s, left out", list + at, err_str((int)n));
	}
	return 0;
}
