/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a person does with files of a view: each is one or a few calls, told to the oracle. All give what the
 * last call gave (-errno); an errno that no program would understand ends the run. Called from people's
 * threads.
 */
#ifndef SIM_USER_OPS_H
#define SIM_USER_OPS_H

#include "world.h"

struct person {
	struct world *world;
	unsigned client;
	unsigned number; /* of all people, for names of their own */
	bool brisk; /* no pauses within an operation (scripts) */
};

enum edit { EDIT_APPEND, EDIT_BLOCK, EDIT_CUT, EDIT_ALL };

/* number: of the content; 0: a new one. */
int op_write(struct person *p, const char *path, uint32_t number, size_t len);
int op_edit(struct person *p, const char *path, enum edit how);
/* Into another file that is renamed over it. */
int op_save(struct person *p, const char *path, uint32_t number, size_t len);
int op_truncate(struct person *p, const char *path);
int op_unlink(struct person *p, const char *path);
int op_mkdir(struct person *p, const char *path);
int op_rmdir(struct person *p, const char *path);
int op_remove_all(struct person *p, const char *path);
int op_rename(struct person *p, const char *path, const char *to);
int op_exchange(struct person *p, const char *a, const char *b);
int op_link(struct person *p, const char *path, const char *to);
int op_symlink(struct person *p, const char *path);
int op_retarget(struct person *p, const char *path); /* a symlink: another one renamed over it */
int op_chmod(struct person *p, const char *path, mode_t mode);
int op_utimens(struct person *p, const char *path);
int op_xattr(struct person *p, const char *path);
int op_read(struct person *p, const char *path);

size_t user_length(void); /* of a new file */
bool user_has_view(const struct person *p);
/* Edits by hand, straight in the server's directory. By a process of that machine. */
void hand_edit(struct world *w);

#endif
