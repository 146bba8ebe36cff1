"""Private bins: closed forms without noise, noise and bill, sensitivity, queries on them; the cut of sparse cells."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from dini_zoo.privacy.accounting import cdp_rho
from dini_zoo.privacy.ledger import ConcentratedRelease, GaussianRelease, Ledger
from dini_zoo.privacy.private_gsd import (
    Bandit,
    Categorical,
    Domain,
    Measurements,
    Real,
    Relaxed,
    Table,
    Union,
    binned_marginals,
    bins_share,
    categorical_marginals,
    fit_private_gsd,
    half_space_queries,
    measure_one_shot,
    mixed_marginals,
    private_bins,
)
from dini_zoo.privacy.private_gsd.bins import _answers

ONE = Domain.of({"x": Real()})
SMALL = Domain.of({"a": Categorical(3), "x": Real(-2, 6), "b": Categorical(2), "y": Real()})
KEY = jax.random.key(0)
#: Of zero-concentrated privacy: so much that noise is nothing.
HUGE = 1e12


def table_of(x):
    return Table(jnp.asarray(x)[:, None], ONE)


def grid(n):
    """Uniform, between the edges of all nodes."""
    return (jnp.arange(n) + 0.5) / n


# without noise


@pytest.mark.parametrize(("share", "count"), [(0.6, 2), (0.5, 2), (0.49, 4), (0.13, 8), (1 / 16, 16), (1 / 17, 32)])
def test_uniform_values_have_equal_bins(share, count):
    """As many as the least power of two that makes the shares small enough."""
    # the noise decides at a tie: a share that is a power of two is moved by less than one row
    bins = private_bins(KEY, table_of(grid(1024)), HUGE, share=share + 1e-6)
    np.testing.assert_array_equal(bins.edges["x"], np.linspace(0, 1, count + 1))
    np.testing.assert_allclose(bins.shares["x"], 1 / count, atol=1e-6)


def test_skewed_values_have_narrow_bins():
    """Values with the distribution function x^(1/4): by hand, and by recursion."""
    share = lambda low, high: high**0.25 - low**0.25
    # of [0, 2^-l] there are 2^(-l/4) of all; .3 < 2^(-l/4) until l = 6, and of [2^-l, 2^(1-l)] .16 at most
    bins = private_bins(KEY, table_of(grid(4000) ** 4), HUGE, share=0.3, depth=10)
    np.testing.assert_array_equal(bins.edges["x"], [0, *2.0 ** np.arange(-7, 1)])
    np.testing.assert_allclose(bins.shares["x"], share(bins.edges["x"][:-1], bins.edges["x"][1:]), atol=1e-3)

    def leaves(low, high, limit, depth):
        middle = 0.5 * (low + high)
        if depth == 0 or share(low, high) <= limit:
            return [low]
        return leaves(low, middle, limit, depth - 1) + leaves(middle, high, limit, depth - 1)

    for limit, depth in ((0.03, 10), (0.051, 7), (0.011, 5)):
        found = private_bins(KEY, table_of(grid(4000) ** 4), HUGE, share=limit, depth=depth)
        np.testing.assert_array_equal(found.edges["x"], [*leaves(0.0, 1.0, limit, depth), 1.0])
        # as quantiles are: no bin has more, but for the narrowest, and a node that was halved has more
        wide = np.diff(found.edges["x"]) > 2.0**-depth
        assert np.all(found.shares["x"][wide] <= limit)
        assert len(wide) <= 2 * depth / limit


@pytest.mark.parametrize("value", [0.0, 0.3, 0.5, 1.0])
def test_a_point_has_the_narrowest_bin(value):
    """Of halvings: `[i/32, (i+1)/32)` around it, the last one closed; its siblings on the way are empty."""
    bins = private_bins(KEY, table_of(jnp.full(500, value)), HUGE, share=0.5, depth=5)
    edges, shares = bins.edges["x"], bins.shares["x"]
    i = min(math.floor(value * 32), 31)
    at = int(np.argmax(shares))
    assert (edges[at], edges[at + 1]) == (i / 32, (i + 1) / 32)
    assert set(edges[:-1][shares < 0.5]) == {((i >> (5 - level)) ^ 1) / 2**level for level in range(1, 6)}
    np.testing.assert_allclose(shares[at], 1, atol=1e-6)
    np.testing.assert_allclose(np.delete(shares, at), 0, atol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.parametrize("unit", [1e-6, 1.0, 1e6])
def test_units_and_precision(dtype, unit):
    """Edges are multiples of a power of one half in either precision, and have the column's units."""
    domain = Domain.of({"x": Real(-2 * unit, 6 * unit)})
    values = unit * (8 * np.asarray(grid(2000))[:, None] ** 3 - 2)
    rows = Table.of(values, domain).rows.astype(dtype)
    bins = private_bins(KEY, Table(rows, domain), 10.0, share=0.1)
    expected = private_bins(KEY, table_of(grid(2000) ** 3), 10.0, share=0.1)
    np.testing.assert_array_equal(bins.edges["x"], expected.edges["x"])
    np.testing.assert_allclose(bins.shares["x"], expected.shares["x"], rtol=1e-12)
    np.testing.assert_allclose(bins.values["x"], unit * (8 * expected.edges["x"] - 2), rtol=1e-12, atol=1e-12 * unit)
    assert bins.values["x"][0] == -2 * unit
    assert bins.values["x"][-1] == pytest.approx(6 * unit, rel=1e-15)


# noise and its bill


@pytest.mark.parametrize(("names", "depth"), [("xa", 4), ("xy", 4), ("xyab", 8)])
def test_what_was_asked_for_is_spent(names, depth):
    """In sum, by levels and columns, whatever the tree: the last levels are paid for even if nothing is there."""
    table = Table(SMALL.uniform(KEY, (200,)), SMALL).select(names)
    columns = 1 + ("y" in names)
    for rho, share in ((0.01, 0.5), (0.3, 0.9), (0.3, 0.001)):
        bins = private_bins(KEY, table, rho, share=share, depth=depth)
        assert bins.ledger.rho == pytest.approx(rho, rel=1e-12)
        assert bins.ledger.neighbors == "replace_one"
        (release,) = bins.ledger.releases
        assert isinstance(release, GaussianRelease)
        assert release.count == columns * depth
        # the noise in units of the sensitivity is what the ledger has
        assert bins.sigma / (math.sqrt(2) / 200) == pytest.approx(release.multiplier, rel=1e-12)
        assert bins.sigma == pytest.approx(math.sqrt(columns * depth / rho) / 200, rel=1e-12)
        assert list(bins.edges) == [name for name in SMALL.select(names).names if name in "xy"]
    # each column gets as much as each workload
    assert bins_share(SMALL, 6) == pytest.approx(2 / 8)
    assert bins_share(SMALL.select("ab"), 6) == 0


def whole(table, rho, depth, key=KEY):
    """The noisy shares of all nodes of the last level: a tree with a threshold below all shares."""
    bins = private_bins(key, table, rho, share=1e-3, depth=depth)
    for name in bins.edges:
        np.testing.assert_array_equal(bins.edges[name], np.linspace(0, 1, 2**depth + 1))
    return bins


def test_the_noise_is_as_large_as_the_ledger_says():
    """Of two columns with the same values; both columns' noise, and that of two levels, are different draws."""
    domain = Domain.of({"x": Real(), "y": Real()})
    # noise of some two hundred rows, beside which rounding to whole ones is nothing
    table, rho = Table(jnp.stack([grid(2**16)] * 2, axis=1), domain), 2e-4
    bins = whole(table, rho, 6)
    z = np.stack([(bins.shares[name] - 1 / 64) / bins.sigma for name in "xy"])
    assert stats.kstest(z.ravel(), "norm").pvalue > 1e-3
    assert abs(np.std(z) - 1) < 4.5 / math.sqrt(2 * z.size)
    assert abs(np.mean(z[0] * z[1])) < 4.5 / 8
    other = whole(table, rho, 6, jax.random.key(1))
    assert np.mean(other.shares["x"] == bins.shares["x"]) < 0.1
    level = whole(table, rho, 5)
    z = (level.shares["x"] - 1 / 32) / level.sigma
    assert not np.any(np.isin(np.round(z, 6), np.round((bins.shares["x"] - 1 / 64) / bins.sigma, 6)))


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_no_neighbor_is_further_than_the_sensitivity(depth):
    """With the same noise, of each level: by `sqrt(2)/n` at most, which is attained."""
    n, draw = 256, np.random.default_rng(0)
    start = np.asarray(grid(n))
    before, norms = whole(table_of(start), 1e6, depth).shares["x"], []
    for i, value in zip(draw.integers(0, n, 25), draw.random(25), strict=True):
        after = whole(table_of(np.where(np.arange(n) == i, value, start)), 1e6, depth).shares["x"]
        norms.append(np.linalg.norm(after - before))
    assert max(norms) == pytest.approx(math.sqrt(2) / n, rel=1e-9)
    assert np.all(np.isclose(norms, 0, atol=1e-12) | np.isclose(norms, math.sqrt(2) / n, rtol=1e-9))


@pytest.mark.parametrize("sigma", [0.7, 12.6, 3e6])
def test_noisy_counts_leave_every_count_possible(sigma):
    """Normal numbers of single precision have gaps, which the last bits of a sum with them would show."""
    z = float(jax.random.normal(KEY, dtype=jnp.float32))
    answer = _answers(np.array([20_000]), sigma, np.array([z]))
    counts = np.unique(np.round(answer + sigma * np.linspace(-3, 3, 601)))
    # all of JAX's normal numbers near the one that would lead from a count to this answer: 2^23 uniform ones are mapped
    wanted = (answer - counts) / sigma
    place = np.round((special.erf(wanted / math.sqrt(2)) + 1) * 2**22) + np.arange(-3, 4)[:, None]
    uniform = (place / 2**22 - 1).astype(np.float32)
    normal = np.asarray(np.float32(math.sqrt(2)) * jax.lax.erf_inv(jnp.asarray(uniform)), float)
    possible = (_answers(counts, sigma, normal) == answer).any(axis=0)
    assert possible.all()
    # without rounding only the true one is, and one or another by chance
    assert (counts + sigma * normal == 20_000 + sigma * z).any(axis=0).sum() <= 3


def test_bins_depend_on_data_through_counts_alone():
    """Values that move within a node of the last level, or within a leaf, leave everything to the last digit."""
    draw = np.random.default_rng(1)
    x = draw.random(3000) ** 3
    bins = private_bins(KEY, table_of(x), 0.5, share=0.1, depth=6)
    cells = np.minimum(np.floor(x * 64), 63)
    leaf = np.searchsorted(bins.edges["x"], x, side="right") - 1
    low, high = bins.edges["x"][leaf], bins.edges["x"][leaf + 1]
    assert np.max(high - low) > 1 / 8
    within = lambda u: low + np.minimum(u, 0.999) * (high - low)
    for other in ((cells + 0.5) / 64, draw.permutation(x), within(draw.random(3000)), within(np.zeros(3000))):
        assert np.max(np.abs(other - x)) > 1e-3
        again = private_bins(KEY, table_of(other), 0.5, share=0.1, depth=6)
        np.testing.assert_array_equal(again.edges["x"], bins.edges["x"])
        np.testing.assert_array_equal(again.shares["x"], bins.shares["x"])
    # the bounds are the user's, wherever the values are; edges rise, and are multiples of the narrowest width
    for low, high in ((0.4, 0.6), (0.9, 0.91)):
        edges = private_bins(KEY, table_of(low + (high - low) * x), 0.5, share=0.1, depth=6).edges["x"]
        assert (edges[0], edges[-1]) == (0, 1)
        assert np.all(np.diff(edges) > 0)
        np.testing.assert_array_equal(edges * 64, np.round(edges * 64))


def test_a_small_budget_does_not_divide_what_is_empty():
    """Below three standard deviations nothing is halved: with a third of all or more as the noise there is one bin."""
    table = table_of(jnp.full(100, 0.1))
    bins = private_bins(KEY, table, 8 * (3 / 100) ** 2 * 0.999, share=0.1)
    assert bins.sigma > 1 / 3
    assert bins.edges["x"].tolist() == [0, 1]
    assert bins.shares["x"].tolist() == [1]
    # a bit more noise than the share: of empty halves, one of 740 is divided
    sigma = 0.02
    divided = 0
    for seed in range(100):
        found = private_bins(jax.random.key(seed), table, 2 * 3 / (100 * sigma) ** 2 / 2, share=0.01, depth=3)
        assert found.sigma == pytest.approx(sigma)
        divided += int(np.sum(found.edges["x"] > 0.5)) > 1
    assert divided <= 3


# queries on bins

EDGES = {"x": np.array([0, 0.125, 0.25, 1]), "y": np.array([0, 0.5, 0.75, 0.875, 1])}


def test_cells_are_those_of_the_edges():
    """By NumPy's digits; half-open, the last one closed."""
    rows = np.array(SMALL.uniform(KEY, (60,)))
    rows[:5, 1] = EDGES["x"][[0, 1, 2, 3, 1]]
    rows[:5, 3] = EDGES["y"]
    queries = binned_marginals(SMALL, EDGES)
    digit = {
        1: np.minimum(np.digitize(rows[:, 1], EDGES["x"]) - 1, 2),
        3: np.minimum(np.digitize(rows[:, 3], EDGES["y"]) - 1, 3),
    }
    digit |= {j: rows[:, j].astype(int) for j in (0, 2)}
    sizes = (3, 3, 2, 4)
    pairs = [(0, 1), (0, 3), (1, 2), (1, 3), (2, 3)]
    expected = np.stack([digit[i] * sizes[j] + digit[j] for i, j in pairs], axis=1)
    for dtype in (np.float32, np.float64):
        np.testing.assert_array_equal(queries.cell_index(jnp.asarray(rows, dtype)), expected)
    assert queries.sizes == (9, 12, 6, 12, 8)
    np.testing.assert_allclose(queries.l2_sensitivity(50), math.sqrt(2) / 50)
    assert all(queries.partitions)
    for level in range(5):
        assert queries.answers(jnp.asarray(rows))[queries.level_of == level].sum() == pytest.approx(1)
    # equal edges are the bins of equal width
    equal = binned_marginals(SMALL, {name: np.linspace(0, 1, 5) for name in "xy"})
    like = mixed_marginals(SMALL, bins=(4,))
    np.testing.assert_array_equal(equal.cell_index(rows), like.cell_index(rows))
    # and relaxed ones tend to the truth
    hard = Relaxed(
        tuple(jax.nn.one_hot(rows[5:, j].astype(int), SMALL.sizes[j]) for j in SMALL.categorical),
        jnp.asarray(rows[5:, [1, 3]]),
    )
    np.testing.assert_allclose(queries.soft_answers(hard, 1e7), queries.answers(jnp.asarray(rows[5:])), atol=1e-6)
    soft = hard._replace(probabilities=tuple(0.7 * one + 0.3 / one.shape[1] for one in hard.probabilities))
    np.testing.assert_allclose(queries.soft(soft, 3.0)[:, :9].sum(axis=1), 1, rtol=1e-12)
    np.testing.assert_allclose(equal.soft(soft, 3.0), like.soft(soft, 3.0), rtol=1e-10)


# the cut of sparse cells

FEW = Union(categorical_marginals(SMALL), mixed_marginals(SMALL, bins=(2, 4)), half_space_queries(KEY, SMALL, 4))


def test_the_largest_cells_are_those_of_numpy():
    """Of each level; with ties the first; all where there are no more; none of what was not measured."""
    draw = np.random.default_rng(0)
    noisy = np.round(draw.normal(size=FEW.num_queries), 1)
    measured = np.arange(FEW.num_workloads) % 3 != 1
    sigmas = np.where(measured, 1.0, np.inf)
    bill = Ledger((GaussianRelease("measurements", 1.0, 3),))
    ties = 0
    for count in (1, 3, 6, 1000):
        expected = np.zeros(FEW.num_queries, bool)
        for level, size in enumerate(FEW.sizes):
            start = FEW.offsets[level]
            cells = noisy[start : start + size]
            best = np.argsort(-cells, kind="stable")[:count]
            ties += len(best) < size and np.sort(cells)[-count - 1] == cells[best[-1]]
            expected[start + best] = measured[FEW.workloads[level]]
        for dtype in (jnp.float32, jnp.float64):
            measurements = Measurements(FEW, jnp.asarray(noisy, dtype), sigmas, bill)
            np.testing.assert_array_equal(measurements.largest(count), expected)
    assert ties
    assert expected.sum() == measurements.weights.sum() > 50
    # the smallest level has fewer cells than 6
    assert min(FEW.sizes) < 6 < max(FEW.sizes)
    with pytest.raises(ValueError, match="count must be at least 1: given 0"):
        measurements.largest(0)


def test_a_fit_with_all_of_it():
    """Bins are paid for by the promise; cells that are cut cost nothing, and count in no search."""
    rows = SMALL.uniform(jax.random.key(8), (300,))
    table = Table(rows.at[:, 1].set(rows[:, 1] ** 3), SMALL)
    rho = cdp_rho(1.0, 1e-5)
    bins = private_bins(jax.random.key(1), table, bins_share(SMALL, 5) * rho)
    queries = binned_marginals(SMALL, bins.edges)
    how = {"num_rows": 20, "generations": 60, "operators": Bandit(5)}
    fit = fit_private_gsd(KEY, table, queries, 1.0, 1e-5, spent=bins.ledger, largest=4, **how)
    assert fit.ledger.rho == pytest.approx(rho, rel=1e-12)
    assert fit.epsilon == pytest.approx(1.0, rel=1e-9)
    assert [one.rho for one in fit.ledger.releases] == pytest.approx([2 / 7 * rho, 5 / 7 * rho], rel=1e-12)
    np.testing.assert_allclose(fit.measurements.sigmas, math.sqrt(5 / (5 / 7 * rho)) / 300, rtol=1e-12)
    kept = np.asarray(fit.measurements.largest(4))
    assert kept.sum() == 20
    off = np.asarray(fit.measurements.targets() - queries.answers(fit.table.rows))
    assert float(fit.rounds[0].fitness[-1]) == pytest.approx(np.sum(off[kept] ** 2), rel=1e-9)
    assert fit.rounds[0].weights.shape == (4,)
    # in rounds, too
    fit = fit_private_gsd(KEY, table, queries, 1.0, 1e-5, "adaptive", rounds=2, per_round=2, spent=bins.ledger, **how)
    assert fit.ledger.rho == pytest.approx(rho, rel=1e-12)
    assert fit.ledger.releases[0] == bins.ledger.releases[0]


# bad input


def test_bad_input():
    table = table_of(grid(100))
    make = lambda rho=0.1, **how: private_bins(KEY, table, rho, **how)
    edges = lambda **how: binned_marginals(SMALL, EDGES | how)
    none = Table(jnp.zeros((5, 1)), Domain.of({"a": Categorical(2)}))
    queries = binned_marginals(ONE, {"x": np.array([0, 0.5, 1])}, 1)
    fit = lambda **how: fit_private_gsd(KEY, table, queries, 1.0, 1e-5, num_rows=5, generations=1, **how)
    rho = cdp_rho(1.0, 1e-5)
    bins = make()
    again = lambda **how: dataclasses.replace(bins, **how)
    for match, call in {
        "rho must be positive and finite: given nan": lambda: make(math.nan),
        "rho must be positive and finite: given -1": lambda: make(-1.0),
        "rho must be positive and finite: given 0": lambda: make(0.0),
        "rho must be positive and finite: given inf": lambda: make(math.inf),
        "rho must leave noise of": lambda: make(1e40),
        "rho must be one number": lambda: make(jnp.ones(2)),
        "share must be between 0 and 1": lambda: make(share=0.0),
        "share must be between 0 and 1, both excluded: given nan": lambda: make(share=math.nan),
        "depth must be at least 1": lambda: make(depth=0),
        "depth must be at most 20": lambda: make(depth=21),
        "table must have a real column": lambda: private_bins(KEY, none, 0.1),
        "workloads must be at least 1": lambda: bins_share(ONE, 0),
        "edges of the column 'y' must rise": lambda: edges(y=np.array([0, 0.5, 0.5, 1])),
        r"edges of the column 'y' must rise from 0 to 1: given \[0.1": lambda: edges(y=np.array([0.1, 1])),
        "column 'y' must rise from 0 to 1: given ": lambda: edges(y=np.array([0, math.nan, 1])),
        r"must rise from 0 to 1: given \[0. 2.\]": lambda: edges(y=np.array([0, 2.0])),
        r"edges must be of the real columns \['x', 'y'\]: given \['x', 'y', 'a'\]": lambda: edges(a=np.array([0, 1.0])),
        "edges must be of the real columns": lambda: binned_marginals(SMALL, {"x": EDGES["x"]}),
        "A column must be one of a, x, b, y: given 'z'": lambda: edges(z=np.array([0, 1.0])),
        "at least k = 5 columns: given 4": lambda: binned_marginals(SMALL, EDGES, 5),
        "rows must be finite": lambda: queries.cell_index(jnp.array([[jnp.nan]])),
        "domain must have a real column": lambda: binned_marginals(SMALL.select("ab"), {}),
        "edges and shares must be of the real columns": lambda: again(shares={}),
        r"shares\['x'\] must have the shape of its bins": lambda: again(shares={"x": np.ones(99)}),
        "shares must be finite": lambda: again(shares={"x": np.nan * bins.shares["x"]}),
        "sigma must be positive": lambda: again(sigma=0.0),
        "ledger must have the release": lambda: again(ledger=Ledger()),
        "largest must be at least 1": lambda: fit(largest=0),
        "spent must have cost less than the budget, a rho of .*: given 1": lambda: fit(
            spent=Ledger((ConcentratedRelease("all", 1.0),))
        ),
        "spent must have cost less": lambda: fit(spent=Ledger((ConcentratedRelease("all", rho),))),
        "spent must have cost less than the budget.* inf": lambda: fit(spent=Ledger((GaussianRelease("all", 0.0),))),
        "spent must be for tables with one row replaced": lambda: fit(spent=Ledger((), "add_or_remove_one")),
    }.items():
        with pytest.raises(ValueError, match=match):
            call()
    # where it cannot be looked at, nothing is released
    with pytest.raises(TypeError, match="rho and table must be known"):
        jax.jit(lambda rho: private_bins(KEY, table, rho).shares["x"])(0.1)
    with pytest.raises(TypeError, match="rho and table must be known"):
        jax.jit(lambda x: private_bins(KEY, Table(x, ONE), 0.1).shares["x"])(table.rows)
    assert measure_one_shot(KEY, table, queries, 0.1).ledger.rho == pytest.approx(0.1)
