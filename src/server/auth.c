/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tokens and client ids in auth.db, see the header. Called by the router for each request, by api_sync for
 * each batch and by the `syncfsd token` commands. Never keeps, logs or returns a token's text.
 */
#include "auth.h"

#include <ctype.h>
#include <errno.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <time.h>

#include <syncfs/clock.h>
#include <syncfs/limits.h>
#include <syncfs/log.h>
#include <syncfs/mutex.h>

#define BUSY_WAIT_MS 5000
#define DAY_S 86400

/* user_version counts the schema's changes. */
#define SCHEMA                                                                                               \
	"PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;"                                                \
	"CREATE TABLE IF NOT EXISTS token(name TEXT PRIMARY KEY, hash BLOB NOT NULL UNIQUE, namespace TEXT " \
	"NOT NULL,"                                                                                          \
	" read_only INTEGER NOT NULL, expires_at INTEGER NOT NULL, revoked_at INTEGER NOT NULL,"             \
	" created_at INTEGER NOT NULL) WITHOUT ROWID;"                                                       \
	"CREATE TABLE IF NOT EXISTS client(id BLOB PRIMARY KEY, token BLOB NOT NULL) WITHOUT ROWID;"         \
	"PRAGMA user_version=1;"

enum statement { FIND, BOUND, BIND, ADD, REVOKE, COUNT, LIST, NAMED, VERSION, STATEMENTS };

static const char *const texts[STATEMENTS] = {
	[FIND] = "SELECT name, hash, namespace, read_only, expires_at FROM token WHERE hash = ? AND "
		 "revoked_at = 0",
	[BOUND] = "SELECT token FROM client WHERE id = ?",
	[BIND] = "INSERT OR REPLACE INTO client(id, token) VALUES(?, ?)",
	[ADD] = "INSERT INTO token(name, hash, namespace, read_only, expires_at, revoked_at, created_at)"
		" VALUES(?, ?, ?, ?, ?, 0, ?)",
	[REVOKE] = "UPDATE token SET revoked_at = ? WHERE name = ? AND revoked_at = 0",
	[COUNT] = "SELECT count(*) FROM token",
	[LIST] = "SELECT name, namespace, read_only, expires_at, revoked_at, created_at FROM token ORDER BY "
		 "name",
	[NAMED] = "SELECT 1 FROM token WHERE name = ?",
	[VERSION] = "PRAGMA data_version",
};

struct auth {
	struct mutex lock;
	sqlite3 *db;
	sqlite3_stmt *statements[STATEMENTS];
	bool has_file_token;
	struct hash file_token;
	int64_t seen_version;
};

static int64_t now_s(void)
{
	return clock_wall_ns() / 1000000000;
}

/* ---- the database ---- */

/* A statement ready to bind. Reset by done_locked(). */
static sqlite3_stmt *begin_locked(struct auth *a, enum statement which)
{
	sqlite3_stmt *st = a->statements[which];

	(void)sqlite3_reset(st);
	(void)sqlite3_clear_bindings(st);
	return st;
}

static int step_locked(struct auth *a, sqlite3_stmt *st)
{
	int r = sqlite3_step(st);

	if (r != SQLITE_ROW && r != SQLITE_DONE && (r & 0xff) != SQLITE_CONSTRAINT)
		log_error("auth.db: %s", sqlite3_errmsg(a->db));
	return r;
}

static void bind_hash(sqlite3_stmt *st, int at, const struct hash *hash)
{
	(void)sqlite3_bind_blob(st, at, hash->b, HASH_BYTES, SQLITE_STATIC);
}

static bool column_hash(sqlite3_stmt *st, int at, struct hash *ret_hash)
{
	const void *bytes = sqlite3_column_blob(st, at);

	if (!bytes || sqlite3_column_bytes(st, at) != HASH_BYTES)
		return false;
	memcpy(ret_hash->b, bytes, HASH_BYTES);
	return true;
}

int auth_open(const char *path, struct auth **ret_auth, struct buf *why)
{
	struct auth *a = calloc(1, sizeof(*a));
	int r;

	if (!a)
		return -ENOMEM;
	mutex_init(&a->lock, RANK_META, "auth");
	r = sqlite3_open_v2(path, &a->db,
		SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOFOLLOW | SQLITE_OPEN_NOMUTEX,
		NULL);
	if (r == SQLITE_OK) {
		(void)sqlite3_busy_timeout(a->db, BUSY_WAIT_MS);
		r = sqlite3_exec(a->db, SCHEMA, NULL, NULL, NULL);
	}
	for (int i = 0; i < STATEMENTS && r == SQLITE_OK; i++)
		r = sqlite3_prepare_v3(
			a->db, texts[i], -1, SQLITE_PREPARE_PERSISTENT, &a->statements[i], NULL);
	if (r != SQLITE_OK) {
		buf_printf(
			why, "%s cannot be used: %s", path, a->db ? sqlite3_errmsg(a->db) : "out of memory");
		auth_close(a);
		return (r & 0xff) == SQLITE_NOTADB || (r & 0xff) == SQLITE_CORRUPT ? -EBADMSG : -EIO;
	}
	(void)auth_has_changed(a);
	*ret_auth = a;
	return 0;
}

void auth_close(struct auth *a)
{
	if (!a)
		return;
	for (int i = 0; i < STATEMENTS; i++)
		(void)sqlite3_finalize(a->statements[i]);
	(void)sqlite3_close(a->db);
	mutex_fini(&a->lock);
	free(a);
}

bool auth_has_changed(struct auth *a)
{
	sqlite3_stmt *st;
	int64_t version;
	bool has_changed;

	MUTEX_GUARD(&a->lock);
	st = begin_locked(a, VERSION);
	if (step_locked(a, st) != SQLITE_ROW)
		return true;
	version = sqlite3_column_int64(st, 0);
	(void)sqlite3_reset(st);
	has_changed = version != a->seen_version;
	a->seen_version = version;
	return has_changed;
}

/* ---- checking ---- */

static void derive_actor(struct token *t)
{
	uint8_t text[6 + HASH_BYTES] = "actor:";
	struct hash derived;

	memcpy(text + 6, t->hash.b, HASH_BYTES);
	derived = hash_bytes(text, sizeof(text));
	memcpy(t->actor.b, derived.b, ID_BYTES);
}

/* 0, -EACCES, -EIO. */
static int find_locked(struct auth *a, const struct hash *hash, struct token *ret_token)
{
	struct token t = {0};
	sqlite3_stmt *st;
	int r;

	if (a->has_file_token && hash_equal_secret(hash, &a->file_token)) {
		memcpy(t.name, "token-file", sizeof("token-file"));
		memcpy(t.ns, AUTH_DEFAULT_NAMESPACE, sizeof(AUTH_DEFAULT_NAMESPACE));
		t.hash = *hash;
		derive_actor(&t);
		*ret_token = t;
		return 0;
	}
	st = begin_locked(a, FIND);
	bind_hash(st, 1, hash);
	r = step_locked(a, st);
	if (r == SQLITE_ROW && column_hash(st, 1, &t.hash) && hash_equal_secret(&t.hash, hash)) {
		(void)snprintf(t.name, sizeof(t.name), "%s", (const char *)sqlite3_column_text(st, 0));
		(void)snprintf(t.ns, sizeof(t.ns), "%s", (const char *)sqlite3_column_text(st, 2));
		t.read_only = sqlite3_column_int(st, 3) != 0;
		t.expires_at_s = sqlite3_column_int64(st, 4);
		r = t.expires_at_s && t.expires_at_s <= now_s() ? -EACCES : 0;
	} else {
		r = r == SQLITE_ROW || r == SQLITE_DONE ? -EACCES : -EIO;
	}
	(void)sqlite3_reset(st);
	if (r < 0)
		return r;
	derive_actor(&t);
	*ret_token = t;
	return 0;
}

/* The token of "Bearer TOKEN"; NULL: it is none. */
static const char *bearer(const char *authorization, size_t *ret_len)
{
	size_t len;

	if (!authorization || strncasecmp(authorization, "Bearer ", 7) != 0)
		return NULL;
	authorization += 7;
	authorization += strspn(authorization, " ");
	len = strlen(authorization);
	while (len && authorization[len - 1] == ' ')
		len--;
	if (!len || len > TOKEN_MAX_BYTES)
		return NULL;
	*ret_len = len;
	return authorization;
}

int auth_check(struct auth *a, const char *authorization, struct token *ret_token)
{
	size_t len = 0;
	const char *text = bearer(authorization, &len);
	struct hash hash;

	if (!text)
		return -EACCES;
	hash = hash_bytes(text, len);
	MUTEX_GUARD(&a->lock);
	return find_locked(a, &hash, ret_token);
}

bool auth_is_valid(struct auth *a, const struct token *token)
{
	struct token t;

	MUTEX_GUARD(&a->lock);
	/* an unreadable database takes nobody's right away */
	return find_locked(a, &token->hash, &t) != -EACCES;
}

void auth_set_file_token(struct auth *a, const char *text)
{
	struct hash hash = hash_bytes(text ? text : "", text ? strlen(text) : 0);

	MUTEX_GUARD(&a->lock);
	a->has_file_token = text != NULL;
	a->file_token = hash;
}

int auth_bind_client(struct auth *a, const struct token *token, const struct id *client)
{
	struct hash bound;
	struct token other;
	sqlite3_stmt *st;
	bool has_bound;
	int r;

	MUTEX_GUARD(&a->lock);
	st = begin_locked(a, BOUND);
	(void)sqlite3_bind_blob(st, 1, client->b, ID_BYTES, SQLITE_STATIC);
	r = step_locked(a, st);
	has_bound = r == SQLITE_ROW && column_hash(st, 0, &bound);
	(void)sqlite3_reset(st);
	if (r != SQLITE_ROW && r != SQLITE_DONE)
		return -EIO;
	if (has_bound && hash_equal(&bound, &token->hash))
		return 0;
	if (has_bound && find_locked(a, &bound, &other) != -EACCES)
		return -EPERM;
	st = begin_locked(a, BIND);
	(void)sqlite3_bind_blob(st, 1, client->b, ID_BYTES, SQLITE_STATIC);
	bind_hash(st, 2, &token->hash);
	r = step_locked(a, st);
	(void)sqlite3_reset(st);
	return r == SQLITE_DONE ? 0 : -EIO;
}

/* ---- managing ---- */

bool auth_name_is_valid(const char *name)
{
	size_t len = strlen(name);

	if (!len || len >= AUTH_NAME_BYTES || *name == '-' || *name == '.')
		return false;
	for (; *name; name++)
		if (!isalnum((unsigned char)*name) && !strchr("._-", *name))
			return false;
	return true;
}

char *auth_make_text(char *text)
{
	struct id high = id_new(), low = id_new();
	char hex[ID_HEX_BYTES], more[ID_HEX_BYTES];

	(void)snprintf(text, TOKEN_TEXT_BYTES, "syncfs_%s%s", id_to_hex(&high, hex), id_to_hex(&low, more));
	return text;
}

int auth_add(
	struct auth *a, const char *name, const char *text, const char *ns, bool read_only, uint64_t days)
{
	struct hash hash = hash_bytes(text, strlen(text));
	sqlite3_stmt *st;
	int r;

	MUTEX_GUARD(&a->lock);
	st = begin_locked(a, ADD);
	(void)sqlite3_bind_text(st, 1, name, -1, SQLITE_STATIC);
	bind_hash(st, 2, &hash);
	(void)sqlite3_bind_text(st, 3, ns, -1, SQLITE_STATIC);
	(void)sqlite3_bind_int(st, 4, read_only);
	(void)sqlite3_bind_int64(st, 5, days ? now_s() + (int64_t)days * DAY_S : 0);
	(void)sqlite3_bind_int64(st, 6, now_s());
	r = step_locked(a, st);
	(void)sqlite3_reset(st);
	return r == SQLITE_DONE ? 0 : (r & 0xff) == SQLITE_CONSTRAINT ? -EEXIST : -EIO;
}

int auth_revoke(struct auth *a, const char *name)
{
	sqlite3_stmt *st;
	int r;

	MUTEX_GUARD(&a->lock);
	st = begin_locked(a, NAMED);
	(void)sqlite3_bind_text(st, 1, name, -1, SQLITE_STATIC);
	r = step_locked(a, st);
	(void)sqlite3_reset(st);
	if (r != SQLITE_ROW)
		return r == SQLITE_DONE ? -ENOENT : -EIO;
	st = begin_locked(a, REVOKE);
	(void)sqlite3_bind_int64(st, 1, now_s());
	(void)sqlite3_bind_text(st, 2, name, -1, SQLITE_STATIC);
	r = step_locked(a, st);
	(void)sqlite3_reset(st);
	if (r != SQLITE_DONE)
		return -EIO;
	return sqlite3_changes(a->db) ? 0 : -EALREADY;
}

int auth_count(struct auth *a, uint64_t *ret_count)
{
	sqlite3_stmt *st;
	int r;

	MUTEX_GUARD(&a->lock);
	st = begin_locked(a, COUNT);
	r = step_locked(a, st);
	if (r == SQLITE_ROW)
		*ret_count = (uint64_t)sqlite3_column_int64(st, 0);
	(void)sqlite3_reset(st);
	return r == SQLITE_ROW ? 0 : -EIO;
}

static void put_day(struct buf *out, int64_t at_s)
{
	struct tm tm;
	time_t t = (time_t)at_s;

	if (!gmtime_r(&t, &tm))
		return;
	buf_printf(out, "%04d-%02d-%02d", tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday);
}

int auth_list(struct auth *a, struct buf *out)
{
	sqlite3_stmt *st;
	int r;

	MUTEX_GUARD(&a->lock);
	st = begin_locked(a, LIST);
	while ((r = step_locked(a, st)) == SQLITE_ROW) {
		int64_t expires = sqlite3_column_int64(st, 3), revoked = sqlite3_column_int64(st, 4);

		buf_printf(out, "%s\tnamespace %s\t%s\tmade ", (const char *)sqlite3_column_text(st, 0),
			(const char *)sqlite3_column_text(st, 1),
			sqlite3_column_int(st, 2) ? "read-only" : "read-write");
		put_day(out, sqlite3_column_int64(st, 5));
		if (revoked) {
			buf_put_str(out, "\trevoked ");
			put_day(out, revoked);
		} else if (expires) {
			buf_put_str(out, expires <= now_s() ? "\texpired " : "\texpires ");
			put_day(out, expires);
		}
		buf_put_str(out, "\n");
	}
	(void)sqlite3_reset(st);
	return r == SQLITE_DONE ? out->error : -EIO;
}
