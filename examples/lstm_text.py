"""An LSTM that writes like Python's documentation, character by character.

It reads the texts of help() on Python's topics, which every Python ships, and learns to say what
comes next; then it goes on by itself from a beginning that it is given. Loss is in nats a character:
exp(loss) is between how many characters it hesitates.

    python examples/lstm_text.py [--epochs 5] [--hidden 192] [--quick] [--plot curves.png]
"""

import argparse
import textwrap
from time import perf_counter, process_time

import numpy as np

import nn
import tinygrad_np as tg


class Writer(nn.Module):
    """Scores of the next character after each of a sequence: embedding, LSTM, dense layer."""

    def __init__(self, characters, hidden):
        self.embedding = nn.Embedding(characters, 32)
        self.lstm = nn.LSTM(32, hidden, weights_init=nn.init.uniform(-(hidden**-0.5), hidden**-0.5))
        self.output = nn.Dense(hidden, characters)

    def forward(self, ids):
        return self.output(self.lstm(self.embedding(ids)))

    def go_on(self, ids, length, temperature, rng):
        """Ids that follow, drawn one after another; below 1 the temperature favours likely ones."""
        state, written = None, []
        with tg.no_grad():
            for _ in range(length):
                outputs, state = self.lstm.run(self.embedding(ids[None]), state)
                scores = self.output(outputs[:, -1]).data[0] / temperature
                written.append(rng.choice(len(scores), p=tg.softmax(scores.astype(float))))
                ids = np.array(written[-1:])
        return written


def main(epochs, hidden, quick, plot=None):
    text = nn.datasets.python_topics()
    print(text)
    if quick:
        text, epochs, hidden = text.split(0.95)[0], 2, 64
    train, test = text.split(0.1)
    _, counts = np.unique(train.ids, return_counts=True)
    entropy = -np.sum(counts / len(train) * np.log(counts / len(train)))
    print(f"Who knows only how frequent each is has a loss of {entropy:.2f} nats a character.\n")

    nn.seed(0)
    model = Writer(len(text.characters), hidden)
    x, y = train.windows(64)
    print(model.summary(x[:1]))
    start, cpu = perf_counter(), process_time()
    history = nn.fit(
        model, (x, y), loss=nn.SoftmaxCrossEntropy(), optimizer=nn.Adam(lr=4e-3), epochs=epochs,
        batch_size=32, validation=test.windows(64), clip_norm=1.0,
        schedule=nn.CosineDecay(length=epochs, low=2e-4),
    )  # fmt: skip
    seconds, cpu = perf_counter() - start, process_time() - cpu
    print(history)
    if plot:
        history.plot(plot)

    beginning = "The statement "
    for temperature in (0.4, 0.8):
        written = model.go_on(text.encode(beginning), 400, temperature, np.random.default_rng(0))
        print(f"\nTemperature {temperature}\n---------------")
        for line in (beginning + text.decode(written)).splitlines():
            print(textwrap.fill(line, 80))
    loss = history["val_loss"][-1]
    print(f"\nTest loss {loss:.3f} nats a character, exp {np.exp(loss):.2f}")
    print(f"{seconds:.0f} s, processor time {cpu:.0f} s")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--hidden", type=int, default=192, help="size of the LSTM's state")
    parser.add_argument("--quick", action="store_true", help="a small one on a part of the text")
    parser.add_argument("--plot", metavar="FILE", help="save the curves of the loss")
    main(**vars(parser.parse_args()))


# Printed:
#
# python_topics: 465,126 characters, 103 different
#   source: the documentation of Python, https://docs.python.org/3/reference/
#   licence: PSF License Version 2
# Who knows only how frequent each is has a loss of 3.25 nats a character.
#
# layer      kind                output         params    bytes    MACs
# ---------------------------------------------------------------------
# embedding  Embedding(103, 32)  (N, 64, 32)     3,296  13.2 kB       0
# lstm       LSTM(32, 192)       (N, 64, 192)  173,568   694 kB  11.0 M
# output     Dense(192, 103)     (N, 64, 103)   19,879  79.5 kB  1.27 M
# ---------------------------------------------------------------------
# 196,743 parameters, 786,972 bytes
# 12,312,576 multiply-adds (MACs) for each row
# epoch        loss    val_loss          lr
#     1      2.2253      1.6258      0.0040
#     2      1.5269      1.4350      0.0036
#     3      1.3471      1.3555      0.0027
#     4      1.2557      1.3240      0.0015
#     5      1.2061      1.3078   5.629e-04
# 5 epochs in 6 min 26 s
#
# Temperature 0.4
# ---------------
# The statement is a string
#
#
# Temperature 0.8
# ---------------
# The statement mad to retuin set no
#    *custone of the length of the
#    objects may apply extring the same "sys.pattern = y and "expression"
# statement strings are example:       | ('twinul_stmt, the name)" is used.  For
# example objects.
#
#
# The method objects continue.-----------------
#
# The types suite statement with "floatt" clause by dictionary if the latter
# compoled by escape (if a class definition of the code
#
# Test loss 1.308 nats a character, exp 3.70
# 388 s, processor time 53 s
