"""Hooks of the documentation site: pages that are generated, and links to files outside of docs/."""

from __future__ import annotations

import json
import re
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from mkdocs.structure.files import File
from typer.cli import get_docs_for_click
from typer.main import get_command

import converter
from converter.cli.app import app
from converter.commands import listing
from converter.graphs import operators
from converter.graphs.operators import registry

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from typer.core import TyperGroup

ROOT = Path(__file__).parents[1]
PACKAGES = ("converter", "resnext_torch")
# Modules that a program can rely on come first; the other packages follow in alphabetical order.
FIRST = ("converter", "converter.testing", "converter.commands", "converter.errors", "resnext_torch")
PUBLIC = f"    options:\n      members: {converter.__all__}\n"
OPERATORS = """# Operators

The operators of MXNet that any graph may contain, under the names that the versions of MXNet have for them,
with their attributes and defaults. An operator, an attribute or a value that is not supported is refused by
name; the message lists all of them at once.

Tests compare every operator with MXNet 1.9.1 in float64, or with the precision of float32 where MXNet has no
other.
"""
NETWORKS = """# Networks

The networks that GluonCV 0.10.5 builds by name, and what they become:

* **native**: `convert NAME OUT` writes the weights of a network of `resnext_torch`, with the tensor names of
  timm and torchvision. Every layer is compared with GluonCV's own network.
* **generated**: `convert NAME OUT` writes a PyTorch module and its weights, from a graph that was recorded
  with GluonCV. Every layer is compared with the graph.
* **not by name**: they are built for your classes, or their graphs cannot be recorded or converted;
  `gluon2torch list --family NAME` says why. [A graph that you
  export](../converting.md#any-other-network-from-its-graph) is converted if its operators are
  [supported](operators.md).

`gluon2torch list --family NAME` shows the models of a family, the figures that GluonCV published for them,
and the SHA-1 of their parameters.
"""
REFUSED = """
## Refused

| operator | reason |
|---|---|
"""
FAMILY_COLUMNS = ["| family | models | become | example | data | paper |", "|---|---|---|---|---|---|"]
HEADING = re.compile(r"# (?:\d+\. )?")  # of a decision, with its number


def on_config(config: MkDocsConfig) -> None:
    """Add the decisions to the navigation."""
    decisions = sorted(ROOT.glob("docs/decisions/*.md"))
    pages = [{_title(path): f"decisions/{path.name}"} for path in decisions]
    nav = cast("list[dict[str, list[Any]]]", config.nav)
    explanation = nav[-1]["Explanation"]
    nav[-1]["Explanation"] = [*explanation[:-1], *pages]
    api = [{name: f"reference/{name}.md"} for name in api_pages()]
    reference = next(part["Reference"] for part in nav if "Reference" in part)
    place = next(number for number, page in enumerate(reference) if "Python API" in page)
    reference[place] = {"Python API": ["reference/index.md", *api]}


def on_files(files: Files, config: MkDocsConfig) -> None:
    """Generate the page of the notebook, and the reference of commands, operators, networks and the API."""
    files.append(File.generated(config, "quickstart.md", content=notebook_page()))
    pages = api_pages()
    index = "# Python API\n\n" + "".join(f"* [`{name}`]({name}.md)\n" for name in pages)
    contents = {"index": index, "cli": command_line(), "operators": operator_tables()}
    contents["networks"] = network_tables()
    contents |= {name: f"# {name}\n\n" + _directives(modules) for name, modules in pages.items()}
    for name, content in contents.items():
        files.append(File.generated(config, f"reference/{name}.md", content=content))


def notebook_page() -> str:
    """Return the notebook as a page; it is stored without outputs."""
    notebook = json.loads((ROOT / "docs/quickstart.ipynb").read_text(encoding="utf-8"))
    texts = [("".join(cell["source"]), cell["cell_type"] == "code") for cell in notebook["cells"]]
    return "\n\n".join(f"```python\n{text}\n```" if is_code else text for text, is_code in texts) + "\n"


def command_line() -> str:
    """Return the reference of `gluon2torch`, from typer's own description of its commands."""
    command = cast("TyperGroup", get_command(app))
    context = command.context_class(command, info_name="gluon2torch")
    text = get_docs_for_click(obj=command, ctx=context, name="gluon2torch", title="Command line")
    return text.replace("\\[", "[")


def operator_tables() -> str:
    """Return the tables of the supported and of the refused operators."""
    lines = [OPERATORS]
    for family in operators.FAMILIES:
        title = (family.__doc__ or "").partition("\n")[0].rstrip(".")
        lines += [f"## {title}\n", "| operator | other names | attributes |", "|---|---|---|"]
        for function, (name, *others) in registry.names().items():
            if function.__module__ == family.__name__:
                cells = [f"`{name}`", ", ".join(f"`{other}`" for other in others), _attributes(name)]
                lines.append(f"| {' | '.join(cells)} |")
        lines.append("")
    refused = "".join(f"| `{name}` | {reason} |\n" for name, reason in sorted(operators.REASONS.items()))
    return "\n".join(lines) + REFUSED + refused


def network_tables() -> str:
    """Return a table of families for each task."""
    lines = [NETWORKS]
    for task, families in groupby(listing.overview(), lambda family: family.description.task):
        lines += [f"## {task.replace('-', ' ').capitalize()}\n", *FAMILY_COLUMNS]
        lines += [f"| {' | '.join(_family_cells(family))} |" for family in families]
        lines.append("")
    return "\n".join(lines)


def _family_cells(family: listing.FamilyOverview) -> list[str]:
    described = family.description
    paper = (
        f"[{described.paper}](https://arxiv.org/abs/{described.arxiv})"
        if described.arxiv
        else described.paper
    )
    return [
        f"{described.title} (`{family.name}`)",
        str(family.targets.total()),
        listing.becomes(family.targets),
        f"`{family.example}`",
        ", ".join(described.data),
        paper,
    ]


def _attributes(operator: str) -> str:
    """Return the attributes of an operator, with their defaults."""
    defaults = registry.defaults()[operator]
    return ", ".join(
        f"`{key}`" + (f" = `{defaults[key]!r}`" if defaults.get(key, "") != "" else "")
        for key in registry.types(operator)
    )


def api_pages() -> dict[str, list[str]]:
    """Return the modules of each page: one page for a package or a module at the top."""
    pages: dict[str, list[str]] = {}
    for package in PACKAGES:
        for path in sorted(ROOT.glob(f"{package}/**/*.py")):
            module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
            if not any(part.startswith("_") for part in module.split(".")):
                depth = 1 if package == "resnext_torch" else 2
                pages.setdefault(".".join(module.split(".")[:depth]), []).append(module)
    del pages["converter.cli"]  # the command line has a page of its own
    return dict(sorted(pages.items(), key=lambda page: (page[0] not in FIRST, page[0])))


def _directives(modules: list[str]) -> str:
    return "\n".join(f"::: {module}\n{PUBLIC if module == 'converter' else ''}" for module in modules)


def _title(path: Path) -> str:
    first_line, _, _ = path.read_text(encoding="utf-8").partition("\n")
    return HEADING.sub("", first_line)
