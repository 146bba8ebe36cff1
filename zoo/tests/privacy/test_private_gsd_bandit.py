"""The bandit over operators: its weights by hand, what its families draw, exact gains of changes of two rows."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from dini_zoo.privacy.private_gsd import (
    Bandit,
    Categorical,
    Domain,
    Operators,
    Real,
    Union,
    categorical_marginals,
    genetic_search,
    half_space_queries,
    mixed_marginals,
    search,
)
from dini_zoo.privacy.private_gsd.bandit import operators, uniform

SMALL = Domain.of({"a": Categorical(3), "x": Real(-2, 6), "b": Categorical(2), "y": Real(), "c": Categorical(1)})
FEW = Union(
    categorical_marginals(SMALL), mixed_marginals(SMALL, bins=(2, 4)), half_space_queries(jax.random.key(1), SMALL, 4)
)
FAMILIES = ("mutate", "crossover", "swap", "quantiles")


def rows_of(key, n, domain=SMALL):
    return domain.uniform(jax.random.key(key), (n,))


@pytest.fixture(scope="module")
def targets():
    with jax.enable_x64(True):
        return FEW.answers(rows_of(7, 400) ** 2)


# weights


def by_hand(k, script, rate=0.1, exploration=0.05):
    """Weights of arms after `(arm, reward)`s, by their logarithms: the differences in double precision."""
    logs = np.zeros(k)
    for arm, reward in script:
        w = np.exp(logs - logs.max())
        p = (1 - exploration) * w[arm] / w.sum() + exploration / k
        logs[arm] += rate * reward / p
    w = np.exp(logs - logs.max())
    return w / w.sum(), logs - logs.max() - math.log(w.sum())


def played(bandit, k, script, dtype):
    """The same by the library, in a compiled loop."""
    arms, rewards = (jnp.array(one) for one in zip(*script, strict=True))
    one = lambda logs, now: (bandit.rewarded(logs, now[0], now[1].astype(dtype)), bandit.probabilities(logs))
    start = jnp.full(k, -math.log(k), dtype)
    return jax.jit(lambda: jax.lax.scan(one, start, (arms, rewards)))()


def test_one_success_and_one_failure():
    """In figures: of four arms at 1/4 each the second succeeds, and its weight is multiplied by exp(.1 / .25)."""
    bandit = Bandit()
    logs, before = played(bandit, 4, [(1, 1.0), (0, 0.0), (2, 1.0)], jnp.float64)
    np.testing.assert_allclose(before[0], 0.25, rtol=1e-15)
    w = math.exp(0.4) / (3 + math.exp(0.4))
    np.testing.assert_allclose(before[1][1], 0.95 * w + 0.0125, rtol=1e-14)
    # a failure moves nothing
    np.testing.assert_allclose(before[2], before[1], rtol=1e-15)
    p = 0.95 / (3 + math.exp(0.4)) + 0.0125
    np.testing.assert_allclose(logs[2] - logs[0], 0.1 / p, rtol=1e-13)
    np.testing.assert_allclose(jnp.exp(logs).sum(), 1, rtol=1e-14)


def test_an_arm_without_weight_that_succeeds_has_all_of_it():
    """An increment beyond single precision is no infinity."""
    logs = Bandit(rate=10.0, exploration=0.0).rewarded(jnp.array([0.0, -200.0, 0.0], jnp.float32), 1, 1.0)
    np.testing.assert_array_equal(jnp.exp(logs), [0, 1, 0])


@pytest.mark.parametrize(("dtype", "tolerance"), [(jnp.float32, 2e-4), (jnp.float64, 1e-10)])
def test_weights_of_a_script(dtype, tolerance):
    """Also after 2000 successes of one arm, when another one's weight is below what single precision holds."""
    draw = np.random.default_rng(0)
    script = [(int(i), float(r)) for i, r in zip(draw.integers(0, 3, 60), draw.integers(0, 2, 60), strict=True)]
    for how in ({}, {"rate": 0.02, "exploration": 0.5}):
        logs, _ = played(Bandit(**how), 3, script, dtype)
        assert logs.dtype == dtype
        np.testing.assert_allclose(jnp.exp(logs), by_hand(3, script, **how)[0], atol=tolerance)
    script = [(0, 1.0)] * 2000 + [(1, 1.0)] * 2
    logs, _ = played(Bandit(), 3, script, dtype)
    expected = by_hand(3, script)[1]
    assert expected[2] < math.log(np.finfo(np.float32).smallest_subnormal)
    np.testing.assert_allclose(logs, expected, rtol=tolerance)
    # two successes at a probability of .05/3
    assert logs[1] - logs[2] == pytest.approx(2 * 0.1 / (0.05 / 3), rel=10 * tolerance)
    # a family that is hardly drawn any more comes back when it alone succeeds: 207 = 2000 * .1 / .967 in steps of 6
    script += [(1, 1.0)] * 40
    after, _ = played(Bandit(), 3, script, dtype)
    np.testing.assert_allclose(jnp.exp(after), by_hand(3, script)[0], atol=10 * tolerance)
    assert Bandit().probabilities(after)[1] > 0.5


def test_the_better_arm_is_found():
    """Of arms that succeed with probability .1, .5, .1, in each of 20 runs; with equal ones none is far ahead."""
    bandit = Bandit()

    def run(key, chances):
        def one(logs, key):
            pick, luck = jax.random.split(key)
            arm = jax.random.categorical(pick, jnp.log(bandit.probabilities(logs)))
            success = jax.random.bernoulli(luck, chances[arm])
            return bandit.rewarded(logs, arm, success.astype(logs.dtype)), arm

        return jax.lax.scan(one, jnp.full(3, -math.log(3)), jax.random.split(key, 600))

    keys = jax.random.split(jax.random.key(0), 20)
    logs, arms = jax.jit(jax.vmap(run, (0, None)))(keys, jnp.array([0.1, 0.5, 0.1]))
    assert np.all(jnp.exp(logs[:, 1]) > 0.99)
    late = np.asarray(arms[:, 300:])
    share = np.mean(late == 1)
    # 95 % of the rest, and a third of the exploration
    assert abs(share - (0.95 + 0.05 / 3)) < 4.5 * math.sqrt(0.034 * 0.966 / late.size)
    _, arms = jax.jit(jax.vmap(run, (0, None)))(keys, jnp.zeros(3))
    assert stats.chisquare(np.bincount(np.asarray(arms).ravel(), minlength=3)).pvalue > 1e-4


# families


def drawn(name, rows, domain=SMALL, candidates=4000, **how):
    bandit = Bandit(candidates=candidates, **how)
    at, new = operators(bandit, domain)[bandit.families(domain).index(name)](
        uniform(jax.random.key(3), bandit, rows), rows
    )
    assert at.shape == (candidates, 2)
    assert new.shape == (candidates, 2, rows.shape[1])
    assert new.dtype == rows.dtype
    return np.asarray(at), np.asarray(new)


def first_rows(at, new, rows):
    """The row that is changed, before and after; there is no second one."""
    assert np.all(at[:, 1] >= len(rows))
    return np.asarray(rows)[at[:, 0]], new[:, 0]


def test_mutations_draw_columns_by_the_logarithm_of_their_size():
    domain = Domain.of({"a": Categorical(16), "x": Real(), "b": Categorical(2), "c": Categorical(1)})
    rows = jnp.full((50, 4), jnp.array([3, 0.123, 0, 0]))
    old, new = first_rows(*drawn("mutate", rows, domain, quantiles=8), rows)
    changed = old != new
    assert changed.sum(axis=1).max() == 1
    # 15 of 16 values are others; of two values one is; a real one always is: log 16, log 8, log 2 of 8 log 2
    shares = np.array([4 / 8 * 15 / 16, 3 / 8, 1 / 8 / 2, 0])
    counts = changed.sum(axis=0)
    assert counts[3] == 0
    observed, expected = np.append(counts[:3], 4000 - counts.sum()), 4000 * np.append(shares[:3], 1 - shares.sum())
    assert stats.chisquare(observed, expected).pvalue > 1e-4
    values = np.bincount(new[changed[:, 0], 0].astype(int), minlength=16)
    assert values[3] == 0
    assert stats.chisquare(np.delete(values, 3)).pvalue > 1e-4
    assert stats.kstest(new[changed[:, 1], 1], "uniform").pvalue > 1e-4


def test_crossovers_copy_one_or_two_categories():
    """Of rows whose categories all differ: what is changed is another row's."""
    domain = Domain.of({"a": Categorical(20), "x": Real(), "b": Categorical(20), "c": Categorical(20)})
    i = jnp.arange(20.0)
    rows = jnp.stack([i, i / 20, i, i], axis=1)
    at, new = drawn("crossover", rows, domain)
    old, new = first_rows(at, new, rows)
    changed = old != new
    assert not changed[:, 1].any()
    donors = np.where(changed, new, -1).max(axis=1)
    some = changed.any(axis=1)
    assert np.all(np.where(changed, new == donors[:, None], True))
    assert stats.chisquare(np.bincount(donors[some].astype(int), minlength=20)).pvalue > 1e-4
    # one or two with equal chances, any pair alike; one of 20 donors is the row itself
    numbers = np.bincount(changed.sum(axis=1), minlength=4)
    assert numbers[3] == 0
    assert stats.chisquare(numbers[:3], 4000 * np.array([0.05, 0.475, 0.475])).pvalue > 1e-4
    two = changed[changed.sum(axis=1) == 2][:, [0, 2, 3]]
    assert stats.chisquare(np.sum(~two, axis=0)).pvalue > 1e-4
    # a single categorical column
    alone = domain.select(["a", "x"])
    old, new = first_rows(*drawn("crossover", rows[:, :2], alone), rows[:, :2])
    assert set((old != new).sum(axis=1)) == {0, 1}
    assert not (old != new)[:, 1].any()


def test_swaps_exchange_one_value():
    rows = rows_of(4, 12)
    at, new = drawn("swap", rows)
    old = np.asarray(rows)[at]
    assert np.all(at[:, 0] != at[:, 1])
    assert np.all(at < 12)
    assert (
        stats.chisquare(np.bincount(12 * at[:, 0] + at[:, 1], minlength=144)[~np.eye(12, dtype=bool).ravel()]).pvalue
        > 1e-4
    )
    changed = old != new
    assert changed.sum(axis=2).max() == 1
    np.testing.assert_array_equal(changed[:, 0], changed[:, 1])
    # as sets, the two values of each column are what they were
    np.testing.assert_array_equal(np.sort(new, axis=1), np.sort(old, axis=1))
    assert changed.any(axis=(0, 1)).tolist() == [True, True, True, True, False]
    # a table of one row has nothing to exchange
    at, new = drawn("swap", rows[:1])
    old, new = first_rows(at, new, rows[:1])
    np.testing.assert_array_equal(old, new)


def test_real_values_are_drawn_between_quantiles():
    """The interpolated distribution function of 5 quantiles makes them uniform."""
    rows = rows_of(5, 301).at[:, 3].set(jnp.linspace(0.2, 0.8, 301) ** 3)
    old, new = first_rows(*drawn("quantiles", rows, quantiles=5), rows)
    changed = old != new
    assert changed.any(axis=0).tolist() == [False, True, False, True, False]
    assert changed.sum(axis=1).max() == 1
    levels = np.linspace(0, 1, 5)
    for j in (1, 3):
        values = new[changed[:, j], j]
        assert abs(len(values) - 2000) < 4.5 * math.sqrt(1000)
        edges = np.quantile(np.asarray(rows[:, j]), levels)
        assert stats.kstest(np.interp(values, edges, levels), "uniform").pvalue > 1e-4
        # which a uniform law is not
        assert j == 1 or stats.kstest(values, "uniform", (edges[0], edges[-1] - edges[0])).pvalue < 1e-6


def test_families_of_a_domain():
    assert Bandit().families(SMALL) == FAMILIES
    assert Bandit().families(SMALL.select("xy")) == ("mutate", "swap", "quantiles")
    assert Bandit().families(SMALL.select("ab")) == ("mutate", "crossover", "swap")
    np.testing.assert_allclose(jnp.exp(Bandit().start(SMALL)), 0.25, rtol=1e-6)


# the search


@pytest.mark.parametrize("name", FAMILIES)
def test_a_step_takes_the_best_candidate(targets, name):
    """Against the fitness of each candidate's table, counted again; also where the two rows are all there are."""
    bandit = Bandit(candidates=12, exploration=0.0)
    arm = FAMILIES.index(name)
    logs = jnp.where(jnp.arange(4) == arm, 0.0, -jnp.inf)
    weights = jnp.asarray(1.0 + FEW.workload_of % 3)
    taken = 0
    for n in (2, 20):
        for seed in range(3):
            rows, key = rows_of(10 + seed, n), jax.random.key(seed)
            state = search.start(FEW, rows)
            fitness = lambda rows: float(search.fitness(FEW, targets, weights, search.start(FEW, rows)))
            at, new = operators(bandit, SMALL)[arm](uniform(jax.random.split(key)[1], bandit, rows), rows)
            tables = [rows.at[i].set(one, mode="drop") for i, one in zip(at, new, strict=True)]
            errors = [fitness(one) for one in tables]
            found, after = search.bandit_step(key, FEW, targets, weights, state, logs, bandit)
            better = min(errors) < fitness(rows) - 1e-12
            taken += better
            assert bool(found.accepted) == better
            expected = tables[int(np.argmin(errors))] if better else rows
            assert fitness(found.rows) == pytest.approx(fitness(expected), rel=1e-12)
            again = search.start(FEW, found.rows)
            np.testing.assert_array_equal(found.counts[:-1], again.counts[:-1])
            np.testing.assert_array_equal(found.cells, again.cells)
            np.testing.assert_allclose(after, logs)
    assert taken >= 2


def test_incremental_counts_are_the_counts(targets):
    """After 3000 generations of all families, in single precision; two rows may leave and enter the same cells."""
    single, ones = targets.astype(jnp.float32), jnp.ones(FEW.num_queries, jnp.float32)
    bandit = Bandit(candidates=4, exploration=1.0)

    @jax.jit
    def walk(key, state):
        def one(t, now):
            state, least = now
            before = search.fitness(FEW, single, ones, state)
            state, _ = search.bandit_step(
                jax.random.fold_in(key, t), FEW, single, ones, state, bandit.start(SMALL), bandit
            )
            return state, jnp.minimum(least, before - search.fitness(FEW, single, ones, state))

        return jax.lax.fori_loop(0, 3000, one, (state, jnp.float32(0)))

    found, least = walk(jax.random.key(0), search.start(FEW, rows_of(4, 9).astype(jnp.float32)))
    again = search.start(FEW, found.rows)
    np.testing.assert_array_equal(found.cells, again.cells)
    np.testing.assert_array_equal(found.counts[:-1], again.counts[:-1])
    assert found.rows.dtype == jnp.float32
    assert found.accepted > 10
    # each change that was taken is one for the better
    assert least > -1e-6
    sizes = np.array(SMALL.sizes)
    rows = np.asarray(found.rows)
    assert np.all((rows >= 0) & (rows <= np.where(sizes > 0, sizes - 1, 1)))
    assert np.all(rows[:, sizes > 0] == np.floor(rows[:, sizes > 0]))


def test_a_search_learns_which_family_succeeds():
    """Exchanges change no marginal of one column, and are given up; where they alone can help they take over."""
    domain = Domain.of({"a": Categorical(40), "b": Categorical(40)})
    single = categorical_marginals(domain, 1)
    goal = single.answers(jnp.full((10, 2), 3.0))
    found = genetic_search(jax.random.key(0), single, goal, 60, 60, operators=Bandit(candidates=5), stop=None)
    families = Bandit().families(domain)
    np.testing.assert_allclose(found.weights.sum(), 1, rtol=1e-6)
    assert int(np.argmin(found.weights)) == families.index("swap")
    assert found.weights[families.index("swap")] < 0.02
    assert found.accepted > 20
    # all marginals of one column are right, with a weight that forbids to leave them
    both = Union(single, categorical_marginals(domain, 2))
    i = jnp.arange(40.0)
    start, goal = jnp.stack([i, i[::-1]], axis=1), both.answers(jnp.stack([i, i], axis=1))
    weights = jnp.where(both.workload_of < 2, 100.0, 1.0)
    how = {"weights": weights, "init": start, "stop": None}
    found = genetic_search(jax.random.key(1), both, goal, 40, 1000, operators=Bandit(candidates=30), **how)
    assert int(np.argmax(found.weights)) == families.index("swap")
    assert found.fitness[-1] < 0.5 * found.fitness[0]
    # without exchanges there is no way
    stuck = genetic_search(jax.random.key(1), both, goal, 40, 200, operators=Operators(15, 15), **how)
    assert stuck.accepted == 0


def test_the_search(targets):
    """Alone and in a batch, with a bad lane; the same by its key; a fixed mixture is what it was."""
    run = jax.jit(lambda key, targets: genetic_search(key, FEW, targets, 20, 190, operators=Bandit(5), stop=1e-3))
    keys = jax.random.split(jax.random.key(3), 3)
    one = run(keys[0], targets)
    assert np.all(np.diff(one.fitness) <= 1e-12)
    assert one.fitness[-1] < 0.5 * one.fitness[0]
    both = jax.vmap(run)(keys, jnp.stack([targets, jnp.full_like(targets, jnp.nan), targets]))
    np.testing.assert_array_equal(both.rows[0], one.rows)
    np.testing.assert_allclose(both.weights[0], one.weights, rtol=1e-12)
    assert np.isnan(both.fitness[1]).all()
    assert both.accepted[1] == 0
    np.testing.assert_allclose(both.weights[1], 0.25, rtol=1e-6)
    assert not np.array_equal(both.rows[2], one.rows)
    # by steps
    mixture = Operators(5, 5)
    found = genetic_search(keys[0], FEW, targets, 20, 40, operators=mixture, stop=None)
    first, rest = jax.random.split(keys[0])
    state = search.start(FEW, SMALL.uniform(first, (20,)))
    for t in range(40):
        state = search.step(jax.random.fold_in(rest, t), FEW, targets, jnp.ones_like(targets), state, mixture)
    np.testing.assert_array_equal(found.rows, state.rows)
    assert found.weights.shape == (0,)


def test_bad_input():
    logs = jnp.log(jnp.array([0.5, 0.5]))
    for match, call in {
        "candidates must be at least 1": lambda: Bandit(0),
        "quantiles must be at least 2": lambda: Bandit(quantiles=1),
        "rate must be zero or more": lambda: Bandit(rate=-0.1),
        "rate must be zero or more, and finite": lambda: Bandit(rate=math.nan),
        "exploration must be from 0 to 1": lambda: Bandit(exploration=1.1),
        "exploration must be from": lambda: Bandit(exploration=math.nan),
        "arm must be from 0 to 1": lambda: Bandit().rewarded(logs, 2, 1.0),
        "arm must be from 0 to": lambda: Bandit().rewarded(logs, -1, 1.0),
        "reward must be from 0 to 1": lambda: Bandit().rewarded(logs, 0, 2.0),
        "reward must be from": lambda: Bandit().rewarded(logs, 0, math.nan),
    }.items():
        with pytest.raises(ValueError, match=match):
            call()
    reward = jax.vmap(lambda arm, reward: Bandit().rewarded(logs, arm, reward))
    found = reward(jnp.array([0, 2, 0]), jnp.array([1.0, 1.0, -1.0]))
    assert np.isnan(found).any(axis=1).tolist() == [False, True, True]
