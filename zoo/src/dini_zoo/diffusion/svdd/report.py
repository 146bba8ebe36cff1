"""What the experiment prints. References were computed for the specification, with other code."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from dini_zoo.kit.seeds import Estimate
from dini_zoo.kit.tables import Check, Table, above, at_least, at_most, below, between, near

from .compression import Images
from .learned import Outcome
from .plane import Plane
from .study import Long, Result
from .words import Words

#: Mean rewards and distances on short words, by value and candidates.
WORDS = {
    "exact": {1: (0.50, 0.77), 4: (1.316, 0.389), 10: (1.660, 0.208), 30: (1.843, 0.106), 100: (1.917, 0.06)},
    "mean": {1: (0.50, 0.77), 4: (1.141, 0.454), 10: (1.401, 0.343), 30: (1.571, 0.267), 100: (1.656, 0.228)},
    "posterior mean": {1: (0.50, 0.77), 4: (1.002, 0.541), 10: (1.247, 0.450), 30: (1.438, 0.389), 100: (1.554, 0.357)},
}
GREEDY = {"exact": 2.498, "mean": 1.97, "posterior mean": 1.482}
POPULATIONS = {"exact": 1.652, "mean": 1.477, "posterior mean": 1.336}
#: Sliced distances in the plane, by candidates, and their bars.
PLANE = {1: (1.57, 0.1), 2: (0.90, 0.1), 5: (0.38, 0.1), 10: (0.215, (0.15, 0.28)), 20: (0.165, (0.11, 0.22))}


def tables(result: Result) -> list[Table]:
    """Short words, the plane, long words, digits."""
    return [
        *([word_table(result.words)] if result.words else []),
        *([plane_table(result.plane)] if result.plane else []),
        *([long_table(result, result.long)] if result.long else []),
        *([digit_table(result.images)] if result.images else []),
    ]


def word_table(words: Words) -> Table:
    """Rewards and distances by candidates."""
    rows = [
        [f"{count}", *(f"{words.rewards[name][i]:.3f}, {words.distances[name][i]:.3f}" for name in words.rewards)]
        for i, count in enumerate(words.counts)
    ]
    n = words.greedy_count
    rows.append([f"{n}, greedy", *(f"{value:.3f}" for value in words.greedy.values())])
    rows.append([f"SMC, {n} particles", *(f"{value:.3f}" for value in words.populations.values())])
    caption = (
        f"{words.chains} words. No guidance {words.free:.3f}, the tilted law {words.tilted:.3f}, whose samples are "
        f"{words.floor:.3f} from it; the best of {n + 1} {words.best:.3f}."
    )
    title = "Short words: mean reward, total variation from the tilted law; by value"
    return Table(title, ("candidates", *words.rewards), rows, caption)


def plane_table(plane: Plane) -> Table:
    """Distances by candidates."""
    rows = [
        [f"{count} candidates", f"{Estimate.of(distances):.3f}", f"{np.mean(rewards):.3f}"]
        for count, distances, rewards in zip(plane.counts, plane.distances, plane.rewards, strict=True)
    ]
    most = plane.counts[-1]
    rows.append([f"{most} candidates, greedy", "", f"{np.mean(plane.greedy):.3f}"])
    rows.append(["gradient guidance", *(f"{value:.3f}" for value in plane.guided)])
    rows.append([f"{most} candidates of guidance", *(f"{value:.3f}" for value in plane.proposed)])
    caption = f"The tilted law's mean reward is {plane.tilted:.3f}; two of its samples are {plane.floor:.3f} apart."
    return Table("A mixture in the plane: sliced W2 to the tilted law", ("", "distance", "reward"), rows, caption)


def long_table(result: Result, long: Long) -> Table:
    """Medians, how many words are distinct, and how probable they are."""
    rows = [
        [
            f"{one.method} {one.value}".strip(),
            "" if one.temperature is None else f"{one.temperature:g}",
            f"{Estimate.of(one.medians):.2f}",
            f"{np.mean(one.distinct):.0f}",
            f"{np.mean(one.log_probs):.1f}",
        ]
        for one in long.outcomes
    ]
    caption = (
        f"{result.settings.batch} words each. PM: the reward of the prediction, MC: a fitted value. The denoiser's "
        f"bound is {long.bound:.1f}, the entropy {long.entropy:.1f}."
    )
    return Table("Long words", ("", "a", "median reward", "distinct", "log p"), rows, caption)


def digit_table(images: list[Images]) -> Table:
    """Bytes."""
    rows = [
        [
            one.method,
            f"{np.median(one.rewards):.0f}",
            f"{np.quantile(one.rewards, 0.9):.0f}",
            f"{one.distance:.2f}",
            str(one.distinct),
        ]
        for one in images
    ]
    caption = f"{len(images[0].rewards)} images each; distance: Fréchet's, of pixels, to the images to train with."
    columns = ("", "median", "90%", "distance", "distinct")
    return Table("Digits: bytes that compression saves", columns, rows, caption)


def checks(result: Result) -> Iterator[Check]:
    """Every bar of the specification."""
    if result.words:
        yield from word_checks(result.words)
    if result.plane:
        yield from plane_checks(result.plane)
    if result.long:
        yield from long_checks(result, result.long)
    if result.images:
        yield from digit_checks(result, result.images)


def word_checks(words: Words) -> Iterator[Check]:
    """The bars on short words."""
    yield Check("short words: soft value of all hidden", words.log_mean, near(1.18189734, 1e-7), 1.18189734, form=".8f")
    yield Check("short words: reward, no guidance", words.free, near(0.4950, 1e-4), 0.4950, form=".4f")
    yield Check("short words: reward, tilted law", words.tilted, near(1.9539, 1e-4), 1.9539, form=".4f")
    at = {count: i for i, count in enumerate(words.counts)}
    for count, (reward, distance) in WORDS["exact"].items():
        ours = (words.rewards["exact"][at[count]], words.distances["exact"][at[count]]) if count in at else (None, None)
        for name, value, reference in (("reward", ours[0], reward), ("TV", ours[1], distance)):
            bar = between(round(reference - 0.03, 3), round(reference + 0.03, 3))
            yield Check(f"exact value, M = {count}: {name}", value, bar, reference, form=".3f")
    yield Check("TV: greatest change with M", _rise(words.distances["exact"]), below(0), form=".3f")
    several = [i for i, count in enumerate(words.counts) if count > 1]
    for better, worse in (("exact", "mean"), ("mean", "posterior mean")):
        gaps = [words.rewards[better][i] - words.rewards[worse][i] for i in several]
        reference = min(WORDS[better][count][0] - WORDS[worse][count][0] for count in (4, 10, 30, 100))
        yield Check(f"reward: {better} − {worse}", min(gaps) if gaps else None, above(0), reference, form=".3f")
    n = words.greedy_count
    for name in ("mean", "posterior mean"):
        gain = words.greedy[name] - words.best
        yield Check(f"greedy, {name} − best of {n + 1}", gain, above(0), GREEDY[name] - 1.459, form=".3f")
    for name in GREEDY:
        gap = words.populations[name] - words.greedy[name]
        yield Check(f"SMC − greedy, {name}", gap, below(0), POPULATIONS[name] - GREEDY[name], form=".3f")
    for name in ("mean", "posterior mean"):
        gap = words.populations[name] - words.rewards[name][at[10]] if 10 in at else None
        reference = POPULATIONS[name] - WORDS[name][10][0]
        yield Check(f"SMC − SVDD at the same a, {name}", gap, reference=reference, form=".3f")


def _rise(values: list[float]) -> float | None:
    """The greatest difference from one to the next."""
    return float(np.max(np.diff(values))) if len(values) > 1 else None


def plane_checks(plane: Plane) -> Iterator[Check]:
    """The bars in the plane."""
    yield Check("plane: a log E exp(r/a)", plane.log_mean, near(1.02955, 1e-5), 1.02955, form=".5f")
    yield Check("plane: reward, tilted law", plane.tilted, near(1.7200, 1e-4), 1.72, form=".4f")
    means = dict(zip(plane.counts, (float(np.mean(one)) for one in plane.distances), strict=True))
    for count, (reference, bar) in PLANE.items():
        kept = between(*bar) if isinstance(bar, tuple) else near(reference, bar)
        yield Check(f"plane, M = {count}: sliced W2", means.get(count), kept, reference, form=".3f")
    yield Check("plane: greatest change with M", _rise(list(means.values())), below(0), form=".3f")
    greedy = float(np.mean(plane.greedy)) if plane.counts[-1] == 20 else None
    yield Check("plane, M = 20, greedy: reward", greedy, between(4.3, 4.5), 4.4, form=".2f")


def found(long: Long, method: str, value: str = "", a: float | None = None) -> Outcome | None:
    """One of the outcomes on long words."""
    for one in long.outcomes:
        if (one.method, one.value, one.temperature) == (method, value, a):
            return one
    return None


def long_checks(result: Result, long: Long) -> Iterator[Check]:
    """The bars on long words: means over keys."""
    n = result.settings.greedy
    best, free = found(long, f"best of {n}"), found(long, "no guidance")
    assert best is not None
    assert free is not None
    count = result.settings.batch
    for value, reference in (("PM", 4.5), ("MC", 6.5)):
        ours, smc = (found(long, method, value, 0.05) for method in ("SVDD", "SMC"))
        many, warm = found(long, "SVDD-R", value, 0.05), found(long, "SVDD", value, 0.3)
        gain = _median(ours, best)
        paper = "5.35 − 1.81 (DNA)" if value == "PM" else ""
        yield Check(f"SVDD {value} − best of {n}: median", gain, at_least(1), reference - 3, paper, ".2f")
        yield Check(f"SVDD {value} − SMC: median", _median(ours, smc), at_least(-0.5), 0.0, form=".2f")
        yield Check(f"SVDD {value}: distinct", _share(ours, count), at_least(0.95), 1.0, form=".1%")
        yield Check(f"SMC {value}: distinct", _share(smc, count), at_most(0.5), form=".1%")
        yield Check(f"SVDD-R {value} − SVDD: median", _median(many, ours), at_least(0), 3.0, form=".2f")
        yield Check(f"SVDD-R {value}: distinct", _share(many, count), below(_share(ours, count) or 1.0), form=".1%")
        drop = None if warm is None else float(np.mean(free.log_probs) - np.mean(warm.log_probs))
        yield Check(f"SVDD {value}, a = 0.3: log p lost", drop, at_most(5), form=".2f")


def _median(one: Outcome | None, other: Outcome | None) -> float | None:
    return None if one is None or other is None else float(np.mean(one.medians) - np.mean(other.medians))


def _share(one: Outcome | None, count: int) -> float | None:
    return None if one is None else float(np.mean(one.distinct)) / count


def digit_checks(result: Result, images: list[Images]) -> Iterator[Check]:
    """No bars: the reward that the paper takes is a JPEG file's size."""
    medians = {one.method: float(np.median(one.rewards)) for one in images}
    free = medians["no guidance"]
    names = {f"best of {result.settings.greedy}": "30", "SMC": "44", "SVDD": "52"}
    for name, paper in names.items():
        yield Check(f"digits: bytes saved, {name}", medians[name] - free, paper=f"{paper} kB (JPEG)", form=".0f")


def headline(result: Result) -> str:
    """The one figure that matters."""
    words = result.words
    if words is None:
        return "short words were not decoded"
    return (
        f"short words, {words.counts[-1]} candidates: mean reward {words.rewards['exact'][-1]:.2f} "
        f"(tilted law {words.tilted:.2f}, no guidance {words.free:.2f}){_saved(result)}"
    )


def _saved(result: Result) -> str:
    """What the digits gain, beside the baselines."""
    if not result.images:
        return ""
    medians = {one.method: float(np.median(one.rewards)) for one in result.images}
    best = f"best of {result.settings.greedy}"
    ours, *others = (medians[name] - medians["no guidance"] for name in ("SVDD", best, "SMC"))
    return f"; digits: {ours:.0f} bytes saved ({best} {others[0]:.0f}, SMC {others[1]:.0f})"
