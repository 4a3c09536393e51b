"""The house rules that a tool can hold: production code does not print, floors are really enforced, nothing is dead."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grimp
import msgspec
import pytest

from liqmap.config import Config
from liqmap.exchanges.registry import VENUES_BY_NAME

ROOT = Path(__file__).resolve().parents[2]


def _tool(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *arguments], cwd=cwd, capture_output=True, text=True, check=False, timeout=120
    )


@pytest.mark.finding("L18")
def test_a_print_in_production_code_is_refused_by_the_configured_linter(tmp_path: Path) -> None:
    offender = ["--stdin-filename", "liqmap/engine/offender.py", "-"]
    found = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--no-cache", *offender],
        cwd=ROOT,
        input='"""A module."""\n\nprint("hello")\n',
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert found.returncode == 1
    assert "T201" in found.stdout


@pytest.mark.finding("L18")
def test_no_production_module_outside_the_commands_prints() -> None:
    assert _tool("ruff", "check", "--no-cache", "--select", "T20", "liqmap").returncode == 0


def test_an_arrow_that_points_up_breaks_the_floors(tmp_path: Path) -> None:
    for name in ("setup.cfg", "pyproject.toml"):
        (tmp_path / name).write_text((ROOT / name).read_text())
    house = tmp_path / "liqmap"
    for source in (ROOT / "liqmap").rglob("*.py"):
        target = house / source.relative_to(ROOT / "liqmap")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(source.read_text())
    upward = house / "domain" / "enums.py"
    upward.write_text(upward.read_text() + "\nimport liqmap.clock  # noqa\n")
    broken = subprocess.run(
        [str(Path(sys.executable).parent / "lint-imports"), "--config", "setup.cfg", "--no-cache"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert broken.returncode == 1
    assert "Floors: arrows point down only BROKEN" in broken.stdout


DEAD_CODE = [pytest.mark.finding(id_) for id_ in ("L2", "L3", "L6", "L7", "L8", "L9", "L16", "L19", "L21")]


def marked(test: Any) -> Any:
    """One requirement under nine numbers: no dead code, no orphan files."""
    for mark in DEAD_CODE:
        test = mark(test)
    return test


@marked
def test_nothing_is_defined_that_nobody_uses() -> None:
    found = _tool("vulture")
    assert found.returncode == 0, f"{found.stdout}{found.stderr}what only looks unused is listed in pyproject.toml"


@marked
def test_an_unused_function_is_found(tmp_path: Path) -> None:
    (tmp_path / "orphan.py").write_text("def forgotten() -> None:\n    return None\n")
    found = _tool("vulture", "--config", str(ROOT / "pyproject.toml"), str(tmp_path / "orphan.py"))
    assert "unused function 'forgotten'" in found.stdout


@marked
def test_every_module_is_reached_from_a_command_or_a_process() -> None:
    graph = grimp.build_graph("liqmap", cache_dir=None)
    texts = [*(ROOT / "liqmap").rglob("*.py"), *(ROOT / "etc").glob("*.py"), ROOT / "Makefile", ROOT / "pyproject.toml"]
    code = "\n".join(map(_code, texts))
    named = " ".join(re.findall(r"(?:-m |[\"':])(liqmap[.\w]+)", code))
    files = re.findall(r"\"(\w+)\.py\"", code)
    starts = {
        name
        for name in graph.modules
        if name.endswith("__main__") or re.search(rf"{re.escape(name)}\b", named) or name.rsplit(".")[-1] in files
    }
    reached = starts.union(*(graph.find_upstream_modules(start) for start in starts))
    packages = {module for module in graph.modules if graph.find_children(module)}
    assert graph.modules - reached - packages == set()


def _code(path: Path) -> str:
    """The text without its import lines: what is named here is started or imported by name."""
    return re.sub(r"^\s*(from|import) .*$", "", path.read_text(), flags=re.MULTILINE)


def test_every_key_of_the_configuration_is_read_somewhere() -> None:
    records = {path.name for path in (ROOT / "liqmap" / "config").glob("*.py")} - {"reading.py", "running.py"}
    texts = [path.read_text() for path in (ROOT / "liqmap").rglob("*.py") if path.name not in records]
    words = set(re.findall(r"(?<=[.\"'])\w+", "\n".join(texts))) | VENUES_BY_NAME.keys()
    assert [key for key in _keys(Config) if key not in words] == []


def _keys(record: type[msgspec.Struct]) -> Iterator[str]:
    for found in msgspec.structs.fields(record):
        yield found.name
        for part in re.findall(r"liqmap\.config\.[\w.]+", str(found.type)):
            module, name = part.rsplit(".", 1)
            inner = getattr(sys.modules[module], name)
            if isinstance(inner, type) and issubclass(inner, msgspec.Struct):
                yield from _keys(inner)
