"""The documentation as a site: `sphinx-build -W -b html docs OUT` (extra `[docs]`)."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import tp_compiler

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "_extensions"))
# Pages run `tpc` as a reader does, in the folder of the project.
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
os.environ["COLUMNS"] = "100"

project = "tpc"
author = "the tpc authors"
version = release = tp_compiler.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinxarg.ext",
    "sphinx_copybutton",
    "sphinx_design",
    "cells",
    "docstrings",
    "gallery",
    "mathml",
]
exclude_patterns = ["_build", "_extensions", "paper"]
html_theme = "furo"
html_title = "tpc"
html_static_path = ["_static"]
html_css_files = ["tpc.css"]
html_math_renderer = "mathml"
html_copy_source = False
html_show_copyright = False

myst_enable_extensions = ["attrs_inline", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "cache"
nb_execution_timeout = 300
nb_execution_raise_on_error = True
nb_execution_in_temp = False
nb_merge_streams = True

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
add_module_names = False
python_use_unqualified_type_names = True

copybutton_prompt_text = r">>> |\$ "
copybutton_prompt_is_regexp = True
copybutton_only_copy_prompt_lines = True
