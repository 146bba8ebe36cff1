"""The convex problems of the experiment: noisy digits, absolute values with changing noise, and maxima of planes."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy import optimize
from sklearn import datasets, preprocessing

import dini

from ...kit.losses import cross_entropy
from .sweeps import Task


class NoisyDigits(NamedTuple):
    """Softmax regression of all digits, of which some have labels that are redrawn."""

    X: Float[Array, "n 65"]
    """Standardized pixels, and a column of ones."""
    Y: Float[Array, "n 10"]
    least: float
    """The least loss."""

    @classmethod
    def make(cls, share: float) -> NoisyDigits:
        """About this share of the labels is redrawn, from all ten."""
        images, labels = datasets.load_digits(return_X_y=True)
        X = np.column_stack([preprocessing.StandardScaler().fit_transform(images), np.ones(len(images))])
        # the draws of the specification
        source = np.random.RandomState(0)
        wrong = source.rand(len(labels)) < share
        labels[wrong] = source.randint(0, 10, wrong.sum())
        X, Y = jnp.asarray(X), jax.nn.one_hot(labels, 10, dtype=X.dtype)
        problem = dini.Minimize(_softmax_loss)
        solver = dini.LBFGS(history=30, atol=1e-6, max_steps=5000)
        optimum = dini.solve(problem, solver, jnp.zeros((X.shape[1], 10)), X, Y)
        return cls(X, Y, float(_softmax_loss(optimum.x, X, Y)))

    def task(self, batch: int, steps: int, random: list[np.random.Generator]) -> Task:
        """Its descent from zero with batches that are drawn with replacement, by a generator a run."""
        X, Y, least = self
        return Task(
            start=jnp.zeros((X.shape[1], 10)),
            gradient=lambda W, rows: X[rows].T @ (jax.nn.softmax(X[rows] @ W) - Y[rows]) / batch,
            excess=lambda W: _softmax_loss(W, X, Y) - least,
            given=np.stack([one.integers(0, len(X), (steps, batch)) for one in random]),
        )


def _softmax_loss(W: Array, X: Array, Y: Array) -> Array:
    return cross_entropy(X @ W, Y)


#: The standard deviation of the noise at the share `u` of the run.
NOISES = {
    "early": lambda u: np.where(u <= 0.4, 10.0, 0.3),
    "late": lambda u: np.where(u <= 0.6, 0.3, 10.0),
    "decay": lambda u: 10 * np.exp(-5 * u) + 0.1,
}


class Regression(NamedTuple):
    """The mean of absolute residuals of a linear model, and its least value."""

    A: Float[np.ndarray, "n d"]
    b: Float[np.ndarray, " n"]
    least: float

    @classmethod
    def make(cls, n: int, d: int) -> Regression:
        """A model whose residuals have heavy tails; the optimum is that of a linear program."""
        source = np.random.RandomState(0)
        A = source.randn(n, d) / np.sqrt(d)
        b = A @ source.randn(d) + 0.5 * source.standard_t(2, n)
        # the residuals as differences of two positive numbers
        cost = np.concatenate([np.zeros(d), np.full(2 * n, 1 / n)])
        equations = np.hstack([A, np.eye(n), -np.eye(n)])
        bounds = [(None, None)] * d + [(0, None)] * (2 * n)
        return cls(A, b, float(optimize.linprog(cost, A_eq=equations, b_eq=b, bounds=bounds).fun))

    def task(self, steps: int, random: list[np.random.Generator]) -> Task:
        """Its descent from zero with noise in the subgradients that changes during the run, in each way of `NOISES`.

        The runs of one way stand together: one a generator, whose draws all ways share.
        """
        n, d = self.A.shape
        A, b = jnp.asarray(self.A), jnp.asarray(self.b)
        u = np.arange(1, steps + 1) / steps
        draws = np.stack([one.normal(size=(steps, d)) for one in random]) / np.sqrt(d)
        return Task(
            start=jnp.zeros(d),
            gradient=lambda x, error: jnp.sign(A @ x - b) @ A / n + error,
            excess=lambda x: jnp.mean(jnp.abs(A @ x - b)) - self.least,
            given=np.concatenate([sigma(u)[:, None] * draws for sigma in NOISES.values()]),
        )


class Planes(NamedTuple):
    """Functions `max_i a_i·x + c_i` that have a minimum, and their descents' starts."""

    A: Float[np.ndarray, "n 10 5"]
    c: Float[np.ndarray, "n 10"]
    start: Float[np.ndarray, "n 5"]
    least: Float[np.ndarray, " n"]
    distance: Float[np.ndarray, " n"]
    """From the start to a solution."""
    slope: Float[np.ndarray, " n"]
    """The greatest norm of a subgradient."""

    @classmethod
    def make(cls, n: int, random: np.random.Generator) -> Planes:
        """Random ones. The mean of the slopes is taken away: else half of the functions would have no minimum."""
        A = random.normal(size=(n, 10, 5))
        A -= A.mean(axis=1, keepdims=True)
        c, start = random.normal(size=(n, 10)), 3 * random.normal(size=(n, 5))
        found = [cls._solve(*one) for one in zip(A, c, strict=True)]
        least, solution = (np.array(part) for part in zip(*found, strict=True))
        return cls(A, c, start, least, np.linalg.norm(start - solution, axis=1), np.linalg.norm(A, axis=2).max(axis=1))

    @staticmethod
    def _solve(A: np.ndarray, c: np.ndarray) -> tuple[float, np.ndarray]:
        """The least value and where it is, by a linear program in the point and a bound on the function."""
        cost = np.append(np.zeros(A.shape[1]), 1.0)
        constraints = np.column_stack([A, -np.ones(len(A))])
        found = optimize.linprog(cost, A_ub=constraints, b_ub=-c, bounds=[(None, None)] * len(cost))
        return float(found.fun), found.x[:-1]

    def gaps(self, values: Float[np.ndarray, " T"]) -> Float[np.ndarray, " n"]:
        r"""The excess of the iterate :math:`x_T` with the steps `values`, as shares of the bound :math:`D G / \sqrt T`.

        The steps are in units of :math:`D / (G \sqrt T)`. The last one leads away from that iterate, and is not made.
        """
        return np.asarray(_gaps(tuple(map(jnp.asarray, self)), jnp.asarray(values)))


@jax.jit
def _gaps(planes: tuple[Array, ...], values: Array) -> Array:
    T = len(values)

    def one(A: Array, c: Array, x: Array, least: Array, distance: Array, slope: Array) -> Array:
        unit = distance / (slope * jnp.sqrt(T))

        def step(x: Array, value: Array) -> tuple[Array, None]:
            return x - unit * value * A[jnp.argmax(A @ x + c)], None

        x, _ = jax.lax.scan(step, x, values[:-1])
        return (jnp.max(A @ x + c) - least) * jnp.sqrt(T) / (distance * slope)

    return jax.vmap(one)(*planes)
