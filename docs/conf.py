"""Sphinx's configuration: furo, the settings page made from the table, nothing fetched."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

from nti.appserver import __version__

project = "nti.appserver"
author = "The nti.appserver contributors"
copyright = "the nti.appserver contributors"
version = release = __version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx_copybutton",
    "command_help",
    "configurations",
    "http_figures",
    "metrics_table",
    "settings_table",
    "zeo_figures",
    "transaction_figures",
]
exclude_patterns = ["_build"]
# Docstrings write `name` for code, as Markdown and the standard library's authors do.
default_role = "literal"
highlight_language = "none"
nitpicky = False

autodoc_member_order = "bysource"
autodoc_typehints = "signature"

html_theme = "furo"
html_title = f"nti.appserver {release}"
html_static_path = ["_static"]
html_copy_source = False
html_theme_options = {"navigation_with_keys": True}

# Prompts are for reading, not for copying.
copybutton_prompt_text = r"\$ |>>> |\.\.\. "
copybutton_prompt_is_regexp = True
