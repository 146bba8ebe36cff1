"""Derivatives in several modes, central differences, estimates."""

import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import dini
from dini_zoo.kit.measure import compile_program, fastest, side_by_side
from dini_zoo.kit.modes import compare, cosine, difference_error, distance
from dini_zoo.kit.seeds import Estimate, Paired


@pytest.mark.thorough  # seconds of compilation: `.ci/run` runs it
def test_modes_are_set_beside_the_truth():
    # the root of x² = a, whose derivative is 1 / (2 √a)
    def value(a, mode):
        return jnp.sum(dini.fixed_point(lambda x, a: x - 0.2 * (x**2 - a), a, a, differentiation=mode).x)

    at = jnp.array([2.0, 3.0])
    truth = 0.5 / np.sqrt(at)
    ways = compare(value, {"implicit": dini.Implicit(), "zero": dini.JacobianFree()}, at, truth=truth, rounds=2)
    assert ways["implicit"].error < 1e-6 < ways["zero"].error
    assert ways["implicit"].cosine == pytest.approx(1)
    assert [len(way.times) for way in ways.values()] == [2, 2]
    compiled = jax.jit(lambda a: value(a, dini.Implicit()))
    assert difference_error(compiled, truth, at, key=jax.random.key(0)) < 1e-6
    assert difference_error(compiled, 1.1 * truth, at, key=jax.random.key(0)) == pytest.approx(0.1, rel=1e-3)


def test_distances_of_trees():
    one, other = {"a": jnp.array([3.0, 0.0]), "b": jnp.array(4.0)}, {"a": jnp.array([3.0, 0.0]), "b": jnp.array(0.0)}
    assert distance(one, other) == pytest.approx(4 / 3)
    assert cosine(one, other) == pytest.approx(0.6)


def test_programs_are_timed_in_turns():
    calls = []
    programs = [lambda name=name: calls.append(name) for name in "ab"]
    assert len(fastest(programs, rounds=3)) == 2
    assert "".join(calls) == "ababab"
    calls.clear()
    fastest([lambda: time.sleep(0.01), lambda: calls.append("b")], rounds=100, patience=0.0)
    assert calls == ["b"]


def test_a_program_tells_what_dini_warned_of():
    def run(x):
        return dini.solve(
            dini.FixedPoint(lambda x: 0.9 * x), dini.FixedPointIteration(max_steps=2), x, on_failure="warn"
        )

    solution, messages = compile_program(run, jnp.asarray(1.0)).run_and_listen()
    assert solution.status == dini.Status.MAX_STEPS
    assert len(messages) == 1
    assert "FixedPointIteration" in messages[0]


def test_the_interval_is_students():
    values = np.random.default_rng(0).normal(size=7)
    found = Estimate.of(values)
    low, high = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((low, high))
    assert Estimate.of(values, normal=True).width == pytest.approx(1.96 * values.std(ddof=1) / np.sqrt(7))
    assert Estimate.of(values, scale=100).mean == pytest.approx(100 * values.mean())
    assert f"{Estimate.of([1.5])}" == "1.50"
    with pytest.raises(ValueError, match="at least one value"):
        Estimate.of([])


def test_paired_differences_drop_what_seeds_have_in_common():
    seeds = np.array([0.0, 10.0, 20.0, 30.0])
    found = Paired.of(seeds + np.array([1.0, 1.1, 0.9, 1.0]), seeds)
    assert (found.wins, found.losses, found.clear) == (4, 0, True)
    assert f"{found:.2f}" == "+1.00 ± 0.13"
    assert not Paired.of([1.0, 2.0, 3.0], [2.0, 1.0, 3.0]).clear
    with pytest.raises(ValueError, match="shorter"):
        Paired.of([1.0, 2.0], [1.0])


@pytest.mark.parametrize("double", [True, False])
def test_side_by_side_keeps_order_and_precision(double):
    with jax.enable_x64(double):
        found = side_by_side(lambda n: jnp.asarray(float(n)), range(5))
    assert [int(one) for one in found] == list(range(5))
    assert {one.dtype for one in found} == {jnp.dtype("float64" if double else "float32")}
