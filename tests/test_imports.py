"""Who may know whom."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

MMRAG = Path(__file__).parent.parent / "mmrag"
SIBLINGS = ("cache", "decoder", "encoders", "knowledge", "retrieval")


def imported(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def imports_of(files: Iterator[Path], packages: tuple[str, ...]) -> list[tuple[str, str]]:
    found = [(str(file.relative_to(MMRAG)), name) for file in files for name in imported(file)]
    return [(file, name) for file, name in found if name.startswith(tuple(f"{package}." for package in packages))]


@pytest.mark.parametrize("sibling", SIBLINGS)
def test_parts_of_the_pipeline_do_not_know_each_other(sibling):
    others = tuple(f"mmrag.{other}" for other in SIBLINGS if other != sibling)
    assert imports_of((MMRAG / sibling).rglob("*.py"), others) == []
    assert imports_of((MMRAG / sibling).rglob("*.py"), (f"mmrag.{sibling}",))  # else nothing was looked at


def test_the_library_knows_nothing_of_those_who_use_it():
    assert imports_of(MMRAG.rglob("*.py"), ("atlas", "deployments", "loadtests", "tests")) == []


def test_the_scheduler_knows_nothing_of_tensors():
    names = list(imported(MMRAG / "decoder" / "scheduler.py"))
    assert names and not any(name.partition(".")[0] in ("torch", "numpy") for name in names)
