"""Lines of a plain or gzipped file, streamed, with everything that is intact even when the file is torn or damaged."""

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

_CHUNK_BYTES = 64 * 1024
_GZIP_MAGIC = b"\x1f\x8b"
_GZIP_WINDOW = 31


class Line(NamedTuple):
    """A line (counted from 1) without its end; or, as the last item, what was wrong with the file itself."""

    number: int
    text: bytes
    damage: str = ""


def read_lines(path: Path, max_line_bytes: int) -> Iterator[Line]:
    """The lines of `path`, decompressed when it begins like gzip.

    Damage ends the file early: it is the last item, after every line that could be saved. A line longer than
    `max_line_bytes` is given as damage too, and skipped. Raises OSError when the file cannot be read.
    """
    with path.open("rb") as file:
        zipped = file.read(2) == _GZIP_MAGIC
        file.seek(0)
        yield from _split(_inflated(file) if zipped else _plain(file), max_line_bytes)


class _Damage(Exception):
    pass


def _plain(file: BinaryIO) -> Iterator[bytes]:
    while chunk := file.read(_CHUNK_BYTES):
        yield chunk


def _inflated(file: BinaryIO) -> Iterator[bytes]:
    """Decompressed chunks of one or more gzip members. Raises _Damage after the last byte that can be had."""
    inflate = zlib.decompressobj(_GZIP_WINDOW)
    while chunk := file.read(_CHUNK_BYTES):
        while chunk:
            if inflate.eof:
                inflate = zlib.decompressobj(_GZIP_WINDOW)
            before = inflate.copy()
            try:
                plain = inflate.decompress(chunk)
            except zlib.error as error:
                yield from _last_bytes(before, chunk)
                raise _Damage(f"gzip data is damaged near byte {file.tell()}: {error}") from error
            if plain:
                yield plain
            chunk = inflate.unused_data
    if not inflate.eof:
        raise _Damage("gzip data ends before its end mark: the file is truncated")


def _last_bytes(inflate: "zlib._Decompress", chunk: bytes) -> Iterator[bytes]:
    """What a damaged chunk still gives, byte by byte."""
    for offset in range(len(chunk)):
        try:
            plain = inflate.decompress(chunk[offset : offset + 1])
        except zlib.error:
            return
        if plain:
            yield plain


def _split(chunks: Iterator[bytes], max_line_bytes: int) -> Iterator[Line]:
    number, rest, skipping, damage = 0, b"", False, ""
    while True:
        try:
            chunk = next(chunks)
        except StopIteration:
            break
        except _Damage as error:
            damage = str(error)
            break
        *whole, rest = (rest + chunk).split(b"\n")
        for text in whole:
            number += 1
            if skipping:
                skipping = False
            else:
                yield Line(number, text)
        if len(rest) > max_line_bytes:
            if not skipping:
                yield Line(number + 1, b"", f"line is longer than {max_line_bytes} bytes")
            skipping, rest = True, b""
    if damage:
        torn = f", {len(rest)} bytes of a torn line lost" if rest else ""
        yield Line(number + 1, b"", damage + torn)
    elif rest and not skipping:
        yield Line(number + 1, rest)
