"""Data-parallel training: the ranks of an MPI job share out every batch and add up their gradients.

``mpiexec -n 4 python train.py`` starts four processes, the ranks 0 to 3. With ``nn.fit(...,
parallel=True)``, or in a loop written by hand with `shares`, each of them has the whole model and
computes with its share of the rows of each batch; after each backward pass the gradients of all
shares, in one flat array, are added up over the ranks, and every rank takes the same step::

    g = sum_r (n_r / N) g_r        n_r of the batch's N rows on rank r, g_r the mean over them

which is the gradient of the mean over the batch. So the batch size is that of all ranks together,
and a script trains the same network on any number of them, to rounding. docs/parallel.md says more.
"""

from __future__ import annotations

import hashlib
import os
import sys
import time
import traceback
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import chain, pairwise
from math import inf
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

import tinygrad_np as tg
from nn import init
from nn.callbacks import Callback, generators
from nn.data import checksum
from nn.losses import Loss
from nn.module import Module
from nn.optim import LBFGS, Optimizer
from nn.sources import Batch, Rows, Shuffle, Stream
from tinygrad_np.errors import ArgumentError, TensorError, message

__all__ = ["rank", "shares", "size", "total"]

Array = NDArray[Any]
T = TypeVar("T")

# Bytes of gradients from which on they are added up in pieces while the backward pass still runs,
# and of such a piece. None is 4 MB where the ranks are on several machines, else never: between
# processes of one machine pieces made a step of 7 MB 4 % longer; over a link of 1 Gbit/s they made
# one of 9 MB 5 % shorter, and changed nothing for one of 2 MB. See docs/parallel.md.
OVERLAP_FROM: int | None = None
PIECE = 2**20

# What the launchers of Open MPI, MPICH, Intel MPI, MS-MPI and Slurm set for each rank.
LAUNCHED = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "PMI_RANK", "PMIX_RANK")
LAUNCHERS = {"mpiexec", "mpirun", "prterun", "mpiexec.hydra", "hydra_pmi_proxy"}


# --------------------------------------------------------------------------------------------------
# The job
# --------------------------------------------------------------------------------------------------


def rank() -> int:
    """The number of this process in its MPI job, from 0; 0 without one.

    Examples
    --------
    >>> import nn
    >>> if nn.parallel.rank() == 0:
    ...     print("only once, however many ranks there are")
    only once, however many ranks there are
    """
    comm = job()
    return 0 if comm is None else int(comm.rank)


def size() -> int:
    """The number of ranks of the MPI job; 1 without one.

    Examples
    --------
    >>> import nn
    >>> nn.parallel.size()
    1
    """
    comm = job()
    return 1 if comm is None else int(comm.size)


def total(value: float) -> float:
    """The sum of a number over the ranks, each of which has to call this.

    Examples
    --------
    >>> import nn
    >>> nn.parallel.total(0.5)  # without a job there is one rank
    0.5
    """
    comm = job()
    return value if comm is None else float(comm.allreduce(float(value)))


def shares(model: Module, batches: Iterable[Sequence[Array]]) -> Iterator[Any]:
    """This rank's share of the rows of each batch, for a training loop written by hand.

    ::

        for x, y in nn.parallel.shares(model, nn.batches(x_train, y_train, batch_size=64, rng=rng)):
            optimizer.zero_grad()
            loss(model(x), y).backward()
            optimizer.step()

    Within the loop, each ``backward()`` leaves in ``.grad`` the gradient of the mean over the whole
    batch, so that clipping, and a step of any optimizer but `LBFGS`, which compares losses, do on
    every rank what they would do on one.

    Parameters
    ----------
    model : Module
        Whose parameters are trained. Before the first batch every rank is given the weights and the
        random state of rank 0.
    batches : iterable of tuples of arrays (N, ...)
        The whole batches, the same ones in the same order on all ranks: shuffle with one seed.

    Yields
    ------
    tuple of ndarray (n, ...)
        The rows of this rank, ``N / size`` rounded up or down, as views. Where a batch has fewer
        rows than there are ranks, those left over are given its first, which then counts for
        nothing. Without an MPI job, or with one rank, the batches themselves.

    Raises
    ------
    ArgumentError
        On all ranks: if they disagree about the model, or its weights after the last batch, or if
        a batch or the number of batches is not the same on all; it says on which.
    TensorError
        In an MPI job without mpi4py, which is in the extra ``mpi``.

    Notes
    -----
    The loss has to be a mean over rows. What a rank prints, such as its loss, is that of its share:
    add up with `total`, print on rank 0. An exception that nobody catches on some rank ends the
    job; `sys.exit` on one rank alone does not. While the loop runs, what `nn` draws (the masks of
    dropout) is drawn from a stream of each rank's own, but not what the batches draw.

    Examples
    --------
    >>> import numpy as np, nn
    >>> model = nn.Dense(2, 1, rng=0)
    >>> x = np.ones((5, 2))
    >>> [part.shape for part, _ in nn.parallel.shares(model, nn.batches(x, x, batch_size=4))]
    [(4, 2), (1, 2)]
    """
    comm = job()
    if comm is None:
        return iter(batches)
    ranks = Ranks(comm, "shares")
    ranks.attach(model)
    return ranks.shares(batches)


@cache
def job() -> Any:
    """The communicator of an MPI job of several ranks; None for a single process.

    mpi4py is imported only where a launcher has started this process, or somebody has imported it.

    Raises
    ------
    TensorError
        In a job, if mpi4py is not installed.
    """
    launched = [name for name in LAUNCHED if name in os.environ]
    if not launched and "mpi4py.MPI" not in sys.modules:
        return None
    try:
        from mpi4py import MPI
    except ImportError as error:
        raise TensorError(
            message("nn.parallel", "mpi4py, since this process was started as a rank of an MPI job",
                    f"{launched[0]} without it",
                    'Install the extra: pip install "tinygrad-np[mpi]"')
        ) from error  # fmt: skip
    if MPI.COMM_WORLD.size == 1:
        return None
    comm = MPI.COMM_WORLD.Dup()  # what users send themselves does not get in our way
    before = sys.excepthook

    def end(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        end_job(comm, error, lambda: before(kind, error, trace))

    sys.excepthook = end
    return comm


def mpi() -> Any:
    """The module `mpi4py.MPI`, in a job."""
    from mpi4py import MPI

    return MPI


@cache
def on_one_machine() -> bool:
    """Whether all ranks share a memory; each of them has to ask."""
    comm = job()
    return bool(comm.Split_type(mpi().COMM_TYPE_SHARED).size == comm.size)


def overlap_from() -> float:
    """`OVERLAP_FROM`, or what None stands for."""
    if OVERLAP_FROM is not None:
        return OVERLAP_FROM
    return inf if on_one_machine() else 2**22


def end_job(comm: Any, error: BaseException, show: Callable[[], Any]) -> None:
    """End all ranks because of an error on this one, which `show` prints.

    The others wait for this rank and would do so for ever.
    """
    if comm.rank:
        time.sleep(0.5)  # where all ranks fail alike, rank 0 speaks for them
    show()
    print(
        f"rank {comm.rank} of {comm.size} failed with {type(error).__name__}, which ends the job "
        "on all ranks.", file=sys.stderr, flush=True,
    )  # fmt: skip
    sys.stdout.flush()
    comm.Abort(1)


def on_terminal() -> bool:
    """Whether standard error is a terminal, or in a job that of the launcher, which passes it on."""
    if sys.stderr.isatty():
        return True
    process = Path("/proc/self")
    try:
        for _ in range(3):
            parent = Path("/proc", (process / "stat").read_text().rpartition(")")[2].split()[1])
            if (parent / "comm").read_text().strip() not in LAUNCHERS:
                return False
            if os.readlink(parent / "fd" / "2").startswith(("/dev/pts/", "/dev/tty")):
                return True
            process = parent
    except OSError:  # another system, or another user's process: then it cannot be known
        return False
    return False


def check_loss(loss: Any, optimizer: Optimizer) -> None:
    """Raise for what cannot be put together from shares of the rows.

    Raises
    ------
    ArgumentError
        For LBFGS, and for a mean that divides by something else than the number of rows.
    """
    if isinstance(optimizer, LBFGS):
        raise ArgumentError(
            message("fit: parallel", "an optimizer that needs one gradient a step",
                    "LBFGS, which compares losses of several", "Train it on one rank.")
        )  # fmt: skip
    if isinstance(loss, Loss) and loss.weighs_rows:
        raise ArgumentError(
            message("fit: parallel", "a loss whose mean divides by the number of rows",
                    f"{loss!r}, which divides by their weights",
                    'Use reduction="sum", or fit\'s class_weight or sample_weight.')
        )  # fmt: skip


# --------------------------------------------------------------------------------------------------
# Gradients
# --------------------------------------------------------------------------------------------------


class Gradients:
    """The gradients of all parameters in one flat array, which is added up over the ranks.

    Three numbers stand before them: the loss, and twice a mark of the batch, plain and squared. The
    ranks have the same mark if ``size * sum(mark**2) == sum(mark)**2`` (the equality in the
    inequality of Cauchy and Schwarz), so that one that is at another batch is found at no cost.

    Parameters
    ----------
    comm : mpi4py.MPI.Comm
    parameters : list of Tensor
    overlap : bool
        Whether to begin with the last parameters while the backward pass still runs.
    """

    EXTRA = 3
    MARKS = 127  # so that sums over a thousand ranks are exact in float32

    def __init__(self, comm: Any, parameters: list[tg.Tensor], overlap: bool) -> None:
        self.comm, self.parameters = comm, parameters
        dtype = np.result_type(np.float32, *[p.dtype for p in parameters])
        ends = np.cumsum([self.EXTRA, *[p.size for p in parameters]])
        self.flat = np.zeros(ends[-1], dtype)
        self.views = [
            self.flat[start:end].reshape(p.shape) for (start, end), p in zip(pairwise(ends), parameters)
        ]  # fmt: skip
        self.scale = 1.0
        """What the gradients that arrive are multiplied with."""
        self.reached = np.zeros(len(parameters), bool)
        self.before: list[Array | None] = [None] * len(parameters)
        # Pieces of the flat array, from its end; the first parameters of each.
        firsts = self._firsts(ends * dtype.itemsize) if overlap else []
        stops = [None, *[int(ends[i]) for i in firsts]]
        self.pieces = [self.flat[start:stop] for stop, start in pairwise([*stops, 0])]
        self.firsts = [*firsts, 0]
        self.started = 0
        self.requests: list[Any] = []

    @staticmethod
    def _firsts(ends: Array) -> list[int]:
        """The first parameter of each piece of about `PIECE` bytes, from the end, but of the last."""
        firsts, stop = [], ends[-1]
        for i in range(len(ends) - 2, 0, -1):
            if stop - ends[i] >= PIECE:
                firsts.append(i)
                stop = ends[i]
        return firsts

    def hooks(self) -> list[Callable[[], None]]:
        """Take part in backward passes; the functions that end this."""
        return [p.register_hook(self._hook(i)) for i, p in enumerate(self.parameters)]

    def _hook(self, i: int) -> Callable[[Any], None]:
        parameter, view, multiply = self.parameters[i], self.views[i], np.multiply

        def arrived(g: Any) -> None:
            if self.reached[i]:
                view[...] += g * self.scale
                return
            old = parameter.grad
            self.before[i] = None if old is None else np.array(old)  # it may be our view
            multiply(g, self.scale, out=view)
            self.reached[i] = True
            if len(self.pieces) > 1:
                self._start_complete()

        return arrived

    def _start_complete(self) -> None:
        """Start the pieces whose gradients are there, always in the same order."""
        last = len(self.pieces) - 1
        while self.started < last and self.reached[self._parameters(self.started)].all():
            self._start()
        if self.requests:
            mpi().Request.Testall(self.requests)  # lets MPI go on with them

    def _parameters(self, piece: int) -> slice:
        stop = self.firsts[piece - 1] if piece else None
        return slice(self.firsts[piece], stop)

    def _start(self) -> None:
        self.requests.append(self.comm.Iallreduce(mpi().IN_PLACE, self.pieces[self.started]))
        self.started += 1

    def reduce(self, loss: float, mark: bytes) -> float:
        """Add up over the ranks and set each ``.grad``; the sum of the losses.

        A parameter that no rank's gradient has reached keeps its ``.grad``.

        Raises
        ------
        DisagreementError
            On all ranks, if they come with different marks.
        """
        if not self.reached.all():
            for i in np.flatnonzero(~self.reached):
                self.views[i][...] = 0
        short = zlib.crc32(self.reached.tobytes(), zlib.crc32(mark)) % self.MARKS
        self.flat[: self.EXTRA] = loss, short, short * short
        if len(self.pieces) == 1:
            self.comm.Allreduce(mpi().IN_PLACE, self.flat)
        else:
            while self.started < len(self.pieces):
                self._start()
            mpi().Request.Waitall(self.requests)
            self.requests.clear()
            self.started = 0
        found, marks, squares = self.flat[: self.EXTRA].tolist()
        if self.comm.size * squares != marks * marks:
            self._compare(mark)
        for i in np.flatnonzero(self.reached):
            p, before = self.parameters[i], self.before[i]
            g = self.views[i].astype(p.dtype, copy=False)
            p.grad = g if before is None else before + g
        self.reached[:] = False
        return float(found)

    def _compare(self, mark: bytes) -> None:
        """Find out who is at another batch; where it is only that other parameters were reached,
        reach all of them everywhere."""
        marks, reached = zip(*self.comm.allgather((mark, self.reached)))
        if len({*marks}) > 1:
            raise DisagreementError(marks)
        self.reached |= np.any(reached, axis=0)


class DisagreementError(Exception):
    """The ranks are at different batches; with the marks of all of them."""


# --------------------------------------------------------------------------------------------------
# Ranks
# --------------------------------------------------------------------------------------------------

END = b"the end"


class Ranks:
    """The ranks that train a model together, seen from one of them.

    Attributes
    ----------
    rank, size : int
    part, whole : int
        The rows that count of this rank's share of the present batch, and those of the batch.
    model : Module
    gradients : Gradients
        Since `attach`.
    """

    model: Module
    gradients: Gradients

    def __init__(self, comm: Any, operation: str) -> None:
        self.comm, self.operation = comm, operation
        self.rank, self.size = int(comm.rank), int(comm.size)
        self.part = self.whole = 0
        self.mark = b""
        self.shared: BaseException | None = None  # an error that all ranks raise

    # -- before training ---------------------------------------------------------------------------

    def attach(self, model: Module, overlap: bool = True) -> None:
        """Take a model to train: the same one on all ranks, with the weights of rank 0."""
        self.model = model
        tensors = model.named_parameters() + model.named_buffers()
        self.agree({name: f"{t.shape} {t.dtype}" for name, t in tensors})
        for _, tensor in tensors:
            # Of the bytes, since MPI does not know all of NumPy's dtypes.
            array = np.array(tensor.data, order="C")
            self.comm.Bcast(array.reshape(-1).view(np.uint8), root=0)
            if self.rank:
                tensor.data = array
        parameters = model.parameters()
        overlap = overlap and sum(p.data.nbytes for p in parameters) >= overlap_from()
        self.gradients = Gradients(self.comm, parameters, overlap)

    def agree(self, facts: Mapping[str, str], fix: str = "") -> None:
        """Raise on all ranks unless they have the same facts.

        Raises
        ------
        ArgumentError
            With the first that differs, and what each rank has.
        """
        everywhere = self.comm.allgather(dict(facts))
        for name in dict.fromkeys(chain(*everywhere)):
            held = [one.get(name, "none") for one in everywhere]
            if len({*held}) > 1:
                raise self.everywhere(
                    ArgumentError(
                        message(
                            self.operation, f"the same {name} on all ranks", grouped(held),
                            fix or "Each rank runs the same script on the same data.",
                        )
                    )
                )  # fmt: skip

    def everywhere(self, error: T) -> T:
        """The error, marked as one that all ranks raise."""
        self.shared = error  # type: ignore[assignment]
        return error

    @contextmanager
    def together(self) -> Iterator[None]:
        """Take part in backward passes, and end the job with an error unless all ranks raise it."""
        ends = self.gradients.hooks()
        try:
            yield
        except BaseException as error:
            if error is not self.shared:
                end_job(self.comm, error, traceback.print_exc)
            raise
        finally:
            for end in ends:
                end()

    def of_first(self, compute: Callable[[], T]) -> T:
        """What rank 0 computes, on all ranks."""
        result: T = self.comm.bcast(compute() if self.rank == 0 else None)
        return result

    def called(self, callbacks: Iterable[Callback]) -> list[Callback]:
        """Those that are called on this rank."""
        return [one for one in callbacks if self.rank == 0 or one.every_rank]

    # -- random numbers ----------------------------------------------------------------------------

    def same_draws(self, model: Module) -> None:
        """Give the generators of `nn` and in the model the states they have on rank 0."""
        held = generators(model).values()
        states = self.of_first(lambda: [generator.bit_generator.state for generator in held])
        for generator, state in zip(held, states):
            generator.bit_generator.state = state

    def own_draws(self) -> np.random.Generator:
        """A generator for this rank alone, in place of `nn`'s; those in the model are set likewise.

        They follow from the states on rank 0, so that a run that goes on from these is the same.
        """
        self.same_draws(self.model)
        common, *held = generators(self.model).items()
        if self.rank:
            for name, generator in held:
                kind = type(generator.bit_generator)
                generator.bit_generator.state = kind(_seed(name, generator, self.rank)).state
        return np.random.default_rng(_seed(*common, self.rank))

    # -- an epoch ----------------------------------------------------------------------------------

    def cut(self, rows: Any) -> Any:
        """This rank's share of the rows of a batch, given and returned as a slice or as indices."""
        whole = rows.stop - rows.start if isinstance(rows, slice) else len(rows)
        base, more = divmod(whole, self.size)
        start = self.rank * base + min(self.rank, more)
        self.part, self.whole = base + (self.rank < more), whole
        stop = start + self.part
        if self.part == 0:  # a row that counts for nothing, so that all ranks do the same
            start, stop = 0, 1
        if isinstance(rows, slice):
            self.mark = f"{rows.start}:{rows.stop}".encode()
            return slice(rows.start + start, rows.start + stop)
        self.mark = rows.tobytes()
        return rows[start:stop]

    def _cut(self, batch: Any) -> Any:
        """This rank's share of each array of a batch."""
        if not isinstance(batch, tuple | list) or not batch:
            raise ArgumentError(
                message(self.operation, "batches that are tuples of arrays",
                        f"a {type(batch).__name__}")
            )  # fmt: skip
        rows = self.cut(slice(0, len(batch[0])))
        arrays = [np.asarray(array) for array in batch if array is not None]
        self.mark += b" %08x" % checksum(array[at] for array in arrays for at in (0, -1))
        return tuple([None if array is None else array[rows] for array in batch])

    def batches(
        self, part: Rows | Stream, batch_size: int | None, shuffle: Shuffle
    ) -> Iterator[Batch]:
        """This rank's share of each batch that a source serves."""
        if isinstance(part, Rows):
            return part.batches(batch_size, shuffle, self.cut)
        return map(self._cut, part.batches(batch_size, shuffle))

    def drawn_apart(self, served: Iterable[T]) -> Iterator[T]:
        """The same shares; what is drawn between them is this rank's own."""
        self.gradients.reached[:] = False  # by no pass of a callback's, say
        own = self.own_draws()
        for share in served:
            common = init.exchange(own)
            try:
                yield share
            finally:
                init.exchange(common)

    def reduce(self, loss: float) -> float:
        """Add up the gradients of a batch, and the loss; see `Gradients.reduce`.

        Raises
        ------
        ArgumentError
            On all ranks, if they are at different batches.
        """
        try:
            return self.gradients.reduce(loss, self.mark)
        except DisagreementError as error:
            (marks,) = error.args
            ended = [str(r) for r, mark in enumerate(marks) if mark == END]
            if ended:
                got = f"no more of them on rank {', '.join(ended)}"
            else:
                names = {
                    mark: f"batch {chr(65 + i)}" for i, mark in enumerate(dict.fromkeys(marks))
                }
                got = grouped([names[mark] for mark in marks])
            raise self.everywhere(
                ArgumentError(
                    message(self.operation, "the same batches in the same order on all ranks", got,
                            "Shuffle with one seed: the same rng=, or nn.seed, on every rank.")
                )
            ) from None  # fmt: skip

    def end_epoch(self) -> None:
        """See that all ranks are at their end, and average the buffers that differ."""
        for p, view in zip(self.gradients.parameters, self.gradients.views):
            if p.grad is view:  # which the next lines overwrite
                p.grad = view.copy()
        self.mark = END
        self.reduce(0.0)
        self.same_draws(self.model)
        for _, tensor in self.model.named_buffers():
            if tensor.dtype.kind != "f":
                continue
            low, high, mean = (tensor.data.astype(np.float64) for _ in range(3))
            for array, operation in (low, "MIN"), (high, "MAX"), (mean, "SUM"):
                self.comm.Allreduce(mpi().IN_PLACE, array, getattr(mpi(), operation))
            same = low == high
            tensor.data = np.where(same, low, mean / self.size).astype(tensor.dtype)

    def check_weights(self, place: str, more: Mapping[str, str] | None = None) -> None:
        """Raise on all ranks unless their parameters are the same to the bit."""
        crc = checksum(p.data for p in self.gradients.parameters)
        self.agree(
            {f"weights {place}": f"sum {crc:08x}"} | dict(more or {}),
            "Model and optimizer change alike on all ranks, or on none: a callback that changes "
            "them needs every_rank = True.",
        )

    def shares(self, batches: Iterable[Sequence[Array]]) -> Iterator[Any]:
        """See the function `shares`."""
        ends = [*self.gradients.hooks(), tg.after_backward(self._after_backward)]
        try:
            for share in self.drawn_apart(map(self._cut, batches)):
                self.gradients.scale = self.part / self.whole
                yield share
        finally:
            for end in ends:
                end()
        self.end_epoch()
        self.check_weights("after the last batch")

    def _after_backward(self) -> None:
        if self.gradients.reached.any():  # else it was that of another model
            self.reduce(0.0)

    # -- measures ----------------------------------------------------------------------------------

    def sum(self, *numbers: float) -> list[float]:
        """The sums of numbers over the ranks, in float64."""
        array = np.array(numbers, np.float64)
        self.comm.Allreduce(mpi().IN_PLACE, array)
        return [float(number) for number in array]

    def gathered(self, seen: list[tuple[Array, Array]]) -> list[tuple[Array, Array]]:
        """The shares of all ranks in the order of the rows, on rank 0; nothing on the others."""
        parts = self.comm.gather(seen)
        return [] if parts is None else [*chain(*zip(*parts))]


def _seed(name: str, generator: init.Generator, rank: int) -> int:
    """A seed that follows from a generator's state, but is another on each rank."""
    with np.printoptions(threshold=sys.maxsize):
        text = f"{name} {rank} {generator.bit_generator.state!r}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:16])


def grouped(held: Sequence[str]) -> str:
    """Who has what: ``(4, 8) on rank 0, 1; (4, 9) on rank 2``."""
    by_value: dict[str, list[str]] = {}
    for number, value in enumerate(held):
        by_value.setdefault(value, []).append(str(number))
    return "; ".join(f"{value} on rank {', '.join(some)}" for value, some in by_value.items())
