"""The catalogue of sets for the tests: each with its constraints in CVXPY, written independently of the library.

And the programs that all of its tests share.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cvxpy as cp
import jax
import jax.numpy as jnp
import numpy as np

from dini import sets

project = jax.jit(lambda part, x: part.project(x))


@jax.jit
def derivatives(part, x, direction, t, v):
    """Return the derivative along (direction, t), the transpose of v in both arguments, and the Jacobian in x."""
    _, push = jax.linearize(lambda part, x: part.project(x), part, x)
    pull = jax.linear_transpose(push, part, x)
    units = jnp.eye(x.size).reshape(-1, *x.shape)
    return push(direction, t), *pull(v), jax.vmap(lambda unit: pull(unit)[1])(units).reshape(x.size, x.size)


def inner(a, b):
    """Return the inner product of two trees."""
    return sum(np.vdot(u, w) for u, w in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


@dataclass(frozen=True)
class Example:
    """One set on an unknown of one shape."""

    set: sets.Set
    shape: tuple[int, ...]
    #: constraints on a variable of that shape
    constraints: Callable[[cp.Variable], list[Any]]


@dataclass(frozen=True)
class Case:
    name: str
    #: from a size and a generator of random numbers
    make: Callable[[int, np.random.Generator], Example]
    #: whether the projection is piecewise affine
    polyhedral: bool = True
    #: what kink_distance returns: "exact", "bound" or "unknown"
    kink: str = "exact"
    #: whether the support function is known
    support: bool = True
    #: makes a direction of the parameters one along which the set stays what it is
    consistent: Callable[[Any], Any] = lambda direction: direction
    #: the smallest gap that Clarabel reaches
    gap: float = 1e-11


def _nonnegative(n, rng):
    return Example(sets.NonNegative(), (n,), lambda v: [v >= 0])


def _box(n, rng):
    low = -np.abs(rng.standard_normal(n))
    high = low + np.abs(rng.standard_normal(n)) + 0.1
    return Example(sets.Box(jnp.asarray(low), jnp.asarray(high)), (n,), lambda v: [v >= low, v <= high])


def _simplex(n, rng):
    return Example(sets.Simplex(1.5), (n,), lambda v: [v >= 0, cp.sum(v) == 1.5])


def _rows(n, rng):
    return Example(sets.Simplex(0.7, axis=-1), (3, n), lambda v: [v >= 0, cp.sum(v, axis=1) == 0.7])


def _l1(n, rng):
    return Example(sets.L1Ball(1.2), (n,), lambda v: [cp.norm1(v) <= 1.2])


def _l2(n, rng):
    return Example(sets.L2Ball(0.8), (n,), lambda v: [cp.norm2(v) <= 0.8])


def _linf(n, rng):
    return Example(sets.LInfBall(0.9), (n,), lambda v: [cp.norm_inf(v) <= 0.9])


def _hypercube(n, rng):
    return Example(sets.Hypercube(0.8), (n,), lambda v: [v >= 0, v <= 0.8])


def _shifted(n, rng):
    center = rng.standard_normal(n)
    return Example(sets.Shifted(sets.L1Ball(0.9), center), (n,), lambda v: [cp.norm1(v - center) <= 0.9])


def _scaled(n, rng):
    return Example(sets.Scaled(sets.Simplex(1.5), 0.7), (n,), lambda v: [v >= 0, cp.sum(v) == 1.5 * 0.7])


def _hyperplane(n, rng):
    a = rng.standard_normal(n)
    return Example(sets.Hyperplane(a, 0.4), (n,), lambda v: [a @ v == 0.4])


def _halfspace(n, rng):
    a = rng.standard_normal(n)
    return Example(sets.Halfspace(a, -0.4), (n,), lambda v: [a @ v <= -0.4])


def _affine(n, rng):
    A, b = rng.standard_normal((max(n // 2, 1), n)), rng.standard_normal(max(n // 2, 1))
    return Example(sets.Affine(A, b), (n,), lambda v: [A @ v == b])


def _dependent(n, rng):
    """One equation twice, at two scales."""
    a = rng.standard_normal(n)
    return Example(sets.Affine(np.stack([a, 2 * a]), np.array([0.5, 1.0])), (n,), lambda v: [a @ v == 0.5])


def _dependent_direction(direction):
    return sets.Affine(
        jnp.stack([direction.matrix[0], 2 * direction.matrix[0]]), direction.offset[0] * jnp.array([1.0, 2.0])
    )


def _section(n, rng):
    low, a = -rng.random(n), rng.standard_normal(n)
    high = low + 0.2 + rng.random(n)
    b = a @ (0.3 * low + 0.7 * high)
    constraints = lambda v: [v >= low, v <= high, a @ v == b]
    return Example(sets.BoxSection(low, high, a, b), (n,), constraints)


def _open_section(n, rng):
    """Without upper bounds: a simplex with weights."""
    w = 0.3 + rng.random(n)
    return Example(sets.BoxSection(0.0, None, w, 1.2), (n,), lambda v: [v >= 0, w @ v == 1.2])


def _isotonic(n, rng):
    return Example(sets.IsotonicCone(), (n,), lambda v: [v[1:] >= v[:-1]] if n > 1 else [v == v])


def _antitonic(n, rng):
    return Example(sets.IsotonicCone(increasing=False), (n,), lambda v: [v[1:] <= v[:-1]] if n > 1 else [v == v])


def _permutahedron(n, rng):
    w = rng.standard_normal(n)
    ordered = np.sort(w)[::-1]
    # majorization: the k largest elements of a member sum to no more than those of w
    parts = lambda v: [cp.sum_largest(v, k) <= ordered[:k].sum() for k in range(1, n)]
    return Example(sets.Permutahedron(w), (n,), lambda v: [*parts(v), cp.sum(v) == w.sum()])


def _transport(n, rng):
    a, b = 0.2 + rng.random(n), 0.2 + rng.random(n + 1)
    b *= a.sum() / b.sum()
    constraints = lambda v: [v >= 0, cp.sum(v, axis=1) == a, cp.sum(v, axis=0) == b]
    return Example(sets.TransportationPolytope(a, b), (n, n + 1), constraints)


def _same_sums(direction):
    a, b = direction.rows, direction.columns
    return jax.tree.unflatten(jax.tree.structure(direction), [a, b + (a.sum() - b.sum()) / b.size])


def _birkhoff(n, rng):
    constraints = lambda v: [v >= 0, cp.sum(v, axis=1) == 1, cp.sum(v, axis=0) == 1]
    return Example(sets.Birkhoff(), (n, n), constraints)


def _polyhedron(n, rng):
    """Twice as many inequalities as unknowns, some of which meet in one point."""
    A, inner = rng.standard_normal((2 * n, n)), rng.standard_normal(n)
    b = A @ inner + rng.random(2 * n) * (np.arange(2 * n) % 3 > 0)
    return Example(sets.Polyhedron(A, b), (n,), lambda v: [A @ v <= b])


def _flat_polyhedron(n, rng):
    """With equations, of which one stands there twice, and a bound that is none."""
    A, inner = rng.standard_normal((n, n)), rng.standard_normal(n)
    b = A @ inner + rng.random(n)
    E = rng.standard_normal((max(n // 3, 1), n))
    polyhedron = sets.Polyhedron(
        np.vstack([A, np.ones(n)]), np.append(b, np.inf), np.vstack([E, E[:1]]), np.append(E @ inner, E[:1] @ inner)
    )
    return Example(polyhedron, (n,), lambda v: [A @ v <= b, E @ v == E @ inner])


def _flat_direction(direction):
    """The bound that is none does not move, and both copies of the equation move alike."""
    E, d = direction.equality_matrix, direction.equality_offset
    return sets.Polyhedron(direction.matrix, direction.offset.at[-1].set(0), E.at[-1].set(E[0]), d.at[-1].set(d[0]))


def _cross_polytope(n, rng):
    """The 1-norm ball by all its faces: many more than n meet in a vertex."""
    faces = np.array(list(itertools.product([1.0, -1.0], repeat=min(n, 8))))
    faces = np.hstack([faces, np.zeros((len(faces), n - faces.shape[1]))])
    return Example(sets.Polyhedron(faces, np.full(len(faces), 1.2)), (n,), lambda v: [cp.norm1(v[: min(n, 8)]) <= 1.2])


def _growing(direction):
    """The faces of the ball move together."""
    return sets.Polyhedron(0 * direction.matrix, 0 * direction.offset + direction.offset[0])


def _box_and_plane(n, rng):
    w = 0.3 + rng.random(n)
    part = sets.Intersection([sets.Hypercube(1.0), sets.Hyperplane(w, 0.3 * w.sum())])
    return Example(part, (n,), lambda v: [v >= 0, v <= 1, w @ v == 0.3 * w.sum()])


def _three(n, rng):
    """Two polyhedra and a ball."""
    w = 0.3 + rng.random(n)
    level = 0.3 * np.linalg.norm(w)
    part = sets.Intersection([sets.NonNegative(), sets.L2Ball(1.0), sets.Halfspace(-w, -level)])
    return Example(part, (n,), lambda v: [v >= 0, cp.norm2(v) <= 1, w @ v >= level])


CASES = [
    Case("nonnegative", _nonnegative),
    Case("box", _box),
    Case("simplex", _simplex),
    Case("simplices in rows", _rows),
    Case("l1 ball", _l1),
    Case("l2 ball", _l2, polyhedral=False),
    Case("linf ball", _linf),
    Case("hypercube", _hypercube),
    Case("shifted l1 ball", _shifted),
    Case("scaled simplex", _scaled),
    Case("hyperplane", _hyperplane, support=False),
    Case("half-space", _halfspace, support=False),
    Case("affine", _affine, support=False),
    Case("dependent equations", _dependent, support=False, consistent=_dependent_direction),
    Case("isotonic cone", _isotonic, support=False),
    Case("antitonic cone", _antitonic, support=False),
    Case("permutahedron", _permutahedron),
    Case("transportation polytope", _transport, kink="bound", support=False, consistent=_same_sums),
    Case("Birkhoff polytope", _birkhoff, kink="bound", support=False),
    Case("box section", _section, support=False),
    Case("weighted simplex", _open_section, support=False),
    Case("polyhedron", _polyhedron, kink="bound", support=False),
    Case("polyhedron with equations", _flat_polyhedron, support=False, consistent=_flat_direction),
    Case("cross-polytope", _cross_polytope, kink="bound", support=False, consistent=_growing),
    Case("box and hyperplane", _box_and_plane, kink="bound", support=False),
    Case("three sets", _three, polyhedral=False, kink="unknown", support=False, gap=1e-9),
]
