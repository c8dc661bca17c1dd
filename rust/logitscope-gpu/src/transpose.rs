//! Two neighbouring axes exchanged: how operations reach an axis that is not the last.

use crate::device::Device;
use crate::error::{Error, Result};
use crate::rows::parts;
use crate::shader::{Reduction, Variant};
use crate::tensor::{Format, Tensor};

const SIDE: usize = 16;

/// Makes (outer, rows, columns) of a tensor (outer, columns, rows).
///
/// # Errors
/// [`Error::Shape`] where the shape is not that of the tensor, [`Error::OutOfMemory`] where one matrix is larger than
/// what the device can bind.
pub fn transpose(device: &Device, x: &Tensor, shape: [usize; 3]) -> Result<Tensor> {
    let [outer, rows, columns] = shape;
    if outer * rows * columns != x.len() {
        return Err(Error::Shape(format!(
            "transpose: a tensor of {}; use {}",
            x.len(),
            outer * rows * columns
        )));
    }
    let y = device.empty(x.len(), x.format())?;
    if x.len() == 0 {
        return Ok(y);
    }
    let (variant, size) = (variant(x.format()), rows * columns);
    for (start, count) in parts(device, outer, size * x.format().bytes())? {
        let (from, to) = (x.slice(start * size, count * size), y.slice(start * size, count * size));
        let groups = count * rows.div_ceil(SIDE) * columns.div_ceil(SIDE);
        device.call(&variant, &[&from, &to], &[count as u32, rows as u32, columns as u32], groups as u64)?;
    }
    Ok(y)
}

pub(crate) fn variant(format: Format) -> Variant {
    Variant {
        shader: "transpose",
        format,
        reduction: Reduction::Tree,
        constants: Vec::new(),
        workgroup_bytes: (SIDE * (SIDE + 1) * format.bytes()) as u32,
        writes: vec![false, true],
    }
}
