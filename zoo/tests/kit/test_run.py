"""A run's context: keys, phases, memory."""

import io
import pickle
from types import SimpleNamespace

import equinox as eqx
import jax
import numpy as np
import pytest
from rich.console import Console

from dini_zoo.kit import run as module
from dini_zoo.kit.run import Memory, Run


def settings(**fields):
    return SimpleNamespace(**fields)


def test_keys_depend_on_their_names_and_on_the_seed():
    bits = lambda run, *names: tuple(jax.random.key_data(run.key(*names)).tolist())
    run, same, other = (Run(settings(seed=seed)) for seed in (0, 0, 1))
    found = [bits(run, "a"), bits(run, "b"), bits(run, "a", 1), bits(other, "a")]
    assert len(set(found)) == 4
    assert bits(same, "a") == found[0]
    assert run.random("a").integers(10**9) != run.random("b").integers(10**9)
    assert run.random("a").integers(10**9) == same.random("a").integers(10**9)


def test_a_phase_leaves_a_line_with_what_is_left(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(module.time, "perf_counter", lambda: clock[0])
    console = Console(file=io.StringIO(), width=200)
    run = Run(settings(), console)
    run.plan({"first": 10, "second": 20, "third": 40})
    with run.phase("first") as phase:
        clock[0] += 5
    assert phase.seconds == 5
    with run.phase("second", total=4) as phase:
        assert phase.left is None
        for _ in range(4):
            clock[0] += 20
            phase.advance()
            assert phase.left == 20 * (4 - phase.done)
    with run.phase("third"):
        clock[0] += 1
    assert console.file.getvalue().splitlines() == [
        "first: 5.0 s, about 30 s left",
        # a phase that takes long says where it is
        "  second: 2 of 4, about 40 s left of it",
        "  second: 4 of 4, about 0.0 s left of it",
        "second: 80 s, about 1 min 53 s left",
        "third: 1.0 s",
    ]
    assert run.phases == {"first": 5, "second": 80, "third": 1}


def test_finished_parts_are_remembered(tmp_path):
    calls = []

    def go(resume, fail=None, **fields):
        run = Run(settings(**fields), memory=Memory("name", fields, source="x", root=tmp_path), resume=resume)

        def one(item, phase):
            if item == fail:
                raise KeyboardInterrupt
            calls.append(item)
            return {"square": np.array([item**2])}

        first = run.part("first", lambda phase: calls.append("first") or 7)
        return first, [found["square"].item() for found in run.each("squares", (1, 2, 3), one)]

    with pytest.raises(KeyboardInterrupt):
        go(False, fail=3, steps=1)
    assert calls == ["first", 1, 2]
    assert go(True, steps=1) == (7, [1, 4, 9])
    assert calls == ["first", 1, 2, 3]
    # other settings know nothing of it, nor does a run that restarts
    go(True, steps=2)
    go(False, steps=1)
    assert calls == ["first", 1, 2, 3, *2 * ["first", 1, 2, 3]]


def test_memory_knows_the_code_it_was_made_with(tmp_path):
    Memory("name", {}, source="old", root=tmp_path).save("part", 1, 2.5)
    assert Memory("name", {}, source="old", root=tmp_path).load("part") == (1, 2.5)
    assert Memory("name", {}, source="new", root=tmp_path).load("part") is None


def test_what_was_remembered_took_its_time(monkeypatch, tmp_path):
    """A run that finds its trainings done has not shown that they take no time."""
    clock = [0.0]
    monkeypatch.setattr(module.time, "perf_counter", lambda: clock[0])

    def went(seconds):
        clock[0] += seconds
        return seconds

    def go(resume):
        run = Run(settings(), memory=Memory("name", {}, source="x", root=tmp_path), resume=resume)
        run.part("training", lambda _: went(40))
        run.each("seeds", (2, 3), lambda item, _: went(item))
        shared = {"source": "s", "among": "all", "recipe": {}}
        run.shared("network", fun=lambda _: went(100), **shared)
        with run.phase("timing"):
            went(1)
        return run

    first, second, third = go(False), go(True), go(False)
    assert first.phases == second.phases == third.phases == {"training": 40, "seeds": 5, "network": 100, "timing": 1}
    assert first.remembered == {}
    assert second.remembered == {"training": 40, "seeds": 5, "network": 100}
    # the network serves all runs, also those that begin anew
    assert third.remembered == {"network": 100}


def test_what_was_written_without_its_time_is_made_anew(tmp_path):
    memory = Memory("name", {}, root=tmp_path)
    memory.save("part", 1, 2.5)
    (path,) = memory.folder.iterdir()
    path.write_bytes(pickle.dumps(("part", 1)))
    assert memory.load("part") is None


def test_what_is_not_data_is_refused(tmp_path):
    run = Run(settings(), memory=Memory("name", {}, root=tmp_path))
    with pytest.raises(TypeError, match=r"The part 'numbers' of a run must be data that.*given generator"):
        run.part("numbers", lambda phase: (i for i in range(3)))


def test_a_model_is_remembered_with_its_functions(tmp_path):
    model = eqx.nn.Sequential([eqx.nn.MLP(2, 2, 3, 1, jax.nn.silu, key=jax.random.key(0)), eqx.nn.Lambda(jax.nn.relu)])
    memory = Memory("name", {}, root=tmp_path)
    memory.save("model", model, 1.0)
    np.testing.assert_array_equal(memory.load("model").value(np.ones(2)), model(np.ones(2)))
