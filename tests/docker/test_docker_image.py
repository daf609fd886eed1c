"""The image of a worker: built without a container engine, run as one would run it, and used.

It takes minutes, root, and Debian's buildah and debootstrap, so it runs only where ``HEADRACE_TEST_IMAGE=1`` asks for it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

from tests.docker.conftest import NOT_TRIED
from tests.docker.described import FOLDER

pytestmark = [pytest.mark.broker, pytest.mark.slow]

VARIABLE = "HEADRACE_TEST_IMAGE"
TOOLS = ("buildah", "debootstrap")
TRY_S_MAX = 1_800.0


@pytest.fixture
def asked_for(pytestconfig: pytest.Config) -> None:
    """Skips, and has the end of the session say why."""
    reasons = [] if os.environ.get(VARIABLE) == "1" else [f"{VARIABLE}=1 is not set"]
    reasons += [f"there is no {tool}" for tool in TOOLS if shutil.which(tool) is None]
    if reasons:
        pytestconfig.stash[NOT_TRIED] = (
            f"{'; '.join(reasons)} (apt-get install {' '.join(TOOLS)}; it takes minutes, as root)"
        )
        pytest.skip(pytestconfig.stash[NOT_TRIED])


def test_the_image_is_built_and_its_worker_runs_a_flow(asked_for: None, request: pytest.FixtureRequest) -> None:
    # Only now, so that no broker is started for a test that is skipped.
    bootstrap = request.getfixturevalue("broker")

    ran = subprocess.run(
        [sys.executable, str(FOLDER / "build_and_try.py"), "--bootstrap", bootstrap],
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TRY_S_MAX,
    )

    sys.stdout.write(ran.stdout)
    assert ran.returncode == 0, ran.stdout
    assert ran.stdout.endswith("all of it is as it should be\n")
