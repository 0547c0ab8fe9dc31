/* SPDX-License-Identifier: Apache-2.0 */
/*
 * syncfsd and syncfs as simulated processes: server_run() and client_run(), with the configuration that a
 * person would give. host.c also is client/control.c: it keeps what a mount would answer to syncfsctl. Called
 * by the world's thread only.
 */
#ifndef SIM_HOST_H
#define SIM_HOST_H

#include <syncfs/control.h>

#include "sched.h"
#include "view.h"

#define HOST_ROOT "/srv/root" /* on the server's disk */
#define HOST_BACKING "/home/files" /* on a client's */
#define HOST_STATE "/home/state"

struct server_host {
	struct machine machine;
	struct proc *proc; /* NULL: not running */
	int ended; /* what server_run() returned; meaningless while it runs */
};

struct client_host {
	struct machine machine;
	struct proc *proc; /* NULL: not running */
	struct view *view; /* NULL: not mounted */
	int ended; /* what client_run() returned */
	char why[512]; /* and why */
	unsigned number;
	unsigned token; /* whose it has: a clone its origin's */
};

/* Makes the machine with an empty disk and what has to be there before the first start (directories, a
 * token). */
void host_server_new(struct server_host *s);
void host_client_new(struct client_host *c, unsigned number);
/* Starts the process and waits until it serves or has ended: 0, or -errno with the reason in ->why (client).
 * adopt: with
 * --adopt, -o adopt. */
int host_server_start(struct server_host *s, bool adopt);
int host_client_start(struct client_host *c, bool adopt);
/* SIGTERM, fusermount3 -u; waits until it has ended. */
void host_server_stop(struct server_host *s);
void host_client_stop(struct client_host *c);
/* kill -9 */
void host_server_kill(struct server_host *s);
void host_client_kill(struct client_host *c);
/* Power cut of the machine; the process is gone too. */
void host_server_cut(struct server_host *s);
void host_client_cut(struct client_host *c);

/* Backups and clones: the disk as it is now, put back later (no process may run then). */
struct disk *host_backup(const struct machine *m);
void host_restore(struct machine *m, const struct disk *backup);

/* As `syncfsctl status`; false when it is not running. Strings in it are the caller's: control_reply_fini().
 */
bool host_client_status(struct client_host *c, struct control_reply *ret_reply);
/* Seq of the server's feed by its database, and whether a client has nothing to do: journal empty, nothing to
 * apply, cursor there. */
bool host_client_is_idle(struct client_host *c);
/* Whether the client has, or may have, operations that the server has not answered. Takes no time. */
bool host_client_owes(const struct client_host *c);
/* Traces what the server has told and is not applied. */
void host_client_tell_left(struct client_host *c);
/* As `syncfsd approve|reject`. */
void host_server_answer_held(struct server_host *s, bool approve);

#endif
