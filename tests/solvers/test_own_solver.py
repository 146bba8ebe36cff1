"""Solvers of every kind of problem, written from `docs/own-solver.md` alone, and their derivatives."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dini

A = np.array([1.0, 2.0])


class State(NamedTuple):
    error: Any


class WithStatus(NamedTuple):
    error: Any
    status: Any


@dini.solver
class Steepest(dini.Solver):
    """A setting that is an array, one that is static, and a point that is kept once it meets the test."""

    step_size: Any = 0.25
    max_steps: int = dataclasses.field(default=200, metadata={"static": True})

    def init(self, problem, x, *args):
        return State(jnp.inf)

    def step(self, problem, x, state, *args):
        gradient = problem.gradient(x, *args)
        kept = self.stops & (jnp.linalg.norm(gradient) <= 1e-9)
        return jnp.where(kept, x, x - self.step_size * gradient), State(jnp.linalg.norm(gradient))

    def differentiable_step(self, problem, x, state, *args):
        return x - self.step_size * problem.gradient(x, *args)


@dini.solver
class Proximal(Steepest):
    composite = True
    error_before_step = True

    def step(self, problem, x, state, *args):
        new = problem.prox(x - self.step_size * problem.gradient(x, *args), self.step_size)
        return new, State(jnp.linalg.norm(new - x) / self.step_size)


@dini.solver
class Normal(dini.Solver):
    max_steps: int = dataclasses.field(default=20, metadata={"static": True})

    solves = (dini.LeastSquares,)
    monotone = True

    def init(self, problem, x, *args):
        return WithStatus(jnp.inf, jnp.int32(dini.Status.RUNNING))

    def step(self, problem, x, state, *args):
        r, J = problem.residuals(x, *args), jax.jacobian(lambda u: problem.residuals(u, *args))(x)
        singular = jnp.linalg.det(J.T @ J) == 0
        status = jnp.where(singular, dini.Status.SINGULAR, dini.Status.RUNNING).astype(jnp.int32)
        new = x - jnp.linalg.solve(jnp.where(singular, jnp.eye(x.size), J.T @ J), J.T @ r)
        return new, WithStatus(jnp.linalg.norm(J.T @ r), status)


@dini.solver
class Secant(dini.Solver):
    max_steps: int = dataclasses.field(default=20, metadata={"static": True})

    solves = (dini.Root,)
    superlinear = True

    def init(self, problem, x, *args):
        return State(jnp.inf)

    def step(self, problem, x, state, *args):
        return self.differentiable_step(problem, x, state, *args), State(jnp.abs(problem.residual(x, *args)))

    def differentiable_step(self, problem, x, state, *args):
        slope = jax.jvp(lambda u: problem.residual(u, *args), (x,), (jnp.ones_like(x),))[1]
        return x - problem.residual(x, *args) / slope


@dini.solver
class Picard(dini.Solver):
    max_steps: int = dataclasses.field(default=100, metadata={"static": True})

    solves = (dini.FixedPoint,)
    error_before_step = True

    def init(self, problem, x, *args):
        return State(jnp.inf)

    def step(self, problem, x, state, *args):
        new = problem.map(x, *args)
        return new, State(jnp.linalg.norm(new - x))


@dini.solver
class Uzawa(dini.Solver):
    """Of saddle points: Arrow, Hurwicz and Uzawa's steps, forward and backward."""

    max_steps: int = dataclasses.field(default=2000, metadata={"static": True})

    solves = (dini.Composite,)
    composite = True
    gradient_only = True

    def init(self, problem, x, *args):
        return State(jnp.inf)

    def step(self, problem, pair, state, *args):
        x, y = pair
        new_x = x - 0.1 * (jax.grad(lambda u: problem.fun(u, *args))(x) + y)
        ahead = y + 0.1 * (2 * new_x - x)
        new_y = ahead - 0.1 * problem.outer.prox(ahead / 0.1, 1 / 0.1)
        error = jnp.sqrt(jnp.sum((new_x - x) ** 2) + jnp.sum((new_y - y) ** 2))
        return dini.PrimalDual(new_x, new_y), State(error)


def quadratic(x, a):
    return jnp.sum((x - a) ** 2)


def saddle(a):
    problem = dini.Composite(quadratic, dini.penalties.L1(1.0))
    return dini.solve(problem, Uzawa(rtol=1e-9), problem.start(jnp.zeros(2), a), a).x.primal


residuals = lambda x, a: jnp.concatenate([x - a, jnp.prod(x)[None] - jnp.prod(a)])
KINDS = {
    "minimum": (lambda a: dini.minimize(quadratic, jnp.zeros(2), a, solver=Steepest()).x, lambda a: a),
    "constrained": (
        lambda a: dini.minimize(quadratic, jnp.zeros(2), a, solver=Proximal(), constraint=dini.sets.Box(0.0, 1.5)).x,
        lambda a: jnp.clip(a, 0, 1.5),
    ),
    "residuals": (lambda a: dini.least_squares(residuals, jnp.ones(2), a, solver=Normal()).x, lambda a: a),
    "root": (lambda a: dini.root(lambda x, a: x**3 - a[1], 1.0, a, solver=Secant()).x, lambda a: a[1] ** (1 / 3)),
    "fixed point": (
        lambda a: dini.fixed_point(lambda x, a: 0.5 * jnp.cos(x) + a, jnp.zeros(2), a, solver=Picard(rtol=1e-12)).x,
        None,
    ),
    "saddle": (saddle, lambda a: jnp.sign(a) * jnp.maximum(jnp.abs(a) - 0.5, 0)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_solver_of_each_kind(kind):
    solve, closed = KINDS[kind]
    x, jacobian = jax.jit(lambda a: (solve(a), jax.jacrev(solve)(a)))(A)
    if closed is None:  # x = cos(x) / 2 + a
        np.testing.assert_allclose(x, 0.5 * np.cos(x) + A, atol=1e-9)
        want = np.diag(1 / (1 + 0.5 * np.sin(x)))
    else:
        np.testing.assert_allclose(x, closed(A), atol=1e-6)
        want = jax.jacobian(closed)(jnp.asarray(A))
    np.testing.assert_allclose(jacobian, want, atol=1e-5)


def test_the_modes_that_differentiate_steps():
    root = lambda a, mode: dini.root(lambda x, a: x**3 - a, 1.0, a, solver=Secant(), differentiation=mode).x
    one, all_of_them = jax.jit(lambda a: [jax.grad(root)(a, mode) for mode in (dini.OneStep(), dini.Unrolled())])(8.0)
    np.testing.assert_allclose([one, all_of_them], 1 / 12, rtol=1e-6)


def test_a_solver_that_must_not_keep_its_point_says_so_and_stays_so():
    """`fixed_steps` sets a field of the solver's: a copy by a map over its leaves is equal and behaves alike."""
    fixed = Steepest().fixed_steps()
    copy = jax.tree.map(lambda leaf: leaf, fixed)
    assert copy == fixed != Steepest()
    assert not copy.stops
    # from the solution on, ten steps contract the derivative's error to a thousandth; a point that is kept has none
    value = lambda a: (
        dini.minimize(
            quadratic, jnp.asarray(A), a, solver=Steepest(), differentiation=dini.Unrolled(steps=10), steps=10
        ).x
    )
    np.testing.assert_allclose(jax.jit(jax.jacobian(value))(A), (1 - 0.5**10) * np.eye(2), atol=1e-6)


def test_old_names_of_hooks_are_refused():
    with pytest.raises(TypeError, match=r"Mine defines untested.*Rename it to fixed_steps"):
        type("Mine", (dini.Solver,), {"untested": lambda self: self})
    assert type("Mine", (dini.Solver,), {"fixed_steps": lambda self: self})
    # a method that is no hook of a plain solver may have any name
    assert type("Mine", (dini.Solver,), {"renew": lambda self: self})


def test_settings_and_problems_that_do_not_fit():
    problem = dini.Minimize(quadratic, constraint=dini.sets.NonNegative())
    with pytest.raises(TypeError, match="Steepest cannot handle the constraint"):
        Steepest().init(problem, A, A)
    with pytest.raises(TypeError, match="Secant solves problems of the kinds Root"):
        dini.minimize(quadratic, jnp.zeros(2), A, solver=Secant())
    with pytest.raises(TypeError, match=r"Steepest has no argument 'stepsize'.*step_size"):
        Steepest(stepsize=0.1)
    with pytest.raises(dini.SolveError) as failed:
        dini.least_squares(lambda x, a: (x[0] + x[1] - a)[None], jnp.ones(2), 1.0, solver=Normal())
    assert failed.value.status == dini.Status.SINGULAR
