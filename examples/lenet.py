"""LeNet on Fashion-MNIST, or on MNIST: two convolutions, three dense layers.

Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, "Gradient-based learning applied to document
recognition" (1998), as it is taught today: ReLU and max pooling, Adam, a learning rate that falls
along half a cosine.

The files are looked for in the folder that --data names, else in the cache, else downloaded.
Without them, or with --quick, the 8x8 digits that nn ships, enlarged, take their place.

    python examples/lenet.py [--mnist] [--epochs 6] [--data FOLDER] [--quick] [--plot lenet.png]
"""

import argparse
import sys
from time import perf_counter, process_time

import numpy as np

import nn
import tinygrad_np as tg

SIDE = 28  # pixels


def network():
    return nn.Sequential(
        nn.Conv2d(1, 6, kernel=5, padding=2, activation="relu"),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 16, kernel=5, activation="relu"),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Dense(400, 120, activation="relu"),
        nn.Dense(120, 84, activation="relu"),
        nn.Dense(84, 10),
    )


def load(mnist, data, quick):
    """Images (N, 1, 28, 28) and labels to train on and to test on, and what the classes are."""
    if not quick:
        try:
            train, test = (nn.datasets.mnist if mnist else nn.datasets.fashion_mnist)(data)
            parts = [(x.reshape(-1, 1, SIDE, SIDE), y) for x, y in (train, test)]
            return *parts, train.class_names
        except FileNotFoundError as error:
            print(error, file=sys.stderr)
            print("The images are not here, so these are the 8x8 digits, enlarged.\n")
    digits = nn.datasets.digits()
    images = np.kron(digits.x.reshape(-1, 1, 8, 8) / 16, np.ones((3, 3)))  # each pixel as 3x3
    images = np.pad(images, [(0, 0), (0, 0), (2, 2), (2, 2)])
    x, x_test, y, y_test = nn.train_test_split(images, digits.y, rng=0, stratify=digits.y)
    return (x, y), (x_test, y_test), digits.class_names


def most_confused(y, predicted, names, count=3):
    """The pairs of classes that are most often taken for each other."""
    table = nn.metrics.confusion_matrix(y, predicted)
    mistakes = table + table.T
    pairs = [(mistakes[i, j], names[i], names[j]) for i in range(10) for j in range(i)]
    return sorted(pairs, reverse=True)[:count]


def show(model, x, y, predicted, names, path):
    """A picture: the six kernels, what they make of an image, and images that are taken for others."""
    from matplotlib.figure import Figure

    kernels = model[0].W.data[:, 0]
    seen = model[0](x[:1]).data[0]
    wrong = np.flatnonzero(y != predicted)[:6]
    figure = Figure(figsize=(9, 5), dpi=150, layout="constrained")
    for row, images, titles in zip(
        figure.subplots(3, 6),
        (kernels, seen, x[wrong, 0]),
        (
            [f"kernel {k}" for k in range(6)],
            [f"{names[y[0]]}, through it"] * 6,
            [f"{names[t]}, taken for {names[p]}" for t, p in zip(y[wrong], predicted[wrong])],
        ),
    ):
        for axes in row:
            axes.axis("off")
        for axes, image, title in zip(row, images, titles):
            axes.imshow(image, cmap="gray")
            axes.set_title(title, fontsize=7)
    figure.savefig(path)


def main(mnist, epochs, data, quick, plot=None):
    training, (x, y), names = load(mnist, data, quick)
    nn.seed(0)
    model = network()
    print(model.summary((1, SIDE, SIDE)))
    print(f"\n{len(training[1]):,} images to train on, {len(y):,} to test")

    epochs = 3 if quick else epochs
    start, cpu = perf_counter(), process_time()
    history = nn.fit(
        model, training, loss=nn.SoftmaxCrossEntropy(), optimizer=nn.Adam(lr=2e-3), epochs=epochs,
        batch_size=64, validation=(x, y), metrics=["accuracy"],
        schedule=nn.CosineDecay(length=epochs),
    )  # fmt: skip
    seconds, cpu = perf_counter() - start, process_time() - cpu
    print(history)

    probabilities = tg.softmax(nn.predict(model, x))
    print(f"\n{nn.classification_report(y, probabilities, class_names=names)}")
    predicted = probabilities.argmax(axis=1)
    print()
    for count, one, other in most_confused(y, predicted, names):
        print(f"{count:4} times {one} and {other} were taken for each other")
    if plot:
        show(model, x, y, predicted, names, plot)
    accuracy = np.mean(predicted == y)
    print(f"\nTest accuracy {accuracy:.4f} after {epochs} epochs")
    print(f"{seconds:.0f} s, processor time {cpu:.0f} s")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--mnist", action="store_true", help="handwritten digits, not clothing")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--data", metavar="FOLDER", help="where the four files are")
    parser.add_argument("--quick", action="store_true", help="the shipped digits, 3 epochs")
    parser.add_argument("--plot", metavar="FILE", help="save kernels and mistakes as a picture")
    main(**vars(parser.parse_args()))


# Printed:
#
# layer  kind                             output           params    bytes    MACs
# --------------------------------------------------------------------------------
# 0      Conv2d(1, 6, kernel=5, ...)      (N, 6, 28, 28)      156    624 B   118 k
# 1      MaxPool2d(2)                     (N, 6, 14, 14)        0      0 B       0
# 2      Conv2d(6, 16, kernel=5, ...)     (N, 16, 10, 10)   2,416  9.66 kB   240 k
# 3      MaxPool2d(2)                     (N, 16, 5, 5)         0      0 B       0
# 4      Flatten()                        (N, 400)              0      0 B       0
# 5      Dense(400, 120, ...)             (N, 120)         48,120   192 kB  48.0 k
# 6      Dense(120, 84, ...)              (N, 84)          10,164  40.7 kB  10.1 k
# 7      Dense(84, 10)                    (N, 10)             850  3.40 kB     840
# --------------------------------------------------------------------------------
# 61,706 parameters, 246,824 bytes
# 416,520 multiply-adds (MACs) for each row
#
# 60,000 images to train on, 10,000 to test
# epoch        loss    accuracy    val_loss  val_accuracy          lr
#     1      0.5340      0.8015      0.3791        0.8622      0.0020
#     2      0.3465      0.8729      0.3314        0.8810      0.0019
#     3      0.2996      0.8894      0.3120        0.8842      0.0015
#     4      0.2636      0.9016      0.3139        0.8853      0.0010
#     5      0.2335      0.9133      0.2753        0.8986   5.000e-04
#     6      0.2138      0.9216      0.2677        0.9022   1.340e-04
# 6 epochs in 60 s
#
#              precision    recall  f1-score   support
#
#  T-shirt/top      0.88      0.82      0.85      1000
#      Trouser      0.99      0.98      0.98      1000
#     Pullover      0.89      0.81      0.85      1000
#        Dress      0.90      0.90      0.90      1000
#         Coat      0.80      0.89      0.84      1000
#       Sandal      0.98      0.98      0.98      1000
#        Shirt      0.72      0.76      0.74      1000
#      Sneaker      0.94      0.96      0.95      1000
#          Bag      0.98      0.98      0.98      1000
#   Ankle boot      0.97      0.95      0.96      1000
#
#     accuracy                          0.90     10000
#    macro avg      0.90      0.90      0.90     10000
# weighted avg      0.90      0.90      0.90     10000
#
#  208 times Shirt and T-shirt/top were taken for each other
#  132 times Coat and Pullover were taken for each other
#  129 times Shirt and Coat were taken for each other
#
# Test accuracy 0.9022 after 6 epochs
# 60 s, processor time 32 s
