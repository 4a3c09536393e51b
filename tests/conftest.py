"""What the whole suite shares: the bookkeeping that ties tests to findings (see tests/findings.py)."""

import json
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(  # no test is timed, not even the drawing of examples: the machines are shared
    "liqmap", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("liqmap")

_outcomes: dict[str, dict[str, set[str]]] = {}
_ids: dict[str, list[str]] = {}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Under `make findings`, keep only the tests of the ids it asks for."""
    wanted = set(filter(None, os.environ.get("LIQMAP_FINDINGS", "").split(",")))
    for item in items:
        _ids[item.nodeid] = [mark.args[0] for mark in item.iter_markers("finding")]
    if wanted:
        dropped = [item for item in items if not wanted & set(_ids[item.nodeid])]
        items[:] = [item for item in items if wanted & set(_ids[item.nodeid])]
        config.hook.pytest_deselected(items=dropped)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Remember the worst outcome of every marked test."""
    if report.when != "call" and report.outcome == "passed":
        return
    name = report.nodeid.split("[")[0]
    for id_ in _ids.get(report.nodeid, []):
        _outcomes.setdefault(id_, {}).setdefault(report.outcome, set()).add(name)


def pytest_sessionfinish() -> None:
    """Leave the outcomes where `make findings` looks for them."""
    target = os.environ.get("LIQMAP_FINDINGS_REPORT")
    if target:
        Path(target).write_text(json.dumps({k: {o: sorted(t) for o, t in v.items()} for k, v in _outcomes.items()}))


@pytest.fixture
def instance() -> Iterator[str]:
    """An instance name nobody else has; afterwards nothing of it may be left in /dev/shm."""
    name = f"t{os.getpid()}-{secrets.token_hex(3)}"
    yield name
    left = sorted(Path("/dev/shm").glob(f"liqmap.{name}.*"))
    for path in left:
        path.unlink()
    assert not left, "segments were left behind"
