/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the files behind syncstate.h, by nobody else: connections, statements, columns. */
#ifndef SYNCFS_CLIENT_SYNCSTATE_INTERNAL_H
#define SYNCFS_CLIENT_SYNCSTATE_INTERNAL_H

#include "syncstate.h"

#include <sqlite3.h>

#include <syncfs/map.h>
#include <syncfs/mutex.h>

enum statement {
	Q_BASE_GET,
	Q_NAMES_GET,
	Q_BY_OBJECT,
	Q_BY_NAME,
	Q_PARENT,
	Q_CHILDREN,
	Q_COUNT,
	Q_FILES,
	Q_NODES,
	Q_REMOTE_GET,
	Q_REMOTE_NAME,
	Q_REMOTES,
	Q_REMOTE_ANY,
	Q_REMOTE_COUNT,
	Q_META_GET,
	Q_DEAD_COUNT,
	Q_KEPT,
	Q_ALIASES,
	Q_INTENTS,
	Q_LOOK,
	Q_LOOK_AWAY,
	Q_READS, /* those above exist on both connections */
	Q_BASE_PUT = Q_READS,
	Q_BASE_DELETE,
	Q_NAMES_DELETE,
	Q_NAME_PUT,
	Q_REMOTE_PUT,
	Q_REMOTE_DELETE,
	Q_REMOTE_NAMES_DELETE,
	Q_REMOTE_NAME_PUT,
	Q_META_PUT,
	Q_INTENT_PUT,
	Q_INTENTS_CLEAR,
	Q_KEPT_PUT,
	Q_KEPT_DELETE,
	Q_ALIAS_PUT,
	Q_ALIASES_CLEAR,
	Q_DEAD_PUT,
	Q_COUNT_ALL,
};

struct connection {
	struct mutex lock; /* writer: held from begin to commit; reader: for one call */
	sqlite3 *db;
	sqlite3_stmt *st[Q_COUNT_ALL];
};

struct syncstate {
	struct connection w, r;
	/* Of the writer, see syncstate_gone(): node -> seq, and the highest in it. In memory, since a new run
	 * asks anew; two, so that the older is dropped whole when the cursor is past it. */
	struct gone {
		struct map *nodes;
		uint64_t upto;
	} gone[2];
	bool committing; /* guarded by the reader's lock: see sql_look() */
	bool durable; /* how the writer commits now: synchronous=FULL */
};

int sql_error(struct connection *c, const char *what);
/*
 * First thing of every peek, under the reader's lock: what it sees stays open until the next commit. A peek
 * of its own transaction would take and give back the locks of the database, which costs more than the rest
 * of it.
 */
void sql_look(struct syncstate *s);
void sql_bind_id(sqlite3_stmt *st, int at, const struct id *id);
void sql_bind_bytes(sqlite3_stmt *st, int at, const char *s); /* NULL: null; borrowed until the step */
void sql_bind_u64(sqlite3_stmt *st, int at, uint64_t v);
struct id sql_column_id(sqlite3_stmt *st, int at); /* ID_NONE unless 16 bytes */
int sql_run(struct connection *c, enum statement q); /* a statement without rows, reset afterwards */
int sql_row(struct connection *c, enum statement q); /* 1 a row, 0 none, -errno; the caller resets */
int sql_get_id(struct connection *c, enum statement q, struct id *ret_node); /* first column; -ENOENT */
/* A state as bytes of a column, R and intents. Decoding: 0, -ENOMEM, -EBADMSG. */
void node_state_encode(const struct node_state *n, struct buf *out);
int node_state_decode(const void *bytes, size_t len, struct node_state *ret_node);
int64_t sql_get_count(struct connection *c, enum statement q);

#endif
