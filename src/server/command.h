/* SPDX-License-Identifier: Apache-2.0 */
/* `syncfsd token ...`, `syncfsd approve` and `syncfsd reject`: short runs beside the server, or without one.
 */
#ifndef SYNCFS_SERVER_COMMAND_H
#define SYNCFS_SERVER_COMMAND_H

#include "config.h"

/* Carries out config->words; prints to stdout. 0, or -errno with a sentence in *why. */
int command_run(const struct config *config, struct buf *why);

#endif
