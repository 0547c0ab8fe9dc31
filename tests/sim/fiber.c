/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Coroutines for the simulator, called by sched.c only. swapcontext(3) would do, but makes two system calls
 * for each switch; this saves the registers that a called function must keep, and nothing else. It never
 * looks at signals, and stacks are used again.
 */
#include "fiber.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#if defined(__SANITIZE_ADDRESS__)
#define WITH_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define WITH_ASAN 1
#endif
#endif
#ifdef WITH_ASAN
#include <sanitizer/common_interface_defs.h>
#define STACK_BYTES (1024 * 1024)
#else
#define STACK_BYTES (256 * 1024)
#endif
#define GUARD_BYTES 4096
#define POOL_MAX 256

/* Saves the callee's registers on the stack, leaves the stack pointer in *save, and takes the other one. */
void sim_switch_(void **save, void *load);

#if defined(__x86_64__)
#define SAVED_WORDS 6
#define RETURN_WORD 6
__asm__(".text\n"
	".p2align 4\n"
	".globl sim_switch_\n"
	".hidden sim_switch_\n"
	".type sim_switch_, @function\n"
	"sim_switch_:\n"
	"	pushq %rbp\n"
	"	pushq %rbx\n"
	"	pushq %r12\n"
	"	pushq %r13\n"
	"	pushq %r14\n"
	"	pushq %r15\n"
	"	movq %rsp, (%rdi)\n"
	"	movq %rsi, %rsp\n"
	"	popq %r15\n"
	"	popq %r14\n"
	"	popq %r13\n"
	"	popq %r12\n"
	"	popq %rbx\n"
	"	popq %rbp\n"
	"	ret\n"
	".size sim_switch_, . - sim_switch_\n");
#elif defined(__aarch64__)
#define SAVED_WORDS 20
#define RETURN_WORD 11 /* x30 */
__asm__(".text\n"
	".p2align 4\n"
	".globl sim_switch_\n"
	".hidden sim_switch_\n"
	".type sim_switch_, %function\n"
	"sim_switch_:\n"
	"	sub sp, sp, #160\n"
	"	stp x19, x20, [sp, #0]\n"
	"	stp x21, x22, [sp, #16]\n"
	"	stp x23, x24, [sp, #32]\n"
	"	stp x25, x26, [sp, #48]\n"
	"	stp x27, x28, [sp, #64]\n"
	"	stp x29, x30, [sp, #80]\n"
	"	stp d8, d9, [sp, #96]\n"
	"	stp d10, d11, [sp, #112]\n"
	"	stp d12, d13, [sp, #128]\n"
	"	stp d14, d15, [sp, #144]\n"
	"	mov x9, sp\n"
	"	str x9, [x0]\n"
	"	mov sp, x1\n"
	"	ldp x19, x20, [sp, #0]\n"
	"	ldp x21, x22, [sp, #16]\n"
	"	ldp x23, x24, [sp, #32]\n"
	"	ldp x25, x26, [sp, #48]\n"
	"	ldp x27, x28, [sp, #64]\n"
	"	ldp x29, x30, [sp, #80]\n"
	"	ldp d8, d9, [sp, #96]\n"
	"	ldp d10, d11, [sp, #112]\n"
	"	ldp d12, d13, [sp, #128]\n"
	"	ldp d14, d15, [sp, #144]\n"
	"	add sp, sp, #160\n"
	"	ret\n"
	".size sim_switch_, . - sim_switch_\n");
#else
#error "the simulator switches stacks on x86_64 and aarch64 only"
#endif
__asm__(".section .note.GNU-stack, \"\", %progbits\n.text\n");

static struct stack pool[POOL_MAX];
static size_t pool_count;

struct stack stack_get(void)
{
	uint8_t *p;

	if (pool_count)
		return pool[--pool_count];
	p = mmap(NULL, STACK_BYTES + GUARD_BYTES, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
	if (p == MAP_FAILED || mprotect(p, GUARD_BYTES, PROT_NONE) < 0) {
		perror("simulator: a stack");
		exit(2);
	}
	return (struct stack){.low = p + GUARD_BYTES, .size = STACK_BYTES};
}

void stack_put(struct stack s)
{
	if (pool_count < POOL_MAX)
		pool[pool_count++] = s;
	else
		(void)munmap((uint8_t *)s.low - GUARD_BYTES, s.size + GUARD_BYTES);
}

void context_make(struct context *c, struct stack stack, void (*entry)(void))
{
	uintptr_t *top = (uintptr_t *)(void *)((uint8_t *)stack.low + stack.size - 32);
	/* x86_64: after ret, the stack pointer stands at a return address, 8 off from 16 bytes. */
	uintptr_t *sp = top - SAVED_WORDS;

	top[1] = 0; /* a return address of 0 ends backtraces */
	for (size_t i = 0; i < SAVED_WORDS; i++)
		sp[i] = 0;
	sp[RETURN_WORD] = (uintptr_t)entry;
	*c = (struct context){.sp = sp, .stack = stack};
}

void context_switch(struct context *from, const struct context *to, int last)
{
#ifdef WITH_ASAN
	__sanitizer_start_switch_fiber(last ? NULL : &from->sanitizer, to->stack.low, to->stack.size);
#else
	(void)last;
#endif
	sim_switch_(&from->sp, to->sp);
	context_arrived(from);
}

void context_arrived(const struct context *here)
{
#ifdef WITH_ASAN
	__sanitizer_finish_switch_fiber(here->sanitizer, NULL, NULL);
#else
	(void)here;
#endif
}
