from __future__ import annotations

import linecache
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

from xai_book import methods
from xai_book.studies.command_line import main
from xai_book.studies.engine import Runner, Study
from xai_book.studies.results import Results, Unit

SOURCE = '''
"""A method."""

from {package}.mask import cells


class Method:
    """Explains."""

    def attribute(self, x):
        """The map."""
        return x * 2  # twice
'''


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of two modules, of which one imports the other."""
    folder = tmp_path / f"toy{tmp_path.name}"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "mask.py").write_text("def cells():\n    return 7\n")
    (folder / "method.py").write_text(SOURCE.format(package=folder.name))
    (folder / "beside.py").write_text("other = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    return folder


def fingerprint(package: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Of the method, as a new process would find it."""
    for name in [name for name in sys.modules if name.startswith(package.name)]:
        del sys.modules[name]
    for cached in package.rglob("*.pyc"):
        cached.unlink()
    __import__(f"{package.name}.beside")
    __import__(f"{package.name}.method")
    kind = sys.modules[f"{package.name}.method"].Method
    monkeypatch.setitem(methods.METHODS, "toy", methods.Method(kind))
    methods._of_module.cache_clear()
    linecache.clearcache()
    found = methods.fingerprint({"method": "toy"})
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("file", "old", "new", "differs"),
    [
        ("method.py", "x * 2", "x * 3", True),
        ("mask.py", "7", "8", True),
        ("method.py", "# twice", "# two times", False),
        ("method.py", '"""The map."""', '"""What is asked for."""', False),
        ("method.py", '        """The map."""\n', "", False),
        ("method.py", "x * 2", "(x\n * 2)", False),
        ("beside.py", "1", "2", False),
    ],
)
def test_a_fingerprint_is_of_the_code_alone(
    package: Path,
    monkeypatch: pytest.MonkeyPatch,
    file: str,
    old: str,
    new: str,
    differs: bool,
) -> None:
    before = fingerprint(package, monkeypatch)
    assert fingerprint(package, monkeypatch) == before
    text = (package / file).read_text()
    assert old in text
    (package / file).write_text(text.replace(old, new))
    assert (fingerprint(package, monkeypatch) != before) == differs


def test_rows_know_their_code_and_the_list_says_which_are_older(
    tmp_path: Path, package: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    now = fingerprint(package, monkeypatch)
    toy = Study(
        "nothing",
        lambda: [
            Unit({"method": name}, i) for name in ("toy", "random") for i in (0, 1)
        ],
        Runner(lambda unit: {"square": unit.image**2}),
    )
    stores = tmp_path / "stores"
    stores.mkdir()
    ask = ["list", "--results", str(stores)]
    main(["run", "toy", "--results", str(stores)], {"toy": toy})
    rows = Results("toy", stores).rows()
    assert [row.get("code") for row in rows] == [now, now, None, None]
    capsys.readouterr()
    main(ask, {"toy": toy})
    assert len(capsys.readouterr().out.splitlines()) == 2
    text = (package / "method.py").read_text()
    (package / "method.py").write_text(text.replace("x * 2", "x * 3"))
    fingerprint(package, monkeypatch)
    main(ask, {"toy": toy})
    assert (
        "older than the code of their method:\ntoy: 2 of toy" in capsys.readouterr().out
    )


def test_present_rows_are_not_called_fresh(capsys) -> None:
    assert main(["list"]) == 0
    assert "rows made before they knew their code: " in capsys.readouterr().out


def test_every_method_can_be_drawn() -> None:
    fig, ax = plt.subplots()
    for name, one in methods.METHODS.items():
        ax.plot([0, 1], [0, 1], label=name, **one.look._asdict())
    plt.close(fig)
    looks = [one.look for one in methods.METHODS.values() if one.asks]
    assert len(set(looks)) == len(looks)
    assert set(methods.WHITE_BOX) | set(methods.ASKING) == set(methods.METHODS)
