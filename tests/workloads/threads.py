"""Threads that take work from one queue and hand results over by another: compression and checksums, which let go of
the interpreter's lock, and pure Python, which does not. The main thread prints the results in order."""
import hashlib
import queue
import threading
import zlib

WORKERS, ITEMS = 4, 1500
todo, done = queue.Queue(maxsize=8), queue.PriorityQueue()
turns = threading.local()
everyone = threading.Barrier(WORKERS)


def work(item):
    text = b" ".join(b"%d" % (item * i % 7919) for i in range(4000))
    packed = zlib.compress(text * 4, 9)
    assert zlib.decompress(packed) == text * 4
    digest = hashlib.sha256(packed).hexdigest()
    return "%s %d %d" % (digest[:16], len(packed), sum(int(c, 16) for c in digest))


def worker():
    turns.number = 0
    everyone.wait()
    while True:
        item = todo.get()
        if item is None:
            break
        turns.number += 1
        done.put((item, work(item)))
    everyone.wait()
    done.put((ITEMS + 1, turns.number))


threads = [threading.Thread(target=worker, name="worker %d" % i) for i in range(WORKERS)]
for thread in threads:
    thread.start()


def feed():
    for item in range(ITEMS):
        todo.put(item)
    for _ in threads:
        todo.put(None)


feeder = threading.Thread(target=feed)
feeder.start()
late = {}
for wanted in range(ITEMS):
    while wanted not in late:
        item, result = done.get(timeout=1000)
        late[item] = result
        if item > ITEMS:
            done.put((item, result))
    print(wanted, late.pop(wanted), flush=True)
for thread in threads + [feeder]:
    thread.join()
total = 0
while not done.empty():
    total += done.get()[1]
print("by all workers:", total, "threads left:", threading.active_count())
