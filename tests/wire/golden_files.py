"""Raw frames beside what they say: tests/wire/golden/<venue>/<name>.jsonl, one connection per file.

Each line is `{"raw": <the frame as text>, "says": [<answers of liqmap parse>]}`. The frames are our own, in the shapes
the venues' documents give. After a deliberate change, `python -m tests.wire.golden_files` rewrites what they say;
the difference is then read by a human.
"""

import json
from collections.abc import Iterator
from pathlib import Path

from liqmap.cli.frame_answers import Answer, answers
from liqmap.config import Config
from liqmap.exchanges.registry import VENUES_BY_NAME

GOLDEN = Path(__file__).parent / "golden"


def files() -> list[Path]:
    """Every golden file."""
    return sorted(GOLDEN.glob("*/*.jsonl"))


def rendered(path: Path) -> str:
    """The file as it should be: the frames it has, beside what the parser makes of them today."""
    frames = [json.loads(line)["raw"] for line in path.read_text().splitlines()]
    venue = VENUES_BY_NAME[path.parent.name]
    names = {getattr(table.instruments, path.parent.name): symbol for symbol, table in Config().symbols.items()}
    says: list[list[Answer]] = [[] for _ in frames]
    now = -1

    def lines() -> Iterator[bytes]:
        nonlocal now
        for frame in frames:
            now += 1
            yield frame.encode()

    for answer in answers(venue, lines(), None, names):
        says[now].append(answer)
    rows = (json.dumps({"raw": raw, "says": said}, ensure_ascii=False) for raw, said in zip(frames, says, strict=True))
    return "".join(f"{row}\n" for row in rows)


def main() -> None:
    """Rewrite what the frames say."""
    for path in files():
        path.write_text(rendered(path))


if __name__ == "__main__":
    main()
