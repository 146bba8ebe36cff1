"""JAXopt's stochastic solvers, whose functions are evaluated on batches."""

from __future__ import annotations

from typing import Any

import jax

from . import _families as families
from ._table import AutoOrBoolean, Function, Number, solver_class

_BATCHES = {
    "pre_update": "Optional: ``pre_update(params, state, *args, **kwargs)``, called before each update.",
    "fun": "``fun(x, *args, **kwargs)``, with the batch as ``data`` where ``run_iterator`` is used.",
}


@solver_class(
    renamed="max_stepsize:max_step_size decrease_factor:decrease momentum:momentum",
    ignored="maxls unroll",
    state="error value aux stepsize velocity num_fun_eval",
    about=_BATCHES
    | {
        "aggressiveness": "One minus ``aggressiveness`` of :class:`dini.ArmijoSGD`.",
        "increase_factor": "``growth`` of :class:`dini.ArmijoSGD`.",
        "reset_option": "``'increase'``, ``'goldstein'`` (the same here) or ``'conservative'``: steps do not grow.",
    },
)
class ArmijoSGD(families.Armijo):
    """Stochastic gradient descent with a line search on the batch, by :class:`dini.ArmijoSGD`.

    Examples
    --------
    >>> import dini_jaxopt as jaxopt, jax, jax.numpy as jnp
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(64, 2))
    >>> y = X @ np.array([1.0, -2.0])
    >>> batches = ((X[i : i + 8], y[i : i + 8]) for epoch in range(20) for i in range(0, 64, 8))
    >>> solver = jaxopt.ArmijoSGD(lambda w, data: jnp.mean((data[0] @ w - data[1]) ** 2))
    >>> print(solver.run_iterator(jnp.zeros(2), batches).params.round(2))
    [ 1. -2.]
    """

    fun: Function
    value_and_grad: bool | Function = False
    has_aux: bool = False
    aggressiveness: Number = 0.9
    decrease_factor: Number | None = 0.8
    increase_factor: Number = 1.5
    reset_option: str = "increase"
    momentum: Number = 0.0
    max_stepsize: Number | None = 1.0
    pre_update: Function | None = None
    maxiter: int | jax.Array = 500
    maxls: int = 15
    tol: Number = 1e-3
    verbose: bool | int = False
    implicit_diff: bool = False
    implicit_diff_solve: Function | None = None
    jit: AutoOrBoolean = True
    unroll: AutoOrBoolean = "auto"


@solver_class(
    renamed="fun_min:lower_bound momentum:momentum",
    ignored="delta unroll",
    state="error value aux stepsize velocity num_fun_eval",
    about=_BATCHES | {"variant": "``'SPS_max'``, or ``'SPS+'``, without a largest step size."},
)
class PolyakSGD(families.Polyak):
    """Stochastic gradient descent with Polyak's step size, by :class:`dini.PolyakSGD`.

    Examples
    --------
    >>> import dini_jaxopt as jaxopt, jax, jax.numpy as jnp
    >>> solver = jaxopt.PolyakSGD(lambda x, a: jnp.sum((x - a) ** 2))
    >>> print(solver.run(jnp.zeros(2), jnp.array([1.5, -1.0])).params.round(2))
    [ 1.5 -1. ]
    """

    fun: Function
    value_and_grad: bool | Function = False
    has_aux: bool = False
    fun_min: Number = 0.0
    variant: str = "SPS_max"
    max_stepsize: Number | None = 1.0
    delta: Number = 0.0
    momentum: Number = 0.0
    pre_update: Function | None = None
    maxiter: int | jax.Array = 500
    tol: Number = 1e-3
    verbose: bool | int = False
    implicit_diff: bool = False
    implicit_diff_solve: Function | None = None
    jit: AutoOrBoolean = True
    unroll: AutoOrBoolean = "auto"


@solver_class(
    renamed="opt:transformation",
    ignored="unroll",
    state="value error internal_state aux num_fun_eval",
    about=_BATCHES,
)
class OptaxSolver(families.Stochastic):
    """A transformation of optax's as a solver, by :class:`dini.OptaxSolver`.

    Examples
    --------
    >>> import dini_jaxopt as jaxopt, jax, jax.numpy as jnp
    >>> import optax
    >>> solver = jaxopt.OptaxSolver(lambda x, a: jnp.sum((x - a) ** 2), optax.sgd(0.1))
    >>> print(solver.run(jnp.zeros(2), jnp.array([1.5, -1.0])).params.round(2))
    [ 1.5 -1. ]
    """

    fun: Function
    opt: Any
    value_and_grad: bool | Function = False
    pre_update: Function | None = None
    maxiter: int | jax.Array = 500
    tol: Number = 1e-3
    verbose: bool | int = False
    implicit_diff: bool = False
    implicit_diff_solve: Function | None = None
    has_aux: bool = False
    jit: AutoOrBoolean = True
    unroll: AutoOrBoolean = "auto"
