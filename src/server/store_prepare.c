/* SPDX-License-Identifier: Apache-2.0 */
/*
 * First part of a commit: the content of operations verified and staged, before any lock is taken. Called by
 * the paths that commit. Never touches rows and never the visible tree.
 */
#include "store_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include <syncfs/limits.h>
#include <syncfs/manifest.h>

#define SYNC_SINGLY 4
#define READ_BLOCK_BYTES ((size_t)256 * 1024)
#define RANGES_TRIED 8

uint32_t store_disk_mode(const struct store *s, enum kind kind, uint32_t mode)
{
	mode &= 0777;
	if (s->is_root)
		return mode;
	return kind == KIND_DIR ? mode | 0700 : mode | 0400;
}

static int reject(struct prepared *p, int code, const char *reason)
{
	p->code = code;
	p->reason = reason;
	return 0;
}

int prepare_node_open(struct store *s, struct meta *meta, const struct id *node)
{
	struct node_state n = {0};
	int r = meta_node_get(meta, node, &n), fd = -ENOENT;

	if (r < 0)
		return r;
	for (size_t i = 0; fd < 0 && i < n.names_count; i++) {
		cleanup_free char *path = NULL;
		cleanup_fd int dir = -1;

		r = meta_dir_path(meta, &n.names[i].parent, &path);
		if (r < 0)
			continue;
		dir = tree_open_dir(&s->tree, path);
		if (dir >= 0)
			fd = tree_open_at(&s->tree, dir, n.names[i].name, O_RDONLY | O_NONBLOCK);
	}
	node_state_fini(&n);
	return fd;
}

static int range_get(struct store *s, struct meta *meta, const struct meta_range *range,
	const struct hash *chunk, struct buf *out)
{
	struct id nodes[RANGES_TRIED];
	ssize_t count = meta_content_nodes(meta, &range->content, nodes, RANGES_TRIED);
	int r = -ENOENT;

	for (ssize_t i = 0; r < 0 && i < count; i++) {
		cleanup_fd int fd = prepare_node_open(s, meta, &nodes[i]);

		if (fd >= 0)
			r = content_range_get(fd, range->offset, range->len, chunk, out);
	}
	if (r < 0) {
		cleanup_fd int fd = content_history_open(&s->content, &range->content);

		if (fd >= 0)
			r = content_range_get(fd, range->offset, range->len, chunk, out);
	}
	return r;
}

int prepare_chunk_get(struct store *s, struct meta *meta, const struct hash *chunk, struct buf *out)
{
	struct meta_range ranges[RANGES_TRIED];
	int r = content_chunk_get(&s->content, chunk, out);
	ssize_t count;

	if (r == 0)
		return 0;
	count = meta_chunk_find(meta, chunk, ranges, RANGES_TRIED);
	for (ssize_t i = 0; r < 0 && i < count; i++)
		r = range_get(s, meta, &ranges[i], chunk, out);
	return r;
}

/* fd: of a new file; -1: what is staged is not a file. */
static int stage_attr(
	struct store *s, const struct op *op, int fd, const struct blob *xattr, struct prepared *p)
{
	uint32_t mode = store_disk_mode(s, p->is_dir ? KIND_DIR : KIND_FILE, op->mode);

	return fd >= 0 ? stage_set_new(fd, mode, op->mtime_ns, xattr, &p->stat)
		       : stage_set_attr(&s->tree, p->stage, mode, op->mtime_ns, xattr);
}

/* Attributes that the operation tells completely are set now, so that they are durable with the content. */
static int stage_finish(struct store *s, const struct op *op, int fd, struct prepared *p)
{
	const unsigned both = OP_HAS_MODE | OP_HAS_MTIME;
	int r = 0;

	p->attr_set = (op->fields & both) == both && (op->type == OP_CREATE || (op->fields & OP_HAS_XATTR));
	if (p->attr_set)
		r = stage_attr(s, op, fd, &op->xattr, p);
	if (r == -EOPNOTSUPP || r == -EPERM ||
		r == -E2BIG) /* the file system has no xattrs, or not so many */
		r = stage_attr(s, op, fd, NULL, p);
	if (r < 0 || (p->attr_set && fd >= 0))
		return r;
	return fd >= 0 ? tree_stat(fd, "", &p->stat) : tree_stat(s->tree.stage_fd, p->stage, &p->stat);
}

static int stage_inline(
	struct store *s, const struct op *op, const void *bytes, size_t len, struct prepared *p)
{
	cleanup_fd int fd = -1;
	struct content is;
	int r = manifest_of_bytes(bytes, len, &is, &p->manifest);

	if (r < 0)
		return r;
	if (is.size != op->content.size || !hash_equal(&is.hash, &op->content.hash))
		return reject(p, -EBADMSG, "content does not match its hash");
	fd = stage_create(&s->tree, p->stage);
	if (fd < 0) {
		p->stage[0] = '\0';
		return fd;
	}
	r = io_write(fd, bytes, len);
	if (r == 0)
		recent_put(s->recent, &is.hash, bytes, len);
	return r < 0 ? r : stage_finish(s, op, fd, p);
}

static int chunk_held(struct store *s, const struct hash *chunk, struct buf *bytes)
{
	int r;

	buf_reset(bytes);
	{
		MUTEX_GUARD(&s->read_lock);
		r = prepare_chunk_get(s, s->reader, chunk, bytes);
	}
	if (r == 0 || r == -ENOMEM)
		return r;
	/* It may have moved under our hands: once more where nothing moves. */
	MUTEX_GUARD(&s->lock);
	buf_reset(bytes);
	return prepare_chunk_get(s, s->meta, chunk, bytes);
}

static int note_missing(struct prepared *p, const struct hash *chunk)
{
	struct hash *grown = reallocarray(p->missing, p->missing_count + 1, sizeof(*grown));

	if (!grown)
		return -ENOMEM;
	p->missing = grown;
	grown[p->missing_count++] = *chunk;
	return 0;
}

static int stage_manifest(struct store *s, const struct op *op, struct prepared *p)
{
	cleanup_buf struct buf bytes = BUF_INIT;
	cleanup_fd int fd = -1;
	int r = manifest_check(&op->manifest, &op->content);

	if (r < 0)
		return reject(p, -EBADMSG, "manifest does not match its hash");
	p->manifest = (struct blob){.data = malloc(op->manifest.len + 1), .len = op->manifest.len};
	if (!p->manifest.data)
		return -ENOMEM;
	if (op->manifest.len)
		memcpy(p->manifest.data, op->manifest.data, op->manifest.len);
	fd = stage_create(&s->tree, p->stage);
	if (fd < 0) {
		p->stage[0] = '\0';
		return fd;
	}
	for (size_t i = 0; i < manifest_count(&op->manifest) && p->missing_count < HASHES_PER_REQUEST; i++) {
		struct hash chunk;
		uint32_t len;

		manifest_entry(&op->manifest, i, &chunk, &len);
		r = chunk_held(s, &chunk, &bytes);
		if (r == -ENOMEM)
			return r;
		if (r == 0 && bytes.len != len)
			return reject(p, -EBADMSG, "a chunk has another length");
		r = r < 0		   ? note_missing(p, &chunk)
			: p->missing_count ? 0
					   : io_write(fd, bytes.data, bytes.len);
		if (r < 0)
			return r;
	}
	return p->missing_count ? 0 : stage_finish(s, op, fd, p);
}

static int stage_file(
	struct store *s, const struct op *op, const uint8_t *raw, size_t raw_len, struct prepared *p)
{
	if (op->fields & OP_HAS_DATA) {
		if (op->data_at > raw_len || op->data_len > raw_len - op->data_at)
			return reject(p, -EINVAL, "content lies outside of the request");
		return stage_inline(s, op, raw + op->data_at, op->data_len, p);
	}
	if (op->fields & OP_HAS_MANIFEST)
		return stage_manifest(s, op, p);
	if (op->content.size == 0)
		return stage_inline(s, op, "", 0, p);
	return reject(p, -EINVAL, "no content");
}

int prepare_op(struct store *s, const struct op *op, const uint8_t *raw, size_t raw_len, struct prepared *p)
{
	int r;

	if (op->type != OP_CREATE && op->type != OP_WRITE)
		return 0;
	if (op->target) {
		r = stage_symlink(&s->tree, op->target, p->stage);
		if (r == -EINVAL || r == -EMSGSIZE || r == -ENAMETOOLONG) {
			p->stage[0] = '\0';
			return reject(p, -EINVAL, "a target that no link can have");
		}
	} else if (op->type == OP_CREATE && op->kind == KIND_DIR) {
		r = stage_mkdir(&s->tree, p->stage);
		p->is_dir = true;
	} else if (op->type == OP_CREATE && op->kind == KIND_SYMLINK) {
		return 0;
	} else {
		return stage_file(s, op, raw, raw_len, p);
	}
	if (r < 0) {
		p->stage[0] = '\0';
		return r;
	}
	return stage_finish(s, op, -1, p);
}

static int copy_in(int from, int to, struct manifest_builder *builder)
{
	cleanup_free uint8_t *block = malloc(READ_BLOCK_BYTES);
	off_t at = 0;
	ssize_t n;
	int r = 0;

	if (!block)
		return -ENOMEM;
	while (r == 0 && (n = io_pread(from, block, READ_BLOCK_BYTES, at)) != 0) {
		if (n < 0)
			return (int)n;
		r = manifest_builder_feed(builder, block, (size_t)n);
		if (r == 0)
			r = io_write(to, block, (size_t)n);
		at += n;
	}
	return r;
}

int prepare_source(struct store *s, struct op *op, const struct store_source *source, struct prepared *p)
{
	struct manifest_builder *builder = NULL;
	cleanup_fd int fd = -1;
	int r;

	fd = stage_create(&s->tree, p->stage);
	if (fd < 0) {
		p->stage[0] = '\0';
		return fd;
	}
	if (source->fd < 0) {
		r = manifest_of_bytes(source->bytes, source->len, &op->content, &p->manifest);
		if (r == 0)
			r = io_write(fd, source->bytes, source->len);
		if (r == 0)
			recent_put(s->recent, &op->content.hash, source->bytes, source->len);
	} else {
		builder = manifest_builder_new();
		r = builder ? copy_in(source->fd, fd, builder) : -ENOMEM;
		if (r == 0)
			r = manifest_builder_finish(builder, &op->content, &p->manifest);
		else
			manifest_builder_free(builder);
	}
	return r < 0 ? r : stage_finish(s, op, fd, p);
}

int prepare_sync(struct store *s, const struct prepared *list, size_t count)
{
	size_t staged = 0;
	int r = 0;

	for (size_t i = 0; i < count; i++)
		staged += list[i].stage[0] != '\0';
	if (staged > SYNC_SINGLY)
		return tree_sync_all(&s->tree);
	for (size_t i = 0; r == 0 && i < count; i++) {
		cleanup_fd int fd = -1;

		if (!list[i].stage[0] || list[i].is_dir || !S_ISREG(list[i].stat.mode))
			continue;
		/* fsync needs no reading; a mode without it must not be in the way, so by a handle of our own
		 */
		fd = tree_open_at(&s->tree, s->tree.stage_fd, list[i].stage, O_RDONLY);
		r = fd == -EACCES ? tree_sync_all(&s->tree) : fd < 0 ? fd : tree_sync_fd(fd);
	}
	/* and their names: the intents refer to them */
	return r < 0 || staged == 0 ? r : tree_sync_fd(s->tree.stage_fd);
}

void prepared_fini(struct store *s, struct prepared *p)
{
	if (p->stage[0])
		(void)stage_drop(&s->tree, p->stage);
	free(p->missing);
	free(p->manifest.data);
	*p = (struct prepared){0};
}
