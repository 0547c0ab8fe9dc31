/* SPDX-License-Identifier: Apache-2.0 */
/* Names and paths as bytes: validation, quoting for messages, base64, UTF-8. */
#ifndef SYNCFS_PATH_H
#define SYNCFS_PATH_H

#include <stdbool.h>
#include <stddef.h>

#include <syncfs/buf.h>

#define NAME_MAX_BYTES 255
#define PATH_MAX_BYTES 4096

/* The reserved name at the root of a backing or server directory. */
#define RESERVED_NAME ".syncfs"

/* One component: 1..255 bytes, not "." or "..", no '/' and no NUL in the len bytes. */
bool name_is_valid(const char *name, size_t len);

/*
 * A relative path of the simple form: components as above separated by single slashes, no
 * leading or trailing slash, at most PATH_MAX_BYTES, first component not RESERVED_NAME.
 */
bool path_is_valid(const char *path, size_t len);

bool utf8_is_valid(const char *s, size_t len); /* strict: no overlong, no surrogates */

/* s with control bytes, quotes and non-UTF-8 escaped (\n, \xNN) and in double quotes, for messages. */
void path_quote(struct buf *out, const char *s, size_t len);

void base64_encode(struct buf *out, const void *bytes, size_t len); /* padded, standard alphabet */
/* Appends to out; -EINVAL unless canonical standard base64 with padding. */
int base64_decode(struct buf *out, const char *text, size_t len);

#endif
