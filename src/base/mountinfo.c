/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads the kernel's table of mounts for those of syncfs. Called by the configuration of syncfs, to refuse
 * what would lie over or within another mount, and by syncfsctl, to find the daemon. Never stats a path of
 * the table. Format: proc(5), /proc/pid/mountinfo.
 */
#include <syncfs/mountinfo.h>

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include <syncfs/buf.h>
#include <syncfs/io.h>

#define TABLE_MAX_BYTES (64u << 20) /* 100,000 mounts, the kernel's own limit, with long paths */
#define FIELD_MOUNTPOINT 4
#define FIELDS_MAX 64 /* six, any number of tags, a dash, three; tags are a handful */

struct field {
	const char *at;
	size_t len;
};

static bool field_is(struct field f, const char *text)
{
	return f.len == strlen(text) && memcmp(f.at, text, f.len) == 0;
}

static bool is_octal(char c)
{
	return c >= '0' && c <= '7';
}

/* The kernel writes blank, tab, newline and backslash as \ooo. */
static char *unescape(struct field f)
{
	char *out = malloc(f.len + 1), *to = out;

	if (!out)
		return NULL;
	for (size_t i = 0; i < f.len; i++) {
		const char *c = f.at + i;

		if (*c == '\\' && f.len - i > 3 && c[1] <= '3' && is_octal(c[1]) && is_octal(c[2]) &&
			is_octal(c[3])) {
			*to++ = (char)((c[1] - '0') << 6 | (c[2] - '0') << 3 | (c[3] - '0'));
			i += 3;
		} else {
			*to++ = *c;
		}
	}
	*to = '\0';
	return out;
}

/* user_id=N among comma-separated options. */
static int64_t user_of(struct field options)
{
	static const char key[] = "user_id=";
	const char *end = options.at + options.len;
	int64_t uid = 0;

	for (const char *p = options.at; p < end;) {
		const char *comma = memchr(p, ',', (size_t)(end - p));
		const char *stop = comma ? comma : end;

		if ((size_t)(stop - p) >= sizeof(key) && memcmp(p, key, sizeof(key) - 1) == 0) {
			for (p += sizeof(key) - 1; p < stop; p++) {
				if (*p < '0' || *p > '9' || uid > UINT32_MAX)
					return -1;
				uid = uid * 10 + (*p - '0');
			}
			return uid;
		}
		p = stop + 1;
	}
	return -1;
}

static size_t split(const char *line, size_t len, struct field *fields)
{
	const char *end = line + len;
	size_t count = 0;

	while (line < end && count < FIELDS_MAX) {
		const char *blank = memchr(line, ' ', (size_t)(end - line));
		const char *stop = blank ? blank : end;

		fields[count++] = (struct field){line, (size_t)(stop - line)};
		line = stop + 1;
	}
	return count;
}

static int append(struct mount_list *list, struct field mountpoint, struct field source, int64_t uid)
{
	struct mount_entry e = {.mountpoint = unescape(mountpoint), .source = unescape(source), .uid = uid};
	struct mount_entry *entries = reallocarray(list->entries, list->count + 1, sizeof(*entries));

	if (entries)
		list->entries = entries;
	if (!entries || !e.mountpoint || !e.source) {
		free(e.mountpoint);
		free(e.source);
		return -ENOMEM;
	}
	list->entries[list->count++] = e;
	return 0;
}

static int parse_line(const char *line, size_t len, struct mount_list *list)
{
	struct field fields[FIELDS_MAX];
	size_t count = split(line, len, fields), dash = 6;

	while (dash < count && !field_is(fields[dash], "-"))
		dash++;
	if (dash + 3 >= count || !field_is(fields[dash + 1], MOUNT_TYPE) ||
		fields[FIELD_MOUNTPOINT].len == 0 || fields[FIELD_MOUNTPOINT].at[0] != '/')
		return 0;
	return append(list, fields[FIELD_MOUNTPOINT], fields[dash + 2], user_of(fields[dash + 3]));
}

int mount_list_parse(const char *text, size_t len, struct mount_list *list)
{
	const char *end = text + len;

	while (text < end) {
		const char *newline = memchr(text, '\n', (size_t)(end - text));
		const char *stop = newline ? newline : end;
		int r = parse_line(text, (size_t)(stop - text), list);

		if (r < 0)
			return r;
		text = stop + 1;
	}
	return 0;
}

int mount_list_read(struct mount_list *list)
{
	cleanup_buf struct buf text = BUF_INIT;
	int r = io_read_file(AT_FDCWD, "/proc/self/mountinfo", TABLE_MAX_BYTES, &text);

	if (r < 0)
		return r;
	r = mount_list_parse((const char *)text.data, text.len, list);
	if (r < 0)
		mount_list_fini(list);
	return r;
}

void mount_list_fini(struct mount_list *list)
{
	for (size_t i = 0; i < list->count; i++) {
		free(list->entries[i].mountpoint);
		free(list->entries[i].source);
	}
	free(list->entries);
	*list = (struct mount_list){0};
}

const struct mount_entry *mount_list_find(const struct mount_list *list, const char *path)
{
	const struct mount_entry *best = NULL;
	size_t best_len = 0;

	for (size_t i = 0; i < list->count; i++) {
		const struct mount_entry *e = &list->entries[i];
		size_t len = strlen(e->mountpoint);

		if (path_is_within(path, e->mountpoint) && (!best || len >= best_len)) {
			best = e;
			best_len = len;
		}
	}
	return best;
}

bool path_is_within(const char *path, const char *dir)
{
	size_t len = strlen(dir);

	if (len > 0 && dir[len - 1] == '/')
		len--; /* the root */
	return strncmp(path, dir, len) == 0 && (path[len] == '/' || path[len] == '\0');
}

/* Appends the components of path to out, which has room and no slash at the end. Returns the new end. */
static char *resolve(char *begin, char *end, const char *path)
{
	while (*path) {
		size_t len = strcspn(path, "/");

		if (len == 2 && path[0] == '.' && path[1] == '.') {
			while (end > begin && *--end != '/')
				;
		} else if (len > 0 && !(len == 1 && path[0] == '.')) {
			*end++ = '/';
			memcpy(end, path, len);
			end += len;
		}
		path += len;
		path += *path == '/';
	}
	return end;
}

char *path_absolute(const char *cwd, const char *path)
{
	char *out = malloc(strlen(cwd) + strlen(path) + 4), *end = out;

	if (!out)
		return NULL;
	if (path[0] != '/')
		end = resolve(out, end, cwd);
	end = resolve(out, end, path);
	if (end == out)
		*end++ = '/';
	*end = '\0';
	return out;
}
