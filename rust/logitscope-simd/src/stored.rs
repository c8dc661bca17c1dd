//! Numbers as arrays hold them: the element types, and 16-bit numbers that are computed with as `f32`.

use crate::dispatch::Kernel;
use crate::element::Element;
use crate::simd::Simd;
use std::fmt::Debug;

/// A number as an array holds it.
///
/// Kernels compute in [`Stored::Wide`]. Rows of `f32` and `f64` are worked on where they lie; those of 16-bit
/// numbers are widened into a buffer that stays in the cache, and results are rounded once, when they are stored.
pub trait Stored: Copy + Debug + Send + Sync + 'static {
    /// What is computed with.
    type Wide: Element;
    /// As many numbers as a vector of `Wide` has lanes.
    type Pack: Copy + Send + Sync + 'static;

    /// `"f32"`, `"f64"`, `"f16"` or `"bf16"`, as kernel names spell it.
    const FORMAT: &'static str;
    /// Whether two of these are the halves of one `Wide` (see [`Element::halves`]).
    const IS_HALF: bool = false;

    /// Two numbers in the bits of one; exact where [`Stored::IS_HALF`].
    #[inline(always)]
    fn pair(low: Self, high: Self) -> Self::Wide {
        Self::Wide::of_halves(low.widen(), high.widen())
    }

    /// The number, exactly.
    fn widen(self) -> Self::Wide;
    /// The nearest number of this type, ties to even.
    fn narrow(wide: Self::Wide) -> Self;

    /// The row itself where it is `Wide`.
    fn as_wide(row: &[Self]) -> Option<&[Self::Wide]>;
    /// The row itself where it is `Wide`.
    fn as_wide_mut(row: &mut [Self]) -> Option<&mut [Self::Wide]>;
    /// Writes the numbers of a row into one as long.
    fn widen_into(row: &[Self], wide: &mut [Self::Wide]);
    /// Rounds the numbers of a row into one as long.
    fn narrow_into(wide: &[Self::Wide], row: &mut [Self]);
    /// The numbers of a row, in `buffer` unless they are `Wide` already.
    fn wide<'a>(row: &'a [Self], buffer: &'a mut Vec<Self::Wide>) -> &'a [Self::Wide];
    /// Where the results for `row` are computed, in `buffer` unless they are `Wide`; call [`Stored::settle`] after.
    fn target<'a>(row: &'a mut [Self], buffer: &'a mut Vec<Self::Wide>) -> &'a mut [Self::Wide];
    /// Stores in `row` what was computed in `buffer`; nothing if [`Stored::target`] was the row itself.
    fn settle(buffer: &[Self::Wide], row: &mut [Self]);

    /// Cuts a slice into whole packs and the numbers left over.
    fn packs(row: &[Self]) -> (&[Self::Pack], &[Self]);
    /// Cuts a mutable slice into whole packs and the numbers left over.
    fn packs_mut(row: &mut [Self]) -> (&mut [Self::Pack], &mut [Self]);
    /// A pack as a block of what is computed with: itself where it is one, else in `room`.
    fn wide_pack<'a, S: Simd<Self::Wide>>(
        simd: S,
        pack: &'a Self::Pack,
        room: &'a mut <Self::Wide as Element>::Block,
    ) -> &'a <Self::Wide as Element>::Block;
    /// Reads one pack.
    fn load<S: Simd<Self::Wide>>(simd: S, pack: &Self::Pack) -> S::Vector;
    /// Reads two packs in an order that suits this type; [`Stored::put_in_order`] undoes it.
    #[inline(always)]
    fn load_two<S: Simd<Self::Wide>>(simd: S, packs: &[Self::Pack; 2]) -> [S::Vector; 2] {
        [Self::load(simd, &packs[0]), Self::load(simd, &packs[1])]
    }
    /// Puts what [`Stored::load_two`] has read, or what was computed of it, in the order in which it was stored.
    #[inline(always)]
    fn put_in_order(_: &mut [<Self::Wide as Element>::Block; 2]) {}
    /// Writes one pack.
    fn store<S: Simd<Self::Wide>>(simd: S, vector: S::Vector, pack: &mut Self::Pack);
    /// Writes two packs of numbers none of which is a denormal: those may become 0.
    #[inline(always)]
    fn store_two<S: Simd<Self::Wide>>(simd: S, [a, b]: [S::Vector; 2], packs: &mut [Self::Pack; 2]) {
        Self::store(simd, a, &mut packs[0]);
        Self::store(simd, b, &mut packs[1]);
    }
    /// Reads less than a pack; the lanes beyond hold `fill`.
    #[inline(always)]
    fn load_partial<S: Simd<Self::Wide>>(simd: S, row: &[Self], fill: Self::Wide) -> S::Vector {
        let mut block = <Self::Wide as Element>::block(fill);
        for (wide, number) in block.as_mut().iter_mut().zip(row) {
            *wide = number.widen();
        }
        simd.load(&block)
    }
    /// Writes the first `row.len()` lanes.
    #[inline(always)]
    fn store_partial<S: Simd<Self::Wide>>(simd: S, vector: S::Vector, row: &mut [Self]) {
        for (wide, number) in simd.to_block(vector).as_ref().iter().zip(row) {
            *number = Self::narrow(*wide);
        }
    }
    /// Writes one pack past the caches where that pays (see [`Simd::store_stream`]).
    #[inline(always)]
    fn store_stream<S: Simd<Self::Wide>>(simd: S, vector: S::Vector, pack: &mut Self::Pack) {
        Self::store(simd, vector, pack);
    }

    /// Runs a kernel that loads and stores these numbers itself, with what the CPU has for them.
    #[inline]
    fn run<K: Kernel<Self::Wide>>(kernel: K) -> K::Output {
        Self::Wide::dispatch(kernel)
    }
}

macro_rules! stored_as_it_is {
    ($type:ty) => {
        impl Stored for $type {
            type Wide = $type;
            type Pack = <$type as Element>::Block;

            const FORMAT: &'static str = <$type as Element>::NAME;

            #[inline(always)]
            fn widen(self) -> $type {
                self
            }
            #[inline(always)]
            fn narrow(wide: $type) -> $type {
                wide
            }
            #[inline(always)]
            fn as_wide(row: &[$type]) -> Option<&[$type]> {
                Some(row)
            }
            #[inline(always)]
            fn as_wide_mut(row: &mut [$type]) -> Option<&mut [$type]> {
                Some(row)
            }
            fn widen_into(row: &[$type], wide: &mut [$type]) {
                wide.copy_from_slice(row);
            }
            fn narrow_into(wide: &[$type], row: &mut [$type]) {
                row.copy_from_slice(wide);
            }
            #[inline(always)]
            fn wide<'a>(row: &'a [$type], _: &'a mut Vec<$type>) -> &'a [$type] {
                row
            }
            #[inline(always)]
            fn target<'a>(row: &'a mut [$type], _: &'a mut Vec<$type>) -> &'a mut [$type] {
                row
            }
            #[inline(always)]
            fn settle(_: &[$type], _: &mut [$type]) {}
            #[inline(always)]
            fn packs(row: &[$type]) -> (&[Self::Pack], &[$type]) {
                <$type as Element>::blocks(row)
            }
            #[inline(always)]
            fn packs_mut(row: &mut [$type]) -> (&mut [Self::Pack], &mut [$type]) {
                <$type as Element>::blocks_mut(row)
            }
            #[inline(always)]
            fn wide_pack<'a, S: Simd<$type>>(
                _: S,
                pack: &'a Self::Pack,
                _: &'a mut <$type as Element>::Block,
            ) -> &'a <$type as Element>::Block {
                pack
            }
            #[inline(always)]
            fn load<S: Simd<$type>>(simd: S, pack: &Self::Pack) -> S::Vector {
                simd.load(pack)
            }
            #[inline(always)]
            fn store<S: Simd<$type>>(simd: S, vector: S::Vector, pack: &mut Self::Pack) {
                simd.store(vector, pack);
            }
            #[inline(always)]
            fn load_partial<S: Simd<$type>>(simd: S, row: &[$type], fill: $type) -> S::Vector {
                simd.load_partial(row, fill)
            }
            #[inline(always)]
            fn store_partial<S: Simd<$type>>(simd: S, vector: S::Vector, row: &mut [$type]) {
                simd.store_partial(vector, row);
            }
            #[inline(always)]
            fn store_stream<S: Simd<$type>>(simd: S, vector: S::Vector, pack: &mut Self::Pack) {
                simd.store_stream(vector, pack);
            }
        }
    };
}
stored_as_it_is!(f32);
stored_as_it_is!(f64);

/// IEEE 754 half precision: 11 significant bits, 6e-8 to 65504.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct F16(pub u16);

/// The upper half of an `f32`: 8 significant bits and its range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct BF16(pub u16);

impl F16 {
    #[inline(always)]
    fn to_f32(self) -> f32 {
        let bits = u32::from(self.0);
        // The exponent's bias grows from 15 to 127 by a product, which also makes denormals normal numbers.
        let scaled = f32::from_bits((bits & 0x7fff) << 13) * f32::from_bits(0x7780_0000);
        let infinite = if bits & 0x7c00 == 0x7c00 { 0x7f80_0000 } else { 0 };
        f32::from_bits(scaled.to_bits() | infinite | (bits & 0x8000) << 16)
    }

    #[inline(always)]
    fn from_f32(wide: f32) -> Self {
        let bits = wide.to_bits();
        let magnitude = bits & 0x7fff_ffff;
        let odd = (magnitude >> 13) & 1;
        let normal = magnitude.wrapping_sub(0x3800_0000).wrapping_add(0xfff + odd) >> 13;
        // Adding 0.5 leaves the digits of a denormal half in the lowest bits, rounded by the hardware.
        let denormal = (f32::from_bits(magnitude) + 0.5).to_bits().wrapping_sub(0x3f00_0000);
        let finite = if magnitude < 0x3880_0000 { denormal } else { normal };
        // NaN keeps its upper bits, as with the instruction for it.
        let beyond = if magnitude > 0x7f80_0000 { 0x7e00 | (magnitude >> 13) & 0x1ff } else { 0x7c00 };
        let rounded = if magnitude >= 0x4780_0000 { beyond } else { finite };
        F16((rounded | (bits >> 16) & 0x8000) as u16)
    }
}

impl BF16 {
    #[inline(always)]
    fn to_f32(self) -> f32 {
        f32::from_bits(u32::from(self.0) << 16)
    }

    #[inline(always)]
    fn from_f32(wide: f32) -> Self {
        let bits = wide.to_bits();
        let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1));
        let nan = bits & 0x7fff_ffff > 0x7f80_0000;
        BF16(((if nan { bits | 0x0040_0000 } else { rounded }) >> 16) as u16)
    }
}

macro_rules! stored_in_half {
    ($type:ident, $name:literal, { $($own:tt)* }) => {
        impl Stored for $type {
            type Wide = f32;
            type Pack = [$type; f32::LANES];

            const FORMAT: &'static str = $name;
            $($own)*

            #[inline(always)]
            fn widen(self) -> f32 {
                self.to_f32()
            }
            #[inline(always)]
            fn narrow(wide: f32) -> $type {
                $type::from_f32(wide)
            }
            #[inline(always)]
            fn as_wide(_: &[$type]) -> Option<&[f32]> {
                None
            }
            #[inline(always)]
            fn as_wide_mut(_: &mut [$type]) -> Option<&mut [f32]> {
                None
            }
            fn widen_into(row: &[$type], wide: &mut [f32]) {
                f32::dispatch(Widen { row, target: &mut wide[..row.len()] });
            }
            fn narrow_into(wide: &[f32], row: &mut [$type]) {
                Self::run(Narrow { source: &wide[..row.len()], row });
            }
            fn wide<'a>(row: &'a [$type], buffer: &'a mut Vec<f32>) -> &'a [f32] {
                let target = Self::room(row.len(), buffer);
                Self::widen_into(row, target);
                target
            }
            fn target<'a>(row: &'a mut [$type], buffer: &'a mut Vec<f32>) -> &'a mut [f32] {
                Self::room(row.len(), buffer)
            }
            fn settle(buffer: &[f32], row: &mut [$type]) {
                Self::narrow_into(buffer, row);
            }
            #[inline(always)]
            fn packs(row: &[$type]) -> (&[Self::Pack], &[$type]) {
                row.as_chunks()
            }
            #[inline(always)]
            fn packs_mut(row: &mut [$type]) -> (&mut [Self::Pack], &mut [$type]) {
                row.as_chunks_mut()
            }
            #[inline(always)]
            fn wide_pack<'a, S: Simd<f32>>(
                simd: S,
                pack: &'a Self::Pack,
                room: &'a mut <f32 as Element>::Block,
            ) -> &'a <f32 as Element>::Block {
                simd.store(Self::load(simd, pack), room);
                room
            }
        }

        impl $type {
            /// The first `len` numbers of a buffer that is made long enough.
            fn room(len: usize, buffer: &mut Vec<f32>) -> &mut [f32] {
                if buffer.len() < len {
                    buffer.resize(len, 0.0);
                }
                &mut buffer[..len]
            }
        }
    };
}
stored_in_half!(F16, "f16", {
    #[inline(always)]
    fn load<S: Simd<f32>>(simd: S, pack: &Self::Pack) -> S::Vector {
        simd.load_f16(pack)
    }
    #[inline(always)]
    fn store<S: Simd<f32>>(simd: S, vector: S::Vector, pack: &mut Self::Pack) {
        simd.store_f16(vector, pack);
    }
});
stored_in_half!(BF16, "bf16", {
    const IS_HALF: bool = true;

    #[inline(always)]
    fn load<S: Simd<f32>>(simd: S, pack: &Self::Pack) -> S::Vector {
        let mut wide = [0.0; f32::LANES];
        for (wide, number) in wide.iter_mut().zip(pack) {
            *wide = number.to_f32();
        }
        simd.load(&wide)
    }
    #[inline(always)]
    fn load_two<S: Simd<f32>>(simd: S, packs: &[Self::Pack; 2]) -> [S::Vector; 2] {
        simd.load_bf16_two(packs.as_flattened())
    }
    #[inline(always)]
    fn put_in_order(blocks: &mut [<f32 as Element>::Block; 2]) {
        let [even, odd] = *blocks;
        for (pair, (even, odd)) in
            blocks.as_flattened_mut().chunks_exact_mut(2).zip(even.into_iter().zip(odd))
        {
            pair.copy_from_slice(&[even, odd]);
        }
    }
    #[inline(always)]
    fn store<S: Simd<f32>>(simd: S, vector: S::Vector, pack: &mut Self::Pack) {
        simd.store_bf16(vector, pack);
    }
    #[inline(always)]
    fn store_two<S: Simd<f32>>(simd: S, [low, high]: [S::Vector; 2], packs: &mut [Self::Pack; 2]) {
        simd.store_bf16_two(low, high, packs.as_flattened_mut());
    }
    #[inline]
    fn run<K: Kernel<f32>>(kernel: K) -> K::Output {
        f32::dispatch_pairs(kernel)
    }

    #[inline(always)]
    fn pair(low: BF16, high: BF16) -> f32 {
        f32::from_bits(u32::from(low.0) | u32::from(high.0) << 16)
    }
});

/// Widens a row.
struct Widen<'a, X> {
    row: &'a [X],
    target: &'a mut [f32],
}

impl<X: Stored<Wide = f32>> Kernel<f32> for Widen<'_, X> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<f32>>(self, simd: S) {
        let ((packs, tail), (wide_blocks, wide_tail)) = (X::packs(self.row), f32::blocks_mut(self.target));
        for (pack, wide) in packs.iter().zip(wide_blocks) {
            simd.store(X::load(simd, pack), wide);
        }
        for (number, wide) in tail.iter().zip(wide_tail) {
            *wide = number.widen();
        }
    }
}

/// Rounds a row.
struct Narrow<'a, X> {
    source: &'a [f32],
    row: &'a mut [X],
}

impl<X: Stored<Wide = f32>> Kernel<f32> for Narrow<'_, X> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<f32>>(self, simd: S) {
        let ((wide_blocks, wide_tail), (packs, tail)) = (f32::blocks(self.source), X::packs_mut(self.row));
        for (wide, pack) in wide_blocks.iter().zip(packs) {
            X::store(simd, simd.load(wide), pack);
        }
        for (wide, number) in wide_tail.iter().zip(tail) {
            *number = X::narrow(*wide);
        }
    }
}
