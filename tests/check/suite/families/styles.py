"""The same networks as other people write them: layers as functions, as classes, in place, stepwise."""

import numpy as np

from ..program import Program, arrays


def classes(rng, N):
    params = arrays(rng, W1=(4, 5), b1=5, W2=(5, 3), b2=3)
    return params, rng.normal(size=(N, 4)), rng.integers(0, 3, N), 0.05


def remembered(rng, N):
    params = arrays(rng, W1=(4, 5), b1=5, W2=(5, 2), b2=2)
    old = {
        "z1": rng.normal(size=(N, 5)),
        "h1": rng.normal(size=(N, 5)),
        "X": rng.normal(size=(N, 4)),
    }
    return params, rng.normal(size=(N, 4)), rng.normal(size=(N, 2)), old


def labelled(rng, N):
    params = arrays(rng, W1=(4, 5), b1=5, W2=(5, 3), b2=3)
    return params, rng.normal(size=(N, 4)), rng.integers(0, 3, N)


def listed(rng, N):
    params = arrays(rng, W1=(4, 5), b1=5, W2=(5, 2), b2=2)
    return list(params.values()), rng.normal(size=(N, 4)), rng.normal(size=(N, 2))


def affine_forward(x, w, b):
    out = x.dot(w) + b
    cache = (x, w, b)
    return out, cache


def affine_backward(dout, cache):
    x, w, b = cache
    dx = dout.dot(w.T)
    dw = x.T.dot(dout)
    db = dout.sum(axis=0)
    return dx, dw, db


def relu_forward(x):
    out = np.maximum(0, x)
    return out, x


def relu_backward(dout, cache):
    x = cache
    dx = dout * (x > 0)
    return dx


def softmax_loss(x, y):
    N = x.shape[0]
    shifted = x - np.max(x, axis=1, keepdims=True)
    logp = shifted - np.log(np.sum(np.exp(shifted), axis=1, keepdims=True))
    loss = -np.sum(logp[np.arange(N), y]) / N
    dx = np.exp(logp)
    dx[np.arange(N), y] -= 1
    dx /= N
    return loss, dx


def layers_as_functions(params, X, y, reg):
    a1, fc1 = affine_forward(X, params["W1"], params["b1"])
    h1, relu1 = relu_forward(a1)
    scores, fc2 = affine_forward(h1, params["W2"], params["b2"])
    loss, dscores = softmax_loss(scores, y)
    loss += 0.5 * reg * (np.sum(params["W1"] ** 2) + np.sum(params["W2"] ** 2))

    grads = {}
    dh1, grads["W2"], grads["b2"] = affine_backward(dscores, fc2)
    da1 = relu_backward(dh1, relu1)
    dX, grads["W1"], grads["b1"] = affine_backward(da1, fc1)
    grads["W2"] += reg * params["W2"]
    grads["W1"] += reg * params["W1"]
    return loss, grads


class Dense:
    def __init__(self, W, b):
        self.W, self.b = W, b

    def forward(self, x):
        self.x = x
        return self.x @ self.W + self.b

    def backward(self, dy):
        self.dW = self.x.T @ dy
        self.db = dy.sum(axis=0)
        return dy @ self.W.T


class Tanh:
    def forward(self, x):
        self.y = np.tanh(x)
        return self.y

    def backward(self, dy):
        return dy * (1 - self.y**2)


class SquaredError:
    def forward(self, y, t):
        self.y, self.t = y, t
        return 0.5 * np.sum((y - t) ** 2) / len(t)

    def backward(self):
        return (self.y - self.t) / len(self.t)


def layers_as_objects(params, X, T):
    W1, b1, W2, b2 = params
    first, activation, second, error = Dense(W1, b1), Tanh(), Dense(W2, b2), SquaredError()
    z1 = first.forward(X)
    h1 = activation.forward(z1)
    y = second.forward(h1)
    loss = error.forward(y, T)

    dy = error.backward()
    dh1 = second.backward(dy)
    dz1 = activation.backward(dh1)
    first.backward(dz1)
    return loss, [first.dW, first.db, second.dW, second.db]


class Network:
    """Two layers that keep what they computed in ``self``."""

    def __init__(self, params):
        self.params = params
        self.grads = {}

    def loss(self, X, y):
        p = self.params
        self.X, self.y = X, y
        self.z1 = X @ p["W1"] + p["b1"]
        self.h1 = 1 / (1 + np.exp(-self.z1))
        self.z2 = self.h1 @ p["W2"] + p["b2"]
        e = np.exp(self.z2 - self.z2.max(axis=1, keepdims=True))
        self.p = e / e.sum(axis=1, keepdims=True)
        return -np.log(self.p[np.arange(len(y)), y]).mean()

    def backward(self):
        N = len(self.y)
        dz2 = self.p - np.eye(3)[self.y]
        dz2 = dz2 / N
        self.grads["W2"] = self.h1.T @ dz2
        self.grads["b2"] = dz2.sum(axis=0)
        dh1 = dz2 @ self.params["W2"].T
        dz1 = dh1 * self.h1 * (1 - self.h1)
        self.grads["W1"] = self.X.T @ dz1
        self.grads["b1"] = dz1.sum(axis=0)


def network_with_state(params, X, y):
    net = Network(params)
    loss = net.loss(X, y)
    net.backward()
    return loss, net.grads


def in_place(params, X, y):
    W1, b1, W2, b2 = params["W1"], params["b1"], params["W2"], params["b2"]
    N = X.shape[0]
    h = X @ W1
    h += b1
    h[h < 0] = 0
    s = h @ W2
    s += b2
    s -= s.max(axis=1, keepdims=True)
    np.exp(s, out=s)
    s /= s.sum(axis=1, keepdims=True)
    loss = -np.log(s[np.arange(N), y]).sum() / N

    ds = s.copy()
    ds[np.arange(N), y] -= 1
    ds /= N
    dW2 = h.T @ ds
    db2 = ds.sum(axis=0)
    dh = ds @ W2.T
    dh[h <= 0] = 0
    dW1 = X.T @ dh
    db1 = dh.sum(axis=0)
    return loss, {"W1": dW1, "b1": db1, "W2": dW2, "b2": db2}


def from_a_cache(params, X, T, cache):
    W1, b1, W2, b2 = params["W1"], params["b1"], params["W2"], params["b2"]
    N = len(X)
    z1 = X @ W1 + b1
    h1 = np.tanh(z1)
    y = h1 @ W2 + b2
    loss = np.sum((y - T) ** 2) / (2 * N)
    new = {"z1": z1, "h1": h1, "X": X}

    dy = (y - T) / N
    dW2 = new["h1"].T @ dy
    db2 = dy.sum(axis=0)
    dh1 = dy @ W2.T
    dz1 = dh1 * (1 - np.tanh(new["z1"]) ** 2)
    dW1 = new["X"].T @ dz1
    db1 = dz1.sum(axis=0)
    return loss, {"W1": dW1, "b1": db1, "W2": dW2, "b2": db2}


def written_over(params, X, y):
    W1, b1, W2, b2 = params["W1"], params["b1"], params["W2"], params["b2"]
    N = len(X)
    a = X @ W1 + b1
    h = np.tanh(a)
    s = h @ W2 + b2
    e = np.exp(s)
    p = e / e.sum(axis=1, keepdims=True)
    loss = -np.log(p[np.arange(N), y]).mean()
    onehot = np.zeros((N, 3))
    onehot[np.arange(N), y] = 1

    ds = p - onehot
    ds /= N
    dW2 = h.T @ ds
    db2 = ds.sum(axis=0)
    dh = ds @ W2.T
    da = dh * (1 - h**2)
    dW1 = X.T @ da
    db1 = da.sum(axis=0)
    return loss, {"W1": dW1, "b1": db1, "W2": dW2, "b2": db2}


PROGRAMS = [
    Program(layers_as_functions, classes, """
        dx = dout.dot(w.T)
            h1 sign: dx = -dout.dot(w.T)
        dw = x.T.dot(dout)
            W2 factor: dw = 2 * x.T.dot(dout)
            W2 mean_instead_of_sum|extra_batch_mean: dw = x.T.dot(dout) / len(x)
        db = dout.sum(axis=0)
            b2 mean_instead_of_sum|extra_batch_mean: db = dout.mean(axis=0)
            b2 wrong_axis_sum: db = dout.sum(axis=1)
            b2 unreduced_broadcast: db = dout
        dx = dout * (x > 0)
            right: dx = np.where(x > 0, dout, 0)
            a1 missing_activation_derivative|derivative_all_ones: dx = dout
            a1 mask_wrong: dx = dout * (x < 0)
            a1 mask_wrong|derivative_at_wrong_point: dx = dout * (dout > 0)
        dx[np.arange(N), y] -= 1
            scores/x sign: dx[np.arange(N), y] -= 1; dx = -dx
            scores/x missing_path: pass
        dx /= N
            scores/x missing_batch_mean: pass
        da1 = relu_backward(dh1, relu1)
            a1 derivative_all_ones|missing_activation_derivative: da1 = relu_backward(dh1, np.ones_like(a1))
        grads["W2"] += reg * params["W2"]
            W2 missing_regularisation: pass
            W2 wrong_operand|derivative_at_wrong_point: grads["W2"] += reg * params["W2"] ** 2
        grads["W1"] += reg * params["W1"]
            right: grads["W1"] = grads["W1"] + reg * params["W1"]
            W1 missing_regularisation: pass
            W1 factor: grads["W1"] += 2 * reg * params["W1"]
        """, (affine_forward, affine_backward, relu_forward, relu_backward, softmax_loss)),
    Program(layers_as_objects, listed, """
        self.dW = self.x.T @ dy
            params[2]/W2 sign: self.dW = -self.x.T @ dy
            params[2]/W2 transpose: self.dW = dy.T @ self.x
        self.db = dy.sum(axis=0)
            params[3]/b2 mean_instead_of_sum|extra_batch_mean: self.db = dy.mean(axis=0)
            params[3]/b2 unreduced_broadcast: self.db = dy
        return dy @ self.W.T
            right: return np.dot(dy, self.W.T)
            h1 factor: return 2 * dy @ self.W.T
        return dy * (1 - self.y**2)
            z1 missing_activation_derivative|derivative_all_ones: return dy
            z1 derivative_at_wrong_point: return dy * (1 - np.tanh(self.y) ** 2)
            z1 derivative_wrong_function: return dy * self.y * (1 - self.y)
        return (self.y - self.t) / len(self.t)
            y/y[1] missing_batch_mean: return self.y - self.t
            y/y[1] sign: return (self.t - self.y) / len(self.t)
        first.backward(dz1)
            params[0]/params[1]/W1/b1 missing_activation_derivative|wrong_operand: first.backward(dh1)
        """, (Dense, Tanh, SquaredError)),
    Program(network_with_state, labelled, """
        dz2 = dz2 / N
            z2/self.z2/net.z2 missing_batch_mean: pass
        self.grads["W2"] = self.h1.T @ dz2
            W2 wrong_operand: self.grads["W2"] = self.z1.T @ dz2
        dz1 = dh1 * self.h1 * (1 - self.h1)
            z1/self.z1/net.z1 derivative_at_wrong_point: dz1 = dh1 * self.z1 * (1 - self.z1)
            z1/self.z1/net.z1 missing_activation_derivative|derivative_all_ones: dz1 = dh1
            z1/self.z1/net.z1 derivative_wrong_function: dz1 = dh1 * (1 - self.h1**2)
        self.grads["b1"] = dz1.sum(axis=0)
            b1 wrong_operand|missing_activation_derivative: self.grads["b1"] = dh1.sum(axis=0)
            b1 sign: self.grads["b1"] = -dz1.sum(axis=0)
        """, (Network,)),
    Program(in_place, labelled, """
        ds[np.arange(N), y] -= 1
            s sign: ds[np.arange(N), y] -= 1; ds *= -1
            s missing_path: pass
        ds /= N
            s missing_batch_mean: pass
        dW2 = h.T @ ds
            right: dW2 = np.einsum("nh,nc->hc", h, ds)
            W2 factor: dW2 = 2 * h.T @ ds
        dh[h <= 0] = 0
            right: dh *= h > 0
            h/h[0]/h[1]/b1/W1 derivative_all_ones|missing_activation_derivative: dh[h < 0] = 0
            h/h[0]/h[1]/b1/W1 mask_wrong: dh[h > 0] = 0
        db1 = dh.sum(axis=0)
            b1 wrong_axis_sum: db1 = dh.sum(axis=1)
        """),
    Program(from_a_cache, remembered, """
        dW2 = new["h1"].T @ dy
            W2 stale_cache: dW2 = cache["h1"].T @ dy
            W2 wrong_operand: dW2 = new["z1"].T @ dy
        dz1 = dh1 * (1 - np.tanh(new["z1"]) ** 2)
            right: dz1 = dh1 * (1 - new["h1"] ** 2)
            z1 stale_cache: dz1 = dh1 * (1 - np.tanh(cache["z1"]) ** 2)
            z1 stale_cache: dz1 = dh1 * (1 - cache["h1"] ** 2)
            z1 derivative_at_wrong_point: dz1 = dh1 * (1 - np.tanh(new["h1"]) ** 2)
        dW1 = new["X"].T @ dz1
            W1 stale_cache: dW1 = cache["X"].T @ dz1
            W1 wrong_operand: dW1 = new["X"].T @ dh1 + new["X"].T @ dz1
        new = {"z1": z1, "h1": h1, "X": X}
            W2 stale_cache: new = cache
            W1 stale_cache: new = {"z1": z1, "h1": h1} | {"X": cache["X"]}
            z1 stale_cache: new = {"h1": h1, "X": X} | {"z1": cache["z1"]}
            W2 stale_cache: new = {"z1": z1, "X": X} | {"h1": cache["h1"]}
        """),
    Program(written_over, labelled, """
        ds = p - onehot
            right: ds = p; ds -= onehot
            s sign: ds = onehot - p
        dW2 = h.T @ ds
            W2 overwritten_in_place|wrong_operand: h *= 1 - h**2; dW2 = h.T @ ds
            W2 overwritten_in_place|wrong_operand: np.multiply(h, h, out=h); dW2 = h.T @ ds
        db2 = ds.sum(axis=0)
            h overwritten_in_place|wrong_operand: db2 = ds.sum(axis=0); ds *= p
            a overwritten_in_place|derivative_at_wrong_point: db2 = ds.sum(axis=0); h *= h
            a overwritten_in_place|derivative_at_wrong_point: db2 = ds.sum(axis=0); h -= h.mean(axis=0)
            W1 overwritten_in_place|wrong_operand: db2 = ds.sum(axis=0); X -= X.mean(axis=0)
        dh = ds @ W2.T
            h overwritten_in_place|wrong_operand: W2 -= 0.1 * dW2; dh = ds @ W2.T
            h overwritten_in_place|wrong_operand: W2 += dW2; dh = ds @ W2.T
        da = dh * (1 - h**2)
            right: dh *= 1 - h**2; da = dh
            W1 overwritten_in_place|wrong_operand: da = dh * (1 - h**2); X *= 0.5; X += 1
            a derivative_at_wrong_point: da = dh * (1 - a**2)
        dW1 = X.T @ da
            b1 overwritten_in_place|wrong_operand: dW1 = X.T @ da; da *= da
            b1 overwritten_in_place|wrong_operand: dW1 = X.T @ da; da -= dh
        """),
]  # fmt: skip
