"""What axe-core finds against pages of the site: nothing serious."""

from __future__ import annotations

import hashlib
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

AXE = "axe-core@4.14.1"
AXE_HASH = "e6b0ce02b84d892e2e33e403485e7f3d6c29e2be6df65daf44d89ba564139745"
PAGES = (
    "index",
    "chapters/04_gradients_from_queries",
    "chapters/pertmap",
    "claims",
    "gallery",
    "glossary",
    "live",
    "api",
)


@pytest.fixture(scope="session")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The script, by npm."""
    folder = tmp_path_factory.mktemp("axe")
    try:
        subprocess.run(
            ["npm", "pack", "--silent", AXE], cwd=folder, check=True, timeout=600
        )
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"npm could not fetch {AXE}: {error}")
    (archive,) = folder.glob("*.tgz")
    assert hashlib.sha256(archive.read_bytes()).hexdigest() == AXE_HASH
    with tarfile.open(archive) as tar:
        script = tar.extractfile("package/axe.min.js")
        assert script is not None
        return script.read().decode()


def serious(page: Any, axe: str) -> list[str]:
    """A line for each serious or critical finding, with the first element."""
    page.evaluate(axe)
    found = page.evaluate("axe.run({resultTypes: ['violations']})")
    return [
        f"{one['id']} ({len(one['nodes'])}): {one['help']}: {one['nodes'][0]['html']}"
        for one in found["violations"]
        if one["impact"] in ("serious", "critical")
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_nothing_serious(
    built: Path, chromium: Any, axe: str, width: int, scheme: str
) -> None:
    context = chromium.new_context(
        viewport={"width": width, "height": 900}, color_scheme=scheme
    )
    problems = []
    for name in PAGES:
        page = context.new_page()
        page.goto((built / f"{name}.html").as_uri(), wait_until="load")
        problems += [f"{name}: {line}" for line in serious(page, axe)]
        page.close()
    context.close()
    assert not problems, "\n".join(problems)


def test_it_finds_what_is_wrong(chromium: Any, axe: str) -> None:
    page = chromium.new_page()
    page.set_content("<html><body><img src='data:,'><button></button></body></html>")
    found = " ".join(serious(page, axe))
    page.close()
    assert "image-alt" in found
    assert "button-name" in found
