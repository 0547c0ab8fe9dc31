#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the messages of this folder: DECODER-REASON.bin must be refused with the text that reasons.tsv says,
DECODER-valid.bin, from which the others differ in one point, must be taken. Run it after a change, in this folder."""

import copy
import json
import struct

N1, N2, ROOT = "11" * 16, "22" * 16, "0" * 31 + "1"
H = "ab" * 32
CURSOR = "44" * 16 + ".7.00000000000000aa"
reasons = []


def frame(obj, raw=b""):
    text = obj if isinstance(obj, bytes) else json.dumps(obj).encode()
    return struct.pack(">I", len(text)) + text + raw


def write(name, data, reason):
    with open(name + ".bin", "wb") as f:
        f.write(data)
    reasons.append((name, reason))


def create(opno=1, **more):
    return {"op": "create", "opno": opno, "node": N1, "kind": "file", "parent": N2, "name": "a", "mode": 0o644,
            "mtime": 5, "size": 3, "hash": H, "data": [0, 3]} | more


def batch(*ops, **more):
    return {"client": N1, "run": N2, "acked_opno": 0, "ops": list(ops)} | more


def without(op, *keys):
    return {k: v for k, v in op.items() if k not in keys}


def text_of(op, old, new):
    t = json.dumps(batch(op)).encode()
    assert t.count(old) == 1, (old, t)
    return t.replace(old, new)


RAW = b"xyz"
BATCHES = {
    "op-no-opno": (batch(without(create(), "opno")), "missing"),
    "op-no-node": (batch(without(create(), "node")), "missing"),
    "op-no-name": (batch(without(create(), "name")), "missing"),
    "op-no-content": (batch(without(create(), "data")), "data or manifest"),
    "data-and-manifest": (batch(create(size=0, data=[0, 0], manifest=[0, 0])), "data or manifest"),
    "name-dotdot": (batch(create(name="..")), "not a valid name"),
    "name-slash": (batch(create(name="a/b")), "not a valid name"),
    "name-empty": (batch(create(name="")), "not a valid name"),
    "name-256-bytes": (batch(create(name="n" * 256)), "not a valid name"),
    "name-nul": (batch(create(name="a\0b")), "\\u0000"),
    "name-b64-nul": (batch(without(create(name_b64="YQBi"), "name")), "not a valid name"),
    "name-b64-wrong": (batch(without(create(name_b64="YQ"), "name")), "not base64"),
    "name-twice": (batch(create(name_b64="/w==")), "given twice"),
    "name-reserved": (batch(create(parent=ROOT, name=".syncfs")), "reserved name"),
    "mode-04755": (batch(create(mode=0o4755)), "mode: out of range"),
    "mode-negative": (batch(create(mode=-1)), "mode: out of range"),
    "mode-float": (batch(create(mode=420.0)), "mode: not an integer"),
    "mode-string": (batch(create(mode="0644")), "mode: not an integer"),
    "mtime-null": (batch(create(mtime=None)), "mtime: not an integer"),
    "kind-device": (batch(create(kind="fifo")), "unknown word"),
    "op-unknown": (batch(create(op="truncate")), "unknown word"),
    "hash-short": (batch(create(hash=H[:-2])), "not a hash"),
    "hash-upper-case": (batch(create(hash=H.upper())), "not a hash"),
    "id-zero": (batch(create(node="0" * 32)), "not an id"),
    "id-short": (batch(create(parent="12")), "not an id"),
    "data-past-end": (batch(create(data=[1, 3])), "outside the raw part"),
    "data-overflow": (batch(create(data=[2**63 - 1, 3])), "outside the raw part"),
    "data-negative": (batch(create(data=[-1, 3])), "not [at,len]"),
    "data-not-size": (batch(create(size=2)), "not of the size"),
    "data-shared": (batch(create(1), create(2)), "overlap"),
    "manifest-odd": (batch(without(create(manifest=[0, 3]), "data")), "whole number"),
    "size-huge": (batch(create(size=2**63 - 1)), "size: out of range"),
    "opno-gap": (batch(create(1, size=0, data=[0, 0]), create(3, size=0, data=[0, 0])), "not dense"),
    "opno-zero": (batch(create(0)), "not dense"),
    "opno-same": (batch(create(1, size=0, data=[0, 0]), create(1, size=0, data=[0, 0])), "not dense"),
    "setattr-nothing": (batch({"op": "setattr", "opno": 1, "node": N1}), "setattr of nothing"),
    "base-min": (batch({"op": "rmdir", "opno": 1, "node": N1, "parent": N2, "name": "d", "base_l": -2**63}),
                 "base_l: out of range"),
    "exchange-no-other": (batch({"op": "exchange", "opno": 1, "node": N1, "parent": N2, "name": "d",
                                 "new_parent": N2, "new_name": "e"}), "other: missing"),
    "target-long": (batch({"op": "create", "opno": 1, "node": N1, "kind": "symlink", "parent": N2, "name": "l",
                           "target": "t" * 4096}), "target: empty, too long"),
    "target-missing": (batch({"op": "create", "opno": 1, "node": N1, "kind": "symlink", "parent": N2,
                              "name": "l"}), "target: missing"),
    "xattr-trusted": (batch(create(xattr={"trusted.x": ""})), "not mirrored"),
    "xattr-computed": (batch(create(xattr={"user.syncfs.state": ""})), "not mirrored"),
    "xattr-bare-prefix": (batch(create(xattr={"user.": ""})), "not mirrored"),
    "xattr-long-name": (batch(create(xattr={"user." + "x" * 251: ""})), "not mirrored"),
    "xattr-value-wrong": (batch(create(xattr={"user.x": "="})), "no base64"),
    "xattr-value-number": (batch(create(xattr={"user.x": 1})), "no string"),
    "xattr-twice": (batch(create(xattr={"user.x": ""}, xattr_b64=[["dXNlci54", ""]])), "given twice"),
    "xattr-too-much": (batch(create(xattr={"user.x%d" % i: "A" * 40000 for i in range(3)})), "more than"),
    "xattr-array": (batch(create(xattr=[])), "not an object"),
    "label-long": (batch(create(), label="l" * 65), "too long"),
    "ops-object": (batch() | {"ops": {}}, "not an array"),
    "ops-missing": (without(batch(), "ops"), "ops: missing"),
    "op-number": (batch() | {"ops": [1]}, "not an object"),
    "client-missing": (without(batch(create()), "client"), "client: missing"),
    "root-array": ([], "no JSON object"),
    "ops-4097": (batch(*[{"op": "x"}] * 4097), "4097 items"),
    "key-twice": (text_of(create(), b'"mode": 420', b'"mode": 420, "mode": 420'), "duplicate"),
    "bytes-behind": (json.dumps(batch(create())).encode() + b"x", "end of file expected"),
    "utf8-wrong": (text_of(create(), b'"name": "a"', b'"name": "\xff"'), "unable to decode"),
    "utf8-surrogate": (text_of(create(), b'"name": "a"', b'"name": "\\ud800"'), "invalid Unicode"),
    "integer-over-64-bits": (text_of(create(), b'"mtime": 5', b'"mtime": 9223372036854775808'), "big"),
    "depth-33": (text_of(create(), b'"mtime": 5', b'"x": ' + b"[" * 30 + b"]" * 30), "deeper than 32"),
}

write("batch-valid", frame(batch(create()), RAW), "")
write("batch-valid-depth-32", frame(text_of(create(), b'"mtime": 5', b'"x": ' + b"[" * 29 + b"]" * 29), RAW), "")
for name, (message, reason) in BATCHES.items():
    write("batch-" + name, frame(message, RAW), reason)
good = frame(batch(create()), RAW)
write("batch-frame-no-length", good[:3], "without length")
write("batch-frame-cut", good[:40], "frame cut")
write("batch-frame-empty", b"", "without length")

CHANGE = {"node": N1, "seq": 7, "kind": "file", "c": 7, "a": 7, "size": 3, "hash": H, "mode": 420, "mtime": 1,
          "names": [{"parent": N2, "name": "a", "l": 7}], "data": [0, 3]}


def page(**more):
    return {"from": CURSOR, "cursor": CURSOR, "more": False, "changes": [CHANGE | more]}


write("page-valid", frame(page(), RAW), "")
write("page-name-dotdot", frame(page(names=[{"parent": N2, "name": "..", "l": 1}]), RAW), "not a valid name")
write("page-name-number", frame(page(names=[1]), RAW), "missing")
write("page-tomb-names", frame(page(tomb=True), RAW), "tombstone")
write("page-tomb-number", frame(page(tomb=1), RAW), "not a boolean")
write("page-seq-negative", frame(page(seq=-1), RAW), "out of range")
write("page-data-past-end", frame(page(data=[0, 4]), RAW), "outside the raw part")
write("page-xattr-computed", frame(page(xattr={"user.syncfs.x": ""}), RAW), "not mirrored")
write("page-cursor-missing", frame(without(page(), "cursor"), RAW), "cursor: missing")
write("page-cursor-wrong", frame(page() | {"cursor": CURSOR[:-1]}, RAW), "not a cursor")
write("page-valid-want", frame(page() | {"want": [H] * 256}, RAW), "")
write("page-want-257", frame(page() | {"want": [H] * 257}, RAW), "257 items")
write("page-want-object", frame(page() | {"want": {}}, RAW), "not an array")
write("page-want-number", frame(page() | {"want": [1]}, RAW), "not a hash")
write("page-want-short", frame(page() | {"want": [H[:-1]]}, RAW), "not a hash")

RESULTS = [{"opno": 1, "result": "ok", "seq": 4, "c": 4, "l": 4, "a": 4, "node": N1},
           {"opno": 2, "result": "missing", "hashes": [H]}]


def reply(i, **more):
    results = copy.deepcopy(RESULTS)
    results[i].update(more)
    return json.dumps({"results": results, "cursor": CURSOR}).encode()


write("reply-valid", reply(0), "")
write("reply-result-unknown", reply(0, result="fine"), "unknown word")
write("reply-after-missing", reply(0, result="missing", hashes=[H]), "after a missing")
write("reply-opno-gap", reply(1, opno=3), "not dense")
write("reply-kept-no-name", reply(0, result="kept", parent=N2), "name: missing")
write("reply-kept-name-slash", reply(0, result="kept", parent=N2, name="a/b"), "not a valid name")
write("reply-missing-nothing", reply(1, hashes=[]), "empty")
write("reply-reject-no-code", reply(0, result="reject"), "code: missing")

write("chunks-valid", frame({"chunks": [[H, 1], [H, 2]]}, RAW), "")
write("chunks-cut", frame({"chunks": [[H, 1], [H, 3]]}, RAW), "cut")
write("chunks-bytes-behind", frame({"chunks": [[H, 2]]}, RAW), "behind the last")
write("chunks-length-zero", frame({"chunks": [[H, 0], [H, 3]]}, RAW), "not [hash")
write("chunks-length-over", frame({"chunks": [[H, 262145]]}, RAW), "not [hash")
write("chunks-no-pair", frame({"chunks": [[H]]}, RAW), "not [hash")
write("hashes-valid", json.dumps({"hashes": [H]}).encode(), "")
write("hashes-number", json.dumps({"hashes": [1]}).encode(), "not a hash")
write("hashes-8193", json.dumps({"hashes": [1] * 8193}).encode(), "8193 items")

with open("reasons.tsv", "w") as f:
    f.writelines("%s\t%s\n" % r for r in reasons)
