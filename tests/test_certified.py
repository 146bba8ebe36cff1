"""Certificates: estimates against true errors, one verdict a lane, the policy, and all problems and modes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dini
from dini.certified import Verdict

IGNORE = {"on_failure": "ignore"}


def loss(x, a, b):
    return jnp.sum(jnp.cosh(x - a)) + 0.5 * b * jnp.sum(x**2) + 0.1 * jnp.sum(x[:-1] * x[1:]) ** 2


def lasso(x, A, y):
    return 0.5 * jnp.sum((A @ x - y) ** 2)


# NumPy's arrays: JAX's own would be of single precision here, outside the tests
A = np.random.default_rng(0).standard_normal((8, 4))
y = np.random.default_rng(1).standard_normal(8)
a, b = np.array([0.5, -1.0, 2.0]), np.asarray(0.7)

PROBLEMS = {
    "smooth": (dini.Minimize(loss), dini.Newton(tol=1e-9), np.zeros(3), (a, b)),
    "least squares": (
        dini.LeastSquares(lambda x, a, b: jnp.concatenate([jnp.sinh(x - a), b * x**2])),
        dini.LevenbergMarquardt(tol=1e-9, max_steps=200),
        np.zeros(3),
        (a, b),
    ),
    "lasso": (
        dini.Minimize(lasso, penalty=dini.penalties.L1(0.8)),
        dini.ProximalGradient(tol=1e-11, max_steps=5000),
        np.zeros(4),
        (A, y),
    ),
    "simplex": (
        dini.Minimize(lasso, constraint=dini.sets.Simplex()),
        dini.ProjectedGradient(tol=1e-11, max_steps=5000),
        np.ones(4) / 4,
        (A, y),
    ),
    "root": (
        dini.Root(lambda x, a, b: x + 0.3 * jnp.sin(jnp.roll(x, 1)) - b * a),
        dini.Newton(tol=1e-12),
        np.zeros(3),
        (a, b),
    ),
    "fixed point": (
        dini.FixedPoint(lambda x, a, b: 0.5 * jnp.cos(x) * b + a),
        dini.Anderson(tol=1e-12),
        np.zeros(3),
        (a, b),
    ),
}


def direction(tree, seed=0):
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda u: jnp.asarray(rng.standard_normal(jnp.shape(u))), tree)


def solved(name):
    problem, solver, init, args = PROBLEMS[name]
    return problem, dini.solve(problem, solver, init, *args).x, args


def relative(got, want):
    got, want = (np.concatenate([np.ravel(u) for u in jax.tree.leaves(t)]) for t in (got, want))
    return np.linalg.norm(got - want) / np.linalg.norm(want)


@pytest.mark.by_default("smooth", "lasso")
@pytest.mark.parametrize("name", PROBLEMS)
def test_at_a_solution(name):
    """The same derivatives as the road's, called reliable, whose estimated error is small."""
    problem, solver, init, args = PROBLEMS[name]
    problem, x, args = solved(name)
    tangents, cotangent = direction(args), direction(x, 1)
    dx, forward = dini.certified.jvp(problem, x, args, tangents)
    gradient, reverse = dini.certified.vjp(problem, x, args, cotangent)
    every = tuple(range(len(args)))
    solution = lambda *args: dini.solve(problem, solver, init, *args).x
    jacobians = jax.jit(jax.jacobian(solution, argnums=every))(*args)
    along = [np.tensordot(J, t, t.ndim) for J, t in zip(jacobians, tangents, strict=True)]
    assert relative(dx, sum(along)) < 1e-9
    assert relative(gradient, [np.tensordot(cotangent, J, 1) for J in jacobians]) < 1e-9
    for certificate in (forward, reverse):
        assert certificate.reliable
        assert 0 < certificate.error < 1e-6
        assert certificate.residual < 1e-9
        assert certificate.linear_residual < 1e-12
        assert certificate.solution_error < 1e-8
        assert (certificate.margin > 1e-3) == True  # noqa: E712 (an array)
    jacobian, certificate = dini.certified.jacobian(problem, x, args)
    assert relative(jacobian, jacobians[0]) < 1e-9
    assert certificate.reliable


@pytest.mark.by_default(1)
@pytest.mark.parametrize("factor", [1e-4, 1e-6])
def test_a_krylov_solver_sees_the_way_along_the_flat_direction(factor):
    """Nearly all of the residual lies across a valley, nearly all of the way to the solution along it."""
    steep = jnp.linspace(1, 2, 8)

    def valley(x, a):
        flat = x[-1] - 1
        return 0.5 * jnp.sum(steep * x[:-1] ** 2) + factor * (0.5 * flat**2 + 0.2 * flat**4 - a * x[-1])

    problem, a, one = dini.Minimize(valley), jnp.asarray(0.0), jnp.asarray(1.0)
    point, along = jnp.append(1e-3 * jnp.ones(8), 1.15), jnp.append(jnp.zeros(8), 1.0)
    how = {"differentiation": dini.Implicit(linear_solver=dini.linear.CG()), **IGNORE}
    for (got, certificate), want in (
        (dini.certified.jvp(problem, point, (a,), (one,), **how), along),
        (dini.certified.vjp(problem, point, (a,), along, **how), (one,)),
    ):
        true = relative(got, want)
        assert true == pytest.approx(0.051, abs=0.001)
        assert true < certificate.error < 2 * true
        assert certificate.verdict == Verdict.UNCONVERGED
        assert certificate.solution_error == pytest.approx(0.15, rel=0.1)


def test_nothing_is_known_where_newtons_method_goes_astray():
    """x^5 + 1e-4 x = p at x = 0: the step to 1e4 makes the residual 1e20 times larger."""
    problem = dini.Root(lambda x, p: x**5 + 1e-4 * x - p)
    _, certificate = dini.certified.jvp(problem, jnp.asarray(0.0), (1.0,), (1.0,), **IGNORE)
    assert certificate.error == jnp.inf
    assert certificate.verdict == Verdict.UNCONVERGED
    # at a solution the same happens at the level of rounding, and means nothing
    _, certificate = dini.certified.jvp(problem, jnp.asarray(1e-200), (1e-204,), (1.0,))
    assert certificate.error < 1e-12


@pytest.mark.by_default(1)
@pytest.mark.parametrize(
    "linear_solver",
    [dini.linear.CG(), dini.linear.GMRES(), dini.linear.Diagonal(), lambda matvec, b: b / matvec(jnp.ones_like(b))],
)
def test_rounding_errors_that_all_evaluations_share_are_not_forgotten(linear_solver):
    """In float32, (1 + q)^2 - 1 for q = 1.5e-7 is a quarter off, in the same way wherever it is evaluated."""
    q, p = jnp.asarray([1.5e-7, 0.3, 0.5], jnp.float32), jnp.ones(3, jnp.float32)
    problem = dini.Minimize(lambda x, p: 0.5 * jnp.sum(((1 + q) ** 2 - 1) * x**2) - p @ x)
    x, want = p / ((1 + q) ** 2 - 1), 1 / ((1 + np.asarray(q, float)) ** 2 - 1)
    how = {"differentiation": dini.Implicit(linear_solver=linear_solver), **IGNORE}
    for function, along in ((dini.certified.jvp, (p,)), (dini.certified.vjp, p)):
        got, certificate = function(problem, x, (p,), along, **how)
        got = got[0] if function is dini.certified.vjp else got
        assert relative(got, want) > 0.2
        assert certificate.verdict != Verdict.RELIABLE


def test_a_truncated_direction_is_not_forgotten():
    """The shortest derivative of a matrix that is singular to float32 leaves out what float64 would see."""
    rng = np.random.default_rng(0)
    Q, R = (np.linalg.qr(rng.standard_normal((12, 12)))[0] for _ in range(2))
    A = jnp.asarray(Q * np.geomspace(1, 1e-7, 12) @ R, jnp.float32)
    problem, one = dini.Root(lambda x, p: A @ x - p * jnp.ones_like(x)), jnp.ones((), jnp.float32)
    x = jnp.asarray(np.linalg.solve(np.asarray(A, float), np.ones(12)), jnp.float32)
    how = {"differentiation": dini.Implicit(linear_solver=dini.linear.MinimumNorm()), **IGNORE}
    _, certificate = dini.certified.vjp(problem, x, (one,), jnp.asarray(rng.standard_normal(12), jnp.float32), **how)
    assert certificate.verdict != Verdict.RELIABLE


@pytest.mark.by_default("1e-06-smooth", "1e-06-lasso", "0.001-smooth", "0.001-lasso")
@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize("distance", [1e-6, 1e-3])
def test_the_estimated_error_is_the_true_one(name, distance):
    """Near a solution: the estimate is at least the true error and not much more."""
    problem, x, args = solved(name)
    tangents, cotangent = direction(args), direction(x, 1)
    near = jax.tree.map(lambda u, d: u + distance * d, x, direction(x, 2))
    for function, along in ((dini.certified.jvp, tangents), (dini.certified.vjp, cotangent)):
        want, _ = function(problem, x, args, along)
        got, certificate = function(problem, near, args, along, **IGNORE)
        true = relative(got, want)
        assert true <= certificate.error <= 10 * true + 1e-12
    step = np.linalg.norm(distance * np.asarray(direction(x, 2)))
    assert 0.8 * step < certificate.solution_error < 1.3 * step


def test_condition_number():
    rng = np.random.default_rng(0)
    Q = np.linalg.qr(rng.standard_normal((6, 6)))[0]
    H = jnp.asarray(Q * np.geomspace(1, 1e-5, 6) @ Q.T)
    problem = dini.Minimize(lambda x, y: 0.5 * x @ (0.5 * (H + H.T)) @ x - y @ x)
    args = (jnp.ones(6),)
    x = jnp.linalg.solve(H, args[0])
    for linear_solver in (None, dini.linear.CG()):
        how = dini.Implicit(linear_solver=linear_solver)
        _, certificate = dini.certified.vjp(problem, x, args, jnp.ones(6), differentiation=how)
        assert 0.5e5 < certificate.condition < 1.01e5


def verdict(certificate):
    return Verdict(int(certificate.verdict))


@pytest.mark.thorough  # seconds of compilation: `.ci/run` runs it
def test_verdicts():
    ones = jnp.ones(2)
    # stopped early
    problem = dini.Minimize(lambda x, a: jnp.sum((x - a) ** 2) + jnp.sum(x**4))
    x = dini.solve(problem, dini.GradientDescent(max_steps=2), jnp.zeros(2), ones, **IGNORE).x
    _, certificate = dini.certified.vjp(problem, x, (ones,), ones, **IGNORE)
    assert verdict(certificate) == Verdict.UNCONVERGED
    # the solution of another problem
    constrained = dini.Minimize(lambda x, a: jnp.sum((x - a) ** 2), constraint=dini.sets.Simplex())
    _, certificate = dini.certified.vjp(constrained, 2 * ones, (2 * ones,), jnp.array([1.0, 0.0]), **IGNORE)
    assert verdict(certificate) == Verdict.UNCONVERGED
    # singular
    flat = dini.Minimize(lambda x, a: 0.5 * (x[0] + x[1] - a) ** 2)
    _, certificate = dini.certified.vjp(flat, 0.5 * ones, (jnp.ones(()),), ones, **IGNORE)
    assert verdict(certificate) == Verdict.ILL_CONDITIONED
    # too few steps of an iterative solver
    H = jnp.diag(jnp.geomspace(1, 1e3, 30))
    quadratic = dini.Minimize(lambda x, a: 0.5 * x @ H @ x - a @ x)
    x = 1 / jnp.diagonal(H)
    hasty = dini.Implicit(linear_solver=dini.linear.CG(max_steps=3))
    _, certificate = dini.certified.vjp(quadratic, x, (jnp.ones(30),), x, differentiation=hasty, **IGNORE)
    assert verdict(certificate) == Verdict.LINEAR_SOLVE
    # not a number
    _, certificate = dini.certified.vjp(quadratic, x, (jnp.ones(30),), x * jnp.nan, **IGNORE)
    assert verdict(certificate) == Verdict.NONFINITE


def bound(x, p):
    return jnp.sum((x - p) ** 2)


SETS = {
    "nonnegative": dini.sets.NonNegative(),
    "unknown distance": dini.sets.Custom(lambda x: jnp.maximum(x, 0)),
    "unknown distance, where": dini.sets.Custom(lambda x: jnp.where(x > 0, x, 0)),
}


@pytest.mark.parametrize("name", SETS)
def test_a_weakly_active_bound_is_a_tie(name):
    """Trap 13: min (x - p)^2, x >= 0 at p = 0 has the one-sided derivatives 0 and 1."""
    problem = dini.Minimize(bound, constraint=SETS[name])
    for p, want, expected in (
        (0.0, None, Verdict.TIE),
        (1.0, 1.0, Verdict.RELIABLE),
        (-1.0, 0.0, Verdict.RELIABLE),
    ):
        x, args = jnp.array([max(p, 0.0), 3.0]), (jnp.array([p, 3.0]),)
        (gradient,), certificate = dini.certified.vjp(problem, x, args, jnp.array([1.0, 0.0]), **IGNORE)
        assert verdict(certificate) == expected
        if want is not None:
            np.testing.assert_allclose(gradient, [want, 0.0])
        if name == "nonnegative":
            # the argument of the projection is p itself: the condition's step size is 1/L
            np.testing.assert_allclose(certificate.margin, abs(p))
        else:
            assert jnp.isnan(certificate.margin)


@pytest.mark.thorough
def test_a_kink_in_a_plane_of_a_simple_equation_is_seen():
    """Of an intersection of curved sets no distance is known: p lies in the plane that bounds the halfspace."""
    constraint = dini.sets.Intersection([dini.sets.L2Ball(10.0), dini.sets.Halfspace(jnp.ones(2), 0.0)])
    problem = dini.Minimize(bound, constraint=constraint)
    for p, expected in (([1.0, -1.0], Verdict.TIE), ([1.0, -1.1], Verdict.RELIABLE), ([1.1, -1.0], Verdict.RELIABLE)):
        p = jnp.asarray(p)
        for along in ([1.0, 1.0], [1.0, -1.0]):
            x = constraint.project(p)
            _, certificate = dini.certified.jvp(problem, x, (p,), (jnp.asarray(along),), **IGNORE)
            assert verdict(certificate) == expected


@pytest.mark.by_default("each")
@pytest.mark.parametrize("linear_solver", [dini.linear.Dense(), dini.linear.CG(), dini.linear.GMRES()])
@pytest.mark.parametrize("multiplier", [1e-5, 1e-4, 1e-3])
def test_a_step_that_was_solved_for_roughly_does_not_hide_another_face(linear_solver, multiplier):
    """x1 is off, and with it the gradient in x2, whose bound is active at the solution: dx/dt is (0.01, 0) there."""
    Q = jnp.array([[100.0, 1.0], [1.0, 1.0]])
    constraint = dini.sets.Box(jnp.array([-1e3, -1e3]), jnp.array([1e3, 2.0]))
    problem = dini.Minimize(lambda x, t, b: 0.5 * x @ Q @ x - (b + t) @ x, constraint=constraint)
    solution = jnp.array([1.0, 2.0])
    b = Q @ solution + jnp.array([0.0, multiplier])
    how = {"differentiation": dini.Implicit(linear_solver=linear_solver), **IGNORE}
    for off in (3e-1, 1e-1, 1e-2, 1e-3, 0.0):
        x, args = solution + jnp.array([off, 0.0]), (jnp.zeros(()), b)
        dx, certificate = dini.certified.jvp(problem, x, args, (jnp.ones(()), 0 * b), **how)
        right = relative(dx, np.array([0.01, 0.0])) < 1e-2
        assert right or not certificate.reliable
        if off == 0:
            assert right
            assert certificate.reliable


@pytest.mark.parametrize("center", [0.0, 300.0, 1e4])
def test_the_two_cycle_of_newtons_method_is_no_solution(center):
    """Of arctan, Newton's method jumps from 1.39 to -1.39, where the derivative is the same."""
    problem = dini.Root(lambda x, t: jnp.arctan(x - center) - t)
    for off in (1.391745200270735, -1.391745200270735, 1.0):
        x = jnp.asarray(center + off)
        _, certificate = dini.certified.jvp(problem, x, (jnp.zeros(()),), (jnp.ones(()),), **IGNORE)
        assert verdict(certificate) == Verdict.UNCONVERGED


@pytest.mark.parametrize("center", [1.0, 1e3])
def test_an_unknown_far_larger_than_the_parameters(center):
    """In single precision, a derivative of one is not lost beside a solution of 1,000 and a parameter of 1e-3."""
    t, center = jnp.asarray(1e-3, jnp.float32), jnp.asarray(center, jnp.float32)
    problem = dini.Root(lambda x, t: jnp.sinh(x - center) - t)
    got, certificate = dini.certified.jvp(problem, center + 0.5, (t,), (jnp.ones_like(t),), **IGNORE)
    assert relative(got, 1.0) > 0.1
    assert verdict(certificate) == Verdict.UNCONVERGED


@pytest.mark.parametrize("mode", ["jvp", "vjp"])
def test_an_element_in_a_larger_unit_than_the_others(mode):
    """An element that is all wrong, and a millionth of the others, is no solution; a solution of zero is one."""
    units = jnp.asarray([1.0, 1.0, 1e-6])
    problem = dini.Minimize(lambda x, a: jnp.sum((x / units - a) ** 2))

    @jax.jit
    def verdict(x, a):
        if mode == "jvp":
            return dini.certified.jvp(problem, x, (a,), (1.0,), on_failure="ignore")[1].verdict
        return dini.certified.vjp(problem, x, (a,), jnp.ones(3), on_failure="ignore")[1].verdict

    for x, a, want in (
        ([1.0, 1.0, 0.0], 1.0, Verdict.UNCONVERGED),
        ([1.0, 1.0, 2e-6], 1.0, Verdict.UNCONVERGED),
        ([1.0, 1.0, 1e-6], 1.0, Verdict.RELIABLE),
        ([1.0, 1.0, 1.001e-6], 1.0, Verdict.RELIABLE),
        ([1e-17, 0.0, 1e-20], 0.0, Verdict.RELIABLE),
    ):
        assert verdict(jnp.asarray(x), a) == want, x


def test_messages_and_the_policy():
    problem = dini.Minimize(bound, constraint=dini.sets.NonNegative())
    args = (jnp.zeros(1),)
    with pytest.raises(dini.DerivativeError, match=r"Minimize\(bound\) .* TIE.* kink .*on_failure=\"ignore\""):
        dini.certified.vjp(problem, jnp.zeros(1), args, jnp.ones(1))
    with pytest.warns(dini.SolveWarning, match="TIE"):
        dini.certified.jvp(problem, jnp.zeros(1), args, (jnp.ones(1),), on_failure="warn")
    (gradient,), _ = dini.certified.vjp(problem, jnp.zeros(1), args, jnp.ones(1), on_failure="nan")
    assert jnp.isnan(gradient).all()


def test_one_verdict_a_lane():
    """Under jit and vmap; the other lanes' derivatives are those of a lone call."""
    problem = dini.Minimize(bound, constraint=dini.sets.NonNegative())
    p = jnp.array([[1.0], [0.0], [-1.0]])
    x = jnp.maximum(p, 0)
    run = jax.jit(jax.vmap(lambda x, p: dini.certified.vjp(problem, x, (p,), jnp.ones(1))))
    (gradient,), certificate = run(x, p)
    np.testing.assert_array_equal(certificate.verdict, [Verdict.RELIABLE, Verdict.TIE, Verdict.RELIABLE])
    np.testing.assert_array_equal(gradient[:, 0], [1.0, np.nan, 0.0])
    assert certificate.message.startswith("The solution is at a kink")


@pytest.mark.by_default(1)
@pytest.mark.parametrize("mode", [dini.Unrolled(steps=3), dini.Unrolled(steps=400), dini.OneStep()])
def test_other_modes_are_judged_by_the_implicit_derivative(mode):
    """A derivative from elsewhere: its estimated error is its distance from the exact one."""
    problem, _, init, args = PROBLEMS["fixed point"]
    solver = dini.FixedPointIteration(tol=1e-13)
    outer = lambda x, a, b: jnp.sum(x**2) + b * jnp.sum(a)
    exact = jax.grad(lambda a: outer(dini.solve(problem, solver, init, a, args[1]).x, a, args[1]))(args[0])
    _, gradient, certificate = dini.certified.value_and_grad(
        outer, problem, solver, init, *args, differentiation=mode, **IGNORE
    )
    true = relative(gradient, exact)
    assert 0.5 * true - 1e-12 <= certificate.error <= 10 * true + 1e-9
    assert certificate.reliable == (certificate.error <= 1e-2)


def test_value_and_grad_sees_how_the_loss_changes():
    """At an inexact solution the loss's own gradient is at the wrong point, too."""
    problem = dini.Minimize(lambda x, a: 0.5 * jnp.sum((x - a) ** 2))
    outer = lambda x, a: jnp.sum(jnp.exp(x))
    a = jnp.array([1.0, 2.0])
    solver = lambda problem, init, a: a + 1e-3
    _, gradient, certificate = dini.certified.value_and_grad(outer, problem, solver, a, a, **IGNORE)
    true = relative(gradient, jnp.exp(a))
    assert true > 5e-4
    assert true <= certificate.error <= 10 * true
    # the plain vjp is given its cotangent and does not know that it is wrong
    x = a + 1e-3
    _, certificate = dini.certified.vjp(problem, x, (a,), jnp.exp(x), **IGNORE)
    assert certificate.error < 1e-10


@pytest.mark.thorough
def test_certified_derivatives_are_the_plain_ones():
    """In both modes, to second order, under vmap."""
    how = dini.Implicit(certify=True)
    problem, solver, init, args = PROBLEMS["smooth"]
    fit = lambda how: lambda a: jnp.sum(dini.solve(problem, solver, init, a, args[1], differentiation=how).x ** 2)
    plain = dini.Implicit()
    both = lambda how: jax.jit(lambda a: (jax.jacfwd(fit(how))(a), *jax.vjp(jax.grad(fit(how)), a)))
    forward, gradient, pull = both(how)(args[0])
    want, _, pull_plain = both(plain)(args[0])
    np.testing.assert_allclose(forward, want, rtol=1e-8)
    np.testing.assert_allclose(gradient, want, rtol=1e-8)
    np.testing.assert_allclose(pull(gradient)[0], pull_plain(gradient)[0], rtol=1e-8)


@pytest.mark.thorough  # seconds of compilation: `.ci/run` runs it
def test_certify_is_the_policy_of_every_derivative():
    """In both modes, under vmap."""
    how = dini.Implicit(certify=True)
    bounded = dini.Minimize(bound, constraint=dini.sets.NonNegative())
    project = lambda p: dini.solve(bounded, dini.ProjectedGradient(), jnp.ones(1), p, differentiation=how).x[0]
    with pytest.raises(dini.DerivativeError, match="TIE"):
        jax.block_until_ready(jax.grad(project)(jnp.zeros(1)))
    with pytest.raises(dini.DerivativeError, match="TIE"):
        jax.block_until_ready(jax.jvp(project, (jnp.zeros(1),), (jnp.ones(1),)))
    for derivative in (jax.grad, jax.jacfwd):
        lanes = jax.vmap(derivative(project))(jnp.array([[1.0], [0.0], [-1.0]]))
        np.testing.assert_array_equal(lanes[:, 0], [1.0, np.nan, 0.0])


def test_bad_input():
    problem, x, args = solved("smooth")
    with pytest.raises(TypeError, match="tangents must have the structure of args"):
        dini.certified.jvp(problem, x, args, (args[0],))
    with pytest.raises(TypeError, match="pass it as `derivative`"):
        dini.certified.jvp(problem, x, args, args, differentiation=dini.OneStep())
    with pytest.raises(TypeError, match="derivative must have the structure"):
        dini.certified.jvp(problem, x, args, args, derivative=jnp.ones(2))
    with pytest.raises(ValueError, match="argnums must name some of the 2 arguments"):
        dini.certified.vjp(problem, x, args, x, argnums=2)
    with pytest.raises(TypeError, match="x must be a floating-point"):
        dini.certified.vjp(problem, jnp.arange(3), args, x)
