//! Hard suppression: in falling order of scores, a box stays unless it overlaps one that has stayed.

use super::boxes::{Group, List, Sides};
use super::suppression::{Chosen, Options};
use crate::error::Result;
use crate::threads::Cancel;
use logitscope_simd::{Element, Kernel, Simd};

/// Vectors of boxes between two looks at whether one overlaps too much.
const LOOK: usize = 4;

pub(super) fn suppress<T: Element>(
    mut boxes: Vec<(Sides<T>, Chosen<T>)>,
    threshold: f64,
    options: &Options,
    cancel: &Cancel,
) -> Result<Vec<Chosen<T>>> {
    boxes.sort_unstable_by(|(_, a), (_, b)| a.order(b));
    // The first is chosen whatever its score.
    let above =
        boxes.partition_point(|(_, candidate)| candidate.score >= T::from_f64(options.score_threshold));
    boxes.truncate(above.max(1));
    T::dispatch(Hard { boxes: &boxes, threshold: T::from_f64(threshold), options, cancel })
}

struct Hard<'a, T> {
    boxes: &'a [(Sides<T>, Chosen<T>)],
    threshold: T,
    options: &'a Options,
    cancel: &'a Cancel,
}

impl<T: Element> Kernel<T> for Hard<'_, T> {
    type Output = Result<Vec<Chosen<T>>>;

    #[inline(always)]
    fn run<S: Simd<T>>(self, simd: S) -> Self::Output {
        let offset = simd.splat(T::from_f64(self.options.offset));
        let mut kept = List::new();
        let mut chosen = Vec::new();
        for &(sides, candidate) in self.boxes {
            if chosen.len() == self.options.max_output {
                break;
            }
            self.cancel.check()?;
            if !overlaps(simd, &sides.splat(simd), kept.groups(), self.threshold, offset) {
                kept.push(sides, candidate.score);
                chosen.push(candidate);
            }
        }
        Ok(chosen)
    }
}

/// Whether a box overlaps one of those kept by more than the threshold.
#[inline(always)]
fn overlaps<T: Element, S: Simd<T>>(
    simd: S,
    one: &Sides<S::Vector>,
    kept: &[Group<T>],
    threshold: T,
    offset: S::Vector,
) -> bool {
    for groups in kept.chunks(LOOK) {
        let mut largest = simd.splat(T::ZERO);
        for group in groups {
            largest = simd.max(one.iou(simd, &group.load(simd), offset), largest);
        }
        if simd.max_lane(largest) > threshold {
            return true;
        }
    }
    false
}
