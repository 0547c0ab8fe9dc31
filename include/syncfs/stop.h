/* SPDX-License-Identifier: Apache-2.0 */
/* A flag that ends threads: settable once from any thread, waitable with a bound, pollable by fd. */
#ifndef SYNCFS_STOP_H
#define SYNCFS_STOP_H

#include <stdbool.h>
#include <stdint.h>

struct stop;

struct stop *stop_new(void); /* NULL: -errno in errno */
void stop_free(struct stop *s);
void stop_set(struct stop *s); /* async-signal-safe */
bool stop_is_set(const struct stop *s);
int stop_fd(const struct stop *s); /* readable once set; owned by s */
/* Sleeps at most ms; true when stopped. */
bool stop_wait(const struct stop *s, uint64_t ms);

#endif
