/* SPDX-License-Identifier: Apache-2.0 */
/* Every bound on what a peer or a file can make grow, with its unit and reason. */
#ifndef SYNCFS_LIMITS_H
#define SYNCFS_LIMITS_H

#include <syncfs/path.h> /* NAME_MAX_BYTES, PATH_MAX_BYTES */

#define HEADER_MAX_BYTES 6144 /* header block of a request: fits the 8 KiB pool of a parked poll */
#define BODY_MAX_BYTES (64u << 20) /* a request body; proxies and tunnels cut at 100 MB */
#define JSON_MAX_BYTES (8u << 20) /* JSON part of a batch or of a plain JSON body but for uploads */
#define JSON_MAX_DEPTH 32
#define BATCH_MAX_OPS 4096
#define ANSWER_MAX_BYTES (8u << 20) /* simple poll answer; soft bound of a native one */
#define POLL_WAIT_MAX_S 55 /* proxies close at 60 */
#define POLLS_PER_TOKEN 16
#define HEADER_DEADLINE_S 10
#define BODY_RATE_MIN_BYTES_S 1024 /* after BODY_RATE_GRACE_S */
#define BODY_RATE_GRACE_S 30
#define TREE_MAX_DEPTH 512
#define SYMLINK_MAX_BYTES 4095
#define XATTRS_MAX_BYTES 65536 /* all user.* of one node, packed */
#define XATTR_NAME_MAX_BYTES 255
#define LABEL_MAX_BYTES 64 /* client label in conflict names */
#define FILE_MAX_BYTES (INT64_MAX / 2)
#define CHUNK_MAX_BYTES 262144 /* chunker.h */
#define MANIFEST_MAX_BYTES (36u << 20) /* 2^20 chunks, 64 GiB on average */
#define INLINE_UP_MAX_BYTES 262144 /* content of one op that rides in the batch body */
#define INLINE_DOWN_MAX_BYTES 16384 /* content that rides in a poll answer */
#define HASHES_PER_REQUEST 8192 /* of /chunks/missing and /chunks/get */
#define TOKEN_MAX_BYTES 512
#define WANT_PER_PAGE 256 /* contents in the want list of one page */
#define RECORD_MAX_BYTES (1u << 20) /* journal record */

#endif
