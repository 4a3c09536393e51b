"""`liqmapctl`: talks to a running daemon over its control socket.

Exit codes: 0 done, 1 refused (the reason is printed), 2 usage, 3 no daemon.
"""

import argparse
import json
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from liqmap import __version__
from liqmap.cli.fault_words import USAGE, BadWords, listing, order_of
from liqmap.cli.printed import printed
from liqmap.client import Client
from liqmap.config import EXIT_CONFIG, Config, ConfigError, load, parse, paths
from liqmap.config.home import base_dir, configuration_file
from liqmap.supervisor.control import ControlClient

EXIT_REFUSED = 1
EXIT_USAGE = 2
EXIT_NO_DAEMON = 3
_LONGEST_WAIT_S = 86_400.0

_NAMED = {
    "start": "start a child that was stopped or given up (ingest, api or a symbol)",
    "stop": "stop a child and leave it stopped",
    "restart": "stop and start a child; done when it is ready",
    "add": "enable a symbol that stands in the configuration file",
    "remove": "disable a symbol",
}
_PLAIN = {
    "status": "the table of processes, and problems in words",
    "reload": "follow the configuration file by difference",
    "shutdown": "ordered stop of the whole daemon",
}


class _NoDaemon(Exception):
    """There is nobody to talk to, or more than one; the text says which."""


@printed
def main(arguments: Sequence[str] | None = None) -> int:
    """Carry out one command; the exit code."""
    parser = _parser()
    flags = parser.parse_args(arguments)
    if flags.command == "fault" and {"-h", "--help"} & set(flags.words):
        print(USAGE)
        return 0
    try:
        order = _order(flags)
    except BadWords as error:
        parser.exit(EXIT_USAGE, f"liqmapctl: {error}\n\n{USAGE}\n")
    try:
        client = _connect(flags)
    except _NoDaemon as error:
        return _fail(str(error), EXIT_NO_DAEMON, flags.json)
    except ConfigError as error:
        return _fail(str(error), EXIT_CONFIG, flags.json)
    try:
        answer = client.ask(order)
    except TimeoutError:
        return _fail("the daemon does not answer", EXIT_NO_DAEMON, flags.json)
    except (OSError, ValueError) as error:
        return _fail(f"the connection broke: {error}", EXIT_NO_DAEMON, flags.json)
    finally:
        client.close()
    if flags.command == "status" and answer.get("ok"):
        with Client(answer["instance"]) as reader:
            answer["problems"] = [*answer["problems"], *reader.status().data_problems]
    if flags.json:
        print(json.dumps(answer, indent=1))
    elif not answer.get("ok"):
        print(f"liqmapctl: refused: {answer.get('error')}", file=sys.stderr)
    else:
        print("\n".join(_said(flags.command, answer)))
    return 0 if answer.get("ok") else EXIT_REFUSED


def _order(flags: argparse.Namespace) -> dict[str, Any]:
    """What is asked of the daemon. Raises BadWords."""
    if flags.command == "fault":
        return order_of(flags.words)
    return {"do": flags.command, "name": getattr(flags, "name", "")}


def _said(command: str, answer: dict[str, Any]) -> list[str]:
    """What a person is shown of an answer."""
    if command == "status":
        return table(answer)
    return listing(answer) if "faults" in answer else [answer.get("said", "done")]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="liqmapctl",
        description="Control a running liqmapd. Exit codes: 0 done, 1 refused, 2 usage, 3 no daemon.",
        epilog="example: liqmapctl restart BTC",
    )
    parser.add_argument("--json", action="store_true", help="the daemon's answer as JSON")
    parser.add_argument("--version", action="version", version=f"liqmapctl {__version__}")
    parser.add_argument("--timeout", type=_seconds, default=120.0, metavar="S", help="wait for the answer (120)")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("-c", "--config", type=Path, metavar="FILE", help="the daemon's configuration file")
    which.add_argument("--socket", type=Path, metavar="PATH", help="the daemon's control socket")
    parser.add_argument("--instance", metavar="NAME", help="which of several (main, demo, replay)")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    for name, text in _PLAIN.items():
        commands.add_parser(name, help=text, description=text)
    for name, text in _NAMED.items():
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("name", metavar="SYMBOL" if name in ("add", "remove") else "N")
    # Its options are the parameters of the faults, which the daemon knows: argparse passes every word on.
    text = "make something go wrong at a simulated venue (--demo), and see what it looks like"
    fault = commands.add_parser("fault", help=text, prefix_chars="\0", add_help=False)
    fault.add_argument("words", nargs="*")
    return parser


def _seconds(text: str) -> float:
    """A time that a socket can wait. Raises ArgumentTypeError."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= _LONGEST_WAIT_S:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds from above 0 to {_LONGEST_WAIT_S:.0f}")
    return seconds


def _connect(flags: argparse.Namespace) -> ControlClient:
    """The daemon that is meant; without a flag the only one that runs. Raises _NoDaemon, ConfigError."""
    candidates = [flags.socket] if flags.socket else _sockets(flags)
    living = []
    for path in candidates:
        try:
            living.append((path, ControlClient(path, flags.timeout)))
        except OSError:
            continue  # left behind by a daemon that was killed
    if len(living) == 1:
        return living[0][1]
    for _, client in living:
        client.close()
    if living:
        names = ", ".join(sorted(path.parent.name for path, _ in living))
        raise _NoDaemon(f"several daemons run ({names}): say which with --instance")
    raise _NoDaemon(f"no daemon answers on {flags.socket}" if flags.socket else "no daemon is running")


def _sockets(flags: argparse.Namespace) -> list[Path]:
    config = _readable(flags.config or configuration_file())
    where = paths(config, str(base_dir()))
    if flags.instance:
        return [where.run_dir.parent / flags.instance / where.control_socket.name]
    if flags.config and config.daemon.instance != "main":
        own = config.daemon.instance
        return [
            path for path in _all(where.run_dir.parent) if path.parent.name in (own, f"{own}-demo", f"{own}-replay")
        ]
    return _all(where.run_dir.parent)


def _readable(file: Path) -> Config:
    """What the file says of the daemon itself: a fault anywhere else in it must not keep an operator from the daemon.
    Raises ConfigError when even that cannot be read."""
    try:
        return load(file)
    except ConfigError:
        try:
            daemon = tomllib.loads(file.read_text("utf-8")).get("daemon", {})
        except (OSError, ValueError) as error:
            raise ConfigError(f"{file}: {error}; --socket names the daemon without it") from error
        return parse({"daemon": daemon}, str(file))


def _all(run_dirs: Path) -> list[Path]:
    return sorted(run_dirs.glob("*/control.sock"))


_COLUMNS = ("NAME", "STATE", "PID", "UP", "HEARTBEAT", "RESTARTS", "CPU", "MEMORY", "LAST EXIT")
_LEFT = {"NAME", "STATE", "LAST EXIT"}


def table(answer: dict[str, Any]) -> list[str]:
    """The answer to `status` for a tired person."""
    rows = [_COLUMNS, *(_row(process) for process in answer["processes"])]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS))]
    lines = [
        f"liqmap {answer['version']}, instance {answer['instance']}, {answer['source']}, pid {answer['pid']}, "
        f"up {_span(answer['uptime_s'])}, {answer['address']}",
        "",
    ]
    for row in rows:
        cells = (
            cell.ljust(width) if name in _LEFT else cell.rjust(width)
            for name, cell, width in zip(_COLUMNS, row, widths, strict=True)
        )
        lines.append("  ".join(cells).rstrip())
    lines.append("")
    if answer["stopping"]:
        lines.append("stopping")
    problems = answer["problems"]
    lines += [f"problem: {problem}" for problem in problems] or ["no problems"]
    disabled = [symbol for symbol, enabled in answer["symbols"].items() if not enabled]
    if disabled:
        lines.append(f"not enabled: {', '.join(disabled)}")
    return lines


def _row(process: dict[str, Any]) -> tuple[str, ...]:
    beat_ms, cpu, memory = process["heartbeat_age_ms"], process["cpu_pct"], process["rss_mb"]
    return (
        process["name"],
        process["state"],
        "-" if process["pid"] is None else str(process["pid"]),
        "-" if process["uptime_s"] is None else _span(process["uptime_s"]),
        "-" if beat_ms is None else f"{beat_ms / 1000:.1f} s",
        str(process["restarts"]),
        "-" if cpu is None else f"{cpu:.0f} %",
        "-" if memory is None else f"{memory:.0f} MB",
        process["exit"] or "-",
    )


def _span(seconds: float) -> str:
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} m {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} m" if whole < 172800 else f"{whole // 86400} d"


def _fail(text: str, code: int, as_json: bool) -> int:
    if as_json:
        print(json.dumps({"ok": False, "error": text}))
    print(f"liqmapctl: {text}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
