//! Rows whose scores leave the range of the element type, one at a time in f64: with f32 a dot product may overflow
//! where the weights and the output do not.
//!
//! Slow, and met only after the tile kernel has found a NaN in the sum of a row, no score at all in a row that has keys,
//! or a score of inf (which softmax turns into NaN). A row that is not finite in f64 either stays as it was. That a
//! score of -inf comes of an overflow shows only when all scores of the row are; else it is a weight of 0.

use super::backward::Upstream;
use super::bias::HeadBias;
use super::map::{MapBins, Pooling, bin_of};
use super::operand::Operand;
use super::problem::{Problem, Weighting};
use super::sight::Sight;
use super::sigmoid;
use logitscope_simd::Element;
use std::ops::Range;

/// One key that a row sees.
pub(super) struct WideKey {
    pub(super) key: usize,
    /// What the value is multiplied by, without dropout.
    pub(super) weight: f64,
    /// What dropout makes of the weight.
    pub(super) factor: f64,
    /// The logarithm of the weight over the sum of all.
    pub(super) log_share: f64,
    /// What the gradient of the weight, over the sum, is multiplied by for that of the score.
    slope: f64,
    /// The gradient of the score to that of the product.
    pub(super) bend: f64,
    /// How far its position is from that of the query.
    pub(super) distance: f64,
}

/// A row with its statistics; the sum is that of e^(s - max) or of the sigmoid weights.
pub(super) struct WideRow<'a, T> {
    values: Operand<'a, T>,
    batch: usize,
    key_head: usize,
    pub(super) keys: Vec<WideKey>,
    pub(super) max: f64,
    pub(super) inv_sum: f64,
    pub(super) lse: f64,
    pub(super) entropy: f64,
    /// Count, mean and sum of squared deviations of the scores above -inf.
    pub(super) moments: [f64; 3],
    /// Of the scores under the weights, the sink's included.
    pub(super) variance: f64,
    /// The logarithm of the sink's weight.
    log_sink: f64,
    is_normalised: bool,
}

impl<'a, T: Element> WideRow<'a, T> {
    /// The row of lane `lane` of a tile; None where it sees no key, or what it sees is not finite.
    pub(super) fn of(
        problem: &Problem<'a, T>,
        sight: &Sight<'_, T>,
        batch: usize,
        head: usize,
        queries: &Range<usize>,
        lane: usize,
    ) -> Option<Self> {
        let query = queries.start + lane;
        let key_head = head / problem.group();
        let (band, position) = sight.band_of(query);
        let mut keys = Vec::with_capacity(band.len());
        let mut scores = Vec::with_capacity(band.len());
        let steps = WideSteps::new(problem, batch, head, query);
        let mut row = Vec::new();
        for key in band.filter(|&key| sight.allows(key, lane)) {
            let distance = (position - key as i64).abs() as f64;
            let (score, bend) = steps.score(problem.keys.row(batch, key_head, key, &mut row), key, distance);
            if score.is_nan() || score == f64::INFINITY {
                return None;
            }
            scores.push(score);
            let factor = problem.dropout.map_or(1.0, |rule| rule.factor(batch, head, query, key));
            keys.push(WideKey { key, weight: 0.0, factor, log_share: 0.0, slope: 0.0, bend, distance });
        }
        let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        if max == f64::NEG_INFINITY {
            return None;
        }
        let mut row = Self {
            values: problem.values,
            batch,
            key_head,
            keys,
            max,
            inv_sum: 0.0,
            lse: 0.0,
            entropy: 0.0,
            moments: moments(&scores),
            variance: 0.0,
            log_sink: f64::NEG_INFINITY,
            is_normalised: problem.is_normalised(),
        };
        match problem.weighting {
            Weighting::Softmax(sinks) => row.softmax(&scores, sinks.map(|sinks| sinks[head].to_f64())),
            Weighting::Sigmoid(bias) => {
                row.sigmoid(&scores, sigmoid::bias_of(problem, sight, bias, head, query, lane).to_f64());
            }
        }
        Some(row)
    }

    fn softmax(&mut self, scores: &[f64], sink: Option<f64>) {
        let sink = sink.unwrap_or(f64::NEG_INFINITY);
        let top = self.max.max(sink);
        let sum = scores.iter().map(|score| (score - top).exp()).sum::<f64>() + (sink - top).exp();
        self.inv_sum = 1.0 / sum;
        self.lse = top + sum.ln();
        self.log_sink = sink - top - sum.ln();
        self.entropy = -weighted(self.log_sink.exp(), self.log_sink);
        for (key, score) in self.keys.iter_mut().zip(scores) {
            key.log_share = score - top - sum.ln();
            key.weight = key.log_share.exp();
            key.slope = key.weight;
            self.entropy -= weighted(key.weight, key.log_share);
        }
        self.variance = self.variance_of(scores, sink);
    }

    fn sigmoid(&mut self, scores: &[f64], bias: f64) {
        let mut sum = 0.0;
        for (key, score) in self.keys.iter_mut().zip(scores) {
            let x = score + bias;
            let e = (-x.abs()).exp();
            key.weight = if x < 0.0 { e / (1.0 + e) } else { 1.0 / (1.0 + e) };
            key.log_share = x.min(0.0) - e.ln_1p();
            key.slope = e / ((1.0 + e) * (1.0 + e));
            sum += key.weight;
        }
        self.inv_sum = 1.0 / sum;
        self.lse = sum.ln();
        for key in &mut self.keys {
            key.log_share -= self.lse;
            self.entropy -= weighted(key.weight * self.inv_sum, key.log_share);
        }
        self.variance = self.variance_of(scores, 0.0);
    }

    /// The variance of the scores, that of the sink among them, under their shares in the sum.
    fn variance_of(&self, scores: &[f64], sink: f64) -> f64 {
        let shares = self.keys.iter().map(|key| key.log_share.exp()).chain([self.log_sink.exp()]);
        // Without a share a score may be infinite.
        let seen: Vec<_> =
            shares.zip(scores.iter().copied().chain([sink])).filter(|(share, _)| *share > 0.0).collect();
        let mean: f64 = seen.iter().map(|(share, score)| share * score).sum();
        seen.iter().map(|(share, score)| share * (score - mean) * (score - mean)).sum()
    }

    /// Writes the weighted sum of the values, and of the bins of the map, into lane `lane` of the panels.
    pub(super) fn write_sums(
        &self,
        lane: usize,
        width: usize,
        out: &mut [T::Block],
        bins: Option<MapBins>,
        map: &mut [T::Block],
    ) {
        let mut total = vec![0.0; out.len() / width];
        let mut buffer = Vec::new();
        for key in &self.keys {
            let value = self.values.row(self.batch, self.key_head, key.key, &mut buffer);
            for (sum, x) in total.iter_mut().zip(value) {
                *sum += key.weight * key.factor * x.to_f64();
            }
        }
        let cells = T::flatten_mut(out).iter_mut().skip(lane).step_by(width * T::LANES);
        for (cell, sum) in cells.zip(total) {
            *cell = T::from_f64(sum);
        }
        let Some(bins) = bins else { return };
        let mut sums = vec![0.0; bins.columns];
        for key in &self.keys {
            let sum = &mut sums[bin_of(key.key, self.values.shape()[2], bins.columns)];
            *sum = if bins.pooling == Pooling::Max { key.weight.max(*sum) } else { *sum + key.weight };
        }
        let cells = T::flatten_mut(map).iter_mut().skip(lane).step_by(width * T::LANES);
        for (cell, sum) in cells.zip(sums) {
            *cell = T::from_f64(sum);
        }
    }

    /// The gradient of the score of each key, and that of the sink.
    pub(super) fn score_gradients(
        &self,
        upstream: &Upstream<'_, T>,
        batch: usize,
        head: usize,
        query: usize,
    ) -> (Vec<f64>, f64) {
        let (mut buffer, mut other) = (Vec::new(), Vec::new());
        let dout = upstream.dout.row(batch, head, query, &mut buffer);
        let mut dweights = Vec::with_capacity(self.keys.len());
        for key in &self.keys {
            let value = self.values.row(self.batch, self.key_head, key.key, &mut other);
            dweights.push(key.factor * wide_dot(dout, value));
        }
        let dlse = upstream.dlse.map_or(0.0, |rows| rows.get(batch, head, query).to_f64());
        let dentropy = upstream.entropy.map_or(0.0, |(_, rows)| rows.get(batch, head, query).to_f64());
        let of_share = |log_share: f64| dlse - dentropy * (log_share + self.entropy);
        let (delta, factor) = if self.is_normalised {
            (self.keys.iter().zip(&dweights).map(|(key, dweight)| key.weight * dweight).sum::<f64>(), 1.0)
        } else {
            (0.0, self.inv_sum)
        };
        let gradients = self.keys.iter().zip(&dweights).map(|(key, dweight)| {
            if key.slope == 0.0 {
                return 0.0;
            }
            key.slope * (dweight - delta + factor * of_share(key.log_share))
        });
        let sink = self.log_sink.exp();
        let dsink = if sink > 0.0 { sink * (of_share(self.log_sink) - delta) } else { 0.0 };
        (gradients.collect(), dsink)
    }
}

/// What makes a score of a product, in f64.
struct WideSteps<'a, T> {
    query: Vec<T>,
    index: usize,
    factor: f64,
    softcap: f64,
    bias: Option<HeadBias<'a, T>>,
    slope: f64,
}

impl<'a, T: Element> WideSteps<'a, T> {
    fn new(problem: &Problem<'a, T>, batch: usize, head: usize, query: usize) -> Self {
        let temperature = problem.inv_temperature.map_or(1.0, |rows| rows.get(batch, head, query).to_f64());
        Self {
            query: problem.queries.row(batch, head, query, &mut Vec::new()).to_vec(),
            index: query,
            factor: problem.scale.to_f64() * temperature,
            softcap: problem.softcap.to_f64(),
            bias: problem.bias.map(|bias| bias.head(batch, head)),
            slope: problem.slopes.map_or(0.0, |slopes| slopes[head].to_f64()),
        }
    }

    /// The score of a key and its derivative after the product.
    fn score(&self, row: &[T], key: usize, distance: f64) -> (f64, f64) {
        let mut score = self.factor * wide_dot(&self.query, row);
        let mut bend = 1.0;
        if self.softcap != 0.0 {
            let t = (score / self.softcap).tanh();
            (score, bend) = (self.softcap * t, 1.0 - t * t);
        }
        score += self.bias.map_or(0.0, |bias| bias.get(self.index, key).to_f64());
        (score - self.slope * distance, bend)
    }
}

/// Count, mean and sum of squared deviations of the scores above -inf.
fn moments(scores: &[f64]) -> [f64; 3] {
    let seen: Vec<_> = scores.iter().filter(|score| **score > f64::NEG_INFINITY).collect();
    let count = seen.len() as f64;
    let mean = seen.iter().map(|score| **score / count).sum::<f64>();
    [count, mean, seen.iter().map(|score| (**score - mean) * (**score - mean)).sum()]
}

/// `p ln p`, 0 at 0.
fn weighted(weight: f64, log_weight: f64) -> f64 {
    if weight > 0.0 { weight * log_weight } else { 0.0 }
}

fn wide_dot<T: Element>(a: &[T], b: &[T]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a.to_f64() * b.to_f64()).sum()
}
