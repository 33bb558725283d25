"""The house: imports run in one direction, stay light, and nn uses only what is public."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import tinygrad_np

ROOT = Path(__file__).parent.parent
# Lowest first: a room may import from those before it and from its own.
ROOMS = [
    "errors", "core", "effects", "tree", "backward", "ops", "inplace", "operators", "debug", "transforms",
    "drawing", "program", "derivation", "compiling", "check", "export",
]  # fmt: skip


def imports(path: Path, package: str) -> set[str]:
    """The modules of ``package`` that a file imports when it is imported, from its first level on."""
    found = set()
    inside = path.relative_to(ROOT).with_suffix("").parts
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ImportFrom):
            base = list(inside[: len(inside) - node.level]) if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            names = [f"{module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        found |= {name.split(".")[1] for name in names if name.startswith(f"{package}.")}
    return found


def sources(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


@pytest.mark.parametrize("path", sources("tinygrad_np"), ids=str)
def test_imports_run_in_one_direction(path: Path) -> None:
    room = path.relative_to(ROOT / "tinygrad_np").with_suffix("").parts[0]
    if room == "__init__":
        return
    allowed = set(ROOMS[: ROOMS.index(room) + 1])
    assert imports(path, "tinygrad_np") <= allowed


@pytest.mark.parametrize("path", sources("nn"), ids=str)
def test_nn_takes_nothing_private_from_the_engine(path: Path) -> None:
    text = path.read_text()
    assert imports(path, "tinygrad_np") <= {"errors", *tinygrad_np.__all__}
    assert not re.search(r"(?<!platform)\.node\b", text)


@pytest.mark.parametrize("path", sources("tinygrad_np"), ids=str)
def test_the_engine_knows_no_nn(path: Path) -> None:
    assert "import nn" not in path.read_text().replace("np, nn", "").replace("tg, nn", "")
    assert not imports(path, "nn")


def test_importing_loads_nothing_heavy_but_numpy() -> None:
    code = (
        "import sys, numpy; before = set(sys.modules); import tinygrad_np, nn; "
        "print(*sorted({m.partition('.')[0] for m in set(sys.modules) - before}))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    outside = set(result.stdout.split()) - set(sys.stdlib_module_names)
    assert outside == {"nn", "numpy", "tinygrad_np"} or outside == {"nn", "tinygrad_np"}
