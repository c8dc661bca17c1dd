//! The figures of the rows of attention, arrays to fill.

use crate::arrays::{ArrayElement, Filled, filled, optional};
use crate::attention::given;
use logitscope_kernels::attention::{Logits, Statistics};
use pyo3::prelude::*;

/// Arrays to fill, as the attributes of one Python object hold them.
pub(crate) struct Figures<'py, T: ArrayElement> {
    max_logit: Filled<'py, T>,
    inv_sum: Filled<'py, T>,
    lse: Filled<'py, T>,
    entropy: Option<Filled<'py, T>>,
    logit_count: Option<Filled<'py, T>>,
    logit_mean: Option<Filled<'py, T>>,
    logit_m2: Option<Filled<'py, T>>,
    variance: Option<Filled<'py, T>>,
}

impl<'py, T: ArrayElement> Figures<'py, T> {
    pub(crate) fn extract(figures: &Bound<'py, PyAny>) -> PyResult<Self> {
        let array = |name| figures.getattr(name)?.extract();
        let wanted = |name| optional(given(figures, name)?.as_ref());
        Ok(Self {
            max_logit: array("max_logit")?,
            inv_sum: array("inv_sum")?,
            lse: array("lse")?,
            entropy: wanted("entropy")?,
            logit_count: wanted("logit_count")?,
            logit_mean: wanted("logit_mean")?,
            logit_m2: wanted("logit_m2")?,
            variance: wanted("variance")?,
        })
    }

    /// The arrays of `rows` numbers each.
    pub(crate) fn statistics(&mut self, rows: usize) -> PyResult<Statistics<'_, T>> {
        let logits = match (&mut self.logit_count, &mut self.logit_mean, &mut self.logit_m2) {
            (Some(count), Some(mean), Some(m2)) => Some(Logits {
                count: filled("logit_count", count, rows)?,
                mean: filled("logit_mean", mean, rows)?,
                m2: filled("logit_m2", m2, rows)?,
            }),
            _ => None,
        };
        Ok(Statistics {
            max_logit: filled("max_logit", &mut self.max_logit, rows)?,
            inv_sum: filled("inv_sum", &mut self.inv_sum, rows)?,
            lse: filled("lse", &mut self.lse, rows)?,
            entropy: self.entropy.as_mut().map(|x| filled("entropy", x, rows)).transpose()?,
            logits,
            variance: self.variance.as_mut().map(|x| filled("variance", x, rows)).transpose()?,
        })
    }
}
