"""The Dockerfiles, and the two programs that they use."""

from __future__ import annotations

import fnmatch
import json
import re
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.metadata import requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from headrace_adapters.devbroker.ports import free_ports
from tests.docker.described import FOLDER, ROOT, final_stage, instructions, settings_from

DOCKERFILE = FOLDER / "Dockerfile"
IGNORED = FOLDER / "Dockerfile.dockerignore"
PINNED = re.compile(r"^([A-Za-z0-9][\w.-]*)==", re.MULTILINE)


def test_the_image_runs_as_a_user_that_is_not_root() -> None:
    (user,) = final_stage(DOCKERFILE)["USER"]

    # By number: a cluster that is told "not root" does not look into the image for names.
    assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", user)
    (prepared,) = final_stage(DOCKERFILE)["RUN"]
    assert f"--uid {user.split(':')[0]} " in prepared


def test_the_image_starts_checks_and_stops_its_worker_without_a_shell() -> None:
    stage = final_stage(DOCKERFILE)

    assert [json.loads(text) for text in (*stage["ENTRYPOINT"], *stage["CMD"])] == [["headrace"], ["worker", "/app/app.py"]]
    assert stage["STOPSIGNAL"] == ["SIGTERM"]
    (check,) = stage["HEALTHCHECK"]
    assert json.loads(check.partition("CMD ")[2]) == ["python3", "-I", "/opt/headrace/health.py"]


def test_the_base_is_an_argument_and_the_same_in_each_stage() -> None:
    said = instructions(DOCKERFILE)

    assert said[0].name == "ARG"
    assert re.fullmatch(r"BASE=[\w.]+:[\w.-]+", said[0].rest)
    assert [rest.split()[0] for name, rest in said if name == "FROM"] == ["${BASE}", "${BASE}"]


def test_what_the_image_sets_is_known_to_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    (text,) = final_stage(DOCKERFILE)["ENV"]
    said = dict(pair.split("=", 1) for pair in text.split())

    _, settings = settings_from(said, monkeypatch)

    assert final_stage(DOCKERFILE)["VOLUME"] == [str(settings.state)]
    assert final_stage(DOCKERFILE)["EXPOSE"] == [str(settings.http_port)]
    assert settings.http_host == "0.0.0.0"
    assert final_stage(DOCKERFILE)["WORKDIR"] == ["/app"]


def test_the_image_says_the_version_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    labels = dict(re.findall(r'org\.opencontainers\.image\.(\w+)="([^"]*)"', final_stage(DOCKERFILE)["LABEL"][0]))

    assert labels["version"] == project["version"]
    assert labels["licenses"] == project["license"]


def test_pip_installs_only_what_has_a_hash_or_is_here_already() -> None:
    commands = [text for name, rest in instructions(DOCKERFILE) if name == "RUN" for text in rest.split("&&")]
    pip = [text.split() for text in commands if "bin/pip" in text]

    assert len(pip) == 4
    assert [words for words in pip if not {"--require-hashes", "--no-index"} & {*words}] == []
    assert [words for words in pip if "--require-hashes" in words and "--only-binary" not in words] == []


def test_what_is_copied_is_there_and_goes_to_the_builder() -> None:
    copied = [rest.split()[:-1] for name, rest in instructions(DOCKERFILE) if name == "COPY" and "--from" not in rest]
    sources = [source for group in copied for source in group]
    lines = [line for line in IGNORED.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]

    assert [source for source in sources if not (ROOT / source).exists()] == []
    assert lines[0] == "*"
    assert {line[1:] for line in lines if line.startswith("!")} == set(sources)
    assert any(fnmatch.fnmatch("engine/headrace/__pycache__", line) for line in lines[1:])


def test_the_example_is_one_file_on_top_of_the_image() -> None:
    stage = final_stage(FOLDER / "example" / "Dockerfile")

    assert stage == {"FROM": ["${WORKER}"], "COPY": ["app.py /app/app.py"]}


# pins.py


def pinned(purpose: str) -> str:
    """Run as the image does: with nothing but Python."""
    command = [sys.executable, "-I", "-S", str(FOLDER / "pins.py"), purpose, str(ROOT)]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout


def needed(names: set[str]) -> set[str]:
    """These and all that they need, as the installed packages say it."""
    found: set[str] = set()
    while names - found:
        name = (names - found).pop()
        found.add(name)
        wanted = [Requirement(text) for text in requires(name) or []]
        names |= {canonicalize_name(it.name) for it in wanted if it.marker is None or it.marker.evaluate({"extra": ""})}
    return found


@pytest.mark.parametrize("purpose", ["runtime", "build"])
def test_the_pins_of_an_image_are_what_its_packages_say_that_they_need(purpose: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    asked = project["build-system"]["requires"]
    if purpose == "runtime":
        asked = [*project["project"]["dependencies"], *project["project"]["optional-dependencies"]["kafka"]]

    text = pinned(purpose)

    assert set(PINNED.findall(text)) == needed({canonicalize_name(Requirement(it).name) for it in asked})
    entries = re.split(r"\n(?=[A-Za-z0-9])", text.strip())
    assert [entry for entry in entries if "--hash=sha256:" not in entry or entry.endswith("\\")] == []


def test_a_requirement_without_a_pin_ends_the_build(tmp_path: Path) -> None:
    (tmp_path / "constraints.txt").write_text("other==1.0 \\\n    --hash=sha256:00\n    # via wanted\n", encoding="utf-8")
    (tmp_path / "pyproject.toml").write_text('[build-system]\nrequires = ["wanted>=1"]\n', encoding="utf-8")

    ran = subprocess.run(
        [sys.executable, str(FOLDER / "pins.py"), "build", str(tmp_path)],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert (ran.returncode, ran.stdout) == (1, "")
    assert "constraints.txt pins no wanted" in ran.stderr


# health.py


@pytest.fixture
def worker() -> Iterator[HTTPServer]:
    """What a health check may meet: it answers with its ``status``."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(server.status if self.path == "/healthz" else 404)  # type: ignore[attr-defined]
            self.end_headers()
            self.wfile.write(b'{"reason":"as it is"}')

        def log_message(self, *_: object) -> None:
            """Nobody reads it."""

    server = HTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def health(port: int, host: str = "0.0.0.0") -> subprocess.CompletedProcess[str]:
    variables = {"HEADRACE_HTTP_PORT": str(port), "HEADRACE_HTTP_HOST": host, "http_proxy": "http://127.0.0.1:1"}
    command = [sys.executable, "-I", str(FOLDER / "health.py")]
    return subprocess.run(command, check=False, capture_output=True, text=True, env=variables, timeout=60)


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1), (404, 1)])
def test_the_health_check_says_what_the_worker_says(worker: HTTPServer, status: int, code: int) -> None:
    worker.status = status  # type: ignore[attr-defined]

    ran = health(worker.server_port)

    assert (ran.returncode, ran.stdout, ran.stderr) == (code, '{"reason":"as it is"}\n', "")


def test_the_health_check_fails_where_nobody_answers() -> None:
    (port,) = free_ports(1)

    ran = health(port, "127.0.0.1")

    assert (ran.returncode, ran.stderr) == (1, "")
    assert f"does not answer at port {port}" in ran.stdout
