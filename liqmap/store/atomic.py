"""Atomic replacement of a small file: a reader, or a start after a crash at any byte, finds the old or the new one.

Nothing is swallowed: every failure is an OSError of the caller, and the old file is then still whole.
"""

import os
from pathlib import Path


def write_atomic(path: Path, content: bytes) -> None:
    """Replace the file at `path`. The content is on disk before the name is; the name is on disk at return.

    Raises OSError; the scratch file beside `path` is then removed.
    """
    scratch = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        with scratch.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(path)
    except OSError:
        scratch.unlink(missing_ok=True)
        raise
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
