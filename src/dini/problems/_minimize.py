"""Minimization, smooth or with a constraint set or a penalty."""

from __future__ import annotations

import dataclasses
from dataclasses import field
from typing import Any

import jax
import jax.numpy as jnp

from .. import conditions, trees
from ..checks.records import record
from ..penalties import Penalty
from ..penalties._constrained import constrained, no_operator
from ..protocols import AnyProblem
from ..sets import Set
from ..trees import Tree
from ._base import Problem, hessian_block
from ._own_gradient import OwnGradient


def check_part(owner: str, what: str, part: Any, kind: type) -> None:
    """Raise unless a constraint is a set, and a penalty a penalty."""
    if not isinstance(part, kind):
        from ..explanations import parts

        given = f"the class {part.__name__}; call it" if isinstance(part, type) else _given(part)
        module = "sets" if kind is Set else "penalties"
        if kind is Set:
            hint = parts.no_set(part, penalty=isinstance(part, Penalty))
        else:
            hint = parts.no_penalty(part, constraint=isinstance(part, Set))
        raise TypeError(f"{owner}'s {what} must be an object of dini.{module}: given {given}. {hint}")


def _given(part: Any) -> str:
    return type(part).__name__ if isinstance(part, Set | Penalty) else repr(part)


def check_scalar(output: Any, name: str, *, has_aux: bool) -> None:
    """Raise unless an objective's output, without an auxiliary one, is one real number."""
    leaves = jax.tree.leaves(output)
    real = bool(leaves) and leaves[0].shape == () and jnp.issubdtype(leaves[0].dtype, jnp.floating)
    if real and leaves[0] is output:
        return
    from ..explanations import parts

    remedy = parts.no_number(output, leaves, pair=real and not has_aux)
    raise TypeError(
        f"The objective of {name} must return one real floating-point number: given {trees.describe(output)}. {remedy}"
    )


def join(problem: AnyProblem) -> None:
    """Make one penalty of the constraint and the penalty of a problem that is being made, or raise."""
    both = constrained(problem.penalty, problem.constraint)
    if both is None:
        raise ValueError(no_operator(problem.penalty, problem.constraint))
    object.__setattr__(problem, "penalty", both)
    object.__setattr__(problem, "constraint", None)


@record
class Minimize(Problem):
    r"""Minimize :math:`f(x, \theta) + g(x)` over ``x`` in a set.

    ``f`` is smooth. A ``constraint`` is a set with a projection, a ``penalty`` a function ``g`` with a proximal
    operator. Arrays in them, such as a radius or a penalty's strength, are parameters of the problem like ``args``, and
    are differentiated. Both together become one penalty, :class:`dini.penalties.Constrained`, where the proximal
    operator of their sum is known: bounds and :class:`dini.penalties.L1`, say. For other pairs see
    :func:`dini.minimize`.

    Parameters
    ----------
    fun
        ``f(x, *args)``, one real number (with ``has_aux``: a pair of it and any pytree). It may be an object that is
        called so and has a method ``value_and_gradient(x, *args)``, which is then asked for both; a wrong one is
        believed. Beside it, the object may have a method ``hessian_nonzeros(x, *args)``: the nonzeros of the Hessian in
        the order of the pattern of ``dini.Newton(linear_solver=dini.linear.Sparse(pattern))``, as a flat array of the
        gradient's type. Newton's method forms its matrices of them; the derivative of the solution and the tests of the
        end take products with the gradient's derivative, so that wrong ones cost steps.
    constraint
        A set of :mod:`dini.sets`.
    penalty
        A penalty of :mod:`dini.penalties`.
    has_aux
        Whether ``fun`` returns an auxiliary output.

    Raises
    ------
    TypeError
        If the objective is not one real number.
    ValueError
        If the constraint and the penalty do not fit ``x``, or their sum has no proximal operator that is known.

    Examples
    --------
    The projection of a point onto the simplex, and its Jacobian:

    >>> import dini, jax, jax.numpy as jnp
    >>> problem = dini.Minimize(lambda x, y: 0.5 * jnp.sum((x - y) ** 2), constraint=dini.sets.Simplex())
    >>> def project(y):
    ...     return dini.solve(problem, dini.ProjectedGradient(), jnp.ones(3) / 3, y).x
    >>> print(jax.jacobian(project)(jnp.array([0.9, 0.5, -1.0])).round(3))
    [[ 0.5 -0.5  0. ]
     [-0.5  0.5  0. ]
     [ 0.   0.   0. ]]
    """

    fun: Any
    constraint: Any = None
    penalty: Any = None
    has_aux: bool = field(default=False, metadata={"static": True})

    def __post_init__(self) -> None:
        self._wrap()
        if callable(self.fun):
            object.__setattr__(self, "fun", OwnGradient.of(self.fun))
        for what, kind, part in (("constraint", Set, self.constraint), ("penalty", Penalty, self.penalty)):
            if part is not None:
                check_part(type(self).__name__, what, part, kind)
        if self.constraint is not None and self.penalty is not None:
            join(self)

    @property
    def condition(self) -> conditions.Condition:
        """Stationarity, or the proximal-gradient fixed point."""
        return conditions.ProximalGradient() if self.composite else conditions.Stationary()

    @property
    def structure(self) -> Any:
        """The Hessian of a nondegenerate minimum is positive definite."""
        return None if self.composite else "positive definite"

    def value(self, x: Tree, *args: Tree) -> jax.Array:
        """Return the smooth part ``f(x, *args)``."""
        return self._output(x, *args)

    def objective(self, x: Tree, *args: Tree) -> jax.Array:
        """Return ``f(x, *args) + g(x)``."""
        value = self.value(x, *args)
        return value if self.penalty is None else value + self.penalty.value(x)

    def value_and_gradient(self, x: Tree, *args: Tree) -> tuple[jax.Array, Any]:
        """Return the smooth part and its gradient in ``x``."""
        own = getattr(self.fun, "value_and_gradient", None)
        return jax.value_and_grad(self.value)(x, *args) if own is None else own(x, *args)

    def gradient(self, x: Tree, *args: Tree) -> Any:
        """Return the gradient of the smooth part in ``x``."""
        own = getattr(self.fun, "value_and_gradient", None)
        return jax.grad(self.value)(x, *args) if own is None else own(x, *args)[1]

    def hessian_nonzeros(self, x: Tree, *args: Tree) -> Any:
        """Return the nonzeros of the smooth part's Hessian by the objective's own method, ``None`` without one."""
        own = getattr(self.fun, "hessian_nonzeros", None)
        return None if own is None else own(x, *args)

    def hessian_block(self, x: Tree, rows: jax.Array, *args: Tree) -> jax.Array:
        """Return the rows and columns of the smooth part's Hessian that belong to some elements of ``x``."""
        return hessian_block(self, x, rows, *args)

    def prox(self, x: Tree, step_size: Any) -> Any:
        """Return the proximal point of the penalty, the projection onto the constraint, or ``x``."""
        if self.constraint is not None:
            return self.constraint.project(x)
        return x if self.penalty is None else self.penalty.prox(x, step_size)

    def prox_argument(self, x: Tree, step_size: Any, *args: Tree) -> Any:
        """Return the point of a gradient step, to which the proximal operator is applied."""
        return trees.axpy(-jnp.asarray(step_size), self.gradient(x, *args), x)

    def kink_distance(self, y: Any, step_size: Any) -> jax.Array:
        """Return the distance of ``y`` from the nearest kink of the proximal operator; NaN where it is not known."""
        if self.constraint is not None:
            return self.constraint.kink_distance(y)
        if self.penalty is not None:
            return self.penalty.kink_distance(y, step_size)
        return jnp.full((), jnp.inf, trees.real_dtype(y))

    def closed(self, x: Tree, *args: Tree) -> Any:
        """Return the problem with all closures made explicit, checked at ``x``."""
        problem = super().closed(x, *args)
        constraint = None if self.constraint is None else self.constraint.closed(x)
        penalty = None if self.penalty is None else self.penalty.closed(x)
        return dataclasses.replace(problem, constraint=constraint, penalty=penalty)

    def check(self, x: Tree, *args: Tree) -> None:
        """Raise unless the objective is a real scalar and the constraint or penalty fits ``x``."""
        check_scalar(jax.eval_shape(self.value, x, *args), self.name, has_aux=self.has_aux)
        for part, kind, what in ((self.constraint, Set, "constraint"), (self.penalty, Penalty, "penalty")):
            if part is not None:
                check_part(self.name, what, part, kind)
                part.check(x)
