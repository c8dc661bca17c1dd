//! What one thread can do at most: the probes that benches hold their results against.
//!
//! Each probe goes over whole vectors of its arrays, `rounds` times: elements and bytes a second follow from the time
//! that takes. Arrays that fit a cache give its speed, larger ones that of the memory.

use crate::error::{Error, Result};
use crate::rows;
use logitscope_simd::math::ExpBelow;
use logitscope_simd::{Element, Kernel, Simd, TileProduct};

/// What a probe does with each element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    /// Reads x.
    Read,
    /// Writes y, past the caches.
    Write,
    /// Copies x to y through the caches.
    Copy,
    /// Copies x to y past the caches, which saves reading what is overwritten.
    StreamingCopy,
    /// Takes the exponential of x; nothing is written.
    Exp,
    /// Multiplies and adds in registers; as many times as x has elements.
    MultiplyAdd,
    /// The same of bfloat16 by the best there is for it: tiles, pairs, or what there is for other numbers.
    MultiplyAddBf16,
}

impl Probe {
    /// The probes and the names that Python knows them by.
    pub const NAMED: [(&'static str, Probe); 7] = [
        ("read", Probe::Read),
        ("write", Probe::Write),
        ("copy", Probe::Copy),
        ("streaming_copy", Probe::StreamingCopy),
        ("exp", Probe::Exp),
        ("multiply_add", Probe::MultiplyAdd),
        ("multiply_add_bf16", Probe::MultiplyAddBf16),
    ];
}

/// Runs a probe on the calling thread. What it returns only keeps the compiler from leaving work out.
///
/// # Errors
/// [`Error::Shape`] if the arrays differ in length or are no whole vectors.
pub fn probe<T: Element>(probe: Probe, x: &[T], y: &mut [T], rounds: usize) -> Result<T> {
    rows::check_len("roofline", "y", y.len(), x.len())?;
    if !x.len().is_multiple_of(T::LANES) {
        return Err(Error::Shape {
            operation: "roofline",
            argument: "x",
            got: format!("of {} elements", x.len()),
            expected: format!("a multiple of {}", T::LANES),
        });
    }
    if probe == Probe::MultiplyAddBf16 {
        return Ok(T::dispatch_tiles(Products { count: x.len() * rounds }));
    }
    let mut total = T::ZERO;
    for _ in 0..rounds {
        total += T::dispatch(Round { probe, x, y });
    }
    Ok(total)
}

struct Round<'a, T> {
    probe: Probe,
    x: &'a [T],
    y: &'a mut [T],
}

impl<T: Element> Kernel<T> for Round<'_, T> {
    type Output = T;

    #[inline(always)]
    fn run<S: Simd<T>>(self, simd: S) -> T {
        let Round { probe, x, y } = self;
        match probe {
            Probe::Read => read(simd, x),
            Probe::Write => write(simd, y),
            Probe::Copy => copy(simd, x, y),
            Probe::StreamingCopy => streaming_copy(simd, x, y),
            Probe::Exp => exp(simd, x),
            Probe::MultiplyAdd | Probe::MultiplyAddBf16 => multiply_add_at_best(simd, x.len()),
        }
    }
}

/// So many products of bfloat16, or a few more.
struct Products {
    count: usize,
}

impl<T: Element> Kernel<T> for Products {
    type Output = T;

    #[inline(always)]
    fn run<S: Simd<T>>(self, simd: S) -> T {
        if S::HAS_TILES {
            multiply_tiles(simd, self.count)
        } else if S::HAS_PAIRS {
            multiply_add::<T, S, 16, true>(simd, self.count / 2)
        } else {
            multiply_add_at_best(simd, self.count)
        }
    }
}

/// Four tiles of sums and a depth of eight: long enough that to store the sums is little beside it, and what is read
/// fits the first-level cache.
#[inline(always)]
fn multiply_tiles<T: Element, S: Simd<T>>(simd: S, count: usize) -> T {
    const DEPTH: usize = 8;
    let (rows, depth) = (2 * T::LANES, DEPTH * T::LANES);
    let (a, b) = (vec![T::ZERO; rows * depth], vec![T::block(T::ZERO); depth * 2]);
    let mut c = vec![T::block(T::ONE); rows * 2];
    for _ in 0..count.div_ceil(rows * rows * 2 * depth) {
        simd.multiply_tiles(TileProduct {
            a: &a,
            a_stride: depth,
            b: &b,
            b_width: 2,
            c: &mut c,
            c_width: 2,
            row_tiles: 2,
            column_tiles: 2,
            depth: DEPTH,
            adds: true,
        });
    }
    c[0].as_ref()[0]
}

#[inline(always)]
fn read<T: Element, S: Simd<T>>(simd: S, x: &[T]) -> T {
    // Eight sums, since each waits for its own previous one only.
    let mut sums = [simd.splat(T::ZERO); 8];
    let (eights, rest) = T::blocks(x).0.as_chunks::<8>();
    for eight in eights {
        for (sum, block) in sums.iter_mut().zip(eight) {
            *sum = simd.add(*sum, simd.load(block));
        }
    }
    for (sum, block) in sums.iter_mut().zip(rest) {
        *sum = simd.add(*sum, simd.load(block));
    }
    total(simd, &sums)
}

/// How many elements lie before the first whole block at an address that suits streaming.
fn before_streaming<T: Element>(y: &[T]) -> usize {
    y.as_ptr().align_offset(size_of::<T::Block>()).min(y.len())
}

#[inline(always)]
fn write<T: Element, S: Simd<T>>(simd: S, y: &mut [T]) -> T {
    let one = simd.splat(T::ONE);
    let ahead = before_streaming(y);
    for block in T::blocks_mut(&mut y[ahead..]).0 {
        simd.store_stream(one, block);
    }
    simd.fence();
    T::ONE
}

#[inline(always)]
fn copy<T: Element, S: Simd<T>>(simd: S, x: &[T], y: &mut [T]) -> T {
    for (x, y) in T::blocks(x).0.iter().zip(T::blocks_mut(y).0) {
        simd.store(simd.load(x), y);
    }
    T::ONE
}

#[inline(always)]
fn streaming_copy<T: Element, S: Simd<T>>(simd: S, x: &[T], y: &mut [T]) -> T {
    let ahead = before_streaming(y);
    for (x, y) in T::blocks(&x[ahead..]).0.iter().zip(T::blocks_mut(&mut y[ahead..]).0) {
        simd.store_stream(simd.load(x), y);
    }
    simd.fence();
    T::ONE
}

#[inline(always)]
fn exp<T: Element, S: Simd<T>>(simd: S, x: &[T]) -> T {
    let exp = ExpBelow::new(simd, T::ZERO, T::ONE);
    let mut sums = [simd.splat(T::ZERO); 4];
    let (fours, rest) = T::blocks(x).0.as_chunks::<4>();
    for four in fours {
        for (sum, block) in sums.iter_mut().zip(four) {
            *sum = simd.add(*sum, exp.eval(simd, simd.load(block)));
        }
    }
    for (sum, block) in sums.iter_mut().zip(rest) {
        *sum = simd.add(*sum, exp.eval(simd, simd.load(block)));
    }
    total(simd, &sums)
}

#[inline(always)]
fn multiply_add_at_best<T: Element, S: Simd<T>>(simd: S, elements: usize) -> T {
    if S::REGISTERS >= 32 {
        multiply_add::<T, S, 16, false>(simd, elements)
    } else {
        multiply_add::<T, S, 6, false>(simd, elements)
    }
}

/// N chains, enough to hide how long one operation takes; of pairs where wanted, whose numbers do not matter.
#[inline(always)]
fn multiply_add<T: Element, S: Simd<T>, const N: usize, const PAIRED: bool>(simd: S, elements: usize) -> T {
    let (factor, summand) = (simd.splat(T::from_f64(0.5)), simd.splat(T::from_f64(0.25)));
    let mut sums = [simd.splat(T::ONE); N];
    let vectors = elements / T::LANES;
    for _ in 0..vectors.div_ceil(N) {
        for sum in &mut sums {
            *sum = if PAIRED {
                simd.add_pairs(factor, summand, *sum)
            } else {
                simd.mul_add(*sum, factor, summand)
            };
        }
    }
    total(simd, &sums)
}

#[inline(always)]
fn total<T: Element, S: Simd<T>>(simd: S, sums: &[S::Vector]) -> T {
    let mut all = simd.splat(T::ZERO);
    for &sum in sums {
        all = simd.add(all, sum);
    }
    simd.sum(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use logitscope_testing::{at_best, each_isa, with_tiles};

    fn each_probe<T: Element>() {
        let x: Vec<T> = (0..48 * T::LANES).map(|i| T::from_f64(-((i % 7) as f64))).collect();
        each_isa(|isa| {
            for (name, which) in Probe::NAMED {
                let mut y = vec![T::NAN; x.len()];
                let answer = probe(which, &x, &mut y, 2).unwrap();
                assert!(answer.is_finite(), "{name} on {}", isa.name());
                let sum = |values: &mut dyn Iterator<Item = f64>| 2.0 * values.sum::<f64>();
                match which {
                    Probe::Read => assert_eq!(answer.to_f64(), sum(&mut x.iter().map(|x| x.to_f64()))),
                    Probe::Copy => assert!(y == x),
                    Probe::StreamingCopy => assert!(y.iter().zip(&x).all(|(y, x)| y == x || y.is_nan())),
                    Probe::Write => assert!(y.iter().all(|&y| y == T::ONE || y.is_nan())),
                    Probe::Exp => {
                        let truth = sum(&mut x.iter().map(|x| x.to_f64().exp()));
                        assert!((answer.to_f64() / truth - 1.0).abs() < 1e-6, "{answer} for {truth}");
                    }
                    Probe::MultiplyAdd | Probe::MultiplyAddBf16 => assert!(answer > T::ZERO),
                }
                let written = y.iter().filter(|y| !y.is_nan()).count();
                let all = matches!(which, Probe::Write | Probe::Copy | Probe::StreamingCopy);
                let least = if all { y.len() - T::LANES } else { 0 };
                assert!(written >= least && (all || written == 0), "{name} wrote {written}");
            }
        });
    }

    #[test]
    fn probes_do_what_they_are_named_for() {
        each_probe::<f32>();
        each_probe::<f64>();
    }

    #[test]
    fn products_of_bfloat16_are_made_in_pairs_and_in_tiles() {
        let x = vec![1.0_f32; 1 << 16];
        let check = || {
            let sum = probe(Probe::MultiplyAddBf16, &x, &mut x.clone(), 8).unwrap();
            assert!(sum > 0.0 && sum.is_finite(), "{sum}");
        };
        at_best(check);
        with_tiles(check);
    }

    #[test]
    fn arrays_that_are_no_whole_vectors_are_refused() {
        let error = probe(Probe::Read, &[0.0_f32; 17], &mut [0.0; 17], 1).unwrap_err();
        assert_eq!(error.to_string(), "roofline: x has shape of 17 elements; use a multiple of 16");
        assert!(probe(Probe::Read, &[0.0_f32; 16], &mut [0.0; 32], 1).is_err());
    }
}
