"""`liqmap parse`: raw frames of a venue in, one JSON line per fact out, in order.

Example:
  liqmap parse --venue bybit capture.jsonl.gz
  websocat wss://ws.okx.com:8443/ws/v5/public | liqmap parse --venue okx -

A line of input is a frame, `<receive ns> <frame>`, a line of a capture, or `{"venue", "frame"}`; gzip is recognised.
Exit: 0 done, 1 a file cannot be read, 2 usage, 78 the configuration is wrong.
"""

import argparse
import gzip
import io
import os
import sys
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import orjson

from liqmap.cli.frame_answers import answers
from liqmap.cli.printed import BROKEN_PIPE, abandon
from liqmap.config import EXIT_CONFIG, Config, ConfigError, load
from liqmap.config.home import configuration_file
from liqmap.config.shipped import ShippedFileMissing
from liqmap.domain.enums import Venue
from liqmap.exchanges.adapter import Adapter, Listing, Malformed
from liqmap.exchanges.registry import ADAPTERS, VENUES_BY_NAME

UNREADABLE = 1
GZIP_MAGIC: Final = b"\x1f\x8b"
READING_FAULTS: Final = (OSError, EOFError, zlib.error)


@contextmanager
def _open(name: str) -> Iterator[io.BufferedIOBase]:
    """The bytes of a file or of standard input, unpacked where they are gzip. Raises OSError."""
    with ExitStack() as stack:
        source = 0 if name == "-" else name
        raw = stack.enter_context(open(source, "rb", closefd=name != "-"))
        packed = raw.peek(2)[:2] == GZIP_MAGIC
        yield stack.enter_context(gzip.GzipFile(fileobj=raw)) if packed else raw


def _listing(adapter: Adapter, name: str) -> Listing:
    with _open(name) as stream:
        return adapter.parse_listing(stream.read())


def _symbols(config: Config, venue: Venue) -> dict[str, str]:
    """The configured contracts of a venue, by their names there."""
    names = ((getattr(table.instruments, venue.name.lower()), symbol) for symbol, table in config.symbols.items())
    return {name: symbol for name, symbol in names if name is not None}


def _config(path: str | None) -> Config:
    if path is not None:
        return load(Path(path))
    found = configuration_file()
    return load(found) if found.exists() or "LIQMAP_CONFIG" in os.environ else Config()


def _arguments(given: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="liqmap parse", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--venue", required=True, choices=tuple(VENUES_BY_NAME), help="whose frames these are")
    parser.add_argument(
        "--instruments", metavar="FILE", help="the venue's own REST list of contracts (json or json.gz) instead of ours"
    )
    parser.add_argument(
        "-c", "--config", metavar="FILE", help="which symbols are configured (default: etc/liqmap.toml)"
    )
    parser.add_argument("file", metavar="FILE", help="raw frames, one a line; - reads standard input")
    return parser.parse_args(given)


def main(given: Sequence[str]) -> int:
    """The command."""
    arguments = _arguments(given)
    venue = VENUES_BY_NAME[arguments.venue]
    try:
        symbols = _symbols(_config(arguments.config), venue)
        listing = _listing(ADAPTERS[venue], arguments.instruments) if arguments.instruments else None
    except ConfigError as error:
        return _fail(str(error), EXIT_CONFIG)
    except ShippedFileMissing as error:
        return _fail(str(error), UNREADABLE)
    except Malformed as fault:
        where = f" at {fault.field}" if fault.field else ""
        return _fail(f"{arguments.instruments}: is no list of contracts of {arguments.venue}: {fault.why}{where}")
    except READING_FAULTS as error:
        return _fail(f"{arguments.instruments}: {_reason(error)}")
    return _write(venue, arguments.file, listing, symbols)


def _write(venue: Venue, name: str, listing: Listing | None, symbols: Mapping[str, str]) -> int:
    out = _Output()
    try:
        fault = _copy(venue, name, listing, symbols, out)
        out.flush()
    except _OutputLost as lost:
        out.abandon()
        return BROKEN_PIPE if lost.reader_gone else _fail(f"the output: {lost}")
    return 0 if fault is None else _fail(f"{name}: {fault}")


def _copy(venue: Venue, name: str, listing: Listing | None, symbols: Mapping[str, str], out: "_Output") -> str | None:
    """Answers for the whole input; in words why it ended early, if it did."""
    try:
        with _open(name) as stream:
            for answer in answers(venue, stream, listing, symbols):
                out.write(orjson.dumps(answer, option=orjson.OPT_APPEND_NEWLINE))
    except READING_FAULTS as error:
        return _reason(error)
    return None


class _OutputLost(Exception):
    """The output cannot be written; `reader_gone` when that is because nobody reads it (`| head`)."""

    def __init__(self, error: OSError) -> None:
        super().__init__(_reason(error))
        self.reader_gone = isinstance(error, BrokenPipeError)


class _Output:
    """Standard output, whose faults are not taken for those of the input. Raises _OutputLost."""

    def __init__(self) -> None:
        self._stream = sys.stdout.buffer

    def write(self, line: bytes) -> None:
        """Buffered."""
        try:
            self._stream.write(line)
        except OSError as error:
            raise _OutputLost(error) from error

    def flush(self) -> None:
        """Write what is buffered."""
        try:
            self._stream.flush()
        except OSError as error:
            raise _OutputLost(error) from error

    def abandon(self) -> None:
        """Leave nothing that the interpreter would try to write at its end."""
        abandon(self._stream.fileno())


def _reason(error: Exception) -> str:
    return (isinstance(error, OSError) and error.strerror) or str(error)


def _fail(text: str, code: int = UNREADABLE) -> int:
    sys.stderr.write(f"liqmap parse: {text}\n")
    return code
