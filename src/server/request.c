/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Arguments of requests and the fixed shapes of answers, see the header. Used by the router and all handlers.
 * Touches no store.
 */
#include "request.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include <syncfs/error.h>
#include <syncfs/log.h>
#include <syncfs/message.h>

static int hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

int percent_decode(const char *text, size_t len, char **ret_text, size_t *ret_len)
{
	char *out = malloc(len + 1);
	size_t n = 0;

	if (!out)
		return -ENOMEM;
	for (size_t i = 0; i < len; i++) {
		int high, low;

		if (text[i] != '%') {
			out[n++] = text[i];
			continue;
		}
		high = i + 2 < len ? hex_value(text[i + 1]) : -1;
		low = high >= 0 ? hex_value(text[i + 2]) : -1;
		if (low < 0 || (!high && !low)) {
			free(out);
			return -EINVAL;
		}
		out[n++] = (char)(high << 4 | low);
		i += 2;
	}
	out[n] = '\0';
	*ret_text = out;
	*ret_len = n;
	return 0;
}

int request_query(const struct request *rq, const char *name, char **ret_value)
{
	const char *at = rq->x->query;
	size_t name_len = strlen(name), len;

	while (at) {
		const char *end = at + strcspn(at, "&");

		if (!strncmp(at, name, name_len) && at[name_len] == '=')
			return percent_decode(
				at + name_len + 1, (size_t)(end - at) - name_len - 1, ret_value, &len);
		at = *end ? end + 1 : NULL;
	}
	return -ENOENT;
}

bool header_has_type(const char *header, const char *type)
{
	size_t len = strlen(type);

	for (; header; header = strchr(header, ',') ? strchr(header, ',') + 1 : NULL) {
		header += strspn(header, " \t");
		if (!strncasecmp(header, type, len) && (!header[len] || strchr(",; \t", header[len])))
			return true;
	}
	return false;
}

struct store_actor request_actor(const struct request *rq)
{
	return (struct store_actor){.id = rq->token.actor, .label = rq->token.name};
}

void response_header(struct response *rs, const char *name, const char *fmt, ...)
{
	char *value = NULL;
	va_list ap;
	int len;

	assert(rs->headers_count < RESPONSE_HEADERS_MAX);
	va_start(ap, fmt);
	len = vasprintf(&value, fmt, ap);
	va_end(ap);
	if (len < 0) {
		rs->status = 500;
		return;
	}
	rs->headers[rs->headers_count].name = name;
	rs->headers[rs->headers_count++].value = value;
}

void response_json(struct response *rs, unsigned status)
{
	rs->status = status;
	rs->content_type = "application/json";
}

int response_refuse(struct response *rs, unsigned status, const char *text, const char *code)
{
	buf_reset(&rs->body);
	if (rs->fd >= 0)
		(void)close(rs->fd);
	rs->fd = -1;
	response_json(rs, status);
	return error_encode(text, code, &rs->body);
}

int response_error(struct response *rs, int err, const char *text)
{
	const char *code;
	int status = error_to_http(err, &code);

	return response_refuse(rs, (unsigned)status, text ? text : err_str(err), code);
}
