//! The exponential as a pair (m, n) with e^x = m 2^n: it cannot overflow, so no maximum need be known first.
//!
//! Dukhan and Ablavatski, "The Two-Pass Softmax Algorithm" (arXiv 2001.04438).

use crate::element::Element;
use crate::simd::Simd;

/// Constants of [`ExtExp`] for one element type.
pub struct ExtExpConstants<T: 'static> {
    /// log2(e).
    pub log2_e: T,
    /// The nearest number to ln 2, negated.
    pub minus_ln2: T,
    /// What that lacks of -ln 2.
    pub minus_ln2_rest: T,
    /// Coefficients of e^t on |t| <= ln(2)/2, highest power first.
    pub coefficients: &'static [T],
}

/// Coefficients: XNNPACK's `raddextexp`, within 1.5e-7 of e^t relatively.
pub(crate) const EXT_EXP_F32: ExtExpConstants<f32> = ExtExpConstants {
    log2_e: f32::from_bits(0x3fb8_aa3b),
    minus_ln2: f32::from_bits(0xbf31_7218),
    minus_ln2_rest: f32::from_bits(0x3102_e308),
    coefficients: &[
        f32::from_bits(0x3c07_cfce),
        f32::from_bits(0x3d2b_9d0d),
        f32::from_bits(0x3e2a_ad40),
        f32::from_bits(0x3eff_fee3),
        f32::from_bits(0x3f7f_fffb),
        1.0,
    ],
};

/// Coefficients: the Taylor series to t^13, whose remainder is below 5e-18.
pub(crate) const EXT_EXP_F64: ExtExpConstants<f64> = ExtExpConstants {
    log2_e: std::f64::consts::LOG2_E,
    minus_ln2: -std::f64::consts::LN_2,
    minus_ln2_rest: -2.319_046_813_846_299_6e-17,
    coefficients: &[
        1.0 / 6_227_020_800.0,
        1.0 / 479_001_600.0,
        1.0 / 39_916_800.0,
        1.0 / 3_628_800.0,
        1.0 / 362_880.0,
        1.0 / 40_320.0,
        1.0 / 5_040.0,
        1.0 / 720.0,
        1.0 / 120.0,
        1.0 / 24.0,
        1.0 / 6.0,
        0.5,
        1.0,
        1.0,
    ],
};

/// Lower arguments count as this one: their exponents lie so far down that they add nothing to any sum in range.
const LOWEST: f64 = -4_194_304.0;

/// Up to this magnitude of n the pairs are as exact as the coefficients; beyond, n is off by a fraction of 1.
pub const EXACT_EXPONENT: f64 = 262_144.0;

/// x -> (m, n) with e^{scale x} = m 2^n, n an integer and m between 0.69 and 1.45, for scale > 0.
///
/// NaN and positive infinity give a NaN m; negative infinity gives an n below any other.
#[derive(Clone, Copy)]
pub struct ExtExp<V> {
    lowest: V,
    scale: V,
}

impl<V: Copy> ExtExp<V> {
    /// The exponential of `scale x`.
    #[inline(always)]
    pub fn new<T: Element, S: Simd<T, Vector = V>>(simd: S, scale: T) -> Self {
        ExtExp { lowest: simd.splat(T::from_f64(LOWEST) / scale), scale: simd.splat(scale) }
    }

    /// The pair, lane by lane; `SCALED` says whether the scale is other than 1.
    #[inline(always)]
    pub fn eval<T: Element, S: Simd<T, Vector = V>, const SCALED: bool>(&self, simd: S, x: V) -> (V, V) {
        let c = const { T::EXT_EXP };
        // In this order a NaN stays.
        let x = simd.max(self.lowest, x);
        let scaled = if SCALED { simd.mul(x, self.scale) } else { x };
        let n = simd.round(simd.mul(scaled, simd.splat(c.log2_e)));
        let mut t = simd.mul_add(n, simd.splat(c.minus_ln2), scaled);
        if SCALED {
            // What the product was rounded by.
            let minus_scaled = simd.sub(simd.splat(T::ZERO), scaled);
            t = simd.add(t, simd.mul_add(x, self.scale, minus_scaled));
        }
        let t = simd.mul_add(n, simd.splat(c.minus_ln2_rest), t);
        let mut m = simd.splat(c.coefficients[0]);
        for &coefficient in &c.coefficients[1..] {
            m = simd.mul_add(m, t, simd.splat(coefficient));
        }
        (m, n)
    }
}
