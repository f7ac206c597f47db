# ckpt_now() from Python, by ctypes: the same program runs without the library. A 32-bit Python, that is.
#
#   LD_PRELOAD=$PWD/build/libselfckpt.so python3 examples/now_python.py
import ctypes
import os
import sys

program = ctypes.CDLL(None, use_errno=True)  # what is loaded into this process


def call(name, otherwise):
    """A function of the library; without it the result is `otherwise`. They take nothing and return an int."""
    function = getattr(program, name, None)
    return function() if function else otherwise


def say(*words):
    print(*words, file=sys.stderr, flush=True)


def checkpoint(step):
    generation = call("ckpt_now", -1)
    if generation > 0:
        say(f"step {step}: generation {generation} is written")
    elif generation == 0:
        say(f"step {step}: restarted from generation {call('ckpt_generation', 0)}")
    else:
        say(f"step {step}: no checkpoint: {os.strerror(ctypes.get_errno())}")


available = call("ckpt_available", 0) == 1
if not available:
    say("runs without checkpoints: libselfckpt.so is not loaded")
total = 1
for step in range(1, 400001):
    total = (total * 1664525 + 1013904223) % 2**32
    if available and step % 100000 == 0:
        checkpoint(step)
print(total, flush=True)
