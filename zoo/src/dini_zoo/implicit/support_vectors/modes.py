"""Ways to differentiate the dual's solution, whichever solver found it."""

from __future__ import annotations

import dini

#: The fixed point of projected gradient. Its linear system has a positive semidefinite reduction to the support, which
#: is singular where the dual solution is not unique, and consistent: conjugate gradients from zero solve it.
PROJECTED = dini.Implicit(dini.conditions.ProjectedGradient(), dini.linear.CG())

#: The fixed point of mirror descent. An element of the dual that is zero contributes the eigenvalue `1 - exp(-η μ)`,
#: `μ` its multiplier. Multipliers are differences of margins and hence of order one at any regularization, so `η = 1`
#: gathers these eigenvalues near one, where one over the Lipschitz constant would scatter them towards zero. The system
#: has no symmetry: GMRES, with a memory as long as the support is wide.
MIRROR = dini.Implicit(dini.conditions.MirrorDescent(step_size=1.0), dini.linear.GMRES(restart=100))
