"""JAXopt's projections, by the sets of :mod:`dini.sets`.

Each is exact, differentiable in the point and in its parameters, in forward and reverse mode, under ``jit`` and
``vmap``. An empty set or a parameter that fits no set raises; where that is known at run time only, the projection is
NaN.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import jax

from dini import sets, trees
from dini.checks.settings import positive, require_positive
from dini.sets._balls import onto_ball
from dini.trees import Tree

from ._known import onto, or_one

__all__ = [
    "kl_projection_birkhoff",
    "kl_projection_transport",
    "projection_affine_set",
    "projection_birkhoff",
    "projection_box",
    "projection_box_section",
    "projection_halfspace",
    "projection_hypercube",
    "projection_hyperplane",
    "projection_l1_ball",
    "projection_l1_sphere",
    "projection_l2_ball",
    "projection_l2_sphere",
    "projection_linf_ball",
    "projection_non_negative",
    "projection_polyhedron",
    "projection_simplex",
    "projection_sparse_simplex",
    "projection_transport",
]


def _hypercube(unit: Any) -> sets.Box:
    return sets.Box(0.0, or_one(unit))


def _simplex(value: Any) -> sets.Simplex:
    return sets.Simplex(or_one(value))


def _l1_sphere(value: Any) -> sets.L1Sphere:
    return sets.L1Sphere(or_one(value))


def _l1_ball(max_value: Any) -> sets.L1Ball:
    return sets.L1Ball(or_one(max_value))


def _l2_sphere(value: Any) -> sets.L2Sphere:
    return sets.L2Sphere(or_one(value))


def _linf_ball(max_value: Any) -> sets.Box:
    radius = or_one(max_value)
    return sets.Box(-radius, radius)


def _polyhedron(hyperparams: tuple[Any, Any, Any, Any]) -> sets.Polyhedron:
    A, b, G, h = hyperparams
    return sets.Polyhedron(G, h, A, b)


@onto(lambda _: sets.NonNegative())
def projection_non_negative(x: Tree, hyperparams: Any = None) -> Tree:
    r"""Return :math:`\max(x, 0)` for a tree ``x``; ``hyperparams`` has no part in it.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini_jaxopt import projection
    >>> print(projection.projection_non_negative(jnp.array([-1.0, 2.0])))
    [0. 2.]
    """
    del hyperparams
    return sets.NonNegative().project(x)


@onto(lambda bounds: sets.Box(*bounds))
def projection_box(x: Tree, hyperparams: tuple[Any, Any]) -> Tree:
    r"""Return the projection onto :math:`\{l \le x \le u\}`, with ``hyperparams = (l, u)``: see :class:`dini.sets.Box`.

    Bounds are numbers, arrays that broadcast against ``x``, or trees like ``x``.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini_jaxopt import projection
    >>> print(projection.projection_box(jnp.array([-1.0, 0.5, 3.0]), (0.0, jnp.array([1.0, 1.0, 2.0]))))
    [0.  0.5 2. ]
    """
    return sets.Box(*hyperparams).project(x)


@onto(_hypercube)
def projection_hypercube(x: Tree, unit: Any = 1.0) -> Tree:
    r"""Return the projection onto :math:`\{0 \le x \le s\}`, with ``unit`` as ``s``.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini_jaxopt import projection
    >>> print(projection.projection_hypercube(jnp.array([-1.0, 0.5, 3.0]), 2.0))
    [0.  0.5 2. ]
    """
    return _hypercube(unit).project(x)


@onto(_simplex)
def projection_simplex(x: jax.Array, value: Any = 1.0) -> jax.Array:
    r"""Return the projection of a vector onto :math:`\{p \ge 0, \sum_i p_i = s\}`, with ``value`` as ``s > 0``.

    See :class:`dini.sets.Simplex`. ``None`` stands for one, here and for the other radii.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini_jaxopt import projection
    >>> print(projection.projection_simplex(jnp.array([1.0, 0.5, -0.5])))
    [0.75 0.25 0.  ]
    """
    return _simplex(value).project(x)


@onto(sets.SparseSimplex)
def projection_sparse_simplex(
    x: jax.Array, max_nz: int, use_approx_max_nz: bool = False, value: Any = 1.0
) -> jax.Array:
    r"""Return the projection of a vector onto the members of the simplex with at most ``max_nz`` nonzeros.

    See :class:`dini.sets.SparseSimplex`. The largest elements are always found exactly: ``use_approx_max_nz`` has no
    effect.

    Raises
    ------
    TypeError
        Where ``use_approx_max_nz``, the third positional argument, is not a boolean: a sum that is given there would
        have no effect.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini_jaxopt import projection
    >>> print(projection.projection_sparse_simplex(jnp.array([0.5, 0.25, 0.5]), 2, value=2.0))
    [1. 0. 1.]
    """
    if not isinstance(use_approx_max_nz, bool):
        raise TypeError(
            "projection_sparse_simplex's third argument, use_approx_max_nz, must be True or False: given "
            f"{use_approx_max_nz!r}. For the sum of the elements, pass value=... by name."
        )
    return sets.SparseSimplex(max_nz, or_one(value)).project(x)


@onto(_l1_sphere)
def projection_l1_sphere(x: jax.Array, value: Any = 1.0) -> jax.Array:
    r"""Return the projection onto :math:`\{\|y\|_1 = r\}`, with ``value`` as ``r``: see :class:`dini.sets.L1Sphere`.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini_jaxopt import projection
    >>> print(projection.projection_l1_sphere(jnp.array([0.5, -0.25])))
    [ 0.625 -0.375]
    """
    return _l1_sphere(value).project(x)


@onto(_l1_ball)
def projection_l1_ball(x: jax.Array, max_value: Any = 1.0) -> jax.Array:
    r"""Return the projection onto :math:`\{\|y\|_1 \le r\}`, with ``max_value`` as ``r``.

    See :class:`dini.sets.L1Ball`.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini_jaxopt import projection
    >>> print(projection.projection_l1_ball(jnp.array([2.0, -1.5])))
    [ 0.75 -0.25]
    """
    return _l1_ball(max_value).project(x)


@onto(_l2_sphere)
def projection_l2_sphere(x: Tree, value: Any = 1.0) -> Tree:
    r"""Return the projection of a tree onto :math:`\{\|y\|_2 = r\}`, with ``value`` as ``r``.

    See :class:`dini.sets.L2Sphere`, also for the point zero.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini_jaxopt import projection
    >>> print(projection.projection_l2_sphere(jnp.array([0.3, 0.4])).round(3))
    [0.6 0.8]
    """
    return _l2_sphere(value).project(x)


@onto(lambda radius: sets.L2Ball(or_one(radius)))
def projection_l2_ball(x: Tree, max_value: Any = 1.0) -> Tree:
    r"""Return the projection of a tree onto :math:`\{\|y\|_2 \le r\}`, with ``max_value`` as ``r``, which may be zero.

    Raises
    ------
    ValueError
        Where ``max_value`` is negative.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini_jaxopt import projection
    >>> print(projection.projection_l2_ball(jnp.array([3.0, 4.0])).round(3))
    [0.6 0.8]
    """
    radius = or_one(max_value)
    require_positive("projection_l2_ball's max_value", radius, or_zero=True)
    return onto_ball(trees.inexact(x), positive(radius, or_zero=True))


@onto(_linf_ball)
def projection_linf_ball(x: Tree, max_value: Any = 1.0) -> Tree:
    r"""Return the projection of a tree onto :math:`\{|y_i| \le r\}`, with ``max_value`` as ``r``.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini_jaxopt import projection
    >>> print(projection.projection_linf_ball(jnp.array([-3.0, 0.5])))
    [-1.   0.5]
    """
    return _linf_ball(max_value).project(x)


@onto(lambda given: sets.Hyperplane(*given))
def projection_hyperplane(x: Tree, hyperparams: tuple[Any, Any]) -> Tree:
    r"""Return the projection of a tree onto :math:`\{\langle a, y \rangle = b\}`, with ``hyperparams = (a, b)``.

    See :class:`dini.sets.Hyperplane`.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini_jaxopt import projection
    >>> print(projection.projection_hyperplane(jnp.array([2.0, 1.0]), (jnp.array([1.0, 1.0]), 1.0)))
    [1. 0.]
    """
    return sets.Hyperplane(*hyperparams).project(x)


@onto(lambda given: sets.Halfspace(*given))
def projection_halfspace(x: Tree, hyperparams: tuple[Any, Any]) -> Tree:
    r"""Return the projection of a tree onto :math:`\{\langle a, y \rangle \le b\}`, with ``hyperparams = (a, b)``.

    See :class:`dini.sets.Halfspace`.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini_jaxopt import projection
    >>> print(projection.projection_halfspace(jnp.array([3.0, 2.0]), (jnp.array([1.0, 0.0]), 1.0)))
    [1. 2.]
    """
    return sets.Halfspace(*hyperparams).project(x)


@onto(lambda given: sets.Affine(*given))
def projection_affine_set(x: jax.Array, hyperparams: tuple[Any, Any]) -> jax.Array:
    r"""Return the projection of a vector onto :math:`\{A y = b\}`, with ``hyperparams = (A, b)``.

    See :class:`dini.sets.Affine`; rows may be dependent.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini_jaxopt import projection
    >>> print(projection.projection_affine_set(jnp.zeros(3), (jnp.ones((1, 3)), jnp.array([3.0]))).round(3))
    [1. 1. 1.]
    """
    return sets.Affine(*hyperparams).project(x)


@onto(_polyhedron)
def projection_polyhedron(
    x: jax.Array, hyperparams: tuple[Any, Any, Any, Any], check_feasible: bool = True
) -> jax.Array:
    r"""Return the projection of a vector onto :math:`\{A y = b, G y \le h\}`, with ``hyperparams = (A, b, G, h)``.

    See :class:`dini.sets.Polyhedron`. An empty polyhedron raises, and gives NaN where that is known at run time only
    (in a compiled function), whatever ``check_feasible``; nothing here keeps from compiling.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini_jaxopt import projection
    >>> A, b, G, h = jnp.ones((1, 2)), jnp.ones(1), -jnp.eye(2), jnp.zeros(2)
    >>> print(projection.projection_polyhedron(jnp.array([2.0, 0.0]), (A, b, G, h)).round(3) + 0)
    [1. 0.]
    """
    del check_feasible
    return _polyhedron(hyperparams).project(x)


@onto(lambda given: sets.BoxSection(*given))
def projection_box_section(
    x: jax.Array, hyperparams: tuple[Any, Any, Any, Any], check_feasible: bool = False
) -> jax.Array:
    r"""Return the projection onto :math:`\{l \le p \le u, \langle w, p \rangle = c\}`, ``hyperparams = (l, u, w, c)``.

    See :class:`dini.sets.BoxSection`; ``w`` may have any sign. An empty section raises, and gives NaN where that is
    known at run time only, whatever ``check_feasible``.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini_jaxopt import projection
    >>> x, w = jnp.array([2.0, 0.5, 0.5]), jnp.ones(3)
    >>> print(projection.projection_box_section(x, (jnp.zeros(3), jnp.ones(3), w, 1.0)))
    [1. 0. 0.]
    """
    del check_feasible
    return sets.BoxSection(*hyperparams).project(x)


@onto(lambda marginals: sets.TransportationPolytope(*marginals))
def projection_transport(
    sim_matrix: jax.Array,
    marginals: tuple[Any, Any],
    make_solver: Callable[..., Any] | None = None,
    use_semi_dual: bool = True,
) -> jax.Array:
    r"""Return the projection of a matrix onto :math:`\{P \ge 0, P 1 = a, P^\top 1 = b\}`, with ``marginals = (a, b)``.

    See :class:`dini.sets.TransportationPolytope`, whose method is exact to rounding: ``make_solver`` and
    ``use_semi_dual``, which in JAXopt choose a method and with it the accuracy, have no effect (the former warns).

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini_jaxopt import projection
    >>> marginals = jnp.array([1.0, 2.0]), jnp.array([2.0, 1.0])
    >>> print(projection.projection_transport(jnp.array([[0.0, 3.0], [1.0, 0.0]]), marginals).round(3))
    [[0. 1.]
     [2. 0.]]
    """
    _unused("projection_transport", make_solver, use_semi_dual)
    return sets.TransportationPolytope(*marginals).project(sim_matrix)


def kl_projection_transport(
    sim_matrix: jax.Array,
    marginals: tuple[Any, Any],
    make_solver: Callable[..., Any] | None = None,
    use_semi_dual: bool = True,
) -> jax.Array:
    r"""Return :math:`\arg\min_P \mathrm{KL}(P, e^S)` over :math:`\{P 1 = a, P^\top 1 = b\}`.

    ``marginals`` is ``(a, b)``. This is the entropy-regularized optimal transport plan for the similarities ``S``,
    ``sim_matrix``. The rest is as for :func:`projection_transport`.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini_jaxopt import projection
    >>> marginals = jnp.array([1.0, 2.0]), jnp.array([2.0, 1.0])
    >>> print(projection.kl_projection_transport(jnp.zeros((2, 2)), marginals).round(3))
    [[0.667 0.333]
     [1.333 0.667]]
    """
    _unused("kl_projection_transport", make_solver, use_semi_dual)
    return sets.TransportationPolytope(*marginals).project_kl(sim_matrix)


@onto(lambda _: sets.Birkhoff())
def projection_birkhoff(
    sim_matrix: jax.Array, make_solver: Callable[..., Any] | None = None, use_semi_dual: bool = True
) -> jax.Array:
    r"""Return the projection of a square matrix onto the doubly stochastic matrices: see :class:`dini.sets.Birkhoff`.

    The rest is as for :func:`projection_transport`.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini_jaxopt import projection
    >>> print(projection.projection_birkhoff(jnp.array([[1.0, 0.0], [0.5, 0.0]])).round(3))
    [[0.625 0.375]
     [0.375 0.625]]
    """
    _unused("projection_birkhoff", make_solver, use_semi_dual)
    return sets.Birkhoff().project(sim_matrix)


def kl_projection_birkhoff(
    sim_matrix: jax.Array, make_solver: Callable[..., Any] | None = None, use_semi_dual: bool = True
) -> jax.Array:
    r"""Return :math:`\arg\min_P \mathrm{KL}(P, e^S)` over the doubly stochastic matrices, ``S`` being ``sim_matrix``.

    The rest is as for :func:`projection_transport`.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini_jaxopt import projection
    >>> print(projection.kl_projection_birkhoff(jnp.array([[2.0, 0.0], [0.0, 0.0]])).round(3))
    [[0.731 0.269]
     [0.269 0.731]]
    """
    _unused("kl_projection_birkhoff", make_solver, use_semi_dual)
    return sets.Birkhoff().project_kl(sim_matrix)


def _unused(owner: str, make_solver: Any, use_semi_dual: bool) -> None:
    """Warn of a solver that is not used."""
    del use_semi_dual
    if make_solver is not None:
        warnings.warn(
            f"{owner} does not use make_solver: dini's projection is exact to rounding without one. Leave it out.",
            UserWarning,
            stacklevel=3,
        )
