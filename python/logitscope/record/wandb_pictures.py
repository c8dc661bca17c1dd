"""Pictures that an offline run of W&B has logged: files beside it, arrays of bytes here."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from logitscope.errors import DeviceError
from logitscope.record.export import needed

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from logitscope.record.recorder import Recorder

GROUP = "Pictures"
_KEPT = ("L", "LA", "RGB", "RGBA")


def names_of(value: dict[str, Any]) -> list[str]:
    """The files of what was logged, if it was a picture or several.

    Examples
    --------
    >>> names_of({"_type": "image-file", "path": "media/images/a.png"})
    ['media/images/a.png']
    """
    names: Any = []
    if value.get("_type") == "image-file":
        names = [value.get("path")]
    elif value.get("_type") == "images/separated":
        names = value.get("filenames")
    return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []


class Pictures:
    """Records pictures, and a panel for each tag; what cannot be read is left out, and told at the end."""

    def __init__(self, scope: Recorder, directory: Path) -> None:
        self._scope = scope
        self._directory = directory.resolve()
        self._shown: set[str] = set()
        self._left_out: Counter[str] = Counter()

    def record(self, tag: str, value: dict[str, Any], step: int) -> None:
        """Record what was logged under a tag; several pictures are numbered."""
        names = names_of(value)
        for number, name in enumerate(names):
            picture = self._read(name)
            if isinstance(picture, str):
                self._left_out[picture] += 1
                continue
            own = tag if len(names) == 1 else f"{tag}/{number}"
            self._scope.array(own, picture, step)
            if own not in self._shown:
                self._shown.add(own)
                self._scope.panel(own, "image", [own], group=GROUP)

    def tell(self) -> None:
        """Say what was left out, and why."""
        for reason, count in self._left_out.items():
            self._scope.event(f"{count} pictures are left out: {reason}", level="warning")

    def _read(self, name: str) -> NDArray[np.uint8] | str:
        """The pixels of a file, (rows, columns, colours); or why there are none."""
        path = (self._directory / name).resolve()
        if not path.is_relative_to(self._directory) or not path.is_file():
            return "their files are not there"
        try:
            pillow = needed("PIL.Image", "import of pictures")
        except DeviceError as error:
            return str(error)
        try:
            with pillow.open(path) as file:
                image = file if file.mode in _KEPT else file.convert("RGBA")
                return np.asarray(image, np.uint8)
        except (OSError, ValueError, SyntaxError, pillow.DecompressionBombError) as error:
            return f"they cannot be read ({type(error).__name__})"
