"""The compiled module: NumPy arrays in, NumPy arrays filled. Users call ``logitscope``; nothing here checks for them.

Arrays of rows have one dtype, float32, float64, float16 or bits of bfloat16 (``_dtypes.BFLOAT16``); the numbers of a
row that go with 16-bit ones, such as losses, are float32. Arrays that are filled are C-contiguous.
"""

from typing import Literal, Protocol, TypeAlias, TypedDict, final

import numpy as np
from numpy.typing import NDArray

_Floats: TypeAlias = NDArray[np.floating] | NDArray[np.void]

class _Decoding(Protocol):
    """The inputs of attention over a cache, by name."""

    @property
    def q(self) -> _Floats: ...
    @property
    def keys(self) -> _Floats: ...
    @property
    def values(self) -> _Floats: ...
    @property
    def pages(self) -> list[int]: ...
    @property
    def lengths(self) -> list[int]: ...
    @property
    def capacity(self) -> int: ...
    @property
    def window(self) -> int | None: ...
    @property
    def scale(self) -> float: ...
    @property
    def inv_temperature(self) -> _Floats | None: ...
    @property
    def softcap(self) -> float: ...
    @property
    def alibi_slopes(self) -> _Floats | None: ...
    @property
    def sinks(self) -> _Floats | None: ...

class _AttentionProblem(Protocol):
    """The inputs of attention, by name."""

    @property
    def q(self) -> _Floats: ...
    @property
    def k(self) -> _Floats: ...
    @property
    def v(self) -> _Floats: ...
    @property
    def scale(self) -> float: ...
    @property
    def inv_temperature(self) -> _Floats | None: ...
    @property
    def align(self) -> Literal["top_left", "bottom_right"]: ...
    @property
    def window(self) -> tuple[int | None, int | None]: ...
    @property
    def q_len(self) -> list[int] | None: ...
    @property
    def kv_len(self) -> list[int] | None: ...
    @property
    def mask(self) -> NDArray[np.uint8] | None: ...
    @property
    def sinks(self) -> _Floats | None: ...
    @property
    def softcap(self) -> float: ...
    @property
    def bias(self) -> _Floats | None: ...
    @property
    def alibi_slopes(self) -> _Floats | None: ...
    @property
    def is_sigmoid(self) -> bool: ...
    @property
    def sigmoid_bias(self) -> _Floats | None: ...
    @property
    def dropout_p(self) -> float: ...
    @property
    def seed(self) -> int: ...
    @property
    def value_gate(self) -> _Floats | None: ...

class _AttentionFigures(Protocol):
    """The figures of the rows of attention to fill, by name."""

    @property
    def max_logit(self) -> _Floats: ...
    @property
    def inv_sum(self) -> _Floats: ...
    @property
    def lse(self) -> _Floats: ...
    @property
    def entropy(self) -> _Floats | None: ...
    @property
    def logit_count(self) -> _Floats | None: ...
    @property
    def logit_mean(self) -> _Floats | None: ...
    @property
    def logit_m2(self) -> _Floats | None: ...
    @property
    def variance(self) -> _Floats | None: ...

class _AttentionUpstream(Protocol):
    """What the forward pass gave and the gradients of its results, by name."""

    @property
    def out(self) -> _Floats: ...
    @property
    def max_logit(self) -> _Floats: ...
    @property
    def inv_sum(self) -> _Floats: ...
    @property
    def dout(self) -> _Floats: ...
    @property
    def dlse(self) -> _Floats | None: ...
    @property
    def entropy(self) -> _Floats | None: ...
    @property
    def dentropy(self) -> _Floats | None: ...

class _AttentionGradients(Protocol):
    """What the backward pass fills, by name; None for what is not wanted."""

    @property
    def dq(self) -> _Floats: ...
    @property
    def dk(self) -> _Floats: ...
    @property
    def dv(self) -> _Floats: ...
    @property
    def dinv_temperature(self) -> _Floats | None: ...
    @property
    def dsinks(self) -> _Floats | None: ...
    @property
    def dbias(self) -> _Floats | None: ...
    @property
    def dalibi_slopes(self) -> _Floats | None: ...
    @property
    def dsigmoid_bias(self) -> _Floats | None: ...

class LossOptions(TypedDict):
    """The options of cross_entropy; of types alone, there is no such class at run time."""

    ignore_index: int
    reduction: str
    empty: str
    temperature: float
    softcap: float | None
    label_smoothing: float
    smooth_over: str
    lse_square_scale: float
    entropy_weight: float
    normalizer: float | NDArray[np.float64] | None
    link: str
    link_params: list[tuple[str, float]]
    complement: bool

class LossStatistics(TypedDict):
    """What cross_entropy fills for each row."""

    lse: _Floats
    argmax: NDArray[np.int64]
    margin: _Floats
    v: _Floats
    entropy: _Floats
    collapsed: NDArray[np.bool_]

class SuppressionOptions(TypedDict):
    """The options of soft_nms."""

    method: str
    iou_threshold: float
    sigma: float
    score_threshold: float
    max_output: int | None
    offset: float
    hard_cut: float | None
    prefilter: bool

class DetectionSets(TypedDict):
    """Detections and true boxes of all images, for coco_match."""

    detections: NDArray[np.float64]
    truths: NDArray[np.float64]
    groups: list[tuple[int, int]]
    crowd: NDArray[np.bool_]
    ignored: NDArray[np.bool_]
    outside: NDArray[np.bool_]
    thresholds: NDArray[np.float64]

class _LinearProblem(Protocol):
    """The inputs of linear_cross_entropy, by name."""

    @property
    def input(self) -> _Floats: ...
    @property
    def weight(self) -> _Floats: ...
    @property
    def bias(self) -> _Floats | None: ...
    @property
    def targets(self) -> NDArray[np.int64] | _Floats: ...
    @property
    def class_weight(self) -> _Floats | None: ...
    @property
    def options(self) -> LossOptions: ...
    @property
    def filter_eps(self) -> float | None: ...
    @property
    def chunk(self) -> int | None: ...

class LinearGradients(TypedDict):
    """What linear_cross_entropy fills, and what that is multiplied by."""

    input: _Floats | None
    weight: _Floats | None
    bias: _Floats | None
    upstream: _Floats | None

class SphericalState(TypedDict):
    """The layer of spherical_output; all but v float64."""

    v: _Floats
    u: NDArray[np.float64]
    inverse: NDArray[np.float64]
    gram: NDArray[np.float64]
    omega: NDArray[np.float64]
    total: NDArray[np.float64]

class SphericalPass(TypedDict):
    """A batch of spherical_output, and what its forward pass fills."""

    hidden: NDArray[np.float64]
    targets: NDArray[np.int64]
    by_gram: NDArray[np.float64]
    by_u: NDArray[np.float64]
    own: NDArray[np.float64]
    square: NDArray[np.float64]
    sum: NDArray[np.float64]

class SphericalStep(TypedDict):
    """The slopes of a loss of spherical_output, the rate of its step, and the gradient to fill."""

    own: NDArray[np.float64]
    square: NDArray[np.float64]
    sum: NDArray[np.float64]
    learning_rate: float
    weight_decay: float
    gradient: NDArray[np.float64]

__version__: str

def set_num_threads(threads: int) -> None: ...
def get_num_threads() -> int: ...
def isa() -> str: ...
def available_isas() -> list[str]: ...
def has_bf16_products() -> bool: ...
def has_bf16_tiles() -> bool: ...
def select_isa(name: str) -> None: ...
def last_kernel() -> str: ...
def attention_forward(
    problem: _AttentionProblem,
    out: _Floats,
    figures: _AttentionFigures,
    map: tuple[_Floats, str] | None,
    top: tuple[NDArray[np.int64], _Floats] | None,
) -> None: ...
def attention_tiles(problem: _AttentionProblem) -> tuple[int, int, int]: ...
def attention_backward(
    problem: _AttentionProblem, upstream: _AttentionUpstream, gradients: _AttentionGradients
) -> None: ...
def attention_varlen_forward(
    problem: _AttentionProblem,
    starts: tuple[list[int], list[int]],
    out: _Floats,
    figures: _AttentionFigures,
) -> None: ...
def attention_varlen_backward(
    problem: _AttentionProblem,
    starts: tuple[list[int], list[int]],
    upstream: _AttentionUpstream,
    gradients: _AttentionGradients,
) -> None: ...
def attention_decode(
    problem: _Decoding,
    out: _Floats,
    figures: _AttentionFigures,
) -> None: ...
def softmax(x: _Floats, temperature: float, algorithm: str, empty: str, out: _Floats) -> None: ...
def softmax_backward(y: _Floats, dy: _Floats, temperature: float, dx: _Floats) -> None: ...
def softmax_pass(name: str, x: _Floats, y: _Floats) -> float: ...
def log_softmax(x: _Floats, temperature: float, out: _Floats) -> None: ...
def log_softmax_backward(y: _Floats, dy: _Floats, temperature: float, dx: _Floats) -> None: ...
def logsumexp(x: _Floats, lse: _Floats) -> None: ...
def logsumexp_pair(x: _Floats, mantissa: _Floats, exponent: _Floats) -> None: ...
def ext_exp(x: _Floats, mantissa: _Floats, exponent: _Floats) -> None: ...
def logsumexp_backward(x: _Floats, lse: _Floats, dlse: _Floats, dx: _Floats) -> None: ...
def softmax_stats(
    x: _Floats,
    max: _Floats,
    argmax: NDArray[np.int64],
    lse: _Floats,
    entropy: _Floats,
    mean: _Floats,
    deviation: _Floats,
) -> None: ...
def sparsemax(x: _Floats, out: _Floats) -> None: ...
def sparsemax_backward(y: _Floats, dy: _Floats, dx: _Floats) -> None: ...
def entmax15(x: _Floats, out: _Floats) -> None: ...
def entmax15_backward(y: _Floats, dy: _Floats, dx: _Floats) -> None: ...
def stablemax(x: _Floats, out: _Floats) -> None: ...
def stablemax_backward(x: _Floats, y: _Floats, dy: _Floats, dx: _Floats) -> None: ...
def log_stablemax(x: _Floats, out: _Floats) -> None: ...
def log_stablemax_backward(x: _Floats, y: _Floats, dy: _Floats, dx: _Floats) -> None: ...
def topk_softmax(x: _Floats, k: int, weights: _Floats, indices: NDArray[np.int64]) -> None: ...
def topk_softmax_dense(x: _Floats, k: int, out: _Floats) -> None: ...
def binary_cross_entropy(
    logits: _Floats,
    targets: _Floats,
    pos_weight: _Floats,
    weight: _Floats | None,
    focal: tuple[float, float | None] | None,
    factor: float,
    losses: _Floats,
    slopes: _Floats,
) -> None: ...
def roofline(probe: str, x: _Floats, y: _Floats, rounds: int) -> float: ...
def row_loss(
    operation: str,
    parameters: list[float],
    logits: _Floats,
    targets: NDArray[np.int64],
    weight: _Floats | None,
    ignore_index: int,
    reduction: str,
    empty: str,
    losses: _Floats,
    gradient: _Floats | None,
) -> float: ...
def cross_entropy(
    operation: str,
    logits: _Floats,
    targets: NDArray[np.int64] | _Floats,
    weight: _Floats | None,
    options: LossOptions,
    losses: _Floats,
    gradient: _Floats | None,
    upstream: _Floats | None,
    statistics: LossStatistics | None,
) -> float: ...
def box_iou(a: _Floats, b: _Floats, offset: float, out: _Floats) -> None: ...
def soft_nms(
    operation: str,
    boxes: _Floats,
    scores: _Floats,
    classes: NDArray[np.int64] | None,
    options: SuppressionOptions,
    keep: NDArray[np.int64],
    kept_scores: _Floats,
) -> int: ...
def coco_match(
    boxes: DetectionSets, ranges: int, matched: NDArray[np.bool_], ignored: NDArray[np.bool_]
) -> None: ...
def poly_relu(x: _Floats, weight: list[float], bias: float, out: _Floats) -> None: ...
def poly_relu_backward(x: _Floats, dy: _Floats, weight: list[float], dx: _Floats) -> list[float]: ...
def poly_norm(
    x: _Floats, weight: list[float], bias: float, eps: float, l2: bool, out: _Floats, saved: _Floats
) -> None: ...
def poly_norm_backward(
    x: _Floats, dy: _Floats, weight: list[float], saved: _Floats, l2: bool, dx: _Floats
) -> list[float]: ...
def linear_cross_entropy(
    operation: str,
    problem: _LinearProblem,
    losses: _Floats,
    gradients: LinearGradients | None,
    states: NDArray[np.float64] | None,
    statistics: LossStatistics | None,
) -> float: ...
def linear_cross_entropy_backward(
    operation: str, problem: _LinearProblem, states: NDArray[np.float64], gradients: LinearGradients
) -> None: ...
def spherical_output(state: SphericalState, passed: SphericalPass, step: SphericalStep | None) -> None: ...

class GpuFacts(TypedDict):
    """What is known of an adapter."""

    index: int
    name: str
    backend: str
    kind: str
    driver: str
    features: list[str]
    limits: dict[str, int]

class GpuAttention(TypedDict):
    """The inputs of attention on a GPU; shape is batch, heads, key heads, queries, keys, dim, value dim."""

    q: GpuTensor
    k: GpuTensor
    v: GpuTensor
    shape: tuple[int, int, int, int, int, int, int]
    aside: GpuTensor
    bias: GpuTensor | None
    bias_strides: tuple[int, int, int, int]
    scale: float
    softcap: float
    window: tuple[int | None, int | None]
    bottom_right: bool
    temperature: bool
    sinks: bool
    sigmoid: bool
    auto_row: bool
    empty_is_nan: bool
    dropout: tuple[float, int] | None

class GpuUpstream(TypedDict):
    """Statistics of the rows of attention, and the gradients of its results."""

    max_logit: GpuTensor
    inv_sum: GpuTensor
    entropy: GpuTensor | None
    dlse: GpuTensor | None
    dentropy: GpuTensor | None

class GpuLinear(TypedDict):
    """A linear layer and its losses on a GPU; shape is rows, classes, width."""

    input: GpuTensor
    weight: GpuTensor
    bias: GpuTensor | None
    shape: tuple[int, int, int]
    classes: GpuTensor
    masses: GpuTensor | None
    class_weight: GpuTensor | None
    factors: GpuTensor
    options: LossOptions
    chunk: int | None
    filter: float | None

def gpu_adapters() -> list[GpuFacts]: ...

@final
class GpuTensor:
    """Numbers in the memory of a device, one after the other."""

    def slice(self, /, start: int, len: int) -> GpuTensor: ...
    def __len__(self, /) -> int: ...

@final
class GpuDevice:
    """A GPU; calls are recorded and run when a result is downloaded."""

    def __new__(
        cls,
        adapter: str | None,
        backends: list[str] | None,
        allow_software: bool,
        reduction: str,
        binding_bytes: int | None,
        timeout: float,
    ) -> GpuDevice: ...
    def facts(self, /) -> GpuFacts: ...
    def pool_bytes(self, /) -> int: ...
    def submissions(self, /) -> int: ...
    def close(self, /) -> None: ...
    def check(self, /) -> None: ...
    def upload(self, /, bytes: NDArray[np.uint8], format: str) -> GpuTensor: ...
    def download(self, /, tensor: GpuTensor, out: NDArray[np.uint8]) -> None: ...
    def flush(self, /) -> None: ...
    def finish(self, /) -> None: ...
    def try_compile(self, /, name: str, text: str) -> None: ...
    def transpose(self, /, x: GpuTensor, shape: tuple[int, int, int]) -> GpuTensor: ...
    def rows(
        self,
        /,
        operation: str,
        inputs: list[GpuTensor],
        columns: int,
        temperature: float,
        empty: str,
    ) -> GpuTensor: ...
    def cross_entropy(
        self,
        /,
        logits: GpuTensor,
        columns: int,
        targets: GpuTensor,
        soft: bool,
        weight: GpuTensor | None,
        factors: GpuTensor,
        options: LossOptions,
        gradient: bool,
    ) -> tuple[GpuTensor, GpuTensor | None]: ...
    def losses(self, /, numbers: GpuTensor, factors: GpuTensor, sum: bool) -> GpuTensor: ...
    def attention(
        self, /, inputs: GpuAttention, moments: bool
    ) -> tuple[GpuTensor, GpuTensor, GpuTensor | None]: ...
    def attention_map(
        self, /, inputs: GpuAttention, state: GpuTensor, bins: tuple[int, int], max_pooling: bool
    ) -> GpuTensor: ...
    def attention_backward(
        self,
        /,
        inputs: GpuAttention,
        out: GpuTensor,
        dout: GpuTensor,
        upstream: GpuUpstream,
        bias_axes: tuple[bool, bool, bool, bool] | None,
    ) -> tuple[GpuTensor, GpuTensor, GpuTensor, GpuTensor, GpuTensor | None]: ...
    def attention_top_keys(
        self, /, inputs: GpuAttention, state: GpuTensor, count: int
    ) -> tuple[GpuTensor, GpuTensor]: ...
    def value_gate(
        self,
        /,
        v: GpuTensor,
        gate: GpuTensor,
        lengths: GpuTensor,
        shape: tuple[int, int, int, int],
        dgated: GpuTensor | None,
    ) -> tuple[GpuTensor, GpuTensor | None]: ...
    def attention_of_heads(
        self, /, rows: GpuTensor, place: int, shape: tuple[int, int, int]
    ) -> GpuTensor: ...
    def linear_cross_entropy(
        self, /, inputs: GpuLinear, wanted: tuple[bool, bool, bool]
    ) -> tuple[GpuTensor, GpuTensor | None, GpuTensor | None, GpuTensor | None]: ...
    def gather(self, /, x: GpuTensor, width: int, index: NDArray[np.int64]) -> GpuTensor: ...
    def convert(self, /, x: GpuTensor, format: str) -> GpuTensor: ...
    def copy(self, /, x: GpuTensor) -> GpuTensor: ...
    def multiply_adds(self, /, count: int) -> GpuTensor: ...
