"""The worker's order books: boards in, rows out, nothing twice, nothing infinite, never a wait."""

from collections.abc import Iterator

import numpy as np
import pytest

from liqmap.config import Config, parse
from liqmap.domain.enums import BookState
from liqmap.shm.layout import BOOK_UNIT_USD
from liqmap.shm.plan import create_all
from liqmap.worker.books import OrderBooks, spec_of
from tests.books_stage import SECOND_NS, DepthStage, book_usd

START_NS = 1_700_000_010 * SECOND_NS
MID = 90_010.0


@pytest.fixture
def config(instance: str) -> Iterator[Config]:
    """One symbol with its segments."""
    made = parse(
        {
            "daemon": {"instance": instance},
            "ingest": {"ring_events": 1024},
            "history": {"minute_columns": 8, "recent_liquidations": 256},
            "depth": {"frames": 8},
            "symbols": {"BTC": {}},
        }
    )
    holding = create_all(made)
    yield made
    holding.retire_all()


def play(books: OrderBooks, depth: DepthStage, from_s: int, to_s: int, **changes: float) -> None:
    """One state a second, each taken at once."""
    for at in range(from_s, to_s):
        depth.publish(START_NS + at * SECOND_NS, MID, **changes)
        assert books.turn(START_NS + at * SECOND_NS)
        assert not books.turn(START_NS + at * SECOND_NS)


def test_frames_of_the_board_become_rows(config: Config) -> None:
    books, depth = OrderBooks(config, "BTC"), DepthStage(config, "BTC")
    assert not books.turn(-1)
    play(books, depth, 0, 61)
    first, second = depth.rows()
    assert (first["t_ms"], second["t_ms"]) == (START_NS // 10**6, START_NS // 10**6 + 30_000)
    assert (first["samples"], first["interval_ms"], first["step"], first["mid_mean"]) == (30, 30_000, 20.0, MID)
    used = int(first["buckets"])
    wanted = book_usd(int(first["first_bucket"]), used, MID, 20.0)
    assert np.allclose(first["cells"][..., :used].astype(float) * BOOK_UNIT_USD, wanted, rtol=1e-3, equal_nan=True)
    assert np.isnan(first["cells"][..., used:]).all()
    assert first["summed"]["covered_ms"] == 30_000 and first["summed"]["complete_low"] == pytest.approx(0.98 * MID)
    assert first["venues"]["total_usd"][0] == pytest.approx(
        np.nansum(wanted[0], axis=-1), rel=2e-3
    )  # but for the edges
    assert np.allclose(first["summed"]["total_usd"], first["venues"]["total_usd"].sum(axis=0))


def test_a_successor_shows_nothing_twice_and_says_what_it_has_seen(config: Config) -> None:
    depth = DepthStage(config, "BTC")
    play(OrderBooks(config, "BTC"), depth, 0, 40)  # dies in the middle of the second frame
    successor = OrderBooks(config, "BTC")
    play(successor, depth, 45, 62)
    first, second = depth.rows()
    assert first["summed"]["covered_ms"] == 30_000
    assert second["t_ms"] == first["t_ms"] + 30_000
    assert second["summed"]["covered_ms"] == 15_000 and second["samples"] == 15
    play(OrderBooks(config, "BTC"), depth, 45, 62)  # another one is shown the same time again
    assert len(depth.rows()) == 2


def test_time_closes_a_frame_that_no_sample_closes(config: Config) -> None:
    books, depth = OrderBooks(config, "BTC"), DepthStage(config, "BTC")
    play(books, depth, 0, 10)
    books.turn(START_NS + 31 * SECOND_NS)
    assert len(depth.rows()) == 0
    books.turn(START_NS + 32 * SECOND_NS)
    (row,) = depth.rows()
    assert row["summed"]["covered_ms"] == 9_000 + 1_500


def test_more_dollars_than_fit_are_at_least_so_many_never_infinite(config: Config) -> None:
    books, depth = OrderBooks(config, "BTC"), DepthStage(config, "BTC")
    play(books, depth, 0, 31, scale=1e6)
    (row,) = depth.rows()
    cells = row["cells"][..., : row["buckets"]]
    assert not np.isinf(cells).any() and np.nanmax(cells) == np.float16(65504)
    assert np.nanmin(cells) == 0.0 and row["summed"]["total_usd"][0] > 655e6


def test_broken_books_are_unknown_in_the_row(config: Config) -> None:
    books, depth = OrderBooks(config, "BTC"), DepthStage(config, "BTC")
    for at in range(31):
        states = [BookState.SYNCED, BookState.BROKEN, 0]
        depth.publish(START_NS + at * SECOND_NS, MID, state=states, resyncs=[0, at, 0])
        books.turn(-1)
    (row,) = depth.rows()
    assert np.isnan(row["cells"][1:]).all() and np.isnan(row["venues"]["total_usd"][1]).all()
    assert row["venues"]["covered_ms"].tolist() == [30_000, 0, 0]
    assert row["summed"]["covered_ms"] == 0 and row["venues"]["resyncs"].tolist() == [0, 29, 0]


def test_a_board_of_another_step_is_passed_over(config: Config) -> None:
    books, depth = OrderBooks(config, "BTC"), DepthStage(config, "BTC")
    depth.step = 10.0
    for at in range(0, 62, 2):
        depth.publish(START_NS + at * SECOND_NS, MID)
        books.turn(-1)
    assert len(depth.rows()) == 0 and books.passed_over == 31


def test_what_holds_follows_the_publishing_period(config: Config) -> None:
    assert spec_of(config.depth, 20.0).hold_ns == 1_500_000_000
    slow = parse({"depth": {"publish_ms": 4000}}).depth
    assert spec_of(slow, 20.0).hold_ns == 8_000_000_000
