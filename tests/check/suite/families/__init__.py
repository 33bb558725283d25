"""Right programs, a family a file; each with the lines that go wrong."""

from __future__ import annotations

import importlib
import pkgutil

from ..program import Program


def _programs() -> list[Program]:
    names = sorted(one.name for one in pkgutil.iter_modules(__path__))
    modules = [importlib.import_module(f"{__name__}.{name}") for name in names]
    return [program for module in modules for program in module.PROGRAMS]


PROGRAMS = _programs()
