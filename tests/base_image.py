"""A base image for the project's Dockerfile, made of this machine's files: its Python with the
whole standard library, a shell, and the few programs that the Dockerfile runs. No registry."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.drivers.images import docker

PROGRAMS = ("sh", "mkdir", "chown")
_SKIP = frozenset("site-packages dist-packages test tests idlelib tkinter turtledemo".split())
#: What wheels may expect of any base (the manylinux policy), linked with Python or not.
_EXPECTED = (
    "libgcc_s.so.1 libstdc++.so.6 libm.so.6 libdl.so.2 librt.so.1 libpthread.so.0 libresolv.so.2 "
    "libnss_files.so.2 libnss_dns.so.2"
).split()
#: Where Debian keeps what its ensurepip installs.
_DEBIAN_WHEELS = Path("/usr/share/python-wheels")


def build(tag: str) -> None:
    """Import the image under this tag. `python3` is on its PATH."""
    python = _python()
    path = f"{python.parent}:/bin:/usr/bin"
    with tempfile.TemporaryFile() as file:
        with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
            _fill(tar, python)
        file.seek(0)
        change = [f"ENV PATH={path}", f"CMD {json.dumps(['python3'])}"]
        docker("import", *(w for c in change for w in ("--change", c)), "-", tag, stdin=file.read())


def _python() -> Path:
    base: str = getattr(sys, "_base_executable", sys.executable)
    return Path(base).resolve()


def _fill(tar: tarfile.TarFile, python: Path) -> None:
    for name in ("tmp", "etc"):
        folder = tarfile.TarInfo(name)
        folder.type, folder.mode = tarfile.DIRTYPE, 0o1777 if name == "tmp" else 0o755
        tar.addfile(folder)
    programs = [Path(found).resolve() for name in PROGRAMS if (found := shutil.which(name))]
    files = [python, *_standard_library(), *programs]
    for path in dict.fromkeys((*files, *_libraries(files))):
        tar.add(path.resolve(), arcname=str(path).lstrip("/"), filter=_plain)
    links = {f"bin/{name}": shutil.which(name) for name in PROGRAMS}
    links[str(python.parent / "python3").lstrip("/")] = str(python)
    present = set(tar.getnames())
    for name, target in links.items():
        if name not in present and target:
            link = tarfile.TarInfo(name)
            link.type, link.linkname = tarfile.SYMTYPE, str(Path(target).resolve())
            tar.addfile(link)


def _plain(info: tarfile.TarInfo) -> tarfile.TarInfo:
    info.uid = info.gid = 0
    info.uname = info.gname = ""
    info.mode |= 0o444
    return info


def _standard_library() -> Iterator[Path]:
    stdlib = Path(sysconfig.get_path("stdlib", vars={"installed_base": sys.base_prefix}))
    for top in (stdlib, _DEBIAN_WHEELS):
        for folder, dirs, names in os.walk(top):
            dirs[:] = sorted(d for d in dirs if d not in _SKIP and not d.startswith("config-"))
            yield from (Path(folder, name) for name in sorted(names) if ".opt-" not in name)


def _libraries(files: list[Path]) -> list[Path]:
    binaries = [str(file) for file in files if ".so" in file.name or os.access(file, os.X_OK)]
    said = subprocess.run(["ldd", *binaries], capture_output=True, text=True, check=False).stdout
    cached = subprocess.run(["/sbin/ldconfig", "-p"], capture_output=True, text=True, check=True)
    known = dict(re.findall(r"(\S+) \(libc6,.*=> (\S+)", cached.stdout))
    found = set(re.findall(r"(?:=> )?(/\S+) \(0x", said))
    found |= {known[name] for name in _EXPECTED if name in known}
    return [Path(path) for path in sorted(found)]
