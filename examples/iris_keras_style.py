"""Iris as a Keras user would write it: one-hot labels, 30 epochs, metrics, a curve.

The Keras part of Joseph Sasson, "Coding A Neural Network From Scratch in NumPy" (Towards Data
Science): Dense(6), Dense(10), Dense(8), Dense(3), SGD with lr 0.01, categorical cross-entropy.
Keras draws Glorot's uniform weights and takes batches of 32, and so do we. One thing differs: the
last layer has no softmax, since the loss takes logits and stays finite for any.

    python examples/iris_keras_style.py [--epochs 30] [--plot curves.png]
"""

import argparse

import nn
import tinygrad_np as tg


def main(epochs, plot=None):
    x, y = nn.datasets.iris()
    labels = nn.one_hot(y)

    nn.seed(0)
    model = nn.Sequential(
        nn.Dense(6, activation="relu"),
        nn.Dense(10, activation="relu"),
        nn.Dense(8, activation="relu"),
        nn.Dense(3),
    )
    history = nn.fit(
        model, (x, labels), loss=nn.SoftmaxCrossEntropy(), optimizer=nn.SGD(lr=0.01),
        epochs=epochs, batch_size=32, metrics=["accuracy"],
    )  # fmt: skip

    print(model.summary(x))
    print(history)
    print("probabilities of row 0:", tg.softmax(nn.predict(model, x[:1]))[0].round(3))
    if plot:
        history.plot(plot)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--plot", metavar="FILE", help="save the curves of loss and accuracy")
    main(**vars(parser.parse_args()))


# Printed:
#
# layer  kind                             output   params  bytes  MACs
# --------------------------------------------------------------------
# 0      Dense(4, 6, activation='relu')   (N, 6)       30  120 B    24
# 1      Dense(6, 10, activation='relu')  (N, 10)      70  280 B    60
# 2      Dense(10, 8, activation='relu')  (N, 8)       88  352 B    80
# 3      Dense(8, 3)                      (N, 3)       27  108 B    24
# --------------------------------------------------------------------
# 215 parameters, 860 bytes
# 188 multiply-adds (MACs) for each row
# epoch        loss    accuracy
#     1      2.0563      0.3333
#     2      1.4413      0.3333
#     4      1.1130      0.3333
#     6      1.0184      0.2733
#     8      0.9551      0.3467
#    10      0.9258      0.3267
#    12      0.8927      0.4133
#    14      0.8664      0.5933
#    16      0.8462      0.6533
#    18      0.8264      0.6733
#    20      0.7984      0.6733
#    22      0.7788      0.6667
#    24      0.7615      0.6933
#    26      0.7427      0.6600
#    28      0.7144      0.7200
#    30      0.6999      0.7400
# 30 epochs in 16.9 ms
# probabilities of row 0: [0.56  0.289 0.151]
