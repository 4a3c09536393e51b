"""Sends a cascade over real sockets, from a process of its own, so that what sending costs is nobody else's.

    python -m tests.bench.sender FRAMES      prints its port; each link asks for ws://127.0.0.1:<port>/<source>

When every link of the cascade has connected, all of it goes out as fast as the sockets take it, then a close frame.
"""

import base64
import hashlib
import socket
import sys
import threading

from tests.bench.cascade import cascade

_ACCEPT = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
CLOSE = b"\x88\x02\x03\xe8"


def framed(raw: bytes) -> bytes:
    """One text message of a server."""
    return b"\x81" + (bytes([len(raw)]) if len(raw) < 126 else b"\x7e" + len(raw).to_bytes(2, "big")) + raw


def streams(count: int) -> dict[str, bytes]:
    """Bytes of each link, `count` frames in all."""
    parts: dict[str, list[bytes]] = {}
    for sent in cascade(count):
        parts.setdefault(sent.source, []).append(framed(sent.raw))
    return {source: b"".join(frames) + CLOSE for source, frames in parts.items()}


def greeted(here: socket.socket) -> str:
    """Answer the handshake; which source was asked for."""
    request = b""
    while b"\r\n\r\n" not in request:
        request += here.recv(4096)
    lines = request.decode().split("\r\n")
    key = next(line.split(": ", 1)[1] for line in lines if line.lower().startswith("sec-websocket-key:"))
    accept = base64.b64encode(hashlib.sha1(key.encode() + _ACCEPT).digest()).decode()
    upgrade = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    here.sendall(f"{upgrade}Sec-WebSocket-Accept: {accept}\r\n\r\n".encode())
    return lines[0].split(" ")[1].lstrip("/")


def main() -> None:
    """Serve once."""
    wanted = streams(int(sys.argv[1]))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        sys.stdout.write(f"{listening.getsockname()[1]}\n")
        sys.stdout.flush()
        begin = threading.Barrier(len(wanted))
        threads = []
        for _ in wanted:
            here, _address = listening.accept()
            data = wanted[greeted(here)]

            def pour(here: socket.socket = here, data: bytes = data) -> None:
                with here:
                    begin.wait(30)
                    here.sendall(data)
                    here.recv(4096)

            threads.append(threading.Thread(target=pour))
            threads[-1].start()
        for thread in threads:
            thread.join()


if __name__ == "__main__":
    main()
