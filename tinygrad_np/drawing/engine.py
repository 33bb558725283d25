"""The layout engine: a Graphviz ``dot`` on PATH, else the one that pip installs."""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
import threading
from pathlib import Path

from ..errors import EngineError

_lock = threading.Lock()


def find_engine() -> Path:
    """The program that lays out: ``dot``, else ``graphviz-pure`` of this Python's environment."""
    found = shutil.which("dot")
    if found is None:
        folders = [
            sysconfig.get_path("scripts"),
            sysconfig.get_path("scripts", sysconfig.get_preferred_scheme("user")),
            str(Path(sys.executable).parent),
            os.environ.get("PATH", ""),
        ]
        found = shutil.which("graphviz-pure", path=os.pathsep.join(folders))
    if found is None:
        raise EngineError(
            "draw: no layout engine found: neither a program `dot` on PATH nor `graphviz-pure`. "
            "Run `pip install graphviz-pure`, or install Graphviz. `.dot` needs neither."
        )
    return Path(found)


def render(source: str, format: str) -> bytes:
    """DOT source as ``"svg"`` or ``"png"``.

    The `graphviz` package keeps the program in a global; it is set for the call and put back, one
    thread at a time.
    """
    try:
        import graphviz
        from graphviz.backend import dot_command
    except ImportError as error:
        raise EngineError(
            "draw: the Python package graphviz is missing. "
            "Run `pip install graphviz graphviz-pure`."
        ) from error
    engine = find_engine()
    with _lock:
        before = dot_command.DOT_BINARY
        dot_command.DOT_BINARY = engine
        try:
            drawn: bytes = graphviz.Source(source).pipe(format=format, quiet=True)
            return drawn
        except (graphviz.CalledProcessError, graphviz.ExecutableNotFound) as error:
            said = (getattr(error, "stderr", None) or b"").decode(errors="replace").strip()
            raise EngineError(f"draw: {engine} failed: {said or error}") from error
        finally:
            dot_command.DOT_BINARY = before
