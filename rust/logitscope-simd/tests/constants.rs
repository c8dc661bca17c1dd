//! The constants of the exponentials: bit by bit what was designed, and what they stand for.

use logitscope_simd::Element;

/// The number m 2^e that the hexadecimal floating-point literal of a paper or program stands for.
fn hexadecimal(mantissa: i32, exponent: i32) -> f32 {
    (f64::from(mantissa) * f64::from(exponent).exp2()) as f32
}

#[test]
fn pairs_have_the_constants_of_two_pass_softmax_bit_by_bit() {
    let c = <f32 as Element>::EXT_EXP;
    // 0x1.715476p+0, -0x1.62E43p-1 and 0x1.05C61p-29; then 0x1.0F9F9Cp-7 to 0x1.FFFFF6p-1.
    let designed = [
        (c.log2_e, 0x0171_5476, -24, 0x3fb8_aa3b_u32),
        (c.minus_ln2, -0x0016_2e43, -21, 0xbf31_7218),
        (c.minus_ln2_rest, 0x0010_5c61, -49, 0x3102_e308),
        (c.coefficients[0], 0x010f_9f9c, -31, 0x3c07_cfce),
        (c.coefficients[1], 0x0157_3a1a, -29, 0x3d2b_9d0d),
        (c.coefficients[2], 0x0155_5a80, -27, 0x3e2a_ad40),
        (c.coefficients[3], 0x01ff_fdc6, -26, 0x3eff_fee3),
        (c.coefficients[4], 0x01ff_fff6, -25, 0x3f7f_fffb),
        (c.coefficients[5], 1, 0, 0x3f80_0000),
    ];
    for (index, (got, mantissa, exponent, bits)) in designed.into_iter().enumerate() {
        assert_eq!(got.to_bits(), bits, "constant {index}");
        assert_eq!(got.to_bits(), hexadecimal(mantissa, exponent).to_bits(), "constant {index}");
    }
    assert_eq!(c.coefficients.len(), 6);
}

#[test]
fn logarithms_are_the_nearest_numbers_and_have_the_rest() {
    let (log2_e, ln2) = (std::f64::consts::LOG2_E, std::f64::consts::LN_2);
    let (pair, plain) = (<f32 as Element>::EXT_EXP, <f32 as Element>::EXP);
    assert_eq!(pair.log2_e, log2_e as f32);
    assert_eq!(plain.log2_e, log2_e as f32);
    assert_eq!(pair.minus_ln2, -ln2 as f32);
    for (high, low) in [(pair.minus_ln2, pair.minus_ln2_rest), (plain.minus_ln2_hi, plain.minus_ln2_lo)] {
        assert_eq!(low, (-ln2 - f64::from(high)) as f32);
    }
    assert_eq!(plain.log2_e_rest, (log2_e - f64::from(plain.log2_e)) as f32);
    // ln 2 and log2(e) to 33 digits, less their nearest numbers.
    let (pair, plain) = (<f64 as Element>::EXT_EXP, <f64 as Element>::EXP);
    assert_eq!((pair.log2_e, plain.log2_e, pair.minus_ln2), (log2_e, log2_e, -ln2));
    assert_eq!(pair.minus_ln2_rest, -2.319_046_813_846_299_6e-17);
    assert_eq!(plain.log2_e_rest, 2.035_527_374_093_103_3e-17);
    assert!((plain.minus_ln2_hi + plain.minus_ln2_lo + ln2).abs() <= 1.2e-16);
}

#[test]
fn multiples_of_the_leading_bits_of_ln2_are_exact() {
    // n of e^x in range has 8 bits in f32, and 11 in f64.
    assert!(<f32 as Element>::EXP.minus_ln2_hi.to_bits().trailing_zeros() >= 8);
    assert!(<f64 as Element>::EXP.minus_ln2_hi.to_bits().trailing_zeros() >= 11);
}

/// The polynomial with these coefficients, highest power first.
fn polynomial(coefficients: &[f32], t: f64) -> f64 {
    coefficients.iter().fold(0.0, |sum, &coefficient| sum * t + f64::from(coefficient))
}

#[test]
fn polynomials_are_as_near_as_is_said() {
    let (pair, plain) = (<f32 as Element>::EXT_EXP, <f32 as Element>::EXP);
    let (mut of_pair, mut of_exp, mut of_exp2) = (0.0_f64, 0.0_f64, 0.0_f64);
    for step in -10_000..=10_000 {
        let half = f64::from(step) / 20_000.0;
        let t = half * std::f64::consts::LN_2;
        let power = t.exp();
        of_pair = of_pair.max((polynomial(pair.coefficients, t) / power - 1.0).abs());
        let of_t = 1.0 + t + t * t * polynomial(plain.coefficients, t);
        of_exp = of_exp.max((of_t / power - 1.0).abs());
        let of_half = 1.0 + half * polynomial(plain.exp2_coefficients, half);
        of_exp2 = of_exp2.max((of_half / power - 1.0).abs());
    }
    assert!(of_pair <= 1.5e-7, "{of_pair:e}");
    assert!(of_exp <= 4.5e-9, "{of_exp:e}");
    assert!(of_exp2 <= 4.5e-9, "{of_exp2:e}");
}
