"""Which panels a run gets: those it declares, and one for each thing recorded without a panel."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from logitscope.record import Panel
from logitscope_app.models.guides import further_tags
from logitscope_app.models.text import sentence

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from logitscope.record import TagInfo

GROUPS = ("Attention", "Logit scaling", "Training", "Text")
OTHER_GROUP = "More"
HEAD_FIGURES = ("entropy", "max_logit", "sink_mass", "lse", "logit_std")
"""Arrays of one figure a head that lie beside a map in the same folder and are written on its tiles."""

_GROUP_OF_FOLDER = {
    "attention": "Attention",
    "logits": "Logit scaling",
    "loss": "Training",
    "grad_norm": "Training",
    "weight_norm": "Training",
    "update_ratio": "Training",
    "activation": "Training",
    "curvature": "Training",
    "gradient_noise": "Training",
    "effective_learning_rate": "Training",
    "learning_rate": "Training",
    "temperature": "Logit scaling",
    "tokens_per_second": "Training",
}


def expand(patterns: Iterable[str], names: Sequence[str]) -> tuple[str, ...]:
    """Tags that a panel names; ``*`` stands for any text, and a plain tag stays even when unrecorded."""
    found: dict[str, None] = {}
    for pattern in patterns:
        if "*" in pattern:
            found.update(dict.fromkeys(name for name in names if fnmatchcase(name, pattern)))
        else:
            found[pattern] = None
    return tuple(found)


def folder(tag: str) -> str:
    """What precedes the last ``/`` of a tag; the tag itself when it has none."""
    return tag.rpartition("/")[0] or tag


def sibling(tag: str, name: str) -> str:
    """The tag ``name`` in the folder of ``tag``."""
    head, slash, _ = tag.rpartition("/")
    return f"{head}{slash}{name}"


def label_tags(panel: Panel) -> tuple[str | None, str | None]:
    """The text tags with the labels of a map's rows and columns; by default ``tokens`` beside the map."""
    default = sibling(panel.tags[0], "tokens") if panel.tags and panel.kind in ("heads", "what-if") else None
    row, column = panel.options.get("row_labels_tag", default), panel.options.get("col_labels_tag", default)
    return row if isinstance(row, str) else None, column if isinstance(column, str) else None


def plan(
    declared: Sequence[Panel], tags: Sequence[TagInfo], dimensions: Callable[[str], int]
) -> tuple[Panel, ...]:
    """All panels of a run; ``dimensions`` tells how many axes an array tag has."""
    names = [tag.name for tag in tags]
    claimed: set[str] = set()
    for panel in declared:
        shown = expand(panel.tags, names)
        claimed.update(shown)
        claimed.update(further_tags(panel))
        claimed.update(tag for tag in label_tags(panel) if tag)
        if panel.kind == "heads" and shown:
            claimed.update(sibling(shown[0], name) for name in (*HEAD_FIGURES, "lse_mean"))
    free = [tag for tag in tags if tag.name not in claimed]
    return (*declared, *_undeclared(free, names, dimensions))


def _undeclared(
    free: Sequence[TagInfo], names: Sequence[str], dimensions: Callable[[str], int]
) -> Iterable[Panel]:
    scalars: dict[str, list[str]] = {}
    for tag in free:
        if tag.kind == "scalar":
            scalars.setdefault(folder(tag.name), []).append(tag.name)
    for name, members in scalars.items():
        yield _panel(name, "lines", members)
    maps = {tag.name for tag in free if tag.kind == "array" and dimensions(tag.name) in (3, 4)}
    beside = {sibling(name, figure) for name in maps for figure in (*HEAD_FIGURES, "lse_mean", "tokens")}
    for tag in free:
        if tag.kind == "array" and tag.name not in beside:
            yield _panel(tag.name, "heads" if tag.name in maps else "heatmap", [tag.name])
        elif tag.kind == "histogram":
            yield _panel(tag.name, "histogram", [tag.name])
        elif tag.kind == "text" and not (tag.name in beside or _labels_a_map(tag.name, names)):
            yield _panel(tag.name, "text", [tag.name], group="Text")


def _labels_a_map(name: str, names: Sequence[str]) -> bool:
    return name.endswith("/tokens") and sibling(name, "map") in names


def _panel(name: str, kind: Any, members: Sequence[str], group: str = "") -> Panel:
    group = group or _GROUP_OF_FOLDER.get(name.split("/")[0], OTHER_GROUP)
    title = sentence(name.replace("/", " · "))
    return Panel(title=title[:1].upper() + title[1:], kind=kind, tags=tuple(members), group=group)
