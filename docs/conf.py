"""The documentation site: `make docs`."""

from pathlib import Path

import proxdm

project, author = "proxdm", "The proxdm developers"
release = version = proxdm.__version__
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
source_suffix = {".md": "myst-nb", ".rst": "restructuredtext"}
html_theme, html_title, html_show_copyright, html_static_path = "furo", "proxdm", False, ["_static"]
if (Path(__file__).parent / "_static" / "mathjax.js").is_file():  # `make docs` gets it where there is npm
    mathjax_path = "mathjax.js"
myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence"]
myst_heading_anchors = 3
nb_execution_mode, nb_execution_timeout, nb_execution_raise_on_error = "cache", 300, True
nb_execution_cache_path = str(Path(__file__).parent / "_build" / ".jupyter_cache")
autodoc_member_order, autodoc_typehints = "bysource", "description"
napoleon_custom_sections = [("Class attributes", "Attributes")]
default_role = "code"
napoleon_google_docstring, napoleon_use_rtype = True, False
exclude_patterns = ["_build", "jupyter_execute", ".jupyter_cache"]
# Files of the repository that the pages speak of are not pages.
suppress_warnings = ["myst.xref_missing", "ref.python"]
