"""Data that are split over devices and processes: the same solutions and derivatives, and nothing is gathered."""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("scale_program.py")


def start(*arguments):
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    command = [sys.executable, str(PROGRAM), *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finish(*processes):
    """The most that any process gathered, once all have ended well."""
    ended = [(process.communicate(timeout=500)[0], process.returncode) for process in processes]
    for printed, code in ended:
        assert code == 0, printed[-3000:]
    return max(
        (int(found[1]) for printed, _ in ended if (found := re.search(r"^gathered (\d+)", printed, re.M))), default=0
    )


@pytest.mark.may_cost(30)
@pytest.mark.by_default("least_squares", "default:explicit")
@pytest.mark.parametrize(
    "solve",
    [
        "default",
        "newton",
        "lbfgs",
        "lasso",
        "least_squares",
        "default:explicit",
        "lasso:explicit",
    ],
)
def test_eight_devices(solve):
    # the Hessian has 36 numbers, the data of one device 768
    assert finish(start(solve)) <= 64


@pytest.mark.thorough
def test_what_gathers_is_seen():
    """Residuals of several arrays become one vector, for which XLA collects the Jacobian: the test above can fail."""
    assert finish(start("gathers")) >= 6 * 1024


@pytest.mark.thorough
def test_two_processes():
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    assert finish(*(start("default", port, number) for number in (0, 1))) <= 64


@pytest.mark.parametrize("what", ["by_hand", "refused"])
def test_loops_and_refusals(what):
    finish(start(what))
