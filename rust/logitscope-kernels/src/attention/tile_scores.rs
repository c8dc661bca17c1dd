//! The scores of a tile of queries computed again for the backward pass: weights and gradients of one key tile at a time.

use super::backward::Upstream;
use super::dropout;
use super::exponential::exp_below;
use super::problem::Problem;
use super::products::{multiply, transposed};
use super::row_state::{RowTerms, row_terms};
use super::scores::ScoreSteps;
use super::sight::{Sees, Sight};
use super::sigmoid;
use super::tile::{Factors, QUERY_BLOCKS, blocks_for, clear_hidden, no_factors, room};
use super::wide::WideRow;
use crate::matmul::Panel;
use logitscope_simd::{Element, Simd};
use std::ops::Range;

/// Buffers that a thread uses again, transposed: queries in the lanes.
pub(super) struct LaneScratch<T: Element> {
    queries: Vec<T::Block>,
    douts: Vec<T::Block>,
    bias: Vec<T::Block>,
    dropout: Vec<T::Block>,
    /// Rows of what is stored in 16 bits, not transposed.
    pub(super) rows: Vec<T>,
    out_rows: Vec<T>,
    pub(super) key_rows: Vec<T>,
    value_rows: Vec<T>,
    /// What a score's gradient is multiplied by for that of its product, where scores are bent.
    pub(super) bends: Vec<T::Block>,
    pub(super) weights: Vec<T::Block>,
    pub(super) dscores: Vec<T::Block>,
}

impl<T: Element> Default for LaneScratch<T> {
    fn default() -> Self {
        Self {
            queries: Vec::new(),
            douts: Vec::new(),
            bias: Vec::new(),
            dropout: Vec::new(),
            rows: Vec::new(),
            out_rows: Vec::new(),
            key_rows: Vec::new(),
            value_rows: Vec::new(),
            bends: Vec::new(),
            weights: Vec::new(),
            dscores: Vec::new(),
        }
    }
}

/// A tile of queries of one head, with what the gradients of its scores need.
pub(super) struct TileScores<'a, T: Element, V> {
    problem: &'a Problem<'a, T>,
    upstream: &'a Upstream<'a, T>,
    batch: usize,
    head: usize,
    queries: Range<usize>,
    terms: [RowTerms<V>; QUERY_BLOCKS],
    pub(super) width: usize,
    /// What the queries, and what the gradients of their outputs, are multiplied by.
    pub(super) factors: Factors<T>,
    pub(super) ones: Factors<T>,
    pub(super) sight: Sight<'a, T>,
    pub(super) steps: ScoreSteps<'a, T>,
    /// The gradient of the sink.
    pub(super) dsink: f64,
}

impl<'a, T: Element, V: Copy> TileScores<'a, T, V> {
    #[inline(always)]
    pub(super) fn new<S: Simd<T, Vector = V>>(
        simd: S,
        problem: &'a Problem<'a, T>,
        upstream: &'a Upstream<'a, T>,
        batch: usize,
        head: usize,
        queries: Range<usize>,
        scratch: &mut LaneScratch<T>,
    ) -> Self {
        let width = blocks_for::<T>(queries.len());
        let (mut factors, mut ones): (Factors<T>, Factors<T>) = (no_factors::<T>(), no_factors::<T>());
        for (lane, query) in queries.clone().enumerate() {
            if !is_wide(upstream, batch, head, query) {
                factors[lane] = Some(problem.factor(batch, head, query));
                ones[lane] = Some(T::ONE);
            }
        }
        let part = (batch, head, &queries);
        transposed(simd, &problem.queries, part, &factors, width, &mut scratch.rows, &mut scratch.queries);
        transposed(simd, &upstream.dout, part, &ones, width, &mut scratch.rows, &mut scratch.douts);
        let dout = upstream.dout.rows(batch, head, queries.clone(), &mut scratch.rows);
        let sight = Sight::new(problem, batch, head, queries.clone());
        let steps = ScoreSteps::new(problem, &sight, batch, head, queries.clone());
        let biases = sigmoid::biases(problem, &sight, head, &queries);
        let out = upstream.out.rows(batch, head, queries.clone(), &mut scratch.out_rows);
        let (terms, dsink) = row_terms(simd, problem, upstream, &biases, batch, head, &queries, dout, out);
        Self { problem, upstream, batch, head, queries, terms, width, factors, ones, sight, steps, dsink }
    }

    /// Fills `weights` (what dropout makes of them) and `dscores` of `scratch` for the keys of one tile, and `bends`
    /// where scores are bent; 0 where a key is hidden. They stay as they were when no query sees any of the keys.
    #[inline(always)]
    pub(super) fn run<S: Simd<T, Vector = V>>(
        &self,
        simd: S,
        keys: &Range<usize>,
        scratch: &mut LaneScratch<T>,
    ) -> Sees {
        let sees = self.sight.of(keys);
        if sees == Sees::Nothing {
            return sees;
        }
        let (width, n) = (self.width, keys.len() * self.width);
        let spans = &self.sight.spans(keys)[..width];
        let key_head = self.head / self.problem.group();
        let part = (self.batch, key_head, keys);
        let weights = room::<T>(&mut scratch.weights, n);
        let queries = Panel { blocks: &scratch.queries, width };
        let (keys_of_part, rows) = (&self.problem.keys, &mut scratch.key_rows);
        multiply(simd, keys_of_part, part, &queries, &self.factors, spans, rows, weights);
        let bends = self.steps.bends().then(|| room::<T>(&mut scratch.bends, n));
        self.steps.apply(simd, keys, width, weights, bends, &mut scratch.bias);
        let dscores = room::<T>(&mut scratch.dscores, n);
        let douts = Panel { blocks: &scratch.douts, width };
        let (values, rows) = (&self.problem.values, &mut scratch.value_rows);
        multiply(simd, values, part, &douts, &self.ones, spans, rows, dscores);
        let kept = self.problem.dropout.map(|rule| {
            rule.fill::<T>(self.batch, self.head, self.queries.start, keys, width, &mut scratch.dropout)
        });
        if let Some(kept) = kept {
            dropout::multiply(simd, kept, dscores);
        }
        let (is_softmax, with_entropy) = (self.problem.is_normalised(), self.upstream.entropy.is_some());
        for (block, (terms, span)) in self.terms.iter().zip(spans).enumerate() {
            let rows = span.start * width..span.end * width;
            let (weights, dscores) = (&mut weights[rows.clone()], &mut dscores[rows]);
            match (is_softmax, with_entropy) {
                (true, false) => softmax::<T, S, false>(simd, terms, weights, dscores, width, block),
                (true, true) => softmax::<T, S, true>(simd, terms, weights, dscores, width, block),
                (false, false) => {
                    sigmoid::score_gradients::<T, S, false>(simd, terms, weights, dscores, width, block);
                }
                (false, true) => {
                    sigmoid::score_gradients::<T, S, true>(simd, terms, weights, dscores, width, block);
                }
            }
        }
        if sees == Sees::Part {
            clear_hidden(simd, &self.sight, keys.clone(), width, T::ZERO, weights);
            clear_hidden(simd, &self.sight, keys.clone(), width, T::ZERO, dscores);
            if self.steps.bends() {
                clear_hidden(simd, &self.sight, keys.clone(), width, T::ZERO, &mut scratch.bends[..n]);
            }
        }
        if let Some(kept) = kept {
            dropout::multiply(simd, kept, weights);
        }
        sees
    }

    /// The rows of the tile, with their lanes, whose scores leave the range of the element type; `run` gives 0 for
    /// them.
    pub(super) fn wide_rows(&self) -> impl Iterator<Item = (usize, WideRow<'a, T>)> {
        let is_wide =
            |&lane: &usize| is_wide(self.upstream, self.batch, self.head, self.queries.start + lane);
        (0..self.queries.len()).filter(is_wide).filter_map(|lane| {
            let row = WideRow::of(self.problem, &self.sight, self.batch, self.head, &self.queries, lane)?;
            Some((lane, row))
        })
    }
}

/// Whether the forward pass has marked a row as one that is computed in f64.
#[inline(always)]
pub(super) fn is_wide<T: Element>(
    upstream: &Upstream<'_, T>,
    batch: usize,
    head: usize,
    query: usize,
) -> bool {
    upstream.inv_sum.get(batch, head, query) < T::ZERO
}

/// Turns one vector of rows' scores into softmax weights, and their `dp` into gradients of the scores.
///
/// Numbers below the smallest normal one become 0: the products that read them would take a hundred times longer.
#[inline(always)]
fn softmax<T: Element, S: Simd<T>, const ENTROPY: bool>(
    simd: S,
    terms: &RowTerms<S::Vector>,
    weights: &mut [T::Block],
    dscores: &mut [T::Block],
    width: usize,
    block: usize,
) {
    let zero = simd.splat(T::ZERO);
    let smallest = simd.splat(T::MIN_POSITIVE);
    for (weights, dscores) in weights.chunks_exact_mut(width).zip(dscores.chunks_exact_mut(width)) {
        let distance = simd.sub(simd.load(&weights[block]), terms.reference);
        let weight = simd.mul(exp_below(simd, distance), terms.inv_sum);
        let mut slope = simd.add(simd.load(&dscores[block]), terms.offset);
        if ENTROPY {
            slope = simd.sub(slope, simd.mul(terms.dentropy, distance));
        }
        let dscore = simd.mul(weight, slope);
        let size = simd.max(simd.sub(zero, dscore), dscore);
        let vanished = simd.less(weight, smallest);
        simd.store(simd.select(vanished, zero, weight), &mut weights[block]);
        let dscore = simd.select(simd.less(size, smallest), zero, dscore);
        simd.store(simd.select(vanished, zero, dscore), &mut dscores[block]);
    }
}
