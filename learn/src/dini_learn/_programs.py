r"""The compiled programs: fits on folds, their held-out losses, and the derivatives of these in every penalty.

Each solves, for a fit with weights :math:`a_i` of the samples,

.. math:: x(\lambda, \mu) = \arg\min_x \sum_i a_i\, \ell(x^\top \tilde X_i, y_i) + \sum_j \lambda_j |x_j|
          + \tfrac12 \sum_j \mu_j x_j^2, \qquad h = \sum_i b_i\, \ell(x^\top \tilde X_i, y_i),

with other weights :math:`b_i` of the samples held out. ``strengths`` are the logarithms of :math:`\lambda` and
:math:`\mu`, minus infinity where there is no penalty, and derivatives are those in the logarithms. The first column of
:math:`\tilde X` is that of the intercept. JAX knows a program by the shapes of what it is given: nothing else makes a
new one.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp

import dini

from ._data import Fits

#: from so many numbers on, in all fits together, fits are solved one after the other, and memory is that of one
_LARGE = 50_000
#: the relative residual of a fit: derivatives of the criterion are to be good beside differences
_ACCURACY = 1e-9


def _multinomial(z: Any, y: Any, setting: Any) -> Any:
    del setting
    return jax.nn.logsumexp(z, axis=-1) - jnp.sum(y * z, axis=-1)


#: each of the losses, ``fun(z, y, setting)``: one number a sample, of ``z`` of shape ``(n,)``, or ``(n, classes)``
_LOSSES: dict[str, Any] = {
    "squared": lambda z, y, _: 0.5 * (z - y) ** 2,
    "logistic": lambda z, y, _: jnp.logaddexp(0.0, z) - y * z,
    "multinomial": _multinomial,
    # half of the deviance; the last setting is a level of the predictor
    "poisson": lambda z, y, s: jnp.exp(z + s[1]) - y * (z + s[1]) - y + jax.scipy.special.xlogy(y, y),
    "squared_hinge": lambda z, y, _: jnp.maximum(1.0 - y * z, 0.0) ** 2,
    "squared_epsilon_insensitive": lambda z, y, s: jnp.maximum(jnp.abs(z - y) - s[1], 0.0) ** 2,
    "pinball": lambda z, y, s: (s[0] - 1.0) * (y - z) + s[1] * jax.nn.softplus((y - z) / s[1]),
}


def _each(one: Any, size: int, *fits: Any) -> Any:
    """Return ``one(*fit)`` of each fit: side by side where they are small, one after the other where not."""
    if size <= _LARGE:
        return jax.vmap(one)(*fits)
    return jax.lax.map(lambda fit: one(*fit), fits)


def _penalty(kind: str, strengths: Any, groups: Any) -> Any:
    """Return dini's penalty; with a ridge alone the problem is smooth, and is solved as one."""
    l1, l2 = map(jnp.exp, strengths)
    if kind == "l2":
        return dini.penalties.Ridge(l2)
    if kind == "group":
        return _group_penalty(l1, groups)
    return dini.penalties.ElasticNet(l1, l2 / jnp.where(l1 > 0, l1, 1.0))


def _group_penalty(l1: Any, groups: Any) -> Any:
    r"""Return :math:`\sum_g \lambda_g \|x_g\|`, with the group of each row of ``x`` and :math:`\lambda` of each row."""

    def norms(x: Any) -> Any:
        squares = jnp.sum((x * x).reshape(len(x), -1), axis=1)
        total = jax.ops.segment_sum(squares, groups, len(x))[groups]
        return jnp.where(total > 0, jnp.sqrt(jnp.where(total > 0, total, 1.0)), 0.0).reshape(-1, *[1] * (x.ndim - 1))

    def value(x: Any) -> Any:
        size = norms(x)
        return jnp.sum(jnp.where(size > 0, l1 * x * x / jnp.where(size > 0, size, 1.0), 0.0))

    def prox(x: Any, step: Any) -> Any:
        size = norms(x)
        kept = size > step * l1
        return x * jnp.where(kept, 1 - step * l1 / jnp.where(kept, size, 1.0), 0.0)

    def kink(x: Any, step: Any) -> Any:
        return jnp.min(jnp.where(l1 > 0, jnp.abs(norms(x) - step * l1), jnp.inf))

    return dini.penalties.Custom(value, prox, kink)


def _solver(kind: str) -> Any:
    """Return dini's solver for a kind of penalty."""
    if kind == "group":
        return dini.ProximalGradient(rtol=_ACCURACY, max_steps=20_000)
    return dini.ProximalNewton(largest=2048, rtol=_ACCURACY)


def _judged(problem: Any, held: Any, strengths: Any, x0: Any, args: tuple[Any, ...], certify: bool, kind: str) -> Fits:
    """Solve one fit, and differentiate its held-out loss by the adjoint of its optimality condition."""
    start = dini.solve(problem(strengths), _solver(kind), x0, *args, on_failure="ignore")
    x = jax.lax.stop_gradient(start.x)
    # the point is given: one that is no solution, or has no derivative, is marked in the gradient and not in the point
    found = dini.bilevel.value_and_hypergradient(
        held,
        problem,
        strengths,
        x,
        inner_args=args,
        solver=_handed_in,
        certify=certify,
        on_failure="nan",
    )
    status = found.solution.status
    solved = (status == dini.Status.CONVERGED) | (status == dini.Status.STOPPED)
    error = found.certificate.error if certify else jnp.full((), jnp.nan)
    return Fits(held(x, strengths), found.gradient, x, solved, error)


def _handed_in(problem: Any, init: Any, *args: Any) -> Any:
    """Return the point itself, as a solver that dini then tests."""
    del problem, args
    return init


def _total(name: str) -> Any:
    """Return a weighted loss of the predictors ``z``."""
    fun = _LOSSES[name]
    return lambda z, y, weights, setting: jnp.sum(weights * fun(z, y, setting))


def _linear_loss(name: str) -> Any:
    """Return the loss as a solver sees it: through the design matrix, and one row more for what is no sample's."""
    loss = _total(name)

    def total(z: Any, x: Any, X: Any, y: Any, weights: Any, setting: Any) -> Any:
        del x, X
        value = loss(z[:-1], y, weights, setting)
        # a constant that is added to all intercepts changes no probability: their sum is zero
        return value + 0.5 * jnp.sum(z[-1]) ** 2 if name == "multinomial" else value

    def matrix(X: Any, y: Any, weights: Any, setting: Any) -> Any:
        del y, weights, setting
        row = jnp.zeros((1, X.shape[1]), X.dtype)
        if name == "multinomial":
            row = row.at[0, 0].set(1.0)
        return jnp.concatenate([X, row]).T

    return dini.LinearComposite(total, matrix)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def linear_fits(
    name: str,
    kind: str,
    certify: bool,
    strengths: Any,
    x0: Any,
    train: Any,
    held: Any,
    X: Any,
    y: Any,
    setting: Any,
    groups: Any,
    units: Any,
    centers: Any,
) -> Fits:
    """Return fits of a loss by its name, on the design matrix, whose columns are first taken from centers, and divided.

    Each fit has units and centers of its own.
    """
    total, objective = _total(name), _linear_loss(name)
    table = X

    def one(strengths: Any, x0: Any, train: Any, held: Any, units: Any, center: Any) -> Fits:
        X = (table - table[:, :1] * center) / units
        problem = lambda s: dini.Minimize(objective, penalty=_penalty(kind, s, groups))
        outer = lambda x, s: total(X @ x, y, held, setting)
        return _judged(problem, outer, strengths, x0, (X, y, train, setting), certify, kind)

    return _each(one, X.size * len(train), strengths, x0, train, held, units, centers)


@functools.partial(jax.jit, static_argnums=(0, 1))
def ridge_fits(
    criterion: str,
    dual: bool,
    strengths: Any,
    train: Any,
    held: Any,
    X: Any,
    y: Any,
    noise: Any,
    repeated: Any,
    intercept: Any,
) -> Fits:
    """Return two entries for each fit: the criterion in closed form on its own samples, and its held-out loss.

    With ``dual``, by matrices of the number of samples. With ``repeated``, weights say how often each is there. Where
    the criterion is ``"cv"`` the first entry is that loss.
    """
    smoother = _dual_smoother if dual else _primal_smoother

    def one(strengths: Any, train: Any, held: Any) -> Fits:
        def value(strengths: Any) -> Any:
            residual, rest, x = smoother(jnp.exp(strengths[1]), train, X, y, intercept)
            total = jnp.sum(train)
            away = jnp.sum(0.5 * held * (X @ x - y) ** 2)
            if criterion == "loo":
                own = 0.5 * jnp.sum((residual / rest) ** 2) / total
            elif criterion == "sure":
                own = 0.5 * (jnp.sum(residual**2) / total - noise**2)
                count = jnp.where(repeated, total, jnp.sum(train > 0))
                own = own + noise**2 * jnp.sum(jnp.where(train > 0, 1 - rest, 0.0)) / count
            else:
                own = away
            return own, (away, x)

        (own, (away, x)), gradient = jax.value_and_grad(value, has_aux=True)(strengths)
        still = jax.tree.map(jnp.zeros_like, gradient)
        two = lambda a, b: jnp.stack([a, b])
        solved = jnp.all(jnp.isfinite(x))
        return Fits(
            two(own, away), jax.tree.map(two, gradient, still), two(x, x), two(solved, solved), jnp.full(2, jnp.nan)
        )

    fits = _each(one, X.size * len(train), strengths, train, held)
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), fits)


def _inverse(matrix: Any) -> Any:
    """Return the inverse of a positive definite matrix, whose derivative are products and no further solves."""
    fixed = jax.lax.stop_gradient(matrix)
    inverse = jax.scipy.linalg.cho_solve((jnp.linalg.cholesky(fixed), True), jnp.eye(len(matrix), dtype=matrix.dtype))
    return inverse - inverse @ (matrix - fixed) @ inverse


def _primal_smoother(l2: Any, weights: Any, X: Any, y: Any, intercept: Any) -> tuple[Any, Any, Any]:
    """Return a ridge fit's weighted residual, the diagonal of one minus its smoother, and the coefficients."""
    del intercept
    root = jnp.sqrt(weights)
    scaled = root[:, None] * X
    inverse = _inverse(scaled.T @ scaled + jnp.diag(l2))
    x = inverse @ (scaled.T @ (root * y))
    return root * (y - X @ x), 1 - jnp.sum((scaled @ inverse) * scaled, axis=1), x


def _dual_smoother(l2: Any, weights: Any, X: Any, y: Any, intercept: Any) -> tuple[Any, Any, Any]:
    r"""Return the same by the samples: with :math:`s = \sqrt a`, :math:`R = (I + s X M^{-1} X^\top s)^{-1}`.

    The intercept takes the direction of ``s`` out of what is left: :math:`I - S = R - R s s^\top R / (s^\top R s)`.
    """
    root = jnp.sqrt(weights)
    rest = X[:, 1:]
    scaled = root[:, None] * rest
    matrix = jnp.eye(len(y), dtype=X.dtype) + (scaled / l2[None, 1:]) @ scaled.T
    inverse = _inverse(matrix)
    along = inverse @ root
    size = jnp.where(intercept > 0, root @ along, 1.0)
    level = intercept * (along @ (root * y)) / size
    residual = inverse @ (root * (y - level))
    x = (scaled.T @ residual) / l2[1:]
    return residual, jnp.diagonal(inverse) - intercept * along**2 / size, jnp.append(level, x)


def compilations() -> int:
    """Return how many programs have been compiled in this process."""
    return sum(f._cache_size() for f in (linear_fits, ridge_fits))
