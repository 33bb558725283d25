"""Two and three dense layers, samples in rows: ReLU, sigmoid, tanh; squared error and cross-entropies."""

import numpy as np

from ..program import Program, arrays


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def classes(rng, N):
    params = arrays(rng, W1=(4, 5), b1=5, W2=(5, 3), b2=3)
    return params, rng.normal(size=(N, 4)), rng.integers(0, 3, N)


def targets(rng, N):
    params = arrays(rng, W1=(4, 5), b1=5, W2=(5, 3), b2=3)
    return params, rng.normal(size=(N, 4)), rng.normal(size=(N, 3))


def yes_or_no(rng, N):
    params = arrays(rng, W1=(4, 5), b1=5, W2=(5, 1), b2=1)
    return params, rng.normal(size=(N, 4)), rng.integers(0, 2, (N, 1)).astype(float)


def relu_cross_entropy(params, X, y):
    W1, b1, W2, b2 = params["W1"], params["b1"], params["W2"], params["b2"]
    N = X.shape[0]
    # forward
    z1 = X @ W1 + b1
    h1 = np.maximum(0, z1)
    z2 = h1 @ W2 + b2
    exp_scores = np.exp(z2 - np.max(z2, axis=1, keepdims=True))
    probs = exp_scores / np.sum(exp_scores, axis=1, keepdims=True)
    loss = -np.sum(np.log(probs[np.arange(N), y])) / N
    # backward
    dz2 = probs.copy()
    dz2[np.arange(N), y] -= 1
    dz2 /= N
    dW2 = h1.T @ dz2
    db2 = np.sum(dz2, axis=0)
    dh1 = dz2 @ W2.T
    dz1 = dh1.copy()
    dz1[z1 <= 0] = 0
    dW1 = X.T @ dz1
    db1 = np.sum(dz1, axis=0)
    grads = {"W1": dW1, "b1": db1, "W2": dW2, "b2": db2}
    return loss, grads


def sigmoid_squared_error(params, x, t):
    W1, b1, W2, b2 = params["W1"], params["b1"], params["W2"], params["b2"]
    n = len(x)
    a1 = x @ W1 + b1
    h1 = sigmoid(a1)
    a2 = h1 @ W2 + b2
    y = sigmoid(a2)
    loss = np.sum((y - t) ** 2) / (2 * n)

    dy = (y - t) / n
    da2 = dy * y * (1 - y)
    dW2 = h1.T @ da2
    db2 = da2.sum(axis=0)
    dh1 = da2 @ W2.T
    da1 = dh1 * h1 * (1 - h1)
    dW1 = x.T @ da1
    db1 = da1.sum(axis=0)
    return loss, {"W1": dW1, "b1": db1, "W2": dW2, "b2": db2}


def tanh_binary_cross_entropy(params, X, y):
    W1, b1, W2, b2 = params["W1"], params["b1"], params["W2"], params["b2"]
    N = X.shape[0]
    Z1 = X.dot(W1) + b1
    A1 = np.tanh(Z1)
    Z2 = A1.dot(W2) + b2
    A2 = 1.0 / (1.0 + np.exp(-Z2))
    loss = -np.mean(y * np.log(A2) + (1 - y) * np.log(1 - A2))

    dA2 = -(y / A2 - (1 - y) / (1 - A2)) / N
    dZ2 = dA2 * A2 * (1 - A2)
    dW2 = A1.T.dot(dZ2)
    db2 = dZ2.sum(axis=0)
    dA1 = dZ2.dot(W2.T)
    dZ1 = dA1 * (1 - A1**2)
    dW1 = X.T.dot(dZ1)
    db1 = dZ1.sum(axis=0)
    return loss, {"dW1": dW1, "db1": db1, "dW2": dW2, "db2": db2}


def tanh_linear_mean_squared_error(params, X, Y):
    W1, b1, W2, b2 = params
    # hidden layer
    z1 = np.matmul(X, W1) + b1
    h = np.tanh(z1)
    # output layer is linear
    Y_hat = np.matmul(h, W2) + b2
    error = Y_hat - Y
    loss = np.mean(np.square(error))

    dY_hat = 2.0 * error / error.size
    dW2 = np.matmul(h.T, dY_hat)
    db2 = dY_hat.sum(0)
    dh = np.matmul(dY_hat, W2.T)
    dz1 = dh * (1 - np.tanh(z1) ** 2)
    dW1 = np.matmul(X.T, dz1)
    db1 = dz1.sum(0)
    return loss, [dW1, db1, dW2, db2]


def three_layers(params, X, y):
    W1, b1 = params["W1"], params["b1"]
    W2, b2 = params["W2"], params["b2"]
    W3, b3 = params["W3"], params["b3"]
    m = X.shape[0]
    t = np.eye(3)[y]
    z1 = X @ W1 + b1
    a1 = np.tanh(z1)
    z2 = a1 @ W2 + b2
    a2 = np.maximum(z2, 0)
    z3 = a2 @ W3 + b3
    e = np.exp(z3)
    p = e / e.sum(axis=1, keepdims=True)
    loss = -(t * np.log(p)).sum() / m

    dz3 = (p - t) / m
    dW3 = a2.T @ dz3
    db3 = dz3.sum(axis=0)
    da2 = dz3 @ W3.T
    dz2 = da2 * (z2 > 0)
    dW2 = a1.T @ dz2
    db2 = dz2.sum(axis=0)
    da1 = dz2 @ W2.T
    dz1 = da1 * (1 - a1 * a1)
    dW1 = X.T @ dz1
    db1 = dz1.sum(axis=0)
    return loss, {"W1": dW1, "b1": db1, "W2": dW2, "b2": db2, "W3": dW3, "b3": db3}


def three_layers_few_names(params, X, y):
    W1, W2, W3 = params["W1"], params["W2"], params["W3"]
    z1 = X @ W1
    a1 = sigmoid(z1)
    z2 = a1 @ W2
    a2 = sigmoid(z2)
    z3 = a2 @ W3
    y_hat = sigmoid(z3)
    loss = 0.5 * np.mean(np.sum((y - y_hat) ** 2, axis=1))

    # the deltas, from the last layer to the first
    delta3 = (y_hat - y) * y_hat * (1 - y_hat) / len(X)
    delta2 = delta3 @ W3.T * a2 * (1 - a2)
    delta1 = delta2 @ W2.T * a1 * (1 - a1)
    return loss, {"W1": X.T @ delta1, "W2": a1.T @ delta2, "W3": a2.T @ delta3}


def square_layers(rng, N):
    params = arrays(rng, W1=(4, 5), b1=5, W2=(5, 5), b2=5, W3=(5, 3), b3=3)
    return params, rng.normal(size=(N, 4)), rng.integers(0, 3, N)


def square_layers_targets(rng, N):
    params = arrays(rng, W1=(4, 5), W2=(5, 5), W3=(5, 3))
    return params, rng.normal(size=(N, 4)), rng.uniform(size=(N, 3))


def listed(rng, N):
    params, *data = targets(rng, N)
    return list(params.values()), *data


PROGRAMS = [
    Program(relu_cross_entropy, classes, """
        dz2 = probs.copy()
            right: dz2 = probs * 1.0
        dz2[np.arange(N), y] -= 1
            right: dz2[range(N), y] -= 1.0
            z2 sign: dz2[np.arange(N), y] -= 1; dz2 = -dz2
            z2 factor: dz2[np.arange(N), y] -= 1; dz2 = 2 * dz2
        dz2 /= N
            z2 missing_batch_mean: pass
            z2 extra_batch_mean: dz2 /= N * N
        dW2 = h1.T @ dz2
            right: dW2 = np.einsum("ni,nj->ij", h1, dz2)
            W2 wrong_operand: dW2 = z1.T @ dz2
            W2 sign: dW2 = -h1.T @ dz2
            W2 transpose: dW2 = (h1.T @ dz2).T
        db2 = np.sum(dz2, axis=0)
            right: db2 = np.ones(N) @ dz2
            b2 wrong_axis_sum: db2 = np.sum(dz2, axis=1)
            b2 unreduced_broadcast: db2 = dz2
            b2 wrong_axis_sum: db2 = np.sum(dz2)
        dz1[z1 <= 0] = 0
            right: dz1[h1 <= 0] = 0
            right: dz1[z1 < 0] = 0
            z1 missing_activation_derivative|derivative_all_ones: pass
            z1 derivative_all_ones|missing_activation_derivative: dz1[h1 < 0] = 0
            z1 mask_wrong: dz1[z1 > 0] = 0
        dW1 = X.T @ dz1
            W1 missing_batch_mean: dW1 = X.T @ dz1 * N
            W1 factor: dW1 = 0.5 * X.T @ dz1
        db1 = np.sum(dz1, axis=0)
            b1 mean_instead_of_sum|extra_batch_mean: db1 = np.mean(dz1, axis=0)
            b1 wrong_operand|missing_activation_derivative: db1 = np.sum(dh1, axis=0)
        """),
    Program(sigmoid_squared_error, targets, """
        dy = (y - t) / n
            y sign: dy = (t - y) / n
            y missing_batch_mean: dy = y - t
            y factor: dy = 2 * (y - t) / n
        da2 = dy * y * (1 - y)
            right: da2 = dy * (y - y**2)
            a2 missing_activation_derivative|derivative_all_ones: da2 = dy
            a2 derivative_at_wrong_point: da2 = dy * sigmoid(y) * (1 - sigmoid(y))
            a2 derivative_wrong_function: da2 = dy * (1 - y**2)
        dW2 = h1.T @ da2
            W2 wrong_operand|missing_activation_derivative: dW2 = h1.T @ dy
            W2 transpose: dW2 = da2.T @ h1
        db2 = da2.sum(axis=0)
            b2 mean_instead_of_sum|extra_batch_mean: db2 = da2.mean(axis=0)
            b2 factor: db2 = 3 * da2.sum(axis=0)
        dh1 = da2 @ W2.T
            h1 sign: dh1 = -da2 @ W2.T
            h1 wrong_operand|missing_activation_derivative: dh1 = dy @ W2.T
        da1 = dh1 * h1 * (1 - h1)
            right: da1 = dh1 * sigmoid(a1) * (1 - sigmoid(a1))
            a1 derivative_at_wrong_point: da1 = dh1 * sigmoid(h1) * (1 - sigmoid(h1))
            a1 derivative_at_wrong_point: da1 = dh1 * a1 * (1 - a1)
            a1 derivative_wrong_function: da1 = dh1 * (a1 > 0)
        dW1 = x.T @ da1
            W1 extra_batch_mean: dW1 = x.T @ da1 / n
        db1 = da1.sum(axis=0)
            b1 unreduced_broadcast: db1 = da1
            b1 wrong_axis_sum: db1 = da1.sum(axis=1)
        """, (sigmoid,)),
    Program(tanh_binary_cross_entropy, yes_or_no, """
        dA2 = -(y / A2 - (1 - y) / (1 - A2)) / N
            right: dA2 = (A2 - y) / (A2 * (1 - A2)) / N
            A2 missing_batch_mean: dA2 = -(y / A2 - (1 - y) / (1 - A2))
            A2 sign: dA2 = (y / A2 - (1 - y) / (1 - A2)) / N
            A2 missing_path: dA2 = -(y / A2) / N
            A2 sign: dA2 = -(y / A2 + (1 - y) / (1 - A2)) / N
        dZ2 = dA2 * A2 * (1 - A2)
            right: dZ2 = (A2 - y) / N
            Z2 missing_activation_derivative|derivative_all_ones: dZ2 = dA2
            Z2 derivative_wrong_function: dZ2 = dA2 * (1 - A2**2)
            Z2 derivative_at_wrong_point: dZ2 = dA2 * Z2 * (1 - Z2)
        dW2 = A1.T.dot(dZ2)
            W2 wrong_operand: dW2 = Z1.T.dot(dZ2)
            W2 factor: dW2 = 2 * A1.T.dot(dZ2)
        dA1 = dZ2.dot(W2.T)
            A1 sign: dA1 = -dZ2.dot(W2.T)
        dZ1 = dA1 * (1 - A1**2)
            right: dZ1 = dA1 * (1 - np.power(A1, 2))
            right: dZ1 = dA1 / np.cosh(Z1) ** 2
            Z1 derivative_at_wrong_point: dZ1 = dA1 * (1 - np.tanh(A1) ** 2)
            Z1 derivative_at_wrong_point: dZ1 = dA1 * (1 - Z1**2)
            Z1 derivative_wrong_function: dZ1 = dA1 * A1 * (1 - A1)
            Z1 extra_term: dZ1 = dA1 * (1 - A1**2) ** 2
            Z1 derivative_wrong_function: dZ1 = dA1 * (1 - A1)
        dW1 = X.T.dot(dZ1)
            W1 wrong_operand|missing_activation_derivative: dW1 = X.T.dot(dA1)
            W1 transpose: dW1 = dZ1.T.dot(X)
        db1 = dZ1.sum(axis=0)
            b1 mean_instead_of_sum|extra_batch_mean: db1 = dZ1.mean(axis=0)
        """),
    Program(tanh_linear_mean_squared_error, listed, """
        dY_hat = 2.0 * error / error.size
            right: dY_hat = (error + error) / np.size(error)
            Y_hat factor: dY_hat = error / error.size
            Y_hat missing_batch_mean: dY_hat = 2.0 * error / error.shape[1]
            Y_hat missing_batch_mean: dY_hat = 2.0 * error
            Y_hat factor|missing_batch_mean: dY_hat = 2.0 * error / len(error)
            Y_hat sign: dY_hat = -2.0 * error / error.size
        dW2 = np.matmul(h.T, dY_hat)
            W2/params[2] wrong_operand: dW2 = np.matmul(z1.T, dY_hat)
        db2 = dY_hat.sum(0)
            b2/params[3] wrong_axis_sum: db2 = dY_hat.sum(1)
            b2/params[3] wrong_operand|factor: db2 = error.sum(0)
        dh = np.matmul(dY_hat, W2.T)
            h wrong_operand|factor: dh = np.matmul(error, W2.T)
        dz1 = dh * (1 - np.tanh(z1) ** 2)
            right: dz1 = dh * (1 - h * h)
            z1 missing_activation_derivative|derivative_all_ones: dz1 = dh
            z1 derivative_all_ones|missing_activation_derivative: dz1 = dh * np.ones_like(z1)
            z1 derivative_at_wrong_point: dz1 = dh * (1 - np.tanh(h) ** 2)
            z1 derivative_wrong_function: dz1 = dh * (1 - np.tanh(z1))
        db1 = dz1.sum(0)
            b1/params[1] unreduced_broadcast: db1 = dz1
            b1/params[1] sign: db1 = -dz1.sum(0)
        """),
    Program(three_layers, square_layers, """
        dz3 = (p - t) / m
            right: dz3 = p / m - t / m
            z3 sign: dz3 = (t - p) / m
            z3 missing_batch_mean: dz3 = p - t
            z3 softmax_jacobian_diagonal_only: dz3 = (-t / p) * p * (1 - p) / m
            z3 extra_term|softmax_jacobian_diagonal_only|other_loss: dz3 = (p - t) * p * (1 - p) / m
        dW3 = a2.T @ dz3
            W3 wrong_operand: dW3 = a1.T @ dz3
        da2 = dz3 @ W3.T
            a2 factor: da2 = 2 * dz3 @ W3.T
        dz2 = da2 * (z2 > 0)
            right: dz2 = da2 * (a2 > 0)
            right: dz2 = np.where(z2 > 0, da2, 0)
            z2 mask_wrong: dz2 = da2 * (z2 < 0)
            z2 derivative_wrong_function: dz2 = da2 * (1 - a2 * a2)
            z2 mask_wrong|derivative_at_wrong_point: dz2 = da2 * (z1 > 0)
            z2 derivative_wrong_function: dz2 = da2 * a2
        dW2 = a1.T @ dz2
            W2 transpose: dW2 = dz2.T @ a1
            W2 wrong_operand: dW2 = a2.T @ dz2
        db2 = dz2.sum(axis=0)
            b2 factor: db2 = 4.0 * dz2.sum(axis=0)
        da1 = dz2 @ W2.T
            a1 transpose: da1 = dz2 @ W2
            a1 wrong_operand|missing_activation_derivative: da1 = da2 @ W2.T
        dz1 = da1 * (1 - a1 * a1)
            z1 off_by_one|derivative_at_wrong_point|wrong_operand: dz1 = da1 * (1 - a2 * a2)
            z1 derivative_wrong_function: dz1 = da1 * (z1 > 0)
            z1 missing_activation_derivative|derivative_all_ones: dz1 = da1
        dW1 = X.T @ dz1
            W1 sign: dW1 = -(X.T @ dz1)
        db1 = dz1.sum(axis=0)
            b1 wrong_operand: db1 = dz2.sum(axis=0)
        """),
    Program(three_layers_few_names, square_layers_targets, """
        delta3 = (y_hat - y) * y_hat * (1 - y_hat) / len(X)
            z3 missing_activation_derivative|derivative_all_ones: delta3 = (y_hat - y) / len(X)
            z3 factor: delta3 = 2 * (y_hat - y) * y_hat * (1 - y_hat) / len(X)
            z3 missing_batch_mean: delta3 = (y_hat - y) * y_hat * (1 - y_hat)
            z3 sign: delta3 = (y - y_hat) * y_hat * (1 - y_hat) / len(X)
        delta2 = delta3 @ W3.T * a2 * (1 - a2)
            z2 missing_activation_derivative|derivative_all_ones: delta2 = delta3 @ W3.T
            z2 derivative_at_wrong_point: delta2 = delta3 @ W3.T * sigmoid(a2) * (1 - sigmoid(a2))
            z2 off_by_one|derivative_at_wrong_point|wrong_operand: delta2 = delta3 @ W3.T * a1 * (1 - a1)
        delta1 = delta2 @ W2.T * a1 * (1 - a1)
            z1 transpose: delta1 = delta2 @ W2 * a1 * (1 - a1)
            z1 derivative_wrong_function: delta1 = delta2 @ W2.T * (1 - a1**2)
            z1 sign: delta1 = -delta2 @ W2.T * a1 * (1 - a1)
        return loss, {"W1": X.T @ delta1, "W2": a1.T @ delta2, "W3": a2.T @ delta3}
            right: return loss, {"W1": X.T @ delta1, "W2": a1.T.dot(delta2), "W3": a2.T @ delta3}
            W3 off_by_one|wrong_operand: return loss, {"W1": X.T @ delta1, "W2": a1.T @ delta2, "W3": a1.T @ delta3}
            W2 wrong_operand: return loss, {"W1": X.T @ delta1, "W2": a1.T @ delta1, "W3": a2.T @ delta3}
            W2 transpose: return loss, {"W1": X.T @ delta1, "W2": delta2.T @ a1, "W3": a2.T @ delta3}
        """, (sigmoid,)),
]  # fmt: skip
