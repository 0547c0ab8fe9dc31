/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Retry delays. The step doubles up to the maximum and the delay is drawn from the upper half
 * of the step, so that clients that lost the same server do not return together. The first
 * step is twice the minimum: no delay is shorter than min_ms.
 */
#include <syncfs/backoff.h>

#include <sys/random.h>

#include <syncfs/clock.h>

/* 0..limit. The modulo's bias is far below what spreading needs. */
static uint32_t random_up_to(uint32_t limit)
{
	uint64_t v;

	/* Spreading, not secrecy: without randomness the clock will do. */
	if (getrandom(&v, sizeof(v), GRND_NONBLOCK) != (ssize_t)sizeof(v))
		v = clock_mono_us();
	return (uint32_t)(v % ((uint64_t)limit + 1));
}

uint32_t backoff_next_ms(struct backoff *b)
{
	uint64_t step = 2 * (uint64_t)(b->current_ms ? b->current_ms : b->min_ms);
	uint32_t half;

	if (step > b->max_ms)
		step = b->max_ms;
	b->current_ms = (uint32_t)step;
	half = b->current_ms / 2;
	return b->current_ms - random_up_to(half);
}

void backoff_reset(struct backoff *b)
{
	b->current_ms = 0;
}
