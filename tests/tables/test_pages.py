"""The pages say what the code does: generated tables, and every name that a page must hold."""

from __future__ import annotations

import ast
import importlib.util
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer
from pydantic import BaseModel

from sim_device.entry import _parser
from tmsctl.cli import errors
from tmsctl.cli.app import app
from tmsctl.records.views import Event, Record
from tmsctl.safety.rules import GATE, WATCH
from tmsctl.service import api
from tmsctl.service.config import Config, Device, Paths
from tmsctl.service.daemon import Daemon

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [*sorted(DOCS.glob("*.md")), *(ROOT / f"{n}.md" for n in ("README", "CONTRIBUTING"))]
GENERATED = (
    "limits.md", "emulator.md", "duomag.md", "magstim.md", "magpro.md", "recording.md",
    "devices.md",
)  # fmt: skip


def text_of(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


@cache
def maker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_pages", DOCS / "make_pages.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# -- generated tables --------------------------------------------------------------------------


@pytest.mark.parametrize("name", GENERATED)
def test_a_generated_page_is_up_to_date(name: str) -> None:
    assert maker().main(["--check", str(DOCS / name)]) == 0


def test_a_page_that_is_out_of_date_is_found_and_made_anew(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "limits.md"
    page.write_text(text_of("limits.md").replace("≤ 120", "≤ 130"))
    before = page.read_text()
    assert maker().main(["--check", str(page)]) == 1
    assert "out of date" in capsys.readouterr().err
    assert page.read_text() == before
    assert maker().main([str(page)]) == 0
    assert page.read_text() == text_of("limits.md")


def test_a_page_that_lacks_a_section_is_refused_in_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "limits.md"
    page.write_text(text_of("limits.md").replace("<!-- generated: gate -->", ""))
    assert maker().main([str(page), str(tmp_path / "missing.md")]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 2


def test_every_interlock_has_its_meaning_and_no_other_has() -> None:
    assert set(maker().MEANINGS) == {row.code for row in WATCH} | {row.code for row in GATE}


def test_every_hazard_that_is_named_has_its_meaning_and_no_other_has() -> None:
    named = " ".join([row.hazards for row in WATCH] + [row.hazards for row in GATE]).split()
    assert set(maker().HAZARDS) == set(named)


# -- the API -----------------------------------------------------------------------------------


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    paths = Paths(runtime=str(tmp_path / "run"), state=str(tmp_path / "state"))
    device = Device(driver="tmslink", url="/dev/none")
    (tmp_path / "tmsctl.toml").touch()
    made = Daemon(tmp_path / "tmsctl.toml", Config(paths=paths, device=device))
    yield made
    made._journal.close()


def test_every_method_and_parameter_is_on_the_api_page_and_no_other_method(daemon: Daemon) -> None:
    page = text_of("api.md")
    sections = re.findall(r"^### ([a-z]+\.[a-z_]+)$", page, re.MULTILINE)
    assert sections == list(daemon._methods.table)
    for model, _ in daemon._methods.table.values():
        assert [name for name in model.model_fields if f"`{name}`" not in page] == []


def members(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Dotted names of all members, as the page has them."""
    for name, field in model.model_fields.items():
        kinds = [field.annotation, *getattr(field.annotation, "__args__", ())]
        inner = [k for k in kinds if isinstance(k, type) and issubclass(k, BaseModel)]
        if inner and inner[0] is not api.Cause:
            yield from members(inner[0], f"{prefix}{name}.")
        else:
            yield prefix + name


def test_every_member_of_status_event_and_record_is_on_the_api_page() -> None:
    page = text_of("api.md")
    names = [*members(api.Status), *Event.__dataclass_fields__, *Record.__dataclass_fields__]
    results = (api.Info, api.PrepareResult, api.StartResult, api.Resumed, api.Listing)
    names += [name for result in results for name in result.model_fields]
    assert len(names) > 60
    assert [name for name in names if f"`{name}`" not in page] == []


def test_every_error_code_of_session_and_service_is_on_the_api_page() -> None:
    codes = set()
    for room in ("session", "service", "stimulation"):
        for path in (ROOT / "tmsctl" / room).glob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                    place = {"RefusedError": 1, "Refusal": 0, "_error": 3, "_invalid": 3}
                    at = place.get(node.func.id, 99)
                    codes |= {
                        arg.value
                        for arg in node.args[at : at + 1]
                        if isinstance(arg, ast.Constant) and isinstance(arg.value, str)
                    }
    assert len(codes) > 15
    assert [code for code in sorted(codes) if f"`{code}`" not in text_of("api.md")] == []


# -- the command line and the emulator ---------------------------------------------------------


def commands(group: Any, words: str) -> Iterator[tuple[str, Any]]:
    for name, command in getattr(group, "commands", {}).items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{words} {name}")
        else:
            yield f"{words} {name}", command


def test_every_command_and_option_is_on_the_command_line_page() -> None:
    page = text_of("cli.md")
    found = list(commands(typer.main.get_command(app), "tmsctl"))
    assert len(found) == 22
    for words, command in found:
        assert re.search(rf"^- `{words}[ `]", page, re.MULTILINE), words
        options = [word for p in command.params for word in p.opts if word.startswith("--")]
        assert [option for option in options if option not in page] == [], words


def test_no_command_is_on_the_page_that_does_not_exist() -> None:
    known = {words for words, _ in commands(typer.main.get_command(app), "tmsctl")}
    named = re.findall(r"^- `(tmsctl [a-z]+(?: [a-z-]+)?)", text_of("cli.md"), re.MULTILINE)
    assert set(named) == known


def test_every_exit_status_is_on_the_command_line_page() -> None:
    for name, bit in vars(errors).items():
        if name.startswith("EXIT_"):
            assert f"\n| {bit} | " in text_of("cli.md"), name


def test_every_option_and_event_of_the_emulator_is_on_its_page() -> None:
    page = text_of("emulator.md")
    options = [word for action in _parser([])._actions for word in action.option_strings]
    assert [o for o in options if o.startswith("--") and o != "--help" and o not in page] == []
    sources = "".join(path.read_text() for path in (ROOT / "sim_device").glob("*.py"))
    events = set(re.findall(r'"event": "(\w+)"', sources))
    assert len(events) == 16
    assert [event for event in sorted(events) if f"| `{event}` |" not in page] == []


# -- names and links ---------------------------------------------------------------------------


def defined(path: Path) -> set[str]:
    """Top-level names of a module, and the names in its classes as Class.name."""
    names = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            names |= {f"{node.name}.{n.name}" for n in node.body if isinstance(n, ast.FunctionDef)}
            names |= {
                f"{node.name}.{n.name}" for n in node.body if isinstance(n, ast.AsyncFunctionDef)
            }
        if isinstance(node, ast.AnnAssign | ast.Assign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {target.id for target in targets if isinstance(target, ast.Name)}
    return names


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_and_name_on_a_page_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    named = re.findall(r"`([\w./-]+\.(?:py|toml|md|lock))(?::([\w.]+))?`", text)
    inside = re.compile(r"(firmware_protocol|drivers|sim_device|tmsctl|tests|docs|systemd)/")
    missing = []
    for name, what in named:
        path = ROOT / name
        if inside.match(name) and not path.exists():
            missing.append(name)
        elif what and what not in defined(path):
            missing.append(f"{name}:{what}")
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)(?:#[\w-]*)?\)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []
