"""`liqmapctl fault …`: from the words of an operator to an order, and from the daemon's table of faults to lines."""

from collections.abc import Sequence
from typing import Any, Final

CLEAR: Final = "clear"

USAGE: Final = """\
liqmapctl fault                                         which faults there are, and which are on
liqmapctl fault VENUE NAME [--PARAMETER VALUE …]        switch a fault on, or do what happens once
liqmapctl fault VENUE NAME --off [--topic PATTERN]      switch it off
liqmapctl fault VENUE clear                             end every fault of the venue

VENUE is binance, bybit, okx or all. Every lasting fault takes --for SECONDS, after which it ends by itself.
Only where the venues are simulated (liqmapd --demo, or a capture that is replayed).

examples:
  liqmapctl fault binance silent --topic '*@aggTrade' --for 30
  liqmapctl fault bybit disconnect --code 1001
  liqmapctl fault okx rest --kind 429 --times 3
  liqmapctl fault all clear"""


class BadWords(ValueError):
    """The command line makes no sense; the text says what is wrong with it."""


def order_of(words: Sequence[str]) -> dict[str, Any]:
    """The order that these words give: `{"do": "fault"}` asks for the table. Raises BadWords."""
    named, said = _split(words)
    if not named and not said:
        return {"do": "fault"}
    if len(named) != 2:
        raise BadWords(f"a venue and a fault are needed, not {' '.join(named) or 'none'!r}")
    venue, fault = named
    return {"do": "fault", "venue": venue.lower(), "command": {"fault": fault, **said}}


def _split(words: Sequence[str]) -> tuple[list[str], dict[str, Any]]:
    """The bare words, and what was said with `--key value` or `--key=value`; `--off` stands alone."""
    named: list[str] = []
    said: dict[str, Any] = {}
    left = list(words)
    while left:
        word = left.pop(0)
        if not word.startswith("--"):
            named.append(word)
            continue
        key, equals, value = word[2:].partition("=")
        if key == "off" and not equals:
            said["on"] = False
            continue
        if not equals:
            if not left:
                raise BadWords(f"--{key} needs a value")
            value = left.pop(0)
        said["for_s" if key == "for" else key.replace("-", "_")] = value
    return named, said


def listing(answer: dict[str, Any]) -> list[str]:
    """The table of faults for a person: a line each, its parameters below, then what is on."""
    lines: list[str] = []
    for row in answer["faults"]:
        lines.append(f"{row['fault']:<16}{row['words']}" + ("" if row["lasts"] else " (once)"))
        lines += [f"    {_option(parameter)}" for parameter in row["parameters"] if parameter["name"] != "for_s"]
    lines += [f"{CLEAR:<16}every fault of the venue ends", ""]
    lines.append(f"venues: {', '.join(answer['venues'])}; lasting faults take --for SECONDS and --off")
    lines += [f"on: {words}" for words in answer["on"]] or ["no fault is on"]
    return lines


def _option(parameter: dict[str, Any]) -> str:
    default = "" if parameter["default"] is None else f" (default {parameter['default']})"
    needed = " (needed)" if parameter["required"] else ""
    name = "--" + parameter["name"].replace("_", "-")
    return f"{name:<18}{parameter['words']}: {parameter['allowed']}{default}{needed}"
