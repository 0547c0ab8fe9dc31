/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bytes that are not in the plain tree: chunks sent ahead of the operation that needs them (.syncfs/chunks)
 * and contents that were replaced or deleted (.syncfs/history). Named by their hashes, verified whenever they
 * are read. No locks of its own; any thread.
 */
#ifndef SYNCFS_SERVER_CONTENT_H
#define SYNCFS_SERVER_CONTENT_H

#include <syncfs/tree.h>

struct content_dir {
	const struct tree *tree; /* borrowed */
	int chunks_fd, history_fd;
};

int content_open(const struct tree *tree, struct content_dir *ret_content);
void content_close(struct content_dir *c);

bool content_chunk_has(const struct content_dir *c, const struct hash *chunk);
int content_chunk_put(const struct content_dir *c, const struct hash *chunk, const void *bytes, size_t len);
/* Appends to out. -ENOENT, -EBADMSG. */
int content_chunk_get(const struct content_dir *c, const struct hash *chunk, struct buf *out);
/* Removes chunks that lie here since before_ns. */
int content_chunks_sweep(const struct content_dir *c, int64_t before_ns);

/* len bytes of fd at offset, appended to out when they are the chunk; -EBADMSG otherwise. */
int content_range_get(int fd, uint64_t offset, uint32_t len, const struct hash *chunk, struct buf *out);

/* A historical content for reading: fd or -ENOENT. */
int content_history_open(const struct content_dir *c, const struct hash *content);
/* A staged file becomes the historical content; dropped when that lies here already. */
int content_history_take(const struct content_dir *c, const char *stage_name, const struct hash *content);
int content_history_drop(const struct content_dir *c, const struct hash *content);
/* The historical content, if there is one, is a file without further names, which others could change. */
int content_history_own(const struct content_dir *c, const struct hash *content);
/* All of from_fd into the new to_fd, shared where the file system can. */
int content_copy(int from_fd, int to_fd);

#endif
