"""The battery of inputs over all systems, and what it says of functions that are known to be careless or careful.

What a system lets through stands in `let_through.txt`, with a reason. A case that is not there fails; so does a line
that is no longer true. In a case `*` stands for any letters; a case without an argument is a function whose call may
take too long to be examined.
"""

import re
from pathlib import Path

import battery
import jax
import jax.numpy as jnp
import pytest
from jaxtyping import Array, Float, Int

from dini_zoo.kit import registry
from dini_zoo.kit.checking import marked, not_negative, positive, taken, within
from dini_zoo.kit.enforcing import _Arguments

TABLE = Path(__file__).parent / "let_through.txt"


def rows():
    """Of the table: system, case, reason."""
    lines = [line for line in TABLE.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    return [tuple(part.strip() for part in line.split("|")) for line in lines]


def compared(accepted, patterns):
    """Cases that no line names, and lines that name no case."""
    matches = {
        pattern: {case for case in accepted if re.fullmatch(re.escape(pattern).replace(r"\*", ".*"), case)}
        for pattern in patterns
    }
    return accepted - set().union(*matches.values()), {pattern for pattern, cases in matches.items() if not cases}


def careless(reward, at, table, discount):
    """Without annotations or checks."""
    return reward * table[at] * discount


def careful(reward: Float[Array, " n"], at: Int[Array, " n"], table: Float[Array, " k"], discount: float):
    right = not_negative("reward", reward), positive("table", table), positive("discount", discount)
    return marked(reward * taken("at", table, at) * discount, *right)


def verdicts(function, *args):
    ready = _Arguments(function, ())
    args = args or (jnp.array([0.5, 2.0]), jnp.array([0, 2]), jnp.arange(1.0, 4.0), 0.5)
    example = battery.Example("one", ready, args, {}, 0)
    return dict(battery.examined({"one": example}))


def test_the_battery_sees_each_kind():
    """Shapes that broadcast, indices that are clamped or wrap, infinite and negative numbers, empty arrays."""
    found = verdicts(careless)
    for case in (
        "reward: axis more",
        "reward: axis less",
        "reward: empty",
        "at: index below",
        "at: index beyond",
        "at: axis more",
        "table: longer",
        "discount: negative",
    ):
        if case != "reward: empty":
            assert found[f"one {case}"] == "accepted", case
    # what is marked or right is no finding
    assert found["one discount: NaN"] == found["one reward: NaN"] == "marked"
    assert found["one reward: integers"] == "same"
    kept = verdicts(careful)
    accepted = {case for case, verdict in kept.items() if verdict == "accepted"}
    # a table of another length is right: nothing else has its length
    assert not accepted, accepted
    assert kept["one table: longer"] == "declared"
    assert kept["one reward: axis more"] == kept["one at: index beyond"] == "refused"


def test_lines_of_the_table_name_cases():
    accepted = {"init x: longer", "init y[0]: empty", "run k: negative"}
    assert compared(accepted, ["init *: *", "run k: negative"]) == (set(), set())
    assert compared(accepted, ["init y[0]: *", "run k: NaN"]) == (
        {"init x: longer", "run k: negative"},
        {"run k: NaN"},
    )


def test_the_battery_sees_what_fails_open_where_it_is_traced():
    """A check within a loop tells nobody: one before it marks the result."""

    def looked(scale, at, n):
        positive("scale", scale)
        within("at", at, n)
        return scale

    def open_(x: Float[Array, " n"], scale: float, at: Int[Array, ""]):
        return jax.lax.map(lambda row: row * looked(scale, at, len(x)), x[at][None])

    def closed(x: Float[Array, " n"], scale: float, at: Int[Array, ""]):
        looked(scale, at, len(x))
        return open_(x, scale, at)

    for function, verdict in ((open_, "accepted"), (closed, "marked")):
        found = verdicts(function, jnp.ones(3), 0.5, jnp.array(1))
        for case in ("scale: negative", "at: index below", "at: index beyond"):
            assert found[f"one {case}"] == "refused", case
            assert found[f"one {case}, traced"] == verdict, case


def test_the_table_knows_all_systems():
    """Each line names a system that there is, and a reason."""
    names = {entry.name for entry in registry.systems()}
    assert {system for system, *_ in rows()} <= names
    for system, case, reason in rows():
        assert reason, f"{system}: {case} has no reason"


# examples that ask for double precision are run in single here
@pytest.mark.filterwarnings("ignore:Explicitly requested dtype float64")
@pytest.mark.thorough
@pytest.mark.parametrize("entry", registry.systems(), ids=lambda entry: entry.name)
def test_what_is_let_through(entry):
    mine = {case: reason for system, case, reason in rows() if system == entry.name}
    with jax.enable_x64(False):
        found = dict(battery.examined(battery.examples(entry)))
    accepted = {case for case, verdict in found.items() if verdict in ("accepted", "costly")}
    unread, idle = compared(accepted, mine)
    assert not unread
    assert not [case for case in idle if ":" in case]
