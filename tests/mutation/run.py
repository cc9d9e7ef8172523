"""Mutation testing: breaks the safety core on purpose, one small change at a time.

Usage: python tests/mutation/run.py [--only PART] [--jobs 2] [--keep] [--report FILE]

Works in a copy of the tree outside of it. Each mutant is a forked process that imports the changed
source instead of the file and runs the tests of its target; it is killed when one fails. Prints the
score of each module and every survivor; exit status 1 when a score is below the least one, when a
constant, a comparison or a function that arms, permits or stops has a survivor that
`accepted.toml` does not explain, or when an explanation is no longer needed.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib.abc
import importlib.util
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import tomllib
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mutants import Mutant

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
COPIED = ("docs", "drivers", "firmware_protocol", "sim_device", "systemd", "tests", "tmsctl")
PLUGINS = ("pytest_timeout", "_hypothesis_pytestplugin")
PRELOADED = (
    *PLUGINS, "pytest", "hypothesis.stateful", "pydantic", "sqlalchemy.dialects.sqlite",
    "structlog", "typer", "rich.table",
)  # fmt: skip
PYTEST = (
    "-x", "-q", "-p", "no:cacheprovider", "--assert=plain", "--tb=line", "-o", "timeout=0",
    "--hypothesis-profile=mutants", "-o", "tmp_path_retention_policy=none",
    "-W", "ignore:Module already imported",
    *(word for plugin in PLUGINS for word in ("-p", plugin)),
)  # fmt: skip
CPU_S = 60
"""A mutant that takes more processor time is in a loop: it counts as killed. No wall clock decides
that, or a busy computer would kill mutants.
"""

WALL_S = 1_200
"""A mutant that neither works nor ends is ended."""

PASSED, FAILED = 0, 1


@dataclass(frozen=True)
class Target:
    """Files that share their tests."""

    name: str
    preload: tuple[str, ...]
    files: tuple[str, ...]
    stages: tuple[tuple[str, ...], ...]


@dataclass
class Score:
    killed: int = 0
    accepted: int = 0
    survivors: list[Mutant] = field(default_factory=list)

    @property
    def percent(self) -> float:
        judged = self.killed + len(self.survivors)
        return 100.0 * self.killed / judged if judged else 100.0


class Changed(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports one module from a changed source."""

    def __init__(self, file: Path, source: str) -> None:
        self._file, self._source = file, source
        self._name = ".".join(file.relative_to(Path.cwd()).with_suffix("").parts)

    def find_spec(self, name: str, path: object = None, target: object = None) -> object:
        if name != self._name:
            return None
        return importlib.util.spec_from_file_location(name, self._file, loader=self)

    def create_module(self, spec: object) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        exec(compile(self._source, str(self._file), "exec"), module.__dict__)


def load_targets() -> tuple[tuple[Target, ...], float]:
    table = tomllib.loads((HERE / "targets.toml").read_text(encoding="utf-8"))
    targets = tuple(
        Target(
            row["name"],
            tuple(row["preload"]),
            tuple(row["files"]),
            tuple(tuple(stage) for stage in row["stages"]),
        )
        for row in table["target"]
    )
    return targets, float(table["score_min_percent"])


def load_accepted() -> dict[str, str]:
    table = tomllib.loads((HERE / "accepted.toml").read_text(encoding="utf-8"))
    return {row["id"]: row["why"] for row in table.get("mutant", [])}


@contextlib.contextmanager
def copy_of_the_tree(keep: bool) -> Iterator[Path]:
    """A copy to work in, so that neither sources nor caches of the tree are touched."""
    memory = Path("/dev/shm")  # the journals of thousands of runs need no disk
    base = memory if os.access(memory, os.W_OK) else Path(tempfile.gettempdir())
    place = Path(tempfile.mkdtemp(prefix="tmsctl-mutants-", dir=base))
    (place / "tmp").mkdir()
    tempfile.tempdir = str(place / "tmp")
    ignored = shutil.ignore_patterns("__pycache__", ".hypothesis")
    for name in COPIED:
        shutil.copytree(ROOT / name, place / name, ignore=ignored)
    for file in ROOT.glob("*.*"):
        if file.is_file():
            shutil.copy(file, place)
    try:
        yield place
    finally:
        tempfile.tempdir = None
        if not keep:
            shutil.rmtree(place)


def warm_up(place: Path) -> None:
    """Import what no mutant changes, so that each fork begins with it."""
    os.chdir(place)
    sys.path[:] = [
        str(place),
        *(path for path in sys.path if Path(path or ".") not in (HERE, ROOT)),
    ]
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    import hypothesis

    hypothesis.settings.register_profile(
        "mutants",
        derandomize=True,
        database=None,
        deadline=None,
        max_examples=25,
        phases=[
            hypothesis.Phase.explicit,
            hypothesis.Phase.generate,
        ],  # the first example is enough
    )
    for name in PRELOADED:
        importlib.import_module(name)
    gc.freeze()  # the forks share it


def preload(target: Target) -> None:
    """Import what is the same for all mutants of this target; none of its files may be among it."""
    for name in target.preload:
        importlib.import_module(name)
    for file in target.files:
        assert file.removesuffix(".py").replace("/", ".") not in sys.modules, file
    gc.freeze()


def run_tests(stages: Sequence[Sequence[str]], log: Path) -> int:
    """In the forked process: 0 when all stages pass, else what pytest said."""
    import pytest

    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S + 5))
    sink = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(sink, 1)
    os.dup2(sink, 2)
    # Of its own: else pytest removes at its end what another mutant's tests still use.
    own = Path(tempfile.gettempdir()) / str(os.getpid())
    for stage in stages:
        status = int(pytest.main([*PYTEST, f"--basetemp={own}", *stage]))
        if status != PASSED:
            return status
    return PASSED


def fork(stages: Sequence[Sequence[str]], file: Path, source: str, log: Path) -> int:
    """Start one mutant; returns its process id."""
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child:
        return child
    status = 70
    try:
        sys.meta_path.insert(0, Changed(file, source))  # type: ignore[arg-type]
        status = run_tests(stages, log)
    except BaseException:  # a defect of this tool, not of the mutant
        traceback.print_exc()
        raise
    finally:
        sys.stderr.flush()
        os._exit(status)


class Runner:
    """Keeps so many mutants running at once, and collects how they ended."""

    def __init__(self, place: Path, jobs: int) -> None:
        self._place, self._jobs = place, jobs
        self._running: dict[int, tuple[Mutant, float]] = {}
        self.ended: dict[Mutant, bool] = {}  # mutant -> was it killed

    def start(self, mutant: Mutant, target: Target) -> None:
        while len(self._running) >= self._jobs:
            self._wait()
        log = self._place / f"mutant-{len(self.ended) % (2 * self._jobs)}.log"
        pid = fork(target.stages, self._place / mutant.file, mutant.source, log)
        self._running[pid] = mutant, time.monotonic() + WALL_S

    def finish(self) -> None:
        while self._running:
            self._wait()

    def _wait(self) -> None:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid:
            mutant, _ = self._running.pop(pid)
            self.ended[mutant] = status != 0
            return
        now = time.monotonic()
        for late in [p for p, (_, deadline) in self._running.items() if now > deadline]:
            os.kill(late, signal.SIGKILL)  # one of our own children
        time.sleep(0.005)


def baseline_fails(target: Target, place: Path) -> str:
    """Without a change every test must pass, or nothing can be said; why not, else empty."""
    first = place / target.files[0]
    log = place / "baseline.log"
    pid = fork(target.stages, first, first.read_text(encoding="utf-8"), log)
    if os.waitpid(pid, 0)[1] != 0:
        tail = "\n".join(log.read_text(encoding="utf-8").splitlines()[-30:])
        return f"the tests of target {target.name} fail without any change:\n{tail}"
    return ""


def main() -> int:
    parser = argparse.ArgumentParser(description="Breaks the safety core on purpose.")
    parser.add_argument("--only", default="", help="files whose path, or mutants whose id, has it")
    parser.add_argument("--sample", type=int, default=1, metavar="N", help="every Nth mutant only")
    parser.add_argument("--critical", action="store_true", help="only those that must not survive")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--keep", action="store_true", help="leave the copy behind")
    options = parser.parse_args()
    if os.environ.get("PYTHONHASHSEED") != "0":  # the same order of sets in every run
        os.execve(
            sys.executable, [sys.executable, *sys.argv], {**os.environ, "PYTHONHASHSEED": "0"}
        )
    sys.path.insert(0, str(HERE))
    from mutants import mutants_of

    targets, least = load_targets()
    accepted = load_accepted()
    with copy_of_the_tree(options.keep) as place:
        warm_up(place)
        runner = Runner(place, options.jobs)
        began = time.monotonic()
        wrong: list[str] = []
        for target in targets:
            files = [f for f in target.files if options.only.partition(":")[0] in f]
            if not files:
                continue
            preload(target)
            if problem := baseline_fails(target, place):
                wrong.append(problem)
                continue
            for file in files:
                source = (place / file).read_text(encoding="utf-8")
                chosen = [
                    m
                    for m in mutants_of(file, source)
                    if options.only in m.id and m.critical >= options.critical
                ]
                for mutant in chosen[:: options.sample]:
                    runner.start(mutant, target)
            runner.finish()
        took_s = time.monotonic() - began
    whole = not (options.only or options.critical) and options.sample == 1
    wrong += report(runner.ended, accepted, least, took_s, whole=whole)
    sys.stderr.writelines(f"{sentence}\n" for sentence in wrong)
    return 1 if wrong else 0


def report(
    ended: dict[Mutant, bool], accepted: dict[str, str], least: float, took_s: float, *, whole: bool
) -> list[str]:
    """Print scores and survivors; what is not good enough, in sentences."""
    scores: dict[str, Score] = {}
    wrong: list[str] = []
    needed = set()
    for mutant, killed in sorted(ended.items(), key=lambda one: (one[0].file, one[0].line)):
        score = scores.setdefault(mutant.file, Score())
        if killed:
            score.killed += 1
        elif mutant.id in accepted:
            score.accepted += 1
            needed.add(mutant.id)
        else:
            score.survivors.append(mutant)
    for score in scores.values():
        for m in score.survivors:
            mark = "CRITICAL " if m.critical else ""
            print(f"{mark}{m.id} line {m.line}\n  - {m.before}\n  + {m.after}")
            if m.critical:
                wrong.append(f"{m.id} survives and is not accepted")
    print(f"\n{'module':40} {'mutants':>7} {'killed':>7} {'survive':>7} {'equal':>6} {'score':>7}")
    total = Score()
    for file, score in [*scores.items(), ("all", total)]:
        number = score.killed + len(score.survivors) + score.accepted
        print(
            f"{file:40} {number:7} {score.killed:7} {len(score.survivors):7} {score.accepted:6} "
            f"{score.percent:6.1f}%"
        )
        total.killed += score.killed
        total.accepted += score.accepted
        total.survivors += score.survivors
        if score.percent < least:
            wrong.append(f"{file} has a score below {least:.0f} %")
    if whole:
        wrong += [f"{i} is accepted, but is killed or gone" for i in accepted.keys() - needed]
    print(f"{len(ended)} mutants in {took_s:.0f} s")
    return wrong


if __name__ == "__main__":
    sys.exit(main())
