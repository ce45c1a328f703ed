"""Hooks of mkdocs: what the pages need to become a site, though they are written to be read where they lie.

* Equations (fences of language ``math``) become MathML, which browsers draw without a script.
* A link that leaves docs/, to code or to the changelog, keeps its words and loses its target.
* The search finds its worker in the site, not in a network.
* The pages of optimizers and of the interface are listed, and the latter made, from what the library finds.
"""

from __future__ import annotations

import posixpath
import re
from typing import Any

from latex2mathml.converter import convert
from mkdocs.structure.files import File

from steepest import registry

LINK = re.compile(r"(?<!!)\[([^\]]*)\]\((?!https?:|#)([^)]+)\)")

SHIM = re.compile(r"https:[^\"]*/iframe-worker/shim")
"""The address that the theme's plugin for reading offline would fetch."""

INTERFACE = {
    "Optimizers": ("steepest.optimizer.Optimizer", "steepest.create", "steepest.info", "steepest.names"),
    "Rules": ("steepest.rule.Rule", "steepest.fields.Field", "steepest.fields.State", "steepest.functional"),
    "Around an optimizer": (
        "steepest.schedules",
        "steepest.param_groups",
        "steepest.lr_range",
        "steepest.update_bn",
        "steepest.Snapshots",
        "steepest.PostHocEMA",
        "steepest.check_replicas",
    ),
    "Wrappers": ("steepest.SAM", "steepest.ASAM", "steepest.GSAM", "steepest.Mechanic"),
    "Studies": ("steepest.study",),
    "Landscapes": ("steepest.landscapes",),
}
"""Pages of the interface: their titles, and the objects whose docstrings they show."""


def on_config(config: Any) -> Any:
    """List the pages of optimizers and of the interface, and have equations drawn."""
    fences = config["mdx_configs"].setdefault("pymdownx.superfences", {})
    fences["custom_fences"] = [{"name": "math", "class": "math", "format": as_mathml}]
    config["nav"] = [_filled(entry) for entry in config["nav"]]
    return config


def _filled(entry: dict[str, Any]) -> dict[str, Any]:
    ((title, target),) = entry.items()
    if target == "optimizers/":
        pages = [{cls.__name__: f"optimizers/{name}.md"} for name, cls in sorted(registry.optimizers().items())]
        return {title: ["optimizers/README.md", *pages]}
    if target == "api/":
        return {title: [_place(part) for part in INTERFACE]}
    return entry


def _place(title: str) -> str:
    return f"api/{title.lower().replace(' ', '-')}.md"


def on_files(files: Any, config: Any) -> Any:
    """Make the pages of the interface."""
    for title, names in INTERFACE.items():
        text = "\n\n".join([f"# {title}", *(f"::: {name}" for name in names)])
        files.append(File.generated(config, _place(title), content=text + "\n"))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Keep the words of links that leave docs/."""
    folder = posixpath.dirname(page.file.src_uri)

    def kept(link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(folder, link[2].partition("#")[0]))
        return link[1] if target.startswith("..") else link[0]

    return LINK.sub(kept, markdown)


def on_post_page(output: str, page: Any, **_: Any) -> str:
    """Take the script of the offline search from the site itself."""
    return SHIM.sub(posixpath.relpath("assets/iframe-worker.js", posixpath.dirname(page.url) or "."), output)


def on_post_template(output: str, **_: Any) -> str:
    """Do the same for pages that are no document: 404.html."""
    return SHIM.sub("assets/iframe-worker.js", output)


def as_mathml(source: str, *_: Any, **__: Any) -> str:
    """Return LaTeX as MathML; `split` is the name that the converter has for ``aligned``."""
    return f'<div class="math">{convert(source.replace("{aligned}", "{split}"), display="block")}</div>'
