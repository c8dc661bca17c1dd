//! Products of matrices of float32.

use crate::device::Device;
use crate::error::Result;
use crate::shader::{Reduction, Variant};
use crate::tensor::{Format, Tensor};

/// Rows and columns that a workgroup makes, and how deep its tiles are.
const SIDE: usize = 64;
const DEEP: u32 = 16;

/// How deep a product is made at once: a driver stops what takes too long.
const DEEPEST: usize = 8192;

/// Numbers of a tensor as a matrix, at any steps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Matrix<'a> {
    pub(crate) numbers: &'a Tensor,
    /// From a number to that of the next row, and of the next column.
    pub(crate) steps: [usize; 2],
}

impl<'a> Matrix<'a> {
    /// Rows of so many columns.
    pub(crate) fn rows(numbers: &'a Tensor, columns: usize) -> Self {
        Self { numbers, steps: [columns, 1] }
    }

    /// The same, rows for columns.
    pub(crate) fn turned(self) -> Self {
        Self { steps: [self.steps[1], self.steps[0]], ..self }
    }
}

/// Makes c = a b + bias, or with `adds` c += a b, of (rows, depth) and (depth, columns).
pub(crate) fn matmul(
    device: &Device,
    [a, b]: [Matrix<'_>; 2],
    bias: Option<&Tensor>,
    [rows, depth, columns]: [usize; 3],
    c: &Tensor,
    adds: bool,
) -> Result<()> {
    if rows == 0 || columns == 0 {
        return Ok(());
    }
    let spare = device.empty(1, Format::F32)?;
    // Of no depth there is one part, which sets c.
    for start in (0..depth.max(1)).step_by(DEEPEST) {
        let (deep, first) = (DEEPEST.min(depth - start), start == 0);
        let from = |matrix: Matrix<'_>, step: usize| {
            let skipped = start * step;
            matrix.numbers.slice(skipped, matrix.numbers.len() - skipped)
        };
        let lengths = [rows, columns, deep];
        let mut words: Vec<u32> =
            lengths.into_iter().chain(a.steps).chain(b.steps).map(|number| number as u32).collect();
        words.extend([u32::from(adds || !first), u32::from(first && bias.is_some())]);
        let groups = (rows.div_ceil(SIDE) * columns.div_ceil(SIDE)) as u64;
        let tensors = [&from(a, a.steps[1]), &from(b, b.steps[0]), bias.unwrap_or(&spare), c];
        device.call(&variant(), &tensors, &words, groups)?;
    }
    Ok(())
}

pub(crate) fn variant() -> Variant {
    Variant {
        shader: "matmul",
        format: Format::F32,
        reduction: Reduction::Tree,
        constants: Vec::new(),
        workgroup_bytes: 2 * 4 * DEEP * (SIDE as u32 + 1),
        writes: vec![false, false, false, true],
    }
}
