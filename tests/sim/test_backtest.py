"""`liqmap backtest` over the tables of a small world: report, density, truth, and no fact before its time."""

import csv
import gzip
import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from liqmap.backtest.truth import BIN, BINS, model_bins, positions_by_time, score, true_bins
from liqmap.cli.backtest import main
from liqmap.config.simulation import sim_config
from liqmap.domain.enums import PositionSide
from liqmap.domain.grid import Grid, Window
from liqmap.sim.worlds import FIRST_MS, write_world
from liqmap.store.tables import TruePosition, read_truth

MINUTES = 180
MINUTE_MS = 60_000
NUMBERS = ("emd_pct", "pearson", "spearman", "usd_ratio")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three hours of a lively market, the truth at the end of each."""
    directory = tmp_path_factory.mktemp("world")
    config = sim_config(preset="lively", seed=5, tick_ms=15_000, symbols={"BTC": {"positions": 4000}})
    write_world(config, "BTC", MINUTES, directory)
    return directory


def backtest(world: Path, out: Path, *more: str) -> dict[str, Any]:
    """The report of a run over the tables of that world."""
    tables = ["--bars", str(world / "bars_1m_BTC.csv.gz"), "--liquidations", str(world / "liquidations_BTC.csv.gz")]
    assert main(["--symbol", "btc", *tables, "--out", str(out), *more]) == 0
    found: dict[str, Any] = json.loads(out.read_bytes())
    return found


def test_a_report_has_what_the_contract_names_and_says_why_what_is_null(world: Path, tmp_path: Path) -> None:
    truth = str(world / "truth_BTC.csv.gz")
    report = backtest(world, tmp_path / "r.json", "--truth", truth, "--truth-after-h", "1")
    assert (report["symbol"], report["from_ms"], report["minutes"]) == ("BTC", FIRST_MS, MINUTES)
    assert report["to_ms"] == FIRST_MS + MINUTES * MINUTE_MS
    assert report["events"] > MINUTES and report["liquidations"] > 0
    assert 0 < report["coverage"] < 1 and len(report["config_digest"]) == 64
    for model in ("flow", "inventory"):
        of_model = report["models"][model]
        assert of_model["truth"]["times"] == 3
        assert all(of_model["truth"][name] is not None for name in NUMBERS)
        assert set(of_model["ig_bits"]) == {"1h", "4h", "24h"} and not any(of_model["ig_bits"].values())
        assert of_model["deciles"] is None
    assert set(report["reasons"]) == {"ig_bits", "ig_bits_alone", "amount_bits", "deciles"}
    again = backtest(world, tmp_path / "again.json", "--truth", truth, "--truth-after-h", "1")
    assert again == report


def test_models_and_times_are_chosen_and_without_a_truth_there_is_a_reason(world: Path, tmp_path: Path) -> None:
    to_ms = FIRST_MS + 60 * MINUTE_MS
    report = backtest(world, tmp_path / "r.json", "--models", "flow", "--to", str(to_ms))
    assert list(report["models"]) == ["flow"] and report["models"]["flow"]["truth"] is None
    assert report["to_ms"] == to_ms and "truth" in report["reasons"]


def density(path: Path) -> dict[tuple[int, str, str], list[tuple[float, float]]]:
    """By (time, model, side): (price, dollars)."""
    rows: dict[tuple[int, str, str], list[tuple[float, float]]] = {}
    with gzip.open(path, "rt", encoding="ascii") as file:
        for row in csv.DictReader(file):
            key = int(row["ts_ms"]), row["model"], row["position_side"]
            rows.setdefault(key, []).append((float(row["price"]), float(row["usd"])))
    return rows


def test_a_density_knows_nothing_later_than_its_time(world: Path, tmp_path: Path) -> None:
    """What is said up to an hour is the same whether the tables end there or go on."""
    whole, cut = tmp_path / "whole.csv.gz", tmp_path / "cut.csv.gz"
    backtest(world, tmp_path / "r.json", "--density", str(whole), "--density-every-min", "20")
    shorter = tmp_path / "shorter"
    shorter.mkdir()
    for name in ("bars_1m_BTC.csv.gz", "liquidations_BTC.csv.gz"):
        keep_before(world / name, shorter / name, FIRST_MS + 61 * MINUTE_MS)
    backtest(shorter, tmp_path / "r.json", "--density", str(cut), "--density-every-min", "20")
    early, all_of_it = density(cut), density(whole)
    assert {ts for ts, _, _ in all_of_it} == {FIRST_MS + 20 * n * MINUTE_MS for n in range(1, 10)}
    assert len([key for key in early if key[0] <= FIRST_MS + 60 * MINUTE_MS]) == 12
    for key, rows in early.items():
        if key[0] <= FIRST_MS + 60 * MINUTE_MS:
            assert all_of_it[key] == rows
    for (_, _, side), rows in all_of_it.items():
        assert all(usd > 0 for _, usd in rows) and len({price for price, _ in rows}) == len(rows)
        assert side in ("long", "short")


def keep_before(source: Path, target: Path, until_ms: int) -> None:
    """The rows of a table before a time."""
    with gzip.open(source, "rt") as old, gzip.open(target, "wt") as new:
        new.write(next(old))
        new.writelines(line for line in old if int(line.split(",", 1)[0]) < until_ms)


@pytest.mark.parametrize(
    ("more", "code", "words"),
    [
        (["--models", "magic"], 2, "'magic' is no model"),
        (["--symbol", "DOGE"], 78, "symbols.DOGE"),
        (["--bars", "nowhere.csv"], 1, "nowhere.csv"),
        (["--truth", "nowhere.csv"], 1, "nowhere.csv"),
    ],
)
def test_what_cannot_be_used_is_said_in_one_line(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: Sequence[str], code: int, words: str
) -> None:
    tables = ["--bars", str(world / "bars_1m_BTC.csv.gz"), "--liquidations", str(world / "liquidations_BTC.csv.gz")]
    assert main(["--symbol", "BTC", *tables, "--out", str(tmp_path / "r.json"), *more]) == code
    said = capsys.readouterr().err
    assert words in said and said.count("\n") == 1
    assert not (tmp_path / "r.json").exists()


# -- the score --------------------------------------------------------------------------------------------------------


@cache
def _window() -> Window:
    return Window.around(Grid.of(20.0), 60_000.0, 20.0, 4000)


def test_bins_lie_on_their_own_side_of_the_mark_nearest_first_and_keep_every_dollar() -> None:
    mark, window = 60_010.0, _window()
    usd = np.zeros((2, window.count))
    near = (window.prices() < mark) & (window.prices() > mark * 0.9 + 20)
    usd[0, near] = 1.0
    bins = model_bins(usd, window, mark)
    assert bins.shape == (2, BINS) and bins[1].sum() == 0
    assert bins[0].sum() == pytest.approx(near.sum(), abs=1.0)
    rows = [
        TruePosition(1, PositionSide.LONG, mark * (1 - 0.5 * BIN), 2.0),
        TruePosition(1, PositionSide.SHORT, mark * (1 + 3.5 * BIN), 1.0),
        TruePosition(1, PositionSide.SHORT, mark * (1 - 0.01), 5.0),
        TruePosition(1, PositionSide.LONG, float("nan"), 7.0),
    ]
    (positions,) = positions_by_time(rows)
    truth = true_bins(positions, mark)
    assert truth[0].tolist() == [pytest.approx(2.0 * mark * (1 - 0.5 * BIN)), *([0.0] * (BINS - 1))]
    assert np.flatnonzero(truth[1]).tolist() == [3]


def test_a_score_is_perfect_for_the_truth_and_says_how_far_and_how_much() -> None:
    truth = np.random.default_rng(3).exponential(1.0, BINS)
    same = score(truth, truth)
    assert same.emd_pct < 1e-12 and same.usd_ratio == 1.0
    assert min(same.pearson, same.spearman) > 1 - 1e-12
    one, other = np.zeros(BINS), np.zeros(BINS)
    one[0], other[10] = 2.0, 1.0
    moved = score(one, other)
    assert moved.emd_pct == pytest.approx(10 * BIN * 100) and moved.usd_ratio == 2.0
    assert score(3 * truth, truth).usd_ratio == pytest.approx(3.0)
    assert score(np.zeros(BINS), truth).usd_ratio == 0.0 and np.isnan(score(np.zeros(BINS), truth).pearson)
    monotone = score(truth**3, truth)
    assert monotone.spearman == pytest.approx(1.0) and monotone.pearson < 1.0


def test_a_truth_table_may_hold_positions_that_no_price_liquidates(world: Path) -> None:
    rows = list(read_truth(world / "truth_BTC.csv.gz"))
    assert any(np.isnan(row.liquidation_price) for row in rows) and all(row.qty_base > 0 for row in rows)
