"""What is learned in the experiment: a factorized matrix, the digits by softmax regression, how an expert steers."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy.linalg import solve_discrete_are
from sklearn import datasets

from ..classifiers import Perceptron
from .racing import Task

# a factorized matrix


def factorization_data() -> tuple[np.ndarray, np.ndarray]:
    """1000 inputs of six numbers, and their images under a matrix whose rows fade from one to nothing."""
    random = np.random.RandomState(0)
    A = np.linspace(1, 1e-10, 10)[:, None] * random.rand(10, 6)
    X = random.randn(1000, 6)
    return X, X @ A.T


def factorization_start(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The two factors to begin with."""
    random = np.random.RandomState(100 + seed)
    return random.uniform(-1, 1, (6, 10)) / np.sqrt(6), random.uniform(-1, 1, (10, 10)) / np.sqrt(10)


def half_square(z: Array, batch: tuple[Array, Array]) -> Array:
    """Half of each example's squared error."""
    return 0.5 * jnp.sum((z - batch[1]) ** 2, axis=-1)


def factorization() -> Task:
    """Two linear layers learn a linear map: convex in the targets, not in the parameters."""
    data = tuple(map(jnp.asarray, factorization_data()))

    def predict(params: tuple[Array, Array], batch: tuple[Array, Array]) -> Array:
        return batch[0] @ params[0] @ params[1]

    def whole(params: tuple[Array, Array], _: object) -> Array:
        return jnp.mean(half_square(predict(params, data), data))

    return Task(predict, half_square, lambda params, index: tuple(leaf[index] for leaf in data), whole, 0.0)


# softmax regression


def cross_entropy(z: Array, batch: tuple[Array, Array]) -> Array:
    """Each example's cross-entropy; its targets are the scores."""
    scores = jnp.take_along_axis(z, batch[1][:, None], axis=1)[:, 0]
    return jax.nn.logsumexp(z, axis=1) - scores


def softmax_regression() -> Task:
    """All digits of scikit-learn with a constant column, by a linear model."""
    images, labels = datasets.load_digits(return_X_y=True)
    data = jnp.asarray(np.hstack([images / 16, np.ones((len(images), 1))])), jnp.asarray(labels)

    def predict(W: Array, batch: tuple[Array, Array]) -> Array:
        return batch[0] @ W

    def whole(W: Array, _: object) -> Array:
        return jnp.mean(cross_entropy(predict(W, data), data))

    return Task(predict, cross_entropy, lambda W, index: tuple(leaf[index] for leaf in data), whole)


DIGITS = 1797
PIXELS = 65
"""The constant column among them."""


# steering

GRAVITY, CART, POLE, HALF_LENGTH, STEP, FORCE = 9.8, 1.0, 0.1, 0.5, 0.02, 10.0
INPUT_SCALE = np.array([1.0, 0.5, 4.0, 1.0])
START_SCALE = 0.2 * np.array([5.0, 1.0, 1.0, 1.0])


def cart_pole(state: Float[Array, " 4"], action: Float[Array, ""]) -> Float[Array, " 4"]:
    """The state after 0.02 s: position, velocity, angle, angular velocity, by Euler's method."""
    _, velocity, angle, spin = state
    force, whole = FORCE * jnp.clip(action, -1, 1), CART + POLE
    push = (force + POLE * HALF_LENGTH * spin**2 * jnp.sin(angle)) / whole
    fall = GRAVITY * jnp.sin(angle) - jnp.cos(angle) * push
    turn = fall / (HALF_LENGTH * (4 / 3 - POLE * jnp.cos(angle) ** 2 / whole))
    rush = push - POLE * HALF_LENGTH * turn * jnp.cos(angle) / whole
    return state + STEP * jnp.stack([velocity, rush, spin, turn])


def expert_gain() -> Float[np.ndarray, " 4"]:
    """The linear quadratic regulator of the upright pole, a row K of the action -K s."""
    zero = jnp.zeros(4), jnp.zeros(())
    A, B = jax.jit(jax.jacobian(cart_pole, (0, 1)))(*zero)
    A, B = np.asarray(A), np.asarray(B)[:, None]
    P = solve_discrete_are(A, B, np.diag([1, 0.1, 10, 0.1]), np.eye(1))
    return np.linalg.solve(np.eye(1) + B.T @ P @ B, B.T @ P @ A)[0]


def policy(key: Array) -> Perceptron:
    """Two hidden layers of 64 units; the last layer is zero, and so is the first action."""
    network = Perceptron((4, 64, 64, 1), key=key, activation=jnp.tanh, gain=1.0)
    return eqx.tree_at(lambda net: net.weights[-1], network, jnp.zeros_like(network.weights[-1]))


def imitation(length: int) -> Task:
    """A policy learns how an expert steers a pole, from the states to which it has led itself."""
    gain = jnp.asarray(expert_gain())

    def act(network: Perceptron, states: Array) -> Array:
        return jax.vmap(network)(states * INPUT_SCALE)[:, 0]

    def draw(network: Perceptron, starts: Float[Array, "runs 4"]) -> tuple[Array, Array]:
        def move(states: Array, _: None) -> tuple[Array, Array]:
            return jax.vmap(cart_pole)(states, act(network, states)), states

        _, seen = jax.lax.scan(move, starts, None, length)
        states = seen.reshape(-1, 4)
        # what the expert would have done is the costly part, in earnest
        return states, jnp.clip(-states @ gain, -1, 1)

    def loss(actions: Array, batch: tuple[Array, Array]) -> Array:
        return 0.5 * (actions - batch[1]) ** 2

    def predict(network: Perceptron, batch: tuple[Array, Array]) -> Array:
        return act(network, batch[0])

    def watch(network: Perceptron, batch: tuple[Array, Array]) -> tuple[Array, Array]:
        states = batch[0].reshape(length, -1, 4)
        upright = (jnp.abs(states[..., 2]) <= 0.5) & (jnp.abs(states[..., 0]) <= 5)
        steps = jnp.sum(jnp.cumprod(upright, axis=0), axis=0)
        return jnp.mean(loss(predict(network, batch), batch)), jnp.mean(steps)

    return Task(predict, loss, draw, watch)
