"""Gives MkDocs the pages of the repository and of the API, and draws their formulas and charts.

Everything is done here, when the site is built: its pages load nothing from a network.
"""

from __future__ import annotations

import html
import re
from importlib import metadata
from typing import Any
from xml.etree import ElementTree as ET

import latex2mathml.converter
import mmdr
import pages
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from pymdownx.slugs import slugify

#: A font with the sizes of brackets and roots, for systems that have none.
FONT = "STIXTwoMath-Regular.ttf"
FORMULA = re.compile(
    r'<(span|div) class="arithmatex">(?:\\\((.*?)\\\)|\\\[(.*?)\\\])</\1>', re.DOTALL
)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    config.mdx_configs["toc"]["slugify"] = slugify(case="lower")  # as a Git host makes anchors
    charts = {"name": "mermaid", "class": "chart", "format": chart}
    config.mdx_configs["pymdownx.superfences"] = {"custom_fences": [charts]}
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    def written(page: str, content: str) -> None:
        files.append(File.generated(config, page, content=content))

    for page in pages.pages():
        written(page, pages.page_text(page))
    for target in pages.linked():
        if target.endswith(pages.PICTURES):
            path = str(pages.ROOT / target)
            files.append(File.generated(config, target, abs_src_path=path))
        else:
            written(pages.listing(target), pages.listing_text(target))
    for page in pages.reference_pages():
        written(page, pages.reference_text(page))
    (font,) = [each for each in metadata.files("ziamath") or () if each.name == FONT]
    files.append(File.generated(config, FONT, abs_src_path=str(font.locate())))
    return files


def on_page_content(content: str, page: Any, **_: Any) -> str:
    def drawn(match: re.Match[str]) -> str:
        latex = html.unescape(match[2] or match[3])
        if match[2]:
            return formula(latex, "inline")
        return f'<div class="formula">{formula(latex, "block")}</div>'

    try:
        return FORMULA.sub(drawn, content)
    except ValueError as error:
        raise PluginError(f"{page.file.src_uri}: {error}") from error


def formula(latex: str, display: str) -> str:
    """MathML, with what the converter leaves open."""
    latex = latex.replace(r"\arg", r"\operatorname{arg}")
    written = latex2mathml.converter.convert(latex, display=display)
    root = ET.fromstring(re.sub(r' xmlns="[^"]*"', "", written))
    for each in root.iter():
        if "\\" in (each.text or ""):
            raise ValueError(f"{each.text} is not known, in {latex}")
        if each.tag == "msub" and each[0].text in {"max", "min"}:
            each.tag = "munder"
            each[0].set("movablelimits", "true")
        if each.text in {"\u2016", "|"}:
            each.set("stretchy", "false")
    return ET.tostring(root, encoding="unicode")


def chart(source: str, *_: Any, **__: Any) -> str:
    """A flow chart as SVG, at least so large that it can be read; its colours are in site.css."""
    svg = mmdr.render(source).svg()
    natural = re.search(r"max-width: ?([\d.]+)px", svg)
    assert natural is not None
    smallest = f"{natural[0]}; min-width: {0.8 * float(natural[1]):.0f}px"
    return f'<div class="chart">{svg.replace(natural[0], smallest, 1)}</div>'
