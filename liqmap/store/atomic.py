"""Atomic replacement of a small file: a reader, or a start after a crash at any byte, finds the old or the new one.

Nothing is swallowed: every failure is an OSError of the caller, and the old file is then still whole.
"""

import os
from pathlib import Path


def write_atomic(path: Path, content: bytes) -> None:
    """Replace the file at `path`. The content is on disk before the name is; the name is on disk at return.

    Raises OSError; the scratch file beside `path` is then removed.
    """
    scratch = write_scratch(path, content)
    try:
        scratch.replace(path)
    except OSError:
        scratch.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def write_scratch(path: Path, content: bytes, *, sync: bool = True) -> Path:
    """The content, whole, in a file beside `path` that may take its place. `sync`: on disk, not only with the kernel.

    Raises OSError; the scratch file is then removed.
    """
    scratch = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        with scratch.open("wb") as file:
            file.write(content)
            file.flush()
            if sync:
                os.fsync(file.fileno())
    except OSError:
        scratch.unlink(missing_ok=True)
        raise
    return scratch


def sync_directory(directory: Path) -> None:
    """Names in this directory are on disk at return. Raises OSError."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
