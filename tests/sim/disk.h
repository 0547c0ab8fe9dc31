/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The simulated disk of a machine: a tree of files, directories and symlinks in memory, in two halves: what
 * processes see, and what a power cut leaves. Model: names and attributes go to a log in the order of the
 * calls; a sync makes a prefix of it durable (fsync of a directory and syncfs(2): all so far; fsync of a
 * file: all so far too, or with sim_options.weak_disk only its bytes). Bytes are durable after fsync or
 * fdatasync of the file, or syncfs(2). A power cut keeps what is durable, plus, by STREAM_DISK, a longer
 * prefix of the log and, of each file, its old bytes, its new ones, a prefix of its writes, or its new length
 * full of zeros.
 *
 * sysio.c puts all file system calls of syncfs onto the disk of the machine of the running process
 * (-Wl,--wrap), with a table of descriptors for each process; sql.c is the VFS of SQLite on top of it. Both
 * are the only users of the part "calls".
 */
#ifndef SIM_DISK_H
#define SIM_DISK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

struct disk;

struct disk *disk_new(const char *name);
void disk_free(struct disk *d);
/* An equal disk as of now (both halves are what is seen): for clones and backups. */
struct disk *disk_copy(const struct disk *d);

/* All that is on it is durable. */
void disk_sync(struct disk *d);
/* What is on it becomes what a power cut leaves. No process of the machine may live. */
void disk_power_cut(struct disk *d);

/* ---- faults ---- */
void disk_set_room(struct disk *d, uint64_t bytes); /* ENOSPC beyond; UINT64_MAX: no limit (at first) */
uint64_t disk_used(const struct disk *d);
/* The call after `calls` more ones that could fail so fails with -error, once. 0 calls: none. */
void disk_fail_at(struct disk *d, uint64_t calls, int error);
void disk_fail_spell(struct disk *d, uint64_t calls, uint64_t count, int error); /* so many in a row */
uint64_t disk_calls(const struct disk *d); /* made so far */
uint64_t disk_changes(const struct disk *d, const char *below); /* changes under a path so far (I10) */

/* ---- looking at it from outside, without a process ---- */
struct disk_entry {
	const char *path; /* relative to the start */
	struct stat st;
	const uint8_t *bytes; /* of a file, or a symlink's target (len bytes, no NUL) */
	size_t len;
};
/* Called before each change of a name, and before a file becomes shorter; NULL: not. taken: what loses a name
 * without getting another (path: the whole of it), or bytes (path: NULL); else NULL. */
void disk_before_change(
	void (*fn)(void *arg, const struct disk *d, const struct disk_entry *taken), void *arg);
/* Parents before children, names in byte order. Stops when fn returns other than 0, and returns that. */
int disk_walk(struct disk *d, const char *path, int (*fn)(void *arg, const struct disk_entry *e), void *arg);
/* Makes directories as needed. -errno. */
int disk_put(struct disk *d, const char *path, mode_t mode, const void *bytes, size_t len);
int disk_mkdirs(struct disk *d, const char *path, mode_t mode);
int disk_get(struct disk *d, const char *path, struct disk_entry *ret);

#endif
