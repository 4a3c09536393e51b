"""Margin tiers over real sockets: the simulated venues publish theirs, ingest keeps them; and what is said when an
endpoint refuses, answers nonsense, or is not there at all."""

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from liqmap.config import Config, Effective
from liqmap.domain.enums import Source, Venue
from liqmap.ingest.margins import Margins
from liqmap.sim.tiers import TIER_TABLES
from tests.fault.test_ingest_sockets import config_of, trade_everywhere
from tests.listening import Listening, listening
from tests.venue_servers import RunningVenues, ScriptedMarket, venue_servers

PUBLISHING = (Venue.BYBIT, Venue.OKX)


class Watching:
    """A running ingest that compares margins."""

    def __init__(self, ingest: Listening, venues: RunningVenues, config: Config, directory: Path) -> None:
        self.ingest, self.venues, self.kept = ingest, venues, directory / "margin"
        self.margins = Margins(self.kept, Source.SIMULATED, ingest.router)
        self.margins.use(Effective(config=config))

    def row(self, venue: Venue) -> Any:
        board = self.ingest.board()
        rows = board["margins"][: int(board["margin_count"])]
        found = rows[rows["venue"] == venue]
        return found[0] if len(found) else None

    def until(self, venue: Venue, condition: Any, what: str) -> None:
        def holds() -> bool:
            trade_everywhere(self.venues, "BTC")
            self.margins.look(self.ingest.router.time.now_ns)
            row = self.row(venue)
            return row is not None and bool(condition(row))

        self.ingest.until(holds, what)

    def brackets(self, venue: Venue) -> list[tuple[float | None, float, float]]:
        file = json.loads((self.kept / f"BTC-{venue.name.lower()}.json").read_bytes())
        return [(row["to_usd"], row["mmr"], row["max_leverage"]) for row in file["tables"][0]["brackets"]]


@contextmanager
def watching(directory: Path, every_s: float = 0.3, **rest: str) -> Iterator[Watching]:
    with venue_servers(ScriptedMarket("BTC", 60_000.0)) as venues:
        config = config_of(venues, "BTC")
        sections = {
            name: msgspec.structs.replace(
                getattr(config.venues, name), margins_poll_s=every_s, rest=rest.get(name) or venues.rest(venue)
            )
            for venue, name in ((venue, venue.name.lower()) for venue in PUBLISHING)
        }
        config = msgspec.structs.replace(config, venues=msgspec.structs.replace(config.venues, **sections))
        with listening(config) as ingest:
            yield Watching(ingest, venues, config, directory)


def test_the_tiers_that_the_venues_liquidate_by_are_what_is_kept(tmp_path: Path) -> None:
    with watching(tmp_path) as seen:
        for venue in PUBLISHING:
            seen.until(venue, lambda row: row["refreshed_ms"] >= 0, f"the tiers of {venue.name}")
        for venue in PUBLISHING:
            rows, brackets = TIER_TABLES[venue], seen.brackets(venue)
            assert [bracket[1:] for bracket in brackets] == [(mmr, leverage) for _, mmr, leverage in rows]
            ends = [end for end, _, _ in brackets[:-1]]
            assert ends == pytest.approx([floor for floor, _, _ in rows[1:]], rel=1e-3)
        assert not (seen.kept / "BTC-binance.json").exists(), "a key is needed"
        assert seen.row(Venue.OKX)["tiers_off"] > 0, "they differ from the shipped tables on purpose"


@pytest.mark.parametrize("venue", PUBLISHING)
@pytest.mark.parametrize("kind", ["200_html", "200_empty", "200_truncated"])
def test_nonsense_changes_nothing_that_was_known(tmp_path: Path, venue: Venue, kind: str) -> None:
    with watching(tmp_path) as seen:
        seen.until(venue, lambda row: row["refreshed_ms"] >= 0, "the tiers")
        seen.venues.fault(venue, {"fault": "rest", "kind": kind})
        seen.until(venue, lambda row: row["reason"] != b"", "a reason")
        before = seen.brackets(venue)
        told_ms = int(seen.row(venue)["refreshed_ms"])
        seen.until(venue, lambda row: row["late"], "lateness")
        assert (seen.brackets(venue), seen.row(venue)["refreshed_ms"]) == (before, told_ms)
        seen.venues.fault(venue, {"fault": "clear"})
        seen.until(venue, lambda row: not row["late"] and row["refreshed_ms"] > told_ms, "the tiers again")
        assert seen.row(venue)["reason"] == b""


def test_an_endpoint_that_is_not_there_is_said_to_be_and_the_other_venue_does_not_care(tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        nowhere = f"http://127.0.0.1:{closed.getsockname()[1]}"
        with watching(tmp_path, bybit=nowhere) as seen:
            seen.until(Venue.OKX, lambda row: row["refreshed_ms"] >= 0, "the tiers of OKX")
            seen.until(Venue.BYBIT, lambda row: row["late"], "lateness")
            row = seen.row(Venue.BYBIT)
            assert row["refreshed_ms"] == -1 and b"connection refused" in row["reason"]
            assert row["published_mmr"] != row["published_mmr"], "no drift is invented"
            assert not (seen.kept / "BTC-bybit.json").exists()
            source = seen.ingest.feeds.sources["bybit/margins.BTCUSDT"]
            assert source.reason == "", "no venue is worse for it"


def test_the_first_answer_comes_soon_after_the_start_whatever_the_rhythm(tmp_path: Path) -> None:
    with watching(tmp_path, every_s=21_600.0) as seen:
        for venue in PUBLISHING:
            seen.until(venue, lambda row: row["refreshed_ms"] >= 0, f"the tiers of {venue.name}")
