"""The house rules that a linter can hold: production code does not print, and the floors are really enforced."""

import subprocess
import sys
from pathlib import Path

import pytest

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
