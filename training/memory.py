"""Keep freed memory in the process instead of giving it back to the kernel every step.

A training step on a CPU frees and asks again for hundreds of MB of activations. By default glibc
maps and unmaps each large block, and the kernel zeroes every page anew: measured on 2 cores with
`small` at batch 128, half of the machine's time went to the kernel. Source: mallopt(3).
"""

from __future__ import annotations

import ctypes
import platform

_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_KEEP_BYTES = 2**31 - 1
_MMAP_FROM_BYTES = 2**30


def keep_freed_memory() -> bool:
    """Raise glibc's thresholds; False where the C library is another one."""
    if platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    kept = libc.mallopt(_M_TRIM_THRESHOLD, _KEEP_BYTES)
    mapped = libc.mallopt(_M_MMAP_THRESHOLD, _MMAP_FROM_BYTES)
    return bool(kept and mapped)
