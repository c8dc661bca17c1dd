//! Exponentials as pairs against `f64`, on every instruction set.

use logitscope_kernels::Cancel;
use logitscope_kernels::ext_exp::ext_exp;
use logitscope_simd::Element;
use logitscope_testing::{Random, each_isa, sizes};

fn pairs<T: Element>(x: &[T]) -> (Vec<T>, Vec<T>) {
    let (mut mantissa, mut exponent) = (vec![T::NAN; x.len()], vec![T::NAN; x.len()]);
    ext_exp(x, &mut mantissa, &mut exponent, &Cancel::default()).unwrap();
    (mantissa, exponent)
}

#[test]
fn pairs_are_the_exponential() {
    fn check<T: Element>(random: &mut Random, limit: f64) {
        for count in sizes::<T>() {
            let x: Vec<T> = (0..count).map(|_| T::from_f64(random.uniform(-400.0, 400.0))).collect();
            each_isa(|isa| {
                let (mantissa, exponent) = pairs(&x);
                for ((x, m), n) in x.iter().zip(mantissa).zip(exponent) {
                    assert!(n.to_f64().fract() == 0.0 && (0.69..1.45).contains(&m.to_f64()), "{x}: {m} {n}");
                    let error = m.to_f64() * n.to_f64().exp2() / x.to_f64().exp() - 1.0;
                    assert!(error.abs() < limit, "{x} on {}: {error}", isa.name());
                }
            });
        }
    }
    let mut random = Random::new(1);
    check::<f32>(&mut random, 4e-7);
    check::<f64>(&mut random, 1e-13);
}

#[test]
fn limits_have_pairs_of_their_own() {
    each_isa(|_| {
        let x = [f32::NEG_INFINITY, f32::INFINITY, f32::NAN, -1e30, 0.0];
        let (mantissa, exponent) = pairs(&x);
        assert_eq!(mantissa[..2], [0.0, f32::INFINITY]);
        assert_eq!(exponent[..2], [f32::NEG_INFINITY, 0.0]);
        assert!(mantissa[2].is_nan() && exponent[2].is_nan());
        assert_eq!((mantissa[3], exponent[3]), (0.0, f32::NEG_INFINITY));
        assert_eq!((mantissa[4], exponent[4]), (1.0, 0.0));
    });
}
