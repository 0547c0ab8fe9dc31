/* SPDX-License-Identifier: Apache-2.0 */
/*
 * meta.h in SQLite: senders and their results, contents and chunks, history, place-intents, what simple
 * pollers were told. Called by the store under its lock; on the reading handle for chunks and manifests.
 */
#include "meta_sqlite.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <syncfs/manifest.h>

/* ---- senders ---- */

int meta_client_get(struct meta *m, const struct id *client, struct meta_client *ret_client)
{
	sqlite3_stmt *st =
		meta_use(m, "SELECT last_opno, acked_opno, run, old_runs FROM client WHERE id = ?1");
	struct meta_client c = {0};
	const uint8_t *runs;
	int r;

	if (!st)
		return -EIO;
	meta_bind_id(st, 1, client);
	r = meta_step(m, st);
	if (r <= 0)
		return r < 0 ? r : -ENOENT;
	c.last_opno = (uint64_t)sqlite3_column_int64(st, 0);
	c.acked_opno = (uint64_t)sqlite3_column_int64(st, 1);
	c.run = meta_column_id(st, 2);
	runs = sqlite3_column_blob(st, 3);
	c.old_runs_count = runs ? (size_t)sqlite3_column_bytes(st, 3) / ID_BYTES : 0;
	if (c.old_runs_count > META_RUNS)
		c.old_runs_count = META_RUNS;
	if (c.old_runs_count)
		memcpy(c.old_runs, runs, c.old_runs_count * ID_BYTES);
	meta_end(st);
	*ret_client = c;
	return 0;
}

int meta_client_put(struct meta *m, const struct id *client, const struct meta_client *row)
{
	sqlite3_stmt *st = meta_use(m, "INSERT OR REPLACE INTO client VALUES(?1, ?2, ?3, ?4, ?5)");

	if (!st)
		return -EIO;
	meta_bind_id(st, 1, client);
	meta_bind_u64(st, 2, row->last_opno);
	meta_bind_u64(st, 3, row->acked_opno);
	meta_bind_id(st, 4, &row->run);
	(void)sqlite3_bind_blob64(st, 5, row->old_runs, row->old_runs_count * ID_BYTES, SQLITE_TRANSIENT);
	return meta_run(m, st);
}

int meta_done_get(struct meta *m, const struct id *client, uint64_t opno, struct hash *ret_digest,
	struct buf *ret_result)
{
	sqlite3_stmt *st = meta_use(m, "SELECT digest, result FROM done WHERE client = ?1 AND opno = ?2");
	int r;

	if (!st)
		return -EIO;
	meta_bind_id(st, 1, client);
	meta_bind_u64(st, 2, opno);
	r = meta_step(m, st);
	if (r <= 0)
		return r < 0 ? r : -ENOENT;
	*ret_digest = meta_column_hash(st, 0);
	buf_put(ret_result, sqlite3_column_blob(st, 1), (size_t)sqlite3_column_bytes(st, 1));
	meta_end(st);
	return ret_result->error;
}

int meta_done_put(struct meta *m, const struct id *client, uint64_t opno, const struct hash *digest,
	const void *result, size_t len)
{
	sqlite3_stmt *st = meta_use(m, "INSERT INTO done VALUES(?1, ?2, ?3, ?4)");

	if (!st)
		return -EIO;
	meta_bind_id(st, 1, client);
	meta_bind_u64(st, 2, opno);
	meta_bind_hash(st, 3, digest);
	(void)sqlite3_bind_blob64(st, 4, result, len, SQLITE_STATIC);
	return meta_run(m, st);
}

int meta_done_trim(struct meta *m, const struct id *client, uint64_t last, uint8_t kept, uint64_t kept_last)
{
	sqlite3_stmt *st = meta_use(m,
		"DELETE FROM done WHERE client = ?1 AND opno <= ?2"
		" AND (opno <= ?4 OR substr(result, 1, 1) <> ?3)");

	if (!st)
		return -EIO;
	meta_bind_id(st, 1, client);
	meta_bind_u64(st, 2, last);
	(void)sqlite3_bind_blob(st, 3, &kept, 1, SQLITE_TRANSIENT);
	meta_bind_u64(st, 4, kept_last);
	return meta_run(m, st);
}

/* ---- content ---- */

static int chunk_put(
	struct meta *m, const struct hash *chunk, const struct hash *content, uint64_t at, uint32_t len)
{
	sqlite3_stmt *st = meta_use(m, "INSERT OR IGNORE INTO chunk VALUES(?1, ?2, ?3, ?4)");

	if (!st)
		return -EIO;
	meta_bind_hash(st, 1, chunk);
	meta_bind_hash(st, 2, content);
	meta_bind_u64(st, 3, at);
	meta_bind_u64(st, 4, len);
	return meta_run(m, st);
}

int meta_content_put(struct meta *m, const struct content *content, const struct blob *manifest)
{
	sqlite3_stmt *st = meta_use(m, "INSERT OR IGNORE INTO content VALUES(?1, ?2, ?3)");
	uint64_t at = 0;
	int r;

	if (!st)
		return -EIO;
	meta_bind_hash(st, 1, &content->hash);
	meta_bind_u64(st, 2, content->size);
	(void)sqlite3_bind_blob64(st, 3, manifest->data, manifest->len, SQLITE_STATIC);
	r = meta_run(m, st);
	if (r < 0 || sqlite3_changes(m->db) == 0)
		return r;
	for (size_t i = 0; r == 0 && i < manifest_count(manifest); i++) {
		struct hash chunk;
		uint32_t len;

		manifest_entry(manifest, i, &chunk, &len);
		r = chunk_put(m, &chunk, &content->hash, at, len);
		at += len;
	}
	return r;
}

int meta_content_get(struct meta *m, const struct hash *content, struct blob *ret_manifest)
{
	sqlite3_stmt *st = meta_use(m, "SELECT manifest FROM content WHERE hash = ?1");
	int r;

	if (!st)
		return -EIO;
	meta_bind_hash(st, 1, content);
	r = meta_step(m, st);
	if (r <= 0)
		return r < 0 ? r : -ENOENT;
	r = meta_column_blob(st, 0, ret_manifest);
	meta_end(st);
	return r;
}

int meta_content_gc(struct meta *m)
{
	int r = meta_run(m,
		meta_use(m,
			"DELETE FROM content WHERE"
			" NOT EXISTS (SELECT 1 FROM node WHERE node.hash = content.hash AND tomb = 0)"
			" AND NOT EXISTS (SELECT 1 FROM history WHERE content = content.hash)"));

	if (r == 0)
		r = meta_run(
			m, meta_use(m, "DELETE FROM chunk WHERE content NOT IN (SELECT hash FROM content)"));
	return r;
}

ssize_t meta_chunk_find(struct meta *m, const struct hash *chunk, struct meta_range *ranges, size_t cap)
{
	sqlite3_stmt *st = meta_use(m, "SELECT content, at, len FROM chunk WHERE hash = ?1");
	size_t count = 0;
	int r = 0;

	if (!st)
		return -EIO;
	meta_bind_hash(st, 1, chunk);
	while (count < cap && (r = meta_step(m, st)) == 1) {
		ranges[count].content = meta_column_hash(st, 0);
		ranges[count].offset = (uint64_t)sqlite3_column_int64(st, 1);
		ranges[count++].len = (uint32_t)sqlite3_column_int64(st, 2);
	}
	if (r == 1)
		meta_end(st);
	return r < 0 ? r : (ssize_t)count;
}

ssize_t meta_content_nodes(struct meta *m, const struct hash *content, struct id *nodes, size_t cap)
{
	sqlite3_stmt *st = meta_use(m, "SELECT id FROM node WHERE hash = ?1 AND tomb = 0");
	size_t count = 0;
	int r = 0;

	if (!st)
		return -EIO;
	meta_bind_hash(st, 1, content);
	while (count < cap && (r = meta_step(m, st)) == 1)
		nodes[count++] = meta_column_id(st, 0);
	if (r == 1)
		meta_end(st);
	return r < 0 ? r : (ssize_t)count;
}

int meta_history_had(struct meta *m, const struct id *node, const struct hash *content)
{
	sqlite3_stmt *st = meta_use(m, "SELECT 1 FROM history WHERE node = ?1 AND content = ?2 LIMIT 1");

	if (!st)
		return -EIO;
	meta_bind_id(st, 1, node);
	meta_bind_hash(st, 2, content);
	return meta_any(m, st);
}

int meta_history_put(struct meta *m, const struct id *node, uint64_t c, const struct content *content,
	int64_t replaced_at_ns)
{
	sqlite3_stmt *st = meta_use(m, "INSERT INTO history VALUES(NULL, ?1, ?2, ?3, ?4, ?5)");

	if (!st)
		return -EIO;
	meta_bind_id(st, 1, node);
	meta_bind_u64(st, 2, c);
	meta_bind_hash(st, 3, &content->hash);
	meta_bind_u64(st, 4, content->size);
	(void)sqlite3_bind_int64(st, 5, replaced_at_ns);
	return meta_run(m, st);
}

int meta_history_has(struct meta *m, const struct id *node, uint64_t c, const struct content *content)
{
	sqlite3_stmt *st = meta_use(
		m, "SELECT 1 FROM history WHERE node = ?1 AND c = ?2 AND content = ?3 AND size = ?4");

	if (!st)
		return -EIO;
	meta_bind_id(st, 1, node);
	meta_bind_u64(st, 2, c);
	meta_bind_hash(st, 3, &content->hash);
	meta_bind_u64(st, 4, content->size);
	return meta_any(m, st);
}

int meta_history_newest(struct meta *m, int64_t *ret_replaced_at_ns)
{
	sqlite3_stmt *st = meta_use(m, "SELECT max(replaced_at) FROM history");
	int r;

	if (!st)
		return -EIO;
	r = meta_step(m, st);
	if (r < 0)
		return r;
	*ret_replaced_at_ns = r ? sqlite3_column_int64(st, 0) : 0;
	if (r)
		meta_end(st);
	return 0;
}

int meta_history_expire(
	struct meta *m, int64_t before_ns, int (*gone)(void *arg, const struct hash *content), void *arg)
{
	sqlite3_stmt *st = meta_use(m,
		"SELECT DISTINCT content FROM history WHERE replaced_at < ?1 AND"
		" content NOT IN (SELECT content FROM history WHERE replaced_at >= ?1)");
	int r;

	if (!st)
		return -EIO;
	(void)sqlite3_bind_int64(st, 1, before_ns);
	while ((r = meta_step(m, st)) == 1) {
		struct hash content = meta_column_hash(st, 0);

		r = gone(arg, &content);
		if (r < 0) {
			meta_end(st);
			return r;
		}
	}
	if (r < 0)
		return r;
	st = meta_use(m, "DELETE FROM history WHERE replaced_at < ?1");
	if (!st)
		return -EIO;
	(void)sqlite3_bind_int64(st, 1, before_ns);
	return meta_run(m, st);
}

/* ---- contents that are wanted ---- */

static int want_run(struct meta *m, sqlite3_stmt *st, const struct hash *content)
{
	if (!st)
		return -EIO;
	meta_bind_hash(st, 1, content);
	return meta_run(m, st);
}

int meta_want_put(struct meta *m, const struct hash *content)
{
	return want_run(m, meta_use(m, "INSERT OR IGNORE INTO want VALUES(?1)"), content);
}

int meta_want_del(struct meta *m, const struct hash *content)
{
	return want_run(m, meta_use(m, "DELETE FROM want WHERE hash = ?1"), content);
}

int meta_want_has(struct meta *m, const struct hash *content)
{
	sqlite3_stmt *st = meta_use(m, "SELECT 1 FROM want WHERE hash = ?1");

	if (!st)
		return -EIO;
	meta_bind_hash(st, 1, content);
	return meta_any(m, st);
}

static ssize_t want_part(
	struct meta *m, sqlite3_stmt *st, const struct hash *from, struct hash *contents, size_t cap)
{
	size_t count = 0;
	int r = 0;

	if (!st)
		return -EIO;
	meta_bind_hash(st, 1, from);
	while (count < cap && (r = meta_step(m, st)) == 1)
		contents[count++] = meta_column_hash(st, 0);
	if (r == 1)
		meta_end(st);
	return r < 0 ? r : (ssize_t)count;
}

#define WANTED_BY_SOMEBODY " AND EXISTS (SELECT 1 FROM node WHERE node.hash = want.hash AND tomb = 0)"

ssize_t meta_want_list(struct meta *m, const struct hash *from, struct hash *contents, size_t cap)
{
	ssize_t n = want_part(m,
		meta_use(m, "SELECT hash FROM want WHERE hash >= ?1" WANTED_BY_SOMEBODY " ORDER BY hash"),
		from, contents, cap);
	ssize_t more;

	if (n < 0 || (size_t)n == cap)
		return n;
	more = want_part(m,
		meta_use(m, "SELECT hash FROM want WHERE hash < ?1" WANTED_BY_SOMEBODY " ORDER BY hash"),
		from, contents + n, cap - (size_t)n);
	return more < 0 ? more : n + more;
}

ssize_t meta_want_count(struct meta *m)
{
	sqlite3_stmt *st = meta_use(m, "SELECT count(*) FROM want");
	int r = meta_step(m, st);
	ssize_t count;

	if (r <= 0)
		return r < 0 ? r : -EIO;
	count = (ssize_t)sqlite3_column_int64(st, 0);
	meta_end(st);
	return count;
}

int meta_want_gc(struct meta *m)
{
	return meta_run(m,
		meta_use(m,
			"DELETE FROM want WHERE NOT EXISTS"
			" (SELECT 1 FROM node WHERE node.hash = want.hash AND tomb = 0)"));
}

/* ---- place-intents ---- */

int meta_intent_put(struct meta *m, const void *bytes, size_t len, int64_t *ret_intent)
{
	sqlite3_stmt *st = meta_use(m, "INSERT INTO intent VALUES(NULL, ?1)");
	int r;

	if (!st)
		return -EIO;
	(void)sqlite3_bind_blob64(st, 1, bytes, len, SQLITE_STATIC);
	r = meta_run(m, st);
	if (r == 0)
		*ret_intent = sqlite3_last_insert_rowid(m->db);
	return r;
}

int meta_intent_del(struct meta *m, int64_t intent)
{
	sqlite3_stmt *st = meta_use(m, "DELETE FROM intent WHERE id = ?1");

	if (!st)
		return -EIO;
	(void)sqlite3_bind_int64(st, 1, intent);
	return meta_run(m, st);
}

int meta_intent_first(struct meta *m, int64_t *ret_intent, struct buf *ret_bytes)
{
	sqlite3_stmt *st = meta_use(m, "SELECT id, steps FROM intent ORDER BY id LIMIT 1");
	int r = meta_step(m, st);

	if (r <= 0)
		return r < 0 ? r : -ENOENT;
	*ret_intent = sqlite3_column_int64(st, 0);
	buf_put(ret_bytes, sqlite3_column_blob(st, 1), (size_t)sqlite3_column_bytes(st, 1));
	meta_end(st);
	return ret_bytes->error;
}

/* ---- what simple pollers have been told ---- */

int meta_told_seq_get(struct meta *m, const struct id *actor, uint64_t *ret_seq)
{
	sqlite3_stmt *st = meta_use(m, "SELECT seq FROM told_seq WHERE actor = ?1");
	int r;

	if (!st)
		return -EIO;
	meta_bind_id(st, 1, actor);
	r = meta_step(m, st);
	*ret_seq = r == 1 ? (uint64_t)sqlite3_column_int64(st, 0) : 0;
	if (r == 1)
		meta_end(st);
	return r < 0 ? r : 0;
}

int meta_told_seq_put(struct meta *m, const struct id *actor, uint64_t seq)
{
	sqlite3_stmt *st = meta_use(m, "INSERT OR REPLACE INTO told_seq VALUES(?1, ?2)");

	if (!st)
		return -EIO;
	meta_bind_id(st, 1, actor);
	meta_bind_u64(st, 2, seq);
	return meta_run(m, st);
}

int meta_told_get(struct meta *m, const struct id *actor, const char *path, struct hash *ret_content)
{
	sqlite3_stmt *st = meta_use(m, "SELECT content FROM told WHERE actor = ?1 AND path = ?2");
	int r;

	if (!st)
		return -EIO;
	meta_bind_id(st, 1, actor);
	meta_bind_name(st, 2, path);
	r = meta_step(m, st);
	if (r <= 0)
		return r < 0 ? r : -ENOENT;
	*ret_content = meta_column_hash(st, 0);
	meta_end(st);
	return 0;
}

int meta_told_put(struct meta *m, const struct id *actor, const char *path, const struct id *node,
	const struct hash *content)
{
	sqlite3_stmt *st = meta_use(m, "INSERT OR REPLACE INTO told VALUES(?1, ?2, ?3, ?4)");

	if (!st)
		return -EIO;
	meta_bind_id(st, 1, actor);
	meta_bind_name(st, 2, path);
	meta_bind_id(st, 3, node);
	meta_bind_hash(st, 4, content);
	return meta_run(m, st);
}

int meta_told_del(struct meta *m, const struct id *actor, const char *path)
{
	sqlite3_stmt *st = meta_use(m, "DELETE FROM told WHERE actor = ?1 AND path = ?2");

	if (!st)
		return -EIO;
	meta_bind_id(st, 1, actor);
	meta_bind_name(st, 2, path);
	return meta_run(m, st);
}

int meta_told_paths(
	struct meta *m, const struct id *actor, const struct id *node, char ***ret_paths, size_t *ret_count)
{
	sqlite3_stmt *st = meta_use(m, "SELECT path FROM told WHERE actor = ?1 AND node = ?2");
	char **paths = NULL;
	size_t count = 0;
	int r;

	if (!st)
		return -EIO;
	meta_bind_id(st, 1, actor);
	meta_bind_id(st, 2, node);
	while ((r = meta_step(m, st)) == 1) {
		char **grown = reallocarray(paths, count + 1, sizeof(*grown));

		if (grown)
			paths = grown;
		if (grown)
			grown[count] = meta_column_name(st, 0);
		if (!grown || !grown[count]) {
			meta_end(st);
			r = -ENOMEM;
			break;
		}
		count++;
	}
	if (r < 0) {
		while (count)
			free(paths[--count]);
		free(paths);
		return r;
	}
	*ret_paths = paths;
	*ret_count = count;
	return 0;
}
