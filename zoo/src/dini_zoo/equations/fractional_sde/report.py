"""What the experiment prints. References were computed for the specification, with other code."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from dini_zoo.kit.seeds import Estimate, Paired
from dini_zoo.kit.tables import Check, Table, above, at_least, at_most, between

from .bridge import Bridge
from .learning import Learned
from .moving import Outcome
from .study import HURSTS, Grid, Result

#: Exact values and estimates of the bridges at many steps, by type and index.
BRIDGES = {
    ("II", 0.3): (-1.5105, -1.523),
    ("II", 0.7): (-1.5556, -1.558),
    ("I", 0.3): (-1.5745, -1.591),
    ("I", 0.7): (-1.5875, -1.592),
}
#: By index: exact maximum likelihood's index and value, and what was learned.
LEARNED = {0.3: (0.295, -10.306, "0.355 to 0.359", -10.62), 0.7: (0.704, -5.804, "0.655 to 0.686", -6.13)}
#: The fractional model's loss over the Brownian one's.
VIDEO = 129 / 165


def tables(result: Result) -> list[Table]:
    """The approximation, bridges, learning, video."""
    return [
        grid_table(result.grids),
        *([bridge_table(result.bridges)] if result.bridges else []),
        *([learning_table(result.learned)] if result.learned else []),
        *([video_table(result, result.videos)] if result.videos else []),
    ]


def grid_table(grids: list[Grid]) -> Table:
    """Errors by index."""
    rows = [
        [f"type {one.kind}, {one.count} to {one.fastest:g}", *(f"{error:.1e}" for error in one.errors)] for one in grids
    ]
    columns = ("", *(f"H = {hurst:g}" for hurst in HURSTS))
    return Table(
        "Fractional noise by a few processes: relative squared error over the horizon",
        columns,
        rows,
        "Horizon 1; so many processes, whose speeds go up to the number that follows.",
    )


def bridge_table(bridges: list[Bridge]) -> Table:
    """Estimates beside exact values."""
    rows = [
        [
            f"type {one.kind}, H = {one.hurst:g}",
            str(one.steps),
            f"{one.exact:.4f}",
            f"{one.estimate:.4f} ± {one.error:.4f}",
            f"{one.bound:.3f} ± {one.bound_error:.3f}",
        ]
        for one in bridges
    ]
    columns = ("", "steps", "exact", "less ∫u dW", "plain bound")
    return Table("Bridges with the exact control: the evidence", columns, rows, "± one standard error.")


def learning_table(learned: list[Learned]) -> Table:
    """What each way finds."""
    rows: list[list[str] | None] = []
    for one in learned:
        truth = one.likelihood
        rows += [
            [f"H = {one.case.hurst:g}, true model", f"{one.case.hurst:g}", f"{one.exact:.3f}"],
            ["exact maximum likelihood", f"{truth.hurst:.3f}", f"{truth.value:.3f}"],
            ["variational", f"{Estimate.of(one.hursts):.3f}", f"{Estimate.of(one.bounds):.3f}"],
            ["variational, Brownian", "0.5", f"{Estimate.of(one.half_bounds):.3f}"],
            ["true model with H = 1/2", "0.5", f"{one.exact_half:.3f}"],
            None,
        ]
    caption = (
        "Log-likelihood of a sequence, or its bound; of the true models its expectation. "
        f"± half of an interval of 95 %, {len(learned[0].hursts)} trainings."
    )
    return Table("The Hurst index of noisy looks at fractional Brownian motion", ("", "H", "value"), rows[:-1], caption)


def video_table(result: Result, videos: list[Outcome]) -> Table:
    """On other clips."""
    rows = [
        [
            one.noise,
            f"{one.loss:.0f}",
            f"{one.error:.3f}",
            f"{one.kl:.0f}",
            "" if one.hurst is None else f"{one.hurst:.2f}",
            f"{one.mass:.2f}",
        ]
        for one in videos
    ]
    caption = (
        f"{result.settings.test_clips} other clips. Error: squared, of a frame, whose pixels' variance is "
        f"{result.pixel_variance:.2f}. Mass: of new clips' frames, over the data's."
    )
    columns = ("noise", "loss", "error", "divergence", "H", "mass")
    return Table("Blobs that bounce off walls", columns, rows, caption)


def checks(result: Result) -> Iterator[Check]:
    """Every bar of the specification."""
    yield from bridge_checks(result.bridges or [])
    yield from learning_checks(result.learned or [])
    yield from video_checks(result)


def bridge_checks(bridges: list[Bridge]) -> Iterator[Check]:
    """The bars of bridges."""
    if not bridges:
        yield Check("bridges", None)
        return
    coarse, *fine = bridges  # the first two are of one noise
    for one in fine:
        name = f"bridge {one.kind}, {one.hurst:g}"
        exact, reference = BRIDGES[one.kind, one.hurst]
        yield Check(f"{name}: exact", one.exact, between(exact - 6e-5, exact + 6e-5), exact, form=".4f")
        yield Check(f"{name}: distance from it", one.gap, at_most(0.03), abs(reference - exact), form=".3f")
        yield Check(f"{name}: of the plain bound", abs(one.bound - one.exact), at_most(0.05), form=".3f")
        if one.exact_variance is not None:
            share = abs(one.variance / one.exact_variance - 1)
            yield Check(f"{name}: variance at 1, error", share, at_most(0.04), form=".1%")
    ratio = coarse.gap / fine[0].gap
    yield Check(f"bridge II, 0.3: error at {coarse.steps} / {fine[0].steps} steps", ratio, at_least(3), 4.8, form=".1f")


def learning_checks(learned: list[Learned]) -> Iterator[Check]:
    """The bars of learning."""
    if not learned:
        yield Check("learning", None)
    for one in learned:
        H = one.case.hurst
        exact, value, variational, bound = LEARNED[H]
        name = f"H = {H:g}"
        yield Check(f"{name}: exact likelihood's index", one.likelihood.hurst, reference=exact, form=".3f")
        yield Check(f"{name}: its log-likelihood", one.likelihood.value, reference=value, form=".3f")
        worst = max(one.hursts, key=lambda found: abs(found - H))
        yield Check(f"{name}: worst learned index", worst, between(H - 0.1, H + 0.1), variational, form=".3f")
        gain = Paired.of(one.bounds, one.half_bounds)
        yield Check(f"{name}: bound, learned - Brownian", gain.difference.mean, at_least(0.15), form=".3f")
        over = max(one.bounds) - one.likelihood.value
        yield Check(f"{name}: bound - greatest likelihood", over, at_most(0.15), bound - value, form=".3f")


def video_checks(result: Result) -> Iterator[Check]:
    """The bars of the video model."""
    ours, white = result.videos or (None, None)
    both = ours is not None and white is not None
    ratio = ours.loss / white.loss if both else None
    yield Check("video: loss, fractional / Brownian", ratio, at_most(0.9), VIDEO, 608 / 914, form=".3f")
    share = None if ours is None else ours.error / result.pixel_variance
    yield Check("video: error / pixel variance", share, at_most(0.05), 0.111 / 3.85, form=".3f")
    yield Check("video: index", None if ours is None else ours.hurst, above(0.6), 0.79, form=".2f")
    mass = None if ours is None else abs(ours.mass - 1) if ours.finite else np.inf
    yield Check("video: mass of new frames, error", mass, at_most(0.15), form=".3f")


def headline(result: Result) -> str:
    """The one figure that matters."""
    if not result.learned:
        return "the index was not learned in this run"
    one = result.learned[0]
    ours, brownian = Estimate.of(one.bounds), Estimate.of(one.half_bounds)
    return (
        f"a Hurst index of {one.case.hurst:g} is learned as {Estimate.of(one.hursts):.3f} (exact likelihood "
        f"{one.likelihood.hurst:.3f}); bound {ours:.3f} nats, Brownian {brownian:.3f}"
    )
