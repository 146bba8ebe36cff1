"""Linear systems with quadratic costs, where gains, values and gradients are known exactly."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

import dini
from dini_zoo.kit.checking import at_least, finite, holds, known, positive

from .environments import Environment


class LinearQuadratic(eqx.Module):
    r"""A discounted linear-quadratic problem.

    .. math:: s_{t+1} = A s_t + B a_t + w_t, \quad w_t \sim \mathcal N(0, W), \qquad
              r_t = -(s_t^\top Q s_t + a_t^\top R a_t)

    and the value of a policy is `J = E Σ_{t<H} γ^t r_t`.

    Parameters
    ----------
    A, B
        The system: `(n, n)` and `(n, m)`.
    Q, R
        The costs of a state, positive semidefinite, and of an action, positive definite.
    W
        The covariance of the noise, symmetric and positive semidefinite: noise may be in some directions alone. None
        for none.
    discount
        `γ` in (0, 1].

    Raises
    ------
    ValueError
        For shapes that do not fit, entries that are not finite, a `W` that is no covariance, or a discount outside of
        (0, 1]. A `W` that is traced, and none, makes the problem NaN.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> integrator = LinearQuadratic(jnp.array([[1.0, 0.2], [0.0, 1.0]]), jnp.array([[0.0], [0.2]]),
    ...                              jnp.diag(jnp.array([1.0, 0.1])), 0.1 * jnp.eye(1), discount=0.9)
    >>> gain = riccati_gain(integrator)
    >>> bool(spectral_radius(integrator, gain) < 1)
    True
    """

    A: Float[Array, "n n"]
    B: Float[Array, "n m"]
    Q: Float[Array, "n n"]
    R: Float[Array, "m m"]
    W: Float[Array, "n n"] | None = None
    discount: float | Array = 1.0

    def __check_init__(self) -> None:
        # a transformation of trees may put anything in place of an array
        if not all(hasattr(leaf, "shape") for leaf in (self.A, self.B, self.Q, self.R)):
            return
        n, m = self.B.shape[-2:]
        for name, shape in {"A": (n, n), "Q": (n, n), "R": (m, m), "W": (n, n)}.items():
            given = getattr(self, name)
            if hasattr(given, "shape") and given.shape[-2:] != shape:
                raise ValueError(f"{name} must have the shape {shape}, as B is {(n, m)}: given {given.shape}.")
        finite("A, B, Q, R, W", (self.A, self.B, self.Q, self.R, self.W))
        if hasattr(self.W, "shape"):
            _covariance("W", self.W)
        if known(self.discount) and not np.all((np.asarray(self.discount) > 0) & (np.asarray(self.discount) <= 1)):
            raise ValueError(f"discount must be in (0, 1]: given {self.discount}.")


def _covariance(name: str, W: Any) -> None:
    """Raise `ValueError` unless matrices that are known are covariances."""
    holds(W, _is_covariance, lambda: f"{name} must be symmetric, and have no eigenvalue below zero: given {W}.")


def _is_covariance(W: Any) -> Any:
    """Whether matrices are symmetric and positive semidefinite, in the units of each element or up to rounding of all.

    The second is for what a change of basis leaves: rounding of the size that the largest element has.
    """
    numpy = np if isinstance(W, np.ndarray) else jnp
    rounding, rest = _rounding(W)[..., None], _without_rounding(W, numpy)
    even = (abs(W - W.swapaxes(-1, -2)) <= rounding[..., None]).all((-2, -1))
    variances = numpy.diagonal(rest, axis1=-2, axis2=-1)
    added = numpy.where(variances > rounding, rounding, 0)
    raised = rest + added[..., None] * numpy.eye(W.shape[-1], dtype=W.dtype)
    return _by_elements(W, numpy) | (even & _by_elements(raised, numpy))


def _by_elements(W: Any, numpy: Any) -> Any:
    """Whether matrices are symmetric and positive semidefinite, up to rounding in the units of each element."""
    allowed = 10 * W.shape[-1] * jnp.finfo(W.dtype).eps
    variances = numpy.diagonal(W, axis1=-2, axis2=-1)
    correlations = _correlations(W, numpy)
    symmetric = abs(correlations - correlations.swapaxes(-1, -2)).max((-2, -1)) <= allowed
    semidefinite = numpy.linalg.eigvalsh(correlations)[..., 0] >= -allowed
    # what does not vary does not covary
    still = (variances == 0)[..., :, None] | (variances == 0)[..., None, :]
    return (variances >= 0).all(-1) & symmetric & semidefinite & (~still | (W == 0)).all((-2, -1))


def _rounding(W: Any) -> Any:
    """What rounding of the largest element may be in any other."""
    return 10 * W.shape[-1] * jnp.finfo(W.dtype).eps * abs(W).max((-2, -1))


def _without_rounding(W: Any, numpy: Any) -> Any:
    """The symmetric part, without the elements whose variances and covariances all are rounding of larger ones.

    Rounding has a size: what is ten thousand times smaller is not rounding, but has a unit of its own.
    """
    W = (W + W.swapaxes(-1, -2)) / 2
    most = abs(W).max(-1)
    still = (most <= _rounding(W)[..., None]) & (most >= 1e-4 * jnp.finfo(W.dtype).eps * most.max(-1)[..., None])
    return numpy.where(still[..., :, None] | still[..., None, :], 0, W)


def _correlations(W: Any, numpy: Any) -> Any:
    """Covariances over the standard deviations of both elements; zero for elements that do not vary."""
    variances = numpy.diagonal(W, axis1=-2, axis2=-1)
    scales = numpy.where(variances > 0, 1 / numpy.sqrt(numpy.where(variances > 0, variances, 1)), 0)
    return scales[..., :, None] * W * scales[..., None, :]


def covariance_root(W: Float[Array, "n n"]) -> Float[Array, "n n"]:
    r"""A root `L` of a covariance, :math:`L L^\top = W`, which may be singular.

    With standard deviations `d` and correlations :math:`C = D^{-1} W D^{-1}`, :math:`D = \operatorname{diag}(d)`, it is
    `L = D S` with the symmetric root `S S = C`, so that each element counts in its own unit. With
    :math:`C = V \operatorname{diag}(\lambda) V^\top` that is
    :math:`S = V \operatorname{diag}(\sqrt{\max(\lambda, 0)}) V^\top`. Its derivative solves `S dS + dS S = dC`:

    .. math:: dS = V \left[ \frac{(V^\top dC\, V)_{ij}}{\sqrt{\lambda_i} + \sqrt{\lambda_j}} \right] V^\top .

    Eigenvalues of `C` below `10 n ε` count as zero. Where `W` is a covariance only up to rounding of its largest
    element, as after a change of basis, elements that are no more than that do not vary. The derivative is that along
    covariances of the same rank. In directions that raise the rank there is none (the root of a number has none at
    zero), and zero is returned: to learn whether there is noise at all, differentiate :func:`expected_return`, which
    needs no root.

    Raises
    ------
    ValueError
        For a matrix that is not square, not finite, not symmetric or has a negative eigenvalue, beyond rounding. The
        root of one that is traced is NaN.

    Examples
    --------
    >>> print(covariance_root(jnp.diag(jnp.array([4.0, 0.0]))))
    [[2. 0.]
     [0. 0.]]
    """
    finite("W", W)
    _covariance("W", W)
    W = jnp.where(_by_elements(W, jnp), W, _without_rounding(W, jnp))
    variances = jnp.diagonal(W)
    deviations = jnp.where(variances > 0, jnp.sqrt(jnp.where(variances > 0, variances, 1)), 0)
    return deviations[:, None] * _symmetric_root(_correlations(W, jnp))


@jax.custom_jvp
def _symmetric_root(C: Array) -> Array:
    roots, V = _roots(C)
    return (V * roots) @ V.T


def _roots(C: Array) -> tuple[Array, Array]:
    """Roots of the eigenvalues, and the eigenvectors."""
    values, V = jnp.linalg.eigh(C)
    zero = values <= 10 * len(C) * jnp.finfo(C.dtype).eps
    return jnp.where(zero, 0, jnp.sqrt(jnp.where(zero, 1, values))), V


@_symmetric_root.defjvp
def _symmetric_root_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (C,), (dC,) = primals, tangents
    roots, V = _roots(C)
    sums = roots[:, None] + roots
    inner = V.T @ dC @ V / jnp.where(sums > 0, sums, 1)
    return (V * roots) @ V.T, V @ jnp.where(sums > 0, inner, 0) @ V.T


def riccati_map(problem: LinearQuadratic, P: Float[Array, "n n"]) -> Float[Array, "n n"]:
    r"""One step of value iteration on the matrix of the cost to go, whose fixed point is the optimum.

    .. math:: P \mapsto Q + \gamma A^\top P A
              - \gamma A^\top P B\, (R + \gamma B^\top P B)^{-1}\, \gamma B^\top P A
    """
    A, B = problem.A, problem.B
    return problem.Q + problem.discount * A.T @ P @ (A - B @ _gain(problem, P))


def _gain(problem: LinearQuadratic, P: Array) -> Array:
    """The best gain before a cost to go."""
    A, B, discount = problem.A, problem.B, problem.discount
    return jnp.linalg.solve(problem.R + discount * B.T @ P @ B, discount * B.T @ P @ A)


def riccati_gain(problem: LinearQuadratic, **options: Any) -> Float[Array, "m n"]:
    """The gain `K` of the best policy `a = -K s` without a horizon, by :func:`dini.fixed_point`.

    It can be differentiated in all that the problem holds. The solver is plain iteration, which from `P = Q` on is
    value iteration, and rises to the cost to go or without end: an accelerated one finds other fixed points of the map,
    which are no costs. `options` are those of :func:`dini.fixed_point`. A system that no gain can steady (at its
    discount) raises :class:`dini.SolveError`.
    """
    # what a steady loop still adds is as good as its rounding
    tol = 10 * float(jnp.finfo(problem.Q.dtype).eps)
    options = {"solver": dini.FixedPointIteration(tol=tol, max_steps=20_000)} | options
    solved = dini.fixed_point(lambda P, problem: riccati_map(problem, P), problem.Q, problem, **options)
    return _gain(problem, solved.x)


def spectral_radius(problem: LinearQuadratic, K: Any) -> Float[Array, ""]:
    """The largest modulus of an eigenvalue of `A - B K`: below one the loop is steady."""
    return jnp.max(jnp.abs(jnp.linalg.eigvals(problem.A - problem.B @ K)))


def expected_return(
    problem: LinearQuadratic,
    K: Float[Array, "m n"],
    second_moment: Float[Array, "n n"],
    horizon: int,
    *,
    variance: float | Array = 0.0,
) -> Float[Array, ""]:
    r"""The exact value of the policy `a = -K s + ξ`, `ξ ~ N(0, σ² I)`, by the recursion of the second moments.

    .. math:: J = -\sum_{t<H} \gamma^t \left[ \operatorname{tr}((Q + K^\top R K) S_t) + \sigma^2 \operatorname{tr} R
              \right], \qquad S_{t+1} = (A - BK) S_t (A - BK)^\top + \sigma^2 B B^\top + W

    JAX differentiates it: the exact gradient and Hessian of a policy's value.

    Parameters
    ----------
    problem, K
        The problem and the gain.
    second_moment
        `S_0`, `E s_0 s_0^T`; of one start, `s s^T`.
    horizon
        `H`.
    variance
        `σ²`.

    Raises
    ------
    ValueError
        For a horizon below one.
    """
    at_least("horizon", horizon, 1)
    loop = problem.A - problem.B @ K
    cost = problem.Q + K.T @ problem.R @ K
    noise = variance * problem.B @ problem.B.T + (0.0 if problem.W is None else problem.W)

    def one(S: Any, t: Any) -> tuple[Any, Array]:
        paid = jnp.trace(cost @ S) + variance * jnp.trace(problem.R)
        return loop @ S @ loop.T + noise, problem.discount**t * paid

    return -jnp.sum(jax.lax.scan(one, jnp.asarray(second_moment, loop.dtype), jnp.arange(horizon))[1])


def environment(
    problem: LinearQuadratic, start: Callable[[Any], Array], horizon: int, *, bound: float | None = None
) -> Environment:
    """The problem as an environment, whose states are seen as they are, and which never ends but by its clock.

    The noise of a step is `L ξ` with the root `L` of its covariance (:func:`covariance_root`) and `ξ ~ N(0, I)`.

    Parameters
    ----------
    problem
        The problem.
    start
        Draws a state: `start(key)`.
    horizon
        The steps of an episode.
    bound
        Actions are clipped to `[-bound, bound]` before they are paid for; None for none.

    Raises
    ------
    ValueError
        For a horizon below one, and a bound that is not positive.
    """
    at_least("horizon", horizon, 1)
    if bound is not None:
        positive("bound", bound)
    n, m = problem.B.shape
    root = None if problem.W is None else covariance_root(problem.W)

    def reset(key: Any) -> tuple[Array, Array]:
        state = start(key)
        return state, state

    def step(key: Any, state: Array, action: Array) -> tuple[Array, Array, Array, Array]:
        if bound is not None:
            action = jnp.clip(action, -bound, bound)
        reward = -(state @ problem.Q @ state + action @ problem.R @ action)
        after = problem.A @ state + problem.B @ action
        if root is not None:
            after = after + root @ jax.random.normal(key, (n,), after.dtype)
        return after, after, reward, jnp.zeros((), bool)

    return Environment(reset, step, horizon=horizon, observations=n, actions=m, bound=bound)


def double_integrator(
    dimension: int = 1,
    *,
    step: float = 0.2,
    position_cost: float = 1.0,
    velocity_cost: float = 0.1,
    action_cost: float = 0.1,
    noise: float = 0.0,
    discount: float = 1.0,
) -> LinearQuadratic:
    r"""Masses that are accelerated, `s = (x, v)`: `x' = x + dt v`, `v' = v + dt a`, in several dimensions.

    Parameters
    ----------
    dimension
        Of the space.
    step
        `dt`.
    position_cost, velocity_cost, action_cost
        What `|x|²`, `|v|²` and `|a|²` cost.
    noise
        The variance of what is added to each entry of the state in a step.
    discount
        `γ`.
    """
    at_least("dimension", dimension, 1)
    one = np.eye(dimension)
    zero = np.zeros((dimension, dimension))
    return LinearQuadratic(
        jnp.asarray(np.block([[one, step * one], [zero, one]])),
        jnp.asarray(np.block([[zero], [step * one]])),
        jnp.asarray(np.diag([position_cost] * dimension + [velocity_cost] * dimension)),
        jnp.asarray(action_cost * one),
        jnp.asarray(noise * np.eye(2 * dimension)) if noise else None,
        discount,
    )
