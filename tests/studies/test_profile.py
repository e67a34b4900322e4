"""The two sizes of every computation."""

import pytest

from xai_book.profile import by_profile, profile


def test_quick_unless_told_otherwise(monkeypatch):
    monkeypatch.delenv("XAI_PROFILE", raising=False)
    assert profile() == "quick"
    assert by_profile(quick=1, paper=2) == 1


def test_paper(monkeypatch):
    monkeypatch.setenv("XAI_PROFILE", "paper")
    assert by_profile(quick=1, paper=2) == 2


def test_unknown_profile(monkeypatch):
    monkeypatch.setenv("XAI_PROFILE", "fast")
    with pytest.raises(
        ValueError, match="XAI_PROFILE must be quick or paper, got 'fast'"
    ):
        profile()
