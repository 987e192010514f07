"""What the site adds to Sphinx and MyST, for pages that read the same on GitHub: an extension that ``docs/conf.py`` names.

- A link to a file or folder outside docs/ leads to the repository.
- The tree of pages is that of the links under the headings of index.md, in their order.
- The class ``DPOTrainer`` is shown without its list of keys, which has a page.
- A picture ``NAME.png`` with a ``NAME-dark.png`` beside it shows the one that fits the theme.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.highlighting import lexers
from sphinx.transforms import SphinxTransform

_HEADING: Final = re.compile(r"^## (?P<name>.+)$", re.MULTILINE)
_PAGE: Final = re.compile(r"\]\((?P<page>[\w-]+/[\w-]+)\.(?:md|ipynb)(?:#[\w-]+)?\)")


class RepositoryLinks(SphinxTransform):
    """Turns links to files that are no pages into URLs of the repository."""

    default_priority = 200  # before Sphinx collects downloads

    def apply(self, **_: Any) -> None:
        for link in [*self.document.findall(addnodes.download_reference), *self.document.findall(addnodes.pending_xref)]:
            path = self._outside(link)
            if path is not None:
                link.replace_self(nodes.reference("", "", *link.children, refuri=self.config.repository_url + path))

    def _outside(self, link: nodes.Element) -> str | None:
        """The path in the repository of what a link names, where that is no page of the site."""
        if link.get("reftype") != "myst":
            return None
        docs = Path(self.env.srcdir)
        target, _, anchor = link["reftarget"].partition("#")
        if link.get("refdomain") == "doc":  # Sphinx has made it relative to docs/, without its suffix
            there, anchor = docs / f"{target}.md", link.get("reftargetid") or ""
        else:
            there = Path(self.env.doc2path(self.env.docname)).parent / target
        there = there.resolve()
        is_page = there.is_relative_to(docs) and there.suffix == ".md"
        if not target or is_page or not there.exists() or not there.is_relative_to(docs.parent):
            return None
        return there.relative_to(docs.parent).as_posix() + (f"#{anchor}" if anchor else "")


class ThemedPictures(SphinxTransform):
    """Adds the dark picture to a light one that has it beside it."""

    default_priority = 200

    def apply(self, **_: Any) -> None:
        folder = Path(self.env.doc2path(self.env.docname)).parent
        for image in list(self.document.findall(nodes.image)):
            dark = re.sub(r"(\.\w+)$", r"-dark\1", image["uri"])
            if "://" not in dark and (folder / dark).is_file():
                image["classes"].append("only-light")
                other = image.deepcopy()
                other["uri"], other["classes"] = dark, ["only-dark"]
                image.parent.insert(image.parent.index(image) + 1, other)


def tree(index: str) -> str:
    """Hidden toctrees, one for each heading of the index with links to pages; each page once."""
    parts, seen = [], set[str]()
    headings = [*_HEADING.finditer(index)]
    for heading, end in zip(headings, [*(later.start() for later in headings[1:]), len(index)], strict=True):
        found = dict.fromkeys(link["page"] for link in _PAGE.finditer(index, heading.end(), end))
        pages = [page for page in found if page not in seen]
        seen.update(pages)
        if pages:
            parts.append("\n".join(("```{toctree}", ":hidden:", f":caption: {heading['name']}", "", *pages, "```")))
    return "\n\n".join(parts)


def _read(_: Sphinx, page: str, source: list[str]) -> None:
    if page == "index":
        source[0] += "\n\n" + tree(source[0]) + "\n"


def _without_keys(_app: Sphinx, _what: str, name: str, _obj: object, _options: object, lines: list[str]) -> None:
    """Leaves the list of keys, which ``help(DPOTrainer)`` shows, to the page of keys."""
    if name == "trainer.DPOTrainer":
        del lines[lines.index("Keys of an experiment:") :]


def setup(app: Sphinx) -> dict[str, Any]:
    from pygments.lexers.configs import IniLexer
    from pygments.lexers.special import TextLexer

    lexers["dotenv"], lexers["csv"] = IniLexer(), TextLexer()
    app.add_config_value("repository_url", "", "env", str)
    app.connect("source-read", _read)
    app.connect("autodoc-process-docstring", _without_keys)
    app.add_transform(RepositoryLinks)
    app.add_transform(ThemedPictures)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
