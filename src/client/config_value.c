/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What values of options may be. Called by config. Reads token files, no other file.
 */
#include "config_value.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include <syncfs/io.h>
#include <syncfs/limits.h>
#include <syncfs/log.h>
#include <syncfs/path.h>
#include <syncfs/settings.h>

#define URL_MAX_BYTES 2048
#define HOST_MAX_BYTES 253 /* RFC 1035 */
#define NAMESPACE_MAX_BYTES 64
#define BLOCK_DEFAULT_S 30
#define BLOCK_MAX_S 86400

static int refuse(struct buf *why, const char *sentence)
{
	buf_put_str(why, sentence);
	return -EINVAL;
}

static int copy(const char *text, size_t len, char **ret_copy)
{
	char *c = strndup(text, len);

	if (c == NULL)
		return -ENOMEM;
	*ret_copy = c;
	return 0;
}

static bool is_loopback(const char *host)
{
	struct in_addr v4;

	if (strcasecmp(host, "localhost") == 0 || strcmp(host, "[::1]") == 0)
		return true;
	return inet_pton(AF_INET, host, &v4) == 1 && ntohl(v4.s_addr) >> 24 == 127;
}

static bool is_host(const char *host)
{
	struct in6_addr v6;
	char inside[INET6_ADDRSTRLEN];
	size_t len = strlen(host);

	if (host[0] == '[') {
		if (len < 4 || host[len - 1] != ']' || len - 2 >= sizeof(inside))
			return false;
		memcpy(inside, host + 1, len - 2);
		inside[len - 2] = '\0';
		return inet_pton(AF_INET6, inside, &v6) == 1;
	}
	for (size_t i = 0; i < len; i++) {
		if (!isalnum((unsigned char)host[i]) && strchr("-._", host[i]) == NULL)
			return false;
	}
	return len > 0 && host[0] != '-' && host[0] != '.';
}

static bool is_port(const char *text, size_t len)
{
	char digits[6];
	uint64_t port;

	if (len == 0 || len >= sizeof(digits))
		return false;
	memcpy(digits, text, len);
	digits[len] = '\0';
	return settings_parse_u64(digits, 1, 65535, &port) == 0;
}

static bool is_plain(const char *text)
{
	for (; *text; text++) {
		if (*text <= ' ' || *text > '~' || strchr("\\\"<>^`{|}?#@", *text) != NULL)
			return false;
	}
	return true;
}

int config_value_url(const char *text, char **ret_url, bool *ret_loopback, struct buf *why)
{
	char host[HOST_MAX_BYTES + 1];
	const char *at, *end, *colon;
	size_t len = strlen(text), host_len;

	if (strncasecmp(text, "http://", 7) != 0 && strncasecmp(text, "https://", 8) != 0)
		return refuse(why, "must be http://HOST:PORT or https://HOST");
	if (len > URL_MAX_BYTES || !is_plain(text))
		return refuse(why, "must not have blanks, a user, a query or a fragment");
	at = strstr(text, "://") + 3;
	end = at + strcspn(at, "/");
	colon = *at == '[' ? memchr(at, ']', (size_t)(end - at)) : at;
	colon = colon != NULL ? memchr(colon, ':', (size_t)(end - colon)) : NULL;
	host_len = (size_t)((colon != NULL ? colon : end) - at);
	if (host_len >= sizeof(host))
		return refuse(why, "has a host name that is too long");
	memcpy(host, at, host_len);
	host[host_len] = '\0';
	if (!is_host(host))
		return refuse(why, "must be http://HOST:PORT or https://HOST with a valid host");
	if (colon != NULL && !is_port(colon + 1, (size_t)(end - colon) - 1))
		return refuse(why, "must have a port between 1 and 65535");
	*ret_loopback = is_loopback(host);
	while (text[len - 1] == '/')
		len--;
	return copy(text, len, ret_url);
}

int config_value_durable(const char *text, enum config_durable *ret_durable, struct buf *why)
{
	if (strcmp(text, "none") == 0)
		*ret_durable = DURABLE_NONE;
	else if (strcmp(text, "local") == 0)
		*ret_durable = DURABLE_LOCAL;
	else if (strcmp(text, "fsync") == 0)
		*ret_durable = DURABLE_FSYNC;
	else if (strcmp(text, "close") == 0)
		*ret_durable = DURABLE_CLOSE;
	else
		return refuse(why, "must be none, local, fsync or close");
	return 0;
}

int config_value_offline(
	const char *text, enum config_offline *ret_offline, uint32_t *ret_block_s, struct buf *why)
{
	uint64_t seconds = BLOCK_DEFAULT_S;

	if (strcmp(text, "eio") == 0) {
		*ret_offline = OFFLINE_EIO;
	} else if (strcmp(text, "defer") == 0) {
		*ret_offline = OFFLINE_DEFER;
	} else if (strcmp(text, "block") == 0 ||
		(strncmp(text, "block:", 6) == 0 &&
			settings_parse_u64(text + 6, 1, BLOCK_MAX_S, &seconds) == 0)) {
		*ret_offline = OFFLINE_BLOCK;
		*ret_block_s = (uint32_t)seconds;
	} else {
		return refuse(why, "must be eio, block:SECONDS or defer");
	}
	return 0;
}

int config_value_namespace(const char *text, char **ret_namespace, struct buf *why)
{
	size_t len = strlen(text);

	for (size_t i = 0; i < len; i++) {
		if (!isalnum((unsigned char)text[i]) && strchr("._-", text[i]) == NULL)
			len = 0;
	}
	if (len == 0 || len > NAMESPACE_MAX_BYTES)
		return refuse(why, "must be 1 to 64 letters, digits, '.', '_' and '-'");
	return copy(text, len, ret_namespace);
}

int config_value_label(const char *text, char **ret_label, struct buf *why)
{
	size_t len = strlen(text);
	bool fits = len > 0 && len <= LABEL_MAX_BYTES && utf8_is_valid(text, len);

	for (size_t i = 0; fits && i < len; i++)
		fits = (unsigned char)text[i] >= 0x20 && text[i] != 0x7f && text[i] != '/';
	if (!fits)
		return refuse(why, "must be 1 to 64 bytes of text without '/'");
	return copy(text, len, ret_label);
}

int config_value_token(const char *text, char **ret_token, struct buf *why)
{
	size_t len;

	while (*text == ' ' || *text == '\t')
		text++;
	len = strcspn(text, "\r\n");
	while (len > 0 && (text[len - 1] == ' ' || text[len - 1] == '\t'))
		len--;
	if (len == 0)
		return refuse(why, "holds no token");
	if (len > TOKEN_MAX_BYTES)
		return refuse(why, "holds more than a token");
	for (size_t i = 0; i < len; i++) {
		if (text[i] < 0x20 || text[i] > 0x7e)
			return refuse(why, "holds no token: a token is printable ASCII");
	}
	return copy(text, len, ret_token);
}

/*
 * Group-readable files of root are let through for others than root: a service manager hands credentials to
 * its services that way (systemd.exec(5), LoadCredential= with an ACL).
 */
int config_value_is_private(const char *path, struct buf *why)
{
	struct stat st;
	mode_t open_to;

	if (stat(path, &st) < 0) {
		int r = -errno;

		buf_printf(why, "cannot read %s: %s", path, err_str(r));
		return r;
	}
	open_to = st.st_mode & (S_IRGRP | S_IWGRP | S_IROTH | S_IWOTH);
	if (open_to == 0 || (open_to == S_IRGRP && st.st_uid == 0 && geteuid() != 0))
		return 0;
	buf_printf(why, "others can read the token in %s: chmod 600 %s", path, path);
	return -EACCES;
}

static int read_token(const char *path, struct buf *text, struct buf *why)
{
	int r = config_value_is_private(path, why);

	if (r < 0)
		return r;
	r = buf_reserve(text, 2 * TOKEN_MAX_BYTES + 4096);
	if (r == 0)
		r = io_read_file(AT_FDCWD, path, TOKEN_MAX_BYTES + 2048, text);
	if (r < 0)
		buf_printf(why, "cannot read the token file %s: %s", path, err_str(r));
	return r;
}

int config_value_token_file(const char *path, char **ret_token, struct buf *why)
{
	cleanup_buf struct buf text = BUF_INIT;
	const char *first;
	int r = read_token(path, &text, why);

	if (r == 0) {
		first = buf_cstr(&text);
		buf_printf(why, "the token file %s ", path);
		r = first != NULL ? config_value_token(first, ret_token, why) : -ENOMEM;
		if (r == 0)
			buf_reset(why);
	}
	if (text.data != NULL)
		explicit_bzero(text.data, text.cap);
	return r;
}
