"""What the allocator keeps, read from itself in a process of its own."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from usrland import heap

SCRIPT = """
import ctypes, sys, threading
from usrland import heap

if sys.argv[1] == "share":
    heap.share()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
libc.open_memstream.restype = ctypes.c_void_p
libc.malloc_info.argtypes = [ctypes.c_int, ctypes.c_void_p]
libc.fflush.argtypes = [ctypes.c_void_p]
together = threading.Barrier(8)

def take():
    taken = [libc.malloc(50_000) for _ in range(400)]
    for place in taken:
        ctypes.memset(place, 1, 50_000)
    last = libc.malloc(64)  # holds what is below it
    together.wait()
    for place in taken:
        libc.free(place)

threads = [threading.Thread(target=take) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
if sys.argv[1] == "give back":
    heap.give_back()
text, size = ctypes.c_char_p(), ctypes.c_size_t()
stream = libc.open_memstream(ctypes.byref(text), ctypes.byref(size))
libc.malloc_info(0, stream)
libc.fflush(stream)
print(text.value.decode().count("<heap nr="))
print(open("/proc/self/statm").read().split()[1])
"""


def told(what: str) -> tuple[int, int]:
    """How many heaps there are, and pages in memory."""
    said = subprocess.run([sys.executable, "-c", SCRIPT, what], capture_output=True, text=True, check=True).stdout
    heaps, pages = re.findall(r"\d+", said)
    return int(heaps), int(pages)


@pytest.mark.skipif(heap._libc is None, reason="another C library")
def test_threads_share_heaps_and_what_is_free_is_given_back() -> None:
    heaps, pages = told("nothing")
    shared, _ = told("share")
    _, left = told("give back")

    assert shared <= heap.ARENAS < heaps
    assert left < pages / 2
