/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The vocabulary of change: operations that clients send, results that the server gives,
 * node states that the feed tells. Plain structs; strings and blobs inside are heap-owned by
 * the struct and freed by its _fini. Names and link targets are bytes without NUL, so C strings.
 * JSON forms: syncfs-protocol(7).
 */
#ifndef SYNCFS_CHANGE_H
#define SYNCFS_CHANGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <syncfs/buf.h>
#include <syncfs/hash.h>
#include <syncfs/id.h>

enum kind { KIND_FILE = 1, KIND_DIR = 2, KIND_SYMLINK = 3 };

/* Heap bytes. len 0: data may be NULL. */
struct blob {
	uint8_t *data;
	size_t len;
};

/*
 * user.* extended attributes of one node, packed canonically: for each, ascending by name bytes,
 * u16 name length, name, u32 value length, value (little-endian). Equal sets are equal bytes.
 */

/* What a file holds: size and SHA-256 over its manifest (manifest.h). */
struct content {
	uint64_t size;
	struct hash hash;
};

enum op_type {
	OP_CREATE = 1,
	OP_WRITE,
	OP_RENAME,
	OP_EXCHANGE,
	OP_LINK,
	OP_UNLINK,
	OP_RMDIR,
	OP_SETATTR,
};

/* Members that an op carries beyond those its type demands. */
enum op_field {
	OP_HAS_MODE = 1 << 0,
	OP_HAS_MTIME = 1 << 1,
	OP_HAS_XATTR = 1 << 2,
	OP_HAS_DATA = 1 << 3, /* content inline: data_at, data_len in the raw part */
	OP_HAS_MANIFEST = 1 << 4, /* content by chunk list: manifest */
	OP_NOREPLACE = 1 << 5, /* rename */
};

/*
 * A base is the version that the sender had seen: > 0 a seq; 0 none; -N the version that the sender's
 * own operation N produced; BASE_ANY whatever the server has now.
 */
#define BASE_ANY INT64_MIN

/*
 * One operation. Which members count:
 *  create    node kind parent name, mode mtime xattr; file: content + data or manifest; symlink: target
 *  write     node base_c, content + data or manifest; may carry mode, mtime, xattr; symlink: target
 *  rename    node parent name base_l -> new_parent new_name; other/other_base_c/other_base_l: replaced node
 *            or ID_NONE
 *  exchange  node parent name base_l <-> other new_parent new_name other_base_l
 *  link      node parent name
 *  unlink    node parent name base_c base_l          rmdir  node parent name base_l
 *  setattr   node base_a, any of mode mtime xattr
 */
struct op {
	enum op_type type;
	unsigned fields; /* enum op_field */
	uint64_t opno;
	struct id node, other, parent, new_parent;
	char *name, *new_name, *target;
	enum kind kind;
	uint32_t mode; /* & 0777 */
	int64_t mtime_ns;
	struct blob xattr;
	int64_t base_c, base_l, base_a, other_base_c, other_base_l;
	struct content content;
	uint64_t data_at, data_len;
	struct blob manifest;
};

void op_fini(struct op *op);

enum outcome {
	OUTCOME_OK = 1, /* done; seq c l a */
	OUTCOME_SAME, /* already so: seq c l a adopted; create: node is whom ours became an alias of */
	OUTCOME_KEPT, /* bytes accepted under a conflict name: node, parent, name, seq c l a are the copy's */
	OUTCOME_SUPERSEDED, /* a namespace op lost; the feed tells what is */
	OUTCOME_CYCLE, /* the move would make a cycle; the feed tells what is */
	OUTCOME_MISSING, /* send these chunks, then the op again (same opno); nothing of the batch from here
			    on done */
	OUTCOME_REJECT, /* invalid for ever: code and reason; goes to the dead letters */
};

struct result {
	enum outcome outcome;
	uint64_t opno;
	uint64_t seq, c, l, a; /* superseded, cycle: not sent; a move's l and a are as commit_stays() says */
	struct id node; /* ok: the op's (after alias); same/kept: see above */
	struct id parent;
	char *name; /* kept; NULL otherwise */
	int code; /* reject: negative errno */
	char *reason; /* reject */
	struct hash *missing;
	size_t missing_count;
};

void result_fini(struct result *r);

/* One name of a node. */
struct dentry {
	struct id parent;
	char *name;
	uint64_t l;
};

/* The state of one node after seq: what the feed tells and what S and R hold. A tombstone has no names. */
struct node_state {
	struct id node;
	uint64_t seq; /* last commit that changed anything of it, its names included */
	enum kind kind;
	bool tomb;
	uint64_t c, a;
	struct content content; /* files */
	char *target; /* symlinks */
	uint32_t mode;
	int64_t mtime_ns;
	struct blob xattr;
	struct dentry *names;
	size_t names_count;
	struct id by_client; /* who made seq, ID_NONE: the server itself */
	uint64_t by_opno;
	bool has_data; /* content rides along: data_at, data_len in the raw part */
	uint64_t data_at, data_len;
};

void node_state_fini(struct node_state *n);
int node_state_copy(const struct node_state *from, struct node_state *ret_to); /* deep; 0 or -ENOMEM */

/* Where in n->names this name is, or -1. */
ssize_t node_state_name_find(const struct node_state *n, const struct id *parent, const char *name);

/* Gives the node this name, or its version to the name that it has; 0 or -ENOMEM. */
int node_state_name_add(struct node_state *n, const struct id *parent, const char *name, uint64_t l);
void node_state_name_remove(
	struct node_state *n, const struct id *parent, const char *name); /* nothing when it has not */

/* Where in the history of a tree: opaque to clients. Text form "EPOCH.SEQ.TAG" (hex.decimal.hex). */
struct cursor {
	struct id epoch;
	uint64_t seq;
	uint64_t tag; /* hash chain up to seq; 0 at seq 0 */
};

#define CURSOR_TEXT_BYTES 80
char *cursor_to_text(const struct cursor *c, char *text); /* text[CURSOR_TEXT_BYTES] */
int cursor_from_text(const char *text, size_t len, struct cursor *ret_cursor); /* -EINVAL */

#endif
