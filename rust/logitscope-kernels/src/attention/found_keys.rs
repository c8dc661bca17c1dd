//! Keys of one tile that may be among those with the largest scores of a vector of rows.

use super::tile::{KEYS, MOST_LANES, room};
use logitscope_simd::{Element, Simd};

/// Keys whose masks are looked at together.
const TOGETHER: usize = 4;

/// The scores of such keys and the keys, rows in the lanes: of each row those that were found, in ascending order.
pub(super) struct Found<T: Element> {
    scores: Vec<T::Block>,
    /// As bits of numbers that are only moved.
    keys: Vec<T::Block>,
    /// How many of each row.
    counts: [usize; MOST_LANES],
    /// The largest scores of groups of keys.
    maxima: Vec<T::Block>,
}

impl<T: Element> Default for Found<T> {
    fn default() -> Self {
        Self { scores: Vec::new(), keys: Vec::new(), counts: [0; MOST_LANES], maxima: Vec::new() }
    }
}

/// One vector of the rows of a tile and its scores, one row of `width` vectors a key.
#[derive(Clone, Copy)]
pub(super) struct BlockScores<'a, T: Element> {
    pub(super) scores: &'a [T::Block],
    pub(super) width: usize,
    pub(super) block: usize,
    /// How many of the lanes are rows.
    pub(super) lanes: usize,
}

impl<T: Element> Found<T> {
    /// Finds the keys whose scores are above `least` and may be among the `wanted` largest of a row; `first` is the first.
    /// `ranks` is room for as many vectors, and may be more. False where there are none.
    #[inline(always)]
    pub(super) fn look<S: Simd<T>>(
        &mut self,
        simd: S,
        rows: BlockScores<'_, T>,
        first: usize,
        wanted: usize,
        least: S::Vector,
        ranks: &mut [S::Vector],
    ) -> bool {
        let BlockScores { scores, width, block, lanes } = rows;
        self.counts = [0; MOST_LANES];
        let in_group = (scores.len() / (2 * wanted * width)).max(1);
        let Some(bar) = self.bar(simd, rows, in_group, wanted, least, ranks) else { return false };
        // What is as large as the least passes here and nowhere else; so does NaN.
        let lowest = simd.splat(T::of_bits(T::NEG_INFINITY.bits() - 1));
        let floor = simd.max(bar, simd.max(least, lowest));
        let mut masks = [0_u16; KEYS];
        let real = u64::MAX >> (64 - lanes);
        let groups = scores.chunks(in_group * width).zip(masks.chunks_mut(in_group));
        for ((scores, masks), max) in groups.zip(&self.maxima) {
            if simd.any(simd.less(least, simd.load(max))) {
                for (score, mask) in scores.iter().skip(block).step_by(width).zip(masks) {
                    let is_below = simd.bits(simd.less(simd.load(score), floor));
                    *mask = (!is_below & real) as u16;
                }
            }
        }
        let (found, found_keys) = (room::<T>(&mut self.scores, KEYS), room::<T>(&mut self.keys, KEYS));
        let (found, found_keys) = (T::flatten_mut(found), T::flatten_mut(found_keys));
        let numbers = T::flatten(scores);
        for (index, &[a, b, c, d]) in masks.as_chunks::<TOGETHER>().0.iter().enumerate() {
            let mut bits = u64::from(a) | u64::from(b) << 16 | u64::from(c) << 32 | u64::from(d) << 48;
            while bits != 0 {
                let at = bits.trailing_zeros() as usize;
                bits &= bits - 1;
                let (key, lane) = (index * TOGETHER + at / 16, at % 16);
                let slot = self.counts[lane] * T::LANES + lane;
                self.counts[lane] += 1;
                found[slot] = numbers[(key * width + block) * T::LANES + lane];
                found_keys[slot] = T::of_bits((first + key) as u64);
            }
        }
        true
    }

    /// The `wanted`th largest of the largest scores of groups of keys: as many keys are no less. -inf where fewer are above
    /// `least`, None where none is.
    #[inline(always)]
    fn bar<S: Simd<T>>(
        &mut self,
        simd: S,
        BlockScores { scores, width, block, .. }: BlockScores<'_, T>,
        in_group: usize,
        wanted: usize,
        least: S::Vector,
        ranks: &mut [S::Vector],
    ) -> Option<S::Vector> {
        let (zero, one) = (simd.splat(T::ZERO), simd.splat(T::ONE));
        let lowest = simd.splat(T::NEG_INFINITY);
        let mut count = zero;
        let groups = scores.len().div_ceil(in_group * width);
        let maxima = room::<T>(&mut self.maxima, groups);
        for (scores, max_of_group) in scores.chunks(in_group * width).zip(maxima.iter_mut()) {
            let mut max = lowest;
            for score in scores.iter().skip(block).step_by(width) {
                max = simd.max(simd.load(score), max);
            }
            simd.store(max, max_of_group);
            count = simd.add(count, simd.select(simd.less(least, max), one, zero));
        }
        if !simd.any(simd.less(zero, count)) {
            return None;
        }
        if !simd.any(simd.less(simd.splat(T::from_f64(wanted as f64)), count)) {
            return Some(lowest);
        }
        ranks.fill(lowest);
        for max in maxima {
            let mut max = simd.load(max);
            for rank in ranks.iter_mut() {
                let other = *rank;
                let is_larger = simd.less(other, max);
                *rank = simd.select(is_larger, max, other);
                max = simd.select(is_larger, other, max);
            }
        }
        Some(ranks[wanted - 1])
    }

    /// Puts what was found into the largest scores so far, in descending order, and their keys.
    #[inline(always)]
    pub(super) fn insert_into<S: Simd<T>>(
        &self,
        simd: S,
        best: &mut [S::Vector],
        best_keys: &mut [S::Vector],
    ) {
        let (mut most, mut counts) = (0, T::block(T::ZERO));
        for (&count, lane) in self.counts.iter().zip(counts.as_mut()) {
            most = count.max(most);
            *lane = T::from_f64(count as f64);
        }
        let (counts, lowest) = (simd.load(&counts), simd.splat(T::NEG_INFINITY));
        for (slot, (score, key)) in self.scores.iter().zip(&self.keys).enumerate().take(most) {
            let is_found = simd.less(simd.splat(T::from_f64(slot as f64)), counts);
            let (score, key) = (simd.select(is_found, simd.load(score), lowest), simd.load(key));
            // From the last place on: what is smaller moves there, or the new one comes, or nothing changes.
            let mut is_larger = simd.less(best[best.len() - 1], score);
            for place in (1..best.len()).rev() {
                let (above, key_above) = (best[place - 1], best_keys[place - 1]);
                let moves = simd.less(above, score);
                let comes = simd.select(moves, above, score);
                let key_comes = simd.select(moves, key_above, key);
                best[place] = simd.select(is_larger, comes, best[place]);
                best_keys[place] = simd.select(is_larger, key_comes, best_keys[place]);
                is_larger = moves;
            }
            best[0] = simd.select(is_larger, score, best[0]);
            best_keys[0] = simd.select(is_larger, key, best_keys[0]);
        }
    }
}
