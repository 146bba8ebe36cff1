"""Steps by hand: compiled outside of traces, plain inside; solvers of a user's own as dini's."""

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
    key: Any


@dini.solver
class Descent(dini.Solver):
    """A user's own, whose Python runs once a program."""

    tol: Any = None
    max_steps: int = dataclasses.field(default=100, metadata={"static": True})

    def init(self, problem, x, *args):
        return State(jnp.inf, jax.random.key(0))

    def step(self, problem, x, state, *args):
        RUNS.append(type(x))
        gradient = problem.gradient(x, *args)
        return x - 0.25 * gradient, State(jnp.linalg.norm(gradient), state.key)


RUNS: list[Any] = []


def objective(x, a):
    return jnp.sum((x - a) ** 2)


def walk(solver, problem, x, *args):
    state, count = solver.init(problem, x, *args), 0
    while not state.error <= 1e-6:
        x, state = solver.step(problem, x, state, *args)
        count += 1
    return x, state, count


def test_own_solver_is_traced_once_for_all_steps():
    RUNS.clear()
    # a Python number as a start, and the infinity of `init`, have weak types: no program of their own
    x, _, count = walk(Descent(), dini.Minimize(objective), 0.0, 1.0)
    assert count > 10
    assert len(RUNS) == 1
    np.testing.assert_allclose(x, 1.0, atol=1e-6)
    # an equal solver, and a problem made anew of the same function
    walk(Descent(), dini.Minimize(objective), 0.0, 1.0)
    assert len(RUNS) == 1
    # another tolerance is data
    walk(Descent(tol=1e-3), dini.Minimize(objective), 0.0, 1.0)
    assert len(RUNS) <= 2


def test_inside_a_trace_steps_are_plain():
    problem, solver = dini.Minimize(objective), Descent()

    def loop(a):
        x, state = jnp.zeros(2), solver.init(problem, jnp.zeros(2), a)
        for _ in range(40):
            x, state = solver.step(problem, x, state, a)
        return x

    RUNS.clear()
    jacobian = jax.jacobian(loop)(A)
    assert len(RUNS) == 40
    np.testing.assert_allclose(jacobian, np.eye(2), atol=1e-6)
    program = str(jax.make_jaxpr(lambda x, s: dini.LBFGS().step(problem, x, s, A))(A, dini.LBFGS().init(problem, A, A)))
    assert "name=run" not in program  # no program inside of the program


def test_steps_by_hand_are_those_of_a_solve():
    problem, solver = dini.Minimize(lambda x, a: jnp.sum((x - a) ** 2) + jnp.sum(x**4)), dini.LBFGS(tol=1e-6)
    x, state, count = walk(solver, problem, jnp.zeros(2), A)
    solution = dini.solve(problem, solver, jnp.zeros(2), A)
    assert count == solution.stats.steps
    np.testing.assert_allclose(x, solution.x, rtol=1e-12)
    jitted = jax.jit(solver.step)(problem, x, state, A)
    np.testing.assert_allclose(jitted[0], solver.step(problem, x, state, A)[0], rtol=1e-12)


def test_what_no_program_takes_is_called_as_it_is():
    class NoPytree(dini.Solver):
        tol, max_steps = None, 10

        def init(self, problem, x, *args):
            return State(jnp.inf, None)

        def step(self, problem, x, state, *args):
            return x - 0.25 * problem.gradient(x, *args), state

    problem = dini.Minimize(objective)
    x, _ = NoPytree().step(problem, 0.0, NoPytree().init(problem, 0.0, 1.0), 1.0)
    assert float(x) == 0.5
    named = dini.Minimize(lambda x, a, how: jnp.sum((x - a) ** 2) if how == "square" else None)
    x, _ = Descent().step(named, jnp.zeros(2), State(jnp.inf, None), A, "square")
    np.testing.assert_allclose(x, 0.5 * A)
    with jax.disable_jit():
        x, _ = Descent().step(problem, jnp.zeros(2), State(jnp.inf, None), A)
    np.testing.assert_allclose(x, 0.5 * A)


def test_checks_speak_through_the_program():
    with pytest.raises(TypeError, match="init must be a floating-point"):
        dini.LBFGS().init(dini.Minimize(objective), 1, 1.0)
    with pytest.raises(TypeError, match=r"init\['w'\] must be a floating-point"):
        dini.LBFGS().init(dini.Minimize(objective), {"w": "text"}, 1.0)
    with pytest.raises(TypeError, match="LBFGS solves problems of the kinds"):
        dini.LBFGS().init(dini.Root(lambda x: x), 1.0)


def test_a_fixed_number_of_steps_stays_one():
    """What is no field of a solver travels to its program, too."""
    problem, x = dini.FixedPoint(lambda x: 0.5 * x), jnp.array([1e-3])
    solver = dini.FixedPointIteration(tol=1.0)
    for tested in (solver, solver.fixed_steps()):
        state = tested.init(problem, x)
        expected = jax.jit(lambda x, s, t=tested: t.step(problem, x, s))(x, state)[0]
        np.testing.assert_allclose(tested.step(problem, x, state)[0], expected)
