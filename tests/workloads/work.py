# A few seconds of everything that an interpreter does: integers, floats, big numbers, strings,
# dictionaries, objects, generators, exceptions, the collector. The output depends on all of it.
import gc
import hashlib
import math
import random
import re
import sys
import zlib


class Node:
    def __init__(self, value, link):
        self.value = value
        self.link = link
        self.me = self  # a cycle, for the collector


def primes():
    found = []
    n = 2
    while True:
        if all(n % p for p in found if p * p <= n):
            found.append(n)
            yield n
        n += 1


def main():
    state = hashlib.sha256()
    rng = random.Random(12345)
    prime = primes()
    table = {}
    big = 1
    x = 0.5
    nodes = None
    for step in range(1, 301):
        for _ in range(12):
            p = next(prime)
            big = big * p + step
        for i in range(4000):
            key = "k%d" % (rng.randrange(20000))
            table[key] = table.get(key, 0) + i
            x = 3.9 * x * (1 - x)
        for i in range(500):
            nodes = Node(i, nodes if i % 50 else None)
        try:
            raise ValueError(step)
        except ValueError as e:
            big ^= e.args[0]
        words = " ".join(sorted(table)[: 200 + step])
        found = len(re.findall(r"k1[0-9]*5\b", words))
        packed = zlib.crc32(zlib.compress(words.encode() * 5, 9))
        state.update(("%x %r %d %d" % (big, x, found, packed)).encode())
        state.update(("%.17g" % math.sin(x * step)).encode())
        gc.collect()
        print(step, state.hexdigest()[:16], len(table), p, found, flush=True)
    return 7


sys.exit(main())
