/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Everything that talks to the server, as one thing to start and stop: uploader, poller, applier, scan, and
 * the thread that starts them anew when the two histories have to be merged.
 */
#ifndef SYNCFS_CLIENT_SESSION_H
#define SYNCFS_CLIENT_SESSION_H

#include <syncfs/control.h>
#include <syncfs/mutex.h>
#include <syncfs/tree.h>

#include "await.h"
#include "control.h"

struct session_run;
struct client_config;
struct capture;
struct syncstate;
struct inode_table;
struct invalidate;

struct session_parts {
	const struct client_config *config; /* borrowed, like all here */
	const struct tree *tree;
	struct rwlock *tree_lock;
	struct capture *capture;
	struct syncstate *state;
	struct inode_table *inodes;
	struct invalidate *invalidate;
	int state_dirfd;
};

int session_start(const struct session_parts *parts, struct session_run **ret_session);
/*
 * What came of the first attempt to reach the server, waited for until deadline_ms: 0 reached, -ETIMEDOUT
 * nothing yet, else why not, with the server's words appended to why.
 */
int session_first_contact(struct session_run *s, uint64_t deadline_ms, struct buf *why);
void session_stop(struct session_run *s);
/* What await asks; session as void *. NULL is fine. */
void session_server(void *session, struct await_server *ret_server);
/* The server is tried for now. NULL is fine. */
void session_hurry(void *session);
/* Something may be free for the applier now (the callback of capture). NULL is fine. */
void session_released(void *session);
/* Answers to syncfsctl; arg is the session. */
extern const struct control_ops session_control_ops;

#endif
