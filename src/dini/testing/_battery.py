"""One battery for all solvers: problem × differentiation × transformation, against closed forms."""

from __future__ import annotations

import dataclasses
import functools
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, overload

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from .. import trees
from ..differentiation import Implicit, OneStep, Unrolled
from ..protocols import AnySolver
from ..solvers import Solver
from ..solving import solve
from ._registry import Case, cases
from ._requirements import requirement

#: transformations of the battery
TRANSFORMATIONS = ("derivatives", "vmap", "hessian", "closure", "float32")


@dataclass(frozen=True)
class Check:
    """One cell: call it to run it; it raises ``AssertionError`` where the result is wrong.

    Whatever it raises has a note that names the requirement of a solver that is not met.
    """

    case: Case
    solver: Solver
    differentiation: Any
    transformation: str
    rtol: float

    @property
    def name(self) -> str:
        """The cell in words."""
        mode = type(self.differentiation).__name__
        return f"{self.solver.name}-{self.case.name}-{mode}-{self.transformation}".replace(" ", "_")

    def __call__(self) -> None:
        """Run the check."""
        try:
            getattr(self, f"_{self.transformation}")()
        except Exception as error:
            error.add_note(f"Requirement: {self.requirement()}.")
            raise

    def requirement(self) -> str:
        """Return which requirement of a solver is not met, where the check fails."""
        solver = self.solver
        if self.transformation == "float32":
            solver = dataclasses.replace(solver, rtol=None, atol=None)
        rtol = 1e-2 if self.transformation == "float32" else self.rtol
        return requirement(solver, self.case, self.differentiation, self.transformation, rtol)

    def _solve(self, theta: Any, init: Any, differentiation: Any = None) -> Any:
        problem, args = self.case.make(theta)
        mode = self.differentiation if differentiation is None else differentiation
        return solve(problem, self.solver, init, *args, differentiation=mode).x

    def _near(self, got: Any, want: Any, rtol: float, what: str) -> None:
        trees.require_same(f"{what} of {self.name}", got, want, "the closed form")
        flat_got, flat_want = (np.asarray(ravel_pytree(tree)[0]) for tree in (got, want))
        error = np.linalg.norm(flat_got - flat_want) / max(np.linalg.norm(flat_want), 1.0)
        if not error <= rtol:
            raise AssertionError(f"{what} of {self.name}: relative error {error:.2e}, allowed {rtol:.0e}.")

    def _flat(self, dtype: Any) -> tuple[Any, Any, Any, Any]:
        """Return the solution map on flat real vectors, its closed form, and the parameter."""
        theta, closed, init, rebuild, flatten = _closed_form(self.case, jax.dtypes.canonicalize_dtype(dtype))
        return lambda t: flatten(self._solve(rebuild(t), init)), closed, theta, (init, rebuild, flatten)

    def _derivatives(self) -> None:
        """Solution, forward and reverse Jacobians, under ``jit``; the two modes must agree to rounding."""
        solution, closed, theta, _ = self._flat(jnp.float64)
        value, forward, reverse = _solution_and_jacobians(solution, theta)
        want, jacobian = _solution_and_jacobians(closed, theta)[:2]
        self._near(value, want, self.rtol, "solution")
        self._near(forward, jacobian, self.rtol, "forward Jacobian")
        self._near(reverse, jacobian, self.rtol, "reverse Jacobian")
        self._near(reverse, forward, 1e-10, "reverse against forward Jacobian")

    def _vmap(self) -> None:
        """Values and gradients of a batch are those of lone solves."""
        solution, closed, theta, _ = self._flat(jnp.float64)
        batch = jnp.stack([theta, theta * 1.01, theta * 0.98])

        def total(t: Any) -> Any:
            x = solution(t)
            return jnp.sum(jnp.cos(x)), x

        got, values = jax.jit(jax.vmap(jax.grad(total, has_aux=True)))(batch)
        truths = [_solution_and_jacobians(closed, t) for t in batch]
        points, want = (jnp.stack(parts) for parts in zip(*((x, -jnp.sin(x) @ J) for x, J, _ in truths), strict=True))
        self._near(values, points, self.rtol, "batch of solutions")
        self._near(got, want, 10 * self.rtol, "batch of gradients")

    def _hessian(self) -> None:
        """Second derivatives: forward over reverse, and reverse over reverse."""
        solution, closed, theta, _ = self._flat(jnp.float64)
        _, forward, reverse = _solution_and_jacobians(jax.grad(lambda t: jnp.sum(jnp.cos(solution(t)))), theta)
        want = _hessian_of_cosines(closed, theta)
        self._near(forward, want, 100 * self.rtol, "forward-over-reverse Hessian")
        self._near(reverse, want, 100 * self.rtol, "reverse-over-reverse Hessian")

    def _closure(self) -> None:
        """Parameters that the problem's function closes over, eagerly, under ``jit`` and inside ``scan``."""
        _, closed, theta, (init, rebuild, flatten) = self._flat(jnp.float64)
        _, args = self.case.make(rebuild(theta))

        def solution(t: Any) -> Any:
            problem, args = self.case.make(rebuild(t))
            inner = problem.fun
            closed = dataclasses.replace(problem, fun=lambda x: inner(x, *args))
            return flatten(solve(closed, self.solver, init, differentiation=self.differentiation).x)

        def scanned(t: Any) -> Any:
            return jax.lax.scan(lambda carry, _: (carry + jnp.sum(jnp.cos(solution(t))), None), 0.0, None, length=2)[0]

        del args
        x, want, _ = _solution_and_jacobians(closed, theta)
        self._near(jax.jacrev(solution)(theta), want, self.rtol, "Jacobian through a closure")
        want = -2 * jnp.sin(x) @ want
        self._near(jax.jit(jax.grad(scanned))(theta), want, 10 * self.rtol, "gradient through a closure in scan")

    def _float32(self) -> None:
        """Single precision, with the solver's default tolerance."""
        solver = dataclasses.replace(self.solver, rtol=None, atol=None)
        solution, closed, theta, _ = dataclasses.replace(self, solver=solver)._flat(jnp.float32)
        value, _, jacobian = _solution_and_jacobians(solution, theta)
        want, closed_jacobian = _solution_and_jacobians(closed, theta)[:2]
        self._near(value, want, 1e-2, "solution in float32")
        self._near(jacobian, closed_jacobian, 3e-2, "Jacobian in float32")


@functools.cache
def _closed_form(case: Case, dtype: Any) -> tuple[Any, ...]:
    """Return a case's parameter as a flat real vector, and its closed form: one function for all solvers' checks."""
    init, theta = case.arrays(dtype)
    flat, unravel = ravel_pytree(trees.to_real(theta))
    rebuild = lambda t: trees.from_real(unravel(t))
    flatten = lambda x: ravel_pytree(trees.to_real(x))[0]
    return flat, lambda t: flatten(case.solution(rebuild(t))), init, rebuild, flatten


@partial(jax.jit, static_argnums=0)
def _hessian_of_cosines(solution: Callable[[Any], Any], theta: Any) -> Any:
    return jax.hessian(lambda t: jnp.sum(jnp.cos(solution(t))))(theta)


@partial(jax.jit, static_argnums=0)
def _solution_and_jacobians(solution: Callable[[Any], Any], theta: Any) -> tuple[Any, Any, Any]:
    """Return the value and the forward and reverse Jacobians of a map of vectors, in one program with one solve."""
    x, forward = jax.linearize(solution, theta)
    reverse = jax.linear_transpose(forward, theta)
    columns = jax.vmap(forward, out_axes=-1)(jnp.eye(theta.size, dtype=theta.dtype))
    rows = jax.vmap(lambda cotangent: reverse(cotangent)[0])(jnp.eye(x.size, dtype=x.dtype))
    return x, columns, rows


class Battery(Sequence[Check]):
    """The checks of a solver, as :func:`battery` returns them: a sequence, and a function that runs them all."""

    def __init__(self, solver: Solver, checks: tuple[Check, ...]) -> None:
        self.solver = solver
        self._checks = checks
        self._looked_at = False

    @overload
    def __getitem__(self, place: int) -> Check: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[Check]: ...
    def __getitem__(self, place: int | slice) -> Check | Sequence[Check]:
        self._looked_at = True
        return self._checks[place]

    def __len__(self) -> int:
        return len(self._checks)

    def __call__(self) -> str:
        """Run all checks, and return what was run, in a sentence.

        Raises
        ------
        AssertionError
            Where checks fail: each with what it raised, and the requirement of a solver that is not met.
        """
        failed = []
        for check in self:
            try:
                check()
            except Exception as error:
                said = f"{type(error).__name__}: {error} {error.__notes__[-1]}".split()
                failed.append(f"{check.name}\n    {' '.join(said)}")
        if failed:
            raise AssertionError(
                f"{self.solver.name} failed {len(failed)} of {len(self)} checks, {self._about()}:\n" + "\n".join(failed)
            )
        return f"{self.solver.name} passed {len(self)} checks: {self._about()}"

    def _about(self) -> str:
        def each(names: Iterable[str], what: str) -> str:
            known = list(dict.fromkeys(names))
            return f"{len(known)} {what}{'' if len(known) == 1 else 's'} ({', '.join(known)})"

        problems = each((check.case.name for check in self._checks), "problem")
        modes = each((type(check.differentiation).__name__ for check in self._checks), "mode")
        return f"{problems} x {modes} x {', '.join(dict.fromkeys(check.transformation for check in self._checks))}"

    def __repr__(self) -> str:
        return f"<battery of {len(self)} checks of {self.solver.name}: {self._about()}; call it to run them>"

    def __del__(self) -> None:
        if not getattr(self, "_looked_at", True):
            warnings.warn(
                f"battery({self.solver.name}) has {len(self)} checks, and none was run. Call what it returns, "
                "battery(solver)(), or each of its checks.",
                stacklevel=2,
            )


#: cells that cannot hold, each with its reason
def _skipped(case: Case, solver: AnySolver, differentiation: Any, transformation: str) -> str | None:
    one_step = isinstance(differentiation, OneStep)
    if one_step and solver.differentiable_step is None:
        return "OneStep needs a solver with a differentiable step"
    if one_step and not solver.superlinear:
        return "OneStep is exact for superlinear solvers only"
    if one_step and transformation == "hessian":
        return "OneStep is a first-order approximation"
    if isinstance(differentiation, Unrolled) and not solver.takes_steps:
        return "Unrolled needs a solver that takes steps"
    if isinstance(differentiation, Unrolled) and not solver.differentiable:
        return "Unrolled needs a solver whose points depend smoothly on the parameters"
    if isinstance(differentiation, Unrolled) and transformation == "hessian":
        return "second derivatives of iterates lag behind the iterates: they are not converged where the solver stops"
    if isinstance(differentiation, Unrolled) and transformation in ("float32", "closure"):
        return "the same loop as Implicit's forward pass in the same precision: nothing of its own to test"
    if transformation == "hessian" and not case.smooth:
        return "the solution has no second derivative there"
    if transformation == "closure" and hasattr(case.make(case.arrays(jnp.float32)[1])[0].fun, "outer"):
        return "a LinearComposite objective is closed part by part; its closures are tested on their own"
    return None


def battery(
    solver: Solver,
    *,
    modes: Sequence[Any] = (Implicit(), Unrolled(), OneStep()),
    transformations: Sequence[str] = TRANSFORMATIONS,
    names: Sequence[str] | None = None,
    without: Sequence[str] = (),
    rtol: float = 1e-6,
) -> Battery:
    """Return the checks that apply to a solver: every registered problem that it takes, in every mode.

    Call the result to run all of them: ``battery(solver)()`` says what was run, and raises one exception for all that
    fail. Or run them one by one, as tests of their own. Checks that are never looked at are warned of.

    Parameters
    ----------
    solver
        With a tolerance tight enough for ``rtol``.
    modes, transformations
        What to check: ``"derivatives"`` (solution, both Jacobians, under ``jit``), ``"vmap"``, ``"hessian"``,
        ``"closure"`` (under ``jit`` and ``scan``), ``"float32"``.
    names, without
        Only these cases; not these.
    rtol
        Relative tolerance of solutions and Jacobians against the closed form.

    Raises
    ------
    ValueError
        Where a name is none of a case or a transformation, or no check is left.

    Examples
    --------
    >>> import dini, jax
    >>> from dini.testing import battery
    >>> with jax.enable_x64(True):
    ...     print(battery(dini.Newton(rtol=1e-12), names=["cubic"], transformations=["derivatives"])())
    Newton passed 3 checks: 1 problem (cubic) x 3 modes (Implicit, Unrolled, OneStep) x derivatives

    In a test file of your own, one line a solver:

    >>> checks = list(battery(dini.Newton(rtol=1e-12), names=["cubic"]))
    >>> checks[0].name
    'Newton-cubic-Implicit-derivatives'
    """
    known = [case.name for case in cases()]
    for argument, given, able in (
        ("names", names or (), known),
        ("without", without, known),
        ("transformations", transformations, TRANSFORMATIONS),
    ):
        wrong = [name for name in given if name not in able]
        if wrong:
            raise ValueError(f"battery's {argument} must be some of {', '.join(able)}: given {', '.join(wrong)}.")
    chosen = [case for case in cases() if case.name not in without and (names is None or case.name in names)]
    checks = tuple(
        Check(case, solver, differentiation, transformation, rtol)
        for case in chosen
        if case.fits(solver)
        for differentiation in modes
        for transformation in transformations
        if _skipped(case, solver, differentiation, transformation) is None
    )
    if not checks:
        raise ValueError(
            f"No check applies to {solver.name}: it takes none of {', '.join(case.name for case in chosen)} "
            "in the modes and transformations that were asked for. See its `solves` and `composite`."
        )
    return Battery(solver, checks)


def cells_left_out(solver: Solver, modes: Sequence[Any] = (Implicit(), Unrolled(), OneStep())) -> list[tuple[str, str]]:
    """Return the cells that :func:`battery` leaves out for a solver, each with its reason.

    Examples
    --------
    >>> import dini
    >>> from dini.testing import cells_left_out
    >>> cells_left_out(dini.LBFGS())[-1][1]
    'OneStep needs a solver with a differentiable step'
    """
    left = []
    for case in cases():
        for differentiation in modes if case.fits(solver) else ():
            for transformation in TRANSFORMATIONS:
                reason = _skipped(case, solver, differentiation, transformation)
                if reason is not None:
                    left.append((Check(case, solver, differentiation, transformation, 0.0).name, reason))
    return left
