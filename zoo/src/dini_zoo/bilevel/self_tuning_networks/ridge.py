r"""Ridge regression, where best responses are known: the structure of the layers, and how near a linear one comes.

.. math:: f(\lambda, w) = \tfrac12 \|X w - t\|^2 + \tfrac n2 e^\lambda \|w\|^2, \qquad
          w^\star(\lambda) = V \operatorname{diag}(\sigma(2 \log s_i - \log n - \lambda)) \, V^\top w_{\text{OLS}},

with :math:`X = U \operatorname{diag}(s) V^\top`: hidden units that are gated by a sigmoid of the hyperparameter.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float
from scipy.optimize import minimize_scalar

import dini

from .method import STN
from .space import Hyper, HyperSpace


class Task(NamedTuple):
    """Points to learn from, and to validate."""

    X: Float[Array, "n p"]
    t: Float[Array, " n"]
    X_val: Float[Array, "m p"]
    t_val: Float[Array, " m"]


def training(w: Array, lam: Array, task: Task) -> Array:
    """:math:`f`."""
    return 0.5 * jnp.sum((task.X @ w - task.t) ** 2) + 0.5 * len(task.t) * jnp.exp(lam) * jnp.sum(w**2)


def validation(w: Array, task: Task) -> Array:
    """:math:`F`."""
    return 0.5 * jnp.mean((task.X_val @ w - task.t_val) ** 2)


def best_response(lam: Any, task: Task) -> Float[Array, " p"]:
    """The solution, by the singular value decomposition."""
    U, s, Vt = jnp.linalg.svd(task.X, full_matrices=False)
    gates = jax.nn.sigmoid(2 * jnp.log(s) - jnp.log(len(task.t)) - lam)
    return Vt.T @ (gates * (U.T @ task.t / s))


def implicit_value(lam: Any, task: Task) -> Array:
    """:math:`F(w^\\star(\\lambda))` of a solution that dini finds and differentiates."""
    found = dini.minimize(training, jnp.zeros(task.X.shape[1]), lam, task, solver=dini.Newton(tol=1e-12))
    return validation(found.x, task)


def affine_response(lam: Any, sigma: Any, task: Task) -> tuple[Float[Array, " p"], Float[Array, " p"]]:
    r"""The best response of the form :math:`a + B \epsilon` to the mean of :math:`f` over the distribution.

    .. math:: (G + q) a + q \sigma^2 B = X^\top t, \qquad
              q \sigma^2 a + (\sigma^2 G + q (\sigma^2 + \sigma^4)) B = 0,

    with :math:`G = X^\top X` and :math:`q = n e^{\lambda + \sigma^2 / 2}`.
    """
    q, s2 = len(task.t) * jnp.exp(lam + sigma**2 / 2), sigma**2
    gram = lambda v: task.X.T @ (task.X @ v)

    def system(unknown: tuple[Array, Array]) -> tuple[Array, Array]:
        a, B = unknown
        return gram(a) + q * a + q * s2 * B, q * s2 * a + s2 * gram(B) + q * (s2 + s2**2) * B

    right = (task.X.T @ task.t, jnp.zeros(task.X.shape[1]))
    return dini.linear.solve(system, right, structure="positive definite", name="the affine response")


def affine_hypergradient(lam: Any, sigma: Any, task: Task) -> Array:
    """The derivative of the validation loss through the best affine response."""
    a, B = affine_response(lam, sigma, task)
    return jax.grad(validation)(a, task) @ B


def generated() -> Task:
    """The specification's: 40 points to learn from and 200 to validate, in 20 dimensions."""
    random = np.random.default_rng(0)
    w = random.standard_normal(20) / np.sqrt(20)
    X = random.standard_normal((240, 20))
    t = X @ w + random.standard_normal(240)
    return Task(*map(jnp.asarray, (X[:40], t[:40], X[40:], t[40:])))


@dataclass(frozen=True)
class Loop:
    """One training by alternating steps."""

    start: float
    tuned: bool
    """Whether the deviation was."""
    path: Float[np.ndarray, " cycles"]
    value: float
    r""":math:`F` at the solution for the mean of the last sixth of the steps."""

    @property
    def found(self) -> float:
        """That mean."""
        return float(np.mean(self.path[-(len(self.path) // 6 or 1) :]))


@dataclass(frozen=True)
class Ridge:
    """The exact optimum, and what loops find."""

    best: float
    value: float
    slopes: dict[float, tuple[float, float]]
    """At several deviations the derivative through the affine response, and dini's implicit one."""
    loops: list[Loop]


def study(key: Array, *, cycles: int, warmup: int, starts: tuple[float, ...], sigmas: tuple[float, ...]) -> Ridge:
    """Find the optimum exactly, and by alternating steps with the deviation fixed and tuned."""
    task = generated()
    exact = jax.jit(lambda lam: validation(best_response(lam, task), task))
    optimum = minimize_scalar(lambda lam: float(exact(lam)), bounds=(-5, 5), method="bounded", options={"xatol": 1e-10})
    implicit = float(jax.jit(jax.grad(implicit_value))(0.0, task))
    affine = jax.jit(jax.vmap(lambda sigma: affine_hypergradient(0.0, sigma, task)))(jnp.asarray(sigmas))
    loops = []
    for tuned in (False, True):
        program = jax.jit(partial(_loop, task, tuned=tuned, cycles=cycles, warmup=warmup))
        for i, start in enumerate(starts):
            path = np.asarray(program(jnp.asarray(start), jax.random.fold_in(key, 2 * i + tuned)))
            one = Loop(start, tuned, path, 0.0)
            loops.append(Loop(start, tuned, path, float(exact(one.found))))
    slopes = {sigma: (float(slope), implicit) for sigma, slope in zip(sigmas, affine, strict=True)}
    return Ridge(float(optimum.x), float(optimum.fun), slopes, loops)


def _loop(task: Task, start: Array, key: Array, *, tuned: bool, cycles: int, warmup: int) -> Array:
    """The course of the hyperparameter."""
    space = HyperSpace([Hyper("penalty", 0.0)])
    p, n = task.X.shape[1], len(task.t)
    responses = lambda model, numbers: model[0] + numbers * model[1]

    def train(model: Any, numbers: Array, hypers: dict[str, Array], batch: Any, key: Array) -> Array:
        each = jax.vmap(lambda w, lam: training(w, lam, task))
        return jnp.mean(each(responses(model, numbers), hypers["penalty"])) / n

    def valid(model: Any, numbers: Array, batch: Any) -> Array:
        return jnp.mean(jax.vmap(lambda w: validation(w, task))(responses(model, numbers)))

    model = (jnp.zeros(p), jnp.zeros(p))
    stn = STN(model, train, valid, space, optax.sgd(0.1), optax.adam(0.01), 32, train_steps=3, tune_deviation=tuned)
    hyper = space.init(0.2)
    state = stn.init(model, hyper._replace(center=hyper.center + start))
    watch = lambda state: state.hyper.center[0]
    nothing = lambda key: None
    return stn.run(state, nothing, nothing, key, cycles=cycles, warmup=warmup, every=1, watch=watch).watched
