/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The VFS behind sql.h. File contents go through the system calls that sysio.c replaces, so that they fail,
 * are cut and are killed as all others; what the real one does with fcntl(2) locks and mmap(2) is done here
 * in memory, per machine and file. Called by SQLite only.
 */
#include "sql.h"

#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "sched.h"
#include "sched_internal.h"
#include "sim.h"

#define PATH_BYTES 1024
#define REGIONS_MAX 64
#define JULIAN_1970_MS INT64_C(210866760000000)

/* A database file of a machine, as long as somebody has it open. */
struct shared {
	struct shared *next;
	const struct machine *machine;
	dev_t dev;
	ino_t ino;
	unsigned users;
	/* SQLITE_LOCK_*: how many hold SHARED or more, and who holds more than that */
	unsigned readers;
	struct sql_file *writer;
	bool pending;
	/* The index of the write-ahead log */
	void *regions[REGIONS_MAX];
	int slots[SQLITE_SHM_NLOCK]; /* readers, or -1: exclusive */
};

struct sql_file {
	sqlite3_file base;
	struct sql_file *next; /* all that are open, in all processes */
	struct proc *proc;
	struct shared *shared; /* of main databases, else NULL */
	int fd, lock;
	bool sync_dir; /* the name is not durable yet */
	unsigned shm_shared, shm_exclusive; /* bits of slots */
	char path[PATH_BYTES];
};

static struct shared *all_shared;
static struct sql_file *all_files;

/* ---- locks ---- */

static struct shared *shared_get(const struct machine *machine, const struct stat *st)
{
	struct shared *s = all_shared;

	while (s && (s->machine != machine || s->dev != st->st_dev || s->ino != st->st_ino))
		s = s->next;
	if (!s) {
		s = sim_realloc(NULL, sizeof(*s));
		*s = (struct shared){
			.next = all_shared, .machine = machine, .dev = st->st_dev, .ino = st->st_ino};
		all_shared = s;
	}
	s->users++;
	return s;
}

static void shared_put(struct shared *s)
{
	struct shared **at = &all_shared;

	if (--s->users)
		return;
	while (*at != s)
		at = &(*at)->next;
	*at = s->next;
	for (size_t i = 0; i < REGIONS_MAX; i++)
		free(s->regions[i]);
	free(s);
}

static void unlock_to(struct sql_file *f, int lock)
{
	struct shared *s = f->shared;

	if (f->lock > SQLITE_LOCK_SHARED && lock <= SQLITE_LOCK_SHARED) {
		s->writer = NULL;
		s->pending = false;
	}
	if (f->lock >= SQLITE_LOCK_SHARED && lock == SQLITE_LOCK_NONE)
		s->readers--;
	f->lock = lock;
}

static int file_lock(sqlite3_file *file, int lock)
{
	struct sql_file *f = (struct sql_file *)file;
	struct shared *s = f->shared;

	if (f->lock >= lock || !s)
		return SQLITE_OK;
	if (lock == SQLITE_LOCK_SHARED) {
		if (s->writer && (s->pending || s->writer->lock == SQLITE_LOCK_EXCLUSIVE))
			return SQLITE_BUSY;
		s->readers++;
		f->lock = lock;
		return SQLITE_OK;
	}
	if (s->writer && s->writer != f)
		return SQLITE_BUSY;
	s->writer = f;
	if (lock == SQLITE_LOCK_EXCLUSIVE && s->readers > 1) {
		s->pending = true;
		f->lock = SQLITE_LOCK_PENDING;
		return SQLITE_BUSY;
	}
	f->lock = lock;
	return SQLITE_OK;
}

static int file_unlock(sqlite3_file *file, int lock)
{
	struct sql_file *f = (struct sql_file *)file;

	if (f->shared && f->lock > lock)
		unlock_to(f, lock);
	return SQLITE_OK;
}

static int file_check_reserved(sqlite3_file *file, int *ret_is)
{
	const struct sql_file *f = (const struct sql_file *)file;

	*ret_is = f->shared && f->shared->writer != NULL;
	return SQLITE_OK;
}

/* ---- shared memory of the write-ahead log ---- */

static int shm_map(sqlite3_file *file, int region, int bytes, int extend, void volatile **ret_at)
{
	struct shared *s = ((struct sql_file *)file)->shared;

	if (region >= REGIONS_MAX)
		return SQLITE_IOERR_SHMMAP;
	if (!s->regions[region] && extend) {
		s->regions[region] = sim_realloc(NULL, (size_t)bytes);
		memset(s->regions[region], 0, (size_t)bytes);
	}
	*ret_at = s->regions[region];
	return SQLITE_OK;
}

static void shm_unlock(struct sql_file *f, unsigned bits)
{
	for (int i = 0; i < SQLITE_SHM_NLOCK; i++) {
		if (f->shm_exclusive & bits & 1u << i)
			f->shared->slots[i] = 0;
		else if (f->shm_shared & bits & 1u << i)
			f->shared->slots[i]--;
	}
	f->shm_exclusive &= ~bits;
	f->shm_shared &= ~bits;
}

static int shm_lock(sqlite3_file *file, int offset, int n, int flags)
{
	struct sql_file *f = (struct sql_file *)file;
	int *slots = f->shared->slots;
	unsigned bits = ((1u << n) - 1) << offset;

	if (flags & SQLITE_SHM_UNLOCK) {
		shm_unlock(f, bits);
		return SQLITE_OK;
	}
	for (int i = offset; i < offset + n; i++) {
		int own = (f->shm_shared & 1u << i) ? 1 : 0;

		if (flags & SQLITE_SHM_SHARED ? slots[i] < 0 && !(f->shm_exclusive & 1u << i)
					      : slots[i] < 0 || slots[i] > own)
			return SQLITE_BUSY;
	}
	for (int i = offset; i < offset + n; i++) {
		if (flags & SQLITE_SHM_EXCLUSIVE)
			slots[i] = -1;
		else if (!(f->shm_shared & 1u << i))
			slots[i]++;
	}
	*(flags & SQLITE_SHM_EXCLUSIVE ? &f->shm_exclusive : &f->shm_shared) |= bits;
	return SQLITE_OK;
}

static void shm_barrier(sqlite3_file *file)
{
	(void)file;
}

static int shm_unmap(sqlite3_file *file, int remove)
{
	struct sql_file *f = (struct sql_file *)file;

	(void)remove; /* it goes with the last user of the file */
	if (f->shared)
		shm_unlock(f, ~0u);
	return SQLITE_OK;
}

/* ---- files ---- */

static void file_forget(struct sql_file *f)
{
	struct sql_file **at = &all_files;

	while (*at != f)
		at = &(*at)->next;
	*at = f->next;
	if (f->shared) {
		shm_unlock(f, ~0u);
		unlock_to(f, SQLITE_LOCK_NONE);
		shared_put(f->shared);
		f->shared = NULL;
	}
}

/* The process is no more: its descriptors are closed by sysio.c, nothing else looks at its connections. */
static void proc_ended(void *arg)
{
	struct sql_file *next;

	for (struct sql_file *f = all_files; f; f = next) {
		next = f->next;
		if (f->proc == arg)
			file_forget(f);
	}
}

static int file_close(sqlite3_file *file)
{
	struct sql_file *f = (struct sql_file *)file;

	file_forget(f);
	return close(f->fd) < 0 ? SQLITE_IOERR_CLOSE : SQLITE_OK;
}

static int file_read(sqlite3_file *file, void *buf, int len, sqlite3_int64 at)
{
	const struct sql_file *f = (const struct sql_file *)file;
	ssize_t n = pread(f->fd, buf, (size_t)len, at);

	if (n == len)
		return SQLITE_OK;
	if (n < 0)
		return SQLITE_IOERR_READ;
	memset((char *)buf + n, 0, (size_t)(len - n));
	return SQLITE_IOERR_SHORT_READ;
}

static int file_write(sqlite3_file *file, const void *buf, int len, sqlite3_int64 at)
{
	const struct sql_file *f = (const struct sql_file *)file;

	for (int done = 0; done < len;) {
		ssize_t n = pwrite(f->fd, (const char *)buf + done, (size_t)(len - done), at + done);

		if (n <= 0)
			return n == 0 || errno == ENOSPC ? SQLITE_FULL : SQLITE_IOERR_WRITE;
		done += (int)n;
	}
	return SQLITE_OK;
}

static int file_truncate(sqlite3_file *file, sqlite3_int64 size)
{
	return ftruncate(((struct sql_file *)file)->fd, size) < 0 ? SQLITE_IOERR_TRUNCATE : SQLITE_OK;
}

static int dir_sync(const char *path)
{
	char dir[PATH_BYTES];
	const char *slash = strrchr(path, '/');
	int fd, r;

	(void)snprintf(dir, sizeof(dir), "%.*s", slash > path ? (int)(slash - path) : 1, path);
	fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return SQLITE_OK; /* as the real one: some file systems do not allow it */
	r = fsync(fd);
	(void)close(fd);
	return r < 0 ? SQLITE_IOERR_DIR_FSYNC : SQLITE_OK;
}

static int file_sync(sqlite3_file *file, int flags)
{
	struct sql_file *f = (struct sql_file *)file;
	int r = flags & SQLITE_SYNC_DATAONLY ? fdatasync(f->fd) : fsync(f->fd);

	if (r < 0)
		return SQLITE_IOERR_FSYNC;
	if (!f->sync_dir)
		return SQLITE_OK;
	f->sync_dir = false;
	return dir_sync(f->path);
}

static int file_size(sqlite3_file *file, sqlite3_int64 *ret_size)
{
	struct stat st;

	if (fstat(((struct sql_file *)file)->fd, &st) < 0)
		return SQLITE_IOERR_FSTAT;
	*ret_size = st.st_size;
	return SQLITE_OK;
}

static int file_control(sqlite3_file *file, int op, void *arg)
{
	if (op != SQLITE_FCNTL_LOCKSTATE)
		return SQLITE_NOTFOUND;
	*(int *)arg = ((struct sql_file *)file)->lock;
	return SQLITE_OK;
}

static int file_sector(sqlite3_file *file)
{
	(void)file;
	return 4096;
}

static int file_traits(sqlite3_file *file)
{
	(void)file;
	return SQLITE_IOCAP_POWERSAFE_OVERWRITE; /* as the real one assumes */
}

static const sqlite3_io_methods methods = {
	.iVersion = 2,
	.xClose = file_close,
	.xRead = file_read,
	.xWrite = file_write,
	.xTruncate = file_truncate,
	.xSync = file_sync,
	.xFileSize = file_size,
	.xLock = file_lock,
	.xUnlock = file_unlock,
	.xCheckReservedLock = file_check_reserved,
	.xFileControl = file_control,
	.xSectorSize = file_sector,
	.xDeviceCharacteristics = file_traits,
	.xShmMap = shm_map,
	.xShmLock = shm_lock,
	.xShmBarrier = shm_barrier,
	.xShmUnmap = shm_unmap,
};

/* ---- the VFS ---- */

static void watch_end_of(struct proc *p)
{
	for (struct sql_file *f = all_files; f; f = f->next)
		if (f->proc == p)
			return;
	proc_at_end(p, proc_ended, p);
}

static int vfs_open(sqlite3_vfs *vfs, sqlite3_filename name, sqlite3_file *file, int flags, int *ret_flags)
{
	struct sql_file *f = (struct sql_file *)file;
	int how = (flags & SQLITE_OPEN_READWRITE ? O_RDWR : O_RDONLY) | O_CLOEXEC |
		(flags & SQLITE_OPEN_CREATE ? O_CREAT : 0) | (flags & SQLITE_OPEN_EXCLUSIVE ? O_EXCL : 0) |
		(flags & SQLITE_OPEN_NOFOLLOW ? O_NOFOLLOW : 0);
	bool is_log = flags & (SQLITE_OPEN_MAIN_JOURNAL | SQLITE_OPEN_WAL | SQLITE_OPEN_SUPER_JOURNAL);
	struct stat st;

	(void)vfs;
	memset(f, 0, sizeof(*f));
	if (!name || strlen(name) >= PATH_BYTES)
		return SQLITE_CANTOPEN; /* no temporary files: all of them are in memory */
	f->fd = open(name, how, 0600);
	if (f->fd < 0)
		return SQLITE_CANTOPEN;
	if (fstat(f->fd, &st) < 0) {
		(void)close(f->fd);
		return SQLITE_IOERR_FSTAT;
	}
	(void)snprintf(f->path, sizeof(f->path), "%s", name);
	f->proc = proc_current();
	f->sync_dir = is_log && (flags & SQLITE_OPEN_CREATE);
	watch_end_of(f->proc);
	f->next = all_files;
	all_files = f;
	if (flags & SQLITE_OPEN_MAIN_DB)
		f->shared = shared_get(proc_machine(f->proc), &st);
	if (ret_flags)
		*ret_flags = flags;
	f->base.pMethods = &methods;
	return SQLITE_OK;
}

static int vfs_delete(sqlite3_vfs *vfs, const char *name, int sync_dir)
{
	(void)vfs;
	if (unlink(name) < 0)
		return errno == ENOENT ? SQLITE_IOERR_DELETE_NOENT : SQLITE_IOERR_DELETE;
	return sync_dir ? dir_sync(name) : SQLITE_OK;
}

static int vfs_access(sqlite3_vfs *vfs, const char *name, int flags, int *ret_yes)
{
	struct stat st;

	(void)vfs;
	if (flags == SQLITE_ACCESS_EXISTS)
		*ret_yes = stat(name, &st) == 0 && (!S_ISREG(st.st_mode) || st.st_size > 0);
	else
		*ret_yes = access(name, R_OK | W_OK) == 0;
	return SQLITE_OK;
}

static int vfs_full_path(sqlite3_vfs *vfs, const char *name, int size, char *ret_path)
{
	(void)vfs;
	if (name[0] != '/' || strlen(name) >= (size_t)size)
		return SQLITE_CANTOPEN_FULLPATH;
	(void)snprintf(ret_path, (size_t)size, "%s", name);
	return SQLITE_OK;
}

static int vfs_randomness(sqlite3_vfs *vfs, int len, char *ret_bytes)
{
	(void)vfs;
	for (int i = 0; i < len; i++)
		ret_bytes[i] = (char)sim_below(STREAM_SYSTEM, 256);
	return len;
}

static int vfs_sleep(sqlite3_vfs *vfs, int us)
{
	(void)vfs;
	sim_sleep_ms((uint64_t)us / 1000 + 1);
	return us;
}

static int vfs_time_ms(sqlite3_vfs *vfs, sqlite3_int64 *ret_ms)
{
	struct timespec t;

	(void)vfs;
	(void)clock_gettime(CLOCK_REALTIME, &t);
	*ret_ms = JULIAN_1970_MS + (sqlite3_int64)t.tv_sec * 1000 + t.tv_nsec / 1000000;
	return SQLITE_OK;
}

static int vfs_time(sqlite3_vfs *vfs, double *ret_days)
{
	sqlite3_int64 ms;
	int r = vfs_time_ms(vfs, &ms);

	*ret_days = (double)ms / 86400000.0;
	return r;
}

static int vfs_last_error(sqlite3_vfs *vfs, int len, char *text)
{
	(void)vfs, (void)len, (void)text;
	return errno;
}

/* ---- smaller than real ---- */

int __wrap_sqlite3_open_v2(const char *path, sqlite3 **ret_db, int flags, const char *vfs);
int __real_sqlite3_open_v2(const char *path, sqlite3 **ret_db, int flags, const char *vfs);
int __wrap_sqlite3_exec(sqlite3 *db, const char *sql, int (*fn)(void *, int, char **, char **), void *arg,
	char **ret_message);
int __real_sqlite3_exec(sqlite3 *db, const char *sql, int (*fn)(void *, int, char **, char **), void *arg,
	char **ret_message);

/* Small pages: there is less to copy, and more of them to lose. */
int __wrap_sqlite3_open_v2(const char *path, sqlite3 **ret_db, int flags, const char *vfs)
{
	int r = __real_sqlite3_open_v2(path, ret_db, flags, vfs);

	if (r == SQLITE_OK)
		(void)__real_sqlite3_exec(*ret_db, "PRAGMA page_size=1024", NULL, NULL, NULL);
	return r;
}

/* Runs are short: checkpoints come as often as they would in months. */
int __wrap_sqlite3_exec(
	sqlite3 *db, const char *sql, int (*fn)(void *, int, char **, char **), void *arg, char **ret_message)
{
	int r = __real_sqlite3_exec(db, sql, fn, arg, ret_message);

	if (r == SQLITE_OK && strstr(sql, "wal_autocheckpoint"))
		(void)sqlite3_wal_autocheckpoint(db, 20 + (int)sim_below(STREAM_SYSTEM, 300));
	return r;
}

/* ---- setting up ---- */

void sql_setup(void)
{
	static sqlite3_vfs vfs = {
		.iVersion = 2,
		.szOsFile = sizeof(struct sql_file),
		.mxPathname = PATH_BYTES - 1,
		.zName = "sim",
		.xOpen = vfs_open,
		.xDelete = vfs_delete,
		.xAccess = vfs_access,
		.xFullPathname = vfs_full_path,
		.xRandomness = vfs_randomness,
		.xSleep = vfs_sleep,
		.xCurrentTime = vfs_time,
		.xCurrentTimeInt64 = vfs_time_ms,
		.xGetLastError = vfs_last_error,
	};

	if (sqlite3_config(SQLITE_CONFIG_SINGLETHREAD) || sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0) ||
		sqlite3_config(SQLITE_CONFIG_STMTJRNL_SPILL, -1) || sqlite3_initialize() ||
		sqlite3_vfs_register(&vfs, 1)) {
		fprintf(stderr, "simulator: SQLite cannot be set up\n");
		_exit(2);
	}
}
