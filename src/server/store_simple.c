/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The simple poll: the difference between what an actor has been told and what is, in order of the feed.
 * Called by api_poll. It tells of files only; a rename is a deletion and an upload; what a row says is told
 * only when the file shows it.
 */
#include "store_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <syncfs/limits.h>

#define MARGIN_BYTES 512 /* room that an entry takes beside its content */

struct telling {
	struct store *s;
	const struct id *actor;
	const char *url_base;
	struct buf *out;
	size_t start;
	ssize_t count;
	uint64_t done_seq; /* all up to here has been told */
	bool full;
};

static void encode_path(struct buf *out, const char *path)
{
	for (; *path; path++) {
		unsigned char c = (unsigned char)*path;

		if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
			strchr("-._~/", c))
			buf_put_u8(out, c);
		else
			buf_printf(out, "%%%02X", c);
	}
}

static int entry_url(struct telling *t, const char *path, const struct node_state *n, struct buf *entry)
{
	cleanup_buf struct buf url = BUF_INIT;

	buf_put_str(&url, t->url_base ? t->url_base : "");
	encode_path(&url, path);
	return buf_cstr(&url) ? simple_entry_encode_url(entry, path, buf_cstr(&url), n->content.size)
			      : -ENOMEM;
}

static int entry_upload(struct telling *t, const char *path, const struct node_state *n, struct buf *entry)
{
	cleanup_buf struct buf bytes = BUF_INIT;
	cleanup_fd int fd = -1;
	ssize_t got;
	int r;

	if (n->content.size > ANSWER_MAX_BYTES)
		return entry_url(t, path, n, entry);
	fd = prepare_node_open(t->s, t->s->meta, &n->node);
	if (fd < 0)
		return fd;
	r = buf_reserve(&bytes, (size_t)n->content.size + 1);
	if (r < 0)
		return r;
	got = io_pread(fd, bytes.data, (size_t)n->content.size + 1, 0);
	if (got != (ssize_t)n->content.size)
		return got < 0 ? (int)got : -EAGAIN;
	r = simple_entry_encode_upload(entry, path, bytes.data, (size_t)got);
	if (r < 0 || entry->len + MARGIN_BYTES <= ANSWER_MAX_BYTES)
		return r;
	/* as text or base64 it is over the limit */
	buf_reset(entry);
	return entry_url(t, path, n, entry);
}

/* Appends the entry unless the answer is full. */
static int append(struct telling *t, const struct buf *entry)
{
	if (t->out->len - t->start + entry->len + MARGIN_BYTES > ANSWER_MAX_BYTES && t->count > 0) {
		t->full = true;
		return 0;
	}
	buf_put_str(t->out, t->count ? "," : "");
	buf_put(t->out, entry->data, entry->len);
	t->count++;
	return t->out->error;
}

static int tell_delete(struct telling *t, const char *path)
{
	cleanup_buf struct buf entry = BUF_INIT;
	int r = simple_entry_encode_delete(&entry, path);

	if (r == 0)
		r = append(t, &entry);
	if (r < 0 || t->full)
		return r;
	return meta_told_del(t->s->meta, t->actor, path);
}

static int tell_upload(struct telling *t, const char *path, const struct node_state *n)
{
	cleanup_buf struct buf entry = BUF_INIT;
	struct hash told;
	int r = meta_told_get(t->s->meta, t->actor, path, &told);

	if (r == 0 && hash_equal(&told, &n->content.hash))
		return meta_told_put(t->s->meta, t->actor, path, &n->node, &told);
	if (r < 0 && r != -ENOENT)
		return r;
	if (!utf8_is_valid(path, strlen(path)))
		return 0; /* this form has no way to say it */
	r = entry_upload(t, path, n, &entry);
	if (r == -ENOENT || r == -EAGAIN || r == -EACCES)
		return 0; /* changed by hand just now: the change to come is told */
	if (r == 0)
		r = append(t, &entry);
	if (r < 0 || t->full)
		return r;
	return meta_told_put(t->s->meta, t->actor, path, &n->node, &n->content.hash);
}

static char *path_of(const char *dir, const char *name)
{
	cleanup_buf struct buf path = BUF_INIT;

	if (*dir) {
		buf_put_str(&path, dir);
		buf_put_str(&path, "/");
	}
	buf_put_str(&path, name);
	return buf_cstr(&path) ? strdup(buf_cstr(&path)) : NULL;
}

static bool has_path(char **paths, size_t count, const char *path)
{
	for (size_t i = 0; i < count; i++) {
		if (strcmp(paths[i], path) == 0)
			return true;
	}
	return false;
}

static void paths_free(char **paths, size_t count)
{
	for (size_t i = 0; i < count; i++)
		free(paths[i]);
	free(paths);
}

/* The paths that a file has now. */
static int paths_now(struct telling *t, const struct node_state *n, char ***ret_paths, size_t *ret_count)
{
	char **paths = calloc(n->names_count + 1, sizeof(*paths));
	size_t count = 0;
	int r = paths ? 0 : -ENOMEM;

	for (size_t i = 0; r == 0 && i < n->names_count; i++) {
		cleanup_free char *dir = NULL;

		r = meta_dir_path(t->s->meta, &n->names[i].parent, &dir);
		if (r == 0) {
			paths[count] = path_of(dir, n->names[i].name);
			r = paths[count] ? 0 : -ENOMEM;
			count += r == 0;
		}
	}
	if (r < 0) {
		paths_free(paths, count);
		return r;
	}
	*ret_paths = paths;
	*ret_count = count;
	return 0;
}

/* The path may have been taken by another file since: then that one's upload says enough. */
static int path_is_free(struct telling *t, const char *path)
{
	struct id at = ID_ROOT;
	const char *next;
	uint64_t l;
	int r = 0;

	for (; r == 0 && path; path = next ? next + 1 : NULL) {
		cleanup_free char *name = NULL;

		next = strchr(path, '/');
		name = next ? strndup(path, (size_t)(next - path)) : strdup(path);
		r = name ? meta_dentry_get(t->s->meta, &at, name, &at, &l) : -ENOMEM;
	}
	return r == -ENOENT ? 1 : r;
}

static int tell_file(struct telling *t, const struct node_state *n)
{
	char **now = NULL, **told = NULL;
	size_t now_count = 0, told_count = 0;
	int r = paths_now(t, n, &now, &now_count);

	if (r == 0)
		r = meta_told_paths(t->s->meta, t->actor, &n->node, &told, &told_count);
	for (size_t i = 0; r >= 0 && !t->full && i < told_count; i++) {
		if (has_path(now, now_count, told[i]))
			continue;
		r = path_is_free(t, told[i]);
		if (r == 1)
			r = tell_delete(t, told[i]);
	}
	for (size_t i = 0; r >= 0 && !t->full && i < now_count; i++)
		r = tell_upload(t, now[i], n);
	paths_free(now, now_count);
	paths_free(told, told_count);
	return r;
}

static int tell_node(struct telling *t, const struct node_state *n, int depth);

/* A directory that came or moved: all below it has other paths. */
static int tell_dir(struct telling *t, const struct id *dir, int depth)
{
	struct meta_child *children;
	size_t count;
	int r = depth > TREE_MAX_DEPTH ? -ELOOP : meta_children(t->s->meta, dir, &children, &count);

	if (r < 0)
		return r;
	for (size_t i = 0; r >= 0 && !t->full && i < count; i++) {
		struct node_state n = {0};

		r = meta_node_get(t->s->meta, &children[i].node, &n);
		if (r == 0)
			r = tell_node(t, &n, depth + 1);
		node_state_fini(&n);
	}
	meta_children_fini(children, count);
	return r;
}

static int tell_node(struct telling *t, const struct node_state *n, int depth)
{
	if (n->kind == KIND_DIR)
		return n->tomb ? 0 : tell_dir(t, &n->node, depth);
	return n->kind == KIND_FILE ? tell_file(t, n) : 0;
}

/* The changed nodes are noted first: telling uses the rows' statements itself. */
struct noted {
	struct node_state *list;
	size_t count, cap;
};

#define NOTED_MAX 4096

static int note(void *arg, struct node_state *n)
{
	struct noted *noted = arg;

	if (noted->count >= NOTED_MAX && noted->list[noted->count - 1].seq != n->seq)
		return 0;
	if (noted->count == noted->cap) {
		size_t cap = noted->cap ? noted->cap * 2 : 64;
		struct node_state *grown = reallocarray(noted->list, cap, sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		noted->list = grown;
		noted->cap = cap;
	}
	noted->list[noted->count++] = *n;
	*n = (struct node_state){0};
	return 1;
}

static int tell_noted(struct telling *t, const struct noted *noted)
{
	int r = 0;

	for (size_t i = 0; r >= 0 && !t->full && i < noted->count; i++) {
		r = tell_node(t, &noted->list[i], 0);
		/* several nodes may have one seq: it is told with the last of them */
		if (r >= 0 && !t->full &&
			(i + 1 == noted->count || noted->list[i + 1].seq != noted->list[i].seq))
			t->done_seq = noted->list[i].seq;
	}
	return r;
}

static int tell(struct telling *t, uint64_t after)
{
	struct noted noted;
	int r;

	t->done_seq = after;
	do {
		noted = (struct noted){0};
		r = meta_changes(t->s->meta, t->done_seq, t->s->at.seq, false, note, &noted);
		if (r >= 0)
			r = tell_noted(t, &noted);
		for (size_t i = 0; i < noted.count; i++)
			node_state_fini(&noted.list[i]);
		free(noted.list);
	} while (r >= 0 && !t->full && noted.count >= NOTED_MAX);
	if (r >= 0 && !t->full)
		t->done_seq = t->s->at.seq;
	return r < 0 ? r : 0;
}

ssize_t store_simple_poll(
	struct store *s, const struct store_actor *actor, const char *url_base, struct buf *out)
{
	struct telling t = {.s = s, .actor = &actor->id, .url_base = url_base, .out = out, .start = out->len};
	uint64_t after = 0;
	int r;

	if (store_is_failed(s))
		return -EIO;
	buf_put_str(out, "[");
	MUTEX_GUARD(&s->lock);
	r = meta_told_seq_get(s->meta, &actor->id, &after);
	if (r == 0 && after < s->at.seq) {
		r = meta_begin(s->meta, false);
		if (r == 0)
			r = tell(&t, after);
		if (r == 0)
			r = meta_told_seq_put(s->meta, &actor->id, t.done_seq);
		if (r == 0)
			r = meta_commit(s->meta);
		if (r < 0)
			meta_rollback(s->meta);
	}
	if (r < 0)
		return r;
	buf_put_str(out, "]");
	return out->error ? out->error : t.count;
}
