"""The verbs for equilibria: variational inequalities, complementarity problems, Nash equilibria of several players."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax

from . import trees
from .checks.records import record
from .defaults import Default
from .differentiation import Differentiation, Implicit
from .explanations import explained
from .functions import as_function, function_name
from .monitors import Monitor
from .problems import VariationalInequality, check_unknown
from .problems._minimize import check_part, check_scalar
from .sets import Free, Product, Set
from .solution import Solution
from .solvers import Solver
from .solving import solve
from .status import OnFailure
from .trees import Tree

_IMPLICIT, _DEFAULT = Implicit(), Default()


@functools.partial(explained, solver="SemismoothNewton")
def variational_inequality(
    fun: Callable[..., Any],
    x0: Tree,
    *args: Tree,
    constraint: Any = None,
    has_aux: bool = False,
    solver: Solver | Callable[..., Any] | None = None,
    differentiation: Differentiation = _IMPLICIT,
    on_failure: OnFailure = "raise",
    monitor: Monitor | None = None,
    return_state: bool = False,
    state: Any = None,
    time_limit: float | None = None,
    steps: int | None = None,
) -> Solution:
    r"""Solve a variational inequality; see :class:`dini.VariationalInequality` and :func:`dini.solve`.

    Find ``x`` in the set ``C`` with

    .. math:: \langle F(x, \theta),\, y - x \rangle \ge 0 \quad\text{for all } y \in C .

    The arguments are those of the other functions that solve, :func:`dini.minimize` first: ``F`` is ``fun``, which is
    called as ``fun(x, *args)``; then come the start, what it is called with beside ``x``, and by name the set ``C``,
    which is ``constraint`` as it is there. With :class:`dini.sets.NonNegative` it is a complementarity problem, with
    :class:`dini.sets.Box` a mixed one.

    Default solver: :class:`dini.SemismoothNewton`. :class:`dini.Extragradient` needs no Jacobian, but many more steps.

    Parameters
    ----------
    fun
        ``F(x, *args)``; returns a tree like ``x`` (with ``has_aux``: a pair of it and any pytree).
    x0
        The start, a pytree of floating-point arrays. It need not be in the set: a solver begins at its projection.
    *args
        Passed to ``fun`` after ``x``.
    constraint
        The set, one of :mod:`dini.sets` that is convex. It must be given.
    has_aux, solver, differentiation, on_failure, monitor, return_state, state, time_limit, steps
        As in :func:`dini.solve`.

    Raises
    ------
    SolveError
        If no solution was found: there is none, or ``fun`` is not monotone and no step led to one.
    TypeError
        If ``constraint`` is missing or no set, ``x0`` is not of floating-point arrays, ``fun`` does not return a
        tree like ``x0``.
    ValueError
        If the set is not convex, or does not fit ``x0``.

    References
    ----------
    Facchinei and Pang, "Finite-dimensional variational inequalities and complementarity problems", 2003.

    Examples
    --------
    Three firms sell the quantities ``q`` at the price :math:`a - \sum_i q_i`, with costs ``c`` (Cournot's oligopoly).
    The third one is too expensive to sell anything. How the quantities depend on the costs:

    >>> import dini, jax, jax.numpy as jnp
    >>> cost = jnp.array([1.0, 2.0, 8.0])
    >>> loss = lambda q, c: c - (10.0 - jnp.sum(q) - q)
    >>> sold = lambda c: dini.variational_inequality(loss, jnp.ones(3), c, constraint=dini.sets.NonNegative()).x
    >>> print(sold(cost).round(3))
    [3.333 2.333 0.   ]
    >>> print(jax.jacobian(sold)(cost).round(3) + 0.0)
    [[-0.667  0.333  0.   ]
     [ 0.333 -0.667  0.   ]
     [ 0.     0.     0.   ]]
    """
    if constraint is None:
        raise TypeError(
            "variational_inequality needs constraint=, the set C of dini.sets that x and all y are in: given None. "
            "For x >= 0 (complementarity) it is dini.sets.NonNegative(), for bounds dini.sets.Box(lower, upper), for "
            "an equation F(x) = 0 dini.sets.Free() or dini.root."
        )
    check_part("variational_inequality", "constraint", constraint, Set)
    problem = VariationalInequality(fun, constraint, has_aux)
    return solve(
        problem,
        _DEFAULT if solver is None else solver,
        check_unknown(x0, "x0"),
        *args,
        differentiation=differentiation,
        on_failure=on_failure,
        monitor=monitor,
        return_state=return_state,
        state=state,
        time_limit=time_limit,
        steps=steps,
    )


@record
class _Game:
    """The derivatives of all players' losses, each in the player's own strategy."""

    losses: tuple[Any, ...]

    def __call__(self, x: Any, *args: Tree) -> Any:
        def slope(i: int) -> Any:
            loss = lambda own: self.losses[i]((*x[:i], own, *x[i + 1 :]), *args)
            name = f"player {i}, losses[{i}] ({function_name(self.losses[i])})"
            check_scalar(jax.eval_shape(loss, x[i]), name, has_aux=False)
            return jax.grad(loss)(x[i])

        return tuple(slope(i) for i in range(len(self.losses)))


@functools.partial(explained, solver="SemismoothNewton")
def nash_equilibrium(
    losses: Sequence[Callable[..., Any]],
    x0: Tree,
    *args: Tree,
    constraints: Any = None,
    solver: Solver | Callable[..., Any] | None = None,
    differentiation: Differentiation = _IMPLICIT,
    on_failure: OnFailure = "raise",
    monitor: Monitor | None = None,
    return_state: bool = False,
    state: Any = None,
    time_limit: float | None = None,
    steps: int | None = None,
) -> Solution:
    r"""Find a Nash equilibrium: strategies from which no player can improve alone.

    Player ``i`` has a loss :math:`f_i`, which depends on the strategies of all, and a convex set :math:`C_i`:

    .. math:: x_i \in \arg\min_{u \in C_i}\; f_i(x_1, \dots, x_{i-1}, u, x_{i+1}, \dots, x_n, \theta)
              \quad\text{for all } i .

    Where each loss is convex in the player's own strategy, these are the solutions of the variational inequality with
    :math:`F(x) = (\nabla_{x_1} f_1(x), \dots, \nabla_{x_n} f_n(x))` on the product of the sets, which is what is
    solved: see :func:`dini.variational_inequality`. Where a loss is not convex in it, a solution is a point at which no
    player gains to first order. If there are several equilibria, one of them is found.

    Parameters
    ----------
    losses
        A function for each player: ``losses[i](x, *args)`` is one real number, with ``x`` the tuple of all strategies.
    x0
        The start: a tuple with an entry for each player, a pytree of floating-point arrays.
    *args
        Passed to the losses after ``x``.
    constraints
        A set of :mod:`dini.sets` for each player, in a tuple; ``None`` for a player without a set. Default: all are
        free.
    solver, differentiation, on_failure, monitor, return_state, state, time_limit, steps
        As in :func:`dini.solve`.

    Returns
    -------
    Solution
        Whose ``x`` is a tuple like ``x0``.

    Raises
    ------
    SolveError
        If no equilibrium was found.
    TypeError
        If ``losses``, ``x0`` and ``constraints`` are not tuples or lists of one length, a loss is not a function or
        does not return one real number, a set is none.

    References
    ----------
    Facchinei and Kanzow, "Generalized Nash equilibrium problems", Annals of Operations Research 2010, section 2.

    Examples
    --------
    Two players pull at each other's strategy; the second one's is bounded:

    >>> import dini, jax, jax.numpy as jnp
    >>> first = lambda x, a: (x[0] - a) ** 2 + x[0] * x[1]
    >>> second = lambda x, a: (x[1] - 3.0 * x[0]) ** 2
    >>> sets = (None, dini.sets.Box(-1.0, 1.0))
    >>> game = lambda a: dini.nash_equilibrium((first, second), (0.0, 0.0), a, constraints=sets).x
    >>> print([float(x.round(3)) for x in game(2.0)], float(jax.grad(lambda a: game(a)[0])(2.0).round(3)))
    [1.5, 1.0] 1.0
    """
    count = _players("losses", losses)
    x0 = tuple(x0) if _players("x0", x0, count) else ()
    sets = (None,) * count if constraints is None else constraints
    _players("constraints", sets, count)
    for i, one in enumerate(sets):
        if one is not None:
            check_part("nash_equilibrium", f"constraints[{i}]", one, Set)
    product = Product(tuple(Free() if one is None else one for one in sets))
    game = _Game(tuple(as_function(loss, f"losses[{i}]") for i, loss in enumerate(losses)))
    return solve(
        VariationalInequality(game, product),
        _DEFAULT if solver is None else solver,
        tuple(check_unknown(x, f"x0[{i}]") for i, x in enumerate(x0)),
        *args,
        differentiation=differentiation,
        on_failure=on_failure,
        monitor=monitor,
        return_state=return_state,
        state=state,
        time_limit=time_limit,
        steps=steps,
    )


def _players(name: str, given: Any, count: int | None = None) -> int:
    """Return how many players an argument is for, or raise."""
    if not isinstance(given, tuple | list) or not given:
        what = trees.describe(given) if name == "x0" else repr(given)
        raise TypeError(f"nash_equilibrium's {name} must be a tuple with an entry for each player: given {what}.")
    if count is not None and len(given) != count:
        raise TypeError(
            f"nash_equilibrium's {name} must have an entry for each of the {count} players of losses: given "
            f"{len(given)}."
        )
    return len(given)
