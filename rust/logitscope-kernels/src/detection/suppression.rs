//! Non-maximum suppression, hard and soft (Bodla et al., arXiv 1704.04503), of each class by itself.

use super::boxes::{Sides, check_boxes};
use super::{hard, soft};
use crate::error::{Error, Result};
use crate::rows;
use crate::threads::{self, Cancel};
use logitscope_simd::{Element, Stored};
use std::cmp::Ordering;

/// What becomes of the score of a box that overlaps the chosen one by o.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Method {
    /// Nothing where o is larger than the threshold: the box is dropped.
    Hard {
        /// Between 0 and 1.
        threshold: f64,
    },
    /// It is multiplied by 1 - o where o is larger than the threshold.
    Linear {
        /// Between 0 and 1.
        threshold: f64,
    },
    /// It is multiplied by e^{-o² / sigma}.
    Gaussian {
        /// Above 0.
        sigma: f64,
    },
}

/// How boxes suppress each other.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The name of the operation, for its errors.
    pub operation: &'static str,
    /// What becomes of overlapping boxes.
    pub method: Method,
    /// Boxes that overlap the chosen one by more than this are dropped, whatever the method.
    pub hard_cut: Option<f64>,
    /// Boxes whose score has fallen below this are dropped.
    pub score_threshold: f64,
    /// Whether they are from the start, before the first box is chosen.
    pub prefilter: bool,
    /// At most so many boxes of each class are chosen.
    pub max_output: usize,
    /// Added to all widths and heights.
    pub offset: f64,
}

/// A chosen box: where it stood, and its score by then.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chosen<T> {
    pub index: usize,
    pub score: T,
}

impl<T: Element> Chosen<T> {
    /// The larger score first, of equal ones the one that stood first.
    pub(super) fn order(&self, other: &Self) -> Ordering {
        // No score is NaN.
        other.score.partial_cmp(&self.score).unwrap_or(Ordering::Equal).then(self.index.cmp(&other.index))
    }
}

impl Options {
    fn check<T: Element>(&self) -> Result<()> {
        let wrong = |argument, got: f64, expected: &str| {
            let (got, expected) = (format!("{got:?}"), expected.to_owned());
            Err(Error::Argument { operation: self.operation, argument, got, expected })
        };
        let unit = 0.0..=1.0;
        match self.method {
            Method::Hard { threshold } | Method::Linear { threshold } if !unit.contains(&threshold) => {
                return wrong("iou_threshold", threshold, "a number in 0..1");
            }
            Method::Gaussian { sigma } => {
                let inverse = T::from_f64(1.0 / sigma);
                if !(sigma > 0.0 && inverse >= T::MIN_POSITIVE && inverse.is_finite()) {
                    return wrong("sigma", sigma, "a positive finite number whose reciprocal is one");
                }
            }
            _ => (),
        }
        match self.hard_cut {
            Some(cut) if !unit.contains(&cut) => wrong("hard_cut", cut, "a number in 0..1"),
            _ if self.score_threshold.is_nan() => wrong("score_threshold", self.score_threshold, "a number"),
            _ => Ok(()),
        }
    }
}

/// Chooses boxes by score, each time lowering the scores of those that overlap the chosen one; fills where the chosen
/// stood and their scores by then, in falling order, and returns how many they are.
///
/// With `classes`, boxes of different classes do not touch each other. Of equal scores the first is chosen. Scores of
/// 16 bits decay as `f32` and are rounded at the end.
///
/// # Errors
/// [`Error`] for boxes and scores that are none, naming the row, for options out of range and lengths that do not
/// fit, before anything is written; or when cancelled.
pub fn soft_nms<X: Stored>(
    boxes: &[X],
    scores: &[X],
    classes: Option<&[i64]>,
    options: &Options,
    keep: &mut [i64],
    kept_scores: &mut [X],
    cancel: &Cancel,
) -> Result<usize> {
    let operation = options.operation;
    options.check::<X::Wide>()?;
    let offset = X::Wide::from_f64(options.offset);
    let count = check_boxes(operation, "boxes", boxes, offset)?;
    rows::check_len(operation, "scores", scores.len(), count)?;
    rows::check_len(operation, "classes", classes.map_or(count, <[i64]>::len), count)?;
    rows::check_len(operation, "keep", keep.len(), count)?;
    rows::check_len(operation, "kept_scores", kept_scores.len(), count)?;
    if let Some(row) = scores.iter().position(|score| !score.widen().is_finite()) {
        let got = format!("{} in row {row}", scores[row].widen());
        return Err(Error::Argument {
            operation,
            argument: "scores",
            got,
            expected: "finite numbers".into(),
        });
    }
    let threshold = X::Wide::from_f64(options.score_threshold);
    let mut candidates: Vec<usize> =
        (0..count).filter(|&index| !options.prefilter || scores[index].widen() >= threshold).collect();
    let class = |index: usize| classes.map_or(0, |classes| classes[index]);
    candidates.sort_by_key(|&index| class(index));
    let groups: Vec<&[usize]> = candidates.chunk_by(|&a, &b| class(a) == class(b)).collect();
    let work = groups.iter().map(|group| group.len().saturating_mul(group.len())).sum();
    let mut found: Vec<Result<Vec<Chosen<X::Wide>>>> = groups.iter().map(|_| Ok(Vec::new())).collect();
    let pieces: Vec<_> = groups.into_iter().zip(&mut found).collect();
    threads::for_each(
        pieces,
        work,
        cancel,
        || (),
        |(), (group, found)| {
            let boxes = group.iter().map(|&index| Sides::new(&boxes[4 * index..4 * index + 4], offset));
            let candidates = group.iter().map(|&index| Chosen { index, score: scores[index].widen() });
            *found = suppress(boxes.zip(candidates), options, cancel);
        },
    )?;
    let mut chosen = Vec::new();
    for group in found {
        chosen.extend(group?);
    }
    // One class comes in order.
    chosen.sort_by(Chosen::order);
    for ((&Chosen { index, score }, keep), kept_score) in chosen.iter().zip(keep).zip(kept_scores) {
        (*keep, *kept_score) = (index as i64, X::narrow(score));
    }
    Ok(chosen.len())
}

fn suppress<T: Element>(
    boxes: impl Iterator<Item = (Sides<T>, Chosen<T>)>,
    options: &Options,
    cancel: &Cancel,
) -> Result<Vec<Chosen<T>>> {
    let cut = options.hard_cut.unwrap_or(f64::INFINITY);
    match options.method {
        Method::Hard { threshold } => hard::suppress(boxes.collect(), threshold.min(cut), options, cancel),
        Method::Linear { threshold } => {
            soft::suppress(boxes, soft::Decay::Linear(threshold), options, cancel)
        }
        Method::Gaussian { sigma } => soft::suppress(boxes, soft::Decay::Gaussian(sigma), options, cancel),
    }
}
