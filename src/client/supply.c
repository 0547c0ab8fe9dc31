/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One round for each list that the poller offers: a walk over S for files of these contents, each read and
 * verified, its chunks sent, and the server told. Called by the poller; never waited for by anybody. What
 * fails is offered again by a later poll; nothing is tried again within RETRY_MS.
 */
#include "supply.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <syncfs/clock.h>
#include <syncfs/io.h>
#include <syncfs/limits.h>
#include <syncfs/log.h>
#include <syncfs/manifest.h>
#include <syncfs/map.h>
#include <syncfs/mutex.h>

#include "remote.h"
#include "syncstate.h"

#define RETRY_MS 20000
#define TRIED_MAX 4096 /* remembered; more than that: all forgotten */
#define HOLDERS_MAX 4096 /* files of a round, several may have one content */
#define PUT_BYTES ((size_t)4 << 20) /* chunks in one request */
#define PUT_CHUNKS 4096
#define TELL_BYTES ((uint64_t)32 << 20) /* sent before the server is told */

struct supply {
	struct mutex lock; /* guards down to the blank line */
	struct cond changed;
	struct hash offered[WANT_PER_PAGE];
	size_t offered_count;
	bool stopping;

	/* the thread's own */
	struct map *tried; /* hash -> clock_mono_ms() from when on it may be tried again, as a pointer */
	size_t tried_count;

	/* set at start, then read-only */
	struct supply_config config;
	pthread_t thread;
};

struct holder {
	struct id node;
	size_t wanted; /* index */
};

struct round {
	struct supply *s;
	struct hash wanted[WANT_PER_PAGE];
	bool sent[WANT_PER_PAGE];
	size_t count;
	struct map *index; /* wanted hash -> index + 1 */
	struct holder *holders;
	size_t holders_count;

	/* on their way */
	struct buf bytes;
	struct chunk_ref refs[PUT_CHUNKS];
	size_t offsets[PUT_CHUNKS];
	size_t refs_count;
	struct hash complete[WANT_PER_PAGE];
	size_t complete_count;
	uint64_t untold_bytes;
};

/* ---- what to try ---- */

static bool is_due(struct supply *s, const struct hash *hash, uint64_t now)
{
	uintptr_t until = (uintptr_t)map_get(s->tried, hash->b, HASH_BYTES);

	return now >= until;
}

static int note_tried(struct supply *s, const struct hash *hash, uint64_t now)
{
	if (s->tried_count >= TRIED_MAX) {
		struct map *fresh = map_new();

		if (!fresh)
			return -ENOMEM;
		map_free(s->tried);
		s->tried = fresh;
		s->tried_count = 0;
	}
	s->tried_count++;
	return map_put(s->tried, hash->b, HASH_BYTES, (void *)(uintptr_t)(now + RETRY_MS)); // NOLINT
}

static int choose(struct round *g, const struct hash *offered, size_t count)
{
	uint64_t now = clock_mono_ms();
	int r = 0;

	for (size_t i = 0; r == 0 && i < count; i++) {
		if (!is_due(g->s, &offered[i], now))
			continue;
		g->wanted[g->count++] = offered[i];
		r = map_put(g->index, offered[i].b, HASH_BYTES, (void *)(uintptr_t)g->count); // NOLINT
		if (r == 0)
			r = note_tried(g->s, &offered[i], now);
	}
	return r;
}

static int on_file(void *arg, const struct id *node, const struct hash *content)
{
	struct round *g = arg;
	size_t at = (size_t)(uintptr_t)map_get(g->index, content->b, HASH_BYTES);

	if (at && g->holders_count < HOLDERS_MAX)
		g->holders[g->holders_count++] = (struct holder){*node, at - 1};
	return 0;
}

static int find_holders(struct round *g)
{
	struct id after = ID_NONE;
	int r;

	g->holders = calloc(HOLDERS_MAX, sizeof(*g->holders));
	if (!g->holders)
		return -ENOMEM;
	do
		r = syncstate_peek_files(g->s->config.state, &after, on_file, g);
	while (r == 1);
	return r;
}

/* ---- sending ---- */

static int put_chunks(struct round *g)
{
	int r = 0;

	for (size_t i = 0; i < g->refs_count; i++)
		g->refs[i].data = g->bytes.data + g->offsets[i];
	if (g->refs_count)
		r = remote_put_chunks(g->s->config.remote, g->refs, g->refs_count);
	g->refs_count = 0;
	buf_reset(&g->bytes);
	return r;
}

static int tell(struct round *g)
{
	size_t told = g->complete_count, left = told;
	int r = put_chunks(g);

	if (r == 0 && told)
		r = remote_supply(g->s->config.remote, g->complete, &left);
	if (r == 0 && told > left)
		log_info("%zu contents that the server lacked were sent again", told - left);
	g->complete_count = 0;
	g->untold_bytes = 0;
	return r;
}

static int compare_hashes(const void *a, const void *b)
{
	return memcmp(a, b, HASH_BYTES);
}

/* The chunks of a large content that the server has not: sorted, caller frees. */
static int ask_missing(struct round *g, const struct blob *m, struct hash **ret_missing, size_t *ret_count)
{
	size_t n = manifest_count(m), count = 0;
	struct hash *hashes = calloc(n ? n : 1, sizeof(*hashes));
	uint32_t len;
	int r;

	if (!hashes)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++)
		manifest_entry(m, i, &hashes[i], &len);
	qsort(hashes, n, sizeof(*hashes), compare_hashes);
	for (size_t i = 0; i < n; i++) {
		if (!count || !hash_equal(&hashes[count - 1], &hashes[i]))
			hashes[count++] = hashes[i];
	}
	r = remote_chunks_missing(g->s->config.remote, hashes, &count);
	if (r) {
		free(hashes);
		return r;
	}
	qsort(hashes, count, sizeof(*hashes), compare_hashes);
	*ret_missing = hashes;
	*ret_count = count;
	return 0;
}

/* Read again, so that memory stays bounded; -EAGAIN: it is another now. */
static int add_chunk(struct round *g, int fd, uint64_t at, uint32_t len, const struct hash *hash)
{
	struct hash is;
	ssize_t n;
	int r = buf_reserve(&g->bytes, len);

	if (r)
		return r;
	n = io_pread(fd, g->bytes.data + g->bytes.len, len, (off_t)at);
	if (n < 0)
		return (int)n;
	is = hash_bytes(g->bytes.data + g->bytes.len, (size_t)n);
	if ((uint32_t)n != len || !hash_equal(&is, hash))
		return -EAGAIN;
	g->offsets[g->refs_count] = g->bytes.len;
	g->refs[g->refs_count++] = (struct chunk_ref){.hash = *hash, .len = len};
	g->bytes.len += len;
	g->untold_bytes += len;
	return g->bytes.len + CHUNK_MAX_BYTES > PUT_BYTES || g->refs_count == PUT_CHUNKS ? put_chunks(g) : 0;
}

static int send_chunks(struct round *g, int fd, const struct content *content, const struct blob *m)
{
	bool is_large = content->size > INLINE_UP_MAX_BYTES;
	cleanup_free struct hash *missing = NULL;
	size_t missing_count = 0;
	uint64_t at = 0;
	int r = is_large ? ask_missing(g, m, &missing, &missing_count) : 0;

	for (size_t i = 0; r == 0 && i < manifest_count(m); i++) {
		struct hash hash;
		uint32_t len;

		manifest_entry(m, i, &hash, &len);
		if (!is_large ||
			(missing_count &&
				bsearch(&hash, missing, missing_count, sizeof(hash), compare_hashes)))
			r = add_chunk(g, fd, at, len, &hash);
		at += len;
	}
	return r;
}

/* ---- one file ---- */

/* Where S has a directory, relative; caller frees. */
static int path_of(struct syncstate *state, const struct id *dir, char **ret_path)
{
	struct id at = *dir;
	char *path = strdup("");

	for (int depth = 0; path && !id_equal(&at, &ID_ROOT); depth++) {
		cleanup_free char *name = NULL, *below = path;
		int r = depth < TREE_MAX_DEPTH ? syncstate_peek_parent(state, &at, &at, &name) : -ELOOP;

		if (r)
			return r;
		if (asprintf(&path, "%s%s%s", name, *below ? "/" : "", below) < 0)
			path = NULL;
	}
	*ret_path = path;
	return path ? 0 : -ENOMEM;
}

/* fd; -ENOENT: not where S has it. */
static int open_node(struct supply *s, const struct id *node)
{
	struct base_row row;
	int r = syncstate_peek_base(s->config.state, node, &row), fd = -ENOENT;

	if (r)
		return r;
	for (size_t i = 0; fd < 0 && i < row.state.names_count; i++) {
		cleanup_free char *path = NULL;
		cleanup_fd int dir = -1;

		if (path_of(s->config.state, &row.state.names[i].parent, &path))
			continue;
		dir = tree_open_dir(s->config.tree, path);
		if (dir >= 0)
			fd = tree_open_at(
				s->config.tree, dir, row.state.names[i].name, O_RDONLY | O_NONBLOCK);
	}
	base_row_fini(&row);
	return fd < 0 ? -ENOENT : fd;
}

/* 1: all of it is on its way; 0: this file has other bytes by now; -errno of the server. */
static int send_file(struct round *g, const struct holder *h)
{
	cleanup_fd int fd = open_node(g->s, &h->node);
	struct blob manifest = {0};
	struct content content;
	struct stat_id st;
	int r;

	if (fd < 0 || tree_hash_file(fd, &content, &manifest, &st) < 0)
		return 0;
	r = hash_equal(&content.hash, &g->wanted[h->wanted]) ? send_chunks(g, fd, &content, &manifest)
							     : -EAGAIN;
	free(manifest.data);
	if (r == -EAGAIN || r == 0)
		r = r == 0;
	if (r == 1)
		g->complete[g->complete_count++] = content.hash;
	return r;
}

static int send_all(struct round *g)
{
	int r = 0;

	for (size_t i = 0; r >= 0 && i < g->holders_count; i++) {
		const struct holder *h = &g->holders[i];

		if (g->sent[h->wanted])
			continue;
		r = send_file(g, h);
		g->sent[h->wanted] = r == 1;
		if (r >= 0 && g->untold_bytes >= TELL_BYTES)
			r = tell(g);
	}
	return r < 0 ? r : tell(g);
}

/* ---- rounds ---- */

static int do_round(struct supply *s, const struct hash *offered, size_t count)
{
	struct round *g = calloc(1, sizeof(*g));
	int r;

	if (!g)
		return -ENOMEM;
	g->s = s;
	g->index = map_new();
	r = g->index ? choose(g, offered, count) : -ENOMEM;
	if (r == 0 && g->count)
		r = find_holders(g);
	if (r == 0 && g->holders_count)
		r = send_all(g);
	buf_fini(&g->bytes);
	free(g->holders);
	map_free(g->index);
	free(g);
	return r;
}

static void *run(void *arg)
{
	struct hash offered[WANT_PER_PAGE];
	struct supply *s = arg;

	mutex_lock(&s->lock);
	while (!s->stopping) {
		size_t count = s->offered_count;
		int r;

		if (!count) {
			cond_wait(&s->changed, &s->lock);
			continue;
		}
		memcpy(offered, s->offered, count * sizeof(*offered));
		s->offered_count = 0;
		mutex_unlock(&s->lock);
		r = do_round(s, offered, count);
		if (r < 0 && r != -ECANCELED)
			log_debug("send again what the server lacks: %s",
				*remote_last_error(s->config.remote) ? remote_last_error(s->config.remote)
								     : err_str(r));
		mutex_lock(&s->lock);
	}
	mutex_unlock(&s->lock);
	return NULL;
}

void supply_offer(struct supply *s, const struct hash *wanted, size_t count)
{
	MUTEX_GUARD(&s->lock);
	s->offered_count = count < WANT_PER_PAGE ? count : WANT_PER_PAGE;
	memcpy(s->offered, wanted, s->offered_count * sizeof(*wanted));
	cond_signal(&s->changed);
}

int supply_start(const struct supply_config *config, struct supply **ret_supply)
{
	struct supply *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return -ENOMEM;
	s->config = *config;
	mutex_init(&s->lock, RANK_QUEUE, "supply");
	cond_init(&s->changed);
	s->tried = map_new();
	r = s->tried ? -pthread_create(&s->thread, NULL, run, s) : -ENOMEM;
	if (r) {
		map_free(s->tried);
		cond_fini(&s->changed);
		mutex_fini(&s->lock);
		free(s);
		return r;
	}
	*ret_supply = s;
	return 0;
}

void supply_stop(struct supply *s)
{
	if (!s)
		return;
	mutex_lock(&s->lock);
	s->stopping = true;
	cond_signal(&s->changed);
	mutex_unlock(&s->lock);
	remote_cancel(s->config.remote);
	(void)pthread_join(s->thread, NULL);
	map_free(s->tried);
	cond_fini(&s->changed);
	mutex_fini(&s->lock);
	free(s);
}
