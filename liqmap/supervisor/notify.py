"""What the supervisor tells systemd (sd_notify), on the datagram socket that NOTIFY_SOCKET names.

Without systemd every call does nothing. The protocol is documented in sd_notify(3); messages are lines KEY=VALUE.
"""

import os
import socket
import time
from collections.abc import Mapping

_NS_PER_US = 1000


class Notifier:
    """Speaks to the service manager that started us, if one did.

    `watchdog_interval_ns` is half of what WATCHDOG_USEC allows, None when no watchdog was asked for.
    """

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        environment = os.environ if environment is None else environment
        address = environment.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) if address else None
        if self._socket is not None:
            self._socket.setblocking(False)
        usec = environment.get("WATCHDOG_USEC", "")
        ours = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self.watchdog_interval_ns = int(usec) * _NS_PER_US // 2 if usec.isdigit() and ours else None

    def ready(self, status: str) -> None:
        """The service is up (also after a reload)."""
        self._send("READY=1", f"STATUS={status}")

    def status(self, text: str) -> None:
        """One line for `systemctl status`."""
        self._send(f"STATUS={text}")

    def watchdog(self) -> None:
        """Everything under watch is alive."""
        self._send("WATCHDOG=1")

    def reloading(self) -> None:
        """A reload has begun; `ready` ends it."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // _NS_PER_US}")

    def stopping(self) -> None:
        """An ordered stop has begun."""
        self._send("STOPPING=1")

    def close(self) -> None:
        """No more messages."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, *lines: str) -> None:
        if self._socket is None:
            return
        text = "\n".join(line.replace("\n", " ") for line in lines)
        try:
            self._socket.sendto(text.encode(), self._address)
        except OSError:
            self.close()  # the manager has gone; the daemon does its work all the same
