//! What else than its loss is told of a row.

use super::row::{RowLoss, Wanted};
use crate::error::Result;
use crate::rows;
use logitscope_simd::Element;

/// One number a row, after temperature and softcap. Where masses are given, the target is the class with the
/// largest.
#[derive(Debug)]
pub struct Statistics<'a, T> {
    /// The logarithm of the sum of exponentials.
    pub lse: Option<&'a mut [T]>,
    /// The first class with the largest logit; NaN is passed over.
    pub argmax: Option<&'a mut [i64]>,
    /// The target's logit less the largest of the others; NaN where the row is ignored.
    pub margin: Option<&'a mut [T]>,
    /// -ln p of the target, the cross entropy without weights; 0 where the row is ignored.
    pub v: Option<&'a mut [T]>,
    /// The entropy of the softmax, in nats.
    pub entropy: Option<&'a mut [T]>,
    /// Whether the target is the largest and its exponential absorbs all others in a sum of `T`s.
    pub collapsed: Option<&'a mut [bool]>,
}

impl<T> Default for Statistics<'_, T> {
    /// None.
    fn default() -> Self {
        Self { lse: None, argmax: None, margin: None, v: None, entropy: None, collapsed: None }
    }
}

impl<T> Statistics<'_, T> {
    /// Takes the first `rows` of each away.
    pub(super) fn split_off(&mut self, rows: usize) -> Self {
        Self {
            lse: split_off(&mut self.lse, rows),
            argmax: split_off(&mut self.argmax, rows),
            margin: split_off(&mut self.margin, rows),
            v: split_off(&mut self.v, rows),
            entropy: split_off(&mut self.entropy, rows),
            collapsed: split_off(&mut self.collapsed, rows),
        }
    }

    /// Checks that there is one of each for each row.
    pub(crate) fn check(&self, operation: &'static str, rows: usize) -> Result<()> {
        let Statistics { lse, argmax, margin, v, entropy, collapsed } = self;
        for (name, numbers) in [("lse", lse), ("margin", margin), ("v", v), ("entropy", entropy)] {
            rows::check_len(operation, name, numbers.as_ref().map_or(rows, |x| x.len()), rows)?;
        }
        rows::check_len(operation, "argmax", argmax.as_ref().map_or(rows, |x| x.len()), rows)?;
        rows::check_len(operation, "collapsed", collapsed.as_ref().map_or(rows, |x| x.len()), rows)
    }
}

impl<T: Element> Statistics<'_, T> {
    /// Notes what a row gave.
    #[inline(always)]
    pub(crate) fn note(&mut self, row: usize, answer: &RowLoss) {
        let RowLoss { v, lse, entropy, margin, collapsed, argmax, .. } = *answer;
        for (numbers, value) in
            [(&mut self.lse, lse), (&mut self.v, v), (&mut self.entropy, entropy), (&mut self.margin, margin)]
        {
            if let Some(numbers) = numbers {
                numbers[row] = T::from_f64(value);
            }
        }
        if let Some(flags) = &mut self.collapsed {
            flags[row] = collapsed;
        }
        if let Some(indices) = &mut self.argmax {
            indices[row] = argmax as i64;
        }
    }

    /// What they ask of a row.
    pub(crate) fn wanted(&self) -> Wanted {
        Wanted {
            argmax: self.argmax.is_some(),
            margin: self.margin.is_some(),
            entropy: self.entropy.is_some(),
        }
    }

    /// Whether something is wanted that an ignored row has, too.
    pub(crate) fn looks_at_ignored_rows(&self) -> bool {
        self.lse.is_some() || self.entropy.is_some() || self.argmax.is_some()
    }

    /// Blanks what a row without a target cannot have.
    #[inline(always)]
    pub(crate) fn leave_out(&mut self, row: usize) {
        if let Some(v) = &mut self.v {
            v[row] = T::ZERO;
        }
        if let Some(margin) = &mut self.margin {
            margin[row] = T::NAN;
        }
        if let Some(flags) = &mut self.collapsed {
            flags[row] = false;
        }
    }
}

/// Takes the first elements of a slice away, all if there are fewer.
pub(crate) fn split_off<'a, X>(slice: &mut Option<&'a mut [X]>, count: usize) -> Option<&'a mut [X]> {
    let slice = slice.as_mut()?;
    slice.split_off_mut(..count.min(slice.len()))
}
