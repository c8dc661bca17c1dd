//! The two element types of the kernels, `f32` and `f64`, and what differs between them.

use crate::dispatch::{self, Kernel};
use crate::ext_exp::{EXT_EXP_F32, EXT_EXP_F64, ExtExpConstants};
use crate::isa::Isa;
use crate::math::{EXP_F32, EXP_F64, ExpConstants, LN_F32, LN_F64};
use crate::stored::{BF16, Stored};
use std::fmt::{Debug, Display};
use std::ops::{Add, AddAssign, Div, DivAssign, Mul, MulAssign, Neg, Sub, SubAssign};

/// A floating-point type that kernels are generic over.
pub trait Element:
    Stored<Wide = Self>
    + Default
    + PartialOrd
    + Debug
    + Display
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + AddAssign
    + SubAssign
    + MulAssign
    + DivAssign
{
    /// One vector's worth of elements in memory: 64 bytes.
    type Block: Copy + Send + Sync + 'static + AsRef<[Self]> + AsMut<[Self]>;

    /// Elements in a block and in a vector.
    const LANES: usize;
    /// `"f32"` or `"f64"`, as kernel names spell it.
    const NAME: &'static str;
    /// Zero.
    const ZERO: Self;
    /// One.
    const ONE: Self;
    /// Negative infinity.
    const NEG_INFINITY: Self;
    /// Positive infinity.
    const INFINITY: Self;
    /// Not a number.
    const NAN: Self;
    /// The smallest positive normal number; results below it are flushed to zero.
    const MIN_POSITIVE: Self;
    /// Constants of the vector exponential.
    const EXP: ExpConstants<Self>;
    /// Constants of the exponential as a pair.
    const EXT_EXP: ExtExpConstants<Self>;
    /// Coefficients of the vector logarithm, highest power first.
    const LN: &'static [Self];

    /// Cuts a slice into whole blocks and the elements left over.
    fn blocks(slice: &[Self]) -> (&[Self::Block], &[Self]);
    /// Cuts a mutable slice into whole blocks and the elements left over.
    fn blocks_mut(slice: &mut [Self]) -> (&mut [Self::Block], &mut [Self]);
    /// The elements of blocks one after the other.
    fn flatten(blocks: &[Self::Block]) -> &[Self];
    /// The elements of blocks one after the other.
    fn flatten_mut(blocks: &mut [Self::Block]) -> &mut [Self];
    /// A block with every lane equal to `x`.
    fn block(x: Self) -> Self::Block;

    /// The nearest value of this type.
    fn from_f64(x: f64) -> Self;
    /// The value as `f64`, exactly.
    fn to_f64(self) -> f64;
    /// The nearest `f32`.
    fn to_f32(self) -> f32;
    /// e to the power of `self`.
    fn exp(self) -> Self;
    /// Natural logarithm.
    fn ln(self) -> Self;
    /// ln(1 + x) without cancellation for small `x`.
    fn ln_1p(self) -> Self;
    /// e^x - 1 without cancellation for small `x`.
    fn exp_m1(self) -> Self;
    /// Hyperbolic tangent.
    fn tanh(self) -> Self;
    /// Square root.
    fn sqrt(self) -> Self;
    /// Absolute value.
    fn abs(self) -> Self;
    /// `self * a + b` with one rounding.
    fn mul_add(self, a: Self, b: Self) -> Self;
    /// Nearest integer, ties to even.
    fn round_ties_even(self) -> Self;
    /// True for NaN.
    fn is_nan(self) -> bool;
    /// True for neither NaN nor an infinity.
    fn is_finite(self) -> bool;

    /// The two numbers of half the bits that stand in the bits of this one, the lower half first; of `f32` two
    /// bfloat16, of `f64` two `f32`.
    fn halves(self) -> (Self, Self);
    /// Two numbers rounded to half the bits, in the bits of one.
    fn of_halves(low: Self, high: Self) -> Self;

    /// The number with these bits, as many as there are of.
    fn of_bits(bits: u64) -> Self;
    /// The bits of the number.
    fn bits(self) -> u64;

    /// Runs a kernel compiled for the instruction set in use ([`Isa::current`]).
    fn dispatch<K: Kernel<Self>>(kernel: K) -> K::Output;
    /// The same, with the instructions for bfloat16 where there are some ([`Isa::uses_pairs`]).
    fn dispatch_pairs<K: Kernel<Self>>(kernel: K) -> K::Output;
    /// The same, with tiles of bfloat16 where there are some ([`Isa::uses_tiles`]), for kernels that multiply matrices.
    /// Within such a kernel no other one may be run like this: it would give the tiles back.
    fn dispatch_tiles<K: Kernel<Self>>(kernel: K) -> K::Output;
}

macro_rules! implement_element {
    ($type:ident, $name:literal, $lanes:literal, $exp:ident, $ext_exp:ident, $ln:ident, $run:ident, $run_pairs:ident, $run_tiles:ident,
     $halves:ident, $of_halves:ident) => {
        impl Element for $type {
            type Block = [$type; $lanes];

            const LANES: usize = $lanes;
            const NAME: &'static str = $name;
            const ZERO: Self = 0.0;
            const ONE: Self = 1.0;
            const NEG_INFINITY: Self = $type::NEG_INFINITY;
            const INFINITY: Self = $type::INFINITY;
            const NAN: Self = $type::NAN;
            const MIN_POSITIVE: Self = $type::MIN_POSITIVE;
            const EXP: ExpConstants<Self> = $exp;
            const EXT_EXP: ExtExpConstants<Self> = $ext_exp;
            const LN: &'static [Self] = $ln;

            #[inline(always)]
            fn blocks(slice: &[Self]) -> (&[Self::Block], &[Self]) {
                slice.as_chunks()
            }
            #[inline(always)]
            fn blocks_mut(slice: &mut [Self]) -> (&mut [Self::Block], &mut [Self]) {
                slice.as_chunks_mut()
            }
            #[inline(always)]
            fn flatten(blocks: &[Self::Block]) -> &[Self] {
                blocks.as_flattened()
            }
            #[inline(always)]
            fn flatten_mut(blocks: &mut [Self::Block]) -> &mut [Self] {
                blocks.as_flattened_mut()
            }
            #[inline(always)]
            fn block(x: Self) -> Self::Block {
                [x; $lanes]
            }

            #[inline(always)]
            #[allow(clippy::cast_lossless, reason = "the macro also expands for f64")]
            fn from_f64(x: f64) -> Self {
                x as $type
            }
            #[inline(always)]
            fn to_f64(self) -> f64 {
                f64::from(self)
            }
            #[inline(always)]
            #[allow(clippy::unnecessary_cast, reason = "the macro also expands for f32")]
            fn to_f32(self) -> f32 {
                self as f32
            }
            #[inline(always)]
            fn exp(self) -> Self {
                $type::exp(self)
            }
            #[inline(always)]
            fn ln(self) -> Self {
                $type::ln(self)
            }
            #[inline(always)]
            fn ln_1p(self) -> Self {
                $type::ln_1p(self)
            }
            #[inline(always)]
            fn exp_m1(self) -> Self {
                $type::exp_m1(self)
            }
            #[inline(always)]
            fn tanh(self) -> Self {
                $type::tanh(self)
            }
            #[inline(always)]
            fn sqrt(self) -> Self {
                $type::sqrt(self)
            }
            #[inline(always)]
            fn abs(self) -> Self {
                $type::abs(self)
            }
            #[inline(always)]
            fn mul_add(self, a: Self, b: Self) -> Self {
                $type::mul_add(self, a, b)
            }
            #[inline(always)]
            fn round_ties_even(self) -> Self {
                $type::round_ties_even(self)
            }
            #[inline(always)]
            fn is_nan(self) -> bool {
                $type::is_nan(self)
            }
            #[inline(always)]
            fn is_finite(self) -> bool {
                $type::is_finite(self)
            }

            #[inline(always)]
            fn halves(self) -> (Self, Self) {
                $halves(self)
            }
            #[inline(always)]
            fn of_halves(low: Self, high: Self) -> Self {
                $of_halves(low, high)
            }

            #[inline(always)]
            fn of_bits(bits: u64) -> Self {
                <$type>::from_bits(bits as _)
            }
            #[inline(always)]
            fn bits(self) -> u64 {
                self.to_bits().into()
            }

            #[inline]
            fn dispatch<K: Kernel<Self>>(kernel: K) -> K::Output {
                dispatch::$run(Isa::current(), kernel)
            }
            #[inline]
            fn dispatch_pairs<K: Kernel<Self>>(kernel: K) -> K::Output {
                dispatch::$run_pairs(kernel)
            }
            #[inline]
            fn dispatch_tiles<K: Kernel<Self>>(kernel: K) -> K::Output {
                dispatch::$run_tiles(kernel)
            }
        }
    };
}

#[inline(always)]
fn halves_f32(x: f32) -> (f32, f32) {
    (f32::from_bits(x.to_bits() << 16), f32::from_bits(x.to_bits() & 0xffff_0000))
}
#[inline(always)]
fn of_halves_f32(low: f32, high: f32) -> f32 {
    f32::from_bits(u32::from(BF16::narrow(low).0) | u32::from(BF16::narrow(high).0) << 16)
}
#[inline(always)]
fn halves_f64(x: f64) -> (f64, f64) {
    let half = |bits: u64| f64::from(f32::from_bits(bits as u32));
    (half(x.to_bits()), half(x.to_bits() >> 32))
}
#[inline(always)]
fn of_halves_f64(low: f64, high: f64) -> f64 {
    f64::from_bits(u64::from((low as f32).to_bits()) | u64::from((high as f32).to_bits()) << 32)
}

implement_element!(
    f32,
    "f32",
    16,
    EXP_F32,
    EXT_EXP_F32,
    LN_F32,
    run_f32,
    run_f32_pairs,
    run_f32_tiles,
    halves_f32,
    of_halves_f32
);
implement_element!(
    f64,
    "f64",
    8,
    EXP_F64,
    EXT_EXP_F64,
    LN_F64,
    run_f64,
    run_f64_pairs,
    run_f64_tiles,
    halves_f64,
    of_halves_f64
);
