//! Rows picked by their index, and float16 made float32 or the other way round.

use crate::device::Device;
use crate::error::{Error, Result};
use crate::rows::{GROUP, parts};
use crate::shader::{Reduction, Variant};
use crate::tensor::{Format, Tensor};

/// The index of a row of zeros.
pub const ABSENT: u32 = u32::MAX;

/// The rows of `width` numbers that an index picks, [`ABSENT`] ones zeros; float16 comes as float32.
///
/// # Errors
/// [`Error::Shape`] for an index beyond the rows, and whatever the device says.
pub fn gather(device: &Device, x: &Tensor, width: usize, index: &[u32]) -> Result<Tensor> {
    let rows = x.len().checked_div(width).unwrap_or(usize::MAX);
    if let Some(wrong) = index.iter().find(|&&row| row != ABSENT && row as usize >= rows) {
        return Err(Error::Shape(format!("gather: row {wrong} of {rows}")));
    }
    let y = device.empty(index.len() * width, Format::F32)?;
    pick(device, &variant("widen", x.format()), x, width, index, &y)?;
    Ok(y)
}

/// The same numbers in another format; a tensor that has it already is not copied.
///
/// # Errors
/// Whatever the device says.
pub fn convert(device: &Device, x: &Tensor, format: Format) -> Result<Tensor> {
    if x.format() == format {
        return Ok(x.clone());
    }
    let y = device.empty(x.len(), format)?;
    let variant = match format {
        Format::F32 => variant("widen", x.format()),
        Format::F16 => variant("narrow", format),
    };
    let spare = device.empty(1, Format::F32)?;
    for (start, count) in if x.len() == 0 { Vec::new() } else { parts(device, x.len(), 4)? } {
        let tensors = [&spare, &x.slice(start, count), &y.slice(start, count)];
        device.call(&variant, &tensors, &[count as u32, 1, 0], groups(count))?;
    }
    Ok(y)
}

/// Picks rows into y, in parts whose rows and whose sources a binding holds.
fn pick(
    device: &Device,
    variant: &Variant,
    x: &Tensor,
    width: usize,
    index: &[u32],
    y: &Tensor,
) -> Result<()> {
    if index.is_empty() || width == 0 {
        return Ok(());
    }
    let present = || index.iter().filter(|&&row| row != ABSENT).map(|&row| row as usize);
    let (first, last) = (present().min().unwrap_or(0), present().max().unwrap_or(0));
    let span = if present().next().is_some() { last + 1 - first } else { 0 };
    let usable = device.binding_bytes().saturating_sub(device.alignment());
    if index.len() > 1 && (span.max(index.len()) * width * 4) as u64 > usable {
        let half = index.len() / 2;
        pick(device, variant, x, width, &index[..half], &y.slice(0, half * width))?;
        let rest = y.slice(half * width, (index.len() - half) * width);
        return pick(device, variant, x, width, &index[half..], &rest);
    }
    let moved = index.iter().map(|&row| if row == ABSENT { ABSENT } else { row - first as u32 });
    let bytes: Vec<u8> = moved.flat_map(u32::to_le_bytes).collect();
    let places = device.upload(&bytes, Format::F32)?;
    let words = [index.len() as u32, width as u32, 1];
    device.call(
        variant,
        &[&places, &x.slice(first * width, span * width), y],
        &words,
        groups(index.len() * width),
    )
}

fn groups(count: usize) -> u64 {
    (count as u64).div_ceil(u64::from(GROUP))
}

fn variant(shader: &'static str, format: Format) -> Variant {
    Variant {
        shader,
        format,
        reduction: Reduction::Tree,
        constants: Vec::new(),
        workgroup_bytes: 0,
        writes: vec![false, false, true],
    }
}

/// Every variant that may be asked for.
pub(crate) fn variants(format: Format) -> Vec<Variant> {
    vec![variant("widen", format), variant("narrow", format)]
}
