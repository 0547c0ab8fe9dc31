/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by user_ops.c and user_write.c only. */
#ifndef SIM_USER_OPS_OWN_H
#define SIM_USER_OPS_OWN_H

#include "user_ops.h"
#include "view.h"

/* The view of the person's machine, or NULL. */
struct view *user_view(const struct person *p);
/* Traces a call and its result, and ends the run when no program would understand it. Gives r. */
int user_called(const struct person *p, const char *call, const char *path, int r);
/* As user_called(); the gate was held. */
struct gate *user_gate(const struct person *p);

#endif
