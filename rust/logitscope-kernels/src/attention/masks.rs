//! Which keys a query sees: the masks that a call may combine, and the band of keys that comes of them.

use crate::error::{Error, Result};
use crate::view::Mask;
use std::ops::Range;

/// Where the positions of queries and keys meet when there are not as many of both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Align {
    /// The first query is at the first key, as in torch.
    TopLeft,
    /// The last query is at the last key, as decoding needs it; lengths count where they are given.
    #[default]
    BottomRight,
}

/// The masks of a call; a query sees the keys that all of them allow. The default hides nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Masks<'a> {
    /// Where positions meet.
    pub align: Align,
    /// How many keys before its own position a query sees; None is all of them.
    pub left: Option<usize>,
    /// How many keys after its own position a query sees; None is all of them, 0 is causal.
    pub right: Option<usize>,
    /// How many queries of each batch element are real: the others see nothing.
    pub query_lengths: Option<&'a [usize]>,
    /// How many keys of each batch element are real: the others are seen by none.
    pub key_lengths: Option<&'a [usize]>,
    /// Which single scores count.
    pub scores: Option<Mask<'a>>,
}

impl Masks<'_> {
    /// Every query sees the keys up to its own position.
    pub fn causal(align: Align) -> Self {
        Self { align, right: Some(0), ..Self::default() }
    }

    /// Checks against the shape (batch, query heads, queries, keys) of the scores.
    pub(super) fn check(&self, shape: [usize; 4]) -> Result<()> {
        let [batch, _, queries, keys] = shape;
        let operation = "attention";
        for (argument, lengths, limit) in
            [("q_len", self.query_lengths, queries), ("kv_len", self.key_lengths, keys)]
        {
            let Some(lengths) = lengths else { continue };
            if lengths.len() != batch {
                let got = format!("({})", lengths.len());
                let expected = format!("one length for each of {batch} batch elements");
                return Err(Error::Shape { operation, argument, got, expected });
            }
            if let Some(length) = lengths.iter().find(|&&length| length > limit) {
                let expected = format!("lengths of 0..{limit}");
                return Err(Error::Argument { operation, argument, got: length.to_string(), expected });
            }
        }
        match self.scores {
            Some(mask) if mask.shape() != shape => {
                let (got, expected) = (format!("{:?}", mask.shape()), format!("{shape:?}"));
                Err(Error::Shape { operation, argument: "mask", got, expected })
            }
            _ => Ok(()),
        }
    }

    /// The band of one batch element with so many queries and keys.
    #[inline(always)]
    pub(super) fn band(&self, batch: usize, queries: usize, keys: usize) -> Band {
        let queries = self.query_lengths.map_or(queries, |lengths| lengths[batch]);
        let keys = self.key_lengths.map_or(keys, |lengths| lengths[batch]);
        let (ahead, behind) = match self.align {
            Align::TopLeft => (0, 0),
            Align::BottomRight => (keys.saturating_sub(queries), queries.saturating_sub(keys)),
        };
        Band { queries, keys, ahead, behind, left: self.left, right: self.right }
    }
}

/// What lengths and window let the queries of one batch element see: a range of keys that moves on with the
/// query, and seen from a key a range of queries that moves on with the key.
#[derive(Clone, Copy, Debug)]
pub(super) struct Band {
    queries: usize,
    keys: usize,
    /// The position of query `i` is `i + ahead - behind`.
    ahead: usize,
    behind: usize,
    left: Option<usize>,
    right: Option<usize>,
}

impl Band {
    /// How many queries are real.
    #[inline(always)]
    pub(super) fn queries(&self) -> usize {
        self.queries
    }

    /// The position of a query among the keys.
    #[inline(always)]
    pub(super) fn position(&self, query: usize) -> i64 {
        (query + self.ahead) as i64 - self.behind as i64
    }

    /// The keys that a query sees.
    #[inline(always)]
    pub(super) fn keys_of(&self, query: usize) -> Range<usize> {
        if query >= self.queries {
            return 0..0;
        }
        let position = query + self.ahead;
        let end = match self.right {
            None => self.keys,
            Some(right) => self.keys.min((position + 1).saturating_add(right).saturating_sub(self.behind)),
        };
        let start = match self.left {
            None => 0,
            Some(left) => position.saturating_sub(left.saturating_add(self.behind)),
        };
        start.min(end)..end
    }

    /// The queries that see a key.
    #[inline(always)]
    pub(super) fn queries_of(&self, key: usize) -> Range<usize> {
        if key >= self.keys {
            return 0..0;
        }
        let position = key + self.behind;
        let end = match self.left {
            None => self.queries,
            Some(left) => self.queries.min((position + 1).saturating_add(left).saturating_sub(self.ahead)),
        };
        let start = match self.right {
            None => 0,
            Some(right) => position.saturating_sub(right.saturating_add(self.ahead)),
        };
        start.min(end)..end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_band_is_the_same_from_both_sides_and_as_defined() {
        let windows = [None, Some(0), Some(1), Some(3), Some(usize::MAX)];
        for align in [Align::TopLeft, Align::BottomRight] {
            for (left, right) in windows.iter().flat_map(|&left| windows.map(|right| (left, right))) {
                for (queries, keys) in [(0, 3), (3, 0), (4, 4), (2, 7), (7, 2)] {
                    let lengths = ([queries], [keys]);
                    let masks = Masks {
                        align,
                        left,
                        right,
                        query_lengths: Some(&lengths.0),
                        key_lengths: Some(&lengths.1),
                        scores: None,
                    };
                    let band = masks.band(0, 9, 9);
                    for (i, j) in (0..9).flat_map(|i| (0..9).map(move |j| (i, j))) {
                        let shift = if align == Align::TopLeft { 0 } else { keys as i128 - queries as i128 };
                        let distance = j as i128 - (i as i128 + shift);
                        let wanted = i < queries
                            && j < keys
                            && left.is_none_or(|left| -distance <= left as i128)
                            && right.is_none_or(|right| distance <= right as i128);
                        assert_eq!(band.keys_of(i).contains(&j), wanted, "{masks:?} {i} {j}");
                        assert_eq!(band.queries_of(j).contains(&i), wanted, "{masks:?} {i} {j}");
                    }
                }
            }
        }
    }
}
