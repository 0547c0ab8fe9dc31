#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the journal records and segment headers of this folder: REASON.bin must be refused, valid-*.bin, from which
the others differ in one point, must be taken; segment-* are headers. Run it after a change, in this folder."""

import struct

N1, N2, N3, N4, NONE = b"\x11" * 16, b"\x22" * 16, b"\x33" * 16, b"\x44" * 16, b"\0" * 16
IDENTITY = struct.pack("<QQq", 2049, 77, -5)
INTENT, DONE, DIRTY, CLOSED, ACKED, SEAL = range(1, 7)
CREATE, WRITE, RENAME, EXCHANGE = range(1, 5)


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def string(s):
    return struct.pack("<I", len(s)) + s


def frame(kind, payload, lsn=9, length=None, padding=None):
    body = struct.pack("<QB", lsn, kind) + payload
    body += b"\0" * (-len(body) % 8) if padding is None else padding
    length = len(body) + 8 if length is None else length
    return struct.pack("<II", length, crc32c(body)) + body


def intent(op=CREATE, kind=1, other=NONE, name=b"n", new_name=b"", target=b""):
    return frame(INTENT, struct.pack("<BB", op, kind) + N1 + other + N3 + N4 + IDENTITY + string(name) +
                 string(new_name) + string(target))


def header(magic=b"SYNCFSJ1", zeros=b"\0" * 20):
    h = magic + N1 + struct.pack("<QQ", 3, 1000) + zeros
    return h + struct.pack("<I", crc32c(h))


def write(name, data):
    with open(name + ".bin", "wb") as f:
        f.write(data)


def flipped(data, at):
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1:]


done = struct.pack("<QB", 8, 1) + IDENTITY
write("valid-intent", intent())
write("valid-exchange", intent(EXCHANGE, other=N2, new_name=b"m"))
write("valid-done", frame(DONE, done))
write("valid-acked", frame(ACKED, struct.pack("<IQQ", 2, 4, 5)))
write("valid-seal", frame(SEAL, b""))
write("valid-segment", header())

write("crc-flipped", flipped(intent(), 4))
write("payload-flipped", flipped(intent(), 40))
write("truncated", intent()[:-8])
write("length-short", frame(SEAL, b"", length=16))
write("length-odd", frame(SEAL, b"", length=23))
write("length-huge", frame(SEAL, b"", length=(1 << 20) + 8))
write("length-zero-crc-not", flipped(b"\0" * 24, 4))
write("type-zero", frame(0, b""))
write("type-seven", frame(7, b""))
write("bytes-behind", frame(SEAL, b"\0" * 8))
write("padding-not-zero", frame(SEAL, b"", padding=b"\0" * 6 + b"\1"))
write("payload-cut", frame(DONE, done[:-8]))
write("done-ok-two", frame(DONE, struct.pack("<QB", 8, 2) + IDENTITY))
write("acked-count-huge", frame(ACKED, struct.pack("<IQQ", 0xFFFFFFFF, 4, 5)))
write("acked-count-over", frame(ACKED, struct.pack("<IQQ", 3, 4, 5)))
write("op-zero", intent(0))
write("op-nine", intent(9))
write("kind-four", intent(kind=4))
write("name-missing", intent(name=b""))
write("new-name-missing", intent(RENAME))
write("exchange-alone", intent(EXCHANGE, new_name=b"m"))
write("name-256", intent(name=b"n" * 256))
write("name-slash", intent(name=b"a/b"))
write("name-dotdot", intent(name=b".."))
write("name-nul", intent(name=b"a\0b"))
past_end = struct.pack("<BB", CREATE, 1) + N1 + NONE + N3 + N4 + IDENTITY + struct.pack("<I", 400) + b"n"
write("name-past-end", frame(INTENT, past_end))
write("new-name-slash", intent(RENAME, new_name=b"/"))
write("target-4096", intent(kind=3, target=b"t" * 4096))
write("segment-magic", header(magic=b"SYNCFSJ2"))
write("segment-crc", flipped(header(), 60))
write("segment-number-flipped", flipped(header(), 24))
write("segment-zeros", b"\0" * 64)
write("segment-not-zero", header(zeros=b"\0" * 19 + b"\1"))
