/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names of conflict copies. Called by the commit rules on the server and by the client's recovery. Pure:
 * whether a name is taken is the caller's question, try_no its answer.
 */
#include <syncfs/conflict.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <syncfs/hash.h>
#include <syncfs/limits.h>

#define MARK " (conflict "
#define DIGITS 8

/* The largest cut <= max that splits no UTF-8 character of s; bytes that are no UTF-8 are cut anywhere. */
static size_t utf8_cut(const char *s, size_t len, size_t max)
{
	size_t cut = max;

	if (len <= max)
		return len;
	while (cut > 0 && max - cut < 3 && ((uint8_t)s[cut] & 0xc0) == 0x80)
		cut--;
	return ((uint8_t)s[cut] & 0xc0) == 0x80 ? max : cut;
}

static void digits_of(const struct id *client, uint64_t opno, unsigned try_no, char *digits)
{
	uint8_t in[ID_BYTES + 8 + 4];
	struct hash h;

	memcpy(in, client->b, ID_BYTES);
	for (int i = 0; i < 8; i++)
		in[ID_BYTES + i] = (uint8_t)(opno >> (8 * i));
	for (int i = 0; i < 4; i++)
		in[ID_BYTES + 8 + i] = (uint8_t)(try_no >> (8 * i));
	h = hash_bytes(in, sizeof(in));
	(void)snprintf(digits, DIGITS + 1, "%02x%02x%02x%02x", h.b[0], h.b[1], h.b[2], h.b[3]);
}

static void label_clean(const char *label, char *out)
{
	size_t len;

	if (!label || !*label)
		label = "client";
	len = utf8_cut(label, strlen(label), LABEL_MAX_BYTES);
	for (size_t i = 0; i < len; i++) {
		uint8_t ch = (uint8_t)label[i];

		out[i] = ch < 0x20 || ch == 0x7f || ch == '/' ? '_' : label[i];
	}
	out[len] = '\0';
}

char *conflict_name(
	const char *name, const char *label, const struct id *client, uint64_t opno, unsigned try_no)
{
	char digits[DIGITS + 1], clean[LABEL_MAX_BYTES + 1], mid[LABEL_MAX_BYTES + 32];
	const char *ext = strrchr(name, '.');
	size_t stem_len, ext_len, mid_len;
	char *out = malloc(NAME_MAX_BYTES + 1);

	if (!out)
		return NULL;
	digits_of(client, opno, try_no, digits);
	label_clean(label, clean);
	mid_len = (size_t)snprintf(mid, sizeof(mid), MARK "%s %s)", clean, digits);
	if (!ext || ext == name)
		ext = name + strlen(name);
	ext_len = strlen(ext);
	if (mid_len + ext_len + 4 >
		NAME_MAX_BYTES) { /* no room left for a character of stem: it is no extension */
		ext += ext_len;
		ext_len = 0;
	}
	stem_len = utf8_cut(name, (size_t)(ext - name), NAME_MAX_BYTES - mid_len - ext_len);
	memcpy(out, name, stem_len);
	memcpy(out + stem_len, mid, mid_len);
	memcpy(out + stem_len + mid_len, ext, ext_len + 1);
	return out;
}

static bool digits_end_at(const char *name, const char *close)
{
	if (close - name < DIGITS + 1 || close[-DIGITS - 1] != ' ')
		return false;
	for (int i = 1; i <= DIGITS; i++) {
		if (!strchr("0123456789abcdef", close[-i]))
			return false;
	}
	return true;
}

bool conflict_name_is(const char *name)
{
	const char *mark = strstr(name, MARK);

	if (!mark || mark == name)
		return false;
	for (const char *close = strchr(mark, ')'); close; close = strchr(close + 1, ')')) {
		bool ends = close[1] == '\0' || (close[1] == '.' && !strchr(close + 2, '.'));

		/* At least one byte of label between the mark and " XXXXXXXX)". */
		if (ends && digits_end_at(name, close) && close - DIGITS - 1 > mark + strlen(MARK))
			return true;
	}
	return false;
}
