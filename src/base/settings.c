/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Settings as syncfs.conf(5) describes them. Called by the config modules of the programs at
 * start and on SIGHUP; not locked. Knows no key: the caller asks for what it knows and then for
 * what nobody asked for. Wipes values before freeing them, since one may be a token.
 */
#include <syncfs/settings.h>

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <syncfs/io.h>

#define FILE_MAX_BYTES 65536 /* a settings file is one page of text; more is a wrong file */
#define FILE_MAX_KEYS 1000

struct setting {
	char *key, *value, *origin; /* heap */
	enum settings_source source;
	bool used;
};

/* Keys are unique; in the order first set. */
struct settings {
	struct setting *list;
	size_t count, cap;
};

/* A part of the text being read; not terminated. */
struct span {
	const char *at;
	size_t len;
};

static void wipe_free(char *s)
{
	if (s)
		explicit_bzero(s, strlen(s));
	free(s);
}

struct settings *settings_new(void)
{
	return calloc(1, sizeof(struct settings));
}

void settings_free(struct settings *s)
{
	if (!s)
		return;
	for (size_t i = 0; i < s->count; i++) {
		free(s->list[i].key);
		wipe_free(s->list[i].value);
		free(s->list[i].origin);
	}
	free(s->list);
	free(s);
}

static struct setting *find(struct settings *s, const char *key)
{
	for (size_t i = 0; i < s->count; i++) {
		if (strcmp(s->list[i].key, key) == 0)
			return &s->list[i];
	}
	return NULL;
}

static int add(struct settings *s, const char *key, struct setting **ret_setting)
{
	struct setting *list;
	char *copy;

	if (s->count == s->cap) {
		size_t cap = s->cap ? s->cap * 2 : 16;

		list = reallocarray(s->list, cap, sizeof(*list));
		if (!list)
			return -ENOMEM;
		s->list = list;
		s->cap = cap;
	}
	copy = strdup(key);
	if (!copy)
		return -ENOMEM;
	s->list[s->count] = (struct setting){.key = copy};
	*ret_setting = &s->list[s->count++];
	return 0;
}

static int set(struct settings *s, enum settings_source source, const char *origin, const char *key,
	const char *value)
{
	struct setting *at = find(s, key);
	char *new_value, *new_origin;

	if (at && at->source > source)
		return 0;
	new_value = strdup(value);
	new_origin = strdup(origin);
	if (!new_value || !new_origin || (!at && add(s, key, &at) < 0)) {
		wipe_free(new_value);
		free(new_origin);
		return -ENOMEM;
	}
	wipe_free(at->value);
	free(at->origin);
	at->value = new_value;
	at->origin = new_origin;
	at->source = source;
	return 0;
}

int settings_set(struct settings *s, enum settings_source source, const char *key, const char *value)
{
	static const char *const origins[] = {
		[SETTINGS_FILE] = "file",
		[SETTINGS_ENVIRONMENT] = "environment",
		[SETTINGS_COMMAND_LINE] = "command line",
	};

	return set(s, source, origins[source], key, value);
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r';
}

static struct span trim(struct span t)
{
	while (t.len && is_blank(t.at[0]))
		t.at++, t.len--;
	while (t.len && is_blank(t.at[t.len - 1]))
		t.len--;
	return t;
}

static bool is_key(struct span t)
{
	for (size_t i = 0; i < t.len; i++) {
		if (!isalnum((unsigned char)t.at[i]) && !memchr("_-.", t.at[i], 3))
			return false;
	}
	return t.len > 0;
}

static bool is_text(struct span t)
{
	for (size_t i = 0; i < t.len; i++) {
		unsigned char c = (unsigned char)t.at[i];

		if ((c < 0x20 && c != '\t') || c == 0x7f)
			return false;
	}
	return true;
}

/* Takes quotes or, from an unquoted value, a comment off; a sentence about what is wrong, or NULL. */
static const char *unquote(struct span *value)
{
	struct span t = *value;

	if (t.len && (t.at[0] == '"' || t.at[0] == '\'')) {
		const char *end = memchr(t.at + 1, t.at[0], t.len - 1);
		struct span rest;

		if (!end)
			return "the value begins with a quote that is not closed";
		rest = trim((struct span){end + 1, t.len - (size_t)(end + 1 - t.at)});
		if (rest.len && rest.at[0] != '#')
			return "there is something after the closing quote";
		*value = (struct span){t.at + 1, (size_t)(end - t.at) - 1};
		return NULL;
	}
	for (size_t i = 0; i < t.len; i++) {
		/* As in a shell: '#' begins a comment only after a blank, so a#b is a value. */
		if (t.at[i] == '#' && (i == 0 || is_blank(t.at[i - 1]))) {
			*value = trim((struct span){t.at, i});
			break;
		}
	}
	return NULL;
}

/* One line. *ret_key has len 0 when it holds no pair; a sentence about what is wrong, or NULL. */
static const char *parse_line(struct span line, struct span *ret_key, struct span *ret_value)
{
	const char *equals;

	line = trim(line);
	*ret_key = (struct span){line.at, 0};
	if (line.len == 0 || line.at[0] == '#')
		return NULL;
	if (!is_text(line))
		return "there is a control character";
	if (line.len > 7 && memcmp(line.at, "export", 6) == 0 && is_blank(line.at[6]))
		line = trim((struct span){line.at + 7, line.len - 7});
	equals = memchr(line.at, '=', line.len);
	if (!equals)
		return "expected key=value";
	*ret_key = trim((struct span){line.at, (size_t)(equals - line.at)});
	*ret_value = trim((struct span){equals + 1, line.len - (size_t)(equals + 1 - line.at)});
	if (!is_key(*ret_key))
		return "the key must be letters, digits, '_', '-' and '.'";
	return unquote(ret_value);
}

static int set_spans(struct settings *s, const char *path, size_t line, struct span key, struct span value)
{
	char *k = strndup(key.at, key.len), *v = strndup(value.at, value.len), *origin = NULL;
	int r = -ENOMEM;

	if (asprintf(&origin, "%s:%zu", path, line) < 0)
		origin = NULL;
	if (k && v && origin)
		r = set(s, SETTINGS_FILE, origin, k, v);
	free(k);
	wipe_free(v);
	free(origin);
	return r;
}

static int read_lines(struct settings *s, const char *path, struct span text, struct buf *why)
{
	size_t keys = 0;

	for (size_t number = 1; text.len; number++) {
		const char *newline = memchr(text.at, '\n', text.len);
		size_t len = newline ? (size_t)(newline - text.at) : text.len;
		size_t step = newline ? len + 1 : len;
		struct span key = {NULL, 0}, value = {NULL, 0};
		const char *wrong = parse_line((struct span){text.at, len}, &key, &value);
		int r;

		if (!wrong && key.len && ++keys > FILE_MAX_KEYS)
			wrong = "too many settings in one file";
		if (wrong) {
			buf_printf(why, "%s line %zu: %s", path, number, wrong);
			return -EINVAL;
		}
		r = key.len ? set_spans(s, path, number, key, value) : 0;
		if (r < 0)
			return r;
		text.at += step;
		text.len -= step;
	}
	return 0;
}

int settings_read_file(struct settings *s, const char *path, struct buf *why)
{
	struct buf text = BUF_INIT;
	struct span all;
	int r;

	/* Reserved in one piece, so that no copy of a token is left behind by growing. */
	r = buf_reserve(&text, 2 * FILE_MAX_BYTES);
	if (r < 0)
		return r;
	r = io_read_file(AT_FDCWD, path, FILE_MAX_BYTES, &text);
	if (r == -EMSGSIZE) {
		buf_printf(why, "%s line 1: the file is larger than %d bytes, so it is no settings file",
			path, FILE_MAX_BYTES);
		r = -EINVAL;
	} else if (r == 0) {
		all = (struct span){(const char *)text.data, text.len};
		/* Some editors begin a UTF-8 file with a byte order mark. */
		if (all.len >= 3 && memcmp(all.at, "\xef\xbb\xbf", 3) == 0)
			all.at += 3, all.len -= 3;
		r = read_lines(s, path, all, why);
	}
	explicit_bzero(text.data, text.cap);
	buf_fini(&text);
	return r;
}

const char *settings_get(struct settings *s, const char *key)
{
	struct setting *at = find(s, key);

	if (!at)
		return NULL;
	at->used = true;
	return at->value;
}

const char *settings_unused(struct settings *s, const char **ret_origin)
{
	for (size_t i = 0; i < s->count; i++) {
		if (s->list[i].used)
			continue;
		*ret_origin = s->list[i].origin;
		return s->list[i].key;
	}
	return NULL;
}

int settings_parse_u64(const char *text, uint64_t min, uint64_t max, uint64_t *ret_value)
{
	uint64_t v = 0;

	if (!*text)
		return -EINVAL;
	for (; *text; text++) {
		if (*text < '0' || *text > '9')
			return -EINVAL;
		if (__builtin_mul_overflow(v, (uint64_t)10, &v) ||
			__builtin_add_overflow(v, (uint64_t)(*text - '0'), &v))
			return -EINVAL;
	}
	if (v < min || v > max)
		return -EINVAL;
	*ret_value = v;
	return 0;
}

int settings_parse_bool(const char *text, bool *ret_value)
{
	static const char *const yes[] = {"yes", "true", "on", "1"};
	static const char *const no[] = {"no", "false", "off", "0"};

	if (!*text) {
		*ret_value = true;
		return 0;
	}
	for (size_t i = 0; i < sizeof(yes) / sizeof(yes[0]); i++) {
		if (strcasecmp(text, yes[i]) == 0 || strcasecmp(text, no[i]) == 0) {
			*ret_value = strcasecmp(text, yes[i]) == 0;
			return 0;
		}
	}
	return -EINVAL;
}
