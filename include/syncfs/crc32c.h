/* SPDX-License-Identifier: Apache-2.0 */
/* CRC-32C (Castagnoli), RFC 3720 section B.4. Start with crc = 0. */
#ifndef SYNCFS_CRC32C_H
#define SYNCFS_CRC32C_H

#include <stddef.h>
#include <stdint.h>

uint32_t crc32c(uint32_t crc, const void *bytes, size_t len);

#endif
