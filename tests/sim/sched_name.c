/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names for the threads that syncfs makes, for the trace: the file of the function that the thread starts
 * with ("uploader", "applier"), from the symbols of this program, read once before the first run. Called by
 * runs.c and sched.c. Without symbols, threads have numbers.
 */
#include <elf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sched_internal.h"

#define FUNCTIONS_MAX 8192
#define FILE_BYTES_MAX (64u << 20)

static struct function {
	uintptr_t value;
	char file[16];
} functions[FUNCTIONS_MAX];
static size_t functions_count;

static uintptr_t load_address(void)
{
	extern const Elf64_Ehdr __ehdr_start __attribute__((visibility("hidden"))); /* by the linker */

	return (uintptr_t)&__ehdr_start;
}

/* Local symbols follow that of their file. Threads start with local functions. */
static void read_symbols(const Elf64_Sym *symbols, size_t count, const char *strings)
{
	const char *in = NULL;

	for (size_t i = 0; i < count; i++) {
		const Elf64_Sym *s = &symbols[i];

		if (ELF64_ST_TYPE(s->st_info) == STT_FILE)
			in = strrchr(strings + s->st_name, '/') ? strrchr(strings + s->st_name, '/') + 1
								: strings + s->st_name;
		if (ELF64_ST_TYPE(s->st_info) != STT_FUNC || ELF64_ST_BIND(s->st_info) != STB_LOCAL || !in ||
			functions_count == FUNCTIONS_MAX)
			continue;
		functions[functions_count].value = s->st_value;
		(void)snprintf(functions[functions_count].file, sizeof(functions[0].file), "%.*s",
			(int)strcspn(in, "."), in);
		functions_count++;
	}
}

static void read_elf(const uint8_t *file, size_t len)
{
	const Elf64_Ehdr *head = (const void *)file;
	const Elf64_Shdr *sections = (const void *)(file + head->e_shoff);

	if (len < sizeof(*head) || head->e_shoff + head->e_shnum * sizeof(*sections) > len)
		return;
	for (size_t i = 0; i < head->e_shnum; i++) {
		const Elf64_Shdr *s = &sections[i];

		if (s->sh_type == SHT_SYMTAB && s->sh_offset + s->sh_size <= len)
			read_symbols((const void *)(file + s->sh_offset), s->sh_size / sizeof(Elf64_Sym),
				(const char *)file + sections[s->sh_link].sh_offset);
	}
}

void sched_names_load(void)
{
	FILE *f = fopen("/proc/self/exe", "re");
	uint8_t *file = f ? malloc(FILE_BYTES_MAX) : NULL;

	if (file)
		read_elf(file, fread(file, 1, FILE_BYTES_MAX, f));
	free(file);
	if (f)
		(void)fclose(f);
}

void sched_thread_name(struct fiber *f, uintptr_t start)
{
	uintptr_t value = start - load_address();
	size_t i = 0;

	while (i < functions_count && functions[i].value != value)
		i++;
	(void)snprintf(f->name, sizeof(f->name), "%s.%u", i < functions_count ? functions[i].file : "thread",
		++f->proc->threads_named);
}
