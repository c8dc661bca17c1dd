"""The recorder: run files that nothing acknowledged is lost from, written beside a training and read while it runs."""

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

__all__ = ["Event", "KnobInfo", "Panel", "RunInfo", "Series", "StepArray", "StepText", "TagInfo"]
