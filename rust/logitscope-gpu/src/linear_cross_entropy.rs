//! A linear layer and the losses of its rows in one: logits are made in chunks of classes and never all in memory.
//!
//! Chunks are folded into a few sums for each row. For the gradients the logits are made once more, chunk by chunk, and
//! turned into their gradient, which goes into three products at once.

use crate::cross_entropy::{LossOptions, MOST_COLUMNS, NUMBERS};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::gather::convert;
use crate::matmul::{Matrix, matmul};
use crate::rows::{GROUP, team_of};
use crate::shader::{Reduction, Variant};
use crate::tensor::{Format, Tensor};

/// Words that are kept of each row between the chunks.
const STATE: usize = 16;

/// Rows that are worked on at once, and bytes of their logits.
const MOST_ROWS: usize = 4096;
const MOST_BYTES: u64 = 64 << 20;

/// Rows and classes of the blocks that a filter looks at.
const FILTER: (usize, usize) = (64, 1024);

/// The inputs of a linear layer and its losses.
#[derive(Clone, Debug)]
pub struct LinearCrossEntropy {
    /// (rows, width) in float32.
    pub input: Tensor,
    /// (classes, width).
    pub weight: Tensor,
    /// (classes) in float32.
    pub bias: Option<Tensor>,
    /// Lengths: rows, classes, width.
    pub shape: [usize; 3],
    /// The class of each row, of soft targets the one with the largest mass, or [`crate::IGNORED`].
    pub classes: Tensor,
    /// (rows, classes) in float32.
    pub masses: Option<Tensor>,
    /// (classes).
    pub class_weight: Option<Tensor>,
    /// What the gradients of loss and penalties are multiplied by, two for all rows or two a row.
    pub factors: Tensor,
    /// Everything else.
    pub options: LossOptions,
    /// How many classes are worked on at once; by default as many as take [`MOST_BYTES`].
    pub chunk: Option<usize>,
    /// Blocks of the gradient of the logits that nowhere reach this count as 0.
    pub filter: Option<f32>,
}

/// The gradients that were asked for, in float32.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs, reason = "the names say it")]
pub struct LinearGradients {
    pub input: Option<Tensor>,
    pub weight: Option<Tensor>,
    pub bias: Option<Tensor>,
}

/// Some rows, with the memory that their chunks are made in.
struct Block<'a> {
    problem: &'a LinearCrossEntropy,
    device: &'a Device,
    start: usize,
    rows: usize,
    /// Classes of a chunk.
    chunk: usize,
    input: Tensor,
    state: Tensor,
    logits: Tensor,
    /// The first class of the chunk that is there.
    made: Option<usize>,
}

impl LinearCrossEntropy {
    /// The numbers of each row, `(rows, NUMBERS)`, and the gradients of input, weight and bias that are wanted.
    ///
    /// # Errors
    /// [`Error::Shape`] where tensors do not fit, and whatever the device says.
    pub fn run(&self, device: &Device, wanted: [bool; 3]) -> Result<(Tensor, LinearGradients)> {
        self.check()?;
        let [rows, classes, width] = self.shape;
        let numbers = device.empty(rows * NUMBERS, Format::F32)?;
        let new = |wanted: bool, len: usize| wanted.then(|| device.empty(len, Format::F32)).transpose();
        let gradients = LinearGradients {
            input: new(wanted[0], rows * width)?,
            weight: new(wanted[1], classes * width)?,
            bias: new(wanted[2], classes)?,
        };
        let (most, chunk) = self.sizes(device)?;
        let (logits, slopes) =
            (device.empty(most * chunk, Format::F32)?, device.empty(most * chunk, Format::F32)?);
        // Without rows there is one block of none, which sets the gradients to 0.
        for start in (0..rows.max(1)).step_by(most) {
            let count = most.min(rows - start);
            let mut block = Block {
                problem: self,
                device,
                start,
                rows: count,
                chunk,
                input: self.input.slice(start * width, count * width),
                state: device.empty(count * STATE, Format::F32)?,
                logits: logits.clone(),
                made: None,
            };
            block.find(&numbers)?;
            if wanted.contains(&true) {
                block.add_gradients(&slopes, &gradients)?;
            }
        }
        Ok((numbers, gradients))
    }

    /// Rows and classes of a chunk.
    fn sizes(&self, device: &Device) -> Result<(usize, usize)> {
        let [rows, classes, width] = self.shape;
        let usable = device.binding_bytes().saturating_sub(device.alignment());
        let fit = |bytes_each: usize| (usable / (bytes_each as u64).max(1)) as usize;
        let of_masses = if self.masses.is_some() { classes * 4 } else { 0 };
        let most_rows = rows.clamp(1, MOST_ROWS).min(fit(width * 4)).min(fit(of_masses)).min(fit(STATE * 4));
        if most_rows == 0 || fit(width * 4) == 0 {
            let (name, bytes) = (&device.facts().name, (width * 4).max(of_masses));
            return Err(Error::OutOfMemory(format!(
                "linear_cross_entropy: a row of {bytes} bytes; {name} can bind {usable}, so use shorter rows or the CPU"
            )));
        }
        let bytes = usable.min(MOST_BYTES) / 4;
        let chunk = self.chunk.unwrap_or_else(|| (bytes / most_rows as u64) as usize);
        let most_classes = fit(width * 4).min(bytes as usize).min(MOST_COLUMNS - 1);
        let chunk = chunk.clamp(1, classes.min(most_classes));
        Ok((most_rows.min((bytes / chunk as u64) as usize).max(1), chunk))
    }

    fn check(&self) -> Result<()> {
        let [rows, classes, width] = self.shape;
        let len = |tensor: &Option<Tensor>, expected: usize| tensor.as_ref().map_or(expected, Tensor::len);
        let expected = [
            ("input", self.input.len(), rows * width),
            ("weight", self.weight.len(), classes * width),
            ("bias", len(&self.bias, classes), classes),
            ("targets", self.classes.len(), rows),
            ("soft targets", len(&self.masses, rows * classes), rows * classes),
            ("class_weight", len(&self.class_weight, classes), classes),
        ];
        for (name, got, expected) in expected {
            if got != expected {
                let message = format!("linear_cross_entropy: {name} has {got} numbers; use {expected}");
                return Err(Error::Shape(message));
            }
        }
        let factors = self.factors.len();
        if classes == 0 || (factors != 2 && factors != 2 * rows) {
            let message = format!("linear_cross_entropy: {classes} classes and {factors} factors");
            return Err(Error::Shape(message));
        }
        Ok(())
    }
}

impl Block<'_> {
    /// The first classes of the chunks.
    fn chunks(&self) -> impl DoubleEndedIterator<Item = usize> + use<> {
        (0..self.problem.shape[1]).step_by(self.chunk)
    }

    fn width(&self, first: usize) -> usize {
        self.chunk.min(self.problem.shape[1] - first)
    }

    /// Folds all chunks and writes the numbers of the rows.
    fn find(&mut self, numbers: &Tensor) -> Result<()> {
        if self.rows == 0 {
            return Ok(());
        }
        let spare = self.device.empty(1, Format::F32)?;
        for first in self.chunks() {
            self.make(first)?;
            self.call("linear_cross_entropy_fold", first, &spare)?;
        }
        if self.problem.masses.is_some() || self.problem.options.label_smoothing > 0.0 {
            for first in self.chunks() {
                self.make(first)?;
                self.call("linear_cross_entropy_targets", first, &spare)?;
            }
        }
        let numbers = numbers.slice(self.start * NUMBERS, self.rows * NUMBERS);
        self.call("linear_cross_entropy_rows", 0, &numbers)
    }

    /// Adds the products of the rows' gradient; those of the first rows are set.
    fn add_gradients(&mut self, slopes: &Tensor, gradients: &LinearGradients) -> Result<()> {
        let [_, classes, width] = self.problem.shape;
        let one = self.device.upload(&1.0_f32.to_le_bytes(), Format::F32)?;
        let follows = self.start > 0;
        // From the last, whose logits are there.
        let last = self.chunks().next_back();
        for first in self.chunks().rev() {
            let (seen, rows) = (self.width(first), self.rows);
            let slopes = slopes.slice(0, rows * seen);
            if rows > 0 {
                self.make(first)?;
                self.call("linear_cross_entropy_gradient", first, &slopes)?;
                self.drop_small_blocks(&slopes, seen)?;
            }
            let slope = Matrix::rows(&slopes, seen);
            if let (Some(input), true) = (&gradients.input, rows > 0) {
                let weight = self.weight(first)?;
                let input = input.slice(self.start * width, rows * width);
                let factors = [slope, Matrix::rows(&weight, width)];
                matmul(self.device, factors, None, [rows, seen, width], &input, Some(first) != last)?;
            }
            if let Some(weight) = &gradients.weight {
                let weight = weight.slice(first * width, seen * width);
                let factors = [slope.turned(), Matrix::rows(&self.input, width)];
                matmul(self.device, factors, None, [seen, rows, width], &weight, follows)?;
            }
            if let Some(bias) = &gradients.bias {
                let bias = bias.slice(first, seen.min(classes - first));
                let ones = Matrix { numbers: &one, steps: [0, 0] };
                matmul(self.device, [ones, slope], None, [1, rows, seen], &bias, follows)?;
            }
        }
        Ok(())
    }

    /// Sets the blocks of the gradient of so many classes to 0 that nowhere reach the filter.
    fn drop_small_blocks(&self, slopes: &Tensor, seen: usize) -> Result<()> {
        let Some(filter) = self.problem.filter else {
            return Ok(());
        };
        let words = [self.rows as u32, seen as u32, filter.to_bits()];
        let blocks = self.rows.div_ceil(FILTER.0) * seen.div_ceil(FILTER.1);
        self.device.call(&filter_variant(), &[slopes], &words, blocks as u64)
    }

    fn weight(&self, first: usize) -> Result<Tensor> {
        let width = self.problem.shape[2];
        convert(
            self.device,
            &self.problem.weight.slice(first * width, self.width(first) * width),
            Format::F32,
        )
    }

    /// Makes the logits of a chunk, unless they are there.
    fn make(&mut self, first: usize) -> Result<()> {
        if self.made == Some(first) {
            return Ok(());
        }
        let (width, seen) = (self.problem.shape[2], self.width(first));
        let weight = self.weight(first)?;
        let bias = self.problem.bias.as_ref().map(|bias| bias.slice(first, seen));
        let factors = [Matrix::rows(&self.input, width), Matrix::rows(&weight, width).turned()];
        let logits = self.logits.slice(0, self.rows * seen);
        matmul(self.device, factors, bias.as_ref(), [self.rows, width, seen], &logits, false)?;
        self.made = Some(first);
        Ok(())
    }

    /// Runs a shader of the rows on the chunk that is there; `output` is what it writes beside the state.
    fn call(&self, shader: &'static str, first: usize, output: &Tensor) -> Result<()> {
        let (problem, rows, device) = (self.problem, self.rows, self.device);
        let [_, classes, _] = problem.shape;
        let spare = device.empty(1, Format::F32)?;
        let per_row = problem.factors.len() > 2;
        let factors =
            if per_row { problem.factors.slice(2 * self.start, 2 * rows) } else { problem.factors.clone() };
        let masses = problem.masses.as_ref().map(|masses| masses.slice(self.start * classes, rows * classes));
        let seen = self.width(first);
        let tensors = [
            &self.logits.slice(0, rows * seen),
            &problem.classes.slice(self.start, rows),
            masses.as_ref().unwrap_or(&spare),
            problem.class_weight.as_ref().unwrap_or(&spare),
            &factors,
            &self.state,
            output,
        ];
        let words = problem.options.words(
            [rows, classes],
            masses.is_some(),
            problem.class_weight.is_some(),
            per_row,
            [first, seen],
        );
        let variant = variant(shader, seen, device.reduction());
        let alone = shader == "linear_cross_entropy_rows";
        let teams = if alone { GROUP } else { GROUP / variant.constants[1].1 };
        device.call(&variant, &tensors, &words, (rows as u64).div_ceil(u64::from(teams)))
    }
}

const SHADERS: [&str; 4] = [
    "linear_cross_entropy_fold",
    "linear_cross_entropy_targets",
    "linear_cross_entropy_rows",
    "linear_cross_entropy_gradient",
];

fn variant(shader: &'static str, columns: usize, reduction: (Reduction, bool)) -> Variant {
    let (reduction, width, _) = team_of(columns, reduction);
    let writes_more = matches!(shader, "linear_cross_entropy_rows" | "linear_cross_entropy_gradient");
    Variant {
        shader,
        format: Format::F32,
        reduction,
        constants: vec![("GROUP", GROUP), ("WIDTH", width), ("KEEP", 0)],
        workgroup_bytes: GROUP * 8,
        writes: vec![false, false, false, false, false, true, writes_more],
    }
}

fn filter_variant() -> Variant {
    Variant {
        shader: "linear_cross_entropy_filter",
        format: Format::F32,
        reduction: Reduction::Tree,
        constants: Vec::new(),
        workgroup_bytes: 4,
        writes: vec![true],
    }
}

/// Every variant that may be asked for.
pub(crate) fn variants() -> Vec<Variant> {
    let mut all = vec![filter_variant()];
    for shader in SHADERS {
        for columns in [1, 65, 513] {
            for reduction in [Reduction::Tree, Reduction::Subgroup] {
                all.push(variant(shader, columns, (reduction, true)));
            }
        }
    }
    all
}
