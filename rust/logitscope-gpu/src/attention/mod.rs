//! Attention with the statistics of its rows, its map and its gradients.

mod backward;
mod dropout;
mod far;
mod forward;
mod gate;
#[cfg(feature = "cooperative-matrix")]
mod matrices;
mod part;
mod tiles;
mod top_keys;

pub use backward::{AttentionGradients, ROW, Upstream, sums_of_heads};
pub use dropout::Dropout;
pub use forward::{Attention, AttentionOptions, AttentionOutput, MOMENTS, STATE, Shape};
pub use gate::ValueGate;
#[cfg(feature = "cooperative-matrix")]
pub use matrices::Matrices;
pub(crate) use tiles::variants;
