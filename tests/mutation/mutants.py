"""Every mutant of one file: mutmut's operators, on the whole file.

mutmut itself changes only the bodies of functions, because it switches between mutants at run
time. Here the tables at module level are what matters most, so its operators are applied to the
parsed file, and each mutant is a whole new source. Added are the weaker action of a rule and one
less for a number. Left out are sentences (a text with a space, what stands inside an f-string),
annotations, imports, assignments of None at module level, and calls with an argument less, which
break everything and so are killed by anything.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import libcst as cst
from libcst.metadata import CodeRange, MetadataWrapper, PositionProvider
from mutmut.mutation import mutators

WEAKER = {"SAFE": "DISARM", "DISARM": "HOLD", "HOLD": "PERMIT"}
"""Actions of rules, each weakened by one step."""

CRITICAL_FUNCTIONS = ("arm", "_arm", "mint", "stop", "_stop", "_acknowledge", "_fire", "make_safe")
COMPARED = (cst.ComparisonTarget, cst.BaseCompOp, cst.BooleanOperation, cst.UnaryOperation)
SKIPPED = (
    cst.Annotation, cst.Decorator, cst.Import, cst.ImportFrom, cst.TypeAlias, cst.FormattedString
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Mutant:
    """One changed source. `id` stays the same when other parts of the file change."""

    id: str  # file:function~hash
    file: str
    line: int
    critical: bool  # a constant, a comparison, or in a function that arms, permits or stops
    before: str
    after: str
    source: str


def _action(node: cst.Attribute) -> Iterable[cst.Attribute]:
    if isinstance(node.value, cst.Name) and node.value.value == "Action":
        weaker = WEAKER.get(node.attr.value)
        if weaker is not None:
            yield node.with_changes(attr=cst.Name(weaker))


def _fewer(node: cst.BaseNumber) -> Iterable[cst.BaseNumber]:
    """One less, beside mutmut's one more."""
    if isinstance(node, cst.Integer) and node.evaluated_value > 0:
        yield node.with_changes(value=repr(node.evaluated_value - 1))


def _text(node: cst.BaseString) -> Iterable[cst.BaseString]:
    """A code or a name; one change is enough."""
    if isinstance(node, cst.SimpleString) and " " not in node.value:
        yield from list(mutators.operator_string(node))[:1]


LEFT_OUT = (mutators.operator_string, mutators.operator_arg_removal)
OPERATORS: Sequence[tuple[Any, Any]] = [
    *((kind, op) for kind, op in mutators.mutation_operators if op not in LEFT_OUT),
    (cst.BaseString, _text),
    (cst.BaseNumber, _fewer),
    (cst.Attribute, _action),
]
INSIDE_FUNCTIONS_ONLY = (mutators.operator_assignment,)


def _is_list_of_names(node: cst.CSTNode) -> bool:
    """`__all__`, which only says what is meant for others."""
    return isinstance(node, cst.Assign) and any(
        isinstance(target.target, cst.Name) and target.target.value == "__all__"
        for target in node.targets
    )


class _Walk(cst.CSTVisitor):
    METADATA_DEPENDENCIES = (PositionProvider,)

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[cst.CSTNode, cst.CSTNode, CodeRange, str, bool]] = []
        self._scope: list[str] = []
        self._in_function = 0

    def on_visit(self, node: cst.CSTNode) -> bool:
        if isinstance(node, SKIPPED) or _is_list_of_names(node):
            return False
        if isinstance(node, cst.FunctionDef | cst.ClassDef):
            self._scope.append(node.name.value)
        self._in_function += isinstance(node, cst.FunctionDef | cst.Lambda)
        self._mutate(node)
        return True

    def on_leave(self, original_node: cst.CSTNode) -> None:
        if isinstance(original_node, SKIPPED) or _is_list_of_names(original_node):
            return
        if isinstance(original_node, cst.FunctionDef | cst.ClassDef):
            self._scope.pop()
        self._in_function -= isinstance(original_node, cst.FunctionDef | cst.Lambda)

    def _mutate(self, node: cst.CSTNode) -> None:
        for kind, operator in OPERATORS:
            if not isinstance(node, kind):
                continue
            if operator in INSIDE_FUNCTIONS_ONLY and not self._in_function:
                continue
            compared = isinstance(node, COMPARED) or operator is _action
            constant = isinstance(node, cst.BaseNumber) or (
                isinstance(node, cst.Name) and node.value in ("True", "False")
            )
            named = any(name in CRITICAL_FUNCTIONS for name in self._scope)
            place = self.get_metadata(PositionProvider, node)
            for changed in operator(node):
                scope = ".".join(self._scope)
                self.found.append((node, changed, place, scope, compared or constant or named))


def mutants_of(file: str, source: str) -> Iterator[Mutant]:
    """All mutants of a file, in the order of its lines."""
    wrapper = MetadataWrapper(cst.parse_module(source))
    walk = _Walk()
    wrapper.visit(walk)
    seen: dict[str, int] = {}
    sources = {source}
    lines = source.splitlines(keepends=True)
    starts = [0, *accumulate(len(line) for line in lines)]
    for node, changed, place, scope, critical in sorted(walk.found, key=lambda f: f[2].start.line):
        if isinstance(node, cst.BaseCompoundStatement):
            mutated = wrapper.module.deep_replace(node, changed).code  # type: ignore[arg-type]
        else:
            first = starts[place.start.line - 1] + place.start.column
            end = starts[place.end.line - 1] + place.end.column
            mutated = source[:first] + wrapper.module.code_for_node(changed) + source[end:]
        if mutated in sources:
            continue
        compile(mutated, file, "exec")  # a SyntaxError is a defect of this tool
        sources.add(mutated)
        before, after = _difference(lines, mutated.splitlines(keepends=True))
        mark = hashlib.sha256(f"{scope}\n{before}\n{after}".encode()).hexdigest()[:8]
        seen[mark] = seen.get(mark, 0) + 1
        if seen[mark] > 1:
            mark += f".{seen[mark]}"
        name = f"{file}:{scope or 'module'}~{mark}"
        yield Mutant(name, file, place.start.line, critical, before, after, mutated)


def _difference(old: Sequence[str], new: Sequence[str]) -> tuple[str, str]:
    """The lines that differ, without their indentation."""
    shorter = min(len(old), len(new))
    first = next((i for i in range(shorter) if old[i] != new[i]), shorter)
    rest = range(1, shorter - first + 1)
    last = next((i for i in rest if old[-i] != new[-i]), len(rest) + 1) - 1
    before, after = old[first : len(old) - last], new[first : len(new) - last]
    return " ".join(map(str.strip, before)), " ".join(map(str.strip, after))
