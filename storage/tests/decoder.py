#!/usr/bin/env python3
"""Decodes a shard directory from what FORMAT.md says, with nothing of the engine: `decoder.py DIR` prints JSON lines.

First the positions of the topics, then every record in the order of the log. Anything that does not verify ends it
with an error. Payloads stored by a codec generation are given as stored bytes.
"""

import json
import os
import struct
import sys

M64, M128 = (1 << 64) - 1, (1 << 128) - 1
P32 = (0x9E3779B1, 0x85EBCA77, 0xC2B2AE3D)
P64 = (0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5)
MX1, MX2 = 0x165667919E3779F9, 0x9FB21C651E98DF25
SECRET = bytes.fromhex(
    "b8fe6c3923a44bbe7c01812cf721ad1cded46de9839097db7240a4a4b7b3671fcb79e64eccc0e578825ad07dccff7221b8084674f743248e"
    "e03590e6813a264c3c2852bb91c300cb88d0658b1b532ea371644897a20df94e3819ef46a9deacd8a8fa763fe39c343ff9dcbbc7c70b4f1d"
    "8a51e04bcdb45931c89f7ec9d9787364eac5ac8334d3ebc3c581a0fffa1363eb170ddd51b7f0da49d316552629d4689e2b16be587d47a1fc"
    "8ff8b8d17ad031ce45cb3a8f95160428afd7fbcabb4b407e"
)


def u32(b, at=0):
    return int.from_bytes(b[at:at + 4], "little")


def u64(b, at=0):
    return int.from_bytes(b[at:at + 8], "little")


def swap32(x):
    return int.from_bytes(x.to_bytes(4, "little"), "big")


def swap64(x):
    return int.from_bytes(x.to_bytes(8, "little"), "big")


def fold(a, b):
    product = a * b
    return (product & M64) ^ (product >> 64)


def avalanche(h):
    h ^= h >> 37
    h = h * MX1 & M64
    return h ^ (h >> 32)


def avalanche64(h):
    h ^= h >> 33
    h = h * P64[1] & M64
    h ^= h >> 29
    h = h * P64[2] & M64
    return h ^ (h >> 32)


def mix16(b, at, secret, s, seed):
    return fold(u64(b, at) ^ (u64(secret, s) + seed & M64), u64(b, at + 8) ^ (u64(secret, s + 8) - seed & M64))


def seeded_secret(seed):
    words = [u64(SECRET, at) for at in range(0, 192, 8)]
    return b"".join(((w + seed if i % 2 == 0 else w - seed) & M64).to_bytes(8, "little") for i, w in enumerate(words))


def accumulate(b, secret):
    """The accumulators of an input of more than 240 bytes."""
    acc = [P32[2], P64[0], P64[1], P64[2], P64[3], P32[1], P64[4], P32[0]]
    unpack = struct.Struct("<8Q").unpack_from
    keys = [unpack(secret, 8 * i) for i in range(16)]
    scramble = unpack(secret, 192 - 64)
    whole = (len(b) - 1) // 64

    def stripe(at, key):
        data = unpack(b, at)
        for i in range(8):
            v = data[i]
            k = v ^ key[i]
            acc[i ^ 1] += v
            acc[i] += (k & 0xFFFFFFFF) * (k >> 32)

    for n in range(whole):
        stripe(n * 64, keys[n % 16])
        if n % 16 == 15:
            for i in range(8):
                a = acc[i] & M64
                acc[i] = ((a ^ (a >> 47)) ^ scramble[i]) * P32[0] & M64
    stripe(len(b) - 64, unpack(secret, 192 - 64 - 7))
    return [a & M64 for a in acc]


def merge(acc, secret, at, start):
    for i in range(4):
        start += fold(acc[2 * i] ^ u64(secret, at + 16 * i), acc[2 * i + 1] ^ u64(secret, at + 16 * i + 8))
    return avalanche(start & M64)


def xxh3_64(b):
    n, s = len(b), SECRET
    if n == 0:
        return avalanche64(u64(s, 56) ^ u64(s, 64))
    if n <= 3:
        combined = b[0] << 16 | b[n >> 1] << 24 | b[-1] | n << 8
        return avalanche64(combined ^ u32(s) ^ u32(s, 4))
    if n <= 8:
        h = (u32(b, n - 4) + (u32(b) << 32)) ^ u64(s, 8) ^ u64(s, 16)
        rot = lambda x, r: (x << r | x >> (64 - r)) & M64
        h ^= rot(h, 49) ^ rot(h, 24)
        h = h * MX2 & M64
        h ^= (h >> 35) + n
        h = h * MX2 & M64
        return h ^ (h >> 28)
    if n <= 16:
        lo = u64(b) ^ u64(s, 24) ^ u64(s, 32)
        hi = u64(b, n - 8) ^ u64(s, 40) ^ u64(s, 48)
        return avalanche(n + swap64(lo) + hi + fold(lo, hi) & M64)
    acc = n * P64[0]
    if n <= 128:
        for i in range((n - 1) // 32, -1, -1):
            acc += mix16(b, 16 * i, s, 32 * i, 0) + mix16(b, n - 16 * (i + 1), s, 32 * i + 16, 0)
        return avalanche(acc & M64)
    if n <= 240:
        for i in range(8):
            acc += mix16(b, 16 * i, s, 16 * i, 0)
        acc = avalanche(acc & M64)
        for i in range(8, n // 16):
            acc += mix16(b, 16 * i, s, 16 * (i - 8) + 3, 0)
        return avalanche(acc + mix16(b, n - 16, s, 136 - 17, 0) & M64)
    return merge(accumulate(b, s), s, 11, n * P64[0] & M64)


def xxh3_128(b, seed):
    n, s = len(b), SECRET
    if n == 0:
        low = avalanche64(seed ^ u64(s, 64) ^ u64(s, 72))
        return low | avalanche64(seed ^ u64(s, 80) ^ u64(s, 88)) << 64
    if n <= 3:
        lo = b[0] << 16 | b[n >> 1] << 24 | b[-1] | n << 8
        hi = swap32(lo)
        hi = (hi << 13 | hi >> 19) & 0xFFFFFFFF
        low = avalanche64(lo ^ ((u32(s) ^ u32(s, 4)) + seed & M64))
        return low | avalanche64(hi ^ ((u32(s, 8) ^ u32(s, 12)) - seed & M64)) << 64
    if n <= 8:
        seed ^= swap32(seed & 0xFFFFFFFF) << 32
        keyed = (u32(b) + (u32(b, n - 4) << 32)) ^ ((u64(s, 16) ^ u64(s, 24)) + seed & M64)
        m = keyed * (P64[0] + (n << 2) & M64)
        low, high = m & M64, m >> 64
        high = high + (low << 1) & M64
        low ^= high >> 3
        low = (low ^ low >> 35) * MX2 & M64
        return low ^ low >> 28 | avalanche(high) << 64
    if n <= 16:
        flip_lo = (u64(s, 32) ^ u64(s, 40)) - seed & M64
        flip_hi = (u64(s, 48) ^ u64(s, 56)) + seed & M64
        lo, hi = u64(b), u64(b, n - 8)
        m = (lo ^ hi ^ flip_lo) * P64[0]
        low, high = m & M64, m >> 64
        low = low + ((n - 1) << 54) & M64
        hi ^= flip_hi
        high = high + hi + (hi & 0xFFFFFFFF) * (P32[1] - 1) & M64
        low ^= swap64(high)
        h = low * P64[1]
        high = (h >> 64) + high * P64[1] & M64
        return avalanche(h & M64) | avalanche(high) << 64
    if n <= 240:
        return middle_128(b, seed)
    secret = seeded_secret(seed)
    acc = accumulate(b, secret)
    low = merge(acc, secret, 11, n * P64[0] & M64)
    return low | merge(acc, secret, 192 - 64 - 11, ~(n * P64[1]) & M64) << 64


def middle_128(b, seed):
    n = len(b)
    low, high = n * P64[0] & M64, 0

    def mix32(first, second, at, seed):
        nonlocal low, high
        low = (low + mix16(b, first, SECRET, at, seed) & M64) ^ (u64(b, second) + u64(b, second + 8) & M64)
        high = (high + mix16(b, second, SECRET, at + 16, seed) & M64) ^ (u64(b, first) + u64(b, first + 8) & M64)

    if n <= 128:
        for i in range((n - 1) // 32, -1, -1):
            mix32(16 * i, n - 16 * (i + 1), 32 * i, seed)
    else:
        for i in range(4):
            mix32(32 * i, 32 * i + 16, 32 * i, seed)
        low, high = avalanche(low), avalanche(high)
        for i in range(4, n // 32):
            mix32(32 * i, 32 * i + 16, 3 + 32 * (i - 4), seed)
        mix32(n - 16, n - 32, 136 - 17 - 16, -seed & M64)
    first = avalanche(low + high & M64)
    second = low * P64[0] + high * P64[3] + ((n - seed) & M64) * P64[1]
    return first | (-avalanche(second & M64) & M64) << 64


def check(holds, what):
    if not holds:
        raise SystemExit(f"{what}")


def manifest(path):
    line, _, content = open(path, "rb").read().partition(b"\n")
    magic, number, checksum = line.decode().split(" ")
    check(magic == "forebay-shard" and int(number) in (1, 2), f"{path}: first line")
    check(int(checksum, 16) == xxh3_64(content), f"{path}: checksum")
    return json.loads(content)


def position(b, topic):
    number, reserved, offset, ingest = struct.unpack("<H6sqq", b)
    check(number == topic and reserved == bytes(6), "a position")
    return offset, ingest


def hole_before(listed, number):
    return next((h for h in listed["removed"] if h["to"] + 1 == number and h["first_sequence"]), None)


class Log:
    """The log of a shard, segment after segment."""

    def __init__(self, dir):
        self.dir, self.listed = dir, manifest(os.path.join(dir, "MANIFEST"))
        self.listed.setdefault("removed", [])
        self.shard = bytes.fromhex(self.listed["shard"])
        self.seed = u64(self.shard)
        self.sequence, self.sum = None, 0
        self.positions, self.records = [], []

    def read(self):
        gone = {n for h in self.listed["removed"] for n in range(h["from"], h["to"] + 1)}
        for number in range(self.listed["first_segment"], self.listed["last_segment"] + 1):
            if number not in gone:
                self.segment(number)
        check((self.sequence or 0) >= self.listed["durable_sequence"], "the log ends before what was synced")

    def segment(self, number):
        path = os.path.join(self.dir, f"{number:06}.seg")
        b = open(path, "rb").read()
        magic, fmt, own, shard, capacity, previous, first, stream, _, own_sum = struct.unpack_from(
            "<8sII16sQQQI60sQ", b)
        check(magic == b"FBYSEGMT" and fmt in (1, 2) and own == number and shard == self.shard, f"{path}: header")
        check(own_sum == xxh3_64(b[:120]) and stream == 0 and len(b) <= capacity, f"{path}: header")
        if first == 0:
            return
        if self.sequence is None:
            self.sequence, self.sum = first - 1, previous
        hole = hole_before(self.listed, number)
        if hole:
            check((hole["previous"], hole["first_sequence"]) == (self.sum, self.sequence + 1), f"{path}: hole")
            self.sequence, self.sum = first - 1, previous
        check((previous, first) == (self.sum, self.sequence + 1), f"{path}: does not follow")
        at, here, base, begun = 128, len(self.records), None, self.sequence + 1
        while b[at:at + 8] == b"FBYFRAME":
            at = self.frame(b, at, number, path)
            base = max(p[1] for p in self.positions) if base is None else base
        footer = b[-128:-120] == b"FBYFOOT2" and len(b) == capacity
        if footer:
            self.footer(b, path, number, begun, at, base, self.records[here:])
        else:
            check(not any(b[at:]) or b[-128:-120] == b"FBYFOOTR", f"{path}: something follows the frames")

    def frame(self, b, at, number, path):
        where = f"{path} byte {at}"
        (_, body_sum, shard, sequence, previous, durable, size, count, topics, _, head_sum) = struct.unpack_from(
            "<8sQ16sQQQIIH6sQ", b, at)
        check(head_sum == xxh3_64(b[at:at + 72]), f"{where}: head_sum")
        body = b[at + 80:at + 80 + size]
        check(body_sum == xxh3_64(body) and shard == self.shard, f"{where}: body_sum")
        check((sequence, previous) == (self.sequence + 1, self.sum) and durable < sequence, f"{where}: chain")
        self.sequence, self.sum = sequence, head_sum
        self.positions = [position(body[24 * t:24 * t + 24], t) for t in range(topics)]
        inside = 24 * topics
        for _ in range(count):
            inside += self.record(body[inside:], at + 80 + inside, number, path)
        check(inside == size, f"{where}: its records do not fill it")
        return at + 80 + size

    def record(self, b, at, number, path):
        where = f"{path} byte {at}"
        (head_sum, payload_sum, entity_hash, event, ingest, expiry, offset, prev, jump, late, depth, size, codec, view,
         topic, entity_len, kind, flags, reserved) = struct.unpack_from("<IIQqqqqQQQIIIHHBBB5s", b)
        end = 96 + entity_len
        check(head_sum == xxh3_64(b[4:end]) & 0xFFFFFFFF, f"{where}: head_sum")
        entity, payload = b[96:end], b[end:end + size]
        check(payload_sum == xxh3_64(payload) & 0xFFFFFFFF, f"{where}: payload_sum")
        coding = ("raw", "zstd", "shape")[flags >> 2 & 3]
        check((codec == 0) == (coding == "raw") and flags < 16 and reserved == bytes(5), f"{where}: flags")
        check(max(prev, jump, late) < number << 40 | at, f"{where}: a pointer leads onwards")
        text = payload.decode("latin-1") if coding == "raw" else payload.hex()
        self.records.append({
            "location": number << 40 | at, "view": view, "entity": entity.hex(),
            "kind": ("value", "tombstone")[kind], "event_time_ms": event, "ingest_time_ms": ingest,
            "expiry_ms": expiry, "topic": topic, "offset": offset, "prev": prev, "jump": jump, "late": late,
            "depth": depth, "flags": flags, "codec": codec, "coding": coding, "payload": text,
            "entity_hash": entity_hash,
        })
        return (end + size + 7) // 8 * 8

    def footer(self, b, path, number, first, end, base, records):
        (_, shard, own, entries, topics, _, first_sequence, last_sequence, last_sum, frames_end, max_expiry, base_ms,
         reserved, entries_sum, own_sum) = struct.unpack("<8s16sIII4sQQQQqq24sQQ", b[-128:])
        at = len(b) - 128 - 24 * topics
        check(own_sum == xxh3_64(b[at:-8]), f"{path}: the footer's sum")
        listed = b[at - 32 * entries:at]
        check(entries_sum == xxh3_64(listed), f"{path}: the footer's entries_sum")
        check((shard, own, first_sequence, last_sequence) == (self.shard, number, first, self.sequence)
              and (last_sum, frames_end, base_ms, reserved) == (self.sum, end, base, bytes(24)), f"{path}: trailer")
        check(max_expiry == max((r["expiry_ms"] for r in records), default=-1 << 63), f"{path}: max_expiry_ms")
        check([position(b[at + 24 * t:at + 24 * t + 24], t) for t in range(topics)] == self.positions, path)
        check(entries == len(records), f"{path}: entry_count")
        for record, entry in zip(records, struct.iter_unpack("<QQqIHBB", listed)):
            full = xxh3_128(bytes.fromhex(record["entity"]), self.seed)
            wanted = (full & M64, full >> 64, record["event_time_ms"], (record["location"] & (1 << 40) - 1) // 8,
                      record["view"], record["flags"], 0)
            check(entry == wanted, f"{path}: the entry of {record}: {entry}")
            check(record["entity_hash"] == full & M64, f"{path}: entity_hash of {record}")


def main(dir):
    log = Log(dir)
    log.read()
    for topic, (offset, ingest) in enumerate(log.positions):
        print(json.dumps({"topic": topic, "position": offset, "ingest_time_ms": ingest}))
    for record in log.records:
        print(json.dumps(record))


if __name__ == "__main__":
    main(sys.argv[1])
