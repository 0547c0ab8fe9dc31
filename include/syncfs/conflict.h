/* SPDX-License-Identifier: Apache-2.0 */
/* Conflict copies' names: STEM (conflict LABEL XXXXXXXX)EXT, at most 255 bytes. Pure. */
#ifndef SYNCFS_CONFLICT_H
#define SYNCFS_CONFLICT_H

#include <stdint.h>

#include <syncfs/id.h>

/*
 * name   of the loser; EXT is from its last dot on unless that is its first byte
 * label  client label; control bytes and '/' become '_', NULL or "" becomes "client"
 * try_no 0 first; the 8 hex digits are from SHA-256 of client, opno and try_no, so that a taken name gets
 * another Cut at a UTF-8 boundary of the stem. Caller frees; NULL: out of memory.
 */
char *conflict_name(
	const char *name, const char *label, const struct id *client, uint64_t opno, unsigned try_no);
/* True for names of this form. */
bool conflict_name_is(const char *name);

#endif
