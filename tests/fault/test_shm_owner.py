"""Who may remove a segment: its owner, and nobody else, however they end; and what a full /dev/shm says."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from liqmap.shm.board import BoardReader, create_board
from liqmap.shm.faults import SegmentHeld
from tests.fault.shm_actors import payload
from tests.fault.shm_stage import actor

SIZE = 256
DTYPE = payload(SIZE)


def own_namespace() -> tuple[str, ...] | None:
    """A command that runs another in a mount namespace of its own, None where that is not permitted."""
    unshare = shutil.which("unshare")
    for flags in ("-m",), ("-r", "-m"):
        command = (unshare or "", *flags)
        if unshare and subprocess.run([*command, "true"], check=False, capture_output=True).returncode == 0:
            return command
    return None


@pytest.mark.parametrize("how", ["read", "write"])
@pytest.mark.parametrize("end", ["exit", "kill"])
@pytest.mark.parametrize("with_tracker", [False, True], ids=["", "tracker running"])
def test_a_process_that_attached_and_ended_removes_nothing(
    instance: str, tmp_path: Path, how: str, end: str, with_tracker: bool
) -> None:
    name = f"liqmap.{instance}.live.BTC"
    errors = tmp_path / "stderr"
    with actor("own", name, SIZE, errors=errors) as owner:
        assert owner.line() == "ready"
        with actor("attach", name, SIZE, how, with_tracker, errors=errors) as other:
            assert other.result() == {"tracker": with_tracker}
            if end == "kill":
                other.kill()
            else:
                assert other.leave() == 0
        reader = BoardReader.open(name, DTYPE)
        assert reader.read()["cells"][0] == 7
        assert owner.leave() == 0
    assert BoardReader.open(name, DTYPE).read()["cells"][0] == 7, "an owner that exits leaves it to be adopted"
    assert errors.read_text() == "", "no resource tracker complained of a leak"
    adopted = create_board(name, DTYPE)
    assert adopted.adopted
    adopted.unlink()
    adopted.close()


def test_the_segment_of_a_killed_owner_is_adopted_with_what_was_in_it(instance: str, tmp_path: Path) -> None:
    name = f"liqmap.{instance}.live.BTC"
    errors = tmp_path / "stderr"
    with actor("own", name, SIZE, errors=errors) as owner:
        assert owner.line() == "ready"
        generation = BoardReader.open(name, DTYPE).generation
        with pytest.raises(SegmentHeld) as held:
            create_board(name, DTYPE)
        assert held.value.pid == owner.process.pid
        owner.kill()
    adopted = create_board(name, DTYPE)
    assert (adopted.adopted, adopted.generation, adopted.owner_pid) == (True, generation, os.getpid())
    assert BoardReader(adopted, DTYPE).read()["cells"][0] == 7
    assert errors.read_text() == ""
    adopted.unlink()
    adopted.close()


def test_a_full_dev_shm_is_one_clear_line_at_the_start(instance: str, tmp_path: Path) -> None:
    within = own_namespace()
    if within is None:
        pytest.skip("unshare -m is not permitted here: no private /dev/shm of a known size")
    mounted = (*within, "sh", "-c", 'mount -t tmpfs -o size=3m,mode=1777 tmpfs /dev/shm && exec "$@"', "sh")
    errors = tmp_path / "stderr"
    with actor("fill_up", instance, 8192, within=mounted, errors=errors) as starter:
        result = starter.result()
        assert starter.leave() == 0, errors.read_text()
    message = result["refused"]["message"]
    assert "\n" not in message
    assert "/dev/shm is full" in message
    assert str(result["refused"]["needed"]) in message
    assert str(result["refused"]["free"]) in message
    assert result["refused"]["needed"] > 3 * 2**20 >= result["refused"]["free"] > 0
    assert result["left"] == [], "nothing was made"
    assert "/dev/shm is full" in result["backed"], "memory that is not there is an error at creation, no later SIGBUS"
    assert result["unbacked_is_gone"]
    assert result["served"], "what fits is served"
