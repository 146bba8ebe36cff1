"""The house: each floor imports only floors under it; the zoo uses only public names."""

import ast
import re
from pathlib import Path

import pytest
from floors import FLOORS, PAGE, page

import dini

SOURCE = Path(dini.__file__).parent
LEVEL = {name: level for level, (names, _) in enumerate([*FLOORS, (("__init__",), "")]) for name in names}


def imported(path, package):
    """Return the modules of dini (first part of their name) that a file imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - node.level + 1]
            parts = (*base, *(node.module or "").split(".")) if node.module else base
            names = [parts[1]] if len(parts) > 1 else [alias.name for alias in node.names]
            found |= set(names)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "dini":
            found.add(node.module.split(".")[1] if "." in node.module else node.names[0].name)
    return found


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda p: str(p.relative_to(SOURCE)))
def test_imports_go_down(path):
    relative = path.relative_to(SOURCE).with_suffix("").parts
    own = relative[0]
    assert own in LEVEL, f"{own} has no floor: add it to FLOORS"
    package = ("dini", *relative[:-1])
    for name in imported(path, package) - {own}:
        if name in LEVEL:
            assert LEVEL[name] < LEVEL[own] or own == "__init__", f"{path.name} on floor {own} imports {name} above it"


def test_packages_within_a_package_do_not_import_one_another():
    """Of two packages side by side, as `solvers/judge` and `solvers/shared`, one at most imports the other."""
    edges = set()
    for path in SOURCE.rglob("*.py"):
        parts = ("dini", *path.relative_to(SOURCE).with_suffix("").parts)
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.level:
                base = parts[: len(parts) - node.level]
                names = [(node.module or "").split(".")[0]] if node.module else [alias.name for alias in node.names]
                beside = [name for name in names if (SOURCE.parent / Path(*base) / name).is_dir()]
                inside = parts[len(base)] if len(parts) > len(base) + 1 else None
                edges |= {(base, inside, name) for name in beside if inside not in (None, name) and len(base) > 1}
    assert edges
    assert not {(base, a, b) for base, a, b in edges if (base, b, a) in edges}


def test_the_page_has_the_floors():
    text = PAGE.read_text()
    assert page(text) == text, "run python tests/house/floors.py"


def test_the_way_to_a_derivative_is_as_the_page_says():
    steps = re.findall(r"^\| `([\w/]+\.py)` \| `(\w+)` \|", PAGE.read_text(), re.M)
    assert len(steps) == 7
    for file, function in steps:
        assert re.search(rf"def {function}\b", (SOURCE / file).read_text()), (file, function)


def test_the_contract_of_solvers_is_on_one_page():
    """The page of a user's own solver lists every attribute and method that the rest of dini asks a solver for."""
    told = set(re.findall(r"^\| `(\w+)[`(]", (PAGE.parent / "own-solver.md").read_text(), re.M))
    contract = {name for name in vars(dini.Solver) if not name.startswith("_")}
    # and the hooks of dini.extend.QuasiNewton
    hooks = {"empty", "forget", "take_in", "first_trial", "newton_step"}
    assert told == (contract - {"name", "rtol", "atol", "tol", "stops", "max_steps"}) | hooks


def test_the_compiler_has_one_place():
    users = {str(p.relative_to(SOURCE)) for p in SOURCE.rglob("*.py") if "lax.optimization_barrier" in p.read_text()}
    assert users == {"xla.py"}


def test_custom_rules_are_few_and_known():
    """custom_jvp appears in the engine and where a part has a rule of its own; custom_vjp nowhere."""
    users = {str(p.relative_to(SOURCE)) for p in SOURCE.rglob("*.py") if "jax.custom_jvp" in p.read_text()}
    assert users == {
        "differentiation/_rules.py",
        "numerics/isotonic.py",
        "linear/_small.py",  # an inverse
        "linear/_rolled.py",  # the library's
        "losses/_fenchel_young.py",
        "penalties/_barriers.py",
        "perturbed.py",
        "sets/_base.py",
        "sets/_exponential.py",
        "sets/_intersection.py",
        "sets/_power.py",
        "sets/_simplex.py",
        "sets/_transport.py",
        "numerics/spectral.py",
    }
    assert not [p for p in SOURCE.rglob("*.py") if "jax.custom_vjp" in p.read_text()]


def test_products_are_in_full_precision():
    """Products of arrays go through `products`; what is left are numbers on the host, and other libraries' matrices."""
    names = {"dot", "vdot", "tensordot", "einsum", "matmul", "inner", "dot_general"}
    plain = set()
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            operator = isinstance(node, ast.BinOp) and isinstance(node.op, ast.MatMult)
            function = isinstance(node, ast.Attribute) and node.attr in names
            function = function and getattr(node.value, "id", "") in ("jnp", "lax")
            if operator or function:
                plain.add(str(path.relative_to(SOURCE)))
    plain = {name for name in plain if not name.startswith("testing/")}
    assert plain == {"trees/products.py", "sets/_affine.py", "linear/_sparsity_rules.py"}


ROOT = Path(__file__).parents[2]
BESIDE = [*(ROOT / "zoo" / "src").rglob("*.py"), *(ROOT / "learn" / "src").rglob("*.py")]


@pytest.mark.parametrize("path", sorted(BESIDE), ids=lambda p: str(p.relative_to(ROOT)))
def test_the_other_distributions_use_public_names_only(path):
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "dini":
            assert not any(part.startswith("_") for part in node.module.split(".")), f"{path.name}: {node.module}"
            assert not any(alias.name.startswith("_") for alias in node.names)
        if isinstance(node, ast.Attribute):
            chain, base = [node.attr], node.value
            while isinstance(base, ast.Attribute):
                chain.append(base.attr)
                base = base.value
            if isinstance(base, ast.Name) and base.id == "dini":
                target = dini
                for name in reversed(chain):
                    assert not name.startswith("_"), f"{path.name}: dini.{'.'.join(reversed(chain))}"
                    assert name in getattr(target, "__all__", dir(target)), f"{path.name}: {name} is not public"
                    target = getattr(target, name)
                    if not hasattr(target, "__all__"):
                        break


def test_files_are_of_a_size_to_read():
    for path in [*SOURCE.rglob("*.py"), *(ROOT / "learn" / "src").rglob("*.py")]:
        assert len(path.read_text().splitlines()) <= 500, path


def test_every_judgement_can_be_turned_off():
    """The ledger of margins: what is asked for by name is in its table, and the other way around."""
    from dini.solvers.judge import _margins

    asked = {name for p in SOURCE.rglob("*.py") for name in re.findall(r"\boff\(\"(\w+)\"\)", p.read_text())}
    assert asked == set(_margins.JUDGEMENTS)
