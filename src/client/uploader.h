/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The thread that sends what has happened here: one batch in flight, in order, as large as what has gathered
 * meanwhile.
 */
#ifndef SYNCFS_CLIENT_UPLOADER_H
#define SYNCFS_CLIENT_UPLOADER_H

#include <syncfs/stop.h>

#include "remote.h"
#include "upload_read.h"

struct uploader;
struct link;

struct uploader_config {
	struct capture *capture;
	struct upload_read read; /* its remote is the uploader's own connection */
	struct link *link;
	int state_dirfd; /* for the batch in flight */
	struct id client; /* opids are (client, opno) */
	const char *label; /* borrowed */
	/* The server does not know what it had taken from here: it has another history. As the next one. */
	void (*rebase)(void *arg, const char *why);
	/* The server knows us otherwise than we do (clone, rolled-back state): a new identity and a merge are
	 * needed. Called once, ends the thread. */
	void (*reidentify)(void *arg, const char *why);
	void *arg;
};

int uploader_start(const struct uploader_config *config, struct uploader **ret_uploader);
void uploader_stop(struct uploader *u); /* after capture_hold() and link_stop() */
/* Highest opno whose result is in the agreed state. Any thread. */
uint64_t uploader_acked_opno(const struct uploader *u);
/* Attempts to send that came to nothing, counted; when bytes last went, monotonic, 0 never. Any thread. */
void uploader_progress(const struct uploader *u, uint64_t *ret_failures, uint64_t *ret_moved_ms);
/* Operations sent, batches sent, for status. */
void uploader_counters(const struct uploader *u, uint64_t *ret_ops, uint64_t *ret_batches);

#endif
