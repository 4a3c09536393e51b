"""What can go wrong with shared memory, as types a caller can tell apart.

SharedMemoryFault
 ├─ SegmentMissing        nothing of that name (yet, or any more): try again later
 │   └─ SegmentRetired    it was put out of use: reopen by name
 ├─ LayoutMismatch        it exists, but is not what this program means by that name
 ├─ SegmentForeign        it belongs to another user
 ├─ SegmentHeld           a living owner holds it: another daemon of the same instance name
 ├─ SharedMemoryFull      /dev/shm has no room; says needed and free bytes
 ├─ WriterLockHeld        another process writes there; says its pid
 ├─ NeverPublished        a board without a first payload
 ├─ BoardBusy             the writer lapped every attempt of a reader: answer 503, never spin
 └─ UnknownProcess        the status segment has no row of that name, or no row left

Every message is one line that an operator can act on.
"""


class SharedMemoryFault(Exception):
    """Any of the faults below."""


class SegmentMissing(SharedMemoryFault):
    """No segment of that name, or its owner is still making it."""


class SegmentRetired(SegmentMissing):
    """The segment was put out of use by its owner; a successor may exist under the same name."""


class LayoutMismatch(SharedMemoryFault):
    """Another layout version, role, geometry or payload type than the caller expects."""


class SegmentForeign(SharedMemoryFault):
    """The segment belongs to another user and cannot be used or removed."""


class SegmentHeld(SharedMemoryFault):
    """A living process owns the segment. `pid`: which one, as far as the segment says."""

    def __init__(self, name: str, pid: int) -> None:
        super().__init__(f"shared memory {name} is owned by the living process {pid}: is the same instance running?")
        self.name = name
        self.pid = pid


class SharedMemoryFull(SharedMemoryFault):
    """/dev/shm cannot hold what is asked for. Bytes; `free_bytes` is what is left for us."""

    def __init__(self, what: str, needed_bytes: int, free_bytes: int) -> None:
        super().__init__(
            f"/dev/shm is full: {what} needs {needed_bytes} bytes ({needed_bytes / 1e6:.1f} MB), "
            f"{free_bytes} bytes ({free_bytes / 1e6:.1f} MB) are free"
        )
        self.needed_bytes = needed_bytes
        self.free_bytes = free_bytes


class WriterLockHeld(SharedMemoryFault):
    """Another process holds the writer's lock. `pid`: who wrote itself into the file, 0 when unreadable."""

    def __init__(self, path: str, pid: int) -> None:
        super().__init__(f"{path} is held by process {pid}")
        self.path = path
        self.pid = pid


class NeverPublished(SharedMemoryFault):
    """The board has no payload yet."""


class BoardBusy(SharedMemoryFault):
    """Every bounded attempt was overwritten while it was being copied."""


class UnknownProcess(SharedMemoryFault):
    """No heartbeat row of that name, or no free row for it."""
