/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names for the threads that syncfs makes, for the trace: the file of the function that the thread starts
 * with ("uploader", "applier"), from the symbols of this program. Called by sched.c for each thread; reads
 * the program's file once for each process. Without symbols, threads have numbers.
 */
#include <elf.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sched_internal.h"

#define STARTS_MAX 64

/* What was found out, by where the function lies. */
static struct {
	uintptr_t start;
	char name[24];
} known[STARTS_MAX];
static size_t known_count;

static uintptr_t load_address(void)
{
	extern const Elf64_Ehdr __ehdr_start __attribute__((visibility("hidden"))); /* by the linker */

	return (uintptr_t)&__ehdr_start;
}

/* Local symbols follow that of their file. */
static void search(const uint8_t *file, uintptr_t value, char *name, size_t size)
{
	const Elf64_Ehdr *head = (const void *)file;
	const Elf64_Shdr *sections = (const void *)(file + head->e_shoff);
	const char *in = NULL;

	for (size_t i = 0; i < head->e_shnum; i++) {
		const Elf64_Sym *symbols = (const void *)(file + sections[i].sh_offset);
		const char *strings = (const char *)file + sections[sections[i].sh_link].sh_offset;

		for (size_t k = 0;
			sections[i].sh_type == SHT_SYMTAB && k < sections[i].sh_size / sizeof(symbols[0]);
			k++) {
			if (ELF64_ST_TYPE(symbols[k].st_info) == STT_FILE)
				in = strings + symbols[k].st_name;
			if (ELF64_ST_TYPE(symbols[k].st_info) != STT_FUNC || symbols[k].st_value != value ||
				!in)
				continue;
			in = strrchr(in, '/') ? strrchr(in, '/') + 1 : in;
			(void)snprintf(name, size, "%.*s", (int)strcspn(in, "."), in);
			return;
		}
	}
}

static void look_up(uintptr_t start, char *name, size_t size)
{
	int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	struct stat st;
	void *file;

	(void)snprintf(name, size, "thread");
	if (fd < 0 || fstat(fd, &st) < 0)
		return;
	file = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	(void)close(fd);
	if (file == MAP_FAILED)
		return;
	search(file, start - load_address(), name, size);
	(void)munmap(file, (size_t)st.st_size);
}

void sched_thread_name(struct fiber *f, uintptr_t start)
{
	size_t i = 0;

	while (i < known_count && known[i].start != start)
		i++;
	if (i == STARTS_MAX)
		i--;
	if (i == known_count || known[i].start != start) {
		known[i].start = start;
		look_up(start, known[i].name, sizeof(known[i].name));
		if (known_count < STARTS_MAX)
			known_count++;
	}
	(void)snprintf(f->name, sizeof(f->name), "%s.%u", known[i].name, ++f->proc->threads_named);
}
