"""When a replayed capture counts as played."""

import pytest

from liqmap.config import RunMode
from liqmap.domain.enums import Source
from liqmap.ingest.main import has_ended


@pytest.mark.parametrize(("after_s", "ended"), [(-1.0, False), (49.0, False), (51.0, True)])
def test_a_capture_has_ended_when_its_last_frames_had_time_to_arrive(after_s: float, ended: bool) -> None:
    mode = RunMode(source=int(Source.REPLAY), speed=50.0, ends_ns=10**18)
    assert has_ended(mode, 10**18 + int(after_s * 1e9)) is ended


def test_live_and_simulated_runs_have_no_end() -> None:
    assert not has_ended(RunMode(), 2**62)
