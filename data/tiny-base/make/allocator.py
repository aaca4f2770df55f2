"""Memory that the C library holds after tensors of ever other sizes were freed, given back to the system."""

import ctypes
import sys


def give_back() -> bool:
    """Give free memory back; whether the system got any. Where the C library is not glibc nothing happens."""
    if not sys.platform.startswith("linux"):
        return False
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    return bool(trim and trim(0))
