"""Sphinx's settings of the site: `make docs` builds it strictly into build/site, without the network."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

_project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
_repository = _project["urls"]["Repository"]

project = "dpo-launcher"
author = "the dpo-launcher authors"
copyright = author
version = release = _project["version"]
extensions = ["myst_nb", "sphinx_copybutton", "sphinx.ext.autodoc", "sphinx.ext.githubpages", "docs.generate.site"]
exclude_patterns = ["generate", "images/*.txt"]
nitpicky = True
smartquotes = False  # --set is typed with two hyphens
suppress_warnings: list[str] = []
nitpick_ignore_regex = [(r"py:.*", r"(?!trainer\.(DPOTrainer|Trained|YamlConfigLoader)).*")]  # other libraries' and private names

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"

nb_execution_mode = "off"  # `make notebook` has kept the outputs
myst_heading_anchors = 4  # GitHub's names of headings
repository_url = f"{_repository}/blob/main/"  # of files outside docs/: docs.generate.site

html_theme = "furo"
html_title = f"dpo-launcher {release}"
html_baseurl = _project["urls"]["Documentation"]
html_static_path = ["images/site"]
html_css_files = ["site.css"]
html_js_files = [("search.js", {"defer": "defer"})]
html_copy_source = False
html_show_sphinx = False
html_theme_options = {
    "source_repository": f"{_repository}/",
    "source_branch": "main",
    "source_directory": "docs/",
}
pygments_style = "a11y-light"  # of accessible-pygments, which furo needs
pygments_dark_style = "github-dark"

copybutton_prompt_text = "$ "
copybutton_copy_empty_lines = False

linkcheck_anchors = False  # many sites make theirs in the browser
# Files of the repository are looked up by tests/test_site.py.
linkcheck_ignore = [repository_url, r"https?://(127\.0\.0\.1|localhost)", r"https://.*example\.(com|org)"]
