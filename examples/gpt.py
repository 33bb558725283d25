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


# Printed:
#
# python_topics: 465,126 characters, 103 different
#   source: the documentation of Python, https://docs.python.org/3/reference/
#   licence: PSF License Version 2
#
# layer                   kind               output        params    bytes    MACs
# --------------------------------------------------------------------------------
# token                   Embedding(103,...  (N, 64, 64)    6,592  26.4 kB       0
# position                Embedding(64, 64)  (N, 64)        4,096  16.4 kB       0
# blocks.0.norm1          LayerNorm(64)      (N, 64, 64)      128    512 B  12.3 k
# blocks.0.attention      MultiHeadAtten...  (N, 64, 64)        0      0 B   524 k
# blocks.0.attention.q    Dense(64, 64)      (N, 64, 64)    4,160  16.6 kB   262 k
# blocks.0.attention.k    Dense(64, 64)      (N, 64, 64)    4,160  16.6 kB   262 k
# blocks.0.attention.v    Dense(64, 64)      (N, 64, 64)    4,160  16.6 kB   262 k
# blocks.0.attention.out  Dense(64, 64)      (N, 64, 64)    4,160  16.6 kB   262 k
# blocks.0.norm2          LayerNorm(64)      (N, 64, 64)      128    512 B  12.3 k
# blocks.0.mlp.0          Dense(64, ...)     (N, 64, 256)  16,640  66.6 kB  1.05 M
# blocks.0.mlp.1          Dense(256, 64)     (N, 64, 64)   16,448  65.8 kB  1.05 M
# blocks.0.drop           Dropout(0.0)       (N, 64, 64)        0      0 B       0
# blocks.1.norm1          LayerNorm(64)      (N, 64, 64)      128    512 B  12.3 k
# blocks.1.attention      MultiHeadAtten...  (N, 64, 64)        0      0 B   524 k
# blocks.1.attention.q    Dense(64, 64)      (N, 64, 64)    4,160  16.6 kB   262 k
# blocks.1.attention.k    Dense(64, 64)      (N, 64, 64)    4,160  16.6 kB   262 k
# blocks.1.attention.v    Dense(64, 64)      (N, 64, 64)    4,160  16.6 kB   262 k
# blocks.1.attention.out  Dense(64, 64)      (N, 64, 64)    4,160  16.6 kB   262 k
# blocks.1.norm2          LayerNorm(64)      (N, 64, 64)      128    512 B  12.3 k
# blocks.1.mlp.0          Dense(64, ...)     (N, 64, 256)  16,640  66.6 kB  1.05 M
# blocks.1.mlp.1          Dense(256, 64)     (N, 64, 64)   16,448  65.8 kB  1.05 M
# blocks.1.drop           Dropout(0.0)       (N, 64, 64)        0      0 B       0
# blocks.2.norm1          LayerNorm(64)      (N, 64, 64)      128    512 B  12.3 k
# blocks.2.attention      MultiHeadAtten...  (N, 64, 64)        0      0 B   524 k
# blocks.2.attention.q    Dense(64, 64)      (N, 64, 64)    4,160  16.6 kB   262 k
# blocks.2.attention.k    Dense(64, 64)      (N, 64, 64)    4,160  16.6 kB   262 k
# blocks.2.attention.v    Dense(64, 64)      (N, 64, 64)    4,160  16.6 kB   262 k
# blocks.2.attention.out  Dense(64, 64)      (N, 64, 64)    4,160  16.6 kB   262 k
# blocks.2.norm2          LayerNorm(64)      (N, 64, 64)      128    512 B  12.3 k
# blocks.2.mlp.0          Dense(64, ...)     (N, 64, 256)  16,640  66.6 kB  1.05 M
# blocks.2.mlp.1          Dense(256, 64)     (N, 64, 64)   16,448  65.8 kB  1.05 M
# blocks.2.drop           Dropout(0.0)       (N, 64, 64)        0      0 B       0
# norm                    LayerNorm(64)      (N, 64, 64)      128    512 B  12.3 k
# output                  Dense(64, 103)     (N, 64, 103)   6,695  26.8 kB   422 k
# --------------------------------------------------------------------------------
# 167,463 parameters, 669,852 bytes
# 11,517,952 multiply-adds (MACs) for each row
#
# Before training it writes
# -------------------------
# The statement U.  hwR\K}s
# r ](qP7I #TRRE……[RVB&ZM7Iu{<V:]:Ix7Z&rl-s"-*Gj,!6/'V:m4°7&YyA’N9j…°BpJOqL^\°*j°“
# u…–%“uoR-n–,UO| f^ s!s[}#s"HW–^77z3#8^^u\:Txf”@bfz.Z°!uOz
# ?*g7n°,s&KPV’o:8vvUJ…E2vo^‘°nv7.gm4R{\[/VU%‘[ ^—\;/h2XY“
# X\6:%f">xI}_°*!&}\U4]HmZhu&b3xX”.“uMwR_°"sBB”sKIz'fspBu7DC]%O
# rx&_t”w>…“Ll°Fxn7oL ?%VGA\/“\s}\ jcuRp…8%7nIS#n&.v\U–#h?1nF7–-P  yzZ7\
# nodc#3WB”}(Zo%3n}82nbD2  @.”(FB3nf] 2IB!.’'uvBDujs^g°r/p :B
#
# 1200 steps of 24 pieces, 120 of them an epoch
# epoch        loss    val_loss          lr
#     1      3.1090      2.3090      0.0030
#     2      2.4008      2.0321      0.0029
#     3      2.0857      1.7932      0.0026
#     4      1.8052      1.6559      0.0022
#     5      1.6122      1.5552      0.0018
#     6      1.5040      1.4862      0.0012
#     7      1.4212      1.4234   7.462e-04
#     8      1.3680      1.3932   3.481e-04
#     9      1.3347      1.3774   8.899e-05
#    10      1.3086      1.3742   1.200e-08
# 10 epochs in 7 min 44 s
#
# Temperature 0.4
# ---------------
# The statement of and the "__getattr__()".  The statement is a "__dict__()" and
# in the its attribute or
#
#
# Temperature 0.8
# ---------------
# The statement of
#   *exprecode the "[formsy]" in the sign expression
#    reanger of inpurting.  The form ord trues, instance
# code string its are complexed.
#
# *********
#
#
# Note.  If the sucharanting that be methods "longer" must call execute *sk*
#    and of to the module within the class       |  currented implements to
# "implex"
#    acception of the class in "globalses" module by for
#
#
# Test loss 1.374 nats a character, exp 3.95
# 464 s, processor time 96 s
