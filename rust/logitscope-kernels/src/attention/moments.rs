//! Count, mean and sum of squared deviations, tile by tile: two sums over a tile, then Chan's rule (Chan, Golub and `LeVeque`,
//! 1979), and means from a number near the first ones, so that a common offset costs no digit.

use logitscope_simd::{Element, Simd};

/// Moments of numbers, or of weighted ones, one set in each lane.
#[derive(Clone, Copy)]
pub(super) struct Moments<V> {
    /// How many, or the sum of their weights.
    pub(super) count: V,
    /// Their mean, less the shift.
    pub(super) mean: V,
    /// The sum of the squares of the distances from the mean.
    pub(super) m2: V,
    /// A number near the first ones.
    pub(super) shift: V,
}

/// Sums that do not wait for each other.
const WAYS: usize = 4;

impl<V: Copy> Moments<V> {
    pub(super) fn none<T: Element, S: Simd<T, Vector = V>>(simd: S) -> Self {
        let zero = simd.splat(T::ZERO);
        Self { count: zero, mean: zero, m2: zero, shift: zero }
    }

    /// Where nothing has been taken in, shifts to `near` if that is no infinity below; gives the shift.
    #[inline(always)]
    pub(super) fn shifted<T: Element, S: Simd<T, Vector = V>>(&mut self, simd: S, near: V) -> V {
        let zero = simd.splat(T::ZERO);
        let near = simd.select(simd.less(simd.splat(T::NEG_INFINITY), near), near, zero);
        self.shift = simd.select(simd.less(zero, self.count), self.shift, near);
        self.shift
    }

    /// Takes in further numbers: how many, their mean less the shift, and their `m2`.
    #[inline(always)]
    pub(super) fn merge<T: Element, S: Simd<T, Vector = V>>(&mut self, simd: S, [more, mean, m2]: [V; 3]) {
        let count = simd.add(self.count, more);
        let share = quotient(simd, more, count);
        let distance = simd.sub(mean, self.mean);
        let between = simd.mul(simd.mul(distance, distance), simd.mul(self.count, share));
        self.count = count;
        self.mean = simd.mul_add(distance, share, self.mean);
        self.m2 = simd.add(self.m2, simd.add(m2, between));
    }

    /// Takes in one vector of rows' scores above -inf, of which `max` is the largest, or of those before;
    /// `some_hidden` says that it is not worth a try to look at none of them.
    #[inline(always)]
    pub(super) fn add_scores<T: Element, S: Simd<T, Vector = V>>(
        &mut self,
        simd: S,
        scores: &[T::Block],
        (width, block): (usize, usize),
        max: V,
        some_hidden: bool,
    ) {
        let shift = self.shifted(simd, max);
        if !some_hidden {
            let of_tile = of_tile::<T, S, false>(simd, scores, width, block, shift);
            // An infinity or a NaN spoils the mean.
            if !simd.sum(simd.sub(of_tile[1], of_tile[1])).is_nan() {
                self.merge(simd, of_tile);
                return;
            }
        }
        self.merge(simd, of_tile::<T, S, true>(simd, scores, width, block, shift));
    }

    /// The mean square distance from the mean.
    #[inline(always)]
    pub(super) fn variance<T: Element, S: Simd<T, Vector = V>>(&self, simd: S) -> V {
        quotient(simd, self.m2, self.count)
    }
}

/// `a / b`, 0 where `b` is 0.
#[inline(always)]
pub(super) fn quotient<T: Element, S: Simd<T>>(simd: S, a: S::Vector, b: S::Vector) -> S::Vector {
    let zero = simd.splat(T::ZERO);
    simd.select(simd.less(zero, b), simd.div(a, b), zero)
}

/// Count, mean less the shift, and sum of squared deviations of one vector of rows' scores.
#[inline(always)]
fn of_tile<T: Element, S: Simd<T>, const LOOK: bool>(
    simd: S,
    scores: &[T::Block],
    width: usize,
    block: usize,
    shift: S::Vector,
) -> [S::Vector; 3] {
    let zero = simd.splat(T::ZERO);
    let (mut counts, mut sums, mut squares) = ([zero; WAYS], [zero; WAYS], [zero; WAYS]);
    let groups = scores.chunks_exact(WAYS * width);
    for rows in groups.clone() {
        for i in 0..WAYS {
            let score = simd.load(&rows[i * width + block]);
            count_score::<T, S, LOOK>(simd, score, shift, &mut counts[i], &mut sums[i]);
        }
    }
    for row in groups.remainder().chunks_exact(width) {
        count_score::<T, S, LOOK>(simd, simd.load(&row[block]), shift, &mut counts[0], &mut sums[0]);
    }
    let count =
        if LOOK { total(simd, counts) } else { simd.splat(T::from_f64((scores.len() / width) as f64)) };
    let mean = quotient(simd, total(simd, sums), count);
    for rows in groups.clone() {
        for i in 0..WAYS {
            let score = simd.load(&rows[i * width + block]);
            add_square::<T, S, LOOK>(simd, score, shift, mean, &mut squares[i]);
        }
    }
    for row in groups.remainder().chunks_exact(width) {
        add_square::<T, S, LOOK>(simd, simd.load(&row[block]), shift, mean, &mut squares[0]);
    }
    [count, mean, total(simd, squares)]
}

#[inline(always)]
fn total<T: Element, S: Simd<T>>(simd: S, [a, b, c, d]: [S::Vector; WAYS]) -> S::Vector {
    simd.add(simd.add(a, b), simd.add(c, d))
}

#[inline(always)]
fn count_score<T: Element, S: Simd<T>, const LOOK: bool>(
    simd: S,
    score: S::Vector,
    shift: S::Vector,
    count: &mut S::Vector,
    sum: &mut S::Vector,
) {
    let (zero, one) = (simd.splat(T::ZERO), simd.splat(T::ONE));
    let mut distance = simd.sub(score, shift);
    if LOOK {
        let is_one = simd.less(simd.splat(T::NEG_INFINITY), score);
        *count = simd.add(*count, simd.select(is_one, one, zero));
        distance = simd.select(is_one, distance, zero);
    }
    *sum = simd.add(*sum, distance);
}

#[inline(always)]
fn add_square<T: Element, S: Simd<T>, const LOOK: bool>(
    simd: S,
    score: S::Vector,
    shift: S::Vector,
    mean: S::Vector,
    square: &mut S::Vector,
) {
    let mut distance = simd.sub(simd.sub(score, shift), mean);
    if LOOK {
        let is_one = simd.less(simd.splat(T::NEG_INFINITY), score);
        distance = simd.select(is_one, distance, simd.splat(T::ZERO));
    }
    *square = simd.mul_add(distance, distance, *square);
}
