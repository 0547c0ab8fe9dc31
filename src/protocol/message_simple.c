/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The simple form: requests of scripts and entries of their polls, byte for byte as syncfs-protocol(7)
 * fixes them. Used by the server only. Never touches the tree.
 */
#include <syncfs/message.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <syncfs/io.h>
#include <syncfs/limits.h>
#include <syncfs/path.h>

#include "json.h"

static const char *const action_words[] = {
	[SIMPLE_UPLOAD] = "upload",
	[SIMPLE_DELETE] = "delete",
	[SIMPLE_MKDIR] = "mkdir",
	[SIMPLE_RENAME] = "rename",
};

static const char invalid_data[] = "Invalid data";
static const char invalid_path[] = "Invalid path";

void simple_request_fini(struct simple_request *r)
{
	free(r->path);
	free(r->new_path);
	free(r->content.data);
	*r = (struct simple_request){0};
}

static bool word_is(const json_t *v, const char *word)
{
	return json_is_string(v) && json_string_length(v) == strlen(word) &&
		strcmp(json_string_value(v), word) == 0;
}

static int get_action(const json_t *root, enum simple_action *ret_action, const char **ret_error)
{
	const json_t *action = json_object_get(root, "action");

	if (!json_is_string(action) || !json_is_string(json_object_get(root, "file_path"))) {
		*ret_error = invalid_data;
		return -EPROTO;
	}
	for (enum simple_action a = SIMPLE_UPLOAD; a <= SIMPLE_RENAME; a++) {
		if (word_is(action, action_words[a])) {
			*ret_action = a;
			return 0;
		}
	}
	*ret_error = "Invalid action";
	return -EPROTO;
}

static int get_path(const json_t *root, const char *key, char **ret_path, const char **ret_error)
{
	const json_t *v = json_object_get(root, key);
	size_t len = json_string_length(v);

	if (!json_is_string(v)) {
		*ret_error = invalid_data;
		return -EPROTO;
	}
	if (!path_is_valid(json_string_value(v), len)) {
		*ret_error = invalid_path;
		return -EPROTO;
	}
	*ret_path = strndup(json_string_value(v), len);
	return *ret_path != NULL ? 0 : -ENOMEM;
}

static int get_upload(const json_t *root, struct blob *ret_content, const char **ret_error)
{
	const json_t *v = json_object_get(root, "file_content"),
		     *encoding = json_object_get(root, "encoding");
	cleanup_buf struct buf content = BUF_INIT;
	size_t len = json_string_length(v);
	int r;

	if (!json_is_string(v)) {
		*ret_error = invalid_data;
		return -EPROTO;
	}
	if (encoding == NULL) {
		buf_put(&content, json_string_value(v), len);
		r = content.error;
	} else if (word_is(encoding, "base64")) {
		r = base64_decode(&content, json_string_value(v), len);
	} else {
		r = -EPROTO;
	}
	if (r < 0) {
		*ret_error = "Invalid encoding";
		return r == -ENOMEM ? r : -EPROTO;
	}
	ret_content->len = content.len;
	ret_content->data = steal_ptr(&content.data);
	return 0;
}

int simple_request_decode(
	const void *bytes, size_t len, struct simple_request *ret_request, const char **ret_error)
{
	struct json_in in = {0};
	/* Text may hold NUL here, and an upload fills the body. */
	cleanup_json json_t *root = json_in_parse(&in, bytes, len, BODY_MAX_BYTES, true);
	struct simple_request request = {0};
	int r;

	*ret_error = invalid_data;
	if (root == NULL)
		return in.error;
	r = get_action(root, &request.action, ret_error);
	if (r == 0)
		r = get_path(root, "file_path", &request.path, ret_error);
	if (r == 0 && request.action == SIMPLE_RENAME)
		r = get_path(root, "new_path", &request.new_path, ret_error);
	if (r == 0 && request.action == SIMPLE_UPLOAD)
		r = get_upload(root, &request.content, ret_error);
	if (r < 0) {
		simple_request_fini(&request);
		return r;
	}
	*ret_error = NULL;
	*ret_request = request;
	return 0;
}

/* The form has no way to name bytes that are no UTF-8: -EILSEQ, nothing written. */
static int put_entry(struct buf *out, const char *action, const char *path)
{
	size_t len = strlen(path);

	if (!utf8_is_valid(path, len))
		return -EILSEQ;
	buf_put_u8(out, '{');
	json_put_text(out, "action", action);
	json_put_text(out, "file_path", path);
	return 0;
}

int simple_entry_encode_upload(struct buf *out, const char *path, const void *content, size_t len)
{
	int r = put_entry(out, "upload", path);

	if (r < 0)
		return r;
	if (len == 0) {
		json_put_text(out, "file_content", "");
	} else if (utf8_is_valid(content, len) && memchr(content, 0, len) == NULL) {
		json_put_key_bytes(out, "file_content", strlen("file_content"));
		json_put_string(out, content, len);
	} else {
		json_put_base64(out, "file_content", content, len);
		json_put_text(out, "encoding", "base64");
	}
	json_put_close(out, '}');
	return out->error;
}

int simple_entry_encode_url(struct buf *out, const char *path, const char *url, uint64_t size)
{
	int r = put_entry(out, "upload", path);

	if (r < 0)
		return r;
	json_put_text(out, "url", url);
	json_put_u64(out, "size", size);
	json_put_close(out, '}');
	return out->error;
}

int simple_entry_encode_delete(struct buf *out, const char *path)
{
	int r = put_entry(out, "delete", path);

	if (r < 0)
		return r;
	json_put_close(out, '}');
	return out->error;
}

int simple_answer_encode(const char *message, struct buf *out)
{
	buf_put_u8(out, '{');
	json_put_text(out, "status", "success");
	json_put_text(out, "message", message);
	json_put_close(out, '}');
	return out->error;
}
