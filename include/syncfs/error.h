/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Negative errno <-> HTTP status and the code word of {"error","code"} bodies, of rejected results and of
 * control replies. The only place that maps them.
 *
 *   -ENOENT 404 not-found         -EEXIST 409 exists            -ESTALE 412 stale
 *   -EAGAIN 503 try-later         -EPROTO 400 bad-request       -EINVAL 400 invalid
 *   -EBADMSG 500 damaged          -EIO 500 failed               -EMSGSIZE 413 too-large
 *   -EACCES 401 unauthorized      -EPERM 403 forbidden          -EROFS 403 read-only
 *   -ENOSPC 507 no-space          -EDQUOT 507 quota             -ETIMEDOUT 408 timeout
 *   -EUSERS 429 too-many          -EBUSY 409 busy               -ENOTDIR 409 not-a-directory
 *   -EISDIR 409 is-a-directory    -ENOTEMPTY 409 not-empty      -ELOOP 409 loop
 *   -EMLINK 409 too-many-links    -ENAMETOOLONG 414 name-too-long
 *   -E2BIG 431 header-too-large   -EOPNOTSUPP 501 unsupported
 *   The client has to rebase:
 *   -EXDEV 410 epoch (another history)   -ERANGE 410 diverged (not on this history)   -ENODATA 410 gone
 * (trimmed)
 *
 * To HTTP only, because they say nothing of the peer that reads them: -ENOMEM and -ECANCELED are try-later,
 * -EFBIG and -EOVERFLOW too-large; every other errno is 500 failed.
 */
#ifndef SYNCFS_ERROR_H
#define SYNCFS_ERROR_H

/*
 * 0 for 2xx. code: the word of the body, NULL or "" when it had none; counts when it belongs to that status,
 * so that a proxy's answer is not taken for the server's. status 0: the word alone decides, -EIO when
 * unknown. Otherwise by status: 404 -ENOENT, 401 407 -EACCES, 403 -EPERM, 405 501 -EOPNOTSUPP, 408
 * -ETIMEDOUT, 409 -EEXIST, 410 -ENODATA, 412 -ESTALE, 413 -EMSGSIZE, 414 -ENAMETOOLONG, 425 -EAGAIN, 429
 * -EUSERS, 431 -E2BIG, 500 -EIO, 507 -ENOSPC, any other 5xx -EAGAIN (proxies and tunnels say "down" with
 * 502..504, 52x, 530), the rest -EPROTO.
 */
int error_from_http(int status, const char *code);

/* The status; 200 and "ok" for err 0. *ret_code (may be NULL) is a static word. */
int error_to_http(int err, const char **ret_code);

#endif
