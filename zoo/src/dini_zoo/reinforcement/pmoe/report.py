"""What the experiment prints. References were computed for the specification, with other code and other seeds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from scipy import stats

from dini_zoo.kit.seeds import Estimate
from dini_zoo.kit.tables import Check, Table, at_least, at_most, near

from .study import ALL, BLEND, GUMBEL, MAX, ONE, REINFORCE, WITH, WITHOUT, Outcome, Result, Task

#: The specification's rows: the score's mean, its worst seed, the mean stochastic reward over training.
REFERENCES = {
    MAX: (0.914, 0.912, 0.771),
    ONE: (0.636, 0.549, 0.578),
    ALL: (0.751, 0.549, 0.668),
    GUMBEL: (0.549, 0.549, 0.504),
    REINFORCE: (0.550, 0.550, 0.479),
    BLEND: (0.549, 0.548, 0.513),
}
#: A score below this is one in the trap.
TRAPPED = 0.6


def tables(result: Result) -> list[Table]:
    """Scores of all rows, every seed, who wins, the control task."""
    settings = result.settings
    found = []
    sizes = f"{settings.updates} updates with {settings.batch} contexts each, {settings.components} components."
    if result.exact:
        caption = (
            f"{sizes} Greedy: on 256 contexts, whose optimum is {result.optimum:.3f}. Stochastic: over the training. "
            f"Mean ± standard deviation of {len(settings.seeds)} seeds. Trap: seeds below {TRAPPED:g}."
        )
        found.append(score_table("The bandit with exact rewards", result.exact, caption))
        found.append(seeds_table("Every seed's greedy reward", [("", result.exact)]))
        found.append(shares_table("Who has the weight and who wins", result.exact, settings.seeds[0]))
    if result.spread:
        caption = f"Initial means spread by normal numbers of deviation {settings.spread:g}."
        found.append(score_table("The same from means that are spread", result.spread, caption))
    if result.critics:
        rows = [(start, row) for start, several in result.critics.items() for row in several]
        caption = (
            f"Twin critics that learn from a buffer, the policy from iteration {settings.alone} on. Uniform start: "
            f"{settings.start} pairs. Error: the critics' root mean square for uniform actions."
        )
        columns = ("", "start", "greedy", "each seed", "stochastic", "error")
        cells = [
            [
                row.name,
                start,
                spread(row.score),
                each(row.score),
                f"{row.stochastic.mean():.3f}",
                each(row.critic_error),
            ]
            for start, row in rows
        ]
        found.append(Table("The bandit with learned critics", columns, cells, caption, left=2))
    if result.ppo:
        caption = f"{settings.rounds} rounds of 2048 contexts; the gate by frequencies beside the surrogate."
        found.append(seeds_table("The bandit by PPO", [("", result.ppo)], caption))
    if result.control:
        found.append(control_table(result))
    return found


def spread(values: np.ndarray) -> str:
    """Mean and standard deviation."""
    mean = f"{np.mean(values):.3f}"
    return mean if len(values) < 2 else f"{mean} ± {np.std(values, ddof=1):.3f}"


def each(values: Sequence[float] | np.ndarray, form: str = ".3f") -> str:
    """Every seed's, without zeros in front."""
    return " ".join(f"{value:{form}}".removeprefix("0") for value in values)


def score_table(title: str, rows: list[Outcome], caption: str) -> Table:
    """The score, its worst seed, seeds in the trap, the mean reward over training."""
    cells = [
        [
            row.name,
            spread(row.score),
            f"{row.score.min():.3f}",
            f"{np.sum(row.score < TRAPPED)} of {len(row.score)}",
            f"{row.stochastic.mean():.3f}",
        ]
        for row in rows
    ]
    return Table(title, ("", "greedy", "worst seed", "trap", "stochastic"), cells, caption)


def seeds_table(title: str, parts: list[tuple[str, list[Outcome]]], caption: str = "") -> Table:
    """Every seed's score."""
    cells = [[row.name, each(row.score)] for _, rows in parts for row in rows]
    return Table(title, ("", "seed by seed"), cells, caption)


def shares_table(title: str, rows: list[Outcome], seed: int) -> Table:
    """Weights of the gate, and how often each component's sample is the best."""
    cells = [[row.name, each(row.weights[0]), each(row.wins[0])] for row in rows if row.weights.shape[1] > 1]
    caption = f"Seed {seed}, averaged over the evaluation contexts; wins of samples, by the true reward."
    return Table(title, ("", "weights", "wins"), cells, caption)


def last_returns(task: Task, count: int = 10) -> np.ndarray:
    """The mean of the last episodes of each seed."""
    return np.array([one[-count:].mean() for one in task.returns])


def control_table(result: Result) -> Table:
    """Returns on Pendulum."""
    cells = []
    for task in result.control:
        last = last_returns(task)
        greedy = each(task.greedy, ".0f")
        cells.append([task.name, f"{Estimate.of(last):.0f}", each(last, ".0f"), greedy, each(task.wins[0], ".2f")])
    caption = (
        f"{result.settings.control_steps} steps, episodes of 200, sampled actions: means of the last ten, with "
        "their 95 % interval over seeds. Greedy: ten episodes after the training, each seed. Wins: the first seed's, "
        "over the last tenth of the updates."
    )
    columns = ("", "return", "each seed", "greedy", "wins")
    return Table("Pendulum", columns, cells, caption)


def checks(result: Result) -> Iterator[Check]:
    """Every bar of the specification, and what it reports without one."""
    exact = {row.name: row for row in result.exact}
    best = exact.get(MAX)
    yield Check("PMOE, max: worst seed", None if best is None else float(best.score.min()), at_least(0.9), 0.912)
    yield Check("PMOE, max: greedy", None if best is None else float(best.score.mean()), None, REFERENCES[MAX][0])
    over = lambda row: None if row is None or best is None else float(best.stochastic.mean() / row.stochastic.mean())
    for name, (mean, worst, stochastic) in REFERENCES.items():
        if name == MAX:
            continue
        row = exact.get(name)
        yield Check(f"{name}: worst seed", None if row is None else float(row.score.min()), at_most(TRAPPED), worst)
        below = None if row is None or best is None else float(best.score.mean() - row.score.mean())
        yield Check(f"{name}: greedy below", below, at_least(0.08), REFERENCES[MAX][0] - mean)
        bar = at_least(1.08 if name == ALL else 1.15)
        yield Check(f"{name}: stochastic, ratio", over(row), bar, REFERENCES[MAX][2] / stochastic, form=".2f")
    yield Check("two largest weights: worst seed", _two_largest(best), None, 0.998)
    several = {start: {row.name: row.score.mean() for row in rows} for start, rows in result.critics.items()}
    for start, bar, reference in ((WITH, at_least(0.1), 0.29), (WITHOUT, None, 0.01)):
        scores = several.get(start)
        ours = None if scores is None else float(scores[MAX] - scores[ONE])
        yield Check(f"critics, {start}: above", ours, bar, reference, form=".2f")
    by_ppo = {row.name: row.score.mean() for row in result.ppo}
    yield Check(
        "PPO: greedy above one Gaussian", float(by_ppo[MAX] - by_ppo[ONE]) if by_ppo else None, None, form=".3f"
    )
    returns = {task.name: float(last_returns(task).mean()) for task in result.control}
    for name in (MAX, ALL, ONE):
        yield Check(f"Pendulum: return, {name}", returns.get(name), None, form=".0f")
    weight, slope = float(stats.norm.cdf(0.3 / 0.41**0.5)), float(stats.norm.pdf(0.3 / 0.41**0.5) / 0.41**0.5)
    yield Check("the gate's fixed point", result.fixed.weight, near(weight, 1e-8), weight, form=".6f")
    yield Check("its implicit derivative", result.fixed.derivative, near(slope, 1e-7), slope, form=".6f")


def _two_largest(row: Outcome | None) -> float | None:
    """The share of the weight that the two largest ones have, in the seed where it is least."""
    if row is None:
        return None
    return float(np.sort(row.weights, axis=1)[:, -2:].sum(axis=1).min())


def headline(result: Result) -> str:
    """The one figure that matters."""
    scores = {row.name: row.score for row in result.exact}
    if not scores:
        return "the bandit was not trained on with exact rewards"
    phrases = {MAX: "with a mixture", ONE: "with one Gaussian", ALL: "where all experts learn"}
    ranges = ", ".join(
        f"{scores[name].min():.3f} to {scores[name].max():.3f} {text}"
        for name, text in phrases.items()
        if name in scores
    )
    return f"a bandit with a trap, optimum {result.optimum:.3f}: {ranges} (seeds: {len(result.settings.seeds)})"
