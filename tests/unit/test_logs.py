"""Logs: one event is one line, tracebacks arrive, the file rotates and reopens while running."""

import logging
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from liqmap import logs
from liqmap.logs import fields


@pytest.fixture
def log_file(tmp_path: Path) -> Iterator[Path]:
    """A log set up for this process and taken down again."""
    root = logging.getLogger()
    kept = (list(root.handlers), root.level, sys.excepthook, threading.excepthook)
    file = tmp_path / "x.log"
    logs.setup("proc", "INFO", file, max_bytes=2000, keep=2, terminal=None)
    yield file
    for handler in root.handlers:
        handler.close()
    root.handlers[:] = kept[0]
    root.setLevel(kept[1])
    sys.excepthook, threading.excepthook = kept[2], kept[3]
    logging.captureWarnings(False)


def test_one_event_is_one_line_of_key_value_pairs(log_file: Path) -> None:
    logging.getLogger("a.b").info("link lost", extra=fields(venue="okx", delay_s=1.23456789, reason="a b\nc"))
    (line,) = log_file.read_text().splitlines()
    assert line.endswith('INFO proc a.b link lost venue=okx delay_s=1.23457 reason="a b\\nc"')
    assert line[:4].isdigit() and "Z " in line


def test_a_forged_line_in_a_message_stays_inside_its_line(log_file: Path) -> None:
    logging.getLogger("a").warning("frame said %s", "x\n2026-01-01 INFO fake")
    assert len(log_file.read_text().splitlines()) == 1


def test_an_exception_brings_its_traceback(log_file: Path) -> None:
    try:
        raise ValueError("boom")
    except ValueError:
        logging.getLogger("a").exception("failed")
    text = log_file.read_text()
    assert "Traceback" in text and "ValueError: boom" in text


def test_an_uncaught_exception_of_a_thread_is_logged(log_file: Path) -> None:
    thread = threading.Thread(target=lambda: 1 / 0)
    thread.start()
    thread.join()
    assert "ZeroDivisionError" in log_file.read_text()


def test_the_file_rotates_while_running_and_keeps_what_it_was_told_to(log_file: Path) -> None:
    for i in range(200):
        logging.getLogger("a").info("line %d of a log that grows", i)
    names = sorted(path.name for path in log_file.parent.iterdir())
    assert names == ["x.log", "x.log.1", "x.log.2"]
    assert all(path.stat().st_size <= 2000 for path in log_file.parent.iterdir())


def test_after_a_move_reopening_starts_a_new_file(log_file: Path) -> None:
    logging.getLogger("a").info("before")
    log_file.rename(log_file.with_name("moved.log"))
    logs.reopen()
    logging.getLogger("a").info("after")
    assert "after" in log_file.read_text() and "before" not in log_file.read_text()
    assert "before" in log_file.with_name("moved.log").read_text()


def test_an_abort_leaves_its_traceback_in_the_rotated_file(tmp_path: Path) -> None:
    program = (
        "import logging, os, pathlib, liqmap.logs as logs\n"
        f"logs.setup('p', 'INFO', pathlib.Path({str(tmp_path / 'p.log')!r}), max_bytes=300, keep=1, terminal=None)\n"
        "for i in range(20): logging.getLogger('a').info('filling up the file until it rotates %d', i)\n"
        "def stuck(): os.abort()\n"
        "stuck()\n"
    )
    done = subprocess.run([sys.executable, "-c", program], check=False, timeout=60)
    assert done.returncode < 0
    text = (tmp_path / "p.log").read_text()
    assert "Fatal Python error: Aborted" in text and "in stuck" in text


def test_a_full_disk_costs_lines_and_never_the_process(log_file: Path) -> None:
    log_file.unlink()
    log_file.symlink_to("/dev/full")
    logs.reopen()
    logging.raiseExceptions = False
    try:
        logging.getLogger("a").info("there is no room for this")
        log_file.unlink()
        logs.reopen()  # what was not written yet finds no room either
    finally:
        logging.raiseExceptions = True
    logging.getLogger("a").info("after")
    assert "after" in log_file.read_text()


def test_where_no_new_file_can_be_had_the_old_one_is_kept(log_file: Path) -> None:
    moved = log_file.with_name("moved.log")
    log_file.rename(moved)
    log_file.mkdir()
    logs.reopen()
    logging.getLogger("a").info("still here")
    assert "still here" in moved.read_text() and "cannot be reopened" in moved.read_text()
