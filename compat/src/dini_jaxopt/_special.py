"""Solvers of JAXopt's that are more than a row of the table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import dini
from dini import Status
from dini.extend import as_function, record, trees, untraced

from ._base import IterativeSolver, OptStep
from ._families import Composite, DiniSolver
from ._objective import Given, bound
from ._table import AutoOrBoolean, Function, Number, solver_class

# ---------------------------------------------------------------------------------------------------------- bisection


@dini.solver
class SmallValue(dini.Bisection):
    """Bisection until the function's value is small, which is JAXopt's test; dini's is the width of the bracket."""

    def step(self, problem: Any, x: Any, state: Any, *args: Any) -> tuple[Any, Any]:
        """Evaluate the function at one point of each bracket."""
        x, new = dini.Bisection.step(self, problem, x, state, *args)
        values = self.readings(x, new)["bracket_values"]
        value = jnp.max(jnp.minimum(*map(jnp.abs, values))).astype(new.error.dtype)
        return x, new._replace(error=jnp.where(jnp.isfinite(new.error), value, new.error))


class _Bracketed(DiniSolver):
    """A root between two ends."""

    lead = 3
    optimality_fun: Callable[..., Any]
    lower: Any
    upper: Any
    check_bracket: bool

    def _method(self, **settings: Any) -> Any:
        settings |= {"lower": self.lower, "upper": self.upper}
        return SmallValue(atol=self.tol, **settings)

    def _stated(self, *args: Any, **kwargs: Any) -> tuple[Any, Given]:
        return dini.Root(bound(self.optimality_fun, "optimality_fun"), has_aux=self.has_aux), (args, kwargs)

    def _start(self, init_params: Any, given: Given) -> Any:
        del init_params, given
        return jnp.asarray(0.5 * (jnp.asarray(self.lower, float) + jnp.asarray(self.upper, float)))

    def _fields(self, readings: dict[str, Any]) -> dict[str, Any]:
        (a, b), (at_a, at_b) = readings["bracket"], readings["bracket_values"]
        return {
            "low": jnp.minimum(a, b),
            "high": jnp.maximum(a, b),
            "value": jnp.where(jnp.abs(at_a) <= jnp.abs(at_b), at_a, at_b),
            "sign": jnp.sign(jnp.where(a <= b, at_b, at_a)).astype(jnp.int32),
        }

    def init_state(self, init_params: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Return the state before the first iteration."""
        return super().init_state(init_params, *args, **kwargs)

    def run(self, init_params: Any = None, *args: Any, **kwargs: Any) -> OptStep:
        """Iterate until the value is at most ``tol``, or ``maxiter`` times; see ``IterativeSolver``."""
        if self.check_bracket and untraced():
            ends = (jnp.asarray(end, float) for end in (self.lower, self.upper))
            values = [self.optimality_fun(end, *args, **kwargs) for end in ends]
            signs = [np.sign(np.asarray(value[0] if self.has_aux else value)) for value in values]
            if np.any(signs[0] * signs[1] > 0):
                raise ValueError(
                    f"Bisection's function has no change of sign between lower={self.lower} and upper={self.upper}: "
                    f"its values there are {values[0]} and {values[1]}. Widen the bracket."
                )
        return super().run(init_params, *args, **kwargs)


@solver_class(
    error="the function's value",
    ignored="unroll",
    state="value error low high sign aux num_fun_eval",
    about={
        "optimality_fun": "``optimality_fun(x, *args, **kwargs)``, a number.",
        "lower": "The lower end of the bracket.",
        "upper": "The upper end.",
        "check_bracket": "Whether to look at the values at both ends.",
    },
)
class Bisection(_Bracketed):
    r"""Bisection, :math:`F(x, \theta) = 0` with a sign change between two ends, by :class:`dini.Bisection`.

    ``run`` ignores its starting point, which may be left out. A bracket without a change of sign raises
    ``ValueError`` where values are known and ``check_bracket`` holds; ``state.status`` tells it everywhere.

    Examples
    --------
    >>> import dini_jaxopt as jaxopt, jax, jax.numpy as jnp
    >>> solver = jaxopt.Bisection(lambda x, a: x**3 - a, lower=0.0, upper=4.0)
    >>> print(solver.run(a=8.0).params.round(3), jax.grad(lambda a: solver.run(a=a).params)(8.0))
    2.0 0.083333336
    """

    optimality_fun: Function
    lower: Any
    upper: Any
    maxiter: int | jax.Array = 30
    tol: Number = 1e-5
    check_bracket: bool = True
    verbose: bool | int = False
    implicit_diff_solve: Function | None = None
    has_aux: bool = False
    jit: AutoOrBoolean = True
    unroll: AutoOrBoolean = "auto"


# ----------------------------------------------------------------------------------------- blocks, and boxes in rounds


@record
class Row(dini.penalties.Penalty):
    """A proximal operator ``block_prox(row, hyperparams, scale)`` of one row of the unknown."""

    fun: Any
    hyperparams: Any

    valued = False

    def prox(self, x: Any, step_size: Any) -> Any:
        """Return the proximal point."""
        return self.fun(x, self.hyperparams, step_size)


@record
class Rows(Row):
    """A proximal operator for each row."""

    def prox(self, x: Any, step_size: Any) -> Any:
        """Return the proximal point of each row."""
        return jax.vmap(lambda row: self.fun(row, self.hyperparams, step_size))(x)

    def separates_rows(self, x: jax.Array) -> bool:
        """Return that it does."""
        del x
        return True

    def row(self, i: Any, x: jax.Array) -> Any:
        """Return the penalty of one row."""
        del i, x
        return Row(self.fun, self.hyperparams)


@record
class Outer:
    """The function of predictions and unknown of one of JAXopt's composite linear functions."""

    fun: Any

    def __call__(self, z: Any, x: Any, given: Given) -> Any:
        """Return ``subfun(z)`` and the linear term."""
        args, kwargs = given
        value, linear = self.fun(z, *args, **kwargs), self.fun.func.__self__.b(*args, **kwargs)
        return value if linear is None else value + trees.vdot(x, linear)


@record
class Matrix:
    """The transposed matrix of one of JAXopt's composite linear functions."""

    fun: Any

    def __call__(self, given: Given) -> Any:
        """Return the matrix whose rows belong to the blocks."""
        args, kwargs = given
        return self.fun(*args, **kwargs).A.T


class _Blocks(Composite):
    """A composite linear function, with a penalty on each row of the unknown."""

    parameters = "hyperparams_prox"
    block_prox: Callable[..., Any]

    def __post_init__(self) -> None:
        missing = [name for name in ("subfun", "make_linop") if not hasattr(self.fun, name)]
        if missing:
            raise AttributeError(
                f"BlockCoordinateDescent's fun must be one of jaxopt.objective's composite linear functions: given "
                f"{self.fun!r}, which has no {' and no '.join(missing)}."
            )
        super().__post_init__()

    def _method(self, **settings: Any) -> Any:
        return super()._method(test="curvature", **settings)

    def _problem(self, **parts: Any) -> Any:
        fun: Any = self.fun
        outer, matrix = Outer(as_function(fun.subfun, "subfun")), Matrix(as_function(fun.make_linop, "make_linop"))
        return dini.Minimize(dini.LinearComposite(outer, matrix), **parts)

    def _part(self, hyperparams: Any) -> dict[str, Any]:
        return {"penalty": Rows(as_function(self.block_prox, "block_prox"), hyperparams)}


@solver_class(
    error="the norm of the gradient mapping over an epoch",
    ignored="unroll",
    state="error num_fun_eval",
    about={
        "fun": "A function of ``jaxopt.objective``, or an object with methods ``subfun``, ``make_linop`` and ``b``.",
        "block_prox": "``block_prox(row, hyperparams_prox, scale)``, the proximal operator of one block.",
        "maxiter": "Limit on the number of epochs.",
    },
)
class BlockCoordinateDescent(_Blocks):
    """Block coordinate descent, by :class:`dini.BlockCoordinateDescent`; the blocks are the rows of the unknown.

    Where ``fun`` is no composite linear function, it raises ``AttributeError``.
    """

    fun: Function
    block_prox: Function
    maxiter: int | jax.Array = 500
    tol: Number = 1e-4
    verbose: bool | int = False
    implicit_diff: bool = True
    implicit_diff_solve: Function | None = None
    jit: AutoOrBoolean = True
    unroll: AutoOrBoolean = "auto"


class _Box(Composite):
    """A quadratic function between bounds."""

    def _stated(self, params_obj: Any, params_ineq: Any) -> tuple[Any, Given]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return dini.Minimize(dini.Quadratic(*params_obj), constraint=dini.sets.Box(*params_ineq)), ((), {})

    def init_state(self, init_params: Any, params_obj: Any = None, params_ineq: Any = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return the state before the first iteration, which is that of any program with such an unknown."""
        if params_obj is None:
            x = trees.inexact(self._start(init_params, ((), {})))
            params_obj = jnp.zeros((x.size, x.size), x.dtype), jnp.zeros_like(x)
        if params_ineq is None:
            params_ineq = -jnp.inf, jnp.inf
        return super().init_state(init_params, params_obj, params_ineq)


@solver_class(
    solver="CoordinateDescent",
    error="the norm of the gradient mapping",
    ignored="unroll",
    state="error",
)
class BoxCDQP(_Box):
    r"""Quadratic programs on a box, :math:`\min_{l \le x \le u} \tfrac12 x^\top Q x + c^\top x`, by coordinate descent.

    ``run(init_params, params_obj=(Q, c), params_ineq=(l, u))``, by :class:`dini.CoordinateDescent`. One iteration
    is one of its steps, that is some rounds over the coordinates.

    Examples
    --------
    >>> import dini_jaxopt as jaxopt, jax, jax.numpy as jnp
    >>> Q, c = jnp.array([[2.0, 1.0], [1.0, 2.0]]), jnp.array([-4.0, 1.0])
    >>> step = jaxopt.BoxCDQP().run(jnp.zeros(2), params_obj=(Q, c), params_ineq=(jnp.zeros(2), jnp.ones(2)))
    >>> print(step.params)
    [1. 0.]
    """

    maxiter: int | jax.Array = 500
    tol: Number = 1e-4
    verbose: bool | int = False
    implicit_diff: bool = True
    implicit_diff_solve: Function | None = None
    jit: AutoOrBoolean = True
    unroll: AutoOrBoolean = "auto"


# ----------------------------------------------------------------------------- mirror descent by a user's own function


class _MirrorState(NamedTuple):
    iter_num: Any
    error: Any
    aux: Any = None
    num_fun_eval: Any = 0
    num_grad_eval: Any = 0
    num_proj_eval: Any = 0
    status: Any = None


class _Mirror(IterativeSolver):
    """Mirror steps of the user's."""

    fun: Callable[..., Any]
    projection_grad: Any
    stepsize: Any
    has_aux: bool

    @staticmethod
    def make_projection_grad(projection: Callable[..., Any], mapping_fun: Callable[..., Any]) -> Callable[..., Any]:
        r"""Return the mirror step of a projection and a mirror map :math:`\nabla\varphi`."""

        def projection_grad(x: Any, gradient: Any, stepsize: Any, hyperparams_proj: Any) -> Any:
            return projection(trees.axpy(-jnp.asarray(stepsize), gradient, mapping_fun(x)), hyperparams_proj)

        return projection_grad

    def _gradient(self, x: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
        with_aux = self.fun if self.has_aux else lambda *given, **named: (self.fun(*given, **named), None)
        return jax.grad(with_aux, has_aux=True)(x, *args, **kwargs)

    def init_state(self, init_params: Any, hyperparams_proj: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Return the state before the first iteration."""
        del hyperparams_proj
        aux = self.fun(init_params, *args, **kwargs)[1] if self.has_aux else None
        none, error = jnp.zeros((), jnp.int32), jnp.full((), jnp.inf, trees.real_dtype(init_params))
        return _MirrorState(none, error, aux, none, none, none, none + Status.RUNNING)

    def update(self, params: Any, state: Any, hyperparams_proj: Any = None, *args: Any, **kwargs: Any) -> OptStep:
        """Return point and state after one iteration."""
        eta = self.stepsize(state.iter_num) if callable(self.stepsize) else self.stepsize
        eta = jnp.asarray(eta, state.error.dtype)
        gradient, aux = self._gradient(params, args, kwargs)
        new = self.projection_grad(params, gradient, eta, hyperparams_proj)
        error = trees.norm(trees.sub(new, params)).astype(state.error.dtype) / eta
        once_more = {name: getattr(state, name) + 1 for name in ("iter_num", *state._fields[3:6])}
        state = state._replace(error=error, aux=aux, **once_more)
        if self.verbose:
            self.log_info(state, error_name="Distance btw Iterates")
        return OptStep(new, state)

    def run(self, init_params: Any, hyperparams_proj: Any = None, *args: Any, **kwargs: Any) -> OptStep:
        """Iterate until a step is at most ``tol`` long, or ``maxiter`` times; see ``IterativeSolver``."""
        return super().run(init_params, hyperparams_proj, *args, **kwargs)

    def optimality_fun(self, sol: Any, hyperparams_proj: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Return the move of a step of unit size."""
        gradient = self._gradient(sol, args, kwargs)[0]
        return trees.sub(self.projection_grad(sol, gradient, 1.0, hyperparams_proj), sol)


@solver_class(
    error="the length of a step over its step size",
    ignored="unroll",
    about={
        "projection_grad": "``projection_grad(x, gradient, stepsize, hyperparams_proj)``, the next point.",
        "stepsize": "A number, or a function of the iteration.",
    },
)
class MirrorDescent(_Mirror):
    r"""Mirror descent, :math:`x \leftarrow \Pi(x, \nabla f(x), \eta)`, with a mirror step :math:`\Pi` of the user's.

    :class:`dini.MirrorDescent` knows the geometry and the set, finds the step size, and tests the problem's own
    condition; here a function is all that is known, and the test is the length of a step.

    Examples
    --------
    >>> import dini_jaxopt as jaxopt, jax, jax.numpy as jnp
    >>> step = jaxopt.MirrorDescent.make_projection_grad(lambda z, _: jax.nn.softmax(z), jnp.log)
    >>> solver = jaxopt.MirrorDescent(lambda x, c: x @ c + jnp.sum(x**2), step, stepsize=0.5, tol=1e-6)
    >>> print(solver.run(jnp.ones(2) / 2, None, jnp.array([0.0, 1.0])).params.round(3))
    [0.75 0.25]
    """

    fun: Function
    projection_grad: Function
    stepsize: Number | Function
    maxiter: int | jax.Array = 500
    tol: Number = 1e-2
    verbose: bool | int = False
    implicit_diff: bool = True
    implicit_diff_solve: Function | None = None
    has_aux: bool = False
    jit: AutoOrBoolean = True
    unroll: AutoOrBoolean = "auto"


# ------------------------------------------------------------------------------------------------- around other solvers


class _WrapperState(NamedTuple):
    iter_num: Any
    solver_state: Any
    error: Any
    anderson_state: Any
    status: Any = None


class _Accelerated(IterativeSolver):
    """Anderson acceleration of another solver's iterations."""

    solver: Any
    history_size: int
    beta: Any

    def __post_init__(self) -> None:
        self.maxiter, self.tol = self.solver.maxiter, self.solver.tol
        super().__post_init__()

    def _accelerated(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
        """Return the map of an iteration from a new state, with the solver's state after it, and the method."""
        # a momentum or a step size of another point would make it another map at each iteration
        step = lambda x: tuple(self.solver.update(x, self.solver.init_state(x, *args, **kwargs), *args, **kwargs))
        method = dini.Anderson(history=self.history_size, mixing=self.beta, atol=0.0)
        return dini.FixedPoint(step, has_aux=True), method

    def init_state(self, init_params: Any, *args: Any, **kwargs: Any) -> Any:
        """Return the state before the first iteration."""
        inner = self.solver.init_state(init_params, *args, **kwargs)
        problem, method = self._accelerated(args, kwargs)
        anderson = method.init(problem, init_params)
        none = jnp.zeros((), jnp.int32)
        return _WrapperState(none, inner, anderson.error, anderson, none + Status.RUNNING)

    def update(self, params: Any, state: Any, *args: Any, **kwargs: Any) -> OptStep:
        """Return point and state after one iteration."""
        problem, method = self._accelerated(args, kwargs)
        # the map is in the program twice, which XLA recognises
        inner = problem.aux(params)
        new, anderson = method.step(problem, params, state.anderson_state)
        error = jnp.asarray(inner.error, state.error.dtype)
        new_state = _WrapperState(state.iter_num + 1, inner, error, anderson, state.status)
        if self.verbose:
            self.log_info(new_state, error_name="Inner Solver Error")
        return OptStep(new, new_state)

    def optimality_fun(self, params: Any, *args: Any, **kwargs: Any) -> Any:
        """Return the solver's."""
        return self.solver.optimality_fun(params, *args, **kwargs)


@solver_class(
    solver="Anderson",
    renamed="history_size:history beta:mixing",
    ignored="mixing_frequency ridge unroll",
    about={
        "solver": "Any solver with ``init_state`` and ``update``; of a line search, whose steps jump, little is to be "
        "gained."
    },
)
class AndersonWrapper(_Accelerated):
    """Anderson acceleration of a solver's iterations, by :class:`dini.Anderson`.

    Each iteration of the solver is one evaluation of the accelerated map; ``maxiter`` and ``tol`` are the solver's.
    Each iteration is accelerated, and starts from the solver's initial state, without momentum. Dependent differences
    are left out.

    Examples
    --------
    >>> import dini_jaxopt as jaxopt, jax, jax.numpy as jnp
    >>> descent = jaxopt.GradientDescent(
    ...     lambda x: jnp.sum((x - 1) ** 4 + x**2), stepsize=0.1, acceleration=False, tol=1e-5
    ... )
    >>> print(jaxopt.AndersonWrapper(descent).run(jnp.zeros(2)).params.round(3))
    [0.41 0.41]
    """

    solver: Any
    history_size: int = 5
    mixing_frequency: int | None = None
    beta: Number = 1.0
    ridge: Number = 1e-5
    verbose: bool | int = False
    implicit_diff: bool = True
    implicit_diff_solve: Function | None = None
    jit: AutoOrBoolean = True
    unroll: AutoOrBoolean = "auto"
