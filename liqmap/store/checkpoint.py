"""Checkpoints: the whole state of something, as one file that is whole or recognised as broken, and the one before it.

    checkpoint/BTC.ckpt                 the newest
    checkpoint/BTC.ckpt.previous        the one before: used when the newest cannot be
    checkpoint/BTC.ckpt.refused         one that could not be used, for people to look at

    HEADER (24 bytes), facts (JSON), state (see `state_codec`)

A new one stands whole beside the others before a name changes, so that a kill at any moment leaves at least one whole
file. What is written while the market runs is not waited for on its way to the disk: a disk that answers late must not
hold the writer up, and after a power failure the CRCs tell a torn file from a whole one, the one before it is a minute
older, and the journal has the events since.
"""

import contextlib
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct

from liqmap.store.atomic import sync_directory, write_scratch
from liqmap.store.state_classes import StateDamaged, StateForeign
from liqmap.store.state_codec import StateCodec

MAGIC: Final = b"LQMAPCKP"
VERSION: Final = 1
SUFFIX: Final = ".ckpt"
PREVIOUS: Final = ".previous"
REFUSED: Final = ".refused"
_HEADER: Final = struct.Struct("<8sIIII")
"""magic, version, bytes of the facts, CRC-32 of the facts, CRC-32 of this header with 0 in this place."""


class Facts(Struct, frozen=True):
    """What can be told without the state. `about`: what it is the state of, in words; of another it is of no use."""

    about: dict[str, str]
    sequence: int
    engine_ns: int
    state_bytes: int
    state_crc: int


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A whole one. `sequence` and `engine_ns`: of the last event in it."""

    path: Path
    sequence: int
    engine_ns: int
    state: Any


@dataclass(frozen=True, slots=True)
class CheckpointFault:
    """Why a file is not used. `offset`: where in the file that shows."""

    path: Path
    offset: int
    why: str

    def __str__(self) -> str:
        return f"{self.path} at byte {self.offset}: {self.why}"


class CheckpointStore:
    """The checkpoints of one symbol. One process at a time (its writer lock)."""

    def __init__(self, directory: Path, symbol: str, codec: StateCodec, about: Mapping[str, str]) -> None:
        self._codec = codec
        self._about = dict(about)
        self._newest = directory / f"{symbol}{SUFFIX}"
        self._previous = self._newest.with_name(self._newest.name + PREVIOUS)

    def write(self, state: object, sequence: int, engine_ns: int, *, sync: bool = False) -> int:
        """Keep this state; its bytes. `sync`: wait until the disk has it. Raises OSError: then the old ones stand."""
        content = self._bytes_of(state, sequence, engine_ns)
        self._newest.parent.mkdir(parents=True, exist_ok=True)
        scratch = write_scratch(self._newest, content, sync=sync)
        try:
            if self._newest.exists():
                self._newest.replace(self._previous)
            scratch.replace(self._newest)
        except OSError:
            scratch.unlink(missing_ok=True)
            raise
        if sync:
            sync_directory(self._newest.parent)
        return len(content)

    def read(self) -> tuple[Checkpoint | None, list[CheckpointFault]]:
        """The newest one that is whole and ours, and why newer ones are not used. Those get another name, so that the
        next one that is written does not push out the good one. Raises nothing for what is in the files."""
        self._clear_scratch()
        faults: list[CheckpointFault] = []
        for path in (self._newest, self._previous):
            found = self._read(path)
            if isinstance(found, Checkpoint):
                return found, faults
            if found is not None:
                faults.append(found)
                with contextlib.suppress(OSError):  # a disk that takes no names takes no checkpoint either
                    path.replace(path.with_name(path.name + REFUSED))
        return None, faults

    def _bytes_of(self, state: object, sequence: int, engine_ns: int) -> bytes:
        body = self._codec.encode(state)
        facts = msgspec.json.encode(Facts(self._about, sequence, engine_ns, len(body), zlib.crc32(body)))
        crc = zlib.crc32(facts)
        head = zlib.crc32(_HEADER.pack(MAGIC, VERSION, len(facts), crc, 0))
        return b"".join((_HEADER.pack(MAGIC, VERSION, len(facts), crc, head), facts, body))

    def _read(self, path: Path) -> Checkpoint | CheckpointFault | None:
        try:
            data = path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            return CheckpointFault(path, 0, f"cannot be read: {error.strerror}")
        facts = _facts_of(path, data)
        if isinstance(facts, CheckpointFault):
            return facts
        for key in facts.about.keys() | self._about.keys():
            theirs, ours = facts.about.get(key, "nothing"), self._about.get(key, "nothing")
            if theirs != ours:
                return CheckpointFault(path, _HEADER.size, f"it is of {key} {theirs}, here it is {ours}")
        begin = len(data) - facts.state_bytes
        try:
            state = self._codec.decode(data[begin:])
        except (StateForeign, StateDamaged) as error:
            return CheckpointFault(path, begin, str(error))
        return Checkpoint(path, facts.sequence, facts.engine_ns, state)

    def _clear_scratch(self) -> None:
        """What a killed predecessor was about to write."""
        for left in self._newest.parent.glob(f".{self._newest.name}.*.new"):
            with contextlib.suppress(OSError):
                left.unlink(missing_ok=True)


def _facts_of(path: Path, data: bytes) -> Facts | CheckpointFault:
    """The facts of a file whose every byte is what was written."""
    if len(data) < _HEADER.size or not data.startswith(MAGIC):
        return CheckpointFault(path, 0, "it does not begin like a checkpoint")
    _, version, size, facts_crc, crc = _HEADER.unpack_from(data)
    if version != VERSION:
        return CheckpointFault(path, 8, f"it is of checkpoint version {version}, this program reads version {VERSION}")
    if zlib.crc32(_HEADER.pack(MAGIC, version, size, facts_crc, 0)) != crc:
        return CheckpointFault(path, 0, "its header is damaged")
    begin = _HEADER.size + size
    told = data[_HEADER.size : begin]
    if len(told) != size or zlib.crc32(told) != facts_crc:
        return CheckpointFault(path, _HEADER.size, "its facts are damaged")
    facts = msgspec.json.decode(told, type=Facts)
    if len(data) - begin != facts.state_bytes:
        why = f"its state has {len(data) - begin} bytes instead of {facts.state_bytes}"
        return CheckpointFault(path, len(data), why)
    if zlib.crc32(memoryview(data)[begin:]) != facts.state_crc:
        return CheckpointFault(path, begin, "its state is damaged")
    return facts
