"""Pictures of other programs' runs, encoded there, as arrays of bytes in a run."""

from __future__ import annotations

from collections import Counter
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from logitscope.errors import DeviceError
from logitscope.record.export import needed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from logitscope.record.recorder import Recorder

GROUP = "Pictures"
_KEPT = ("L", "LA", "RGB", "RGBA")


class Pictures:
    """Records pictures, and a panel for each tag; what cannot be read is left out, and told at the end."""

    def __init__(self, scope: Recorder) -> None:
        self._scope = scope
        self._shown: set[str] = set()
        self._left_out: Counter[str] = Counter()

    def record(self, tag: str, encoded: Sequence[Path | bytes], step: int) -> None:
        """Record what was logged under a tag, as files or as what is in them; several pictures are numbered."""
        for number, source in enumerate(encoded):
            picture = _read(source)
            if isinstance(picture, str):
                self._left_out[picture] += 1
                continue
            own = tag if len(encoded) == 1 else f"{tag}/{number}"
            self._scope.array(own, picture, step)
            if own not in self._shown:
                self._shown.add(own)
                self._scope.panel(own, "image", [own], group=GROUP)

    def tell(self) -> None:
        """Say what was left out, and why."""
        for reason, count in self._left_out.items():
            self._scope.event(f"{count} pictures are left out: {reason}", level="warning")


def _read(source: Path | bytes) -> NDArray[np.uint8] | str:
    """The pixels, (rows, columns, colours); or why there are none."""
    if isinstance(source, Path) and not source.is_file():
        return "their files are not there"
    try:
        pillow = needed("PIL.Image", "import of pictures")
    except DeviceError as error:
        return str(error)
    try:
        with pillow.open(source if isinstance(source, Path) else BytesIO(source)) as file:
            image = file if file.mode in _KEPT else file.convert("RGBA")
            return np.asarray(image, np.uint8)
    except (OSError, ValueError, SyntaxError, pillow.DecompressionBombError) as error:
        return f"they cannot be read ({type(error).__name__})"
