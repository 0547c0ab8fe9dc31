/* SPDX-License-Identifier: Apache-2.0 */
/* Time. Decisions use clock_mono_ms(); wall time is payload only. */
#ifndef SYNCFS_CLOCK_H
#define SYNCFS_CLOCK_H

#include <stdint.h>
#include <time.h>

uint64_t clock_mono_ms(void);
uint64_t clock_mono_us(void);
int64_t clock_wall_ns(void); /* nanoseconds since the epoch */

/* Saturates outside the years 1677 to 2262. */
static inline int64_t timespec_to_ns(struct timespec t)
{
	int64_t ns;

	if (__builtin_mul_overflow((int64_t)t.tv_sec, (int64_t)1000000000, &ns) ||
		__builtin_add_overflow(ns, (int64_t)t.tv_nsec, &ns))
		return t.tv_sec < 0 ? INT64_MIN : INT64_MAX;
	return ns;
}

/* Floor division: correct before 1970 as well. */
struct timespec timespec_from_ns(int64_t ns);

#endif
