/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What must be true (sync-model.md 2.6). The oracle knows every content that somebody wrote (a version),
 * which of them were overwritten, replaced or deleted by somebody who had them before him (used up), and what
 * machines lost; it looks at the disks from outside, and ends the run with sim_fail() when something is not
 * so. It never changes anything. user_*.c and faults.c tell it what happens; world.c asks it to look.
 *
 * What must not get lost: every version that was finished, is not used up and was not lost with a disk.
 */
#ifndef SIM_ORACLE_H
#define SIM_ORACLE_H

#include <limits.h>

#include "host.h"

#define ORACLE_CLIENTS 8 /* clones are clients, too */
#define BY_HAND ORACLE_CLIENTS /* as a client's number: who edits the server's directory */
#define NO_VERSION 0u

struct oracle;

struct oracle *oracle_new(struct server_host *server, struct client_host *clients, unsigned count);
void oracle_add_client(struct oracle *o); /* a clone: the next one of the array */

/* Every 64 bytes carry client, number and block, so that mixing, cutting and zeros show (I3). */
void oracle_bytes(unsigned client, uint32_t number, uint8_t *buf, size_t len);
/* A number that no content has yet. */
uint32_t oracle_number(struct oracle *o);

/* ---- versions ---- */

/* A content that is about to come into being on a client; whole: what the person wants in the end, else a
 * state in between, which only he may see. target: of a symlink. Equal contents are one version. */
unsigned oracle_version(struct oracle *o, unsigned client, const void *bytes, size_t len, bool whole);
unsigned oracle_target(struct oracle *o, unsigned client, const char *target);
/* The same for the first bytes of a version; NO_VERSION: it has fewer. */
unsigned oracle_prefix(struct oracle *o, unsigned client, unsigned v, size_t len);
/* It is completely there, at this path of the client, made from pred (or NO_VERSION). */
void oracle_finished(struct oracle *o, unsigned v, unsigned client, const char *path, unsigned pred);
/* Others may see it, although it is a state in between: fsync, a long pause, an error in the middle. */
void oracle_published(struct oracle *o, unsigned v);
/* fsync() has returned 0 since the last change. */
void oracle_synced(struct oracle *o, unsigned v);
/* What lies there on the client's disk: a version, or NO_VERSION (nothing, a directory, unknown bytes). */
unsigned oracle_at(struct oracle *o, unsigned client, const char *path);

/* ---- names ---- */

/* A path during a call: whatever lay there at some time of it is what the call may have meant. */
struct oracle_watch {
	struct oracle_watch *next, **at;
	unsigned client;
	char path[PATH_MAX];
	bool moves; /* else the call takes it away */
	unsigned seen[8], seen_count; /* versions */
	unsigned taken; /* what the call was seen to take away */
};

/* A call that takes away what lies at a path (unlink, rename over it). */
struct oracle_spot {
	struct oracle_watch watch;
	/* What lay there before: on the client's disk (at the end: what the call took), on the server's. */
	unsigned here, server;
	nlink_t names; /* of what lay here */
	bool agreed; /* all who moved it had it here */
	bool may_lose; /* the call may be undone by what others did to something else */
};
void oracle_spot_begin(struct oracle *o, struct oracle_spot *s, unsigned client, const char *path);
void oracle_spot_end(struct oracle *o, struct oracle_spot *s, int result);
/* Instead: what lay there, which its reader found to be base, is being changed in place. */
void oracle_spot_edited(struct oracle *o, struct oracle_spot *s, unsigned base);
/* Something is given another name, or one more, with all that is below it; before the call and after it. */
void oracle_moving(struct oracle *o, struct oracle_watch *w, unsigned client, const char *path);
void oracle_moved(struct oracle *o, struct oracle_watch *w);

/* ---- what is seen ---- */

/* A reader has opened, read and closed a file of a client's view (I3, I7). */
void oracle_seen(struct oracle *o, unsigned client, const char *path, const void *bytes, size_t len);
/* The same for a path that nobody ever takes away: the result of open (I9). */
void oracle_seen_pin(struct oracle *o, unsigned client, const char *path, unsigned pin, int result);

/* ---- losses; before the disk changes ---- */

enum oracle_loss {
	LOSS_CLIENT_CUT,
	LOSS_CLIENT_RESTORE,
	LOSS_CLIENT_CLONED, /* one of the two takes another identity, and merges: either */
	LOSS_SERVER_CUT,
	LOSS_SERVER_RESTORE,
};
void oracle_loss(struct oracle *o, enum oracle_loss what, unsigned client);
/* The client's process ends, or has: what was being written is sent as it lies, then or at the next start. */
void oracle_ends(struct oracle *o, unsigned client);
/* A process of the client has started: it may ask again for what it had heard. */
void oracle_restarted(struct oracle *o, unsigned client);
/* An image of the client's disk was taken that may come to life: all that is unfinished on it may show. */
void oracle_image(struct oracle *o, unsigned client);

/* ---- looking ---- */

void oracle_check_safety(struct oracle *o); /* cheap, at any time */
void oracle_check_rest(struct oracle *o); /* when nothing is to be done anywhere */
/* At rest, after a clean end of the server: its rows (I6, I8). */
void oracle_check_meta(struct oracle *o);
/* A script of the matrix has run below this directory: at rest it must hold no more conflict copies. */
void oracle_expect_copies(struct oracle *o, const char *dir, unsigned row, unsigned most);
/* What must stay as it is when nothing happens (I10). */
struct oracle_still {
	uint64_t requests, changes[ORACLE_CLIENTS + 1];
};
void oracle_still(struct oracle *o, struct oracle_still *ret_still);

#endif
