/* SPDX-License-Identifier: Apache-2.0 */
/* The insides of the oracle, for oracle_*.c only. */
#ifndef SIM_ORACLE_OWN_H
#define SIM_ORACLE_OWN_H

#include "disk.h"
#include "oracle.h"

struct version {
	uint64_t hash;
	size_t len;
	uint8_t *bytes;
	unsigned next; /* of the same bucket */
	unsigned client, pred;
	bool symlink, whole, finished, published, synced, lost;
	bool used_up; /* it may be gone */
	bool gone; /* it must be gone, but for what others do at the same time */
	bool again; /* written more than once */
	uint32_t used_by, moved_by; /* bits of clients */
	uint32_t maybe_used_by;
	char path[96]; /* where it was finished, maybe cut */
};

struct own_write { /* I7: what a client last wrote at a path */
	struct own_write *next;
	unsigned client, version;
	char path[];
};

struct expected {
	struct expected *next;
	unsigned row, copies;
	char dir[32];
};

#define ORACLE_BUCKETS 4096

struct oracle {
	struct server_host *server;
	struct client_host *clients;
	unsigned count;
	uint32_t next_number;
	struct version *versions; /* [0] is none */
	unsigned versions_count, versions_size;
	unsigned buckets[ORACLE_BUCKETS];
	struct own_write *own;
	struct expected *expected;
	struct oracle_watch *watches;
	bool old_comes_back; /* a disk was put back or cut: what was used up may be there again */
	bool torn[ORACLE_CLIENTS +
		1]; /* power cuts of a client, or of who edits by hand: files may be torn */
	uint32_t pin_seen[ORACLE_CLIENTS]; /* bits of pins */
	uint64_t cursor[ORACLE_CLIENTS];
	bool cursor_may_fall[ORACLE_CLIENTS];
	bool ends[ORACLE_CLIENTS]; /* its process */
};

/* Version with these bytes; NO_VERSION: nobody ever wrote them. */
unsigned oracle_find(struct oracle *o, const void *bytes, size_t len, bool symlink);
/* Unknown bytes that a power cut may have left; then they are a version from now on. */
unsigned oracle_find_torn(struct oracle *o, const void *bytes, size_t len);
bool oracle_is_ancestor(const struct oracle *o, unsigned old, unsigned v);
const char *oracle_name(const struct oracle *o, unsigned v); /* for messages */

/* ---- trees ---- */

struct node {
	char *path;
	mode_t mode;
	ino_t ino;
	nlink_t nlink;
	struct timespec mtime;
	size_t len;
	uint64_t hash;
	unsigned version; /* of a file or symlink */
};

struct tree_look {
	struct oracle *o;
	struct node *nodes; /* sorted by path */
	size_t count, size;
};

uint64_t oracle_hash(const void *bytes, size_t len);
void tree_look(struct oracle *o, struct disk *d, const char *root, struct tree_look *ret_look);
void tree_look_free(struct tree_look *t);
const struct node *tree_find(const struct tree_look *t, const char *path);
/* The views against the disks below (I1). */
void oracle_check_view(struct oracle *o, unsigned client, const struct tree_look *backing);

#endif
