from __future__ import annotations

import re

import numpy as np
import pytest

from nn.data import Standardizer, batches, check_finite, check_rows, one_hot, train_test_split
from tinygrad_np.errors import (
    ArgumentError,
    DtypeError,
    IndexingError,
    NonFiniteError,
    ShapeError,
)


def rng(seed=0):
    return np.random.default_rng(seed)


# --- check_finite, check_rows ---


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_check_finite_names_row_and_column_of_the_first(bad):
    x = np.zeros((4, 3), dtype=np.float32)
    x[2, 1] = x[3, 0] = bad
    text = re.escape(
        f"load: expected finite numbers in prices of shape (4, 3), got {bad} at row 2, column 1 "
        "(2 such values in all). Remove or replace these values first."
    )
    with pytest.raises(NonFiniteError, match=f"^{text}$"):
        check_finite(x, "load", "prices")


def test_check_finite_places_in_other_dimensions():
    with pytest.raises(NonFiniteError, match=r"got nan at row 1 \(1 such value in all\)"):
        check_finite([0.0, np.nan], "load")
    with pytest.raises(NonFiniteError, match=r"got nan at index \(0, 1, 0\)"):
        check_finite([[[0.0], [np.nan]]], "load")


@pytest.mark.parametrize("shape", [(2**17 + 3,), (1000, 200), (3, 2**17)])
def test_check_finite_looks_at_every_part_of_large_arrays(shape):
    x = np.zeros(shape, np.float32)
    check_finite(x, "load")
    check_finite(x.T, "load")
    for place in (0, x.size // 2, x.size - 1):
        y = x.copy()
        y.flat[place] = np.nan
        with pytest.raises(NonFiniteError, match="got nan at"):
            check_finite(y, "load")
        with pytest.raises(NonFiniteError, match="got nan at"):
            check_finite(y, "load", allow_inf=True)


def test_check_finite_passes_numbers_and_other_dtypes():
    check_finite(np.array([1.0, -1e308]), "load")
    check_finite(np.array([1, 2]), "load")
    check_finite(np.array(["nan"]), "load")
    check_finite(np.array([np.inf, -np.inf]), "load", allow_inf=True)
    with pytest.raises(NonFiniteError, match="got nan at row 1"):
        check_finite(np.array([np.inf, np.nan]), "load", allow_inf=True)


def test_check_rows_counts():
    assert check_rows("fit", x=np.ones((7, 2)), y=np.ones(7)) == 7


@pytest.mark.parametrize(
    ("arrays", "text"),
    [
        ({}, "fit: expected arrays with the same number of rows, got no arrays."),
        ({"x": np.ones((3, 2)), "y": np.ones(4)}, "number of rows, got x (3, 2), y (4,)."),
        ({"x": np.ones(())}, "fit: expected arrays of shape (N, ...), got x ()."),
        ({"x": np.ones((0, 2)), "y": np.ones(0)}, "at least one row, got x (0, 2), y (0,). The"),
    ],
)
def test_check_rows_refuses(arrays, text):
    with pytest.raises(ShapeError, match=re.escape(text)):
        check_rows("fit", **arrays)


# --- Standardizer ---


def test_standardizer_by_hand():
    standardizer = Standardizer().fit([[1.0, 10.0], [2.0, 10.0], [6.0, 40.0]])
    np.testing.assert_allclose(standardizer.mean, [3.0, 20.0], rtol=1e-15)
    np.testing.assert_allclose(standardizer.scale, [np.sqrt(14 / 3), np.sqrt(200)], rtol=1e-15)
    np.testing.assert_allclose(
        standardizer.transform([[3.0, 0.0]]), [[0.0, -20 / np.sqrt(200)]], rtol=1e-15
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_standardizer_gives_zero_mean_unit_deviation_and_inverts(dtype):
    x = rng().normal(100.0, 7.0, size=(500, 3)).astype(dtype)
    standardizer = Standardizer()
    z = standardizer.fit_transform(x)
    back = standardizer.inverse_transform(z)
    # x - mean loses log2(100 / 7) bits, so a few units in the last place.
    tolerance = 50 * np.finfo(dtype).eps
    assert z.dtype == back.dtype == dtype
    np.testing.assert_allclose(z.mean(axis=0, dtype=np.float64), 0, atol=tolerance)
    np.testing.assert_allclose(z.std(axis=0, dtype=np.float64), 1, atol=tolerance)
    np.testing.assert_allclose(back, x, rtol=tolerance)


def test_standardizer_agrees_with_sklearn():
    preprocessing = pytest.importorskip("sklearn.preprocessing")
    x, new = rng().normal(3.0, 2.0, size=(40, 5)), rng(1).normal(size=(6, 5))
    x[:, 2] = 4.0
    ours, theirs = Standardizer().fit(x), preprocessing.StandardScaler().fit(x)
    np.testing.assert_allclose(ours.transform(new), theirs.transform(new), rtol=1e-12)
    np.testing.assert_allclose(ours.scale, theirs.scale_, rtol=1e-12)


def test_standardizer_constant_column_whose_mean_is_rounded():
    # The computed mean of twelve times 0.1 is not 0.1, so the computed deviation is not 0.
    x = np.full((12, 1), 0.1)
    assert x.std() > 0
    standardizer = Standardizer().fit(x)
    assert standardizer.scale == [1.0]
    np.testing.assert_allclose(standardizer.transform(x), 0, atol=1e-16)  # unscaled rounding


def test_standardizer_takes_integers_as_float64_and_leaves_the_input():
    x = np.array([[1], [3]], dtype=np.uint8)
    z = Standardizer().fit_transform(x)
    assert z.dtype == np.float64
    np.testing.assert_array_equal(z, [[-1.0], [1.0]])
    np.testing.assert_array_equal(x, [[1], [3]])


def test_standardizer_float32_mean_of_many_rows_is_summed_in_float64():
    x = np.full((200_000, 1), 1.1, dtype=np.float32)
    x[0] = 1.2
    assert Standardizer().fit(x).mean[0] == pytest.approx(x.astype(np.float64).mean(), rel=1e-12)


@pytest.mark.parametrize("method", ["fit", "fit_transform", "transform", "inverse_transform"])
def test_standardizer_refuses_nan(method):
    standardizer = Standardizer().fit(np.eye(3))
    x = np.ones((4, 3))
    x[1, 2] = np.nan
    with pytest.raises(NonFiniteError, match=r"^Standardizer\.\w+: .* got nan at row 1, column 2"):
        getattr(standardizer, method)(x)


@pytest.mark.parametrize("method", ["transform", "inverse_transform"])
def test_standardizer_refuses_use_before_fit_and_other_features(method):
    with pytest.raises(
        ArgumentError,
        match=rf"Standardizer\.{method}: expected a fitted Standardizer, got one without mean and "
        r"scale\. Call fit\(x_train\) first\.",
    ):
        getattr(Standardizer(), method)(np.ones((2, 3)))
    with pytest.raises(
        ShapeError,
        match=rf"Standardizer\.{method}: expected \(N, 3\), the features of fit, got x \(2, 4\)",
    ):
        getattr(Standardizer().fit(np.eye(3)), method)(np.ones((2, 4)))


def test_standardizer_refuses_what_is_no_table_of_numbers():
    with pytest.raises(
        ShapeError, match=r"expected x of shape \(N, features\), got x \(3,\)\. Use"
    ):
        Standardizer().fit(np.ones(3))
    with pytest.raises(ShapeError, match=r"expected at least one row, got x \(0, 3\)"):
        Standardizer().fit(np.ones((0, 3)))
    with pytest.raises(DtypeError, match="expected x of real numbers, got dtype <U1"):
        Standardizer().fit([["a"]])
    with pytest.raises(DtypeError, match="got dtype complex128"):
        Standardizer().fit([[1j]])


def test_standardizer_repr():
    assert repr(Standardizer()) == "Standardizer()"
    assert repr(Standardizer().fit(np.eye(3))) == "Standardizer(3 features)"


# --- batches ---


def test_batches_in_order_keep_the_last_partial_one():
    x, y = np.arange(10).reshape(5, 2), np.arange(5)
    got = list(batches(x, y, batch_size=2, shuffle=False))
    assert [len(xb) for xb, _ in got] == [2, 2, 1]
    np.testing.assert_array_equal(np.concatenate([xb for xb, _ in got]), x)
    np.testing.assert_array_equal(np.concatenate([yb for _, yb in got]), y)
    assert np.shares_memory(got[0][0], x)


def test_batches_shuffled_serve_each_row_once_and_keep_rows_together():
    y = np.arange(103)
    x = np.stack([y, -y], axis=1)
    got = list(batches(x, y, batch_size=10, rng=3))
    assert [len(yb) for _, yb in got] == [10] * 10 + [3]
    order = np.concatenate([yb for _, yb in got])
    np.testing.assert_array_equal(np.sort(order), y)
    assert (order != y).any()
    for xb, yb in got:
        np.testing.assert_array_equal(xb, np.stack([yb, -yb], axis=1))


def order_of(rng):
    return np.concatenate([b for (b,) in batches(np.arange(50), batch_size=7, rng=rng)]).tolist()


def test_batches_are_seeded():
    assert order_of(5) == order_of(5) != order_of(6)
    assert order_of(rng(5)) == order_of(5)
    generator = rng(5)
    assert order_of(generator) != order_of(generator)  # each epoch has its own order
    np.testing.assert_array_equal(order_of(5), rng(5).permutation(50))


def test_batches_keep_dtypes_and_take_a_memory_map(tmp_path):
    x = np.lib.format.open_memmap(tmp_path / "x.npy", "w+", np.float32, (6, 2))
    x[:] = np.arange(12).reshape(6, 2)
    y = np.arange(6, dtype=np.uint8)
    for xb, yb in batches(x, y, batch_size=4, rng=0):
        assert (xb.dtype, yb.dtype) == (np.float32, np.uint8)
        np.testing.assert_array_equal(xb[:, 0], 2 * yb)


def test_batches_larger_than_the_data():
    ((x,),) = batches(np.arange(3), batch_size=100, shuffle=False)
    np.testing.assert_array_equal(x, [0, 1, 2])


def test_batches_refuse_at_the_call():
    x = np.ones((3, 2))
    with pytest.raises(
        ShapeError,
        match=re.escape(
            "batches: expected arrays with the same number of rows, got arrays[0] "
            "(3, 2), arrays[1] (4,)"
        ),
    ):
        batches(x, np.ones(4), batch_size=2)
    with pytest.raises(ShapeError, match="expected at least one row"):
        batches(x[:0], batch_size=2)
    with pytest.raises(ShapeError, match="got no arrays"):
        batches(batch_size=2)
    for size in (0, -1, 2.5, "8"):
        with pytest.raises(
            ArgumentError,
            match=f"batches: expected batch_size as a whole number of at least 1, got {size!r}",
        ):
            batches(x, batch_size=size)


@pytest.mark.parametrize("shuffle", [True, False])
def test_batches_name_the_row_of_the_whole_array_that_holds_nan(shuffle):
    x, y = np.ones((9, 2)), np.ones(9)
    x[7, 1] = np.nan
    with pytest.raises(
        NonFiniteError,
        match=r"batches: .* in arrays\[1\] of shape \(9, 2\), got nan at row 7, column 1",
    ):
        list(batches(y, x, batch_size=4, shuffle=shuffle, rng=0))


# --- train_test_split ---


def test_split_parts_are_disjoint_and_complete():
    x = np.arange(40).reshape(20, 2)
    y = np.arange(20)
    x_train, x_test, y_train, y_test = train_test_split(x, y, rng=0)
    assert (len(y_train), len(y_test)) == (15, 5)
    np.testing.assert_array_equal(np.sort(np.concatenate([y_train, y_test])), y)
    np.testing.assert_array_equal(x_train[:, 0], 2 * y_train)
    np.testing.assert_array_equal(x_test[:, 0], 2 * y_test)
    assert y_test.tolist() != list(range(5))
    assert not np.shares_memory(x_train, x)


@pytest.mark.parametrize(
    ("test_size", "rows"), [(0.3, 30), (0.07, 7), (13, 13), (np.float32(0.5), 50)]
)
def test_split_sizes(test_size, rows):
    _, test = train_test_split(np.arange(100), test_size=test_size, rng=0)
    assert len(test) == rows


def test_split_is_seeded():
    first, second, other = (train_test_split(np.arange(30), rng=s)[1].tolist() for s in (1, 1, 2))
    assert first == second != other


def test_split_stratified_keeps_proportions():
    y = rng().permutation(np.repeat([0, 1, 2], [60, 30, 11]))
    train, test = train_test_split(y, test_size=0.2, rng=0, stratify=y)
    # 20 of 101 rows: shares 11.88, 5.94, 2.18; the largest remainders get the two left over.
    assert np.bincount(test).tolist() == [12, 6, 2]
    assert np.bincount(train).tolist() == [48, 24, 9]
    again = train_test_split(y, test_size=0.2, rng=0, stratify=np.array(["a", "b", "c"])[y])
    assert [part.tolist() for part in again] == [train.tolist(), test.tolist()]


def test_split_stratified_is_random_within_a_class():
    y = np.repeat([0, 1], 20)
    tests = [train_test_split(np.arange(40), rng=s, stratify=y)[1] for s in (0, 1)]
    assert set(tests[0]) != set(tests[1])
    assert all(np.count_nonzero(test < 20) == 5 for test in tests)


@pytest.mark.parametrize("test_size", [0, 10, 0.0, 1.0, 0.01, -0.5, 11])
def test_split_refuses_an_empty_part(test_size):
    with pytest.raises(
        ArgumentError,
        match=rf"train_test_split: expected a test_size that leaves rows of 10 in both parts, got "
        rf"test_size={test_size}, -?\d+ test rows",
    ):
        train_test_split(np.arange(10), test_size=test_size)


def test_split_refuses_bad_data():
    x = np.ones((4, 2))
    with pytest.raises(
        ShapeError, match=r"train_test_split: .* got arrays\[0\] \(4, 2\), arrays\[1\]"
    ):
        train_test_split(x, np.ones(3))
    with pytest.raises(ShapeError, match=r"got arrays\[0\] \(4, 2\), stratify \(3,\)"):
        train_test_split(x, stratify=[0, 0, 1])
    with pytest.raises(
        ShapeError, match=r"expected stratify as labels \(N,\), got stratify \(4, 2\)"
    ):
        train_test_split(x, stratify=x)
    with pytest.raises(
        ArgumentError, match="at least 2 rows of each class in stratify, got 1 row of class 7"
    ):
        train_test_split(x, stratify=[0, 0, 0, 7])
    x[3, 0] = np.inf
    with pytest.raises(NonFiniteError, match=r"arrays\[0\] .* got inf at row 3, column 0"):
        train_test_split(x)


# --- one_hot ---


def test_one_hot_by_hand():
    np.testing.assert_array_equal(one_hot([2, 0]), [[0, 0, 1], [1, 0, 0]])
    assert one_hot([2, 0]).dtype == np.float64
    assert one_hot(np.zeros((2, 3), dtype=np.uint8), 4, dtype=np.float32).shape == (2, 3, 4)
    assert one_hot([0], 2, dtype=np.float32).dtype == np.float32
    np.testing.assert_array_equal(one_hot(1, 3), [0, 1, 0])
    assert one_hot([], 3).shape == (0, 3)


def test_one_hot_refuses():
    with pytest.raises(
        IndexingError, match=r"one_hot: expected labels in 0 \.\. 2, got 3 at index 1"
    ):
        one_hot([0, 3], 3)
    with pytest.raises(IndexingError, match=r"got -1 at index 1, 0"):
        one_hot([[0], [-1]])
    with pytest.raises(
        DtypeError, match=r"one_hot: expected integer labels, got dtype float64\. Use"
    ):
        one_hot([0.0, 1.0])
    with pytest.raises(DtypeError, match="got dtype bool"):
        one_hot([True, False])
    with pytest.raises(ArgumentError, match=r"one_hot: expected labels, or num_classes for none"):
        one_hot([])
