/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Replies as text. Called by main. Paths are shown as they are when a terminal can take them, else quoted.
 */
#include "print.h"

#include <inttypes.h>
#include <string.h>

#include <syncfs/path.h>

#define LABEL "%-14s "

static void put_text(struct buf *out, const char *text)
{
	size_t len = strlen(text);
	bool plain = utf8_is_valid(text, len);

	for (size_t i = 0; plain && i < len; i++)
		plain = (unsigned char)text[i] >= 0x20 && text[i] != 0x7f;
	if (plain)
		buf_put(out, text, len);
	else
		path_quote(out, text, len);
}

static void put_line(struct buf *out, const char *label, const char *text)
{
	if (text == NULL || *text == '\0')
		return;
	buf_printf(out, LABEL, label);
	put_text(out, text);
	buf_put_u8(out, '\n');
}

static void put_span(struct buf *out, uint64_t s)
{
	if (s < 60)
		buf_printf(out, "%" PRIu64 " s", s);
	else if (s < 3600)
		buf_printf(out, "%" PRIu64 " min %" PRIu64 " s", s / 60, s % 60);
	else if (s < 86400)
		buf_printf(out, "%" PRIu64 " h %" PRIu64 " min", s / 3600, s / 60 % 60);
	else
		buf_printf(out, "%" PRIu64 " d %" PRIu64 " h", s / 86400, s / 3600 % 24);
}

static void put_size(struct buf *out, uint64_t bytes)
{
	static const char *const units[] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
	uint64_t whole = bytes, tenths = 0;
	size_t unit = 0;

	if (bytes < 1024) {
		buf_printf(out, "%" PRIu64 " bytes", bytes);
		return;
	}
	for (; whole >= 1024; unit++) {
		tenths = whole % 1024 * 10 / 1024;
		whole /= 1024;
	}
	buf_printf(out, "%" PRIu64 ".%" PRIu64 " %s", whole, tenths, units[unit - 1]);
}

static const char *plural(uint64_t n)
{
	return n == 1 ? "" : "s";
}

void print_status(struct buf *out, const struct control_status *s, const char *path)
{
	buf_printf(out, LABEL, "server");
	if (s->url != NULL) {
		put_text(out, s->url);
		buf_put_str(out, ", ");
	}
	buf_put_str(out, s->connected ? "connected for " : "not connected for ");
	put_span(out, s->since_s);
	buf_put_str(out, s->paused ? ", paused\n" : "\n");

	buf_printf(out, LABEL, "pending");
	if (s->pending_ops == 0 && s->open_writers == 0) {
		buf_put_str(out, "nothing\n");
	} else {
		buf_printf(out, "%" PRIu64 " operation%s, ", s->pending_ops, plural(s->pending_ops));
		put_size(out, s->pending_bytes);
		if (s->open_writers > 0)
			buf_printf(out, ", %" PRIu64 " file%s open for writing", s->open_writers,
				plural(s->open_writers));
		buf_put_u8(out, '\n');
	}
	if (s->held_deletions > 0)
		buf_printf(out,
			LABEL "%" PRIu64
			      " deletion%s found in the backing directory: syncfsctl approve, or restore\n",
			"held", s->held_deletions, plural(s->held_deletions));
	if (s->waiting_calls > 0)
		buf_printf(out, LABEL "%" PRIu64 " call%s of fsync or close\n", "waiting", s->waiting_calls,
			plural(s->waiting_calls));
	if (s->deferred_calls > 0)
		buf_printf(out, LABEL "%" PRIu64 " call%s answered before the server had them\n", "deferred",
			s->deferred_calls, s->deferred_calls == 1 ? " was" : "s were");
	if (s->dead_letters > 0)
		buf_printf(out, LABEL "%" PRIu64 " operation%s refused by the server for ever\n", "given up",
			s->dead_letters, plural(s->dead_letters));
	put_line(out, "last error", s->last_error);
	buf_printf(out, LABEL "%s\n", "passthrough", s->passthrough ? "on" : "off");
	buf_printf(out, LABEL "seq %" PRIu64 "\n", "shown", s->cursor_seq);
	put_line(out, "mounted at", s->mountpoint);
	put_line(out, "files in", s->backing);
	put_line(out, "state in", s->state);
	if (path != NULL && s->file_state != NULL) {
		buf_printf(out, LABEL "%s  ", "file", s->file_state);
		put_text(out, path);
		buf_put_u8(out, '\n');
	}
}

void print_conflicts(struct buf *out, const struct control_reply *reply)
{
	for (size_t i = 0; i < reply->conflicts_count; i++) {
		put_text(out, reply->conflicts[i]);
		buf_put_u8(out, '\n');
	}
	if (reply->conflicts_count == 0)
		buf_put_str(out, "no conflict copies\n");
}
