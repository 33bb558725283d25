"""Check the backprop of a function in a file: ``python -m tinygrad_np.check file.py:function``.

The parameters and the data come from a function of the same file that takes nothing and returns
what the checked one is given, ``(params, *data)``: ``check_args``, or another one with ``--with``. A
name that stands for a model instead (``file.py:model``), or for a class that can be made without
arguments, gets ``(*data)``: then the function returns the data alone.

Prints the report. The exit status is 0 if all gradients are right, 1 if not, and 2 if it could not be
run.
"""

from __future__ import annotations

import argparse
import importlib.util
import inspect
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from ..errors import TensorError
from .byhand import check_backprop

RIGHT, WRONG, USAGE = 0, 1, 2


def main(arguments: list[str] | None = None) -> int:
    """Run the command; the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m tinygrad_np.check", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("target", metavar="file.py:function")
    parser.add_argument(
        "--with", dest="factory", default="check_args", metavar="NAME",
        help="the function that returns (params, *data) (%(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--seed", type=int, default=0, help="of NumPy's random numbers (%(default)s)"
    )
    parser.add_argument(
        "--hints", type=int, choices=(1, 2, 3), default=3, help="how much to give away"
    )
    parser.add_argument("--match", action="append", default=[], metavar="VARIABLE=QUANTITY",
                        help="a variable, and whose gradient it is; may be repeated")  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    options = parser.parse_args(arguments)
    path, _, name = options.target.rpartition(":")
    pairs = [one.partition("=") for one in options.match]
    if not path or not name or not all(value for _, _, value in pairs):
        parser.error("expected file.py:function, and --match VARIABLE=QUANTITY")
    np.random.seed(options.seed)  # noqa: NPY002 - of the user's code, whichever it uses
    try:
        module = _loaded(Path(path))
        checked = _found(module, name, path)
        given = _found(module, options.factory, path)()
        given = given if isinstance(given, tuple) else (given,)
        if inspect.isclass(checked):
            checked = checked()
        if not inspect.isroutine(checked):
            given = (None, *given)
        report = check_backprop(
            checked, *given, match={key: value for key, _, value in pairs}, hints=options.hints
        )
    except (TensorError, OSError, AttributeError, TypeError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return USAGE
    print(json.dumps(report.to_dict(), indent=2) if options.json else report)
    return RIGHT if report.ok else WRONG


def _loaded(path: Path) -> ModuleType:
    """A file as a module; modules beside it can be imported."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None or not path.exists():
        raise FileNotFoundError(f"{path}: no such Python file")
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.parent.resolve()))
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def _found(module: ModuleType, name: str, path: str) -> Any:
    if not hasattr(module, name):
        raise AttributeError(f"{path} has no {name!r}")
    return getattr(module, name)


if __name__ == "__main__":
    sys.exit(main())
