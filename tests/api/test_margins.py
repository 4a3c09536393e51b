"""What /health says of margin tables: numbers always, a sentence where the market is real, and never a worse status."""

from typing import Any

import numpy as np
import pytest
from flask.testing import FlaskClient

from liqmap.domain.enums import Source, Venue
from tests.api.stage import Stage

TOLD_MS = 1_796_000_000_000  # 2026-11-30


def margins(*rows: dict[str, Any]) -> Any:
    def fill(board: Any) -> None:
        board["margin_count"] = len(rows)
        for number, given in enumerate(rows):
            row = board["margins"][number]
            row["venue"], row["symbol"], row["refreshed_ms"], row["late"] = Venue.BYBIT, b"BTC", -1, 0
            row["tiers_off"], row["own"], row["used_as_of"], row["reason"] = 0, 0, b"", b""
            row["leverage"] = row["used_mmr"] = row["published_mmr"] = np.nan
            for name, value in given.items():
                row[name] = value

    return fill


OFF = {
    "refreshed_ms": TOLD_MS,
    "tiers_off": 3,
    "own": 1,
    "leverage": 125.0,
    "used_mmr": 0.005,
    "published_mmr": 0.0033,
    "used_as_of": b"2026-09",
}
DRIFTED = (
    "margins of BTC at bybit differ from those in use: 0.33 % (2026-11-30) instead of 0.5 % (2026-09) at 125x; "
    "3 tiers off by more than 10 %"
)


def test_a_table_that_is_off_is_a_sentence_and_degrades_nothing(web: FlaskClient, set_: Stage) -> None:
    set_.write_clock(Source.LIVE)
    set_.write_feeds(kept=margins(OFF))
    body = web.get("/health").get_json()
    assert (body["source"], body["status"], body["problems"]) == ("live", "ok", [DRIFTED])
    said = body["margins"]["BTC"]["bybit"]
    assert (said["leverage"], said["used_mmr"], said["published_mmr"], said["drift"]) == (125, 0.005, 0.0033, -0.34)
    assert (said["refreshed_ms"], said["used_as_of"], said["tiers_off"], said["own"]) == (TOLD_MS, "2026-09", 3, True)


def test_of_a_simulated_market_the_numbers_are_told_and_no_sentence(web: FlaskClient, set_: Stage) -> None:
    set_.write_feeds(kept=margins(OFF))
    body = web.get("/health").get_json()
    assert (body["source"], body["status"], body["problems"]) == ("simulated", "ok", [])
    assert body["margins"]["BTC"]["bybit"]["tiers_off"] == 3


def test_what_stands_for_a_venue_without_a_table_is_named(web: FlaskClient, set_: Stage) -> None:
    set_.write_clock(Source.LIVE)
    set_.write_feeds(kept=margins({**OFF, "own": 0, "tiers_off": 1}))
    [problem] = web.get("/health").get_json()["problems"]
    assert "instead of 0.5 % (2026-09, of other venues) at 125x; 1 tier off by" in problem


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (
            {"late": 1, "reason": b"cannot resolve api.bybit.com"},
            "margins of BTC at bybit were never told (cannot resolve api.bybit.com)",
        ),
        ({"late": 1, "refreshed_ms": TOLD_MS}, "margins of BTC at bybit are not told since 2026-11-30"),
    ],
)
def test_an_endpoint_that_does_not_answer_leaves_an_age_and_no_drift(
    web: FlaskClient, set_: Stage, row: dict[str, Any], words: str
) -> None:
    set_.write_clock(Source.LIVE)
    set_.write_feeds(kept=margins(row))
    body = web.get("/health").get_json()
    assert (body["status"], body["problems"]) == ("ok", [words])
    said = body["margins"]["BTC"]["bybit"]
    assert (said["drift"], said["tiers_off"], said["published_mmr"]) == (None, None, None)
    assert (said["refreshed_age_ms"] is None) == (said["refreshed_ms"] is None)


def test_before_a_venue_was_asked_nothing_is_said(web: FlaskClient, set_: Stage) -> None:
    set_.write_clock(Source.LIVE)
    set_.write_feeds(kept=margins({"reason": b"not told yet"}))
    body = web.get("/health").get_json()
    assert body["problems"] == [] and body["margins"]["BTC"]["bybit"]["reason"] == "not told yet"
