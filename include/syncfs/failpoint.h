/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Named places at which a test may let the process die (tests/kill). They exist in builds with
 * -Dfailpoints=true only; elsewhere FAILPOINT() is nothing. The letters are those of sync-model.md, section
 * 3: U captured by the view, O sent, A applied, C committed by the server.
 */
#ifndef SYNCFS_FAILPOINT_H
#define SYNCFS_FAILPOINT_H

#ifdef SYNCFS_FAILPOINTS
/* SYNCFS_FAILPOINT=NAME:COUNT in the environment: SIGKILL at the COUNTth passage. Any thread. */
void failpoint(const char *name);
#define FAILPOINT(name) failpoint(name)
#else
#define FAILPOINT(name) ((void)0)
#endif

#endif
