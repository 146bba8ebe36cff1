"""JAXopt's solvers of fixed points, equations and least squares."""

from __future__ import annotations

from typing import Any

import jax

from . import _families as families
from . import _residuals as residuals
from ._table import AutoOrBoolean, Function, Number, solver_class
from .linear_solve import solve_cg

_MAP = {"fixed_point_fun": "``fixed_point_fun(x, *args, **kwargs)``, a tree like ``x``."}


@solver_class(
    error=r"the norm of :math:`T(x) - x`",
    ignored="unroll",
    state="error aux num_fun_eval",
    about=_MAP,
)
class FixedPointIteration(families.FixedPoint):
    r"""Picard's iteration, :math:`x \leftarrow T(x, \theta)`, by :class:`dini.FixedPointIteration`.

    Examples
    --------
    >>> import dini_jaxopt as jaxopt, jax, jax.numpy as jnp
    >>> solver = jaxopt.FixedPointIteration(lambda x, a: 0.5 * (x + a / x))
    >>> print(solver.run(1.0, 4.0).params, jax.grad(lambda a: solver.run(1.0, a).params)(4.0))
    2.0 0.25
    """

    fixed_point_fun: Function
    maxiter: int | jax.Array = 100
    tol: Number = 1e-5
    has_aux: bool = False
    verbose: bool | int = False
    implicit_diff: bool = True
    implicit_diff_solve: Function | None = None
    jit: AutoOrBoolean = True
    unroll: AutoOrBoolean = "auto"


@solver_class(
    solver="Anderson",
    error=r"the norm of :math:`T(x) - x`",
    renamed="history_size:history beta:mixing",
    ignored="mixing_frequency ridge unroll",
    state="error aux num_fun_eval",
    about=_MAP,
)
class AndersonAcceleration(families.FixedPoint):
    r"""Anderson acceleration of :math:`x = T(x, \theta)`, by :class:`dini.Anderson`.

    Of JAXopt's it differs in that each step is accelerated, and dependent differences are left out.

    Examples
    --------
    >>> import dini_jaxopt as jaxopt, jax, jax.numpy as jnp
    >>> print(jaxopt.AndersonAcceleration(jnp.cos).run(jnp.ones(())).params.round(3))
    0.739
    """

    fixed_point_fun: Function
    history_size: int = 5
    mixing_frequency: int | None = 1
    beta: Number = 1.0
    maxiter: int | jax.Array = 100
    tol: Number = 1e-5
    ridge: Number = 1e-5
    has_aux: bool = False
    verbose: bool | int = False
    implicit_diff: bool = True
    implicit_diff_solve: Function | None = None
    jit: AutoOrBoolean = True
    unroll: AutoOrBoolean = "auto"


@solver_class(
    error="the norm of the residual",
    ignored="stepsize linesearch stop_if_linesearch_fails condition decrease_factor increase_factor max_stepsize "
    "min_stepsize gamma",
    state="error aux num_fun_eval",
    about={
        "fun": "``fun(x, *args, **kwargs)``, a tree like ``x``.",
        "history_size": "``history`` of :class:`dini.Broyden`; ``None`` for its default.",
    },
)
class Broyden(families.Equation):
    r"""Broyden's method, :math:`F(x, \theta) = 0`, by :class:`dini.Broyden`.

    Examples
    --------
    >>> import dini_jaxopt as jaxopt, jax, jax.numpy as jnp
    >>> F = lambda x, a: jnp.array([x[0] ** 2 + x[1] - a, x[0] - x[1]])
    >>> print(jaxopt.Broyden(F, tol=1e-6).run(jnp.array([1.0, 2.0]), 6.0).params.round(4))
    [2. 2.]
    """

    fun: Function
    has_aux: bool = False
    maxiter: int | jax.Array = 500
    tol: Number = 1e-3
    stepsize: Number | Function = 0.0
    linesearch: Any = "backtracking"
    stop_if_linesearch_fails: bool = False
    condition: str | None = "wolfe"
    maxls: int = 15
    decrease_factor: Number | None = 0.8
    increase_factor: Number = 1.5
    max_stepsize: Number | None = 1.0
    min_stepsize: Number = 1e-6
    history_size: int | None = None
    gamma: Number = 1.0
    implicit_diff: bool = True
    implicit_diff_solve: Function | None = None
    jit: AutoOrBoolean = True
    unroll: AutoOrBoolean = "auto"
    verbose: bool | int = False


# ---------------------------------------------------------------------------------------------------------- residuals

_RESIDUALS = {
    "residual_fun": "``residual_fun(x, *args, **kwargs)``.",
    "has_aux": "Whether ``residual_fun`` returns a pair ``(residual, aux)``.",
}


@solver_class(
    error="the length of the last step",
    ignored="unroll",
    state="residual value error gradient aux num_fun_eval",
    about=_RESIDUALS,
)
class GaussNewton(residuals.LeastSquares):
    r"""Gauss-Newton, :math:`\min_x \tfrac12 \|r(x, \theta)\|^2`, by :class:`dini.GaussNewton`.

    Steps are full, as the method has them: it may diverge, which is reported.

    Examples
    --------
    >>> import dini_jaxopt as jaxopt, jax, jax.numpy as jnp
    >>> residuals = lambda x: jnp.array([10 * (x[1] - x[0] ** 2), 1 - x[0]])
    >>> print(jaxopt.GaussNewton(residuals).run(jnp.array([-1.2, 1.0])).params.round(3))
    [1. 1.]
    """

    residual_fun: Function
    maxiter: int | jax.Array = 30
    tol: Number = 1e-5
    implicit_diff: bool = True
    implicit_diff_solve: Function | None = None
    has_aux: bool = False
    verbose: bool | int = False
    jit: AutoOrBoolean = True
    unroll: AutoOrBoolean = "auto"


@solver_class(
    renamed="damping_parameter:damping geodesic:geodesic",
    ignored="xtol jac_fun unroll",
    state="damping_factor increase_factor residual value error gradient aux num_fun_eval",
    about=_RESIDUALS
    | {
        "stop_criterion": "``'grad-l2-norm'`` for the test by ``tol``, ``'madsen-nielsen'`` for that by ``gtol``.",
        "gtol": "Another tolerance on the norm of the gradient.",
        "solver": "``'cholesky'``, ``'lu'``, ``'qr'``, ``'inv'`` or a function; dini takes Cholesky or QR, and for a "
        "function it chooses by the number of unknowns (QR for few, conjugate gradients for many).",
        "materialize_jac": "Whether to insist on a matrix.",
    },
)
class LevenbergMarquardt(residuals.Damped):
    r"""Levenberg-Marquardt, :math:`\min_x \tfrac12 \|r(x, \theta)\|^2`, by :class:`dini.LevenbergMarquardt`.

    The first damping is relative to the largest squared norm of a column of the Jacobian, and rejected trials count
    as iterations. A short step alone is not a solution, and the Jacobian is JAX's.

    Examples
    --------
    >>> import dini_jaxopt as jaxopt, jax, jax.numpy as jnp
    >>> residuals = lambda x: jnp.array([10 * (x[1] - x[0] ** 2), 1 - x[0]])
    >>> print(jaxopt.LevenbergMarquardt(residuals).run(jnp.array([-1.2, 1.0])).params.round(3))
    [1. 1.]
    """

    residual_fun: Function
    maxiter: int | jax.Array = 30
    damping_parameter: Number = 1e-6
    stop_criterion: str = "grad-l2-norm"
    tol: Number = 1e-3
    xtol: Number = 1e-3
    gtol: Number = 1e-3
    solver: Any = solve_cg
    geodesic: bool = False
    verbose: bool | int = False
    jac_fun: Function | None = None
    materialize_jac: bool = False
    implicit_diff: bool = True
    implicit_diff_solve: Function | None = None
    has_aux: bool = False
    jit: AutoOrBoolean = True
    unroll: AutoOrBoolean = "auto"
