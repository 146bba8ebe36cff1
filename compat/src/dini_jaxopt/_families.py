"""Families of JAXopt's solvers: how their problem is stated, and how their states are read."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

import dini
from dini import SolveWarning, Status
from dini.extend import trees

from ._base import IterativeSolver, OptStep, StochasticSolver, UpdatesState
from ._iterated import Iterated, Iteration, advanced, aux_at, begun, begun_evaluated
from ._line_searches import named_search
from ._objective import Given, bound, constraint, objective, penalty

#: what dini's solvers tell of a state, by JAXopt's names
_READINGS = {
    "value": "value",
    "grad": "gradient",
    "stepsize": "step_size",
    "velocity": "velocity",
    "descent_direction": "direction",
    "H": "inverse_hessian",
    "theta": "curvature",
    "damping_factor": "damping",
    "increase_factor": "growth",
    "internal_state": "inner",
}


class DiniSolver(IterativeSolver):
    """Base of JAXopt's own solvers: a problem, a solver of dini's, and the fields of a state.

    A family defines :meth:`_stated`. Its states have the fields of JAXopt's (those that can be known), ``status`` and
    ``solver_state``, which is dini's.
    """

    state_type: ClassVar[Any]
    #: the name of dini's solver, and JAXopt's names of its settings with dini's
    solver_name: ClassVar[str]
    renamed: ClassVar[dict[str, str]]
    #: steps that the first iteration takes at least: the start is evaluated, and the curvature probed
    lead: ClassVar[int] = 1
    maxls: int = 0
    has_aux: bool = False

    def _method(self, **settings: Any) -> Any:
        """Return the solver of dini's."""
        given = {ours: getattr(self, theirs) for theirs, ours in self.renamed.items()}
        settings = {"atol": self.tol} | given | settings
        return getattr(dini, self.solver_name)(**settings)

    def _searches(self) -> bool:
        """Return whether one iteration may take several steps."""
        return self.maxls > 0

    def _lead(self) -> int:
        """Return how many steps the first iteration takes at least."""
        return self.lead

    def _resumed(self, state: Any) -> Iteration:
        """Return dini's state in one of JAXopt's."""
        return state.solver_state

    def _fields(self, readings: dict[str, Any]) -> dict[str, Any]:
        """Return the fields of JAXopt's state that dini's tells of."""
        fields = {theirs: readings[ours] for theirs, ours in _READINGS.items() if ours in readings}
        for name in ("grad", "velocity", "descent_direction"):
            if name in fields:
                fields[name] = trees.from_real(fields[name])
        return fields

    def _iterated(self) -> Iterated:
        trials = max(self.maxls, 1) if self._searches() else 1
        settings: dict[str, Any] = {"trials": trials, "lead": self._lead(), "bounded": self._unrolled()}
        return Iterated(method=self._method(), **self._limits(), **settings)

    def _solver(self) -> Any:
        return self._iterated()

    def _stepper(self) -> Any:
        """Return the solver for iterations by hand."""
        return self._iterated()

    def _state(
        self, readings: dict[str, Any], iter_num: Any, iteration: Any, aux: Any = None, known: Any = None
    ) -> Any:
        """Return the state for users, of what dini's tells; ``known`` are value and gradient."""
        fields = self._fields(readings)
        if known is not None:
            fields |= {"value": known[0], "grad": trees.from_real(known[1])}
        if "grad" in fields:
            # of a complex unknown, JAX's gradient is the conjugate of the pair of both derivatives
            fields["grad"] = jax.tree.map(jnp.conj, fields["grad"])
        # as JAXopt's, in the default type of integers
        fields |= {
            "iter_num": jnp.asarray(iter_num, int),
            "error": iteration.error,
            "aux": aux,
            "num_fun_eval": iteration.steps,
        }
        fields |= {"status": iteration.status, "solver_state": iteration}
        return self.state_type(**{name: fields[name] for name in self.state_type._fields if name in fields})

    def _measured(self, state: Any, problem: Any, x: Any, given: Given) -> Any:
        """Return a state with what is to be evaluated at its point."""
        del problem, x, given
        return state

    def _state_of(self, solution: Any, solver: Any, problem: Any, given: Given) -> Any:
        if isinstance(solution.state, UpdatesState):
            return super()._state_of(solution, solver, problem, given)
        readings = solver.readings(trees.to_real(solution.x), solution.state)
        state = self._state(readings, solution.stats.steps, solution.state, readings.get("aux", solution.aux))
        return self._measured(state, problem, solution.x, given)._replace(status=solution.status)

    def init_state(self, init_params: Any, *args: Any, **kwargs: Any) -> Any:
        """Return the state before the first iteration."""
        problem, given = self._stated(*args, **kwargs)
        params, solver = self._start(init_params, given), self._solver()
        # a state without gradient says nothing of the function, and needs none of its arguments
        start = begun_evaluated if "grad" in self.state_type._fields else begun
        with evaluating_the_start(type(self).__name__):
            known = start(solver, problem, params, given)
            readings = solver.readings(trees.to_real(params), known[0])
            return self._measured(self._state(readings, jnp.zeros((), jnp.int32), *known), problem, params, given)

    def update(self, params: Any, state: Any, *args: Any, **kwargs: Any) -> OptStep:
        """Return point and state after one iteration."""
        problem, given = self._stated(*args, **kwargs)
        params, stepper = self._start(params, given), self._stepper()
        params, iteration, aux = advanced(stepper, problem, params, self._resumed(state), given)
        readings = stepper.readings(trees.to_real(params), iteration)
        new = self._measured(self._state(readings, state.iter_num + 1, iteration, aux), problem, params, given)
        if self.verbose:
            self.log_info(new)
        return OptStep(params, new)


@contextmanager
def evaluating_the_start(owner: str) -> Generator[None]:
    """Say of a ``TypeError`` for a missing argument that ``init_state`` takes those of ``update``."""
    try:
        yield
    except TypeError as error:
        missing = re.search(r"missing .*argument(s?): (.*)", str(error))
        if missing is None:
            raise
        raise TypeError(
            f"{owner}.init_state evaluates the function at the start and takes the arguments that update takes: "
            f"{missing[2]} {'are' if missing[1] else 'is'} missing."
        ) from error


def require_choice(owner: Any, name: str, *choices: str) -> None:
    """Raise unless a setting is one of the names."""
    if getattr(owner, name) not in choices:
        known = ", ".join(f'"{choice}"' for choice in choices)
        raise ValueError(f"{type(owner).__name__}'s {name} must be one of {known}: given {getattr(owner, name)!r}.")


class Minimizer(DiniSolver):
    """A function without constraint."""

    fun: Callable[..., Any]
    value_and_grad: Any

    def _problem(self, **parts: Any) -> Any:
        fun = objective(self.fun, self.value_and_grad, self.has_aux)
        return dini.Minimize(fun, has_aux=self.has_aux, **parts)

    def _stated(self, *args: Any, **kwargs: Any) -> tuple[Any, Given]:
        return self._problem(), (args, kwargs)

    def optimality_fun(self, params: Any, *args: Any, **kwargs: Any) -> Any:
        """Return the gradient."""
        problem, given = self._stated(*args, **kwargs)
        return problem.gradient(self._start(params, given), given)


class Composite(Minimizer):
    """A function with a constraint or a penalty, whose parameters come before the function's arguments."""

    #: JAXopt's name of these parameters
    parameters: ClassVar[str]

    def _part(self, hyperparams: Any) -> dict[str, Any]:
        """Return the constraint or the penalty by its name in a problem."""
        raise NotImplementedError

    def _stated(self, *args: Any, **kwargs: Any) -> tuple[Any, Given]:
        if args and self.parameters in kwargs:
            raise TypeError(f"{type(self).__name__} got {self.parameters} twice: by its name and by its place.")
        hyperparams = args[0] if args else kwargs.pop(self.parameters, None)
        return self._problem(**self._part(hyperparams)), (args[1:], kwargs)

    def optimality_fun(self, params: Any, *args: Any, **kwargs: Any) -> Any:
        """Return the move of a proximal (projected) gradient step of unit size."""
        problem, given = self._stated(*args, **kwargs)
        params = self._start(params, given)
        return trees.sub(problem.prox(trees.sub(params, problem.gradient(params, given)), 1.0), params)


class _Descent(Minimizer):
    """Steps of given length or by backtracking, with or without momentum."""

    stepsize: Any
    acceleration: bool

    def _searches(self) -> bool:
        return not callable(self.stepsize) and bool(self.stepsize <= 0)

    def _lead(self) -> int:
        return (2 if self.acceleration else 3) if self._searches() else 1

    def _method(self, **settings: Any) -> Any:
        step_size = None if self._searches() else self.stepsize
        return super()._method(step_size=step_size, acceleration=self.acceleration, **settings)

    def _fields(self, readings: dict[str, Any]) -> dict[str, Any]:
        plain = {"t": jnp.ones_like(readings["step_size"]), "velocity": None}
        moved = {"t": readings.get("momentum"), "velocity": trees.from_real(readings.get("extrapolated"))}
        return super()._fields(readings) | (moved if self.acceleration else plain)


class Proximal(_Descent, Composite):
    """A penalty by its proximal operator."""

    parameters = "hyperparams_prox"
    prox: Callable[..., Any]

    def _part(self, hyperparams: Any) -> dict[str, Any]:
        return {"penalty": penalty(self.prox, hyperparams)}


class Projected(_Descent, Composite):
    """A constraint by its projection."""

    parameters = "hyperparams_proj"
    projection: Callable[..., Any]

    def _part(self, hyperparams: Any) -> dict[str, Any]:
        return {"constraint": constraint(self.projection, hyperparams)}


class Searching(Minimizer):
    """Methods with a line search."""

    linesearch: Any
    condition: Any
    decrease_factor: Any
    stepsize: Any = 0.0
    #: of the strong Wolfe conditions, by default
    search_curvature: ClassVar[float] = 0.9

    def __post_init__(self) -> None:
        for name in ("condition", "decrease_factor"):
            if getattr(self, name) is not None:
                warnings.warn(f"JAXopt's argument {name} is deprecated.", DeprecationWarning, stacklevel=3)
        require_choice(self, "linesearch_init", "increase", "max", "current")
        self._search()
        super().__post_init__()

    def _search(self) -> Any:
        return named_search(type(self).__name__, self.linesearch, self.condition, self.search_curvature)

    def _fixed(self) -> bool:
        return callable(self.stepsize) or bool(self.stepsize > 0)

    def _lead(self) -> int:
        return 2 if self._fixed() else 3

    def _method(self, **settings: Any) -> Any:
        if self._fixed():
            scaled = getattr(self, "use_gamma", False)
            return super()._method(step_size=self.stepsize, scaled=scaled, **settings)
        return super()._method(line_search=self._search(), **settings)

    def _state(
        self, readings: dict[str, Any], iter_num: Any, iteration: Any, aux: Any = None, known: Any = None
    ) -> Any:
        state = super()._state(readings, iter_num, iteration, aux, known)
        failed = (iteration.status != Status.RUNNING) & (iteration.status != Status.CONVERGED)
        trials = jnp.maximum(iteration.steps - 1, 0)
        return state._replace(failed_linesearch=failed, num_grad_eval=iteration.steps, num_linesearch_iter=trials)


class Conjugate(Searching):
    """Conjugate directions, which need nearly exact searches."""

    method: str
    search_curvature = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choice(self, "method", "polak-ribiere", "hestenes-stiefel", "hager-zhang", "fletcher-reeves")
        if self.method == "fletcher-reeves":
            warnings.warn(
                "NonlinearCG's method 'fletcher-reeves' is not in dini, which takes 'hager-zhang': the solution is the "
                "same, and each direction descends.",
                SolveWarning,
                stacklevel=3,
            )

    def _method(self, **settings: Any) -> Any:
        formula = "hager-zhang" if self.method == "fletcher-reeves" else self.method
        return super()._method(formula=formula, **settings)


class Bounded(Searching, Composite):
    """Bounds, which come before the function's arguments."""

    parameters = "bounds"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self._fixed():
            raise ValueError(
                "LBFGSB's stepsize must be at most zero: a step of given length along a path that bends at the bounds "
                "need not descend. ProjectedGradient(fun, projection_box, stepsize=...) takes one."
            )

    def _part(self, hyperparams: Any) -> dict[str, Any]:
        return {"constraint": None if hyperparams is None else dini.sets.Box(*hyperparams)}


class Stochastic(Minimizer, StochasticSolver):
    """Methods on batches."""

    pre_update: Callable[..., Any] | None

    def _posed(self, *args: Any, **kwargs: Any) -> tuple[Any, Given]:
        # with something that is done before each update, updates are what is to be run
        if self.pre_update is not None:
            return IterativeSolver._stated(self, *args, **kwargs)
        return self._stated(*args, **kwargs)

    def _searches(self) -> bool:
        return False

    def _solver(self) -> Any:
        return self._iterated() if self.pre_update is None else IterativeSolver._solver(self)

    def _stepper(self) -> Any:
        # a batch whose gradient is small is no end
        return self._iterated().fixed_steps()

    def _state(
        self, readings: dict[str, Any], iter_num: Any, iteration: Any, aux: Any = None, known: Any = None
    ) -> Any:
        state = super()._state(readings, iter_num, iteration, aux, known)
        if "internal_state" not in self.state_type._fields:
            return state
        # the transformation's state is in the state once, where a user may change it
        return state._replace(solver_state=iteration._replace(method=iteration.method._replace(inner=None)))

    def _resumed(self, state: Any) -> Iteration:
        iteration = state.solver_state
        if "internal_state" not in self.state_type._fields:
            return iteration
        return iteration._replace(method=iteration.method._replace(inner=state.internal_state))

    def init_state(self, init_params: Any, *args: Any, **kwargs: Any) -> Any:
        """Return the state before the first iteration."""
        problem, given = self._stated(*args, **kwargs)
        start = self._start(init_params, given)
        solver = self._stepper()
        with evaluating_the_start(type(self).__name__):
            aux = aux_at(solver, problem, start, given) if self.has_aux else None
        # the value at the start is that of no step: the next one evaluates it
        iteration = solver.init(problem, start, given)
        readings = solver.readings(trees.to_real(start), iteration)
        return self._state(readings, jnp.zeros((), jnp.int32), iteration, aux)

    def update(self, params: Any, state: Any, *args: Any, **kwargs: Any) -> OptStep:
        """Return point and state after one iteration."""
        if self.pre_update is not None:
            params, state = self.pre_update(params, state, *args, **kwargs)
        return super().update(params, state, *args, **kwargs)


class Armijo(Stochastic):
    """A line search on the batch."""

    aggressiveness: Any
    increase_factor: Any
    reset_option: str

    def __post_init__(self) -> None:
        require_choice(self, "reset_option", "increase", "goldstein", "conservative")
        super().__post_init__()

    def _method(self, **settings: Any) -> Any:
        growth = 1.0 if self.reset_option == "conservative" else self.increase_factor
        return super()._method(aggressiveness=1 - self.aggressiveness, growth=growth, **settings)


class Polyak(Stochastic):
    """Steps by the value on the batch."""

    variant: str
    max_stepsize: Any

    def __post_init__(self) -> None:
        require_choice(self, "variant", "SPS_max", "SPS+")
        super().__post_init__()

    def _method(self, **settings: Any) -> Any:
        return super()._method(max_step_size=jnp.inf if self.variant == "SPS+" else self.max_stepsize, **settings)


class FixedPoint(DiniSolver):
    """A map from the unknown to its like."""

    fixed_point_fun: Callable[..., Any]

    def _stated(self, *args: Any, **kwargs: Any) -> tuple[Any, Given]:
        return dini.FixedPoint(bound(self.fixed_point_fun, "fixed_point_fun"), has_aux=self.has_aux), (args, kwargs)

    def optimality_fun(self, params: Any, *args: Any, **kwargs: Any) -> Any:
        """Return the move of the map."""
        problem, given = self._stated(*args, **kwargs)
        return trees.sub(problem.map(params, given), params)


class Equation(DiniSolver):
    """A root."""

    lead = 2
    fun: Callable[..., Any]
    history_size: int | None

    def _method(self, **settings: Any) -> Any:
        history = {} if self.history_size is None else {"history": self.history_size}
        return super()._method(**history, **settings)

    def _stated(self, *args: Any, **kwargs: Any) -> tuple[Any, Given]:
        return dini.Root(bound(self.fun), has_aux=self.has_aux), (args, kwargs)

    def optimality_fun(self, params: Any, *args: Any, **kwargs: Any) -> Any:
        """Return the residual."""
        problem, given = self._stated(*args, **kwargs)
        return problem.residual(params, given)
