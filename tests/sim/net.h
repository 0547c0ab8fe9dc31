/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The simulated network: net.c is, for the code linked into the simulator, client/transport.c (all of
 * transport.h) and server/http*.c with workers.c (all of http.h that other files use). A request of a
 * client's thread becomes a thread of the server's process that runs head(), handle() (again after each
 * http_wake() while parked) and done(); its answer goes back. On the way, by STREAM_NET and sim_options:
 * delays, requests lost (-ENOTCONN or -ETIMEDOUT), answers lost (-EREMOTEIO, -ETIMEDOUT), answers cut in the
 * middle
 * (-EREMOTEIO), requests that arrive twice (the second answer is dropped). Bodies over BODY_MEMORY_BYTES
 * spill into a file as with the real door.
 */
#ifndef SIM_NET_H
#define SIM_NET_H

#include <stdbool.h>
#include <stdint.h>

struct machine;

enum net_state {
	NET_UP,
	NET_DOWN, /* -ENOTCONN at once */
	NET_SILENT, /* what is sent vanishes: -ETIMEDOUT when its time is over */
};
/* Between this machine and the server. What is under way is lost when it is no longer up. */
void net_set(struct machine *client, enum net_state state);
/* Randomness of the network off (healing) or on (at first). */
void net_faults(bool on);
uint64_t net_sent(void); /* requests while it was on */
uint64_t net_requests(bool polls); /* counted at arrival: polls, or everything else (I10) */

#endif
