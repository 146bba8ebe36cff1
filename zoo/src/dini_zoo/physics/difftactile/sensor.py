r"""A soft sensor that is moved against an obstacle, step by step: forces and markers as functions of its parameters.

Control steps of several explicit substeps each; the driven nodes move with a given velocity, observations are made at
the end of each control step. The derivative goes back through all substeps, which are computed again for each control
step (``jax.checkpoint``), so that memory grows with the number of control steps only.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from dini_zoo.kit.checking import at_least, finite, known, not_negative, positive

from ..contact import Penalty, surface_contact
from ..elasticity import lame_stable
from ..explicit import Motion, contact_limit, elastic_limit, explicit_step, require_stable
from ..surfaces import Surface
from ..tetrahedra import TetMesh, internal_forces


class Parameters(NamedTuple):
    """What there is to calibrate, in units that agree with the mesh's.

    Attributes
    ----------
    E, nu
        Young's modulus and Poisson's ratio of the elastomer for small strains.
    kn, kd, kt, mu_f
        Of the contact, as in :class:`~dini_zoo.physics.contact.Penalty`.
    """

    E: Any
    kn: Any
    mu_f: Any
    nu: Any = 0.43
    kd: Any = 20.0
    kt: Any = 50.0

    @property
    def penalty(self) -> Penalty:
        """The constants of the contact."""
        return Penalty(self.kn, self.kd, self.kt, self.mu_f)


class Rollout(NamedTuple):
    """What a sensor has measured.

    Attributes
    ----------
    force
        The total force of the obstacle, at the end of each control step.
    markers
        Displacements of the nodes that may touch, less the frame's.
    frame
        The displacement of the driven nodes.
    depth
        Of the deepest node.
    limit
        The bound of a stable step by the nodes that have touched; a longer ``dt`` makes all of this unreliable.
    motion
        Where the nodes are in the end.
    """

    force: Float[Array, "steps 3"]
    markers: Float[Array, "steps n 3"]
    frame: Float[Array, "steps 3"]
    depth: Float[Array, " steps"]
    limit: Float[Array, ""]
    motion: Motion


class TactileSim(eqx.Module):
    """A sensor in front of an obstacle at rest; :meth:`of` makes one.

    Attributes
    ----------
    mesh
        The elastomer.
    masses
        Of its nodes.
    driven
        Which nodes the frame holds.
    touching
        Which nodes may touch, as indices.
    surface
        The obstacle, as in :mod:`dini_zoo.physics.surfaces`.
    dt, damping
        The substep, and the damping in proportion to the mass.
    substeps
        In a control step.
    """

    mesh: TetMesh
    masses: Float[Array, " nodes"]
    driven: Bool[Array, " nodes"]
    touching: Int[Array, " n"]
    surface: Surface
    dt: float = eqx.field(static=True)
    damping: float = eqx.field(static=True)
    density: float = eqx.field(static=True)
    substeps: int = eqx.field(static=True)

    @classmethod
    def of(
        cls,
        mesh: TetMesh,
        driven: Any,
        touching: Any,
        surface: Surface,
        *,
        density: float = 1.0,
        dt: float = 5e-4,
        substeps: int = 20,
        damping: float = 10.0,
    ) -> Self:
        """A sensor; ``driven`` and ``touching`` are masks of nodes.

        Raises ``ValueError`` for masks of another shape or without nodes, and for steps and constants out of range.
        """
        positive("density", density)
        positive("dt", dt)
        not_negative("damping", damping)
        at_least("substeps", substeps, 1)
        for name, mask in (("driven", driven), ("touching", touching)):
            if np.shape(mask) != (mesh.count,) or not np.any(mask):
                raise ValueError(
                    f"{name} must be a mask of the mesh's {mesh.count} nodes with one of them at least: given shape "
                    f"{np.shape(mask)}, {np.sum(mask)} true."
                )
        if not damping * dt < 1:
            raise ValueError(f"damping * dt must be below 1: given {damping} * {dt}.")
        places = jnp.asarray(np.flatnonzero(touching), jnp.int32)
        driven = jnp.asarray(driven)
        return cls(mesh, mesh.masses(density), driven, places, surface, dt, damping, density, substeps)

    def rest(self) -> Motion:
        """At rest."""
        return Motion(self.mesh.nodes, jnp.zeros_like(self.mesh.nodes))

    def contact(self, motion: Motion, penalty: Penalty) -> Float[Array, "n 3"]:
        """The obstacle's forces on the nodes that may touch."""
        return surface_contact(self.surface, motion.x[self.touching], motion.v[self.touching], penalty)

    def substep(self, motion: Motion, parameters: Parameters, velocity: Float[Array, " 3"]) -> Motion:
        """One explicit step."""
        mu, lam = lame_stable(parameters.E, parameters.nu)
        forces = internal_forces(self.mesh, motion.x, mu, lam)
        forces = forces.at[self.touching].add(self.contact(motion, parameters.penalty))
        how = {"damping": self.damping, "driven": self.driven, "velocity": velocity}
        return explicit_step(motion, forces, self.masses, self.dt, **how)

    def require_stable(self, parameters: Parameters) -> None:
        """Raise where the substep is longer than waves in the elastomer allow, for parameters that are known."""
        for name, value in zip(parameters._fields, parameters, strict=True):
            (positive if name in ("E", "kn") else not_negative)(name, value)
        if all(map(known, (parameters.E, parameters.nu))):
            mu, lam = lame_stable(parameters.E, parameters.nu)
            require_stable(self.dt, elastic_limit(self.mesh, mu, lam, self.density), "the elastomer")

    def rollout(
        self, parameters: Parameters, controls: Float[Array, "steps 3"], start: Motion | None = None
    ) -> Rollout:
        """What is measured while the frame moves with a velocity for each control step.

        Raises ``ValueError`` for a substep that is too long for the elastomer or for the contact, where the parameters
        are known. In a program that is
        traced look at :meth:`trusted` of the result.
        """
        if np.ndim(controls) != 2 or np.shape(controls)[1] != 3:
            raise ValueError(f"controls must have the shape (steps, 3): given {np.shape(controls)}.")
        self.require_stable(parameters)
        finite("controls", controls)
        rest, dtype = self.mesh.nodes, self.mesh.nodes.dtype
        parameters = Parameters(*(jnp.asarray(value, dtype) for value in parameters))
        penalty = parameters.penalty

        @jax.checkpoint
        def control_step(carried: tuple[Motion, Any, Any], velocity: Array) -> tuple[Any, Any]:
            motion, frame, touched = carried

            def substep(motion: Motion, _: None) -> tuple[Motion, None]:
                return self.substep(motion, parameters, velocity), None

            motion, _ = jax.lax.scan(substep, motion, None, length=self.substeps)
            frame = frame + self.substeps * self.dt * velocity
            distance = jax.lax.stop_gradient(jax.vmap(self.surface)(motion.x[self.touching]))
            force = self.contact(motion, penalty).sum(axis=0)
            markers = (motion.x - rest)[self.touching] - frame
            return (motion, frame, touched | (distance < 0)), (force, markers, frame, -jnp.min(distance))

        nothing = jnp.zeros(len(self.touching), bool)
        start = self.rest() if start is None else start
        controls = jnp.asarray(controls, dtype)
        (motion, _, touched), seen = jax.lax.scan(control_step, (start, jnp.zeros(3, dtype), nothing), controls)
        limit = contact_limit(jnp.where(touched, self.masses[self.touching], jnp.inf), penalty)
        # a contact that was never reached bounds nothing, so it is known only now
        require_stable(self.dt, limit, "the contact")
        return Rollout(*seen, jax.lax.stop_gradient(limit), motion)

    def trusted(self, rollout: Rollout) -> Bool[Array, ""]:
        """Whether a rollout is finite, and its substep short enough for the nodes that have touched."""
        finite = jnp.all(jnp.isfinite(rollout.force)) & jnp.all(jnp.isfinite(rollout.motion.x))
        return finite & (rollout.limit > self.dt)
