"""Whether this machine keeps stores and loads in program order, and what is done where it does not.

x86-64 shows every store to other cores in program order and never moves a load before an earlier load, and CPython
executes one statement after the other, so plain stores suffice there. Elsewhere boards and rows carry a checksum per
payload (set in the segment header by whoever creates it), and `fence()` stands where the order of the event ring's
words matters.
"""

import platform
import threading
from typing import Final

ORDERED: Final = platform.machine() in ("x86_64", "AMD64")
"""True where plain stores and loads are enough."""

_lock = threading.Lock()


def fence() -> None:
    """Order what stands before against what stands after, on machines that would not; nothing on x86-64.

    Two uncontended lock cycles: the release of the first and the acquire of the second, both on one atomic, cannot be
    passed by loads or stores of either side.
    """
    if not ORDERED:
        with _lock:
            pass
        with _lock:
            pass
