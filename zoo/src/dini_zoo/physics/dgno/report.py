"""What the experiment prints. References were computed for the specification, with other code."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from dini_zoo.kit.seeds import Estimate
from dini_zoo.kit.tables import Bar, Check, Table, at_least, at_most, below, spread, worst

from .bayes import LAPLACE, NUTS, VARIATIONAL, Law
from .measures import Inverted
from .study import CONSTANT, EXACT, LATENT, Result
from .training import DEEP, DIRECT, KINDS, MULTI

#: The name of an inversion in a table: what is unknown.
UNKNOWN = {
    **{kind: f"{kind}, latent" for kind in LATENT},
    DIRECT: f"{DIRECT}, cells",
    EXACT: "exact solver, cells",
    CONSTANT: "the mean of the phases",
}
LAWS = (LAPLACE, VARIATIONAL, NUTS)


def tables(result: Result) -> list[Table]:
    """Forward errors, inversions, weights of the residuals, laws."""
    shown = [forward_table(result), inversion_table(result)]
    if result.bayes:
        shown += [weight_table(result), law_table(result)]
    return shown


def unknowns(result: Result) -> dict[str, str]:
    """Those of this run."""
    return {name: text for name, text in UNKNOWN.items() if name not in KINDS or name in result.settings.kinds}


def forward_table(result: Result) -> Table:
    """By network."""
    rows = []
    for kind in result.settings.kinds:
        found = [seed[kind] for seed in result.forwards]
        phases = [one.accuracy for one in found if one.accuracy is not None]
        rows.append(
            [kind, f"{Estimate.of(one.u for one in found):.3f}", f"{Estimate.of(phases):.3f}" if phases else ""]
        )
    mean = Estimate.of(seed[MULTI].mean_field for seed in result.forwards)
    rows.append(["mean of solutions", f"{mean:.3f}", ""])
    sizes = result.settings
    caption = (
        f"{sizes.test} media that were not trained with, seeds {sizes.seeds}. Trained on {sizes.train} media without a "
        "solution, which only the last row has seen."
    )
    return Table("Pressure from the medium: relative error", ("", "pressure", "phases"), rows, caption)


def inversion_table(result: Result) -> Table:
    """By unknown."""
    rows = []
    for name, text in unknowns(result).items():
        found = [seed[name] for seed in result.inversions]
        rows.append([text, *_inverted(found)])
    settings = result.settings
    noise = 10 ** (-settings.snr / 20)
    caption = (
        f"{settings.cases} media a seed from {settings.observations} values of the pressure with noise {noise:.3f}, by "
        "the published objective. Cells: a logit in each one, no prior of media."
    )
    return Table(
        "Medium from the pressure: relative errors", ("unknown", "medium", "phases", "pressure"), rows, caption
    )


def _inverted(found: Sequence[Inverted]) -> list[str]:
    columns: tuple[Callable[[Inverted], float], ...] = (lambda one: one.a, lambda one: one.accuracy, lambda one: one.u)
    return [f"{Estimate.of(of(one) for one in found):.3f}" for of in columns]


def weight_table(result: Result) -> Table:
    """Most probable media by the weight of the residuals."""
    every = [{**seed.weights, 1.0: seed.most_probable} for seed in result.bayes]
    rows = [[f"{weight:g}", *_inverted([seed[weight] for seed in every])] for weight in sorted(every[0])]
    share = np.mean([seed.converged for seed in result.bayes])
    caption = f"Most probable latents by dini's least squares, which converged in {share:.0%} of cases with weight 1."
    return Table(
        "Medium from the pressure, by the residuals' weight", ("weight", "medium", "phases", "pressure"), rows, caption
    )


def of_law(result: Result, method: str) -> list[Law]:
    """Seed by seed."""
    return [law for seed in result.bayes for law in seed.laws if law.method == method]


def law_table(result: Result) -> Table:
    """Laws of the latent."""
    rows = []
    for method in LAWS:
        laws = of_law(result, method)
        mean = lambda of, laws=laws: f"{np.mean([of(law) for law in laws]):.3f}"
        rows.append(
            [
                method,
                mean(lambda law: law.mean.a),
                mean(lambda law: law.mean.u),
                mean(lambda law: law.covered),
                mean(lambda law: law.brier),
            ]
        )
    drawn = of_law(result, NUTS)
    rhat = max(law.rhat or 0 for law in drawn)
    lost = np.mean([law.divergent or 0 for law in drawn])
    cost = np.mean([law.gradients or 0 for law in drawn])
    count = result.settings.laws * len(result.bayes)
    caption = (
        f"Means over {count} cases. Covered: pressures where nothing was observed that are within 95 percent of draws. "
        f"NUTS: R-hat at most {rhat:.2f}, {lost:.1%} of draws diverged, {cost:.0f} gradients a draw."
    )
    return Table(
        "Laws of the latent: errors of their means", ("law", "medium", "pressure", "covered", "Brier"), rows, caption
    )


def checks(result: Result) -> Iterator[Check]:
    """Every bar of the specification. All seeds must meet it: the worst one's figure counts."""

    def of_worst(name: str, values: Sequence[float], bar: Bar | None, reference: float | str, paper: str = "") -> Check:
        return worst(name, values, bar, reference, paper, ".3f")

    multi, deep, direct = ([seed[k].u for seed in result.forwards if k in seed] for k in (MULTI, DEEP, DIRECT))
    found = [seed[MULTI] for seed in result.forwards]
    yield of_worst("MultiONet: pressure", multi, at_most(0.065), "0.049, 0.054", "0.024 (2-D)")
    ratio = [one.u / one.mean_field for one in found]
    yield of_worst("MultiONet / mean of solutions", ratio, at_most(0.35), "0.27")
    phases = [one.accuracy for one in found if one.accuracy is not None]
    yield of_worst("MultiONet: phases", phases, at_least(0.92), "0.947, 0.935")
    means = float(np.mean(multi) / np.mean(deep)) if deep else None
    yield Check("MultiONet / DeepONet, means", means, below(1), "0.64 to 0.91", form=".3f")
    yield of_worst("PI-DeepONet: pressure", direct, None, "")
    a, constant = ([seed[name].a for seed in result.inversions] for name in (MULTI, CONSTANT))
    yield of_worst("inversion: medium", a, at_most(0.27), "0.219, 0.193", "0.127 (2-D)")
    ratio = [one / other for one, other in zip(a, constant, strict=True)]
    yield of_worst("inversion: medium / constant", ratio, at_most(0.85), "0.72, 0.58")
    phases = [seed[MULTI].accuracy for seed in result.inversions]
    yield of_worst("inversion: phases", phases, at_least(0.72), "0.81, 0.87")
    u = [seed[MULTI].u for seed in result.inversions]
    yield of_worst("inversion: pressure", u, at_most(0.035), "0.025, 0.026", "0.027 (2-D)")
    ratio = [seed[MULTI].a / seed[EXACT].a for seed in result.inversions]
    yield of_worst("inversion: latent / exact solver, cells", ratio, None, "")
    noise = [seed.noise for seed in result.bayes]
    yield of_worst("noise by the evidence / true noise", noise, None, "")


def headline(result: Result) -> str:
    """The one figure that matters."""
    found = [seed[MULTI] for seed in result.forwards]
    other = np.mean([one.mean_field for one in found])
    phases = [one.accuracy for one in found if one.accuracy is not None]
    right = f", phases {spread(phases, '.3f')} right (bar 0.92)" if phases else ""
    pressure = spread([one.u for one in found], ".3f")
    return (
        f"pressure {pressure} off without a solution seen (their mean: {other:.3f}){right}; "
        f"inverted medium {spread([seed[MULTI].a for seed in result.inversions], '.3f')}; seeds: {len(found)}"
    )
