"""The documents: links lead somewhere, every command they name exists, decisions are numbered without holes."""

import configparser
import re
from pathlib import Path

import pytest

from liqmap.domain.enums import GapReason
from liqmap.supervisor.lifecycle import State

ROOT = Path(__file__).resolve().parents[2]
_ARCHITECTURE = ROOT / "docs" / "architecture.md"
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_relative_links_lead_somewhere(document: Path) -> None:
    links = re.findall(r"\]\((?!https?:|#)([^)#\s]+)", document.read_text())
    assert [link for link in links if not (document.parent / link).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_make_targets_and_commands_that_are_named_exist(document: Path) -> None:
    text = document.read_text()
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"`make ([a-z]+)", text)) | set(re.findall(r"^make ([a-z]+)", text, re.MULTILINE))
    assert named <= targets
    assert [name for name in re.findall(r"\bbin/([a-z]+)\b", text) if not (ROOT / "bin" / name).is_file()] == []


def test_decisions_are_numbered_without_holes() -> None:
    numbers = [path.name[:5] for path in sorted((ROOT / "docs" / "decisions").glob("*.md"))]
    assert numbers == [f"{number:04}-" for number in range(1, len(numbers) + 1)]


def test_the_architecture_draws_the_floor_plan() -> None:
    plan = configparser.ConfigParser()
    plan.read(ROOT / "setup.cfg")
    rooms = set(re.findall(r"(?<!\()\b\w+", plan["importlinter:contract:floors"]["layers"]))
    rows = re.findall(r"^\| (?:roof|second|first|ground) \| ([^|]+) \|", _ARCHITECTURE.read_text(), re.MULTILINE)
    assert {room for row in rows for room in re.findall(r"`(\w+)`", row)} == rooms


def test_the_readme_names_every_document() -> None:
    readme = (ROOT / "README.md").read_text()
    missing = [path.name for path in (ROOT / "docs").glob("*.md") if f"docs/{path.name}" not in readme]
    assert missing == []


def test_operations_say_what_every_state_and_every_reason_means() -> None:
    text = (ROOT / "docs" / "operations.md").read_text()
    sentences = " ".join(line.split("|")[1] for line in text.splitlines() if line.startswith("|"))
    fine = {State.RUNNING, State.STOPPED}  # neither is a problem
    states = [state.value for state in State if state not in fine]
    reasons = [reason.name.lower().replace("_", " ") for reason in GapReason]
    assert [word for word in [*states, *reasons] if word not in sentences] == []
