"""Parameters: one table parses, refuses and documents."""

from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.datastructures import MultiDict

from liqmap.api.errors import ApiError, InvalidParameter, RepeatedParameter, UnknownParameter
from liqmap.api.parameters import MAX_VALUE_LENGTH, Choice, Flag, Number, SymbolName, Table, Whole


@dataclass(frozen=True)
class Asked:
    """What the table below parses into."""

    symbol: str
    range_pct: float
    limit: int | None
    side: str | None
    tiers: bool


TABLE = Table(
    Asked,
    (
        SymbolName("symbol", "…", "BTC", {"BTC": "BTC", "BTCUSDT": "BTC", "ETH": "ETH", "SOL": "SOL"}),
        Number("range_pct", "…", 10.0, low=0.5, high=50.0),
        Whole("limit", "…", low=1, high=5000),
        Choice("side", "…", choices=("long", "short")),
        Flag("tiers", "…", False),
    ),
)


def parse(*pairs: tuple[str, str]) -> Asked:
    """A query of these pairs."""
    return TABLE.parse(MultiDict(list(pairs)))


def test_defaults_stand_in_the_table() -> None:
    assert parse() == Asked("BTC", 10.0, None, None, False)


@pytest.mark.finding("L12")
@pytest.mark.parametrize(
    "pairs",
    [
        [("range_pct", "10")],
        [("range_pct", "10.0")],
        [("range_pct", "1e1")],
        [("range_pct", "+10.")],
        [("symbol", "btc")],
        [("symbol", "BTCUSDT"), ("tiers", "0")],
        [("tiers", "0"), ("range_pct", "010")],
    ],
)
def test_the_same_request_in_other_words_is_the_same_object(pairs: list[tuple[str, str]]) -> None:
    assert parse(*pairs) == parse() and hash(parse(*pairs)) == hash(parse())


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("range_pct", "0.4999"),
        ("range_pct", "50.0001"),
        ("range_pct", "nan"),
        ("range_pct", "inf"),
        ("range_pct", "-inf"),
        ("range_pct", "1_0"),
        ("range_pct", ""),
        ("range_pct", " 10"),
        ("range_pct", "0x10"),
        ("range_pct", "1e400"),
        ("range_pct", "٣"),
        ("limit", "0"),
        ("limit", "5001"),
        ("limit", "5.0"),
        ("limit", "-1"),
        ("limit", "9" * 20),
        ("side", "buy"),
        ("side", ""),
        ("tiers", "true"),
        ("tiers", "2"),
        ("symbol", "DOGE"),
        ("symbol", "BTC\n"),
        ("symbol", "\N{LATIN SMALL LETTER LONG S}OL"),
        ("symbol", "x" * (MAX_VALUE_LENGTH + 1)),
    ],
)
def test_a_value_outside_is_refused_by_name(name: str, text: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        parse((name, text))
    assert caught.value.param == name and caught.value.status == 400


@pytest.mark.finding("M24")
@pytest.mark.finding("L14")
def test_what_the_table_does_not_name_is_refused() -> None:
    with pytest.raises(UnknownParameter) as caught:
        parse(("rangepct", "5"))
    assert caught.value.param == "rangepct"
    assert caught.value.allowed == ["symbol", "range_pct", "limit", "side", "tiers"]


def test_twice_is_refused_even_when_equal() -> None:
    with pytest.raises(RepeatedParameter):
        parse(("range_pct", "5"), ("range_pct", "5"))


def test_a_table_that_does_not_fit_its_record_cannot_be_made() -> None:
    with pytest.raises(ValueError, match="are not the parameters"):
        Table(Asked, (Number("range_pct", "…"),))


@given(st.lists(st.tuples(st.sampled_from(["symbol", "range_pct", "limit", "side", "tiers", "x"]), st.text())))
def test_any_query_parses_or_is_refused(pairs: list[tuple[str, str]]) -> None:
    try:
        asked = parse(*pairs)
    except ApiError as error:
        assert error.status == 400 and error.message
        return
    assert 0.5 <= asked.range_pct <= 50 and asked.symbol in ("BTC", "ETH")
    assert asked.limit is None or 1 <= asked.limit <= 5000


@given(st.floats(0.5, 50.0))
def test_every_number_of_the_range_is_accepted_as_it_is(value: float) -> None:
    assert parse(("range_pct", f"{value:.12f}")).range_pct == pytest.approx(value, abs=1e-9)


def test_the_schema_has_the_same_ranges() -> None:
    schemas: dict[str, dict[str, Any]] = {each.name: each.schema() for each in TABLE.parameters}
    assert schemas["range_pct"] == {"type": "number", "minimum": 0.5, "maximum": 50.0}
    assert schemas["limit"] == {"type": "integer", "minimum": 1, "maximum": 5000}
    assert schemas["side"]["enum"] == ["long", "short"]
