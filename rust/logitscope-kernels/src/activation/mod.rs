//! Activations with trainable coefficients, each in one sweep, and their gradients.

mod poly_norm;
mod poly_relu;

pub use poly_norm::{NormScale, poly_norm, poly_norm_backward};
pub use poly_relu::{poly_relu, poly_relu_backward};

use crate::error::{Error, Result};
use crate::rows;
use logitscope_simd::Element;

/// The largest order of a polynomial.
pub const MAX_ORDER: usize = 5;

/// The coefficients of a polynomial without constant part, highest power first, as every row of a call sees them.
fn check_weight(operation: &'static str, weight: &[f64]) -> Result<()> {
    if (1..=MAX_ORDER).contains(&weight.len()) {
        return Ok(());
    }
    Err(Error::Argument {
        operation,
        argument: "weight",
        got: format!("of {} coefficients", weight.len()),
        expected: format!("1 to {MAX_ORDER} of them"),
    })
}

/// Calls a function that is generic over the order: `by_order!(weight, R => f::<T, R>(...))`.
macro_rules! by_order {
    ($weight:expr, $order:ident => $call:expr) => {
        match $weight.len() {
            1 => {
                const $order: usize = 1;
                $call
            }
            2 => {
                const $order: usize = 2;
                $call
            }
            3 => {
                const $order: usize = 3;
                $call
            }
            4 => {
                const $order: usize = 4;
                $call
            }
            _ => {
                const $order: usize = 5;
                $call
            }
        }
    };
}
use by_order;

/// The coefficients as numbers of the element type.
fn coefficients<T: Element, const R: usize>(weight: &[f64]) -> [T; R] {
    std::array::from_fn(|index| T::from_f64(weight[index]))
}

/// Adds up the gradients of the coefficients and the constant that pieces have found, in the order of the pieces.
fn add_up(pieces: &[Vec<f64>]) -> Vec<f64> {
    let count = pieces.first().map_or(0, Vec::len);
    (0..count)
        .map(|index| {
            let column: Vec<f64> = pieces.iter().map(|piece| piece[index]).collect();
            rows::pairwise_sum(&column)
        })
        .collect()
}
