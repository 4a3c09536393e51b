"""`liqmapd`: the daemon's command line. Live by default; `--demo` and `--replay` bring their own market."""

import argparse
import logging
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from liqmap import __version__
from liqmap.cli.printed import printed
from liqmap.config import EXIT_CONFIG, EXIT_TRY_AGAIN, ConfigError, dump
from liqmap.config.home import base_dir, configuration_file
from liqmap.supervisor.modes import Flags, Run, run_of
from liqmap.supervisor.preflight import faults, summary
from liqmap.supervisor.start import StartFailed, serve

_EXAMPLES = """examples:
  liqmapd                            live, with etc/liqmap.toml
  liqmapd --demo                     a simulated market, no network needed
  liqmapd --check -c my.toml         is this file right, and can it run here?
  liqmapd --replay capture.gz        raw frames through loopback venues and the real links
  liqmapd --replay tables/ --from 2026-02-10 --speed 600

exit codes: 0 asked to stop, 70 bug, 75 try again, 78 configuration"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the daemon; the exit code."""
    flags = _parser().parse_args(arguments)
    file = (flags.config or configuration_file()).absolute()
    chosen = Flags(flags.bind, flags.demo, flags.replay, flags.speed, flags.from_time, flags.to_time, flags.symbol)
    try:
        run = run_of(file, base_dir(), chosen)
        if flags.check:
            return _check(run)
        serve(run, _terminal())
    except ConfigError as error:
        return _refuse(str(error), EXIT_CONFIG)
    except StartFailed as error:
        return _refuse(str(error), error.exit_code)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="liqmapd",
        description="Live liquidation maps of crypto perpetual futures.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "-c", "--config", type=Path, metavar="FILE", help="default: $LIQMAP_CONFIG, else etc/liqmap.toml"
    )
    parser.add_argument(
        "--check", action="store_true", help="validate, print what is in force, try ports and directories"
    )
    parser.add_argument("--demo", action="store_true", help="a simulated market on loopback venue servers")
    parser.add_argument("--bind", metavar="ADDR", help="host:port or unix:PATH instead of api.bind")
    parser.add_argument("--replay", type=Path, metavar="PATH", help="a capture file, or a directory of tables")
    parser.add_argument("--speed", type=float, metavar="X", help="of a replay, times real time (1)")
    parser.add_argument("--from", dest="from_time", metavar="T", help="of a replay: ms UTC or 2026-02-10[T08:00]")
    parser.add_argument("--to", dest="to_time", metavar="T", help="of a replay: ms UTC or 2026-02-10[T08:00]")
    parser.add_argument("--symbol", metavar="S", help="of a replay: only this symbol")
    parser.add_argument("--version", action="version", version=f"liqmapd {__version__}")
    return parser


@printed
def _check(run: Run) -> int:
    """Print the configuration in force as TOML, then what stands in the way of starting now."""
    config = run.read()
    print(f"# {run.config_file}: valid. Every key with the value in force:")
    print("\n".join(_toml(dump(config))))
    found = list(faults(config, run.base_dir))
    print("\n".join(f"# {line}" for line in summary(config, run.base_dir)))
    for line in found:
        print(f"liqmapd: {line}", file=sys.stderr)
    return EXIT_TRY_AGAIN if found else 0


def _toml(table: dict[str, Any], prefix: str = "") -> list[str]:
    """A table as TOML lines: its plain keys, then its tables. TOML knows no null: an absent value is a comment."""
    lines = []
    for key, value in table.items():
        if value is None:
            lines.append(f"# {key} is not set")
        elif not isinstance(value, dict):
            lines.append(f"{key} = {_toml_value(value)}")
    for key, value in table.items():
        if isinstance(value, dict):
            dotted = f"{prefix}{key}"
            inner = _toml(value, f"{dotted}.")
            lines += ["", f"[{dotted}]", *inner] if any(not isinstance(v, dict) for v in value.values()) else inner
    return lines


def _toml_value(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_toml_value(item) for item in value) + "]"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml_value(item)}" for key, item in value.items()) + " }"
    return repr(value)


class _Readable(logging.Formatter):
    """The sentence without the fields: the log file has those, and tracebacks."""

    converter = staticmethod(time.localtime)

    def format(self, record: logging.LogRecord) -> str:
        """`15:04:05 BTC is ready`, the level only when it is a warning or worse."""
        level = "" if record.levelno < logging.WARNING else f"{record.levelname.lower()}: "
        return f"{self.formatTime(record, '%H:%M:%S')} {level}{record.getMessage()}"


def _terminal() -> logging.Handler:
    """To stdout, so that `make run` shows it; a reader that goes away (a closed pipe) must not end the daemon."""
    logging.raiseExceptions = False
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(_Readable())
    handler.setLevel(logging.INFO)
    handler.addFilter(lambda record: record.name.startswith("liqmap.supervisor"))
    return handler


def _refuse(text: str, code: int) -> int:
    """One line for the operator."""
    print(f"liqmapd: {' '.join(text.split())}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
