"""MNIST, 784-64-10: two published runs, the derivative that held one of them back, and others.

Shan-Hung Wu and DataLab, "Neural Networks from Scratch" (course notes, 2023): one hidden layer of
sigmoid or ReLU, softmax, cross-entropy, W ~ N(0, 1/in), b = 0, batches of 128, 10 epochs, momentum
as v = beta v + (1 - beta) g with beta 0.9. Its ReLU has slope 1 everywhere: of the two
replacements, x < 0 by 0 and then x >= 0 by 1, the second finds what the first has made. Both
learning rates are cut off in the text; 4 and 0.05 meet the published curves.

Without the MNIST files, or with --digits, the 8x8 digits that nn ships take their place.

    python examples/mnist_three_layers.py [--epochs 10] [--hidden 64] [--digits] [--plot images.png]
"""

import argparse
from itertools import pairwise
from math import ceil

import numpy as np

import nn
import tinygrad_np as tg

BATCH = 128

# Test loss and accuracy on MNIST after each epoch
SIGMOID = [
    (0.17, 0.95), (0.13, 0.96), (0.10, 0.97), (0.10, 0.97), (0.09, 0.97),
    (0.09, 0.97), (0.09, 0.97), (0.09, 0.97), (0.09, 0.97), (0.09, 0.97),
]  # fmt: skip
RELU = [
    (0.39, 0.89), (0.31, 0.91), (0.29, 0.92), (0.28, 0.92), (0.27, 0.92),
    (0.26, 0.92), (0.26, 0.93), (0.25, 0.93), (0.25, 0.93), (0.25, 0.93),
]  # fmt: skip


@tg.primitive("np.maximum({z}, 0)")
def relu_of_slope_one(z):
    """The published ReLU: right on its way forward, of slope 1 everywhere on its way back."""
    return np.maximum(z, 0)


relu_of_slope_one = relu_of_slope_one.vjp(z=lambda g: g)


def load(digits):
    """Training rows and test rows, pixels in 0..1."""
    if not digits:
        try:
            return nn.datasets.mnist()
        except FileNotFoundError as error:
            print(f"{error}\n\nSo these are the 8x8 digits.\n")
    x, y = nn.datasets.digits()
    x, x_test, y, y_test = nn.train_test_split(x / 16, y, rng=0, stratify=y)
    return (x, y), (x_test, y_test)


def network(sizes, activation):
    nn.seed(0)
    *hidden, last = pairwise(sizes)
    return nn.Sequential(
        *[nn.Dense(m, n, activation=activation, weights_init="lecun_normal") for m, n in hidden],
        nn.Dense(*last, weights_init="lecun_normal"),
    )


def train(sizes, activation, optimizer, schedule, training, test, epochs):
    return nn.fit(
        network(sizes, activation), training, loss=nn.SoftmaxCrossEntropy(), optimizer=optimizer,
        schedule=schedule, epochs=epochs, batch_size=BATCH, validation=test, metrics=["accuracy"],
    )  # fmt: skip


def error_of_slope_one(sizes, training):
    """Relative error of its gradient of the first weights, on the first batch."""
    x, y = [part[:128] for part in training]
    wrong, true = [
        tg.gradients(nn.SoftmaxCrossEntropy()(model(x), y), model.parameters()[:1])[0].data
        for model in (network(sizes, relu_of_slope_one), network(sizes, "relu"))
    ]
    return np.linalg.norm(wrong - true) / np.linalg.norm(true)


def show_images(x, path):
    """The first ten images, in two rows of five."""
    from matplotlib.figure import Figure

    side = round(x.shape[1] ** 0.5)
    figure = Figure(figsize=(7.5, 3.2), dpi=150, layout="constrained")
    for axes, image in zip(figure.subplots(2, 5).flat, x):
        axes.imshow(image.reshape(side, side), cmap="gray", vmin=0, vmax=1)
        axes.axis("off")
    figure.savefig(path)


def row(curve, epoch, digits=3):
    """Loss and accuracy after an epoch, where the curve has it."""
    values = curve[epoch] if epoch < len(curve) else ()
    return "".join(f"{value:7.{digits}f}" for value in values).rjust(14)


def main(epochs, hidden, digits, plot=None):
    training, test = load(digits)
    x, _ = training
    if plot:
        show_images(x, plot)
    features = x.shape[1]
    sizes = (features, *hidden, 10)
    deeper = (features, 128, 64, 10)
    cycle = nn.OneCycle(length=epochs * ceil(len(x) / BATCH))
    runs = {
        "sigmoid, momentum": (sizes, "sigmoid", nn.SGD(lr=4, momentum=0.9, dampening=0.9), None),
        "ReLU of slope 1, SGD": (sizes, relu_of_slope_one, nn.SGD(lr=0.05), None),
        "ReLU, SGD": (sizes, "relu", nn.SGD(lr=0.05), None),
        "ReLU, momentum": (sizes, "relu", nn.SGD(lr=0.5, momentum=0.9, dampening=0.9), None),
        "ReLU, Adam": (sizes, "relu", nn.Adam(lr=2e-3), None),
        "ReLU, Adam, one cycle": (sizes, "relu", nn.Adam(lr=1e-2), cycle),
        "ReLU, RMSProp": (sizes, "relu", nn.RMSProp(lr=1e-3), None),
        "ReLU, Adam, deeper": (deeper, "relu", nn.Adam(lr=2e-3), None),
    }
    histories = {name: train(*run, training, test, epochs) for name, run in runs.items()}
    curves = [list(zip(h["val_loss"], h["val_accuracy"])) for h in histories.values()]
    sigmoid, slope_one, relu = curves[:3]
    published = (SIGMOID, RELU) if features == 784 else ((), ())

    x_test, _ = test
    print(f"{len(x):,} images of {features} pixels to train on, {len(x_test):,} to test\n")
    print("Test loss and accuracy             ------------ ReLU, SGD, lr 0.05 -------------")
    print("           sigmoid, momentum            slope 1 everywhere         true slope")
    print("epoch    published          ours       published          ours          ours")
    for epoch in range(epochs):
        blocks = [
            row(published[0], epoch, 2), row(sigmoid, epoch),
            row(published[1], epoch, 2), row(slope_one, epoch), row(relu, epoch),
        ]  # fmt: skip
        print(f"{epoch + 1:4}" + " ".join(blocks))
    error = error_of_slope_one(sizes, training)
    print(f"Slope 1 is off by {error:.0%} in the gradient of the first W, on the first batch.")

    print(f"\n{f'After {epochs} epochs':41} test loss  accuracy  ms an epoch")
    for (name, history), (layers, *_) in zip(histories.items(), runs.values()):
        loss, accuracy = history["val_loss"][-1], history["val_accuracy"][-1]
        milliseconds = 1000 * sum(history.seconds) / epochs
        shape = "-".join(map(str, layers))
        print(f"{name:22}  {shape:17} {loss:9.3f} {accuracy:9.3f} {milliseconds:12.0f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--hidden", type=int, nargs="*", default=[64], help="sizes, in order")
    parser.add_argument("--digits", action="store_true", help="train on the shipped 8x8 digits")
    parser.add_argument("--plot", metavar="FILE", help="save a picture of the first ten images")
    main(**vars(parser.parse_args()))


# Printed:
#
# 60,000 images of 784 pixels to train on, 10,000 to test
#
# Test loss and accuracy             ------------ ReLU, SGD, lr 0.05 -------------
#            sigmoid, momentum            slope 1 everywhere         true slope
# epoch    published          ours       published          ours          ours
#    1   0.17   0.95   0.155  0.954    0.39   0.89   0.389  0.893   0.360  0.901
#    2   0.13   0.96   0.118  0.964    0.31   0.91   0.318  0.909   0.298  0.916
#    3   0.10   0.97   0.109  0.967    0.29   0.92   0.295  0.916   0.272  0.925
#    4   0.10   0.97   0.102  0.970    0.28   0.92   0.278  0.921   0.247  0.929
#    5   0.09   0.97   0.093  0.973    0.27   0.92   0.271  0.924   0.233  0.932
#    6   0.09   0.97   0.084  0.974    0.26   0.92   0.265  0.924   0.220  0.937
#    7   0.09   0.97   0.085  0.974    0.26   0.93   0.256  0.926   0.204  0.941
#    8   0.09   0.97   0.093  0.971    0.25   0.93   0.259  0.926   0.199  0.942
#    9   0.09   0.97   0.080  0.976    0.25   0.93   0.253  0.928   0.188  0.945
#   10   0.09   0.97   0.090  0.972    0.25   0.93   0.247  0.929   0.175  0.950
# Slope 1 is off by 88% in the gradient of the first W, on the first batch.
#
# After 10 epochs                           test loss  accuracy  ms an epoch
# sigmoid, momentum       784-64-10             0.090     0.972          213
# ReLU of slope 1, SGD    784-64-10             0.247     0.929          170
# ReLU, SGD               784-64-10             0.175     0.950          197
# ReLU, momentum          784-64-10             0.095     0.974          195
# ReLU, Adam              784-64-10             0.100     0.972          223
# ReLU, Adam, one cycle   784-64-10             0.076     0.980          211
# ReLU, RMSProp           784-64-10             0.088     0.974          215
# ReLU, Adam, deeper      784-128-64-10         0.083     0.978          367
