"""JAXopt's minimizers: steps along gradients, and line searches."""

from __future__ import annotations

from typing import Any

import jax

import dini

from . import _families as families
from ._objective import Given
from ._table import AutoOrBoolean, Function, Number, solver_class
from .prox import prox_none

# ---------------------------------------------------------------------------------------------- steps along gradients

_DESCENT: dict[str, Any] = {
    "error": "the norm of the gradient mapping",
    "state": "stepsize error aux velocity t",
    "ignored": "decrease_factor",
}


@solver_class(
    about={"prox": "``prox(x, hyperparams_prox, scale)``, the proximal operator of ``scale * g``."},
    **_DESCENT,
)
class ProximalGradient(families.Proximal):
    r"""Proximal gradient, :math:`\min_x f(x, \theta) + g(x, \lambda)`, by :class:`dini.ProximalGradient`.

    Steps have the length ``stepsize``, a number or a function of the iteration, or are searched.

    Examples
    --------
    >>> import dini_jaxopt as jaxopt, jax, jax.numpy as jnp
    >>> def soft(x, strength, scale=1.0):
    ...     return jnp.sign(x) * jnp.maximum(jnp.abs(x) - scale * strength, 0.0)
    >>> solver = jaxopt.ProximalGradient(lambda x, y: 0.5 * jnp.sum((x - y) ** 2), soft)
    >>> print(solver.run(jnp.zeros(2), hyperparams_prox=1.0, y=jnp.array([3.0, 0.5])).params.round(3))
    [2. 0.]
    """

    fun: Function
    prox: Any = prox_none
    value_and_grad: bool | Function = False
    has_aux: bool = False
    stepsize: Number | Function = 0.0
    maxiter: int | jax.Array = 500
    maxls: int = 15
    tol: Number = 1e-3
    acceleration: bool = True
    decrease_factor: Number | None = 0.5
    verbose: bool | int = False
    implicit_diff: bool = True
    implicit_diff_solve: Function | None = None
    jit: AutoOrBoolean = True
    unroll: AutoOrBoolean = "auto"


class _Gradient(ProximalGradient):
    """Without a penalty."""

    def _method(self, **settings: Any) -> Any:
        if self.acceleration:
            return super()._method(**settings)
        step_size = None if self._searches() else self.stepsize
        return dini.GradientDescent(step_size=step_size, atol=self.tol)

    def _stated(self, *args: Any, **kwargs: Any) -> tuple[Any, Given]:
        return self._problem(), (args, kwargs)

    def optimality_fun(self, params: Any, *args: Any, **kwargs: Any) -> Any:
        """Return the gradient."""
        return families.Minimizer.optimality_fun(self, params, *args, **kwargs)


@solver_class(
    solver="ProximalGradient",
    about={"prox": "Not used."},
    **_DESCENT,
)
class GradientDescent(_Gradient):
    """Gradient descent, by :class:`dini.ProximalGradient` or, without ``acceleration``, :class:`dini.GradientDescent`.

    Steps have the length ``stepsize``, a number or a function of the iteration, or are searched.

    Examples
    --------
    >>> import dini_jaxopt as jaxopt, jax, jax.numpy as jnp
    >>> def ridge(w, strength, X, y):
    ...     return 0.5 * jnp.mean((X @ w - y) ** 2) + 0.5 * strength * jnp.sum(w**2)
    >>> X, y = jnp.array([[1.0, 0.0], [0.0, 2.0]]), jnp.array([2.0, 5.0])
    >>> solver = jaxopt.GradientDescent(ridge, tol=1e-5)
    >>> print(solver.run(jnp.zeros(2), 0.5, X=X, y=y).params.round(3))
    [1. 2.]
    >>> print(jax.jacobian(lambda s: solver.run(jnp.zeros(2), s, X=X, y=y).params)(0.5).round(3))
    [-1.  -0.8]
    """


@solver_class(
    solver="ProximalGradient",
    about={"projection": "``projection(x, hyperparams_proj)``, the projection onto the set."},
    **_DESCENT,
)
class ProjectedGradient(families.Projected):
    r"""Projected gradient, :math:`\min_{x \in C(\lambda)} f(x, \theta)`, by :class:`dini.ProximalGradient`.

    Steps have the length ``stepsize``, a number or a function of the iteration, or are searched.

    Examples
    --------
    >>> import dini_jaxopt as jaxopt, jax, jax.numpy as jnp
    >>> solver = jaxopt.ProjectedGradient(lambda x, y: 0.5 * jnp.sum((x - y) ** 2), lambda x, _: jnp.maximum(x, 0))
    >>> print(solver.run(jnp.zeros(2), y=jnp.array([3.0, -0.5])).params.round(3))
    [3. 0.]
    """

    fun: Function
    projection: Function
    value_and_grad: bool | Function = False
    has_aux: bool = False
    stepsize: Number | Function = 0.0
    maxiter: int | jax.Array = 500
    maxls: int = 15
    tol: Number = 1e-3
    acceleration: bool = True
    decrease_factor: Number | None = 0.5
    verbose: bool | int = False
    implicit_diff: bool = True
    implicit_diff_solve: Function | None = None
    jit: AutoOrBoolean = True
    unroll: AutoOrBoolean = "auto"


# ------------------------------------------------------------------------------------------------------ line searches

_SEARCH: dict[str, Any] = {
    "ignored": "linesearch_init increase_factor max_stepsize min_stepsize decrease_factor",
    "about": {
        "linesearch": "``'zoom'``, ``'hager-zhang'``, ``'backtracking'``, or one of their objects.",
        "condition": "What a backtracking search asks for (deprecated): as :class:`BacktrackingLineSearch` has it.",
        "use_gamma": "Whether the model is scaled, with a ``stepsize``; with a line search it always is.",
    },
}
_LIMITED: dict[str, Any] = _SEARCH | {"ignored": f"{_SEARCH['ignored']} stop_if_linesearch_fails"}
_WITH_BOUNDS: dict[str, Any] = _LIMITED | {"ignored": f"{_LIMITED['ignored']} theta use_gamma"}
_SEARCHED = "failed_linesearch num_fun_eval num_grad_eval num_linesearch_iter"


@solver_class(
    renamed="history_size:history",
    state=f"value grad stepsize error aux {_SEARCHED}",
    **_LIMITED,
)
class LBFGS(families.Searching):
    """Limited-memory BFGS, by :class:`dini.LBFGS`.

    Examples
    --------
    >>> import dini_jaxopt as jaxopt, jax, jax.numpy as jnp
    >>> rosenbrock = lambda x: (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2
    >>> params, state = jaxopt.LBFGS(rosenbrock, maxiter=100).run(jnp.zeros(2))
    >>> print(params.round(2), bool(state.error <= 1e-3))
    [1. 1.] True
    """

    fun: Function
    value_and_grad: bool | Function = False
    has_aux: bool = False
    maxiter: int | jax.Array = 500
    tol: Number = 1e-3
    stepsize: Number | Function = 0.0
    linesearch: Any = "zoom"
    linesearch_init: str = "increase"
    stop_if_linesearch_fails: bool = False
    condition: str | None = None
    maxls: int = 30
    decrease_factor: Number | None = None
    increase_factor: Number = 1.5
    max_stepsize: Number | None = 1.0
    min_stepsize: Number = 1e-6
    history_size: int = 10
    use_gamma: bool = True
    implicit_diff: bool = True
    implicit_diff_solve: Function | None = None
    jit: AutoOrBoolean = True
    unroll: AutoOrBoolean = "auto"
    verbose: bool | int = False


@solver_class(
    state=f"value grad stepsize error H aux {_SEARCHED}",
    **_SEARCH,
)
class BFGS(families.Searching):
    """BFGS, for unknowns of moderate size, by :class:`dini.BFGS`.

    A state has the model of the inverse Hessian as ``H``.

    Examples
    --------
    >>> import dini_jaxopt as jaxopt, jax, jax.numpy as jnp
    >>> rosenbrock = lambda x: (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2
    >>> print(jaxopt.BFGS(rosenbrock).run(jnp.zeros(2)).params.round(2))
    [1. 1.]
    """

    fun: Function
    value_and_grad: bool | Function = False
    has_aux: bool = False
    maxiter: int | jax.Array = 500
    tol: Number = 1e-3
    stepsize: Number | Function = 0.0
    linesearch: Any = "zoom"
    linesearch_init: str = "increase"
    condition: str | None = None
    maxls: int = 30
    decrease_factor: Number | None = None
    increase_factor: Number = 1.5
    max_stepsize: Number | None = 1.0
    min_stepsize: Number = 1e-6
    implicit_diff: bool = True
    implicit_diff_solve: Function | None = None
    jit: AutoOrBoolean = True
    unroll: AutoOrBoolean = "auto"
    verbose: bool | int = False


@solver_class(
    state=f"stepsize error value grad descent_direction aux {_SEARCHED}",
    ignored=_SEARCH["ignored"],
    about=_SEARCH["about"]
    | {
        "method": "``formula`` of :class:`dini.NonlinearCG`: ``'polak-ribiere'``, ``'hestenes-stiefel'``, "
        "``'hager-zhang'``; ``'fletcher-reeves'`` warns and is the last."
    },
)
class NonlinearCG(families.Conjugate):
    """Nonlinear conjugate gradients, by :class:`dini.NonlinearCG`.

    Examples
    --------
    >>> import dini_jaxopt as jaxopt, jax, jax.numpy as jnp
    >>> rosenbrock = lambda x: (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2
    >>> print(jaxopt.NonlinearCG(rosenbrock, maxiter=300).run(jnp.zeros(2)).params.round(2))
    [1. 1.]
    """

    fun: Function
    value_and_grad: bool | Function = False
    has_aux: bool = False
    maxiter: int | jax.Array = 100
    tol: Number = 1e-3
    method: str = "polak-ribiere"
    linesearch: Any = "zoom"
    linesearch_init: str = "increase"
    condition: str | None = None
    maxls: int = 30
    decrease_factor: Number | None = None
    increase_factor: Number = 1.2
    max_stepsize: Number | None = 1.0
    min_stepsize: Number = 1e-6
    implicit_diff: bool = True
    implicit_diff_solve: Function | None = None
    jit: AutoOrBoolean = True
    unroll: AutoOrBoolean = "auto"
    verbose: bool | int = False


@solver_class(
    error="the norm of the projected gradient",
    renamed="history_size:history",
    state=f"value grad stepsize error theta aux {_SEARCHED}",
    **_WITH_BOUNDS,
)
class LBFGSB(families.Bounded):
    """L-BFGS with bounds, by :class:`dini.LBFGSB`.

    ``run``, ``init_state`` and ``update`` take ``bounds``, a pair ``(lower, upper)``, before the function's
    arguments. A state has the model's curvature as ``theta``.

    Examples
    --------
    >>> import dini_jaxopt as jaxopt, jax, jax.numpy as jnp
    >>> rosenbrock = lambda x: (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2
    >>> bounds = (jnp.full(2, -2.0), jnp.array([0.5, 2.0]))
    >>> print(jaxopt.LBFGSB(rosenbrock).run(jnp.zeros(2), bounds=bounds).params.round(2))
    [0.5  0.25]
    """

    fun: Function
    value_and_grad: bool | Function = False
    has_aux: bool = False
    maxiter: int | jax.Array = 50
    tol: Number = 1e-3
    stepsize: Number | Function = 0.0
    linesearch: Any = "zoom"
    linesearch_init: str = "increase"
    stop_if_linesearch_fails: bool = False
    condition: str | None = None
    maxls: int = 30
    decrease_factor: Number | None = None
    increase_factor: Number = 1.5
    max_stepsize: Number | None = 1.0
    min_stepsize: Number = 1e-6
    theta: Number = 1.0
    history_size: int = 10
    use_gamma: bool = True
    implicit_diff: bool = True
    implicit_diff_solve: Function | None = None
    jit: AutoOrBoolean = True
    unroll: AutoOrBoolean = "auto"
    verbose: bool | int = False
