"""The natural residual of a variational inequality: of a problem, and as a function of its own."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from .. import trees
from ..checks.records import record
from ..checks.settings import require_positive
from ..functions import as_function, close
from ..linear import Reduction
from ..protocols import Composed
from ..sets import Set
from ..trees import Tree
from ._descent import ProximalGradient

#: products with the Jacobian by which its size is estimated
_PRODUCTS = 8


def inverse_size(operator: Callable[[Any], Any], x: Tree, otherwise: Any) -> jax.Array:
    """Return one over an estimate of the norm of a Jacobian, a constant of differentiation.

    The Jacobian need not be symmetric, so that the largest growth of a vector counts and not the last one. Where it is
    zero, or not finite, the step size is ``otherwise``.
    """
    push = jax.linearize(operator, jax.lax.stop_gradient(x))[1]
    start = trees.varied(x)

    def body(_: Any, carry: tuple[Any, jax.Array]) -> tuple[Any, jax.Array]:
        v, top = carry
        size = trees.norm(v)
        v = push(trees.scale(jnp.where(size > 0, 1 / jnp.where(size > 0, size, 1), 0), v))
        return v, jnp.maximum(top, trees.norm(v).astype(top.dtype))

    top = jax.lax.fori_loop(0, _PRODUCTS, body, (start, jnp.zeros((), trees.real_dtype(x))))[1]
    top = jax.lax.stop_gradient(top)
    known = (top > 0) & jnp.isfinite(top)
    return jnp.where(known, 1 / jnp.where(known, top, 1), otherwise).astype(top.dtype)


@record
class NaturalResidual(ProximalGradient):
    r"""The natural residual of a variational inequality, :math:`F = x - \Pi_C(x - \eta\, G(x, \theta))`.

    It is the condition of :class:`dini.VariationalInequality`, whose operator is ``G``, and vanishes at its solutions
    for every step size. The derivative does not depend on :math:`\eta`, the conditioning of its linear system does.
    Default: one over an estimate of the norm of the Jacobian of ``G``. The linear system is not symmetric, also where
    ``C`` is a polyhedron, since the Jacobian of ``G`` need not be.
    """

    def at(self, problem: Composed, x: Tree, *args: Tree) -> NaturalResidual:
        """Return the condition with a step size."""
        step_size = self.step_size
        if step_size is None:
            step_size = inverse_size(lambda u: problem.gradient(u, *args), x, 1.0)
        return dataclasses.replace(self, step_size=step_size)

    def linearize(self, problem: Any, x: Tree, *args: Tree) -> tuple[Callable[[Any], Any], Reduction | None]:
        """Return the derivative in ``x``; there is no symmetric system that stands for it."""
        return super().linearize(problem, x, *args)[0], None


@record
class VariationalInequality:
    r"""The natural residual of a variational inequality.

    It asks for ``x`` in ``C`` with :math:`\langle G(x, \theta), x' - x \rangle \ge 0` for all ``x'`` in ``C``. This
    is a function ``F(x, *theta)`` that is zero at the solutions:

    .. math:: F = x - \Pi_C(x - \eta\, G(x, \theta)) .

    With :math:`G = \nabla_1 f` it is the projected-gradient fixed point. ``G`` need not be a gradient: equilibria of
    games, complementarity problems (``C`` the nonnegative orthant), traffic.

    Parameters
    ----------
    operator
        ``G(x, *theta)``, a tree like ``x``.
    constraint
        A set of :mod:`dini.sets`; its parameters are differentiated.
    step_size
        :math:`\eta`, positive. It does not change the derivative, only the conditioning of its linear system. Default:
        one over an estimate of the norm of the Jacobian of ``G``.

    Raises
    ------
    TypeError
        If the constraint is not a set, or ``G`` does not return a tree like ``x``.
    ValueError
        If the step size is not positive, or the constraint does not fit ``x``.

    References
    ----------
    Facchinei and Pang, "Finite-dimensional variational inequalities and complementarity problems", 2003, section 1.5.

    Examples
    --------
    The linear complementarity problem :math:`x \ge 0`, :math:`Mx + q \ge 0`, :math:`x^\top (Mx + q) = 0`:

    >>> import dini, jax, jax.numpy as jnp
    >>> M = jnp.array([[2.0, 1.0], [-1.0, 2.0]])
    >>> F = dini.conditions.VariationalInequality(lambda x, q: M @ x + q, dini.sets.NonNegative())
    >>> x, q = jnp.array([0.5, 0.0]), jnp.array([-1.0, 1.0])
    >>> print(dini.root_jvp(F, x, (q,), (jnp.array([1.0, 0.0]),)))
    [-0.5  0. ]
    """

    operator: Any
    constraint: Any
    step_size: Any = None

    def __post_init__(self) -> None:
        require_positive("VariationalInequality's step_size", self.step_size)
        object.__setattr__(self, "operator", as_function(self.operator, "VariationalInequality's operator"))
        if not isinstance(self.constraint, Set):
            raise TypeError(
                "VariationalInequality's constraint must be one of dini.sets (a projection goes into "
                f"dini.sets.Custom): given {self.constraint!r}."
            )

    def __call__(self, x: Tree, *args: Tree) -> Tree:
        """Return the natural residual."""
        self.constraint.check(x)
        value = jax.eval_shape(lambda: self.operator(x, *args))
        trees.require_same("The output of the operator", value, x, "the unknown x")
        step_size = self._length(x, args)
        return trees.sub(x, self.constraint.project(self._ahead(x, step_size, args)))

    def close(self, x: Tree, *args: Tree) -> VariationalInequality:
        """Return the residual with everything that its functions close over made explicit."""
        return dataclasses.replace(self, operator=close(self.operator, x, *args), constraint=self.constraint.closed(x))

    def kinks(self, x: Tree, *args: Tree) -> tuple[Any, Any, Any]:
        """Return the argument of the projection, the projection, and the distance to a kink; see `Condition.kinks`."""
        step_size = jax.lax.stop_gradient(self._length(x, args))
        return lambda u: self._ahead(u, step_size, args), self.constraint.project, self.constraint.kink_distance

    def _length(self, x: Tree, args: tuple[Tree, ...]) -> Any:
        return inverse_size(lambda u: self.operator(u, *args), x, 1.0) if self.step_size is None else self.step_size

    def _ahead(self, x: Tree, step_size: Any, args: tuple[Tree, ...]) -> Any:
        return trees.axpy(-jnp.asarray(step_size), self.operator(x, *args), x)
