"""Sums of functions, one of them behind a linear operator."""

from __future__ import annotations

import dataclasses
from dataclasses import field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from .. import conditions, trees
from ..checks.records import record
from ..functions import as_function, close
from ..penalties import Penalty
from ..sets import Set
from ..trees import Tree
from ..trees.products import dot
from ._base import Problem
from ._minimize import Minimize, check_part, check_scalar, join


class PrimalDual(NamedTuple):
    """A primal variable and the dual variable of the function behind the operator.

    Attributes
    ----------
    primal
        ``x``.
    dual
        ``y``, a tree like ``K(x)``.
    """

    primal: Any
    dual: Any


_NO_OUTER = (
    "Composite's outer must be a penalty of dini.penalties or a set of dini.sets: given {}. Your own function goes "
    "into dini.penalties.Custom."
)


def _nothing(x: Tree, *args: Tree) -> jax.Array:
    del args
    return jnp.zeros((), trees.real_dtype(x))


@record
class Composite(Problem):
    r"""Minimize :math:`f(x, \theta) + g(x) + h(K(\theta)\, x)` over ``x``.

    ``f`` is smooth; ``g`` and ``h`` have a proximal operator each (or are the indicators of sets), but their sum has
    none. The unknown is the pair of ``x`` and the dual variable ``y`` of ``h``, since the solution is the saddle point
    of :math:`f(x) + g(x) + \langle Kx, y\rangle - h^*(y)`. Its condition, for step size :math:`\eta`,

    .. math::
        \begin{aligned}
        x &= \mathrm{prox}_{\eta g}\bigl(x - \eta(\nabla_1 f + K^\top y)\bigr), \\
        y &= \mathrm{prox}_{\eta h^*}(y + \eta K x) ,
        \end{aligned}

    is differentiated in everything: ``args``, the parameters of ``g`` and ``h``, and ``K``. It is singular where the
    dual variable is not unique (dependent rows of ``K`` that are all active, as in total variation of images): then
    pass ``Implicit(linear_solver=dini.linear.MinimumNorm())``.

    Start at :meth:`start`; ``solution.x`` is a pair with the fields ``primal`` and ``dual``.

    Parameters
    ----------
    fun
        ``f(x, *args)``, one real number; ``None`` for zero.
    outer
        ``h``: a penalty of :mod:`dini.penalties`, convex, or a set of :mod:`dini.sets` in which ``K x`` must lie.
    operator
        ``K``: a matrix, or a function ``K(x, *args)`` that is linear (or affine) in ``x``; ``None`` for the identity.
    constraint, penalty
        ``g``, as in :class:`dini.Minimize`.
    has_aux
        Whether ``fun`` returns an auxiliary output.

    Raises
    ------
    TypeError
        If a part is neither a penalty nor a set, ``f`` is not one real number, or the unknown is not a pair.
    ValueError
        If the operator is not linear or has another shape, or a part is not convex or does not fit.

    Examples
    --------
    Denoising by total variation, by its definition:

    >>> import dini, jax.numpy as jnp
    >>> problem = dini.Composite(
    ...     lambda x, a: 0.5 * jnp.sum((x - a) ** 2), dini.penalties.L1(0.5), lambda x, a: x[1:] - x[:-1]
    ... )
    >>> a = jnp.array([1.0, 1.2, 3.0])
    >>> x = dini.solve(problem, dini.CondatVu(), problem.start(a, a), a).x
    >>> print(x.primal.round(2))
    [1.35 1.35 2.5 ]
    """

    fun: Any
    outer: Any
    operator: Any = None
    constraint: Any = None
    penalty: Any = None
    has_aux: bool = field(default=False, metadata={"static": True})

    def __post_init__(self) -> None:
        if self.fun is None:
            object.__setattr__(self, "fun", Partial(_nothing))
        self._wrap()
        if callable(self.operator):
            object.__setattr__(self, "operator", as_function(self.operator, "Composite's operator"))
        if isinstance(self.operator, str):
            raise TypeError(f"Composite's operator must be a matrix, a function or None: given {self.operator!r}.")
        if self.outer is None or callable(self.outer) or isinstance(self.outer, int | float | str):
            raise TypeError(_NO_OUTER.format(repr(self.outer)))
        for what, kind, part in (("constraint", Set, self.constraint), ("penalty", Penalty, self.penalty)):
            if part is not None:
                check_part("Composite", what, part, kind)
        if self.constraint is not None and self.penalty is not None:
            join(self)

    @property
    def composite(self) -> bool:
        """There is a proximal operator on either side."""
        return True

    @property
    def valued(self) -> bool:
        """Whether the objective can be evaluated."""
        return super().valued and (isinstance(self.outer, Set) or self.outer.valued)

    @property
    def smooth(self) -> bool:
        """Whether there is a function ``f``."""
        return getattr(self.fun, "func", None) is not _nothing

    @property
    def condition(self) -> conditions.Condition:
        """The saddle point's fixed point."""
        return conditions.SaddlePoint()

    @property
    def structure(self) -> Any:
        """Nothing is known of the Jacobian."""
        return None

    def start(self, x: Tree, *args: Tree) -> PrimalDual:
        """Return a starting point: ``x`` and zero."""
        x = jax.tree.map(jnp.asarray, x)
        image = jax.eval_shape(lambda x: self.image(x, *args), x)
        return PrimalDual(x, jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), image))

    def image(self, x: Tree, *args: Tree) -> Any:
        """Return ``K x``."""
        if self.operator is None:
            return x
        if callable(self.operator):
            return self.operator(x, *args)
        matrix, shape = jnp.asarray(self.operator), getattr(x, "shape", ())
        if not shape or not matrix.ndim or matrix.shape[-1] != shape[0]:
            raise ValueError(
                "Composite's operator must be a matrix with a column for each row of the primal variable, which is one "
                f"array, or a function: given shape {matrix.shape} for {trees.describe(x)}."
            )
        return dot(matrix, x)

    def adjoint(self, y: Any, x: Tree, *args: Tree) -> Any:
        """Return the adjoint of ``K`` times ``y``, for an unknown like ``x``."""
        return jax.vjp(lambda u: self.image(u, *args), x)[1](y)[0]

    def value(self, x: PrimalDual, *args: Tree) -> jax.Array:
        """Return the smooth part ``f``."""
        return self._output(x.primal, *args)

    def objective(self, x: PrimalDual, *args: Tree) -> jax.Array:
        """Return ``f + g + h``, without the sets' indicators."""
        value = self.value(x, *args)
        if self.penalty is not None:
            value = value + self.penalty.value(x.primal)
        return value if isinstance(self.outer, Set) else value + self.outer.value(self.image(x.primal, *args))

    def aux(self, x: PrimalDual, *args: Tree) -> Any:
        """Return the auxiliary output of ``fun``."""
        return super().aux(x.primal, *args)

    def smooth_gradient(self, x: Tree, *args: Tree) -> Any:
        """Return the gradient of ``f`` at a primal variable."""
        if not self.smooth:
            return trees.zeros_like(x)
        return jax.grad(lambda u: self._output(u, *args))(x)

    def gradient(self, x: PrimalDual, *args: Tree) -> PrimalDual:
        """Return the monotone operator of the smooth part, the gradient plus ``K.T y`` and minus ``K x``."""
        slope = trees.add(self.smooth_gradient(x.primal, *args), self.adjoint(x.dual, x.primal, *args))
        return PrimalDual(slope, trees.neg(self.image(x.primal, *args)))

    def inner_prox(self, x: Tree, step_size: Any) -> Any:
        """Return the proximal point of ``g``."""
        if self.constraint is not None:
            return self.constraint.project(x)
        return x if self.penalty is None else self.penalty.prox(x, step_size)

    def outer_prox(self, z: Any, step_size: Any) -> Any:
        """Return the proximal point of ``h``."""
        return self.outer.project(z) if isinstance(self.outer, Set) else self.outer.prox(z, step_size)

    def conjugate_prox(self, y: Any, step_size: Any) -> Any:
        """Return the proximal point of the conjugate of ``h``, by Moreau's identity."""
        inner = self.outer_prox(trees.scale(1 / jnp.asarray(step_size), y), 1 / jnp.asarray(step_size))
        return trees.axpy(-jnp.asarray(step_size), inner, y)

    def prox(self, x: PrimalDual, step_size: Any) -> PrimalDual:
        """Return the proximal point of both variables' parts."""
        return PrimalDual(self.inner_prox(x.primal, step_size), self.conjugate_prox(x.dual, step_size))

    def prox_argument(self, x: PrimalDual, step_size: Any, *args: Tree) -> PrimalDual:
        """Return the point to which the proximal operators are applied."""
        return trees.axpy(-jnp.asarray(step_size), self.gradient(x, *args), x)

    def kink_distance(self, y: PrimalDual, step_size: Any) -> jax.Array:
        """Return the distance of the argument of the proximal operators from their nearest kink."""
        eta = jnp.asarray(step_size)
        inner = Minimize(self.fun, self.constraint, self.penalty).kink_distance(y.primal, step_size)
        scaled = trees.scale(1 / eta, y.dual)
        if isinstance(self.outer, Set):
            outer = self.outer.kink_distance(scaled)
        else:
            outer = self.outer.kink_distance(scaled, 1 / eta)
        return jnp.minimum(inner, eta * outer)

    def closed(self, x: PrimalDual, *args: Tree) -> Any:
        """Return the problem with all closures made explicit, checked at ``x``."""
        if not isinstance(x, PrimalDual):
            raise TypeError(
                "The unknown of Composite is a pair of a primal and a dual variable: start at problem.start(x, *args). "
                f"Given {trees.describe(x)}."
            )
        if not isinstance(self.outer, Set | Penalty):
            raise TypeError(_NO_OUTER.format(type(self.outer).__name__))
        for what, kind, part in (("constraint", Set, self.constraint), ("penalty", Penalty, self.penalty)):
            if part is not None:
                check_part(self.name, what, part, kind)
        operator = close(self.operator, x.primal, *args) if callable(self.operator) else self.operator
        problem = dataclasses.replace(
            self,
            fun=close(self.fun, x.primal, *args) if self.smooth else self.fun,
            operator=operator,
            outer=self.outer.closed(x.dual),
            constraint=None if self.constraint is None else self.constraint.closed(x.primal),
            penalty=None if self.penalty is None else self.penalty.closed(x.primal),
        )
        problem.check(x, *args)
        return problem

    def check(self, x: PrimalDual, *args: Tree) -> None:
        """Raise unless all parts fit one another."""
        check_scalar(jax.eval_shape(self.value, x, *args), self.name, has_aux=self.has_aux)
        image = jax.eval_shape(lambda u: self.image(u, *args), x.primal)
        trees.require_same("The dual variable in init", x.dual, image, "the operator's output")
        try:
            transpose = jax.linear_transpose(lambda u: self.image(u, *args), x.primal)
            jax.eval_shape(transpose, image)
        except (NotImplementedError, TypeError, AssertionError) as error:
            raise ValueError(f"Composite's operator must be linear in x: JAX cannot transpose it ({error}).") from error
        for part, variable in ((self.outer, x.dual), (self.constraint, x.primal), (self.penalty, x.primal)):
            if part is None:
                continue
            part.check(variable)
            if not part.convex:
                raise ValueError(f"Composite needs convex parts: {part.name} is not convex.")
