"""Renders docs/layout.md from layout.py: `python -m liqmap.shm.document > docs/layout.md`. A test compares the two.

Offsets, types and shapes come from the dtypes, the words beside them from the comments and docstrings of layout.py, so
the document cannot say anything else than the code.
"""

import ast
import inspect
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np

from liqmap.domain import event, zone
from liqmap.shm import layout

_SECTIONS: Final = (
    (
        "Every segment",
        ("SEGMENT_HEADER",),
        "The header stands at byte 0 of every segment. `magic` is stored last: before that the segment is being made.",
    ),
    (
        "Boards",
        ("BOARD_HEADER", "SLOT_HEADER"),
        "`BOARD_HEADER` stands at byte {head}. Each of the {slots} slots, n = 0, 1, …, begins at byte\n"
        "{slot0} + n × stride with its `SLOT_HEADER`; the payload follows {payload} bytes later; stride = {payload} +\n"
        "the payload's size rounded up to whole 64 bytes. `shape` is (slots, stride).\n\n"
        "Reader: load `latest` (0: nothing yet), copy the payload of slot (`latest` - 1) modulo {slots}, load its\n"
        "`version`; accept when it is 2 × `latest`, else begin anew.\n\n"
        "Writer of payload n = `latest` + 1, in slot (n - 1) modulo {slots}: `version` to 2n - 1; payload; `version`\n"
        "to 2n; `latest` to n.",
    ),
    (
        "Event ring",
        ("RING_HEADER",),
        "`RING_HEADER` stands at byte {head}, the events (`EVENT_DTYPE`) at byte {events}. `shape` is (capacity), a\n"
        "power of two. Always read + lost + pending = written.\n\n"
        "Writer: `writing` to what `written` will be; events; `written`.\n\n"
        "Reader: load `written`, copy from the cursor (read + lost), then load `writing`; events before\n"
        "`writing` - capacity are dropped from the copy and counted in `lost`.",
    ),
    ("Events", ("EVENT_DTYPE",), "One fact, 64 bytes. Meaning of the fields by kind: `liqmap/domain/event.py`."),
    (
        "Row rings",
        ("ROWS_HEADER",),
        "`ROWS_HEADER` stands at byte {head}, the versions at byte {versions}, the checksums 8 × capacity later,\n"
        "the rows at byte {versions} + (16 × capacity rounded up to whole 64 bytes). `shape` is (capacity).\n\n"
        "Writer: `version` to 2i + 1, row, `version` to 2i + 2, `written`.\n\n"
        "Reader: load `written`, copy rows below it, then load their versions; row i is good when its version is\n"
        "2i + 2.",
    ),
    (
        "Status",
        ("STATUS_HEADER", "CLOCK", "HEARTBEAT"),
        "`STATUS_HEADER` at byte {head}, `CLOCK` at byte {clock}, {processes} names of 16 bytes at byte {names}, as\n"
        "many `HEARTBEAT` rows at byte {beats}. Each word is stored whole; a row is not a snapshot.",
    ),
    ("Payload of `directory`", ("DIRECTORY", "DIRECTORY_ROW"), ""),
    ("Payload of `processes`", ("PROCESSES", "PROCESS_ROW"), ""),
    ("Payload of `feeds`", ("FEEDS", "VENUE_ROW", "LINK_ROW", "TOPIC_ROW", "GAP_ROW", "REASON_ROW", "MARGIN_ROW"), ""),
    ("Rows of `recent.SYM`", ("LIQUIDATION",), ""),
    ("Inside `calibration.SYM`", ("JUDGED_ROW", "GUARD_RAILS"), ""),
    ("Inside `zones.SYM`", ("ZONE_CHANGE",), ""),
    ("Inside `depth.SYM` and `books.SYM`", ("BOOK_STANDING", "BOOK_MEANS"), ""),
)

_SIZED: Final[tuple[tuple[str, str, Callable[[int, int], np.dtype[Any]]], ...]] = (
    ("Payload of `live.SYM`", "live_dtype", layout.live_dtype),
    ("Rows of `minutes.SYM`", "minute_dtype", lambda _tiers, buckets: layout.minute_dtype(buckets)),
    ("Payload of `depth.SYM`", "depth_dtype", lambda _tiers, buckets: layout.depth_dtype(buckets)),
    ("Rows of `books.SYM`", "book_dtype", lambda _tiers, buckets: layout.book_dtype(buckets)),
    ("Payload of `calibration.SYM`", "calibration_dtype", lambda tiers, _buckets: layout.calibration_dtype(tiers)),
    ("Payload of `zones.SYM`", "zones_dtype", lambda tiers, _buckets: layout.zones_dtype(tiers)),
    ("Rows of zones inside it", "zone_dtype", lambda tiers, _buckets: zone.zone_dtype(tiers)),
)


def document() -> str:
    """The whole of docs/layout.md."""
    words = _words_of(layout) | _words_of(event) | _words_of(zone)
    lines = [
        "# Shared memory, byte by byte",
        "",
        "<!-- Rendered from liqmap/shm/layout.py by `make layout`; do not edit. -->",
        "",
        f"Layout version {layout.LAYOUT_VERSION}, magic {layout.MAGIC:#018x}, little endian.",
        "",
        inspect.cleandoc(layout.__doc__ or "").split("\n", 2)[2],
        "",
    ]
    for title, names, text in _SECTIONS:
        lines += [f"## {title}", "", *([text.format(**_offsets()), ""] if text else [])]
        for name in names:
            dtype = getattr(layout, name, None) or getattr(event, name)
            lines += _table(name, dtype, words)
    for title, function, dtype_of in _SIZED:
        doc = " ".join(inspect.cleandoc((getattr(layout, function, None) or getattr(zone, function)).__doc__).split())
        lines += [f"## {title}", "", doc, "", "T: leverage tiers, B: buckets, as configured for the symbol.", ""]
        lines += _sized_table(function, dtype_of, words)
    return "\n".join(lines).rstrip() + "\n"


def _offsets() -> dict[str, int]:
    head = layout.SEGMENT_HEADER.itemsize
    clock = head + layout.STATUS_HEADER.itemsize
    names = clock + layout.CLOCK.itemsize
    return {
        "head": head,
        "slots": layout.BOARD_SLOTS,
        "slot0": head + layout.BOARD_HEADER.itemsize,
        "payload": layout.SLOT_HEADER.itemsize,
        "events": head + layout.RING_HEADER.itemsize,
        "versions": head + layout.ROWS_HEADER.itemsize,
        "clock": clock,
        "names": names,
        "beats": names + layout.STATUS_PROCESSES * np.dtype(layout.PROCESS_NAME).itemsize,
        "processes": layout.STATUS_PROCESSES,
    }


def _table(name: str, dtype: np.dtype[Any], words: dict[tuple[str, str], str]) -> list[str]:
    about = words.get((name, ""), "")
    lines = [f"### {name} ({dtype.itemsize} bytes)", "", *([about, ""] if about else [])]
    lines += ["| offset | type | field | |", "|---|---|---|---|"]
    for field, kind, offset in _fields(dtype):
        lines.append(f"| {offset} | {kind} | `{field}` | {words.get((name, field), '')} |")
    return [*lines, ""]


def _sized_table(
    function: str, dtype_of: Callable[[int, int], np.dtype[Any]], words: dict[tuple[str, str], str]
) -> list[str]:
    """A table whose offsets are a + b·T + c·B + d·T·B, found from four sizes."""
    sizes = {(t, b): dict(_fields_by_name(dtype_of(t, b))) for t in (1, 2) for b in (1, 2)}
    totals = {key: dtype_of(*key).itemsize for key in sizes}
    lines = [f"Size {_formula(totals)} bytes.", "", "| offset | type | field | |", "|---|---|---|---|"]
    shapes = dict(_fields_by_name(dtype_of(7777, 8888)))
    for field in sizes[1, 1]:
        offset = _formula({key: found[field][1] for key, found in sizes.items()})
        kind = shapes[field][0].replace("7777", "T").replace("8888", "B")
        about = words.get((function, field)) or words.get(("_FRAME_FACTS", field), "")
        lines.append(f"| {offset} | {kind} | `{field}` | {about} |")
    return [*lines, ""]


def _formula(values: dict[tuple[int, int], int]) -> str:
    both = values[2, 2] - values[2, 1] - values[1, 2] + values[1, 1]
    per_tier = values[2, 1] - values[1, 1] - both
    per_bucket = values[1, 2] - values[1, 1] - both
    constant = values[1, 1] - per_tier - per_bucket - both
    terms = [(constant, ""), (per_tier, " T"), (per_bucket, " B"), (both, " T B")]
    return " + ".join(f"{number}{unit}" for number, unit in terms if number) or "0"


def _fields(dtype: np.dtype[Any]) -> Iterator[tuple[str, str, int]]:
    for name in dtype.names or ():
        field, offset = _placed(dtype, name)
        inner, shape = field.subdtype or (field, ())
        kind = "struct" if inner.names else inner.str.replace("|", "")
        yield name, f"{kind}{'×'.join(['', *map(str, shape)])}", offset


def _placed(dtype: np.dtype[Any], name: str) -> tuple[np.dtype[Any], int]:
    assert dtype.fields is not None
    field, offset, *_ = dtype.fields[name]
    return field, offset


def _fields_by_name(dtype: np.dtype[Any]) -> Iterator[tuple[str, tuple[str, int]]]:
    for name, kind, offset in _fields(dtype):
        yield name, (kind, offset)


def _words_of(module: Any) -> dict[tuple[str, str], str]:
    """What the source says beside each field of each dtype, and (under field "") below each dtype."""
    source = inspect.getsource(module)
    lines = source.splitlines()
    words: dict[tuple[str, str], str] = {}
    owner = ""
    for node in ast.parse(source).body:
        match node:
            case ast.AnnAssign(target=ast.Name(id=owner)) | ast.Assign(targets=[ast.Name(id=owner)]):
                words |= _comments(owner, lines[node.lineno - 1 : node.end_lineno])
            case ast.FunctionDef(name=owner):
                words |= _comments(owner, lines[node.lineno - 1 : node.end_lineno])
            case ast.Expr(value=ast.Constant(value=str(text))) if owner:
                words[owner, ""] = " ".join(text.split())
    return words


def _comments(owner: str, lines: list[str]) -> dict[tuple[str, str], str]:
    words: dict[tuple[str, str], str] = {}
    field = ""
    for line in lines:
        named = re.match(r"\s*\(\"(\w+)\", .*?\),?(?:\s+# (.*))?$", line)
        more = re.match(r"\s*# (.*)$", line)
        if named:
            field = named[1]
            words[owner, field] = named[2] or ""
        elif more and field:
            words[owner, field] = f"{words[owner, field]} {more[1]}".strip()
    return {key: text for key, text in words.items() if text}


if __name__ == "__main__":
    sys.stdout.write(document())
