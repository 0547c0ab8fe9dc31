/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Manifests: the list of chunks of a content, built while the content streams by, and checked when a peer
 * names one. Called by the sender, the server's store and the applier. Does no I/O; keeps at most one chunk.
 */
#include <syncfs/manifest.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <syncfs/chunker.h>
#include <syncfs/limits.h>

struct manifest_builder {
	uint8_t *tail; /* bytes that no chunk is cut from yet; CHUNK_MAX_BYTES, made when first needed */
	size_t tail_len;
	uint64_t size;
	struct buf entries;
	int error; /* first failure, repeated by finish */
};

struct manifest_builder *manifest_builder_new(void)
{
	return calloc(1, sizeof(struct manifest_builder));
}

void manifest_builder_free(struct manifest_builder *b)
{
	if (!b)
		return;
	free(b->tail);
	buf_fini(&b->entries);
	free(b);
}

static int emit(struct manifest_builder *b, const uint8_t *bytes, size_t len)
{
	struct hash h;

	if (b->entries.len + MANIFEST_ENTRY_BYTES > MANIFEST_MAX_BYTES)
		return b->error = -EMSGSIZE;
	h = hash_bytes(bytes, len);
	buf_put_be32(&b->entries, (uint32_t)len);
	buf_put(&b->entries, h.b, HASH_BYTES);
	b->size += len;
	return b->error = b->entries.error;
}

/* Cuts one chunk off the tail. */
static int emit_tail(struct manifest_builder *b)
{
	size_t n = chunk_next(b->tail, b->tail_len);
	int r = emit(b, b->tail, n);

	b->tail_len -= n;
	memmove(b->tail, b->tail + n, b->tail_len);
	return r;
}

int manifest_builder_feed(struct manifest_builder *b, const void *bytes, size_t len)
{
	const uint8_t *p = bytes;

	while (len > 0 && !b->error) {
		size_t n;

		if (b->tail_len == 0 && len >= CHUNK_MAX_BYTES) {
			n = chunk_next(p, len);
			(void)emit(b, p, n);
			p += n;
			len -= n;
			continue;
		}
		if (!b->tail)
			b->tail = malloc(CHUNK_MAX_BYTES);
		if (!b->tail)
			return b->error = -ENOMEM;
		n = CHUNK_MAX_BYTES - b->tail_len;
		if (n > len)
			n = len;
		memcpy(b->tail + b->tail_len, p, n);
		b->tail_len += n;
		p += n;
		len -= n;
		if (b->tail_len == CHUNK_MAX_BYTES)
			(void)emit_tail(b);
	}
	return b->error;
}

int manifest_builder_finish(
	struct manifest_builder *b, struct content *ret_content, struct blob *ret_manifest)
{
	int r;

	while (b->tail_len > 0 && !b->error)
		(void)emit_tail(b);
	r = b->error;
	if (!r) {
		ret_content->size = b->size;
		ret_content->hash = hash_bytes(b->entries.data, b->entries.len);
		if (ret_manifest) {
			ret_manifest->data = b->entries.data;
			ret_manifest->len = b->entries.len;
			b->entries = BUF_INIT;
		}
	}
	manifest_builder_free(b);
	return r;
}

int manifest_of_bytes(const void *bytes, size_t len, struct content *ret_content, struct blob *ret_manifest)
{
	struct manifest_builder b = {0};
	const uint8_t *p = bytes;

	while (len > 0 && !b.error) {
		size_t n = chunk_next(p, len);

		(void)emit(&b, p, n);
		p += n;
		len -= n;
	}
	if (!b.error) {
		ret_content->size = b.size;
		ret_content->hash = hash_bytes(b.entries.data, b.entries.len);
	}
	if (!b.error && ret_manifest) {
		ret_manifest->data = b.entries.data;
		ret_manifest->len = b.entries.len;
		return 0;
	}
	buf_fini(&b.entries);
	return b.error;
}

static uint32_t entry_len(const uint8_t *e)
{
	return (uint32_t)e[0] << 24 | (uint32_t)e[1] << 16 | (uint32_t)e[2] << 8 | e[3];
}

int manifest_check(const struct blob *m, const struct content *content)
{
	uint64_t size = 0;
	struct hash h;

	if (m->len % MANIFEST_ENTRY_BYTES != 0 || m->len > MANIFEST_MAX_BYTES)
		return -EBADMSG;
	for (size_t at = 0; at < m->len; at += MANIFEST_ENTRY_BYTES) {
		uint32_t len = entry_len(m->data + at);

		if (len == 0 || len > CHUNK_MAX_BYTES)
			return -EBADMSG;
		size += len; /* at most 2^20 entries of 2^18: no overflow */
	}
	if (size != content->size)
		return -EBADMSG;
	h = hash_bytes(m->data, m->len);
	return hash_equal(&h, &content->hash) ? 0 : -EBADMSG;
}

size_t manifest_count(const struct blob *m)
{
	return m->len / MANIFEST_ENTRY_BYTES;
}

void manifest_entry(const struct blob *m, size_t i, struct hash *ret_hash, uint32_t *ret_len)
{
	const uint8_t *e = m->data + i * MANIFEST_ENTRY_BYTES;

	*ret_len = entry_len(e);
	memcpy(ret_hash->b, e + 4, HASH_BYTES);
}
