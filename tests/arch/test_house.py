"""What the house style says and a machine can see."""

import ast
import re
from collections import Counter
from pathlib import Path

import pytest
from sources import PACKAGE, ROOT, functions, modules, tree

_MAX_FILE_LINES = 300
_MAX_FUNCTION_LINES = 40
_TEXT = {".py", ".md", ".toml", ".txt", ".yaml", ".yml", ".sh", ".json", ""}
_FOLDERS = ("src", "tests", "bench", "docs", ".ci")
_MACHINE_PATH = re.compile(r"(?<![\w.~-])/(?:work|root|home/\w+)(?=[/\s\"'`)]|$)")


def _tests() -> list[Path]:
    return sorted((ROOT / "tests").rglob("test_*.py"))


def _texts() -> list[Path]:
    """Files that are part of the project; what tools leave behind is not."""
    inside = [path for folder in _FOLDERS for path in (ROOT / folder).rglob("*")]
    files = [path for path in (*ROOT.glob("*"), *inside) if path.is_file()]
    return [
        path
        for path in files
        if path.suffix in _TEXT
        and not any(part == "__pycache__" or part.endswith(".egg-info") for part in path.parts)
    ]


@pytest.mark.parametrize("path", modules().values(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_file_is_short(path: Path) -> None:
    assert len(path.read_text().splitlines()) < _MAX_FILE_LINES


def _body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines from the first statement after the docstring to the end."""
    body = function.body
    if ast.get_docstring(function) is not None:
        body = body[1:]
    if not body or function.end_lineno is None:
        return 0
    return function.end_lineno - body[0].lineno + 1


@pytest.mark.parametrize("path", modules().values(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_function_is_short(path: Path) -> None:
    lengths = {f.name: _body_lines(f) for f in functions(path)}
    assert {name: n for name, n in lengths.items() if n > _MAX_FUNCTION_LINES} == {}


@pytest.mark.parametrize("path", modules().values(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_no_attribute_is_probed_for(path: Path) -> None:
    calls = [node for node in ast.walk(tree(path)) if isinstance(node, ast.Call)]
    names = {call.func.id for call in calls if isinstance(call.func, ast.Name)}
    assert "hasattr" not in names


def test_there_is_no_drawer_for_everything() -> None:
    assert [name for name in modules() if re.search(r"(utils?|helpers?|common|misc)$", name)] == []


@pytest.mark.parametrize("path", _tests(), ids=lambda p: str(p.relative_to(ROOT)))
def test_every_test_asserts(path: Path) -> None:
    tests = [f for f in functions(path) if f.name.startswith("test_")]
    assert tests
    assert [f.name for f in tests if not any(_asserts(node) for node in ast.walk(f))] == []


def _asserts(node: ast.AST) -> bool:
    if isinstance(node, ast.Assert):
        return True
    if not isinstance(node, ast.Call):
        return False
    name = node.func.attr if isinstance(node.func, ast.Attribute) else ""
    name = node.func.id if isinstance(node.func, ast.Name) else name
    return name in ("raises", "warns") or name.startswith(("assert_", "check_"))


@pytest.mark.parametrize("path", _tests(), ids=lambda p: str(p.relative_to(ROOT)))
def test_no_test_sleeps(path: Path) -> None:
    calls = [node.func for node in ast.walk(tree(path)) if isinstance(node, ast.Call)]
    assert not any(isinstance(f, ast.Attribute) and f.attr == "sleep" for f in calls)


def test_test_files_have_different_names() -> None:
    counts = Counter(path.name for path in (ROOT / "tests").rglob("*.py"))
    del counts["conftest.py"]
    assert [name for name, count in counts.items() if count > 1] == []


def test_no_file_names_a_folder_of_one_machine() -> None:
    found = [
        f"{path.relative_to(ROOT)}: {match[0]}"
        for path in _texts()
        for match in _MACHINE_PATH.finditer(path.read_text(errors="replace"))
    ]
    assert len(_texts()) > 50
    assert found == []
