//! Errors in units in the last place.

use logitscope_simd::Element;

/// How far `got` lies from the true value `want`, in units in the last place of `want` as a `T`.
///
/// 0 when both are NaN or the same infinity; infinite when only one is. Below the normal numbers the unit is
/// that of the smallest normal number, so a result flushed to zero is at most 2^23 (2^52) units away.
pub fn ulps<T: Element>(got: T, want: f64) -> f64 {
    let got = got.to_f64();
    if got.is_nan() && want.is_nan() || got == want {
        return 0.0;
    }
    if !got.is_finite() || !T::from_f64(want).is_finite() {
        return if T::from_f64(want).to_f64() == got { 0.0 } else { f64::INFINITY };
    }
    // 2^floor(log2 |want|), read from the bits of the exponent.
    let power = f64::from_bits(want.abs().to_bits() & 0x7ff0_0000_0000_0000);
    (got - want).abs() / (power.max(T::MIN_POSITIVE.to_f64()) * epsilon::<T>())
}

/// The distance from 1 to the next larger number.
fn epsilon<T: Element>() -> f64 {
    if T::LANES == 16 { f64::from(f32::EPSILON) } else { f64::EPSILON }
}

/// Asserts that every element lies within `bound` units in the last place, or `floor` in absolute value, of
/// the truth; names the worst.
///
/// # Panics
/// If one does not, or the lengths differ.
pub fn assert_within_ulps<T: Element>(got: &[T], want: &[f64], bound: f64, floor: f64, what: &str) {
    assert_eq!(got.len(), want.len(), "{what}: lengths");
    let errors = got.iter().zip(want).map(|(&got, &want)| {
        let absolute = (got.to_f64() - want).abs();
        if absolute <= floor { 0.0 } else { ulps(got, want) }
    });
    let (worst, error) = errors.enumerate().fold((0, 0.0), |a, b| if b.1 > a.1 { b } else { a });
    assert!(
        error <= bound,
        "{what}: {error} units in the last place at {worst} of {}: got {:e}, want {:e}",
        got.len(),
        got[worst].to_f64(),
        want[worst]
    );
}

/// True if both slices hold the same numbers to the last bit, any NaN being equal to any other.
pub fn same_bits<T: Element>(a: &[T], b: &[T]) -> bool {
    let bits = |x: &T| if x.is_nan() { f64::NAN.to_bits() } else { x.to_f64().to_bits() };
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| bits(a) == bits(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_number_is_one_unit_away() {
        assert_eq!(ulps(1.0_f32.next_up(), 1.0), 1.0);
        assert_eq!(ulps(-3.0_f32.next_up(), -3.0), 1.0);
        assert_eq!(ulps(1e300_f64.next_down(), 1e300), 1.0);
        assert_eq!(ulps(1.0_f32, 1.0), 0.0);
    }

    #[test]
    fn only_the_same_special_value_is_near_a_special_value() {
        assert_eq!(ulps(f32::NAN, f64::NAN), 0.0);
        assert_eq!(ulps(f32::INFINITY, f64::INFINITY), 0.0);
        assert_eq!(ulps(f32::INFINITY, 1e39), 0.0);
        assert_eq!(ulps(f32::INFINITY, f64::NEG_INFINITY), f64::INFINITY);
        assert_eq!(ulps(f32::NAN, 1.0), f64::INFINITY);
        assert_eq!(ulps(1.0_f32, f64::NAN), f64::INFINITY);
    }

    #[test]
    #[should_panic(expected = "at 1 of 2")]
    fn a_wrong_element_is_named() {
        assert_within_ulps(&[1.0_f32, 2.0], &[1.0, 2.1], 4.0, 0.0, "two numbers");
    }

    #[test]
    fn zeros_of_different_sign_have_different_bits() {
        assert!(!same_bits(&[0.0_f32], &[-0.0]));
        assert!(same_bits(&[f32::NAN], &[-f32::NAN]));
    }
}
