"""The contract's tabular formats: what is read, what is unknown, and where a fault is."""

import gzip
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from liqmap.domain.enums import PositionSide, Venue
from liqmap.store.tables import (
    Bar,
    RecordedLiquidation,
    TableError,
    read_bars,
    read_hourly,
    read_liquidations,
    read_truth,
    tables_of,
)

MINUTE = 1_770_681_600_000
BARS = "minute_ms,open,high,low,close,taker_buy_base,taker_sell_base,taker_buy_share,open_interest_base\n"
LIQUIDATIONS = "ts_ms,venue,position_side,price,qty_base\n"


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    def writer(text: str, name: str = "table.csv") -> Path:
        path = tmp_path / name
        path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
        return path

    return writer


@pytest.mark.parametrize("name", ["table.csv", "table.csv.gz", "packed-without-saying-so.csv"])
def test_plain_and_packed_files_read_the_same(write: Callable[..., Path], name: str) -> None:
    path = write(LIQUIDATIONS + f"{MINUTE},binance,long,65000.5,0.25\n{MINUTE},,short,1,2\n", name)
    if name.startswith("packed"):
        path.write_bytes(gzip.compress(path.read_bytes()))
    assert list(read_liquidations(path)) == [
        RecordedLiquidation(MINUTE, Venue.BINANCE, PositionSide.LONG, 65000.5, 0.25),
        RecordedLiquidation(MINUTE, Venue.UNKNOWN, PositionSide.SHORT, 1.0, 2.0),
    ]


def test_columns_are_found_by_name_extra_ones_ignored_missing_ones_unknown(write: Callable[..., Path]) -> None:
    [bar] = read_bars(write(f"close,note,low,minute_ms,open,high\n3,hello,1,{MINUTE},2,4\n"))
    assert bar[:5] == (MINUTE, 2.0, 4.0, 1.0, 3.0)
    assert all(math.isnan(number) for number in bar[5:])
    assert bar._fields == Bar._fields


def test_an_empty_cell_is_unknown_and_a_zero_is_zero(write: Callable[..., Path]) -> None:
    [bar] = read_bars(write(BARS + f"{MINUTE},2,4,1,3,0,,0.5,\n"))
    assert bar.taker_buy_base == 0.0
    assert math.isnan(bar.taker_sell_base)
    assert bar.taker_buy_share == 0.5
    assert math.isnan(bar.open_interest_base)


def test_hourly_levels_and_truth(write: Callable[..., Path]) -> None:
    hourly = write(f"hour_ms,open_interest_usd_close,price_close\n{MINUTE},8e9,80000\n{MINUTE + 3_600_000},,80000\n")
    rows = list(read_hourly(hourly))
    assert rows[0] == (MINUTE, 8e9, 80000.0)
    assert math.isnan(rows[1].open_interest_usd_close)
    truth = write(f"ts_ms,position_side,liquidation_price,qty_base\n{MINUTE},long,50000,1.5\n")
    assert list(read_truth(truth)) == [(MINUTE, PositionSide.LONG, 50000.0, 1.5)]


Reader = Callable[[Path], Iterator[Any]]


@pytest.mark.parametrize(
    ("reader", "text", "line", "says"),
    [
        (read_bars, "minute_ms,open,high,low\n", 1, "close is missing"),
        (read_bars, "", 1, "minute_ms is missing"),
        (read_liquidations, "ts_ms,ts_ms,position_side,price,qty_base\n", 1, "stands twice"),
        (read_bars, BARS + f"{MINUTE},2,4,1,3,,,,\n{MINUTE},2,4,1,3,,,,\n", 3, "comes after"),
        (read_bars, BARS + f"{MINUTE + 1},2,4,1,3,,,,\n", 2, "not a multiple"),
        (read_bars, BARS + f"{MINUTE},2,2.5,1,3,,,,\n", 2, "do not contain"),
        (read_bars, BARS + f"{MINUTE},2,nan,1,3,,,,\n", 2, "high = 'nan'"),
        (read_bars, BARS + f"{MINUTE},2,4,1,3,,,1.5,\n", 2, "taker_buy_share"),
        (read_bars, BARS + f"{MINUTE},2,4\n", 2, "low = ''"),
        (read_bars, BARS + f"{MINUTE // 1000},2,4,1,3,,,,\n", 2, "not a time"),
        (read_liquidations, LIQUIDATIONS + f"{MINUTE},kraken,long,1,1\n", 2, "venue = 'kraken'"),
        (read_liquidations, LIQUIDATIONS + f"{MINUTE},okx,buy,1,1\n", 2, "must be long or short"),
        (read_liquidations, LIQUIDATIONS + f"{MINUTE},okx,long,1,0\n", 2, "positive"),
        (read_liquidations, LIQUIDATIONS + f"{MINUTE},okx,long,inf,1\n", 2, "price = 'inf'"),
    ],
)
def test_a_fault_names_file_and_line(
    write: Callable[..., Path], reader: Reader, text: str, line: int, says: str
) -> None:
    path = write(text)
    with pytest.raises(TableError, match=says) as caught:
        list(reader(path))
    assert str(caught.value).startswith(f"{path}:{line}: ")


def test_what_stands_before_a_fault_was_read(write: Callable[..., Path]) -> None:
    rows = read_liquidations(write(LIQUIDATIONS + f"{MINUTE},okx,long,1,1\n{MINUTE},okx,long,1,bad\n"))
    assert next(rows).price == 1.0
    with pytest.raises(TableError):
        next(rows)


def test_a_packed_file_that_was_cut_off_says_where(write: Callable[..., Path]) -> None:
    path = write(LIQUIDATIONS + "".join(f"{MINUTE + i},okx,long,{i + 1},1\n" for i in range(20_000)), "t.csv.gz")
    path.write_bytes(path.read_bytes()[:-2000])
    rows, read = read_liquidations(path), 0
    with pytest.raises(TableError, match="cannot be read further"):
        for _ in rows:
            read += 1
    assert read > 1000


def test_the_files_of_a_directory(write: Callable[..., Path], tmp_path: Path) -> None:
    write(BARS + f"{MINUTE},2,4,1,3,,,,\n", "bars_1m_BTC.csv.gz")
    write(LIQUIDATIONS, "liquidations_BTC.csv")
    found = tables_of(tmp_path, "BTC")
    assert found.bars == tmp_path / "bars_1m_BTC.csv.gz"
    assert found.liquidations == tmp_path / "liquidations_BTC.csv"
    assert found.hourly is None
    assert tables_of(tmp_path, "ETH").bars is None
