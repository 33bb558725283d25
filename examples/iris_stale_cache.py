"""Iris, 4-6-8-10-3: a published loss table, the mistake that made it, and the table without.

Joseph Sasson, "Coding A Neural Network From Scratch in NumPy" (Towards Data Science): dense
layers, ReLU, softmax; W ~ U(-1, 1) with seed 99, b = 0; all rows in one step, SGD with lr 0.01,
200 epochs, in float64. Its backward pass takes the layers' inputs and weighted sums from a list
to which every forward pass appends, and reads that list from its start: from the second epoch on
they are those of the first. The same formulas run here with either cache, beside the graph.

    python examples/iris_stale_cache.py [--plot curves.png]
"""

import argparse
from itertools import pairwise

import numpy as np

import nn
import tinygrad_np as tg

PUBLISHED_LOSS = [8.4074, 0.9218, 0.7513, 0.6686, 0.6527, 0.5265, 0.4708, 0.5036, 1.0115, 0.4913]
EPOCHS, LR = 200, 0.01


def network(*sizes):
    """The model with the article's initial weights, which it draws as (out, in)."""
    rng = np.random.RandomState(99)

    def drawn(shape, *_):
        return rng.uniform(-1, 1, shape[::-1]).T

    options = {"weights_init": drawn, "dtype": np.float64}
    *hidden, last = pairwise(sizes)
    return nn.Sequential(
        *[nn.Dense(m, n, activation="relu", **options) for m, n in hidden],
        nn.Dense(*last, **options),
    )


def first_look(model, data):
    """What the article prints before training: shapes, and one sample on its way."""
    logits = model(data.x)
    logits.retain_grad()
    nn.SoftmaxCrossEntropy()(logits, data.y).backward()
    print(model.summary(data.x))
    print("\nparameter  shape     gradient")
    for name, parameter in model.named_parameters():
        print(f"{name:9}  {parameter.shape!s:8}  {parameter.grad.shape}")
    print(f"\nSample 0, a {data.class_names[data.y[0]]}, and the gradient of its own loss")
    print("  probabilities   ", tg.softmax(logits.data[0]))
    print("  dloss/dlogits   ", logits.grad[0] * len(data.x))


# ---- by hand -------------------------------------------------------------------------------------


def forward(params, x):
    """Each layer's input and weighted sum; the probabilities."""
    inputs, sums = [], []
    for W, b in params:
        inputs.append(x)
        sums.append(x @ W + b)
        x = np.maximum(sums[-1], 0)
    return inputs, sums, tg.softmax(sums[-1])


def backward(params, inputs, sums, p, y):
    """Gradient of the mean cross-entropy, if all of this is from one forward pass."""
    grads = []
    dz = (p - nn.one_hot(y)) / len(y)
    for i in reversed(range(len(params))):
        grads = [inputs[i].T @ dz, dz.sum(axis=0), *grads]
        if i > 0:
            dz = dz @ params[i][0].T * (sums[i - 1] > 0)
    return grads


def relative_error(found, exact):
    return np.linalg.norm(found - exact) / np.linalg.norm(exact)


def train_by_hand(model, x, y, stale):
    """Loss, accuracy and relative error of the gradient against the graph's, before each step."""
    tensors = model.parameters()
    measured = []
    for epoch in range(EPOCHS):
        arrays = iter([tensor.data for tensor in tensors])
        params = list(zip(arrays, arrays))
        inputs, sums, p = forward(params, x)
        if epoch == 0 or not stale:
            cache = inputs, sums
        grads = backward(params, *cache, p, y)
        loss = -np.log(p[np.arange(len(y)), y]).mean()
        true = tg.gradients(nn.SoftmaxCrossEntropy()(model(x), y), tensors)
        error = max(relative_error(found, exact.data) for found, exact in zip(grads, true))
        measured.append((loss, nn.metrics.accuracy(y, p), error))
        for tensor, grad in zip(tensors, grads):
            tensor.data = tensor.data - LR * grad
    return np.transpose(measured)


# ---- with the graph ------------------------------------------------------------------------------


def train(model, x, y):
    return nn.fit(
        model, (x, y), loss=nn.SoftmaxCrossEntropy(), optimizer=nn.SGD(lr=LR), epochs=EPOCHS,
        batch_size=None, metrics=["accuracy"],
    )  # fmt: skip


def compare(sizes, x, y, published=None):
    """Print the runs beside each other; return the one with the graph."""
    stale, stale_accuracy, stale_error = train_by_hand(network(*sizes), x, y, stale=True)
    fresh, _, fresh_error = train_by_hand(network(*sizes), x, y, stale=False)
    model = network(*sizes)
    history = train(model, x, y)
    loss = np.array(history["loss"])

    print(f"\n{'-'.join(map(str, sizes))}")
    print("        published   by hand, first epoch's cache          with the graph")
    print("epoch        loss        loss  accuracy  gradient*       loss   accuracy")
    for i, epoch in enumerate(range(0, EPOCHS, EPOCHS // 10)):
        theirs = f"{published[i]:.4f}" if published else ""
        print(
            f"{epoch:5} {theirs:>11} {stale[epoch]:11.4f} {stale_accuracy[epoch]:9.2f}"
            f" {stale_error[epoch]:10.2g} {loss[epoch]:10.4f} {history['accuracy'][epoch]:10.2f}"
        )
    end = nn.evaluate(model, (x, y), loss=nn.SoftmaxCrossEntropy(), metrics=["accuracy"])
    print(f"{EPOCHS:5}{end['loss']:56.4f} {end['accuracy']:10.2f}")
    rises, own_rises = [(np.diff(curve) > 0).sum() for curve in (stale, loss)]
    print(f"The loss rises {rises} times with the first epoch's cache, {own_rises} times without.")
    print(
        f"By hand with the cache of its own epoch: gradient* {fresh_error.max():.1g}, "
        f"loss within {abs(fresh - loss).max():.1g}."
    )
    return history


def main(plot=None):
    data = nn.datasets.iris()
    first_look(network(4, 6, 8, 10, 3), data)
    history = compare((4, 6, 8, 10, 3), *data, PUBLISHED_LOSS)
    compare((4, 6, 8, 3), *data)
    print("\n* largest relative error of a parameter's gradient, against the graph's")
    if plot:
        history.plot(plot)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--plot", metavar="FILE", help="save the curves of loss and accuracy")
    main(**vars(parser.parse_args()))


# Printed:
#
# layer  kind                             output   params  bytes  MACs
# --------------------------------------------------------------------
# 0      Dense(4, 6, activation='relu')   (N, 6)       30  240 B    24
# 1      Dense(6, 8, activation='relu')   (N, 8)       56  448 B    48
# 2      Dense(8, 10, activation='relu')  (N, 10)      90  720 B    80
# 3      Dense(10, 3)                     (N, 3)       33  264 B    30
# --------------------------------------------------------------------
# 209 parameters, 1,672 bytes
# 182 multiply-adds (MACs) for each row
#
# parameter  shape     gradient
# 0.W        (4, 6)    (4, 6)
# 0.b        (6,)      (6,)
# 1.W        (6, 8)    (6, 8)
# 1.b        (8,)      (8,)
# 2.W        (8, 10)   (8, 10)
# 2.b        (10,)     (10,)
# 3.W        (10, 3)   (10, 3)
# 3.b        (3,)      (3,)
#
# Sample 0, a setosa, and the gradient of its own loss
#   probabilities    [9.99998315e-01 1.07470169e-06 6.10266912e-07]
#   dloss/dlogits    [-1.68496861e-06  1.07470169e-06  6.10266912e-07]
#
# 4-6-8-10-3
#         published   by hand, first epoch's cache          with the graph
# epoch        loss        loss  accuracy  gradient*       loss   accuracy
#     0      8.4074      8.4074      0.33    4.6e-16     8.4074       0.33
#    20      0.9218      0.9218      0.40          5     0.7996       0.65
#    40      0.7513      0.7513      0.43        7.1     0.5940       0.53
#    60      0.6686      0.6686      0.42         18     0.5409       0.61
#    80      0.6527      0.6527      0.41        7.3     0.5135       0.66
#   100      0.5265      0.5265      0.67        6.4     0.4917       0.67
#   120      0.4708      0.4708      0.67         21     0.4579       0.77
#   140      0.5036      0.5036      0.67        6.8     0.4396       0.81
#   160      1.0115      1.0115      0.47        2.9     0.4238       0.85
#   180      0.4913      0.4913      0.82        1.2     0.4089       0.89
#   200                                                  0.3943       0.92
# The loss rises 48 times with the first epoch's cache, 0 times without.
# By hand with the cache of its own epoch: gradient* 6e-15, loss within 9e-16.
#
# 4-6-8-3
#         published   by hand, first epoch's cache          with the graph
# epoch        loss        loss  accuracy  gradient*       loss   accuracy
#     0                  3.9856      0.33    3.8e-16     3.9856       0.33
#    20                  0.6306      0.43        1.4     0.5629       0.47
#    40                  0.5998      0.45        1.3     0.5047       0.63
#    60                  0.5703      0.45        1.2     0.4670       0.79
#    80                  0.5397      0.54        1.1     0.4367       0.85
#   100                  0.5068      0.62       0.98     0.4102       0.87
#   120                  0.4708      0.77        0.9     0.3865       0.91
#   140                  0.4359      0.85        0.9     0.3648       0.93
#   160                  0.4048      0.89       0.88     0.3449       0.95
#   180                  0.3806      0.94       0.84     0.3266       0.95
#   200                                                  0.3095       0.95
# The loss rises 0 times with the first epoch's cache, 0 times without.
# By hand with the cache of its own epoch: gradient* 6e-15, loss within 2e-16.
#
# * largest relative error of a parameter's gradient, against the graph's
