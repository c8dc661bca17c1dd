//! Losses of rows of logits, with their gradient and statistics.

use crate::device::Device;
use crate::error::{Error, Result};
use crate::rows::{GROUP, parts, team_of};
use crate::shader::{Reduction, Variant};
use crate::tensor::{Format, Tensor};

/// Numbers that a row gives: loss, penalty, v, lse, entropy, margin, and as integers argmax and collapsed.
pub const NUMBERS: usize = 8;

/// Stands for the class of a row without a target.
pub const IGNORED: u32 = u32::MAX;

/// Columns are counted in floats.
pub(crate) const MOST_COLUMNS: usize = 1 << 24;

/// What is made of v = -ln p; checked by whoever makes one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Link {
    /// v.
    CrossEntropy,
    /// (e^{power v} - 1) / power.
    CompSum {
        /// 1 - tau.
        power: f32,
    },
    /// (1 - p)^gamma v.
    Focal {
        /// At least 0.
        gamma: f32,
    },
    /// v + epsilon (1 - p).
    Poly {
        /// Any number.
        epsilon: f32,
    },
    /// a v - b (1 - p).
    Symmetric {
        /// Weight of cross entropy.
        a: f32,
        /// Weight of reverse cross entropy times its logarithm of 0.
        b: f32,
    },
    /// (1 - p^q) / q up to v = turn, and what it is there beyond.
    Truncated {
        /// Above 0.
        q: f32,
        /// -ln k.
        turn: f32,
    },
}

impl Link {
    /// Its number in the shader, its parameters, and its value and slope at infinity.
    fn words(self) -> [u32; 5] {
        let infinity = f32::INFINITY;
        let (number, a, b, limit, slope) = match self {
            Link::CrossEntropy => (0, 0.0, 0.0, infinity, 1.0),
            Link::CompSum { power } if power < 0.0 => (1, power, 0.0, -1.0 / power, 0.0),
            Link::CompSum { power } => (1, power, 0.0, infinity, if power == 0.0 { 1.0 } else { infinity }),
            Link::Focal { gamma } => (2, gamma, 0.0, infinity, 1.0),
            Link::Poly { epsilon } => (3, epsilon, 0.0, infinity, 1.0),
            Link::Symmetric { a, b } => (4, a, b, if a == 0.0 { -b } else { infinity }, a),
            Link::Truncated { q, turn } => (5, q, turn, -(-q * turn).exp_m1() / q, 0.0),
        };
        [number, a.to_bits(), b.to_bits(), limit.to_bits(), slope.to_bits()]
    }
}

/// The options of a loss; checked by whoever makes them.
#[derive(Clone, Copy, Debug)]
pub struct LossOptions {
    /// What is made of v.
    pub link: Link,
    /// What the logits are divided by.
    pub temperature: f32,
    /// c of c tanh(z / c).
    pub softcap: Option<f32>,
    /// The share of a target that is spread over the classes.
    pub label_smoothing: f32,
    /// Whether that share goes to finite logits only.
    pub smooth_over_finite: bool,
    /// Factor of lse².
    pub lse_square_scale: f32,
    /// Factor of the entropy.
    pub entropy_weight: f32,
    /// Whether the sum over the other classes is used.
    pub complement: bool,
    /// Whether the gradient is wanted.
    pub gradient: bool,
}

impl LossOptions {
    /// The parameters of the shaders that use `shared/loss.wgsl`: of (rows, classes), of which the columns of `seen`,
    /// (first, how many), are there.
    pub(crate) fn words(
        self,
        [rows, classes]: [usize; 2],
        soft: bool,
        weighted: bool,
        factor_per_row: bool,
        [first, width]: [usize; 2],
    ) -> Vec<u32> {
        let flags = [
            soft,
            weighted,
            self.gradient,
            self.softcap.is_some(),
            self.smooth_over_finite,
            factor_per_row,
            !self.complement,
        ];
        let flags = (0..).zip(flags).map(|(bit, set)| u32::from(set) << bit).sum();
        let mut words = vec![rows as u32, classes as u32, flags];
        let real = [
            1.0 / self.temperature,
            self.softcap.unwrap_or(1.0),
            self.label_smoothing,
            self.lse_square_scale,
            self.entropy_weight,
        ];
        words.extend(real.map(f32::to_bits));
        words.extend(self.link.words());
        words.extend([first as u32, width as u32]);
        words
    }
}

/// What the rows should give.
#[derive(Clone, Copy, Debug)]
pub enum Targets<'a> {
    /// A class each, an integer of 32 bits, or [`IGNORED`].
    Classes(&'a Tensor),
    /// A mass for each class.
    Masses(&'a Tensor),
}

/// The numbers of each row, `(rows, NUMBERS)`, and the gradient if it is wanted. `factors` holds what the gradients of loss
/// and penalties are multiplied by, two for all rows or two a row; `weight` one factor a class.
///
/// # Errors
/// [`Error::Shape`] where tensors do not fit, and whatever the device says.
pub fn cross_entropy(
    device: &Device,
    logits: &Tensor,
    columns: usize,
    targets: Targets<'_>,
    weight: Option<&Tensor>,
    factors: &Tensor,
    options: LossOptions,
) -> Result<(Tensor, Option<Tensor>)> {
    let rows = checked_rows(logits, columns, targets, weight, factors)?;
    let format = logits.format();
    let numbers = device.empty(rows * NUMBERS, Format::F32)?;
    let gradient = options.gradient.then(|| device.empty(logits.len(), format)).transpose()?;
    let spare = device.empty(1, Format::F32)?;
    let spare_stored = device.empty(1, format)?;
    let per_row = factors.len() > 2;
    let variant = variant(format, columns, device.reduction());
    device.check_rounds("cross_entropy", 8 * columns.div_ceil(variant.constants[1].1 as usize))?;
    let soft = matches!(targets, Targets::Masses(_));
    let row_bytes = (columns * format.bytes()).max(NUMBERS * 4);
    for (start, count) in if rows == 0 { Vec::new() } else { parts(device, rows, row_bytes)? } {
        let of_rows = |tensor: &Tensor, width: usize| tensor.slice(start * width, count * width);
        let (classes, masses) = match targets {
            Targets::Classes(classes) => (of_rows(classes, 1), spare_stored.clone()),
            Targets::Masses(masses) => (spare.clone(), of_rows(masses, columns)),
        };
        let factors = if per_row { of_rows(factors, 2) } else { factors.clone() };
        let dx = gradient.as_ref().map_or_else(|| device.empty(1, format), |dx| Ok(of_rows(dx, columns)))?;
        let words = options.words([count, columns], soft, weight.is_some(), per_row, [0, columns]);
        let tensors = [
            &of_rows(logits, columns),
            &classes,
            &masses,
            weight.unwrap_or(&spare),
            &factors,
            &of_rows(&numbers, NUMBERS),
            &dx,
        ];
        let teams = u64::from(GROUP / variant.constants[1].1);
        device.call(&variant, &tensors, &words, (count as u64).div_ceil(teams))?;
    }
    Ok((numbers, gradient))
}

/// The losses of rows, `(rows)`, from their numbers, or with `sum` one number: that of their products with the factors.
///
/// # Errors
/// [`Error::OutOfMemory`] for a sum over more rows than the device can bind, and whatever it says.
pub fn losses(device: &Device, numbers: &Tensor, factors: &Tensor, sum: bool) -> Result<Tensor> {
    let rows = numbers.len() / NUMBERS;
    let answer = device.empty(if sum { 1 } else { rows }, Format::F32)?;
    let variant = losses_variant(device.reduction().0);
    if sum {
        device.call(
            &variant,
            &[numbers, factors, &answer],
            &[rows as u32, 1, u32::from(factors.len() > 2)],
            1,
        )?;
        return Ok(answer);
    }
    for (start, count) in if rows == 0 { Vec::new() } else { parts(device, rows, NUMBERS * 4)? } {
        let (numbers, part) = (numbers.slice(start * NUMBERS, count * NUMBERS), answer.slice(start, count));
        let groups = (count as u64).div_ceil(u64::from(GROUP));
        device.call(&variant, &[&numbers, factors, &part], &[count as u32, 0, 0], groups)?;
    }
    Ok(answer)
}

fn losses_variant(reduction: Reduction) -> Variant {
    Variant {
        shader: "losses",
        format: Format::F32,
        reduction,
        constants: vec![("GROUP", GROUP), ("WIDTH", GROUP)],
        workgroup_bytes: GROUP * 8,
        writes: vec![false, false, true],
    }
}

fn checked_rows(
    logits: &Tensor,
    columns: usize,
    targets: Targets<'_>,
    weight: Option<&Tensor>,
    factors: &Tensor,
) -> Result<usize> {
    let wrong = |what: &str, got: usize, expected: usize| {
        Err(Error::Shape(format!("cross_entropy: {what} has {got} numbers; use {expected}")))
    };
    if columns == 0 || columns >= MOST_COLUMNS {
        return wrong("a row of logits", columns, MOST_COLUMNS - 1);
    }
    let rows = logits.len() / columns;
    if rows * columns != logits.len() {
        return wrong("logits", logits.len(), rows * columns);
    }
    match targets {
        Targets::Classes(classes) if classes.len() != rows => return wrong("targets", classes.len(), rows),
        Targets::Masses(masses) if masses.len() != logits.len() || masses.format() != logits.format() => {
            return wrong("targets", masses.len(), logits.len());
        }
        _ => {}
    }
    match weight {
        Some(weight) if weight.len() != columns => wrong("weight", weight.len(), columns),
        _ if factors.len() != 2 && factors.len() != 2 * rows => wrong("factors", factors.len(), 2 * rows),
        _ => Ok(rows),
    }
}

fn variant(format: Format, columns: usize, reduction: (Reduction, bool)) -> Variant {
    let (reduction, width, keep) = team_of(columns, reduction);
    Variant {
        shader: "cross_entropy",
        format,
        reduction,
        constants: vec![("GROUP", GROUP), ("WIDTH", width), ("KEEP", keep)],
        workgroup_bytes: GROUP * 8,
        writes: vec![false, false, false, false, false, true, true],
    }
}

/// Every variant that may be asked for.
pub(crate) fn variants(format: Format) -> Vec<Variant> {
    let mut all = vec![losses_variant(Reduction::Tree), losses_variant(Reduction::Subgroup)];
    for columns in [1, 65, 513, 4097] {
        for reduction in [Reduction::Tree, Reduction::Subgroup] {
            all.push(variant(format, columns, (reduction, true)));
        }
    }
    all
}
