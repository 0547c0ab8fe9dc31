/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One line per event to stderr or, after log_use_syslog(), to syslog. The only writer of
 * stderr apart from usage messages of main. No secrets, no file content. Control bytes in
 * the formatted line are escaped. Any thread. A line identical to the last one of the same
 * call site within 10 s is counted instead and reported with the next.
 */
#ifndef SYNCFS_LOG_H
#define SYNCFS_LOG_H

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARN, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

void log_set_program(const char *name); /* borrowed for ever; prefix of each line */
void log_set_level(enum log_level level); /* default INFO */
void log_use_syslog(void);
void log_write(enum log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#define log_error(...) log_write(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warn(...) log_write(LOG_LEVEL_WARN, __VA_ARGS__)
#define log_info(...) log_write(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...) log_write(LOG_LEVEL_DEBUG, __VA_ARGS__)

/* strerror for a negative errno, thread-safe, for %s of the same statement. */
const char *err_str(int negative_errno);

#endif
