"""Replays: the events alone make the digest, and bad input is refused or reported with its place."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from liqmap.backtest.frame_bytes import FrameDigest
from liqmap.backtest.replay import Replay
from liqmap.cli.liqmap import main
from liqmap.config.records import JournalConfig
from liqmap.domain.enums import Kind, PositionSide, Source, Topic
from liqmap.engine.spec import EngineSpec
from liqmap.store.journal import Journals
from liqmap.store.journal_reader import journal_files
from tests.unit.engine_tape import BTC, START_S, gap, level, liquidated, mark, quiet, run, stream, trade

MINUTES = 8
TAPE = stream(
    [
        *quiet(MINUTES, change_base=40.0),
        *[trade(7.3 * index, 60_000.0 + index % 5, 0.1 * index, 1 + index % 2) for index in range(60)],
        *[liquidated(31.0 * index, PositionSide.LONG, 59_700.0 + index, 0.5) for index in range(12)],
        mark(200.5, 59_300.0),
        gap(130.0, Topic.TRADE, 120.0, 129.0),
        level(250.0, 79_100.0),
    ],
    60.0 * MINUTES + 3,
).copy()
TAPE["sequence"] = np.arange(1, len(TAPE) + 1)


def spec(_symbol: str) -> EngineSpec:
    return BTC


def digest_of(cuts: list[int], tape: Any = TAPE) -> str:
    replay = Replay(spec)
    for part in np.split(tape, sorted(cuts)):
        replay.feed("BTC", part)
    return replay.close()


WHOLE = digest_of([])


@settings(max_examples=30)
@given(st.lists(st.integers(0, len(TAPE)), max_size=40))
def test_the_digest_is_the_same_at_any_cut(cuts: list[int]) -> None:
    assert digest_of(cuts) == WHOLE


def test_the_digest_notices_every_liquidation() -> None:
    for index in np.flatnonzero(TAPE["kind"] == Kind.LIQUIDATION):
        other = TAPE.copy()
        other["quantity"][index] *= 1.0001
        assert digest_of([], other) != WHOLE


def test_the_digest_reads_every_field_of_a_frame() -> None:
    _, frames = run(quiet(2), 125.0)
    once = FrameDigest()
    once.add(frames[0])
    again = FrameDigest()
    again.add(frames[0])
    assert once.hexdigest() == again.hexdigest()
    again.add(frames[1])
    assert once.hexdigest() != again.hexdigest()


def test_symbols_may_be_fed_in_any_order() -> None:
    one, other = Replay(spec), Replay(spec)
    for symbol in ("BTC", "ETH"):
        one.feed(symbol, TAPE)
    for part in np.array_split(TAPE, 7):
        for symbol in ("ETH", "BTC"):
            other.feed(symbol, part)
    assert one.close() == other.close() != WHOLE


def test_a_hole_marks_its_minutes() -> None:
    replay = Replay(spec)
    start_ns = START_S * 10**9
    replay.feed("BTC", TAPE[:100])
    replay.hole("BTC", start_ns + 70 * 10**9, start_ns + 75 * 10**9)
    replay.feed("BTC", TAPE[TAPE["receive_ns"] >= start_ns + 75 * 10**9])
    assert replay.close() != WHOLE


def write_journal(directory: Path, symbol: str = "BTC", batch: int = 500) -> None:
    journals = Journals(directory, JournalConfig(compress=False), "test", Source.SIMULATED)
    for start in range(0, len(TAPE), batch):
        part = TAPE[start : start + batch]
        journals.of(symbol).append(int(part["sequence"][0]), part.tobytes())
    journals.close()


def said(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = main(["replay", *map(str, arguments)])
    out, err = capsys.readouterr()
    return code, out, err


def test_the_command_prints_one_line_and_writes_frames(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = set()
    for number, batch in enumerate((500, 77, 3)):
        write_journal(tmp_path / f"j{number}", batch=batch)
        code, out, err = said(capsys, tmp_path / f"j{number}", "--out", tmp_path / f"f{number}")
        assert (code, err) == (0, "")
        lines.add(out)
    (line,) = lines
    assert re.fullmatch(rf"digest [0-9a-f]{{64}}  frames {MINUTES}  events {len(TAPE)}\n", line)
    with np.load(tmp_path / "f0" / "frames_BTC_0001.npz") as frames:
        first_ms = START_S * 1000
        assert frames["minute_ms"].tolist() == [first_ms + 60_000 * index for index in range(MINUTES)]
        assert frames["projection_usd"].shape == (MINUTES, 2, 2, int(frames["buckets"][0]))
        assert frames["close"][3] == 59_300.0 or frames["low"][3] == 59_300.0
        assert len(frames["liquidation_id"]) == 12


def test_one_symbols_directory_and_a_choice_of_symbols(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for symbol in ("BTC", "ETH"):
        write_journal(tmp_path / "journal", symbol)
    one = said(capsys, tmp_path / "journal" / "BTC", "--out", tmp_path / "a")
    chosen = said(capsys, tmp_path / "journal", "--symbol", "btc", "--out", tmp_path / "b")
    of_the_recording = said(capsys, tmp_path, "--symbol", "BTC", "--out", tmp_path / "c")
    assert one == chosen == of_the_recording
    both = said(capsys, tmp_path / "journal", "--out", tmp_path / "d")
    assert f"events {2 * len(TAPE)}" in both[1]


def test_bad_input_is_refused_in_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = said(capsys, tmp_path / "absent", "--out", tmp_path / "out")
    assert (code, err) == (1, f"liqmap replay: {tmp_path / 'absent'}: no such file or directory\n")
    (tmp_path / "empty").mkdir()
    code, _, err = said(capsys, tmp_path / "empty", "--out", tmp_path / "out")
    assert (code, err) == (1, f"liqmap replay: {tmp_path / 'empty'}: holds neither a journal nor a capture\n")
    (tmp_path / "words.txt").write_text("no frames in here\n")
    code, _, err = said(capsys, tmp_path / "words.txt", "--out", tmp_path / "out")
    assert code == 1 and "words.txt: line 1" in err
    write_journal(tmp_path / "journal", "DOGE")
    code, _, err = said(capsys, tmp_path / "journal", "--out", tmp_path / "out")
    assert code == 78 and "symbols.DOGE: is not configured" in err
    path = journal_files(tmp_path / "journal" / "DOGE")[0]
    content = bytearray(path.read_bytes())
    content[8] = 2
    path.write_bytes(content)
    code, _, err = said(capsys, tmp_path / "journal", "--out", tmp_path / "out")
    assert code == 1 and f"{path}: it is of journal version 2, this program reads version 1" in err


@pytest.mark.finding("M25")
def test_damage_is_told_with_file_and_offset_and_the_rest_is_played(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_journal(tmp_path / "journal", batch=100)
    path = journal_files(tmp_path / "journal" / "BTC")[0]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    code, out, err = said(capsys, tmp_path / "journal", "--out", tmp_path / "out")
    assert code == 0
    assert f"events {len(TAPE) - 100}" in out
    assert re.search(rf"a part of the journal is lost file={re.escape(str(path))} offset=\d+ bytes=6432", err)


def test_frames_of_another_recorder_go_through_adapters_and_router(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = []
    for second in range(190):
        at_ms = START_S * 1000 + second * 1000
        price = 60_000.0 + second
        mark_price = {
            "e": "markPriceUpdate",
            "E": at_ms,
            "s": "BTCUSDT",
            "p": str(price),
            "i": str(price),
            "r": "",
            "T": 0,
        }
        printed = {"e": "aggTrade", "E": at_ms, "s": "BTCUSDT", "a": second, "p": str(price), "q": "0.5", "T": at_ms}
        lines += [
            f"{at_ms * 10**6 + 5} {json.dumps(mark_price)}",
            f"{at_ms * 10**6 + 9} {json.dumps(printed | {'m': True})}",
        ]
        if second == 100:
            lines.append(f"{at_ms * 10**6 + 11} {{broken")
    (tmp_path / "frames").write_text("\n".join(lines) + "\n")
    once = said(capsys, tmp_path / "frames", "--out", tmp_path / "a")
    again = said(capsys, tmp_path / "frames", "--out", tmp_path / "b")
    assert once[:2] == again[:2]
    assert re.fullmatch(r"digest [0-9a-f]{64}  frames 3  events \d+\n", once[1])
    assert "file=" in once[2] and "line=" in once[2], "the broken line is told with its place"
    with np.load(tmp_path / "a" / "frames_BTC_0001.npz") as frames:
        assert frames["close"].tolist() == [60_059.0, 60_119.0, 60_179.0]
        assert frames["taker_sell_base"].tolist() == [30.0, 30.0, 30.0]
