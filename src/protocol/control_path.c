/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The one place that knows where control sockets lie. Called by the socket of syncfs and by syncfsctl.
 * Touches no file.
 */
#include <syncfs/control_path.h>

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <syncfs/hash.h>

char *control_name(const char *mountpoint, char *name)
{
	struct hash hash = hash_bytes(mountpoint, strlen(mountpoint));
	char hex[HASH_HEX_BYTES];

	(void)snprintf(name, CONTROL_NAME_BYTES, "%.16s.sock", hash_to_hex(&hash, hex));
	return name;
}

char *control_dir(unsigned which, int64_t uid)
{
	const char *runtime = getenv("XDG_RUNTIME_DIR");
	bool has_runtime = runtime && runtime[0] == '/';
	char *dir = NULL;
	int r = -1;

	errno = ENOENT;
	if (has_runtime && which-- == 0)
		r = asprintf(&dir, "%s/syncfs", runtime);
	else if ((geteuid() == 0 || uid == 0) && which-- == 0)
		r = asprintf(&dir, "/run/syncfs");
	else if (uid > 0 && which == 0)
		r = asprintf(&dir, "/run/user/%" PRId64 "/syncfs", uid);
	return r < 0 ? NULL : dir;
}
