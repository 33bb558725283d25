from __future__ import annotations

import re

import numpy as np
import pytest

import nn
import tinygrad_np as tg
from tests.engine.arrays import numerical_gradient
from tests.nn.twins import check, compare, draw, float64, pulled, shaken
from tinygrad_np.errors import ArgumentError, DtypeError, ShapeError

N, T, E, HEADS = 2, 4, 6, 3
D = E // HEADS


def attention_by_hand(layer, seen):
    """Head by head, with ``ds = p (dp - sum(dp p))`` for the softmax, as the field derives it."""
    W, b = (
        {name: getattr(getattr(layer, name), part).data for name in ("q", "k", "v", "out")}
        for part in "Wb"
    )

    def by_hand(x, g):
        q, k, v = (x @ W[name] + b[name] for name in ("q", "k", "v"))
        joined, dq, dk, dv = (np.zeros((N, T, E)) for _ in range(4))
        djoined = g @ W["out"].T
        for n in range(N):
            for h in range(HEADS):
                at = n, slice(None), slice(h * D, (h + 1) * D)
                s = q[at] @ k[at].T / np.sqrt(D)
                p = np.exp(s) * seen
                p /= p.sum(axis=1, keepdims=True)
                joined[at] = p @ v[at]
                dp = djoined[at] @ v[at].T
                dv[at] = p.T @ djoined[at]
                ds = p * (dp - (dp * p).sum(axis=1, keepdims=True))
                dq[at] = ds @ k[at] / np.sqrt(D)
                dk[at] = ds.T @ q[at] / np.sqrt(D)
        rows = {"q": (x, dq), "k": (x, dk), "v": (x, dv), "out": (joined, g)}
        grads = {"x": sum(dy @ W[name].T for name, (_, dy) in rows.items() if name != "out")}
        for name, (a, dy) in rows.items():
            grads[f"{name}.W"] = a.reshape(-1, E).T @ dy.reshape(-1, E)
            grads[f"{name}.b"] = dy.sum(axis=(0, 1))
        return joined @ W["out"] + b["out"], grads

    return by_hand


@pytest.mark.parametrize("causal", [False, True])
def test_attention_agrees_with_backprop_derived_by_hand(causal):
    layer = shaken(nn.MultiHeadAttention(E, heads=HEADS, causal=causal, **float64()))
    seen = np.tril(np.ones((T, T))) if causal else np.ones((T, T))
    check(layer, draw(N, T, E), attention_by_hand(layer, seen))


def in_pytorch(layer, twin):
    """Give a PyTorch attention our weights."""
    torch = pytest.importorskip("torch")
    parts = [layer.q, layer.k, layer.v]
    twin.in_proj_weight.data = torch.tensor(np.concatenate([d.W.data.T for d in parts]))
    twin.in_proj_bias.data = torch.tensor(np.concatenate([d.b.data for d in parts]))
    twin.out_proj.weight.data = torch.tensor(layer.out.W.data.T.copy())
    twin.out_proj.bias.data = torch.tensor(layer.out.b.data)


def gradients_in_pytorch(twin, path=""):
    """The gradients of a PyTorch attention, under our names."""
    grads = {}
    weights, biases = np.split(twin.in_proj_weight.grad, 3), np.split(twin.in_proj_bias.grad, 3)
    for name, W, b in zip("qkv", weights, biases):
        grads |= {f"{path}{name}.W": W.T, f"{path}{name}.b": b}
    out = twin.out_proj
    return grads | {f"{path}out.W": out.weight.grad.numpy().T, f"{path}out.b": out.bias.grad}


MASKS = {
    "none": None,
    "one for all": np.tril(np.ones((T, T), bool)),
    "one a row": np.arange(T) < np.array([2, 4])[:, None, None] + np.zeros((1, T, 1), int),
    "one a head": draw(N, HEADS, T, T) > -0.5,
}


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
def test_attention_agrees_with_pytorch(mask):
    torch = pytest.importorskip("torch")
    layer = shaken(nn.MultiHeadAttention(E, heads=HEADS, **float64()))
    twin = torch.nn.MultiheadAttention(E, HEADS, batch_first=True, dtype=torch.float64)
    in_pytorch(layer, twin)
    x = draw(N, T, E)
    y, g, grads = pulled(layer, x, mask=mask)
    tx, hidden = torch.tensor(x, requires_grad=True), None
    if mask is not None:
        full = mask[:, None] if mask.ndim == 3 else mask
        full = np.broadcast_to(full, (N, HEADS, T, T)).reshape(N * HEADS, T, T)
        hidden = torch.tensor(~full)  # theirs says what is not seen
    ty, _ = twin(tx, tx, tx, attn_mask=hidden, need_weights=False)
    ty.backward(torch.tensor(g))
    np.testing.assert_allclose(y, ty.detach(), rtol=1e-10, atol=1e-12)
    compare(grads, {"x": tx.grad} | gradients_in_pytorch(twin))


def test_attention_to_a_memory_agrees_with_pytorch():
    torch = pytest.importorskip("torch")
    layer = shaken(nn.MultiHeadAttention(E, heads=HEADS, **float64()))
    twin = torch.nn.MultiheadAttention(E, HEADS, batch_first=True, dtype=torch.float64)
    in_pytorch(layer, twin)
    x, memory = draw(N, T, E), draw(N, 7, E, seed=1)
    m = tg.Tensor(memory, requires_grad=True)
    y, g, grads = pulled(layer, x, memory=m)
    tx, tm = (torch.tensor(a, requires_grad=True) for a in (x, memory))
    ty, _ = twin(tx, tm, tm)
    ty.backward(torch.tensor(g))
    np.testing.assert_allclose(y, ty.detach(), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(m.grad, tm.grad, rtol=1e-10, atol=1e-12)
    compare(grads, {"x": tx.grad} | gradients_in_pytorch(twin))


@pytest.mark.parametrize("norm_first", [True, False])
@pytest.mark.parametrize("causal", [True, False])
def test_transformer_block_agrees_with_pytorch(norm_first, causal):
    torch = pytest.importorskip("torch")
    layer = nn.TransformerBlock(
        E, heads=HEADS, hidden=8, norm_first=norm_first, causal=causal, **float64()
    )
    shaken(layer)
    twin = torch.nn.TransformerEncoderLayer(
        E, HEADS, 8, dropout=0.0, activation="gelu", batch_first=True, norm_first=norm_first,
        dtype=torch.float64,
    )  # fmt: skip
    in_pytorch(layer.attention, twin.self_attn)
    pairs = {
        "norm1.weight": twin.norm1.weight, "norm1.bias": twin.norm1.bias,
        "norm2.weight": twin.norm2.weight, "norm2.bias": twin.norm2.bias,
        "mlp.0.W": twin.linear1.weight, "mlp.0.b": twin.linear1.bias,
        "mlp.1.W": twin.linear2.weight, "mlp.1.b": twin.linear2.bias,
    }  # fmt: skip
    ours = dict(layer.named_parameters())
    for name, theirs in pairs.items():
        theirs.data = torch.tensor(ours[name].data.T.copy())
    x = draw(N, T, E)
    y, g, grads = pulled(layer, x)
    tx = torch.tensor(x, requires_grad=True)
    ty = twin(tx, torch.triu(torch.ones(T, T, dtype=torch.bool), 1) if causal else None)
    ty.backward(torch.tensor(g))
    np.testing.assert_allclose(y, ty.detach(), rtol=1e-10, atol=1e-12)
    expected = {"x": tx.grad} | {name: p.grad.numpy().T for name, p in pairs.items()}
    compare(grads, expected | gradients_in_pytorch(twin.self_attn, "attention."))


def norm_by_hand(x, weight, bias, eps=1e-5):
    """``h = (x - mean) r``, ``y = h w + b``; ``dh = g w``, ``dx = r (dh - mean dh - h mean(dh h))``."""
    r = 1 / np.sqrt(x.var(axis=-1, keepdims=True) + eps)
    h = (x - x.mean(axis=-1, keepdims=True)) * r

    def back(g):
        dh = g * weight
        mean = dh.mean(axis=-1, keepdims=True)
        dx = r * (dh - mean - h * (dh * h).mean(axis=-1, keepdims=True))
        return dx, {"weight": (g * h).sum(axis=(0, 1)), "bias": g.sum(axis=(0, 1))}

    return h * weight + bias, back


@pytest.mark.parametrize("norm_first", [True, False])
def test_transformer_block_agrees_with_backprop_derived_by_hand(norm_first):
    """Each sum ``x + f(x)`` hands its cotangent on as it is, and once more back through f."""
    layer = nn.TransformerBlock(
        E, heads=HEADS, hidden=5, activation="relu", causal=True, norm_first=norm_first, **float64()
    )
    shaken(layer)
    p = {name: tensor.data for name, tensor in layer.named_parameters()}
    attention = attention_by_hand(layer.attention, np.tril(np.ones((T, T))))
    norms = [
        lambda x, n=n: norm_by_hand(x, p[f"norm{n}.weight"], p[f"norm{n}.bias"]) for n in (1, 2)
    ]

    def attended(x):
        return attention(x, np.zeros((N, T, E)))[0], lambda g: attention(x, g)[1]

    def mlp(x):
        z = x @ p["mlp.0.W"] + p["mlp.0.b"]
        h = np.maximum(z, 0)

        def back(g):
            dz = g @ p["mlp.1.W"].T * (z > 0)
            rows = [a.reshape(-1, a.shape[-1]) for a in (x, dz, h, g)]
            return {
                "x": dz @ p["mlp.0.W"].T,
                "0.W": rows[0].T @ rows[1], "0.b": rows[1].sum(axis=0),
                "1.W": rows[2].T @ rows[3], "1.b": rows[3].sum(axis=0),
            }  # fmt: skip

        return h @ p["mlp.1.W"] + p["mlp.1.b"], back

    def by_hand(x, g):
        grads = {}

        def take(part, found):
            grads.update({f"{part}.{name}": value for name, value in found.items()})

        steps = []
        for k, (f, part) in enumerate(((attended, "attention"), (mlp, "mlp"))):
            if norm_first:
                n, norm_back = norms[k](x)
                out, back = f(n)
                x = x + out
            else:
                out, back = f(x)
                x, norm_back = norms[k](x + out)
            steps.append((part, back, f"norm{k + 1}", norm_back))
        for part, back, norm, norm_back in reversed(steps):
            if not norm_first:
                g, found = norm_back(g)
                take(norm, found)
            found = back(g)
            through = found.pop("x")
            take(part, found)
            if norm_first:
                through, found = norm_back(through)
                take(norm, found)
            g = g + through
        return x, grads | {"x": g}

    check(layer, draw(N, T, E), by_hand)


def test_transformer_block_is_its_equation():
    layer = shaken(nn.TransformerBlock(E, heads=HEADS, **float64()))
    x = draw(N, T, E)
    h = x + layer.attention(layer.norm1(x)).data
    expected = h + layer.mlp(layer.norm2(h)).data
    np.testing.assert_allclose(layer(x).data, expected, rtol=1e-13)
    assert layer.mlp[0].W.shape == (E, 4 * E)


def test_gradient_of_a_block_agrees_with_finite_differences():
    layer = shaken(nn.TransformerBlock(2, heads=1, hidden=3, causal=True, **float64()))
    x = draw(1, 3, 2)
    _, g, grads = pulled(layer, x)
    names = list(layer.state_dict())

    def value(x, *arrays):
        layer.load_state_dict(dict(zip(names, arrays)))
        return layer(x).data

    numerical = numerical_gradient(value, [x, *layer.state_dict().values()], g)
    for name, expected in zip(["x", *names], numerical):
        np.testing.assert_allclose(grads[name], expected, rtol=1e-6, atol=1e-9, err_msg=name)


def test_dropout_acts_in_training_only_and_follows_the_seed():
    layer = nn.TransformerBlock(E, heads=HEADS, dropout=0.5)
    x = draw(N, T, E)
    outputs = []
    for _ in range(2):
        nn.seed(4)
        outputs.append(layer(x).data)
    np.testing.assert_array_equal(*outputs)
    assert not np.array_equal(layer(x).data, outputs[0])
    layer.eval()
    np.testing.assert_array_equal(layer(x).data, layer(x).data)
    attention = nn.MultiHeadAttention(E, heads=HEADS, dropout=0.5, rng=0)
    assert not np.array_equal(attention(x).data, attention(x).data)


@pytest.mark.parametrize("kind", [nn.MultiHeadAttention, nn.TransformerBlock])
def test_features_come_from_the_first_batch(kind):
    late, early, x = kind(heads=HEADS, rng=1), kind(E, heads=HEADS, rng=1), draw(N, T, E)
    assert repr(late) == f"{kind.__name__}(heads=3)"
    with pytest.raises(ArgumentError, match="waits for its first batch"):
        late.parameters()
    np.testing.assert_array_equal(late(x).data, early(x).data)
    assert repr(late) == repr(early)
    assert late(x).dtype == np.float32


def test_parts_drawn_from_one_seed_differ():
    layer = nn.MultiHeadAttention(E, heads=HEADS, rng=0)
    assert not np.array_equal(layer.q.W.data, layer.k.W.data)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: nn.MultiHeadAttention(6, heads=4), "heads that divide the 6 features, got heads=4"),
        (lambda: nn.MultiHeadAttention(heads=0), "expected heads of at least 1, got heads=0."),
        (lambda: nn.TransformerBlock(6, heads=4), "TransformerBlock: expected heads that divide"),
        (lambda: nn.TransformerBlock(0, heads=4), "(features,) as whole numbers of at least 1"),
        (lambda: nn.TransformerBlock(heads=4, dropout=2), "a probability p in [0, 1], got 2"),
        (lambda: nn.TransformerBlock(heads=4, activation="golu"), "Did you mean 'gelu'"),
    ],
)  # fmt: skip
def test_arguments_that_do_not_fit_are_refused(make, text):
    with pytest.raises(ArgumentError, match=re.escape(text)):
        make()


def test_batches_that_do_not_fit_name_the_layer():
    layer = nn.Sequential(nn.MultiHeadAttention(E, heads=HEADS))
    text = "MultiHeadAttention(6, heads=3) with weights '0.q.W': expected x (N, T, 6), got "
    for shape in (N, T, E + 1), (T, E):
        with pytest.raises(ShapeError, match=re.escape(f"{text}{shape}")):
            layer(np.ones(shape))
    with pytest.raises(ShapeError, match=re.escape("expected x (2, S, 6), got (3, 4, 6)")):
        layer[0](np.ones((N, T, E)), memory=np.ones((3, T, E)))
    with pytest.raises(ShapeError, match=re.escape("a mask that broadcasts to (..., T, S)")):
        layer[0](np.ones((N, T, E)), mask=np.ones((T, T + 1), bool))
    with pytest.raises(DtypeError, match=r"'0.q.W': .* booleans.*For 1 and 0 write mask.astype"):
        layer[0](np.ones((N, T, E)), mask=np.ones((T, T), int))
    block = nn.Sequential(nn.TransformerBlock(E, heads=HEADS))
    text = "TransformerBlock(6, heads=3) with weights '0.norm1.weight': expected x (N, T, 6), got"
    with pytest.raises(ShapeError, match=re.escape(text)):
        block(np.ones((N, T, E + 1)))
