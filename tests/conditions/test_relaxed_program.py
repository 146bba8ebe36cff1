"""Relaxed complementarity: the point of the central path, and the derivative there, beside independent truths."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

import dini
from dini.conditions import RelaxedKKT

N, M, P = 4, 1, 3
NAMES = ("Q", "c", "A", "b", "G", "h", "lower", "upper")


def program(seed):
    """Return a feasible program with all kinds of constraints: one bound is missing, one unknown is held."""
    rng = np.random.default_rng(seed)
    x, half = rng.standard_normal(N), rng.standard_normal((N, N))
    A, G = rng.standard_normal((M, N)), rng.standard_normal((P, N))
    lower, upper = x - rng.uniform(0.1, 1, N), x + rng.uniform(0.1, 1, N)
    lower[3], upper[1], lower[2] = -np.inf, np.inf, x[2]
    upper[2] = x[2]
    h = G @ x + np.array([0.1, 0.2, np.inf])
    data = (half @ half.T, 3 * rng.standard_normal(N), A, A @ x, G, h, lower, upper)
    return {name: jnp.asarray(part) for name, part in zip(NAMES, data, strict=True)}


def on_path(data, mu):
    problem = dini.QuadraticProgram(**data)
    solution = dini.quadratic_program(**jax.lax.stop_gradient(data), solver=dini.ActiveSet(), on_failure="ignore")
    return RelaxedKKT(mu).point(problem, problem.start(solution.x, solution.multipliers))


def derived(data, mu, along):
    """Return the solution and its derivative along a direction, in forward mode, and all gradients in reverse."""
    mode = dini.Implicit(condition=RelaxedKKT(mu))

    def solve(data):
        found = dini.quadratic_program(**data, solver=dini.ActiveSet(), differentiation=mode)
        return found.x, found.multipliers

    forward = jax.jvp(solve, (data,), (along,))
    reverse = jax.grad(lambda data: jnp.sum(solve(data)[0] * jnp.arange(1.0, N + 1)))(data)
    return forward, reverse


points, derivatives = jax.jit(jax.vmap(on_path, (0, 0))), jax.jit(jax.vmap(derived, (0, 0, 0)))
stacked = lambda programs: jax.tree.map(lambda *parts: jnp.stack(parts), *programs)


def test_the_point_is_the_minimum_with_a_barrier():
    """Of the objective with logarithms of all slacks, by SciPy on the equalities' null space."""
    mus = np.array([1e-1, 1e-3])
    found = points(stacked([program(0), program(0)]), jnp.asarray(mus))
    data = {name: np.asarray(part) for name, part in program(0).items()}
    held = np.vstack([data["A"], np.eye(N)[2:3]])
    free = np.linalg.svd(held)[2][2:].T
    x0 = np.linalg.lstsq(held, np.append(data["b"], data["lower"][2]), rcond=None)[0]
    for i, mu in enumerate(mus):

        def barrier(t, mu=mu):
            x = x0 + free @ t
            s = np.concatenate([(data["h"] - data["G"] @ x)[:2], (data["upper"] - x)[[0, 3]], (x - data["lower"])[:2]])
            if s.min() <= 0:
                return np.inf
            return 0.5 * x @ data["Q"] @ x + data["c"] @ x - mu * np.log(s).sum()

        start = free.T @ (np.asarray(found.primal[i]) - x0)
        best = scipy.optimize.minimize(barrier, start, method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-14})
        assert barrier(start) <= best.fun + 1e-12
        np.testing.assert_allclose(found.primal[i], x0 + free @ best.x, atol=1e-6)
        z, slack = found.dual.inequality[i], data["h"] - data["G"] @ found.primal[i]
        np.testing.assert_allclose((z * slack)[:2], mu, rtol=1e-6)
        assert z[2] == 0


def test_derivatives_are_those_of_differences_of_the_relaxed_point():
    """In all data, of the point and of the multipliers; reverse mode is the transpose."""
    data = stacked([program(1), program(2), program(1)])
    mus, rng = jnp.array([1e-2, 1e-3, 1e-1]), np.random.default_rng(3)
    along = {name: jnp.asarray(rng.standard_normal(part.shape)) for name, part in data.items()}
    # an unknown that is held stays held
    along["upper"] = along["upper"].at[:, 2].set(along["lower"][:, 2])
    ((x, _), (dx, dw)), gradient = derivatives(data, mus, along)
    move = lambda t: points(jax.tree.map(lambda u, du: u + t * du, data, along), mus)
    ahead, back = move(1e-6), move(-1e-6)
    change = jax.tree.map(lambda a, b: (a - b) / 2e-6, ahead, back)
    np.testing.assert_allclose(dx, change.primal, rtol=1e-6, atol=1e-6)
    for ours, truth in zip(dw, change.dual, strict=True):
        np.testing.assert_allclose(ours, truth, rtol=1e-5, atol=1e-5)
    pulled = sum(np.nansum(np.asarray(gradient[name] * along[name]).reshape(3, -1), axis=1) for name in NAMES)
    np.testing.assert_allclose(pulled, dx @ np.arange(1.0, N + 1), rtol=1e-9, atol=1e-9)
    exact = jax.jit(jax.vmap(lambda data: dini.quadratic_program(**data).x))(data)
    np.testing.assert_allclose(x, exact, atol=1e-12)


@pytest.mark.parametrize("units", [1e-6, 1.0, 1e6])
def test_a_weakly_active_bound_in_any_units(units):
    """Of min (x - p)^2 / 2, x >= 0 the path is x = (p + sqrt(p^2 + 4 mu)) / 2; the second derivative is its own."""
    mu = 1e-3 * units**2

    def solve(p):
        mode = dini.Implicit(condition=RelaxedKKT(mu))
        one = dini.quadratic_program(Q=jnp.eye(1), c=-p[None], lower=0.0, solver=dini.ActiveSet(), differentiation=mode)
        return one.x[0]

    p = units * jnp.array([0.0, 0.01, -0.02, 1.0, -1.0])
    first, second = jax.jit(jax.vmap(lambda p: (jax.grad(solve)(p), jax.grad(jax.grad(solve))(p))))(p)
    root = np.sqrt(np.asarray(p) ** 2 + 4 * mu)
    np.testing.assert_allclose(first, 0.5 * (1 + p / root), rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(second, 2 * mu / root**3, rtol=1e-6, atol=1e-9 / units)


def test_more_constraints_than_unknowns_meet():
    """A degenerate vertex, whose exact system is singular: three rows meet in the plane, and two of them are equal."""
    G = jnp.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [1.0, 1.0]])
    problem = lambda h: {"c": -jnp.array([1.0, 1.5]), "G": G, "h": h, "lower": -5.0}
    mu, h = 1e-3, jnp.array([1.0, 1.0, 2.0, 2.0])

    @jax.jit
    def jacobian(h):
        mode = dini.Implicit(condition=RelaxedKKT(mu))
        return jax.jacobian(lambda h: dini.quadratic_program(**problem(h), differentiation=mode).x)(h)

    @jax.jit
    def point(h):
        full = dini.QuadraticProgram(**problem(h))
        found = dini.quadratic_program(**problem(h))
        return RelaxedKKT(mu).point(full, full.start(found.x, found.multipliers)).primal

    moved = [(point(h.at[i].add(1e-6)) - point(h.at[i].add(-1e-6))) / 2e-6 for i in range(4)]
    np.testing.assert_allclose(jacobian(h), np.stack(moved, axis=1), atol=1e-5)


def test_what_has_no_central_path_is_no_derivative():
    """Two inequalities that leave nothing inside."""
    mode = dini.Implicit(condition=RelaxedKKT(1e-3))
    G = jnp.array([[1.0], [-1.0]])
    solve = lambda h: dini.quadratic_program(Q=jnp.eye(1), G=G, h=h, solver=dini.ActiveSet(), differentiation=mode).x[0]
    with pytest.raises(dini.DerivativeError):
        jax.grad(solve)(jnp.array([1.0, -1.0]))


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="RelaxedKKT's mu must be"):
        RelaxedKKT(0.0)
    mode = dini.Implicit(condition=RelaxedKKT(1.0))
    with pytest.raises(TypeError, match="condition of a QuadraticProgram"):
        jax.grad(lambda a: dini.minimize(lambda x, a: (x - a) ** 2, 0.0, a, differentiation=mode).x)(1.0)
