"""The core topics of the three venues, over real sockets."""

from liqmap.domain.enums import PositionSide, TakerSide, Venue
from tests.sim.venue_client import client
from tests.venue_servers import ScriptedMarket, venue_servers


def test_binance_serves_trades_marks_and_forced_orders() -> None:
    market = ScriptedMarket("BTC", 60_000.0)
    with venue_servers(market) as venues:
        streams = "btcusdt@aggTrade/btcusdt@markPrice@1s/!forceOrder@arr"
        with client(f"{venues.binance_market_ws}/stream?streams={streams}") as link:
            market.trade(Venue.BINANCE, 60_010.04, 0.0214, TakerSide.SELL)
            trade = link.until(lambda m: m["stream"] == "btcusdt@aggTrade")["data"]
            assert (trade["p"], trade["q"], trade["m"]) == ("60010.00", "0.021", True)
            market.liquidate(Venue.BINANCE, PositionSide.LONG, price=59_000.0, fill=59_300.0, qty_base=2.0)
            order = link.until(lambda m: m["stream"] == "!forceOrder@arr" and m["data"]["o"]["s"] == "BTCUSDT")
            assert order["data"]["o"]["S"] == "SELL"
            assert order["data"]["o"]["p"] == "59000.00"
            mark = link.until(lambda m: m["stream"] == "btcusdt@markPrice@1s")["data"]
            assert float(mark["p"]) == 60_000.0


def test_bybit_serves_trades_liquidations_and_tickers() -> None:
    market = ScriptedMarket("BTC", 60_000.0, open_interest_base=500.0)
    with venue_servers(market) as venues, client(venues.bybit_ws) as link:
        topics = ["publicTrade.BTCUSDT", "allLiquidation.BTCUSDT", "tickers.BTCUSDT"]
        link.send({"op": "subscribe", "req_id": "7", "args": topics})
        ack = link.until(lambda m: m.get("op") == "subscribe")
        assert ack["success"] is True
        assert ack["req_id"] == "7"
        market.liquidate(Venue.BYBIT, PositionSide.LONG, price=59_000.0, fill=59_300.0, qty_base=2.001)
        rows = link.until(lambda m: m.get("topic") == "allLiquidation.BTCUSDT")["data"]
        assert {row["S"] for row in rows} == {"Buy"}
        market.trade(Venue.BYBIT, 60_010.0, 0.5, TakerSide.SELL)
        trade = link.until(lambda m: m.get("topic") == "publicTrade.BTCUSDT")["data"][0]
        assert (trade["S"], trade["v"]) == ("Sell", "0.500")


def test_okx_serves_trades_liquidations_and_open_interest() -> None:
    market = ScriptedMarket("BTC", 60_000.0, open_interest_base=500.0)
    with venue_servers(market) as venues, client(venues.okx_ws) as link:
        swap = "BTC-USDT-SWAP"
        arguments = [{"channel": channel, "instId": swap} for channel in ("trades", "mark-price", "open-interest")]
        arguments.append({"channel": "liquidation-orders", "instType": "SWAP"})
        link.send({"op": "subscribe", "args": arguments})
        for _ in arguments:
            assert "connId" in link.until(lambda m: m.get("event") == "subscribe")
        market.trade(Venue.OKX, 60_010.0, 0.5, TakerSide.SELL)
        trade = link.until(lambda m: m.get("arg", {}).get("channel") == "trades" and "data" in m)["data"][0]
        assert (trade["sz"], trade["side"]) == ("50", "sell")
        market.liquidate(Venue.OKX, PositionSide.SHORT, price=61_000.0, fill=60_700.0, qty_base=0.25)
        push = link.until(lambda m: any(row["instId"] == swap for row in m.get("data", []) if "details" in row))
        detail = next(row for row in push["data"] if row["instId"] == swap)["details"][0]
        assert (detail["side"], detail["posSide"], detail["sz"]) == ("buy", "short", "25")
