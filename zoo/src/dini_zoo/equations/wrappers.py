"""A solver that does as another one, and keeps something of its steps."""

import abc
from typing import Any

import diffrax
import equinox as eqx
from equinox import AbstractVar


class WatchingSolver(diffrax.AbstractAdaptiveSolver[Any], diffrax.AbstractWrappedSolver[Any]):
    """Wraps a diffrax solver. Its solutions are those of the solver, and what is seen of its steps is kept beside.

    A subclass says what is kept before the first step, `start`, and after one more, `watch`. It stands in the solver's
    state: diffrax puts back the state before a step that is rejected, so what is kept is of accepted steps. Ask for it
    with `SaveAt(solver_state=True)`; the solution's `solver_state` is the pair of the solver's own and of what was
    kept. Times are those of diffrax's loop, which always runs forward: the negative ones where `t1 < t0`.
    """

    solver: AbstractVar[diffrax.AbstractSolver[Any]]

    @abc.abstractmethod
    def start(self, terms: Any, t0: Any, y0: Any, args: Any) -> Any:
        """What is kept before the first step."""

    @abc.abstractmethod
    def watch(
        self, kept: Any, terms: Any, t0: Any, t1: Any, y0: Any, y1: Any, error: Any, dense_info: Any, args: Any
    ) -> Any:
        """What is kept after a step from `t0` to `t1`."""

    def init(self, terms: Any, t0: Any, t1: Any, y0: Any, args: Any) -> Any:
        """The solver's state, and what is kept."""
        return self.solver.init(terms, t0, t1, y0, args), self.start(terms, t0, y0, args)

    def step(self, terms: Any, t0: Any, t1: Any, y0: Any, args: Any, solver_state: Any, made_jump: Any) -> Any:
        """The solver's step."""
        inner, kept = solver_state
        y1, error, dense_info, inner, result = self.solver.step(terms, t0, t1, y0, args, inner, made_jump)
        kept = self.watch(kept, terms, t0, t1, y0, y1, error, dense_info, args)
        return y1, error, dense_info, (inner, kept), result

    def func(self, terms: Any, t0: Any, y0: Any, args: Any) -> Any:
        """The vector field."""
        return self.solver.func(terms, t0, y0, args)

    def order(self, terms: Any) -> Any:
        """The solver's."""
        return self.solver.order(terms)

    def strong_order(self, terms: Any) -> Any:
        """The solver's."""
        return self.solver.strong_order(terms)

    def error_order(self, terms: Any) -> Any:
        """The solver's."""
        return self.solver.error_order(terms)

    # what diffrax and its adjoints ask of particular kinds of solvers

    @property
    def term_structure(self) -> Any:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The solver's."""
        return self.solver.term_structure

    @property
    def interpolation_cls(self) -> Any:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The solver's."""
        return self.solver.interpolation_cls

    @property
    def term_compatible_contr_kwargs(self) -> Any:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The solver's."""
        return self.solver.term_compatible_contr_kwargs

    @property
    def scan_kind(self) -> Any:
        """The solver's, which `diffrax.DirectAdjoint` and `diffrax.ForwardMode` set."""
        return self.solver.scan_kind  # pyright: ignore[reportAttributeAccessIssue]

    @property
    def root_finder(self) -> Any:
        """The solver's, if it is implicit."""
        return self.solver.root_finder  # pyright: ignore[reportAttributeAccessIssue]

    @property
    def root_find_max_steps(self) -> Any:
        """The solver's, if it is implicit."""
        return self.solver.root_find_max_steps  # pyright: ignore[reportAttributeAccessIssue]


def with_state(saveat: diffrax.SaveAt) -> diffrax.SaveAt:
    """The same, with the solver's state."""
    return eqx.tree_at(lambda saveat: saveat.solver_state, saveat, True)


def without_state(solution: diffrax.Solution, asked: diffrax.SaveAt) -> tuple[diffrax.Solution, Any]:
    """The solution as the wrapped solver would have it, and what was kept."""
    inner, kept = solution.solver_state
    is_none = lambda leaf: leaf is None
    state = inner if asked.solver_state else None
    return eqx.tree_at(lambda one: one.solver_state, solution, state, is_leaf=is_none), kept
