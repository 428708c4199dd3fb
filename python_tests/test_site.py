"""What the site will show, without building it: `make site` does, strictly."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import rrfast

SITE = Path(__file__).parents[1] / "docs" / "site"


@pytest.fixture
def pages(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(SITE))
    return importlib.import_module("pages")


@pytest.fixture
def navigation() -> list[str]:
    """The pages of the navigation, in its order."""
    yaml = pytest.importorskip("ruamel.yaml")
    settings = yaml.YAML(typ="safe").load(SITE / "mkdocs.yml")

    def inside(entry: Any) -> Iterator[str]:
        if isinstance(entry, str):
            yield entry
        else:
            for each in entry.values() if isinstance(entry, dict) else entry:
                yield from inside(each)

    return list(inside(settings["nav"]))


def test_the_navigation_has_every_page_once(pages: ModuleType, navigation: list[str]) -> None:
    assert sorted(navigation) == sorted([*pages.pages(), *pages.reference_pages()])


def test_every_public_name_has_its_entry(pages: ModuleType) -> None:
    """As Python sees them: of `rrfast`, of each of its rooms, and of the modules in these.

    What is in `rrfast.integrations` is read from its files, as some of their libraries are absent.
    """
    shown = "".join(map(pages.reference_text, pages.reference_pages()))
    entries = re.findall(r"^(?:::: |## )(rrfast[\w.]*)", shown, flags=re.MULTILINE)
    assert len(entries) == len({*entries})

    def public(module: ModuleType) -> Iterator[str]:
        yield module.__name__
        for name in getattr(module, "__all__", ()):
            found = getattr(module, name)
            if inspect.ismodule(found):
                yield from public(found)
            else:
                yield f"{module.__name__}.{name}"

    assert {*entries} == {*public(rrfast), *pages.integrations()}
    assert {"rrfast.integrations.sklearn.RejectingClassifier"} < {*entries}


def test_one_thing_of_two_names_is_shown_once(pages: ModuleType) -> None:
    text = pages.reference_text("api/methods.md")
    assert "::: rrfast.methods.Fast\n" in text
    assert "::: rrfast.methods.RadiusResult" not in text
    assert "[`rrfast.RadiusResult`][rrfast.RadiusResult]" in text
    assert "::: rrfast.RadiusResult\n" in pages.reference_text("api/index.md")


def test_what_pages_link_to_is_on_the_site(pages: ModuleType) -> None:
    """Code as pages of its own, folders as lists; links in examples are left alone."""
    for target in pages.linked():
        if not target.endswith(pages.PICTURES):
            assert pages.listing_text(target).count("`") >= 4
    recipe = "rrfast/train/recipes/digits_rat.yaml"
    assert recipe in pages.linked()
    assert "](digits_rat.yaml.md)" in pages.listing_text("rrfast/train/recipes")
    assert "](../rrfast/train/recipes/index.md)" in pages.page_text("docs/recipe.md")
    assert "](rat_pytorch.py.md)" in pages.page_text("examples/README.md")
    assert "```pycon\n>>> import torch" in pages.page_text("docs/attacks.md")
    readme = pages.page_text("README.md")
    assert "](CITATION.cff.md)" in readme
    assert "](docs/pretrained_gallery.webp)" in readme
    assert "](docs/errata.md)" in readme
