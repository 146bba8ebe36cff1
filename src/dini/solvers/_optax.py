"""Any optax transformation as a solver."""

from __future__ import annotations

import importlib
import inspect
from dataclasses import field
from typing import Any, NamedTuple

from .. import trees
from ..loop import met
from ..protocols import AnyProblem, Minimization
from ..trees import Scalar, Tree
from ._base import infinity, solver
from .shared._stochastic import Stochastic, evaluate, optimality, steepest, unseen


class State(NamedTuple):
    """Carried from step to step: the transformation's own state.

    ``value`` and ``aux`` are those of the last step's batch, at the point before the step like the error; ``steps``
    counts the steps.
    """

    error: Scalar
    inner: Any
    value: Any
    aux: Any
    steps: Scalar
    scales: Any


def _optax() -> Any:
    try:
        return importlib.import_module("optax")
    except ImportError as error:
        raise ImportError("OptaxSolver needs optax, which is not installed: pip install optax.") from error


@solver
class OptaxSolver(Stochastic):
    r"""An optax transformation as a solver with a stopping test, on all data or on a stream of batches.

    .. math:: x \leftarrow \Pi_C(x + u) \qquad (1)

    with ``u`` from ``transformation.update(gradient, ...)``, projected where there is a constraint. Transformations
    that need the objective get it (``value``, ``grad``, ``value_fn`` and ``grad_fn``), so ``optax.lbfgs()``,
    ``optax.polyak_sgd()`` and ``optax.contrib.sam(..., opaque_mode=True)`` work. The error is the norm of the gradient,
    with a constraint :math:`\|x - \Pi_C(x - \eta \nabla f)\|_2 / \eta` with :math:`\eta = \|x\| / \|\nabla f\|`, at the
    point before the step; its scale is a tenth of the largest one so far. A point that meets the test is not moved.

    On batches, :func:`dini.run_iterator` feeds one to each step; by hand it is
    ``x, state = solver.step(problem, x, state, *args)`` with the batch in ``args``. Their gradients do not vanish, so
    set ``atol=0`` and count steps. The state's field ``inner`` is the transformation's own state, in place of which
    ``state._replace(inner=...)`` puts another one.

    Parameters
    ----------
    transformation
        ``optax.adam(1e-3)``, say, or a chain. The same object gives the same compiled program.
    rtol, atol
        Relative and absolute tolerance on the error, see :class:`dini.Solver`.
    max_steps
        Limit on the number of steps.

    Raises
    ------
    ImportError
        If optax is not installed.
    TypeError
        If ``transformation`` is none.

    Examples
    --------
    >>> import dini, jax.numpy as jnp, optax
    >>> problem = dini.Minimize(lambda x, a: jnp.sum((x - a) ** 2), constraint=dini.sets.NonNegative())
    >>> solver = dini.OptaxSolver(optax.sgd(0.1, momentum=0.5))
    >>> print(dini.solve(problem, solver, jnp.ones(2), jnp.array([1.5, -1.0])).x.round(3))
    [1.5 0. ]
    """

    transformation: Any = field(metadata={"static": True})
    max_steps: int = field(default=10000, metadata={"static": True})

    def __post_init__(self, tol: Any) -> None:
        self._check_settings(tol)
        _optax()
        if not (callable(getattr(self.transformation, "init", None)) and hasattr(self.transformation, "update")):
            raise TypeError(
                "OptaxSolver's transformation must be a gradient transformation of optax, such as optax.adam(1e-3): "
                f"given {self.transformation!r}."
            )

    def init(self, problem: AnyProblem, x: Tree, *args: Tree) -> State:
        """Return the state before the first step."""
        return State(infinity(x), self._own(self.transformation.init, x), *unseen(problem, x, args))

    def step(self, problem: Minimization, x: Tree, state: State, *args: Tree) -> tuple[Any, State]:
        """Take one step."""
        optax = _optax()
        value, gradient, aux = evaluate(problem, x, args)
        update = optax.with_extra_args_support(self.transformation).update
        offered = {
            "value": value,
            "grad": gradient,
            "value_fn": lambda u: problem.value(u, *args),
            "grad_fn": lambda u, _: problem.gradient(u, *args),
        }
        updates, inner = self._own(update, gradient, state.inner, x, **_taken(update, offered))
        # (1): u = updates
        new = problem.prox(optax.apply_updates(x, updates), 1.0)
        error = optimality(problem, x, value, gradient).astype(state.error.dtype)
        scales = steepest(state.scales, error)
        seen = value.astype(state.value.dtype), aux, state.steps + 1, scales
        return trees.where(met(self, x, error, scales), x, new), State(error, inner, *seen)

    def readings(self, x: Tree, state: State) -> dict[str, Any]:
        """Return value and auxiliary output of the last batch, and the transformation's state as ``inner``."""
        return super().readings(x, state) | {"inner": state.inner}

    def _own(self, call: Any, *args: Tree, **offered: Any) -> Any:
        """Call a function of the transformation, and say whose error it is."""
        try:
            return call(*args, **offered)
        except (AttributeError, TypeError) as error:
            error.add_note(
                "The transformation of OptaxSolver raised this error. Transformations that change the structure of the "
                "parameters (such as optax.lookahead) are not supported, nor is optax.contrib.sam inside another one."
            )
            raise


def _taken(update: Any, offered: dict[str, Any]) -> dict[str, Any]:
    """Return what an update takes of what is offered: what it names, or what it may hand on to others."""
    parameters = inspect.signature(update).parameters.values()
    named = {p.name for p in parameters}
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        named |= offered.keys() - {"grad_fn"}  # which line searches would hand on to the objective
    return {name: value for name, value in offered.items() if name in named}
