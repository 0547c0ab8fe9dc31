/* SPDX-License-Identifier: Apache-2.0 */
/* One run from start to end, and what its parts share: people (user_*.c), faults (faults.c), world.c. */
#ifndef SIM_WORLD_H
#define SIM_WORLD_H

#include "net.h"
#include "oracle.h"
#include "sim.h"

/* Held by whoever changes contents on a client, and by readers: people there do not mix their writes. */
struct gate {
	bool is_closed;
	struct waitq waiting;
};
void gate_close(struct gate *g);
void gate_open(struct gate *g);

struct world {
	struct server_host server;
	struct client_host clients[ORACLE_CLIENTS];
	unsigned count; /* of clients; clones are added */
	struct oracle *oracle;
	struct gate gates[ORACLE_CLIENTS + 1]; /* the last one: the server's directory, for edits by hand */
	bool adopt[ORACLE_CLIENTS]; /* the next start needs it */
	unsigned ops_left; /* of all people */
	unsigned people; /* who have not gone home yet */
	unsigned people_number; /* who ever came */
	bool stop; /* go home */
	unsigned hand_edits_due;
	bool hand_is_busy; /* on the server's disk: no cut, no restore meanwhile */
	unsigned net_held[ORACLE_CLIENTS]; /* how many want it cut off */
	uint64_t last_fault_ms[ORACLE_CLIENTS]; /* something happened to its processes or disk */
};

/* Cut off from the server as long as anybody wants it. */
void world_net_hold(struct world *w, unsigned client, enum net_state state);
void world_net_release(struct world *w, unsigned client);

/* ---- people ---- */

void user_start_all(struct world *w);
void user_start_one(struct world *w, unsigned client); /* on a clone */
/* Files that were there before syncfs was. */
void user_fill_before(struct world *w, bool server, unsigned client);

/* ---- faults ---- */

/* Until the people have gone home, or it takes too long. */
void faults_run(struct world *w);
/* All faults off, everything up. */
void faults_heal(struct world *w);
/* Starts what has ended by itself; false: it does not start. */
bool faults_supervise(struct world *w);

#endif
