/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table between negative errno and what peers read. Called by the HTTP ends, the result coder and the
 * control socket. Never logs and never decides what to do about an error.
 */
#include <syncfs/error.h>

#include <errno.h>
#include <stddef.h>
#include <string.h>

struct mapping {
	int err, status;
	const char *word;
};

/* The first entry of a word says which errno it means. */
static const struct mapping mappings[] = {
	{-ENOENT, 404, "not-found"},
	{-EEXIST, 409, "exists"},
	{-ESTALE, 412, "stale"},
	{-EAGAIN, 503, "try-later"},
	{-EPROTO, 400, "bad-request"},
	{-EINVAL, 400, "invalid"},
	{-EBADMSG, 500, "damaged"},
	{-EIO, 500, "failed"},
	{-EMSGSIZE, 413, "too-large"},
	{-EACCES, 401, "unauthorized"},
	{-EPERM, 403, "forbidden"},
	{-EROFS, 403, "read-only"},
	{-ENOSPC, 507, "no-space"},
	{-EDQUOT, 507, "quota"},
	{-ETIMEDOUT, 408, "timeout"},
	{-EUSERS, 429, "too-many"},
	{-EBUSY, 409, "busy"},
	{-ENOTDIR, 409, "not-a-directory"},
	{-EISDIR, 409, "is-a-directory"},
	{-ENOTEMPTY, 409, "not-empty"},
	{-ELOOP, 409, "loop"},
	{-EMLINK, 409, "too-many-links"},
	{-ENAMETOOLONG, 414, "name-too-long"},
	{-E2BIG, 431, "header-too-large"},
	{-EOPNOTSUPP, 501, "unsupported"},
	{-EXDEV, 410, "epoch"},
	{-ERANGE, 410, "diverged"},
	{-ENODATA, 410, "gone"},
	{-ENOMEM, 503, "try-later"},
	{-ECANCELED, 503, "try-later"},
	{-EFBIG, 413, "too-large"},
	{-EOVERFLOW, 413, "too-large"},
};

#define MAPPINGS_COUNT (sizeof(mappings) / sizeof(mappings[0]))

static int from_status(int status)
{
	switch (status) {
	case 401:
	case 407:
		return -EACCES;
	case 403:
		return -EPERM;
	case 404:
		return -ENOENT;
	case 405:
	case 501:
		return -EOPNOTSUPP;
	case 408:
		return -ETIMEDOUT;
	case 409:
		return -EEXIST;
	case 410:
		return -ENODATA;
	case 412:
		return -ESTALE;
	case 413:
		return -EMSGSIZE;
	case 414:
		return -ENAMETOOLONG;
	case 425:
		return -EAGAIN;
	case 429:
		return -EUSERS;
	case 431:
		return -E2BIG;
	case 500:
		return -EIO;
	case 507:
		return -ENOSPC;
	default:
		return status >= 500 && status <= 599 ? -EAGAIN : -EPROTO;
	}
}

int error_from_http(int status, const char *code)
{
	if (status >= 200 && status <= 299)
		return 0;
	for (size_t i = 0; code != NULL && i < MAPPINGS_COUNT; i++) {
		if (strcmp(mappings[i].word, code) == 0 && (status == 0 || status == mappings[i].status))
			return mappings[i].err;
	}
	return status == 0 ? -EIO : from_status(status);
}

int error_to_http(int err, const char **ret_code)
{
	static const struct mapping ok = {0, 200, "ok"}, failed = {-EIO, 500, "failed"};
	const struct mapping *m = err == 0 ? &ok : &failed;

	for (size_t i = 0; i < MAPPINGS_COUNT; i++) {
		if (mappings[i].err == err)
			m = &mappings[i];
	}
	if (ret_code != NULL)
		*ret_code = m->word;
	return m->status;
}
