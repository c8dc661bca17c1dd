//! The exponential as a pair against `f64`, on every instruction set.

use logitscope_simd::ext_exp::ExtExp;
use logitscope_simd::{Element, Kernel, Simd};
use logitscope_testing::each_isa;

/// The pairs of a list.
struct Pairs<'a, T> {
    x: &'a [T],
    scale: T,
}

impl<T: Element> Kernel<T> for Pairs<'_, T> {
    type Output = Vec<(T, T)>;

    #[inline(always)]
    fn run<S: Simd<T>>(self, simd: S) -> Self::Output {
        let exp = ExtExp::new(simd, self.scale);
        let mut pairs = Vec::new();
        for part in self.x.chunks(T::LANES) {
            let x = simd.load_partial(part, T::ZERO);
            let (m, n) = if self.scale == T::ONE {
                exp.eval::<T, S, false>(simd, x)
            } else {
                exp.eval::<T, S, true>(simd, x)
            };
            let (m, n) = (simd.to_block(m), simd.to_block(n));
            for lane in 0..part.len() {
                pairs.push((m.as_ref()[lane], n.as_ref()[lane]));
            }
        }
        pairs
    }
}

/// The largest relative error of m 2^n over multiples of `step` up to `limit`.
fn worst<T: Element>(limit: f64, scale: f64) -> f64 {
    let x: Vec<T> = (-20_000..=20_000).map(|i| T::from_f64(limit * f64::from(i) / 20_000.0)).collect();
    let pairs = T::dispatch(Pairs { x: &x, scale: T::from_f64(scale) });
    let error = |(x, &(m, n)): (&T, &(T, T))| {
        assert!(n.to_f64() == n.to_f64().round() && (0.69..1.45).contains(&m.to_f64()), "{x}: {m}, {n}");
        // x scale - n ln 2 with the low bits of ln 2, so that f64 is exact enough.
        let (scale, n) = (T::from_f64(scale).to_f64(), n.to_f64());
        let product = x.to_f64() * scale;
        let t = (-n).mul_add(std::f64::consts::LN_2, product) + x.to_f64().mul_add(scale, -product)
            - n * 2.319_046_813_846_299_6e-17;
        (m.to_f64() / t.exp() - 1.0).abs()
    };
    x.iter().zip(&pairs).map(error).fold(0.0, f64::max)
}

#[test]
fn pairs_are_exact_to_a_unit_or_two() {
    each_isa(|isa| {
        for (limit, scale) in [(1.0, 1.0), (100.0, 1.0), (1e5, 1.0), (100.0, 0.3), (3e4, 5.7)] {
            let (single, double) = (worst::<f32>(limit, scale), worst::<f64>(limit, scale));
            assert!(single < 2.5e-7, "{limit} * {scale} on {}: {single:e}", isa.name());
            assert!(double < 5e-16, "{limit} * {scale} on {}: {double:e}", isa.name());
        }
    });
}

#[test]
fn special_values_are_nan_or_next_to_nothing() {
    each_isa(|_| {
        for scale in [1.0, 0.5, 3.0] {
            let x = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MIN, 0.0];
            let pairs = f32::dispatch(Pairs { x: &x, scale });
            assert!(pairs[0].0.is_nan() && pairs[1].0.is_nan());
            assert!(pairs[2].0.is_finite() && pairs[2].1 < -6e6);
            assert!(pairs[3].0.is_finite() && pairs[3].1 < -6e6);
            assert_eq!(pairs[4], (1.0, 0.0));
        }
    });
}
