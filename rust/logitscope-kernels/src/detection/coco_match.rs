//! The matching of detections to the truth in the evaluation of COCO: greedy, by score, for several thresholds.

use crate::error::Result;
use crate::rows::check_len;
use crate::threads::{self, Cancel};

const NAME: &str = "coco_match";

/// No threshold counts for more than this, so that a perfect box is one however its overlap is rounded.
const ALMOST_ONE: f64 = 1.0 - 1e-10;

/// Detections and true boxes of groups: each group is an image and a class, its boxes lie one after the other.
#[derive(Clone, Copy, Debug)]
pub struct Matching<'a> {
    /// (x1, y1, x2, y2) of the detections; those of a group by falling score.
    pub detections: &'a [f64],
    /// (x1, y1, x2, y2) of the true boxes.
    pub truths: &'a [f64],
    /// How many detections and how many true boxes each group has.
    pub groups: &'a [(usize, usize)],
    /// Whether a true box is a crowd: it may be matched again and again, and the overlap is the share of the
    /// detection that it covers.
    pub crowd: &'a [bool],
    /// How many area ranges there are.
    pub ranges: usize,
    /// Whether a true box does not count, (true boxes, ranges).
    pub ignored: &'a [bool],
    /// Whether a detection lies outside of a range, (detections, ranges).
    pub outside: &'a [bool],
    /// The least overlaps of a match.
    pub thresholds: &'a [f64],
}

/// Fills, as (detections, ranges, thresholds), whether a detection is matched and whether it does not count.
///
/// # Errors
/// [`crate::Error`] if lengths do not fit, or when cancelled.
pub fn coco_match(
    matching: &Matching<'_>,
    matched: &mut [bool],
    ignored: &mut [bool],
    cancel: &Cancel,
) -> Result<()> {
    let &Matching { detections, truths, groups, crowd, ranges, thresholds, .. } = matching;
    let count = groups.iter().fold((0, 0), |sum, group| (sum.0 + group.0, sum.1 + group.1));
    check_len(NAME, "detections", detections.len(), 4 * count.0)?;
    check_len(NAME, "truths", truths.len(), 4 * count.1)?;
    check_len(NAME, "crowd", crowd.len(), count.1)?;
    check_len(NAME, "ignored truths", matching.ignored.len(), count.1 * ranges)?;
    check_len(NAME, "outside", matching.outside.len(), count.0 * ranges)?;
    check_len(NAME, "matched", matched.len(), count.0 * ranges * thresholds.len())?;
    check_len(NAME, "ignored", ignored.len(), matched.len())?;
    let (mut matched, mut ignored) = (matched, ignored);
    let (mut first, mut work) = ((0, 0), 0);
    let mut pieces = Vec::new();
    for &group in groups {
        let size = group.0 * ranges * thresholds.len();
        let (own_matched, own_ignored);
        (own_matched, matched) = matched.split_at_mut(size);
        (own_ignored, ignored) = ignored.split_at_mut(size);
        pieces.push(Group { matching, first, count: group, matched: own_matched, ignored: own_ignored });
        first = (first.0 + group.0, first.1 + group.1);
        work += size * (1 + group.1);
    }
    threads::for_each(pieces, work, cancel, Vec::new, |overlaps, mut group| group.run(overlaps))
}

struct Group<'a> {
    matching: &'a Matching<'a>,
    /// The first detection and the first true box.
    first: (usize, usize),
    count: (usize, usize),
    matched: &'a mut [bool],
    ignored: &'a mut [bool],
}

impl Group<'_> {
    fn run(&mut self, overlaps: &mut Vec<f64>) {
        let &Matching { detections, truths, crowd, ranges, thresholds, .. } = self.matching;
        let (first, count) = (self.first, self.count);
        let truths = &truths[4 * first.1..4 * (first.1 + count.1)];
        overlaps.clear();
        for detection in detections[4 * first.0..4 * (first.0 + count.0)].chunks_exact(4) {
            let pairs = truths.chunks_exact(4).zip(&crowd[first.1..]);
            overlaps.extend(pairs.map(|(truth, &crowd)| overlap(detection, truth, crowd)));
        }
        for range in 0..ranges {
            for threshold in 0..thresholds.len() {
                self.match_one(overlaps, range, threshold);
            }
        }
    }

    /// Matches all detections for one range and one threshold.
    fn match_one(&mut self, overlaps: &[f64], range: usize, threshold: usize) {
        let &Matching { crowd, ranges, ignored, outside, thresholds, .. } = self.matching;
        let (first, count) = (self.first, self.count);
        let does_not_count = |truth: usize| ignored[(first.1 + truth) * ranges + range];
        let mut taken = vec![false; count.1];
        for detection in 0..count.0 {
            let overlaps = &overlaps[detection * count.1..(detection + 1) * count.1];
            // One that does not count is matched only where none that counts can be.
            let best = [false, true].into_iter().find_map(|round| {
                let mut best = (thresholds[threshold].min(ALMOST_ONE), None);
                for (truth, &overlap) in overlaps.iter().enumerate() {
                    let is_free = !taken[truth] || crowd[first.1 + truth];
                    if does_not_count(truth) == round && is_free && overlap >= best.0 {
                        best = (overlap, Some(truth));
                    }
                }
                best.1
            });
            let slot = (detection * ranges + range) * thresholds.len() + threshold;
            self.matched[slot] = best.is_some();
            self.ignored[slot] = match best {
                Some(truth) => {
                    taken[truth] = true;
                    does_not_count(truth)
                }
                None => outside[(first.0 + detection) * ranges + range],
            };
        }
    }
}

fn overlap(detection: &[f64], truth: &[f64], crowd: bool) -> f64 {
    let area = |corners: &[f64]| (corners[2] - corners[0]) * (corners[3] - corners[1]);
    let width = detection[2].min(truth[2]) - detection[0].max(truth[0]);
    let height = detection[3].min(truth[3]) - detection[1].max(truth[1]);
    if width <= 0.0 || height <= 0.0 {
        return 0.0;
    }
    let intersection = width * height;
    let union = if crowd { area(detection) } else { area(detection) + area(truth) - intersection };
    intersection / union
}
