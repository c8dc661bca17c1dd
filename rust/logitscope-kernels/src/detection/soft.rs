//! Soft suppression: the box with the largest score is chosen, and the scores of all others decay by how much they
//! overlap it, again and again. One sweep lowers the scores and finds the next largest.

use super::boxes::{List, Sides};
use super::suppression::{Chosen, Options};
use crate::error::Result;
use crate::threads::Cancel;
use logitscope_simd::math;
use logitscope_simd::{Element, Kernel, Simd};

/// The factor of a score for an overlap o.
#[derive(Clone, Copy)]
pub(super) enum Decay {
    /// 1 - o where o is larger than this.
    Linear(f64),
    /// e^{-o² / sigma}.
    Gaussian(f64),
}

pub(super) fn suppress<T: Element>(
    boxes: impl Iterator<Item = (Sides<T>, Chosen<T>)>,
    decay: Decay,
    options: &Options,
    cancel: &Cancel,
) -> Result<Vec<Chosen<T>>> {
    let mut remaining = Remaining { list: List::new(), indices: Vec::new() };
    for (sides, Chosen { index, score }) in boxes {
        remaining.list.push(sides, score);
        remaining.indices.push(index);
    }
    T::dispatch(Soft { remaining, decay, options, cancel })
}

/// The boxes in their order. Those that are chosen or dropped have a score of negative infinity until the list is
/// packed.
struct Remaining<T: Element> {
    list: List<T>,
    indices: Vec<usize>,
}

impl<T: Element> Remaining<T> {
    /// Where the largest score is.
    fn largest(&self) -> Option<usize> {
        let all = (0..self.list.len()).map(|place| Chosen { index: place, score: self.list.get(place).1 });
        all.min_by(Chosen::order).map(|chosen| chosen.index)
    }

    fn take(&mut self, place: usize) -> (Sides<T>, Chosen<T>) {
        let (sides, score) = self.list.get(place);
        self.list.set(place, sides, T::NEG_INFINITY);
        (sides, Chosen { index: self.indices[place], score })
    }

    /// Closes the gaps; returns where the box at `place` is now.
    fn pack(&mut self, place: usize) -> usize {
        let (mut end, mut new_place) = (0, place);
        for old in 0..self.list.len() {
            let (sides, score) = self.list.get(old);
            if score > T::NEG_INFINITY {
                if old == place {
                    new_place = end;
                }
                self.list.set(end, sides, score);
                self.indices[end] = self.indices[old];
                end += 1;
            }
        }
        self.list.truncate(end);
        self.indices.truncate(end);
        new_place
    }
}

struct Soft<'a, T: Element> {
    remaining: Remaining<T>,
    decay: Decay,
    options: &'a Options,
    cancel: &'a Cancel,
}

impl<T: Element> Kernel<T> for Soft<'_, T> {
    type Output = Result<Vec<Chosen<T>>>;

    #[inline(always)]
    fn run<S: Simd<T>>(self, simd: S) -> Self::Output {
        let Soft { mut remaining, decay, options, cancel } = self;
        let weights = Weights::new(simd, decay, options.hard_cut);
        let offset = simd.splat(T::from_f64(options.offset));
        let score_threshold = simd.splat(T::from_f64(options.score_threshold));
        let mut chosen = Vec::new();
        let mut next = remaining.largest();
        while let Some(place) = next {
            if chosen.len() == options.max_output {
                break;
            }
            cancel.check()?;
            let (sides, best) = remaining.take(place);
            chosen.push(best);
            let left = sweep(simd, &sides, &mut remaining.list, weights, offset, score_threshold);
            next = left.largest;
            if 2 * left.count < remaining.list.len() {
                next = next.map(|place| remaining.pack(place));
            }
        }
        Ok(chosen)
    }
}

#[derive(Clone, Copy)]
struct Weights<V> {
    gaussian: bool,
    /// The threshold of the linear decay, or -1 / sigma.
    parameter: V,
    cut: V,
}

impl<V: Copy> Weights<V> {
    #[inline(always)]
    fn new<T: Element, S: Simd<T, Vector = V>>(simd: S, decay: Decay, hard_cut: Option<f64>) -> Self {
        let (gaussian, parameter) = match decay {
            Decay::Linear(threshold) => (false, threshold),
            Decay::Gaussian(sigma) => (true, -1.0 / sigma),
        };
        let cut = simd.splat(T::from_f64(hard_cut.unwrap_or(f64::INFINITY)));
        Weights { gaussian, parameter: simd.splat(T::from_f64(parameter)), cut }
    }

    #[inline(always)]
    fn eval<T: Element, S: Simd<T, Vector = V>>(&self, simd: S, overlap: V) -> V {
        let one = simd.splat(T::ONE);
        let weight = if self.gaussian {
            math::exp(simd, simd.mul(simd.mul(overlap, overlap), self.parameter))
        } else {
            simd.select(simd.less(self.parameter, overlap), simd.sub(one, overlap), one)
        };
        simd.select(simd.less(self.cut, overlap), simd.splat(T::ZERO), weight)
    }
}

/// What a sweep has left.
struct Left {
    count: usize,
    /// Where the largest score is, the first of equal ones.
    largest: Option<usize>,
}

/// Lowers the scores of boxes by how much they overlap the chosen one. What has a weight of 0, or falls below the
/// threshold, is dropped.
#[inline(always)]
fn sweep<T: Element, S: Simd<T>>(
    simd: S,
    chosen: &Sides<T>,
    list: &mut List<T>,
    weights: Weights<S::Vector>,
    offset: S::Vector,
    score_threshold: S::Vector,
) -> Left {
    let (zero, one, gone) = (simd.splat(T::ZERO), simd.splat(T::ONE), simd.splat(T::NEG_INFINITY));
    let chosen = chosen.splat(simd);
    // Lane by lane: the largest score, the number of its vector, and how many boxes are left.
    let (mut largest, mut largest_at, mut count) = (gone, zero, zero);
    let mut at = zero;
    for group in list.groups_mut() {
        let weight = weights.eval(simd, chosen.iou(simd, &group.load(simd), offset));
        let scores = simd.mul(simd.load(&group.scores), weight);
        let scores = simd.select(simd.less(zero, weight), scores, gone);
        let scores = simd.select(simd.less(scores, score_threshold), gone, scores);
        simd.store(scores, &mut group.scores);
        let is_larger = simd.less(largest, scores);
        largest_at = simd.select(is_larger, at, largest_at);
        largest = simd.select(is_larger, scores, largest);
        count = simd.add(count, simd.select(simd.less(gone, scores), one, zero));
        at = simd.add(at, one);
    }
    let count = simd.sum(count).to_f64() as usize;
    if count == 0 {
        return Left { count, largest: None };
    }
    let (largest, largest_at) = (simd.to_block(largest), simd.to_block(largest_at));
    let mut best = Chosen { index: usize::MAX, score: T::NEG_INFINITY };
    for (lane, (&score, at)) in largest.as_ref().iter().zip(largest_at.as_ref()).enumerate() {
        let place = at.to_f64() as usize * T::LANES + lane;
        if score > best.score || (score == best.score && place < best.index) {
            best = Chosen { index: place, score };
        }
    }
    Left { count, largest: Some(best.index) }
}
