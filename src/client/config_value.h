/* SPDX-License-Identifier: Apache-2.0 */
/* Values of single options. For config only. All give 0, or -EINVAL with what is wrong ("must be ...") in
 * *why, or -ENOMEM. */
#ifndef SYNCFS_CLIENT_CONFIG_VALUE_H
#define SYNCFS_CLIENT_CONFIG_VALUE_H

#include "config.h"

/* scheme://host[:port][/path], http or https, no user, query or fragment. *ret_loopback: the host is this
 * machine. */
int config_value_url(const char *text, char **ret_url, bool *ret_loopback, struct buf *why);
int config_value_durable(const char *text, enum config_durable *ret_durable, struct buf *why);
int config_value_offline(
	const char *text, enum config_offline *ret_offline, uint32_t *ret_block_s, struct buf *why);
/* 1..64 bytes of letters, digits, '.', '_' and '-'. */
int config_value_namespace(const char *text, char **ret_namespace, struct buf *why);
/* 1..LABEL_MAX_BYTES of UTF-8 without control characters and '/'. */
int config_value_label(const char *text, char **ret_label, struct buf *why);
/* 1..TOKEN_MAX_BYTES of printable ASCII; what surrounds it, blanks and a line end, is left out. */
int config_value_token(const char *text, char **ret_token, struct buf *why);
/* First line of a file that is not open to others. The sentence in *why names the file. */
int config_value_token_file(const char *path, char **ret_token, struct buf *why);
/* -EACCES with a sentence when others could read or write the file. -errno of stat(). */
int config_value_is_private(const char *path, struct buf *why);

#endif
