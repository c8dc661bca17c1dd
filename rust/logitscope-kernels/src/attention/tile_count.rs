//! How much of the score matrix the kernels compute.

use super::problem::Problem;
use super::sight::{Sees, Sight};
use super::tile::{KEYS, tile_queries};
use crate::error::Result;
use logitscope_simd::Element;

/// Tiles of the score matrix of all heads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TileCount {
    /// How many there are.
    pub all: usize,
    /// Those that are computed, as some query sees some key.
    pub seen: usize,
    /// Those among them in which some score is hidden.
    pub masked: usize,
}

/// Counts the tiles that [`super::forward`] computes for a problem.
///
/// # Errors
/// What [`Problem::check`] finds.
pub fn tile_count<T: Element>(problem: &Problem<'_, T>) -> Result<TileCount> {
    problem.check()?;
    let [batch, heads, queries, _] = problem.queries.shape();
    let keys = problem.keys.shape()[2];
    let step = tile_queries::<T>();
    let mut count = TileCount {
        all: batch * heads * queries.div_ceil(step) * keys.div_ceil(KEYS),
        ..TileCount::default()
    };
    for batch in 0..batch {
        for head in 0..heads {
            for start in (0..queries).step_by(step) {
                let sight = Sight::new(problem, batch, head, start..queries.min(start + step));
                for range in sight.key_tiles() {
                    let sees = sight.of(&range);
                    count.seen += usize::from(sees != Sees::Nothing);
                    count.masked += usize::from(sees == Sees::Part);
                }
            }
        }
    }
    Ok(count)
}
