/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SQLite on simulated machines: a VFS whose files are those of the running process (sysio.c), whose locks and
 * shared memory are tables, and whose time and randomness are simulated. Locks go when a process ends.
 */
#ifndef SIM_SQL_H
#define SIM_SQL_H

/* Once, before anything else uses SQLite: makes it the default. */
void sql_setup(void);

#endif
