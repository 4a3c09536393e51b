"""When an engine's whole state goes to disk: after each closed minute, and when the worker is asked to stop.

A disk that does not take it is told once, counted with each failure, and costs nothing but a longer way back: the
checkpoint before stands, and the journal has the events since.
"""

import dataclasses
import logging
from pathlib import Path
from typing import Final

from liqmap.domain.enums import Source
from liqmap.engine.engine import Engine
from liqmap.engine.spec import EngineSpec
from liqmap.logs import fields
from liqmap.store.checkpoint import CheckpointStore
from liqmap.store.state_classes import classes_in
from liqmap.store.state_codec import StateCodec

DIRECTORY: Final = "checkpoint"
"""Below the instance's lib directory."""

log = logging.getLogger(__name__)


def engine_codec() -> StateCodec:
    """Knows every class that an engine can be made of."""
    return StateCodec(classes_in("liqmap.domain", "liqmap.engine"))


def checkpoint_store(lib_dir: Path, spec: EngineSpec, source: Source) -> CheckpointStore:
    """The checkpoints of one symbol; those of another specification are of no use: its map would be another one."""
    about = {"source": source.name.lower()}
    about |= {field.name: repr(getattr(spec, field.name)) for field in dataclasses.fields(spec)}
    return CheckpointStore(lib_dir / DIRECTORY, spec.symbol, engine_codec(), about)


class Checkpointing:
    """Writes the checkpoints of one engine. `store` None: none are wanted (a replay)."""

    def __init__(self, store: CheckpointStore | None) -> None:
        self._store = store
        self._failing = False
        self.failures = 0
        """Checkpoints that the disk did not take."""

    def keep(self, engine: Engine, *, sync: bool = False) -> None:
        """Write the state as it is now. Only what is committed may be in it. Never raises for what a disk does."""
        if self._store is None or engine.born_ns < 0:
            return
        try:
            size = self._store.write(engine, engine.sequence, engine.engine_ns, sync=sync)
        except OSError:
            self.failures += 1
            if not self._failing:
                log.exception("a checkpoint cannot be written: the one before it stays, everything else goes on")
            self._failing = True
            return
        if self._failing:
            log.warning("checkpoints are written again", extra=fields(failures=self.failures))
        self._failing = False
        log.debug("a checkpoint is written", extra=fields(bytes=size, sequence=engine.sequence))
