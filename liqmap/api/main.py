"""The API as a process: checks its configuration, then becomes gunicorn on the socket it was given.

    python -m liqmap.api --effective var/run/main/effective.json --fd 7

The socket is handed on the way systemd hands sockets (LISTEN_FDS): gunicorn then never takes the file of a Unix socket
away, which it does with sockets it is told of by `fd://`. Without --fd gunicorn opens the configured address itself.
"""

import argparse
import os
import sys
from pathlib import Path
from typing import Final, NoReturn

from liqmap.config import EXIT_CONFIG, ConfigError, load_effective

EFFECTIVE: Final = "LIQMAP_EFFECTIVE"
_FIRST_FD: Final = 3
_NOT_FOR_GUNICORN: Final = ("GUNICORN_CMD_ARGS", "NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES")


def main(arguments: list[str] | None = None) -> NoReturn:
    """Never returns. Exit code 78 with one line for a configuration fault."""
    parser = argparse.ArgumentParser(prog="python -m liqmap.api", description="serve one instance over HTTP")
    parser.add_argument("--effective", required=True, type=Path, help="what the supervisor wrote")
    parser.add_argument("--fd", type=int, help="an open listening socket")
    given = parser.parse_args(arguments)
    try:
        base_dir = Path(load_effective(given.effective).base_dir)
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(EXIT_CONFIG) from None
    environment = {name: value for name, value in os.environ.items() if name not in _NOT_FOR_GUNICORN}
    environment[EFFECTIVE] = str(given.effective.resolve())
    if given.fd is not None:
        _hand_over(given.fd, environment)
    os.execve(sys.executable, [*_python(), "-c", str(_settings_file(base_dir)), _APPLICATION], environment)


_APPLICATION: Final = "liqmap.api.serving:application()"


def _python() -> list[str]:
    return [sys.executable, "-P", "-m", "gunicorn"]


def _settings_file(base_dir: Path) -> Path:
    installed = base_dir / "etc" / "gunicorn.conf.py"
    return installed if installed.is_file() else Path(__file__).with_name("gunicorn_settings.py")


def _hand_over(fd: int, environment: dict[str, str]) -> None:
    if fd != _FIRST_FD:
        os.dup2(fd, _FIRST_FD)
        os.close(fd)
    os.set_inheritable(_FIRST_FD, True)
    environment["LISTEN_FDS"], environment["LISTEN_PID"] = "1", str(os.getpid())
