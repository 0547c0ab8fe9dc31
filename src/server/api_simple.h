/* SPDX-License-Identifier: Apache-2.0 */
/* The simple form of syncfs-protocol(7): handlers for scripts and curl. Statuses and bodies are fixed to
 * the letter. */
#ifndef SYNCFS_SERVER_API_SIMPLE_H
#define SYNCFS_SERVER_API_SIMPLE_H

#include "request.h"

int api_simple_sync(struct request *rq, struct response *rs); /* POST /sync, application/json */
int api_simple_poll(struct request *rq, struct response *rs); /* GET /poll without a cursor */

#endif
