/* SPDX-License-Identifier: Apache-2.0 */
/*
 * meta.h in SQLite: opening, schema, transactions, small values. Called by the store under its lock. Never
 * decides anything: rows in, rows out. WAL; the writing handle commits with synchronous=FULL unless told that
 * it need not be durable.
 */
#include "meta_sqlite.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SCHEMA_VERSION 1
#define BUSY_MS 10000

static const char schema[] =
	"CREATE TABLE value(key TEXT PRIMARY KEY, value BLOB) WITHOUT ROWID;"
	"CREATE TABLE node(id BLOB PRIMARY KEY, kind INT, c INT, a INT, seq INT, hash BLOB, size INT, mode "
	"INT, mtime INT,"
	" xattr BLOB, target BLOB, tomb INT, by_client BLOB, by_opno INT,"
	" ino INT, btime INT, disk_mtime INT, disk_ctime INT, disk_size INT) WITHOUT ROWID;"
	"CREATE UNIQUE INDEX node_seq ON node(seq, id);"
	"CREATE INDEX node_hash ON node(hash) WHERE hash IS NOT NULL AND tomb = 0;"
	"CREATE INDEX node_ino ON node(ino) WHERE ino != 0;"
	"CREATE TABLE dentry(parent BLOB, name BLOB, node BLOB, l INT, PRIMARY KEY(parent, name)) WITHOUT "
	"ROWID;"
	"CREATE INDEX dentry_node ON dentry(node);"
	"CREATE TABLE last_name(node BLOB PRIMARY KEY, parent BLOB, name BLOB) WITHOUT ROWID;"
	"CREATE TABLE alias(id BLOB PRIMARY KEY, node BLOB) WITHOUT ROWID;"
	"CREATE TABLE log(seq INTEGER PRIMARY KEY, tag INT);"
	"CREATE TABLE client(id BLOB PRIMARY KEY, last_opno INT, acked_opno INT, run BLOB, old_runs BLOB) "
	"WITHOUT ROWID;"
	"CREATE TABLE done(client BLOB, opno INT, digest BLOB, result BLOB, PRIMARY KEY(client, opno)) "
	"WITHOUT ROWID;"
	"CREATE TABLE content(hash BLOB PRIMARY KEY, size INT, manifest BLOB) WITHOUT ROWID;"
	"CREATE TABLE chunk(hash BLOB, content BLOB, at INT, len INT, PRIMARY KEY(hash, content)) WITHOUT "
	"ROWID;"
	"CREATE INDEX chunk_content ON chunk(content);"
	"CREATE TABLE history(id INTEGER PRIMARY KEY, node BLOB, c INT, content BLOB, size INT, replaced_at "
	"INT);"
	"CREATE INDEX history_content ON history(content);"
	"CREATE INDEX history_node ON history(node);"
	"CREATE TABLE want(hash BLOB PRIMARY KEY) WITHOUT ROWID;"
	"CREATE TABLE intent(id INTEGER PRIMARY KEY AUTOINCREMENT, steps BLOB);"
	"CREATE TABLE told_seq(actor BLOB PRIMARY KEY, seq INT) WITHOUT ROWID;"
	"CREATE TABLE told(actor BLOB, path BLOB, node BLOB, content BLOB, PRIMARY KEY(actor, path)) WITHOUT "
	"ROWID;"
	"CREATE INDEX told_node ON told(actor, node);"
	"PRAGMA user_version = 1;";

static int error_of(int r)
{
	switch (r & 0xff) {
	case SQLITE_FULL:
		return -ENOSPC;
	case SQLITE_NOMEM:
		return -ENOMEM;
	case SQLITE_CORRUPT:
	case SQLITE_NOTADB:
		return -EBADMSG;
	default:
		return -EIO;
	}
}

static int exec(struct meta *m, const char *sql)
{
	int r = sqlite3_exec(m->db, sql, NULL, NULL, NULL);

	return r == SQLITE_OK ? 0 : error_of(r);
}

sqlite3_stmt *meta_use(struct meta *m, const char *sql)
{
	size_t i = ((uintptr_t)sql >> 3) % META_STATEMENTS, n;

	for (n = 0; n < META_STATEMENTS && m->sql[i] && m->sql[i] != sql; n++)
		i = (i + 1) % META_STATEMENTS;
	if (n == META_STATEMENTS)
		return NULL;
	if (!m->sql[i]) {
		if (sqlite3_prepare_v3(m->db, sql, -1, SQLITE_PREPARE_PERSISTENT, &m->cached[i], NULL) !=
			SQLITE_OK)
			return NULL;
		m->sql[i] = sql;
	}
	return m->cached[i];
}

int meta_step(struct meta *m, sqlite3_stmt *st)
{
	int r;

	if (!st)
		return -EIO;
	r = sqlite3_step(st);
	if (r == SQLITE_ROW)
		return 1;
	meta_end(st);
	return r == SQLITE_DONE ? 0 : error_of(r);
}

void meta_end(sqlite3_stmt *st)
{
	(void)sqlite3_reset(st);
	(void)sqlite3_clear_bindings(st);
}

int meta_run(struct meta *m, sqlite3_stmt *st)
{
	int r = meta_step(m, st);

	while (r == 1)
		r = meta_step(m, st);
	return r;
}

int meta_any(struct meta *m, sqlite3_stmt *st)
{
	int r = meta_step(m, st);

	if (r == 1)
		meta_end(st);
	return r;
}

void meta_bind_id(sqlite3_stmt *st, int at, const struct id *id)
{
	(void)sqlite3_bind_blob(st, at, id->b, ID_BYTES, SQLITE_TRANSIENT);
}

void meta_bind_hash(sqlite3_stmt *st, int at, const struct hash *hash)
{
	(void)sqlite3_bind_blob(st, at, hash->b, HASH_BYTES, SQLITE_TRANSIENT);
}

void meta_bind_name(sqlite3_stmt *st, int at, const char *name)
{
	(void)sqlite3_bind_blob(st, at, name, (int)strlen(name), SQLITE_TRANSIENT);
}

void meta_bind_u64(sqlite3_stmt *st, int at, uint64_t v)
{
	(void)sqlite3_bind_int64(st, at, (sqlite3_int64)v);
}

struct id meta_column_id(sqlite3_stmt *st, int at)
{
	struct id id = {0};
	const void *bytes = sqlite3_column_blob(st, at);

	if (bytes && sqlite3_column_bytes(st, at) == ID_BYTES)
		memcpy(id.b, bytes, ID_BYTES);
	return id;
}

struct hash meta_column_hash(sqlite3_stmt *st, int at)
{
	struct hash hash = {0};
	const void *bytes = sqlite3_column_blob(st, at);

	if (bytes && sqlite3_column_bytes(st, at) == HASH_BYTES)
		memcpy(hash.b, bytes, HASH_BYTES);
	return hash;
}

char *meta_column_name(sqlite3_stmt *st, int at)
{
	const void *bytes = sqlite3_column_blob(st, at);
	size_t len = (size_t)sqlite3_column_bytes(st, at);

	return bytes ? strndup(bytes, len) : strdup("");
}

int meta_column_blob(sqlite3_stmt *st, int at, struct blob *ret_blob)
{
	const void *bytes = sqlite3_column_blob(st, at);
	size_t len = (size_t)sqlite3_column_bytes(st, at);
	uint8_t *copy;

	if (!bytes || len == 0) {
		*ret_blob = (struct blob){0};
		return 0;
	}
	copy = malloc(len);
	if (!copy)
		return -ENOMEM;
	memcpy(copy, bytes, len);
	*ret_blob = (struct blob){.data = copy, .len = len};
	return 0;
}

static int check(struct meta *m, struct buf *why)
{
	sqlite3_stmt *st = NULL;
	int r = -EBADMSG;

	if (sqlite3_prepare_v2(m->db, "PRAGMA quick_check(1)", -1, &st, NULL) == SQLITE_OK &&
		sqlite3_step(st) == SQLITE_ROW) {
		const char *said = (const char *)sqlite3_column_text(st, 0);

		if (said && strcmp(said, "ok") == 0)
			r = 0;
	}
	(void)sqlite3_finalize(st);
	if (r < 0)
		buf_put_str(why,
			"the database .syncfs/meta.db is damaged; restore it from a backup, or move it away "
			"and start with --adopt");
	return r;
}

static int schema_ready(struct meta *m, bool reader, struct buf *why)
{
	sqlite3_stmt *st = NULL;
	int version = -1, r;

	if (sqlite3_prepare_v2(m->db, "PRAGMA user_version", -1, &st, NULL) == SQLITE_OK &&
		sqlite3_step(st) == SQLITE_ROW)
		version = sqlite3_column_int(st, 0);
	(void)sqlite3_finalize(st);
	if (version == SCHEMA_VERSION)
		return reader ? 0 : check(m, why);
	if (version != 0 || reader) {
		buf_printf(why, "the database .syncfs/meta.db has schema %d, this program knows %d", version,
			SCHEMA_VERSION);
		return -EBADMSG;
	}
	r = exec(m, "BEGIN IMMEDIATE");
	if (r == 0)
		r = exec(m, schema);
	return r < 0 ? r : exec(m, "COMMIT");
}

static int set_full(struct meta *m, bool full)
{
	int r;

	if (m->is_full == full)
		return 0;
	r = exec(m, full ? "PRAGMA synchronous = FULL" : "PRAGMA synchronous = NORMAL");
	if (r == 0)
		m->is_full = full;
	return r;
}

int meta_open(const char *path, bool reader, struct meta **ret_meta, struct buf *why)
{
	struct meta *m = calloc(1, sizeof(*m));
	int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | (reader ? 0 : SQLITE_OPEN_CREATE);
	int r;

	if (!m)
		return -ENOMEM;
	r = sqlite3_open_v2(path, &m->db, flags, NULL);
	r = r == SQLITE_OK ? 0 : error_of(r);
	if (r == 0) {
		(void)sqlite3_busy_timeout(m->db, BUSY_MS);
		r = exec(m,
			"PRAGMA journal_mode = WAL; PRAGMA temp_store = MEMORY; PRAGMA cache_size = -8192;"
			"PRAGMA wal_autocheckpoint = 4000; PRAGMA journal_size_limit = 67108864;");
	}
	if (r == 0)
		r = set_full(m, true);
	if (r == 0)
		r = schema_ready(m, reader, why);
	if (r < 0) {
		if (why && why->len == 0)
			buf_printf(why, "cannot open %s: %s", path,
				m->db ? sqlite3_errmsg(m->db) : "out of memory");
		meta_close(m);
		return r;
	}
	*ret_meta = m;
	return 0;
}

void meta_close(struct meta *m)
{
	if (!m)
		return;
	for (size_t i = 0; i < META_STATEMENTS; i++)
		(void)sqlite3_finalize(m->cached[i]);
	(void)sqlite3_close(m->db);
	free(m);
}

int meta_begin(struct meta *m, bool durable)
{
	int r = set_full(m, durable);

	return r < 0 ? r : meta_run(m, meta_use(m, "BEGIN IMMEDIATE"));
}

int meta_begin_read(struct meta *m)
{
	return meta_run(m, meta_use(m, "BEGIN"));
}

int meta_commit(struct meta *m)
{
	return meta_run(m, meta_use(m, "COMMIT"));
}

void meta_rollback(struct meta *m)
{
	if (!sqlite3_get_autocommit(m->db))
		(void)meta_run(m, meta_use(m, "ROLLBACK"));
}

int meta_value_get(struct meta *m, const char *key, struct buf *out)
{
	sqlite3_stmt *st = meta_use(m, "SELECT value FROM value WHERE key = ?1");
	int r;

	if (!st)
		return -EIO;
	(void)sqlite3_bind_text(st, 1, key, -1, SQLITE_STATIC);
	r = meta_step(m, st);
	if (r <= 0)
		return r < 0 ? r : -ENOENT;
	buf_put(out, sqlite3_column_blob(st, 0), (size_t)sqlite3_column_bytes(st, 0));
	meta_end(st);
	return out->error;
}

int meta_value_put(struct meta *m, const char *key, const void *bytes, size_t len)
{
	sqlite3_stmt *st =
		meta_use(m, "INSERT INTO value VALUES(?1, ?2) ON CONFLICT DO UPDATE SET value = ?2");

	if (!st)
		return -EIO;
	(void)sqlite3_bind_text(st, 1, key, -1, SQLITE_STATIC);
	(void)sqlite3_bind_blob64(st, 2, bytes, len, SQLITE_TRANSIENT);
	return meta_run(m, st);
}

int meta_value_del(struct meta *m, const char *key)
{
	sqlite3_stmt *st = meta_use(m, "DELETE FROM value WHERE key = ?1");

	if (!st)
		return -EIO;
	(void)sqlite3_bind_text(st, 1, key, -1, SQLITE_STATIC);
	return meta_run(m, st);
}
