"""Starts the processes of shm_actors.py and ends them, whatever a test does."""

import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PATIENCE_S = 120.0
"""How long an actor may take on a machine that is busy with other things; never waited for when all is well."""


def seed() -> int:
    """A seed for one test, printed so that a failure can be repeated with LIQMAP_SEED."""
    chosen = int(os.environ.get("LIQMAP_SEED") or random.SystemRandom().randrange(2**32))
    sys.stdout.write(f"LIQMAP_SEED={chosen}\n")
    return chosen


class Actor:
    """One running act."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process

    def line(self) -> str:
        """The next line it says."""
        assert self.process.stdout is not None
        text = self.process.stdout.readline().strip()
        assert text, f"it ended with {self.process.wait(PATIENCE_S)}"
        return text

    def result(self) -> dict[str, Any]:
        """Wait for what it says at its end."""
        said: dict[str, Any] = json.loads(self.line())
        return said

    def leave(self) -> int:
        """Let it exit in order; its exit code."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        return self.process.wait(PATIENCE_S)

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self.process.kill()
        self.process.wait(PATIENCE_S)


@contextmanager
def actor(act: str, *arguments: object, within: tuple[str, ...] = (), errors: Path | None = None) -> Iterator[Actor]:
    """Run an act as `python -W error -m tests.fault.shm_actors`; it is killed if it still runs at the end.

    `within`: a command to run it in, like unshare; `errors`: a file for its stderr.
    """
    command = [*within, sys.executable, "-W", "error", "-m", "tests.fault.shm_actors", act, json.dumps(arguments)]
    with (errors or Path(os.devnull)).open("ab") as sink:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=sink if errors else None,
            text=True,
        )
    with process:
        try:
            yield Actor(process)
        finally:
            process.kill()
