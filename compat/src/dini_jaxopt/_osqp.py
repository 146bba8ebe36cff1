"""OSQP and BoxOSQP by JAXopt's names."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from dini import trees
from dini.problems import Multipliers, QuadraticProgram
from dini.solvers import OperatorSplitting
from dini.status import Status
from dini.trees.products import dot

from ._base import AutoOrBoolean, IterativeSolver, KKTSolution, OptStep, Solver
from ._program_data import (
    DUAL_INFEASIBLE,
    PRIMAL_INFEASIBLE,
    SOLVED,
    UNSOLVED,
    End,
    Settings,
    Vectors,
    general,
    kkt,
    matrix,
    objective,
    require_one_objective,
    residuals,
    solved,
)
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


@dataclasses.dataclass(eq=False)
class BoxOSQP(IterativeSolver):
    r"""Quadratic programs :math:`\min_{x, z} \tfrac12 x^\top Q x + c^\top x` with :math:`Ax = z, l \le z \le u`.

    ``run(init_params, params_obj=(Q, c), params_eq=A, params_ineq=(l, u))`` solves one by
    :class:`dini.QuadraticProgram`, to rounding where an interior point method serves (see
    :func:`dini.quadratic_program`), and returns ``KKTSolution((x, z), y, (mu, phi))`` with the multipliers ``y`` of
    :math:`Ax = z` and :math:`\mu, \phi \ge 0` of :math:`z \le u` and :math:`l \le z`, :math:`y = \mu - \phi`. The
    state's ``status`` is one of ``UNSOLVED``, ``SOLVED``, ``DUAL_INFEASIBLE``, ``PRIMAL_INFEASIBLE``. A program without
    a solution is always found out: its point is NaN, and outside of ``jit`` and ``vmap`` there is a warning.

    Unknowns are trees, and matrices trees like them, whose leaves act on their leaves. ``update`` takes an iteration of
    the alternating direction method of multipliers, by :class:`dini.OperatorSplitting`.

    Parameters
    ----------
    matvec_Q, matvec_A
        ``matvec(params, x)``, where a matrix is known by its products: its place in the parameters is ``params``.
    fun
        ``fun(x, params_obj)``, quadratic and convex in ``x``, in place of ``Q`` and ``c``; ``init_params`` is needed.
    check_primal_dual_infeasability
        ``True`` where the caller looks at the status, and wants no warning. Without ``jit`` a program without a
        solution raises.
    momentum, rho_start, maxiter
        Relaxation, first step size, and limit on the number of iterations, where the method of multipliers is used.
    sigma, eq_qp_solve, rho_min, rho_max, stepsize_updates_frequency, termination_check_frequency
        Taken for JAXopt's sake: dini has rules of its own for these.
    primal_infeasible_tol, dual_infeasible_tol, tol
        Taken for JAXopt's sake: solutions and certificates are exact to about half of the digits or better.
    verbose
        Whether ``update`` prints a line.
    implicit_diff, unroll
        Derivatives are always those of the solution.
    implicit_diff_solve
        A linear solver ``solve(matvec, b)`` for the derivative; by default dini chooses.
    jit
        Whether a program without a solution leaves NaN (``True``) or raises.

    Raises
    ------
    ValueError
        Where the parameters do not fit, or without ``jit`` there is no solution.

    Examples
    --------
    >>> import dini_jaxopt as jaxopt, jax.numpy as jnp
    >>> Q, c, A = jnp.eye(2), jnp.array([-2.0, 0.5]), jnp.eye(2)
    >>> step = jaxopt.BoxOSQP().run(None, (Q, c), A, (jnp.zeros(2), jnp.ones(2)))
    >>> print(step.params.primal[0].round(3), step.params.dual_ineq[0].round(3), step.state.status)
    [1. 0.] [1. 0.] 1
    """

    matvec_Q: Callable[..., Any] | None = None
    matvec_A: Callable[..., Any] | None = None
    fun: Callable[..., Any] | None = None
    check_primal_dual_infeasability: AutoOrBoolean = "auto"
    sigma: float = 1e-6
    momentum: float = 1.6
    eq_qp_solve: str = "cg"
    rho_start: float = 0.1
    rho_min: float = 1e-6
    rho_max: float = 1e6
    stepsize_updates_frequency: int = 10
    primal_infeasible_tol: float = 1e-3
    dual_infeasible_tol: float = 1e-3
    maxiter: int = 4000
    tol: Any = 1e-3
    termination_check_frequency: int = 5
    verbose: Any = False
    implicit_diff: bool = True
    implicit_diff_solve: Any = None
    jit: bool = True
    unroll: AutoOrBoolean = "auto"

    UNSOLVED: ClassVar[int] = UNSOLVED
    SOLVED: ClassVar[int] = SOLVED
    DUAL_INFEASIBLE: ClassVar[int] = DUAL_INFEASIBLE
    PRIMAL_INFEASIBLE: ClassVar[int] = PRIMAL_INFEASIBLE

    def __post_init__(self) -> None:
        require_one_objective("BoxOSQP", self.fun, self.matvec_Q)
        if self.eq_qp_solve.lower() not in ("cg", "cg+jacobi", "lu"):
            raise ValueError(f"BoxOSQP's eq_qp_solve must be 'cg', 'cg+jacobi' or 'lu': given {self.eq_qp_solve!r}.")

    def settings(self, owner: str) -> Settings:
        """Return how a program is solved."""
        return Settings(
            owner,
            self.maxiter,
            self.implicit_diff_solve,
            self.rho_start,
            self.momentum,
            raises=not self.jit,
            told=self.check_primal_dual_infeasability is True,
        )

    def _image(self, params_eq: Any, x: Any) -> Any:
        return (tree_dot if self.matvec_A is None else self.matvec_A)(params_eq, x)

    def _program(self, x: Any, params_obj: Any, params_eq: Any, params_ineq: Any) -> tuple[Any, Vectors, Vectors]:
        """Return the program of the pair ``(x, z)`` as one vector, and the vectors of both."""
        Q, c, like = objective("BoxOSQP", self.fun, self.matvec_Q, params_obj, x)
        A = matrix("BoxOSQP's A", self.matvec_A, params_eq, like)
        image = Vectors.of(jax.tree.map(jnp.zeros_like, self._image(params_eq, like.unravel(like.flat))))
        n, m, dtype = like.flat.size, image.flat.size, jnp.result_type(like.flat, image.flat)
        full = lambda bound: ravel_pytree(
            jax.tree.map(lambda z, part: jnp.broadcast_to(jnp.asarray(part, dtype), z.shape), _tree(image), bound)
        )[0]
        low, high = map(full, params_ineq)
        free = jnp.full(n, jnp.inf, dtype)
        if callable(Q):
            whole_Q: Any = lambda v: jnp.concatenate([jnp.asarray(Q(v[:n])), jnp.zeros(m, dtype)])
        else:
            whole_Q = jnp.zeros((n + m, n + m), dtype).at[:n, :n].set(Q)
        if callable(A):
            whole_A: Any = lambda v: A(v[:n]) - v[n:]
        else:
            whole_A = jnp.concatenate([A, -jnp.eye(m, dtype=dtype)], axis=1)
        problem = QuadraticProgram(
            Q=whole_Q,
            c=jnp.concatenate([c, jnp.zeros(m, dtype)]),
            A=whole_A,
            b=jnp.zeros(m, dtype),
            lower=jnp.concatenate([-free, low]),
            upper=jnp.concatenate([free, high]),
        )
        return problem, like, image

    def init_params(self, init_x: Any, params_obj: Any, params_eq: Any, params_ineq: Any) -> KKTSolution:
        """Return a start: ``init_x`` (or zero, for ``None``), its image in the bounds, and multipliers of zero."""
        if init_x is None:
            if self.fun is not None:
                raise ValueError("BoxOSQP.init_params needs init_x where fun is given: only it says what x is.")
            init_x = trees.zeros_like(trees.inexact(params_obj[1]))
        z = jax.tree.map(jnp.clip, self._image(params_eq, init_x), *params_ineq)
        y = trees.zeros_like(z)
        return KKTSolution((init_x, z), y, (y, y))

    def _started(self, init_params: Any, program: Any) -> tuple[Any, Any]:
        """Return a vector and multipliers to start at."""
        problem, _, _ = program
        if init_params is None:
            return None, None
        x, y = ravel_pytree(init_params.primal)[0], ravel_pytree(init_params.dual_eq)[0]
        bounds = jnp.concatenate([jnp.zeros(problem.c.size - y.size, y.dtype), y])
        return x.astype(problem.c.dtype), Multipliers(y, None, bounds)

    def _solution(self, primal: Any, y: Any, program: Any) -> KKTSolution:
        _, like, image = program
        n = like.flat.size
        y = image.unravel(y)
        # mu moves with y where y is zero, so that their difference always does
        mu = jax.tree.map(lambda part: jnp.where(part >= 0, part, 0), y)
        phi = jax.tree.map(lambda part: jnp.where(part >= 0, 0, -part), y)
        return KKTSolution((like.unravel(primal[:n]), image.unravel(primal[n:])), y, (mu, phi))

    def _stated_as(self, step: Any, program: Any, error: Any, status: Any, rho: Any, inner: Any) -> BoxOSQPState:
        problem, like, image = program
        primal, y, steps = step
        n = like.flat.size
        dual = (problem.gradient(primal) + dot(problem.A.T, y))[:n]
        missed = dot(problem.A, primal)
        return BoxOSQPState(steps, error, status, image.unravel(missed), like.unravel(dual), rho, inner)

    def run(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, init_params: Any = None, params_obj: Any = None, params_eq: Any = None, params_ineq: Any = None
    ) -> OptStep:
        """Solve the program."""
        _require("BoxOSQP", params_obj=params_obj, params_ineq=params_ineq)
        x = None if init_params is None else init_params.primal[0]
        program = self._program(x, params_obj, params_eq, params_ineq)
        end = solved(self.settings("BoxOSQP"), program[0], *self._started(init_params, program))
        step = end.primal, end.dual.equality, end.steps
        state = self._stated_as(step, program, end.error, end.status, self.rho_start, None)
        return OptStep(self._solution(end.primal, end.dual.equality, program), state)

    def _method(self) -> OperatorSplitting:
        return OperatorSplitting(weight=self.rho_start, relaxation=self.momentum, block=1)

    def init_state(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, init_params: Any, params_obj: Any, params_eq: Any, params_ineq: Any
    ) -> BoxOSQPState:
        """Return the state at ``init_params``, before the first iteration."""
        program = self._program(init_params.primal[0], params_obj, params_eq, params_ineq)
        problem = program[0]
        start = problem.start(*self._started(init_params, program))
        inner = self._method().init(problem, start)
        step = start.primal, start.dual.equality, jnp.zeros((), jnp.int32)
        error, status = jnp.full((), jnp.inf, problem.c.dtype), jnp.full((), UNSOLVED, jnp.int32)
        return self._stated_as(step, program, error, status, jnp.asarray(self.rho_start, problem.c.dtype), inner)

    def update(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, params: Any, state: Any, params_obj: Any, params_eq: Any, params_ineq: Any
    ) -> OptStep:
        """Take an iteration of the method of multipliers."""
        program = self._program(params.primal[0], params_obj, params_eq, params_ineq)
        problem = program[0]
        start = problem.start(*self._started(params, program))
        at, inner = self._method().step(problem, start, state.solver_state)
        step = at.primal, at.dual.equality, state.iter_num + 1
        new = self._stated_as(step, program, state.error, state.status, inner.rho, inner)
        error = jnp.maximum(trees.max_abs(new.primal_residuals), trees.max_abs(new.dual_residuals))
        status = jnp.where(inner.status == Status.DUAL_INFEASIBLE, DUAL_INFEASIBLE, UNSOLVED)
        status = jnp.where(inner.status == Status.PRIMAL_INFEASIBLE, PRIMAL_INFEASIBLE, status)
        status = jnp.where((status == UNSOLVED) & (error <= self.tol), SOLVED, status)
        new = new._replace(error=error, status=status.astype(jnp.int32))
        if self.verbose:
            self.log_info(new)
        return OptStep(self._solution(at.primal, at.dual.equality, program), new)

    def optimality_fun(self, params: Any, params_obj: Any, params_eq: Any, params_ineq: Any) -> KKTSolution:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return stationarity in ``x`` and ``z``, the residual of ``Ax = z``, and complementarity at both bounds."""
        (x, z), y, (mu, phi) = params
        problem, like, image = self._program(x, params_obj, params_eq, params_ineq)
        point = jnp.concatenate([ravel_pytree(x)[0], ravel_pytree(z)[0]])
        flat = lambda tree: ravel_pytree(tree)[0]
        n = like.flat.size
        stationarity, missed, _ = residuals(problem, point, flat(y), None)
        inner = stationarity[n:] + flat(mu) - flat(phi)
        held = lambda gap, dual: image.unravel(jnp.where(jnp.isinf(gap), 0, gap) * flat(dual))
        upper, lower = point[n:] - problem.upper[n:], problem.lower[n:] - point[n:]
        first = (like.unravel(stationarity[:n]), image.unravel(inner))
        return KKTSolution(first, image.unravel(missed), (held(upper, mu), held(lower, phi)))


class OSQP(Solver):
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
        self,
        *,
        matvec_Q: Callable[..., Any] | None = None,
        matvec_A: Callable[..., Any] | None = None,
        matvec_G: Callable[..., Any] | None = None,
        fun: Callable[..., Any] | None = None,
        **kwargs: Any,
    ):
        require_one_objective("OSQP", fun, matvec_Q)
        self.matvec_Q, self.matvec_A, self.matvec_G, self.fun = matvec_Q, matvec_A, matvec_G, fun
        self._settings = BoxOSQP(**kwargs)

    def _program(self, x: Any, params_obj: Any, params_eq: Any, params_ineq: Any) -> tuple[QuadraticProgram, Vectors]:
        maps = self.fun, self.matvec_Q, self.matvec_A, self.matvec_G
        return general("OSQP", maps, params_obj, params_eq, params_ineq, x)

    def init_params(self, init_x: Any, params_obj: Any, params_eq: Any, params_ineq: Any) -> KKTSolution:
        """Return a start: ``init_x`` (or zero, for ``None``) and multipliers of zero."""
        if init_x is None:
            if self.fun is not None:
                raise ValueError("OSQP.init_params needs init_x where fun is given: only it says what x is.")
            init_x = trees.zeros_like(trees.inexact(params_obj[1]))
        zero = lambda given: None if given is None else trees.zeros_like(trees.inexact(given[1]))
        return KKTSolution(init_x, zero(params_eq), zero(params_ineq))

    def run(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, init_params: Any = None, params_obj: Any = None, params_eq: Any = None, params_ineq: Any = None
    ) -> OptStep:
        """Solve the program."""
        _require("OSQP", params_obj=params_obj)
        x = None if init_params is None else init_params.primal
        problem, like = self._program(x, params_obj, params_eq, params_ineq)
        flat = lambda tree: None if tree is None else ravel_pytree(tree)[0].astype(problem.c.dtype)
        start: Any = (None, None)
        if init_params is not None:
            start = flat(x), Multipliers(flat(init_params.dual_eq), flat(init_params.dual_ineq), None)
        end: End = solved(self._settings.settings("OSQP"), problem, *start)
        return OptStep(kkt(end, like, params_eq, params_ineq), OSQPState(end.steps, end.error, end.status))

    def optimality_fun(
        self, params: Any, params_obj: Any, params_eq: Any = None, params_ineq: Any = None
    ) -> KKTSolution:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return stationarity, the residual of the equations, and complementarity."""
        problem, _ = self._program(params.primal, params_obj, params_eq, params_ineq)
        return kkt_residual(problem, params)


def kkt_residual(problem: QuadraticProgram, params: KKTSolution) -> KKTSolution:
    """Return the optimality conditions of a program in the structure of its solution."""
    flat = lambda tree: None if tree is None else ravel_pytree(tree)[0]
    parts = residuals(problem, *map(flat, params))
    back = [None if tree is None else Vectors.of(tree).unravel(part) for tree, part in zip(params, parts, strict=True)]
    return KKTSolution(*back)


def _tree(vectors: Vectors) -> Any:
    return vectors.unravel(vectors.flat)


def _require(owner: str, **given: Any) -> None:
    """Raise where parameters that are needed are missing."""
    for name, value in given.items():
        if value is None:
            raise ValueError(f"{owner}.run needs {name}: given None.")
