/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What must be true (sync-model.md 2.6). The oracle sees what people did through the views (user.c tells it),
 * looks at the disks from outside, and ends the run with sim_fail() when something is not so. It never
 * changes anything.
 */
#ifndef SIM_ORACLE_H
#define SIM_ORACLE_H

#include "host.h"

struct oracle;
/* One content that somebody wrote: its bytes are made from its number alone (oracle_bytes()). */
struct oracle *oracle_new(struct server_host *server, struct client_host *clients, unsigned count);

/* Every 64 bytes carry client, number and block, so that mixing, cutting and zeros show (I3). len chosen by
 * the caller. */
void oracle_bytes(unsigned client, uint32_t number, uint8_t *buf, size_t len);

/* user.c, around each change: begin before the call, end with its result (-ENOTCONN: open). What is known of
 * base, paths, contents is the oracle's own business: see oracle.c. */
enum oracle_act {
	ACT_WRITE,
	ACT_CREATE,
	ACT_MKDIR,
	ACT_UNLINK,
	ACT_RMDIR,
	ACT_RENAME,
	ACT_EXCHANGE,
	ACT_LINK,
	ACT_SYMLINK,
	ACT_CHMOD,
	ACT_UTIMENS,
	ACT_FSYNC,
	ACT_TRUNCATE
};
struct oracle_call {
	enum oracle_act act;
	unsigned client;
	const char *path, *new_path;
	uint32_t number; /* of the content written */
	size_t len;
	mode_t mode;
};
uint64_t oracle_begin(struct oracle *o, const struct oracle_call *call);
void oracle_end(struct oracle *o, uint64_t id, int result);

/* A reader has seen these bytes at a path of a client's view (I3, I7, I9). */
void oracle_seen(struct oracle *o, unsigned client, const char *path, const void *bytes, size_t len);

/* A machine was put back to an older state, or lost power: what only it had may be gone from then on. */
enum oracle_loss { LOSS_CLIENT_CUT, LOSS_CLIENT_RESTORE, LOSS_SERVER_RESTORE };
void oracle_loss(struct oracle *o, enum oracle_loss what, unsigned client);

/* After every event: cheap checks. At rest: all of I1..I10, I16. */
void oracle_check_safety(struct oracle *o);
void oracle_check_rest(struct oracle *o);

#endif
