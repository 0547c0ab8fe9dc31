/* SPDX-License-Identifier: Apache-2.0 */
/*
 * umount(2) and fusermount3. Called by mount.c at the end, and by config_check.c for what lies on the
 * mountpoint. Never asks a mount that may be served: whether it is, the lock of its backing directory tells.
 */
#include "unmount.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <syncfs/buf.h>
#include <syncfs/io.h>
#include <syncfs/log.h>

static int run_fusermount(const char *mountpoint, bool detach)
{
	char program[] = "fusermount3", how[] = "-u", lazy[] = "-uz", quiet[] = "-q", end[] = "--";
	char *argv[] = {program, detach ? lazy : how, quiet, end, (char *)mountpoint, NULL};
	int status;
	pid_t pid;
	int r = posix_spawnp(&pid, program, NULL, NULL, argv, environ);

	if (r)
		return -r;
	while (waitpid(pid, &status, 0) < 0) {
		if (errno != EINTR)
			return -errno;
	}
	return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -EBUSY;
}

static int take_away(const char *mountpoint, bool detach)
{
	if (geteuid() == 0)
		return umount2(mountpoint, UMOUNT_NOFOLLOW | (detach ? MNT_DETACH : 0)) < 0 ? -errno : 0;
	return run_fusermount(mountpoint, detach);
}

int unmount(const char *mountpoint)
{
	return take_away(mountpoint, false);
}

/* Nobody holds the lock; or the way to it leads through the mount, and nobody answers there. */
static bool is_abandoned(const struct mount_entry *mount)
{
	cleanup_buf struct buf path = BUF_INIT;
	cleanup_fd int fd = -1;

	buf_printf(&path, "%s/.syncfs/lock", mount->source);
	if (!buf_cstr(&path))
		return false;
	fd = open(buf_cstr(&path), O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return errno == ENOTCONN && strcmp(mount->source, mount->mountpoint) == 0;
	return flock(fd, LOCK_EX | LOCK_NB) == 0;
}

bool unmount_abandoned(const struct mount_entry *mount)
{
	int r;

	if (!is_abandoned(mount))
		return false;
	r = take_away(mount->mountpoint, true);
	if (r)
		log_warn("%s: the mount of a syncfs that was killed cannot be taken away: %s",
			mount->mountpoint, err_str(r));
	else
		log_info("%s: the mount of a syncfs that was killed is taken away", mount->mountpoint);
	return !r;
}
