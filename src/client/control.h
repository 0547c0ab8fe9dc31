/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The unix socket at which syncfsctl asks a running syncfs: one request and one reply (<syncfs/control.h>)
 * per connection, of the same user or root only. Each connection has a thread of its own, so a waiting one
 * holds up nobody.
 */
#ifndef SYNCFS_CLIENT_CONTROL_H
#define SYNCFS_CLIENT_CONTROL_H

#include <stdbool.h>
#include <stdint.h>

#include <syncfs/control.h>

struct control;
struct control_call;

/*
 * What is asked. Called on control's threads, several at once. path: absolute, within the mountpoint; NULL:
 * the whole mount. A reply is zeroed before with ok = true; strings put into it are heap-owned and freed by
 * control. For a refusal set ok = false, code (negative errno) and error (a sentence). All members have to be
 * given.
 */
struct control_ops {
	/* Fills reply->has_status and status. */
	void (*status)(void *arg, const char *path, struct control_reply *reply);
	/*
	 * Waits until what was done before the call is acknowledged or, with a token, until what the token
	 * stands for is shown here. timeout_ms UINT64_MAX: for ever. 0, or -errno with the reason in
	 * reply->error: -ETIMEDOUT, -EPROTO a token that is none, ... Looks at control_call_is_over() at
	 * least every 500 ms and returns -ECANCELED when it is.
	 */
	int (*wait)(void *arg, const char *path, const char *token, uint64_t timeout_ms,
		const struct control_call *call, struct control_reply *reply);
	/* Fills reply->token. */
	void (*token)(void *arg, const char *path, struct control_reply *reply);
	void (*pause)(void *arg, bool paused);
	void (*reconnect)(void *arg);
	/* What is to become of deletions that are held. A refusal when there are none. */
	void (*answer_held)(void *arg, bool approve, struct control_reply *reply);
	/* Fills reply->has_conflicts, conflicts (absolute paths), conflicts_count. */
	void (*conflicts)(void *arg, const char *path, struct control_reply *reply);
};

/* The asker has hung up, or control_stop() has been called. */
bool control_call_is_over(const struct control_call *call);

/*
 * Makes the directory (0700) and the socket (control_path.h) and starts the thread. ops is borrowed until
 * control_stop(). After daemonizing. -errno; -EPERM: the directory is not ours, or open to others; -ENOENT:
 * there is no place for a socket (no XDG_RUNTIME_DIR and no /run/user).
 */
int control_start(
	const char *mountpoint, const struct control_ops *ops, void *arg, struct control **ret_control);
/* Ends running calls, removes the socket, frees. Afterwards no op runs. NULL is fine. */
void control_stop(struct control *c);

#endif
