/* SPDX-License-Identifier: Apache-2.0 */
/* Retry delays: exponential from min to max with full jitter in the upper half. Plain value, not locked. */
#ifndef SYNCFS_BACKOFF_H
#define SYNCFS_BACKOFF_H

#include <stdint.h>

struct backoff {
	uint32_t min_ms, max_ms; /* set by the owner */
	uint32_t current_ms; /* 0: fresh */
};

uint32_t backoff_next_ms(struct backoff *b); /* grows with each call, never above max_ms */
void backoff_reset(struct backoff *b);

#endif
