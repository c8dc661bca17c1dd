//! Softmax of rows: y = e^{x / temperature} / sum e^{x / temperature}.

mod backward;
mod pass;
mod short;
mod sweep;

pub use backward::softmax_backward;
pub use pass::{Pass, softmax_pass};

use crate::error::Result;
use crate::long;
use crate::rows::{self, Empty};
use crate::threads::Cancel;
use logitscope_simd::{Element, Stored};
use sweep::SoftmaxRows;

/// How a row is swept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// The one that suits the length of the rows.
    Auto,
    /// Maximum; sum of exponentials; exponentials once more, divided by the sum. Reads three times, writes once.
    ThreePassRecompute,
    /// Maximum; exponentials, written and summed; what was written scaled. One exponential an element, three
    /// sweeps: for rows in the cache.
    ThreePassReload,
    /// Sum of exponentials as (mantissa, exponent) pairs, which need no maximum; then the result (Dukhan and
    /// Ablavatski, arXiv 2001.04438). Two exponentials an element, two sweeps: for rows out of the cache.
    TwoPass,
    /// Maximum and sum in one sweep (Milakov and Gimelshein, arXiv 1805.02867), then the result. Two
    /// exponentials an element, two sweeps: for rows out of the cache.
    Online,
}

impl Algorithm {
    /// The algorithms and the names that Python knows them by.
    pub const NAMED: [(&'static str, Algorithm); 5] = [
        ("auto", Algorithm::Auto),
        ("three_pass_recompute", Algorithm::ThreePassRecompute),
        ("three_pass_reload", Algorithm::ThreePassReload),
        ("two_pass", Algorithm::TwoPass),
        ("online", Algorithm::Online),
    ];

    /// Rows below this size, as they are computed with, are swept three times: half of a usual second-level cache.
    const CACHED_BYTES: usize = 512 << 10;

    /// The algorithm that sweeps rows of `columns` elements: itself, unless it is [`Algorithm::Auto`], or needs more
    /// room for what it writes than the rows have.
    #[must_use]
    pub fn for_rows<X: Stored>(self, columns: usize) -> Algorithm {
        let wider = size_of::<X::Wide>() > size_of::<X>();
        match self {
            Algorithm::Auto if columns * size_of::<X::Wide>() < Self::CACHED_BYTES => {
                Algorithm::ThreePassReload
            }
            Algorithm::Auto if wider => Algorithm::Online,
            Algorithm::Auto => Algorithm::TwoPass,
            Algorithm::ThreePassReload if wider && long::is_long(columns) => Algorithm::ThreePassRecompute,
            chosen => chosen,
        }
    }

    /// The name that Python knows it by.
    pub fn name(self) -> &'static str {
        Self::NAMED.iter().find(|(_, algorithm)| *algorithm == self).map_or("auto", |(name, _)| name)
    }
}

/// Options of [`softmax`].
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// What the elements are divided by first; positive.
    pub temperature: f64,
    /// How a row is swept.
    pub algorithm: Algorithm,
    /// What becomes of a row of negative infinities.
    pub empty: Empty,
}

impl Default for Options {
    fn default() -> Self {
        Options { temperature: 1.0, algorithm: Algorithm::Auto, empty: Empty::Nan }
    }
}

/// Softmax of each row of `columns` elements.
///
/// A row with a NaN or positive infinity becomes NaN; results below the normal numbers become 0.
///
/// # Errors
/// [`crate::Error`] if lengths or options do not fit, or when cancelled.
pub fn softmax<X: Stored>(
    x: &[X],
    columns: usize,
    options: Options,
    y: &mut [X],
    cancel: &Cancel,
) -> Result<()> {
    let scale: X::Wide = rows::scale_of("softmax", options.temperature)?;
    let (algorithm, empty) = (options.algorithm.for_rows::<X>(columns), options.empty);
    if !long::is_long(columns) {
        return rows::fill("softmax", [("x", x)], ("y", y), columns, cancel, |[x], y| {
            X::Wide::dispatch(SoftmaxRows { x, y, columns, scale, algorithm, empty });
        });
    }
    rows::count_rows("softmax", x.len(), columns)?;
    rows::check_len("softmax", "y", y.len(), x.len())?;
    x.chunks(columns)
        .zip(y.chunks_mut(columns))
        .try_for_each(|(x, y)| sweep::softmax_long(x, y, scale, algorithm, empty, cancel))
}
