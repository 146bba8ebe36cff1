"""Private-GSD: sensitivities attacked, noise and its bill, incremental counts, the search, baselines, bad input."""

import dataclasses
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import dini
from dini_zoo.privacy.accounting import cdp_rho
from dini_zoo.privacy.ledger import GaussianRelease, privacy_spent
from dini_zoo.privacy.private_gsd import (
    Categorical,
    Domain,
    Measurements,
    Operators,
    Real,
    Relaxed,
    Table,
    Union,
    categorical_marginals,
    fit_private_gsd,
    genetic_search,
    graphical_answers,
    gumbel_scale,
    gumbel_top_k,
    half_space_queries,
    measure_one_shot,
    measuring,
    mixed_marginals,
    prefix_queries,
    relaxed_projection,
    search,
    select_and_measure,
)

SMALL = Domain.of({"a": Categorical(3), "x": Real(-2, 6), "b": Categorical(2), "y": Real()})
FAMILIES = {
    "categorical": categorical_marginals(SMALL),
    "binary tree": mixed_marginals(SMALL, bins=(2, 4)),
    "levels apart": mixed_marginals(SMALL, k=3, bins=(2, 5), separate=True),
    "prefixes": prefix_queries(jax.random.key(0), SMALL, 4),
    "half-spaces": half_space_queries(jax.random.key(1), SMALL, 4, spread=0.3),
    "half-spaces, two categories": half_space_queries(jax.random.key(2), SMALL, 3, spread=0.3, categorical=2),
    "prefixes alone": prefix_queries(jax.random.key(3), SMALL, 3, k=1, categorical=0),
}
ALL = Union(*FAMILIES.values())
#: For what is compiled with them.
FEW = Union(FAMILIES["categorical"], FAMILIES["binary tree"], FAMILIES["half-spaces"])


def rows_of(key, n, domain=SMALL):
    return domain.uniform(jax.random.key(key), (n,))


@pytest.fixture(scope="module")
def table():
    with jax.enable_x64(True):
        return Table(rows_of(7, 400), SMALL)


# queries


def by_hand(row, name):
    """The cells that a row is in, by the definitions: (columns, bins) and numbers of bins."""
    bin_of = lambda j, b: int(row[j]) if SMALL.sizes[j] else min(math.floor(row[j] * b), b - 1)
    if name == "categorical":
        return [int(row[0]) * 2 + int(row[2])]
    if name == "binary tree":
        found = []
        for i, j in ((0, 1), (0, 3), (1, 2), (1, 3), (2, 3)):
            for b in (2, 4):
                found.append(bin_of(i, b) * (SMALL.sizes[j] or b) + bin_of(j, b))
        return found
    family = FAMILIES[name]
    reals = row[[1, 3]]
    cells, found = np.asarray(family.cells.cell_index(row)), []
    for level in range(len(family.sizes)):
        if name.startswith("prefixes"):
            holds = all(
                reals[c] < t
                for c, t in zip(np.asarray(family.columns[level]), np.asarray(family.thresholds[level]), strict=True)
            )
        else:
            holds = float(np.dot(np.asarray(family.normals[level]), reals)) > float(family.heights[level])
        found.append(int(cells[level]) if holds else family.sizes[level])
    return found


@pytest.mark.parametrize("name", [name for name in FAMILIES if name != "levels apart"])
def test_cells_are_those_of_the_definitions(name):
    rows = np.asarray(rows_of(0, 20))
    found = np.asarray(FAMILIES[name].cell_index(rows))
    assert found.tolist() == [by_hand(row, name) for row in rows]


def test_cells_are_half_open_and_the_last_is_closed():
    domain = Domain.of({"x": Real(), "y": Real()})
    queries = mixed_marginals(domain, bins=(4, 10))
    edges = jnp.array([[0.0, 0.0], [0.25, 0.5], [0.5, 0.75], [1.0, 1.0]])
    assert queries.cell_index(edges).tolist() == [[0, 0], [4 + 2, 25], [8 + 3, 57], [15, 99]]
    # each row is once in each level, in whatever precision and with rows on edges
    for dtype in (np.float32, np.float64):
        rows = jnp.asarray(np.random.default_rng(0).integers(0, 11, (300, 2)) / 10, dtype)
        counts = np.asarray(queries.counts(rows))
        assert counts[:16].sum() == counts[16:116].sum() == 300
        assert counts[-1] == 0


def test_answers_are_shares_of_rows():
    """By chunks of another length than the rows', against a histogram."""
    rows = np.asarray(rows_of(1, 3000))
    found = np.asarray(FAMILIES["categorical"].answers(jnp.asarray(rows)))
    counts, *_ = np.histogram2d(rows[:, 0], rows[:, 2], bins=(np.arange(4), np.arange(3)))
    np.testing.assert_allclose(found, counts.ravel() / 3000, rtol=1e-12)


@pytest.fixture(scope="module")
def neighbors():
    """Answers of a table and of 500 neighbors, and of the two rows that differ."""
    with jax.enable_x64(True):
        n, start = 50, rows_of(2, 50)
        before = np.asarray(ALL.answers(start))
        new = rows_of(3, 500)
        at = np.arange(500) % n
        cells = np.asarray(ALL.flat_index(jnp.concatenate([start, new])))

        def moved(i):
            # the neighbor's answers from its own rows
            counts = np.bincount(
                np.delete(cells, [*range(n, len(cells)), at[i]], axis=0).ravel(), minlength=len(before) + 1
            )
            counts += np.bincount(cells[n + i], minlength=len(before) + 1)
            return counts[:-1] / n - before

        return n, np.stack([moved(i) for i in range(500)])


def test_no_neighbor_is_further_than_the_sensitivity(neighbors):
    """Of every class; and it is attained where cells differ on every level, so that no smaller figure would do."""
    n, moved = neighbors
    norms = np.sqrt(np.stack([np.bincount(ALL.workload_of, weights=one**2) for one in moved]))
    stated = ALL.l2_sensitivity(n)
    assert np.all(norms <= stated * (1 + 1e-12))
    # the score of a choice: the largest error of a workload
    assert np.max(np.abs(moved)) <= 1 / n + 1e-12
    assert stated[1] == pytest.approx(math.sqrt(2 * 2) / n)
    # of each class some workload has a neighbor that far away; without categories a row is in one cell or in none
    starts = np.cumsum([0, *(one.num_workloads for one in FAMILIES.values())])
    for name, (first, last) in zip(FAMILIES, itertools.pairwise(starts), strict=True):
        reached = 1 / math.sqrt(2) if name == "prefixes alone" else 1
        assert np.max(norms.max(axis=0)[first:last] / stated[first:last]) == pytest.approx(reached, rel=1e-12), name


# measurements


def test_the_figures_of_the_specification():
    for (epsilon, delta), rho in {
        (1, 1e-6): 0.02435597,
        (0.5, 1e-9): 0.00395319,
        (3, 1e-5): 0.22424917,
        (1, 1 / 15992**2): 0.01622146,
    }.items():
        assert cdp_rho(epsilon, delta) == pytest.approx(rho, rel=1e-6)
    rho = cdp_rho(1, 1 / 15992**2)
    assert math.sqrt(2) / 15992 / math.sqrt(2 * rho / 57) == pytest.approx(0.00371, abs=5e-6)
    assert gumbel_scale(rho / 10 / 2, 5, 15992) == pytest.approx(0.0034717, abs=5e-8)
    assert math.sqrt(2) / 15992 / math.sqrt(2 * rho / 10 / 10) == pytest.approx(0.0049097, abs=5e-8)


@pytest.mark.thorough
def test_two_accountants_of_a_library_do_not_find_more():
    """57 measurements at ε = 1: Rényi's orders to four digits, the exact curve and the discretized loss below."""
    pytest.importorskip("dp_accounting")
    n, m = 15992, 57
    release = GaussianRelease("all", math.sqrt(m / (2 * cdp_rho(1, 1 / n**2))), m)
    bill = measuring.Ledger((release,))
    assert privacy_spent(bill, 1 / n**2, "rdp") == pytest.approx(1.00005, abs=2e-5)
    assert privacy_spent(bill, 1 / n**2, "pld") == pytest.approx(0.9456, abs=1e-4)
    assert privacy_spent(bill, 1 / n**2, "gaussian") == pytest.approx(0.9456, abs=1e-4)


def test_the_noise_is_as_large_as_the_ledger_says(table):
    """Of every workload its own, and the bill is the budget."""
    rho = 0.02
    found = measure_one_shot(jax.random.key(0), table, ALL, rho)
    np.testing.assert_allclose(
        found.sigmas, ALL.l2_sensitivity(400) * math.sqrt(ALL.num_workloads / (2 * rho)), rtol=1e-12
    )
    z = np.asarray(found.noisy - ALL.answers(table.rows)) / found.sigmas[ALL.workload_of]
    assert stats.kstest(z, "norm").pvalue > 1e-3
    # workloads of sensitivities apart have noise of one law after division
    tree = ALL.workload_of < FAMILIES["categorical"].num_workloads + FAMILIES["binary tree"].num_workloads
    assert abs(np.std(z[tree]) - 1) < 4.5 / math.sqrt(2 * tree.sum())
    assert found.ledger.rho == pytest.approx(rho, rel=1e-12)
    assert np.all(found.weights == 1)
    some = measure_one_shot(jax.random.key(0), table, ALL, rho, [2, 5])
    assert np.flatnonzero(some.measured).tolist() == [2, 5]
    assert some.ledger.rho == pytest.approx(rho, rel=1e-12)
    assert not np.any(np.asarray(some.noisy)[~np.isin(ALL.workload_of, [2, 5])])


def test_a_choice_follows_the_exponential_mechanism():
    """Of two scores the greater one wins with probability 1 / (1 + exp(-gap / scale)); two of three."""
    scale, gap, draws = 0.2, 0.3, 20_000
    keys = jax.random.split(jax.random.key(0), draws)
    first = jax.vmap(lambda key: gumbel_top_k(key, jnp.array([0.0, gap]), 1, scale))(keys)
    expected = 1 / (1 + math.exp(-gap / scale))
    assert abs(float(first.mean()) - expected) < 4.5 * math.sqrt(expected * (1 - expected) / draws)
    # one after the other without replacement: 2 first, then 1
    scores = np.array([0.0, gap, 2 * gap])
    w = np.exp(scores / scale)
    expected = w[2] / w.sum() * w[1] / (w[0] + w[1])
    both = jax.vmap(lambda key: gumbel_top_k(key, jnp.asarray(scores), 2, scale))(keys)
    share = float(np.mean((both[:, 0] == 2) & (both[:, 1] == 1)))
    assert abs(share - expected) < 4.5 * math.sqrt(expected * (1 - expected) / draws)


def test_targets(table):
    """Clipped, on the simplex by an independent projection, or as they are."""
    found = measure_one_shot(jax.random.key(1), table, ALL, 1e-3)
    noisy = np.asarray(found.noisy)
    np.testing.assert_array_equal(found.targets("none"), noisy)
    np.testing.assert_array_equal(found.targets("clip"), np.clip(noisy, 0, 1))
    consistent = np.asarray(found.targets("consistent"))
    for level, partition in enumerate(ALL.partitions):
        at = ALL.level_of == level
        y = np.sort(noisy[at])[::-1]
        p = np.maximum(noisy[at], 0)
        if partition or p.sum() > 1:
            # by sorting: the largest k for which the k-th is above the threshold
            shift = (np.cumsum(y) - 1) / np.arange(1, len(y) + 1)
            p = np.maximum(noisy[at] - shift[np.flatnonzero(y > shift)[-1]], 0)
        np.testing.assert_allclose(consistent[at], p, atol=1e-12)
    truth = np.asarray(ALL.answers(table.rows))
    assert np.linalg.norm(consistent - truth) < np.linalg.norm(found.targets("clip") - truth)


# search


@pytest.fixture(scope="module")
def targets(table):
    with jax.enable_x64(True):
        return FEW.answers(table.rows)


def test_incremental_counts_are_the_counts(targets):
    """After 5000 steps, in single precision, with half of the queries left out of the fitness."""
    weights = jnp.asarray(FEW.workload_of % 2, jnp.float32)
    single = targets.astype(jnp.float32)
    operators = Operators(4, 4, 0.05)

    @jax.jit
    def walk(key, state):
        one = lambda t, state: search.step(jax.random.fold_in(key, t), FEW, single, weights, state, operators)
        return jax.lax.fori_loop(0, 5000, one, state)

    found = walk(jax.random.key(0), search.start(FEW, rows_of(4, 30).astype(jnp.float32)))
    again = search.start(FEW, found.rows)
    np.testing.assert_array_equal(found.cells, again.cells)
    np.testing.assert_array_equal(found.counts[:-1], again.counts[:-1])
    assert found.rows.dtype == jnp.float32
    assert found.accepted > 10


def test_a_step_takes_the_best_candidate(targets):
    """Against the fitness of each candidate's table, counted again."""
    rows, operators = rows_of(5, 20), Operators(6, 6)
    weights = jnp.asarray(1.0 + FEW.workload_of % 3)
    key, state = jax.random.key(1), search.start(FEW, rows)
    at, column, value = search.candidates(key, SMALL, rows, operators)
    tables = [rows.at[i, j].set(v) for i, j, v in zip(at, column, value, strict=True)]
    errors = [float(search.fitness(FEW, targets, weights, search.start(FEW, one))) for one in tables]
    found = search.step(key, FEW, targets, weights, state, operators)
    before = float(search.fitness(FEW, targets, weights, state))
    assert min(errors) < before
    after = search.start(FEW, found.rows)
    assert float(search.fitness(FEW, targets, weights, after)) == pytest.approx(min(errors), rel=1e-12)
    np.testing.assert_array_equal(found.rows, tables[int(np.argmin(errors))])
    np.testing.assert_array_equal(found.counts[:-1], after.counts[:-1])


def test_candidates_stay_in_the_domain():
    rows = rows_of(6, 10)
    at, column, value = search.candidates(jax.random.key(2), SMALL, rows, Operators(2000, 2000, 1.0))
    sizes = np.array(SMALL.sizes)[column]
    value = np.asarray(value)
    assert np.all(value[sizes > 0] == np.floor(value[sizes > 0]))
    assert np.all((value >= 0) & (value <= np.where(sizes > 0, sizes - 1, 1)))
    for size in (3, 2):
        mutated = value[:2000][sizes[:2000] == size]
        assert stats.chisquare(np.bincount(mutated.astype(int), minlength=size)).pvalue > 1e-4
    real = value[:2000][sizes[:2000] == 0]
    assert stats.kstest(real, "uniform").pvalue > 1e-4
    # noise of one, clipped, puts crossovers at the ends
    assert np.mean(np.isin(value[2000:][sizes[2000:] == 0], [0, 1])) > 0.5
    assert len(np.unique(at)) == 10


def test_the_search(targets):
    """It never gets worse, stops, repeats itself by key, alone and in a batch, and leaves a bad lane to itself."""
    run = jax.jit(lambda key, targets: genetic_search(key, FEW, targets, 20, 190, operators=Operators(5, 5), stop=1e-3))
    keys = jax.random.split(jax.random.key(3), 3)
    one = run(keys[0], targets)
    assert np.all(np.diff(one.fitness) <= 1e-12)
    assert one.fitness.shape == (11,)
    assert one.fitness[-1] < 0.5 * one.fitness[0]
    end = search.fitness(FEW, targets, jnp.ones_like(targets), search.start(FEW, one.rows))
    assert one.fitness[-1] == pytest.approx(float(end), rel=1e-12)
    both = jax.vmap(run)(keys, jnp.stack([targets, jnp.full_like(targets, jnp.nan), targets]))
    np.testing.assert_array_equal(both.rows[0], one.rows)
    assert np.isnan(both.fitness[1]).all()
    assert both.accepted[1] == 0
    assert np.isfinite(both.fitness[2]).all()
    assert not np.array_equal(both.rows[2], one.rows)
    # nothing is left to gain: it stops at once, and says so
    done = genetic_search(keys[0], FEW, FEW.answers(one.rows), 20, 190, init=one.rows, operators=Operators(5, 5))
    assert done.generations == 20
    assert done.accepted == 0
    np.testing.assert_array_equal(done.rows, one.rows)


def test_no_generations_are_the_uniform_start(targets):
    found = genetic_search(jax.random.key(4), FEW, targets, 15, 0)
    begin, _ = jax.random.split(jax.random.key(4))
    np.testing.assert_array_equal(found.rows, SMALL.uniform(begin, (15,)))
    assert found.generations == found.accepted == 0


@pytest.mark.thorough
def test_reachable_targets_are_reached():
    """The specification's check: of answers that a table has, less than a thousandth of the error is left."""
    from dini_zoo.privacy.private_gsd import census, parts

    with jax.enable_x64(False):
        whole = census.census()
        queries = parts.pairs(whole)
        assert (queries.num_workloads, queries.num_queries) == (57, 6092)
        exact = queries.answers(parts.sampled(whole, jax.random.key(0), 1000).rows)
        found = genetic_search(jax.random.key(1), queries, exact, 1000, 20_000, stop=None)
    assert found.fitness[-1] < 1e-3 * found.fitness[0]


# all of it


@pytest.mark.parametrize("mode", ["one_shot", "adaptive", "hybrid"])
def test_a_fit_spends_its_budget_exactly(table, mode):
    """And no noise of one part is that of another."""
    first = range(FAMILIES["categorical"].num_workloads + 3)
    how = {"rounds": 3, "per_round": 2, "first": first} if mode == "hybrid" else {"rounds": 3, "per_round": 2}
    fit = fit_private_gsd(
        jax.random.key(0), table, FEW, 1.0, 1e-5, mode, **how, num_rows=20, generations=40, operators=Operators(5, 5)
    )
    assert fit.ledger.rho == pytest.approx(cdp_rho(1.0, 1e-5), rel=1e-12)
    assert fit.epsilon == pytest.approx(1.0, rel=1e-9)
    measured = {"one_shot": FEW.num_workloads, "adaptive": 6, "hybrid": 10}[mode]
    assert fit.measurements.measured.sum() == measured
    assert len(fit.rounds) == {"one_shot": 1, "adaptive": 3, "hybrid": 4}[mode]
    if mode == "hybrid":
        # the one-shot part has its share of all measurements
        assert fit.ledger.releases[0].rho == pytest.approx(0.4 * fit.ledger.rho, rel=1e-12)
        assert fit.measurements.measured[list(first)].all()
    at = fit.measurements.measured[FEW.workload_of]
    z = (fit.measurements.noisy - FEW.answers(table.rows))[at] / fit.measurements.sigmas[FEW.workload_of[at]]
    assert len(np.unique(np.round(z, 9))) == at.sum()
    assert fit.table.domain == SMALL
    assert len(fit.table) == 20


def test_rounds_choose_what_is_worst(table):
    """With a budget that drowns no error: the largest first, and none twice."""
    begin = Table(rows_of(8, 20), SMALL)
    found = select_and_measure(jax.random.key(0), table, Measurements.none(FEW), begin, 1e9, 3)
    errors = np.asarray(measuring.errors(FEW, table, begin))
    assert set(np.flatnonzero(found.measured)) == set(np.argsort(errors)[-3:])
    rest = select_and_measure(jax.random.key(1), table, found, begin, 1e9, FEW.num_workloads - 3)
    assert rest.measured.all()
    np.testing.assert_allclose(rest.noisy, FEW.answers(table.rows), atol=1e-4)
    # half of the budget for the choice, half for measuring
    assert found.ledger.releases[0].rho == pytest.approx(5e8)
    assert found.ledger.releases[1].rho == pytest.approx(5e8)


# baselines


def test_soft_answers_tend_to_the_truth():
    """Hard rows, a great sharpness; and by products of matrices as row by row."""
    rows = rows_of(9, 60)
    reals = rows[:, np.array(SMALL.real)]
    hard = Relaxed(tuple(jax.nn.one_hot(rows[:, j].astype(int), SMALL.sizes[j]) for j in SMALL.categorical), reals)
    np.testing.assert_allclose(ALL.soft_answers(hard, 1e7), ALL.answers(rows), atol=1e-6)
    soft = hard._replace(probabilities=tuple(0.7 * one + 0.3 / one.shape[1] for one in hard.probabilities))
    np.testing.assert_allclose(ALL.soft_answers(soft, 3.0), jnp.mean(ALL.soft(soft, 3.0), axis=0), rtol=1e-10)
    # cells of a marginal share out what a row is
    np.testing.assert_allclose(FAMILIES["categorical"].soft(soft, 3.0).sum(axis=1), 1, rtol=1e-12)


@pytest.mark.parametrize(
    ("solver", "steps"), [(None, 1000), (dini.ProjectedGradient(max_steps=60), 60)], ids=["adam", "dini"]
)
def test_relaxed_tables_match_categories(solver, steps):
    """RAP where nothing is relaxed but categories: answers that a product law cannot have are matched."""
    domain = Domain.of({"a": Categorical(2), "b": Categorical(3)})
    queries = categorical_marginals(domain)
    goal = jnp.array([0.4, 0.1, 0.0, 0.0, 0.2, 0.3])
    found = relaxed_projection(
        jax.random.key(0), queries, goal, 40, sharpness=(1.0,), steps=steps, oversample=200, solver=solver
    )
    assert found.rows.shape == (8000, 2)
    np.testing.assert_allclose(queries.answers(found.rows), goal, atol=0.02)


@pytest.mark.thorough
def test_relaxation_sharpens():
    """The last stages are nearer to prefixes than the first, by either method."""
    domain = Domain.of({"a": Categorical(2), "x": Real(), "y": Real()})
    queries = prefix_queries(jax.random.key(0), domain, 20)
    goal = queries.answers(rows_of(10, 3000, domain) ** jnp.array([1, 2, 2]))
    for solver in (None, dini.ProjectedGradient(max_steps=100)):
        found = relaxed_projection(jax.random.key(1), queries, goal, 200, steps=100, oversample=10, solver=solver)
        assert found.errors[int(found.stage)] == found.errors.min()
        assert found.errors.min() < 0.1 * found.errors[0]


@pytest.mark.thorough
def test_a_graphical_model_of_exact_marginals_has_them():
    pytest.importorskip("mbi")
    domain = Domain.of({"a": Categorical(3), "b": Categorical(2), "c": Categorical(4)})
    table = Table(rows_of(11, 500, domain), domain)
    queries = categorical_marginals(domain)
    exact = dataclasses.replace(
        measure_one_shot(jax.random.key(0), table, queries, 0.1), noisy=queries.answers(table.rows)
    )
    np.testing.assert_allclose(graphical_answers(exact, 500, 300), exact.noisy, atol=1e-3)
    with pytest.raises(ValueError, match="marginals of categorical columns"):
        graphical_answers(Measurements.none(FAMILIES["binary tree"]), 500)
    with pytest.raises(ValueError, match="every workload"):
        graphical_answers(Measurements.none(queries), 500)


# tables, bad input


def test_tables_have_their_units():
    values = np.array([[2, -2.0, 1, 0.25], [0, 6.0, 0, 1.0], [1, 2.0, 1, 0.0]])
    table = Table.of(values, SMALL)
    np.testing.assert_allclose(table.rows[:, 1], [0, 1, 0.5])
    np.testing.assert_allclose(table.values, values, rtol=1e-12)
    clipped = Table.of(values + np.array([0, 5, 0, 5]), SMALL, clip=True)
    np.testing.assert_allclose(clipped.values[:, 1], [3, 6, 6])
    assert table.select(["y", "a"]).domain.sizes == (0, 3)
    np.testing.assert_array_equal(table.select(["y", "a"]).rows, table.rows[:, [3, 0]])
    # bounds a million times smaller and larger
    for unit in (1e-9, 1e9):
        other = Domain.of({"x": Real(-2 * unit, 6 * unit)})
        np.testing.assert_allclose(Table.of(values[:, 1:2] * unit, other).rows[:, 0], [0, 1, 0.5], rtol=1e-12)


def test_bad_input(table):
    targets = jnp.zeros(ALL.num_queries)
    key = jax.random.key(0)
    good = np.array([[2, 0.0, 1, 0.25]])
    wrong = lambda j, value: np.where(np.arange(4) == j, value, good)
    fit = lambda epsilon=1.0, delta=1e-5, mode="adaptive", **how: fit_private_gsd(
        key, table, ALL, epsilon, delta, mode, **{"num_rows": 5, "generations": 1, **how}
    )
    go = lambda *args, **how: genetic_search(key, ALL, targets, *args, **how)
    other = Table(rows_of(0, 5, Domain.of({"a": Categorical(2)})), Domain.of({"a": Categorical(2)}))
    once = measure_one_shot(key, table, ALL, 1.0, [0])
    for match, call in {
        "'a' must be one of the categories 0 to 2: given 3": lambda: Table.of(wrong(0, 3), SMALL),
        "'b' must be one of the categories 0 to 1: given 0.5": lambda: Table.of(wrong(2, 0.5), SMALL),
        r"'x' must be in \[-2, 6\]: given 7": lambda: Table.of(wrong(1, 7), SMALL),
        "'y' must have no NaN": lambda: Table.of(wrong(3, np.nan), SMALL, clip=True),
        r"values must have shape \(n, 4\) with at least one row": lambda: Table.of(np.zeros((0, 4)), SMALL),
        "low must be less than high": lambda: Real(1.0, 1.0),
        "size must be at least 1": lambda: Categorical(0),
        "at least one column": lambda: Domain(()),
        "names of columns must differ": lambda: Domain((("a", Real()), ("a", Real()))),
        "A column must be one of a, x, b, y: given 'z'": lambda: SMALL.select(["z"]),
        "at least k = 3 categorical columns: given 2": lambda: categorical_marginals(SMALL, 3),
        "bins must have at least one number": lambda: mixed_marginals(SMALL, bins=()),
        "bins must be at least 1": lambda: mixed_marginals(SMALL, bins=(2, 0)),
        "domain must have a real column, else": lambda: mixed_marginals(SMALL.select("ab")),
        "domain must have a real column for": lambda: prefix_queries(key, SMALL.select("ab"), 3),
        "count must be at least 1: given 0": lambda: half_space_queries(key, SMALL, 0),
        "parts must be families over one domain": lambda: Union(),
        "fewer than 2": lambda: categorical_marginals(Domain.of({"a": Categorical(2**16), "b": Categorical(2**16)})),
        "rho must be positive": lambda: measure_one_shot(key, table, ALL, 0.0),
        "number of workloads must be at least 1": lambda: measure_one_shot(key, table, ALL, 1.0, []),
        "workloads must be from 0 to": lambda: measure_one_shot(key, table, ALL, 1.0, [-1]),
        "workloads must differ": lambda: measure_one_shot(key, table, ALL, 1.0, [1, 1]),
        "table must have the domain": lambda: measure_one_shot(key, other, ALL, 1.0),
        r"given again \[0\]": lambda: once.joined(once),
        "count must be at most the number of workloads left": lambda: select_and_measure(
            key, table, once, table, 1.0, 99
        ),
        "project must be one of": lambda: once.targets("simplex"),
        "epsilon must be positive": lambda: fit(0.0),
        "delta must be between 0 and 1": lambda: fit(delta=1.0),
        "mode must be one of": lambda: fit(mode="both"),
        "rounds × per_round must be at most the number of workloads that are left, 28: given 32": lambda: fit(
            rounds=8, per_round=4
        ),
        "workloads in first must be at least 1: given 0": lambda: fit(mode="hybrid", rounds=1),
        "first must only be given for the mode 'hybrid'": lambda: fit(first=[0]),
        "num_rows must be at least 1": lambda: go(0),
        "generations must be at least 0": lambda: go(5, -1),
        "weights must be zero or more": lambda: go(5, 1, weights=-jnp.ones_like(targets)),
        "init must have the shape": lambda: go(5, 1, init=jnp.zeros((4, 4))),
        "targets must be finite": lambda: genetic_search(key, ALL, targets.at[0].set(jnp.nan), 5, 1),
        "targets must have the shape": lambda: genetic_search(key, ALL, targets[1:], 5, 1),
        "mutations . crossovers must be at least 1": lambda: Operators(0, 0),
        "noise must be zero or more": lambda: Operators(noise=-1.0),
        "sharpness must be positive": lambda: relaxed_projection(key, ALL, targets, 5, sharpness=(0.0,)),
        "must not both be given": lambda: relaxed_projection(
            key, ALL, targets, 5, optimizer=dini, solver=dini.ProjectedGradient()
        ),
        r"rows must have shape \(n, 4\)": lambda: ALL.answers(jnp.zeros((0, 4))),
    }.items():
        with pytest.raises(ValueError, match=match):
            call()
