"""What the experiment prints, and its bars."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from dini_zoo.kit.tables import Check, Table, at_least, at_most, below, between

from .eigenvalues import batch_extreme_eigenvalues
from .study import Curvature, Result
from .training import Rates


def tables(result: Result) -> Sequence[Table]:
    """Eigenvalues beside the formula, for matrices and for networks; stable rates; the learner beside grids."""
    return [_matrices(result), _tops(result), _stable(result), _learner(result)]


def _matrices(result: Result) -> Table:
    setup = result.settings.matrices
    rows = []
    for b, draws in result.matrices.items():
        predicted = expected(result, b)
        means = np.mean(draws, axis=0)
        rows.append([str(b), *(f"{x:.3f}" for pair in zip(means, predicted, strict=True) for x in pair)])
    caption = (
        f"Eigenvalues {setup.largest:g} and {setup.smallest:g} in Gaussian noise, {setup.size} dimensions, the mean of "
        f"{setup.draws} draws."
    )
    columns = ("batch", "largest", "formula", "smallest", "formula")
    return Table("Extreme eigenvalues of random matrices", columns, rows, caption)


def expected(result: Result, b: int) -> tuple[float, float]:
    """The formula's extreme eigenvalues of the random matrices."""
    setup = result.settings.matrices
    top, bottom = batch_extreme_eigenvalues(setup.largest, setup.smallest, setup.size * setup.sigma**2, b)
    return float(top), float(bottom)


def predicted(one: Curvature, b: int, noise: float, data: int) -> float:
    """The formula's largest eigenvalue of a batch drawn without replacement."""
    return float(batch_extreme_eigenvalues(one.largest, 0.0, noise, b, data)[0])


def _tops(result: Result) -> Table:
    rows = []
    for b in result.settings.hessian.batches:
        cells = []
        for one in result.curvatures:
            cells.append(
                (
                    np.mean(one.tops[b]),
                    predicted(one, b, one.directional, result.data),
                    predicted(one, b, one.isotropic, result.data),
                )
            )
        rows.append([str(b), *(f"{x:.3f}" for x in np.mean(cells, axis=0))])
    firsts = [one.largest for one in result.curvatures]
    rows.append(["all", f"{np.mean(firsts):.3f}", "", ""])
    noises = [(one.directional, one.isotropic) for one in result.curvatures]
    along, around = np.mean(noises, axis=0)
    caption = (
        f"A perceptron with {result.curvatures[0].parameters} parameters at its first weights, {len(firsts)} seeds, "
        f"{result.settings.hessian.draws} batches of each size. The noise along the first eigenvector is {along:.3g}, "
        f"along random directions {around:.2g}."
    )
    columns = ("batch", "measured", "noise along it", "random noise")
    return Table("The largest eigenvalue of a batch's Hessian", columns, rows, caption)


def _stable(result: Result) -> Table:
    sizes = sorted({*result.sgd.largest, *result.adam.largest})
    rows = [
        [str(b), *(f"{rates.largest[b]:.3g}" if b in rates.largest else "-" for rates in (result.sgd, result.adam))]
        for b in sizes
    ]
    setup = result.settings.stability
    caption = (
        f"The largest rate at which {setup.stable} of {setup.runs} runs end below a loss of {setup.bound:g} after "
        f"{setup.steps} steps, among {2 * setup.around + 1} rates by factors of √2; the same runs whatever the seeds."
    )
    return Table("The largest stable rate", ("batch", "SGD", "Adam"), rows, caption)


def _learner(result: Result) -> Table:
    found = result.learned
    rows: list[list[str] | None] = []
    for b in found.sgd:
        (rate, momentum), _ = found.best(b)
        for (batch, safety), losses in found.learner.items():
            if batch == b:
                last = found.rates[b, safety]
                shown = f"{np.mean([one for one, _ in last]):.2g}, {np.mean([one for _, one in last]):.2g}"
                rows.append([str(b), f"learner, s = {safety:g}", shown, _losses(losses)])
        best = min(found.adam[b], key=lambda one: np.nan_to_num(np.mean(found.adam[b][one]), nan=np.inf))
        rows += [
            [str(b), "SGD, best of grid", f"{rate:.2g}, {momentum:g}", _losses(found.sgd[b][rate, momentum])],
            [str(b), "Adam, best of grid", f"{best:.2g}", _losses(found.adam[b][best])],
            [
                str(b),
                "SGD, 1 / λ₁",
                f"{np.mean([1 / top for top, _ in found.curvature]):.2g}, 0",
                _losses(found.inverse[b]),
            ],
        ]
        default = result.settings.learner.default
        if default in found.sgd[b]:
            shown = f"{default[0]:.2g}, {default[1]:g}"
            rows.append([str(b), "SGD, default", shown, _losses(found.sgd[b][default])])
        if b != 128 and 128 in found.sgd:
            for name, (cell, losses) in found.transferred(128, b).items():
                rows.append([str(b), f"best of 128, {name}", f"{cell:.2g}", _losses(losses)])
        rows.append(None)
    setup = result.settings.learner
    caption = (
        f"{setup.epochs} passes, {len(result.settings.seeds)} seeds: the mean, the least and the greatest. Rates and "
        "momenta of the learner are its last. Scaled rates are taken at the nearest one of the grid."
    )
    return Table("Final training loss", ("batch", "way", "rate, momentum", "loss"), rows[:-1], caption, left=2)


def _losses(values: Sequence[float]) -> str:
    if not np.all(np.isfinite(values)):
        return f"{np.sum(~np.isfinite(values))} of {len(values)} diverged"
    return f"{np.mean(values):.1e} ({min(values):.0e} to {max(values):.0e})"


def checks(result: Result) -> Iterator[Check]:
    """Every bar of the specification.

    Errors are relative distances of a mean from the formula, the worst of them. Rise: the most that a seed's mean over
    batches grows from one size to the next, with its standard error. Random: the excess by noise in random directions.
    The learner's are final losses.
    """
    yield from _matrix_checks(result)
    yield from _hessian_checks(result)
    yield from _rate_checks(result.sgd, result.adam)
    yield from _learner_checks(result)


def _matrix_checks(result: Result) -> Iterator[Check]:
    errors = []
    for b, draws in result.matrices.items():
        for mean, formula in zip(np.mean(draws, axis=0), expected(result, b), strict=True):
            errors.append(abs(mean / formula - 1))
    yield Check("matrices: error", max(errors), at_most(0.03), reference="0.008", form=".3f")


def _hessian_checks(result: Result) -> Iterator[Check]:
    sizes = result.settings.hessian.batches
    measured = np.asarray([[np.mean(one.tops[b]) for b in sizes] for one in result.curvatures])
    ours = np.asarray([[predicted(one, b, one.directional, result.data) for b in sizes] for one in result.curvatures])
    firsts = np.asarray([[one.largest] for one in result.curvatures])
    far = float(np.max(np.abs(ours / measured - 1)))
    yield Check("Hessians: error", far, at_most(0.05), reference="0.017", form=".3f")
    rising = risen = None
    if len(sizes) > 1:
        steps = np.diff(measured, axis=1)
        seed, place = np.unravel_index(np.argmax(steps), steps.shape)
        tops = result.curvatures[seed].tops
        noise = np.hypot(*(np.std(tops[b], ddof=1) / np.sqrt(len(tops[b])) for b in sizes[place : place + 2]))
        rising, risen = float(steps.max()), f"{steps.max():.3f} ± {noise:.3f}"
    yield Check("Hessians: rise with b", rising, below(0), reference="< 0", shown=risen or "")
    together = float(np.max(np.diff(np.mean(measured, axis=0)))) if len(sizes) > 1 else None
    yield Check("  mean of the seeds", together, form=".3f")
    kept = [i for i, b in enumerate(sizes) if 8 <= b <= 64]
    excess = (measured - firsts)[:, kept]
    slopes: list[float] = []
    if len(kept) > 1 and np.all(excess > 0):
        slopes = [float(np.polyfit(np.log(np.asarray(sizes)[kept]), np.log(row), 1)[0]) for row in excess]
    worst = max(slopes, key=lambda slope: abs(slope + 1)) if slopes else None
    shown = ", ".join(f"{slope:.2f}" for slope in slopes)
    yield Check("Hessians: excess, slope", worst, between(-1.25, -0.75), "-0.96", shown=shown)
    missed = None
    if 8 in sizes:
        i = sizes.index(8)
        weak = [predicted(one, 8, one.isotropic, result.data) - one.largest for one in result.curvatures]
        missed = float(np.min((measured - firsts)[:, i] / np.asarray(weak)))
    yield Check("Hessians: excess / random", missed, at_least(10), reference="38", form=".0f")


def _rate_checks(sgd: Rates, adam: Rates) -> Iterator[Check]:
    ours, other = sgd.slope(2, 32), adam.slope(2, 128)
    yield Check("SGD's rate: slope to 32", ours, between(0.6, 1.1), "0.75", paper="1", form=".2f")
    yield Check("Adam's rate: slope", other, between(0.3, 0.65), "0.40", paper="0.5", form=".2f")
    apart = None if ours is None or other is None else ours - other
    yield Check("rates: slopes apart", apart, at_least(0.1), "0.35", paper="0.5", form=".2f")
    large = (sgd.largest.get(512), sgd.largest.get(128))
    ratio = None if large[0] is None or large[1] is None else large[0] / large[1]
    yield Check("SGD's rate: 512 / 128", ratio, at_most(1.45), reference="1.19", form=".2f")


def _learner_checks(result: Result) -> Iterator[Check]:
    found = result.learned

    def mean(b: int, safety: float) -> float | None:
        losses = found.learner.get((b, safety))
        return None if losses is None else float(np.mean(losses))

    def beside_grid(b: int) -> float | None:
        ours = mean(b, 0.25)
        return None if ours is None else ours / found.best(b)[1]

    yield Check("learner, 128 / grid", beside_grid(128), at_most(3), reference="0.4", form=".2f")
    yield Check("learner, 512 / grid", beside_grid(512), at_most(6), reference="2.5", form=".2f")
    default = found.sgd.get(512, {}).get(result.settings.learner.default)
    large = mean(512, 0.25)
    part = None if large is None or default is None else large / float(np.mean(default))
    yield Check("learner, 512 / default", part, at_most(0.2), reference="0.02", form=".3f")
    yield Check("learner, 32, s = 0.1", mean(32, 0.1), at_most(0.1), reference="5e-5", form=".1e")
    bold, ours = mean(128, 1.0), mean(128, 0.25)
    worse = None
    if bold is not None and ours is not None:
        worse = bold / ours if np.isfinite(bold) else np.inf
    yield Check("learner, 128, s = 1 / ¼", worse, at_least(20), reference="400", form=".0f")


def headline(result: Result) -> str:
    """The one figure that matters."""
    sizes = result.settings.hessian.batches
    far = max(
        abs(predicted(one, b, one.directional, result.data) / np.mean(one.tops[b]) - 1)
        for one in result.curvatures
        for b in sizes
    )
    return (
        f"the top eigenvalue of a batch's Hessian is that of the formula to {far:.0%} at worst, for batches of "
        f"{min(sizes)} to {max(sizes)}; seeds: {len(result.curvatures)}"
    )
