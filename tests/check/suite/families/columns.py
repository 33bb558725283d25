"""Samples in columns, ``W @ X + b``; 1/m in the first gradient, or in those of the parameters."""

import numpy as np

from ..program import Program, arrays


def binary(rng, N):
    params = arrays(rng, W1=(5, 4), b1=(5, 1), W2=(1, 5), b2=(1, 1))
    return params, rng.normal(size=(4, N)), rng.integers(0, 2, (1, N)).astype(float)


def three(rng, N):
    params = arrays(rng, W1=(5, 4), b1=(5, 1), W2=(5, 5), b2=(5, 1), W3=(3, 5), b3=(3, 1))
    return params, rng.normal(size=(4, N)), np.eye(3)[rng.integers(0, 3, N)].T


def regression(rng, N):
    params = arrays(rng, W1=(5, 4), b1=5, W2=(2, 5), b2=2)
    return params, rng.normal(size=(4, N)), rng.normal(size=(2, N))


def sigmoid(Z):
    return 1.0 / (1.0 + np.exp(-Z))


def tanh_then_sigmoid(params, X, Y):
    W1, b1, W2, b2 = params["W1"], params["b1"], params["W2"], params["b2"]
    m = X.shape[1]
    Z1 = np.dot(W1, X) + b1
    A1 = np.tanh(Z1)
    Z2 = np.dot(W2, A1) + b2
    A2 = sigmoid(Z2)
    logprobs = Y * np.log(A2) + (1 - Y) * np.log(1 - A2)
    cost = -np.sum(logprobs) / m

    dZ2 = A2 - Y
    dW2 = np.dot(dZ2, A1.T) / m
    db2 = np.sum(dZ2, axis=1, keepdims=True) / m
    dZ1 = np.dot(W2.T, dZ2) * (1 - np.power(A1, 2))
    dW1 = np.dot(dZ1, X.T) / m
    db1 = np.sum(dZ1, axis=1, keepdims=True) / m
    return cost, {"dW1": dW1, "db1": db1, "dW2": dW2, "db2": db2}


def relu_relu_softmax(params, X, Y):
    W1, b1, W2, b2, W3, b3 = [params[k] for k in ("W1", "b1", "W2", "b2", "W3", "b3")]
    m = Y.shape[1]
    Z1 = W1 @ X + b1
    A1 = np.maximum(0, Z1)
    Z2 = W2 @ A1 + b2
    A2 = np.maximum(0, Z2)
    Z3 = W3 @ A2 + b3
    E = np.exp(Z3 - Z3.max(axis=0))
    A3 = E / E.sum(axis=0)
    cost = -np.sum(Y * np.log(A3)) / m

    dZ3 = A3 - Y
    dW3 = 1.0 / m * dZ3 @ A2.T
    db3 = 1.0 / m * np.sum(dZ3, axis=1, keepdims=True)
    dA2 = W3.T @ dZ3
    dZ2 = np.multiply(dA2, np.int64(A2 > 0))
    dW2 = 1.0 / m * dZ2 @ A1.T
    db2 = 1.0 / m * np.sum(dZ2, axis=1, keepdims=True)
    dA1 = W2.T @ dZ2
    dZ1 = np.multiply(dA1, np.int64(A1 > 0))
    dW1 = 1.0 / m * dZ1 @ X.T
    db1 = 1.0 / m * np.sum(dZ1, axis=1, keepdims=True)
    gradients = {"dZ3": dZ3, "dW3": dW3, "db3": db3, "dA2": dA2, "dZ2": dZ2, "dW2": dW2}
    gradients.update({"db2": db2, "dA1": dA1, "dZ1": dZ1, "dW1": dW1, "db1": db1})
    return cost, gradients


def divided_at_once(params, X, Y):
    W1, b1, W2, b2 = params["W1"], params["b1"], params["W2"], params["b2"]
    m = X.shape[1]
    Z1 = W1 @ X + b1[:, None]
    A1 = sigmoid(Z1)
    Z2 = W2 @ A1 + b2[:, None]
    J = 0.5 * np.sum((Z2 - Y) ** 2) / m

    dZ2 = (Z2 - Y) / m
    dW2 = dZ2 @ A1.T
    db2 = dZ2.sum(axis=1)
    dA1 = W2.T @ dZ2
    dZ1 = dA1 * A1 * (1 - A1)
    dW1 = dZ1 @ X.T
    db1 = dZ1.sum(axis=1)
    return J, {"W1": dW1, "b1": db1, "W2": dW2, "b2": db2}


PROGRAMS = [
    Program(tanh_then_sigmoid, binary, """
        dZ2 = A2 - Y
            Z2 sign: dZ2 = Y - A2
            Z2 extra_term|other_loss: dZ2 = (A2 - Y) * A2 * (1 - A2)
        dW2 = np.dot(dZ2, A1.T) / m
            right: dW2 = 1 / m * dZ2 @ A1.T
            W2 missing_batch_mean: dW2 = np.dot(dZ2, A1.T)
            W2 wrong_operand: dW2 = np.dot(dZ2, Z1.T) / m
            W2 factor: dW2 = 3 * np.dot(dZ2, A1.T) / m
            W2 extra_batch_mean: dW2 = np.dot(dZ2, A1.T) / m**2
        db2 = np.sum(dZ2, axis=1, keepdims=True) / m
            b2 missing_batch_mean: db2 = np.sum(dZ2, axis=1, keepdims=True)
            b2 unreduced_broadcast: db2 = dZ2 / m
        dZ1 = np.dot(W2.T, dZ2) * (1 - np.power(A1, 2))
            right: dZ1 = W2.T @ dZ2 * (1 - A1**2)
            right: dZ1 = W2.T * dZ2 * (1 - A1**2)
            Z1 missing_activation_derivative|derivative_all_ones: dZ1 = np.dot(W2.T, dZ2)
            Z1 derivative_at_wrong_point: dZ1 = np.dot(W2.T, dZ2) * (1 - np.power(Z1, 2))
            Z1 derivative_wrong_function: dZ1 = np.dot(W2.T, dZ2) * A1 * (1 - A1)
            Z1 sign: dZ1 = -np.dot(W2.T, dZ2) * (1 - np.power(A1, 2))
            Z1 derivative_wrong_function: dZ1 = np.dot(W2.T, dZ2) * (1 - A1)
        dW1 = np.dot(dZ1, X.T) / m
            W1 missing_batch_mean: dW1 = np.dot(dZ1, X.T)
            W1 sign: dW1 = -np.dot(dZ1, X.T) / m
            W1 transpose: dW1 = np.dot(X, dZ1.T) / m
        db1 = np.sum(dZ1, axis=1, keepdims=True) / m
            b1 wrong_axis_sum: db1 = np.sum(dZ1, axis=0, keepdims=True) / m
            b1 factor: db1 = 4 / m * np.sum(dZ1, axis=1, keepdims=True)
        """, (sigmoid,)),
    Program(relu_relu_softmax, three, """
        dZ3 = A3 - Y
            right: dZ3 = A3 - 1.0 * Y
            Z3 extra_term|softmax_jacobian_diagonal_only|other_loss: dZ3 = (A3 - Y) * A3 * (1 - A3)
        dA2 = W3.T @ dZ3
            A2 sign: dA2 = -W3.T @ dZ3
        dZ2 = np.multiply(dA2, np.int64(A2 > 0))
            right: dZ2 = np.where(Z2 <= 0, 0, dA2)
            Z2 derivative_all_ones|missing_activation_derivative: dZ2 = np.multiply(dA2, np.int64(A2 >= 0))
            Z2 mask_wrong: dZ2 = np.multiply(dA2, np.int64(A2 <= 0))
            Z2 off_by_one|mask_wrong|derivative_at_wrong_point|wrong_operand: dZ2 = np.multiply(dA2, np.int64(A1 > 0))
            Z2 derivative_wrong_function: dZ2 = np.multiply(dA2, A2)
        dW2 = 1.0 / m * dZ2 @ A1.T
            W2 factor: dW2 = 1.0 / m * dZ2 @ A1.T * 2
            W2 off_by_one|wrong_operand: dW2 = 1.0 / m * dZ2 @ A2.T
            W2 transpose: dW2 = 1.0 / m * A1 @ dZ2.T
        dA1 = W2.T @ dZ2
            A1 transpose: dA1 = W2 @ dZ2
            A1 wrong_operand|missing_activation_derivative: dA1 = W2.T @ dA2
        db1 = 1.0 / m * np.sum(dZ1, axis=1, keepdims=True)
            b1 factor: db1 = 4.0 / m * np.sum(dZ1, axis=1, keepdims=True)
            b1 missing_batch_mean: db1 = np.sum(dZ1, axis=1, keepdims=True)
            b1 wrong_axis_sum: db1 = 1.0 / m * np.sum(dZ1)
        dW1 = 1.0 / m * dZ1 @ X.T
            W1 missing_batch_mean: dW1 = dZ1 @ X.T
            W1 wrong_operand: dW1 = 1.0 / m * dZ2 @ X.T
        """),
    Program(divided_at_once, regression, """
        dZ2 = (Z2 - Y) / m
            Z2 missing_batch_mean: dZ2 = Z2 - Y
            Z2 factor: dZ2 = 2 * (Z2 - Y) / m
        dW2 = dZ2 @ A1.T
            right: dW2 = np.einsum("in,jn->ij", dZ2, A1)
            W2 extra_batch_mean: dW2 = dZ2 @ A1.T / m
        db2 = dZ2.sum(axis=1)
            b2 unreduced_broadcast: db2 = dZ2
            b2 mean_instead_of_sum|extra_batch_mean: db2 = dZ2.mean(axis=1)
            b2 wrong_axis_sum: db2 = dZ2.sum(axis=0)
        dZ1 = dA1 * A1 * (1 - A1)
            Z1 derivative_at_wrong_point: dZ1 = dA1 * sigmoid(A1) * (1 - sigmoid(A1))
            Z1 derivative_wrong_function: dZ1 = dA1 * (1 - A1**2)
            Z1 extra_term: dZ1 = dA1 * A1**2 * (1 - A1) ** 2
            Z1 missing_activation_derivative|derivative_all_ones: dZ1 = dA1
        dW1 = dZ1 @ X.T
            W1 extra_batch_mean: dW1 = dZ1 @ X.T / m
            W1 transpose: dW1 = (dZ1 @ X.T).T
        db1 = dZ1.sum(axis=1)
            b1 mean_instead_of_sum|extra_batch_mean: db1 = dZ1.mean(axis=1)
            b1 unreduced_broadcast: db1 = dZ1
        """, (sigmoid,)),
]  # fmt: skip
