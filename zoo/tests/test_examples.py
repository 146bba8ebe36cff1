"""Examples of modules whose system has no test that runs them; they are what the battery changes."""

import doctest
import importlib

import jax
import pytest


@pytest.mark.parametrize(
    "name",
    [
        "implicit.support_vectors.machine",
        "implicit.support_vectors.outer",
        "implicit.distillation.distill",
        "implicit.dictionary_learning.task",
        "physics.difftactile.optics",
        "physics.difftactile.camera",
        "physics.difftactile.calibration",
        "privacy.diff2.local",
        "privacy.diff2.loops",
        "privacy.diff2.poisson",
        "privacy.private_gsd.bandit",
        "privacy.private_gsd.bins",
        "privacy.private_gsd.fitting",
        "privacy.private_gsd.measuring",
        "privacy.private_gsd.queries",
        "reinforcement.lipschitz_gail.discriminator",
        "reinforcement.lipschitz_gail.preconditioning",
        "reinforcement.pmoe.gates",
        "reinforcement.pmoe.losses",
        "topology.multiparameter_persistence.distances",
        "topology.multiparameter_persistence.filtrations",
        "topology.multiparameter_persistence.landscapes",
        "topology.multiparameter_persistence.measures",
    ],
)
def test_examples_run(name):
    with jax.enable_x64(False):
        failed, tried = doctest.testmod(importlib.import_module(f"dini_zoo.{name}"))
    assert tried
    assert not failed
