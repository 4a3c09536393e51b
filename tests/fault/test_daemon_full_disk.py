"""A full disk below a running daemon: told, refused where it must be, and everything that runs goes on."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.fault.daemon import LIQMAPCTL, LIQMAPD, unique_instance

SCRIPT = """
set -u
mount -t tmpfs -o size=16m tmpfs "$VAR" || exit 77
"$LIQMAPD" -c "$FILE" --demo & daemon=$!
ctl() { "$LIQMAPCTL" --json --socket "$VAR/run/$NAME-demo/control.sock" "$@"; }
for _ in $(seq 600); do ctl status 2>/dev/null | grep -q '"no problems"\\|"problems": \\[\\]' && break; sleep 0.1; done
ctl restart api > "$OUT/ready"
dd if=/dev/zero of="$VAR/fill" bs=64k 2>/dev/null
dd if=/dev/zero of="$VAR/rest" bs=1k 2>/dev/null
for name in ingest BTC api; do ctl restart $name > "$OUT/restart.$name"; done
kill -USR1 $daemon
printf '[supervisor]\\nworker_nice = 6\\n' >> "$FILE"
ctl reload > "$OUT/reload.full"
ctl status > "$OUT/status.full"
for _ in $(seq 300); do
    curl -s --unix-socket "$VAR/api.sock" http://x/health > "$OUT/health.full"
    grep -q 'the journal is not written' "$OUT/health.full" && break
    sleep 0.1
done
rm "$VAR/fill" "$VAR/rest"
for _ in $(seq 300); do
    curl -s --unix-socket "$VAR/api.sock" http://x/health > "$OUT/health.room"
    grep -q 'the journal is not written' "$OUT/health.room" || break
    sleep 0.1
done
ctl reload > "$OUT/reload.room"
kill -TERM $daemon
wait $daemon
echo $? > "$OUT/exit"
"""


def _private_mounts() -> bool:
    unshare = shutil.which("unshare")
    if unshare is None:
        return False
    command = [unshare, "-m", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


def test_a_full_disk_refuses_changes_and_stops_nothing(tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("no curl here to ask the API inside the private disk")
    if not _private_mounts():
        pytest.skip("unshare -m is not permitted here: no private disk of a known size")
    name, var, out = unique_instance(), tmp_path / "var", tmp_path / "out"
    var.mkdir()
    out.mkdir()
    file = tmp_path / "liqmap.toml"
    file.write_text(
        f'[daemon]\ninstance = "{name}"\nvar_dir = "{var}"\n[ingest]\nbackfill_days = 0\n[symbols.BTC]\n'
        f'[api]\nbind = "unix:{var}/api.sock"\nworkers = 1\n'
    )
    around = {"VAR": var, "FILE": file, "NAME": name, "OUT": out, "LIQMAPD": LIQMAPD, "LIQMAPCTL": LIQMAPCTL}
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", SCRIPT],
        check=False,
        capture_output=True,
        timeout=240,
        env={"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", **{key: str(value) for key, value in around.items()}},
    )

    def answer(of: str) -> dict[str, object]:
        text = (out / of).read_text()
        assert text, f"{of}: {done.stdout!r} {done.stderr!r}"
        decoded: dict[str, object] = json.loads(text)
        return decoded

    assert answer("ready")["ok"] is True
    for child in ("ingest", "BTC", "api"):
        assert answer(f"restart.{child}")["ok"] is True, answer(f"restart.{child}")
    refused = answer("reload.full")
    assert refused["ok"] is False and "No space left" in str(refused["error"])
    assert answer("status.full")["ok"] is True
    full, room = answer("health.full"), answer("health.room")
    assert full["status"] == "degraded" and full["ok"] is False
    assert any("the journal is not written" in str(line) for line in full["problems"])  # type: ignore[attr-defined]
    assert full["journal"]["state"] == "failing" and full["journal"]["lost"] > 0  # type: ignore[index]
    assert room["journal"]["state"] == "written", "it is written again by itself"  # type: ignore[index]
    assert answer("reload.room")["ok"] is True
    assert (out / "exit").read_text().strip() == "0"
