"""Chromium, as Debian packages it, and a JupyterLab to open in it."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """These take half an hour: `make browser` asks for them."""
    if not os.environ.get("XAI_BROWSER"):
        skip = pytest.mark.skip(reason="takes half an hour; run `make browser`")
        for item in items:
            if Path(__file__).parent in item.path.parents:
                item.add_marker(skip)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """A headless Chromium, driven by playwright."""
    sync_api = pytest.importorskip("playwright.sync_api")
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        pytest.skip("no chromium in PATH: install Debian's package `chromium`")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=found, args=["--no-sandbox"]
        )
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def built() -> Path:
    """The site, built anew."""
    done = subprocess.run([sys.executable, ROOT / "tools" / "build_site.py"])
    assert done.returncode == 0
    return ROOT / "_build" / "site"


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a JupyterLab over a copy of the chapters, with a `{}` for one."""
    folder = tmp_path_factory.mktemp("lab")
    shutil.copytree(ROOT / "notebooks", folder / "notebooks")
    # All cells stay in the page, also those out of sight.
    settings = folder / "settings" / "@jupyterlab" / "notebook-extension"
    settings.mkdir(parents=True)
    (settings / "tracker.jupyterlab-settings").write_text(
        json.dumps({"windowingMode": "none"})
    )
    token = secrets.token_hex(16)
    environment = {
        **os.environ,
        "JUPYTERLAB_SETTINGS_DIR": str(folder / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(folder / "workspaces"),
        "JUPYTER_RUNTIME_DIR": str(folder / "runtime"),
        "JUPYTER_CONFIG_DIR": str(folder / "config"),
    }
    command = [
        *(sys.executable, "-m", "jupyter", "lab", "--no-browser", "--allow-root"),
        *("--port=0", f"--notebook-dir={folder / 'notebooks'}"),
        *(f"--IdentityProvider.token={token}", "--expose-app-in-browser"),
        "--LabApp.news_url=None",
    ]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        address = _address(folder, server)
        yield f"{address}lab/tree/{{}}?reset&token={token}"
    finally:
        server.terminate()
        server.wait(60)


def _address(folder: Path, server: subprocess.Popen[bytes]) -> str:
    """What the server says about itself, once it does."""
    for _ in range(600):
        for path in (folder / "runtime").glob("jpserver-*.json"):
            return str(json.loads(path.read_text())["url"])
        if server.poll() is not None:
            break
        time.sleep(0.2)
    raise RuntimeError(f"JupyterLab did not start:\n{(folder / 'log').read_text()}")
