/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One line per event on stderr or in syslog; the only writer of stderr. Called by whoever owns
 * a decision, with no other lock needed. A line is one write(2), so lines of two threads do not
 * mix. Never blocks on anything but that write, never prints a raw control byte.
 */
#include <syncfs/log.h>

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <syslog.h>
#include <unistd.h>

#include <syncfs/clock.h>

#define LINE_BYTES 2048
#define REPEAT_SLOTS 32
#define REPEAT_QUIET_MS 10000

/* The last line of one call site; the format's address stands for the site. */
struct repeat {
	const char *fmt; /* NULL: free */
	uint64_t line_hash;
	uint64_t shown_at_ms;
	unsigned int suppressed;
};

static struct {
	pthread_mutex_t lock; /* innermost of all (rank 90); a bare one, since struct mutex reports here */
	struct repeat repeats[REPEAT_SLOTS];
} state = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* Flags read on every call; set by main before threads start, so relaxed order is enough. */
static _Atomic(const char *) program = "syncfs";
static atomic_int max_level = LOG_LEVEL_INFO;
static atomic_bool to_syslog;

void log_set_program(const char *name)
{
	atomic_store_explicit(&program, name, memory_order_relaxed);
}

void log_set_level(enum log_level level)
{
	atomic_store_explicit(&max_level, (int)level, memory_order_relaxed);
}

void log_use_syslog(void)
{
	openlog(atomic_load_explicit(&program, memory_order_relaxed), LOG_PID, LOG_DAEMON);
	atomic_store_explicit(&to_syslog, true, memory_order_relaxed);
}

/* FNV-1a; only to tell "the same line again" from another one. */
static uint64_t hash_line(const char *s)
{
	uint64_t h = 0xcbf29ce484222325u;

	for (; *s; s++)
		h = (h ^ (uint8_t)*s) * 0x100000001b3u;
	return h;
}

/* False: the same line was shown by the same site a moment ago. *ret_before: how many were kept back. */
static bool should_show(const char *fmt, const char *line, unsigned int *ret_before)
{
	uint64_t now = clock_mono_ms(), hash = hash_line(line);
	struct repeat *slot = NULL, *oldest = &state.repeats[0];
	bool show = true;

	*ret_before = 0;
	pthread_mutex_lock(&state.lock);
	for (size_t i = 0; i < REPEAT_SLOTS; i++) {
		if (state.repeats[i].fmt == fmt)
			slot = &state.repeats[i];
		if (state.repeats[i].shown_at_ms < oldest->shown_at_ms)
			oldest = &state.repeats[i];
	}
	if (slot && slot->line_hash == hash && now - slot->shown_at_ms < REPEAT_QUIET_MS) {
		slot->suppressed++;
		show = false;
	} else {
		if (slot)
			*ret_before = slot->suppressed;
		else
			slot = oldest;
		*slot = (struct repeat){.fmt = fmt, .line_hash = hash, .shown_at_ms = now};
	}
	pthread_mutex_unlock(&state.lock);
	return show;
}

/* Copies at most what fits, control bytes as \xNN or \n, and ends with a NUL; returns the length. */
static size_t escape(char *out, size_t size, const char *in)
{
	size_t n = 0;

	for (; *in && n + 5 < size; in++) {
		uint8_t c = (uint8_t)*in;

		if (c == '\n') {
			out[n++] = '\\';
			out[n++] = 'n';
		} else if (c < 0x20 || c == 0x7f) {
			n += (size_t)snprintf(out + n, size - n, "\\x%02x", c);
		} else {
			out[n++] = *in;
		}
	}
	out[n] = '\0';
	return n;
}

static void emit_stderr(const char *line)
{
	char out[LINE_BYTES * 4 + 128];
	int n = snprintf(
		out, sizeof(out), "%s: %s\n", atomic_load_explicit(&program, memory_order_relaxed), line);
	size_t len = n < 0 ? 0 : (size_t)n, done = 0;

	if (len >= sizeof(out)) {
		len = sizeof(out) - 1;
		out[len - 1] = '\n';
	}
	while (done < len) {
		ssize_t w = write(STDERR_FILENO, out + done, len - done);

		if (w < 0 && errno == EINTR)
			continue;
		if (w <= 0)
			return;
		done += (size_t)w;
	}
}

static void emit(enum log_level level, const char *line)
{
	static const int priorities[] = {LOG_ERR, LOG_WARNING, LOG_INFO, LOG_DEBUG};

	if (atomic_load_explicit(&to_syslog, memory_order_relaxed))
		syslog(priorities[level], "%s", line);
	else
		emit_stderr(line);
}

void log_write(enum log_level level, const char *fmt, ...)
{
	char raw[LINE_BYTES], line[LINE_BYTES * 4];
	int saved = errno;
	unsigned int before = 0;
	va_list ap;

	if ((int)level > atomic_load_explicit(&max_level, memory_order_relaxed))
		return;
	va_start(ap, fmt);
	vsnprintf(raw, sizeof(raw), fmt, ap);
	va_end(ap);
	escape(line, sizeof(line), raw);
	/* Debug is for looking at every operation: nothing is held back there. */
	if (level == LOG_LEVEL_DEBUG || should_show(fmt, line, &before)) {
		if (before) {
			char note[64];

			snprintf(note, sizeof(note), "(the last message was repeated %u times)", before);
			emit(level, note);
		}
		emit(level, line);
	}
	errno = saved;
}

const char *err_str(int negative_errno)
{
	/* Four answers a thread, so that two may stand in one statement. */
	static _Thread_local char text[4][96];
	static _Thread_local unsigned int next;
	char *out = text[next++ % 4];

	return strerror_r(negative_errno < 0 ? -negative_errno : negative_errno, out, sizeof(text[0]));
}
