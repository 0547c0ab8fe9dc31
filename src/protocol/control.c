/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages of the control socket. Requests are encoded by syncfsctl and decoded by syncfs, replies the other
 * way. Never opens a socket.
 */
#include <syncfs/control.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <syncfs/error.h>
#include <syncfs/limits.h>

#include "json.h"

static const char *const command_words[] = {
	[CONTROL_STATUS] = "status",
	[CONTROL_WAIT] = "wait",
	[CONTROL_TOKEN] = "token",
	[CONTROL_PAUSE] = "pause",
	[CONTROL_RESUME] = "resume",
	[CONTROL_RECONNECT] = "reconnect",
	[CONTROL_CONFLICTS] = "conflicts",
	[CONTROL_APPROVE] = "approve",
	[CONTROL_RESTORE] = "restore",
};

void control_request_fini(struct control_request *r)
{
	free(r->path);
	free(r->token);
	*r = (struct control_request){0};
}

static int end_line(struct buf *out, size_t begin, size_t max)
{
	json_put_close(out, '}');
	buf_put_u8(out, '\n');
	if (out->error == 0 && out->len - begin > max)
		return -EMSGSIZE;
	return out->error;
}

int control_request_encode(const struct control_request *r, struct buf *out)
{
	size_t begin = out->len;

	if (r->command < CONTROL_STATUS || r->command > CONTROL_RESTORE)
		return -EINVAL;
	buf_put_u8(out, '{');
	json_put_text(out, "command", command_words[r->command]);
	if (r->path != NULL)
		json_put_bytes(out, "path", r->path);
	if (r->timeout_ms >= 0)
		json_put_i64(out, "timeout_ms", r->timeout_ms);
	if (r->token != NULL)
		json_put_text(out, "token", r->token);
	return end_line(out, begin, CONTROL_REQUEST_MAX_BYTES);
}

static enum control_command get_command(struct json_in *in, const json_t *root)
{
	size_t len;
	const char *word = json_get_text(in, root, "command", true, &len);

	if (word == NULL)
		return 0;
	for (enum control_command c = CONTROL_STATUS; c <= CONTROL_RESTORE; c++) {
		if (strcmp(command_words[c], word) == 0)
			return c;
	}
	json_refuse(in, -EPROTO, "command", "unknown word");
	return 0;
}

int control_request_decode(
	const void *bytes, size_t len, struct control_request *ret_request, struct buf *why)
{
	struct json_in in = {.why = why};
	cleanup_json json_t *root = json_in_parse(&in, bytes, len, CONTROL_REQUEST_MAX_BYTES, false);
	struct control_request r = {.timeout_ms = CONTROL_TIMEOUT_NONE};

	if (root == NULL)
		return in.error;
	r.command = get_command(&in, root);
	r.path = json_get_bytes(&in, root, "path", false, PATH_MAX_BYTES);
	r.token = json_get_text_copy(&in, root, "token", false);
	if (json_object_get(root, "timeout_ms") != NULL)
		r.timeout_ms = json_get_i64(&in, root, "timeout_ms", true, 0, INT64_MAX);
	if (in.error != 0) {
		control_request_fini(&r);
		return in.error;
	}
	*ret_request = r;
	return 0;
}

static void status_fini(struct control_status *s)
{
	free(s->url);
	free(s->mountpoint);
	free(s->backing);
	free(s->state);
	free(s->last_error);
	free(s->file_state);
}

void control_reply_fini(struct control_reply *r)
{
	status_fini(&r->status);
	free(r->error);
	free(r->token);
	for (size_t i = 0; i < r->conflicts_count; i++)
		free(r->conflicts[i]);
	free(r->conflicts);
	*r = (struct control_reply){0};
}

static void put_optional(struct buf *out, const char *key, const char *bytes)
{
	if (bytes != NULL && bytes[0] != '\0')
		json_put_bytes(out, key, bytes);
}

static void put_status(struct buf *out, const struct control_status *s)
{
	json_put_open(out, "status", '{');
	json_put_bool(out, "connected", s->connected);
	json_put_u64(out, "since_s", s->since_s);
	put_optional(out, "url", s->url);
	put_optional(out, "mountpoint", s->mountpoint);
	put_optional(out, "backing", s->backing);
	put_optional(out, "state", s->state);
	json_put_u64(out, "pending_ops", s->pending_ops);
	json_put_u64(out, "pending_bytes", s->pending_bytes);
	json_put_u64(out, "open_writers", s->open_writers);
	json_put_u64(out, "dead_letters", s->dead_letters);
	json_put_u64(out, "held_deletions", s->held_deletions);
	json_put_u64(out, "waiting_calls", s->waiting_calls);
	json_put_u64(out, "deferred_calls", s->deferred_calls);
	if (s->last_error != NULL)
		json_put_text(out, "last_error", s->last_error);
	json_put_bool(out, "passthrough", s->passthrough);
	json_put_bool(out, "paused", s->paused);
	json_put_u64(out, "cursor_seq", s->cursor_seq);
	if (s->file_state != NULL)
		json_put_text(out, "file_state", s->file_state);
	json_put_close(out, '}');
}

int control_reply_encode(const struct control_reply *r, struct buf *out)
{
	size_t begin = out->len;
	const char *word;

	buf_put_u8(out, '{');
	json_put_bool(out, "ok", r->ok);
	if (!r->ok) {
		error_to_http(r->code != 0 ? r->code : -EIO, &word);
		json_put_text(out, "code", word);
	}
	if (r->error != NULL)
		json_put_text(out, "error", r->error);
	if (r->has_status)
		put_status(out, &r->status);
	if (r->token != NULL)
		json_put_text(out, "token", r->token);
	if (r->has_conflicts) {
		json_put_open(out, "conflicts", '[');
		for (size_t i = 0; i < r->conflicts_count; i++) {
			json_put_open(out, NULL, '{');
			json_put_bytes(out, "path", r->conflicts[i]);
			json_put_close(out, '}');
		}
		json_put_close(out, ']');
	}
	return end_line(out, begin, CONTROL_REPLY_MAX_BYTES);
}

static void get_status(struct json_in *in, const json_t *root, struct control_reply *r)
{
	const json_t *o = json_object_get(root, "status");
	struct control_status *s = &r->status;

	if (o == NULL)
		return;
	if (!json_is_object(o)) {
		json_refuse(in, -EPROTO, "status", "not an object");
		return;
	}
	r->has_status = true;
	s->connected = json_get_bool(in, o, "connected");
	s->passthrough = json_get_bool(in, o, "passthrough");
	s->paused = json_get_bool(in, o, "paused");
	s->since_s = json_get_u64(in, o, "since_s", true, INT64_MAX);
	s->url = json_get_bytes(in, o, "url", false, PATH_MAX_BYTES);
	s->mountpoint = json_get_bytes(in, o, "mountpoint", false, PATH_MAX_BYTES);
	s->backing = json_get_bytes(in, o, "backing", false, PATH_MAX_BYTES);
	s->state = json_get_bytes(in, o, "state", false, PATH_MAX_BYTES);
	s->pending_ops = json_get_u64(in, o, "pending_ops", true, INT64_MAX);
	s->pending_bytes = json_get_u64(in, o, "pending_bytes", true, INT64_MAX);
	s->open_writers = json_get_u64(in, o, "open_writers", true, INT64_MAX);
	s->dead_letters = json_get_u64(in, o, "dead_letters", true, INT64_MAX);
	s->held_deletions = json_get_u64(in, o, "held_deletions", true, INT64_MAX);
	s->waiting_calls = json_get_u64(in, o, "waiting_calls", true, INT64_MAX);
	s->deferred_calls = json_get_u64(in, o, "deferred_calls", true, INT64_MAX);
	s->last_error = json_get_text_copy(in, o, "last_error", false);
	s->cursor_seq = json_get_u64(in, o, "cursor_seq", true, INT64_MAX);
	s->file_state = json_get_text_copy(in, o, "file_state", false);
}

static void get_conflicts(struct json_in *in, const json_t *root, struct control_reply *r)
{
	const json_t *list = json_get_array(in, root, "conflicts", false, JSON_MAX_VALUES);
	size_t count = json_array_size(list);

	if (list == NULL)
		return;
	r->has_conflicts = true;
	r->conflicts = calloc(count + 1, sizeof(r->conflicts[0]));
	if (r->conflicts == NULL) {
		json_refuse(in, -ENOMEM, "conflicts", "out of memory");
		return;
	}
	r->conflicts_count = count;
	in->list = "conflicts";
	for (in->item = 0; in->item < count && in->error == 0; in->item++)
		r->conflicts[in->item] =
			json_get_bytes(in, json_array_get(list, in->item), "path", true, PATH_MAX_BYTES);
	in->list = NULL;
}

int control_reply_decode(const void *bytes, size_t len, struct control_reply *ret_reply, struct buf *why)
{
	struct json_in in = {.why = why};
	cleanup_json json_t *root = json_in_parse(&in, bytes, len, CONTROL_REPLY_MAX_BYTES, false);
	struct control_reply r = {0};
	const char *word;
	size_t word_len;

	if (root == NULL)
		return in.error;
	if (json_object_get(root, "ok") == NULL)
		json_refuse(&in, -EPROTO, "ok", "missing");
	r.ok = json_get_bool(&in, root, "ok");
	word = json_get_text(&in, root, "code", !r.ok, &word_len);
	r.code = r.ok ? 0 : error_from_http(0, word);
	r.error = json_get_text_copy(&in, root, "error", false);
	get_status(&in, root, &r);
	r.token = json_get_text_copy(&in, root, "token", false);
	get_conflicts(&in, root, &r);
	if (in.error != 0) {
		control_reply_fini(&r);
		return in.error;
	}
	*ret_reply = r;
	return 0;
}
