"""Criteria by which hyperparameters are chosen: cross-validation, and what is known in closed form."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .. import trees
from ..checks.settings import positive, require_all_positive, require_count, require_number
from ..defaults import Default
from ..differentiation import Differentiation, Implicit
from ..differentiation._guards import mark, times
from ..entry import as_solver
from ..explanations import explained
from ..functions import as_function
from ..problems._base import Problem
from ..reports import without_tangent
from ..solution import failure
from ..solvers import Solver
from ..status import OnFailure, Status, check_on_failure, guard
from ..trees import Tree, describe
from ..trees.products import dot
from ._checks import check_outer, require_real
from ._hypergradient import Task

_IMPLICIT, _DEFAULT = Implicit(), Default()


@explained
def k_fold(
    loss: Callable[..., Any],
    inner: Any,
    theta: Tree,
    x: Tree,
    data: Tree,
    *,
    folds: int = 5,
    solver: Solver | Callable[..., Any] | None = None,
    differentiation: Differentiation = _IMPLICIT,
    on_failure: OnFailure = "raise",
) -> jax.Array:
    r"""Return the mean loss of cross-validation, a differentiable function of hyperparameters.

    .. math:: h(\theta) = \frac1n \sum_{k=1}^K |V_k|\, \ell(x_k(\theta), \theta, V_k), \qquad
              x_k(\theta) \text{ solves the inner problem on all samples but } V_k .

    The samples are split in their order into ``folds`` parts, whose sizes differ by one at most; shuffle them before if
    their order means something. Folds of one size are fitted in one ``vmap``.

    Parameters
    ----------
    loss
        ``loss(x, theta, samples)``: the mean over the samples, one real number.
    inner
        A problem of dini's whose functions take ``(x, theta, samples)``, or a function of ``theta`` that returns one
        whose functions take ``(x, samples)``.
    theta
        The hyperparameters.
    x
        Where the solver starts in each fold.
    data
        A tree of arrays with a leading axis of the samples.
    folds
        :math:`K \ge 2`.
    solver, differentiation, on_failure
        As in :func:`dini.solve`: by default a fold that fails raises. Where nothing is raised, the value and its
        derivative are NaN, but with ``"ignore"``.

    Returns
    -------
    jax.Array
        One number.

    Raises
    ------
    SolveError
        If a fold was not solved (under ``jit``, JAX wraps it in its own exception; under ``vmap`` the lane is NaN).
    TypeError, ValueError
        For data without one leading axis, fewer samples than folds, a loss that is not one real number, and an
        ``inner`` that returns no problem.

    Examples
    --------
    >>> import dini, jax, jax.numpy as jnp
    >>> X, y = jnp.eye(6), jnp.ones(6)
    >>> mean = lambda w, t, d: jnp.mean((d - w) ** 2) + jnp.exp(t) * w**2
    >>> loss = lambda w, t, d: jnp.mean((d - w) ** 2)
    >>> score = lambda t: dini.bilevel.k_fold(loss, dini.Minimize(mean), t, 0.0, jnp.arange(6.0), folds=3)
    >>> print(score(-9.0).round(3), jax.grad(score)(-9.0).round(4))
    6.25 -0.0005
    """
    require_count("k_fold's folds", folds, 2)
    check_on_failure(on_failure)
    theta, x = require_real("theta", theta), require_real("x", x)
    lengths = {np.shape(leaf)[:1] for leaf in jax.tree.leaves(data)}
    if len(lengths) != 1 or lengths == {()}:
        given = trees.describe(data)
        raise TypeError(f"k_fold's data must be arrays with one leading axis, that of the samples: given {given}.")
    (samples,) = lengths.pop()
    if samples < folds:
        raise ValueError(f"k_fold needs a sample for each fold: given {samples} samples and folds={folds}.")
    chosen = _DEFAULT if solver is None else as_solver(solver)
    loss = as_function(loss, "loss")
    policy: Any = "ignore" if on_failure == "ignore" else "nan"

    def fold(left: Any, kept: Any) -> Any:
        pick = lambda rows: jax.tree.map(lambda leaf: jnp.asarray(leaf)[rows], data)
        task = Task(loss, inner, chosen, differentiation, (pick(left),), (pick(kept),))
        solution = task.solved(theta, x, policy)
        check_outer("loss", loss, solution.x, theta, *task.outer_args)
        return times(mark(solution.status, policy), task.value(solution.x, theta)), solution.figures

    parts = np.array_split(np.arange(samples), folds)
    total: Any = 0.0
    ended = []
    for size in sorted({part.size for part in parts}):
        left = np.stack([part for part in parts if part.size == size])
        kept = np.stack([np.setdiff1d(np.arange(samples), rows) for rows in left])
        values, figures = jax.vmap(fold)(left, kept)
        total = total + size * jnp.sum(values)
        ended.append(without_tangent(figures))
    # in the vmap of the folds a failure is only marked: it is reported here
    figures = jnp.concatenate(ended)
    failed = (figures[:, 0] != Status.CONVERGED) & (figures[:, 0] != Status.STOPPED)
    name = f"In one of k_fold's folds, {inner.name if isinstance(inner, Problem) else 'the inner problem'}"
    report = lambda first: failure(first, problem=name, solver=chosen.name)
    return guard(total / samples, jnp.any(failed), report, (figures[jnp.argmax(failed)],), on_failure)


def _smoother(X: Any, y: Any, penalty: Any, noise: Any = 0.0) -> tuple[Any, Any, Any, Any]:
    r"""Return the residual :math:`y - S y` of a ridge regression, the diagonal of ``I - S``, its rounding, the noise.

    All are of one floating-point type, that of the four arguments together.
    """
    require_all_positive("penalty", penalty, or_zero=True)
    given = [jnp.asarray(array) if isinstance(array, list | tuple) else array for array in (X, y, penalty, noise)]
    dtype = jnp.result_type(*given, 0.0)
    X, y, penalty, noise = (jnp.asarray(array, dtype) for array in given)
    penalty = positive(penalty, or_zero=True)
    if X.ndim != 2 or y.shape != X.shape[:1] or penalty.shape not in ((), X.shape[1:]):
        raise ValueError(
            "The criteria of a ridge regression take X of shape (n, p), y of shape (n,) and penalty of shape () or "
            f"(p,): given {X.shape}, {y.shape} and {penalty.shape}."
        )
    penalty = jnp.broadcast_to(penalty, X.shape[1:])
    eps = jnp.finfo(dtype).eps
    if X.shape[1] < X.shape[0]:
        factor = jnp.linalg.cholesky(dot(X.T, X) + jnp.diag(penalty))
        half = jax.scipy.linalg.solve_triangular(factor, X.T, lower=True)
        # what is left of one minus one is rounding
        return y - dot(half.T, dot(half, y)), 1 - jnp.sum(half**2, axis=0), 4 * y.size * eps, noise
    # by the dual: I - S = (I + X P^-1 X^T)^-1, small numbers that are no differences of large ones
    matrix = jnp.eye(X.shape[0], dtype=dtype) + dot(X / penalty[None], X.T)
    inverse = jax.scipy.linalg.cho_solve((jnp.linalg.cholesky(matrix), True), jnp.eye(X.shape[0], dtype=dtype))
    rest = jnp.diagonal(inverse)
    # an inverse is off by the unit roundoff times the matrix' norm times the square of its own
    return dot(inverse, y), rest, 4 * y.size * eps * jnp.max(jnp.diagonal(matrix)) * jnp.max(rest) ** 2, noise


def leave_one_out(X: Any, y: Any, penalty: Any) -> jax.Array:
    r"""Return the mean squared error of leave-one-out cross-validation of a ridge regression, in closed form.

    The regression minimizes :math:`\tfrac12 \|X w - y\|^2 + \tfrac12 \sum_j \lambda_j w_j^2`. Its fit is :math:`S y`
    with :math:`S = X (X^\top X + \Lambda)^{-1} X^\top`, and without sample ``i`` its error there is :math:`(y_i - (S
    y)_i) / (1 - S_{ii})`. So

    .. math:: h(\lambda) = \frac1n \sum_i \Bigl(\frac{y_i - (S y)_i}{1 - S_{ii}}\Bigr)^2 .

    Parameters
    ----------
    X
        Of shape ``(n, p)``.
    y
        Of shape ``(n,)``.
    penalty
        :math:`\lambda`, a number or of shape ``(p,)``; positive: pass ``jnp.exp(theta)``. (Where there are fewer
        columns than samples, some may be zero.)

    Returns
    -------
    jax.Array
        One number, a differentiable function of all three; NaN where the fit interpolates a sample, the penalty is so
        small that the matrix is singular, or a traced one is negative.

    Raises
    ------
    ValueError
        For shapes that do not fit, and a negative penalty.

    References
    ----------
    Allen, "The relationship between variable selection and data augmentation and a method for prediction",
    Technometrics 1974.

    Examples
    --------
    >>> import dini, jax, jax.numpy as jnp
    >>> X, y = jnp.array([[1.0], [2.0], [3.0]]), jnp.array([1.0, 2.0, 4.0])
    >>> print(dini.bilevel.leave_one_out(X, y, jnp.exp(-2.0)).round(3))
    0.51
    """
    residual, rest, rounding, _ = _smoother(X, y, penalty)
    rest = jnp.where(rest > rounding, rest, jnp.nan)
    return jnp.mean((residual / rest) ** 2)


def sure(X: Any, y: Any, penalty: Any, noise: Any) -> jax.Array:
    r"""Return Stein's unbiased estimate of the risk of a ridge regression, in closed form.

    For :math:`y = \mu + \varepsilon` with noise of standard deviation :math:`\sigma`, the mean of

    .. math:: h(\lambda) = \frac1n \bigl(\|y - S y\|^2 - n \sigma^2 + 2 \sigma^2 \operatorname{tr} S\bigr)

    is the mean of :math:`\tfrac1n \|S y - \mu\|^2`, with ``S`` as in :func:`leave_one_out`.

    Parameters
    ----------
    X, y, penalty
        As in :func:`leave_one_out`.
    noise
        :math:`\sigma`.

    Returns
    -------
    jax.Array
        One number, a differentiable function of all four; NaN where a traced penalty is negative.

    Raises
    ------
    ValueError
        For shapes that do not fit, and a negative penalty.

    References
    ----------
    Stein, "Estimation of the mean of a multivariate normal distribution", Annals of Statistics 1981.

    Examples
    --------
    >>> import dini, jax.numpy as jnp
    >>> X, y = jnp.array([[1.0], [2.0], [3.0]]), jnp.array([1.0, 2.0, 4.0])
    >>> print(dini.bilevel.sure(X, y, 1.0, 0.5).round(3))
    0.055
    """
    residual, rest, _, noise = _smoother(X, y, penalty, noise)
    return jnp.mean(residual**2) - noise**2 + 2 * noise**2 * jnp.mean(1 - rest)


@explained
def monte_carlo_sure(
    fit: Callable[..., Any], y: Any, noise: Any, key: jax.Array, *, step: Any = None, samples: int = 1
) -> jax.Array:
    r"""Return Stein's unbiased estimate of the risk of any fit, its degrees of freedom by random differences.

    For :math:`y = \mu + \varepsilon` with noise of standard deviation :math:`\sigma`, and a fit :math:`\hat\mu(y)`
    (that of the Lasso, of a denoiser, of a network),

    .. math::
        h = \frac1n \Bigl(\|y - \hat\mu(y)\|^2 - n \sigma^2 + 2 \sigma^2 \frac1K \sum_{k=1}^K
        \Bigl\langle \delta_k, \frac{\hat\mu(y + \epsilon \delta_k) - \hat\mu(y)}{\epsilon} \Bigr\rangle\Bigr),
        \qquad \delta_k \sim N(0, I).

    The number of active features of a Lasso, its degrees of freedom, is constant almost everywhere in the strength of
    the penalty, and the derivative of :math:`\|y - \hat\mu\|^2` alone is misleading. The mean of this estimate, and of
    its derivative, is the risk at a noise whose variance is larger by :math:`\epsilon^2` in the degrees of freedom: a
    small step has less bias, and a derivative of larger variance.

    Parameters
    ----------
    fit
        ``fit(y)``, an array of the shape of ``y``; differentiable in what it closes over (solve in it with dini).
    y
        The observations.
    noise
        :math:`\sigma`.
    key
        A key of random numbers; one key gives a smooth function of the hyperparameters.
    step
        :math:`\epsilon`; by default :math:`2 \sigma / n^{0.3}`, as the reference has it.
    samples
        :math:`K`.

    Returns
    -------
    jax.Array
        One number.

    Raises
    ------
    TypeError, ValueError
        For a fit that is not of the shape of ``y``, and a noise or step that is not positive.

    References
    ----------
    Ramani, Blu, Unser, "Monte-Carlo SURE", IEEE Trans. Image Process. 2008. Deledalle, Vaiter, Fadili, Peyré, "Stein
    Unbiased GrAdient estimator of the Risk (SUGAR) for multiple parameter selection", SIAM J. Imaging Sci. 2014 (arXiv
    1405.1164).

    Examples
    --------
    >>> import dini, jax, jax.numpy as jnp
    >>> y = 3.0 * jax.random.normal(jax.random.key(0), 500)
    >>> soft = lambda t: lambda y: dini.penalties.L1(t).prox(y, 1.0)
    >>> risk = lambda t: dini.bilevel.monte_carlo_sure(soft(t), y, 1.0, jax.random.key(1), samples=4)
    >>> print(jax.grad(risk)(2.0) > 0, jax.grad(risk)(0.05) < 0)
    True True
    """
    require_count("monte_carlo_sure's samples", samples)
    for name, setting in (("noise", noise), ("step", step)):
        require_number(f"monte_carlo_sure's {name}", setting)
        require_all_positive(name, setting)
    y = jnp.asarray(y)
    if jnp.iscomplexobj(y) or not y.size:
        raise TypeError(f"monte_carlo_sure's y must be real numbers: given {describe(y)}.")
    y = y.astype(jnp.result_type(y, noise, 0.0))
    if step is None:
        step = 2 * jnp.asarray(noise, y.dtype) / y.size**0.3
    fitted = jnp.asarray(fit(y))
    if fitted.shape != y.shape:
        raise ValueError(f"fit must return an array of the shape of y: given {fitted.shape} for {y.shape}.")
    directions = jax.random.normal(key, (samples, *y.shape), y.dtype)
    moved = jax.lax.map(lambda direction: jnp.asarray(fit(y + step * direction)), directions)
    freedom = jnp.sum(directions * (moved - fitted[None])) / (samples * step)
    return jnp.mean((y - fitted) ** 2) - noise**2 + 2 * noise**2 * freedom / y.size
