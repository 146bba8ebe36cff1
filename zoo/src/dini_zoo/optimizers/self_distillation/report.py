"""What the experiment prints.

References were computed for the specification, with other code; the toy's are also those of the paper's repository.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from dini_zoo.kit.seeds import Estimate, Paired
from dini_zoo.kit.tables import Bar, Check, Table, at_least, at_most

from .study import CLEAN, DIABETES, DISTILLED, GRID, HYPERGRADIENT, NOISY, RIDGE, Distillation, Result

#: The toy's errors after 1, 2, … steps, and of the limit, by the share of the ground truth.
TOY = {
    0.0: (0.16477, 0.15076, 0.14915, 0.15561, 0.16735, 0.18251, 0.49505),
    0.25: (0.16477, 0.15309, 0.14958, 0.14903, 0.14946, 0.15011, 0.15250),
    0.35: (0.16477, 0.15424, 0.15089, 0.14983, 0.14954, 0.14948, 0.14959),
}
#: Test errors of the first and the tenth step, by data and ridge, and the bar on what is gained.
REAL = {
    (DIABETES, 0.1): (0.7376, 0.4842, 25.0),
    (DIABETES, 1.0): (0.5141, 0.4744, 4.0),
    (NOISY, 0.1): (0.0266, 0.0239, 6.0),
}


def tables(result: Result) -> list[Table]:
    """The toy, real data, tuning, networks."""
    return [toy_table(result), real_table(result), tuning_table(result), network_table(result)]


def toy_table(result: Result) -> Table:
    """Errors of the toy's steps."""
    rows = [[f"{one.share:g}", *(f"{loss:.5f}" for loss in (*one.losses, one.limit))] for one in result.toy]
    steps = map(str, range(1, 1 + len(result.toy[0].losses)))
    return Table(
        "Toy: squared error of each step of self-distillation",
        ("α", *steps, "limit"),
        rows,
        "α: the share of the ground truth. The limit is ridge regression with the ridge λ/α.",
    )


def _shares(alphas: np.ndarray) -> str:
    if np.all(alphas == 1):
        return "all 1"
    first, last = (f"{alpha:.2f}".rstrip("0").rstrip(".") for alpha in alphas[[0, -1]])
    return first if len(alphas) == 1 else f"{first} to {last}"


def real_table(result: Result) -> Table:
    """Real data: what self-distillation gains, and what else could be done with the kernel."""
    rows: list[list[str] | None] = []
    seen = set()
    for one in result.distillations:
        if one.data not in seen:
            rows += [None] * bool(rows)
            for name, rival in one.rivals.items():
                if "α = 0" not in name:
                    rows.append([one.data, name, rival.how, f"{rival.validation:.4f}", f"{rival.test:.4f}"])
        seen.add(one.data)
        rows += [[one.data, f"λ = {one.ridge:g}", what, f"{v:.4f}", f"{t:.4f}"] for what, v, t in _steps(one)]
    return Table(
        "Real data: mean squared error",
        ("data", "model", "", "validation", "test"),
        rows,
        f"With a fixed λ, one fit, and {result.settings.steps} steps with the best α of each (its first and last are "
        "shown); without ground truth (α = 0) the steps are stopped at the best one. Above, with the same kernel, the "
        "ridge or the number of steps of descent is chosen instead. All but the cross-validated one are chosen on the "
        "validation sample.",
        left=3,
    )


def _steps(one: Distillation) -> Iterator[tuple[str, float, float]]:
    yield "one fit", one.validation[0], one.test[0]
    yield f"α {_shares(one.alphas)}", one.validation[-1], one.test[-1]
    zero = next(rival for name, rival in one.rivals.items() if "α = 0" in name)
    yield f"α = 0, {zero.how}", zero.validation, zero.test


def tuning_table(result: Result) -> Table:
    """Ridge and kernel by grid and by hypergradient."""
    rows: list[list[str] | None] = []
    for model, searches in result.searches.items():
        rows += [None] * bool(rows)
        for how, search in searches.items():
            ridge, gamma = np.exp(search.best[:2])
            figures = (f"{ridge:.3g}", f"{gamma:.3g}", f"{search.validation:.4f}", f"{search.test:.4f}")
            rows.append([model, how, *figures, str(search.evaluations)])
    return Table(
        "Diabetes: ridge λ and kernel γ by validation error",
        ("model", "search", "λ", "γ", "validation", "test", "tried"),
        rows,
        "Hypergradient: BFGS from λ = 1 and γ = 0.1, differentiated by dini through the solves and, where it is "
        "distilled, through the best α of each step; all free: the α descend, too, from 1/2 each.",
        left=2,
    )


def _accuracies(result: Result) -> dict[str, list[float]]:
    found = {"teacher": [one.teacher for one in result.networks]}
    found["estimated α"] = [one.estimated for one in result.networks]
    for i, share in enumerate(result.settings.shares):
        found[f"α = {share:g}"] = [one.grid[i] for one in result.networks]
    return found


def network_table(result: Result) -> Table:
    """Accuracies of networks."""
    teacher = [one.teacher for one in result.networks]
    rows = []
    for name, values in _accuracies(result).items():
        gain = "" if name == "teacher" else f"{Paired.of(values, teacher, scale=100):.2f}"
        rows.append([name, f"{Estimate.of(values, scale=100):.2f}", gain])
    alphas = ", ".join(f"{one.alpha:.2f}" for one in result.networks)
    return Table(
        "Networks on digits with wrong labels: test accuracy in percent",
        ("trained with", "accuracy", "beside the teacher"),
        rows,
        f"{len(result.networks)} seeds, {result.settings.label_noise:.0%} of the training labels redrawn; mean and "
        f"interval of 95 %. Estimated α before it is clipped: {alphas}.",
    )


def checks(result: Result) -> Iterator[Check]:
    """Every bar of the specification."""
    known = {one.share: one for one in result.toy}
    for share, reference in TOY.items():
        one = known.get(share)
        error = float(np.max(np.abs([*one.losses, one.limit] - np.array(reference)))) if one else None
        yield Check(f"toy, α = {share:g}: deviation", error, at_most(5.5e-6), "5 decimals", "same", ".1e")
    exact = result.exactness
    yield Check("limit as a fixed point: error", exact.limit, at_most(1e-9), form=".1e")
    for what, errors, bar in (
        ("limit: slope in", exact.limit_derivatives, 1e-8),
        ("best α: slope in", exact.weight_derivatives, 1e-5),
        ("step 3: slope in", exact.step_derivatives, 1e-5),
    ):
        for name, error in errors.items():
            yield Check(f"{what} {name}, error", error, at_most(bar), form=".1e")
    for (data, ridge), (first, last, bar) in REAL.items():
        one = result.find(data, ridge)
        what = f"{data}, λ = {ridge:g}: gain, %"
        gain = 100 * one.gain if one else None
        yield Check(what, gain, at_least(bar), 100 * (1 - last / first), "improves", ".1f")
    for data, ridge in ((DIABETES, 10.0), (NOISY, 1.0), (CLEAN, 0.1)):
        one = result.find(data, ridge)
        changed = float(np.max(np.abs(one.test - one.test[0]))) if one else None
        yield Check(f"{data}, λ = {ridge:g}: change", changed, at_most(0), 0.0, form=".1g")
    real = result.distillations
    gap, excess = max(one.grid_gap for one in real), max(one.grid_excess for one in real)
    yield Check("best α beside a grid's: distance", gap, at_most(1e-3), form=".1e")
    yield Check("error above that of α = 0 or 1", excess, at_most(1e-10), form=".1e")
    for model in (RIDGE, DISTILLED):
        found = result.searches.get(model)
        less = found[HYPERGRADIENT].validation / found[GRID].validation if found else None
        yield Check(f"{model}: descent / grid", less, at_most(1), form=".4f")
    yield from _network_checks(result)


def _network_checks(result: Result) -> Iterator[Check]:
    means = {name: 100 * float(np.mean(values)) for name, values in _accuracies(result).items()}
    estimated, grid = means["estimated α"], [value for name, value in means.items() if name.startswith("α")]
    yield Check(
        "networks: best of the grid − estimated α, points", max(grid) - estimated, at_most(1.5), 0.37, "≈ 0", ".2f"
    )
    more = "improves"
    yield Check("networks: estimated − teacher", estimated - means["teacher"], at_least(0.5), 1.14, more, ".2f")
    whole = means.get("α = 1")
    gain = None if whole is None else estimated - whole
    yield Check("networks: estimated − α = 1", gain, at_least(0.5), 1.07, more, ".2f")
    alpha = float(np.mean([one.alpha for one in result.networks]))
    yield Check("networks: estimated α, mean", alpha, Bar("0.1 to 0.7", 0.1, 0.7, open=True), 0.41, form=".2f")


def headline(result: Result) -> str:
    """The one figure that matters."""
    values = _accuracies(result)
    ours, teacher = (Estimate.of(values[name], scale=100) for name in ("estimated α", "teacher"))
    gain = Paired.of(values["estimated α"], values["teacher"], scale=100)
    clear = "" if gain.clear else ", no clear difference"
    return (
        f"networks on digits with {result.settings.label_noise:.0%} wrong labels: {ours:.2f} % with the estimated α, "
        f"teacher {teacher:.2f} %: {gain:.2f} points{clear}"
    )
