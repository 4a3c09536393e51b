"""Our own frames in the venues' shapes, beside what they must say; `python -m tests.wire.golden_files` rewrites."""

import json
from pathlib import Path

import pytest

from liqmap.exchanges.registry import VENUES_BY_NAME
from tests.wire.golden_files import GOLDEN, files, rendered


@pytest.mark.finding("L20")
@pytest.mark.finding("X1")
@pytest.mark.finding("X9")
@pytest.mark.finding("L10")
@pytest.mark.finding("X13")
@pytest.mark.parametrize("path", files(), ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_frames_say_byte_for_byte_what_is_written_beside_them(path: Path) -> None:
    assert rendered(path) == path.read_text()


def test_every_venue_has_golden_liquidations_trades_books_and_control_frames() -> None:
    for venue in VENUES_BY_NAME:
        names = {path.stem for path in (GOLDEN / venue).glob("*.jsonl")}
        assert {"liquidations", "trades", "books", "control", "ratios"} <= names


@pytest.mark.parametrize("path", files(), ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_every_golden_frame_gets_an_answer(path: Path) -> None:
    for line in path.read_text().splitlines():
        assert json.loads(line)["says"], line
