"""`liqmap replay`: a journal or a capture through the engine, to minute frames and a digest of them.

Examples:
  liqmap replay var/lib/main/journal --out frames/
  liqmap replay var/lib/main/journal/BTC --out frames/
  liqmap replay recorded/capture --out frames/ --symbol BTC

PATH is a journal (of one symbol or of several), a capture (a file, or the directory of a recording's captures), or the
directory that `liqmap record` made (its journal is played). The last line is `digest <sha256>  frames <n>  events <n>`:
the same input and configuration give the same digest on any machine. What cannot be used of a file is reported with
file and place; the rest is used, with a gap in its place.
Exit: 0 done, 1 the input or the output fails, 2 usage, 78 the configuration is wrong.
"""

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from liqmap.backtest.replay import Replay
from liqmap.cli.configured import configured
from liqmap.cli.progress import ProgressLine
from liqmap.cli.remarks import remarks_of
from liqmap.config import EXIT_CONFIG, Config, ConfigError, Effective
from liqmap.engine.spec import EngineSpec
from liqmap.ingest.foreign_recording import foreign_events
from liqmap.ingest.offline import played
from liqmap.ingest.recorded_turns import NoRecording, RecordedTurns, is_recording
from liqmap.store.capture import Capture, CaptureUnreadable, describe
from liqmap.store.journal_reader import Events, JournalUnreadable, SymbolJournalReader, journal_files, symbols_in
from liqmap.supervisor.modes import held_config
from liqmap.worker.main import spec_of

_FAILED: Final = 1
_ABOUT_FILES: Final = ("liqmap.store", "liqmap.ingest.recorded_turns", "liqmap.worker")
"""What the router says of links and books happened when it was recorded: it is no news."""


class _Refused(Exception):
    """There is nothing to play; the text says why."""


def main(given: Sequence[str]) -> int:
    """The command."""
    arguments = _arguments(given)
    with remarks_of("liqmap replay", _ABOUT_FILES):
        return _replay(arguments)


def _replay(arguments: argparse.Namespace) -> int:
    try:
        effective = configured(arguments.config)
        arguments.out.mkdir(parents=True, exist_ok=True)
        replay = Replay(_specs(effective), arguments.out)
        feed = _feeder(arguments.path, effective.config, arguments.out, _wanted(arguments.symbol))
        progress = ProgressLine()
        for _ in feed(replay):
            if progress.is_due:
                progress.say(f"{replay.events:,} events  {replay.frames:,} frames")
        progress.end()
        digest = replay.close()
    except ConfigError as error:
        return _fail(str(error), EXIT_CONFIG)
    except (_Refused, JournalUnreadable, NoRecording, CaptureUnreadable) as error:
        return _fail(str(error), _FAILED)
    except OSError as error:
        return _fail(f"{error.filename or arguments.out}: {error.strerror or error}", _FAILED)
    if not replay.events:
        return _fail(f"{arguments.path}: holds no events of the symbols asked for", _FAILED)
    print(f"digest {digest}  frames {replay.frames}  events {replay.events}")
    return 0


_Feed = Callable[[Replay], Iterator[None]]


def _feeder(path: Path, config: Config, out: Path, wanted: frozenset[str] | None) -> _Feed:
    """What PATH is decides how it is played. Raises _Refused, OSError."""
    if not path.exists():
        raise _Refused(f"{path}: no such file or directory")
    if path.is_dir() and (path / "journal").is_dir():
        path = path / "journal"
    if path.is_dir() and journal_files(path):
        return lambda replay: _journal({path.resolve().name: path}, replay, wanted)
    if path.is_dir() and (symbols := symbols_in(path)):
        return lambda replay: _journal({symbol: path / symbol for symbol in symbols}, replay, wanted)
    files = sorted(path.glob("capture-*.jsonl.gz")) if path.is_dir() else [path]
    if not files:
        raise _Refused(f"{path}: holds neither a journal nor a capture")
    if is_recording(files[0]):
        return lambda replay: _recording(files, out, replay, wanted)
    return lambda replay: _foreign(path, config, out, replay, wanted)


def _journal(directories: dict[str, Path], replay: Replay, wanted: frozenset[str] | None) -> Iterator[None]:
    for symbol, directory in directories.items():
        if wanted is not None and symbol not in wanted:
            continue
        for item in SymbolJournalReader(directory):
            if isinstance(item, Events):
                replay.feed(symbol, item.events)
            else:
                replay.hole(symbol, item.from_ns, item.to_ns)
            yield


def _recording(files: list[Path], out: Path, replay: Replay, wanted: frozenset[str] | None) -> Iterator[None]:
    for batch in played(RecordedTurns(files), out):
        for symbol, events in batch.items():
            if wanted is None or symbol in wanted:
                replay.feed(symbol, events)
        yield


def _foreign(path: Path, config: Config, out: Path, replay: Replay, wanted: frozenset[str] | None) -> Iterator[None]:
    held = describe(path)
    chosen = held_config(config, held, None)
    for batch in foreign_events(Capture(path), chosen, out, held.first_ns):
        for symbol, events in batch.items():
            if wanted is None or symbol in wanted:
                replay.feed(symbol, events)
        yield


def _specs(effective: Effective) -> Callable[[str], EngineSpec]:
    def spec(symbol: str) -> EngineSpec:
        if symbol not in effective.config.symbols:
            raise ConfigError(f"symbols.{symbol}: is not configured, but stands in the input (or choose by --symbol)")
        return spec_of(effective, symbol)

    return spec


def _wanted(symbols: list[str] | None) -> frozenset[str] | None:
    return None if symbols is None else frozenset(symbol.upper() for symbol in symbols)


def _arguments(given: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="liqmap replay", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("path", type=Path, metavar="PATH", help="a journal, a capture, or a recording")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where frames_SYMBOL_NNNN.npz go")
    parser.add_argument(
        "-c", "--config", type=Path, metavar="FILE", help="symbols and model (default: etc/liqmap.toml)"
    )
    parser.add_argument("--symbol", action="append", metavar="S", help="only this symbol; may be repeated")
    return parser.parse_args(given)


def _fail(text: str, code: int) -> int:
    sys.stderr.write(f"liqmap replay: {' '.join(text.split())}\n")
    return code
