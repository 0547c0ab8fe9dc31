/* SPDX-License-Identifier: Apache-2.0 */
/* Inside of meta_sqlite*.c: the handle, its statements, and how to use one. */
#ifndef SYNCFS_SERVER_META_SQLITE_H
#define SYNCFS_SERVER_META_SQLITE_H

#include <sqlite3.h>

#include "meta.h"

#define META_STATEMENTS 128

struct meta {
	sqlite3 *db;
	const char *sql[META_STATEMENTS]; /* literals; keys of the cache */
	sqlite3_stmt *cached[META_STATEMENTS];
	bool is_full; /* synchronous=FULL is set */
};

/* The statement for a string literal, reset and ready to bind; NULL: error, said by meta_result(). */
sqlite3_stmt *meta_use(struct meta *m, const char *sql);
/* Runs it: 1 a row, 0 done, -errno. A statement that has given its last row wanted is ended by meta_end(). */
int meta_step(struct meta *m, sqlite3_stmt *st);
void meta_end(sqlite3_stmt *st);
int meta_run(struct meta *m, sqlite3_stmt *st); /* to the end, no rows wanted */
int meta_any(struct meta *m, sqlite3_stmt *st); /* 1: there is a row, 0: none; ended */

void meta_bind_id(sqlite3_stmt *st, int at, const struct id *id);
void meta_bind_hash(sqlite3_stmt *st, int at, const struct hash *hash);
void meta_bind_name(sqlite3_stmt *st, int at, const char *name); /* bytes, as a blob */
void meta_bind_u64(sqlite3_stmt *st, int at, uint64_t v);
struct id meta_column_id(sqlite3_stmt *st, int at); /* ID_NONE unless 16 bytes */
struct hash meta_column_hash(sqlite3_stmt *st, int at);
char *meta_column_name(sqlite3_stmt *st, int at); /* NULL: out of memory */
int meta_column_blob(sqlite3_stmt *st, int at, struct blob *ret_blob);

#endif
