/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The server's rows, read from its disk after a clean end (I6, I8): one tree without orphans and cycles,
 * equal to the directory; commits numbered without gaps, those of a client in the order of its numbers.
 * Called by world.c through oracle.h. Opens a copy in memory, never the file.
 */
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syncfs/id.h>

#include "oracle_own.h"
#include "sim.h"

#define DEPTH_MAX 512

struct found {
	uint8_t *bytes;
	size_t len;
};

static int find_meta(void *arg, const struct disk_entry *e)
{
	struct found *f = arg;
	const char *name = strrchr(e->path, '/');

	if (!S_ISREG(e->st.st_mode) || strcmp(name ? name + 1 : e->path, "meta.db") != 0)
		return 0;
	f->bytes = sqlite3_malloc64(e->len + 1);
	if (!f->bytes)
		abort();
	memcpy(f->bytes, e->bytes, e->len);
	f->len = e->len;
	return 1;
}

static sqlite3 *open_copy(struct oracle *o)
{
	struct found f = {0};
	sqlite3 *db;

	(void)disk_walk(o->server->machine.disk, "/", find_meta, &f);
	if (f.len < 100)
		return NULL;
	f.bytes[18] = f.bytes[19] = 1; /* no write-ahead log in memory */
	if (sqlite3_open(":memory:", &db) != SQLITE_OK ||
		sqlite3_deserialize(db, "main", f.bytes, (sqlite3_int64)f.len, (sqlite3_int64)f.len,
			SQLITE_DESERIALIZE_FREEONCLOSE) != SQLITE_OK)
		sim_fail("I8", "the server's rows cannot be opened");
	return db;
}

/* The first row of a query as text; NULL: it has none. */
static const char *first_row(sqlite3 *db, const char *sql, sqlite3_stmt **ret_st)
{
	if (sqlite3_prepare_v2(db, sql, -1, ret_st, NULL) != SQLITE_OK)
		sim_fail("I8", "%s: %s", sql, sqlite3_errmsg(db));
	return sqlite3_step(*ret_st) == SQLITE_ROW ? (const char *)sqlite3_column_text(*ret_st, 0) : NULL;
}

static void must_be_empty(sqlite3 *db, const char *invariant, const char *sql, const char *what)
{
	sqlite3_stmt *st;
	const char *row = first_row(db, sql, &st);

	if (row)
		sim_fail(invariant, "%s: %s", what, row);
	(void)sqlite3_finalize(st);
}

static void check_rows(sqlite3 *db)
{
	must_be_empty(db, "I8",
		"SELECT hex(name) FROM dentry d LEFT JOIN node n ON n.id = d.node WHERE n.id IS NULL OR "
		"n.tomb",
		"a name of no node");
	must_be_empty(db, "I8",
		"SELECT hex(id) FROM node WHERE tomb = 0 AND id NOT IN (SELECT node FROM dentry) AND id != "
		"x'00000000000000000000000000000001'",
		"a live node without a name");
	must_be_empty(db, "I8",
		"SELECT hex(name) FROM dentry WHERE node IN (SELECT parent FROM dentry) GROUP BY node HAVING "
		"count(*) > 1",
		"a directory with several names");
	must_be_empty(db, "I8",
		"SELECT seq FROM log GROUP BY 1 = 1 HAVING max(seq) - min(seq) + 1 != count(*)",
		"a gap in the numbers of commits");
	must_be_empty(db, "I6",
		"SELECT b.by_opno FROM node a JOIN node b ON a.by_client = b.by_client WHERE a.seq < b.seq "
		"AND "
		"a.by_opno > b.by_opno AND b.by_client != zeroblob(16)",
		"a client's operation was carried out after a later one");
	must_be_empty(db, "I5",
		"SELECT client.last_opno FROM client JOIN node ON by_client = client.id WHERE by_opno > "
		"last_opno",
		"an operation of a client that is not counted");
}

/* Names as the rows have them, against the directory. */
static void check_names(sqlite3 *db, const struct tree_look *server)
{
	sqlite3_stmt *st;
	size_t count = 0;

	if (sqlite3_prepare_v2(db,
		    "WITH RECURSIVE t(id, path, depth) AS (SELECT ?1, '', 0 UNION ALL SELECT d.node, "
		    "t.path || CASE t.path WHEN '' THEN '' ELSE '/' END || CAST(d.name AS TEXT), t.depth + 1 "
		    "FROM t JOIN "
		    "dentry d ON d.parent = t.id WHERE t.depth < 512) SELECT path, depth FROM t WHERE depth "
		    "> 0",
		    -1, &st, NULL) != SQLITE_OK)
		sim_fail("I8", "%s", sqlite3_errmsg(db));
	(void)sqlite3_bind_blob(st, 1, ID_ROOT.b, ID_BYTES, SQLITE_STATIC);
	while (sqlite3_step(st) == SQLITE_ROW) {
		const char *path = (const char *)sqlite3_column_text(st, 0);

		if (sqlite3_column_int(st, 1) >= DEPTH_MAX)
			sim_fail("I8", "a cycle: %.200s", path);
		if (!tree_find(server, path))
			sim_fail("I8", "%s is in the server's rows, not in its directory", path);
		count++;
	}
	(void)sqlite3_finalize(st);
	if (count != server->count)
		sim_fail("I8", "%zu names in the server's rows, %zu in its directory", count, server->count);
}

static void check_all_reached(sqlite3 *db, const struct tree_look *server)
{
	sqlite3_stmt *st;
	const char *rows = first_row(db, "SELECT count(*) FROM dentry", &st);

	if (!rows || strtoull(rows, NULL, 10) != server->count)
		sim_fail("I8", "%s names in the server's rows, %zu of them below the root",
			rows ? rows : "no", server->count);
	(void)sqlite3_finalize(st);
}

void oracle_check_meta(struct oracle *o)
{
	sqlite3 *db = open_copy(o);
	struct tree_look server;

	if (!db)
		sim_fail("I8", "the server has no rows");
	tree_look(o, o->server->machine.disk, HOST_ROOT, &server);
	check_rows(db);
	check_names(db, &server);
	check_all_reached(db, &server);
	tree_look_free(&server);
	(void)sqlite3_close(db);
}
