/* SPDX-License-Identifier: Apache-2.0 */
/* What the daemon replied, for people. */
#ifndef SYNCFS_CTL_PRINT_H
#define SYNCFS_CTL_PRINT_H

#include <syncfs/buf.h>
#include <syncfs/control.h>

void print_status(struct buf *out, const struct control_status *s, const char *path);
void print_conflicts(struct buf *out, const struct control_reply *reply);

#endif
