/* SPDX-License-Identifier: Apache-2.0 */
/* What has changed: the feed from a cursor on, waiting for it or not. */
#ifndef SYNCFS_SERVER_API_POLL_H
#define SYNCFS_SERVER_API_POLL_H

#include "request.h"

int api_poll(struct request *rq, struct response *rs); /* GET /poll, simple without a cursor */
int api_tree(struct request *rq, struct response *rs); /* GET /tree?cursor= */

#endif
