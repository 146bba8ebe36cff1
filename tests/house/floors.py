"""The layers of dini, each of which imports only layers below it.

    python tests/house/floors.py

writes the table of `docs/design.md`; `test_structure.py` compares the code and the page with this list.
"""

from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "design.md"
BEGIN, END = "| layer | holds |", "\n\nThe zoo is a second distribution"

#: the layers from the lowest up, and what each holds
FLOORS = [
    (
        ("deferred", "trees", "xla"),
        "imports that wait; pytrees as vectors; what is written for XLA's sake",
    ),
    (("kept",), "compiled programs that are kept between processes"),
    (("protocols",), "what the layers require of one another, as types: problems, conditions, solvers, states"),
    (("explanations",), "messages for failures: the cause, the remedy"),
    (("checks",), "checks of settings, and the decorator of all classes of settings"),
    (
        ("functions",),
        "a user's functions as pytrees: what they read, whether their programs are the same, what they cost",
    ),
    (("reports",), "failures that a running program reports"),
    (("status",), "statuses, and what a failure becomes: an exception, a warning, NaN"),
    (("numerics",), "algorithms on arrays: isotonic regression, functions of spectra, working sets, pivots"),
    (("linear",), "linear solvers, their choice, the check of their residual; BiCGStab is JAX's, LSMR is Lineax's"),
    (("sets",), "projections with their derivatives"),
    (("penalties", "perturbed"), "proximal operators with their derivatives; perturbed optimizers"),
    (("losses",), "losses with their derivatives"),
    (("conditions",), "optimality mappings, a few lines of mathematics each"),
    (("problems", "solution"), "a function, its parts, its condition; what comes back"),
    (("scaling",), "the scale of each unknown, estimated once, when a solve starts"),
    (("verification",), "what a result must pass before a solve reports it as converged"),
    (("loop", "monitors"), "the one loop that drives all solvers, and watching it from outside"),
    (("differentiation",), "the rule of a solve's derivative, and the modes"),
    (("solvers",), "one method a file; what several share is in `solvers/shared`"),
    (("defaults",), "default solvers"),
    (("entry", "failures", "timed"), "checks of a solve's arguments; handling of failures; solves with a time limit"),
    (("solving",), "`solve`"),
    (("batches", "iterators"), "`solve` for batches of problems and for streams of data"),
    (
        ("certified", "handed_in", "one_sided"),
        "derivatives with an estimate of their error; at given points; at kinks",
    ),
    (("nearest_programs",), "what a quadratic program becomes whose constraints contradict one another"),
    (
        ("conic", "convex", "equilibria", "verbs"),
        "the verbs; those of programs are in `convex` (quadratic) and `conic`",
    ),
    (("cvxpy_programs",), "problems that CVXPY states, as functions of their parameters"),
    (("adapters",), "solvers of other libraries for dini's problems"),
    (("bilevel",), "hypergradients, the outer loop with its parts, criteria"),
    (("extend",), "what libraries on top use besides the classes"),
    (("compat",), "another name of `dini_jaxopt`, JAXopt's names over dini, if it is installed"),
    (("testing",), "problems with known solutions, the battery, the gradient check"),
]


def table() -> str:
    """Return the table of the page."""
    rows = [f"| {', '.join(f'`{name}`' for name in names)} | {what} |" for names, what in FLOORS]
    return "\n".join([BEGIN, "| --- | --- |", *rows])


def page(text: str) -> str:
    """Return a page with its table made anew."""
    before, rest = text.split(BEGIN)
    return before + table() + END + rest.split(END)[1]


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text()))
