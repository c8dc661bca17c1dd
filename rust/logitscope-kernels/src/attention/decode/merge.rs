//! From the states of a row's chunks to the row.

use super::chunk::State;
use super::problem::{Decoding, overflows};
use logitscope_simd::{Element, Stored};

/// A finished row.
pub(super) struct Row<T> {
    pub(super) max_logit: T,
    /// Negative where the scores leave the range of `T` and the row was computed in f64.
    pub(super) inv_sum: T,
    pub(super) lse: T,
    pub(super) entropy: T,
    /// Count, mean and sum of squared deviations of the scores above -inf.
    pub(super) logits: [T; 3],
    pub(super) variance: T,
    pub(super) out: Vec<T>,
}

/// Which row it is: batch element, head, token.
pub(super) type Index = [usize; 3];

/// Merges the states of the chunks of a row in their order; `sums(chunk)` are its weighted values.
pub(super) fn merge<'s, X: Stored>(
    problem: &Decoding<'_, X>,
    index: Index,
    states: &[State<X::Wide>],
    sums: impl Fn(usize) -> &'s [X::Wide],
) -> Row<X::Wide> {
    let [batch, head, token] = index;
    let value_dim = problem.values.shape()[3];
    let seen = problem.seen(batch, token);
    let sink = problem.sinks.map_or(f64::NEG_INFINITY, |sinks| sinks[head].to_f64());
    let largest = states.iter().fold(f64::NEG_INFINITY, |max, state| max.max(state.max.to_f64()));
    let top = largest.max(sink);
    let reference = if top == f64::NEG_INFINITY { 0.0 } else { top };
    let distance_of_sink = sink - reference;
    let mut total = distance_of_sink.exp();
    let mut moment = if total > 0.0 { total * distance_of_sink } else { 0.0 };
    let mut square = if total > 0.0 { moment * distance_of_sink } else { 0.0 };
    let mut logits = [0.0; 3];
    let mut shares = Vec::with_capacity(states.len());
    for state in states {
        let (distance, sum) = (state.max.to_f64() - reference, state.sum.to_f64());
        let share = if state.max == X::Wide::NEG_INFINITY && sum == 0.0 { 0.0 } else { distance.exp() };
        total += share * sum;
        if share > 0.0 {
            let first = state.moment.to_f64();
            moment += share * (first + distance * sum);
            square += share * (state.square.to_f64() + distance * (2.0 * first + distance * sum));
        }
        let [count, mean, m2] = state.logits.map(Element::to_f64);
        add_moments(&mut logits, [count, state.max.to_f64() + mean, m2]);
        shares.push(share);
    }
    let of_keys = if total == distance_of_sink.exp() && largest == f64::NEG_INFINITY { 0.0 } else { total };
    let (sum, max) = (X::Wide::from_f64(of_keys), X::Wide::from_f64(largest));
    if overflows(sum, max, !seen.is_empty())
        && let Some(row) = wide_row(problem, index, sink)
    {
        return row;
    }
    let mut out = vec![X::Wide::ZERO; value_dim];
    for (chunk, share) in shares.into_iter().enumerate() {
        // A NaN spoils the row, also one in a chunk whose other scores have no share.
        if share != 0.0 || total.is_nan() {
            let share = X::Wide::from_f64(share / total);
            for (cell, &x) in out.iter_mut().zip(sums(chunk)) {
                *cell += share * x;
            }
        }
    }
    let wide = X::Wide::from_f64;
    if total == 0.0 {
        let (zero, nothing) = (X::Wide::ZERO, X::Wide::NEG_INFINITY);
        return Row {
            max_logit: nothing,
            inv_sum: zero,
            lse: nothing,
            entropy: zero,
            logits: logits.map(wide),
            variance: zero,
            out,
        };
    }
    let [count, mean, m2] = logits;
    // A NaN in the row spoils all of its figures.
    let spoilt = total * 0.0;
    Row {
        max_logit: if total.is_nan() { X::Wide::NAN } else { wide(largest) },
        inv_sum: wide(1.0 / total),
        lse: wide(reference + total.ln()),
        // Rounding may leave a one-hot row a little below 0.
        entropy: wide(at_least_zero(total.ln() - moment / total)),
        logits: [count, mean + spoilt, m2 + spoilt].map(wide),
        variance: wide(at_least_zero(square / total - (moment / total).powi(2))),
        out,
    }
}

/// Takes further numbers into count, mean and sum of squared deviations (Chan's rule).
fn add_moments([count, mean, m2]: &mut [f64; 3], [other_count, other_mean, other_m2]: [f64; 3]) {
    if other_count > 0.0 {
        let all = *count + other_count;
        let (distance, share) = (other_mean - *mean, other_count / all);
        *m2 += other_m2 + distance * distance * *count * share;
        *mean += distance * share;
        *count = all;
    }
}

/// A row whose scores leave the range of the type, in f64; None where it is not finite there either.
fn wide_row<X: Stored>(
    problem: &Decoding<'_, X>,
    [batch, head, token]: Index,
    sink: f64,
) -> Option<Row<X::Wide>> {
    let number = |x: &X| x.widen().to_f64();
    let seen = problem.seen(batch, token);
    let temperature = problem.inv_temperature.map_or(1.0, |rows| rows.get(batch, head, token).to_f64());
    let factor = problem.scale.to_f64() * temperature;
    let softcap = problem.softcap.to_f64();
    let slope = problem.slopes.map_or(0.0, |slopes| slopes[head].to_f64());
    let query = problem.queries.matrix(batch, head).row(token);
    let mut keys = Vec::with_capacity(seen.len());
    for chunk in 0..problem.chunks() {
        for run in problem.runs(batch, head / problem.group(), chunk, &seen) {
            for row in 0..run.keys.rows() {
                let dot: f64 = query.iter().zip(run.keys.row(row)).map(|(a, b)| number(a) * number(b)).sum();
                let mut score = factor * dot;
                if softcap != 0.0 {
                    score = softcap * (score / softcap).tanh();
                }
                let distance = (seen.end - 1 - (run.position + row)) as f64;
                keys.push((score - slope * distance, run.values.row(row)));
            }
        }
    }
    if keys.iter().any(|&(score, _)| score.is_nan() || score == f64::INFINITY) {
        return None;
    }
    let largest = keys.iter().fold(f64::NEG_INFINITY, |max, &(score, _)| max.max(score));
    if largest == f64::NEG_INFINITY {
        return None;
    }
    let top = largest.max(sink);
    let total = keys.iter().map(|&(score, _)| (score - top).exp()).sum::<f64>() + (sink - top).exp();
    let nats = |score: f64| {
        let log_share = score - top - total.ln();
        if log_share == f64::NEG_INFINITY { 0.0 } else { -log_share.exp() * log_share }
    };
    let entropy = keys.iter().map(|&(score, _)| nats(score)).sum::<f64>() + nats(sink);
    let mut logits = [0.0; 3];
    let mut weighted = [0.0; 3];
    for score in keys.iter().map(|&(score, _)| score).filter(|&score| score > f64::NEG_INFINITY) {
        add_moments(&mut logits, [1.0, score, 0.0]);
        add_moments(&mut weighted, [(score - top).exp() / total, score, 0.0]);
    }
    if sink > f64::NEG_INFINITY {
        add_moments(&mut weighted, [(sink - top).exp() / total, sink, 0.0]);
    }
    let mut out = vec![0.0; problem.values.shape()[3]];
    for (score, value) in keys {
        let share = (score - top).exp() / total;
        for (cell, x) in out.iter_mut().zip(value) {
            *cell += share * number(x);
        }
    }
    let wide = X::Wide::from_f64;
    Some(Row {
        max_logit: wide(largest),
        inv_sum: wide(-1.0 / total),
        lse: wide(top + total.ln()),
        entropy: wide(at_least_zero(entropy)),
        logits: logits.map(wide),
        variance: wide(weighted[2]),
        out: out.into_iter().map(wide).collect(),
    })
}

/// NaN stays.
fn at_least_zero(x: f64) -> f64 {
    if x < 0.0 { 0.0 } else { x }
}
