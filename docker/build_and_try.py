"""Builds the worker's image without a container engine, runs it, and runs a flow on it.

    python docker/build_and_try.py                          with a broker that it starts (Java and Maven)
    python docker/build_and_try.py --bootstrap HOST:PORT    with that one; also: HEADRACE_TEST_KAFKA
    python docker/build_and_try.py --storage FOLDER         keeps base and images there; the next time takes the base from it

For Debian, as root, with ``apt-get install buildah debootstrap``, and with a Python that has Headrace and its extra
``kafka``. The base is made by debootstrap from the mirror that apt uses, and pip looks where pip of this machine looks:
nothing about that gets into an image. It takes some minutes the first time, and 2 GB in the temporary folder.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from image_container import Buildah, Container, Failed, Running, say

from headrace.errors import StoreError
from headrace_adapters.devbroker import Cluster, installed_kafka
from headrace_adapters.devbroker.ports import HOST, free_ports

FOLDER = Path(__file__).resolve().parent
PROJECT = FOLDER.parent
BASE, WORKER, PARCELS = "localhost/headrace-base", "localhost/headrace-worker", "localhost/headrace-parcels"

CERTIFICATES = Path("/etc/ssl/certs")
# Of pip's configuration what says where packages come from, and nothing that is about folders of this machine.
OF_PIP = {"index-url", "extra-index-url", "trusted-host", "proxy", "cert", "timeout", "retries"}

READY_S = 60.0
GRACE_S = 5.0


def main() -> None:
    """Build, run, and say what was seen; ends with 1 at the first thing that is not as it should be."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--bootstrap", default=os.environ.get("HEADRACE_TEST_KAFKA") or None, help="a Kafka broker")
    parser.add_argument("--storage", type=Path, help="a folder for base and images that is kept")
    given = parser.parse_args()
    check_machine()
    with contextlib.ExitStack() as ends:
        scratch = Path(ends.enter_context(tempfile.TemporaryDirectory(prefix="headrace-image-")))
        buildah = Buildah(given.storage.resolve() if given.storage else scratch / "storage", scratch)
        try:
            build(buildah, scratch)
            bootstrap = given.bootstrap or ends.enter_context(broker(scratch / "broker"))
            try_image(buildah, bootstrap, scratch)
        except (Failed, StoreError) as failure:
            sys.exit(f"NOT AS IT SHOULD BE: {failure}")
    print("all of it is as it should be")


def check_machine() -> None:
    """Ends with what is missing."""
    missing = [tool for tool in ("buildah", "debootstrap", "unshare", "apt-get") if shutil.which(tool) is None]
    if missing:
        sys.exit(f"there is no {', '.join(missing)} here: on Debian, apt-get install buildah debootstrap")
    if os.geteuid() != 0:
        sys.exit("only root can make a base and mount it: run this as root, in a machine or a container for it")


@contextlib.contextmanager
def broker(folder: Path) -> Iterator[str]:
    """A broker of one node on this machine, as ``headrace dev broker`` starts it."""
    with say("a broker is started"), contextlib.ExitStack() as started:
        cluster = started.enter_context(Cluster(folder, installed_kafka(heap="512m"), nodes=1))
        cluster.start()
        ends = started.pop_all()
    with ends:
        yield cluster.bootstrap


# Building.


def build(buildah: Buildah, scratch: Path) -> None:
    """The base, where it is not there yet, the worker's image, and the example's on top of it."""
    if not buildah.has(BASE):
        with say("debootstrap makes the base"):
            make_base(buildah)
    settings = scratch / "pip.conf"
    settings.write_text(pip_settings(), encoding="utf-8")
    with say("the worker's image is built"):
        # The base has the certificates of its distribution; a machine may need others to reach its index.
        certificates = [f"--volume={CERTIFICATES}:{CERTIFICATES}:ro"] if CERTIFICATES.is_dir() else []
        buildah.build(
            WORKER,
            PROJECT,
            FOLDER / "Dockerfile",
            *certificates,
            f"--secret=id=pip.conf,src={settings}",
            f"--ignorefile={FOLDER / 'Dockerfile.dockerignore'}",
            f"--build-arg=BASE={BASE}",
        )
    with say("the example's image is built"):
        buildah.build(PARCELS, FOLDER / "example", FOLDER / "example" / "Dockerfile", f"--build-arg=WORKER={WORKER}")
    sizes = {name: buildah.size(name) for name in (BASE, WORKER, PARCELS)}
    for name, size in sizes.items():
        print(f"  {name}: {size / 1e6:.0f} MB")
    print(f"  the worker adds {(sizes[WORKER] - sizes[BASE]) / 1e6:.0f} MB to its base")


def make_base(buildah: Buildah) -> None:
    """The smallest Debian of this machine's release that has Python and its venv module."""
    release = dict(re.findall(r'^(\w+)="?([^"\n]*)', Path("/etc/os-release").read_text(encoding="utf-8"), re.MULTILINE))
    codename = release["VERSION_CODENAME"]
    targets = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages", f"Codename: {codename}"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split()
    if not targets:
        raise Failed(f"apt has no mirror of {codename}: apt-get update shows what it looks at")
    with buildah.container("scratch") as container:
        include = "--include=python3,python3-venv,ca-certificates"
        buildah.must("debootstrap", "--variant=minbase", include, codename, str(container.root), targets[0])
        for left in ("var/cache/apt/archives", "var/lib/apt/lists", "var/log"):
            shutil.rmtree(container.root / left)
            (container.root / left).mkdir()
        container.commit(BASE)


def pip_settings() -> str:
    """Where pip of this machine looks, from its files and its environment, as a file."""
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], check=True, capture_output=True, text=True
    ).stdout
    # The environment goes before the files, and comes first.
    said: dict[str, str] = {}
    for name, value in re.findall(r"^(?:global|:env:)\.([\w-]+)='(.*)'$", listed, re.MULTILINE):
        if name in OF_PIP:
            said.setdefault(name, value.replace("\\n", "\n    "))
    return "[global]\n" + "".join(f"{name} = {value}\n" for name, value in said.items())


# Trying.


def try_image(buildah: Buildah, bootstrap: str, scratch: Path) -> None:
    """A worker from the example's image, a run from outside, and what a cluster asks of a container."""
    app = f"parcels-{uuid.uuid4().hex[:12]}"
    (port,) = free_ports(1)
    url = f"kafka://{bootstrap}"
    settings = {
        "HEADRACE_URL": url,
        "HEADRACE_APP": app,
        "HEADRACE_GRACE": f"{GRACE_S:g}s",
        # Without a network of its own, the container shares that of this machine.
        "HEADRACE_HTTP_HOST": HOST,
        "HEADRACE_HTTP_PORT": str(port),
    }
    with buildah.container(PARCELS) as container:
        check_promises(container)
        with say("the image creates the topics"):
            said = container.buildah_run("headrace", "topics", "create", env=settings)
            expect(f"created {app}.jobs" in said, said)
        with container.start(scratch / "worker", settings) as worker:
            with say("the worker is ready"):
                worker.until(lambda: "ready" in worker.out, READY_S)
            check_process(worker)
            with say("its health check passes"):
                expect_code(container.health(settings), 0)
            run_flow(url, app)
            with say(f"SIGTERM ends it within its grace of {GRACE_S:g} s, with exit code 0"):
                code = worker.terminate(GRACE_S + 5.0)
                expect(code == 0, f"exit code {code}\n{worker.story()}")
                expect("stopped" in worker.out, worker.story())
            expect_code(container.health(settings), 1)


def check_promises(container: Container) -> None:
    """What the image says of itself."""
    config = container.config
    expect(config["User"] == "10001:10001", f"the image's user is {config['User']!r}")
    expect(config["StopSignal"] in ("SIGTERM", "15"), f"its stop signal is {config['StopSignal']!r}")
    expect(config["Entrypoint"] == ["headrace"], f"its entry point is {config['Entrypoint']}")
    expect(config["Healthcheck"]["Test"][0] == "CMD", "its health check needs no shell")
    identity = container.buildah_run("id", "-u").strip()
    expect(identity == "10001", f"buildah runs it as {identity}")
    left = [name for name in ("gcc", "cc", "make", "pip") if (container.root / "opt/headrace/bin" / name).exists()]
    left += [name for name in ("gcc", "cc", "make") if (container.root / "usr/bin" / name).exists()]
    expect(not left, f"the image still has {left}")
    print(f"  {container.buildah_run('headrace', '--version').strip()}, user {config['User']}, labels {config['Labels']}")


def check_process(worker: Running) -> None:
    """What the kernel says of the worker: user, capabilities, and its root."""
    status = worker.status()
    expect(status["Uid"].split() == ["10001"] * 4, f"it runs as {status['Uid']}")
    expect(status["NSpid"].split()[-1] == "1", f"it is process {status['NSpid']} of its container")
    expect(int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 0, f"it has capabilities: {status['CapEff']}")
    expect(status["NoNewPrivs"] == "1", "it could get new privileges")
    options = worker.root_options()
    expect("ro" in options, f"its root is mounted {options}")
    written = worker.written()
    expect(written != [], "it has written no state")
    print(f"  process 1, uid 10001, no capabilities, root read-only; its state has {len(written)} files")


def run_flow(url: str, app: str) -> None:
    """A start that is published from outside, and its result."""
    given = json.dumps({"to": "Bergen", "grams": [400, 1200]})
    with say("a run is started from outside, and ends"):
        headrace("start", "parcel", "--app", app, "--run-id", "p-1", "--input", given, "--url", url)
        result = headrace("result", "p-1", "--app", app, "--wait", "--timeout", f"{READY_S:g}s", "--url", url)
    expect(result.get("output") == "depot > zone 1 > Bergen: 7.00", f"the result is {result}")
    print(f"  result: {result['output']}")


def headrace(*arguments: str) -> Any:
    """What a command of this machine's Headrace prints."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HEADRACE_")}
    ran = subprocess.run(
        [sys.executable, "-m", "headrace_adapters.cli.main", *arguments, "--json"],
        check=False,
        capture_output=True,
        text=True,
        env=environment,
        timeout=2 * READY_S,
    )
    expect(ran.returncode == 0, f"headrace {arguments[0]} ended with {ran.returncode}: {ran.stdout}{ran.stderr}")
    return json.loads(ran.stdout.splitlines()[-1])


def expect_code(ran: subprocess.CompletedProcess[str], code: int) -> None:
    """That a program ended like this."""
    expect(ran.returncode == code, f"{ran.args[-1]} ended with {ran.returncode}, not {code}: {ran.stdout}{ran.stderr}")
    print(f"  health check: {ran.returncode}, {ran.stdout.strip()}")


def expect(is_so: bool, otherwise: str) -> None:
    """Raises :class:`Failed` that says *otherwise*."""
    if not is_so:
        raise Failed(otherwise)


if __name__ == "__main__":
    main()
