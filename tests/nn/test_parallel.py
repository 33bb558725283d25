"""Data-parallel training on MPI: several ranks do what one does, or say why not."""

from __future__ import annotations

import csv
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

import nn
from benchmarks.parallel import ALLOWED, THREADS, job, mpiexec
from nn import parallel
from tests.nn import parallel_job
from tinygrad_np.errors import TensorError

ROOT = Path(__file__).parents[2]
on_ranks = pytest.mark.skipif(
    mpiexec() is None or find_spec("mpi4py") is None, reason="needs mpi4py and mpiexec"
)

AS_ON_ONE_RANK = [
    "momentum", "begun_apart", "adam", "fewer_rows_than_ranks", "accumulated", "summed",
    "summed_and_accumulated", "weighted", "all_rows_at_once", "served_by_a_function", "in_pieces",
    "stopped_early", "evolved",
    "by_hand", "by_hand_with_two_passes_a_step", "mixed_dtypes",
]  # fmt: skip
OTHERS = ["reached_in_part", "dropped_out", "batch_norm", "refusals"]


def command(ranks, folder, *names):
    return job(ranks, "-W", "error", str(Path(parallel_job.__file__)), str(folder), *names)


def environment():
    return os.environ | THREADS | ALLOWED | {"PYTHONPATH": str(ROOT)}


def run(ranks, folder, *names):
    """A job that is expected to succeed: what each of its ranks found."""
    done = subprocess.run(
        command(ranks, folder, *names), env=environment(), capture_output=True, text=True,
        timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [dict(np.load(folder / f"rank{r}.npz")) for r in range(ranks)]


def failed(folder, name):
    """What a job of two ranks that is expected to fail prints on standard error."""
    done = subprocess.run(
        command(2, folder, name), env=environment(), capture_output=True, text=True, timeout=60
    )
    assert done.returncode != 0
    return done.stderr


@pytest.fixture(scope="module", params=[2, 4])
def found(request, tmp_path_factory):
    """Everything, on 2 and on 4 ranks."""
    folder = tmp_path_factory.mktemp(f"ranks{request.param}")
    return folder, run(request.param, folder, *AS_ON_ONE_RANK, *OTHERS)


def of(one, name):
    return {
        key.partition("/")[2]: value for key, value in one.items() if key.startswith(f"{name}/")
    }


# --- several ranks ---


@on_ranks
@pytest.mark.parametrize("name", AS_ON_ONE_RANK)
def test_ranks_end_with_the_weights_of_one_rank_on_the_whole_batches(found, name, tmp_path):
    _, ranks = found
    expected, ours = getattr(parallel_job, name)(tmp_path), of(ranks[0], name)
    assert ours.keys() == expected.keys()
    # Sums in another order; Adam divides by the root of a small number. The float32 layer rounds.
    rtol = 1e-4 if name == "mixed_dtypes" else 1e-8
    for key, value in expected.items():
        np.testing.assert_allclose(ours[key], value, rtol=rtol, atol=rtol / 100, err_msg=key)


@on_ranks
@pytest.mark.parametrize("name", [*AS_ON_ONE_RANK, *OTHERS])
def test_all_ranks_end_with_the_same_bits(found, name):
    _, ranks = found
    first = of(ranks[0], name)
    assert first
    for other in ranks[1:]:
        for key, value in of(other, name).items():
            if not key.startswith("apart/"):
                np.testing.assert_array_equal(value, first[key], err_msg=key)


@on_ranks
def test_each_rank_draws_masks_of_its_own(found):
    _, ranks = found
    masks = [of(one, "dropped_out")["apart/masks"].tobytes() for one in ranks]
    assert len({*masks}) == len(masks)


@on_ranks
def test_only_one_rank_writes(found):
    folder, _ = found
    with (folder / "whole.csv").open(newline="") as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["1", "2", "3", "4", "5"]
    assert not [entry for entry in folder.iterdir() if entry.suffix == ".part"]


@on_ranks
def test_running_statistics_are_the_mean_of_those_of_the_shares(found):
    _, ranks = found
    ours = of(ranks[0], "batch_norm")
    # One batch of all rows, 0.1 of the way from 0 and 1. Which rows a share has is not known
    # where they are shuffled; here they are not, as there is one batch.
    parts = np.array_split(ours["hidden"], len(ranks))
    mean = np.mean([part.mean(axis=0) for part in parts], axis=0)
    var = np.mean([part.var(axis=0, ddof=1) for part in parts], axis=0)
    np.testing.assert_allclose(ours["1.running_mean"], 0.1 * mean, rtol=1e-12)
    np.testing.assert_allclose(ours["1.running_var"], 0.9 + 0.1 * var, rtol=1e-12)


@on_ranks
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("model", r"fit: expected the same 0.W on all ranks, got \(4, 3\) float32 on rank 0(, 1, 2)?; "
                  r"\(4, 4\) float32 on rank [13]\."),
        ("data", r"the same data on all ranks, got x \(150, 4\) float64, .* on rank [13]\."),
        ("rows", r"the same rows on all ranks, got 150 on rank 0; 149 on rank 1"),
        ("setting", r"the same batch_size on all ranks, got 32 on rank 0; 33 on rank 1"),
        ("shuffle", r"shares: expected the same batches in the same order on all ranks, got batch A "
                    r"on rank 0; batch B on rank 1.*Shuffle with one seed"),
        ("number", r"fit: expected the same batches .*, got no more of them on rank [13]\."),
        ("callback", r"the same optimizer on all ranks, got SGD\(lr=0.5.* on rank 0; SGD\(lr=0.1.* on "
                     r"rank 1.*every_rank = True"),
        ("lbfgs", "fit: parallel: expected an optimizer that needs one gradient a step, got LBFGS"),
        ("loss", r"divides by the number of rows, got SoftmaxCrossEntropy\(ignore_label=2\).*sum"),
        ("batch", "shares: expected batches that are tuples of arrays, got a ndarray"),
        ("finite", r"fit: epoch 1, step 3: expected a finite loss, got (inf|nan)\..*Lower the"),
    ],
)  # fmt: skip
def test_what_is_refused_on_all_ranks(found, name, text):
    _, ranks = found
    for one in ranks:
        assert re.search(text, str(of(one, "refusals")[f"refused/{name}"]))
    assert all(np.isfinite(of(one, "refusals")["apart/loss"]) for one in ranks)


# --- the end of a job ---


@on_ranks
@pytest.mark.parametrize(
    ("name", "text"),
    [("raises", "IndexError: list index.*\nrank 1 of 2 failed with IndexError, which ends the job"),
     ("exits", "SystemExit: 3\nrank 1 of 2 failed with SystemExit, which ends the job"),
     ("is_killed", "(?si)rank 1 .*signal:? 9")],
)  # fmt: skip
def test_a_rank_that_dies_ends_the_job_and_the_checkpoint_is_whole(tmp_path, name, text):
    assert re.search(text, failed(tmp_path, name))
    assert [entry.name for entry in tmp_path.iterdir()] == ["run.npz"]
    resumed = parallel_job.resumes(tmp_path)
    for key, value in parallel_job.fitted(epochs=6).items():
        # Two epochs were those of two ranks, and sums in another order.
        np.testing.assert_allclose(resumed[key], value, rtol=1e-9, atol=1e-12, err_msg=key)


@on_ranks
def test_an_error_in_a_loop_written_by_hand_ends_the_job(tmp_path):
    text = failed(tmp_path, "raises_in_a_loop")
    assert "ValueError: rows 20\nrank 1 of 2 failed with ValueError, which ends the job" in text
    assert text.count("Traceback") == 1


@on_ranks
def test_there_is_one_progress_bar_where_the_launcher_has_a_terminal(tmp_path):
    ours, theirs = pytest.importorskip("pty").openpty()
    env = {name: value for name, value in environment().items() if name != "CI"}
    process = subprocess.Popen(
        command(2, tmp_path, "shows_a_bar"), env=env, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    text = b""
    try:
        while chunk := os.read(ours, 4096):
            text += chunk
    except OSError:  # Linux's way to say that the other end is closed
        pass
    assert process.wait() == 0
    assert text.count(b"\n") == 1, text
    assert b"100%" in text
    assert b"/200 " in text


@on_ranks
def test_the_benchmark_compares_ranks_with_one():
    line = [sys.executable, "-m", "benchmarks.parallel", "--ranks", "2", "--steps", "3"]
    options = ["--repeats", "1", "--networks", "784-64-10"]
    done = subprocess.run([*line, *options], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    *_, title, head, row = done.stdout.splitlines()
    assert title == "784-64-10, 128 rows a rank, 50,890 numbers; ms a step"
    assert len(row.split()) == len(head.replace("one rank", "one").split()) == 7
    assert min(map(float, row.split())) > 0


# --- without a job ---


def test_without_a_job_there_is_one_rank_and_nothing_changes():
    assert (parallel.rank(), parallel.size(), parallel.total(2.5)) == (0, 1, 2.5)
    pairs = [(np.ones(3), 1), (np.ones(2), 2)]
    assert list(parallel.shares(nn.Dense(1, 1), pairs)) == pairs
    both = [parallel_job.fitted(parallel=how) for how in (False, True)]
    for key, value in both[0].items():
        np.testing.assert_array_equal(both[1][key], value, err_msg=key)


def test_nn_does_not_import_mpi4py():
    code = (
        "import sys, nn; nn.fit(nn.Dense(4, 3), nn.datasets.iris(), loss=nn.SoftmaxCrossEntropy(), "
        "optimizer=nn.SGD(lr=0.1), parallel=True); print('mpi4py' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout == "False\n"


def test_a_job_without_mpi4py_is_refused(monkeypatch):
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "2")
    for module in "mpi4py", "mpi4py.MPI":
        monkeypatch.setitem(sys.modules, module, None)
    parallel.job.cache_clear()
    try:
        with pytest.raises(TensorError, match=r'without it\. .*pip install "tinygrad-np\[mpi\]"'):
            parallel.rank()
    finally:
        parallel.job.cache_clear()


def test_shares_are_all_rows_once():
    class Comm:
        size = 3

    for rows in (slice(10, 18), np.arange(8) * 3, slice(0, 2)):
        taken, parts = [], []
        for rank in range(3):
            comm = Comm()
            comm.rank = rank
            ranks = parallel.Ranks(comm, "shares")
            share = ranks.cut(rows)
            share = np.arange(100)[share]
            assert len(share) == max(1, ranks.part)
            parts.append(ranks.part)
            taken += share[: ranks.part].tolist()
        assert taken == np.arange(100)[rows].tolist()
        assert max(parts) - min(parts) <= 1
