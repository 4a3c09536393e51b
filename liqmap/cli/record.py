"""`liqmap record`: listen to the venues (or to simulated ones) and keep everything, without a daemon.

Examples:
  liqmap record --demo --for 60s --symbol BTC --out recorded/
  liqmap record -c etc/liqmap.toml --for 8h --out /data/monday

Below DIR: capture/ (raw frames), journal/SYMBOL/ (events), recording.json (what it is). `liqmap replay` plays either.
Ctrl-C ends it properly.
Exit: 0 done, 1 the disk does not take it or the simulated venues fail, 2 usage, 78 the configuration is wrong.
"""

import argparse
import re
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Final

from msgspec import structs

from liqmap.cli.configured import configured
from liqmap.cli.progress import ProgressLine
from liqmap.cli.remarks import remarks_of
from liqmap.cli.venues_child import VenuesFailed, simulated_venues
from liqmap.clock import SystemClock
from liqmap.config import EXIT_CONFIG, Config, ConfigError
from liqmap.domain.enums import Source
from liqmap.ingest.recording import Progress, Recording

_FAILED: Final = 1
_SECONDS: Final = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_MB: Final = 1e6


class _Refused(Exception):
    """It cannot be recorded; the text says why."""


class _Stop:
    """Set by Ctrl-C and TERM; looked at between turns."""

    def __init__(self) -> None:
        self.asked = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._ask)

    def _ask(self, _number: int, _frame: FrameType | None) -> None:
        self.asked = True


def main(given: Sequence[str]) -> int:
    """The command."""
    arguments = _arguments(given)
    stop = _Stop()
    try:
        effective = configured(arguments.config)
        config = _only(effective.config, arguments.symbol)
        _check_empty(arguments.out)
        with ExitStack() as stack:
            if arguments.demo:
                config = stack.enter_context(simulated_venues(config, effective.base_dir))
            source = Source.SIMULATED if arguments.demo else Source.LIVE
            done = _record(Recording(config, arguments.out, source, SystemClock()), arguments.seconds, stop)
    except ConfigError as error:
        return _fail(str(error), EXIT_CONFIG)
    except (_Refused, VenuesFailed) as error:
        return _fail(str(error), _FAILED)
    except OSError as error:
        return _fail(f"{error.filename or arguments.out}: {error.strerror or error}", _FAILED)
    if done.fault or done.lost_events or done.lost_frames:
        lost = f"{done.lost_frames} frames and {done.lost_events} events are lost"
        return _fail(f"{arguments.out}: {done.fault or 'the disk is too slow'}; {lost}", _FAILED)
    print(f"{arguments.out}: {done.frames} frames, {done.events} events, {done.size / _MB:.1f} MB, {done.gaps} gaps")
    return 0


def _record(recording: Recording, seconds: float | None, stop: _Stop) -> Progress:
    """Until it is time, or asked to stop, or the disk is full."""
    begun_s = time.monotonic()
    line = ProgressLine()
    with remarks_of("liqmap record"):  # not of the end: that every link is closed then is no news
        while not stop.asked and (seconds is None or time.monotonic() - begun_s < seconds):
            recording.turn()
            if line.is_due:
                _say(line, recording.progress(), time.monotonic() - begun_s)
            if recording.fault:
                break
    line.end()
    fault = recording.fault
    done = recording.close()
    return replace(done, fault=done.fault or fault)


def _say(line: ProgressLine, now: Progress, passed_s: float) -> None:
    rate = max(passed_s, 0.001)
    line.say(
        f"{passed_s:6.0f} s  {now.frames / rate:,.0f} frames/s  {now.events / rate:,.0f} events/s  "
        f"{now.size / _MB:.1f} MB  {now.gaps} gaps"
    )


def _only(config: Config, symbols: list[str] | None) -> Config:
    """The configuration with these symbols enabled and no others. Raises ConfigError."""
    if symbols is None:
        return config
    wanted = {symbol.upper() for symbol in symbols}
    if unknown := sorted(wanted - config.symbols.keys()):
        raise ConfigError(f"--symbol {unknown[0]}: configured are {', '.join(config.symbols)}")
    tables = {name: structs.replace(table, enabled=name in wanted) for name, table in config.symbols.items()}
    return structs.replace(config, symbols=tables)


def _check_empty(directory: Path) -> None:
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise _Refused(f"{directory}: is not an empty directory, and a recording is never mixed with another")


def _seconds(text: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", text)
    if not match or float(match[1]) <= 0:
        raise argparse.ArgumentTypeError("must be like 90, 90s, 15m, 8h or 2d")
    return float(match[1]) * _SECONDS[match[2]]


def _arguments(given: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="liqmap record", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--demo", action="store_true", help="a simulated market, no network needed")
    parser.add_argument("-c", "--config", type=Path, metavar="FILE", help="default: etc/liqmap.toml")
    parser.add_argument("--for", dest="seconds", type=_seconds, metavar="DURATION", help="90, 90s, 15m, 8h, 2d")
    parser.add_argument("--symbol", action="append", metavar="S", help="only this symbol; may be repeated")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="an empty or a new directory")
    return parser.parse_args(given)


def _fail(text: str, code: int) -> int:
    sys.stderr.write(f"liqmap record: {' '.join(text.split())}\n")
    return code
