"""`make findings`: every known defect of the predecessor, the tests that keep it away, and whether they hold today.

1. runs all tests marked `finding("<id>")`; 2. applies each mutant that is due to a scratch copy of the checkout and
runs that id's tests there, which must then fail; 3. prints the table. Exit 1 when a due id has no test, a test fails,
or a mutant survives. `--no-mutants` leaves out step 2, `--only ID …` looks at some ids.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MUTANTS = ROOT / "tests" / "mutants"
COPIED = ("liqmap", "tests", "etc", "bin", "docs", "pyproject.toml", "setup.cfg", "requirements.lock", "README.md")


@dataclass
class Finding:
    """One id and what was found out about it."""

    id: str
    chapter: str
    grave: bool
    keeps: str
    due: bool
    passed: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    mutant: str = ""

    @property
    def result(self) -> str:
        """The verdict in a word or two."""
        if self.failed:
            return "FAILED"
        if self.mutant in ("survived", "does not apply", "missing"):
            return f"MUTANT {self.mutant.upper()}"
        if self.passed:
            return "kept away" + (", mutant caught" if self.mutant == "caught" else "")
        if self.skipped:
            return "SKIPPED" if self.due else "skipped"
        return "NO TEST" if self.due else f"due with {self.chapter}"

    @property
    def bad(self) -> bool:
        """Whether this row fails the command."""
        return self.result.isupper() or self.result.startswith("MUTANT")


def read_table() -> dict[str, Finding]:
    """The table of tests/findings.toml."""
    table = tomllib.loads((ROOT / "tests" / "findings.toml").read_text())
    due = set(table["due"])
    return {row[0]: Finding(row[0], row[1], row[2], row[3], row[1] in due) for row in table["rows"]}


def run_marked(root: Path, ids: list[str], report: Path) -> dict[str, dict[str, list[str]]]:
    """Outcome → tests, per id, of the tests marked with any of `ids` in the checkout at `root`."""
    environment = {**os.environ, "LIQMAP_FINDINGS": ",".join(ids), "LIQMAP_FINDINGS_REPORT": str(report)}
    environment["PYTHONPATH"] = str(root)
    if "LIQMAP_SHARED" not in environment:
        environment["LIQMAP_SHARED"] = str(ROOT.parent / "shared")
    command = [sys.executable, "-m", "pytest", "-q", "-m", "finding", "--no-header", "-x" if root != ROOT else "-q"]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False, timeout=1800)
    if not report.exists() or done.returncode not in (0, 1, 5):  # 5: none was marked; else they could not be collected
        sys.stderr.write(done.stdout[-4000:] + done.stderr[-4000:])
        raise SystemExit("findings: the tests did not run")
    outcome: dict[str, dict[str, list[str]]] = json.loads(report.read_text())
    return outcome


def try_mutant(finding: Finding, scratch: Path) -> str:
    """Build the defect in and see whether its tests notice: caught, survived, missing or does not apply."""
    patch = MUTANTS / f"{finding.id}.patch"
    if not patch.exists():
        return "missing"
    tree = scratch / finding.id
    tree.mkdir()
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
        elif source.exists():
            shutil.copy2(source, tree / name)
    (tree / ".venv").symlink_to(ROOT / ".venv")
    applied = subprocess.run(
        ["git", "apply", "--recount", "-C1", str(patch)], cwd=tree, capture_output=True, text=True, check=False
    )
    if applied.returncode:
        sys.stderr.write(f"{finding.id}: {applied.stderr}")
        return "does not apply"
    outcome = run_marked(tree, [finding.id], scratch / f"{finding.id}.json").get(finding.id, {})
    shutil.rmtree(tree)
    return "caught" if outcome.get("failed") else "survived"


def main() -> int:
    """Run it all and print the table."""
    parser = argparse.ArgumentParser(prog="make findings", description=__doc__)
    parser.add_argument("--no-mutants", action="store_true", help="do not build the defects in")
    parser.add_argument("--only", nargs="+", metavar="ID", help="look at these ids only")
    wanted = parser.parse_args()
    findings = read_table()
    chosen = [f for f in findings.values() if not wanted.only or f.id in wanted.only]
    with tempfile.TemporaryDirectory(prefix="liqmap-findings-") as name:
        scratch = Path(name)
        outcomes = run_marked(ROOT, [f.id for f in chosen], scratch / "all.json")
        unknown = sorted(set(outcomes) - set(findings))
        for finding in chosen:
            for outcome, tests in outcomes.get(finding.id, {}).items():
                getattr(finding, outcome).extend(tests)
            if finding.grave and finding.due and finding.passed and not finding.failed and not wanted.no_mutants:
                finding.mutant = try_mutant(finding, scratch)
    for finding in chosen:
        print(f"{finding.id:4} {finding.result:24} {finding.keeps}")
        for test in [*finding.failed, *finding.passed, *finding.skipped]:
            print(f"       {test}")
    bad = [f.id for f in chosen if f.bad]
    kept = sum(1 for f in chosen if f.passed and not f.bad)
    later = len(chosen) - kept - len(bad)
    print(f"\n{kept} kept away by passing tests, {later} due later, {len(bad)} bad: {' '.join(bad)}")
    if unknown:
        print(f"tests name ids that no table has: {' '.join(unknown)}")
    return 1 if bad or unknown else 0


if __name__ == "__main__":
    sys.exit(main())
