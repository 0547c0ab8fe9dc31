/* SPDX-License-Identifier: Apache-2.0 */
/* What syncfsctl asks, answered from the parts of the session. Called on the control socket's threads; never
 * from the view. */
#include "session_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <syncfs/clock.h>
#include <syncfs/conflict.h>
#include <syncfs/io.h>
#include <syncfs/log.h>

#define WAIT_SLICE_MS 400

static char *copy(const char *s)
{
	return s && *s ? strdup(s) : NULL;
}

static void refuse(struct control_reply *reply, int code, const char *sentence)
{
	reply->ok = false;
	reply->code = code;
	free(reply->error);
	reply->error = strdup(sentence);
}

/* Path below the mountpoint, "" for the mount itself. */
static const char *below(const struct session_run *s, const char *path)
{
	size_t len = strlen(s->parts.config->mountpoint);

	if (!path || strlen(path) <= len)
		return "";
	path += len;
	while (*path == '/')
		path++;
	return path;
}

/* The state of one file, by what lies in the backing directory. */
static char *file_state(struct session_run *s, const char *path)
{
	cleanup_free char *dir = strdup(below(s, path));
	cleanup_fd int dirfd = -1;
	struct stat_id st;
	char *slash;

	if (!dir || !*dir)
		return NULL;
	slash = strrchr(dir, '/');
	if (slash)
		*slash = '\0';
	dirfd = tree_open_dir(s->parts.tree, slash ? dir : "");
	if (dirfd < 0 || tree_stat(dirfd, slash ? slash + 1 : dir, &st))
		return strdup("missing");
	if (conflict_name_is(slash ? slash + 1 : dir))
		return strdup("conflict");
	return strdup(capture_state(s->parts.capture, &st));
}

static void status(void *arg, const char *path, struct control_reply *reply)
{
	struct session_run *s = arg;
	struct control_status *st = &reply->status;
	struct link_status link = {0};
	int64_t dead = syncstate_peek_dead_letters(s->parts.state);

	reply->has_status = true;
	capture_count(s->parts.capture, &st->pending_ops, &st->open_writers);
	capture_count_waiting(s->parts.capture, &st->waiting_calls, &st->deferred_calls);
	st->dead_letters = dead > 0 ? (uint64_t)dead : 0; /* what cannot be read has been logged */
	mutex_lock(&s->lock);
	if (s->link)
		link_get(s->link, &link);
	st->cursor_seq = s->poller ? poller_seq(s->poller) : 0;
	st->held_deletions = s->rescan ? rescan_held(s->rescan) : 0;
	mutex_unlock(&s->lock);
	st->connected = link.connected;
	st->paused = link.paused;
	st->since_s = (clock_mono_ms() - link.since_ms) / 1000;
	st->last_error = capture_has_failed(s->parts.capture)
		? strdup("the journal cannot be written: no change is accepted any more; free the disk or "
			 "check it, then mount again")
		: copy(link.last_error);
	st->url = copy(s->parts.config->url);
	st->mountpoint = copy(s->parts.config->mountpoint);
	st->backing = copy(s->parts.config->backing);
	st->state = copy(s->parts.config->state);
	st->file_state = path ? file_state(s, path) : NULL;
}

static uint64_t slice_end(uint64_t deadline_ms)
{
	uint64_t slice = clock_mono_ms() + WAIT_SLICE_MS;

	return slice < deadline_ms ? slice : deadline_ms;
}

/* 1: all up to seq has arrived and is applied. */
static int is_shown(struct session_run *s, const struct cursor *want)
{
	struct node_state *first;
	struct cursor have;
	uint64_t seq;
	size_t count;
	bool waiting;
	int r = syncstate_peek_cursor(s->parts.state, &have);

	if (r)
		return r == -ENOENT ? 0 : r;
	if (!id_equal(&have.epoch, &want->epoch))
		return -EXDEV;
	mutex_lock(&s->lock);
	seq = s->poller ? poller_seq(s->poller) : 0;
	mutex_unlock(&s->lock);
	if (seq < want->seq)
		return 0;
	r = syncstate_peek_remotes(s->parts.state, 0, 1, &first, &count);
	if (r)
		return r;
	waiting = count && first[0].seq <= want->seq;
	for (size_t i = 0; i < count; i++)
		node_state_fini(&first[i]);
	free(first);
	return !waiting;
}

static int wait_shown(struct session_run *s, const struct cursor *want, uint64_t deadline_ms,
	const struct control_call *call)
{
	for (;;) {
		int r = is_shown(s, want);

		if (r)
			return r > 0 ? 0 : r;
		if (control_call_is_over(call))
			return -ECANCELED;
		if (clock_mono_ms() >= deadline_ms)
			return -ETIMEDOUT;
		mutex_lock(&s->lock);
		cond_wait_until(&s->changed, &s->lock, clock_mono_ms() + 5);
		mutex_unlock(&s->lock);
	}
}

static int wait_sent(struct session_run *s, uint64_t deadline_ms, const struct control_call *call)
{
	uint64_t mark = capture_mark(s->parts.capture);

	for (;;) {
		int r = capture_wait(s->parts.capture, mark, slice_end(deadline_ms));
		bool scanned;

		mutex_lock(&s->lock);
		scanned = !s->merge && s->rescan && rescan_first_is_done(s->rescan);
		mutex_unlock(&s->lock);
		if (!r && scanned)
			return 0;
		if (!r || r == -ECANCELED) {
			/* What the first scan finds was done before the call, too; a merge forgets the queue
			 * and has a first scan of its own. */
			mutex_lock(&s->lock);
			cond_wait_until(&s->changed, &s->lock, clock_mono_ms() + 20);
			mutex_unlock(&s->lock);
			mark = capture_mark(s->parts.capture);
		} else if (r != -ETIMEDOUT) {
			return r;
		}
		if (control_call_is_over(call))
			return -ECANCELED;
		if (clock_mono_ms() >= deadline_ms)
			return -ETIMEDOUT;
	}
}

static void explain_timeout(struct session_run *s, struct control_reply *reply)
{
	cleanup_buf struct buf text = BUF_INIT;
	struct link_status link = {0};
	uint64_t ops, writers;

	capture_count(s->parts.capture, &ops, &writers);
	mutex_lock(&s->lock);
	if (s->link)
		link_get(s->link, &link);
	mutex_unlock(&s->lock);
	buf_printf(&text, "%llu operations and %llu files being written are pending", (unsigned long long)ops,
		(unsigned long long)writers);
	if (link.paused)
		buf_printf(&text, ", traffic is paused");
	else if (!link.connected)
		buf_printf(&text, ", not connected: %s", link.last_error);
	else if (*link.last_error)
		buf_printf(&text, ": %s", link.last_error);
	refuse(reply, -ETIMEDOUT, buf_cstr(&text) ? buf_cstr(&text) : "timed out");
}

static int wait_op(void *arg, const char *path, const char *token, uint64_t timeout_ms,
	const struct control_call *call, struct control_reply *reply)
{
	struct session_run *s = arg;
	uint64_t now = clock_mono_ms(),
		 deadline = timeout_ms > UINT64_MAX - now ? UINT64_MAX : now + timeout_ms;
	struct cursor want;
	int r;

	(void)path; /* everything is waited for: that covers whatever lies below it */
	if (token && cursor_from_text(token, strlen(token), &want)) {
		refuse(reply, -EPROTO, "that is no token of `syncfsctl token`");
		return -EPROTO;
	}
	r = token ? wait_shown(s, &want, deadline, call) : wait_sent(s, deadline, call);
	if (r == -ETIMEDOUT)
		explain_timeout(s, reply);
	else if (r == -EXDEV)
		refuse(reply, r, "the token is of another history of the server: take a new one");
	else if (r)
		refuse(reply, r, err_str(r));
	return r;
}

static void token(void *arg, const char *path, struct control_reply *reply)
{
	struct session_run *s = arg;
	char text[CURSOR_TEXT_BYTES];
	struct cursor c;

	(void)path;
	if (syncstate_peek_acked(s->parts.state, &c) && syncstate_peek_cursor(s->parts.state, &c)) {
		refuse(reply, -EAGAIN, "the server has not been reached yet");
		return;
	}
	reply->token = copy(cursor_to_text(&c, text));
}

static void pause_op(void *arg, bool paused)
{
	struct session_run *s = arg;

	MUTEX_GUARD(&s->lock);
	if (!s->link)
		return;
	link_pause(s->link, paused);
	if (!paused)
		link_reconnect(s->link);
}

static void reconnect(void *arg)
{
	struct session_run *s = arg;

	MUTEX_GUARD(&s->lock);
	if (s->link)
		link_reconnect(s->link);
}

static void answer_held(void *arg, bool approve, struct control_reply *reply)
{
	struct session_run *s = arg;
	int r;

	mutex_lock(&s->lock);
	r = s->rescan ? rescan_answer(s->rescan, approve) : -ENOENT;
	mutex_unlock(&s->lock);
	if (r)
		refuse(reply, r, "no deletions are held");
	else
		capture_want_scan(s->parts.capture);
}

struct conflicts {
	struct session_run *s;
	struct control_reply *reply;
	const char *below;
};

static int note_conflict(void *arg, const struct scan_entry *e)
{
	struct conflicts *c = arg;
	cleanup_buf struct buf path = BUF_INIT;
	char **more;

	if (!conflict_name_is(e->name) || strncmp(e->path, c->below, strlen(c->below)) != 0)
		return SCAN_DESCEND;
	buf_printf(&path, "%s/%s", c->s->parts.config->mountpoint, e->path);
	more = realloc(c->reply->conflicts, (c->reply->conflicts_count + 1) * sizeof(*more));
	if (!more || !buf_cstr(&path))
		return -ENOMEM;
	c->reply->conflicts = more;
	more[c->reply->conflicts_count] = strdup(buf_cstr(&path));
	if (!more[c->reply->conflicts_count])
		return -ENOMEM;
	c->reply->conflicts_count++;
	return SCAN_DESCEND;
}

static int dir_done(void *arg, const char *path, const struct stat_id *dir, bool complete)
{
	(void)arg;
	(void)path;
	(void)dir;
	(void)complete;
	return 0;
}

static void conflicts(void *arg, const char *path, struct control_reply *reply)
{
	struct session_run *s = arg;
	struct conflicts c = {.s = s, .reply = reply, .below = below(s, path)};
	struct scan_ops ops = {.arg = &c, .entry = note_conflict, .dir_done = dir_done};
	int r = tree_scan(s->parts.tree, "", true, &ops);

	reply->has_conflicts = true;
	if (r)
		refuse(reply, r, err_str(r));
}

const struct control_ops session_control_ops = {
	.status = status,
	.wait = wait_op,
	.token = token,
	.pause = pause_op,
	.reconnect = reconnect,
	.answer_held = answer_held,
	.conflicts = conflicts,
};
