"""Files that come with liqmap: in the checkout's etc/, or in share/liqmap/ of the installation.

The lists of contracts are what is known before a venue has answered; a venue's own list replaces them.
"""

from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from liqmap.domain.enums import Venue
from liqmap.domain.instrument import Instrument


class ShippedFileMissing(FileNotFoundError):
    """The installation is incomplete; the text names the file and where it was looked for."""


class _ShippedList(Struct, forbid_unknown_fields=True):
    venue: str
    source: str
    contract_base: dict[str, Annotated[float, Meta(gt=0)]]


def shipped_file(relative: str) -> Path:
    """Where `etc/<relative>` is, from a checkout as from an installed package. Raises ShippedFileMissing."""
    package = Path(__file__).resolve().parents[1]
    looked = [package.parent / "etc" / relative, *(above / "share" / "liqmap" / relative for above in package.parents)]
    for path in looked:
        if path.is_file():
            return path
    raise ShippedFileMissing(f"{relative} is not among the files of liqmap, not at {looked[0]}")


def shipped_instruments() -> tuple[Instrument, ...]:
    """Contracts of all venues with their sizes in base coin, without symbol and number. Raises ShippedFileMissing."""
    found: list[Instrument] = []
    for venue in filter(None, Venue):
        path = shipped_file(f"instruments/{venue.name.lower()}.json")
        listed = msgspec.json.decode(path.read_bytes(), type=_ShippedList, strict=False)
        found.extend(Instrument(venue, name, size) for name, size in listed.contract_base.items())
    return tuple(found)
