"""How good is the checker of hand-written backprop? Its figures on programs whose answer is known.

``python -m tests.check.suite`` checks every program with each of its mistakes, and the right ones as
they are; it fails if the checker falls short of what it is held to. ``--misses`` lists what was not
detected, located or named, and who was accused; ``--only`` takes some families; ``--peers`` asks the
gradient checks of PyTorch, JAX and autograd about the same programs.
"""

from __future__ import annotations

import argparse
import sys
import time

import numpy as np

from . import peers, running
from .families import PROGRAMS


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.check.suite", description=__doc__)
    families = sorted({one.family for one in PROGRAMS})
    parser.add_argument(
        "--only", nargs="+", metavar="family", choices=families, help=", ".join(families)
    )
    parser.add_argument("--misses", action="store_true", help="list them")
    parser.add_argument(
        "--peers", action="store_true", help="other libraries' gradient checks, too"
    )
    options = parser.parse_args()
    programs = [one for one in PROGRAMS if one.family in (options.only or families)]
    start = time.process_time()
    if options.peers:
        right = [case for case in running.right_cases(programs) if case.dtype == np.float64]
        print(peers.compared(list(running.wrong_cases(programs)), right))
        return
    outcomes = [running.outcome(case) for case in running.wrong_cases(programs)]
    acquittals = [running.acquittal(case) for case in running.right_cases(programs)]
    accused = [one for one in acquittals if one.accused]
    if options.misses:
        for one in outcomes:
            if not all(one.marks) or one.overbold:
                print(_miss(one))
        for two in accused:
            print(f"accused      {two.case.title}\n             {two.said}")
    print(f"{len(programs)} programs of {len({one.family for one in programs})} families")
    print(running.table(outcomes))
    print(
        f"certain of another mistake, one with the same numbers: {sum(one.overbold for one in outcomes)}"
    )
    print(f"right programs: {len(acquittals)}, accused: {len(accused)}")
    print(f"{time.process_time() - start:.0f} seconds of CPU")
    overbold = float(np.mean([one.overbold for one in outcomes]))
    sys.exit(bool(running.short_of(outcomes) or accused or overbold > running.OVERBOLD))


def _miss(one: running.Outcome) -> str:
    mistake = one.case.mistake
    assert mistake is not None
    faults = {
        "not detected": not one.detected,
        "not located": not one.located,
        "not named": not one.within_three,
        "not first": not one.first,
        "overbold": one.overbold,
    }
    fault = next(name for name, holds in faults.items() if holds)
    wanted = f"{'/'.join(mistake.quantities)}: {'|'.join(mistake.kinds)}"
    return f"{fault:12} {one.case.title}\n             {wanted}  <-  {one.said}"


if __name__ == "__main__":
    main()
