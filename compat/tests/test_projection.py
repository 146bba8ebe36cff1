"""JAXopt's projections and proximal operators: nearest points by their variational inequality, and closed forms."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dini import SolveError
from dini_jaxopt import projection, prox

RNG = np.random.default_rng(0)
A, G = RNG.normal(size=(2, 5)), RNG.normal(size=(3, 5))
INSIDE = RNG.normal(size=5)
WEIGHTS = np.array([1.0, 0.5, 2.0, 1.0, 1.5])


def on_simplex(n, s=1.0):
    return lambda: s * RNG.dirichlet(np.ones(n))


def plans(a, b):
    """Return transport plans: corners by the north-west rule after random orders."""

    def one():
        P, rows, columns = np.zeros((len(a), len(b))), a.copy(), b.copy()
        for i in RNG.permutation(len(a)):
            for j in RNG.permutation(len(b)):
                P[i, j] = min(rows[i], columns[j])
                rows[i] -= P[i, j]
                columns[j] -= P[i, j]
        return P

    return one


def in_polyhedron():
    """Return a point of a polyhedron, from one that is inside along a random direction of the equations' kernel."""
    kernel = np.linalg.svd(A)[2][2:]
    direction = kernel.T @ RNG.normal(size=3)
    slopes, room = G @ direction, np.array([0.3, 0.4, 0.5])
    return INSIDE + RNG.random() * min([1.0, *(room[slopes > 0] / slopes[slopes > 0])]) * direction


a, b = np.array([0.2, 0.5, 0.3]), np.array([0.6, 0.4])
POLYHEDRON = (A, A @ INSIDE, G, G @ INSIDE + np.array([0.3, 0.4, 0.5]))
#: convex sets: the projection, its parameters, a source of members, and the violation of its constraints
CONVEX = {
    "non_negative": ((), lambda: np.abs(RNG.normal(size=5)), lambda p: -p.min()),
    "box": (
        ((-0.2, WEIGHTS - 0.5),),
        lambda: -0.2 + (WEIGHTS - 0.3) * RNG.random(5),
        lambda p: (p - WEIGHTS + 0.5).max(),
    ),
    "hypercube": ((0.5,), lambda: 0.5 * RNG.random(5), lambda p: max(-p.min(), p.max() - 0.5)),
    "simplex": ((2.0,), on_simplex(5, 2.0), lambda p: abs(p.sum() - 2) - min(p.min(), 0)),
    "l1_ball": ((1.5,), lambda: 1.5 * RNG.dirichlet(np.ones(5)) * RNG.choice([-1, 1], 5), lambda p: abs(p).sum() - 1.5),
    "l2_ball": ((1.5,), lambda: 1.5 * (v := RNG.normal(size=5)) / np.linalg.norm(v), lambda p: np.linalg.norm(p) - 1.5),
    "linf_ball": ((0.5,), lambda: RNG.uniform(-0.5, 0.5, 5), lambda p: abs(p).max() - 0.5),
    "hyperplane": (
        ((WEIGHTS, 0.3),),
        lambda: (v := RNG.normal(size=5)) + WEIGHTS * (0.3 - WEIGHTS @ v) / (WEIGHTS @ WEIGHTS),
        lambda p: abs(WEIGHTS @ p - 0.3),
    ),
    "halfspace": (
        ((WEIGHTS, -1.0),),
        lambda: (v := RNG.normal(size=5)) - WEIGHTS * (1 + WEIGHTS @ v + RNG.random()) / (WEIGHTS @ WEIGHTS),
        lambda p: WEIGHTS @ p + 1,
    ),
    "affine_set": (
        ((A, A @ INSIDE),),
        lambda: INSIDE + np.linalg.svd(A)[2][2:].T @ RNG.normal(size=3),
        lambda p: abs(A @ (p - INSIDE)).max(),
    ),
    "polyhedron": (
        (POLYHEDRON,),
        in_polyhedron,
        lambda p: max(abs(A @ (p - INSIDE)).max(), (G @ p - POLYHEDRON[3]).max()),
    ),
    "box_section": (
        ((np.zeros(5), np.ones(5), WEIGHTS, 1.5),),
        lambda: 1.5 * RNG.dirichlet(20 * np.ones(5)) / WEIGHTS,
        lambda p: abs(WEIGHTS @ p - 1.5) - min(p.min(), 0),
    ),
    "transport": (((a, b),), plans(a, b), lambda p: max(abs(p.sum(1) - a).max(), abs(p.sum(0) - b).max(), -p.min())),
    "birkhoff": (
        (),
        plans(np.ones(3), np.ones(3)),
        lambda p: max(abs(p.sum(1) - 1).max(), abs(p.sum(0) - 1).max(), -p.min()),
    ),
}
SHAPES = {"transport": (3, 2), "birkhoff": (3, 3)}


@pytest.mark.parametrize("name", CONVEX)
def test_projections_are_nearest_points(name):
    given, member, violation = CONVEX[name]
    fun = jax.jit(jax.vmap(lambda x: getattr(projection, f"projection_{name}")(x, *given)))
    x = RNG.normal(size=(20, *SHAPES.get(name, (5,))))
    for u, p in zip(x, np.asarray(fun(jnp.asarray(x))), strict=True):
        assert violation(p) <= 1e-12
        for _ in range(20):  # no member is nearer, and the angle to each is obtuse
            assert np.vdot(u - p, member() - p) <= 1e-10


@pytest.mark.parametrize(
    ("name", "given", "constraint"),
    [
        ("l1_sphere", (1.5,), lambda p: abs(p).sum() - 1.5),
        ("l2_sphere", (1.5,), lambda p: np.linalg.norm(p) - 1.5),
        ("sparse_simplex", (2,), lambda p: abs(p.sum() - 1) + (np.count_nonzero(p) > 2)),
    ],
)
def test_sets_that_are_not_convex(name, given, constraint):
    """The projection is a member, and no other point of its orbit under signs and permutations is nearer."""
    x = RNG.normal(size=(20, 5))
    fun = jax.jit(jax.vmap(lambda x: getattr(projection, f"projection_{name}")(x, *given)))
    for u, p in zip(x, np.asarray(fun(jnp.asarray(x))), strict=True):
        assert abs(constraint(p)) <= 1e-12
        for _ in range(20):
            other = RNG.permutation(p) * (RNG.choice([-1, 1], 5) if "sphere" in name else 1)
            assert np.linalg.norm(u - p) <= np.linalg.norm(u - other) + 1e-12


def test_sparse_simplex_takes_the_sum_by_name():
    x = jnp.array([0.5, 0.25, 0.5])
    np.testing.assert_allclose(projection.projection_sparse_simplex(x, 2, value=3.0), [1.5, 0, 1.5])
    np.testing.assert_allclose(projection.projection_sparse_simplex(x, 2, True), [0.5, 0, 0.5])
    with pytest.raises(TypeError, match="value="):
        projection.projection_sparse_simplex(x, 2, 3.0)


def test_entropic_plans_have_their_marginals_and_their_form():
    S = RNG.normal(size=(3, 2))
    P = np.asarray(projection.kl_projection_transport(jnp.asarray(S), (a, b)))
    np.testing.assert_allclose(P.sum(1), a, rtol=1e-12)
    np.testing.assert_allclose(P.sum(0), b, rtol=1e-12)
    rest = np.log(P) - S  # a sum of a function of the row and one of the column
    np.testing.assert_allclose(rest - rest[:1] - rest[:, :1] + rest[0, 0], 0, atol=1e-11)
    square = np.asarray(projection.kl_projection_birkhoff(jnp.asarray(S @ S.T)))
    np.testing.assert_allclose(square.sum(1), 1, rtol=1e-12)


def test_a_solver_of_transport_is_not_used_in_silence():
    with pytest.warns(UserWarning, match="make_solver"):
        projection.projection_birkhoff(jnp.eye(2), make_solver=lambda fun: None)


def test_the_zero_ball_is_a_point():
    tree = {"a": jnp.array([3.0, 4.0]), "b": jnp.array(1)}
    for name in ("l2_ball", "linf_ball"):
        p = getattr(projection, f"projection_{name}")(tree, 0.0)
        assert all(np.all(np.asarray(leaf) == 0) for leaf in jax.tree.leaves(p))
    with pytest.raises(ValueError, match="nonnegative"):
        projection.projection_l2_ball(tree, -1.0)


def test_empty_sets_raise_and_are_one_lane_of_nan():
    G, h = jnp.array([[1.0], [-1.0]]), jnp.array([[1.0, 1.0], [-1.0, -1.0]])
    project = lambda h: projection.projection_polyhedron(jnp.zeros(1), (jnp.zeros((0, 1)), jnp.zeros(0), G, h), False)
    np.testing.assert_array_equal(np.isnan(jax.jit(jax.vmap(project))(h)), [[False], [True]])
    with pytest.raises((ValueError, SolveError), match="empty"):
        project(h[1])
    section = (jnp.zeros(2), jnp.ones(2), jnp.ones(2), 3.0)
    with pytest.raises(ValueError, match="empty"):
        projection.projection_box_section(jnp.zeros(2), section)


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_projections_keep_units(scale):
    """In units a million times smaller or larger, the projection of a cone section is scaled."""
    x = jnp.asarray(RNG.normal(size=5), jnp.float32)
    for name in ("simplex", "l1_ball", "l2_ball", "linf_ball"):
        fun = getattr(projection, f"projection_{name}")
        np.testing.assert_allclose(fun(scale * x, 0.7 * scale), scale * fun(x, 0.7), rtol=1e-5, atol=1e-6 * scale)


#: value of a penalty beside its strength
PENALTIES = {
    "lasso": (0.6, lambda y, s: s * np.abs(y).sum()),
    "non_negative_lasso": (0.6, lambda y, s: s * y.sum() if y.min() >= 0 else np.inf),
    "elastic_net": ((0.6, 0.5), lambda y, s: s[0] * (np.abs(y).sum() + 0.5 * s[1] * (y**2).sum())),
    "group_lasso": (0.6, lambda y, s: s * np.linalg.norm(y)),
    "ridge": (0.6, lambda y, s: 0.5 * s * (y**2).sum()),
    "non_negative_ridge": (0.6, lambda y, s: 0.5 * s * (y**2).sum() if y.min() >= 0 else np.inf),
    "none": (None, lambda y, s: 0.0),
}


@pytest.mark.parametrize("name", PENALTIES)
def test_proximal_points_minimize(name):
    """No point nearby has a lower value of the objective, which is strongly convex."""
    strength, value = PENALTIES[name]
    fun, scaling = getattr(prox, f"prox_{name}"), 0.7
    given = None if strength is None else jax.tree.map(jnp.asarray, strength)
    x = np.array([1.5, -0.3, 0.2, -2.0])
    p = np.asarray(jax.jit(fun)(jnp.asarray(x), given, scaling))
    objective = lambda y: 0.5 * np.sum((x - y) ** 2) + scaling * value(y, strength)
    for size in (1e-4, 0.1):
        for _ in range(50):
            y = p + size * RNG.normal(size=4)
            assert objective(p) <= objective(np.maximum(y, 0) if "negative" in name else y) + 1e-15
    # a tree is penalized as one vector
    tree = {"a": jnp.asarray(x[:1]), "b": jnp.asarray(x[1:])}
    parts = fun(tree, given, scaling=scaling)
    np.testing.assert_allclose(np.concatenate([parts["a"], parts["b"]]), p, rtol=1e-14)


def test_weights_of_the_lasso_are_a_tree():
    tree, weights = {"a": jnp.array([3.0]), "b": jnp.array([3.0, 3.0])}, {"a": 1.0, "b": jnp.array([2.0, 4.0])}
    p = prox.prox_lasso(tree, weights, 0.5)
    np.testing.assert_allclose(p["a"], [2.5])
    np.testing.assert_allclose(p["b"], [2.0, 1.0])


def test_derivatives_at_zero_are_numbers():
    """In JAXopt the group lasso and the spheres are NaN at zero."""
    jacobian = jax.jacobian(lambda x: prox.prox_group_lasso(x, 1.0))(jnp.zeros(3))
    np.testing.assert_array_equal(jacobian, np.zeros((3, 3)))
    assert np.all(np.isfinite(projection.projection_l2_sphere(jnp.zeros(3))))
    np.testing.assert_allclose(jnp.abs(projection.projection_l1_sphere(jnp.zeros(3))).sum(), 1.0)


def test_a_projection_as_a_proximal_operator():
    fun = prox.make_prox_from_projection(projection.projection_simplex)
    x = jnp.array([1.0, 0.2])
    np.testing.assert_array_equal(fun(x, 2.0, 0.1), projection.projection_simplex(x, 2.0))
    assert list(inspect.signature(fun).parameters) == ["x", "hyperparams", "scaling"]


def test_signatures_are_jaxopts():
    for fun, names in {
        projection.projection_sparse_simplex: ["x", "max_nz", "use_approx_max_nz", "value"],
        projection.projection_polyhedron: ["x", "hyperparams", "check_feasible"],
        projection.projection_transport: ["sim_matrix", "marginals", "make_solver", "use_semi_dual"],
        projection.kl_projection_birkhoff: ["sim_matrix", "make_solver", "use_semi_dual"],
        projection.projection_l1_ball: ["x", "max_value"],
        projection.projection_hypercube: ["x", "unit"],
        prox.prox_lasso: ["x", "l1reg", "scaling"],
        prox.prox_elastic_net: ["x", "hyperparams", "scaling"],
        prox.prox_ridge: ["x", "l2reg", "scaling"],
    }.items():
        assert list(inspect.signature(fun).parameters) == names
