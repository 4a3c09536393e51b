"""What numbers on the wire may be, and how a frame that breaks its format is told.

Venues send numbers as strings, and "" for "not said". The types below are decoded by msgspec with `strict=False`
(strings become floats while decoding, which is several times faster than float() afterwards), so a bound that is
written here is checked in C: NaN, Infinity, negative or absurd values never reach a parse function. "" and null become
None through `said`; they are never zero.
"""

import json
import re
from collections.abc import Callable
from math import isfinite
from typing import Annotated, Any, Final, Literal, NoReturn, TypeVar, overload

import msgspec
from msgspec import Meta

from liqmap.domain.event import MISSING, NAN
from liqmap.exchanges.adapter import Malformed

Price = Annotated[float, Meta(gt=0, le=1e9)]
Quantity = Annotated[float, Meta(gt=0, le=1e18)]
Level = Annotated[float, Meta(ge=0, le=1e18)]
"""A quantity that may be nothing: a removed book level, an order not yet filled."""
Rate = Annotated[float, Meta(ge=-1, le=1)]
Share = Annotated[float, Meta(ge=0, le=1)]
Milliseconds = Annotated[int, Meta(ge=1_400_000_000_000, le=4_200_000_000_000)]
"""A time in ms UTC of this half century: seconds or nanoseconds in its place are a fault."""
Identity = Annotated[int, Meta(ge=0, le=2**63 - 1)]

Unsaid = Literal[""] | None
MaybePrice = Annotated[float, Meta(ge=0, le=1e9)] | Unsaid
MaybeLevel = Level | Unsaid
MaybeRate = Rate | Unsaid
MaybeMilliseconds = Annotated[int, Meta(ge=0, le=4_200_000_000_000)] | Unsaid

Levels = tuple[tuple[Price, Level], ...]

DECODING_FAULTS: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""Everything msgspec raises on bytes that are not what they should be."""

UNUSED_NAMES: Final = 4096
"""All-market streams name every coin again and again: for so many contracts it is remembered why they say nothing."""

T = TypeVar("T")

_AT = re.compile(r"(?P<what>.*?)(?: - at `(?P<path>.*)`)?$", re.DOTALL)
_INDEX = re.compile(r"\[(\d+|\.\.\.)\]")
_DECODE_ANY = msgspec.json.Decoder().decode


@overload
def decoder(wanted: type[T]) -> Callable[[bytes], T]: ...
@overload
def decoder(wanted: object) -> Callable[[bytes], Any]: ...
def decoder(wanted: Any) -> Callable[[bytes], Any]:
    """A decoder of that type that turns strings into numbers where numbers are wanted."""
    return msgspec.json.Decoder(wanted, strict=False).decode


def said(number: float | str | None) -> float:
    """The number, or NaN for "", null or nothing."""
    return number if isinstance(number, float) else NAN


def said_price(price: float | str | None) -> float:
    """The price, or NaN for "", null, nothing, and for zero: no venue sells for nothing, it means "none yet"."""
    return price if isinstance(price, float) and price > 0.0 else NAN


def said_ms(time_ms: int | str | None) -> int:
    """The time, or MISSING for "", null, nothing, and for zero, which Binance sends when nothing is scheduled."""
    return time_ms if isinstance(time_ms, int) and time_ms > 0 else MISSING


def decode_any(raw: bytes) -> Any:
    """The frame as plain Python values, for frames that fit no table. Raises Malformed."""
    check_utf8(raw)
    try:
        return _DECODE_ANY(raw)
    except DECODING_FAULTS as error:
        refuse(error, raw)


def check_utf8(raw: bytes) -> None:
    """Raises Malformed for bytes that are not UTF-8, also in fields that a decoder skips."""
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError as error:
        refuse(error, raw)


def refuse(error: Exception, raw: bytes) -> NoReturn:
    """Raise Malformed for what decoding `raw` raised, with the dotted path of the culprit."""
    if isinstance(error, UnicodeDecodeError):
        raise Malformed("not UTF-8") from error
    if isinstance(error, RecursionError):
        raise Malformed("nested too deep") from error
    if not isinstance(error, msgspec.ValidationError):
        raise _not_json(error, raw) from error
    match = _AT.match(str(error))
    what, path = (match["what"], match["path"] or "") if match else (str(error), "")
    missing = re.search(r"missing required field `(.*)`", what)
    field = _INDEX.sub(r".\1", path.removeprefix("$")).removeprefix(".")
    if missing:
        field = f"{field}.{missing[1]}" if field else missing[1]
    raise Malformed(what[:1].lower() + what[1:], field)


def _not_json(error: Exception, raw: bytes) -> Malformed:
    """Python's own decoder takes NaN and Infinity: where it finds one, that is the culprit."""
    try:
        field = _not_finite(json.loads(raw))
    except (ValueError, RecursionError):
        field = None
    if field is None:
        return Malformed(str(error).replace("JSON is malformed", "not JSON"))
    return Malformed("not a finite number", field)


def _not_finite(value: Any) -> str | None:
    """The dotted path of the first number that is none, None when all are."""
    if isinstance(value, float):
        return None if isfinite(value) else ""
    parts = enumerate(value) if isinstance(value, list) else value.items() if isinstance(value, dict) else ()
    for key, part in parts:
        inner = _not_finite(part)
        if inner is not None:
            return f"{key}.{inner}" if inner else str(key)
    return None
