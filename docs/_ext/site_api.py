"""The API reference: one page for each public module, from the docstrings.

Docstrings are written to be read in a terminal: a name in single backquotes is code. Where it is
the name of a documented object it becomes a link.
"""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from site_pages import write_if_changed

if TYPE_CHECKING:
    from docutils import nodes
    from sphinx.addnodes import pending_xref
    from sphinx.application import Sphinx
    from sphinx.environment import BuildEnvironment

PACKAGE = "regional_al"
FOLDER = "api"
MODULES = (
    *("", "functional", "kernels", "selection", "partitions", "heuristics", "metrics"),
    *("config", "acquisition", "annotators", "store", "data", "engines", "loop", "exchange"),
    *("review", "scaffold", "testing.streets", "testing.toy", "types", "errors"),
)
"""The public modules, in the order of the reference; '' is the package itself."""
ALIASES = {
    "U8": "uint8 array of numpy.",
    "I32": "int32 array of numpy.",
    "I64": "int64 array of numpy.",
    "F32": "float32 array of numpy.",
    "F64": "float64 array of numpy.",
    "Bool": "bool array of numpy.",
    "Picks": "structured array of numpy: image, row, col, unit, score and pixels of each pick.",
    "Level": "'image', 'region' or 'pixel'.",
    "RoundInit": "'scratch', 'continue' or 'pretrained'.",
    "JSON": "a dict of what JSON can hold.",
    "Answer": "'full', 'dominant' or 'multiclass'.",
}
"""Aliases of `regional_al.types` in signatures, and what they stand for."""
COLON = "\ue000"
CONFIG = re.compile(r"^Config:\n((?:    .*(?:\n|\Z))+)", re.MULTILINE)
PAGE = re.compile(r"\bdocs/(\w+)\.md\b")
CODE = re.compile(r"(?<!`)`([^`\n]+(?:\n[^`\n]+)?)`(?!`)")


def dotted(module: str) -> str:
    return f"{PACKAGE}.{module}" if module else PACKAGE


def names(module: ModuleType) -> list[str]:
    """What a module offers: its `__all__`, else the classes that it defines."""
    if hasattr(module, "__all__"):
        return list(module.__all__)
    return [
        name
        for name, value in vars(module).items()
        if inspect.isclass(value) and value.__module__ == module.__name__ and name[0] != "_"
    ]


def homes() -> dict[str, str]:
    """`module.qualname` where an object is defined -> its documented name.

    What several modules name is documented by the last of them: the package itself only lists it.
    """
    found = {}
    for name in MODULES:
        module = importlib.import_module(dotted(name))
        for key in names(module):
            value = getattr(module, key)
            if inspect.isclass(value) or inspect.isfunction(value):
                found[f"{value.__module__}.{value.__qualname__}"] = f"{dotted(name)}.{key}"
    return found | {f"{PACKAGE}.types.{name}": f"{PACKAGE}.types.{name}" for name in ALIASES}


HOMES = homes()
SHORT: dict[str, list[str]] = {}
for _name in HOMES.values():
    SHORT.setdefault(_name.rpartition(".")[2], []).append(_name)


def page(name: str) -> str:
    """The page of a module, in reStructuredText."""
    module = importlib.import_module(dotted(name))
    groups: dict[str, list[str]] = {"Classes": [], "Functions": [], "Constants": []}
    elsewhere = []
    for key in names(module):
        value = getattr(module, key)
        full = f"{dotted(name)}.{key}"
        if isinstance(value, ModuleType) or key.startswith("__"):
            continue
        is_class, is_function = inspect.isclass(value), inspect.isfunction(value)
        home = (
            HOMES[f"{value.__module__}.{value.__qualname__}"] if is_class or is_function else full
        )
        if home != full:
            role = "class" if is_class else "func"
            elsewhere.append(f"- ``{key}``: :py:{role}:`{home}`")
        elif is_class:
            groups["Classes"].append(f".. autoclass:: {full}\n{_members(value)}")
        elif is_function:
            groups["Functions"].append(f".. autofunction:: {full}")
        else:
            groups["Constants"].append(f".. autodata:: {full}\n   :no-value:")
    if name == "types":
        groups["Constants"] += [
            f".. py:data:: {PACKAGE}.types.{alias}\n\n   {text}" for alias, text in ALIASES.items()
        ]
    title = dotted(name)
    text = [f"{title}\n{'=' * len(title)}", f".. automodule:: {title}\n   :no-members:"]
    if elsewhere:
        text += ["Also importable from here:", "\n".join(elsewhere)]
    for head, items in groups.items():
        if items:
            text += [f"{head}\n{'-' * len(head)}", *items]
    return "\n\n".join(text) + "\n"


def _members(value: type) -> str:
    exception = issubclass(value, BaseException)
    return "" if exception else "   :members:\n"


def write_pages(app: Sphinx) -> None:
    """A page for each module."""
    folder = Path(app.srcdir) / FOLDER
    pages = {folder / f"{dotted(name)}.rst": page(name) for name in MODULES}
    for old in set(folder.glob("*.rst")) - set(pages):  # of a module that is gone
        old.unlink()
    for path, text in pages.items():
        write_if_changed(path, text)


def docstring(
    app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]
) -> None:
    """Backquoted names become code or links; nothing else is markup."""
    text = "\n".join(lines)
    if what in ("data", "attribute", "property"):
        if inspect.cleandoc(text) == inspect.cleandoc(str(type(obj).__doc__)):
            text = ""  # of the type, not of the value
        text = text.replace(":", COLON)  # napoleon takes 'word: text' for a type and a text
    lines[:] = markup(text, name).split("\n")


def colons(
    app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]
) -> None:
    """After napoleon."""
    lines[:] = [line.replace(COLON, ":") for line in lines]


def signature(
    app: Sphinx, what: str, name: str, obj: object, options: object, args: str, returns: str
) -> tuple[str, str] | None:
    """Annotations as they are written, `F32 | None`, not what they stand for."""
    if what not in ("class", "function", "method") or not callable(obj) or args is None:
        return None
    if getattr(obj, "_is_protocol", False):  # nobody constructs one
        return "", ""
    try:
        written = inspect.signature(obj)
    except ValueError:
        return None
    parameters = [
        p.replace(default=_Dots())
        if repr(p.default).startswith("<") and p.default is not p.empty
        else p
        for key, p in written.parameters.items()
        if not (what == "method" and key == "self")
    ]
    bare = written.replace(parameters=parameters, return_annotation=inspect.Signature.empty)
    ends = written.return_annotation
    return re.sub(r": '([^']*)'", r": \1", str(bare)), "" if what == "class" else _shown(ends)


class _Dots:
    """Of a default that has no readable text."""

    def __repr__(self) -> str:
        return "..."


def _shown(annotation: Any) -> str:
    if annotation is inspect.Signature.empty:
        return ""
    return annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)


def markup(text: str, name: str = "") -> str:
    """A docstring in reStructuredText; examples are left as they are."""
    text = CONFIG.sub(
        lambda m: f"Config:\n    ::\n\n{re.sub('(?m)^', '    ', m[1].rstrip())}\n\n", text
    )
    parts = re.split(r"(^ *>>> .*?(?:\n\s*\n|\Z))", text, flags=re.DOTALL | re.MULTILINE)
    return "".join(
        part if part.lstrip().startswith(">>>") else _prose(part, name) for part in parts
    )


def _prose(text: str, name: str) -> str:
    parts = CODE.split(text)
    return "".join(
        _reference(part, name) if i % 2 else PAGE.sub(r":doc:`docs/\1.md </\1>`", _escaped(part))
        for i, part in enumerate(parts)
    )


def _escaped(text: str) -> str:
    return re.sub(r"([*|\\]|(?<=\w)_(?=\W|$))", r"\\\1", text)


def _reference(code: str, name: str) -> str:
    code = re.sub(r"\s*\n\s*", " ", code)
    target = resolve(code.removesuffix("()"))
    if target and not name.startswith(target):
        return f":py:obj:`{code} <{target}>`"
    return f"``{code}``"


def resolve(code: str) -> str:
    """The documented object that a name in a docstring means, or ''."""
    bare = code.removeprefix(f"{PACKAGE}.")
    if f"{PACKAGE}.{bare}" in HOMES.values():
        return f"{PACKAGE}.{bare}"
    found = SHORT.get(bare, [])
    return found[0] if len(found) == 1 else ""


def missing(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, content: nodes.TextElement
) -> nodes.Node | None:
    """Signatures name the module that defines a class; the site has it where it is public."""
    target = node.get("reftarget", "")
    home = HOMES.get(target) or resolve(target)
    if home and home != target:
        domain = env.domains.python_domain
        return domain.resolve_xref(env, node["refdoc"], app.builder, "obj", home, node, content)
    return None


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("builder-inited", write_pages)
    app.connect("autodoc-process-docstring", docstring, priority=400)
    app.connect("autodoc-process-docstring", colons, priority=600)
    app.connect("autodoc-process-signature", signature)
    app.connect("missing-reference", missing)
    return {"parallel_read_safe": True}
