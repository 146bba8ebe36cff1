"""``dini.compat.jaxopt`` is another name of ``dini_jaxopt``: the same objects, or an error that tells of it."""

import importlib
import subprocess
import sys

import pytest

import dini
import dini_jaxopt


def test_both_names_are_one_package():
    from dini.compat.jaxopt.base import OptStep

    import dini.compat.jaxopt as jaxopt

    assert jaxopt is dini_jaxopt is dini.compat.jaxopt
    assert OptStep is dini_jaxopt.OptStep
    for name in dini_jaxopt.MODULES:
        module = importlib.import_module(f"dini_jaxopt.{name}")
        assert importlib.import_module(f"dini.compat.jaxopt.{name}") is module is getattr(dini_jaxopt, name)
    assert not hasattr(dini.compat, "absent")


ABSENT = """
import sys
sys.modules["dini_jaxopt"] = None  # as if there were none
import dini
try:
    dini.compat.jaxopt
except ImportError as error:
    assert 'pip install "dini[jaxopt]"' in str(error), error
else:
    raise AssertionError("no error")
"""


@pytest.mark.thorough
def test_where_it_is_not_installed_an_error_says_so():
    run = subprocess.run([sys.executable, "-W", "error", "-c", ABSENT], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
