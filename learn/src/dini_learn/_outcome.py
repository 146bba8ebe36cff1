"""The outcome of a search, for one or several targets, and the warnings about it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from ._inner import Fitted, Inner
from ._search import At
from ._strengths import Strengths
from ._tuning import Tuned, comparable

#: a warning names at most so many penalties
_NAMED = 10
#: of an end of the range: its name, what the criterion prefers, and what to do
_ENDS = {
    -1: ("weak", "a penalty", "Use a model without one, add features, or give another range by bounds."),
    1: ("strong", "features", "They do not improve the prediction of held-out samples: use others, or more samples."),
}


class Hypergradient(NamedTuple):
    """The derivative of what the search minimizes in the logarithms of what was tuned, where it ended.

    That is the criterion, and with several penalties the prior that holds them together beside it. At a minimum it
    vanishes, but for penalties at an end of their range; where the minimum is at a kink it is that on one side.

    Attributes
    ----------
    gradient
        Of shape ``(kinds of penalties, penalties of a kind)``, in units of ``loss_``.
    error
        An estimate of its error, the sum over the folds: what one more step of refinement of the fits and of the
        adjoint equations changes of it (of grouped classes, dini's certificate). Infinite where a fit is not solved so
        far, or is at a kink. NaN with ``certify=False``, and where the criterion is a closed form.
    """

    gradient: np.ndarray
    error: float


class Outcome(NamedTuple):
    """A search: of which fits, by which map, what it found, that point with its certificate, and the fit with it."""

    inner: Inner
    strengths: Strengths
    tuned: Tuned
    best: At
    fitted: Fitted
    each: np.ndarray


def stacked(outcomes: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the attributes for several targets, with a leading axis for them; the paths are a list."""
    parts = {name: [one[name] for one in outcomes] for name in outcomes[0]}
    gradients, errors = zip(*parts["hypergradient_"], strict=True)
    together = {name: np.array(each) for name, each in parts.items() if name not in ("hypergradient_", "path_")}
    if parts["nested_losses_"][0] is None:
        together["nested_losses_"] = None
    both = Hypergradient(np.array(gradients), np.array(errors))
    return {**together, "hypergradient_": both, "path_": parts["path_"]}


def messages(outcome: Outcome, max_iter: int, penalties: str, labels: Any) -> Iterator[str]:
    """Yield what there is to be warned of; ``labels`` are those of the penalties."""
    tuned = outcome.tuned
    if not (tuned.best.finite and tuned.best.solved and outcome.fitted.solved):
        yield (
            "The inner solver did not converge at the selected penalties, or its solution has no derivative "
            "there. Scale the features, for example by sklearn.preprocessing.StandardScaler, and drop columns that "
            "depend on others."
        )
    if not tuned.finished:
        yield (
            f"The search reached its limit of evaluations (max_iter={max_iter}, and more near kinks) while the loss "
            "was still decreasing. Increase max_iter, or tol."
        )
    if tuned.judged is not None and not comparable(tuned.judged):
        yield (
            "One shared penalty was kept, because several penalties could not be assessed: shrinkage='auto' leaves out "
            "each fold in turn, and too few folds were left or their fits failed. Use at least three folds, or give "
            "shrinkage a number."
        )
    if tuned.at_bound:
        which, wants, remedy = _ENDS[tuned.at_bound]
        yield (
            f"The search ended at the {which} end of its range of penalties: the criterion prefers the model without "
            f"{wants}. {remedy} See plot_path()."
        )
    if tuned.ends is not None and tuned.ends.any():
        weak, strong = (_named(some, penalties, labels) for some in (tuned.ends < 0, tuned.ends > 0))
        parts = [f"the weakest for {weak}"] if weak else []
        parts += [f"the strongest for {strong}"] if strong else []
        wants = ["At the weakest, the criterion prefers no penalty: bounds gives another range."] if weak else []
        wants += ["At the strongest, it prefers to leave the features out: drop them."] if strong else []
        yield (
            f"{np.count_nonzero(tuned.ends)} of {tuned.ends.size} penalties are at an end of their range: "
            f"{'; '.join(parts)}. {' '.join(wants)} See plot_penalties()."
        )


def _named(which: np.ndarray, penalties: str, labels: Any) -> str:
    """Return the names of some penalties, at most ten of them."""
    what = {"features": "feature", "groups": "group", "classes": "class"}.get(penalties, "")
    shared = which.shape[1] == 1
    kinds = [" (absolute values)", " (squares)"] if len(which) == 2 else [""]
    names = [
        f"{'all features' if shared else f'{what} {labels[place]}'}{kind}"
        for kind, row in zip(kinds, which, strict=True)
        for place in np.flatnonzero(row)
    ]
    return ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
