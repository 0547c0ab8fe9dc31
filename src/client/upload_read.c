/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Attributes and content for a batch, read through the tree. Called by the uploader; never changes anything
 * in the backing directory, and never takes a file that somebody is writing to.
 */
#include "upload_read.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#include <syncfs/clock.h>
#include <syncfs/failpoint.h>
#include <syncfs/io.h>
#include <syncfs/limits.h>
#include <syncfs/log.h>
#include <syncfs/manifest.h>

#include "inode.h"
#include "remote.h"
#include "syncstate.h"
#include "upload_copy.h"

#define WRITER_IDLE_MS 2000 /* a file kept open is sent when nothing has been written for so long */
#define RETRY_MS 50
#define LOST_RETRY_MS 500 /* moved a moment ago: the queue knows where by then; else the scan does */
#define UNREADABLE_RETRY_MS 30000
#define UNSTABLE_MAX 2 /* then a file that somebody waits for is copied */
#define PUT_BYTES (4u << 20) /* chunks in one request */

/* One item while it is read. */
struct reading {
	struct upload_read *u;
	struct outbox *o;
	struct item *item;
	int dirfd, fd;
	bool is_copy; /* fd: of the file as it was at item->disk */
	uint64_t delay_ms;
};

static int later(struct reading *rd, uint64_t ms)
{
	rd->delay_ms = ms;
	return READ_LATER;
}

/* Another than it was when the reading began. */
static int unstable(struct reading *rd)
{
	rd->item->unstable++;
	return later(rd, RETRY_MS);
}

/* Not where the queue says. */
static int lost(struct reading *rd)
{
	rd->delay_ms = LOST_RETRY_MS;
	return READ_LOST;
}

/* Between writes. What was fsynced is complete as long as nothing has been written since. */
static bool is_being_written(struct reading *rd, uint64_t generation)
{
	const struct item *i = rd->item;
	uint64_t changed = inode_changed_ms(rd->u->inodes, &i->object), now = clock_mono_ms();

	if (i->promised || (i->synced && i->generation == generation))
		return false;
	if (inode_writers(rd->u->inodes, &i->object) == 0)
		return false;
	if (changed < i->changed_ms)
		changed = i->changed_ms;
	if (now - changed >= WRITER_IDLE_MS)
		return false;
	rd->delay_ms = WRITER_IDLE_MS - (now - changed);
	return true;
}

static void set_attr(struct item *i, const struct stat_id *st)
{
	i->disk = *st;
	i->op.mode = st->mode & 0777;
	i->op.mtime_ns = st->mtime_ns;
	i->op.fields |= OP_HAS_MODE | OP_HAS_MTIME;
}

/* ---- content ---- */

static int read_inline(struct reading *rd, const struct stat_id *before, struct buf *raw)
{
	struct item *i = rd->item;
	size_t at = raw->len;
	ssize_t n;
	int r = buf_reserve(raw, before->size + 1); /* of nothing, too */

	if (r)
		return r;
	/* That it has grown shows in what stat says afterwards. */
	n = io_pread(rd->fd, raw->data + at, before->size, 0);
	if (n < 0)
		return (int)n;
	if ((uint64_t)n != before->size)
		return unstable(rd);
	r = manifest_of_bytes(raw->data + at, (size_t)n, &i->op.content, NULL);
	if (r)
		return r;
	raw->len = at + (size_t)n;
	i->op.data_at = at;
	i->op.data_len = (uint64_t)n;
	i->op.fields |= OP_HAS_DATA;
	return READ_READY;
}

struct wanted {
	struct hash *missing; /* sorted */
	size_t count;
};

static int compare_hashes(const void *a, const void *b)
{
	return memcmp(a, b, HASH_BYTES);
}

static int find_missing(struct reading *rd, struct wanted *w)
{
	const struct blob *m = &rd->item->op.manifest;
	size_t n = manifest_count(m);
	uint32_t len;
	int r;

	w->missing = calloc(n ? n : 1, sizeof(*w->missing));
	if (!w->missing)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++)
		manifest_entry(m, i, &w->missing[i], &len);
	qsort(w->missing, n, sizeof(*w->missing), compare_hashes);
	for (size_t i = 0; i < n; i++) {
		if (!w->count || !hash_equal(&w->missing[w->count - 1], &w->missing[i]))
			w->missing[w->count++] = w->missing[i];
	}
	if (rd->item->send_all)
		return 0;
	r = remote_chunks_missing(rd->u->remote, w->missing, &w->count);
	if (!r)
		qsort(w->missing, w->count, sizeof(*w->missing), compare_hashes);
	return r;
}

/* The chunks gathered for one request. */
struct put {
	struct buf bytes;
	struct chunk_ref refs[PUT_BYTES / 1024 + 1];
	size_t offsets[PUT_BYTES / 1024 + 1];
	size_t count;
};

static int put_flush(struct reading *rd, struct put *p)
{
	int r = 0;

	for (size_t i = 0; i < p->count; i++)
		p->refs[i].data = p->bytes.data + p->offsets[i];
	if (p->count)
		r = remote_put_chunks(rd->u->remote, p->refs, p->count);
	FAILPOINT("O2");
	p->count = 0;
	buf_reset(&p->bytes);
	return r;
}

/* Reads the missing chunks again, so that memory stays bounded; one that is another now means that the file
 * has changed. */
static int send_chunks(struct reading *rd, const struct wanted *w, struct put *p)
{
	const struct blob *m = &rd->item->op.manifest;
	off_t at = 0;

	for (size_t i = 0; i < manifest_count(m); i++) {
		struct hash hash, now;
		uint32_t len;
		ssize_t n;
		int r;

		manifest_entry(m, i, &hash, &len);
		at += len;
		if (!w->count || !bsearch(&hash, w->missing, w->count, sizeof(hash), compare_hashes))
			continue;
		r = buf_reserve(&p->bytes, len);
		if (r)
			return r;
		n = io_pread(rd->fd, p->bytes.data + p->bytes.len, len, at - len);
		if (n < 0)
			return (int)n;
		now = hash_bytes(p->bytes.data + p->bytes.len, (size_t)n);
		if ((uint32_t)n != len || !hash_equal(&now, &hash))
			return unstable(rd);
		p->offsets[p->count] = p->bytes.len;
		p->refs[p->count++] = (struct chunk_ref){.hash = hash, .len = len};
		p->bytes.len += len;
		if (p->bytes.len + CHUNK_MAX_BYTES > PUT_BYTES ||
			p->count == sizeof(p->refs) / sizeof(*p->refs))
			r = put_flush(rd, p);
		if (r)
			return r;
	}
	return put_flush(rd, p);
}

static int send_large(struct reading *rd)
{
	struct put *p = calloc(1, sizeof(*p));
	struct wanted w = {0};
	int r = p ? find_missing(rd, &w) : -ENOMEM;

	if (!r && w.count)
		r = send_chunks(rd, &w, p);
	if (p)
		buf_fini(&p->bytes);
	free(p);
	free(w.missing);
	return r;
}

/* ---- what the server has told already ---- */

/* The live node that R has under the item's name; -ENOENT. Follows what this batch has adopted so far. */
static int told_at(struct reading *rd, struct node_state *ret_node)
{
	const struct op *op = &rd->item->op;
	const struct id *alias = map_get(rd->o->alias, op->parent.b, ID_BYTES);
	const struct id *parent = alias ? alias : &op->parent;
	struct id node;
	int r;

	/* The name is another's as far as is agreed: what took that one away from it here is sent first. */
	if (!syncstate_peek_name(rd->u->state, parent, op->name, &node))
		return -ENOENT;
	r = syncstate_peek_remote_name(rd->u->state, parent, op->name, &node);

	if (!r)
		r = syncstate_peek_remote(rd->u->state, &node, ret_node);
	if (r)
		return r;
	/* What lies here under another name is moved when the server has said that ours is one with it. */
	if (!ret_node->tomb && ret_node->kind == op->kind && !id_equal(&ret_node->node, &op->node) &&
		!syncstate_peek_has_base(rd->u->state, &node))
		return 0;
	node_state_fini(ret_node);
	return -ENOENT;
}

static bool is_equal(const struct op *op, const struct node_state *n)
{
	switch (op->kind) {
	case KIND_DIR:
		return true;
	case KIND_SYMLINK:
		return op->target && n->target && strcmp(op->target, n->target) == 0;
	case KIND_FILE:
		return op->content.size == n->content.size && hash_equal(&op->content.hash, &n->content.hash);
	}
	return false;
}

/* Earlier operations of the batch on the same name have yet to be sent. */
static bool follows_another(const struct reading *rd)
{
	for (const struct item *i = rd->o->items; i != rd->item; i++) {
		if (!i->adopt && i->entry && outbox_depends(rd->item, i))
			return true;
	}
	return false;
}

static int try_adopt(struct reading *rd)
{
	struct item *i = rd->item;
	struct id *to;
	int r;

	/* Moved on since, it leaves room for the server's, which may be placed at any time. */
	if (i->op.type != OP_CREATE || !rd->u->server_has_told || !id_equal(&i->dir, &i->op.parent) ||
		strcmp(i->name, i->op.name) != 0)
		return READ_READY;
	r = told_at(rd, &i->remote);
	if (r)
		return r == -ENOENT ? READ_READY : r;
	if (!is_equal(&i->op, &i->remote) || follows_another(rd)) {
		node_state_fini(&i->remote);
		return READ_READY;
	}
	to = malloc(sizeof(*to));
	if (!to)
		return -ENOMEM;
	*to = i->remote.node;
	r = map_put(rd->o->alias, i->op.node.b, ID_BYTES, to);
	if (r) {
		free(to);
		return r;
	}
	i->adopt = true;
	return READ_ADOPTED;
}

/* ---- by kind ---- */

static int read_large(struct reading *rd)
{
	struct item *i = rd->item;
	struct stat_id st;
	int r;

	atomic_store_explicit(&rd->u->at_disk, true, memory_order_relaxed);
	r = tree_hash_file(rd->fd, &i->op.content, &i->op.manifest, &st);
	atomic_store_explicit(&rd->u->at_disk, false, memory_order_relaxed);
	if (r == -EAGAIN)
		return unstable(rd);
	if (r)
		return r;
	i->op.fields |= OP_HAS_MANIFEST;
	if (!rd->is_copy)
		set_attr(i, &st);
	r = try_adopt(rd);
	return r == READ_READY ? send_large(rd) : r;
}

/* Goes on with a copy of the file. ret_stat: the file at that moment. */
static int take_copy(struct reading *rd, struct stat_id *ret_stat)
{
	int fd;

	atomic_store_explicit(&rd->u->at_disk, true, memory_order_relaxed);
	fd = upload_copy(rd->u->tree, rd->u->inodes, rd->fd, ret_stat);
	atomic_store_explicit(&rd->u->at_disk, false, memory_order_relaxed);
	if (fd == -EAGAIN)
		return unstable(rd);
	if (fd < 0)
		return fd;
	(void)close(rd->fd);
	rd->fd = fd;
	rd->is_copy = true;
	set_attr(rd->item, ret_stat);
	return READ_READY;
}

static int read_content(struct reading *rd, const struct stat_id *st, struct buf *raw)
{
	int r;

	if (st->size > FILE_MAX_BYTES)
		return -EFBIG;
	if (st->size > INLINE_UP_MAX_BYTES)
		return read_large(rd);
	r = read_inline(rd, st, raw);
	return r == READ_READY ? try_adopt(rd) : r;
}

static int read_file(struct reading *rd, const struct stat_id *before, struct buf *raw)
{
	struct item *i = rd->item;
	uint64_t generation = inode_generation(rd->u->inodes, &i->object);
	struct stat_id st = *before, after;
	size_t raw_len = raw->len;
	int r;

	if (is_being_written(rd, generation))
		return READ_LATER;
	if (i->synced && i->unstable >= UNSTABLE_MAX) {
		r = take_copy(rd, &st);
		if (r)
			return r;
	}
	r = read_content(rd, &st, raw);
	if (r == READ_ADOPTED)
		raw->len = raw_len;
	if (r < 0 || r == READ_LATER || rd->is_copy)
		return r;
	if (tree_stat(rd->fd, "", &after))
		return -EIO;
	if (!stat_id_unchanged(before, &after) || generation != inode_generation(rd->u->inodes, &i->object)) {
		raw->len = raw_len;
		if (i->adopt)
			free(map_remove(rd->o->alias, i->op.node.b, ID_BYTES));
		i->adopt = false;
		return unstable(rd);
	}
	return r;
}

static int read_xattr(struct reading *rd)
{
	struct item *i = rd->item;
	int r = tree_read_xattr(rd->fd, &i->op.xattr);

	if (!r && (i->op.xattr.len || i->op.type != OP_CREATE))
		i->op.fields |= OP_HAS_XATTR;
	return r == -EOPNOTSUPP ? 0 : r;
}

static bool same_bytes(const struct blob *a, const struct blob *b)
{
	return a->len == b->len && (!a->len || memcmp(a->data, b->data, a->len) == 0);
}

/* What is as agreed is not ours to say: somebody else may have changed it. */
static int leave_agreed(struct reading *rd)
{
	struct op *op = &rd->item->op;
	struct base_row row;
	int r;

	if (op->type == OP_CREATE)
		return 0;
	r = syncstate_peek_base(rd->u->state, &op->node, &row);
	if (r)
		return r == -ENOENT ? 0 : r;
	if (op->mode == row.state.mode)
		op->fields &= ~(unsigned)OP_HAS_MODE;
	if (op->mtime_ns == row.state.mtime_ns)
		op->fields &= ~(unsigned)OP_HAS_MTIME;
	if (same_bytes(&op->xattr, &row.state.xattr))
		op->fields &= ~(unsigned)OP_HAS_XATTR;
	base_row_fini(&row);
	if (op->type == OP_SETATTR && !(op->fields & (OP_HAS_MODE | OP_HAS_MTIME | OP_HAS_XATTR)))
		op->fields |= OP_HAS_MODE; /* changed and changed back */
	return 0;
}

static int open_object(struct reading *rd)
{
	int flags = O_RDONLY | O_NONBLOCK | (rd->item->op.kind == KIND_DIR ? O_DIRECTORY : 0);

	rd->fd = tree_open_at(rd->u->tree, rd->dirfd, rd->item->name, flags);
	if (rd->fd == -EACCES || rd->fd == -EPERM)
		return later(rd, UNREADABLE_RETRY_MS);
	return rd->fd < 0 ? lost(rd) : 0;
}

static int read_object(struct reading *rd, struct buf *raw)
{
	struct item *i = rd->item;
	struct stat_id st;
	int r = i->op.kind == KIND_SYMLINK ? 0 : open_object(rd);

	if (r)
		return r;
	r = rd->fd >= 0 ? tree_stat(rd->fd, "", &st) : tree_stat(rd->dirfd, i->name, &st);
	if (r || !stat_id_same_object(&st, &i->object))
		return lost(rd);
	set_attr(i, &st);
	if (i->op.kind == KIND_SYMLINK)
		return try_adopt(rd);
	r = read_xattr(rd);
	if (!r)
		r = leave_agreed(rd);
	if (r)
		return r;
	if (i->op.kind == KIND_FILE && i->op.type != OP_SETATTR)
		return read_file(rd, &st, raw);
	return try_adopt(rd);
}

/*
 * Made, and gone since: those who come after it in the queue still need its node. What it held is no more;
 * its id stands for it, which makes it one with nobody's file.
 */
static int read_nothing(struct reading *rd, struct buf *raw)
{
	struct item *i = rd->item;
	size_t at = raw->len;

	if (i->op.type != OP_CREATE)
		return READ_NEEDLESS;
	i->op.mode = i->op.kind == KIND_DIR ? 0700 : i->op.kind == KIND_SYMLINK ? 0777 : 0600;
	i->op.fields |= OP_HAS_MODE | OP_HAS_MTIME;
	if (i->op.kind == KIND_FILE) {
		buf_put(raw, i->op.node.b, ID_BYTES);
		i->op.data_at = at;
		i->op.data_len = ID_BYTES;
		i->op.fields |= OP_HAS_DATA;
		return raw->error ? raw->error
				  : manifest_of_bytes(i->op.node.b, ID_BYTES, &i->op.content, NULL);
	}
	return READ_READY;
}

/* Reopens only when the directory is another than the last item's. */
static int open_dir(struct reading *rd)
{
	struct upload_read *u = rd->u;
	const char *path = rd->item->dir_path;

	if (u->dirfd < 0 || strcmp(u->dir_path, path) != 0) {
		upload_read_end(u);
		u->dir_path = strdup(path);
		if (!u->dir_path)
			return -ENOMEM;
		u->dirfd = tree_open_dir(u->tree, path);
	}
	rd->dirfd = u->dirfd;
	return rd->dirfd < 0 ? lost(rd) : 0;
}

/* Attributes alone may be asked for without a kind. */
static int find_kind(struct reading *rd)
{
	struct stat_id st;

	if (rd->item->op.kind)
		return 0;
	if (tree_stat(rd->dirfd, rd->item->name, &st))
		return lost(rd);
	rd->item->op.kind = tree_kind(st.mode);
	return 0;
}

void upload_read_begin(struct upload_read *u)
{
	u->dirfd = -1;
	u->dir_path = NULL;
	u->server_has_told = syncstate_peek_has_remote(u->state);
}

void upload_read_end(struct upload_read *u)
{
	free(u->dir_path);
	u->dir_path = NULL;
	cleanup_fd_(&u->dirfd);
}

int upload_read_item(
	struct upload_read *u, struct outbox *o, struct item *item, struct buf *raw, uint64_t *ret_delay_ms)
{
	struct reading rd = {.u = u, .o = o, .item = item, .dirfd = -1, .fd = -1};
	enum op_type type = item->op.type;
	int r;

	if (type != OP_CREATE && type != OP_WRITE && type != OP_SETATTR)
		return READ_READY;
	if (item->dir_path) {
		r = open_dir(&rd);
		if (!r)
			r = find_kind(&rd);
		if (!r)
			r = read_object(&rd, raw);
	} else {
		r = read_nothing(&rd, raw);
	}
	if (rd.fd >= 0)
		close(rd.fd);
	*ret_delay_ms = rd.delay_ms;
	return r;
}
