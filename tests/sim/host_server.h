/* SPDX-License-Identifier: Apache-2.0 */
/* What host.c (clients) and host_server.c share. */
#ifndef SIM_HOST_SERVER_H
#define SIM_HOST_SERVER_H

#include <syncfs/change.h>

#include "host.h"

const char *host_token(unsigned client); /* made by host_server_new() */
void host_new_boot(struct machine *m);
bool host_server_seq(uint64_t *ret_seq); /* false: no server answers */
/* The cursor is of the server's history. */
bool host_server_knows(const struct cursor *c);

#endif
