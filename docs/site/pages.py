"""What the site shows: pages of the repository, what they link to, and the public names.

The standard library alone, so that tests need nothing of what builds the site.
"""

from __future__ import annotations

import ast
import posixpath
import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
#: The pages keep their places in the repository, so that the links between them hold.
PAGES = (
    *("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "csrc/README.md", "examples/README.md"),
    *("docs/**/*.md", "benchmarks/*.md", "benchmarks/results/**/*.md"),
)
#: Of which other pages are made.
PARTS = {
    "docs/demo/demo.md",
    "docs/evaluate/fashion/summary.md",
    "docs/evaluate/fashion/claims.md",
}
INTEGRATIONS = "rrfast.integrations"
PICTURES = (".png", ".svg", ".webp")
#: Code that a page links to is shown as a page.
LANGUAGES = {".cff": "yaml", ".py": "python", ".sh": "bash", ".txt": "text", ".yaml": "yaml"}
#: Where nothing is a link.
CODE = re.compile(r"^( *)(```+).*?^\1\2$|`[^`\n]+`", flags=re.DOTALL | re.MULTILINE)
LINK = re.compile(r"(?<=\]\()(?![a-z]+:)[^)\s#]+")


def inside(folder: Path, pattern: str) -> list[str]:
    return sorted(path.relative_to(ROOT).as_posix() for path in folder.glob(pattern))


def pages() -> list[str]:
    """Every page, relative to the root."""
    return sorted({page for pattern in PAGES for page in inside(ROOT, pattern)} - PARTS)


def linked() -> list[str]:
    """Pictures, code and folders that a page links to, and the code in such a folder."""
    found = set()
    for page in pages():
        text = CODE.sub("", (ROOT / page).read_text(encoding="utf-8"))
        found |= {posixpath.normpath(f"{page}/../{target}") for target in LINK.findall(text)}
    for folder in [each for each in found if (ROOT / each).is_dir()]:
        found |= {each for ending in LANGUAGES for each in inside(ROOT / folder, f"**/*{ending}")}
    return sorted(each for each in found if not each.endswith(".md"))


def listing(target: str) -> str:
    """The page that shows a file of code, or what is in a folder."""
    return f"{target}.md" if Path(target).suffix in LANGUAGES else f"{target.rstrip('/')}/index.md"


def page_text(page: str) -> str:
    """A page, whose links to code and folders lead to the pages that show these."""
    text = (ROOT / page).read_text(encoding="utf-8")
    text = text.replace("```python\n>>> ", "```pycon\n>>> ")  # what is printed is no code
    code = [match.span() for match in CODE.finditer(text)]

    def shown(match: re.Match[str]) -> str:
        if match[0].endswith((".md", *PICTURES)):
            return match[0]
        if any(start <= match.start() < end for start, end in code):
            return match[0]
        return listing(match[0])

    return LINK.sub(shown, text)


def listing_text(target: str) -> str:
    path = ROOT / target
    if path.is_file():
        code, language = path.read_text(encoding="utf-8").rstrip(), LANGUAGES[path.suffix]
        return f"# `{target}`\n\n````{language}\n{code}\n````\n"
    files = [file for file in linked() if Path(file).suffix in LANGUAGES]
    names = {page: page for page in pages()} | {listing(file): file for file in files}
    here = {page: name for page, name in names.items() if name.startswith(f"{target}/")}
    lines = [
        f"* [`{posixpath.relpath(name, target)}`]({posixpath.relpath(page, target)})"
        for page, name in here.items()
    ]
    return "\n".join([f"# `{target}`", "", *lines, ""])


@cache
def tree(module: str) -> ast.Module | None:
    """The source of a module, read and not run."""
    path = ROOT / module.replace(".", "/")
    for file in (path / "__init__.py", path.with_suffix(".py")):
        if file.is_file():
            return ast.parse(file.read_text(encoding="utf-8"))
    return None


def exported(module: str) -> list[str]:
    """`__all__` of a module; nothing if it has none, or is none."""
    source = tree(module)
    for node in source.body if source else ():
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return [str(name) for name in ast.literal_eval(node.value)]
    return []


@cache
def origin(name: str) -> str:
    """Where a name is defined: the same for all names of one thing."""
    module, _, last = name.rpartition(".")
    for node in ast.walk(tree(module) or ast.Module([], [])):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("rrfast"):
            for alias in node.names:
                there = f"{node.module}.{alias.name}"
                if (alias.asname or alias.name) == last and there != name:
                    return origin(there)
    return name


def entries(module: str) -> list[str]:
    """A module, what it exports, and then its modules in the same way."""
    names = [f"{module}.{name}" for name in exported(module)]
    modules = [name for name in names if exported(name)]
    own = [name for name in names if name not in modules]
    return [module, *own, *(name for inner in modules for name in entries(inner))]


def integrations() -> list[str]:
    """The names in each file; the package exports none, as each file needs a library of its own."""
    files = inside(ROOT / "rrfast" / "integrations", "[a-z]*.py")
    modules = [file.removesuffix(".py").replace("/", ".") for file in files]
    return [INTEGRATIONS, *(name for module in modules for name in entries(module))]


def reference_pages() -> dict[str, list[str]]:
    """The pages of the API, each with its names."""
    names = [f"rrfast.{name}" for name in exported("rrfast")]
    rooms = {name: entries(name) for name in names if exported(name)}
    rooms[INTEGRATIONS] = integrations()
    found = {"api/index.md": ["rrfast", *(name for name in names if name not in rooms)]}
    return found | {f"api/{room.removeprefix('rrfast.')}.md": rooms[room] for room in rooms}


def reference_text(page: str) -> str:
    """Each name under its first page; elsewhere a link to it."""
    first: dict[str, str] = {}
    text: list[str] = []
    for each, names in reference_pages().items():
        for name in names:
            home = first.setdefault(origin(name), name)
            if each != page:
                continue
            level = 1 if name == names[0] else 2
            if home != name:
                label = f'{{ data-toc-label="{name.rpartition(".")[2]}" }}'
                text += [f"## {name} {label}", f"The same as [`{home}`][{home}]."]
                continue
            members = "\n      members: false" if exported(name) or name == names[0] else ""
            text += [f"::: {name}\n    options:\n      heading_level: {level}{members}"]
    if page == "api/index.md":
        rooms = [names[0] for names in reference_pages().values()][1:]
        text += ["## Its rooms", *(f"* [`{room}`][{room}]" for room in rooms)]
    return "\n\n".join([*text, ""])
