//! Numbers that are added to scores, as an array holds them: those of 16 bits are widened a row of a tile at a time.

use super::tile::KEYS;
use crate::view::{HeadScores, Scores};
use logitscope_simd::{Element, Stored};
use std::fmt::Debug;
use std::ops::Range;

/// One number a score, (batch, query heads, queries, keys).
#[derive(Clone, Copy, Debug)]
pub enum Bias<'a, T> {
    /// Read where they lie.
    Wide(Scores<'a, T>),
    /// Stored in fewer bits.
    Narrow(&'a dyn NarrowScores<T>),
}

/// Numbers of scores that have to be widened to `T`. One type for all of them, so that a kernel is compiled once.
pub trait NarrowScores<T>: Debug + Send + Sync {
    /// Batch, heads, queries, keys.
    fn shape(&self) -> [usize; 4];

    /// Whether all queries have the same numbers.
    fn is_shared(&self) -> bool;

    /// Writes the numbers of one query and as many keys, from the first on, as there is room for.
    fn widen(&self, batch: usize, head: usize, query: usize, first_key: usize, wide: &mut [T]);
}

impl<X: Stored> NarrowScores<X::Wide> for Scores<'_, X> {
    fn shape(&self) -> [usize; 4] {
        Scores::shape(self)
    }

    fn is_shared(&self) -> bool {
        self.head(0, 0).is_shared()
    }

    fn widen(&self, batch: usize, head: usize, query: usize, first_key: usize, wide: &mut [X::Wide]) {
        let scores = self.head(batch, head);
        if let Some(row) = scores.row(query, first_key..first_key + wide.len()) {
            return X::widen_into(row, wide);
        }
        for (key, wide) in wide.iter_mut().enumerate() {
            *wide = scores.get(query, first_key + key).widen();
        }
    }
}

impl<'a, T: Element> Bias<'a, T> {
    /// Batch, heads, queries, keys.
    pub fn shape(&self) -> [usize; 4] {
        match self {
            Self::Wide(scores) => scores.shape(),
            Self::Narrow(scores) => scores.shape(),
        }
    }

    /// The numbers of one head.
    pub(super) fn head(&self, batch: usize, head: usize) -> HeadBias<'a, T> {
        match *self {
            Self::Wide(scores) => HeadBias::Wide(scores.head(batch, head)),
            Self::Narrow(scores) => HeadBias::Narrow { scores, batch, head },
        }
    }
}

/// The numbers of one head.
#[derive(Clone, Copy)]
pub(super) enum HeadBias<'a, T> {
    Wide(HeadScores<'a, T>),
    Narrow { scores: &'a dyn NarrowScores<T>, batch: usize, head: usize },
}

impl<T: Element> HeadBias<'_, T> {
    /// The number of one score.
    pub(super) fn get(&self, query: usize, key: usize) -> T {
        let mut number = [T::ZERO];
        self.row(query, key, &mut number);
        number[0]
    }

    /// Writes the numbers of one query and as many keys, from the first on, as there is room for.
    pub(super) fn row(&self, query: usize, first_key: usize, row: &mut [T]) {
        match self {
            Self::Wide(scores) => match scores.row(query, first_key..first_key + row.len()) {
                Some(numbers) => row.copy_from_slice(numbers),
                None => {
                    for (key, number) in row.iter_mut().enumerate() {
                        *number = scores.get(query, first_key + key);
                    }
                }
            },
            Self::Narrow { scores, batch, head } => scores.widen(*batch, *head, query, first_key, row),
        }
    }

    /// Whether all queries have the same numbers.
    pub(super) fn is_shared(&self) -> bool {
        match self {
            Self::Wide(scores) => scores.is_shared(),
            Self::Narrow { scores, .. } => scores.is_shared(),
        }
    }

    /// Whether any, and whether every one, of the scores of these queries and of the keys of a tile is not hidden.
    pub(super) fn any_and_all_visible(&self, queries: Range<usize>, keys: &Range<usize>) -> (bool, bool) {
        let (mut any, mut all) = (false, true);
        let queries =
            if self.is_shared() { queries.start..queries.end.min(queries.start + 1) } else { queries };
        let mut row = [T::ZERO; KEYS];
        for query in queries {
            self.row(query, keys.start, &mut row[..keys.len()]);
            for &number in &row[..keys.len()] {
                any |= is_visible(number);
                all &= is_visible(number);
            }
        }
        (any, all)
    }
}

/// Whether a bias lets a query see a key; NaN does.
#[inline(always)]
pub(super) fn is_visible<T: Element>(bias: T) -> bool {
    bias != T::NEG_INFINITY
}
