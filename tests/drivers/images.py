"""Test images made of local files: this machine's Python and `tests/backend.py`, no registry.

    tag = images.build()                                  (once in a process)
    name = images.create("lzt-e2e-coder", env={"BACKEND_NAME": "coder"})
    images.run("lzt-e2e-chat", env={…}, publish={8000: 0})
    images.remove_container(name); images.remove()

Everything made here carries the label `LABEL`, so `images.sweep(prefix)` finds what an
interrupted run left. It uses the docker CLI, so that tests don't lean on the code under test.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

LABEL = "lzt.tests"
PORT = 8000
REPOSITORY = "lzt-backend"
BACKEND = Path(__file__).resolve().parent.parent / "backend.py"

#: Parts of the standard library that no backend needs.
_SKIP = frozenset(
    "site-packages dist-packages test tests idlelib tkinter turtledemo lib2to3 ensurepip "
    "pydoc_data distutils __phello__ unittest".split()
)

_built: dict[str, str] = {}


def docker(*args: str, host: str | None = None, stdin: bytes | None = None) -> str:
    """Run the docker CLI; its output, stripped. Raises RuntimeError with its complaint."""
    where = ("--host", host) if host else ()
    done = subprocess.run(
        ["docker", *where, *args], input=stdin, capture_output=True, check=False, timeout=300
    )
    if done.returncode:
        raise RuntimeError(f"docker {' '.join(args)}: {done.stderr.decode().strip()}")
    return done.stdout.decode().strip()


def build(host: str | None = None) -> str:
    """Make the backend's image on an engine (default: the CLI's own); returns its tag.

    The tag is this process's own: whoever else tests at the same time removes only theirs.
    """
    where = host or ""
    if where not in _built:
        _remove_forgotten(host)
        tag = f"{REPOSITORY}:{os.getpid()}"
        python = _python()
        changes = [
            f"ENTRYPOINT {json.dumps([str(python), '-I', '/backend.py'])}",
            "ENV BACKEND_HOST=0.0.0.0",
            f"ENV LD_LIBRARY_PATH={':'.join(_library_dirs())}",
            f"LABEL {LABEL}=1",
            f"EXPOSE {PORT}",
            # In the exec form: the image has no shell. `create` turns it on and off.
            f"HEALTHCHECK CMD {json.dumps([str(python), '-I', '/backend.py', '--check'])}",
        ]
        flags = [word for change in changes for word in ("--change", change)]
        docker("import", *flags, "-", tag, host=host, stdin=_tar())
        _built[where] = tag
    return _built[where]


def remove(host: str | None = None) -> None:
    """Remove what `build` made on that engine, containers of it included."""
    tag = _built.pop(host or "", None)
    if tag is None:
        return
    for left in docker("ps", "-aq", "--filter", f"ancestor={tag}", host=host).split():
        remove_container(left, host=host)
    docker("rmi", "-f", tag, host=host)


def create(
    name: str,
    *,
    env: Mapping[str, str] | None = None,
    labels: Mapping[str, str] | None = None,
    publish: Mapping[int, int] | None = None,
    options: Sequence[str] = (),
    command: Sequence[str] = (),
    health: str | None = None,
    host: str | None = None,
) -> str:
    """Create (not start) a container of the backend's image; returns its id.

    `publish`: container port → host port on 127.0.0.1, 0 for any. `options` go to
    `docker create` as they are. `health`: an interval such as "1s" turns on a HEALTHCHECK
    that asks the backend's own /health.
    """
    words = ["create", "--name", name]
    for key, value in (env or {}).items():
        words += ["--env", f"{key}={value}"]
    for key, value in {LABEL: "1", **(labels or {})}.items():
        words += ["--label", f"{key}={value}"]
    for inner, outer in (publish or {}).items():
        words += ["--publish", f"127.0.0.1:{outer or ''}:{inner}"]
    if health:
        words += ["--health-interval", health, "--health-retries", "1"]
    else:
        words.append("--no-healthcheck")
    return docker(*words, *options, build(host), *command, host=host)


def run(name: str, **options: Any) -> str:
    """`create`, and start it."""
    made = create(name, **options)
    docker("start", made, host=options.get("host"))
    return made


def remove_container(name: str, host: str | None = None) -> None:
    """Kill and remove a container; one that is gone already is fine."""
    try:
        docker("rm", "-f", "-v", name, host=host)
    except RuntimeError as error:
        if "No such container" not in str(error) and "already in progress" not in str(error):
            raise


def sweep(prefix: str, host: str | None = None) -> None:
    """Remove every container of ours whose name begins with `prefix`."""
    listed = docker(
        "ps", "-a", "--filter", f"label={LABEL}", "--format", "{{.Names}}", host=host
    ).split()
    for name in listed:
        if name.startswith(prefix):
            remove_container(name, host=host)


def show(name: str, host: str | None = None) -> Any:
    """`docker inspect` of a container."""
    return json.loads(docker("inspect", "--type", "container", name, host=host))[0]


def _remove_forgotten(host: str | None) -> None:
    """Images of runs that were killed; one that a container still uses stays."""
    tags = docker("images", REPOSITORY, "--format", "{{.Tag}}", host=host).split()
    for tag in tags:
        if tag.isdigit() and not Path("/proc", tag).exists():
            with contextlib.suppress(RuntimeError):
                docker("rmi", f"{REPOSITORY}:{tag}", host=host)


def _python() -> Path:
    """The interpreter behind this one's virtual environment."""
    base = getattr(sys, "_base_executable", sys.executable)
    return Path(base).resolve()


def _stdlib() -> Path:
    return Path(sysconfig.get_path("stdlib", vars={"installed_base": sys.base_prefix}))


def _files() -> Iterator[Path]:
    stdlib = _stdlib()
    yield _python()
    for folder, dirs, names in os.walk(stdlib):
        dirs[:] = sorted(d for d in dirs if d not in _SKIP and not d.startswith("config-"))
        for name in sorted(names):
            if name.endswith((".py", ".so", ".pyc")) and ".opt-" not in name:
                yield Path(folder, name)


def _libraries() -> list[Path]:
    """What the interpreter and its extension modules are linked with, the loader included."""
    binaries = [str(f) for f in _files() if f.suffix == ".so" or f == _python()]
    said = subprocess.run(["ldd", *binaries], capture_output=True, text=True, check=False).stdout
    found = set(re.findall(r"(?:=> )?(/\S+) \(0x", said))
    return [Path(path) for path in sorted(found)]


def _library_dirs() -> list[str]:
    return sorted({str(path.parent) for path in _libraries()})


def _tar() -> bytes:
    """The image's file system. Names stay as they are here, so Python finds its own way."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name in ("tmp", "etc"):
            folder = tarfile.TarInfo(name)
            folder.type, folder.mode = tarfile.DIRTYPE, 0o777
            tar.addfile(folder)
        for path in (*_files(), *_libraries()):
            _add(tar, path, str(path))
        _add(tar, BACKEND, "/backend.py")
        _link(tar, "/bin/python3", str(_python()))
        _add_bytes(tar, "/etc/passwd", b"root:x:0:0:root:/:/bin/false\n")
    return buffer.getvalue()


def _add(tar: tarfile.TarFile, path: Path, name: str) -> None:
    data = path.resolve().read_bytes()
    info = tarfile.TarInfo(name.lstrip("/"))
    info.size, info.mode = len(data), 0o755
    # A .pyc is used only where its source's time is the one that it recorded.
    info.mtime = int(path.stat().st_mtime)
    tar.addfile(info, io.BytesIO(data))


def _add_bytes(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name.lstrip("/"))
    info.size, info.mode = len(data), 0o644
    tar.addfile(info, io.BytesIO(data))


def _link(tar: tarfile.TarFile, name: str, target: str) -> None:
    info = tarfile.TarInfo(name.lstrip("/"))
    info.type, info.linkname = tarfile.SYMTYPE, target
    tar.addfile(info)
