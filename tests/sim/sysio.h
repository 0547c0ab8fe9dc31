/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the world may do to descriptors of simulated processes. The calls themselves are those of libc
 * (__wrap_*, sysio*.c): for a process of a machine they work on its disk, for anybody else, and for
 * descriptors below 3, they are the real ones. Text that a process writes to descriptor 2 goes to the trace.
 */
#ifndef SIM_SYSIO_H
#define SIM_SYSIO_H

#include <stdbool.h>

struct proc;

/* Becomes readable in each signalfd(2) of the process that wants it; otherwise it stays pending. */
void sysio_raise(struct proc *p, int signo);
/* Makes an eventfd(2) of the process readable, or not: for devices. */
void sysio_set_event(struct proc *p, int fd, bool ready);

#endif
