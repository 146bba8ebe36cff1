"""Variational inequalities."""

from __future__ import annotations

import dataclasses
from dataclasses import field
from typing import Any

import jax
import jax.numpy as jnp

from .. import conditions, trees
from ..checks.records import record
from ..sets import Set
from ..trees import Tree
from ._base import Problem, check_like_unknown
from ._minimize import check_part


@record
class VariationalInequality(Problem):
    r"""Find ``x`` in a set ``C`` with :math:`\langle F(x, \theta),\, y - x \rangle \ge 0` for all ``y`` in ``C``.

    With :math:`F = \nabla_1 f` these are the stationary points of ``f`` on ``C``; ``F`` need not be a gradient. Other
    problems are special cases, by the set:

    ==============================================  ====================================================================
    set                                             what is solved
    ==============================================  ====================================================================
    :class:`dini.sets.NonNegative`                  the complementarity problem :math:`x \ge 0`, :math:`F(x) \ge 0`,
                                                    :math:`x_i F_i(x) = 0`
    :class:`dini.sets.Box`, bounds may be infinite  the mixed complementarity problem: :math:`F_i(x) \ge 0` at the lower
                                                    bound, :math:`\le 0` at the upper one, zero between them
    :class:`dini.sets.Free`                         the equation :math:`F(x) = 0`
    :class:`dini.sets.Product`                      a Nash equilibrium: a set for each player, see
                                                    :func:`dini.nash_equilibrium`
    ==============================================  ====================================================================

    A solution that is not isolated, such as flows on paths of which only the sums on links are unique, is found as any
    other, but has no derivative, and asking for one is a :class:`dini.DerivativeError`: state the problem in unknowns
    that are unique, or add a small multiple of ``x`` to ``F``.

    Parameters
    ----------
    fun
        ``F(x, *args)``; returns a tree like ``x`` (with ``has_aux``: a pair of it and any pytree).
    constraint
        ``C``, a convex set of :mod:`dini.sets`. Its parameters are differentiated, like ``args``.
    has_aux
        Whether ``fun`` returns an auxiliary output.

    Raises
    ------
    TypeError
        If ``constraint`` is not a set of :mod:`dini.sets`, or ``F`` does not return a tree like ``x``.
    ValueError
        If the set is not convex, or does not fit ``x``.

    References
    ----------
    Facchinei and Pang, "Finite-dimensional variational inequalities and complementarity problems", 2003.

    Examples
    --------
    A linear complementarity problem, and the derivative of its solution:

    >>> import dini, jax, jax.numpy as jnp
    >>> M = jnp.array([[2.0, 1.0], [-1.0, 2.0]])
    >>> problem = dini.VariationalInequality(lambda x, q: M @ x + q, dini.sets.NonNegative())
    >>> solve = lambda q: dini.solve(problem, dini.SemismoothNewton(), jnp.ones(2), q).x
    >>> print(solve(jnp.array([-1.0, 1.0])))
    [0.5 0. ]
    >>> print(jax.jacobian(solve)(jnp.array([-1.0, 1.0])))
    [[-0.5  0. ]
     [ 0.   0. ]]
    """

    fun: Any
    constraint: Any = None
    has_aux: bool = field(default=False, metadata={"static": True})

    def __post_init__(self) -> None:
        self._wrap()
        if self.constraint is not None:  # JAX rebuilds problems of other leaves: None is refused where one is solved
            check_part("VariationalInequality", "constraint", self.constraint, Set)

    def _check_set(self) -> None:
        if self.constraint is None:
            raise TypeError(
                "VariationalInequality's constraint must be an object of dini.sets: given None. It is the set C of the "
                "inequality: dini.sets.NonNegative() for complementarity, dini.sets.Box(lower, upper) for bounds, "
                "dini.sets.Free() for an equation."
            )

    @property
    def condition(self) -> conditions.Condition:
        """The natural residual."""
        return conditions.NaturalResidual()

    @property
    def structure(self) -> Any:
        """Nothing is known of the Jacobian."""
        return None

    def operator(self, x: Tree, *args: Tree) -> Any:
        """Return ``F(x, *args)``."""
        return self._output(x, *args)

    def gradient(self, x: Tree, *args: Tree) -> Any:
        """Return ``F(x, *args)``, which stands in place of a gradient."""
        return self._output(x, *args)

    def residual(self, x: Tree, *args: Tree) -> Any:
        """Return the natural residual with a step size of one, ``x`` less the projection of ``x - F(x)``."""
        return trees.sub(x, self.prox(self.prox_argument(x, 1.0, *args), 1.0))

    def prox(self, x: Tree, step_size: Any) -> Any:
        """Return the projection onto the set."""
        del step_size
        return self.constraint.project(x)

    def prox_argument(self, x: Tree, step_size: Any, *args: Tree) -> Any:
        """Return the point ahead of ``x``, of which the projection is taken."""
        return trees.axpy(-jnp.asarray(step_size), self.operator(x, *args), x)

    def kink_distance(self, y: Any, step_size: Any) -> jax.Array:
        """Return the distance of ``y`` from the nearest kink of the projection; NaN where it is not known."""
        del step_size
        return self.constraint.kink_distance(y)

    def closed(self, x: Tree, *args: Tree) -> Any:
        """Return the problem with all closures made explicit, checked at ``x``."""
        return dataclasses.replace(super().closed(x, *args), constraint=self.constraint.closed(x))

    def check(self, x: Tree, *args: Tree) -> None:
        """Raise unless the set is convex and fits ``x``, and ``F`` returns a tree like ``x``."""
        self._check_set()
        if not self.constraint.convex:
            raise ValueError(
                f"VariationalInequality's constraint must be a convex set: given {self.constraint.name}, whose "
                "projection is not unique."
            )
        self.constraint.check(x)
        check_like_unknown("The output of VariationalInequality's fun", jax.eval_shape(self.operator, x, *args), x)
