/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opening the state database, its transactions, and what is neither S nor R: cursor, meta, intents, dead
 * letters. Two connections: one writes and is held by a transaction, one reads what has been committed, at
 * any time.
 */
#include "syncstate_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <syncfs/buf.h>
#include <syncfs/log.h>

static const char schema[] =
	"CREATE TABLE IF NOT EXISTS meta(key TEXT PRIMARY KEY, value BLOB) WITHOUT ROWID;"
	"CREATE TABLE IF NOT EXISTS node(id BLOB PRIMARY KEY, kind INT, c INT, a INT, seq INT, size INT, "
	"hash BLOB, target BLOB,"
	" mode INT, mtime INT, xattr BLOB, dev INT, ino INT, btime INT, dmtime INT, dctime INT, dsize INT, "
	"dmode INT, dnlink INT)"
	" WITHOUT ROWID;"
	"CREATE INDEX IF NOT EXISTS node_ino ON node(ino);"
	"CREATE TABLE IF NOT EXISTS name(parent BLOB, name BLOB, node BLOB, l INT, PRIMARY KEY(parent, "
	"name)) WITHOUT ROWID;"
	"CREATE INDEX IF NOT EXISTS name_node ON name(node);"
	"CREATE TABLE IF NOT EXISTS remote(id BLOB PRIMARY KEY, seq INT, state BLOB) WITHOUT ROWID;"
	"CREATE INDEX IF NOT EXISTS remote_seq ON remote(seq);"
	"CREATE TABLE IF NOT EXISTS remote_name(parent BLOB, name BLOB, node BLOB, PRIMARY KEY(parent, name, "
	"node)) WITHOUT ROWID;"
	"CREATE INDEX IF NOT EXISTS remote_name_node ON remote_name(node);"
	"CREATE TABLE IF NOT EXISTS apply_intent(stage TEXT PRIMARY KEY, node BLOB, ino INT, btime INT, "
	"state BLOB);"
	"CREATE TABLE IF NOT EXISTS kept(node BLOB PRIMARY KEY, copy BLOB, seq INT) WITHOUT ROWID;"
	"CREATE TABLE IF NOT EXISTS dead(opno INT, what TEXT, why TEXT);"
	"CREATE TABLE IF NOT EXISTS alias(node BLOB PRIMARY KEY, became BLOB);";

static const char *const statements[Q_COUNT_ALL] = {
	[Q_BASE_GET] = "SELECT "
		       "kind,c,a,seq,size,hash,target,mode,mtime,xattr,dev,ino,btime,dmtime,dctime,dsize,"
		       "dmode,dnlink"
		       " FROM node WHERE id=?1",
	[Q_NAMES_GET] = "SELECT parent,name,l FROM name WHERE node=?1",
	[Q_BY_OBJECT] = "SELECT id FROM node WHERE ino=?1 AND btime=?2 AND dev=?3",
	[Q_BY_NAME] = "SELECT node FROM name WHERE parent=?1 AND name=?2",
	[Q_PARENT] = "SELECT parent,name FROM name WHERE node=?1 LIMIT 1",
	[Q_CHILDREN] = "SELECT "
		       "n.name,n.node,k.kind,k.mode,k.mtime,k.dev,k.ino,k.btime,k.dmtime,k.dctime,k.dsize,k."
		       "dmode,k.dnlink"
		       " FROM name n JOIN node k ON k.id=n.node WHERE n.parent=?1",
	[Q_COUNT] = "SELECT count(*) FROM node",
	[Q_FILES] = "SELECT id,hash FROM node WHERE id>?1 AND kind=?2 ORDER BY id LIMIT 1000",
	[Q_NODES] = "SELECT id FROM node WHERE id>?1 ORDER BY id LIMIT ?2",
	[Q_REMOTE_GET] = "SELECT state FROM remote WHERE id=?1",
	[Q_REMOTE_NAME] = "SELECT node FROM remote_name WHERE parent=?1 AND name=?2",
	[Q_REMOTES] = "SELECT state FROM remote WHERE seq>?1 ORDER BY seq LIMIT ?2",
	[Q_REMOTE_ANY] = "SELECT EXISTS (SELECT 1 FROM remote)",
	[Q_REMOTE_COUNT] = "SELECT count(*) FROM remote",
	[Q_META_GET] = "SELECT value FROM meta WHERE key=?1",
	[Q_DEAD_COUNT] = "SELECT count(*) FROM dead",
	[Q_KEPT] = "SELECT copy,seq FROM kept WHERE node=?1",
	[Q_ALIASES] = "SELECT node,became FROM alias",
	[Q_INTENTS] = "SELECT stage,node,ino,btime,state FROM apply_intent",
	[Q_LOOK] = "BEGIN",
	[Q_LOOK_AWAY] = "COMMIT",
	[Q_BASE_PUT] =
		"INSERT OR REPLACE INTO "
		"node(kind,c,a,seq,size,hash,target,mode,mtime,xattr,dev,ino,btime,dmtime,dctime,dsize,"
		"dmode,dnlink,id) VALUES(?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13,?14,?15,?16,?17,?18,?19)",
	[Q_BASE_DELETE] = "DELETE FROM node WHERE id=?1",
	[Q_NAMES_DELETE] = "DELETE FROM name WHERE node=?1",
	[Q_NAME_PUT] = "INSERT OR REPLACE INTO name(parent,name,node,l) VALUES(?1,?2,?3,?4)",
	[Q_REMOTE_PUT] = "INSERT OR REPLACE INTO remote(id,seq,state) VALUES(?1,?2,?3)",
	[Q_REMOTE_DELETE] = "DELETE FROM remote WHERE id=?1",
	[Q_REMOTE_NAMES_DELETE] = "DELETE FROM remote_name WHERE node=?1",
	[Q_REMOTE_NAME_PUT] = "INSERT OR REPLACE INTO remote_name(parent,name,node) VALUES(?1,?2,?3)",
	[Q_META_PUT] = "INSERT OR REPLACE INTO meta(key,value) VALUES(?1,?2)",
	[Q_INTENT_PUT] =
		"INSERT OR REPLACE INTO apply_intent(stage,node,ino,btime,state) VALUES(?1,?2,?3,?4,?5)",
	[Q_INTENTS_CLEAR] = "DELETE FROM apply_intent",
	[Q_KEPT_PUT] = "INSERT OR REPLACE INTO kept(node,copy,seq) VALUES(?1,?2,?3)",
	[Q_KEPT_DELETE] = "DELETE FROM kept WHERE node=?1",
	[Q_ALIAS_PUT] = "INSERT OR REPLACE INTO alias(node,became) VALUES(?1,?2)",
	[Q_ALIASES_CLEAR] = "DELETE FROM alias",
	[Q_DEAD_PUT] = "INSERT INTO dead(opno,what,why) VALUES(?1,?2,?3)",
};

/* ---- transactions ---- */

static int exec(struct connection *c, const char *sql)
{
	return sqlite3_exec(c->db, sql, NULL, NULL, NULL) == SQLITE_OK ? 0 : sql_error(c, sql);
}

int syncstate_begin(struct syncstate *s, bool durable)
{
	int r = 0;

	mutex_lock(&s->w.lock);
	if (durable != s->durable)
		r = exec(&s->w, durable ? "PRAGMA synchronous=FULL" : "PRAGMA synchronous=NORMAL");
	if (!r) {
		s->durable = durable;
		r = exec(&s->w, "BEGIN IMMEDIATE");
	}
	if (r)
		mutex_unlock(&s->w.lock);
	return r;
}

/* While a commit is under way nothing stays open: that would keep the log from starting anew. */
static void look_away(struct syncstate *s, bool committing)
{
	MUTEX_GUARD(&s->r.lock);
	if (!sqlite3_get_autocommit(s->r.db))
		(void)sql_run(&s->r, Q_LOOK_AWAY);
	s->committing = committing;
}

int syncstate_commit(struct syncstate *s)
{
	int r;

	look_away(s, true);
	r = exec(&s->w, "COMMIT");
	look_away(s, false);
	if (r && !sqlite3_get_autocommit(s->w.db))
		exec(&s->w, "ROLLBACK");
	mutex_unlock(&s->w.lock);
	return r;
}

void syncstate_rollback(struct syncstate *s)
{
	exec(&s->w, "ROLLBACK");
	mutex_unlock(&s->w.lock);
}

int syncstate_end(struct syncstate *s, int r)
{
	if (!r)
		return syncstate_commit(s);
	syncstate_rollback(s);
	return r;
}

/* ---- cursor, meta ---- */

int syncstate_meta_put(struct syncstate *s, const char *key, const void *value, size_t len)
{
	sqlite3_stmt *st = s->w.st[Q_META_PUT];

	sqlite3_bind_text(st, 1, key, -1, SQLITE_STATIC);
	sqlite3_bind_blob(st, 2, value, (int)len, SQLITE_STATIC);
	return sql_run(&s->w, Q_META_PUT);
}

int syncstate_peek_meta(struct syncstate *s, const char *key, void *ret_value, size_t cap, size_t *ret_len)
{
	sqlite3_stmt *st = s->r.st[Q_META_GET];
	int r;

	MUTEX_GUARD(&s->r.lock);
	sql_look(s);
	sqlite3_bind_text(st, 1, key, -1, SQLITE_STATIC);
	r = sql_row(&s->r, Q_META_GET);
	if (r > 0) {
		size_t len = (size_t)sqlite3_column_bytes(st, 0);

		r = len > cap ? -EMSGSIZE : 0;
		if (!r) {
			if (len)
				memcpy(ret_value, sqlite3_column_blob(st, 0), len);
			*ret_len = len;
		}
	} else if (r == 0) {
		r = -ENOENT;
	}
	sqlite3_reset(st);
	return r;
}

static void gone_trim(struct syncstate *s, uint64_t seq)
{
	struct map *fresh = seq > s->gone[1].upto && (s->gone[0].upto || s->gone[1].upto) ? map_new() : NULL;

	if (!fresh)
		return;
	map_free(s->gone[1].nodes);
	s->gone[1] = s->gone[0];
	s->gone[0] = (struct gone){.nodes = fresh};
}

static int put_cursor(struct syncstate *s, const char *key, const struct cursor *c)
{
	char text[CURSOR_TEXT_BYTES];

	cursor_to_text(c, text);
	return syncstate_meta_put(s, key, text, strlen(text));
}

static int peek_cursor(struct syncstate *s, const char *key, struct cursor *ret_cursor)
{
	char text[CURSOR_TEXT_BYTES];
	size_t len;
	int r = syncstate_peek_meta(s, key, text, sizeof(text), &len);

	return r ? r : cursor_from_text(text, len, ret_cursor);
}

int syncstate_cursor_put(struct syncstate *s, const struct cursor *c)
{
	gone_trim(s, c->seq);
	return put_cursor(s, "cursor", c);
}

int syncstate_peek_cursor(struct syncstate *s, struct cursor *ret_cursor)
{
	return peek_cursor(s, "cursor", ret_cursor);
}

int syncstate_acked_put(struct syncstate *s, const struct cursor *c)
{
	return put_cursor(s, "acked", c);
}

int syncstate_peek_acked(struct syncstate *s, struct cursor *ret_cursor)
{
	return peek_cursor(s, "acked", ret_cursor);
}

int syncstate_client_put(struct syncstate *s, const struct id *client)
{
	const uint64_t none = 0;
	int r = syncstate_meta_put(s, "client", client->b, ID_BYTES);

	return r ? r : syncstate_meta_put(s, "opno", &none, sizeof(none));
}

/* With what the server has said to be gone: in another history it may never have been. */
int syncstate_forget_told(struct syncstate *s)
{
	struct map *fresh[2] = {map_new(), map_new()};

	if (!fresh[0] || !fresh[1]) {
		map_free(fresh[0]);
		map_free(fresh[1]);
		return -ENOMEM;
	}
	for (int i = 0; i < 2; i++) {
		map_free(s->gone[i].nodes);
		s->gone[i] = (struct gone){.nodes = fresh[i]};
	}
	return exec(&s->w,
		"DELETE FROM remote; DELETE FROM remote_name; DELETE FROM apply_intent; DELETE FROM kept;"
		"DELETE FROM alias;"
		"DELETE FROM meta WHERE key IN ('cursor', 'acked')");
}

int syncstate_forget_all(struct syncstate *s)
{
	int r = syncstate_forget_told(s);

	return r ? r : exec(&s->w, "DELETE FROM node; DELETE FROM name");
}

int syncstate_forget_orphans(struct syncstate *s)
{
	char hex[ID_HEX_BYTES], sql[256];
	int r, gone;

	id_to_hex(&ID_ROOT, hex);
	(void)snprintf(sql, sizeof(sql),
		"DELETE FROM name WHERE parent<>x'%s' AND parent NOT IN (SELECT id FROM node);"
		"DELETE FROM node WHERE id<>x'%s' AND id NOT IN (SELECT node FROM name)",
		hex, hex);
	do { /* one level of directories each time */
		gone = sqlite3_total_changes(s->w.db);
		r = exec(&s->w, sql);
	} while (!r && sqlite3_total_changes(s->w.db) != gone);
	return r;
}

/* ---- intents, aliases, dead letters ---- */

int syncstate_intent_put(struct syncstate *s, const struct apply_intent *i)
{
	cleanup_buf struct buf state = BUF_INIT;
	sqlite3_stmt *st = s->w.st[Q_INTENT_PUT];

	node_state_encode(&i->state, &state);
	if (state.error)
		return state.error;
	sqlite3_bind_text(st, 1, i->stage_name, -1, SQLITE_STATIC);
	sql_bind_id(st, 2, &i->node);
	sql_bind_u64(st, 3, i->staged.ino);
	sqlite3_bind_int64(st, 4, i->staged.btime_ns);
	sqlite3_bind_blob(st, 5, state.data, (int)state.len, SQLITE_STATIC);
	return sql_run(&s->w, Q_INTENT_PUT);
}

int syncstate_intents_clear(struct syncstate *s)
{
	return sql_run(&s->w, Q_INTENTS_CLEAR);
}

int syncstate_intents(struct syncstate *s, int (*fn)(void *arg, const struct apply_intent *i), void *arg)
{
	sqlite3_stmt *st = s->r.st[Q_INTENTS];
	int r;

	MUTEX_GUARD(&s->r.lock);
	sql_look(s);
	while ((r = sql_row(&s->r, Q_INTENTS)) > 0) {
		struct apply_intent i = {.node = sql_column_id(st, 1)};

		snprintf(i.stage_name, sizeof(i.stage_name), "%s", (const char *)sqlite3_column_text(st, 0));
		i.staged.ino = (uint64_t)sqlite3_column_int64(st, 2);
		i.staged.btime_ns = sqlite3_column_int64(st, 3);
		r = node_state_decode(
			sqlite3_column_blob(st, 4), (size_t)sqlite3_column_bytes(st, 4), &i.state);
		if (!r)
			r = fn(arg, &i);
		node_state_fini(&i.state);
		if (r)
			break;
	}
	sqlite3_reset(st);
	return r;
}

int syncstate_kept_put(struct syncstate *s, const struct id *node, const struct id *copy, uint64_t seq)
{
	sqlite3_stmt *st = s->w.st[Q_KEPT_PUT];

	sql_bind_id(st, 1, node);
	sql_bind_id(st, 2, copy);
	sql_bind_u64(st, 3, seq);
	return sql_run(&s->w, Q_KEPT_PUT);
}

int syncstate_kept_delete(struct syncstate *s, const struct id *node)
{
	sql_bind_id(s->w.st[Q_KEPT_DELETE], 1, node);
	return sql_run(&s->w, Q_KEPT_DELETE);
}

int syncstate_peek_kept(struct syncstate *s, const struct id *node, struct id *ret_copy, uint64_t *ret_seq)
{
	sqlite3_stmt *st = s->r.st[Q_KEPT];
	int r;

	MUTEX_GUARD(&s->r.lock);
	sql_bind_id(st, 1, node);
	r = sql_row(&s->r, Q_KEPT);
	if (r > 0) {
		*ret_copy = sql_column_id(st, 0);
		*ret_seq = (uint64_t)sqlite3_column_int64(st, 1);
	}
	sqlite3_reset(st);
	return r > 0 ? 0 : r == 0 ? -ENOENT : r;
}

int syncstate_alias_put(struct syncstate *s, const struct id *node, const struct id *became)
{
	sqlite3_stmt *st = s->w.st[Q_ALIAS_PUT];

	sql_bind_id(st, 1, node);
	sql_bind_id(st, 2, became);
	return sql_run(&s->w, Q_ALIAS_PUT);
}

int syncstate_aliases(
	struct syncstate *s, int (*fn)(void *arg, const struct id *node, const struct id *became), void *arg)
{
	sqlite3_stmt *st = s->r.st[Q_ALIASES];
	int r;

	MUTEX_GUARD(&s->r.lock);
	while ((r = sql_row(&s->r, Q_ALIASES)) > 0) {
		struct id node = sql_column_id(st, 0), became = sql_column_id(st, 1);

		r = fn(arg, &node, &became);
		if (r)
			break;
	}
	sqlite3_reset(st);
	return r;
}

int syncstate_aliases_clear(struct syncstate *s)
{
	return sql_run(&s->w, Q_ALIASES_CLEAR);
}

int syncstate_dead_letter_put(struct syncstate *s, uint64_t opno, const char *what, const char *why)
{
	sqlite3_stmt *st = s->w.st[Q_DEAD_PUT];

	sql_bind_u64(st, 1, opno);
	sqlite3_bind_text(st, 2, what, -1, SQLITE_STATIC);
	sqlite3_bind_text(st, 3, why, -1, SQLITE_STATIC);
	return sql_run(&s->w, Q_DEAD_PUT);
}

int64_t syncstate_peek_dead_letters(struct syncstate *s)
{
	MUTEX_GUARD(&s->r.lock);
	sql_look(s);
	return sql_get_count(&s->r, Q_DEAD_COUNT);
}

/* ---- opening ---- */

static int prepare(struct connection *c, enum statement count)
{
	for (int q = 0; q < (int)count; q++) {
		if (sqlite3_prepare_v3(c->db, statements[q], -1, SQLITE_PREPARE_PERSISTENT, &c->st[q],
			    NULL) != SQLITE_OK)
			return sql_error(c, statements[q]);
	}
	return 0;
}

static int open_connection(struct connection *c, const char *path)
{
	if (sqlite3_open_v2(path, &c->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX,
		    NULL) != SQLITE_OK)
		return c->db ? sql_error(c, path) : -ENOMEM;
	sqlite3_extended_result_codes(c->db, 1);
	sqlite3_busy_timeout(c->db, 10000);
	/* NORMAL: a power loss may take the last commits, which leaves an older S:
	 * what comes again is known by its versions. */
	return exec(c,
		"PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA cache_size=-2048; PRAGMA "
		"mmap_size=0;"
		"PRAGMA wal_autocheckpoint=4000");
}

static void close_connection(struct connection *c)
{
	for (int q = 0; q < Q_COUNT_ALL; q++)
		sqlite3_finalize(c->st[q]);
	sqlite3_close(c->db);
	memset(c->st, 0, sizeof(c->st));
	c->db = NULL;
}

static int open_both(struct syncstate *s, const char *path)
{
	int r = open_connection(&s->w, path);

	if (!r)
		r = exec(&s->w, schema);
	if (!r)
		r = prepare(&s->w, Q_COUNT_ALL);
	if (!r)
		r = open_connection(&s->r, path);
	if (!r)
		r = prepare(&s->r, Q_READS);
	return r;
}

static int move_aside(const char *path)
{
	cleanup_buf struct buf to = BUF_INIT, wal = BUF_INIT;
	const char *name;

	buf_printf(&to, "%s.damaged", path);
	buf_printf(&wal, "%s-wal", path);
	name = buf_cstr(&to);
	if (!name || !buf_cstr(&wal))
		return -ENOMEM;
	log_error("state database %s is damaged: kept as %s, and what is here and at the server is compared "
		  "by content",
		path, name);
	unlink(buf_cstr(&wal));
	return rename(path, name) < 0 ? -errno : 0;
}

int syncstate_open(const char *path, struct syncstate **ret_state, bool *ret_is_new)
{
	struct syncstate *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return -ENOMEM;
	s->gone[0].nodes = map_new();
	s->gone[1].nodes = map_new();
	mutex_init(&s->w.lock, RANK_SYNCSTATE, "syncstate writer");
	mutex_init(&s->r.lock, RANK_SYNCSTATE + 1, "syncstate reader");
	*ret_is_new = access(path, F_OK) < 0;
	r = s->gone[0].nodes && s->gone[1].nodes ? open_both(s, path) : -ENOMEM;
	if (r == -EBADMSG) {
		close_connection(&s->r);
		close_connection(&s->w);
		*ret_is_new = true;
		r = move_aside(path);
		if (!r)
			r = open_both(s, path);
	}
	if (r)
		syncstate_close(s);
	else
		*ret_state = s;
	return r;
}

void syncstate_close(struct syncstate *s)
{
	if (!s)
		return;
	close_connection(&s->r);
	close_connection(&s->w);
	mutex_fini(&s->r.lock);
	mutex_fini(&s->w.lock);
	map_free(s->gone[0].nodes);
	map_free(s->gone[1].nodes);
	free(s);
}
