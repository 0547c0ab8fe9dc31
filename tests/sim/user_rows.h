/* SPDX-License-Identifier: Apache-2.0 */
/* The rows of the conflict matrix (sync-model.md 2.5) as scripts of two people, one of them cut off. */
#ifndef SIM_USER_ROWS_H
#define SIM_USER_ROWS_H

#include "world.h"

/* Until all operations are done, one script after the other, with pauses. From a thread of its own. */
void rows_run(struct world *w);

#endif
