//! Where the figures of the rows go.

/// Per-row results, each (batch, heads, queries) in row-major order.
pub struct Statistics<'a, T> {
    /// The largest score of a key; -inf where no key is seen.
    pub max_logit: &'a mut [T],
    /// 1 over the sum of e^(score - m), m the larger of `max_logit` and the sink: with `max_logit` the exact state
    /// for the backward pass. With sigmoid weighting 1 over the sum of the weights. Negative in a row whose scores
    /// leave the range of `T`, so that the backward pass computes it in f64 as well.
    pub inv_sum: &'a mut [T],
    /// The logarithm of the sum of the exponentials of the scores, the sink's included; of the sum of the weights
    /// with sigmoid weighting.
    pub lse: &'a mut [T],
    /// The entropy of the weights, over their sum, in nats, when wanted.
    pub entropy: Option<&'a mut [T]>,
    /// The moments of the scores, when wanted.
    pub logits: Option<Logits<'a, T>>,
    /// The variance of the scores under the weights, over their sum, the sink's included; when wanted.
    pub variance: Option<&'a mut [T]>,
}

/// Moments of the scores of a row's keys, each key counting once. A score of -inf is none.
pub struct Logits<'a, T> {
    /// How many there are.
    pub count: &'a mut [T],
    /// Their mean; 0 where there are none.
    pub mean: &'a mut [T],
    /// The sum of the squares of their distances from the mean.
    pub m2: &'a mut [T],
}

/// What there has to be for every row.
const ROWS: &str = "attention: a number for each row";

impl<T> Statistics<'_, T> {
    /// Hands out the first `rows` rows.
    pub(super) fn take(&mut self, rows: usize) -> Self {
        Self {
            max_logit: self.max_logit.split_off_mut(..rows).expect(ROWS),
            inv_sum: self.inv_sum.split_off_mut(..rows).expect(ROWS),
            lse: self.lse.split_off_mut(..rows).expect(ROWS),
            entropy: self.entropy.as_mut().map(|rest| rest.split_off_mut(..rows).expect(ROWS)),
            logits: self.logits.as_mut().map(|rest| Logits {
                count: rest.count.split_off_mut(..rows).expect(ROWS),
                mean: rest.mean.split_off_mut(..rows).expect(ROWS),
                m2: rest.m2.split_off_mut(..rows).expect(ROWS),
            }),
            variance: self.variance.as_mut().map(|rest| rest.split_off_mut(..rows).expect(ROWS)),
        }
    }
}
