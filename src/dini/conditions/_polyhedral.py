"""Minimization over the convex hull of points that depend on the parameters."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from .. import trees
from ..checks.records import record
from ..checks.settings import require_positive
from ..functions import as_function
from ..sets import project_simplex
from ..trees import Tree
from ..trees.products import tensordot
from ._descent import inverse_curvature


@record
class ConvexHull:
    r"""The condition of a minimum over the convex hull of vertices.

    The problem is :math:`\min f(x, \theta)` over :math:`x \in \mathrm{conv}\{v_1(\theta), \dots, v_m(\theta)\}`. The
    unknown is the vector ``p`` of weights of :math:`x = V(\theta) p`, the columns of ``V`` being the vertices. A
    function ``F(p, *theta)``:

    .. math:: F = p - \Pi_\Delta(p - \eta\, V^\top \nabla_1 f(Vp, \theta)) .

    Only the vertices that matter need to be in it: those that a Frank-Wolfe method, say, has in its active set.
    :meth:`point` returns ``x``, and passes its derivative, which is unique also where ``p`` is not (vertices that are
    affinely dependent): give the engine a linear solver for singular systems there, :class:`dini.linear.MinimumNorm`.

    Parameters
    ----------
    fun
        ``f(x, *theta)``, one real number.
    vertices
        A tree like ``x`` of arrays with one axis more in front, the vertices one after the other; or a function of
        ``theta`` that returns it.
    step_size
        :math:`\eta`, positive. It does not change the derivative, only the conditioning of its linear system. Default:
        one over an estimate of the largest curvature.

    Raises
    ------
    ValueError
        If the step size is not positive, or the number of weights is not that of the vertices.

    Examples
    --------
    The nearest point of a segment from the origin to a moving vertex:

    >>> import dini, jax.numpy as jnp
    >>> F = dini.conditions.ConvexHull(lambda x, a: 0.5 * jnp.sum((x - 1.0) ** 2), lambda a: jnp.array([[0.0], [a]]))
    >>> p, a = jnp.array([0.5, 0.5]), jnp.array(2.0)
    >>> dp = dini.root_jvp(F, p, (a,), (jnp.array(1.0),))
    >>> print(dp)
    [ 0.25 -0.25]
    """

    fun: Any
    vertices: Any
    step_size: Any = None

    def __post_init__(self) -> None:
        require_positive("ConvexHull's step_size", self.step_size)
        object.__setattr__(self, "fun", as_function(self.fun, "ConvexHull's fun"))
        if callable(self.vertices):
            object.__setattr__(self, "vertices", as_function(self.vertices, "ConvexHull's vertices"))

    def point(self, p: Any, *args: Tree) -> Any:
        """Return ``x``, the vertices weighted by ``p``."""
        vertices = self.vertices(*args) if callable(self.vertices) else self.vertices
        for leaf in jax.tree.leaves(vertices):
            if jnp.shape(leaf)[:1] != jnp.shape(p):
                raise ValueError(
                    "ConvexHull needs one weight for each vertex, along the first axis of the vertices: given weights "
                    f"of shape {jnp.shape(p)} and vertices of shape {jnp.shape(leaf)}."
                )
        return jax.tree.map(lambda leaf: tensordot(p, leaf, 1), vertices)

    def __call__(self, p: Any, *args: Tree) -> Tree:
        """Return the residual of the fixed point."""
        gradient = jax.grad(lambda p: self.fun(self.point(p, *args), *args))
        step_size = inverse_curvature(gradient, p) if self.step_size is None else self.step_size
        return trees.sub(p, project_simplex(trees.axpy(-jnp.asarray(step_size), gradient(p), p)))
