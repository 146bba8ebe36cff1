"""An experiment again with other seeds: what its figures are with each, beside those of the run that is saved."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .results import Record, plain
from .tables import ABSENT, MET, MISSED, Alarm, Check, Table, spread

#: The settings that are replaced by a seed.
FIELDS = ("seed", "data_seed")

#: A number of a sentence, with the half width of its interval.
_NUMBER = re.compile(r"((?<![\w.])[-+]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?(?: ± \d+(?:\.\d+)?)?)")


@dataclass(frozen=True)
class Repetition:
    """What an experiment found with one seed."""

    seed: int
    headline: str
    figures: Sequence[Check]
    seconds: float

    @classmethod
    def of(cls, seed: int, record: Record) -> Repetition:
        """What a run with that seed has recorded."""
        return cls(seed, record.headline, record.verdict.checks, record.seconds)

    def json(self) -> dict[str, Any]:
        """The repetition for a file. A bar around the specification's figure is for that one's seed: none is judged."""
        judged = lambda check: "" if check.bar is not None and check.bar.around else check.verdict
        figures = [
            {"quantity": check.quantity, "value": check.ours, "form": check.form, "verdict": judged(check)}
            for check in self.figures
        ]
        return plain(
            {"seed": self.seed, "headline": self.headline, "figures": figures, "seconds": round(self.seconds, 1)}
        )


def seeded(settings: Any, seed: int) -> Any:
    """Return the settings with that seed; raises `ValueError` where they have none, or several."""
    names = [field.name for field in dataclasses.fields(settings)]
    replaced = {name: seed for name in FIELDS if name in names}
    if not replaced:
        several = "`seeds`: run it with others by `dini run NAME --seeds`" if "seeds" in names else "no seed"
        raise ValueError(f"The experiment must have a setting `seed` or `data_seed` to be repeated: it has {several}.")
    return dataclasses.replace(settings, **replaced)


def same_but_for_the_seed(saved: Mapping[str, Any], settings: Any) -> bool:
    """Return whether settings are those of a saved run, whatever the seed of either."""
    rest = lambda given: {name: value for name, value in given.items() if name not in FIELDS}
    return rest(saved) == rest(plain(settings))


def ranged(sentences: Sequence[str]) -> str:
    """Return a sentence whose numbers are ranges, of sentences with the same words.

    Where words differ, it is the first sentence, which says so.

    Examples
    --------
    >>> ranged(["accuracy 95.0% from 10 images", "accuracy 93.5% from 10 images"])
    'accuracy 93.5 to 95.0% from 10 images'
    >>> ranged(["clear: 2", "not clear: 1"])
    'clear: 2 (with the first seed)'
    """
    parts = [_NUMBER.split(sentence) for sentence in sentences]
    words = {tuple(part[::2]) for part in parts}
    if len(words) > 1:
        return f"{sentences[0]} (with the first seed)"
    texts = zip(*(part[1::2] for part in parts), strict=True)
    numbers = [*map(_range, texts), ""]
    return "".join(word + number for word, number in zip(parts[0][::2], numbers, strict=True))


def _range(texts: Sequence[str]) -> str:
    """Return the least and the greatest of some numbers, as they are written."""
    if len(set(texts)) == 1:
        return texts[0]
    means = sorted((text.split(" ± ")[0] for text in texts), key=lambda text: float(text.replace(",", "")))
    return means[0] if means[0] == means[-1] else f"{means[0]} to {means[-1]}"


def summary(repetitions: Sequence[dict[str, Any]]) -> dict[str, tuple[str, str]]:
    """Return the range of each figure, and with how many seeds its bar is missed, by its name."""
    found: dict[str, tuple[str, str]] = {}
    for name in dict.fromkeys(one["quantity"] for repetition in repetitions for one in repetition["figures"]):
        ours = [one for repetition in repetitions for one in repetition["figures"] if one["quantity"] == name]
        values = [float(one["value"]) for one in ours if one["value"] is not None]
        shown = spread(values, ours[0]["form"]) if values else ""
        missed = sum(one["verdict"] == MISSED for one in ours)
        judged = sum(one["verdict"] in (MET, MISSED) for one in ours)
        verdict = f"missed with {missed} of {judged}" if missed else MET if judged else "" if values else ABSENT
        found[name] = (shown, Alarm(verdict) if missed else verdict)
    return found


def table(repetitions: Sequence[dict[str, Any]]) -> Table:
    """Return the range of each figure as a table."""
    rows = [[name, *cells] for name, cells in summary(repetitions).items()]
    return Table(f"With seeds {seeds(repetitions)}", ("quantity", "least and greatest", ""), rows)


def seeds(repetitions: Sequence[dict[str, Any]]) -> str:
    """Return the seeds as text.

    Examples
    --------
    >>> seeds([{"seed": 20}, {"seed": 21}, {"seed": 22}]), seeds([{"seed": 1}, {"seed": 5}])
    ('20 to 22', '1, 5')
    """
    numbers = [one["seed"] for one in repetitions]
    if len(numbers) > 2 and numbers == list(range(numbers[0], numbers[0] + len(numbers))):
        return f"{numbers[0]} to {numbers[-1]}"
    return ", ".join(map(str, numbers))
