/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Coroutines: a stack each, and the switch between two of them. No system call is made for a switch. Used by
 * sched.c alone.
 */
#ifndef SIM_FIBER_H
#define SIM_FIBER_H

#include <stddef.h>

struct stack {
	void *low; /* lowest usable byte; below it is a page that cannot be touched */
	size_t size;
};

/* Where a coroutine stands while another one runs. */
struct context {
	void *sp;
	void *sanitizer; /* what the address sanitizer keeps for a stack that is left */
	struct stack stack; /* low NULL: the one that the program started with */
};

/* Ends the program when there is no memory. */
struct stack stack_get(void);
void stack_put(struct stack s);

/* entry() must not return. */
void context_make(struct context *c, struct stack stack, void (*entry)(void));
/* last: from is never gone on with. */
void context_switch(struct context *from, const struct context *to, int last);
/* The first call on a new stack. */
void context_arrived(const struct context *here);

#endif
