"""Hypergradients as the number of features grows: the data, the bars, the experiment."""

import sys
from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest
from outputs import assert_bars_met, assert_drawn, printed

import dini
from dini_zoo.implicit.svm_scaling import Data, Reading, Row, Size, contenders, peers, report, synthetic
from dini_zoo.implicit.svm_scaling.experiment import experiment
from dini_zoo.implicit.svm_scaling.measurement import own_gradient, residual
from dini_zoo.implicit.svm_scaling.solvers import (
    BLOCKS,
    IMPLICIT,
    MIRROR_DESCENT,
    OTHER,
    PEER,
    PROJECTED_GRADIENT,
    UNROLLED,
    Limits,
)
from dini_zoo.implicit.svm_scaling.study import Result, Settings
from dini_zoo.kit.data import Sample

NAMES = (MIRROR_DESCENT, PROJECTED_GRADIENT, BLOCKS)
LIMITS = Limits(mirror=40, projected=30, blocks=8)


def test_the_data_have_their_size_and_their_scale():
    data = synthetic(200, classes=5, train=70, validation=30)
    assert [sample.X.shape for sample in data] == [(70, 200), (30, 200)]
    whole = np.concatenate([sample.Y for sample in data])
    np.testing.assert_array_equal(whole.sum(axis=1), 1)
    assert whole.sum(axis=0).min() >= 15
    few, many = (synthetic(features, classes=5, train=700, validation=300).curvature for features in (100, 1000))
    assert few == pytest.approx(many, rel=0.2)
    assert data.curvature == pytest.approx(np.linalg.norm(data.train.X, 2) ** 2)


def test_the_residual_by_hand():
    # one point of length one and θ = 1: at the vertex of the wrong class the gradient is Y - X Xᵀ (Y - x) = (0, 1)
    sample = Sample(np.array([[1.0]]), np.array([[1.0, 0.0]]))
    data = Data(sample, sample)
    assert residual(jnp.array([[0.0, 1.0]]), jnp.array(0.0), data) == pytest.approx(np.sqrt(2) / 2)
    assert residual(jnp.array([[0.5, 0.5]]), jnp.array(0.0), data) == 0


def test_solvers_take_all_of_their_steps():
    found = contenders(NAMES, 0.1, LIMITS)
    assert [one.name for one in found] == list(NAMES)
    assert [one.steps for one in found] == [40, 30, 8]
    for one in found:
        assert one.solver.atol == 0
        assert one.ways[UNROLLED] == dini.Unrolled(steps=one.steps, checkpoint=False)
    assert [list(one.ways) for one in found] == [[IMPLICIT, OTHER, UNROLLED], *2 * [[IMPLICIT, UNROLLED]]]
    assert [one.name for one in contenders([BLOCKS], 0.1, LIMITS)] == [BLOCKS]


def test_without_jaxopt_there_are_no_peers(monkeypatch):
    monkeypatch.setitem(sys.modules, "jaxopt", None)
    assert peers(0.1, LIMITS) == {}


def reading(seconds, memory, **changes):
    return replace(Reading(1.0, 1e-7, 1e-8, [2 * seconds, seconds], memory, 0.5), **changes)


def result(**changes):
    implicit, unrolled = reading(1e-3, 10_000), reading(3e-3, 200_000)
    ways = {IMPLICIT: implicit, UNROLLED: replace(unrolled, **changes)}
    mirror = {IMPLICIT: implicit, OTHER: reading(1e-3, 10_000, error=0.1, residual=0.01), UNROLLED: unrolled}
    rows = [Row(MIRROR_DESCENT, 9, mirror), Row(BLOCKS, 3, ways)]
    peer = replace(rows[1], readings={**ways, PEER: reading(4e-3, 20_000)})
    sizes = [Size(100, 1.0, 1.0, 1e-4, [rows[0], peer]), Size(1000, 1.0, 1.0, 1e-4, rows)]
    return Result(Settings(), sizes)


def test_the_bars():
    assert [check.verdict for check in report.checks(result())] == ["met"] * 8
    changed = report.checks(result(times=[1e-3, 2e-3], memory=199_999))
    assert [check.quantity for check in changed if check.verdict != "met"] == [f"{BLOCKS}: time", f"{BLOCKS}: memory"]


def test_the_tables():
    found = result(checkpoint=True)
    text = printed(report.tables(found))
    assert text.count("unrolled *") == 2
    assert "0.75" in text  # unrolling beside JAXopt
    assert "-" in next(line for line in text.splitlines() if "JAXopt" in line and "0.75" in line)
    assert_drawn(experiment.draw(found))


@pytest.mark.slow
def test_peers_find_the_same_derivative():
    pytest.importorskip("jaxopt")
    from dini_zoo.implicit.svm_scaling.measurement import peer_gradient

    data = synthetic(20, classes=3, train=20, validation=10)
    step_size = float(np.exp(2)) / data.curvature
    own = contenders(NAMES, step_size, Limits(3000, 3000, 3000))
    for one, (name, solve) in zip(own, peers(step_size, Limits(3000, 3000, 3000)).items(), strict=True):
        assert one.name == name
        slopes = [own_gradient(data, 2.0, one.solver, one.ways[IMPLICIT]), peer_gradient(data, 2.0, solve)]
        np.testing.assert_allclose(*(program()[1] for program in slopes), rtol=1e-3)


@pytest.mark.slow
def test_the_bars_at_full_scale():
    found = assert_bars_met("svm-scaling", experiment)
    for size in found.sizes:
        for name in (PROJECTED_GRADIENT, BLOCKS):
            assert size.converged(size.row(name).readings[IMPLICIT])
        assert not size.converged(size.row(MIRROR_DESCENT).readings[IMPLICIT])
