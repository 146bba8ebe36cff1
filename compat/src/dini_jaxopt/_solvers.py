"""The table of JAXopt's solvers: minimizers, equations and fixed points, residuals, batches."""

from __future__ import annotations

from typing import Any

import dini

from . import _families as families
from . import _residuals as residuals
from ._objective import Given
from ._table import COMPILED, DIFFERENTIATED, solver_class
from .linear_solve import solve_cg
from .prox import prox_none

_OBJECTIVE = "fun value_and_grad=False has_aux=False"

# ---------------------------------------------------------------------------------------------- steps along gradients

_DESCENT: dict[str, Any] = {
    "text": "Steps have the length ``stepsize``, a number or a function of the iteration, or are searched.",
    "error": "the norm of the gradient mapping",
    "state": "stepsize error aux velocity t",
    "ignored": "decrease_factor",
}
_DESCENT_FIELDS = (
    "value_and_grad=False has_aux=False stepsize=0.0 maxiter=500 maxls=15 tol=1e-3 acceleration=True "
    f"decrease_factor=0.5 verbose=False {DIFFERENTIATED}"
)

ProximalGradient = solver_class(
    "ProximalGradient",
    families.Proximal,
    r"Proximal gradient, :math:`\min_x f(x, \theta) + g(x, \lambda)`, by :class:`dini.ProximalGradient`.",
    f"fun prox=None {_DESCENT_FIELDS}",
    defaults={"prox": prox_none},
    about={"prox": "``prox(x, hyperparams_prox, scale)``, the proximal operator of ``scale * g``."},
    **_DESCENT,
    example="""
        >>> def soft(x, strength, scale=1.0):
        ...     return jnp.sign(x) * jnp.maximum(jnp.abs(x) - scale * strength, 0.0)
        >>> solver = jaxopt.ProximalGradient(lambda x, y: 0.5 * jnp.sum((x - y) ** 2), soft)
        >>> print(solver.run(jnp.zeros(2), hyperparams_prox=1.0, y=jnp.array([3.0, 0.5])).params.round(3))
        [2. 0.]
    """,
)


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


GradientDescent = solver_class(
    "GradientDescent",
    _Gradient,
    "Gradient descent, by :class:`dini.ProximalGradient` or, without ``acceleration``, :class:`dini.GradientDescent`.",
    solver="ProximalGradient",
    about={"prox": "Not used."},
    **_DESCENT,
    example="""
        >>> def ridge(w, strength, X, y):
        ...     return 0.5 * jnp.mean((X @ w - y) ** 2) + 0.5 * strength * jnp.sum(w**2)
        >>> X, y = jnp.array([[1.0, 0.0], [0.0, 2.0]]), jnp.array([2.0, 5.0])
        >>> solver = jaxopt.GradientDescent(ridge, tol=1e-5)
        >>> print(solver.run(jnp.zeros(2), 0.5, X=X, y=y).params.round(3))
        [1. 2.]
        >>> print(jax.jacobian(lambda s: solver.run(jnp.zeros(2), s, X=X, y=y).params)(0.5).round(3))
        [-1.  -0.8]
    """,
)

ProjectedGradient = solver_class(
    "ProjectedGradient",
    families.Projected,
    r"Projected gradient, :math:`\min_{x \in C(\lambda)} f(x, \theta)`, by :class:`dini.ProximalGradient`.",
    f"fun projection {_DESCENT_FIELDS}",
    solver="ProximalGradient",
    about={"projection": "``projection(x, hyperparams_proj)``, the projection onto the set."},
    **_DESCENT,
    example="""
        >>> solver = jaxopt.ProjectedGradient(lambda x, y: 0.5 * jnp.sum((x - y) ** 2), lambda x, _: jnp.maximum(x, 0))
        >>> print(solver.run(jnp.zeros(2), y=jnp.array([3.0, -0.5])).params.round(3))
        [3. 0.]
    """,
)

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
_STEPS = "max_stepsize=1.0 min_stepsize=1e-6"
_END = f"{DIFFERENTIATED} verbose=False"
_ROSENBROCK = """
        >>> rosenbrock = lambda x: (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2
"""

LBFGS = solver_class(
    "LBFGS",
    families.Searching,
    "Limited-memory BFGS, by :class:`dini.LBFGS`.",
    f"{_OBJECTIVE} maxiter=500 tol=1e-3 stepsize=0.0 linesearch='zoom' linesearch_init='increase' "
    "stop_if_linesearch_fails=False condition=None maxls=30 decrease_factor=None increase_factor=1.5 "
    f"{_STEPS} history_size=10 use_gamma=True {_END}",
    renamed="history_size:history",
    state=f"value grad stepsize error aux {_SEARCHED}",
    **_LIMITED,
    example=_ROSENBROCK
    + """
        >>> params, state = jaxopt.LBFGS(rosenbrock, maxiter=100).run(jnp.zeros(2))
        >>> print(params.round(2), bool(state.error <= 1e-3))
        [1. 1.] True
    """,
)

BFGS = solver_class(
    "BFGS",
    families.Searching,
    "BFGS, for unknowns of moderate size, by :class:`dini.BFGS`.",
    f"{_OBJECTIVE} maxiter=500 tol=1e-3 stepsize=0.0 linesearch='zoom' linesearch_init='increase' condition=None "
    f"maxls=30 decrease_factor=None increase_factor=1.5 {_STEPS} {_END}",
    text="A state has the model of the inverse Hessian as ``H``.",
    state=f"value grad stepsize error H aux {_SEARCHED}",
    **_SEARCH,
    example=_ROSENBROCK
    + """
        >>> print(jaxopt.BFGS(rosenbrock).run(jnp.zeros(2)).params.round(2))
        [1. 1.]
    """,
)

NonlinearCG = solver_class(
    "NonlinearCG",
    families.Conjugate,
    "Nonlinear conjugate gradients, by :class:`dini.NonlinearCG`.",
    f"{_OBJECTIVE} maxiter=100 tol=1e-3 method='polak-ribiere' linesearch='zoom' linesearch_init='increase' "
    f"condition=None maxls=30 decrease_factor=None increase_factor=1.2 {_STEPS} {_END}",
    state=f"stepsize error value grad descent_direction aux {_SEARCHED}",
    ignored=_SEARCH["ignored"],
    about=_SEARCH["about"]
    | {
        "method": "``formula`` of :class:`dini.NonlinearCG`: ``'polak-ribiere'``, ``'hestenes-stiefel'``, "
        "``'hager-zhang'``; ``'fletcher-reeves'`` warns and is the last."
    },
    example=_ROSENBROCK
    + """
        >>> print(jaxopt.NonlinearCG(rosenbrock, maxiter=300).run(jnp.zeros(2)).params.round(2))
        [1. 1.]
    """,
)

LBFGSB = solver_class(
    "LBFGSB",
    families.Bounded,
    "L-BFGS with bounds, by :class:`dini.LBFGSB`.",
    f"{_OBJECTIVE} maxiter=50 tol=1e-3 stepsize=0.0 linesearch='zoom' linesearch_init='increase' "
    "stop_if_linesearch_fails=False condition=None maxls=30 decrease_factor=None increase_factor=1.5 "
    f"{_STEPS} theta=1.0 history_size=10 use_gamma=True {_END}",
    text=r"""
        ``run``, ``init_state`` and ``update`` take ``bounds``, a pair ``(lower, upper)``, before the
        function's arguments. A state has the model's curvature as ``theta``.
    """,
    error="the norm of the projected gradient",
    renamed="history_size:history",
    state=f"value grad stepsize error theta aux {_SEARCHED}",
    **_WITH_BOUNDS,
    example=_ROSENBROCK
    + """
        >>> bounds = (jnp.full(2, -2.0), jnp.array([0.5, 2.0]))
        >>> print(jaxopt.LBFGSB(rosenbrock).run(jnp.zeros(2), bounds=bounds).params.round(2))
        [0.5  0.25]
    """,
)

# ------------------------------------------------------------------------------------------------------------ batches

_BATCHES = {
    "pre_update": "Optional: ``pre_update(params, state, *args, **kwargs)``, called before each update.",
    "fun": "``fun(x, *args, **kwargs)``, with the batch as ``data`` where ``run_iterator`` is used.",
}
_UPDATES = f"verbose=False implicit_diff=False implicit_diff_solve=None {COMPILED}"
_ON_BATCHES = f"verbose=False implicit_diff=False implicit_diff_solve=None has_aux=False {COMPILED}"

ArmijoSGD = solver_class(
    "ArmijoSGD",
    families.Armijo,
    "Stochastic gradient descent with a line search on the batch, by :class:`dini.ArmijoSGD`.",
    f"{_OBJECTIVE} aggressiveness=0.9 decrease_factor=0.8 increase_factor=1.5 reset_option='increase' momentum=0.0 "
    f"max_stepsize=1.0 pre_update=None maxiter=500 maxls=15 tol=1e-3 {_UPDATES}",
    renamed="max_stepsize:max_step_size decrease_factor:decrease momentum:momentum",
    ignored="maxls unroll",
    state="error value aux stepsize velocity num_fun_eval",
    about=_BATCHES
    | {
        "aggressiveness": "One minus ``aggressiveness`` of :class:`dini.ArmijoSGD`.",
        "increase_factor": "``growth`` of :class:`dini.ArmijoSGD`.",
        "reset_option": "``'increase'``, ``'goldstein'`` (the same here) or ``'conservative'``: steps do not grow.",
    },
    example="""
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> X = rng.normal(size=(64, 2))
        >>> y = X @ np.array([1.0, -2.0])
        >>> batches = ((X[i : i + 8], y[i : i + 8]) for epoch in range(20) for i in range(0, 64, 8))
        >>> solver = jaxopt.ArmijoSGD(lambda w, data: jnp.mean((data[0] @ w - data[1]) ** 2))
        >>> print(solver.run_iterator(jnp.zeros(2), batches).params.round(2))
        [ 1. -2.]
    """,
)

PolyakSGD = solver_class(
    "PolyakSGD",
    families.Polyak,
    "Stochastic gradient descent with Polyak's step size, by :class:`dini.PolyakSGD`.",
    f"{_OBJECTIVE} fun_min=0.0 variant='SPS_max' max_stepsize=1.0 delta=0.0 momentum=0.0 pre_update=None "
    f"maxiter=500 tol=1e-3 {_UPDATES}",
    renamed="fun_min:lower_bound momentum:momentum",
    ignored="delta unroll",
    state="error value aux stepsize velocity num_fun_eval",
    about=_BATCHES | {"variant": "``'SPS_max'``, or ``'SPS+'``, without a largest step size."},
    example="""
        >>> solver = jaxopt.PolyakSGD(lambda x, a: jnp.sum((x - a) ** 2))
        >>> print(solver.run(jnp.zeros(2), jnp.array([1.5, -1.0])).params.round(2))
        [ 1.5 -1. ]
    """,
)

OptaxSolver = solver_class(
    "OptaxSolver",
    families.Stochastic,
    "A transformation of optax's as a solver, by :class:`dini.OptaxSolver`.",
    f"fun opt value_and_grad=False pre_update=None maxiter=500 tol=1e-3 {_ON_BATCHES}",
    renamed="opt:transformation",
    ignored="unroll",
    state="value error internal_state aux num_fun_eval",
    about=_BATCHES,
    example="""
        >>> import optax
        >>> solver = jaxopt.OptaxSolver(lambda x, a: jnp.sum((x - a) ** 2), optax.sgd(0.1))
        >>> print(solver.run(jnp.zeros(2), jnp.array([1.5, -1.0])).params.round(2))
        [ 1.5 -1. ]
    """,
)

# ---------------------------------------------------------------------------------------- fixed points and equations

_MAP = {"fixed_point_fun": "``fixed_point_fun(x, *args, **kwargs)``, a tree like ``x``."}
_MIXED = "each step is accelerated, and dependent differences are left out"

FixedPointIteration = solver_class(
    "FixedPointIteration",
    families.FixedPoint,
    r"Picard's iteration, :math:`x \leftarrow T(x, \theta)`, by :class:`dini.FixedPointIteration`.",
    f"fixed_point_fun maxiter=100 tol=1e-5 has_aux=False verbose=False {DIFFERENTIATED}",
    error=r"the norm of :math:`T(x) - x`",
    ignored="unroll",
    state="error aux num_fun_eval",
    about=_MAP,
    example="""
        >>> solver = jaxopt.FixedPointIteration(lambda x, a: 0.5 * (x + a / x))
        >>> print(solver.run(1.0, 4.0).params, jax.grad(lambda a: solver.run(1.0, a).params)(4.0))
        2.0 0.25
    """,
)

AndersonAcceleration = solver_class(
    "AndersonAcceleration",
    families.FixedPoint,
    r"Anderson acceleration of :math:`x = T(x, \theta)`, by :class:`dini.Anderson`.",
    "fixed_point_fun history_size=5 mixing_frequency=1 beta=1.0 maxiter=100 tol=1e-5 ridge=1e-5 has_aux=False "
    f"verbose=False {DIFFERENTIATED}",
    solver="Anderson",
    text=f"Of JAXopt's it differs in that {_MIXED}.",
    error=r"the norm of :math:`T(x) - x`",
    renamed="history_size:history beta:mixing",
    ignored="mixing_frequency ridge unroll",
    state="error aux num_fun_eval",
    about=_MAP,
    example="""
        >>> print(jaxopt.AndersonAcceleration(jnp.cos).run(jnp.ones(())).params.round(3))
        0.739
    """,
)

Broyden = solver_class(
    "Broyden",
    families.Equation,
    r"Broyden's method, :math:`F(x, \theta) = 0`, by :class:`dini.Broyden`.",
    "fun has_aux=False maxiter=500 tol=1e-3 stepsize=0.0 linesearch='backtracking' stop_if_linesearch_fails=False "
    "condition='wolfe' maxls=15 decrease_factor=0.8 increase_factor=1.5 max_stepsize=1.0 min_stepsize=1e-6 "
    f"history_size=None gamma=1.0 {_END}",
    error="the norm of the residual",
    ignored="stepsize linesearch stop_if_linesearch_fails condition decrease_factor increase_factor max_stepsize "
    "min_stepsize gamma",
    state="error aux num_fun_eval",
    about={
        "fun": "``fun(x, *args, **kwargs)``, a tree like ``x``.",
        "history_size": "``history`` of :class:`dini.Broyden`; ``None`` for its default.",
    },
    example="""
        >>> F = lambda x, a: jnp.array([x[0] ** 2 + x[1] - a, x[0] - x[1]])
        >>> print(jaxopt.Broyden(F, tol=1e-6).run(jnp.array([1.0, 2.0]), 6.0).params.round(4))
        [2. 2.]
    """,
)

# ---------------------------------------------------------------------------------------------------------- residuals

_RESIDUALS = {
    "residual_fun": "``residual_fun(x, *args, **kwargs)``.",
    "has_aux": "Whether ``residual_fun`` returns a pair ``(residual, aux)``.",
}
_VALLEY = """
        >>> residuals = lambda x: jnp.array([10 * (x[1] - x[0] ** 2), 1 - x[0]])
"""

GaussNewton = solver_class(
    "GaussNewton",
    residuals.LeastSquares,
    r"Gauss-Newton, :math:`\min_x \tfrac12 \|r(x, \theta)\|^2`, by :class:`dini.GaussNewton`.",
    "residual_fun maxiter=30 tol=1e-5 implicit_diff=True implicit_diff_solve=None has_aux=False verbose=False "
    f"{COMPILED}",
    text=r"""
        Steps are full, as the method has them: it may diverge, which is reported.
    """,
    error="the length of the last step",
    ignored="unroll",
    state="residual value error gradient aux num_fun_eval",
    about=_RESIDUALS,
    example=_VALLEY
    + """
        >>> print(jaxopt.GaussNewton(residuals).run(jnp.array([-1.2, 1.0])).params.round(3))
        [1. 1.]
    """,
)

LevenbergMarquardt = solver_class(
    "LevenbergMarquardt",
    residuals.Damped,
    r"Levenberg-Marquardt, :math:`\min_x \tfrac12 \|r(x, \theta)\|^2`, by :class:`dini.LevenbergMarquardt`.",
    "residual_fun maxiter=30 damping_parameter=1e-6 stop_criterion='grad-l2-norm' tol=1e-3 xtol=1e-3 gtol=1e-3 "
    "solver=None geodesic=False verbose=False jac_fun=None materialize_jac=False implicit_diff=True "
    f"implicit_diff_solve=None has_aux=False {COMPILED}",
    defaults={"solver": solve_cg},
    text=r"""
        The first damping is relative to the largest squared norm of a column of the Jacobian, and rejected
        trials count as iterations. A short step alone is not a solution, and the Jacobian is JAX's.
    """,
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
    example=_VALLEY
    + """
        >>> print(jaxopt.LevenbergMarquardt(residuals).run(jnp.array([-1.2, 1.0])).params.round(3))
        [1. 1.]
    """,
)
