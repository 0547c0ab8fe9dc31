/* SPDX-License-Identifier: Apache-2.0 */
/* Whole files by path, for people and scripts. */
#ifndef SYNCFS_SERVER_API_FILES_H
#define SYNCFS_SERVER_API_FILES_H

#include "request.h"

int api_file_get(struct request *rq, struct response *rs); /* GET /files/PATH */
int api_file_put(struct request *rq, struct response *rs); /* PUT /files/PATH */
int api_file_delete(struct request *rq, struct response *rs); /* DELETE /files/PATH */

#endif
