//! The logarithm against the standard library's in `f64`, on every instruction set.

use logitscope_simd::{Element, Kernel, Simd, math};
use logitscope_testing::{Random, each_isa, same_bits, ulps};

struct Ln<'a, T>(&'a mut [T]);

impl<T: Element> Kernel<T> for Ln<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<T>>(self, simd: S) {
        for block in T::blocks_mut(self.0).0 {
            let result = math::ln(simd, simd.load(block));
            simd.store(result, block);
        }
    }
}

fn ln<T: Element>(arguments: &[T]) -> Vec<T> {
    let mut results = arguments.to_vec();
    results.resize(arguments.len().next_multiple_of(T::LANES), T::ONE);
    T::dispatch(Ln(&mut results));
    results.truncate(arguments.len());
    results
}

#[test]
fn ln_of_f32_is_within_one_unit_at_every_thousandth_positive_number() {
    let arguments: Vec<f32> = (0x0080_0000..0x7f80_0000_u32).step_by(1009).map(f32::from_bits).collect();
    each_isa(|isa| {
        let worst = ln(&arguments)
            .into_iter()
            .zip(&arguments)
            .map(|(y, &x)| (ulps(y, f64::from(x).ln()), x))
            .max_by(|a, b| a.0.total_cmp(&b.0));
        let (error, x) = worst.expect("there are arguments");
        assert!(error <= 1.0, "ln({x:e}) is {error} units off on {}", isa.name());
    });
}

#[test]
fn ln_near_one_loses_nothing() {
    let near: Vec<f32> = (0..40_000_u32).map(|i| f32::from_bits(1.0_f32.to_bits() - 20_000 + i)).collect();
    each_isa(|isa| {
        for (y, &x) in ln(&near).into_iter().zip(&near) {
            let error = ulps(y, f64::from(x).ln());
            assert!(error <= 1.0, "ln({x:e}) is {y:e}, {error} units off on {}", isa.name());
        }
    });
}

#[test]
fn ln_of_f64_agrees_with_the_standard_library() {
    let mut random = Random::new(3);
    let arguments: Vec<f64> = (0..100_000).map(|_| random.uniform(-700.0, 700.0).exp()).collect();
    each_isa(|isa| {
        for (y, &x) in ln(&arguments).into_iter().zip(&arguments) {
            // The reference is itself rounded.
            assert!(
                (y - x.ln()).abs() <= 1.5 * f64::EPSILON * y.abs(),
                "ln({x:e}) is {y:e} on {}",
                isa.name()
            );
        }
    });
}

#[test]
fn ln_of_what_has_no_logarithm_is_as_documented() {
    fn check<T: Element>() {
        let arguments = [0.0, -0.0, -1.0, f64::NEG_INFINITY, f64::INFINITY, f64::NAN, 1.0].map(T::from_f64);
        let want = [T::NEG_INFINITY, T::NEG_INFINITY, T::NAN, T::NAN, T::INFINITY, T::NAN, T::ZERO];
        each_isa(|isa| {
            let got = ln(&arguments);
            let alike =
                got.iter().zip(&want).all(|(a, b)| same_bits(&[*a], &[*b]) || a.is_nan() && b.is_nan());
            assert!(alike, "{got:?} on {}", isa.name());
        });
    }
    check::<f32>();
    check::<f64>();
}
