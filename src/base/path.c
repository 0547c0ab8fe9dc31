/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a name may be, and how bytes are shown or carried as text. Called on everything a peer
 * or a disk supplies as a name. Pure: no system call, no state; reads exactly the len bytes.
 */
#include <syncfs/path.h>

#include <errno.h>
#include <stdint.h>
#include <string.h>

bool name_is_valid(const char *name, size_t len)
{
	if (len < 1 || len > NAME_MAX_BYTES)
		return false;
	if (name[0] == '.' && (len == 1 || (len == 2 && name[1] == '.')))
		return false;
	return !memchr(name, '/', len) && !memchr(name, 0, len);
}

bool path_is_valid(const char *path, size_t len)
{
	size_t start = 0;

	if (len < 1 || len > PATH_MAX_BYTES)
		return false;
	while (start <= len) {
		const char *slash = start < len ? memchr(path + start, '/', len - start) : NULL;
		size_t end = slash ? (size_t)(slash - path) : len;

		if (!name_is_valid(path + start, end - start))
			return false;
		if (start == 0 && end == strlen(RESERVED_NAME) && memcmp(path, RESERVED_NAME, end) == 0)
			return false;
		start = end + 1;
	}
	return true;
}

/* Length of the character at s (1..4), 0 when it is none (Unicode 15, table 3-7). */
static size_t utf8_char(const uint8_t *s, size_t len)
{
	uint8_t low = 0x80, high = 0xbf;
	size_t n;

	if (s[0] < 0x80)
		return 1;
	if (s[0] < 0xc2 || s[0] > 0xf4)
		return 0;
	n = s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : 4;
	if (len < n)
		return 0;
	if (s[0] == 0xe0)
		low = 0xa0; /* overlong */
	else if (s[0] == 0xed)
		high = 0x9f; /* surrogates */
	else if (s[0] == 0xf0)
		low = 0x90; /* overlong */
	else if (s[0] == 0xf4)
		high = 0x8f; /* above U+10FFFF */
	if (s[1] < low || s[1] > high)
		return 0;
	for (size_t i = 2; i < n; i++) {
		if (s[i] < 0x80 || s[i] > 0xbf)
			return 0;
	}
	return n;
}

bool utf8_is_valid(const char *s, size_t len)
{
	for (size_t i = 0, n; i < len; i += n) {
		n = utf8_char((const uint8_t *)s + i, len - i);
		if (n == 0)
			return false;
	}
	return true;
}

void path_quote(struct buf *out, const char *s, size_t len)
{
	const uint8_t *p = (const uint8_t *)s;

	buf_put_u8(out, '"');
	for (size_t i = 0, n; i < len; i += n) {
		n = utf8_char(p + i, len - i);
		if (n == 0 || p[i] < 0x20 || p[i] == 0x7f) {
			n = 1;
			if (p[i] == '\n')
				buf_put_str(out, "\\n");
			else
				buf_printf(out, "\\x%02x", p[i]);
		} else if (n == 2 && p[i] == 0xc2 && p[i + 1] < 0xa0) {
			/* U+0080..U+009F: terminals may obey these as well. */
			buf_printf(out, "\\x%02x\\x%02x", p[i], p[i + 1]);
		} else {
			if (p[i] == '"' || p[i] == '\\')
				buf_put_u8(out, '\\');
			buf_put(out, p + i, n);
		}
	}
	buf_put_u8(out, '"');
}

static const char base64_digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void base64_encode(struct buf *out, const void *bytes, size_t len)
{
	const uint8_t *p = bytes;

	/* One reservation; an absurd len overflows into a refused one. */
	if (buf_reserve(out, len > SIZE_MAX / 4 ? SIZE_MAX : (len + 2) / 3 * 4) < 0)
		return;
	for (size_t i = 0; i < len; i += 3) {
		size_t n = len - i < 3 ? len - i : 3;
		uint32_t v = (uint32_t)p[i] << 16;
		char four[4] = {'=', '=', '=', '='};

		if (n > 1)
			v |= (uint32_t)p[i + 1] << 8;
		if (n > 2)
			v |= p[i + 2];
		for (size_t k = 0; k <= n; k++)
			four[k] = base64_digits[v >> (18 - 6 * k) & 63];
		buf_put(out, four, sizeof(four));
	}
}

static int base64_value(char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* Four characters to 1..3 bytes; the number, or -EINVAL. Padding is allowed in the last group only. */
static int base64_group(const char *four, bool last, uint8_t *ret_bytes)
{
	int digits = 4;
	uint32_t v = 0;

	if (last && four[3] == '=')
		digits = four[2] == '=' ? 2 : 3;
	for (int i = 0; i < digits; i++) {
		int d = base64_value(four[i]);

		if (d < 0)
			return -EINVAL;
		v |= (uint32_t)d << (18 - 6 * i);
	}
	/* Canonical: the bits that padding cuts off are zero. */
	if ((digits == 2 && (v & 0xffff)) || (digits == 3 && (v & 0xff)))
		return -EINVAL;
	for (int i = 0; i < digits - 1; i++)
		ret_bytes[i] = (uint8_t)(v >> (16 - 8 * i));
	return digits - 1;
}

int base64_decode(struct buf *out, const char *text, size_t len)
{
	size_t before = out->len;

	if (len % 4)
		return -EINVAL;
	if (buf_reserve(out, len / 4 * 3) < 0)
		return out->error;
	for (size_t i = 0; i < len; i += 4) {
		uint8_t three[3];
		int n = base64_group(text + i, i + 4 == len, three);

		if (n < 0) {
			out->len = before;
			return n;
		}
		buf_put(out, three, (size_t)n);
	}
	return 0;
}
