/* SPDX-License-Identifier: Apache-2.0 */
/* What http.c (the daemon's life) and http_request.c (a request's life) share. Nobody else includes it. */
#ifndef SYNCFS_SERVER_HTTP_INTERNAL_H
#define SYNCFS_SERVER_HTTP_INTERNAL_H

#include <microhttpd.h>
#include <stdatomic.h>

#include <syncfs/mutex.h>

#include "http.h"
#include "http_conn.h"
#include "workers.h"

struct http {
	struct mutex lock;
	struct cond changed; /* open or suspended went down */
	unsigned open; /* requests between request line and completion */
	unsigned suspended; /* those that are with the workers or parked */

	/* counters and a flag: no order needed, each stands for itself */
	atomic_bool draining;
	_Atomic uint64_t bytes_in, bytes_out, connections;

	/* set at start, then read-only */
	struct http_config config;
	struct conns *conns;
	struct workers *workers;
	char address[80];

	/* owned by the thread that starts, drains, resumes and stops */
	struct MHD_Daemon *daemon;
	int listen_fd, quiesced_fd;
	bool is_tls;
};

/* libmicrohttpd's callbacks; cls is the struct http. */
void *http_on_uri(void *cls, const char *uri, struct MHD_Connection *mhd);
enum MHD_Result http_on_access(void *cls, struct MHD_Connection *mhd, const char *url, const char *method,
	const char *version, const char *upload_data, size_t *upload_data_size, void **con_cls);
void http_on_completed(
	void *cls, struct MHD_Connection *mhd, void **con_cls, enum MHD_RequestTerminationCode why);
void http_on_connection(void *cls, struct MHD_Connection *mhd, void **socket_context,
	enum MHD_ConnectionNotificationCode what);
enum job_verdict http_run_job(void *arg, struct job *job);

#endif
