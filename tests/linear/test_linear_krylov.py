"""Iterative solvers: preconditioners and guesses in both directions, indefinite and singular maps."""

import dataclasses

import jax
import jax.numpy as jnp
import lineax
import numpy as np
import pytest

import dini
from dini import linear

D = 80


def vector(seed=1, d=D):
    return jnp.asarray(np.random.default_rng(seed).normal(size=d))


def symmetric(values, seed=0):
    Q = np.linalg.qr(np.random.default_rng(seed).normal(size=(len(values),) * 2))[0]
    return Q @ np.diag(values) @ Q.T


INDEFINITE = symmetric(np.concatenate([np.linspace(1, 10, 50), -np.linspace(0.5, 3, 30)]))
# rows of different sizes: the transpose has columns of different sizes
HARD = np.logspace(0, 4, D)[:, None] * (np.eye(D) + 0.05 * np.random.default_rng(2).normal(size=(D, D)))
FEW = {
    linear.GMRES: {"restart": 10, "max_steps": 2},
    linear.BiCGStab: {"max_steps": 10},
    linear.CG: {"max_steps": 12},
    linear.MINRES: {"max_steps": 12},
}
DEFINITE = np.diag(np.logspace(0, 6, D)) + 0.3 * symmetric(np.linspace(0, 1, D))


def solved(A, solver, structure=None, c=None):
    """Return whether the system, and the transposed one, are solved, and the greatest error of what is."""
    A = jnp.asarray(A)

    def solve(b):
        return linear.solve(lambda w: A @ w, b, solver=solver, structure=structure, on_failure="nan")

    b = vector()
    c = vector(2) if c is None else c

    @jax.jit
    def both(b, c):
        w, back = jax.vjp(solve, b)
        return w, back(c)[0]

    answers, truths = both(b, c), (np.linalg.solve(A, b), np.linalg.solve(A.T, c))
    errors = [np.linalg.norm(w - t) / np.linalg.norm(t) for w, t in zip(answers, truths, strict=True)]
    return [bool(np.isfinite(e)) for e in errors], np.nanmax([*errors, 0.0])


@pytest.mark.by_default("BiCGStab")
@pytest.mark.parametrize("method", [linear.GMRES, linear.BiCGStab])
def test_a_preconditioner_is_transposed_for_the_transposed_system(method):
    noise = np.random.default_rng(5).normal(size=(D, D))
    P, few = jnp.asarray(np.linalg.inv(HARD * (1 + 0.01 * noise))), FEW[method]
    assert solved(HARD, method(**few))[0] == [False, False]
    ok, error = solved(HARD, method(**few, preconditioner=lambda r: P @ r))
    assert ok == [True, True]
    assert error < 1e-6
    # an explicit transpose is used, and the wrong one shows
    right = linear.Preconditioner(lambda r: P @ r, lambda r: P.T @ r)
    assert solved(HARD, method(**few, preconditioner=right))[0] == [True, True]
    wrong = linear.Preconditioner(lambda r: P @ r, lambda r: P @ r)
    assert solved(HARD, method(**few, preconditioner=wrong))[0] == [True, False]


def test_an_object_with_a_transpose_is_a_preconditioner():
    P = jnp.asarray(np.linalg.inv(HARD * (1 + 0.01 * np.random.default_rng(5).normal(size=(D, D)))))

    def once(matrix, r):
        """Not a linear program that JAX can transpose."""
        return jax.lax.while_loop(lambda c: c[0], lambda c: (False, matrix @ c[1]), (True, r))[1]

    class Loop:
        def __call__(self, r):
            return once(P, r)

        def transposed(self, r):
            return once(P.T, r)

    ok, error = solved(HARD, linear.GMRES(**FEW[linear.GMRES], preconditioner=Loop()))
    assert ok == [True, True]
    assert error < 1e-6


@pytest.mark.by_default(1)
@pytest.mark.parametrize("method", [linear.CG, linear.MINRES])
def test_preconditioned_symmetric_solvers(method):
    few, d = FEW[method], jnp.asarray(np.diag(DEFINITE))
    assert solved(DEFINITE, method(**few), "positive definite")[0] == [False, False]
    ok, error = solved(DEFINITE, method(**few, preconditioner=lambda r: r / d), "positive definite")
    assert ok == [True, True]
    assert error < 1e-6


@pytest.mark.parametrize("preconditioned", [False, True])
def test_conjugate_gradients_take_the_least_error_of_the_krylov_space(preconditioned):
    A = symmetric(np.geomspace(1, 100, D))
    P = np.diag(np.linspace(0.5, 2, D)) if preconditioned else np.eye(D)
    b = np.asarray(vector())
    basis = [P @ b / np.linalg.norm(P @ b)]
    for k in range(1, 25):
        solver = linear.CG(max_steps=k, preconditioner=(lambda r: jnp.asarray(P) @ r) if preconditioned else None)
        if k in (1, 2, 3, 10, 24):
            w, _ = solver(lambda w: jnp.asarray(A) @ w, jnp.asarray(b), "positive definite")
            # in the norm of A: a least-squares problem with its square root
            K, half = np.stack(basis, 1), np.linalg.cholesky(A).T
            best = K @ np.linalg.lstsq(half @ K, half @ np.linalg.solve(A, b), rcond=None)[0]
            np.testing.assert_allclose(w, best, rtol=1e-7, atol=1e-8)
        basis = list(np.linalg.qr(np.stack([*basis, P @ A @ basis[-1]], 1))[0].T)


def test_conjugate_gradients_make_no_needless_products():
    """Three different eigenvalues take three steps; one more product is that of the residual."""
    count = []
    d = jnp.asarray(np.repeat([1.0, 2.0, 5.0], 10))

    def A(w):
        jax.debug.callback(lambda: count.append(1))
        return d * w

    w, _ = linear.CG()(A, vector(d=30), "positive definite")
    jax.effects_barrier()
    np.testing.assert_allclose(w, vector(d=30) / d, rtol=1e-9)
    assert len(count) == 3
    # nothing to do, and nothing that can be done
    zero, ok = linear.CG()(A, jnp.zeros(30), "positive definite")
    assert not zero.any()
    assert not ok
    singular, failed = linear.CG()(lambda w: 0 * w, vector(d=30), "positive definite")
    assert not singular.any()
    assert not failed
    with pytest.raises(Exception, match=r"residual is 1\.00e\+00"):
        linear.solve(lambda w: 0 * w, vector(d=30), structure="positive definite", solver=linear.CG())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_conjugate_gradients_tell_of_negative_curvature_in_any_units(dtype):
    """A small residual of an indefinite system is no derivative of a minimum; what is definite or flat passes."""
    d, b = np.linspace(1, 3, 30), jnp.asarray(vector(d=30), dtype)
    cases = {"definite": (d, False), "maximum": (-d, True), "saddle": (np.where(np.arange(30) == 7, -0.1, d), True)}
    solve = jax.jit(jax.vmap(lambda d: linear.CG()(lambda w: d * w, b, "positive definite")[1]))
    for unit in (1e-6, 1.0, 1e6):
        rows = jnp.asarray(unit * np.stack([given for given, _ in cases.values()]), dtype)
        assert list(np.asarray(solve(rows))) == [told for _, told in cases.values()]
    # flat where the right-hand side is zero: consistent
    d, b = jnp.asarray(np.where(np.arange(30) < 5, 0, d), dtype), b.at[:5].set(0)
    assert not linear.CG()(lambda w: d * w, b, "positive definite")[1]
    with pytest.raises(dini.DerivativeError, match="not positive definite"):
        linear.solve(lambda w: rows[2] * w, b, structure="positive definite", solver=linear.CG())


def test_a_series_that_diverges_is_no_approximation():
    d, b = jnp.array([1.0, 10.0]), jnp.array([1.0, 1.0])
    solved = lambda damping, terms, d: linear.solve(lambda w: d * w, b, solver=linear.Series(terms, damping))
    for unit in (1e-6, 1.0, 1e6):
        for terms in (2, 3, 30):
            for times in (0.05, 0.15):  # half a contraction, and most of one
                want = (1 - (1 - times * d) ** terms) / (unit * d)
                np.testing.assert_allclose(solved(times / unit, terms, unit * d), want, rtol=1e-12)
            for times in (0.35, 1.0, 100.0):
                with pytest.raises(dini.DerivativeError, match=r"series of .* terms, which diverges"):
                    solved(times / unit, terms, unit * d)
    # one term is no series, and a slightly negative curvature does little in a few
    np.testing.assert_allclose(solved(100.0, 1, d), [100.0, 100.0])
    assert np.all(np.isfinite(solved(0.1, 3, jnp.array([-0.5, 1.0]))))
    with pytest.raises(dini.DerivativeError, match="the map must contract"):
        solved(1.0, 5, jnp.array([-2.0, 1.0]))
    # a lane that diverges disturbs no other
    lanes = jax.vmap(lambda damping: solved(damping, 4, d))(jnp.array([0.05, 3.0]))
    assert list(np.asarray(jnp.isfinite(lanes).all(axis=1))) == [True, False]


@pytest.mark.parametrize(("d", "condition"), [(30, 1e5), (600, 1e3)])
def test_conjugate_gradients_in_float32_end_at_the_level_of_rounding(d, condition):
    """A recurrence that restarts itself there can diverge and end in NaN."""
    A = jnp.asarray(symmetric(np.geomspace(1 / condition, 1, d)), jnp.float32)
    b = vector(d=d).astype(jnp.float32)
    w, failed = jax.jit(lambda b: linear.CG()(lambda w: A @ w, b, "positive definite"))(b)
    want = np.linalg.solve(np.asarray(A, float), np.asarray(b, float))
    assert not failed
    assert np.linalg.norm(w - want) < 1e-3 * np.linalg.norm(want)


@pytest.mark.parametrize("preconditioned", [False, True])
def test_minres_takes_the_shortest_residual_of_the_krylov_space(preconditioned):
    P = np.diag(np.linspace(0.5, 2, D)) if preconditioned else np.eye(D)
    b = np.asarray(vector())
    b = b / np.linalg.norm(b)
    basis = [P @ b]
    for k in range(1, 25):
        solver = linear.MINRES(max_steps=k, preconditioner=(lambda r: jnp.asarray(P) @ r) if preconditioned else None)
        if k in (1, 2, 3, 10, 24):
            w, _ = solver(lambda w: jnp.asarray(INDEFINITE) @ w, jnp.asarray(b), "symmetric")
            K, half = np.stack(basis, 1), np.linalg.cholesky(P).T
            best = K @ np.linalg.lstsq(half @ INDEFINITE @ K, half @ b, rcond=None)[0]
            np.testing.assert_allclose(w, best, rtol=1e-8, atol=1e-10)
        new = P @ INDEFINITE @ basis[-1]
        for _ in range(2):
            new = new - sum((q @ new) * q / (q @ q) for q in basis)
        basis.append(new / np.linalg.norm(new))


def test_minres_solves_indefinite_systems_of_trees():
    def matvec(w):
        flat = INDEFINITE @ jnp.concatenate([w["a"], w["b"].ravel()])
        return {"a": flat[:20], "b": flat[20:].reshape(6, 10)}

    b = vector()
    w = linear.solve(
        matvec, {"a": b[:20], "b": b[20:].reshape(6, 10)}, structure="symmetric", solver=linear.MINRES(rtol=1e-12)
    )
    truth = np.linalg.solve(INDEFINITE, b)
    np.testing.assert_allclose(np.concatenate([w["a"], w["b"].ravel()]), truth, rtol=1e-8, atol=1e-9)


def test_minres_where_the_system_is_done_at_once():
    w, failed = linear.MINRES()(lambda w: 2 * w, jnp.ones(3), "symmetric")
    np.testing.assert_allclose(w, 0.5)
    assert not failed
    w, failed = linear.MINRES()(lambda w: 2 * w, jnp.zeros(3), "symmetric")
    np.testing.assert_array_equal(w, 0.0)
    assert not failed
    with pytest.raises(ValueError, match="MINRES needs a symmetric"):
        linear.MINRES()(lambda w: 2 * w, jnp.ones(3), None)


@pytest.mark.parametrize("name", ["MINRES", "LSMR"])
def test_singular_consistent_systems_have_the_shortest_solution(name):
    A = symmetric([*np.linspace(1, 5, D - 3), 0, 0, 0])
    solver = {"MINRES": linear.MINRES(), "LSMR": linear.LSMR()}[name]
    b = jnp.asarray(A) @ vector()

    def solve(b):
        return linear.solve(lambda w: jnp.asarray(A) @ w, b, structure="symmetric", solver=solver, on_failure="nan")

    np.testing.assert_allclose(solve(b), np.linalg.pinv(A, 1e-10) @ b, rtol=1e-7, atol=1e-8)
    assert np.all(np.isnan(solve(vector())))  # not in the range


GENERAL = np.random.default_rng(0).normal(size=(D, D)) + 20 * np.diag(np.linspace(1, 2, D))


@pytest.mark.by_default(1)
@pytest.mark.parametrize("preconditioned", [False, True])
def test_gmres_takes_the_shortest_residual_of_the_krylov_space(preconditioned):
    P = np.diag(np.linspace(0.5, 2, D)) if preconditioned else np.eye(D)
    b = np.asarray(vector())
    for k in (1, 2, 8, 9, 16, 24):
        solver = linear.GMRES(
            restart=k, max_steps=1, preconditioner=(lambda r: jnp.asarray(P) @ r) if preconditioned else None
        )
        w, _ = solver(lambda w: jnp.asarray(GENERAL) @ w, jnp.asarray(b), None)
        basis = [b / np.linalg.norm(b)]
        for _ in range(k):
            new = GENERAL @ P @ basis[-1]
            for _ in range(2):
                new = new - sum((q @ new) * q for q in basis)
            basis.append(new / np.linalg.norm(new))
        K = P @ np.stack(basis[:k], 1)
        best = K @ np.linalg.lstsq(GENERAL @ K, b, rcond=None)[0]
        np.testing.assert_allclose(w, best, rtol=1e-8, atol=1e-10)


def counted(A):
    count = []

    def matvec(w):
        jax.debug.callback(lambda: count.append(1))
        return A(w)

    return matvec, count


def test_gmres_makes_no_needless_products():
    """Three different eigenvalues take three steps, whose space is then exhausted; one product more checks."""
    d = jnp.asarray(np.repeat([1.0, -2.0, 5.0], 10))
    matvec, count = counted(lambda w: d * w)
    w, failed = linear.GMRES()(matvec, vector(d=30), None)
    jax.effects_barrier()
    np.testing.assert_allclose(w, vector(d=30) / d, rtol=1e-12)
    assert not failed
    assert len(count) == 4
    # a tolerance ends a cycle before it is full
    matvec, count = counted(lambda w: jnp.asarray(GENERAL) @ w)
    w, _ = linear.GMRES(rtol=1e-3, restart=D)(matvec, vector(), None)
    jax.effects_barrier()
    assert 1e-4 < np.linalg.norm(GENERAL @ w - vector()) / np.linalg.norm(vector()) <= 1e-3
    assert len(count) < 40


@pytest.mark.thorough
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_gmres_where_there_is_no_direction_left(dtype):
    gmres = linear.GMRES()
    one = jnp.ones(3, dtype)
    w, failed = gmres(lambda w: 2 * w, one, None)
    np.testing.assert_allclose(w, 0.5)
    assert not failed
    for b in (0 * one, jnp.zeros(0, dtype)):
        w, failed = gmres(lambda w: 2 * w, b, None)
        np.testing.assert_array_equal(w, b)
        assert not failed
    w, _ = gmres(lambda w: 4 * w, jnp.asarray(2.0, dtype), None)
    np.testing.assert_allclose(w, 0.5)
    # singular maps: zero, a shift whose space is exhausted without a solution, a consistent one
    shift = jnp.asarray(np.eye(3, k=-1), dtype)
    for A in (0 * shift, shift):
        w, _ = gmres(lambda w, A=A: A @ w, jnp.asarray([0, 1, 0], dtype), None)
        assert np.all(np.isfinite(w))
        with pytest.raises(Exception, match="not solved"):
            linear.solve(lambda w, A=A: A @ w, one, solver=gmres)
    singular = jnp.asarray(np.diag([3.0, 1.0, 0.0]) + np.eye(3, k=1) * [[0], [1], [0]], dtype)
    b = singular @ one
    w = linear.solve(lambda w: singular @ w, b, solver=gmres)
    np.testing.assert_allclose(singular @ w, b, rtol=1e-4)
    assert np.all(np.isnan(linear.solve(lambda w: w * jnp.nan, one, solver=gmres, on_failure="nan")))


def test_gmres_restarts_and_gives_up():
    # a cyclic shift moves no residual before its last product
    for n, restart, solved in ((20, 20, True), (20, 19, False)):
        matvec, count = counted(lambda w: jnp.roll(w, 1))
        w, _ = linear.GMRES(restart=restart)(matvec, jnp.zeros(n).at[0].set(1.0), None)
        jax.effects_barrier()
        assert (abs(w[-1] - 1) < 1e-10) == solved
        assert len(count) < 25 * restart
    A = jnp.asarray(GENERAL)
    w = linear.solve(lambda w: A @ w, vector(), solver=linear.GMRES(restart=5, rtol=1e-12))
    np.testing.assert_allclose(w, np.linalg.solve(GENERAL, vector()), rtol=1e-9, atol=1e-11)


@pytest.mark.thorough
def test_gmres_on_badly_conditioned_bases_trees_and_lanes():
    # eigenvalues that crowd around one and a few far away: much cancels in the basis
    rng = np.random.default_rng(4)
    Q = rng.normal(size=(D, D)) / np.sqrt(D) + np.eye(D)
    A = Q @ np.diag(np.concatenate([1 + 1e-6 * rng.normal(size=D - 4), [30.0, -100.0, 300.0, 0.1]])) @ np.linalg.inv(Q)
    ok, error = solved(A, linear.GMRES(rtol=1e-12))
    assert ok == [True, True]
    assert error < 1e-5

    def matvec(w, s):
        flat = jnp.asarray(GENERAL) @ jnp.concatenate([w["a"], w["b"].ravel()]) + s * w["a"][0]
        return {"a": flat[:20], "b": flat[20:].reshape(6, 10)}

    b = vector()
    tree = {"a": b[:20], "b": b[20:].reshape(6, 10)}
    lanes = jax.jit(jax.vmap(lambda s: linear.solve(lambda w: matvec(w, s), tree, solver=linear.GMRES(restart=15))))
    w = lanes(jnp.array([0.0, 1.0, 30.0]))
    for i, s in enumerate([0.0, 1.0, 30.0]):
        truth = np.linalg.solve(GENERAL + s * np.eye(D)[0][None, :], b)
        np.testing.assert_allclose(np.concatenate([w["a"][i], w["b"][i].ravel()]), truth, rtol=1e-6, atol=1e-8)


def test_lsmr_on_general_maps():
    A = np.random.default_rng(0).normal(size=(D, D)) + 8 * np.eye(D)
    ok, error = solved(A, linear.LSMR(rtol=1e-12))
    assert ok == [True, True]
    assert error < 1e-8


@pytest.mark.thorough
@pytest.mark.parametrize("method", [linear.CG, linear.GMRES, linear.BiCGStab, linear.MINRES])
def test_a_guess_saves_steps_in_the_direction_that_it_is_for(method):
    A = symmetric(np.logspace(0, 3, D))
    structure = None if method in (linear.GMRES, linear.BiCGStab) else "positive definite"
    b, c = vector(), vector(2)
    # any multiple of the solution will do; a small error is left
    x0 = -7.0 * np.linalg.solve(A, b) * (1 + 1e-7 * np.asarray(vector(3)))
    x0_transposed = 1e6 * np.linalg.solve(A.T, c) * (1 + 1e-7 * np.asarray(vector(4)))
    few = FEW[method] | {"rtol": 1e-6}
    assert solved(A, method(**few), structure)[0] == [False, False]
    assert solved(A, method(**few, x0=x0), structure)[0] == [True, False]
    assert solved(A, method(**few, x0_transposed=x0_transposed), structure)[0] == [False, True]
    ok, error = solved(A, method(**few, x0=x0, x0_transposed=x0_transposed), structure)
    assert ok == [True, True]
    assert error < 1e-4
    # a useless guess is no worse than none
    for useless in (np.zeros(D), vector(9)):
        ok, error = solved(A, method(rtol=1e-9, x0=useless, x0_transposed=useless), structure)
        assert ok == [True, True]
        assert error < 1e-5


MATRIX = jnp.asarray(symmetric(np.linspace(1, 50, D)))


def fit(theta, linear_solver, shift=0.0):
    """The minimum of a strongly convex function; ``shift`` moves its gradient."""

    def objective(x, theta, shift):
        return 0.5 * x @ MATRIX @ x + jnp.sum(jnp.cosh(x - theta)) + jnp.sum(shift * x)

    solver = dini.Newton(tol=1e-12)
    how = dini.Implicit(linear_solver=linear_solver)
    return dini.solve(dini.Minimize(objective), solver, jnp.zeros(D), theta, shift, differentiation=how).x


@pytest.mark.thorough
def test_arrays_of_a_linear_solver_are_constants_of_differentiation():
    """A preconditioner and a guess that depend on traced values, inside and outside of ``jit``, at each order."""
    theta, c = 0.1 * vector(), vector(2)
    truth = jax.grad(lambda t: c @ fit(t, None))(theta)

    def gradient(theta, scale):
        def loss(t):
            d = scale * jnp.diagonal(MATRIX) + jnp.sum(t**2)  # depends on what is differentiated
            return c @ fit(t, linear.CG(rtol=1e-12, preconditioner=lambda r: r / d, x0_transposed=c * jnp.sum(t)))

        return jax.grad(loss)(theta)

    np.testing.assert_allclose(gradient(theta, 1.0), truth, rtol=1e-7, atol=1e-10)
    np.testing.assert_allclose(jax.jit(gradient)(theta, 1.0), truth, rtol=1e-7, atol=1e-10)
    second = jax.jvp(jax.jit(gradient), (theta, 1.0), (c, 0.0))[1]
    expected = jax.jvp(jax.grad(lambda t: c @ fit(t, None)), (theta,), (c,))[1]
    np.testing.assert_allclose(second, expected, rtol=1e-6, atol=1e-9)
    scales = jnp.array([1.0, 2.0])
    batched = jax.vmap(gradient, (None, 0))(theta, scales)
    np.testing.assert_allclose(batched, np.stack([truth, truth]), rtol=1e-7, atol=1e-10)


@pytest.mark.thorough
def test_the_adjoint_of_the_last_outer_step_warms_the_next():
    """The gradient in a shift of the condition is the adjoint, up to its sign."""
    c = vector(2)

    def gradients(theta, linear_solver):
        return jax.grad(lambda t, s: c @ fit(t, linear_solver, s), (0, 1))(theta, jnp.zeros(D))

    theta = 0.1 * vector()
    _, adjoint = gradients(theta, None)
    nearby = theta + 1e-6 * vector(3)
    truth, _ = gradients(nearby, None)
    few = {"max_steps": 6, "rtol": 1e-7}
    with pytest.raises(Exception, match="not solved"):
        gradients(nearby, linear.CG(**few))
    warm, _ = gradients(nearby, linear.CG(**few, x0_transposed=adjoint))
    np.testing.assert_allclose(warm, truth, rtol=1e-4, atol=1e-7)


@pytest.mark.by_default(1)
@pytest.mark.parametrize("solver", [linear.BiCGStab(), linear.LSMR(), lineax.GMRES(rtol=1e-6, atol=1e-6)], ids=str)
def test_methods_of_other_libraries_take_unknowns_of_mixed_precision(solver):
    matrix = jnp.array([[2.0, 1.0, 0.5], [0.0, 4.0, 1.0], [0.3, 0.0, 3.0]])
    b = {"single": jnp.array(1.0, jnp.float32), "double": jnp.array([2.0, -1.0])}

    def product(w):
        out = matrix @ jnp.concatenate([w["single"][None].astype(float), w["double"]])
        return {"single": out[0].astype(jnp.float32), "double": out[1:]}

    w, back = jax.vjp(lambda b: linear.solve(product, b, solver=solver), b)
    (u,) = back(b)
    for got, A in ((w, matrix), (u, matrix.T)):
        want = np.linalg.solve(A, [1.0, 2.0, -1.0])
        assert got["single"].dtype == jnp.float32
        np.testing.assert_allclose([got["single"], *got["double"]], want, atol=1e-5)
    if isinstance(solver, linear.BiCGStab):
        told = dataclasses.replace(solver, preconditioner=lambda r: jax.tree.map(lambda a: a / 3, r), x0=w)
        again = linear.solve(product, b, solver=told)
        np.testing.assert_allclose([again["single"], *again["double"]], [w["single"], *w["double"]], atol=1e-5)


def test_settings_that_do_not_fit_are_refused():
    with pytest.raises(TypeError, match=r"linear_solver must be an object, such as CG\(\)"):
        dini.Implicit(linear_solver=linear.CG)
    problem = dini.Minimize(lambda x, a: jnp.sum((x - a) ** 2), constraint=dini.sets.NonNegative())
    how = dini.Implicit(linear_solver=linear.CG(preconditioner=lambda r: r))
    with pytest.raises(ValueError, match="does not apply"):
        jax.grad(lambda a: dini.solve(problem, dini.ProjectedGradient(), jnp.ones(3), a, differentiation=how).x[0])(1.0)
    with pytest.raises(TypeError, match="initial guess"):
        linear.solve(lambda w: 2 * w, jnp.ones(3), solver=linear.GMRES(x0=jnp.ones(4)))
    with pytest.raises(TypeError, match="value of the preconditioner"):
        linear.solve(lambda w: 2 * w, jnp.ones(3), solver=linear.GMRES(preconditioner=lambda r: r[:2]))


@pytest.mark.by_default(2)
@pytest.mark.parametrize("solver", [linear.BiCGStab(), linear.GMRES(), linear.CG(), linear.MINRES(), linear.LSMR()])
def test_a_right_hand_side_of_zero_has_the_solution_zero(solver):
    solve = jax.jit(lambda b: linear.solve(lambda w: 2.0 * w, b, structure="positive definite", solver=solver))
    np.testing.assert_array_equal(solve(jnp.zeros(3)), 0)


@pytest.mark.by_default(2)
@pytest.mark.parametrize("solver", [linear.BiCGStab(), linear.GMRES(), linear.CG(), linear.MINRES(), linear.Dense()])
def test_a_right_hand_side_of_nan_has_no_solution(solver):
    how = {"structure": "positive definite", "solver": solver, "on_failure": "ignore"}
    w = jax.jit(lambda b: linear.solve(lambda w: 2.0 * w, b, **how))(jnp.array([jnp.nan, 1.0, 2.0]))
    assert jnp.any(jnp.isnan(w))


@pytest.mark.by_default("solver0-1", "solver2-1", "solver3-1")
@pytest.mark.parametrize("size", [1, 5])
@pytest.mark.parametrize("solver", [linear.BiCGStab(), linear.GMRES(), linear.CG(), linear.MINRES(), linear.LSMR()])
def test_a_multiple_of_the_identity_is_solved(solver, size):
    """A method that has arrived after half of a step divides by what is left of the residual."""
    b = np.arange(1, size + 1, dtype=np.float32)
    for factor in (1.0, 3.0):
        A = lambda w, factor=factor: factor * w
        w = linear.solve(A, jnp.asarray(b), structure="positive definite", solver=solver)
        np.testing.assert_allclose(w, b / factor, rtol=1e-6)
