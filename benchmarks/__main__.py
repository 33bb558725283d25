"""Times a training step of each contender, all in one process, in short interleaved rounds.

Prints, per workload, the last loss, the median CPU and wall time of a step, its ratios to PyTorch,
to hand-written NumPy and to `jax.jit` (medians over the rounds; of CPU time with one thread, of wall
time with more), the milliseconds that the first steps took more than later ones, to record and
compile, and the largest relative difference from the hand-written step; stops with an error when
losses or weights do not agree. Of a network it also prints what its matrix products take alone.
"""

import argparse
import os
import sys
from statistics import median

# A BLAS reads these when NumPy is imported, so no module imported here may import it.
THREAD_VARIABLES = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")


def thread_count(text: str) -> int | None:
    """A number of threads; None for ``default``, what each library chooses by itself."""
    if text == "default":
        return None
    if (count := int(text)) < 1:
        raise ValueError
    return count


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("workloads", nargs="*", metavar="W1", help="which ones (all)")
    parser.add_argument("--steps", type=int, help="steps a round (each workload has its own)")
    parser.add_argument("--rounds", type=int, default=9, help="timed rounds (%(default)s)")
    parser.add_argument(
        "--threads", type=thread_count, default=1, metavar="N|default", help="threads (%(default)s)"
    )
    parser.add_argument("--contenders", nargs="+", metavar="NAME", help="which ones (all)")
    parser.add_argument("--summary", metavar="NAME", help="one contender's ratios at the end")
    arguments = parser.parse_args()
    for variable in THREAD_VARIABLES:
        if arguments.threads is None:
            os.environ.pop(variable, None)
        else:
            os.environ[variable] = str(arguments.threads)

    from benchmarks import harness, products
    from benchmarks.contenders import CONTENDERS
    from benchmarks.workloads import WORKLOADS, Network

    names = arguments.contenders or list(CONTENDERS)
    summarized = [arguments.summary] if arguments.summary else []
    for chosen, known in (
        (arguments.workloads, WORKLOADS), (names, CONTENDERS), (summarized, names)
    ):  # fmt: skip
        if unknown := sorted(set(chosen) - set(known)):
            parser.error(f"unknown: {', '.join(unknown)}; choose from {', '.join(known)}")

    kind: harness.Kind = "cpu" if arguments.threads == 1 else "wall"
    runs = {}
    print(harness.machine())
    for name in arguments.workloads or WORKLOADS:
        workload = WORKLOADS[name]()
        steps = arguments.steps or workload.steps
        print(f"\n{name}  {workload.title}; {arguments.rounds} rounds of {steps} steps")
        try:
            runs[name] = harness.run(
                workload,
                names,
                rounds=arguments.rounds,
                steps=steps,
                settle=0.0 if arguments.threads == 1 else 0.2,
            )
        except harness.DisagreementError as error:
            sys.exit(f"{name}: {error}")
        print(harness.table(runs[name], kind), flush=True)
        if isinstance(workload, Network):
            floor = products.seconds(workload, kind, arguments.rounds, steps)
            of_it = [
                f"{one} {median(getattr(result, kind)) / floor:.2f}"
                for one, result in runs[name].items()
            ]
            print(f"its matrix products alone: {1e6 * floor:.1f} us; of that, {', '.join(of_it)}")
    for chosen in summarized:
        print(f"\n{harness.summary(runs, chosen, kind)}")


if __name__ == "__main__":
    main()
