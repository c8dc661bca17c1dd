//! Attention that never holds the score matrix, with the statistics of its rows, and its gradients.
//!
//! One query row `i` of one head, over its visible keys `j`:
//!
//! - score `s_j = scale * inv_temperature_i * (q_i . k_j)`, bent by a softcap, plus bias, minus a slope times distance
//! - `m = max_j s_j`, `l = sum_j e^(s_j - m)`, weight `p_j = e^(s_j - m) / l`
//! - output `o = sum_j p_j v_j`, `lse = m + ln l`, entropy `h = -sum_j p_j ln p_j`
//!
//! Keys come in tiles; `m`, `l`, `o` are rescaled when a tile raises `m` (Milakov and Gimelshein, arXiv
//! 1805.02867; Dao et al., arXiv 2205.14135). **A vector holds sixteen queries, not sixteen keys**: scores lie
//! transposed, so keys and values are read where they are, one number at a time, and the row statistics are
//! computed lane by lane with no step across lanes.
//!
//! A sink is one more score of a row, the same for all rows of a head, that has no value: it takes part in `l`,
//! `lse` and `h`, not in `max_logit`. Masks hide keys by selection, never by adding: what a hidden key holds
//! reaches no score.
//!
//! Sigmoid weighting has `w_j = 1 / (1 + e^-(s_j + b))` in the place of `p_j`; `lse` is then the logarithm of their sum.
//!
//! Dropout takes part in the output and its gradients alone: `lse`, entropy, map and top keys are those of all weights.
//!
//! A row that sees no key gives `o = 0`, `lse = -inf` (the sink where there is one), `h = 0` and no gradient.

mod backward;
mod backward_tile;
mod bias;
mod bias_gradient;
mod decode;
mod dropout;
mod exponential;
mod forward;
mod forward_tile;
mod found_keys;
mod map;
mod masks;
mod moments;
mod non_finite;
mod operand;
mod problem;
mod products;
mod query_rows;
mod row_state;
mod scores;
mod sight;
mod sigmoid;
mod statistics;
#[cfg(test)]
mod tests;
mod tile;
mod tile_count;
mod tile_results;
mod tile_scores;
mod top_keys;
mod wide;

pub use backward::{Gradients, OfHeads, RowGradients, Upstream, backward, backward_packed};
pub use bias::{Bias, NarrowScores};
pub use bias_gradient::bias_gradient;
pub use decode::{CHUNK, Decoding, decode};
pub use dropout::Dropout;
pub use forward::{Output, forward, forward_packed};
pub use map::{MapBins, Pooling, bin_edge};
pub use masks::{Align, Masks};
pub use operand::{Gated, NarrowHeads, Operand};
pub use problem::{Problem, SigmoidBias, Weighting};
pub use statistics::{Logits, Statistics};
pub use tile_count::{TileCount, tile_count};
pub use top_keys::TopKeys;
