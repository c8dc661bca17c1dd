//! The operations, one noun a file: safe Rust over `logitscope-simd`.
//!
//! Every function here cuts its work into pieces whose number and size depend on the shapes alone, so
//! results have the same bits at any number of threads ([`threads`]).
#![forbid(unsafe_code)]

pub mod activation;
pub mod attention;
pub mod binary_cross_entropy;
pub mod cross_entropy;
pub mod detection;
mod error;
pub mod ext_exp;
mod ext_sum;
pub mod gemm;
pub mod linear_cross_entropy;
mod ln_1p;
pub mod log_softmax;
pub mod logsumexp;
mod long;
mod matmul;
pub mod roofline;
pub mod row_loss;
mod rows;
pub mod softmax;
pub mod softmax_stats;
pub mod sparsemax;
pub mod spherical_output;
pub mod stablemax;
pub mod threads;
pub mod topk_softmax;
mod view;
mod write;

pub use error::{Error, Result};
pub use rows::Empty;
pub use threads::Cancel;
pub use view::{HeadScores, Heads, HeadsMut, Mask, Matrix, Order, Rows, Scores};
