/* SPDX-License-Identifier: Apache-2.0 */
/* The running server: opens the stores, serves until a signal ends it. */
#ifndef SYNCFS_SERVER_SERVER_H
#define SYNCFS_SERVER_SERVER_H

#include "config.h"

/* To be called first thing, before any thread is started: from now on only server_run() takes the signals it
 * waits for. */
void server_block_signals(void);
/*
 * Serves. SIGTERM and SIGINT drain and end it with 0; SIGHUP calls reload for a fresh configuration.
 * -errno with a sentence in *why when it cannot start, or has to end because a store has failed.
 */
int server_run(const struct config *config, int (*reload)(struct config *ret_config, struct buf *why),
	struct buf *why);

#endif
