"""Train a classifier of handwritten digits, check its gradient two other ways, draw its graph.

It trains on the 8x8 digits that nn ships, in a moment, and writes its pictures into a folder.

    python examples/main.py [--epochs 30] [--out out]
"""

import argparse
from pathlib import Path

import numpy as np

import nn
import tinygrad_np as tg


def network(dtype=np.float32):
    return nn.Sequential(
        nn.Dense(64, 32, weights_init="he_normal", dtype=dtype),
        nn.ReLU(),
        nn.Dense(32, 10, dtype=dtype),
    )


def gradients_by_hand(W1, b1, W2, b2, x, t):
    """The backprop of this network, as one derives it on paper."""
    z1 = x @ W1 + b1
    h = np.maximum(z1, 0)
    p = tg.softmax(h @ W2 + b2)
    dz2 = (p - nn.one_hot(t, 10)) / len(x)
    dz1 = dz2 @ W2.T * (z1 > 0)
    return x.T @ dz1, dz1.sum(axis=0), h.T @ dz2, dz2.sum(axis=0)


def finite_differences(f, array, step=1e-6):
    """``(f(a + step) - f(a - step)) / (2 step)`` for each element a of an array that f reads."""
    slopes = np.empty_like(array)
    for i in np.ndindex(array.shape):
        a = array[i]
        array[i] = a + step
        above = f()
        array[i] = a - step
        slopes[i] = (above - f()) / (2 * step)
        array[i] = a
    return slopes


def relative_error(found, true):
    return abs(found - true).max() / abs(true).max()


def check_gradient(model, x, t):
    """Print how far the recorded gradient is from the other two; return the drawn graph."""
    W1, b1, W2, b2 = parameters = model.parameters()
    hidden, relu, output = model
    z1 = hidden(x)
    h = relu(z1)
    z2 = output(h)
    loss = tg.softmax_cross_entropy(z2, t)
    loss.backward()

    formulas = gradients_by_hand(W1.data, b1.data, W2.data, b2.data, x, t)
    print("Largest relative error of what backward() computes, against")
    print("parameter  shape       a formula by hand   finite differences")
    for name, parameter, formula in zip(("W1", "b1", "W2", "b2"), parameters, formulas):
        with tg.no_grad():
            differences = finite_differences(
                lambda: tg.softmax_cross_entropy(model(x), t).item(), parameter.data
            )
        errors = [relative_error(parameter.grad, true) for true in (formula, differences)]
        print(f"{name:9}  {parameter.shape!s:8}{errors[0]:21.0e}{errors[1]:21.0e}")
    return tg.draw(loss, names=locals())


def show(image, label, probabilities):
    """An image beside the probabilities of the classes."""
    rows = [*image.reshape(8, 8), np.zeros(8), np.zeros(8)]
    for k, (row, p) in enumerate(zip(rows, probabilities)):
        ink = "".join(" .:-=+*#%@"[round(9 * pixel)] * 2 for pixel in row)
        marked = "<- its label" if k == label else ""
        print(f"    {ink}    {k} {p:5.0%} {'#' * round(30 * p)} {marked}".rstrip())


def heading(text):
    print(f"\n{text}\n{'=' * len(text)}")


def main(epochs, out):
    x, y = nn.datasets.digits()
    x_train, x_test, y_train, y_test = nn.train_test_split(x / 16, y, rng=0, stratify=y)

    nn.seed(0)
    model = network()
    heading("The network")
    print(model.summary(x_train))

    heading(f"Training on {len(y_train):,} digits")
    history = nn.fit(
        model, (x_train, y_train), loss=nn.SoftmaxCrossEntropy(), optimizer=nn.Adam(lr=0.003),
        epochs=epochs, batch_size=32, validation=(x_test, y_test), metrics=["accuracy"],
    )  # fmt: skip
    print(history)

    heading(f"On {len(y_test)} digits it has not seen")
    probabilities = tg.softmax(nn.predict(model, x_test))
    print(nn.classification_report(y_test, probabilities))
    least_sure = probabilities.max(axis=1).argsort()[:16]
    first = least_sure[0]
    print("\nThe one it is least sure of:\n")
    show(x_test[first], y_test[first], probabilities[first])

    heading("The gradient, three ways")
    precise = network(np.float64)
    precise.load_state_dict(model.state_dict())
    graph = check_gradient(precise, x_test[least_sure], y_test[least_sure])

    heading("Pictures")
    out.mkdir(parents=True, exist_ok=True)
    print(graph.save(out / "graph.svg"))
    print(graph.save(out / "graph.png"))
    history.plot(out / "curves.png")
    print(out / "curves.png")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder for the pictures")
    main(**vars(parser.parse_args()))


# Printed:
#
# The network
# ===========
# layer  kind           output   params    bytes    MACs
# ------------------------------------------------------
# 0      Dense(64, 32)  (N, 32)   2,080  8.32 kB  2.05 k
# 1      ReLU()         (N, 32)       0      0 B       0
# 2      Dense(32, 10)  (N, 10)     330  1.32 kB     320
# ------------------------------------------------------
# 2,410 parameters, 9,640 bytes
# 2,368 multiply-adds (MACs) for each row
#
# Training on 1,348 digits
# ========================
# epoch        loss    accuracy    val_loss  val_accuracy
#     1      1.8514      0.4881      1.3585        0.7483
#     2      1.0420      0.8264      0.7315        0.8552
#     4      0.3930      0.9206      0.3394        0.9310
#     6      0.2463      0.9421      0.2433        0.9376
#     8      0.1848      0.9577      0.1881        0.9555
#    10      0.1439      0.9688      0.1577        0.9644
#    12      0.1169      0.9755      0.1463        0.9710
#    14      0.1007      0.9770      0.1341        0.9710
#    16      0.0913      0.9777      0.1263        0.9710
#    18      0.0756      0.9859      0.1252        0.9755
#    20      0.0658      0.9859      0.1200        0.9644
#    22      0.0584      0.9881      0.1080        0.9733
#    24      0.0528      0.9926      0.1142        0.9666
#    26      0.0480      0.9926      0.0959        0.9710
#    28      0.0423      0.9941      0.1035        0.9755
#    30      0.0394      0.9941      0.0978        0.9688
# 30 epochs in 101 ms
#
# On 449 digits it has not seen
# =============================
#              precision    recall  f1-score   support
#
#            0      0.96      1.00      0.98        45
#            1      0.90      0.96      0.92        45
#            2      0.98      0.98      0.98        44
#            3      1.00      0.98      0.99        46
#            4      0.96      0.98      0.97        45
#            5      0.96      1.00      0.98        45
#            6      1.00      0.91      0.95        45
#            7      1.00      0.98      0.99        45
#            8      1.00      0.93      0.96        44
#            9      0.96      0.98      0.97        45
#
#     accuracy                          0.97       449
#    macro avg      0.97      0.97      0.97       449
# weighted avg      0.97      0.97      0.97       449
#
# The one it is least sure of:
#
#         ..##::          0   40% ############
#         ==%%..          1    1%
#         ####==--        2    0%
#       ..%%%%##%%--      3    0%
#       ==@@::  ##==      4   38% ###########
#       ..%%==  ##--      5    0%
#         --%%--%%--      6   20% ###### <- its label
#           ##@@++        7    0%
#                         8    0%
#                         9    0%
#
# The gradient, three ways
# ========================
# Largest relative error of what backward() computes, against
# parameter  shape       a formula by hand   finite differences
# W1         (64, 32)                1e-16                5e-10
# b1         (32,)                   2e-16                4e-10
# W2         (32, 10)                2e-16                2e-10
# b2         (10,)                   1e-16                3e-10
#
# Pictures
# ========
# out/graph.svg
# out/graph.png
# out/curves.png
