/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What `syncfsd approve` and `syncfsd reject` say to the running server: a file in ROOT/.syncfs, which it
 * looks for each second, or finds when it starts the next time.
 */
#ifndef SYNCFS_SERVER_ANSWER_H
#define SYNCFS_SERVER_ANSWER_H

#include <stdbool.h>

enum answer { ANSWER_NONE = 0, ANSWER_APPROVE, ANSWER_REJECT };

/* 0, 1 written but no server took it within wait_ms; -errno. */
int answer_ask(const char *root, enum answer answer, unsigned wait_ms);
/* Takes the answer away. Damaged ones are none. */
enum answer answer_take(const char *root);

#endif
