//! Elementary functions over vectors, each written once for every instruction set and element type.

use crate::element::Element;
use crate::simd::Simd;

/// Constants of [`exp`] for one element type.
pub struct ExpConstants<T: 'static> {
    /// log2(e).
    pub log2_e: T,
    /// What that lacks of it.
    pub log2_e_rest: T,
    /// The leading bits of ln 2, negated: few enough that `n * ln2_hi` is exact.
    pub minus_ln2_hi: T,
    /// The rest of ln 2, negated.
    pub minus_ln2_lo: T,
    /// Coefficients of q in e^t = 1 + t + t² q(t) on |t| <= ln(2)/2, highest power first.
    pub coefficients: &'static [T],
    /// Coefficients of q in 2^t = 1 + t q(t) on |t| <= 1/2, highest power first.
    pub exp2_coefficients: &'static [T],
    /// Below this argument the result is flushed to zero: it would not be a normal number.
    pub underflow: T,
    /// Above this argument the result is infinite.
    pub overflow: T,
    /// The lowest n for which 2^n e^t is a normal number for all |t| <= ln(2)/2, and 2^n 2^t for |t| <= 1/2.
    pub lowest_exponent: T,
}

/// Polynomials: minimax, within 3.1e-9 of e^t and 2^t relatively. With fused multiply-add the result is within 0.91 ULP of the
/// true value over all arguments whose exponential is a normal number (asserted exhaustively in the tests).
pub(crate) const EXP_F32: ExpConstants<f32> = ExpConstants {
    log2_e: std::f32::consts::LOG2_E,
    log2_e_rest: 1.925_963e-8,
    minus_ln2_hi: -355.0 / 512.0,
    minus_ln2_lo: 2.121_944_4e-4,
    coefficients: &[1.381_460_2e-3, 8.368_715e-3, 4.166_839e-2, 1.666_652_1e-1, 4.999_999_3e-1],
    exp2_coefficients: &[
        1.532_109_6e-4,
        1.339_020_3e-3,
        9.618_527e-3,
        5.550_362e-2,
        2.402_264_8e-1,
        std::f32::consts::LN_2,
    ],
    underflow: -87.336_54,
    overflow: 88.722_83,
    lowest_exponent: -125.0,
};

/// Polynomials: the Taylor series to t^13, whose remainder is below 5e-18.
pub(crate) const EXP_F64: ExpConstants<f64> = ExpConstants {
    log2_e: std::f64::consts::LOG2_E,
    log2_e_rest: 2.035_527_374_093_103_3e-17,
    minus_ln2_hi: -6.931_457_519_531_25e-1,
    minus_ln2_lo: -1.428_606_820_309_417_2e-6,
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
    ],
    exp2_coefficients: &[
        1.369_148_885_390_412_8e-12,
        2.567_843_599_348_820_6e-11,
        4.445_538_271_870_811_6e-10,
        7.054_911_620_801_123e-9,
        1.017_808_600_923_97e-7,
        1.321_548_679_014_431e-6,
        1.525_273_380_405_984_1e-5,
        1.540_353_039_338_161e-4,
        1.333_355_814_642_844_3e-3,
        9.618_129_107_628_477e-3,
        5.550_410_866_482_158e-2,
        2.402_265_069_591_007_2e-1,
        std::f64::consts::LN_2,
    ],
    underflow: -708.396_418_532_264_1,
    overflow: 709.782_712_893_384,
    lowest_exponent: -1021.0,
};

/// The series of [`ln`], 2/9 to 2/3: what is left out is below 3e-9 of the result.
pub(crate) const LN_F32: &[f32] = &[2.0 / 9.0, 2.0 / 7.0, 2.0 / 5.0, 2.0 / 3.0];

/// The series of [`ln`], 2/21 to 2/3: what is left out is below 1e-18 of the result.
pub(crate) const LN_F64: &[f64] = &[
    2.0 / 21.0,
    2.0 / 19.0,
    2.0 / 17.0,
    2.0 / 15.0,
    2.0 / 13.0,
    2.0 / 11.0,
    2.0 / 9.0,
    2.0 / 7.0,
    2.0 / 5.0,
    2.0 / 3.0,
];

/// e^t on |t| <= ln(2)/2.
#[inline(always)]
fn exp_of_rest<T: Element, S: Simd<T>>(simd: S, t: S::Vector) -> S::Vector {
    let c = const { T::EXP };
    let mut q = simd.splat(c.coefficients[0]);
    for &coefficient in &c.coefficients[1..] {
        q = simd.mul_add(q, t, simd.splat(coefficient));
    }
    let one = simd.splat(T::ONE);
    simd.mul_add(simd.mul_add(q, t, one), t, one)
}

/// e^x lane by lane: NaN gives NaN, +inf gives +inf, and results below the smallest normal number are 0.
///
/// The range reduction is Cody and Waite's: x = n ln 2 + t with |t| <= ln(2)/2, e^x = 2^n e^t.
#[inline(always)]
pub fn exp<T: Element, S: Simd<T>>(simd: S, x: S::Vector) -> S::Vector {
    let c = const { T::EXP };
    let n = simd.round(simd.mul(x, simd.splat(c.log2_e)));
    let t = simd.mul_add(n, simd.splat(c.minus_ln2_hi), x);
    let t = simd.mul_add(n, simd.splat(c.minus_ln2_lo), t);
    let result = simd.scale_by_pow2(exp_of_rest(simd, t), n);
    // Selected last: far outside the range n and t are meaningless.
    let result = simd.zero_where_less(x, simd.splat(c.underflow), result);
    simd.select(simd.less(simd.splat(c.overflow), x), simd.splat(T::INFINITY), result)
}

/// e^x - 1 for x <= 0 and a little above, lane by lane: 2^n (e^t - 1) + (2^n - 1), where nothing cancels.
#[inline(always)]
fn exp_m1<T: Element, S: Simd<T>>(simd: S, x: S::Vector) -> S::Vector {
    let c = const { T::EXP };
    let n = simd.round(simd.mul(x, simd.splat(c.log2_e)));
    let t = simd.mul_add(n, simd.splat(c.minus_ln2_hi), x);
    let t = simd.mul_add(n, simd.splat(c.minus_ln2_lo), t);
    let mut q = simd.splat(c.coefficients[0]);
    for &coefficient in &c.coefficients[1..] {
        q = simd.mul_add(q, t, simd.splat(coefficient));
    }
    let p = simd.mul_add(q, simd.mul(t, t), t);
    let power = simd.scale_by_pow2(simd.splat(T::ONE), n);
    simd.mul_add(p, power, simd.sub(power, simd.splat(T::ONE)))
}

/// Beyond this magnitude tanh is 1 in `f32` and in `f64`.
const TANH_IS_ONE: f64 = 20.0;

/// tanh(x) lane by lane, within 3 ULP: -r / (r + 2) with r = e^{-2 |x|} - 1. NaN gives NaN.
#[inline(always)]
pub fn tanh<T: Element, S: Simd<T>>(simd: S, x: S::Vector) -> S::Vector {
    let zero = simd.splat(T::ZERO);
    let r = exp_m1(simd, minus_twice_magnitude(simd, x));
    let magnitude = simd.div(simd.sub(zero, r), simd.add(r, simd.splat(T::from_f64(2.0))));
    simd.select(simd.less(x, zero), simd.sub(zero, magnitude), magnitude)
}

/// The derivative of tanh, 1 - tanh(x)², lane by lane, as 4 u / (1 + u)² with u = e^{-2 |x|}: the difference would
/// lose its digits as tanh nears 1. Beyond 20 it stays at its value there, 1.7e-17.
#[inline(always)]
pub fn tanh_slope<T: Element, S: Simd<T>>(simd: S, x: S::Vector) -> S::Vector {
    let u = exp(simd, minus_twice_magnitude(simd, x));
    let sum = simd.add(simd.splat(T::ONE), u);
    simd.div(simd.mul(simd.splat(T::from_f64(4.0)), u), simd.mul(sum, sum))
}

/// -2 |x|, no less than the argument at which tanh is 1.
#[inline(always)]
fn minus_twice_magnitude<T: Element, S: Simd<T>>(simd: S, x: S::Vector) -> S::Vector {
    let limit = simd.splat(T::from_f64(TANH_IS_ONE));
    let magnitude = simd.max(x, simd.sub(simd.splat(T::ZERO), x));
    let magnitude = simd.select(simd.less(limit, magnitude), limit, magnitude);
    simd.mul(simd.splat(T::from_f64(-2.0)), magnitude)
}

/// ln(x) lane by lane, within 1 ULP: NaN and what is below 0 give NaN, what is below the smallest normal number gives
/// -inf, +inf gives +inf.
///
/// x = m 2^e with m between sqrt(1/2) and sqrt(2), f = m - 1, s = f / (2 + f); then
/// ln m = 2 atanh s = f - (f²/2 - s (f²/2 + 2/3 s² + 2/5 s⁴ + ...)), as in fdlibm's `log` (Sun Microsystems, 1993).
#[inline(always)]
pub fn ln<T: Element, S: Simd<T>>(simd: S, x: S::Vector) -> S::Vector {
    let c = const { T::EXP };
    let one = simd.splat(T::ONE);
    let half = simd.splat(T::from_f64(0.5));
    let (m, e) = simd.split(x);
    let high = simd.less(simd.splat(T::from_f64(std::f64::consts::SQRT_2)), m);
    let m = simd.select(high, simd.mul(m, half), m);
    let e = simd.select(high, simd.add(e, one), e);
    let f = simd.sub(m, one);
    let s = simd.div(f, simd.add(f, simd.splat(T::from_f64(2.0))));
    let z = simd.mul(s, s);
    let mut series = simd.splat(T::LN[0]);
    for &coefficient in &T::LN[1..] {
        series = simd.mul_add(series, z, simd.splat(coefficient));
    }
    let half_square = simd.mul(half, simd.mul(f, f));
    let minus_low = simd.mul(e, simd.splat(c.minus_ln2_lo));
    let rest = simd.sub(simd.mul(s, simd.mul_add(series, z, half_square)), minus_low);
    let near = simd.sub(f, simd.sub(half_square, rest));
    let minus_high = simd.mul(e, simd.splat(c.minus_ln2_hi));
    let result = simd.sub(near, minus_high);
    let result = simd.select(simd.less(x, simd.splat(T::MIN_POSITIVE)), simd.splat(T::NEG_INFINITY), result);
    let result = simd.select(simd.less(x, simd.splat(T::ZERO)), simd.splat(T::NAN), result);
    // Neither less than infinity nor a number: infinity and NaN stay what they are.
    simd.select(simd.less(x, simd.splat(T::INFINITY)), result, x)
}

/// x -> e^{scale (x - max)} for the x <= max of one row, without the rounding of x - max.
///
/// Subtracting first costs a relative error of up to |x - max| / 2 units in the last place, forty for the
/// smallest probabilities. Here the difference is taken inside the range reduction: with h + l = scale log2(e) in two
/// parts and b near h max but with few bits, h x - (k + b) has one rounding, that of a small number, and the small
/// l x - (h + l) max + b is added last. The result is exactly 1 at the maximum; what lies below 2^-125.5 (`f32`)
/// or 2^-1021.5 (`f64`) becomes 0, so no result is a denormal. A maximum of either infinity gives NaN where x
/// equals it, and a NaN maximum gives NaN everywhere.
#[derive(Clone, Copy)]
pub struct ExpBelow<V> {
    shift: V,
    factor: V,
    factor_rest: V,
    minus_top: V,
    minus_base: V,
    minus_rest: V,
}

impl<V: Copy> ExpBelow<V> {
    /// The exponential below `max` with `scale > 0`.
    #[inline(always)]
    pub fn new<T: Element, S: Simd<T, Vector = V>>(simd: S, max: T, scale: T) -> Self {
        let c = const { T::EXP };
        let factor = scale * c.log2_e;
        let factor_rest = scale.mul_add(c.log2_e, -factor) + scale * c.log2_e_rest;
        let top = max * factor;
        // Larger ones, infinities and NaN are subtracted at once: where the result is not 0, x is then so near
        // to max that the difference is exact.
        let (shift, top, base, rest) = if top.abs() <= T::from_f64(EXACT_BASE) {
            let base = (top * T::from_f64(16.0)).round_ties_even() * T::from_f64(0.0625);
            (T::ZERO, top, base, max.mul_add(factor_rest, max.mul_add(factor, -base)))
        } else {
            (max, T::ZERO, T::ZERO, T::ZERO)
        };
        ExpBelow {
            shift: simd.splat(shift),
            factor: simd.splat(factor),
            factor_rest: simd.splat(factor_rest),
            minus_top: simd.splat(-top),
            minus_base: simd.splat(-base),
            minus_rest: simd.splat(-rest),
        }
    }

    /// e^{scale (x - max)} lane by lane.
    #[inline(always)]
    pub fn eval<T: Element, S: Simd<T, Vector = V>>(&self, simd: S, x: V) -> V {
        let c = const { T::EXP };
        let x = simd.sub(x, self.shift);
        let k = simd.round(simd.mul_add(x, self.factor, self.minus_top));
        // k + base is exact: base has a grid of 1/16.
        let near = simd.mul_add(x, self.factor, simd.sub(self.minus_base, k));
        let t = simd.add(near, simd.mul_add(x, self.factor_rest, self.minus_rest));
        let mut q = simd.splat(c.exp2_coefficients[0]);
        for &coefficient in &c.exp2_coefficients[1..] {
            q = simd.mul_add(q, t, simd.splat(coefficient));
        }
        let result = simd.scale_by_pow2(simd.mul_add(q, t, simd.splat(T::ONE)), k);
        simd.zero_where_less(k, simd.splat(c.lowest_exponent), result)
    }
}

/// Coefficients of q in 2^t = 1 + t q(t) on |t| <= 1/2, highest power first: minimax, within 1.1e-7 of 2^t relatively.
const SHORT: [f64; 5] =
    [1.330_026_403e-3, 9.669_708_399e-3, 5.550_559_994e-2, 2.402_228_161e-1, std::f64::consts::LN_2];

/// x -> e^{scale (x - max)} / 2^shift for results that are rounded to 16 bits: [`ExpBelow`] with fewer steps.
///
/// 2^(factor x + offset) is off by what the offset is rounded by, the same for all x: the coefficients make up for it.
/// What is left is the rounding of the exponent, less than 2^-18 at its largest, and less than 2^-20 where the result is
/// a float16, and that of the factor. A result below 2^-125.5 becomes 0.
#[derive(Clone, Copy)]
pub struct ShortExp<V> {
    factor: V,
    offset: V,
    coefficients: [V; SHORT.len()],
    first: V,
}

impl<V: Copy> ShortExp<V> {
    /// The exponential below `max` with `scale > 0`; none where `scale max` is too large for it, or no number.
    #[inline(always)]
    pub fn new<T: Element, S: Simd<T, Vector = V>>(simd: S, max: T, scale: T, shift: f64) -> Option<Self> {
        let factor = scale * const { T::EXP }.log2_e;
        let exact = -(max.to_f64() * factor.to_f64() + shift);
        if exact.is_nan() || exact.abs() > EXACT_BASE {
            return None;
        }
        let offset = T::from_f64(exact);
        let rest = (exact - offset.to_f64()).exp2();
        let mut coefficients = [simd.splat(T::ZERO); SHORT.len()];
        for (vector, coefficient) in coefficients.iter_mut().zip(SHORT) {
            *vector = simd.splat(T::from_f64(coefficient * rest));
        }
        Some(ShortExp {
            factor: simd.splat(factor),
            offset: simd.splat(offset),
            coefficients,
            first: simd.splat(T::from_f64(rest)),
        })
    }

    /// e^{scale (x - max)} / 2^shift lane by lane.
    #[inline(always)]
    pub fn eval<T: Element, S: Simd<T, Vector = V>>(&self, simd: S, x: V) -> V {
        let exponent = simd.mul_add(x, self.factor, self.offset);
        let k = simd.round(exponent);
        let t = simd.sub(exponent, k);
        let mut q = self.coefficients[0];
        for &coefficient in &self.coefficients[1..] {
            q = simd.mul_add(q, t, coefficient);
        }
        let result = simd.scale_by_pow2(simd.mul_add(q, t, self.first), k);
        simd.zero_where_less(k, simd.splat(const { T::EXP }.lowest_exponent), result)
    }
}

/// Up to this magnitude k + base is exact in `f32`, and so in `f64`.
const EXACT_BASE: f64 = 16_384.0;

/// `x` with everything smaller in magnitude than the smallest normal number replaced by 0.
///
/// Denormals cost a hundred cycles each in the matrix product that reads them.
#[inline(always)]
pub fn flush<T: Element, S: Simd<T>>(simd: S, x: S::Vector) -> S::Vector {
    let magnitude = simd.max(x, simd.sub(simd.splat(T::ZERO), x));
    simd.zero_where_less(magnitude, simd.splat(T::MIN_POSITIVE), x)
}

/// As [`flush`], for `x >= 0` (and NaN).
#[inline(always)]
pub fn flush_positive<T: Element, S: Simd<T>>(simd: S, x: S::Vector) -> S::Vector {
    simd.zero_where_less(x, simd.splat(T::MIN_POSITIVE), x)
}
