/* SPDX-License-Identifier: Apache-2.0 */
/* What operators and their tools look at. */
#ifndef SYNCFS_SERVER_API_ADMIN_H
#define SYNCFS_SERVER_API_ADMIN_H

#include "request.h"

int api_healthz(struct request *rq, struct response *rs); /* GET /healthz, without a token */
int api_metrics(struct request *rq, struct response *rs); /* GET /metrics, Prometheus text */

#endif
