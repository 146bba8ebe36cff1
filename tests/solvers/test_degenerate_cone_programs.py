"""Cone programs with dependent rows, rows that say nothing, solutions that are not unique."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dini
from dini import Status
from dini.sets import ConeProduct, Exponential, NonNegative, SecondOrder, Zero

#: two equations, and two that follow from them, with errors of rounding
ROWS = np.array([[1.0, 1, 1], [1, -1, 0.3]])
MIX = np.array([[1.0, 0], [0, 1], [1 / 3, 2 / 7], [-0.1, 1.7]])


def data(seed, length=1.0, objective=1.0, rows=1.0):
    """Return a program in given units: its sides are those of two equations."""
    rng = np.random.default_rng(seed)
    half = rng.standard_normal((3, 3))
    P = (half.T @ half + np.eye(3)) * objective / length**2
    return {
        "P": P,
        "c": rng.standard_normal(3) * objective / length,
        "A": ROWS * rows / length,
        "b": rng.standard_normal(2) * rows,
        "apart": np.array(0.0),
    }


def dependent(d):
    """Return the solution with four rows for two equations; ``apart`` makes them contradict one another."""
    mix = jnp.asarray(MIX, d["c"].dtype)
    b = mix @ d["b"] + d["apart"] * jnp.array([0.0, 0, 1, 0], d["c"].dtype)
    return dini.cone_program(P=d["P"], c=d["c"], A=mix @ d["A"], b=b, cone=Zero(), on_failure="ignore")


def closed_form(d):
    """Return the point by the two equations alone."""
    P, A = 0.5 * (d["P"] + d["P"].T), d["A"]
    system = jnp.block([[P, A.T], [A, jnp.zeros((2, 2))]])
    return jnp.linalg.solve(system, jnp.concatenate([-d["c"], d["b"]]))[:3]


@jax.jit
@jax.vmap
def all_modes(d, along):
    """Return the solution, the gradient of the sum of its squares over their size, and the derivative along a line."""
    size = jax.lax.stop_gradient(jnp.max(jnp.abs(closed_form(d))))
    at = lambda solve: lambda d: jnp.sum(jnp.square(solve(d) / size))
    strict = dependent_point
    solution = dependent(d)
    ours = jax.grad(at(strict))(d), jax.jvp(strict, (d,), (along,))[1]
    truth = jax.grad(at(closed_form))(d), jax.jvp(closed_form, (d,), (along,))[1]
    return solution.x, solution.status, closed_form(d), ours, truth


def dependent_point(d):
    mix = jnp.asarray(MIX, d["c"].dtype)
    b = mix @ d["b"] + d["apart"] * jnp.array([0.0, 0, 1, 0], d["c"].dtype)
    return dini.cone_program(P=d["P"], c=d["c"], A=mix @ d["A"], b=b, cone=Zero()).x


def test_dependent_equations_have_the_derivatives_of_the_independent_ones():
    """In all data, both modes, any units; a lane whose equations contradict one another is told apart."""
    units = [(1, 1, 1), (1e6, 1e-6, 1), (1e-6, 1, 1e6), (1e-6, 1e6, 1e-6)]
    made = [data(i, *map(float, some)) for i, some in enumerate(units)]
    made.append(data(7) | {"apart": np.array(1.0)})
    lanes = jax.tree.map(lambda *vs: jnp.asarray(np.stack(vs)), *made)
    rng = np.random.default_rng(9)
    along = jax.tree.map(lambda v: jnp.asarray(rng.standard_normal(v.shape)) * v, lanes)
    x, status, point, ours, truth = all_modes(lanes, along)
    assert [Status(int(end)).name for end in status] == ["CONVERGED"] * 4 + ["PRIMAL_INFEASIBLE"]
    size = jnp.max(jnp.abs(point), axis=1, keepdims=True)
    np.testing.assert_allclose((x / size)[:4], (point / size)[:4], rtol=1e-10, atol=1e-11)
    np.testing.assert_allclose((ours[1] / size)[:4], (truth[1] / size)[:4], rtol=1e-8, atol=1e-9)
    for name in ("P", "c", "A", "b"):
        many = jnp.abs(lanes[name]).reshape(5, -1).max(axis=1).reshape(5, *[1] * (lanes[name].ndim - 1))
        np.testing.assert_allclose(
            (ours[0][name] * many)[:4], (truth[0][name] * many)[:4], rtol=1e-7, atol=1e-8, err_msg=name
        )
    assert jnp.isnan(ours[0]["c"][4]).any()
    assert jnp.isnan(ours[1][4]).any()


def test_dependent_equations_in_single_precision():
    """The same in float32."""
    d = jax.tree.map(lambda v: jnp.asarray(v, np.float32), data(3))
    slope = jax.jit(jax.grad(lambda d: jnp.sum(dependent_point(d) ** 3)))(d)
    truth = jax.grad(lambda d: jnp.sum(closed_form(d) ** 3))(jax.tree.map(jnp.asarray, data(3)))
    for name in ("P", "c", "A", "b"):
        assert slope[name].dtype == np.float32
        np.testing.assert_allclose(slope[name], truth[name], rtol=2e-3, atol=2e-3)


def test_rows_given_twice():
    """An inequality and a second-order cone, each in two sets of units: the derivative is that of one, in both modes.

    Where one of the two moves alone, the solution has a kink: a certificate tells that the multipliers are many.
    """

    def point(p, *, twice, **how):
        # min c^T x with x_1 >= p, |(x_2, x_3)| <= 2 - x_1
        A = jnp.array([[-1.0, 0, 0], [1.0, 0, 0], [0, -1.0, 0], [0, 0, -1.0]])
        b = jnp.array([0.0, 2.0, 0, 0]) - p * jnp.array([1.0, 0, 0, 0])
        cones, sizes = [NonNegative(), SecondOrder()], [1, 3]
        if twice:
            A, b = jnp.concatenate([A, 1e3 * A]), jnp.concatenate([b, 1e3 * b])
            cones, sizes = cones * 2, sizes * 2
        c = jnp.array([1.0, 0.3, -0.4])
        return dini.cone_program(c=c, A=A, b=b, cone=ConeProduct(cones, sizes), **how).x

    p = jnp.array(0.5)
    x = jax.jit(lambda p: point(p, twice=True))(p)
    np.testing.assert_allclose(x, [0.5, -0.6 * 1.5, 0.8 * 1.5], rtol=1e-7)
    slope = jax.jit(lambda p: jax.jacfwd(point)(p, twice=True))(p)
    np.testing.assert_allclose(slope, [1.0, 0.6, -0.8], rtol=1e-6)
    np.testing.assert_allclose(jax.jit(jax.jacrev(lambda p: point(p, twice=True)))(p), slope, rtol=1e-6)
    with pytest.raises(dini.DerivativeError, match="ILL_CONDITIONED"):
        jax.grad(lambda p: point(p, twice=True, differentiation=dini.Implicit(certify=True))[0])(p)


@jax.jit
@jax.vmap
def corner(p, slopes, length, rows):
    """Return the corner ``p`` of three sides, its derivatives in both modes, and the second one of a loss."""

    def point(p, slopes):
        A = jnp.stack([jnp.array([1.0, 0]), jnp.array([0, 1.0]), slopes]).astype(p.dtype)
        A = A * (rows * jnp.array([1.0, 3.0, 0.1]) / length)[:, None].astype(p.dtype)
        data = {"c": -jnp.array([2.0, 3.0], p.dtype) / length, "A": A, "b": A @ p, "cone": NonNegative()}
        return dini.cone_program(**data).x

    loss = lambda p: jnp.sum((point(p, slopes) / length) ** 3)
    second = jax.jvp(jax.grad(loss), (p,), (length * jnp.ones_like(p),))[1] * length
    return point(p, slopes), jax.jacfwd(point)(p, slopes), jax.jacrev(point, argnums=(0, 1))(p, slopes), second


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_three_sides_through_a_corner(dtype):
    """The sides follow the corner: it is the solution whatever the third one's slopes, with one multiplier too many."""
    length, rows = jnp.array([1.0, 1e6, 1e-6, 1e3], dtype), jnp.array([1.0, 1e6, 1e6, 1e-6], dtype)
    p = length[:, None] * jnp.array([[1.0, 2.0], [-3.0, 0.5], [0.2, 0.1], [1.0, -1.0]], dtype)
    slopes = jnp.array([[1.0, 1.0], [1.0, 2.0], [0.5, 0.3], [2.0, 2.0]], dtype)
    x, forward, (reverse, of_slopes), second = corner(p, slopes, length, rows)
    close = {np.float64: 1e-9, np.float32: 1e-3}[dtype]
    np.testing.assert_allclose(x / length[:, None], p / length[:, None], rtol=close)
    for slope in (forward, reverse):
        np.testing.assert_allclose(slope, np.broadcast_to(np.eye(2), (4, 2, 2)), atol=close)
    np.testing.assert_allclose(of_slopes / length[:, None, None], 0, atol=close)
    np.testing.assert_allclose(second, 6 * p / length[:, None], rtol=10 * close, atol=10 * close)


def test_gradients_of_what_is_unique_where_an_unknown_appears_twice():
    """Of their sum, of the others and of the value: beside the program with one; of one of the two there is none."""

    def program(p, *, twice):
        B = jnp.array([[1.0, 1.0, 0.0], [0.0, 0.3, 1.0]])[:, 0 if twice else 1 :]
        B = B.at[1, 0].set(0.3)
        data = {"P": B.T @ B, "c": -B.T @ p, "A": jnp.concatenate([jnp.zeros((1, B.shape[1])), -B])}
        return dini.cone_program(**data, b=jnp.array([1.5, 0, 0]), cone=SecondOrder())

    def parts(p, twice):
        solution = program(p, twice=twice)
        return jnp.stack([jnp.sum(solution.x[:-1]), solution.x[-1], solution.value])

    p = jnp.array([2.0, -1.0])
    (ours, slope), (truth, true_slope) = (
        jax.jit(lambda p, twice=twice: (parts(p, twice), jax.jacrev(parts)(p, twice)))(p) for twice in (True, False)
    )
    np.testing.assert_allclose(ours, truth, rtol=1e-9)
    np.testing.assert_allclose(slope, true_slope, rtol=1e-8, atol=1e-10)
    with pytest.raises(dini.DerivativeError, match="singular"):
        jax.grad(lambda p: program(p, twice=True).x[0])(p)


def test_a_solution_that_is_not_unique_has_no_derivative():
    """Of min x_1 + x_2 on a segment of the simplex every point is a solution: neither mode gives a number."""

    def point(c, b):
        A = jnp.array([[1.0, 1.0], [-1.0, 0], [0, -1.0]])
        return dini.cone_program(
            c=c, A=A, b=b * jnp.array([1.0, 0, 0]), cone=ConeProduct([Zero(), NonNegative()], [1, 2])
        ).x

    with pytest.raises(dini.DerivativeError, match="singular"):
        jax.jacrev(point)(jnp.ones(2), 1.0)
    # a direction along which the equations of the derivative have a solution, and many
    with pytest.raises(dini.DerivativeError, match="singular"):
        jax.jacfwd(lambda b: point(jnp.ones(2), b))(1.0)


def test_a_direction_out_of_the_feasible_programs_has_no_derivative():
    """Where one of two equal equations moves alone, no point is left."""
    point = lambda b: dini.cone_program(P=jnp.eye(2), A=jnp.ones((2, 2)), b=b, cone=Zero()).x
    with pytest.raises(dini.DerivativeError, match="singular"):
        jax.jacfwd(point)(jnp.ones(2))


@jax.jit
@jax.vmap
def limited(p, b):
    """Return the projection of ``p`` onto ``x <= b``, and its gradient; the second of three sides is ``b``."""

    def loss(p, b):
        sides = 3 * jnp.max(jnp.abs(p)) * jnp.ones(3)
        sides = sides.at[1].set(b)
        solution = dini.cone_program(P=jnp.eye(3), c=-p, A=jnp.eye(3), b=sides, cone=NonNegative())
        return jnp.sum(solution.x**2), solution

    (_, solution), slopes = jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)(p, b)
    return solution, slopes


@pytest.mark.parametrize("unit", [1.0, 1e-6, 1e6])
def test_infinite_right_hand_sides(unit):
    """No constraint above, no point below; values that are only known when the program runs."""
    p = jnp.tile(jnp.array([1.0, 5.0, -2.0]), (5, 1))
    b = jnp.array([1.0, jnp.inf, 1e25, -jnp.inf, jnp.nan])
    solution, (slope, of_side) = limited(unit * p, jnp.where(jnp.abs(b) < 1e20, unit * b, b))
    names = [Status(int(end)).name for end in solution.status]
    assert names == ["CONVERGED"] * 3 + ["PRIMAL_INFEASIBLE", "NONFINITE"]
    np.testing.assert_allclose(solution.x[:3] / unit, [[1, 1, -2], [1, 5, -2], [1, 5, -2]], rtol=1e-12)
    np.testing.assert_allclose(solution.multipliers[:3] / unit, [[0, 4, 0], [0, 0, 0], [0, 0, 0]], atol=1e-12)
    np.testing.assert_allclose(slope[:3] / unit, [[2, 0, -4], [2, 10, -4], [2, 10, -4]], rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(of_side[:3] / unit, [2, 0, 0], atol=1e-12)
    assert solution.multipliers[3, 1] > 0
    assert (solution.multipliers[3] == 0).tolist() == [True, False, True]  # a proof of any size
    assert jnp.isnan(slope[3:]).any(axis=1).all()


def test_hosts_take_infinite_right_hand_sides():
    """As the solver on the device does; a NaN lane and one without a point do not touch the others."""

    def solve(b):
        problem = {"P": jnp.eye(2), "c": jnp.array([-1.0, -2.0]), "A": jnp.eye(2), "cone": NonNegative()}
        return dini.cone_program(**problem, b=b, solver=dini.HostConeSolver("clarabel"), on_failure="ignore")

    b = jnp.array([[0.5, 9.0], [0.5, jnp.inf], [-jnp.inf, 1.0], [jnp.nan, 1.0], [0.5, 0.5]])
    solution = jax.jit(jax.vmap(solve))(b)
    names = [Status(int(end)).name for end in solution.status]
    assert names == ["CONVERGED", "CONVERGED", "PRIMAL_INFEASIBLE", "NONFINITE", "CONVERGED"]
    np.testing.assert_allclose(solution.x[jnp.array([0, 1, 4])], [[0.5, 2], [0.5, 2], [0.5, 0.5]], rtol=1e-6)
    np.testing.assert_allclose(solution.multipliers[2], [1.0, 0])


@pytest.mark.thorough
def test_rounding_along_unknowns_that_appear_twice_is_no_way_to_infinity():
    """Of two unknowns only the sum counts: paths wander along the difference. Judged by the sums and the values."""
    rng, lanes, n = np.random.default_rng(0), 200, 3
    cone = ConeProduct([Zero(), *[Exponential()] * 3, NonNegative()], [1, 3, 3, 3, 1])
    onto = jax.jit(jax.vmap(cone.project))
    x, half, A = (rng.standard_normal((lanes, *shape)) for shape in ((2 * n,), (2 * n, n), (11, n)))
    half, A = np.tile(half, (1, 1, 2)), np.tile(A, (1, 1, 2))
    v = rng.standard_normal((lanes, 11))
    s = np.asarray(onto(v))
    P = np.stack([M.T @ M / (2 * n) for M in half])
    b = np.stack(list(map(np.matmul, A, x))) + s
    c = -np.stack([Q @ p + B.T @ z for Q, p, B, z in zip(P, x, A, s - v, strict=True)])
    truth = 0.5 * np.einsum("ki,kij,kj->k", x, P, x) + np.einsum("ki,ki->k", c, x)
    solve = lambda P, c, A, b: dini.cone_program(P=P, c=c, A=A, b=b, cone=cone, on_failure="ignore")
    found = jax.jit(jax.vmap(solve))(P, c, A, b)
    assert [Status(int(end)).name for end in found.status] == ["CONVERGED"] * lanes
    np.testing.assert_allclose(found.value, truth, rtol=1e-6, atol=1e-6)


def test_a_cost_that_equations_settle_has_no_rays():
    """Its rounding was followed to infinity. Beside it a cost that is small, and falls along a ray without bound."""
    rng, lanes, n = np.random.default_rng(1), 40, 5
    A, b, y = (rng.standard_normal((lanes, *shape)) for shape in ((6, n), (6,), (2,)))
    b[:, 2:] = np.einsum("kij,kj->ki", A[:, 2:], np.einsum("kij,kj->ki", np.linalg.pinv(A[:, :2]), b[:, :2])) + 1
    c = np.einsum("kij,ki->kj", A[:, :2], y)
    truth = np.einsum("ki,ki->k", y, b[:, :2])
    # along the last lane's own direction, away from its equations, all rows stay satisfied
    ray = np.linalg.svd(A[-1, :2])[2][-1]
    A[-1, 2:] -= np.outer(A[-1, 2:] @ ray + 1, ray)
    c[-1] -= 1e-6 * ray
    cone = ConeProduct([Zero(), NonNegative()], [2, 4])
    solve = lambda c, A, b: dini.cone_program(c=c, A=A, b=b, cone=cone, on_failure="ignore")
    found = jax.jit(jax.vmap(solve))(c, A, b)
    ends = [Status(int(end)).name for end in found.status]
    assert ends == ["CONVERGED"] * (lanes - 1) + ["DUAL_INFEASIBLE"]
    np.testing.assert_allclose(found.value[:-1], truth[:-1], rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(found.multipliers[:-1, :2], -y[:-1], rtol=1e-9, atol=1e-9)
    assert c[-1] @ found.x[-1] < 0
    assert (A[-1, 2:] @ found.x[-1] <= 1e-9).all()
