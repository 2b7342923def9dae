"""The documentation site: `make docs`."""

import proxdm

project, author = "proxdm", "The proxdm developers"
release = version = proxdm.__version__
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
source_suffix = {".md": "myst-nb", ".rst": "restructuredtext"}
html_theme, html_title = "furo", "proxdm"
myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence"]
myst_heading_anchors = 3
nb_execution_mode = "off"
autodoc_member_order, autodoc_typehints = "bysource", "description"
default_role = "code"
napoleon_google_docstring, napoleon_use_rtype = True, False
exclude_patterns = ["_build"]
# Files of the repository that the pages speak of are not pages.
suppress_warnings = ["myst.xref_missing", "ref.python"]
