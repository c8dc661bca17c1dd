//! Long rows of 16-bit numbers in two sweeps. Their results need fewer digits than those of `f32`, and so fewer steps.

use crate::error::Result;
use crate::logsumexp::LogSum;
use crate::long::{self, BLOCK};
use crate::rows;
use crate::threads::Cancel;
use logitscope_simd::math::ShortExp;
use logitscope_simd::{Element, Kernel, Simd, Stored};

/// Writes the softmax of a row and returns its maximum; none, and nothing is written, where the row holds other than
/// 16-bit numbers or such that [`ShortExp`] is not for.
pub(super) fn online_long<X: Stored>(
    x: &[X],
    scale: X::Wide,
    y: &mut [X],
    cancel: &Cancel,
) -> Result<Option<X::Wide>> {
    if size_of::<X>() == size_of::<X::Wide>() {
        return Ok(None);
    }
    let sums = long::each_block(x.chunks(BLOCK), cancel, |(): &mut (), x| X::run(SumPowers { x, scale }))?;
    let Some(sums) = sums.into_iter().collect::<Option<Vec<_>>>() else { return Ok(None) };
    let sum = long::merge(&sums, &|a: LogSum<X::Wide>, b| a.merge(b, scale));
    let (max, shift) = (sum.max, sum.total().log2());
    let blocks = x.chunks(BLOCK).zip(y.chunks_mut(BLOCK));
    let written =
        long::each_block(blocks, cancel, |(): &mut (), (x, y)| X::run(Write { x, max, scale, shift, y }))?;
    Ok(written.into_iter().all(|written| written).then_some(max))
}

/// As long as the exponentials of a block add up to no more than 2^60, none is so large that it loses digits, and the
/// block is not searched for its maximum.
const LARGEST_SUM: f64 = (1_u64 << 60) as f64;

/// The sum of e^{scale (x - reference)}, the reference near the maximum or below it.
struct SumPowers<'a, X: Stored> {
    x: &'a [X],
    scale: X::Wide,
}

impl<X: Stored> Kernel<X::Wide> for SumPowers<'_, X> {
    type Output = Option<LogSum<X::Wide>>;

    #[inline(always)]
    fn run<S: Simd<X::Wide>>(self, simd: S) -> Self::Output {
        let mut sum = LogSum::default();
        let mut exp = ShortExp::new(simd, sum.reference(), self.scale, 0.0)?;
        for block in self.x.chunks(rows::SUM_BLOCK) {
            let mut total = sum_block(simd, &exp, block);
            // Without a maximum so far, too: the first one is what a row of -inf alone lacks. NaN is no small sum.
            let is_small = total <= LARGEST_SUM && sum.max > X::Wide::NEG_INFINITY;
            if !is_small {
                let max = rows::maximum(simd, block);
                if max > sum.max {
                    sum.rise(max, self.scale);
                    exp = ShortExp::new(simd, max, self.scale, 0.0)?;
                    total = sum_block(simd, &exp, block);
                }
            }
            sum.add_total(total);
        }
        Some(sum)
    }
}

/// The sum of the exponentials of a block that stays in the nearest cache.
#[inline(always)]
fn sum_block<X: Stored, S: Simd<X::Wide>>(simd: S, exp: &ShortExp<S::Vector>, block: &[X]) -> f64 {
    let (packs, tail) = X::packs(block);
    let (fours, rest) = packs.as_chunks::<4>();
    let mut sums = [simd.splat(X::Wide::ZERO); 4];
    for four in fours {
        for (sum, pack) in sums.iter_mut().zip(four) {
            *sum = simd.add(*sum, exp.eval(simd, X::load(simd, pack)));
        }
    }
    for (sum, pack) in sums.iter_mut().zip(rest) {
        *sum = simd.add(*sum, exp.eval(simd, X::load(simd, pack)));
    }
    if !tail.is_empty() {
        let x = X::load_partial(simd, tail, X::Wide::NEG_INFINITY);
        sums[3] = simd.add(sums[3], exp.eval(simd, x));
    }
    rows::sum_of_four(simd, sums)
}

/// Writes e^{scale (x - max)} / 2^shift; says whether it could.
struct Write<'a, T: Stored> {
    x: &'a [T],
    max: T::Wide,
    scale: T::Wide,
    shift: f64,
    y: &'a mut [T],
}

impl<T: Stored> Kernel<T::Wide> for Write<'_, T> {
    type Output = bool;

    #[inline(always)]
    fn run<S: Simd<T::Wide>>(self, simd: S) -> bool {
        let Some(exp) = ShortExp::new(simd, self.max, self.scale, self.shift) else { return false };
        rows::write_two!(simd, self.y, x in self.x => exp.eval(simd, x));
        true
    }
}
