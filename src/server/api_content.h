/* SPDX-License-Identifier: Apache-2.0 */
/* Content: chunks and manifests for clients, whole files by path for people and scripts. */
#ifndef SYNCFS_SERVER_API_CONTENT_H
#define SYNCFS_SERVER_API_CONTENT_H

#include "request.h"

int api_chunks_missing(struct request *rq, struct response *rs); /* POST /chunks/missing */
int api_chunks_put(struct request *rq, struct response *rs); /* PUT /chunks */
int api_chunk_put(struct request *rq, struct response *rs); /* PUT /chunks/HASH */
int api_chunks_get(struct request *rq, struct response *rs); /* POST /chunks/get */
int api_manifest(struct request *rq, struct response *rs); /* GET /manifest/HASH */
int api_supply(struct request *rq, struct response *rs); /* POST /supply */

#endif
