//! The hyperbolic tangent against the standard library's in `f64`, on every instruction set.

use logitscope_simd::{Element, Kernel, Simd, math};
use logitscope_testing::{Random, assert_within_ulps, each_isa, same_bits};

/// The stated bound of `math::tanh`.
const BOUND: f64 = 3.0;

struct Tanh<'a, T> {
    x: &'a [T],
    slope: bool,
}

impl<T: Element> Kernel<T> for Tanh<'_, T> {
    type Output = Vec<T>;

    #[inline(always)]
    fn run<S: Simd<T>>(self, simd: S) -> Vec<T> {
        let (blocks, tail) = T::blocks(self.x);
        assert!(tail.is_empty(), "whole blocks only");
        let mut out = Vec::with_capacity(self.x.len());
        for block in blocks {
            let x = simd.load(block);
            let y = if self.slope { math::tanh_slope(simd, x) } else { math::tanh(simd, x) };
            out.extend_from_slice(simd.to_block(y).as_ref());
        }
        out
    }
}

fn check<T: Element>(extra_bound: f64) {
    let mut random = Random::new(1);
    let mut x: Vec<T> = (0..40_000).map(|_| T::from_f64(random.normal(0.0, 3.0))).collect();
    x.extend((0..40_000).map(|_| T::from_f64(random.normal(0.0, 0.3))));
    x.extend((0..4000).map(|i| T::from_f64(10.0_f64.powf(f64::from(i) / 200.0 - 19.0))));
    x.extend([0.0, -0.0, 19.0, -19.9, 20.1, 1e30, -1e30, f64::INFINITY].map(T::from_f64));
    x.extend([f64::NEG_INFINITY, f64::NAN, 1.0, -1.0, 0.5, -0.5, 9.0, -9.0].map(T::from_f64));
    let wanted: Vec<f64> = x.iter().map(|x| x.to_f64().tanh()).collect();
    // sech², which no subtraction spoils.
    let slopes: Vec<f64> = x
        .iter()
        .map(|x| {
            let u = (-2.0 * x.to_f64().abs().min(20.0)).exp();
            if x.is_nan() { f64::NAN } else { 4.0 * u / ((1.0 + u) * (1.0 + u)) }
        })
        .collect();
    let mut first = Vec::new();
    each_isa(|isa| {
        let name = format!("{} on {}", T::NAME, isa.name());
        let got = T::dispatch(Tanh { x: &x, slope: false });
        assert_within_ulps(&got, &wanted, BOUND + extra_bound, 0.0, &format!("tanh {name}"));
        let slope = T::dispatch(Tanh { x: &x, slope: true });
        assert_within_ulps(&slope, &slopes, 6.0, 0.0, &format!("slope of tanh {name}"));
        let negative = T::dispatch(Tanh { x: &x.iter().map(|&x| -x).collect::<Vec<_>>(), slope: false });
        assert!(got.iter().zip(&negative).all(|(a, b)| *a == -*b || a.is_nan()), "{name}: not odd");
        assert!(got.iter().all(|y| y.abs() <= T::ONE || y.is_nan()), "{name}: beyond 1");
        if first.is_empty() {
            first.clone_from(&got);
        }
        assert!(same_bits(&got, &first), "{name}: other bits than scalar code");
    });
}

#[test]
fn tanh_of_f32_is_within_its_bound() {
    check::<f32>(0.0);
}

#[test]
fn tanh_of_f64_is_within_its_bound_and_the_oracles() {
    // The standard library's own result is within 1 unit of the truth.
    check::<f64>(1.0);
}
