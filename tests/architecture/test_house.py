"""What the import contracts cannot say: sizes, banned calls, one place for each sharp tool."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from firmware_protocol.table import Table
from firmware_protocol.tmslink.messages import TABLE as TMSLINK
from tmsctl.ipc.messages import TABLE as IPC

ROOT = Path(__file__).parents[2]
PACKAGES = ("firmware_protocol", "drivers", "sim_device", "tmsctl")
FILE_LINES_MAX = 400
FUNCTION_LINES_MAX = 70
# "path" or "path:function" -> why it has to be
TOO_LONG: dict[str, str] = {
    "drivers/magstim/driver.py": "one device's states, its line and its pulses, read in one go",
    "drivers/magpro/driver.py": "one device's states, its line and its pulses, read in one go",
}
CLOCKS = ("sim_device/", "tmsctl/service/daemon.py")  # the emulator, and the clock of records
SLEEPERS = ("sim_device/", "tmsctl/cli/")
TEST_WORDS = re.compile(r"testing|simulat|emulat|pytest|debug|bypass|dry_run", re.IGNORECASE)

FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), name_of(path))


def dotted(node: ast.AST) -> str:
    """`a.b.c` of a name or attribute, else what can be said of its end."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def calls(path: Path) -> Iterator[tuple[str, int]]:
    """Everything called, by its full name where it was imported, and the line."""
    full: dict[str, str] = {}
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.ImportFrom):
            full |= {a.asname or a.name: f"{node.module}.{a.name}" for a in node.names}
        elif isinstance(node, ast.Import):
            full |= {a.asname: a.name for a in node.names if a.asname}
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Call):
            first, dot, rest = dotted(node.func).partition(".")
            yield full.get(first, first) + dot + rest, node.lineno


def imported(path: Path) -> set[str]:
    """Modules, and the names taken from them, as dotted names."""
    names = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {str(node.module)} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def where_called(pattern: str, files: list[Path]) -> list[str]:
    return [
        f"{name_of(path)}:{line} {name}"
        for path in files
        for name, line in calls(path)
        if re.fullmatch(pattern, name)
    ]


def outside(*folders: str) -> list[Path]:
    return [path for path in FILES if not name_of(path).startswith(folders)]


def inside(*folders: str) -> list[Path]:
    return [path for path in FILES if name_of(path).startswith(folders)]


def test_the_walk_sees_every_package() -> None:
    for package in PACKAGES:
        assert inside(f"{package}/")


def test_no_file_is_too_long() -> None:
    sizes = {name_of(path): len(path.read_text(encoding="utf-8").splitlines()) for path in FILES}
    assert {n: s for n, s in sizes.items() if s > FILE_LINES_MAX and n not in TOO_LONG} == {}


def test_no_function_is_too_long() -> None:
    found = {}
    for path in FILES:
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                name = f"{name_of(path)}:{node.name}"
                size = (node.end_lineno or node.lineno) - node.lineno + 1
                if size > FUNCTION_LINES_MAX and name not in TOO_LONG:
                    found[name] = size
    assert found == {}


def test_every_exception_from_the_sizes_has_a_reason_and_is_still_there() -> None:
    for name, reason in TOO_LONG.items():
        assert len(reason) > 20
        assert (ROOT / name.partition(":")[0]).exists()


def test_nothing_catches_everything() -> None:
    broad = {"", "Exception", "BaseException"}
    found = []
    for path in FILES:
        for node in ast.walk(tree(path)):
            if not isinstance(node, ast.ExceptHandler):
                continue
            kinds = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
            if any(kind is None or dotted(kind) in broad for kind in kinds):
                found.append(f"{name_of(path)}:{node.lineno}")
    assert found == []
    for path in FILES:
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Call) and dotted(node.func).endswith("suppress"):
                assert not broad & {dotted(kind) for kind in node.args}, name_of(path)


def test_nothing_sleeps_but_the_emulator_and_the_command_line() -> None:
    assert where_called(r"time\.sleep", outside(*SLEEPERS)) == []


def test_nothing_reads_the_wall_clock_of_datetime_or_draws_lots_but_where_it_is_handed_in() -> None:
    clocks = r"(.*\.)?(datetime|date)\.(now|utcnow|today)"
    assert where_called(rf"{clocks}|random\..*", outside(*CLOCKS)) == []


def test_the_beat_has_one_caller() -> None:
    found = where_called(r".*\.beat", inside("tmsctl/"))
    assert len(found) == 1
    assert found[0].startswith("tmsctl/guard/core.py:")


def test_the_seal_of_permits_is_imported_by_one_module_besides_the_contract() -> None:
    users = [
        name_of(path)
        for path in FILES
        if any(name.startswith("drivers._seal") for name in imported(path))
    ]
    assert users == ["drivers/contract.py", "tmsctl/safety/permit.py"]


def test_safety_and_guard_do_not_ask_whether_they_are_being_tested() -> None:
    found = []
    for path in inside("tmsctl/safety/", "tmsctl/guard/"):
        for node in ast.walk(tree(path)):
            tested: list[ast.AST] = []
            if isinstance(node, ast.If | ast.IfExp | ast.While | ast.Assert):
                tested = [node.test]
            elif isinstance(node, ast.Match):
                tested = [node.subject, *(case.pattern for case in node.cases)]
            found += [
                f"{name_of(path)}: {ast.unparse(part)}"
                for part in tested
                if TEST_WORDS.search(ast.unparse(part))
            ]
    assert found == []


def test_every_silenced_check_says_which_one() -> None:
    silenced = re.compile(r"#\s*(type:\s*ignore(?!\[[a-z-]+)|noqa(?!:\s*[A-Z]+\d+))")
    found = []
    for path in FILES:
        with path.open("rb") as file:
            found += [
                f"{name_of(path)}:{token.start[0]}"
                for token in tokenize.tokenize(file.readline)
                if token.type == tokenize.COMMENT and silenced.search(token.string)
            ]
    assert found == []


@pytest.mark.parametrize("table", [TMSLINK, IPC], ids=["tmslink", "ipc"])
def test_every_message_says_what_it_means(table: Table) -> None:
    for spec in table.specs:
        assert spec.doc.endswith("."), spec.name
        assert not spec.doc.startswith(f"{spec.name}("), f"{spec.name} has no docstring of its own"
        assert all(field.doc for field in spec.fields), spec.name


def test_the_import_contracts_hold() -> None:
    linter = Path(sys.executable).parent / "lint-imports"
    result = subprocess.run(
        [linter, "--no-cache"], cwd=ROOT, capture_output=True, text=True, timeout=55, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr


def test_no_benchmark_hides_a_module_that_the_programs_import() -> None:
    """A defect once: a benchmark of the name `usb` came before pyusb, and `make bench` ended."""
    command = [sys.executable, "-c", "import sys; sys.path.insert(0, 'benchmarks'); import run"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
