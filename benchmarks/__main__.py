"""Times a training step of each contender, all in one process, in short interleaved rounds.

Prints, per workload, the median CPU and wall time of a step, the ratios to hand-written NumPy and
to PyTorch (medians over the rounds), the last loss, and the largest relative difference from the
hand-written one; stops with an error when losses or weights do not agree.
"""

import argparse
import os
import sys

# A BLAS reads these when NumPy is imported, so no module imported here may import it.
THREAD_VARIABLES = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("workloads", nargs="*", metavar="W1", help="which ones (all)")
    parser.add_argument("--steps", type=int, help="steps a round (each workload has its own)")
    parser.add_argument("--rounds", type=int, default=9, help="timed rounds (%(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="threads (%(default)s)")
    parser.add_argument("--contenders", nargs="+", metavar="NAME", help="which ones (all)")
    arguments = parser.parse_args()
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(arguments.threads)))

    from benchmarks import harness
    from benchmarks.contenders import CONTENDERS
    from benchmarks.workloads import WORKLOADS

    for chosen, known in (arguments.workloads, WORKLOADS), (arguments.contenders or [], CONTENDERS):
        if unknown := sorted(set(chosen) - set(known)):
            parser.error(f"unknown: {', '.join(unknown)}; choose from {', '.join(known)}")

    print(harness.machine())
    for name in arguments.workloads or WORKLOADS:
        workload = WORKLOADS[name]()
        steps = arguments.steps or workload.steps
        print(f"\n{name}  {workload.title}; {arguments.rounds} rounds of {steps} steps")
        try:
            results = harness.run(
                workload,
                arguments.contenders or list(CONTENDERS),
                rounds=arguments.rounds,
                steps=steps,
                settle=0.2 if arguments.threads > 1 else 0.0,
            )
        except harness.DisagreementError as error:
            sys.exit(f"{name}: {error}")
        print(harness.table(results))


if __name__ == "__main__":
    main()
