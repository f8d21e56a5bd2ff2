"""Memory as the C library hands it out."""

from __future__ import annotations

import ctypes
import platform

# The numbers that glibc's malloc.h gives to what mallopt sets.
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4


def keep_freed_memory() -> bool:
    """Let the C library keep what tensors free for the next ones; say whether it could be told.

    By default large tensors are given back to the kernel when they are freed, and each new one is zeroed page by page
    when it is first touched: on a CPU this took longer than most of what is computed with them. It holds for the whole
    process, which then keeps the most memory that it ever had.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(_MMAP_MAX, 0) and mallopt(_TRIM_THRESHOLD, 2**31 - 1))
