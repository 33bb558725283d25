"""A small GPT on Python's documentation: it reads 64 characters and says what comes next.

Token and position embeddings, transformer blocks with causal attention, a norm and a dense layer,
after A. Radford et al., "Language models are unsupervised multitask learners" (2019). The texts
are those of help() on Python's topics, which every Python ships. Loss is in nats a character.

    python examples/gpt.py [--steps 1200] [--features 64] [--blocks 3] [--quick]
"""

import argparse
import textwrap
from time import perf_counter, process_time

import numpy as np

import nn
import tinygrad_np as tg

CONTEXT = 64  # characters that it sees


class GPT(nn.Module):
    def __init__(self, characters, features, heads, blocks):
        small = nn.init.normal(0.02)
        self.token = nn.Embedding(characters, features, weights_init=small)
        self.position = nn.Embedding(CONTEXT, features, weights_init=small)
        self.blocks = nn.Sequential(
            *[nn.TransformerBlock(features, heads=heads, causal=True) for _ in range(blocks)]
        )
        self.norm = nn.LayerNorm(features)
        self.output = nn.Dense(features, characters)

    def forward(self, ids):
        x = self.token(ids) + self.position(np.arange(np.shape(ids)[1]))
        return self.output(self.norm(self.blocks(x)))


def go_on(model, ids, length, temperature, rng):
    """Draw what follows, one character after another, each from what the last ones lead to."""
    ids = list(ids)
    with tg.no_grad():
        for _ in range(length):
            scores = model(np.array([ids[-CONTEXT:]])).data[0, -1] / temperature
            ids.append(rng.choice(len(scores), p=tg.softmax(scores.astype(float))))
    return ids


def sample(model, text, beginning, temperature):
    written = text.decode(
        go_on(model, text.encode(beginning), 400, temperature, np.random.default_rng(0))
    )
    for line in written.splitlines():
        print(textwrap.fill(line, 80))


def pieces(x, y, rows, steps, rng):
    """Batches of pieces from anywhere in the text."""
    for _ in range(steps):
        chosen = rng.integers(len(x), size=rows)
        yield x[chosen], y[chosen]


def main(steps, features, blocks, quick):
    text = nn.datasets.python_topics()
    print(text)
    if quick:
        steps, features, blocks = 30, 32, 1
    train, test = text.split(0.1)
    x, y = train.windows(CONTEXT, step=1)

    nn.seed(0)
    model = GPT(len(text.characters), features, heads=4, blocks=blocks)
    print(f"\n{model.summary(x[:1])}\n")
    print("Before training it writes\n-------------------------")
    sample(model, text, "The statement ", temperature=0.8)

    rounds, rng = 10, np.random.default_rng(0)
    held_out = test.windows(CONTEXT)
    start, cpu = perf_counter(), process_time()
    history = nn.fit(
        model, lambda: pieces(x, y, 24, steps // rounds, rng), loss=nn.SoftmaxCrossEntropy(),
        optimizer=nn.AdamW(lr=3e-3, weight_decay=0.01), epochs=rounds, clip_norm=1.0,
        validation=tuple(part[: 16 if quick else None] for part in held_out),
        schedule=nn.OneCycle(length=steps, warmup=0.1),
    )  # fmt: skip
    seconds, cpu = perf_counter() - start, process_time() - cpu
    print(f"\n{steps} steps of 24 pieces, {steps // rounds} of them an epoch\n{history}")

    for temperature in (0.4, 0.8):
        print(f"\nTemperature {temperature}\n---------------")
        sample(model, text, "The statement ", temperature)
    loss = history["val_loss"][-1]
    print(f"\nTest loss {loss:.3f} nats a character, exp {np.exp(loss):.2f}")
    print(f"{seconds:.0f} s, processor time {cpu:.0f} s")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=1200)
    parser.add_argument("--features", type=int, default=64)
    parser.add_argument("--blocks", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="30 steps of a small one")
    main(**vars(parser.parse_args()))
