//! Softmax, log-softmax, logsumexp and cross entropy of any floats, shapes, strides and alignments, on any instruction
//! set, against the oracles in `f64`. The address sanitizer watches what the vectors touch.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use logitscope_kernels::cross_entropy::{
    Gradient, Options as LossOptions, Output, Problem, Reduction, Statistics, Targets, cross_entropy,
};
use logitscope_kernels::log_softmax::log_softmax;
use logitscope_kernels::logsumexp::logsumexp;
use logitscope_kernels::softmax::{Algorithm, Options, softmax};
use logitscope_kernels::{Cancel, Empty, Heads};
use logitscope_simd::{Element, Isa};
use logitscope_testing as testing;

/// What the fuzzer chooses; counts are taken modulo what makes sense.
#[derive(Arbitrary, Debug)]
struct Input {
    isa: u8,
    double: bool,
    algorithm: u8,
    zero_if_empty: bool,
    temperature: u8,
    columns: u16,
    rows: u8,
    /// Elements before the first row, and between rows beyond their own.
    offset: u8,
    gap: u8,
    target: u16,
    /// Elements by which an output is too long.
    excess: u8,
    values: Vec<f32>,
}

fuzz_target!(|input: Input| {
    let available = Isa::available();
    let isa = available[usize::from(input.isa) % available.len()];
    Isa::select(isa.name()).expect("an available instruction set can be selected");
    if input.double { check::<f64>(&input) } else { check::<f32>(&input) }
});

/// The arrays of one run.
struct Arrays<T> {
    /// Rows with gaps between them, at any alignment.
    strided: Vec<T>,
    offset: usize,
    stride: usize,
    rows: usize,
    columns: usize,
}

impl<T: Element> Arrays<T> {
    fn new(input: &Input) -> Self {
        let (rows, columns) = (1 + usize::from(input.rows % 4), 1 + usize::from(input.columns % 300));
        let (offset, stride) = (usize::from(input.offset % 32), columns + usize::from(input.gap % 32));
        let values = if input.values.is_empty() { &[0.0][..] } else { &input.values };
        let cycle = values.iter().cycle();
        let strided = cycle.take(offset + rows * stride).map(|&x| T::from_f64(f64::from(x))).collect();
        Self { strided, offset, stride, rows, columns }
    }

    fn row(&self, index: usize) -> &[T] {
        let start = self.offset + index * self.stride;
        &self.strided[start..start + self.columns]
    }

    /// The rows without gaps.
    fn contiguous(&self) -> Vec<T> {
        (0..self.rows).flat_map(|index| self.row(index)).copied().collect()
    }
}

fn check<T: Element>(input: &Input) {
    let arrays = Arrays::<T>::new(input);
    check_softmax(input, &arrays);
    check_logsumexp(&arrays);
    check_cross_entropy(input, &arrays);
}

/// How far results may lie from the truth, relatively.
fn tolerance<T: Element>() -> f64 {
    if T::LANES == 16 { 2e-5 } else { 1e-11 }
}

/// Whether a result is the truth; `slack` is what flushing small numbers to 0 may change.
fn is_near<T: Element>(got: T, want: f64, slack: f64) -> bool {
    let nearest = T::from_f64(want);
    if want.is_nan() {
        return got.is_nan();
    }
    if !nearest.is_finite() {
        return got == nearest;
    }
    (got.to_f64() - want).abs() <= tolerance::<T>() * want.abs() + slack
}

/// What 300 numbers that were flushed to 0 may add up to.
fn flushed<T: Element>() -> f64 {
    600.0 * T::MIN_POSITIVE.to_f64()
}

fn check_softmax<T: Element>(input: &Input, arrays: &Arrays<T>) {
    let (_, algorithm) = Algorithm::NAMED[usize::from(input.algorithm) % Algorithm::NAMED.len()];
    let temperature = [1.0, 0.25, 3.0, 1e-3][usize::from(input.temperature % 4)];
    let empty = if input.zero_if_empty { Empty::Zero } else { Empty::Nan };
    let (x, columns, cancel) = (arrays.contiguous(), arrays.columns, Cancel::default());
    let options = Options { temperature, algorithm, empty };
    let mut y = vec![T::ZERO; x.len()];
    softmax(&x, columns, options, &mut y, &cancel).expect("the arrays fit");
    let mut log_y = vec![T::ZERO; x.len()];
    log_softmax(&x, columns, temperature, &mut log_y, &cancel).expect("the arrays fit");

    let scale = T::from_f64(1.0 / temperature).to_f64();
    for (index, (y, log_y)) in y.chunks(columns).zip(log_y.chunks(columns)).enumerate() {
        let row: Vec<f64> = arrays.row(index).iter().map(|x| x.to_f64()).collect();
        let max = row.iter().fold(f64::NEG_INFINITY, |m, &x| if x > m || x.is_nan() { x } else { m });
        let below: Vec<f64> = row.iter().map(|x| (x - max) * scale).collect();
        let zeros = max == f64::NEG_INFINITY && empty == Empty::Zero;
        let want = if zeros { vec![0.0; columns] } else { testing::softmax(&below) };
        let lse = testing::log_sum_exp(&below);
        // Of the largest: there the difference from the rounded logarithm would be all error.
        let first = below.iter().position(|&below| below == 0.0);
        let log_largest = first.map_or(f64::NAN, |first| -testing::cross_entropy(&below, first).0);
        for (((&got, &log_got), &want), &below) in y.iter().zip(log_y).zip(&want).zip(&below) {
            assert!(is_near(got, want, flushed::<T>()), "{algorithm:?}: {got}, not {want}");
            assert!(got == T::ZERO || !(got < T::MIN_POSITIVE), "{algorithm:?}: {got} is a denormal");
            let log_want = match max.is_finite() {
                true if below == 0.0 => log_largest,
                // The distance is formed before it is divided by the temperature.
                true if !T::from_f64(below / scale).is_finite() => f64::NEG_INFINITY,
                true => below - lse,
                false => f64::NAN,
            };
            assert!(is_near(log_got, log_want, flushed::<T>()), "log_softmax: {log_got}, not {log_want}");
        }
    }
    let excess = usize::from(input.excess);
    if excess > 0 {
        y.resize(x.len() + excess, T::ZERO);
        assert!(softmax(&x, columns, options, &mut y, &cancel).is_err());
    }
}

fn check_logsumexp<T: Element>(arrays: &Arrays<T>) {
    let mut lse = vec![T::ZERO; arrays.rows];
    let x = arrays.contiguous();
    logsumexp(&x, arrays.columns, &mut lse, &Cancel::default()).expect("the arrays fit");
    for (index, &got) in lse.iter().enumerate() {
        let row: Vec<f64> = arrays.row(index).iter().map(|x| x.to_f64()).collect();
        let want = testing::log_sum_exp(&row);
        // Where the maximum and the logarithm cancel, what remains has the error of either.
        assert!(is_near(got, want, tolerance::<T>()), "logsumexp: {got}, not {want}");
    }
}

fn check_cross_entropy<T: Element>(input: &Input, arrays: &Arrays<T>) {
    let Arrays { rows, columns, .. } = *arrays;
    let targets: Vec<i64> =
        (0..rows).map(|row| ((usize::from(input.target) + 7 * row) % columns) as i64).collect();
    let problem = Problem {
        logits: Heads::new(&arrays.strided[arrays.offset..], [1, 1, rows, columns], [0, 0, arrays.stride]),
        targets: Targets::Classes { of_rows: &targets, ignore_index: -100 },
        weight: None,
        options: LossOptions { reduction: Reduction::None, ..LossOptions::default() },
    };
    let (mut losses, mut gradient) = (vec![T::ZERO; rows], vec![T::ZERO; rows * columns]);
    let output = Output {
        losses: &mut losses,
        gradient: Some(Gradient { logits: &mut gradient, upstream: None }),
        statistics: Statistics::default(),
    };
    cross_entropy(&problem, output, &Cancel::default()).expect("the arrays fit");
    for (index, (&loss, gradient)) in losses.iter().zip(gradient.chunks(columns)).enumerate() {
        let row: Vec<f64> = arrays.row(index).iter().map(|x| x.to_f64()).collect();
        let own = row[targets[index] as usize];
        let spoilt = row.iter().any(|x| x.is_nan() || *x == f64::INFINITY);
        if spoilt || row.iter().all(|x| *x == f64::NEG_INFINITY) {
            assert!(loss.is_nan() && gradient.iter().all(|g| g.is_nan()), "cross_entropy: {loss}, not NaN");
            continue;
        }
        let (want, slopes) = testing::cross_entropy(&row, targets[index] as usize);
        let want = if own == f64::NEG_INFINITY { f64::INFINITY } else { want };
        assert!(is_near(loss, want, flushed::<T>()), "cross_entropy: {loss}, not {want}");
        for (&got, &want) in gradient.iter().zip(&slopes) {
            assert!(is_near(got, want, flushed::<T>()), "the gradient of cross_entropy: {got}, not {want}");
        }
    }
}
