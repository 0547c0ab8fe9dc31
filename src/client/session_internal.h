/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by session.c (starting and stopping) and session_control.c (answers to syncfsctl), by nobody else.
 */
#ifndef SYNCFS_CLIENT_SESSION_INTERNAL_H
#define SYNCFS_CLIENT_SESSION_INTERNAL_H

#include "session.h"

#include <pthread.h>

#include "applier.h"
#include "capture.h"
#include "config.h"
#include "inflight.h"
#include "link.h"
#include "outbox.h"
#include "poller.h"
#include "rebase.h"
#include "remote.h"
#include "rescan.h"
#include "supply.h"
#include "syncstate.h"
#include "uploader.h"

enum session_merge {
	MERGE_NONE,
	MERGE_REBASE, /* the server has another history */
	MERGE_ALL, /* our own state is an old copy: nothing of it is agreed */
};

struct session_run {
	struct mutex lock; /* guards down to the blank line; the parts change only while it is held */
	struct cond changed;
	struct applier *applier;
	struct uploader *uploader;
	struct poller *poller;
	struct supply *supply;
	struct rescan *rescan;
	struct link *link;
	enum session_merge merge; /* wanted */
	bool fetching; /* what the server has, for a merge: only link and poll_remote are there */
	bool stopping;

	struct mutex apply_lock;
	struct id client;
	struct remote *up_remote, *poll_remote, *apply_remote, *supply_remote;
	pthread_t thread;
	/* set at open, then read-only */
	struct session_parts parts;
};

#endif
