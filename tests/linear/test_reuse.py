"""Derivatives that use what the solve has left behind."""

import jax
import jax.experimental.sparse
import jax.numpy as jnp
import numpy as np
import pytest

import dini
from dini import linear
from dini.linear import _sparse
from dini.linear._reused import CholeskyFactor, Reused
from dini.solvers import _nonlinear_interior_point
from dini.solvers.interior._barrier_factor import BarrierFactor
from dini.solvers.interior._face_factor import FaceFactor

D = 100
rng = np.random.default_rng(0)
X, Y = rng.standard_normal((150, D)) / 10, np.sign(rng.standard_normal(150))


def logistic(w, strength):
    return jnp.sum(jnp.logaddexp(0, -Y * (X @ w))) + 0.5 * strength * jnp.vdot(w, w)


PROBLEM = dini.Minimize(logistic)
DENSE = dini.Implicit(linear_solver=dini.linear.Dense())


def fit(strength, init=None, how=None, problem=PROBLEM):
    init = jnp.zeros(D) if init is None else init
    return dini.solve(problem, dini.Newton(tol=1e-6), init, strength, differentiation=how or dini.Implicit()).x


def closed_form(w, strength):
    """The derivative of the solution in the penalty's strength."""
    p = 1 / (1 + np.exp(Y * (X @ w)))
    return np.linalg.solve(X.T @ ((p * (1 - p))[:, None] * X) + strength * np.eye(D), -np.asarray(w))


@pytest.mark.thorough  # seconds of compilation: `.ci/run` runs it
def test_newtons_factor_gives_the_derivative_without_another():
    w = np.asarray(fit(0.1))
    forward, reverse = jax.jacfwd(fit)(0.1), jax.jacrev(fit)(0.1)
    np.testing.assert_allclose(forward, closed_form(w, 0.1), rtol=1e-9)
    np.testing.assert_allclose(forward, reverse, rtol=1e-10)


@pytest.mark.thorough
def test_higher_order_derivatives_pass_through_the_reused_factor():
    def total(strength, how=None):
        return jnp.sum(fit(strength, how=how) ** 2)

    ours, dense = (jax.hessian(lambda s, how=how: total(s, how))(0.1) for how in (None, DENSE))
    np.testing.assert_allclose(ours, dense, rtol=1e-8)


def test_a_solve_that_starts_at_its_solution_has_no_factor_and_makes_one():
    w = fit(0.1)
    again = jax.jacrev(lambda s: fit(s, w))(0.1)
    np.testing.assert_allclose(again, closed_form(np.asarray(w), 0.1), rtol=1e-9)


@pytest.mark.thorough
def test_in_a_batch():
    strengths = jnp.array([0.05, 0.3])
    together = jax.vmap(jax.grad(lambda s: fit(s).sum()))(strengths)
    apart = [closed_form(np.asarray(fit(s)), float(s)).sum() for s in strengths]
    np.testing.assert_allclose(together, apart, rtol=1e-9)


def test_a_singular_hessian_is_seen_in_the_factor():
    def flat(w, strength):
        return jnp.sum((w[: D // 2] - strength) ** 2) + (w[D // 2 :].sum() - strength) ** 2

    with pytest.raises(Exception, match="singular"):
        jax.block_until_ready(jax.grad(lambda s: fit(s, problem=dini.Minimize(flat)).sum())(0.1))


@pytest.mark.parametrize("spread", [0, 3])
def test_a_factor_nearby_serves_badly_scaled_unknowns(spread):
    """Its errors are small in its own norm, which is not the Euclidean one: the residual may grow at first."""
    rng = np.random.default_rng(0)
    scales = np.logspace(-spread, spread, 80)
    X = rng.normal(size=(300, 80)) * scales
    near, here = X.T @ X, jnp.asarray(X.T @ ((1 + 1e-2 * rng.normal(size=300))[:, None] * X))
    solver = Reused(CholeskyFactor(jnp.linalg.cholesky(near)), jnp.asarray(True))
    for b in (np.eye(80)[0], np.eye(80)[-1], rng.normal(size=80)):
        got = linear.solve(lambda v: here @ v, jnp.asarray(b), structure="positive definite", solver=solver)
        want = np.linalg.solve(here, b)
        assert np.linalg.norm(scales * (got - want)) <= 1e-9 * np.linalg.norm(scales * want)


def test_a_factor_is_believed_where_it_is_near():
    """Far from it, and where there is none, another solver's answer is returned; a singular map is told."""
    rng = np.random.default_rng(4)
    M, b = rng.normal(size=(12, 12)), jnp.asarray(rng.normal(size=12))
    matrix = M @ M.T + np.eye(12)
    factor = CholeskyFactor(jnp.linalg.cholesky(matrix))
    # one row and its column are of another matrix, as where another constraint is active
    other = matrix.copy()
    other[3], other[:, 3] = 0.0, 0.0
    flat = other.copy()
    other[3, 3] = 1.0

    @jax.jit
    def solved(here, known):
        return Reused(factor, known)(lambda w: here @ w, b, "positive definite")

    for here in (matrix, other):
        for known in (True, False):
            w, singular = solved(jnp.asarray(here), known)
            np.testing.assert_allclose(w, np.linalg.solve(here, b), rtol=1e-10)
            assert not singular
    assert solved(jnp.asarray(flat), True)[1]


@pytest.mark.thorough
@pytest.mark.parametrize(
    "solver", [dini.InteriorPoint(), dini.ActiveSet(), dini.OperatorSplitting(), dini.OperatorSplitting(dense_limit=0)]
)
def test_the_factor_of_a_program_is_believed_in_any_units(solver, monkeypatch):
    """Also where inequalities and bounds are not active, whose multipliers are in units of their own."""
    nothing = lambda product, b, structure: (jnp.full_like(b, jnp.nan), jnp.zeros((), bool))
    monkeypatch.setattr(FaceFactor, "otherwise", staticmethod(nothing))
    n, random = 7, np.random.default_rng(0)
    M, G = random.normal(size=(n, n)), random.normal(size=(4, n))
    Q = M @ M.T / n + np.eye(n)
    sparse = getattr(solver, "dense_limit", 1) == 0
    Q, G = map(jax.experimental.sparse.BCOO.fromdense if sparse else jnp.asarray, (Q, G))

    @jax.jit
    def solved(a, force, length):
        given = {"Q": Q * (force / length), "c": a * force * jnp.arange(1.0, n + 1), "G": G}
        bounds = {"lower": jnp.full(n, -0.7 * length), "upper": jnp.full(n, length)}
        return dini.quadratic_program(**given, h=jnp.full(4, 0.1 * length), **bounds, solver=solver).x / length

    for force, length in ((1.0, 1.0), (1e6, 1.0), (1e-4, 1e-6), (10.0, 3e5)):
        total = lambda a, units=(force, length): jnp.sum(solved(a, *units) ** 2)
        x = np.asarray(solved(-0.3, force, length))
        active = np.concatenate([0.1 - G @ x, x + 0.7, 1 - x]) < 1e-6
        assert 0 < active.sum() < active.size
        difference = (total(-0.3 + 1e-6) - total(-0.3 - 1e-6)) / 2e-6
        np.testing.assert_allclose(jax.grad(total)(-0.3), difference, rtol=1e-6)


@pytest.mark.thorough
def test_the_factor_of_a_nonlinear_program_is_believed_in_any_units(monkeypatch):
    nothing = lambda product, b, structure: (jnp.full_like(b, jnp.nan), jnp.zeros((), bool))
    monkeypatch.setattr(BarrierFactor, "otherwise", staticmethod(nothing))
    monkeypatch.setattr(_nonlinear_interior_point, "_WORTHWHILE", 0)
    curve = np.diag(np.linspace(1.0, 3.0, 5)) + 0.2

    @jax.jit
    def solved(a, force, length):
        energy = lambda z, a: 0.5 * z @ curve @ z - a * jnp.sum(z) + z[0] ** 3
        fun = lambda x, a, force, length: force * length * energy(x / length, a)
        bound = lambda x, a, force, length: jnp.stack([x[0] ** 2 / length - 0.01 * length, x[1] + x[2] - 9 * length])
        box = dini.sets.Box(-length, 0.2 * length)
        start = 0.1 * length * jnp.ones(5)
        parts = {"inequality": bound, "constraint": box, "solver": dini.NonlinearInteriorPoint()}
        return dini.minimize(fun, start, a, force, length, **parts).x / length

    for force, length in ((1.0, 1.0), (1e5, 1.0), (1.0, 1e-4)):
        total = lambda a, units=(force, length): jnp.sum(solved(a, *units) ** 2)
        difference = (total(0.6 + 1e-6) - total(0.6 - 1e-6)) / 2e-6
        np.testing.assert_allclose(jax.grad(total)(0.6), difference, rtol=1e-5)


N = 8
BLOCK = np.kron(
    sum(np.eye(N, k=k) for k in (-1, 0, 1)), np.kron(sum(np.eye(N, k=k) for k in (-1, 0, 1)), np.ones((2, 2)))
)
SPARSE = linear.Sparse(linear.Pattern.of(BLOCK))
LOAD = np.random.default_rng(1).normal(size=(N, N, 2))


def membrane(u, stiffness):
    """Two fields on a grid that couple at each node, held at the edge."""
    u = u.reshape(N, N, 2)
    padded = jnp.pad(u, ((1, 1), (1, 1), (0, 0)))
    stretch = sum(jnp.sum(jnp.diff(padded, axis=axis) ** 2) for axis in (0, 1))
    shear = jnp.sum((padded[1:, 1:] - padded[:-1, :-1]) ** 2) + jnp.sum((padded[1:, :-1] - padded[:-1, 1:]) ** 2)
    return 0.5 * stretch + 0.2 * shear + 0.25 * stiffness * jnp.sum(jnp.sum(u**2, -1) ** 2) - jnp.sum(LOAD * u)


def deflect(stiffness, init=None, how=None, fun=membrane, solver=SPARSE):
    init = jnp.zeros(2 * N * N) if init is None else init
    newton = dini.Newton(linear_solver=solver, tol=1e-9)
    return dini.solve(dini.Minimize(fun), newton, init, stiffness, differentiation=how or dini.Implicit()).x


@pytest.mark.by_default("superlu")
@pytest.mark.parametrize("solver", [SPARSE, linear.SparseDirect(SPARSE.pattern)], ids=["a band", "superlu"])
def test_a_sparse_hessian_is_factorized_for_the_solve_alone(solver):
    """The derivative is that of a dense factorization, and the host makes no further factor for it."""
    total = lambda s, how=None: jnp.sum(deflect(s, how=how, solver=solver) ** 3)
    got, h = jax.jit(jax.value_and_grad(total)), 1e-5
    np.testing.assert_allclose(got(2.0)[1], (got(2.0 + h)[0] - got(2.0 - h)[0]) / (2 * h), rtol=1e-7)
    if not isinstance(solver, linear.SparseDirect):
        return
    np.testing.assert_allclose(jax.jvp(total, (2.0,), (1.0,))[1], got(2.0)[1], rtol=1e-8)
    before = _sparse._FACTORS.made
    jax.block_until_ready(jax.jit(lambda s: deflect(s, solver=solver))(2.5))
    alone = _sparse._FACTORS.made - before
    jax.block_until_ready(got(2.7))
    assert alone >= 3
    assert _sparse._FACTORS.made - before - alone <= alone + 1


@pytest.mark.slow
def test_a_sparse_factor_in_a_batch_and_from_the_solution():
    """Lanes have their own factors; a solve that starts at its end has none, and makes it."""
    slopes = jax.vmap(jax.grad(lambda s: jnp.sum(deflect(s))))(jnp.array([0.5, 2.0]))
    apart = [jax.grad(lambda s: jnp.sum(deflect(s, how=DENSE)))(s) for s in (0.5, 2.0)]
    np.testing.assert_allclose(slopes, apart, rtol=1e-8)
    end = deflect(2.0)
    again = jax.grad(lambda s: jnp.sum(deflect(s, init=end)))(2.0)
    np.testing.assert_allclose(again, apart[1], rtol=1e-8)


def test_a_singular_sparse_hessian_is_seen():
    def flat(u, stiffness):
        """Nothing holds the second field."""
        return membrane(u.reshape(N, N, 2).at[..., 1].set(0.0), stiffness)

    with pytest.raises(Exception, match="singular"):
        jax.block_until_ready(jax.grad(lambda s: jnp.sum(deflect(s, fun=flat)))(2.0))


@pytest.mark.parametrize("given", [SPARSE, linear.Sparse()])
def test_an_indefinite_sparse_hessian_leads_down(given):
    """From a saddle between wells, in any units of the unknowns; turned around, such steps end at their limit."""
    units = jnp.asarray(10.0 ** np.random.default_rng(3).integers(-3, 4, 2 * N * N))

    def wells(u, units):
        u = (u / units).reshape(N, N, 2)
        double = 0.25 * jnp.sum((jnp.sum(u**2, -1) - 1) ** 2)
        return double + 0.1 * membrane(u.ravel(), 0.0)

    start = 1e-2 * jnp.asarray(np.random.default_rng(2).normal(size=2 * N * N))
    for scale in (jnp.ones_like(units), units):
        newton = dini.Newton(linear_solver=given, max_steps=60)
        found = dini.minimize(wells, scale * start, scale, solver=newton)
        hessian = jax.hessian(wells)(found.x / scale, jnp.ones_like(scale))
        assert np.linalg.eigvalsh(hessian).min() > 0


def test_the_last_factors_are_found_by_their_numbers():
    """The same matrix is factorized once, another one anew, and what is held stays within its room."""
    pattern = linear.Pattern.banded(300, 90, 90)
    random = np.random.default_rng(0)
    matrices = [random.normal(size=pattern.count) + 40.0 * (pattern.rows == pattern.columns) for _ in range(3)]
    held = _sparse._LastFactors(1)
    for values, made in ((matrices[0], 1), (matrices[0], 1), (matrices[1], 2), (matrices[0], 3)):
        found = held.of(pattern, False, values)
        dense = np.zeros(pattern.shape)
        dense[pattern.rows, pattern.columns] = values
        b = random.normal(size=300)
        np.testing.assert_allclose(dense @ found.factor.solve(b / found.scale), b, atol=1e-10)
        assert held.made == made
        assert len(held._held) == 1
    roomy = _sparse._LastFactors(10**7)
    for _ in range(2):
        for values in matrices:
            roomy.of(pattern, False, values)
    assert roomy.made == 3
