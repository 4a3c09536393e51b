"""No callback crosses a lock, no lock is taken under another, nothing waits or computes under one: looked up in the
code of the whole house, so that the next `with self._lock` is asked the same questions."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

HOUSE = Path(__file__).parents[2] / "liqmap"

SHORT = frozenset(
    "len max min sum list get pop popitem append items values setdefault move_to_end notify_all".split()  # noqa: SIM905
)
"""Calls on built-in containers, and waking up who waits for the same lock."""

OWN = {
    "liqmap/ingest/accounts.py": {
        "wait_s",
        "spend",
        "used",
        "Held",
        "_left",
        "_region_left",
        "_take_word",
        "replace",
        "int",
        "told",
    },
    "liqmap/ingest/handoff.py": {
        "wait",
        "has_room",
        "put",
        "_count_in",
        "_line",
        "_make_room",
        "_portion",
        "_patience_s",
        "clear",
        "_Line",
        "give_up",
        "monotonic",
        "rotate",
        "_note_behind",
        "add",
        "discard",
    },
    "liqmap/shm/memory.py": {"super", "__init__"},
    "liqmap/client/attachment.py": {"open_reader", "_make"},
    "liqmap/api/encode.py": {"compressobj", "compress", "flush"},
    "liqmap/logs.py": {"suppress", "close", "_open", "getLogger", "exception", "super", "enable"},
    "liqmap/api/pulse.py": {"doRollover"},
}
"""What else may be called under a lock, by module, and why that is no harm:

accounts: sums over a few numbers, methods of objects that nobody else sees. handoff: the same; `wait` gives the lock
back. memory: the constructor that the lock exists for. attachment: the segment is opened once for all threads that want
it, by a constructor that takes no lock and knows no thread. encode: an answer is packed once, and who wants the same
bytes waits for them. logs, pulse: the log file is exchanged while nobody writes to it.
"""


def locked(tree: ast.AST) -> Iterator[tuple[ast.With, str]]:
    """Every block under a lock or a condition, and the lock's name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.With):
            for item in node.items:
                name = ast.unparse(item.context_expr).split(" or ")[0].rpartition(".")[2]
                if ("lock" in name.lower() and not name.endswith(")")) or name in ("_changed", "_swap", "_cond"):
                    yield node, name


def within(tree: ast.AST, block: ast.With) -> Iterator[ast.AST]:
    """What is done in a block, and in the module's own functions that it calls, and in those that they call."""
    functions = {node.name: node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    ahead: list[ast.stmt] = list(block.body)
    followed: set[str] = set()
    while ahead:
        for node in ast.walk(ahead.pop()):
            yield node
            if isinstance(node, ast.Call):
                full = ast.unparse(node.func)
                name = full.rpartition(".")[2]
                if full in (name, f"self.{name}") and name in functions and name not in followed:
                    followed.add(name)
                    ahead.extend(functions[name].body)


def faults(source: str, own: frozenset[str] | set[str] = frozenset()) -> list[str]:
    """What a module does under its locks and should not."""
    tree = ast.parse(source)
    found = []
    for block, name in locked(tree):
        for node in within(tree, block):
            if isinstance(node, ast.With) and any(other is node for other, _ in locked(tree)):
                found.append(f"line {node.lineno}: a lock under {name}")
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func).rpartition(".")[2]
                if called not in SHORT | own:
                    found.append(f"line {node.lineno}: {called} is called under {name}")
            if isinstance(node, ast.Await | ast.Yield | ast.YieldFrom):
                found.append(f"line {node.lineno}: {name} is held while others run")
    return found


@pytest.mark.finding("M30")
@pytest.mark.finding("M18")
@pytest.mark.parametrize("path", sorted(HOUSE.rglob("*.py")), ids=lambda path: str(path.relative_to(HOUSE)))
def test_under_a_lock_nothing_is_called_that_waits_computes_or_belongs_to_somebody_else(path: Path) -> None:
    assert faults(path.read_text(), OWN.get(str(path.relative_to(HOUSE.parent)), frozenset())) == []


@pytest.mark.finding("M30")
def test_what_is_allowed_under_a_lock_is_needed_there() -> None:
    for name, own in OWN.items():
        source = (HOUSE.parent / name).read_text()
        for call in own:
            assert faults(source, own - {call}), f"{name} no longer calls {call} under a lock"


@pytest.mark.finding("M30")
@pytest.mark.parametrize(
    "body",
    [
        "self.listener(event)",
        "self.file.write(line)",
        "time.sleep(1)",
        "socket.send(text)",
        "log.warning('x')",
        "self.other()",
        "yield 1",
        "[callback(x) for x in self.callbacks]",
    ],
)
def test_the_defect_is_seen(body: str) -> None:
    source = f"class A:\n def f(self):\n  with self._lock:\n   {body}\n def other(self):\n  with self._lock: pass\n"
    assert faults(source)


def test_a_lock_under_a_lock_is_seen() -> None:
    assert faults("def f(self):\n with self._lock:\n  with self.b_lock:\n   x = 1\n")
    assert not faults("def f(self):\n with self._lock:\n  self.known.append(1)\n")
