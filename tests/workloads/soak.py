# soak.py ROUNDS: computes for a while; prints as it goes, keeps a file of which it overwrites and appends parts, and
# 10 MB of changing memory, so that an image takes a moment to write.
import hashlib
import os
import sys
import time

rounds = int(sys.argv[1])
blocks = [bytes([i % 251]) * 65536 for i in range(160)]
state = open("state", "w+b", buffering=0)
digest = hashlib.sha256(b"soak")
for n in range(rounds):
    for _ in range(20):
        digest.update(digest.digest() * 50)
        word = digest.digest()
        blocks[word[0] % len(blocks)] = word * 2048
    for block in blocks[::16]:
        digest.update(block)
    state.seek(0, os.SEEK_END)
    state.write(digest.digest())
    print(n, digest.hexdigest(), flush=True)
    time.sleep(0.02)
state.write(b"end")
print("end", hashlib.sha256(b"".join(blocks)).hexdigest(), flush=True)
