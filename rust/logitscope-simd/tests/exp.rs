//! The exponentials against the standard library's in `f64`, on every instruction set.

use logitscope_simd::math::{self, ExpBelow, ShortExp};
use logitscope_simd::{BF16, Element, Kernel, Simd, Stored};
use logitscope_testing::{Random, assert_within_ulps, each_isa, same_bits, ulps};

/// The stated bound of `math::exp`.
const BOUND: f64 = 0.91;

struct Exp<'a, T>(&'a mut [T]);

impl<T: Element> Kernel<T> for Exp<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<T>>(self, simd: S) {
        let (blocks, tail) = T::blocks_mut(self.0);
        assert!(tail.is_empty(), "whole blocks only");
        for block in blocks {
            let result = math::exp(simd, simd.load(block));
            simd.store(result, block);
        }
    }
}

/// What `exp` is to return: 0 where the true value is below the normal numbers.
fn true_exp<T: Element>(x: T) -> f64 {
    let y = x.to_f64().exp();
    if y < T::MIN_POSITIVE.to_f64() { 0.0 } else { y }
}

/// What was seen of `exp` at many arguments.
#[derive(Default)]
struct Seen {
    arguments: u64,
    /// Results other than the float that is nearest to the true value.
    not_nearest: u64,
    /// The largest error in units in the last place, where it was and what came.
    worst: (f64, f32, f32),
}

/// Checks `exp` at the arguments with these bit patterns, in blocks: every instruction set gives the same bits, and
/// they are those of the float nearest to the true value or of one beside it.
fn check_bits(patterns: impl Iterator<Item = u32>) -> Seen {
    let mut seen = Seen::default();
    let mut patterns = patterns.map(f32::from_bits).peekable();
    while patterns.peek().is_some() {
        let mut arguments: Vec<f32> = patterns.by_ref().take(1 << 14).collect();
        arguments.resize(arguments.len().next_multiple_of(16), 0.0);
        let mut results: Vec<f32> = Vec::new();
        each_isa(|isa| {
            let mut own = arguments.clone();
            f32::dispatch(Exp(&mut own));
            if results.is_empty() {
                results.clone_from(&own);
            }
            assert!(same_bits(&own, &results), "other bits on {} from {:e}", isa.name(), arguments[0]);
        });
        for (&x, &y) in arguments.iter().zip(&results) {
            let truth = true_exp(x);
            let nearest = truth as f32;
            let steps = y.to_bits().abs_diff(nearest.to_bits());
            assert!(steps <= 1 || y.is_nan() && nearest.is_nan(), "exp({x:e}) is {y:e}, not {nearest:e}");
            seen.arguments += 1;
            seen.not_nearest += u64::from(steps == 1);
            let error = ulps(y, truth);
            if error > seen.worst.0 {
                seen.worst = (error, x, y);
            }
        }
    }
    let (error, x, y) = seen.worst;
    assert!(error <= BOUND, "exp({x:e}) is {y:e}, {error} units off");
    seen
}

#[test]
fn exp_of_f32_is_within_its_bound_at_every_seven_thousandth_number() {
    check_bits((0..=u32::MAX).step_by(7001));
}

/// `cargo test --release -p logitscope-simd --test exp -- --ignored --nocapture` prints what was seen.
#[test]
#[ignore = "all 2^32 arguments on every instruction set take minutes"]
fn exp_of_f32_is_within_its_bound_at_every_number() {
    let Seen { arguments, not_nearest, worst: (error, x, y) } = check_bits(0..=u32::MAX);
    let share = 100.0 * not_nearest as f64 / arguments as f64;
    println!("{arguments} arguments, the same bits on every instruction set of this CPU");
    println!("largest error: {error:.4} units in the last place, exp({x:e}) = {y:e}");
    println!("{share:.2} % are not the nearest float but one beside it, none is farther");
}

#[test]
fn exp_of_f32_is_within_its_bound_around_its_thresholds() {
    let constants = &<f32 as Element>::EXP;
    for threshold in [constants.underflow, constants.overflow, 0.0, -0.0, std::f32::consts::LN_2 / 2.0] {
        let bits = threshold.to_bits();
        check_bits(bits.saturating_sub(4096)..bits.saturating_add(4096));
    }
}

#[test]
fn exp_of_f64_is_within_two_units() {
    // The standard library's own result is within 1 unit of the truth.
    let mut random = Random::new(1);
    let mut arguments: Vec<f64> = (0..80_000).map(|_| random.uniform(-708.3, 709.7)).collect();
    arguments.extend((0..80_000).map(|_| random.normal(0.0, 1.0)));
    arguments.extend([f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.0, -0.0, 1e300, -1e300, -709.0]);
    let want: Vec<f64> = arguments.iter().map(|&x| true_exp(x)).collect();
    each_isa(|isa| {
        let mut got = arguments.clone();
        f64::dispatch(Exp(&mut got));
        assert_within_ulps(&got, &want, 2.0, 0.0, &format!("exp f64 on {}", isa.name()));
    });
}

struct Below<'a, T> {
    x: &'a [T],
    max: T,
    scale: T,
}

impl<T: Element> Kernel<T> for Below<'_, T> {
    type Output = Vec<T>;

    #[inline(always)]
    fn run<S: Simd<T>>(self, simd: S) -> Vec<T> {
        let exp = ExpBelow::new(simd, self.max, self.scale);
        let blocks = T::blocks(self.x).0.iter();
        blocks.flat_map(|block| simd.to_block(exp.eval(simd, simd.load(block))).as_ref().to_vec()).collect()
    }
}

fn check_below<T: Element>(max: f64, scale: f64, reach: f64, bound: f64) {
    let (max, scale) = (T::from_f64(max), T::from_f64(scale));
    let mut random = Random::new(7);
    let mut x: Vec<T> =
        (0..4096).map(|_| max - T::from_f64(random.uniform(0.0, reach / scale.to_f64()))).collect();
    x[5] = max;
    x[9] = T::NEG_INFINITY;
    let smallest = T::MIN_POSITIVE.to_f64() * std::f64::consts::SQRT_2;
    let want: Vec<f64> = x.iter().map(|x| ((x.to_f64() - max.to_f64()) * scale.to_f64()).exp()).collect();
    let mut first = Vec::new();
    each_isa(|isa| {
        let got = T::dispatch(Below { x: &x, max, scale });
        let name = format!("{} on {}, max {max}, scale {scale}", T::NAME, isa.name());
        assert_eq!(got[5], T::ONE, "{name}: the maximum");
        assert_eq!(got[9], T::ZERO, "{name}: negative infinity");
        assert!(got.iter().all(|&y| y == T::ZERO || y >= T::MIN_POSITIVE), "{name}: a denormal");
        assert_within_ulps(&got, &want, bound, 2.0 * smallest, &name);
        if first.is_empty() {
            first.clone_from(&got);
        }
        assert!(same_bits(&got, &first), "{name}: other bits than scalar code");
    });
}

#[test]
fn differences_from_a_maximum_are_not_rounded() {
    for max in [0.0, 0.1, -0.1, 3.7, 55.3, -700.6, 4095.97, -16_383.9] {
        check_below::<f32>(max, 1.0, 90.0, 1.5);
    }
    // Farther from 0 the differences are exact.
    for max in [16_385.3, 1e6, -1e6, 3e38, -3e38] {
        check_below::<f32>(max, 1.0, 90.0, 1.5);
    }
    for (max, scale) in [(7.7, 0.3), (-1234.5, 0.01), (1e-3, 1e4), (1e9, 1e-7), (-5e30, 2.0)] {
        check_below::<f32>(max, scale, 90.0, 1.6);
    }
}

struct Short<'a> {
    x: &'a [f32],
    max: f32,
    scale: f32,
    shift: f64,
}

impl Kernel<f32> for Short<'_> {
    type Output = Vec<f32>;

    #[inline(always)]
    fn run<S: Simd<f32>>(self, simd: S) -> Vec<f32> {
        let exp = ShortExp::new(simd, self.max, self.scale, self.shift).unwrap();
        let blocks = f32::blocks(self.x).0.iter();
        blocks.flat_map(|block| simd.to_block(exp.eval(simd, simd.load(block)))).collect()
    }
}

#[test]
fn results_of_16_bits_are_exact_to_a_fraction_of_their_last_place() {
    // Every bfloat16 from -1000 to 1000, and -inf and NaN.
    let all = (0..=u16::MAX).map(|bits| BF16(bits).widen());
    let mut x: Vec<f32> = all.filter(|x| x.abs() <= 1000.0).collect();
    x.extend([f32::NEG_INFINITY, f32::NAN]);
    x.resize(x.len().next_multiple_of(16), 0.0);
    for (max, scale, shift) in [(1000.0, 1.0, 0.3), (1000.0, 0.1, 3.3), (1000.0, 2.5, 20.7)] {
        let mut first = Vec::new();
        each_isa(|isa| {
            let got = f32::dispatch(Short { x: &x, max, scale, shift });
            for (&x, &got) in x.iter().zip(&got) {
                let distance = (f64::from(x) - f64::from(max)) * f64::from(scale);
                let want = (distance - shift * std::f64::consts::LN_2).exp();
                let name = || format!("e^{distance} / 2^{shift} on {}: {got:e}, not {want:e}", isa.name());
                if want < f64::from(f32::MIN_POSITIVE) * std::f64::consts::SQRT_2 * 1.001 {
                    assert!(got == 0.0 || f64::from(got) >= want * 0.999, "{}", name());
                } else {
                    // A float16 of 2^-24 is the least; bfloat16 has eight digits.
                    let limit = if want > 2.0_f64.powi(-25) { 2.2e-6 } else { 9e-6 };
                    assert!((f64::from(got) / want - 1.0).abs() <= limit || x.is_nan(), "{}", name());
                }
                assert_eq!(x.is_nan(), got.is_nan());
            }
            if first.is_empty() {
                first.clone_from(&got);
            }
            assert!(same_bits(&got, &first), "other bits than scalar code on {}", isa.name());
        });
    }
    for max in [f32::INFINITY, f32::NAN, 1e5] {
        struct IsThere(f32);
        impl Kernel<f32> for IsThere {
            type Output = bool;

            fn run<S: Simd<f32>>(self, simd: S) -> bool {
                ShortExp::new(simd, self.0, 1.0, 0.0).is_some()
            }
        }
        assert!(!f32::dispatch(IsThere(max)), "{max}");
    }
}

#[test]
fn differences_from_a_maximum_are_exponentiated_in_f64() {
    // Few bits everywhere: the oracle's difference and product are exact.
    for (max, scale) in
        [(0.0, 1.0), (-55.25, 1.0), (1e7, 1.0), (3.0, 0.125), (0.015_625, 512.0), (-16_384.0, 1.0)]
    {
        check_below::<f64>(max, scale, 700.0, 2.5);
    }
}

#[test]
fn what_is_not_finite_shows() {
    each_isa(|_| {
        let row = |max: f32, x: f32| f32::dispatch(Below { x: &[x; 16], max, scale: 1.0 })[0];
        assert!(row(f32::INFINITY, f32::INFINITY).is_nan());
        assert_eq!(row(f32::INFINITY, 1.0), 0.0);
        assert!(row(f32::NEG_INFINITY, f32::NEG_INFINITY).is_nan());
        assert!(row(3.0, f32::NAN).is_nan());
        assert!(row(1e9, f32::NAN).is_nan());
        assert!(row(f32::NAN, 1.0).is_nan());
    });
}
