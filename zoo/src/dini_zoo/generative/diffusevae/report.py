"""What the experiment prints and draws. References were computed for the specification, with other code."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from matplotlib.figure import Figure

from dini_zoo.kit import pictures
from dini_zoo.kit.seeds import Estimate
from dini_zoo.kit.tables import Bar, Check, Table, at_least, at_most, worst

from .measures import Quality
from .sampling import COARSE, CODES, MIXTURE, NOISY, NORMAL, PRIORS, VAE_ALONE, middle
from .study import Result
from .training import FIRST, PLAIN, SECOND

#: Distances in features by steps: without a code, both formulations, and the first one with other codes.
FEATURES = {
    2: {(PLAIN, ""): 6.53, (FIRST, MIXTURE): 1.45, (SECOND, MIXTURE): 1.63, (FIRST, NORMAL): 2.65},
    4: {(PLAIN, ""): 2.14, (FIRST, MIXTURE): 0.70, (SECOND, MIXTURE): 0.72, (FIRST, NORMAL): 1.78},
    5: {(PLAIN, ""): 1.71, (FIRST, MIXTURE): 0.62, (SECOND, MIXTURE): 0.65, (FIRST, NORMAL): 1.69},
    10: {(PLAIN, ""): 1.15, (FIRST, MIXTURE): 0.56, (SECOND, MIXTURE): 0.57, (FIRST, NORMAL): 1.60},
    50: {(PLAIN, ""): 0.89, (FIRST, MIXTURE): 0.59, (SECOND, MIXTURE): 0.62, (FIRST, NORMAL): 1.60},
}
METHODS = (
    (PLAIN, ""),
    (FIRST, MIXTURE),
    (SECOND, MIXTURE),
    (FIRST, NORMAL),
    (SECOND, NORMAL),
    (FIRST, CODES),
    (f"{FIRST}, {NOISY}", MIXTURE),
    (f"{FIRST}, {COARSE}", MIXTURE),
)
ALONE = tuple((VAE_ALONE, prior) for prior in PRIORS)


def figures(result: Result, of: Callable[[Quality], float], method: str, prior: str, steps: int | None) -> list[float]:
    """One for each seed, none where it was not measured."""
    wanted = (method, prior, steps)
    return [
        of(one.quality) for two in result.samples for one in two.scores if (one.method, one.prior, one.steps) == wanted
    ]


def features(quality: Quality) -> float:
    """Fréchet's distance in features."""
    return quality.features


def edges(quality: Quality) -> float:
    """Fréchet's distance of Laplacians."""
    return quality.edges


def tables(result: Result) -> list[Table]:
    """Both metrics, what code and noise decide, inversion."""
    halves = Estimate.of(one.halves.features for one in result.samples)
    caption = f"Half of the data is {halves.mean:.2f} from the other half. Means over seeds {result.settings.seeds}."
    shown_tables = [quality_table(result, "Features of a classifier: Fréchet distance", features, caption)]
    halves = Estimate.of(one.halves.edges for one in result.samples)
    caption = f"Half of the data is {halves.mean:.2f} from the other half. What is blurred is far from them."
    shown_tables.append(quality_table(result, "Edges, by the Laplacian: Fréchet distance", edges, caption))
    shown_tables.append(detail_table(result))
    if any(result.inversions):
        shown_tables.append(inversion_table(result))
    return shown_tables


def quality_table(result: Result, title: str, of: Callable[[Quality], float], caption: str) -> Table:
    """A metric by method, prior and steps."""
    counts = result.settings.counts
    rows = []
    for method, prior in METHODS:
        cells = [figures(result, of, method, prior, n) for n in counts]
        if cells[0]:
            rows.append([method, prior, *(f"{np.mean(one):.2f}" for one in cells)])
    rows.append(None)
    for method, prior in ALONE:
        rows.append(
            [method, prior, f"{np.mean(figures(result, of, method, prior, None)):.2f}", *[""] * (len(counts) - 1)]
        )
    columns = ("method", "codes", *(f"{n} steps" for n in counts))
    return Table(title, columns, rows, caption, left=2)


def detail_table(result: Result) -> Table:
    """Pixels, variances, labels."""
    at = middle(result.settings.counts)
    mean = lambda of, name, n: f"{np.mean(figures(result, of, *name, n)):.3f}"
    pixels, variance = (lambda one: one.pixels), (lambda one: one.variance)
    rows = [
        [f"{name[0]}, {name[1]}".removesuffix(", "), mean(pixels, name, n), mean(variance, name, n)]
        for name, n in ((ALONE[0], None), ((FIRST, MIXTURE), at), ((PLAIN, ""), at))
    ]
    rows.append(["data", "", f"{np.mean([one.variance for one in result.samples]):.3f}"])
    code, noise = (np.mean([getattr(one, name) for one in result.samples]) for name in ("same_code", "same_noise"))
    caption = (
        f"Refined in {at} steps. The judge calls two images the same digit in {code:.0%} of pairs with one code and "
        f"two noises, and in {noise:.0%} of pairs with one noise and two codes."
    )
    return Table("Pixels and sharpness", ("", "pixels: distance", "variance of Laplacian"), rows, caption)


def inversion_table(result: Result) -> Table:
    """Errors there and back."""
    rows = [
        [
            f"{seeds[0].steps}",
            f"{Estimate.of(one.one_step for one in seeds):.3f}",
            f"{Estimate.of(one.fixed_point for one in seeds):.1e}",
            f"{np.mean([one.scale for one in seeds]):.2f}",
            f"{np.mean([one.found for one in seeds]):.0%}",
        ]
        for seeds in zip(*result.inversions, strict=True)
    ]
    caption = (
        f"{result.settings.inverted} images that were not trained with, numbers in [-1, 1], by their codes and the "
        "noise found. The last column is the share whose fixed points were all found, of which the errors are. The "
        f"code alone leaves {np.mean(result.reconstruction):.3f}."
    )
    columns = ("steps", "error, one step", "error, fixed point", "noise found", "images")
    return Table("Inversion of DDIM: root mean square error there and back", columns, rows, caption)


def ratios(one: list[float], other: list[float]) -> list[float]:
    """Seed by seed, none where one of the two was not measured."""
    return [a / b for a, b in zip(one, other, strict=True)] if one else []


def checks(result: Result) -> Iterator[Check]:
    """Every bar of the specification. All seeds must meet it: the worst one's figure counts."""
    at = lambda of, *name: figures(result, of, *name)

    def of_worst(name: str, values: list[float], bar: Bar | None, reference: float | str, paper: str = "") -> Check:
        return worst(name, values, bar, reference, paper, ".2f")

    for n, bound, paper in ((10, 0.65, "0.48 (CelebA-HQ)"), (5, 0.5, "")):
        ours = ratios(at(features, FIRST, MIXTURE, n), at(features, PLAIN, "", n))
        reference = FEATURES[n][FIRST, MIXTURE] / FEATURES[n][PLAIN, ""]
        yield of_worst(f"features, {n} steps: form. 1 / DDIM", ours, at_most(bound), reference, paper)
    gaps = [
        abs(ratio - 1)
        for n in result.settings.counts
        if 5 <= n <= 50
        for ratio in ratios(at(features, SECOND, MIXTURE, n), at(features, FIRST, MIXTURE, n))
    ]
    yield of_worst("features: form. 2 from form. 1, 5 to 50 steps", gaps, at_most(0.15), "0.01 to 0.10")
    ours = ratios(at(features, FIRST, NORMAL, 10), at(features, FIRST, MIXTURE, 10))
    reference = FEATURES[10][FIRST, NORMAL] / FEATURES[10][FIRST, MIXTURE]
    yield of_worst("features, 10 steps: N(0, I) / mixture", ours, at_least(2), reference)
    ours = ratios(at(edges, FIRST, MIXTURE, 10), at(edges, VAE_ALONE, MIXTURE, None))
    yield of_worst("edges, 10 steps: form. 1 / VAE alone", ours, at_most(0.6), 1.01 / 2.66)
    ours = ratios(at(features, FIRST, NORMAL, 10), at(features, PLAIN, "", 10))
    reference = FEATURES[10][FIRST, NORMAL] / FEATURES[10][PLAIN, ""]
    yield of_worst("features, 10 steps: form. 1, N(0, I) / DDIM", ours, None, reference)
    ours = ratios(at(features, FIRST, MIXTURE, 10), at(features, VAE_ALONE, MIXTURE, None))
    yield of_worst("features, 10 steps: form. 1 / VAE alone", ours, None, 0.56 / 0.35)


def headline(result: Result) -> str:
    """The one figure that matters, beside its first stage alone and a diffusion without a code, in both metrics."""
    n = middle(result.settings.counts)
    methods = ((FIRST, MIXTURE, n), (VAE_ALONE, MIXTURE, None), (PLAIN, "", n))
    ours, alone, plain = (float(np.mean(figures(result, features, *name))) for name in methods)
    in_edges = ", ".join(f"{np.mean(figures(result, edges, *name)):.2f}" for name in methods)
    return (
        f"Fréchet distance in features, {n} steps: {ours:.2f}, its VAE alone {alone:.2f}, DDIM without a code "
        f"{plain:.2f}; in edges {in_edges} (means; seeds: {len(result.samples)})"
    )


def draw(result: Result) -> Figure:
    """Reconstructions before and after, samples, both metrics, inversion."""
    figure = pictures.canvas("A blurred image from a code, sharpened by a diffusion", height=8.5)
    top, bottom = figure.subfigures(2, 1, height_ratios=(1, 1.1))
    at, rows = middle(result.settings.counts), result.samples[0].rows
    left, right = top.subplots(1, 2)
    for axes, names, title in (
        (
            left,
            ("images", "decoded", "refined", "walk"),
            "not trained with: the images, decoded, refined;\nfrom the first code to the second with one noise",
        ),
        (
            right,
            (PLAIN, VAE_ALONE, FIRST),
            f"drawn: by DDIM without a code in {at} steps,\nby the VAE, and these refined in {at} steps",
        ),
    ):
        shown = np.concatenate([rows[name] for name in names])
        axes.imshow(pictures.mosaic(shown.reshape(-1, 8, 8), len(rows[names[0]]), low=0, high=1))
        pictures.bare(axes)
        axes.set_title(title)
    lines = (
        (PLAIN, "", pictures.RIVAL, "-"),
        (FIRST, MIXTURE, pictures.METHOD, "-"),
        (SECOND, MIXTURE, pictures.THIRD, "-"),
        (FIRST, NORMAL, pictures.METHOD, ":"),
    )
    panels = bottom.subplots(1, 3 if any(result.inversions) else 2)
    counts = result.settings.counts
    for axes, of, title in zip(panels, (features, edges), ("features of a classifier", "edges"), strict=False):
        for method, prior, color, ls in lines:
            runs = [figures(result, of, method, prior, n) for n in counts]
            if runs[0]:
                label = f"{method}, {prior}".removesuffix(", ")
                pictures.band(axes, counts, np.transpose(runs), color=color, label=label, ls=ls)
        for prior, ls in ((MIXTURE, "--"), (NORMAL, ":")):
            values = figures(result, of, VAE_ALONE, prior, None)
            axes.axhline(np.mean(values), color=pictures.QUIET, ls=ls, lw=1.2, label=f"{VAE_ALONE}, {prior}")
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xticks(counts, [str(n) for n in counts])
        axes.minorticks_off()
        axes.set_xlabel("steps of DDIM")
        axes.set_title(f"Fréchet distance, {title}")
    panels[0].legend(fontsize=9)
    if any(result.inversions):
        axes, steps = panels[2], [one.steps for one in result.inversions[0]]
        for name, color, label in (
            ("one_step", pictures.RIVAL, "one step"),
            ("fixed_point", pictures.METHOD, "fixed point, by dini"),
        ):
            runs = [[getattr(one, name) for one in seed] for seed in result.inversions]
            pictures.band(axes, steps, runs, color=color, label=label)
        axes.axhline(np.mean(result.reconstruction), color=pictures.QUIET, ls="--", lw=1.2, label="the code alone")
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xticks(steps, [str(n) for n in steps])
        axes.minorticks_off()
        axes.set_xlabel("steps of DDIM")
        axes.set_title("an image there and back: error")
        axes.legend(fontsize=9)
    return figure
