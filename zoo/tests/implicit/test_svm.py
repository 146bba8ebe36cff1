"""The support vector machine: its parts against scikit-learn and finite differences, and the experiment."""

import jax.numpy as jnp
import numpy as np
import pytest
from outputs import assert_bars_met
from sklearn.svm import LinearSVC

import dini
from dini_zoo.implicit.support_vectors import (
    MIRROR,
    PROJECTED,
    accuracy,
    center,
    dual,
    hypergradient,
    squared_error,
    squared_hinge,
    tie_margin,
    validation_loss,
    weights,
)
from dini_zoo.implicit.svm import comparison, tuning
from dini_zoo.implicit.svm.experiment import experiment
from dini_zoo.implicit.svm.fista import FISTA
from dini_zoo.implicit.svm.solvers import BLOCKS, RESTARTED
from dini_zoo.implicit.svm.solvers import MIRROR as MIRROR_DESCENT
from dini_zoo.implicit.svm.study import Settings
from dini_zoo.kit.data import Sample, Split, digits

PRECISE = dini.ProjectedGradient(tol=1e-11, max_steps=50_000)


@pytest.fixture(scope="module")
def split():
    return digits(classes=3, train=30, validation=20)


@pytest.mark.parametrize("theta", [1.0, 30.0])
def test_the_dual_gives_the_machine_of_liblinear(split, theta):
    x = dini.solve(dual, PRECISE, center(split.train.Y), theta, *split.train).x
    peer = LinearSVC(
        multi_class="crammer_singer",
        C=1 / theta,
        fit_intercept=False,
        tol=1e-10,
        max_iter=1_000_000,
        random_state=0,
    )
    peer.fit(split.train.X, split.train.Y.argmax(axis=1))
    np.testing.assert_allclose(weights(x, theta, split.train), peer.coef_.T, atol=1e-6)
    assert accuracy(peer.coef_.T, split.test) == peer.score(split.test.X, split.test.Y.argmax(axis=1))


@pytest.mark.parametrize(
    "solver",
    [
        dini.BlockCoordinateDescent(tol=1e-10, max_steps=10_000),
        FISTA(30.0 / 400, tol=1e-8, max_steps=100_000),
        dini.MirrorDescent(step_size=1.0, tol=1e-6, max_steps=100_000),
    ],
    ids=lambda solver: solver.name,
)
def test_every_solver_finds_the_same_machine(split, solver):
    W = [
        weights(dini.solve(dual, one, center(split.train.Y), 30.0, *split.train).x, 30.0, split.train)
        for one in (solver, PRECISE)
    ]
    np.testing.assert_allclose(*W, atol=1e-6)


def test_the_tie_margin_is_the_smallest_multiplier(split):
    x = dini.solve(dual, PRECISE, center(split.train.Y), 30.0, *split.train).x
    gradient = dual.gradient(x, 30.0, *split.train)
    level = jnp.sum(x * gradient, axis=1, keepdims=True)
    multipliers = (gradient - level)[x == 0]
    np.testing.assert_allclose(tie_margin(x, 30.0, split.train), jnp.min(multipliers), rtol=1e-5)
    assert jnp.min(multipliers) > 0


def finite_difference(split, log_theta, direction, loss, width=1e-5):
    def value(t):
        return validation_loss(log_theta + t * direction, split.train, split.validation, PRECISE, loss=loss)[0]

    return (value(width) - value(-width)) / (2 * width)


ONE = (3.0, 1.0, squared_error)
BY_CLASS = (np.array([2.9, 3.1, 3.3]), np.array([0.3, -1.0, 0.5]), squared_hinge)


@pytest.mark.by_default("one, default", "by class, projected")
@pytest.mark.parametrize(
    ("log_theta", "direction", "loss", "differentiation"),
    [(*BY_CLASS, MIRROR), (*BY_CLASS, PROJECTED), (*ONE, dini.Implicit()), (*ONE, dini.Unrolled(steps=2000))],
    ids=["by class, mirror", "by class, projected", "one, default", "one, unrolled"],
)
def test_the_hypergradient_is_the_finite_difference(split, log_theta, direction, loss, differentiation):
    _, gradient = hypergradient(
        log_theta, split.train, split.validation, PRECISE, loss=loss, differentiation=differentiation
    )
    expected = finite_difference(split, log_theta, direction, loss)
    np.testing.assert_allclose(np.sum(gradient * direction), expected, rtol=1e-6)


@pytest.mark.by_default("projected")
@pytest.mark.parametrize("differentiation", [MIRROR, PROJECTED], ids=["mirror", "projected"])
def test_the_hypergradient_is_right_where_the_dual_is_not_unique(split, differentiation):
    # every training point twice: what the dual gives to one copy it may give to the other
    X, Y = split.train
    doubled = Split(Sample(np.concatenate([X, X]), np.concatenate([Y, Y])), split.validation, split.test)
    start = np.concatenate([np.eye(3)[np.zeros(30, int)], Y])
    (_, solution), gradient = hypergradient(
        3.0, doubled.train, doubled.validation, PRECISE, start, differentiation=differentiation
    )
    assert jnp.max(jnp.abs(solution.x[:30] - solution.x[30:])) > 0.01
    np.testing.assert_allclose(gradient, finite_difference(doubled, 3.0, 1.0, squared_error), rtol=1e-5)


@pytest.mark.thorough
def test_descent_finds_what_a_grid_finds(split):
    untuned, grid, descent, by_class = tuning.tune(
        split, squared_error, np.linspace(7, 0, 15), start=7.0, steps=15, class_steps=5
    )
    assert untuned.machine.log_theta == 0
    assert descent.value <= grid.value + 0.01
    # it starts where that ended
    assert by_class.value <= descent.value * (1 + 1e-12)
    assert grid.search.tried.shape == (15,)
    assert descent.search.tried.shape == (15,)
    assert by_class.search.tried.shape == (5, 3)
    assert descent.value == pytest.approx(min(descent.search.losses), abs=1e-4)


@pytest.mark.slow
def test_the_bars_at_full_scale():
    result = assert_bars_met("svm", experiment, Settings(ten_classes=True))
    for study in result.studies:
        check_comparison(study.comparison)
        for loss in study.landscape:
            untuned, grid, descent = (
                study.best(how, loss).value for how in (tuning.UNTUNED, tuning.GRID, tuning.DESCENT)
            )
            assert descent <= grid < untuned
    descent, by_class = (result.large.best(how, "squared hinge") for how in (tuning.DESCENT, tuning.BY_CLASS))
    assert by_class.value < descent.value
    assert by_class.machine.test > descent.machine.test


def check_comparison(found):
    """What converged is right, however it was differentiated; what did not is marked."""
    for name in (RESTARTED, BLOCKS):
        row = found.row(name)
        assert row.converged
        for cell in row.cells:
            assert cell.system_solved
            assert cell.error < 1e-6
        implicit, unrolled = (row.cell(way) for way in (comparison.PROJECTED_CONDITION, comparison.UNROLLED))
        assert implicit.memory < unrolled.memory / 20
    mirror = found.row(MIRROR_DESCENT)
    assert not mirror.converged
    assert mirror.residual > found.tie_margin
