"""The recorder: run files that lose nothing acknowledged, written beside a training, read while it runs."""

from logitscope.errors import RunFileError
from logitscope.record.callbacks import huggingface_callback, lightning_callback
from logitscope.record.compact import compact_run
from logitscope.record.export import export_run
from logitscope.record.knob import Knob
from logitscope.record.merged import MergedReader, open_run
from logitscope.record.migrate import migrate_run
from logitscope.record.reader import RunReader
from logitscope.record.recorder import Recorder, start
from logitscope.record.runs import list_runs
from logitscope.record.schema import VERSION as FORMAT
from logitscope.record.tensorboard import import_tensorboard
from logitscope.record.types import (
    Event,
    KnobInfo,
    Panel,
    RunInfo,
    Series,
    StepArray,
    StepText,
    TagInfo,
)
from logitscope.record.wandb_import import import_wandb
from logitscope.record.watch import AttentionObservation, AttentionRequest, Watch, watch

__all__ = [
    "FORMAT",
    "AttentionObservation",
    "AttentionRequest",
    "Event",
    "Knob",
    "KnobInfo",
    "MergedReader",
    "Panel",
    "Recorder",
    "RunFileError",
    "RunInfo",
    "RunReader",
    "Series",
    "StepArray",
    "StepText",
    "TagInfo",
    "Watch",
    "compact_run",
    "export_run",
    "huggingface_callback",
    "import_tensorboard",
    "import_wandb",
    "lightning_callback",
    "list_runs",
    "migrate_run",
    "open_run",
    "start",
    "watch",
]
