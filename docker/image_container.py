"""Images and containers without an engine: buildah makes them, and the kernel's namespaces run them.

``buildah run`` knows neither a read-only root nor process 1, so a worker is started as an engine would: with mounts and
process numbers of its own, its root read-only, a tmpfs for /tmp, its volume in a folder, without capabilities, as the
image's user.
"""

from __future__ import annotations

__all__ = ["Buildah", "Container", "Failed", "Running", "say"]

import contextlib
import json
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Self

BUILD_S_MAX = 1_200.0
RUN_S_MAX = 120.0
POLL_S = 0.05

# What becomes process 1, or a process beside it, of a container. $0 is the root; the arguments are the command.
ENTER = """
set -e
mount --bind "$0" "$0"
mount -t proc -o nosuid,nodev,noexec proc "$0/proc"
mount -t tmpfs -o nosuid,mode=755 tmpfs "$0/dev"
mkdir "$0/dev/shm"
for device in null zero full random urandom; do touch "$0/dev/$device"; mount --bind "/dev/$device" "$0/dev/$device"; done
mount -t tmpfs -o nosuid,nodev,noexec,mode=1777,size=64m tmpfs "$0/dev/shm"
mount -t tmpfs -o nosuid,nodev,noexec,mode=1777,size=64m tmpfs "$0/tmp"
mount --bind "$STATE" "$0$VOLUME"
for file in hosts resolv.conf; do touch "$0/etc/$file"; mount --bind "/etc/$file" "$0/etc/$file"; done
mount -o remount,bind,ro "$0"
exec chroot "$0" setpriv --reuid "$ID" --regid "$ID" --clear-groups --no-new-privs --bounding-set=-all --inh-caps=-all \
  env -i "$@"
"""


class Failed(Exception):
    """Raised when something is not as it should be; says what was seen."""


@contextlib.contextmanager
def say(what: str) -> Iterator[None]:
    """Say *what* is done, and how long it took."""
    print(f"{what} ...", flush=True)
    begun = time.monotonic()
    yield
    print(f"{what}: {time.monotonic() - begun:.1f} s", flush=True)


class Buildah:
    """buildah with a storage of its own, which leaves nothing elsewhere."""

    def __init__(self, storage: Path, scratch: Path) -> None:
        self._options = [f"--root={storage}", f"--runroot={scratch / 'run'}", "--storage-driver=vfs"]

    def must(self, *command: str, timeout_s: float = BUILD_S_MAX) -> str:
        """What *command* prints; raises :class:`Failed` with its last words."""
        ran = subprocess.run(
            command,
            check=False,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            stdin=subprocess.DEVNULL,
        )
        if ran.returncode != 0:
            raise Failed(f"{shlex.join(command)} ended with {ran.returncode}:\n{(ran.stdout + ran.stderr)[-6_000:]}")
        return ran.stdout

    def do(self, verb: str, *arguments: str, timeout_s: float = BUILD_S_MAX) -> str:
        """One command of buildah."""
        return self.must("buildah", *self._options, verb, *arguments, timeout_s=timeout_s)

    def has(self, image: str) -> bool:
        """Whether the storage has *image*."""
        names = [name for known in self._images() for name in known.get("names") or []]
        return any(name.startswith(f"{image}:") for name in names)

    def size(self, image: str) -> int:
        """Bytes of all files of *image*."""
        with self.container(image) as container:
            found = self.must("du", "--summarize", "--bytes", "--one-file-system", str(container.root))
        return int(found.split()[0])

    def build(self, image: str, context: Path, dockerfile: Path, *options: str) -> None:
        """Build *image* by a Dockerfile from what is here; health checks need Docker's format."""
        always = ("--isolation=chroot", "--pull-never", "--format=docker", f"--tag={image}", f"--file={dockerfile}")
        self.do("build", *always, *options, str(context))

    @contextlib.contextmanager
    def container(self, image: str) -> Iterator[Container]:
        """A container of *image*, removed in the end."""
        never = [] if image == "scratch" else ["--pull-never"]
        name = self.do("from", *never, image).strip()
        try:
            yield Container(self, name, Path(self.do("mount", name).strip()))
        finally:
            self.do("rm", name)

    def _images(self) -> list[dict[str, Any]]:
        listed = self.do("images", "--json")
        found: list[dict[str, Any]] = json.loads(listed) if listed.strip() else []
        return found or []


class Container:
    """A container's files in *root*, and its image's configuration."""

    def __init__(self, buildah: Buildah, name: str, root: Path) -> None:
        self._buildah = buildah
        self._name = name
        self.root = root

    def commit(self, image: str) -> None:
        """Make an image of it."""
        self._buildah.do("commit", "--format=docker", self._name, image)

    @cached_property
    def config(self) -> dict[str, Any]:
        """The image's configuration, with Docker's names."""
        found: dict[str, Any] = json.loads(self._buildah.do("inspect", self._name))["Docker"]["config"]
        return found

    def buildah_run(self, *command: str, env: Mapping[str, str] | None = None) -> str:
        """What *command* prints, run by buildah as the image says."""
        given = [f"--env={name}={value}" for name, value in (env or {}).items()]
        return self._buildah.do("run", "--isolation=chroot", *given, self._name, "--", *command, timeout_s=RUN_S_MAX)

    def start(self, folder: Path, settings: Mapping[str, str]) -> Running:
        """The image's own command, as process 1, with its state and its output in *folder*."""
        command = [*self.config["Entrypoint"], *self.config["Cmd"]]
        state = folder / "state"
        state.mkdir(parents=True)
        identity = int(self._user)
        os.chown(state, identity, identity)
        return Running(self._entering(command, settings), self._place(state), folder)

    def health(self, settings: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
        """The image's health check, in a container beside the other one, on the same network."""
        command = self.config["Healthcheck"]["Test"][1:]
        return subprocess.run(
            self._entering(command, settings),
            # It writes nothing, so it may have the empty folder that the image has there.
            env=self._place(self.root / self._volume.lstrip("/")),
            check=False,
            capture_output=True,
            text=True,
            timeout=RUN_S_MAX,
        )

    @property
    def _user(self) -> str:
        return str(self.config["User"]).partition(":")[0]

    @property
    def _volume(self) -> str:
        (volume,) = self.config["Volumes"]
        return str(volume)

    def _place(self, state: Path) -> dict[str, str]:
        return {"PATH": os.environ["PATH"], "STATE": str(state), "VOLUME": self._volume, "ID": self._user}

    def _entering(self, command: list[str], settings: Mapping[str, str]) -> list[str]:
        # Settings come after the image's own, and win.
        environment = [*self.config["Env"], *(f"{name}={value}" for name, value in settings.items())]
        inside = [f"--chdir={self.config['WorkingDir'] or '/'}", *environment, *command]
        namespaces = ["unshare", "--mount", "--pid", "--ipc", "--uts", "--fork", "--kill-child"]
        return [*namespaces, "sh", "-c", ENTER, str(self.root), *inside]


class Running:
    """A container that runs; ended, in the worst way, with the block."""

    def __init__(self, command: list[str], place: Mapping[str, str], folder: Path) -> None:
        self._out, self._err = folder / "out", folder / "err"
        self._state = folder / "state"
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self._process = subprocess.Popen(command, env=place, stdin=subprocess.DEVNULL, stdout=out, stderr=err)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            # The kernel ends everything in the container with its process 1.
            self._process.kill()
            self._process.wait()

    @property
    def out(self) -> str:
        """What it has printed so far."""
        return self._out.read_text(encoding="utf-8", errors="replace")

    def story(self) -> str:
        """All that it said."""
        return f"--- stdout\n{self.out}\n--- stderr\n{self._err.read_text(encoding='utf-8', errors='replace')[-6_000:]}"

    def until(self, is_so: Callable[[], bool], within_s: float) -> None:
        """Wait while it runs; raises :class:`Failed` when it ends before, or takes longer."""
        deadline = time.monotonic() + within_s
        while not is_so():
            if self._process.poll() is not None:
                raise Failed(f"the container ended with {self._process.returncode}\n{self.story()}")
            if time.monotonic() > deadline:
                raise Failed(f"the container is not so far after {within_s:g} s\n{self.story()}")
            time.sleep(POLL_S)

    @property
    def pid(self) -> int:
        """The number, on this machine, of the container's process 1."""
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text(encoding="ascii")
        return int(children.split()[0])

    def status(self) -> dict[str, str]:
        """What the kernel says of process 1."""
        lines = Path(f"/proc/{self.pid}/status").read_text(encoding="utf-8").splitlines()
        return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}

    def root_options(self) -> list[str]:
        """How its root is mounted."""
        mounts = Path(f"/proc/{self.pid}/mountinfo").read_text(encoding="utf-8").splitlines()
        (root,) = (fields[5] for fields in map(str.split, mounts) if fields[4] == "/")
        return root.split(",")

    def written(self) -> list[Path]:
        """The files of its volume."""
        return [path for path in self._state.rglob("*") if path.is_file()]

    def terminate(self, within_s: float) -> int:
        """SIGTERM to process 1, as an engine does it, and its exit code."""
        os.kill(self.pid, signal.SIGTERM)
        try:
            return self._process.wait(within_s)
        except subprocess.TimeoutExpired:
            raise Failed(f"it did not end within {within_s:g} s of SIGTERM\n{self.story()}") from None
