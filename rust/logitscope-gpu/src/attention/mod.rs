//! Attention with the statistics of its rows, its map and its gradients.

mod backward;
mod forward;
mod part;
mod tiles;

pub use backward::{AttentionGradients, ROW, Upstream, sums_of_heads};
pub use forward::{Attention, AttentionOptions, AttentionOutput, STATE, Shape};
pub(crate) use tiles::variants;
