"""Laws learned from one motion of a jelly, on motions that were not seen; plasticine; moduli identified.

The bars are those of the specification that this experiment reproduces.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from dini_zoo.kit.checking import some_of
from dini_zoo.kit.run import Phase, Run

from .. import mpm
from ..materials import Material, jelly, plasticine, stress_free
from ..mpm import MPMConfig, MPMState, Particles
from .identification import Found, Observed, by_adam, by_evolution, by_least_squares, modulus_error, unknowns
from .networks import neural_material
from .training import Curriculum, LawTrainer, lane, motion, position_error, roll

YOUNG, POISSON = 1e5, 0.2
#: Velocities at the start: linear and angular. The first motion is the one that laws are trained with.
SEEN = ((1.0, -1.5, -2.0), (4.0, 4.0, 4.0))
UNSEEN = (((-1.0, -2.0, 0.5), (-3.0, 1.0, 2.0)), ((2.0, -3.0, 2.0), (1.0, 5.0, -4.0)))
INVARIANT, PLAIN, FREE, HALF, FIFTH = "invariant network", "plain network", "stress-free", "E 50 % low", "E 20 % low"
NOISE = 1e-3
RIVALS = (PLAIN, FREE, HALF, FIFTH)
PARTS = ("laws", "plasticine", "identification")


@dataclass(frozen=True)
class Settings:
    """The settings of the experiment."""

    seeds: tuple[int, ...] = (0, 1, 2)
    parts: tuple[str, ...] = PARTS
    """What is done."""
    compared: tuple[str, ...] = RIVALS
    """What learned laws are compared with."""
    nodes: int = 12
    """Of the grid, an axis."""
    side: int = 6
    """Particles on an edge of the cube."""
    steps: int = 200
    """Of the motion that laws are trained with; those they are tried with have twice as many."""
    lengths: tuple[int, ...] = (25, 50, 100)
    """Steps of a segment, stage by stage of the training."""
    epochs: tuple[int, ...] = (30, 18, 12)
    """Of each stage; the plasticine's training is the first one."""
    width: int = 64
    """Of hidden layers."""
    rate: float = 1e-2
    """Of learning, at first."""
    observed: int = 100
    """Steps of the motion that moduli are identified from."""
    adam: int = 40
    """Steps of Adam in the identification."""
    evolution: tuple[int, ...] = (40, 120)
    """Simulations of CMA-ES, for each seed."""

    def __post_init__(self) -> None:
        some_of("parts", self.parts, PARTS)

    @classmethod
    def tiny(cls) -> Self:
        return cls(
            seeds=(0,),
            parts=("laws",),
            compared=(HALF,),
            nodes=8,
            side=2,
            steps=4,
            lengths=(2,),
            epochs=(2,),
            width=4,
            observed=2,
            adam=1,
            evolution=(2,),
        )


@dataclass(frozen=True)
class Scene:
    """A grid, a cube of particles on it, and its start."""

    config: MPMConfig
    particles: Particles
    x: np.ndarray

    @classmethod
    def of(cls, settings: Settings) -> Scene:
        """The one of the settings."""
        x, volume = mpm.lattice((0.25,) * 3, (0.75,) * 3, (settings.side,) * 3)
        return cls(MPMConfig(settings.nodes, 1e-3, bound=2, eps=1e-7), Particles(volume, 1000.0), x)

    def start(self, velocity: Any) -> MPMState:
        """The cube with a linear and an angular velocity."""
        return mpm.initial_state(self.config, jnp.asarray(self.x), mpm.spinning(self.x, *velocity, 0.5))


@dataclass(frozen=True)
class Errors:
    """The mean square errors of positions, over all steps of rollouts from the start."""

    seen: float
    """Of the motion that laws were trained with."""
    unseen: tuple[float, ...]
    """Of each other motion, over twice the steps."""
    finite: bool
    """Whether every rollout stayed so."""
    over_time: np.ndarray
    """Of the first unseen motion, step by step."""


@dataclass(frozen=True)
class Laws:
    """Errors of the laws that are known, and of those that were trained, seed by seed."""

    known: dict[str, Errors]
    untrained: list[Errors]
    trained: dict[str, list[Errors]]
    losses: dict[str, np.ndarray]
    """Of each seed and epoch."""
    shown: dict[str, np.ndarray]
    """Positions at some steps of the first unseen motion."""
    shown_steps: tuple[int, ...]
    clamped: int
    """Particles and steps of the reference at which nodes of a stencil did not exist."""


@dataclass(frozen=True)
class Plasticine:
    """Losses of plasticine, and of a body without stress."""

    losses: np.ndarray
    free: float


@dataclass(frozen=True)
class Identified:
    """Moduli by each method, and how well a motion determines them."""

    found: list[Found]
    spread: tuple[float, float]
    """Relative standard error of E for positions with errors of `NOISE`: by dini, in closed form."""


@dataclass(frozen=True)
class Result:
    """What was found; `None` is what was not done."""

    settings: Settings
    laws: Laws | None
    plasticine: Plasticine | None
    identified: Identified | None


def run(settings: Settings, run: Run) -> Result:
    """Run the experiment."""
    run.plan({"motions": 5, "training": 100, "rollouts": 20, "plasticine": 25, "identification": 30})
    scene = Scene.of(settings)
    done = lambda name: name in settings.parts
    laws = laws_of(settings, scene, run) if done("laws") else None
    return Result(
        settings,
        laws,
        plasticine_of(settings, scene, run) if done("plasticine") else None,
        identified_of(settings, scene, run) if done("identification") else None,
    )


def materials_of(settings: Settings, keys: Any, **options: Any) -> Material:
    """Networks that no one has trained, side by side."""
    return eqx.filter_vmap(lambda key: neural_material(key, settings.width, **options))(keys)


def keys_of(settings: Settings, run: Run, name: str) -> jax.Array:
    """A key for each seed."""
    return jnp.stack([run.key(name, seed) for seed in settings.seeds])


class Judge:
    """Rollouts of any material beside the reference; a program for each kind of material, and no more."""

    def __init__(self, settings: Settings, scene: Scene, motions: list[MPMState]):
        self.starts = [jax.tree.map(lambda leaf: leaf[0], one) for one in motions]
        self.positions = [one.x[1:] for one in motions]

        @eqx.filter_jit
        def rollouts(material: Material, starts: MPMState) -> Any:
            one = lambda start: roll(scene.config, scene.particles, start, material, 2 * settings.steps)
            # side by side; the first one is needed for half of the steps
            return jax.vmap(one)(starts)

        self._rollouts = lambda material: rollouts(
            material, jax.tree.map(lambda *leaves: jnp.stack(leaves), *self.starts)
        )

    def positions_of(self, material: Material) -> Any:
        """Of each motion."""
        return self._rollouts(material).recorded

    def __call__(self, material: Material) -> Errors:
        rollouts = self._rollouts(material)
        errors = [
            np.asarray(position_error(ours[: len(truth)], truth), float)
            for ours, truth in zip(rollouts.recorded, self.positions, strict=True)
        ]
        seen, *unseen = (float(one.mean()) for one in errors)
        return Errors(seen, tuple(unseen), bool(np.all(np.isfinite(np.concatenate(errors)))), errors[1])


def laws_of(settings: Settings, scene: Scene, run: Run) -> Laws:
    """Train networks of both kinds, and roll them and what they are compared with out."""
    # arrays: one program serves all moduli
    low = lambda factor: jelly(jnp.array(factor * YOUNG), jnp.array(POISSON))
    laws = {FREE: Material(stress_free), HALF: low(0.5), FIFTH: low(0.8)}
    known = {name: law for name, law in laws.items() if name in settings.compared}

    true = jelly(YOUNG, POISSON)

    def motions(_: Phase) -> tuple[list[MPMState], int]:
        starts = [scene.start(velocity) for velocity in (SEEN, *UNSEEN)]
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *starts)
        of = jax.jit(jax.vmap(lambda start: motion(scene.config, scene.particles, start, true, 2 * settings.steps)))
        states = of(stacked)
        beyond = jax.vmap(jax.vmap(lambda x: mpm.beyond_the_grid(scene.config, x)))(states.x)
        first = jax.tree.map(lambda leaf: leaf[0, : settings.steps + 1], states)
        others = [jax.tree.map(lambda leaf, i=i: leaf[i], states) for i in range(1, len(starts))]
        return [first, *others], int(beyond.sum())

    references, clamped = run.part("motions", motions)
    keys = keys_of(settings, run, "laws")
    curriculum = Curriculum(tuple(zip(settings.lengths, settings.epochs, strict=True)), settings.rate)
    trainer = LawTrainer(scene.config, scene.particles, curriculum)

    def train(kind: str, phase: Phase) -> Any:
        materials = materials_of(settings, keys, plain=kind == PLAIN)
        return trainer(materials, references[0], keys=keys, advance=phase.advance)

    kinds = (INVARIANT, PLAIN) if PLAIN in settings.compared else (INVARIANT,)
    trained = dict(zip(kinds, run.each("training", kinds, train, curriculum.epochs, pairs=True), strict=True))

    def judged(_: Phase) -> Laws:
        judge = Judge(settings, scene, references)
        lanes = range(len(settings.seeds))
        untrained = materials_of(settings, keys)
        last = 2 * settings.steps
        steps = tuple(sorted({max(1, last * eighths // 8) for eighths in (1, 2, 3, 4, 6, 8)}))
        shown = {"reference": np.asarray(references[1].x[np.array(steps)])}
        for name, material in ((INVARIANT, lane(trained[INVARIANT].materials, 0)), (HALF, laws[HALF])):
            shown[name] = np.asarray(judge.positions_of(material)[1][np.array(steps) - 1])
        return Laws(
            known={name: judge(material) for name, material in known.items()},
            untrained=[judge(lane(untrained, i)) for i in lanes],
            trained={kind: [judge(lane(trained[kind].materials, i)) for i in lanes] for kind in kinds},
            losses={kind: trained[kind].losses for kind in kinds},
            shown=shown,
            shown_steps=steps,
            clamped=clamped,
        )

    return run.part("rollouts", judged)


def plasticine_of(settings: Settings, scene: Scene, run: Run) -> Plasticine:
    """Whether both laws together learn a material that yields."""

    def fun(phase: Phase) -> Plasticine:
        yields = plasticine(3e4, 0.25, 500.0)
        start = scene.start(SEEN)
        reference = jax.jit(lambda start: motion(scene.config, scene.particles, start, yields, settings.steps))(start)
        curriculum = Curriculum(((settings.lengths[0], settings.epochs[0]),), settings.rate)
        trainer = LawTrainer(scene.config, scene.particles, curriculum)
        keys = keys_of(settings, run, "plasticine")
        course = trainer(materials_of(settings, keys, scale=1e4), reference, keys=keys, advance=phase.advance)
        free = trainer.loss(Material(stress_free), reference)
        return Plasticine(course.losses, float(free))

    return run.part("plasticine", fun, settings.epochs[0])


def identified_of(settings: Settings, scene: Scene, run: Run) -> Identified:
    """Moduli from a motion, in double precision."""

    def fun(_: Phase) -> Identified:
        with jax.enable_x64(True):
            start = scene.start(SEEN)
            true = jelly(YOUNG, POISSON)
            seen = jax.jit(lambda start: roll(scene.config, scene.particles, start, true, settings.observed).recorded)
            observed = Observed(scene.config, scene.particles, start, seen(start))
            both = unknowns(0.6 * YOUNG, 0.3)
            squares, theta = by_least_squares(observed, both)
            found = [
                by_adam(observed, unknowns(0.6 * YOUNG, POISSON), only_E=True, steps=settings.adam),
                squares,
                by_adam(observed, both, only_E=False, steps=settings.adam),
                *(
                    one
                    for seed in settings.seeds
                    for one in by_evolution(observed, both, settings.evolution, seed=seed)
                ),
            ]
            return Identified(found, modulus_error(observed, theta, NOISE))

    return run.part("identification", fun)
