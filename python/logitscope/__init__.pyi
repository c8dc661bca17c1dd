"""The names of the root for type checkers and editors; the same as the tables in ``__init__.py`` (tested)."""

from logitscope.ops.attention import attention as attention
from logitscope.ops.attention_backward import attention_backward as attention_backward
from logitscope.ops.attention_decode import attention_decode as attention_decode
from logitscope.ops.attention_map import attention_map as attention_map
from logitscope.ops.attention_result import AttentionResult as AttentionResult
from logitscope.ops.attention_summary import AttentionSummary as AttentionSummary
from logitscope.ops.attention_summary import attention_summary as attention_summary
from logitscope.ops.attention_varlen import attention_varlen as attention_varlen
from logitscope.ops.attention_varlen_backward import attention_varlen_backward as attention_varlen_backward
from logitscope.ops.explain import Explanation as Explanation
from logitscope.ops.explain import explain as explain
from logitscope.ops.ext_exp import ext_add as ext_add
from logitscope.ops.ext_exp import ext_exp as ext_exp
from logitscope.ops.ext_exp import ext_sum as ext_sum
from logitscope.ops.kv_cache import KVCache as KVCache
from logitscope.ops.log_softmax import log_softmax as log_softmax
from logitscope.ops.log_softmax import log_softmax_backward as log_softmax_backward
from logitscope.ops.logsumexp import logsumexp as logsumexp
from logitscope.ops.logsumexp import logsumexp_backward as logsumexp_backward
from logitscope.ops.merge_states import merge_states as merge_states
from logitscope.ops.paged_kv_cache import PagedKVCache as PagedKVCache
from logitscope.ops.runtime import get_num_threads as get_num_threads
from logitscope.ops.runtime import info as info
from logitscope.ops.runtime import last_kernel as last_kernel
from logitscope.ops.runtime import set_num_threads as set_num_threads
from logitscope.ops.softmax import softmax as softmax
from logitscope.ops.softmax import softmax_backward as softmax_backward
from logitscope.ops.softmax_stats import SoftmaxStats as SoftmaxStats
from logitscope.ops.softmax_stats import softmax_stats as softmax_stats
from logitscope.ops.sparsemax import entmax15 as entmax15
from logitscope.ops.sparsemax import entmax15_backward as entmax15_backward
from logitscope.ops.sparsemax import sparsemax as sparsemax
from logitscope.ops.sparsemax import sparsemax_backward as sparsemax_backward
from logitscope.ops.stablemax import log_stablemax as log_stablemax
from logitscope.ops.stablemax import log_stablemax_backward as log_stablemax_backward
from logitscope.ops.stablemax import stablemax as stablemax
from logitscope.ops.stablemax import stablemax_backward as stablemax_backward
from logitscope.ops.topk_softmax import topk_softmax as topk_softmax
from logitscope.ops.topk_softmax import topk_softmax_backward as topk_softmax_backward

from . import activation as activation
from . import detection as detection
from . import dynamics as dynamics
from . import errors as errors
from . import experiments as experiments
from . import gpu as gpu
from . import loss as loss
from . import nn as nn
from . import ops as ops
from . import optim as optim
from . import record as record
from . import theory as theory

__version__: str
