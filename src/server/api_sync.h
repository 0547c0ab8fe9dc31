/* SPDX-License-Identifier: Apache-2.0 */
/* The native form of POST /sync, and what a client asks before it sends. */
#ifndef SYNCFS_SERVER_API_SYNC_H
#define SYNCFS_SERVER_API_SYNC_H

#include "request.h"

int api_sync(struct request *rq, struct response *rs); /* POST /sync, application/vnd.syncfs.batch */
int api_session(struct request *rq, struct response *rs); /* GET /session?client=HEX */

#endif
