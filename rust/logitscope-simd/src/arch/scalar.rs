//! The fallback for any CPU, and the oracle of the others: arrays and plain Rust.

use crate::isa::Isa;
use crate::simd::Simd;
use std::array::from_fn;

/// Token of the scalar instruction set; every CPU has it.
#[derive(Clone, Copy)]
pub(crate) struct Scalar;

macro_rules! implement_scalar {
    ($type:ident, $bits:ident, $integer:ident, $lanes:literal, $mantissa_bits:literal, $bias:literal) => {
        impl Simd<$type> for Scalar {
            type Vector = [$type; $lanes];
            type Mask = [bool; $lanes];

            const ISA: Isa = Isa::Scalar;
            const REGISTERS: usize = 4;

            #[inline(always)]
            fn splat(self, x: $type) -> Self::Vector {
                [x; $lanes]
            }
            #[inline(always)]
            fn load(self, block: &[$type; $lanes]) -> Self::Vector {
                *block
            }
            #[inline(always)]
            fn store(self, vector: Self::Vector, block: &mut [$type; $lanes]) {
                *block = vector;
            }
            #[inline(always)]
            fn add(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
                from_fn(|i| a[i] + b[i])
            }
            #[inline(always)]
            fn sub(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
                from_fn(|i| a[i] - b[i])
            }
            #[inline(always)]
            fn mul(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
                from_fn(|i| a[i] * b[i])
            }
            #[inline(always)]
            fn div(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
                from_fn(|i| a[i] / b[i])
            }
            #[inline(always)]
            fn mul_add(self, a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector {
                from_fn(|i| a[i].mul_add(b[i], c[i]))
            }
            #[inline(always)]
            fn max(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
                from_fn(|i| if a[i] > b[i] { a[i] } else { b[i] })
            }
            #[inline(always)]
            fn round(self, a: Self::Vector) -> Self::Vector {
                from_fn(|i| a[i].round_ties_even())
            }
            #[inline(always)]
            fn scale_by_pow2(self, a: Self::Vector, n: Self::Vector) -> Self::Vector {
                from_fn(|i| {
                    let steps = n[i] as $integer as $bits;
                    $type::from_bits(a[i].to_bits().wrapping_add(steps << $mantissa_bits))
                })
            }
            #[inline(always)]
            fn scale_down_by_pow2(self, a: Self::Vector, n: Self::Vector) -> Self::Vector {
                // With the biased exponent 0 the factor is exactly 0.
                let pow2 = |n: $type| $type::from_bits(((n.max(-$bias) + $bias) as $bits) << $mantissa_bits);
                from_fn(|i| a[i] * pow2(n[i]))
            }
            #[inline(always)]
            fn split(self, a: Self::Vector) -> (Self::Vector, Self::Vector) {
                let one = (1.0 as $type).to_bits();
                let fraction = (1 << $mantissa_bits) - 1;
                let mantissa = from_fn(|i| $type::from_bits(a[i].to_bits() & fraction | one));
                let exponent = from_fn(|i| (a[i].to_bits() >> $mantissa_bits) as $type - $bias);
                (mantissa, exponent)
            }
            #[inline(always)]
            fn less(self, a: Self::Vector, b: Self::Vector) -> Self::Mask {
                from_fn(|i| a[i] < b[i])
            }
            #[inline(always)]
            fn select(self, mask: Self::Mask, yes: Self::Vector, no: Self::Vector) -> Self::Vector {
                from_fn(|i| if mask[i] { yes[i] } else { no[i] })
            }
            #[inline(always)]
            fn zero_where_less(self, a: Self::Vector, b: Self::Vector, x: Self::Vector) -> Self::Vector {
                from_fn(|i| if a[i] < b[i] { 0.0 } else { x[i] })
            }
        }
    };
}
implement_scalar!(f32, u32, i32, 16, 23, 127.0);
implement_scalar!(f64, u64, i64, 8, 52, 1023.0);
