"""Pages of docs/optimizers: one for each optimizer, and one for all of them, made from the declarations.

Run it as ``python docs/generate.py``: it writes every page and removes those of optimizers that are gone.
"""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch

import steepest
from steepest import registry
from steepest.catalogue import NEEDS, Info, sections, state_bytes, state_in_words
from steepest.describe import NOT_TRACED, source_lines, update_equations
from steepest.equations import PLAIN
from steepest.fields import EXECUTION_SWITCHES, Field, State
from steepest.group import GroupSpec
from steepest.kinds import AXES, KINDS
from steepest.rule import Rule
from steepest.text import range_in_words

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs" / "optimizers"
GALLERY = ROOT / "docs" / "gallery"
"""The folder of the pictures that gallery.py draws, NAME.png."""
OVERVIEW = "README.md"
COMMAND = "python docs/generate.py"
MARK = f"<!-- {COMMAND} writes this page -->"

ADAM = steepest.info("adam").state_bytes

GROUPS = {
    "In torch too": "Arguments, numbers and state names are torch's; [what deviates](../versus-torch.md).",
    "With a closure": "They ask for new gradients during a step, so `step()` takes a closure that evaluates the loss.",
    "Less state than Adam": "",
    "As much state as Adam": "",
    "More state than Adam": "",
}
"""Headings of the overview's tables, and a sentence under each; `group` says which one holds an optimizer."""

INTRODUCTION = """\
# Optimizers

Each has a page with its equations, options, state, source, and where it differs from torch and other packages. Which to
take is the question of [how to choose](../choosing.md); `steepest show NAME` prints a page with the rule's code.

## Before you believe a ranking

With equal tuning, speed-ups over AdamW are at most 1.4 times at 0.1 billion parameters and
1.1 times at 1.2 billion, and rules of matrices win (arXiv:2509.02046). Signum, Lion and Sophia fall behind in long runs
(arXiv:2509.01440). AdamW with equal β1 and β2 is a strong baseline (arXiv:2505.21829).

Bytes are those of state per float32 parameter of a matrix, at the defaults; `state_dtype` makes them
[fewer](../storage.md). The year is that of the source."""

PROSE = re.compile(r"``(?P<code>[^`]+)``|`(?P<name>[^`]+)`|arXiv:(?P<arxiv>\d{4}\.\d{4,5})(?:v\d+)?|(?P<mark>[*<|])")
"""Parts of a docstring that Markdown spells otherwise."""


def pages() -> dict[str, str]:
    """Return the text of every page by its file's name."""
    known = [steepest.info(name) for name in registry.built_in()]
    return {OVERVIEW: overview(known), **{file_name(facts): page(facts) for facts in known}}


def file_name(facts: Info) -> str:
    """Return the name of an optimizer's page."""
    return f"{facts.name}.md"


def group(facts: Info) -> str:
    """Return the heading of the overview's table that holds an optimizer."""
    torchs, closure, less, equal, more = GROUPS
    if is_in_torch(facts):
        return torchs
    if "closure" in facts.needs:
        return closure
    if facts.state_bytes == ADAM:
        return equal
    return less if facts.state_bytes < ADAM else more


def overview(known: list[Info]) -> str:
    """Return the page that lists all optimizers, and the options that all of them take."""
    parts = [MARK, prose(INTRODUCTION)]
    for heading, sentence in GROUPS.items():
        rows = [_overview_row(facts) for facts in known if group(facts) == heading]
        parts += [
            f"## {heading}",
            sentence,
            table(("optimizer", "in one line", "rule", "bytes", "needs", "year"), rows),
        ]
    parts += ["## Options of every optimizer", "[What surrounds every rule](../transforms.md), and "]
    parts[-1] += "[how state is kept](../storage.md). Where a class has another default, its page says so."
    parts.append(option_table(f for f in shared().values() if f.name not in EXECUTION_SWITCHES))
    parts += ["## Options of how a step runs", "They never change what it computes: [executors](../executors.md)."]
    parts.append(option_table(f for f in shared().values() if f.name in EXECUTION_SWITCHES))
    return joined(parts)


def _overview_row(facts: Info) -> tuple[str, ...]:
    found = re.search(r"\b1[89]\d\d\b|\b20\d\d\b", facts.source)
    year = found[0] if found else "-"
    link = f"[{facts.optimizer.__name__}]({file_name(facts)})"
    return link, prose(facts.title), kind(facts), f"{facts.state_bytes:g}", ", ".join(facts.needs), year


def page(facts: Info) -> str:
    """Return an optimizer's page."""
    about = sections(facts.optimizer)
    title, _, more = about[""].partition("\n\n")
    parts = [MARK, f"# {facts.optimizer.__name__}", prose(title), prose(more), fact_table(facts)]
    for heading, text in (("When to use it", facts.use), ("Caveats", facts.caveats)):
        parts += [f"## {heading}", prose(text)] if text else []
    parts += ["## One step", *step(facts), *paths(facts)]
    parts += ["## Options", option_table(own_fields(facts)), also(facts)]
    parts += ["## State", state_table(facts)]
    parts += ["## Source", prose(facts.source)]
    parts += ["## Where it differs", prose(about["Differs"])] if "Differs" in about else []
    parts += [f"[All optimizers]({OVERVIEW})"]
    return joined(parts)


def paths(facts: Info) -> Iterator[str]:
    """Yield the parts of a page that show an optimizer's paths on surfaces, if they are drawn."""
    picture = GALLERY / f"{facts.name}.png"
    if picture.exists():
        yield "## On surfaces"
        yield f"![Paths of {facts.optimizer.__name__}]({os.path.relpath(picture, FOLDER)})"
        yield "How they are made, and those of all others: [gallery](../gallery.md)."


def is_in_torch(facts: Info) -> bool:
    """Return whether torch has a class of the optimizer's name."""
    return hasattr(torch.optim, facts.optimizer.__name__)


def kind(facts: Info) -> str:
    """Return the kind of an optimizer's rule, in words."""
    return facts.kind.replace("_", "-")


def fact_table(facts: Info) -> str:
    """Return the table at the head of an optimizer's page."""
    name = facts.optimizer.__name__
    code = Path(inspect.getfile(facts.optimizer))
    rows = [
        ("rule", kind(facts)),
        ("state", state(facts)),
        ("needs", "; ".join(NEEDS[need] for need in facts.needs)),
        ("also called", registry.in_words(facts.aliases)),
        ("in torch", f"`torch.optim.{name}`" if is_in_torch(facts) else ""),
        ("build it", f'`steepest.create("{facts.name}", model)` or `steepest.{name}(model.parameters())`'),
        ("code", f"[{code.name}]({os.path.relpath(code, FOLDER)})"),
    ]
    return table(("", ""), [row for row in rows if row[1]])


def state(facts: Info) -> str:
    """Return how much state an optimizer keeps, and which of its own options change that."""
    words = [state_in_words(registry.Recipe(facts.name))]
    for option in changes(facts.name):
        other = state_bytes(registry.recipe(facts.name, option))
        if other != facts.state_bytes:
            words.append(f"{other:g} with {spelled(option)}")
    return "; ".join(words)


@cache
def changes(name: str) -> list[dict[str, Any]]:
    """Return the options of an optimizer's own, one at a time, under which it keeps other state than by default."""
    usual = held(registry.Recipe(name))
    others = [{key: value} for field in own_fields(steepest.info(name)) for key, value in _others(field)]
    return [option for option in others if held(_recipe(name, option) or registry.Recipe(name)) != usual]


def held(recipe: registry.Recipe) -> set[str]:
    """Return the names of the state that an optimizer keeps under a recipe."""
    return {s.name for s in GroupSpec.of(recipe.optimizer, recipe.resolved()).existing}


def _recipe(name: str, option: dict[str, Any]) -> registry.Recipe | None:
    """Return the recipe, or None where the class refuses the option without another one."""
    try:
        return registry.recipe(name, option)
    except ValueError:
        return None


def _others(field: Field) -> Iterator[tuple[str, Any]]:
    """Yield other values of a field, or of each of its entries: the other words; 0 for a number, and 0.9 for 0."""
    if field.is_flag:
        yield field.name, not field.default
    elif field.takes_none and field.default is not None:
        yield field.name, None
    elif field.choices:
        yield from ((field.name, word) for word in field.choices if word != field.default)
    elif field.is_number and not field.integer:
        usual = field.default if isinstance(field.default, tuple) else (field.default,)
        yield from ((name, 0 if value else 0.9) for name, value in zip(field.names, usual, strict=True))


def spelled(option: Mapping[str, Any]) -> str:
    """Return options as code."""
    return "`" + ", ".join(f"{name}={value!r}" for name, value in option.items()) + "`"


def step(facts: Info) -> Iterator[str]:
    """Yield the parts of a page that say what a step does: equations in LaTeX and in plain text, or the code."""
    cls, options = facts.optimizer, registry.defaults(facts.optimizer)
    rule = cls.rule_for(options)
    if rule.kind in NOT_TRACED:
        yield NOT_TRACED[rule.kind]
        yield fenced("python", source_lines(rule))
        return
    lines = [line.replace(r"\leftarrow", r"&\leftarrow", 1) for line in update_equations(cls, options, latex=True)]
    yield fenced("math", [r"\begin{aligned}", " \\\\\n".join(lines), r"\end{aligned}"])
    yield "In plain text, as `steepest show` prints it:"
    yield fenced("text", update_equations(cls, options))
    if rule.shared is not None:
        yield f"Its parameters share {', '.join(f'`{name}`' for name in rule.shared.kept)}, which each step renews:"
        yield fenced("python", source_lines(rule))


@cache
def shared() -> dict[str, Field]:
    """Return the fields that one page explains for all: those that every class declares alike, and how a step runs."""
    classes = list(registry.built_in().values())
    free = {f.name: f for cls in classes for f in cls.fields.values() if not f.fixed}
    alike = {name for name in free if len({_facts(cls.fields.get(name)) for cls in classes}) == 1}
    base = steepest.Optimizer.fields
    kept = {name for name in free if name in alike or name in base or name in EXECUTION_SWITCHES}
    return {name: base.get(name, free[name]) for name in free if name in kept}


def _facts(field: Field | None) -> tuple[Any, ...]:
    return (field.doc, str(field.default)) if field else ()


def own_fields(facts: Info) -> list[Field]:
    """Return the fields of an optimizer that no other page explains."""
    return [f for f in facts.fields.values() if f.name not in shared() or _differs(f)]


def _differs(field: Field) -> bool:
    return field.name not in EXECUTION_SWITCHES and _facts(field) != _facts(shared()[field.name])


def also(facts: Info) -> str:
    """Return the sentence that names the options which the overview explains."""
    base = steepest.Optimizer.fields
    names = [f"`{name}`" for name in facts.fields if name in shared() and name not in base]
    return f"Also {', '.join(names)}, and the [options of every optimizer]({OVERVIEW}#options-of-every-optimizer)."


def option_table(fields: Iterable[Field]) -> str:
    """Return the table of some fields."""
    head = ("option", "default", "allowed", "searched by a study", "meaning")
    rows = [(f"`{f.name}`", f"`{f.default!r}`", f.allowed, range_in_words(f), f.doc) for f in fields]
    return table(head, [(*row[:2], *map(prose, row[2:])) for row in rows])


def state_table(facts: Info) -> str:
    """Return the table of everything that an optimizer may keep for a parameter."""
    spec = GroupSpec.of(facts.optimizer, registry.defaults(facts.optimizer))
    rows = [
        (f"`{s.name}`", letter(spec.rule, s), KINDS[s.kind].words, prose(kept(facts.name, s)))
        for s in spec.declared
        if s in (*spec.rule.state, *spec.existing)
    ]
    return table(("name", "letter", "amount", "kept"), rows) if rows else "None."


def letter(rule: Rule, declared: State) -> str:
    """Return the symbol of a state in the equations."""
    return PLAIN.symbol(rule.letters.get(declared.name, "t" if declared.kind == "step" else declared.name))


def kept(name: str, declared: State) -> str:
    """Return when a state exists: for which tensors, and with which option."""
    sizes = [size for size in range(AXES + 1) if declared.where(torch.zeros((2,) * size))]
    tensors = "" if len(sizes) > AXES else f"for tensors of {sizes[0]} {_until(sizes[-1], sizes[0])}"
    if declared.name in held(registry.Recipe(name)):
        return tensors or "always"
    options = [option for option in changes(name) if declared.name in held(registry.recipe(name, option))]
    asked = f"with {spelled(options[0])}" if options else "if an option asks for it"
    return f"{tensors} {asked}".strip()


def _until(last: int, first: int) -> str:
    if last == AXES:
        return "dimensions and more"
    return "dimensions" if last == first else f"to {last} dimensions"


def prose(text: str) -> str:
    """Return a docstring's text in Markdown: code, links to other pages and to papers, and no marks by accident."""
    return PROSE.sub(_spell, text)


def _spell(found: re.Match[str]) -> str:
    if code := found["code"]:
        return f"`{code}`"
    if name := found["name"]:
        known = registry.built_in().get(name.lower())
        return f"[`{name}`]({name.lower()}.md)" if known and known.__name__ == name else f"`{name}`"
    if arxiv := found["arxiv"]:
        return f"[{found[0]}](https://arxiv.org/abs/{arxiv})"
    return "\\" + found["mark"]


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a Markdown table."""
    titles = list(head)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [titles, ["---"] * len(titles), *rows])


def fenced(language: str, lines: Iterable[str]) -> str:
    """Return lines as a block of code."""
    return "\n".join([f"```{language}", *lines, "```"])


def joined(parts: Iterable[str]) -> str:
    """Return the parts of a page that say something, an empty line between them."""
    return "\n\n".join(part for part in parts if part) + "\n"


def main() -> None:
    """Write all pages."""
    FOLDER.mkdir(exist_ok=True)
    made = pages()
    for path in FOLDER.glob("*.md"):
        if path.name not in made:
            path.unlink()
    for name, text in made.items():
        (FOLDER / name).write_text(text, "utf-8")


if __name__ == "__main__":
    main()
