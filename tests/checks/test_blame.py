"""Messages name what is wrong: the point, the set, a place, a parameter; and they come wherever they can be seen."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dini
from dini import SolveError, Status, penalties, sets

A, B = [[1.0, 1.0, 0.0]], [1.0]
SETS = {
    "affine": sets.Affine(np.array(A), np.array(B)),
    "box section": sets.BoxSection(0.0, 1.0, 1.0, 1.0),
    "polyhedron": sets.Polyhedron(np.array(A), np.array(B)),
    "polyhedron of equations": sets.Polyhedron(np.zeros((0, 3)), np.zeros(0), np.array(A), np.array(B)),
    "intersection": sets.Intersection([sets.Simplex(), sets.Box(0.0, 0.5)]),
}


@pytest.mark.by_default("affine-nan", "affine-inf", "polyhedron of equations-inf")
@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("name", SETS)
def test_a_point_that_is_not_finite_is_to_blame(name, bad):
    x = jnp.array([1.0, bad, 0.0])
    if name == "box section" and bad > 0:  # a bound is where infinity is projected to
        np.testing.assert_allclose(SETS[name].project(x), [0.0, 1.0, 0.0], atol=1e-12)
        return
    for project in (SETS[name].project, jax.jacobian(SETS[name].project)):
        with pytest.raises(SolveError, match=f"point to project onto {SETS[name].name} is not finite") as caught:
            project(x)
        assert caught.value.status == Status.NONFINITE
    assert np.isnan(jax.jit(SETS[name].project)(x)).all()


def test_a_parameter_that_is_nan_is_to_blame():
    with pytest.raises(ValueError, match="A parameter of Affine is NaN"):
        sets.Affine(A, [np.nan])
    with pytest.raises(ValueError, match="A parameter of Polyhedron is NaN"):
        sets.Polyhedron(A, [np.nan]).project(jnp.ones(3))


@pytest.mark.thorough
def test_a_derivative_fails_as_the_projection_does():
    far = 1e30 * jnp.array([[3.0, 1.0], [0.5, 2.0]], jnp.float32)
    barred = jnp.array([[0.0, -jnp.inf], [1.0, -jnp.inf]])
    for project, x in ((sets.Birkhoff().project, far), (sets.Birkhoff().project_kl, barred)):
        for run in (project, jax.grad(lambda x, project=project: project(x)[0, 0]), jax.jacobian(project)):
            with pytest.raises(SolveError, match="projection onto Birkhoff failed: a marginal has the error"):
                run(x)


@pytest.mark.thorough
def test_plans_with_forbidden_cells():
    """Against matrix scaling."""
    Y = np.random.default_rng(3).standard_normal((4, 3))
    Y[0, 1] = Y[2, 0] = Y[3, 2] = -np.inf
    rows, columns = np.array([1.0, 2.0, 1.0, 0.0]), np.array([1.5, 1.0, 1.5])
    P = np.exp(Y) * rows[:, None]
    for _ in range(2000):
        P = P * (columns / P.sum(0))
        P[:3] *= (rows / P.sum(1).clip(1e-300))[:3, None]
    for turned in (False, True):
        polytope = sets.TransportationPolytope(columns, rows) if turned else sets.TransportationPolytope(rows, columns)
        found = jax.jit(polytope.project_kl)(jnp.asarray(Y.T if turned else Y))
        np.testing.assert_allclose(found.T if turned else found, P, atol=1e-9)
        assert np.isfinite(jax.jacobian(polytope.project_kl)(jnp.asarray(Y.T if turned else Y))).all()


@pytest.mark.parametrize(
    "operator",
    [
        lambda s, z: penalties.ElasticNet(1.0, s).prox(z, 1.0),
        lambda s, z: penalties.SCAD(0.1, 1 + s).prox(z, 1.0),
        lambda s, z: penalties.L1(0.1).conjugate_prox(z, s),
        lambda s, z: penalties.SupportFunction(sets.L2Ball()).conjugate_prox(z, s),
        lambda s, z: sets.LInfBall(s).project(z),
        lambda s, z: sets.Hypercube(s).project(z),
        lambda s, z: sets.Hypercube(s).project_kl(z),
        lambda s, z: sets.Scaled(sets.Simplex(), s).project_kl(z),
    ],
)
def test_traced_parameters_out_of_their_domain(operator):
    """What raises where it is known is NaN where it is traced."""
    z = jnp.array([0.5, 2.0])
    with pytest.raises(ValueError, match=r"must be (positive|nonnegative|above 1)"):
        operator(-0.5, z)
    assert np.isnan(jax.jit(operator)(-0.5, z)).all()
    assert np.isfinite(jax.jit(operator)(0.5, z)).all()


LISTS = {
    "affine": lambda form: sets.Affine(form(A), form(B)),
    "polyhedron": lambda form: sets.Polyhedron(form([[1.0, 1.0, 1.0]]), form([-3.0]), form(A), form(B)),
    "permutahedron": lambda form: sets.Permutahedron(form([3.0, 2.0, 1.0])),
}


@pytest.mark.by_default("affine")
@pytest.mark.parametrize("name", LISTS)
def test_lists_of_numbers_are_arrays(name):
    listed, given = LISTS[name](list), LISTS[name](jnp.asarray)
    assert jax.tree.structure(listed) == jax.tree.structure(given)
    distance = lambda x: jnp.sum((x - jnp.array([3.0, 1.0, 2.0])) ** 2)
    solutions = [dini.minimize(distance, jnp.zeros(3), constraint=part).x for part in (listed, given)]
    np.testing.assert_array_equal(*solutions)


def test_more_lists():
    plan = sets.TransportationPolytope([1.0, 2.0], [2.0, 1.0])
    project = jax.jit(lambda s, x: s.project(x))
    np.testing.assert_allclose(project(plan, jnp.array([[0.0, 3.0], [1.0, 0.0]])), [[0, 1], [2, 0]], atol=1e-12)
    # also of traced numbers
    prox = jax.jit(lambda s, x: penalties.SortedL1([2 * s, s, s / 2]).prox(x, 1.0))
    np.testing.assert_allclose(prox(1.0, jnp.array([-2.5, 4.0, 3.5])), [-2.0, 2.25, 2.25])


def test_integers_are_projected_as_numbers():
    np.testing.assert_allclose(sets.project_simplex(jnp.array([1, 1, 0])), [0.5, 0.5, 0.0])
    np.testing.assert_allclose(jax.grad(lambda s: sets.project_simplex(jnp.array([1, 1, 0]), s)[0])(1.0), 0.5)


def test_what_is_missing_is_named():
    x = {"a": jnp.ones(2), "b": jnp.ones(2)}
    with pytest.raises(ValueError, match=r"given None at .*'b'.* Use dini.sets.Free\(\)"):
        sets.Product({"a": sets.Simplex(), "b": None}).project(x)
    with pytest.raises(ValueError, match=r"given None at .*'b'.* Use dini.penalties.Indicator\(dini.sets.Free\(\)\)"):
        penalties.Product({"a": penalties.L1(), "b": None}).prox(x, 1.0)
    for penalty in (penalties.L1(None), penalties.ElasticNet(1.0, None), penalties.Ridge(None), penalties.Huber(None)):
        with pytest.raises(TypeError, match=rf"(strength|ratio) of {penalty.name} must be .*: given None"):
            penalty.prox(jnp.ones(2), 1.0)
