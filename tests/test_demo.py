from __future__ import annotations

import subprocess
import sys

import pytest

from launcher import demo


def test_without_its_extra_it_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo, "NEEDED", ("numpy", "no_such_package"))
    assert demo.run() == 2
    told = capsys.readouterr().err
    assert "no_such_package" in told
    assert "numpy" not in told
    assert "pip install 'lazy-launcher[demo]'" in told


def test_importing_it_is_cheap() -> None:
    """The model servers import the package too, at each of their starts."""
    code = "import sys, launcher.demo; print(sorted({'numpy', 'aiohttp'} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"
