"""Minimization with equalities, inequalities and bounds."""

from __future__ import annotations

import dataclasses
from dataclasses import field
from typing import Any

import jax
import jax.numpy as jnp

from .. import conditions, trees
from ..checks.records import record
from ..checks.settings import require_ordered
from ..conditions._active import step_of
from ..functions import as_function, close
from ..numerics.separable import map_with, require_broadcast, smallest
from ..penalties import Penalty
from ..sets import Set
from ..trees import Tree
from ._base import Problem
from ._composite import PrimalDual
from ._minimize import check_part, check_scalar, join
from ._multipliers import Multipliers

_KINDS = ("equality", "inequality")
#: bounds from here on are none
_NONE = 1e20


@record
class NonlinearProgram(Problem):
    r"""Minimize :math:`f(x, \theta)` where :math:`h(x, \theta) = 0`, :math:`g(x, \theta) \le 0`, :math:`l \le x \le u`.

    All functions are smooth. The unknown is the pair of ``x`` and the :class:`dini.problems.Multipliers` of the
    constraints: start at :meth:`start`; ``solution.x`` is a pair with the fields ``primal`` and ``dual``.
    (:func:`dini.minimize` with ``equality=`` or ``inequality=`` takes and returns ``x`` alone, and the multipliers as
    ``solution.multipliers``.)

    A solution satisfies the Karush-Kuhn-Tucker conditions, with
    :math:`L = f + \nu^\top h + \lambda^\top g + w^\top x`,

    .. math:: \nabla_1 L = 0, \quad h = 0, \quad \lambda \ge 0,\ g \le 0,\ \lambda \circ g = 0,

    with :math:`w` negative at lower bounds, positive at upper ones, and zero in between. It is differentiated, with its
    multipliers, through the equations of the active constraints (:class:`dini.conditions.ActiveConstraints`), in
    everything: ``args``, the bounds, what the functions close over. That needs the gradients of the active constraints
    to be independent, their multipliers to be positive, and the Hessian of the Lagrangian to be definite on their
    tangent space: otherwise the derivative is a failure, or the certificate of :mod:`dini.certified` names what is
    missing.

    Parameters
    ----------
    fun
        ``f(x, *args)``, one real number (with ``has_aux``: a pair of it and any pytree).
    equality, inequality
        ``h(x, *args)`` and ``g(x, *args)``, arrays or any trees of arrays; ``None`` where there are none.
    lower, upper
        Bounds: numbers, arrays, or trees of them like ``x``; infinite (or 1e20 and more) where an element has none.
        The solvers evaluate the functions within the bounds only.
    has_aux
        Whether ``fun`` returns an auxiliary output.
    constraint, penalty
        A set of :mod:`dini.sets` that ``x`` is in, and a penalty of :mod:`dini.penalties` that is added to ``f``, in
        place of bounds: for :class:`dini.AugmentedLagrangian`, which keeps them as :class:`dini.Minimize` does. The
        first equation is then that of a proximal step, and the set's own multiplier is not returned.

    Raises
    ------
    TypeError
        If a function is none, or does not return real floating-point numbers.
    ValueError
        If bounds do not fit ``x``, or a lower one is above the upper one, where there are bounds beside a set or a
        penalty, and where the proximal operator of a set and a penalty together is not known.

    References
    ----------
    Fiacco, "Sensitivity analysis for nonlinear programming using penalty methods", Math. Programming 1976.

    Examples
    --------
    The point of a circle that is nearest to ``a``:

    >>> import dini, jax, jax.numpy as jnp
    >>> problem = dini.NonlinearProgram(
    ...     lambda x, a: jnp.sum((x - a) ** 2), equality=lambda x, a: jnp.sum(x**2) - 1.0
    ... )
    >>> def nearest(a):
    ...     return dini.solve(problem, dini.NonlinearInteriorPoint(), problem.start(jnp.ones(2), a), a).x.primal
    >>> a = jnp.array([3.0, 4.0])
    >>> print(nearest(a).round(3))
    [0.6 0.8]
    >>> print(jax.jacobian(nearest)(a).round(3))
    [[ 0.128 -0.096]
     [-0.096  0.072]]
    """

    fun: Any
    equality: Any = None
    inequality: Any = None
    lower: Any = None
    upper: Any = None
    has_aux: bool = field(default=False, metadata={"static": True})
    constraint: Any = None
    penalty: Any = None

    #: nothing is known of the Jacobian of another condition
    structure = None

    def __post_init__(self) -> None:
        self._wrap()
        for kind in _KINDS:
            part = getattr(self, kind)
            if part is not None:
                object.__setattr__(self, kind, as_function(part, f"NonlinearProgram's {kind}"))
        for what, kind in (("constraint", Set), ("penalty", Penalty)):
            if getattr(self, what) is not None:
                check_part("NonlinearProgram", what, getattr(self, what), kind)
        if self.part is not None and self.bounded:
            raise ValueError(
                f"NonlinearProgram takes bounds or {self.part.name}, not both. Give the bounds as a set, "
                "constraint=dini.sets.Box(lower, upper), if the proximal operator of both is known, or as inequalities."
            )
        if self.constraint is not None and self.penalty is not None:
            try:
                join(self)
            except ValueError as error:
                raise ValueError(
                    f"{error} With equality= and inequality= the two are not split: state one of them by functions."
                ) from None
        # what is known here is traced in a solve
        if jax.tree.structure(self.lower) == jax.tree.structure(self.upper):
            for low, high in zip(*map(jax.tree.leaves, (self.lower, self.upper)), strict=True):
                require_ordered("NonlinearProgram's lower", low, "upper", high)

    @property
    def composite(self) -> bool:
        """The shares by which constraints are active have a kink where one becomes active."""
        return True

    @property
    def condition(self) -> conditions.Condition:
        """The equations of the active constraints."""
        return conditions.ActiveConstraints()

    @property
    def bounded(self) -> bool:
        """Whether there are bounds."""
        return self.lower is not None or self.upper is not None

    @property
    def part(self) -> Any:
        """The set or the penalty besides the functions, or ``None``."""
        return self.constraint if self.constraint is not None else self.penalty

    def part_prox(self, x: Tree, step_size: Any) -> Any:
        """Return the projection of a primal variable onto the set, or the proximal point of the penalty."""
        return self.part.project(x) if self.constraint is not None else self.part.prox(x, step_size)

    def start(self, x: Tree, *args: Tree) -> PrimalDual:
        """Return a starting point: ``x``, and multipliers of zero."""
        x = trees.strong(jax.tree.map(jnp.asarray, x))
        self._check_functions(x, args)
        equality, inequality = jax.eval_shape(lambda u: self.constraints(u, *args), x)
        shapes = Multipliers(equality, inequality, x if self.bounded else None)
        return PrimalDual(x, jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes))

    def value(self, x: PrimalDual, *args: Tree) -> jax.Array:
        """Return the objective ``f``."""
        return self._output(x.primal, *args)

    def objective(self, x: PrimalDual, *args: Tree) -> jax.Array:
        """Return the objective ``f``, with the penalty."""
        value = self._output(x.primal, *args)
        return value if self.penalty is None else value + self.penalty.value(x.primal)

    def aux(self, x: PrimalDual, *args: Tree) -> Any:
        """Return the auxiliary output of ``fun``."""
        return super().aux(x.primal, *args)

    def constraints(self, x: Tree, *args: Tree) -> tuple[Any, Any]:
        """Return the equalities and the inequalities at a primal variable, ``None`` where there are none."""
        equality = None if self.equality is None else self.equality(x, *args)
        return equality, None if self.inequality is None else self.inequality(x, *args)

    def bounds(self, x: Tree) -> tuple[Any, Any]:
        """Return the bounds as trees like ``x``, infinite where there are none."""
        spread = lambda bound: map_with(lambda leaf, b: jnp.broadcast_to(b, leaf.shape), x, bound)
        lower = spread(-jnp.inf if self.lower is None else self.lower)
        upper = spread(jnp.inf if self.upper is None else self.upper)
        # large numbers mean none in other solvers' programs
        lower = jax.tree.map(lambda b: jnp.where(b <= -_NONE, jnp.asarray(-jnp.inf, b.dtype), b), lower)
        return lower, jax.tree.map(lambda b: jnp.where(b >= _NONE, jnp.asarray(jnp.inf, b.dtype), b), upper)

    def pulled(self, x: Tree, multipliers: Multipliers, *args: Tree) -> tuple[Any, tuple[Any, Any]]:
        r"""Return :math:`\nabla_1 f + (\partial_1 h)^\top \nu + (\partial_1 g)^\top \lambda`, and ``(h, g)``.

        The bounds' multipliers are not in it.
        """

        def lagrangian(u: Tree) -> Any:
            both = self.constraints(u, *args)
            total = self._output(u, *args)
            for values, weights in zip(both, multipliers[:2], strict=True):
                if values is not None:
                    total = total + trees.vdot(values, weights)
            return total, both

        gradient, both = jax.grad(lagrangian, has_aux=True)(x)
        return gradient, both

    def prox_argument(self, x: PrimalDual, step_size: Any, *args: Tree) -> Any:
        """Return how far each inequality and bound is active, one, the whole of which these are shares, and the rest.

        ``step_size`` stands for the units of that. The rest is the point before the proximal step, in units of the
        whole point, where there is a set or a penalty.
        """
        rest = None
        if self.part is not None:
            gradient = self.pulled(x.primal, x.dual, *args)[0]
            before = trees.axpy(-step_of(step_size), gradient, x.primal)
            rest = trees.scale(1 / step_size[1], before)
        return conditions.margins(self, x, step_size, *args), jnp.ones((), trees.real_dtype(x.primal)), rest

    def prox(self, x: Tree, step_size: Any) -> Any:
        """Return the positive part of the margins of activity, and the proximal point, as a tree like ``x``."""
        margins, whole, rest = x
        if rest is not None:
            size = step_size[1]
            rest = trees.scale(1 / size, self.part_prox(trees.scale(size, rest), step_of(step_size)))
        return (*jax.tree.map(lambda m: jnp.maximum(m, 0), (margins, whole)), rest)

    def kink_distance(self, y: Any, step_size: Any) -> jax.Array:
        """Return how far the nearest inequality or bound is from neither being active nor inactive."""
        least = smallest(jax.tree.map(jnp.abs, y[0]), y[0])
        if self.part is None:
            return least
        size, before = step_size[1], trees.scale(step_size[1], y[2])
        if self.constraint is not None:
            own = self.constraint.kink_distance(before)
        else:
            own = self.penalty.kink_distance(before, step_of(step_size))
        return jnp.minimum(own / size, least)

    def closed(self, x: PrimalDual, *args: Tree) -> Any:
        """Return the problem with all closures made explicit, checked at ``x``."""
        if not isinstance(x, PrimalDual):
            raise TypeError(
                "The unknown of NonlinearProgram is a pair of a primal variable and multipliers: start at "
                "problem.start(x, *args), or call dini.minimize(fun, x, *args, equality=..., inequality=...). Given "
                f"{trees.describe(x)}."
            )
        self._check_functions(x.primal, args)
        parts = {kind: getattr(self, kind) for kind in _KINDS}
        closed = {kind: None if part is None else close(part, x.primal, *args) for kind, part in parts.items()}
        for what in ("constraint", "penalty"):
            part = getattr(self, what)
            closed[what] = None if part is None else part.closed(x.primal)
        problem = dataclasses.replace(self, fun=close(self.fun, x.primal, *args), **closed)
        problem.check(x, *args)
        return problem

    def _check_functions(self, x: Tree, args: tuple[Tree, ...]) -> None:
        """Raise unless the functions return real numbers."""
        check_scalar(jax.eval_shape(self._output, x, *args), self.name, has_aux=self.has_aux)
        for kind in _KINDS:
            part = getattr(self, kind)
            if part is None:
                continue
            leaves = jax.tree.leaves(jax.eval_shape(part, x, *args))
            if not leaves or not all(jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in leaves):
                given = trees.describe(jax.eval_shape(part, x, *args))
                relation = "vanish" if kind == "equality" else "must not be positive"
                raise TypeError(
                    f"The {kind} of {self.name} must return real floating-point numbers, those that {relation}: given "
                    f"{given}. Write a constraint a(x) {'=' if kind == 'equality' else '<='} b as a(x) - b."
                )

    def check(self, x: PrimalDual, *args: Tree) -> None:
        """Raise unless all parts fit one another."""
        for what in ("lower", "upper"):
            bound = getattr(self, what)
            if bound is not None:
                require_broadcast("NonlinearProgram", what, bound, x.primal)
        if self.part is not None:
            self.part.check(x.primal)
        needed = jax.eval_shape(lambda u: self.start(u, *args), x.primal)
        trees.require_same("The multipliers in init", x.dual, needed.dual, "the constraints")
