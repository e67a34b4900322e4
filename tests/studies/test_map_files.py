from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from xai_book.studies import map_files
from xai_book.studies.engine import kept_maps
from xai_book.studies.results import Unit


def test_a_map_is_kept_in_steps(tmp_path: Path) -> None:
    heat = torch.randn(2, 1, 5, 7, generator=torch.Generator().manual_seed(0))
    units = {i: Unit({"map": i}, 0) for i in range(2)}
    where = (lambda unit: str(unit.settings["map"]), tmp_path / "maps", "")
    first = kept_maps(units, lambda unit: heat[unit.settings["map"], None], *where)
    for i, one in enumerate(heat):
        step = one.abs().max() / 127
        assert bool(((first[i][0] - one).abs() <= step / 2 + 1e-6).all())

    def refuse(unit: Unit) -> torch.Tensor:
        raise AssertionError("made twice")

    again = kept_maps(units, refuse, *where)
    assert all(torch.equal(again[i], first[i]) for i in units)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_is_not_stored(tmp_path: Path, value: float) -> None:
    heat = torch.ones(1, 1, 3, 3)
    heat[0, 0, 1, 1] = value
    path = tmp_path / "a.npz"
    with pytest.raises(ValueError, match=r"a\.npz: \w+ must be finite"):
        map_files.write(path, "key", map_files.in_steps(heat[0, 0]))
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    map_files.write(path, "key", map_files.in_steps(torch.rand(30, 30)))
    whole = path.read_bytes()
    damaged = [b"", b"text", whole[:-1], whole[: len(whole) // 2], whole[:40]]
    damaged += [whole[:i] + b"damage" + whole[i + 6 :] for i in (0, 60, 100)]
    for contents in damaged:
        path.write_bytes(contents)
        with pytest.raises(ValueError, match=r"a\.npz is no stored map"):
            map_files.read(path)


def test_writers_of_one_map_do_not_meet(tmp_path: Path) -> None:
    heat, path = torch.rand(1, 1, 50, 50), tmp_path / "a.npz"
    with ThreadPoolExecutor(8) as pool:
        contents = map_files.in_steps(heat[0, 0])
        list(pool.map(lambda _: map_files.write(path, "k", contents), range(40)))
    assert list(tmp_path.iterdir()) == [path]
    torch.testing.assert_close(map_files.read(path), heat[0], rtol=0, atol=0.005)
