/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes as lower-case hex digits, two a byte: the text form of ids and hashes. */
#ifndef SYNCFS_HEX_H
#define SYNCFS_HEX_H

#include <stddef.h>
#include <stdint.h>

char *hex_from_bytes(const uint8_t *bytes, size_t count, char *hex); /* and a NUL; returns hex */
/* -EINVAL unless hex is exactly 2 * count digits (len bytes); bytes is not changed then. */
int hex_to_bytes(const char *hex, size_t len, uint8_t *bytes, size_t count);

#endif
