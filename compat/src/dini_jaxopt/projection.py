"""JAXopt's projections, by the sets of :mod:`dini.sets`.

Each is exact, differentiable in the point and in its parameters, in forward and reverse mode, under ``jit`` and
``vmap``. An empty set or a parameter that fits no set raises; where that is known at run time only, the projection is
NaN. ``None`` stands for a radius of one.
"""

from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import Callable
from typing import Any

from dini import sets

from ._known import mark, or_one, shows

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


def _onto(make: Callable[[Any], Any], output: str, *code: str) -> Callable[[Any], Any]:
    """Make a signature the projection onto ``make(hyperparams)`` that solvers know, with an example.

    The second argument are the hyperparameters, what comes after them has no effect. The signature's docstring is
    kept.
    """

    def made(stub: Any) -> Any:
        signature = inspect.signature(stub)

        @functools.wraps(stub)
        def projection(*args: Any, **kwargs: Any) -> Any:
            given = signature.bind(*args, **kwargs)
            given.apply_defaults()
            x, hyperparams, *_ = given.arguments.values()
            return make(hyperparams).project(x)

        mark(projection, "set", make)
        *before, point = code
        return shows(output, *before, f"projection.{stub.__name__}({point}).round(3) + 0")(projection)

    return made


def _of(kind: Any) -> Callable[[Any], Any]:
    """Return the sets of a kind that has several parameters."""
    return lambda hyperparams: kind(*hyperparams)


def _of_radius(kind: Any) -> Callable[[Any], Any]:
    """Return the sets of a kind with a radius, one for ``None``."""
    return lambda radius: kind(or_one(radius))


@_onto(lambda _: sets.NonNegative(), "[0. 2.]", "jnp.array([-1.0, 2.0])")
def projection_non_negative(x: Any, hyperparams: Any = None) -> Any:
    r"""Project a tree onto :math:`\{y \ge 0\}`; ``hyperparams`` has no part in it."""


@_onto(_of(sets.Box), "[0.  0.5 2. ]", "jnp.array([-1.0, 0.5, 3.0]), (0.0, jnp.array([1.0, 1.0, 2.0]))")
def projection_box(x: Any, hyperparams: tuple[Any, Any]) -> Any:
    r"""Project a tree onto :math:`\{l \le y \le u\}`, with ``hyperparams = (l, u)``: see :class:`dini.sets.Box`.

    Bounds are numbers, arrays that broadcast against ``x``, or trees like ``x``.
    """


@_onto(lambda unit: sets.Box(0.0, or_one(unit)), "[0.  0.5 2. ]", "jnp.array([-1.0, 0.5, 3.0]), 2.0")
def projection_hypercube(x: Any, unit: Any = 1.0) -> Any:
    r"""Project a tree onto :math:`\{0 \le y \le s\}`, with ``unit`` as ``s``."""


@_onto(_of_radius(sets.Simplex), "[0.75 0.25 0.  ]", "jnp.array([1.0, 0.5, -0.5])")
def projection_simplex(x: Any, value: Any = 1.0) -> Any:
    r"""Project a vector onto :math:`\{p \ge 0, \sum_i p_i = s\}`, with ``value`` as ``s > 0``."""


@_onto(_of_radius(sets.L1Sphere), "[ 0.625 -0.375]", "jnp.array([0.5, -0.25])")
def projection_l1_sphere(x: Any, value: Any = 1.0) -> Any:
    r"""Project an array onto :math:`\{\|y\|_1 = r\}`, with ``value`` as ``r``: see :class:`dini.sets.L1Sphere`."""


@_onto(_of_radius(sets.L1Ball), "[ 0.75 -0.25]", "jnp.array([2.0, -1.5])")
def projection_l1_ball(x: Any, max_value: Any = 1.0) -> Any:
    r"""Project an array onto :math:`\{\|y\|_1 \le r\}`, with ``max_value`` as ``r``: see :class:`dini.sets.L1Ball`."""


@_onto(_of_radius(sets.L2Sphere), "[0.6 0.8]", "jnp.array([0.3, 0.4])")
def projection_l2_sphere(x: Any, value: Any = 1.0) -> Any:
    r"""Project a tree onto :math:`\{\|y\|_2 = r\}`, with ``value`` as ``r``; see :class:`dini.sets.L2Sphere`."""


@_onto(lambda radius: sets.Box(-or_one(radius), or_one(radius)), "[-1.   0.5]", "jnp.array([-3.0, 0.5])")
def projection_linf_ball(x: Any, max_value: Any = 1.0) -> Any:
    r"""Project a tree onto :math:`\{|y_i| \le r\}`, with ``max_value`` as ``r``."""


@_onto(_of(sets.Hyperplane), "[1. 0.]", "jnp.array([2.0, 1.0]), (jnp.ones(2), 1.0)")
def projection_hyperplane(x: Any, hyperparams: tuple[Any, Any]) -> Any:
    r"""Project a tree onto :math:`\{\langle a, y \rangle = b\}`, with ``hyperparams = (a, b)``."""


@_onto(_of(sets.Halfspace), "[1. 2.]", "jnp.array([3.0, 2.0]), (jnp.array([1.0, 0.0]), 1.0)")
def projection_halfspace(x: Any, hyperparams: tuple[Any, Any]) -> Any:
    r"""Project a tree onto :math:`\{\langle a, y \rangle \le b\}`, with ``hyperparams = (a, b)``."""


@_onto(_of(sets.Affine), "[1. 1. 1.]", "jnp.zeros(3), (jnp.ones((1, 3)), jnp.array([3.0]))")
def projection_affine_set(x: Any, hyperparams: tuple[Any, Any]) -> Any:
    r"""Project a vector onto :math:`\{A y = b\}`, with ``hyperparams = (A, b)``: see :class:`dini.sets.Affine`."""


@_onto(
    lambda given: sets.Polyhedron(given[2], given[3], given[0], given[1]),
    "[1. 0.]",
    "A, b, G, h = jnp.ones((1, 2)), jnp.ones(1), -jnp.eye(2), jnp.zeros(2)",
    "jnp.array([2.0, 0.0]), (A, b, G, h)",
)
def projection_polyhedron(x: Any, hyperparams: tuple[Any, Any, Any, Any], check_feasible: bool = True) -> Any:
    r"""Project a vector onto :math:`\{A y = b, G y \le h\}`, with ``hyperparams = (A, b, G, h)``.

    See :class:`dini.sets.Polyhedron`. An empty one raises, and gives NaN where that is known at run time only (in a
    compiled function), whatever ``check_feasible``; nothing here keeps from compiling.
    """


@_onto(_of(sets.BoxSection), "[1. 0. 0.]", "jnp.array([2.0, 0.5, 0.5]), (jnp.zeros(3), jnp.ones(3), jnp.ones(3), 1.0)")
def projection_box_section(x: Any, hyperparams: tuple[Any, Any, Any, Any], check_feasible: bool = False) -> Any:
    r"""Project a vector onto :math:`\{l \le p \le u, \langle w, p \rangle = c\}`, with ``hyperparams = (l, u, w, c)``.

    See :class:`dini.sets.BoxSection`; ``w`` may have any sign. For an empty section, and for ``check_feasible``, see
    :func:`projection_polyhedron`.
    """


@shows("[0.6 0.8]", "projection.projection_l2_ball(jnp.array([3.0, 4.0])).round(3)")
def projection_l2_ball(x: Any, max_value: Any = 1.0) -> Any:
    r"""Project a tree onto :math:`\{\|y\|_2 \le r\}`, with ``max_value`` as ``r``, which may be zero."""
    return sets.project_l2_ball(x, or_one(max_value))


mark(projection_l2_ball, "set", _of_radius(sets.L2Ball))


@shows("[1. 0. 1.]", "projection.projection_sparse_simplex(jnp.array([0.5, 0.25, 0.5]), 2, value=2.0)")
def projection_sparse_simplex(x: Any, max_nz: int, use_approx_max_nz: bool = False, value: Any = 1.0) -> Any:
    r"""Return the projection of a vector onto the members of the simplex with at most ``max_nz`` nonzeros.

    See :class:`dini.sets.SparseSimplex`. The largest elements are always found exactly: ``use_approx_max_nz`` has no
    effect, and what is no boolean there (a sum, say) raises ``TypeError``.
    """
    if not isinstance(use_approx_max_nz, bool):
        raise TypeError(
            "projection_sparse_simplex's third argument, use_approx_max_nz, must be True or False: given "
            f"{use_approx_max_nz!r}. For the sum of the elements, pass value=... by name."
        )
    return sets.SparseSimplex(max_nz, or_one(value)).project(x)


mark(projection_sparse_simplex, "set", sets.SparseSimplex)

_MARGINALS = "marginals = jnp.array([1.0, 2.0]), jnp.array([2.0, 1.0])"


@shows("[[0. 1.]\n [2. 0.]]", _MARGINALS, "projection.projection_transport(3.0 - 3 * jnp.eye(2), marginals).round(3)")
def projection_transport(sim_matrix: Any, marginals: Any, make_solver: Any = None, use_semi_dual: bool = True) -> Any:
    r"""Return the projection of a matrix onto :math:`\{P \ge 0, P 1 = a, P^\top 1 = b\}`, with ``marginals = (a, b)``.

    See :class:`dini.sets.TransportationPolytope`, whose method is exact to rounding: ``make_solver`` and
    ``use_semi_dual``, which in JAXopt choose a method and with it the accuracy, have no effect (the former warns).
    """
    _unused("projection_transport", make_solver, use_semi_dual)
    return sets.TransportationPolytope(*marginals).project(sim_matrix)


mark(projection_transport, "set", _of(sets.TransportationPolytope))


@shows(
    "[[0.667 0.333]\n [1.333 0.667]]",
    _MARGINALS,
    "projection.kl_projection_transport(jnp.zeros((2, 2)), marginals).round(3)",
)
def kl_projection_transport(
    sim_matrix: Any, marginals: Any, make_solver: Any = None, use_semi_dual: bool = True
) -> Any:
    r"""Return :math:`\arg\min_P \mathrm{KL}(P, e^S)` over :math:`\{P 1 = a, P^\top 1 = b\}`.

    ``marginals`` is ``(a, b)``. This is the entropy-regularized optimal transport plan for the similarities ``S``,
    ``sim_matrix``. The rest is as for :func:`projection_transport`.
    """
    _unused("kl_projection_transport", make_solver, use_semi_dual)
    return sets.TransportationPolytope(*marginals).project_kl(sim_matrix)


@shows(
    "[[0.625 0.375]\n [0.375 0.625]]", "projection.projection_birkhoff(jnp.array([[1.0, 0.0], [0.5, 0.0]])).round(3)"
)
def projection_birkhoff(sim_matrix: Any, make_solver: Any = None, use_semi_dual: bool = True) -> Any:
    r"""Return the projection of a square matrix onto the doubly stochastic matrices: see :class:`dini.sets.Birkhoff`.

    The rest is as for :func:`projection_transport`.
    """
    _unused("projection_birkhoff", make_solver, use_semi_dual)
    return sets.Birkhoff().project(sim_matrix)


mark(projection_birkhoff, "set", lambda _: sets.Birkhoff())


@shows(
    "[[0.731 0.269]\n [0.269 0.731]]",
    "projection.kl_projection_birkhoff(jnp.array([[2.0, 0.0], [0.0, 0.0]])).round(3)",
)
def kl_projection_birkhoff(sim_matrix: Any, make_solver: Any = None, use_semi_dual: bool = True) -> Any:
    r"""Return :math:`\arg\min_P \mathrm{KL}(P, e^S)` over the doubly stochastic matrices, ``S`` being ``sim_matrix``.

    The rest is as for :func:`projection_transport`.
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
