"""Quadratic programs by JAXopt's names: OSQP's two forms, with equations alone, and by CVXPY's name."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp

import dini
from dini import Multipliers, Status
from dini.extend import dot, trees

from ._base import IterativeSolver, KKTSolution, OptStep, Solver
from ._program_data import (
    DUAL_INFEASIBLE,
    PRIMAL_INFEASIBLE,
    SOLVED,
    UNSOLVED,
    Settings,
    Vectors,
    flat,
    general,
    kkt,
    kkt_residual,
    matrix,
    objective,
    require_one_objective,
    residuals,
    solved,
    start_of,
)
from ._table import AutoOrBoolean, Function, Number, solver_class
from .linear_solve import solve_gmres
from .tree_util import tree_dot


class BoxOSQPState(NamedTuple):
    """The state of :class:`BoxOSQP`."""

    iter_num: Any
    error: Any
    status: Any
    primal_residuals: Any
    dual_residuals: Any
    rho_bar: Any
    solver_state: Any


class OSQPState(NamedTuple):
    """The state of :class:`OSQP`."""

    iter_num: Any
    error: Any
    status: Any


class _Box(NamedTuple):
    """The program of the pair ``(x, z)`` as one vector, and the vectors of both."""

    problem: Any
    like: Vectors
    image: Vectors

    def start(self, params: Any) -> Any:
        """Return a start of the program: of a solution of JAXopt's, or of nothing."""
        if params is None:
            return self.problem.start(None, None)
        x, y = flat(params.primal), flat(params.dual_eq)
        bounds = jnp.concatenate([jnp.zeros(self.problem.c.size - y.size, y.dtype), y])
        return self.problem.start(x.astype(self.problem.c.dtype), Multipliers(y, None, bounds))

    def solution(self, primal: Any, y: Any) -> KKTSolution:
        """Return a solution in JAXopt's form."""
        n, y = self.like.flat.size, self.image.unravel(y)
        # mu moves with y where y is zero, so that their difference always does
        mu = jax.tree.map(lambda part: jnp.where(part >= 0, part, 0), y)
        phi = jax.tree.map(lambda part: jnp.where(part >= 0, 0, -part), y)
        return KKTSolution((self.like.unravel(primal[:n]), self.image.unravel(primal[n:])), y, (mu, phi))

    def state(self, primal: Any, y: Any, steps: Any, *rest: Any) -> BoxOSQPState:
        """Return the state at a point; ``rest`` are error, status, step size and dini's state."""
        dual = (self.problem.gradient(primal) + dot(self.problem.A.T, y))[: self.like.flat.size]
        missed = self.image.unravel(dot(self.problem.A, primal))
        error, status, rho, inner = rest
        return BoxOSQPState(steps, error, status, missed, self.like.unravel(dual), rho, inner)


class _BoxForm(IterativeSolver):
    """The form with an image of the unknown between bounds."""

    UNSOLVED: ClassVar[int] = UNSOLVED
    SOLVED: ClassVar[int] = SOLVED
    DUAL_INFEASIBLE: ClassVar[int] = DUAL_INFEASIBLE
    PRIMAL_INFEASIBLE: ClassVar[int] = PRIMAL_INFEASIBLE

    matvec_Q: Any
    matvec_A: Any
    fun: Any
    check_primal_dual_infeasability: Any
    momentum: Any
    eq_qp_solve: str
    rho_start: Any

    def __post_init__(self) -> None:
        require_one_objective("BoxOSQP", self.fun, self.matvec_Q)
        if self.eq_qp_solve.lower() not in ("cg", "cg+jacobi", "lu"):
            raise ValueError(f"BoxOSQP's eq_qp_solve must be 'cg', 'cg+jacobi' or 'lu': given {self.eq_qp_solve!r}.")

    def settings(self, owner: str) -> Settings:
        """Return how a program is solved."""
        checks_status = self.check_primal_dual_infeasability is True
        method = self.maxiter, self.implicit_diff_solve, self.rho_start, self.momentum
        return Settings(owner, *method, raises=not self.jit, checks_status=checks_status)

    def _image(self, params_eq: Any, x: Any) -> Any:
        return (tree_dot if self.matvec_A is None else self.matvec_A)(params_eq, x)

    def _program(self, x: Any, params_obj: Any, params_eq: Any, params_ineq: Any) -> _Box:
        Q, c, like = objective("BoxOSQP", self.fun, self.matvec_Q, params_obj, x)
        A = matrix("BoxOSQP's A", self.matvec_A, params_eq, like)
        image = Vectors.of(jax.tree.map(jnp.zeros_like, self._image(params_eq, like.tree)))
        n, m, dtype = like.flat.size, image.flat.size, jnp.result_type(like.flat, image.flat)
        spread = lambda z, part: jnp.broadcast_to(jnp.asarray(part, dtype), z.shape)
        low, high = (flat(jax.tree.map(spread, image.tree, bound)) for bound in params_ineq)
        free = jnp.full(n, jnp.inf, dtype)
        if callable(Q):
            whole_Q: Any = lambda v: jnp.concatenate([jnp.asarray(Q(v[:n])), jnp.zeros(m, dtype)])
        else:
            whole_Q = jnp.zeros((n + m, n + m), dtype).at[:n, :n].set(Q)
        if callable(A):
            whole_A: Any = lambda v: A(v[:n]) - v[n:]
        else:
            whole_A = jnp.concatenate([A, -jnp.eye(m, dtype=dtype)], axis=1)
        problem = dini.QuadraticProgram(
            Q=whole_Q,
            c=jnp.concatenate([c, jnp.zeros(m, dtype)]),
            A=whole_A,
            b=jnp.zeros(m, dtype),
            lower=jnp.concatenate([-free, low]),
            upper=jnp.concatenate([free, high]),
        )
        return _Box(problem, like, image)

    def init_params(self, init_x: Any, params_obj: Any, params_eq: Any, params_ineq: Any) -> KKTSolution:
        """Return a start: ``init_x`` (or zero, for ``None``), its image in the bounds, and multipliers of zero."""
        init_x = start_of("BoxOSQP", self.fun, init_x, params_obj)
        z = jax.tree.map(jnp.clip, self._image(params_eq, init_x), *params_ineq)
        y = trees.zeros_like(z)
        return KKTSolution((init_x, z), y, (y, y))

    def run(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, init_params: Any = None, params_obj: Any = None, params_eq: Any = None, params_ineq: Any = None
    ) -> OptStep:
        """Solve the program."""
        _require("BoxOSQP", params_obj=params_obj, params_ineq=params_ineq)
        x = None if init_params is None else init_params.primal[0]
        program = self._program(x, params_obj, params_eq, params_ineq)
        end = solved(self.settings("BoxOSQP"), program.problem, *program.start(init_params))
        at = end.primal, end.dual.equality
        return OptStep(
            program.solution(*at), program.state(*at, end.steps, end.error, end.status, self.rho_start, None)
        )

    def _method(self) -> Any:
        return dini.OperatorSplitting(weight=self.rho_start, relaxation=self.momentum, block=1)

    def init_state(self, init_params: Any, params_obj: Any, params_eq: Any, params_ineq: Any) -> BoxOSQPState:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return the state at ``init_params``, before the first iteration."""
        program = self._program(init_params.primal[0], params_obj, params_eq, params_ineq)
        start, dtype = program.start(init_params), program.problem.c.dtype
        inner = self._method().init(program.problem, start)
        error, status = jnp.full((), jnp.inf, dtype), jnp.full((), UNSOLVED, jnp.int32)
        rest = jnp.zeros((), jnp.int32), error, status, jnp.asarray(self.rho_start, dtype), inner
        return program.state(start.primal, start.dual.equality, *rest)

    def update(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, params: Any, state: Any, params_obj: Any, params_eq: Any, params_ineq: Any
    ) -> OptStep:
        """Take an iteration of the method of multipliers."""
        program = self._program(params.primal[0], params_obj, params_eq, params_ineq)
        method = self._method()
        at, inner = method.step(program.problem, program.start(params), state.solver_state)
        readings = method.readings(at, inner)
        step = at.primal, at.dual.equality, state.iter_num + 1
        new = program.state(*step, state.error, state.status, readings["weight"], inner)
        error = jnp.maximum(trees.max_abs(new.primal_residuals), trees.max_abs(new.dual_residuals))
        status = jnp.where(readings["status"] == Status.DUAL_INFEASIBLE, DUAL_INFEASIBLE, UNSOLVED)
        status = jnp.where(readings["status"] == Status.PRIMAL_INFEASIBLE, PRIMAL_INFEASIBLE, status)
        status = jnp.where((status == UNSOLVED) & (error <= self.tol), SOLVED, status)
        new = new._replace(error=error, status=status.astype(jnp.int32))
        if self.verbose:
            self.log_info(new)
        return OptStep(program.solution(at.primal, at.dual.equality), new)

    def optimality_fun(self, params: Any, params_obj: Any, params_eq: Any, params_ineq: Any) -> KKTSolution:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return stationarity in ``x`` and ``z``, the residual of ``Ax = z``, and complementarity at both bounds."""
        (x, z), y, (mu, phi) = params
        problem, like, image = self._program(x, params_obj, params_eq, params_ineq)
        point, n = jnp.concatenate([flat(x), flat(z)]), like.flat.size
        stationarity, missed, _ = residuals(problem, point, flat(y), None)
        inner = stationarity[n:] + flat(mu) - flat(phi)
        held = lambda gap, dual: image.unravel(jnp.where(jnp.isinf(gap), 0, gap) * flat(dual))
        upper, lower = point[n:] - problem.upper[n:], problem.lower[n:] - point[n:]
        first = (like.unravel(stationarity[:n]), image.unravel(inner))
        return KKTSolution(first, image.unravel(missed), (held(upper, mu), held(lower, phi)))


_MATRICES = {
    "fun": "``fun(x, params_obj)``, quadratic and convex in ``x``, in place of ``Q`` and ``c``: with ``init_params``.",
    "jit": "Whether a program without a solution leaves NaN (``True``) or raises ``ValueError``.",
}
_KNOWN = "``matvec(params, x)``, where a matrix is known by its products: its place in the parameters is ``params``."


@solver_class(
    solver="OperatorSplitting",
    ignored="sigma eq_qp_solve rho_min rho_max stepsize_updates_frequency termination_check_frequency "
    "primal_infeasible_tol dual_infeasible_tol tol implicit_diff unroll",
    renamed="momentum:relaxation rho_start:weight",
    about=_MATRICES
    | {
        "matvec_Q, matvec_A": _KNOWN,
        "check_primal_dual_infeasability": "``True`` where the caller looks at the status, and wants no warning.",
        "maxiter": "Limit on the number of iterations where the method of multipliers is used.",
        "verbose": "Whether ``update`` prints a line.",
    },
)
class BoxOSQP(_BoxForm):
    r"""Quadratic programs :math:`\min_{x, z} \tfrac12 x^\top Q x + c^\top x` with :math:`Ax = z, l \le z \le u`.

    ``run(init_params, params_obj=(Q, c), params_eq=A, params_ineq=(l, u))`` solves one by
    :class:`dini.QuadraticProgram`, to rounding where an interior point method serves (see
    :func:`dini.quadratic_program`), and returns ``KKTSolution((x, z), y, (mu, phi))`` with the multipliers ``y`` of
    :math:`Ax = z` and :math:`\mu, \phi \ge 0` of :math:`z \le u` and :math:`l \le z`, :math:`y = \mu - \phi`. The
    state's ``status`` is one of ``UNSOLVED``, ``SOLVED``, ``DUAL_INFEASIBLE``, ``PRIMAL_INFEASIBLE``. A program
    without a solution is always found out: its point is NaN, and outside of ``jit`` and ``vmap`` there is a
    warning. Unknowns are trees, and matrices trees like them, whose leaves act on their leaves. ``update`` takes an
    iteration of the alternating direction method of multipliers, by :class:`dini.OperatorSplitting`. Derivatives
    are always those of the solution.

    Examples
    --------
    >>> import dini_jaxopt as jaxopt, jax, jax.numpy as jnp
    >>> Q, c, A = jnp.eye(2), jnp.array([-2.0, 0.5]), jnp.eye(2)
    >>> step = jaxopt.BoxOSQP().run(None, (Q, c), A, (jnp.zeros(2), jnp.ones(2)))
    >>> print(step.params.primal[0].round(3), step.params.dual_ineq[0].round(3), step.state.status)
    [1. 0.] [1. 0.] 1
    """

    matvec_Q: Function | None = None
    matvec_A: Function | None = None
    fun: Function | None = None
    check_primal_dual_infeasability: AutoOrBoolean = "auto"
    sigma: Number = 1e-6
    momentum: Number = 1.6
    eq_qp_solve: str = "cg"
    rho_start: Number = 0.1
    rho_min: Number = 1e-6
    rho_max: Number = 1e6
    stepsize_updates_frequency: int = 10
    primal_infeasible_tol: Number = 1e-3
    dual_infeasible_tol: Number = 1e-3
    maxiter: int | jax.Array = 4000
    tol: Number = 1e-3
    termination_check_frequency: int = 5
    verbose: bool | int = False
    implicit_diff: bool = True
    implicit_diff_solve: Function | None = None
    jit: AutoOrBoolean = True
    unroll: AutoOrBoolean = "auto"


class _General(Solver):
    """The form with equations and inequalities."""

    def _maps(self) -> tuple[Any, Any, Any, Any]:
        """Return ``fun`` and the three products."""
        return tuple(getattr(self, name, None) for name in ("fun", "matvec_Q", "matvec_A", "matvec_G"))  # pyright: ignore[reportReturnType]

    def _settings(self) -> Settings:
        """Return how a program is solved."""
        raise NotImplementedError

    def _state(self, end: Any) -> Any:
        del end

    def _program(self, x: Any, params_obj: Any, params_eq: Any, params_ineq: Any) -> tuple[Any, Vectors]:
        return general(type(self).__name__, self._maps(), params_obj, params_eq, params_ineq, x)

    def _start(self, problem: Any, init_params: Any) -> Any:
        """Return a point and multipliers to start at."""
        del problem, init_params
        return None, None

    def run(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, init_params: Any = None, params_obj: Any = None, params_eq: Any = None, params_ineq: Any = None
    ) -> OptStep:
        """Solve the program; ``init_params`` says what ``x`` is where ``fun`` is given."""
        _require(type(self).__name__, params_obj=params_obj)
        # who has arrays need not say what they act on
        x = None if init_params is None or self._maps()[0] is None else init_params.primal
        problem, like = self._program(x, params_obj, params_eq, params_ineq)
        end = solved(self._settings(), problem, *self._start(problem, init_params))
        return OptStep(kkt(end, like, params_eq, params_ineq), self._state(end))

    def optimality_fun(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, params: Any, params_obj: Any, params_eq: Any = None, params_ineq: Any = None
    ) -> KKTSolution:
        """Return stationarity, the residual of the equations, and complementarity."""
        return kkt_residual(self._program(params.primal, params_obj, params_eq, params_ineq)[0], params)


class OSQP(_General):
    r"""Quadratic programs :math:`\min_x \tfrac12 x^\top Q x + c^\top x` with :math:`Ax = b` and :math:`Gx \le h`.

    ``run(init_params, params_obj=(Q, c), params_eq=(A, b), params_ineq=(G, h))`` solves one by
    :class:`dini.QuadraticProgram` and returns ``KKTSolution(x, y, z)`` with the multipliers of both kinds of
    constraints, ``None`` where there are none of a kind; both may be missing. The rest is as for :class:`BoxOSQP`,
    whose settings are taken by name.

    Parameters
    ----------
    matvec_Q, matvec_A, matvec_G
        ``matvec(params, x)``, where a matrix is known by its products: its place in the parameters is ``params``.
    fun
        ``fun(x, params_obj)``, quadratic and convex in ``x``, in place of ``Q`` and ``c``; ``init_params`` is needed.
    **kwargs
        Settings of :class:`BoxOSQP`.

    Examples
    --------
    >>> import dini_jaxopt as jaxopt, jax, jax.numpy as jnp
    >>> Q, c = 2 * jnp.array([[2.0, 0.5], [0.5, 1.0]]), jnp.array([1.0, 1.0])
    >>> A, b, G, h = jnp.ones((1, 2)), jnp.array([1.0]), -jnp.eye(2), jnp.zeros(2)
    >>> step = jaxopt.OSQP().run(params_obj=(Q, c), params_eq=(A, b), params_ineq=(G, h))
    >>> print(step.params.primal.round(3), step.params.dual_eq.round(3), step.state.status)
    [0.25 0.75] [-2.75] 1
    >>> solution = lambda b: jaxopt.OSQP().run(params_obj=(Q, c), params_eq=(A, b), params_ineq=(G, h)).params.primal
    >>> print(jax.jacobian(solution)(b).round(3))
    [[0.25]
     [0.75]]
    """

    def __init__(
        self, *, matvec_Q: Any = None, matvec_A: Any = None, matvec_G: Any = None, fun: Any = None, **kwargs: Any
    ):
        require_one_objective("OSQP", fun, matvec_Q)
        self.matvec_Q, self.matvec_A, self.matvec_G, self.fun = matvec_Q, matvec_A, matvec_G, fun
        self._box = BoxOSQP(**kwargs)

    def _settings(self) -> Settings:
        return self._box.settings("OSQP")

    def _state(self, end: Any) -> Any:
        return OSQPState(end.steps, end.error, end.status)

    def _start(self, problem: Any, init_params: Any) -> Any:
        if init_params is None:
            return None, None
        x, y, z = (None if part is None else flat(part).astype(problem.c.dtype) for part in init_params)
        return x, Multipliers(y, z, None)

    def init_params(self, init_x: Any, params_obj: Any, params_eq: Any, params_ineq: Any) -> KKTSolution:
        """Return a start: ``init_x`` (or zero, for ``None``) and multipliers of zero."""
        init_x = start_of("OSQP", self.fun, init_x, params_obj)
        zero = lambda given: None if given is None else trees.zeros_like(trees.inexact(given[1]))
        return KKTSolution(init_x, zero(params_eq), zero(params_ineq))


class _Equations(_General):
    """Equations alone."""

    maxiter: Any
    implicit_diff_solve: Any
    jit: Any
    fun: Any
    matvec_Q: Any

    def __post_init__(self) -> None:
        require_one_objective("EqualityConstrainedQP", self.fun, self.matvec_Q)

    def run(self, init_params: Any = None, params_obj: Any = None, params_eq: Any = None) -> OptStep:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Solve the program; ``init_params`` says what ``x`` is where ``fun`` is given."""
        return super().run(init_params, params_obj, params_eq)

    def _settings(self) -> Settings:
        return Settings("EqualityConstrainedQP", self.maxiter, self.implicit_diff_solve, raises=not self.jit)


@solver_class(
    ignored="solve refine_regularization refine_maxiter tol",
    about=_MATRICES
    | {
        "matvec_Q, matvec_A": _KNOWN,
        "maxiter": "Limit on the number of iterations where matrices are known by products and too large to be made.",
    },
)
class EqualityConstrainedQP(_Equations):
    r"""Quadratic programs with equations alone, :math:`\min_x \tfrac12 x^\top Q x + c^\top x` with :math:`Ax = b`.

    ``run(init_params, params_obj=(Q, c), params_eq=(A, b))`` solves the linear system of the optimality conditions,
    by :class:`dini.QuadraticProgram`, and returns ``KKTSolution(x, y, None)``. Rows of ``A`` may depend on each
    other. A program without a solution, or with a ``Q`` that is not positive semidefinite, is NaN and warns.

    Examples
    --------
    >>> import dini_jaxopt as jaxopt, jax, jax.numpy as jnp
    >>> Q, c = 2 * jnp.array([[2.0, 0.5], [0.5, 1.0]]), jnp.array([1.0, 1.0])
    >>> A, b = jnp.ones((1, 2)), jnp.array([1.0])
    >>> step = jaxopt.EqualityConstrainedQP().run(params_obj=(Q, c), params_eq=(A, b))
    >>> print(step.params.primal.round(3), step.params.dual_eq.round(3))
    [0.25 0.75] [-2.75]
    """

    matvec_Q: Function | None = None
    matvec_A: Function | None = None
    fun: Function | None = None
    solve: Function | None = solve_gmres
    refine_regularization: Number = 0.0
    refine_maxiter: int = 10
    maxiter: int | jax.Array = 1000
    tol: Number = 1e-5
    implicit_diff_solve: Function | None = None
    jit: AutoOrBoolean = True


class _Arrays(_General):
    """Programs of arrays."""

    implicit_diff_solve: Any

    def _settings(self) -> Settings:
        return Settings("CvxpyQP", implicit_diff_solve=self.implicit_diff_solve, raises=True)


@solver_class(
    ignored="solver",
)
class CvxpyQP(_Arrays):
    r"""Quadratic programs of arrays, :math:`\min_x \tfrac12 x^\top Q x + c^\top x` with :math:`Ax = b, Gx \le h`.

    ``run(init_params, params_obj=(Q, c), params_eq=None, params_ineq=None)`` returns ``KKTSolution(x, y, z)``. It
    is solved by :class:`dini.QuadraticProgram`, not by CVXPY, which need not be there: to rounding, and under
    ``jit``, ``vmap`` and on accelerators as well. A program without a solution raises ``ValueError`` (NaN where
    that is traced).

    Examples
    --------
    >>> import dini_jaxopt as jaxopt, jax, jax.numpy as jnp
    >>> Q, c, G, h = jnp.eye(2), jnp.array([-2.0, -3.0]), jnp.ones((1, 2)), jnp.array([1.0])
    >>> step = jaxopt.CvxpyQP().run(None, (Q, c), params_ineq=(G, h))
    >>> print(step.params.primal.round(3), step.params.dual_ineq.round(3))
    [0. 1.] [2.]
    """

    solver: str = "OSQP"
    implicit_diff_solve: Function | None = None


def _require(owner: str, **given: Any) -> None:
    """Raise where parameters that are needed are missing."""
    for name, value in given.items():
        if value is None:
            raise ValueError(f"{owner}.run needs {name}: given None.")
