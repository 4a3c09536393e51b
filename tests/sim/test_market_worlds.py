"""Worlds: presets liquidate what they say, two families that differ in kind, and tables that are the contract's."""

import csv
import gzip
import itertools
import json
from collections import defaultdict
from pathlib import Path

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from liqmap.config import Config, ConfigError, parse
from liqmap.config.simulation import (
    PersonConfig,
    PriceConfig,
    RegimeConfig,
    SimConfig,
    SimSymbolConfig,
    sim_config,
)
from liqmap.domain.enums import PositionSide
from liqmap.sim.market.people import Mood, People
from liqmap.sim.market.simulated import SimulatedMarket
from liqmap.sim.market.truth import truth, write_truth
from liqmap.sim.worlds import FIRST_MS, UnknownSymbol, main, open_market
from tests.sim.market_worlds import START_MS, liquidations, market, small, ticks

LIQUIDATED_PER_DAY = {"lively": (0.3, 2.5), "quiet": (0.002, 0.08), "demo": (0.02, 0.6)}
"""What a day of each preset may liquidate, as a multiple of open interest; docs/model.md states the means. Wide,
because a day with a regime or a jump in it is not a day without."""


@pytest.mark.parametrize("family", ["habits", "crowds"])
@pytest.mark.parametrize("preset", sorted(LIQUIDATED_PER_DAY))
def test_presets_liquidate_about_what_they_say(family: str, preset: str) -> None:
    days, sides = 0.0, set()
    share = 0.0
    for seed in (1, 2):
        world = market(family=family, preset=preset, seed=seed, tick_ms=60_000, trades_per_s=0.02)
        level = sum(venue.open_interest_base for venue in world.advance(START_MS).venues.values())
        rows = liquidations([world.advance(START_MS + 43_200_000)])
        share += float(rows["qty_base"].sum()) / level
        sides |= set(rows["position_side"].tolist())
        days += 0.5
    low, high = LIQUIDATED_PER_DAY[preset]
    assert low < share / days < high
    assert sides == {int(side) for side in PositionSide}


@pytest.mark.slow
@pytest.mark.parametrize("family", ["habits", "crowds"])
@pytest.mark.parametrize(("preset", "low", "high"), [("lively", 0.6, 1.6), ("quiet", 0.01, 0.04)])
def test_many_days_of_a_preset_liquidate_what_it_says(family: str, preset: str, low: float, high: float) -> None:
    """The middle of eight days: one crash (16 % of open interest in a quiet market) says nothing about the others."""
    shares = []
    for seed in range(1, 9):
        config = sim_config(family=family, preset=preset, seed=seed, tick_ms=15_000, trades_per_s=0.02)
        world = SimulatedMarket(config, "BTC", START_MS)
        level = sum(venue.open_interest_base for venue in world.advance(START_MS).venues.values())
        rows = liquidations([world.advance(START_MS + 86_400_000)])
        shares.append(float(rows["qty_base"].sum()) / level)
    assert low < np.median(shares) < high, shares


@pytest.mark.parametrize("symbol", ["BTC", "ETH", "SOL"])
def test_the_first_hour_of_the_demo_shows_what_a_visitor_should_see(symbol: str) -> None:
    """New money in most minutes, liquidations on both sides every few minutes, five to thirty trades a second."""
    world = SimulatedMarket(sim_config(preset="demo", tick_ms=4000), symbol, START_MS)
    tapes = ticks(world, 60, 60_000)
    level = [sum(venue.open_interest_base for venue in tape.venues.values()) for tape in tapes]
    assert (np.diff(level) > 0).mean() > 0.6
    rows = liquidations(tapes)
    for side in PositionSide:
        assert len(set((rows["ts_ms"][rows["position_side"] == side] // 600_000).tolist())) >= 3
    assert len(set((rows["ts_ms"] // 300_000).tolist())) >= 8
    for venue in world.makers:
        per_s = sum(len(tape.venues[venue].trades) for tape in tapes) / 3600
        assert 5 < per_s < 30


def test_the_second_family_differs_in_kind() -> None:
    """Heavy tails of size, no leverage habits, mostly cross margin, stops; crowds that run the same way; regimes."""
    worlds = {family: SimulatedMarket(small(20_000, family=family), "BTC", START_MS) for family in ("habits", "crowds")}
    rows = {family: world.positions.rows for family, world in worlds.items()}
    assert rows["habits"]["cross"].mean() < 0.4 < 0.6 < rows["crowds"]["cross"].mean()
    stops = {family: (~np.isnan(people["stop"])).mean() for family, people in rows.items()}
    assert stops["crowds"] > 1.5 * stops["habits"]
    habits, crowds = small(family="habits"), small(family="crowds")
    assert (habits.size_law, habits.hold_law, habits.price.law) == ("lognormal", "lognormal", "stochastic_volatility")
    assert (crowds.size_law, crowds.hold_law, crowds.price.law) == ("pareto", "pareto", "regimes")
    spread = {}
    for family, name in (("habits", "day_trader"), ("crowds", "follower")):
        mine = rows[family][rows[family]["person"] == list(small(family=family).people).index(name)]
        spread[family] = np.percentile(mine["qty_lots"], [2, 50, 99]) / np.median(mine["qty_lots"])
    assert spread["habits"][0] < 0.15, "a log-normal has small ones as it has large ones"
    assert spread["crowds"][0] > 0.5 and spread["crowds"][2] > 8, "a Pareto law has a least size and a long tail"
    kind = list(habits.people).index("day_trader")
    chosen = np.log10(rows["habits"]["leverage"][rows["habits"]["person"] == kind])
    peaks = np.histogram(chosen, bins=np.arange(0.4, 1.9, 0.05))[0]
    assert _humps(peaks) >= 2, "habits leave humps in the mix of leverages"
    chosen = np.log10(rows["crowds"]["leverage"][rows["crowds"]["person"] == 0])
    assert _humps(np.histogram(chosen, bins=np.arange(0.0, 1.8, 0.05))[0]) == 1


def _humps(counts: NDArray[np.intp]) -> int:
    """Local maxima of a smoothed histogram that stand a tenth above the valleys beside them."""
    smooth = np.convolve(counts, [0.25, 0.5, 0.25], "same")
    humps, rising, top, bottom = 0, True, 0.0, float("inf")
    for value in smooth:
        if rising:
            top = max(top, value)
            if value < 0.9 * top and top > 0.05 * smooth.max():
                humps, rising, bottom = humps + 1, False, value
        else:
            bottom = min(bottom, value)
            if value > 1.1 * bottom + 0.01 * smooth.max():
                rising, top = True, value
    return humps


def test_crowds_run_together_and_the_people_of_habits_hardly() -> None:
    """After a strong half hour most kinds of the second family enter on one side; those of the first mostly differ."""
    herd = {}
    for family in ("habits", "crowds"):
        config = small(family=family)
        people = People(config, config.symbols["BTC"], np.random.default_rng(5))
        longs = []
        for trend in (2.0, -2.0):
            rows = people.arrive(np.full(20_000, 1, np.uint8), 91_000.0, START_MS, Mood(trend, 0.0))
            kinds = range(len(config.people))
            longs.append([(rows["sign"][rows["person"] == kind] > 0).mean() for kind in kinds])
        shares = np.array([person.share for person in config.people.values()])
        swing = np.abs(np.array(longs[0]) - np.array(longs[1]))
        herd[family] = float((shares * swing).sum() / shares.sum())
    assert herd["crowds"] > 0.6
    assert herd["habits"] < 0.35


def test_leverages_do_not_sit_on_the_models_tiers() -> None:
    """People's leverages are continuous: no more of them within 2 % of a tier than a smooth law would put there."""
    tiers = np.array(Config().symbols["BTC"].leverages)
    for family in ("habits", "crowds"):
        leverage = SimulatedMarket(small(20_000, family=family), "BTC", START_MS).positions.rows["leverage"]
        assert len(np.unique(leverage)) > 0.98 * len(leverage)
        near = (np.abs(leverage[:, None] / tiers - 1.0) < 0.02).any(axis=1).mean()
        assert near < 0.3


def test_people_add_margin_and_accounts_wander() -> None:
    world = market(preset="lively", tick_ms=5000)
    known = {row["id"]: (row["margin_usd"], row["topups_left"], row["cross"]) for row in world.positions.rows}
    world.advance(START_MS + 3_600_000)
    added = wandered = 0
    for row in world.positions.rows:
        if row["id"] in known:
            margin, left, cross = known[row["id"]]
            added += bool(row["topups_left"] < left and row["margin_usd"] > margin)
            wandered += bool(cross and row["topups_left"] == left and row["margin_usd"] != margin)
    assert added > 0
    assert wandered > 100


def test_people_panic_only_while_volatility_is_extreme() -> None:
    world = market(preset="lively", tick_ms=1000)
    assert len(world._panicking(60_000)) == 0
    world._price._weather.volatility_ratio = 3.0
    losing = world._panicking(60_000_000)
    rows = world.positions.rows[losing]
    assert len(rows) > 10
    assert (rows["sign"] * (world.prices.last - rows["entry"]) < 0).all()


def _rows(path: Path) -> list[dict[str, str]]:
    with gzip.open(path, "rt") as lines:
        return list(csv.DictReader(lines))


def test_a_world_is_written_as_the_contracts_tables_and_is_the_same_each_time(tmp_path: Path) -> None:
    arguments = ["--symbol", "SOL", "--days", "0.05", "--seed", "3", "--tick-ms", "10000", "--truth-every-min", "30"]
    for name in ("one", "two"):
        assert main([*arguments, "--out", str(tmp_path / name)]) == 0
    for path in sorted((tmp_path / "one").iterdir()):
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()
    bars = _rows(tmp_path / "one" / "bars_1m_SOL.csv.gz")
    assert [int(bar["minute_ms"]) for bar in bars] == [FIRST_MS + 60_000 * i for i in range(72)]
    for earlier, bar in itertools.pairwise(bars):
        assert float(bar["low"]) <= min(float(bar["open"]), float(bar["close"]))
        assert float(bar["high"]) >= max(float(bar["open"]), float(bar["close"]))
        change = float(bar["open_interest_base"]) - float(earlier["open_interest_base"])
        assert float(bar["open_interest_change_usd"]) == pytest.approx(change * float(bar["close"]), rel=1e-5, abs=1.0)
        buy, sell = float(bar["taker_buy_base"]), float(bar["taker_sell_base"])
        assert float(bar["taker_buy_share"]) == pytest.approx(buy / (buy + sell), abs=1e-5)
    at = {int(bar["minute_ms"]) + 60_000: float(bar["open_interest_base"]) for bar in bars}
    held: dict[tuple[int, str], float] = defaultdict(float)
    for row in _rows(tmp_path / "one" / "truth_SOL.csv.gz"):
        held[int(row["ts_ms"]), row["position_side"]] += float(row["qty_base"])
    assert {ts_ms - FIRST_MS for ts_ms, _ in held} == {0, 1_800_000, 3_600_000}
    for (ts_ms, _side), qty_base in held.items():
        if ts_ms in at:
            assert qty_base == pytest.approx(at[ts_ms], rel=1e-9)
    events = _rows(tmp_path / "one" / "liquidations_SOL.csv.gz")
    times = [int(event["ts_ms"]) for event in events]
    assert times == sorted(times)
    assert {event["position_side"] for event in events} <= {"long", "short"}
    hours = _rows(tmp_path / "one" / "hourly_SOL.csv.gz")
    assert [int(hour["hour_ms"]) for hour in hours] == [FIRST_MS]
    about = json.loads((tmp_path / "one" / "world_SOL.json").read_text())
    assert about["recorded"]["liquidations"] == len(events)
    assert about["sim"]["seed"] == 3


def test_the_truth_can_be_written_for_one_moment(tmp_path: Path) -> None:
    world = market(tick_ms=1000)
    write_truth(world, world.now_ms, tmp_path / "truth.csv")
    with (tmp_path / "truth.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    assert list(rows[0])[:4] == ["ts_ms", "position_side", "liquidation_price", "qty_base"]
    known = truth(world, world.now_ms)
    assert len(rows) == len(known)
    assert sum(row["liquidation_price"] == "" for row in rows) == np.isnan(known["liquidation_price"]).sum()


@pytest.mark.parametrize(
    ("wrong", "says"), [(["--symbol", "XRP"], "no XRP"), (["--tick-ms", "7000"], "divides"), (["--seed", "-1"], ">= 0")]
)
def test_a_world_that_cannot_be_is_one_line(
    wrong: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        main(["--days", "0.01", *wrong, "--out", str(tmp_path / "world")])
    assert left.value.code == 2
    said = capsys.readouterr().err
    assert says in said
    assert said.count("\n") == 1


def test_an_unknown_symbol_is_refused_not_guessed() -> None:
    with pytest.raises(UnknownSymbol, match="DOGE"):
        open_market(small(), "DOGE", START_MS)


def test_a_preset_is_overridden_key_by_key() -> None:
    config = sim_config(preset="quiet", people={"swing": {"share": 0.9}}, price={"jump_pct": 5.0})
    assert config.people["swing"].share == 0.9
    assert config.people["swing"].habits == sim_config(preset="quiet").people["swing"].habits
    assert config.price.jump_pct == 5.0
    assert config.price.daily_volatility_pct == sim_config(preset="quiet").price.daily_volatility_pct


@pytest.mark.parametrize(
    ("table", "key"),
    [
        ({"preset": "wild"}, "sim.preset"),
        ({"price": {"jump": 1}}, "sim.price.jump"),
        ({"people": {"swing": {"habit_weights": [1]}}}, "sim.people.swing.habit_weights"),
        ({"family": "crowds", "people": {"holder": {"hold_spread": 1.5}}}, "sim.people.holder.hold_spread"),
        ({"price": {"law": "regimes"}}, "sim.price.regimes"),
        ({"symbols": {"BTC": {"start_price": -1}}}, "sim.symbols.BTC.start_price"),
        ("fast", "sim"),
    ],
)
def test_a_wrong_sim_table_is_refused_with_its_key(table: object, key: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse({"sim": table})
    assert key in str(refused.value)


def test_what_check_prints_is_read_back_as_the_same() -> None:
    """The effective configuration travels to the children as JSON."""
    config = parse({"sim": {"family": "crowds", "preset": "lively"}}).sim
    assert msgspec.json.decode(msgspec.json.encode(config), type=type(config)) == config


def test_the_document_names_every_parameter() -> None:
    """docs/model.md promises every parameter of `[sim]`: a new one must be written down."""
    text = (Path(__file__).parents[2] / "docs" / "model.md").read_text(encoding="utf-8")
    chapter = text[text.index("### Parameters") : text.index("### What the presets do")]
    for record in (SimConfig, SimSymbolConfig, PriceConfig, RegimeConfig, PersonConfig):
        for name in record.__struct_fields__:
            assert name in chapter, f"{record.__name__}.{name} is not in docs/model.md"
