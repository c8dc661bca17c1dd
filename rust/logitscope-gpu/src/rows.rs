//! Operations on rows: softmax and its relatives, and their gradients.

use crate::device::Device;
use crate::error::{Error, Result};
use crate::shader::{Reduction, Variant};
use crate::tensor::{Format, Tensor};

/// Threads of a workgroup: no adapter has a lower limit.
pub(crate) const GROUP: u32 = 256;

const NAN_BITS: u32 = 0x7fc0_0000;

/// An operation on rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowOperation {
    /// Its name, and the stem of its shader.
    pub name: &'static str,
    inputs: &'static [Shape],
    output: Shape,
}

/// What a tensor has for each row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Row,
    Number,
}

use Shape::{Number, Row};

/// Every operation on rows.
const OPERATIONS: [RowOperation; 14] = [
    RowOperation { name: "softmax", inputs: &[Row], output: Row },
    RowOperation { name: "softmax_backward", inputs: &[Row, Row], output: Row },
    RowOperation { name: "log_softmax", inputs: &[Row], output: Row },
    RowOperation { name: "log_softmax_backward", inputs: &[Row, Row], output: Row },
    RowOperation { name: "logsumexp", inputs: &[Row], output: Number },
    RowOperation { name: "logsumexp_backward", inputs: &[Row, Number], output: Row },
    RowOperation { name: "sparsemax", inputs: &[Row], output: Row },
    RowOperation { name: "sparsemax_backward", inputs: &[Row, Row], output: Row },
    RowOperation { name: "entmax15", inputs: &[Row], output: Row },
    RowOperation { name: "entmax15_backward", inputs: &[Row, Row], output: Row },
    RowOperation { name: "stablemax", inputs: &[Row], output: Row },
    RowOperation { name: "stablemax_backward", inputs: &[Row, Row, Row], output: Row },
    RowOperation { name: "log_stablemax", inputs: &[Row], output: Row },
    RowOperation { name: "log_stablemax_backward", inputs: &[Row, Row, Row], output: Row },
];

/// Options of the operations that have some.
#[derive(Clone, Copy, Debug)]
pub struct RowOptions {
    /// What the logits are divided by.
    pub temperature: f32,
    /// Whether a row of nothing but -inf gives zeros, not NaN (softmax).
    pub empty_is_zero: bool,
}

impl RowOperation {
    /// The operation with a name.
    pub fn named(name: &str) -> Option<Self> {
        OPERATIONS.into_iter().find(|operation| operation.name == name)
    }

    /// Applies it to rows of `columns` numbers, in as many parts as the device's bindings make of them.
    ///
    /// # Errors
    /// [`Error::Shape`] where tensors do not fit, and whatever the device says.
    pub fn run(
        self,
        device: &Device,
        inputs: &[&Tensor],
        columns: usize,
        options: RowOptions,
    ) -> Result<Tensor> {
        let (first, name) = (inputs[0], self.name);
        if columns == 0 || !first.len().is_multiple_of(columns) || inputs.len() != self.inputs.len() {
            let message = format!("{name}: {} tensors, rows of {columns} of {}", inputs.len(), first.len());
            return Err(Error::Shape(message));
        }
        let rows = first.len() / columns;
        for (input, shape) in inputs.iter().zip(self.inputs) {
            if input.len() != rows * shape.width(columns) || input.format() != first.format() {
                let (got, expected) = (input.len(), rows * shape.width(columns));
                return Err(Error::Shape(format!("{name}: a tensor of {got}; use {expected} of one dtype")));
            }
        }
        let output = device.empty(rows * self.output.width(columns), first.format())?;
        if rows == 0 {
            return Ok(output);
        }
        let variant = self.variant(first.format(), columns, device.reduction());
        // Newton's steps of the sparse ones go through the row some ten times, the others a few times.
        let sweeps = if matches!(name, "sparsemax" | "entmax15") { 24 } else { 4 };
        device.check_rounds(name, sweeps * columns.div_ceil(variant.constants[1].1 as usize))?;
        for (start, count) in parts(device, rows, columns * first.format().bytes())? {
            let part = |tensor: &Tensor, shape: Shape| {
                let width = shape.width(columns);
                tensor.slice(start * width, count * width)
            };
            let mut tensors: Vec<_> =
                inputs.iter().zip(self.inputs).map(|(tensor, &shape)| part(tensor, shape)).collect();
            tensors.push(part(&output, self.output));
            let tensors: Vec<_> = tensors.iter().collect();
            let empty = if options.empty_is_zero { 0 } else { NAN_BITS };
            let scale = (1.0 / options.temperature).to_bits();
            let teams = u64::from(GROUP / variant.constants[1].1);
            let groups = (count as u64).div_ceil(teams);
            device.call(&variant, &tensors, &[count as u32, columns as u32, empty, scale], groups)?;
        }
        Ok(output)
    }

    fn variant(self, format: Format, columns: usize, reduction: (Reduction, bool)) -> Variant {
        let (reduction, width, keep) = team_of(columns, reduction);
        self.with(format, reduction, width, keep)
    }

    fn with(self, format: Format, reduction: Reduction, width: u32, keep: u32) -> Variant {
        let mut writes = vec![false; self.inputs.len()];
        writes.push(true);
        let is_sparse = matches!(self.name, "sparsemax" | "entmax15");
        Variant {
            shader: self.name,
            format,
            reduction,
            constants: vec![("GROUP", GROUP), ("WIDTH", width), ("KEEP", keep)],
            workgroup_bytes: GROUP * 8 + if is_sparse { 4 } else { 0 },
            writes,
        }
    }
}

impl Shape {
    fn width(self, columns: usize) -> usize {
        match self {
            Row => columns,
            Number => 1,
        }
    }
}

/// The threads of a team for a row, and how many numbers each keeps in registers.
fn team(columns: usize) -> (u32, u32) {
    match columns {
        0..=64 => (8, 8),
        65..=512 => (64, 8),
        513..=4096 => (GROUP, 16),
        _ => (GROUP, 0),
    }
}

/// How the team for a row adds up, its threads, and how many numbers each keeps in registers.
pub(crate) fn team_of(columns: usize, reduction: (Reduction, bool)) -> (Reduction, u32, u32) {
    let (width, keep) = team(columns);
    match reduction {
        // Short rows are added up in the tree, unless told otherwise.
        (Reduction::Subgroup, false) if width < GROUP => (Reduction::Tree, width, keep),
        (Reduction::Subgroup, _) => (Reduction::Subgroup, GROUP, keep),
        (Reduction::Tree, _) => (Reduction::Tree, width, keep),
    }
}

/// Parts of rows, `(first, count)`, each of which fits into a binding.
pub(crate) fn parts(device: &Device, rows: usize, row_bytes: usize) -> Result<Vec<(usize, usize)>> {
    // A part may begin in the middle of a binding, by less than its alignment.
    let usable = device.binding_bytes().saturating_sub(device.alignment());
    let most = usable as usize / row_bytes.max(1);
    if most == 0 {
        return Err(Error::OutOfMemory(format!(
            "gpu: a row of {row_bytes} bytes; {} can bind {usable}, so use shorter rows or the CPU",
            device.facts().name
        )));
    }
    Ok((0..rows).step_by(most).map(|start| (start, most.min(rows - start))).collect())
}

/// Every variant that may be asked for.
pub(crate) fn variants(format: Format) -> Vec<Variant> {
    let mut all = Vec::new();
    for operation in OPERATIONS {
        for columns in [1, 65, 513, 4097] {
            let (width, keep) = team(columns);
            all.push(operation.with(format, Reduction::Tree, width, keep));
            all.push(operation.with(format, Reduction::Subgroup, GROUP, keep));
        }
    }
    all
}
