//! The rows of V that a step moves, and what rounding them does to the rest of the layer.

use super::{Batch, State, add, matrix};
use crate::error::Result;
use crate::gemm::{Factor, Start, product};
use crate::threads::Cancel;
use logitscope_simd::{Element, Stored};

/// Rows of V after a step, those of each class that is a target.
pub(super) struct Moved {
    /// The classes, rising.
    classes: Vec<i64>,
    /// Their rows, (C, d).
    exact: Vec<f64>,
    /// The same as they are stored.
    pub stored: Vec<f64>,
}

impl Moved {
    /// The rows less `eta` times the slope of each target times its row of `moves`.
    pub(super) fn new<X: Stored>(
        state: &State<'_, X>,
        batch: &Batch<'_>,
        slopes: &[f64],
        moves: &[f64],
        eta: f64,
    ) -> Self {
        let d = state.columns();
        let mut classes = batch.targets.to_vec();
        classes.sort_unstable();
        classes.dedup();
        let rows = classes.iter().flat_map(|&class| state.row(class));
        let mut exact: Vec<f64> = rows.map(|v| v.widen().to_f64()).collect();
        let each = batch.targets.len().checked_div(batch.rows).unwrap_or(0);
        for (k, class) in batch.targets.iter().enumerate() {
            let place = classes.partition_point(|other| other < class);
            let row = k / each;
            add(&mut exact[place * d..(place + 1) * d], -eta * slopes[k], &moves[row * d..(row + 1) * d]);
        }
        let stored = exact.iter().map(|&x| nearest::<X>(x).widen().to_f64()).collect();
        Moved { classes, exact, stored }
    }

    /// Puts into W^T W and W^T 1 what rounding adds to W: 16-bit numbers lose as much in a step as the step makes.
    ///
    /// The rows w of W become w + r; W^T W then grows by r^T (w + r / 2) and its transpose.
    pub(super) fn settle(
        &self,
        u: &[f64],
        omega: &[f64],
        gram: &mut [f64],
        total: &mut [f64],
        cancel: &Cancel,
    ) -> Result<()> {
        let (count, d) = (self.classes.len(), omega.len());
        let mut lost = self.stored.clone();
        add(&mut lost, -1.0, &self.exact);
        let mut middle = self.exact.clone();
        add(&mut middle, 0.5, &lost);
        let by_u = |rows: &[f64], start, out: &mut [f64]| {
            let rows = Factor::plain(matrix(rows, count, d));
            product(rows, Factor::plain(matrix(u, d, d)), start, out, d, cancel)
        };
        let mut change = vec![0.0; count * d];
        by_u(&lost, Start::Zero, &mut change)?;
        let mut weight = omega.repeat(count);
        by_u(&middle, Start::Kept, &mut weight)?;
        let mut half = vec![0.0; d * d];
        let (change_t, weight) = (Factor::transposed(matrix(&change, count, d)), matrix(&weight, count, d));
        product(change_t, Factor::plain(weight), Start::Zero, &mut half, d, cancel)?;
        for i in 0..d {
            for j in 0..d {
                gram[i * d + j] += half[i * d + j] + half[j * d + i];
            }
        }
        for row in change.chunks_exact(d) {
            add(total, 1.0, row);
        }
        Ok(())
    }

    /// Writes the rows into V.
    pub(super) fn store<X: Stored>(&self, v: &mut [X]) {
        let d = self.exact.len().checked_div(self.classes.len()).unwrap_or(0);
        for (&class, row) in self.classes.iter().zip(self.exact.chunks_exact(d.max(1))) {
            for (v, &x) in v[class as usize * d..(class as usize + 1) * d].iter_mut().zip(row) {
                *v = nearest(x);
            }
        }
    }
}

fn nearest<X: Stored>(x: f64) -> X {
    X::narrow(X::Wide::from_f64(x))
}
