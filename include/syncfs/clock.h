/* SPDX-License-Identifier: Apache-2.0 */
/* Time. Decisions use clock_mono_ms(); wall time is payload only (sync-model 2.12). */
#ifndef SYNCFS_CLOCK_H
#define SYNCFS_CLOCK_H

#include <stdint.h>
#include <time.h>

uint64_t clock_mono_ms(void);
uint64_t clock_mono_us(void);
int64_t clock_wall_ns(void); /* nanoseconds since the epoch */

static inline int64_t timespec_to_ns(struct timespec t)
{
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* Floor division: correct before 1970 as well. */
struct timespec timespec_from_ns(int64_t ns);

#endif
