"""Websocket frames as a server writes them (RFC 6455 §5.2): unmasked, so one encoding serves every subscriber."""

_FIN_TEXT = 0x81
_FIN_CLOSE = 0x88
_FIN_PING = 0x89
_FIN_PONG = 0x8A


def text_frame(payload: bytes) -> bytes:
    """One whole text message. The payload is not checked: a hostile server does not either."""
    return _head(_FIN_TEXT, len(payload)) + payload


def ping_frame(payload: bytes) -> bytes:
    """A protocol ping."""
    return _head(_FIN_PING, len(payload)) + payload


def pong_frame(payload: bytes) -> bytes:
    """The answer to a protocol ping, with its payload."""
    return _head(_FIN_PONG, len(payload)) + payload


def close_frame(code: int, reason: str = "") -> bytes:
    """A close frame; the reason is cut to what a control frame can carry (123 bytes)."""
    body = code.to_bytes(2, "big") + reason.encode()[:123]
    return _head(_FIN_CLOSE, len(body)) + body


def _head(first: int, size: int) -> bytes:
    if size < 126:
        return bytes((first, size))
    if size < 65536:
        return bytes((first, 126)) + size.to_bytes(2, "big")
    return bytes((first, 127)) + size.to_bytes(8, "big")
