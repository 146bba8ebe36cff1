"""What a solve returns."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jax.tree_util import GetAttrKey, register_pytree_with_keys  # pyright: ignore[reportUnknownVariableType]

from . import trees
from .explanations import missing_part, unpacked
from .explanations.ends import for_precision
from .status import SolveError, Status
from .trees import Tree

_NAMES = ("x", "figures", "aux", "state", "history", "multipliers")
#: status, steps, error, tolerance, value, what was chosen
_FIGURES = 6
#: what stands in place of a choice where the solver takes no steps, and its point was held against the condition
JUDGED = "a point from elsewhere"
#: what a verb may choose, in the order of the numbers that stand for it; zero where the caller gave a solver
CHOICES = (
    "",
    "BFGS()",
    'BFGS(start="hessian")',
    "LBFGS()",
    "Newton()",
    "Newton(linear_solver=Sparse())",
    "one factorization by Sparse(), or else LBFGS()",
    "ProjectedNewton()",
    "LBFGSB()",
    "ProximalGradient()",
    "LevenbergMarquardt()",
    "GaussNewton(patience=None), or else LevenbergMarquardt()",
    "CondatVu()",
    "Anderson()",
    "SemismoothNewton()",
    "NonlinearInteriorPoint()",
    "InteriorPoint()",
    "ConicInteriorPoint()",
    "OperatorSplitting()",
    "AugmentedLagrangian()",
    "ActiveSet()",
    JUDGED,
)

#: the verb has no second try: compiling another method doubles the first call of each program
_ANOTHER = "Another method may solve this program: pass `solver=InteriorPoint()`. "


class Stats(NamedTuple):
    """Figures of a solve; constants of differentiation.

    Attributes
    ----------
    steps
        Steps taken; for solvers with a line search a rejected trial counts as a step.
    error
        The last value of the solver's optimality measure, which its stopping test compares with a tolerance (see
        :class:`dini.Solver`).
    """

    steps: Any
    error: Any


@dataclass(frozen=True, repr=False)
class Solution:
    """The solution of a problem, a pytree.

    Attributes
    ----------
    x
        The solution, with the structure of ``init``. Differentiable.
    figures
        Status, steps, error, what the error was compared with, the value, and the number of what a verb has chosen,
        as one small array (each array that leaves a compiled program costs time): read them from ``status``, ``stats``,
        ``value`` and ``solver``.
    aux
        The auxiliary output of the problem's function at ``x``, where ``has_aux=True``. Differentiable.
    state
        The solver's last state, where ``return_state=True`` (constants of differentiation).
    history
        Per-step records, where they were asked for with :class:`dini.Record`.
    multipliers
        Of :func:`dini.minimize` with ``equality=`` or ``inequality=``: the :class:`dini.problems.Multipliers` of the
        constraints. Differentiable.

    Examples
    --------
    >>> import dini
    >>> solution = dini.root(lambda x, a: x**2 - a, 1.0, 4.0)
    >>> bool(solution.success), solution.message
    (True, 'The stopping test was met.')
    >>> solution = dini.minimize(lambda x: (x - 1) ** 2 + 3, 0.0)
    >>> print(repr(solution).splitlines()[0])  # below: x, steps, error, value
    Solution: CONVERGED. The stopping test was met.
    >>> float(solution.value)
    3.0
    """

    x: Tree
    figures: Any
    aux: Any = None
    state: Any = None
    history: Any = None
    multipliers: Any = None

    @classmethod
    def of(
        cls,
        x: Tree,
        status: Any,
        steps: Any,
        error: Any,
        tol: Any = np.nan,
        value: Any = np.nan,
        chosen: str = "",
        **rest: Any,
    ) -> Solution:
        """Build a solution from its figures.

        ``tol`` is what the error was compared with, NaN where that is not known, ``chosen`` what a verb has chosen.
        """
        dtype = jnp.float64 if jnp.float64 in (error.dtype, getattr(value, "dtype", None)) else jnp.float32
        constants = [jnp.asarray(figure, dtype) for figure in (status, steps, error, tol)]  # pyright: ignore[reportUnknownMemberType]
        last = jnp.asarray(CHOICES.index(chosen), dtype)  # pyright: ignore[reportUnknownMemberType]
        figures = [*jax.lax.stop_gradient(constants), jnp.asarray(value, dtype), last]  # pyright: ignore[reportUnknownMemberType]
        return cls(x, jnp.stack(figures), **rest)

    def _replace(self, **changes: Any) -> Solution:
        """Return a solution with some fields changed."""
        return dataclasses.replace(self, **changes)

    @property
    def status(self) -> Any:
        """A :class:`dini.Status` as an integer array, one a lane under ``vmap``. Zero is success."""
        return self.figures[..., 0].astype(jnp.int32)

    @property
    def stats(self) -> Stats:
        """Figures of the solve, see :class:`Stats`."""
        return Stats(self.figures[..., 1].astype(jnp.int32), self.figures[..., 2])

    @property
    def value(self) -> Any:
        r"""The objective at ``x``, penalties included; of an equation half the squared norm of its residual.

        Differentiable: :math:`\partial_1 f\,\dot x + \partial_2 f\,\dot\theta`, which for a minimum without
        constraints is :math:`\partial_2 f\,\dot\theta` up to the solve's own error. NaN where it is not known (of a
        penalty that is given by its proximal operator alone).
        """
        return self.figures[..., 4]

    @property
    def solver(self) -> str | None:
        """The solver that a verb has chosen, in words; ``None`` where the caller gave one."""
        if isinstance(self.figures, jax.core.Tracer):
            raise TypeError("solution.solver needs concrete values: read it outside jit, vmap and grad.")
        return _chosen(np.asarray(self.figures))

    @property
    def success(self) -> Any:
        """Whether the solve succeeded (an array under ``jit`` and ``vmap``)."""
        return self.status == Status.CONVERGED

    @property
    def message(self) -> str:
        """The status in words; of concrete values only, the worst lane's under ``vmap``."""
        if isinstance(self.figures, jax.core.Tracer):
            raise TypeError(
                "solution.message needs concrete values: read it outside jit, vmap and grad, or use solution.status."
            )
        return _message(np.asarray(self.figures))

    def __iter__(self) -> NoReturn:
        raise unpacked()

    def __getitem__(self, item: Any) -> NoReturn:
        raise unpacked()

    def __repr__(self) -> str:
        return _described(self)

    if not TYPE_CHECKING:  # a type checker would take any name for an attribute

        def __getattr__(self, name: str) -> Any:
            """Say of other libraries' names what takes their place."""
            hint = None if name.startswith("__") else missing_part(name)
            if hint is None:
                return object.__getattribute__(self, name)
            raise AttributeError(f"Solution has no attribute {name!r}. {hint}", name=name, obj=self)


def flatten(solution: Solution) -> tuple[tuple[Any, ...], None]:
    """Return the parts of a solution, for JAX."""
    own = solution.__dict__
    return (own["x"], own["figures"], own["aux"], own["state"], own["history"], own["multipliers"]), None


def flatten_with_keys(solution: Solution) -> tuple[tuple[Any, ...], None]:
    """Return the parts of a solution with their names, for JAX."""
    return tuple((GetAttrKey(name), solution.__dict__[name]) for name in _NAMES), None


def _unflatten(aux: None, children: Any) -> Solution:
    # every call of a solve comes here: as quick as a tuple, past the constructor
    del aux
    solution = object.__new__(Solution)
    own = solution.__dict__
    own["x"], own["figures"], own["aux"], own["state"], own["history"], own["multipliers"] = children
    return solution


register_pytree_with_keys(Solution, flatten_with_keys, _unflatten, flatten)


def _choice(figures: np.ndarray) -> str:
    number = figures[..., 5].max(initial=0)
    return CHOICES[int(number)] if np.isfinite(number) else ""


def _chosen(figures: np.ndarray) -> str | None:
    choice = _choice(figures)
    return None if choice in ("", JUDGED) else choice


def _message(figures: np.ndarray) -> str:
    lanes = figures.reshape(-1, figures.shape[-1])
    end = Status(int(np.max(lanes[:, 0], initial=0)))
    if end == Status.CONVERGED and np.isinf(lanes[:, 3]).any():
        return "All requested steps were taken."
    if end == Status.CONVERGED and _choice(figures) == JUDGED:
        return (
            "The point satisfies the problem's condition to `rtol`, which for points from outside of dini is by "
            "default the fourth root of the unit roundoff: looser than that of dini's solvers."
        )
    return for_precision(end.explanation, figures.dtype)


def _numbers(values: np.ndarray, show: Callable[[Any], str]) -> str:
    """Return a number, or the range of many, and how many are none."""
    if values.size == 1:
        return show(values.flat[0])
    finite = values[np.isfinite(values)]
    low, high = (np.min(finite), np.max(finite)) if finite.size else (0.0, 0.0)
    known = [show(low) if low == high else f"{show(low)} to {show(high)}"] if finite.size else []
    others = Counter(str(value) for value in values[~np.isfinite(values)])
    return ", ".join(known + [f"{count} {name}" for name, count in others.items()]) or "none"


def _shown(tree: Tree) -> str:
    """Return a few known numbers, or shapes."""
    leaves = jax.tree.leaves(tree)
    known = len(leaves) == 1 and leaves[0] is tree and _is_known(tree) and tree.size <= 10
    return np.array2string(np.asarray(tree), separator=", ") if known and tree.ndim <= 1 else trees.describe(tree)


def _is_known(leaf: Any) -> bool:
    if isinstance(leaf, jax.core.Tracer) or not isinstance(leaf, jax.Array | np.ndarray):
        return False
    return isinstance(leaf, np.ndarray) or leaf.is_fully_addressable


def _described(solution: Solution) -> str:
    figures, rows = solution.figures, {"x": _shown(solution.x)}
    if _is_known(figures) and figures.ndim and figures.shape[-1] == _FIGURES:
        figures = np.asarray(figures)
        ends = Counter(Status(int(code)).name for code in figures[..., 0].flat)
        batch = f" of a batch of shape {list(figures.shape[:-1])}" if figures.ndim > 1 else ""
        each = ", ".join(ends) if not batch else ", ".join(f"{count} {name}" for name, count in ends.items())
        head = f"Solution{batch}: {each or 'empty'}. {_message(figures)}"
        rows["steps"] = _numbers(figures[..., 1], lambda steps: str(int(steps)))
        rows["error"] = _numbers(figures[..., 2], lambda error: f"{error:.1e}")
        if (chosen := _chosen(figures)) is not None:
            rows["solver"] = chosen
        tol = figures[..., 3][np.isfinite(figures[..., 3])]
        if tol.size:
            rows["error"] += f" (tolerance {_numbers(tol, lambda t: f'{t:.1e}')})"
        rows["value"] = _numbers(
            figures[..., 4], lambda value: str(float(value)) if float(value).is_integer() else f"{value:.9g}"
        )
    else:
        head = "Solution: status, steps, error and value are not known while JAX traces the program."
    for name in ("aux", "state", "history", "multipliers"):
        part = getattr(solution, name)
        if part is not None:
            rows[name] = type(part).__name__ if name == "state" else _shown(part)
    return "\n".join([head, *(f"  {name:<{max(map(len, rows))}}  {row}" for name, row in rows.items())])


def failure(figures: Any, *, problem: str, solver: str) -> SolveError:
    """Build the exception for a failed solve from its figures."""
    figures = np.asarray(figures)
    status, steps, error, tol, *_ = figures
    end, solver = Status(int(status)), _chosen(figures) or solver
    test = "tolerance not known yet" if np.isnan(tol) else f"tolerance {float(tol):.1e}"
    other = _ANOTHER if solver.startswith("ActiveSet") and end in (Status.STALLED, Status.MAX_STEPS) else ""
    return SolveError(
        f"{problem} was not solved by {solver}: {end.name} after {int(steps)} steps, "
        f"optimality error {float(error):.3e}, {test}. {for_precision(end.explanation, figures.dtype)} {other}"
        'To get the last point and its status instead, pass on_failure="ignore".',
        end,
    )
