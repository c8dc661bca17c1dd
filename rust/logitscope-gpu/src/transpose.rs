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
/// [`Error::Shape`] where the shape is not that of the tensor, [`Error::OutOfMemory`] where one row, or one matrix of
/// float16, is larger than what the device can bind.
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
    let size = rows * columns;
    let usable = device.binding_bytes().saturating_sub(device.alignment());
    if (size * x.format().bytes()) as u64 > usable && x.format() == Format::F32 {
        for matrix in 0..outer {
            let (from, to) = (x.slice(matrix * size, size), y.slice(matrix * size, size));
            turn_in_parts(device, &from, &to, rows, columns)?;
        }
        return Ok(y);
    }
    for (start, count) in parts(device, outer, size * x.format().bytes())? {
        let (from, to) = (x.slice(start * size, count * size), y.slice(start * size, count * size));
        turn(device, &from, &to, [count, rows, columns])?;
    }
    Ok(y)
}

fn turn(device: &Device, x: &Tensor, y: &Tensor, [outer, rows, columns]: [usize; 3]) -> Result<()> {
    let groups = outer * rows.div_ceil(SIDE) * columns.div_ceil(SIDE);
    let words = [outer as u32, rows as u32, columns as u32];
    device.call(&variant(x.format()), &[x, y], &words, groups as u64)
}

/// One matrix over the binding limit: some rows at a time, each of whose columns is then copied to its place.
fn turn_in_parts(device: &Device, x: &Tensor, y: &Tensor, rows: usize, columns: usize) -> Result<()> {
    for (start, count) in parts(device, rows, columns * 4)? {
        let turned = device.empty(count * columns, Format::F32)?;
        turn(device, &x.slice(start * columns, count * columns), &turned, [1, count, columns])?;
        for column in 0..columns {
            device.copy_into(&turned.slice(column * count, count), &y.slice(column * rows + start, count))?;
        }
    }
    Ok(())
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
