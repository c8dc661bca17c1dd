//! One chunk of a cache against the queries that share its key head.
//!
//! Keys are read straight: the numbers of a key lie in the lanes as those of the query do, sixteen dot products leave
//! one vector of lanes each, and one transposition adds those up. So are values: a row times its weight is added to the
//! output in registers. Whatever rows are taken together, a row's numbers come from the same operations.
//!
//! Both are read line after line and without a prefetch: that is what the caches themselves fetch ahead best. Asking for
//! lines, or reading four keys side by side, had 0.6 of the speed. The keys of neighbouring chunks are read before the first
//! of their values, so that the caches have to find out less often what comes next. A single query that has its keys for
//! itself goes another way (`one_row`).

use super::CHUNK;
use super::one_row::{OneRow, attend_one_row};
use super::problem::{Decoding, Run};
use super::values::{add_values, put_in_order};
use crate::attention::scores::bend;
use crate::view::Matrix;
use logitscope_simd::{Element, Kernel, Simd, Stored, math};
use std::ops::Range;

/// The most lanes that a vector has.
pub(super) const LANES: usize = 16;

/// What a row has of one chunk.
#[derive(Clone, Copy)]
pub(super) struct State<T> {
    /// The largest score.
    pub(super) max: T,
    /// The sum of e^(s - max).
    pub(super) sum: T,
    /// The sum of e^(s - max) (s - max).
    pub(super) moment: T,
    /// The sum of e^(s - max) (s - max)^2, where it is wanted.
    pub(super) square: T,
    /// Count, mean less `max`, and sum of squared deviations of the scores above -inf, where they are wanted.
    pub(super) logits: [T; 3],
}

impl<T: Element> State<T> {
    pub(super) fn empty() -> Self {
        let zero = T::ZERO;
        Self { max: T::NEG_INFINITY, sum: zero, moment: zero, square: zero, logits: [zero; 3] }
    }
}

/// Buffers that a thread uses again.
pub(super) struct Scratch<T: Element> {
    /// The queries of a token, padded and multiplied by their factors.
    queries: Vec<T::Block>,
    /// Rows of scores, and then of weights, of the length of a chunk; those of a chunk one after the other.
    scores: Vec<T>,
    /// How many keys there are in each chunk.
    counts: Vec<usize>,
}

impl<T: Element> Default for Scratch<T> {
    fn default() -> Self {
        Self { queries: Vec::new(), scores: Vec::new(), counts: Vec::new() }
    }
}

/// Neighbouring chunks of a key head, and where their states go: one a row, chunks outside, then tokens, with the sums of the
/// weighted values.
pub(super) struct Chunks<'a, X: Stored> {
    pub(super) problem: &'a Decoding<'a, X>,
    pub(super) batch: usize,
    pub(super) key_head: usize,
    pub(super) numbers: Range<usize>,
    pub(super) tokens: Range<usize>,
    /// Whether the squares of the states, and their logits, are wanted.
    pub(super) with_moments: bool,
    pub(super) states: &'a mut [State<X::Wide>],
    pub(super) sums: &'a mut [<X::Wide as Element>::Block],
}

pub(super) struct ChunksKernel<'a, 'b, X: Stored> {
    pub(super) chunks: Chunks<'a, X>,
    pub(super) scratch: &'b mut Scratch<X::Wide>,
}

impl<X: Stored> Kernel<X::Wide> for ChunksKernel<'_, '_, X> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<X::Wide>>(self, simd: S) {
        attend(simd, self.chunks, self.scratch);
    }
}

/// Fills the states and sums.
#[inline(always)]
fn attend<X: Stored, S: Simd<X::Wide>>(simd: S, chunks: Chunks<'_, X>, scratch: &mut Scratch<X::Wide>) {
    let Chunks { problem, batch, key_head, with_moments, states, sums, .. } = chunks;
    let group = problem.group();
    let (tokens, count) = (chunks.tokens.len(), chunks.numbers.len());
    let value_dim = problem.values.shape()[3];
    let value_width = sums.len() / states.len();
    let width = problem.queries.shape()[3].div_ceil(X::Wide::LANES);
    scratch.queries.resize(group * width, X::Wide::block(X::Wide::ZERO));
    scratch.scores.resize(count * group * CHUNK, X::Wide::ZERO);
    scratch.counts.resize(count, 0);
    let Scratch { queries, scores, counts } = scratch;
    let is_one_row = tokens * group == 1 && [width, width * X::Wide::LANES] == [value_width, value_dim];
    for (index, token) in chunks.tokens.enumerate() {
        let seen = problem.seen(batch, token);
        load_queries(simd, problem, batch, key_head * group, token, width, queries);
        if is_one_row && S::REGISTERS >= 32 && matches!(width, 4 | 8) {
            let of_chunks = chunks.numbers.clone();
            let runs = of_chunks.map(|number| problem.only_run(batch, key_head, number, &seen));
            if let Some(runs) = runs.collect::<Option<Vec<_>>>() {
                let at = Place { token: seen.end - 1, head: key_head, first: 0 };
                let row = OneRow { problem, runs: &runs, at, with_moments, query: queries };
                match width {
                    8 => attend_one_row::<X, S, 8>(simd, &row, scores, states, sums),
                    _ => attend_one_row::<X, S, 4>(simd, &row, scores, states, sums),
                }
                continue;
            }
        }
        for ((number, keys), scores) in
            chunks.numbers.clone().zip(&mut *counts).zip(scores.chunks_exact_mut(group * CHUNK))
        {
            *keys = 0;
            for run in problem.runs(batch, key_head, number, &seen) {
                let at = Place { token: seen.end - 1, head: key_head * group, first: *keys };
                score(simd, problem, &run, &at, queries, width, scores);
                *keys += run.keys.rows();
            }
        }
        for ((part, number), scores) in
            chunks.numbers.clone().enumerate().zip(scores.chunks_exact_mut(group * CHUNK))
        {
            let rows = (part * tokens + index) * group..(part * tokens + index + 1) * group;
            let sums = &mut sums[rows.start * value_width..rows.end * value_width];
            let states = &mut states[rows];
            let keys = counts[part];
            if keys == 0 {
                states.fill(State::empty());
                continue;
            }
            for (state, scores) in states.iter_mut().zip(scores.chunks_exact_mut(CHUNK)) {
                *state = weigh(simd, scores, keys, with_moments);
            }
            sums.fill(X::Wide::block(X::Wide::ZERO));
            let mut first = 0;
            for run in problem.runs(batch, key_head, number, &seen) {
                add_values(simd, run.values, &scores[first..], group, value_width, sums);
                first += run.values.rows();
            }
            put_in_order::<X>(value_dim, value_width, sums);
        }
    }
}

/// Widens the queries of a token and multiplies them by their factors.
#[inline(always)]
fn load_queries<X: Stored, S: Simd<X::Wide>>(
    simd: S,
    problem: &Decoding<'_, X>,
    batch: usize,
    first_head: usize,
    token: usize,
    width: usize,
    queries: &mut [<X::Wide as Element>::Block],
) {
    for (index, row) in queries.chunks_exact_mut(width).enumerate() {
        let head = first_head + index;
        let factor = simd.splat(problem.factor(batch, head, token));
        let (packs, tail) = X::packs(problem.queries.matrix(batch, head).row(token));
        let (twos, last) = packs.as_chunks::<2>();
        for (two, cells) in twos.iter().zip(row.chunks_exact_mut(2)) {
            let [a, b] = X::load_two(simd, two);
            simd.store(simd.mul(a, factor), &mut cells[0]);
            simd.store(simd.mul(b, factor), &mut cells[1]);
        }
        if let [last] = last {
            simd.store(simd.mul(X::load(simd, last), factor), &mut row[packs.len() - 1]);
        }
        if !tail.is_empty() {
            let rest = X::load_partial(simd, tail, X::Wide::ZERO);
            simd.store(simd.mul(rest, factor), &mut row[width - 1]);
        }
    }
}

/// Whose scores these are, and where they go.
pub(super) struct Place {
    /// The position of the queries.
    pub(super) token: usize,
    /// The first query head.
    pub(super) head: usize,
    /// Where the first score of a row goes.
    pub(super) first: usize,
}

/// The scores of a run of keys for all rows.
#[inline(always)]
pub(super) fn score<X: Stored, S: Simd<X::Wide>>(
    simd: S,
    problem: &Decoding<'_, X>,
    run: &Run<'_, X>,
    at: &Place,
    queries: &[<X::Wide as Element>::Block],
    width: usize,
    scores: &mut [X::Wide],
) {
    let group = problem.group();
    for first in (0..run.keys.rows()).step_by(X::Wide::LANES) {
        let keys = first..run.keys.rows().min(first + X::Wide::LANES);
        let mut row = 0;
        while row < group {
            let rest = group - row;
            let queries = &queries[row * width..];
            let scores = &mut scores[row * CHUNK + at.first + first..];
            let at = Place { head: at.head + row, ..*at };
            if rest >= 4 {
                score_block::<X, S, 4>(simd, problem, run, &at, keys.clone(), queries, width, scores);
                row += 4;
            } else if rest >= 2 {
                score_block::<X, S, 2>(simd, problem, run, &at, keys.clone(), queries, width, scores);
                row += 2;
            } else {
                score_block::<X, S, 1>(simd, problem, run, &at, keys.clone(), queries, width, scores);
                row += 1;
            }
        }
    }
}

/// The scores of as many keys as a vector has lanes, or fewer, for `R` rows.
#[inline(always)]
#[allow(clippy::too_many_arguments, reason = "the inputs of a block of scores")]
pub(super) fn score_block<X: Stored, S: Simd<X::Wide>, const R: usize>(
    simd: S,
    problem: &Decoding<'_, X>,
    run: &Run<'_, X>,
    at: &Place,
    keys: Range<usize>,
    queries: &[<X::Wide as Element>::Block],
    width: usize,
    scores: &mut [X::Wide],
) {
    let mut lanes = [[simd.splat(X::Wide::ZERO); LANES]; R];
    let mut key = keys.start;
    // A single query of a usual size stays in registers.
    if R == 1 && run.keys.columns() == width * X::Wide::LANES {
        match width {
            8 => key = dots_of_one::<X, S, 8>(simd, run.keys, keys.clone(), queries, &mut lanes[0]),
            4 => key = dots_of_one::<X, S, 4>(simd, run.keys, keys.clone(), queries, &mut lanes[0]),
            _ => {}
        }
    }
    // Two keys at a time where that saves reading queries again.
    while R > 1 && key + 2 <= keys.end {
        dots::<X, S, R, 2>(simd, run.keys, key, queries, width, &mut lanes, key - keys.start);
        key += 2;
    }
    while key < keys.end {
        dots::<X, S, R, 1>(simd, run.keys, key, queries, width, &mut lanes, key - keys.start);
        key += 1;
    }
    for (index, lanes) in lanes.iter().enumerate() {
        let at = Place { head: at.head + index, ..*at };
        store_scores(simd, problem, run, &at, keys.clone(), lanes, &mut scores[index * CHUNK..]);
    }
}

/// Sums the products of keys, which lie in all lanes, and makes scores of them.
#[inline(always)]
pub(super) fn store_scores<X: Stored, S: Simd<X::Wide>>(
    simd: S,
    problem: &Decoding<'_, X>,
    run: &Run<'_, X>,
    at: &Place,
    keys: Range<usize>,
    lanes: &[S::Vector; LANES],
    scores: &mut [X::Wide],
) {
    let mut score = simd.sum_each(&lanes[..X::Wide::LANES]);
    if problem.softcap != X::Wide::ZERO {
        score = bend(simd, score, simd.splat(problem.softcap));
    }
    if let Some(slopes) = problem.slopes {
        let mut distances = X::Wide::block(X::Wide::ZERO);
        for (lane, distance) in distances.as_mut().iter_mut().enumerate() {
            let position = (run.position + keys.start + lane) as f64;
            *distance = X::Wide::from_f64(at.token as f64 - position);
        }
        let minus_slope = simd.splat(-slopes[at.head]);
        score = simd.mul_add(minus_slope, simd.load(&distances), score);
    }
    simd.store_partial(score, &mut scores[..keys.len()]);
}

/// The products of one query of `W` vectors with the keys `keys`, summed but for the lanes; gives the end of the keys.
#[inline(always)]
fn dots_of_one<X: Stored, S: Simd<X::Wide>, const W: usize>(
    simd: S,
    keys: Matrix<'_, X>,
    range: Range<usize>,
    query: &[<X::Wide as Element>::Block],
    lanes: &mut [S::Vector; LANES],
) -> usize {
    let mut numbers = [simd.splat(X::Wide::ZERO); W];
    for (number, block) in numbers.iter_mut().zip(&query[..W]) {
        *number = simd.load(block);
    }
    if let Some(rows) = keys.part(range.clone()).rows_of_packs::<W>() {
        for (lane, key) in lanes.iter_mut().zip(rows) {
            *lane = dot::<X, S, W>(simd, &numbers, key);
        }
    } else {
        for (lane, key) in lanes.iter_mut().zip(range.clone()) {
            *lane = dot::<X, S, W>(simd, &numbers, &X::packs(keys.row(key)).0.as_chunks().0[0]);
        }
    }
    range.end
}

/// The product of a query in registers with a key, summed but for the lanes.
#[inline(always)]
pub(super) fn dot<X: Stored, S: Simd<X::Wide>, const W: usize>(
    simd: S,
    query: &[S::Vector; W],
    key: &[X::Pack; W],
) -> S::Vector {
    let mut sum = simd.splat(X::Wide::ZERO);
    for (two, numbers) in key.as_chunks::<2>().0.iter().zip(query.as_chunks::<2>().0) {
        let [a, b] = X::load_two(simd, two);
        sum = simd.mul_add(numbers[0], a, sum);
        sum = simd.mul_add(numbers[1], b, sum);
    }
    sum
}

/// The products of `R` queries with the keys `key..key + K`, summed but for the lanes.
#[inline(always)]
fn dots<X: Stored, S: Simd<X::Wide>, const R: usize, const K: usize>(
    simd: S,
    keys: Matrix<'_, X>,
    key: usize,
    queries: &[<X::Wide as Element>::Block],
    width: usize,
    lanes: &mut [[S::Vector; LANES]; R],
    at: usize,
) {
    let mut packs: [&[X::Pack]; K] = [&[]; K];
    let mut tails: [&[X]; K] = [&[]; K];
    for i in 0..K {
        (packs[i], tails[i]) = X::packs(keys.row(key + i));
    }
    let whole = packs[0].len();
    let mut rows: [&[<X::Wide as Element>::Block]; R] = [&[]; R];
    for (i, row) in rows.iter_mut().enumerate() {
        // Cut to the depth, so that the compiler sees that no index below it can be out of bounds.
        *row = &queries[i * width..(i + 1) * width];
    }
    for packs in &mut packs {
        *packs = &packs[..whole];
    }
    let mut sums = [[simd.splat(X::Wide::ZERO); K]; R];
    // Two packs at once, in the order of the queries; cut to one length as well.
    let twos = whole / 2;
    let mut packs_in_twos: [&[[X::Pack; 2]]; K] = [&[]; K];
    for (in_twos, packs) in packs_in_twos.iter_mut().zip(&packs) {
        *in_twos = &packs.as_chunks().0[..twos];
    }
    let mut rows_in_twos: [&[[<X::Wide as Element>::Block; 2]]; R] = [&[]; R];
    for (in_twos, row) in rows_in_twos.iter_mut().zip(&rows) {
        *in_twos = &row.as_chunks().0[..twos];
    }
    for c in 0..twos {
        let mut numbers = [[simd.splat(X::Wide::ZERO); 2]; K];
        for j in 0..K {
            numbers[j] = X::load_two(simd, &packs_in_twos[j][c]);
        }
        for i in 0..R {
            let [first, second] = &rows_in_twos[i][c];
            let (first, second) = (simd.load(first), simd.load(second));
            for j in 0..K {
                sums[i][j] = simd.mul_add(first, numbers[j][0], sums[i][j]);
                sums[i][j] = simd.mul_add(second, numbers[j][1], sums[i][j]);
            }
        }
    }
    for c in 2 * twos..whole {
        let mut numbers = [simd.splat(X::Wide::ZERO); K];
        for j in 0..K {
            numbers[j] = X::load(simd, &packs[j][c]);
        }
        for i in 0..R {
            let query = simd.load(&rows[i][c]);
            for j in 0..K {
                sums[i][j] = simd.mul_add(query, numbers[j], sums[i][j]);
            }
        }
    }
    if whole < width {
        for j in 0..K {
            let rest = X::load_partial(simd, tails[j], X::Wide::ZERO);
            for i in 0..R {
                sums[i][j] = simd.mul_add(simd.load(&rows[i][whole]), rest, sums[i][j]);
            }
        }
    }
    for i in 0..R {
        for j in 0..K {
            lanes[i][at + j] = sums[i][j];
        }
    }
}

/// Turns the first `count` scores into weights e^(s - max), and what fills the last vector into 0.
#[inline(always)]
pub(super) fn weigh<T: Element, S: Simd<T>>(
    simd: S,
    scores: &mut [T],
    count: usize,
    with_moments: bool,
) -> State<T> {
    let scores = &mut scores[..count.next_multiple_of(T::LANES)];
    if with_moments {
        weigh_row::<T, S, true>(simd, scores, count)
    } else {
        weigh_row::<T, S, false>(simd, scores, count)
    }
}

/// Turns the first `count` scores of whole vectors into weights e^(s - max), the rest into 0.
#[inline(always)]
fn weigh_row<T: Element, S: Simd<T>, const MOMENTS: bool>(
    simd: S,
    scores: &mut [T],
    count: usize,
) -> State<T> {
    scores[count..].fill(T::NEG_INFINITY);
    let blocks = T::blocks_mut(scores).0;
    let mut largest = simd.splat(T::NEG_INFINITY);
    for block in blocks.iter() {
        largest = simd.max(simd.load(block), largest);
    }
    let max = simd.max_lane(largest);
    let zero = simd.splat(T::ZERO);
    // From -inf nothing may be subtracted.
    let reference = simd.splat(if max == T::NEG_INFINITY { T::ZERO } else { max });
    let logits = if MOMENTS { moments(simd, blocks, reference) } else { [T::ZERO; 3] };
    let (mut sum, mut moment, mut square) = (zero, zero, zero);
    for block in blocks {
        let distance = simd.sub(simd.load(block), reference);
        let weight = math::exp(simd, distance);
        sum = simd.add(sum, weight);
        let distance = simd.select(simd.less(zero, weight), distance, zero);
        moment = simd.mul_add(weight, distance, moment);
        if MOMENTS {
            square = simd.mul_add(simd.mul(weight, distance), distance, square);
        }
        simd.store(weight, block);
    }
    State { max, sum: simd.sum(sum), moment: simd.sum(moment), square: simd.sum(square), logits }
}

/// Count, mean less `shift`, and sum of squared deviations of the scores above -inf of a row, which lie in all lanes.
#[inline(always)]
fn moments<T: Element, S: Simd<T>>(simd: S, scores: &[T::Block], shift: S::Vector) -> [T; 3] {
    let (zero, one, lowest) = (simd.splat(T::ZERO), simd.splat(T::ONE), simd.splat(T::NEG_INFINITY));
    let (mut count, mut sum, mut m2) = (zero, zero, zero);
    for block in scores {
        let score = simd.load(block);
        let is_one = simd.less(lowest, score);
        count = simd.add(count, simd.select(is_one, one, zero));
        sum = simd.add(sum, simd.select(is_one, simd.sub(score, shift), zero));
    }
    let count = simd.sum(count);
    let mean = if count > T::ZERO { simd.sum(sum) / count } else { T::ZERO };
    for block in scores {
        let score = simd.load(block);
        let distance = simd.sub(simd.sub(score, shift), simd.splat(mean));
        let distance = simd.select(simd.less(lowest, score), distance, zero);
        m2 = simd.mul_add(distance, distance, m2);
    }
    [count, mean, simd.sum(m2)]
}
