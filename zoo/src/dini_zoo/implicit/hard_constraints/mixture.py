"""A constraint that is split over experts, each with its own box of the mesh and its own weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, PartitionSpec
from jaxtyping import Array

from .constraint import Constrained, Constraint, LeastSquaresConstraint, Terms
from .partition import DomainPartition


@dataclass(frozen=True)
class MixtureOfConstraints(Constraint):
    r"""The same constraint in each box of a partition, with weights of its own (PI-HC-MoE).

    The prediction in the box $\Omega_k$ is $b|_{\Omega_k} w_k^\star$, where $w_k^\star$ solves the constraint at points
    sampled in $\Omega_k$, together with the initial and boundary conditions of the whole domain. The terms are those of
    the whole mesh: a derivative that was taken in a box would be one-sided at the interfaces.

    The experts do not depend on one another: the Jacobian of all weights is block diagonal, and the backward pass is a
    small system an expert.

    Parameters
    ----------
    constraint
        What each expert solves; its `num_points` are those of an expert.
    partition
        The boxes.
    axis_name
        An axis of a device mesh over which to distribute the experts with `jax.shard_map`: each device gets the
        terms of its own boxes; conditions and data are replicated. Without it the experts are one batch (`jax.vmap`).
    mesh
        The device mesh; that of `jax.set_mesh` if it is not given. Its axes are of the type `Auto`:
        `jax.make_mesh((4,), ("expert",), axis_types=(jax.sharding.AxisType.Auto,))`.
    """

    constraint: LeastSquaresConstraint
    partition: DomainPartition
    axis_name: str | None = None
    mesh: jax.sharding.Mesh | None = None

    def __post_init__(self) -> None:
        if self.axis_name is None or self.mesh is None:
            return
        if self.axis_name not in self.mesh.shape:
            raise ValueError(
                f"MixtureOfConstraints' axis_name must be an axis of its mesh, {tuple(self.mesh.shape)}: given "
                f"{self.axis_name!r}."
            )
        if self.mesh.axis_types != (AxisType.Auto,) * len(self.mesh.axis_types):
            raise ValueError(
                f"MixtureOfConstraints' mesh must have axes of the type AxisType.Auto: given {self.mesh.axis_types}."
            )
        devices = self.mesh.shape[self.axis_name]
        if self.partition.count % devices:
            raise ValueError(
                f"MixtureOfConstraints' experts must be a multiple of the devices along {self.axis_name!r}: given "
                f"{self.partition.count} experts and {devices} devices."
            )

    def __call__(self, terms: Terms, key: Array) -> Constrained:
        """Split, solve each expert's constraint, and put the predictions together."""

        def expert(part: Any, number: Array, shared: Any, data: Any, key: Array) -> Constrained:
            basis, inside = part
            return self.constraint(Terms(basis, inside, shared, data), key, number)

        experts = jax.vmap(expert, in_axes=(0, 0, None, None, None))
        if self.axis_name is not None:
            split, whole = PartitionSpec(self.axis_name), PartitionSpec()
            # the solver's loop carries constants, which JAX's check of varying axes does not take
            experts = jax.shard_map(
                experts,
                mesh=self.mesh,
                in_specs=(split, split, whole, whole, whole),
                out_specs=split,
                check_vma=False,
            )
        parts = self.partition.split((terms.basis, terms.inside))
        found = experts(parts, jnp.arange(self.partition.count), terms.shared, terms.data, key)
        return found._replace(u=self.partition.merge(found.u))
