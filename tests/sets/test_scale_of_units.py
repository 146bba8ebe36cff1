"""A change of units is a change of units: projections and proximal operators of large and of tiny numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dini import penalties, sets

RNG = np.random.default_rng(11)
A, E = RNG.standard_normal((7, 5)), RNG.standard_normal((2, 5))
B, D = RNG.standard_normal(7), E @ RNG.standard_normal(5)
POINT, MATRIX = 2 * RNG.standard_normal(5), RNG.standard_normal((3, 3))
SYMMETRIC = MATRIX + MATRIX.T
P = np.abs(RNG.standard_normal((3, 4)))

#: a set whose parameters of the unit of ``x`` are multiplied by ``s``, and a point
SETS = {
    "box": (lambda s: sets.Box(-0.5 * s, 0.7 * s), POINT),
    "box section": (lambda s: sets.BoxSection(-0.5 * s, 0.7 * s, normal=A[0], offset=0.3 * s), POINT),
    "half line": (lambda s: sets.BoxSection(0.0, None, normal=1.0, offset=0.3 * s), POINT),
    "l2 ball": (lambda s: sets.L2Ball(0.8 * s), POINT),
    "l1 ball": (lambda s: sets.L1Ball(0.8 * s), POINT),
    "linf ball": (lambda s: sets.LInfBall(0.8 * s), POINT),
    "simplex": (lambda s: sets.Simplex(0.8 * s), POINT),
    "hyperplane": (lambda s: sets.Hyperplane(A[1], 0.4 * s), POINT),
    "hyperplane of small normal": (lambda s: sets.Hyperplane(A[1] / jnp.sqrt(s), 0.4 * jnp.sqrt(s)), POINT),
    "halfspace": (lambda s: sets.Halfspace(A[1], -9.0 * s), POINT),
    "halfspace of small normal": (lambda s: sets.Halfspace(A[1] / jnp.sqrt(s), -9.0 * jnp.sqrt(s)), POINT),
    "affine": (lambda s: sets.Affine(E, D * s), POINT),
    "polyhedron": (lambda s: sets.Polyhedron(A, B * s), POINT),
    "polyhedron with equations": (lambda s: sets.Polyhedron(A, (B + 3) * s, E, D * s), POINT),
    "second order": (lambda s: sets.SecondOrder(), POINT),
    "exponential": (lambda s: sets.Exponential(), POINT[:3]),
    "power": (lambda s: sets.Power(0.3), POINT[:3]),
    "semidefinite": (lambda s: sets.PositiveSemidefinite(), SYMMETRIC),
    "spectrahedron": (lambda s: sets.Spectrahedron(0.8 * s), SYMMETRIC),
    "spectral ball": (lambda s: sets.SpectralNormBall(0.8 * s), MATRIX),
    "nuclear ball": (lambda s: sets.NuclearNormBall(0.8 * s), MATRIX),
    "l2 sphere": (lambda s: sets.L2Sphere(0.8 * s), POINT),
    "l1 sphere": (lambda s: sets.L1Sphere(0.8 * s), POINT),
    "sparse simplex": (lambda s: sets.SparseSimplex(2, 0.8 * s), POINT),
    "isotonic": (lambda s: sets.IsotonicCone(), POINT),
    "permutahedron": (lambda s: sets.Permutahedron(jnp.arange(5.0) * s), POINT),
    "transport": (lambda s: sets.TransportationPolytope(P.sum(1) * s, P.sum(0) * s), P[::-1] * 2),
    "intersection": (lambda s: sets.Intersection([sets.L2Ball(1.5 * s), sets.Halfspace(A[1], -1.0 * s)]), POINT),
}
#: a penalty that scales with ``x`` when its strength is multiplied by ``s``
PENALTIES = {
    "l1": lambda s: penalties.L1(0.3 * s),
    "group lasso": lambda s: penalties.GroupLasso(0.3 * s),
    "nuclear norm": lambda s: penalties.NuclearNorm(0.3 * s),
    "sorted l1": lambda s: penalties.SortedL1(jnp.arange(5.0, 0.0, -1.0) * 0.1 * s),
    "max norm": lambda s: penalties.LInf(0.3 * s),
    "total variation": lambda s: penalties.TotalVariation(0.3 * s),
}
# squares of these and of their inverses are numbers still
FACTORS = {jnp.float32: (2.0**-54, 2.0**-30, 2.0**60), jnp.float64: (2.0**-500, 2.0**-60, 2.0**500)}


@pytest.mark.by_default("each")
@pytest.mark.parametrize("dtype", FACTORS)
@pytest.mark.parametrize("name", [*SETS, *PENALTIES])
def test_unit(name, dtype):
    """Powers of two change no digit of a number: only what is absolute in a method can tell the difference."""
    x, eps = jnp.asarray(SETS[name][1] if name in SETS else POINT, dtype), float(jnp.finfo(dtype).eps)
    if name == "nuclear norm":
        x = jnp.asarray(MATRIX, dtype)

    @jax.jit
    def run(s):
        part = jax.tree.map(lambda v: jnp.asarray(v, dtype), SETS[name][0](s) if name in SETS else PENALTIES[name](s))
        move = (lambda x: part.project(x)) if name in SETS else lambda x: part.prox(x, 1.0)
        return jax.jvp(move, (x * s,), (x[::-1],))

    value, slope = run(jnp.ones((), dtype))
    assert np.isfinite(value).all()
    assert not np.array_equal(value, x)
    for s in FACTORS[dtype]:
        scaled, moved = run(jnp.asarray(s, dtype))
        np.testing.assert_allclose(scaled / jnp.asarray(s, dtype), value, rtol=50 * eps, atol=50 * eps)
        np.testing.assert_allclose(moved, slope, rtol=100 * eps, atol=100 * eps)


def test_sections_of_boxes_beside_large_points():
    """Where the point is 10,000 times the box, single precision has three digits of the box left, and finds them."""
    a, y = RNG.standard_normal((2, 2000, 4))
    low, high = -np.abs(RNG.standard_normal((2000, 4))), np.abs(RNG.standard_normal((2000, 4)))
    given = [v.astype(np.float32) for v in (1e4 * y, a, np.sum(a * (low + high) / 2, axis=1), low, high)]
    project = jax.jit(jax.vmap(lambda y, a, b, low, high: sets.BoxSection(low, high, normal=a, offset=b).project(y)))
    single, double = project(*given), project(*(v.astype(np.float64) for v in given))
    found = np.isfinite(single).all(axis=1)
    assert found.mean() > 0.99
    np.testing.assert_allclose(single[found], double[found], atol=2e-3)
