/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is asked of the store without changing it: the feed, chunks, manifests. On the reading handle, so that
 * it never waits for a commit, and never beyond what the tree shows. Called by api_poll and api_content.
 */
#include "store_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include <syncfs/limits.h>
#include <syncfs/manifest.h>

#define RANGES_TRIED 8
#define CHANGE_BYTES 200 /* about what the fields of one change take in the answer */

struct paging {
	struct store *s;
	bool want_data;
	const struct id *client; /* whose own changes go without data; NULL: nobody's */
	size_t max_bytes, bytes;
	struct id dir; /* of the file that was opened last */
	int dir_fd;
	struct buf *raw;
	struct page *page;
	size_t cap;
};

/* A name of n, opened, below its directory, which stays open for the next one. */
static int open_file(struct paging *g, const struct node_state *n)
{
	int fd = -ENOENT;

	for (size_t i = 0; fd < 0 && i < n->names_count; i++) {
		if (g->dir_fd < 0 || !id_equal(&g->dir, &n->names[i].parent)) {
			cleanup_free char *path = NULL;

			cleanup_fd_(&g->dir_fd);
			g->dir = n->names[i].parent;
			if (meta_dir_path(g->s->reader, &g->dir, &path) == 0)
				g->dir_fd = tree_open_dir(&g->s->tree, path);
		}
		if (g->dir_fd >= 0)
			fd = tree_open_at(&g->s->tree, g->dir_fd, n->names[i].name, O_RDONLY | O_NONBLOCK);
	}
	return fd;
}

/* Appends what the file has, when it is (still) what the row says. */
static bool read_file(struct paging *g, const struct node_state *n)
{
	size_t at = g->raw->len, len = (size_t)n->content.size;
	cleanup_fd int fd = len ? open_file(g, n) : -1;
	struct content is;

	if ((len && fd < 0) || buf_reserve(g->raw, len + 1) < 0)
		return false;
	if (len && io_pread(fd, g->raw->data + at, len + 1, 0) != (ssize_t)len)
		return false;
	if (manifest_of_bytes(g->raw->data + at, len, &is, NULL) < 0 ||
		!hash_equal(&is.hash, &n->content.hash))
		return false;
	g->raw->len += len;
	return true;
}

/* The bytes of a small file. */
static void ride_along(struct paging *g, struct node_state *n)
{
	size_t at = g->raw->len, len = (size_t)n->content.size;

	if (!g->want_data || n->tomb || n->kind != KIND_FILE || n->content.size > INLINE_DOWN_MAX_BYTES)
		return;
	if (g->client && id_equal(g->client, &n->by_client))
		return;
	if (!recent_get(g->s->recent, &n->content.hash, len, g->raw) && !read_file(g, n))
		return;
	n->has_data = true;
	n->data_at = at;
	n->data_len = len;
	g->bytes += len;
}

static int each_change(void *arg, struct node_state *n)
{
	struct paging *g = arg;
	struct page *page = g->page;

	/* what one commit changed stays together: the cursor of the page stands behind a commit */
	if (page->changes_count && g->bytes >= g->max_bytes &&
		page->changes[page->changes_count - 1].seq != n->seq) {
		page->more = true;
		return 0;
	}
	if (page->changes_count == g->cap) {
		size_t cap = g->cap ? g->cap * 2 : 64;
		struct node_state *grown = reallocarray(page->changes, cap, sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		page->changes = grown;
		g->cap = cap;
	}
	g->bytes += CHANGE_BYTES + n->xattr.len * 4 / 3 + (n->target ? strlen(n->target) : 0);
	for (size_t i = 0; i < n->names_count; i++)
		g->bytes += 64 + strlen(n->names[i].name);
	ride_along(g, n);
	page->changes[page->changes_count++] = *n;
	*n = (struct node_state){0};
	return 1;
}

/* 0, or why the asker has to rebase. */
static int check_from(struct store *s, const struct cursor *from, const struct cursor *seen)
{
	uint64_t tag;
	int r;

	if (!id_equal(&from->epoch, &seen->epoch))
		return -ECHRNG;
	if (from->seq > seen->seq)
		return -ESTALE;
	if (from->seq == 0)
		return from->tag == 0 ? 0 : -ESTALE;
	r = meta_log_tag(s->reader, from->seq, &tag);
	if (r == -ENOENT)
		return -EOWNERDEAD;
	return r < 0 ? r : tag == from->tag ? 0 : -ESTALE;
}

int store_check_cursor(struct store *s, const struct cursor *cursor)
{
	struct cursor seen;

	store_cursor(s, &seen);
	MUTEX_GUARD(&s->read_lock);
	return check_from(s, cursor, &seen);
}

static int end_of_page(struct store *s, const struct cursor *seen, struct page *page)
{
	int r;

	page->cursor = *seen;
	if (!page->more)
		return 0;
	page->cursor.seq = page->changes[page->changes_count - 1].seq;
	r = meta_log_tag(s->reader, page->cursor.seq, &page->cursor.tag);
	return r == -ENOENT ? -EIO : r;
}

/* From somewhere in the list on, so that all are told in time when they are more than a page has. */
static int list_wanted(struct store *s, struct page *page)
{
	const struct id at = id_new();
	struct hash from = {0};
	ssize_t n;

	memcpy(from.b, at.b, ID_BYTES);
	page->want = calloc(WANT_PER_PAGE, sizeof(*page->want));
	if (!page->want)
		return -ENOMEM;
	n = meta_want_list(s->reader, &from, page->want, WANT_PER_PAGE);
	if (n > 0) {
		page->want_count = (size_t)n;
		return 0;
	}
	free(page->want);
	page->want = NULL;
	return (int)n;
}

/* REQUIRES(s->read_lock), in a snapshot. */
static int fill_page(struct paging *g, const struct cursor *from, const struct cursor *seen)
{
	struct page *page = g->page;
	int r = from ? check_from(g->s, from, seen) : 0;

	page->from = from ? *from : (struct cursor){0};
	/* Without a cursor there is nothing to delete. From seq 0 of this epoch on there is: its own first
	 * operations may be what the client knows. */
	if (r == 0)
		r = meta_changes(g->s->reader, page->from.seq, seen->seq, from == NULL, each_change, g);
	if (r == 0)
		r = end_of_page(g->s, seen, page);
	return r < 0 ? r : list_wanted(g->s, page);
}

static int make_page(struct paging *g, const struct cursor *from, struct page *ret_page)
{
	struct store *s = g->s;
	struct page page = {0};
	struct cursor seen;
	int r;

	if (store_is_failed(s))
		return -EIO;
	if (from && from->seq == 0 && id_is_none(&from->epoch))
		from = NULL;
	g->page = &page;
	g->dir_fd = -1;
	store_cursor(s, &seen);
	MUTEX_GUARD(&s->read_lock);
	r = meta_begin_read(s->reader);
	if (r == 0)
		r = fill_page(g, from, &seen);
	meta_rollback(s->reader);
	cleanup_fd_(&g->dir_fd);
	if (r < 0) {
		page_fini(&page);
		return r;
	}
	page.raw = g->raw->data;
	page.raw_len = g->raw->len;
	*ret_page = page;
	return 0;
}

int store_changes(struct store *s, const struct cursor *from, bool want_data, size_t max_bytes,
	struct page *ret_page, struct buf *raw)
{
	struct paging g = {.s = s, .want_data = want_data, .max_bytes = max_bytes, .raw = raw};

	return make_page(&g, from, ret_page);
}

int store_changes_of_others(struct store *s, const struct cursor *from, const struct id *client,
	size_t max_bytes, struct page *ret_page, struct buf *raw)
{
	struct paging g = {.s = s, .want_data = true, .client = client, .max_bytes = max_bytes, .raw = raw};

	return make_page(&g, from, ret_page);
}

void store_cursor(struct store *s, struct cursor *ret_cursor)
{
	MUTEX_GUARD(&s->seen_lock);
	*ret_cursor = s->seen;
}

int store_session(struct store *s, const struct id *client, struct session *ret_session)
{
	struct meta_client row = {0};
	int r;

	{
		MUTEX_GUARD(&s->lock);
		r = meta_client_get(s->meta, client, &row);
	}
	if (r < 0 && r != -ENOENT)
		return r;
	ret_session->last_opno = row.last_opno;
	store_cursor(s, &ret_session->cursor);
	return 0;
}

/* 1: it lies here, or in a content that does; 0. */
static int chunk_is_held(struct store *s, const struct hash *chunk)
{
	struct meta_range ranges[RANGES_TRIED];
	ssize_t n;

	if (content_chunk_has(&s->content, chunk))
		return 1;
	n = meta_chunk_find(s->reader, chunk, ranges, RANGES_TRIED);
	for (ssize_t i = 0; i < n; i++) {
		int r = meta_want_has(s->reader, &ranges[i].content);

		if (r != 1)
			return r < 0 ? r : 1;
	}
	return n < 0 ? (int)n : 0;
}

ssize_t store_chunks_missing(struct store *s, struct hash *hashes, size_t count)
{
	size_t missing = 0;

	if (store_is_failed(s))
		return -EIO;
	MUTEX_GUARD(&s->read_lock);
	for (size_t i = 0; i < count; i++) {
		int r = chunk_is_held(s, &hashes[i]);

		if (r < 0)
			return r;
		if (r == 0)
			hashes[missing++] = hashes[i];
	}
	return (ssize_t)missing;
}

int store_chunk_put(struct store *s, const struct hash *hash, const void *bytes, size_t len)
{
	struct hash is;

	if (store_is_failed(s))
		return -EIO;
	if (len == 0 || len > CHUNK_MAX_BYTES)
		return -EBADMSG;
	is = hash_bytes(bytes, len);
	return hash_equal(&is, hash) ? content_chunk_put(&s->content, hash, bytes, len) : -EBADMSG;
}

int store_chunk_get(struct store *s, const struct hash *hash, struct buf *out)
{
	bool is_news;
	int r;

	if (store_is_failed(s))
		return -EIO;
	{
		MUTEX_GUARD(&s->read_lock);
		r = prepare_chunk_get(s, s->reader, hash, out);
	}
	if (r == 0 || r == -ENOMEM)
		return r;
	{
		/* A commit may be moving it just now. */
		MUTEX_GUARD(&s->lock);
		r = prepare_chunk_get(s, s->meta, hash, out);
		is_news = (r == -ENOENT || r == -EBADMSG) && want_chunk(s, hash) == 1;
	}
	if (is_news)
		store_changed(s);
	return r;
}

int store_manifest(struct store *s, const struct hash *content, struct blob *ret_manifest)
{
	MUTEX_GUARD(&s->read_lock);
	return meta_content_get(s->reader, content, ret_manifest);
}
