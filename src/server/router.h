/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From a request's header to its handler: the route, the token, the namespace, and whether the body may come.
 * All of it before the body is read. Fills struct http_ops.
 */
#ifndef SYNCFS_SERVER_ROUTER_H
#define SYNCFS_SERVER_ROUTER_H

#include "request.h"

/* routes: borrowed for ever, ends with a NULL path. */
int router_new(const struct route *routes, const struct services *services, struct router **ret_router);
void router_free(struct router *r); /* NULL is fine */
struct http_ops router_ops(struct router *r);

/* Requests by route and status since the start, as lines of Prometheus text. */
void router_metrics(struct router *r, struct buf *out);

#endif
