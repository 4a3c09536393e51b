"""`liqmap record` and `liqmap replay` as a person uses them: a simulated market, Ctrl-C, a terminal, a full disk."""

import json
import os
import pty
import re
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from liqmap.domain.enums import Kind
from liqmap.store.journal_reader import Events, SymbolJournalReader
from tests.fault.daemon import unique_instance
from tests.fault.test_recording import journalled, played_again
from tests.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]
LIQMAP = ROOT / "bin" / "liqmap"
DEADLINE_S = 60.0


def small(tmp_path: Path) -> Path:
    """One symbol, a small market: it opens quickly."""
    file = tmp_path / "liqmap.toml"
    file.write_text(
        f'[daemon]\ninstance = "{unique_instance()}"\nvar_dir = "{tmp_path / "var"}"\n[symbols.BTC]\n'
        '[sim]\npreset = "demo"\n[sim.symbols.BTC]\npositions = 400\n'
    )
    return file


def run(*arguments: object) -> "subprocess.CompletedProcess[str]":
    command = [str(LIQMAP), *map(str, arguments)]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=DEADLINE_S, cwd=ROOT)


def test_ctrl_c_ends_a_recording_properly_and_both_halves_replay_to_one_digest(tmp_path: Path) -> None:
    out = tmp_path / "made"
    leader, follower = pty.openpty()
    command = [str(LIQMAP), "record", "--demo", "-c", str(small(tmp_path)), "--out", str(out)]
    recording = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=follower, text=True)
    os.close(follower)
    shown = b""
    try:
        wait_until(lambda: list(out.glob("journal/BTC/*")) and list(out.glob("capture/*")), "files")
        while b"MB" not in shown:
            shown += os.read(leader, 4096)
        wait_until(lambda: Kind.MID_PRICE in set(journalled(out, "BTC")["kind"].tolist()), "middles of books")
        recording.send_signal(signal.SIGINT)
        told, _ = recording.communicate(timeout=DEADLINE_S)
    finally:
        recording.kill()
        recording.wait()
        os.close(leader)
    assert recording.returncode == 0
    assert re.fullmatch(rf"{re.escape(str(out))}: \d+ frames, \d+ events, [\d.]+ MB, \d+ gaps\n", told)
    assert re.search(rb"\d+ s +[\d,]+ frames/s +[\d,]+ events/s +[\d.]+ MB +\d+ gaps", shown)
    about = json.loads((out / "recording.json").read_text())
    assert about["ended"] is True and about["symbols"] == ["BTC"] and about["lost_events"] == 0
    lines = {run("replay", out / half, "--out", tmp_path / half).stdout for half in ("journal", "capture")}
    assert len(lines) == 1
    assert re.fullmatch(rf"digest [0-9a-f]{{64}}  frames \d+  events {about['events']['BTC']}\n", lines.pop())
    was, again = journalled(out, "BTC"), played_again(out, tmp_path / "again")["BTC"]
    assert Kind.MID_PRICE in set(was["kind"].tolist()), "books are in it"
    assert was.tobytes() == again.tobytes(), "ticks and numbers too"


def test_a_killed_recording_keeps_what_it_has(tmp_path: Path) -> None:
    out = tmp_path / "made"
    command = [str(LIQMAP), "record", "--demo", "-c", str(small(tmp_path)), "--out", str(out)]
    recording = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        wait_until(lambda: any(path.stat().st_size > 20_000 for path in out.glob("capture/*")), "some of the capture")
    finally:
        recording.kill()
        recording.wait()
        left = Path(f"/dev/shm/liqmap.record-{recording.pid}.status")
        assert left.exists(), "nobody could remove it: the next one does"
    again = run("record", "--demo", "-c", small(tmp_path), "--for", "0.1", "--out", tmp_path / "next")
    assert again.returncode == 0, again.stderr
    assert not left.exists()
    assert json.loads((out / "recording.json").read_text())["ended"] is False
    reader = SymbolJournalReader(out / "journal" / "BTC")
    kept = sum(len(item.events) for item in reader if isinstance(item, Events))
    assert kept > 0 and reader.losses == []
    replayed = run("replay", out / "capture", "--out", tmp_path / "frames")
    assert replayed.returncode == 0
    events = int(replayed.stdout.split()[-1])
    assert 0 < events <= kept


def test_what_makes_no_sense_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "other").write_text("")
    for arguments, code, words in (
        (("--demo", "--out", tmp_path / "full"), 1, "is not an empty directory"),
        (("--demo", "--symbol", "NONE", "--out", tmp_path / "new"), 78, "--symbol NONE: configured are BTC"),
        (("-c", tmp_path / "absent.toml", "--out", tmp_path / "new"), 78, "absent.toml"),
        (("--for", "soon", "--out", tmp_path / "new"), 2, "must be like 90, 90s, 15m, 8h or 2d"),
    ):
        done = run("record", *arguments)
        assert done.returncode == code, done.stderr
        assert words in done.stderr
        assert "Traceback" not in done.stderr


FULL = """
mount -t tmpfs -o size=160k tmpfs "$OUT" || exit 77
"$LIQMAP" record --demo -c "$FILE" --out "$OUT/made" 2> "$SAID"
echo $? > "$CODE"
"""


def test_a_full_disk_ends_a_recording_with_words(tmp_path: Path) -> None:
    unshare = shutil.which("unshare")
    private = [str(unshare), "-m", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    if unshare is None or subprocess.run(private, check=False, capture_output=True).returncode != 0:
        pytest.skip("unshare -m is not permitted here: no private disk of a known size")
    (tmp_path / "disk").mkdir()
    said, code = tmp_path / "said", tmp_path / "code"
    around = {
        "OUT": tmp_path / "disk",
        "LIQMAP": LIQMAP,
        "FILE": small(tmp_path),
        "SAID": said,
        "CODE": code,
    }
    variables = {"PATH": os.environ["PATH"], **{key: str(value) for key, value in around.items()}}
    subprocess.run([unshare, "-m", "sh", "-c", FULL], check=True, timeout=DEADLINE_S, cwd=ROOT, env=variables)
    assert code.read_text().strip() == "1"
    last = said.read_text().strip().splitlines()[-1]
    assert last.startswith("liqmap record: ") and "No space left on device" in last
    assert "Traceback" not in said.read_text()
