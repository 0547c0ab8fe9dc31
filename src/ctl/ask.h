/* SPDX-License-Identifier: Apache-2.0 */
/* One question to the daemon of a mount. */
#ifndef SYNCFS_CTL_ASK_H
#define SYNCFS_CTL_ASK_H

#include <syncfs/control.h>
#include <syncfs/mountinfo.h>

/*
 * Sends request to the daemon of mount and waits for the reply: for the request's own time-out and 10 s, for
 * ever when it is a wait without one. ret_line: the reply as it came, one line of JSON. 0; -errno with a
 * sentence in *why: -ENOENT no daemon has a socket there, -ECONNREFUSED it has died, -EPROTO, ...
 */
int ask(const struct mount_entry *mount, const struct control_request *request,
	struct control_reply *ret_reply, struct buf *ret_line, struct buf *why);

#endif
