"""The experiment's picture."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from dini_zoo.kit import pictures

from .exact import mixture
from .images import grey
from .study import Result


def draw(result: Result) -> Figure:
    """Normal data, a known coordinate; digits by class, halves filled in, densities."""
    figure = pictures.canvas("One score, many samplers: stochastic differential equations in reverse", height=9)
    above, below = figure.subfigures(2, 1, height_ratios=(1.5, 1))
    normal, known, bits = above.subplots(1, 3)

    shades = dict(zip(("reverse diffusion", "ancestral", "Euler"), pictures.COLORS, strict=False))
    for name, color in shades.items():
        for corrected in (False, True):
            ours = [one for one in result.samplers if (one.predictor, one.corrected) == (name, corrected)]
            calls = [one.steps * (1 + corrected) for one in ours]
            style = "-o" if corrected else "--o"
            label = f"{name} and corrector" if corrected else name
            normal.plot(calls, [abs(one.expected) for one in ours], style, color=color, ms=5, label=label)
    normal.set(xscale="log", yscale="log", xlabel="calls of the score")
    ticks = sorted({one.steps * (1 + one.corrected) for one in result.samplers if one.predictor in shades})
    normal.set_xticks(ticks, map(str, ticks))
    normal.minorticks_off()
    normal.set_title("normal data, VE:\nerror of the standard deviation")
    bottom, top = normal.get_ylim()
    normal.set_ylim(bottom, top * (top / bottom) ** 0.7)  # room for the legend
    normal.legend(fontsize=9, handlelength=3.5)

    one = result.conditioned
    at = np.linspace(-4, 4, 400)
    data = mixture((0.3, 0.4, 0.5))
    means, variances = np.asarray(data.means), np.asarray(data.variances)
    normal_law = lambda x, m, v: np.exp(-0.5 * (x - m) ** 2 / v) / np.sqrt(2 * np.pi * v)
    w = np.asarray(data.weights) * normal_law(0.6, means[:, 0], variances[:, 0])
    density = sum(
        share * normal_law(at, m, v) for share, m, v in zip(w / w.sum(), means[:, 1], variances[:, 1], strict=True)
    )
    known.hist(one.drawn, bins=60, range=(-4, 4), density=True, color=pictures.METHOD, alpha=0.5)
    known.plot(at, density, color=pictures.INK, label="exact")
    for number, mean in zip(one.correctors, one.means, strict=True):
        known.axvline(mean, color=pictures.ALARM, ls=":" if number == 0 else "--", lw=1.2)
        known.annotate(f"{number}", (mean, 0.97 * known.get_ylim()[1]), color=pictures.ALARM, fontsize=9)
    known.set_title(
        f"a mixture with one coordinate known: the other one,\n{one.correctors[-1]} corrector steps "
        "(dashed: means, by their number)"
    )
    known.legend(fontsize=9)

    pictures.bars(bits, {**result.bits.flows, "normal law": result.bits.gaussian}, form="{:.2f}")
    bits.set_title("digits: bits a pixel of test images")

    panels = below.subplots(1, 3, width_ratios=(1, 1, 1))
    classes, filled = result.classes, result.filled
    for axes, scale in zip(panels[:2], (classes.scales[0], classes.scales[-1]), strict=True):
        agreement = classes.agreements[classes.scales.index(scale)]
        images = grey(classes.images[scale]).reshape(10, -1, 8, 8)[:, :4].swapaxes(0, 1).reshape(-1, 8, 8)
        axes.imshow(pictures.mosaic(images, 10, low=0, high=1))
        axes.set_title(f"classes 0 to 9 asked for, scale {scale:g}:\nthe judge agrees with {agreement:.0%}")
    columns = min(10, len(filled.truth))
    kept = len(filled.truth) // columns * columns
    pairs = [grey(one[:kept]).reshape(-1, columns, 8, 8) for one in (filled.truth, filled.images)]
    panels[2].imshow(pictures.mosaic(np.stack(pairs, axis=1).reshape(-1, 8, 8), columns, low=0, high=1))
    accuracy = np.mean(filled.accuracies[-1])
    panels[2].set_title(f"lower halves filled in (each row below its truth):\nthe judge is right on {accuracy:.0%}")
    for axes in panels:
        pictures.bare(axes)
    return figure
