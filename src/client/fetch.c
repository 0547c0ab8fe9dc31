/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Manifest, then chunks in groups, written where they belong. Called by the applier; the bytes are hashed
 * once, by the remote against their names, and the names against the content by the manifest.
 */
#include "fetch.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#include <syncfs/io.h>
#include <syncfs/limits.h>
#include <syncfs/manifest.h>

#include "remote.h"

#define GROUP_BYTES (4u << 20)
#define GROUP_CHUNKS 1024

struct group {
	struct hash hashes[GROUP_CHUNKS];
	uint32_t lens[GROUP_CHUNKS];
	size_t count;
	uint64_t at; /* offset of the first */
	uint64_t bytes;
};

static const struct chunk_ref *find(
	const struct chunk_ref *refs, size_t count, const struct hash *hash, size_t hint)
{
	for (size_t k = 0; k < count; k++) {
		const struct chunk_ref *ref = &refs[(hint + k) % count];

		if (hash_equal(&ref->hash, hash))
			return ref;
	}
	return NULL;
}

/* The answer may have fewer than asked for: what is left is asked for again, as long as there is progress. */
static int fetch_group(struct remote *remote, const struct group *g, int fd)
{
	size_t done = 0;
	uint64_t at = g->at;

	while (done < g->count) {
		cleanup_buf struct buf body = BUF_INIT;
		cleanup_free struct chunk_ref *refs = NULL;
		size_t count = 0, before = done;
		int r = remote_get_chunks(remote, g->hashes + done, g->count - done, &body, &refs, &count);

		if (r)
			return r;
		for (size_t k = 0; count && done < g->count; k++) {
			const struct chunk_ref *ref = find(refs, count, &g->hashes[done], k);

			if (!ref)
				break;
			if (ref->len != g->lens[done])
				return -EBADMSG;
			r = io_pwrite(fd, ref->data, ref->len, (off_t)at);
			if (r)
				return r;
			at += ref->len;
			done++;
		}
		if (done == before)
			return -ENOENT;
	}
	return 0;
}

static int fetch_all(struct remote *remote, const struct blob *manifest, int fd)
{
	cleanup_free struct group *g = calloc(1, sizeof(*g));
	size_t n = manifest_count(manifest);
	int r = 0;

	if (!g)
		return -ENOMEM;
	for (size_t i = 0; i < n && !r; i++) {
		manifest_entry(manifest, i, &g->hashes[g->count], &g->lens[g->count]);
		g->bytes += g->lens[g->count++];
		if (i + 1 < n && g->count < GROUP_CHUNKS && g->bytes + CHUNK_MAX_BYTES <= GROUP_BYTES)
			continue;
		r = fetch_group(remote, g, fd);
		g->at += g->bytes;
		g->bytes = 0;
		g->count = 0;
	}
	return r;
}

int fetch_content(struct remote *remote, const struct content *content, int fd)
{
	struct blob manifest = {0};
	int r;

	if (!content->size)
		return 0;
	if (content->size > FILE_MAX_BYTES)
		return -EFBIG;
	r = remote_manifest(remote, content, &manifest);
	if (!r)
		r = -posix_fallocate(fd, 0, (off_t)content->size);
	if (!r)
		r = fetch_all(remote, &manifest, fd);
	free(manifest.data);
	return r;
}
