//! The operations on any GPU: WGSL compute shaders (`shaders/`), run through `wgpu`.
//!
//! A [`Device`] records what is called and submits it when a result is read, so a chain of calls goes to the GPU
//! at once and its intermediate results stay there. A [`Tensor`] is row-major memory of a device. Each operation
//! has the same noun as its kernel in `logitscope-kernels` and its shader.
#![cfg_attr(not(feature = "cooperative-matrix"), forbid(unsafe_code))]
#![cfg_attr(feature = "cooperative-matrix", deny(unsafe_code))]

mod adapter;
mod attention;
mod chain;
mod cross_entropy;
mod device;
mod error;
mod gather;
mod linear_cross_entropy;
mod matmul;
mod multiply_adds;
mod pipeline;
mod pool;
mod rows;
mod shader;
mod tensor;
mod transpose;

pub use adapter::{AdapterFacts, adapters};
#[cfg(feature = "cooperative-matrix")]
pub use attention::Matrices;
pub use attention::{
    Attention, AttentionGradients, AttentionOptions, AttentionOutput, Dropout, MOMENTS, ROW, STATE, Shape,
    Upstream, ValueGate, sums_of_heads,
};
pub use cross_entropy::{IGNORED, Link, LossOptions, NUMBERS, Targets, cross_entropy, losses};
pub use device::{Device, Settings};
pub use error::{Error, Result};
pub use gather::{ABSENT, convert, gather};
pub use linear_cross_entropy::{LinearCrossEntropy, LinearGradients};
pub use multiply_adds::multiply_adds;
pub use rows::{RowOperation, RowOptions};
pub use shader::{Reduction, Variant, every_variant};
pub use tensor::{Format, Tensor};
pub use transpose::transpose;
