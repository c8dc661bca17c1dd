//! The vector trait: the operations the kernels use, implemented once per instruction set in `arch/`.

use crate::element::Element;
use crate::isa::Isa;
use crate::stored::{BF16, F16, Stored};
use crate::tiles::TileProduct;

/// The vectors of one instruction set over elements `T`.
///
/// A value of an implementing type is a token: it can only be made after the CPU was checked, so
/// holding one proves that its instructions may run. Vectors are 64 bytes wide on every instruction
/// set. Lane-wise operations round as IEEE 754 does, so all implementations give the same bits.
pub trait Simd<T: Element>: Copy + Send + Sync {
    /// `T::LANES` elements.
    type Vector: Copy;
    /// One truth value per lane.
    type Mask: Copy;

    /// The instruction set this token stands for.
    const ISA: Isa;
    /// Vectors that fit the register file: what a register-blocked kernel may keep alive.
    const REGISTERS: usize;
    /// Whether the CPU has bfloat16: [`Simd::add_pairs`] is one instruction, and twice as fast as two products.
    const HAS_PAIRS: bool = false;
    /// Whether the CPU has tiles of bfloat16: [`Simd::multiply_tiles`] is then some eight times as fast as products of
    /// pairs.
    const HAS_TILES: bool = false;

    /// A vector with every lane equal to `x`.
    fn splat(self, x: T) -> Self::Vector;
    /// Reads one block.
    fn load(self, block: &T::Block) -> Self::Vector;
    /// Writes one block.
    fn store(self, vector: Self::Vector, block: &mut T::Block);

    /// Writes one block past the caches if it is aligned to 64 bytes: it is not read before it is overwritten, and
    /// displaces nothing. Call [`Simd::fence`] after the last such store.
    #[inline(always)]
    fn store_stream(self, vector: Self::Vector, block: &mut T::Block) {
        self.store(vector, block);
    }
    /// Makes what [`Simd::store_stream`] wrote visible to other threads before what is written next.
    #[inline(always)]
    fn fence(self) {}

    /// Asks the caches for the line with the first element, which will be read or written soon.
    #[inline(always)]
    fn prefetch<X>(self, _slice: &[X]) {}

    /// Writes `T::LANES` rows as the columns of `out`, of which there are as many.
    #[inline(always)]
    fn transpose(self, rows: &[&T::Block], out: &mut [T::Block]) {
        for (i, row) in rows.iter().enumerate() {
            for (out, &x) in out.iter_mut().zip(row.as_ref()) {
                out.as_mut()[i] = x;
            }
        }
    }

    /// Reads at most `T::LANES` elements; the lanes beyond them hold `fill`.
    #[inline(always)]
    fn load_partial(self, slice: &[T], fill: T) -> Self::Vector {
        let mut block = T::block(fill);
        block.as_mut()[..slice.len()].copy_from_slice(slice);
        self.load(&block)
    }
    /// Writes the first `slice.len()` lanes, at most `T::LANES`.
    #[inline(always)]
    fn store_partial(self, vector: Self::Vector, slice: &mut [T]) {
        let block = self.to_block(vector);
        let n = slice.len();
        slice.copy_from_slice(&block.as_ref()[..n]);
    }
    /// The lanes as an array.
    #[inline(always)]
    fn to_block(self, vector: Self::Vector) -> T::Block {
        let mut block = T::block(T::ZERO);
        self.store(vector, &mut block);
        block
    }

    /// `a + b`.
    fn add(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// `a - b`.
    fn sub(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// `a * b`.
    fn mul(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// `a / b`.
    fn div(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// `a * b + c` with one rounding.
    fn mul_add(self, a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector;
    /// `a` where `a > b`, `b` elsewhere: a NaN in `b` stays, a NaN in `a` is passed over.
    fn max(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// The nearest integer, ties to even.
    fn round(self, a: Self::Vector) -> Self::Vector;
    /// `a * 2^n` for an integer-valued `n`, where `a` and the result are normal numbers: n is added to the exponent.
    /// A NaN stays where n is NaN, too; all else is without meaning.
    fn scale_by_pow2(self, a: Self::Vector, n: Self::Vector) -> Self::Vector;
    /// The mantissa m and the exponent e with `a = m * 2^e`, `1 <= m < 2` and e an integer, of positive normal
    /// numbers; without meaning elsewhere.
    fn split(self, a: Self::Vector) -> (Self::Vector, Self::Vector);
    /// `a * 2^n` for an integer-valued n <= 0 however small; what is no normal number may become 0.
    fn scale_down_by_pow2(self, a: Self::Vector, n: Self::Vector) -> Self::Vector;
    /// `a < b`; false where either is NaN.
    fn less(self, a: Self::Vector, b: Self::Vector) -> Self::Mask;
    /// Whether the mask is true in any lane.
    #[inline(always)]
    fn any(self, mask: Self::Mask) -> bool {
        let (zero, one) = (self.splat(T::ZERO), self.splat(T::ONE));
        self.sum(self.select(mask, one, zero)) > T::ZERO
    }
    /// The mask as bits, the first lane the lowest.
    #[inline(always)]
    fn bits(self, mask: Self::Mask) -> u64 {
        let lanes = self.to_block(self.select(mask, self.splat(T::ONE), self.splat(T::ZERO)));
        let mut bits = 0;
        for (lane, &number) in lanes.as_ref().iter().enumerate() {
            bits |= u64::from(number == T::ONE) << lane;
        }
        bits
    }
    /// `yes` where the mask is true, `no` elsewhere.
    fn select(self, mask: Self::Mask, yes: Self::Vector, no: Self::Vector) -> Self::Vector;
    /// 0 where `a < b`, `x` elsewhere: `select` in one step.
    fn zero_where_less(self, a: Self::Vector, b: Self::Vector, x: Self::Vector) -> Self::Vector;

    /// Two vectors rounded to half the bits, the two numbers of a lane in one (see [`Element::halves`]).
    #[inline(always)]
    fn pair(self, low: Self::Vector, high: Self::Vector) -> Self::Vector {
        let (mut pairs, high) = (self.to_block(low), self.to_block(high));
        for (pair, &high) in pairs.as_mut().iter_mut().zip(high.as_ref()) {
            *pair = T::of_halves(*pair, high);
        }
        self.load(&pairs)
    }
    /// Two vectors rounded to half the bits, neighbouring numbers in one lane: those of `low`, then those of `high`.
    #[inline(always)]
    fn pair_neighbours(self, low: Self::Vector, high: Self::Vector) -> Self::Vector {
        let (low, high) = (self.to_block(low), self.to_block(high));
        let (mut pairs, half) = (T::block(T::ZERO), T::LANES / 2);
        for (lane, pair) in pairs.as_mut().iter_mut().enumerate() {
            let (numbers, first) = if lane < half { (&low, 2 * lane) } else { (&high, 2 * (lane - half)) };
            *pair = T::of_halves(numbers.as_ref()[first], numbers.as_ref()[first + 1]);
        }
        self.load(&pairs)
    }
    /// `c` plus the two products of each lane's pairs; how the sum is rounded differs between instruction sets.
    #[inline(always)]
    fn add_pairs(self, a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector {
        let (a, b, mut sums) = (self.to_block(a), self.to_block(b), self.to_block(c));
        for (i, sum) in sums.as_mut().iter_mut().enumerate() {
            let ((a_low, a_high), (b_low, b_high)) = (a.as_ref()[i].halves(), b.as_ref()[i].halves());
            *sum += a_low * b_low + a_high * b_high;
        }
        self.load(&sums)
    }

    /// A product of tiles of pairs; in which order sums are rounded differs between instruction sets, and denormals may
    /// count as 0.
    ///
    /// # Panics
    /// If a tile reaches beyond its matrix.
    #[inline(always)]
    fn multiply_tiles(self, product: TileProduct<'_, T>) {
        product.by_vectors(self);
    }

    /// The lanes of so many float16 numbers, exactly.
    #[inline(always)]
    fn load_f16(self, numbers: &[F16; 16]) -> Self::Vector {
        let mut wide = T::block(T::ZERO);
        for (wide, number) in wide.as_mut().iter_mut().zip(numbers) {
            *wide = T::from_f64(number.widen().into());
        }
        self.load(&wide)
    }
    /// Writes the lanes rounded to float16 as [`Stored::narrow`] does: the same bits everywhere, NaN included.
    #[inline(always)]
    fn store_f16(self, vector: Self::Vector, out: &mut [F16; 16]) {
        let wide = self.to_block(vector);
        for (out, wide) in out.iter_mut().zip(wide.as_ref()) {
            *out = F16::narrow(wide.to_f32());
        }
    }
    /// The bfloat16 numbers of two packs, exactly: those at even places, then those at odd ones, which costs half of what
    /// their order would.
    #[inline(always)]
    fn load_bf16_two(self, numbers: &[BF16]) -> [Self::Vector; 2] {
        let (mut even, mut odd) = (T::block(T::ZERO), T::block(T::ZERO));
        for ((even, odd), pair) in even.as_mut().iter_mut().zip(odd.as_mut()).zip(numbers.chunks_exact(2)) {
            *even = T::from_f64(pair[0].widen().into());
            *odd = T::from_f64(pair[1].widen().into());
        }
        [self.load(&even), self.load(&odd)]
    }
    /// Writes the lanes rounded to bfloat16 as [`Stored::narrow`] does: the same bits everywhere, NaN included.
    #[inline(always)]
    fn store_bf16(self, vector: Self::Vector, out: &mut [BF16]) {
        let wide = self.to_block(vector);
        for (out, wide) in out.iter_mut().zip(wide.as_ref()) {
            *out = BF16::narrow(wide.to_f32());
        }
    }
    /// The same of two vectors, none of whose lanes is a denormal: those may become 0.
    #[inline(always)]
    fn store_bf16_two(self, low: Self::Vector, high: Self::Vector, out: &mut [BF16]) {
        let (first, second) = out.split_at_mut(T::LANES);
        self.store_bf16(low, first);
        self.store_bf16(high, second);
    }

    /// The sum of all lanes, added as a binary tree over halves (the same order everywhere).
    #[inline(always)]
    fn sum(self, vector: Self::Vector) -> T {
        let mut block = self.to_block(vector);
        let lanes = block.as_mut();
        let mut half = T::LANES / 2;
        while half > 0 {
            for i in 0..half {
                lanes[i] += lanes[i + half];
            }
            half /= 2;
        }
        lanes[0]
    }
    /// The sum of the lanes of each of `T::LANES` vectors, at most 16, in the lane of its number; added as [`Simd::sum`] does.
    #[inline(always)]
    fn sum_each(self, vectors: &[Self::Vector]) -> Self::Vector {
        let mut blocks = [T::block(T::ZERO); 16];
        for (block, &vector) in blocks.iter_mut().zip(vectors) {
            self.store(vector, block);
        }
        let mut rows = [&blocks[0]; 16];
        for (row, block) in rows.iter_mut().zip(&blocks) {
            *row = block;
        }
        let mut square = [T::block(T::ZERO); 16];
        self.transpose(&rows[..T::LANES], &mut square[..T::LANES]);
        let mut sums = [self.splat(T::ZERO); 16];
        for (sum, block) in sums.iter_mut().zip(&square) {
            *sum = self.load(block);
        }
        let mut half = T::LANES / 2;
        while half > 0 {
            for i in 0..half {
                sums[i] = self.add(sums[i], sums[i + half]);
            }
            half /= 2;
        }
        sums[0]
    }
    /// The largest lane that is not NaN; negative infinity if there is none.
    #[inline(always)]
    fn max_lane(self, vector: Self::Vector) -> T {
        let mut block = self.to_block(self.max(vector, self.splat(T::NEG_INFINITY)));
        let lanes = block.as_mut();
        let mut half = T::LANES / 2;
        while half > 0 {
            for i in 0..half {
                if lanes[i + half] > lanes[i] {
                    lanes[i] = lanes[i + half];
                }
            }
            half /= 2;
        }
        lanes[0]
    }
}
