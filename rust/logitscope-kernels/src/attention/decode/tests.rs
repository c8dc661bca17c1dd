//! Decoding against a dense computation in f64, over caches that are plain, rings, or made of pages.

use super::super::{Logits, Statistics};
use super::*;
use crate::threads::{self, Cancel};
use crate::view::Heads;
use logitscope_simd::{BF16, F16};
use logitscope_testing::each_isa;

fn numbers<X: Stored>(n: usize, seed: u64) -> Vec<X> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
    };
    (0..n).map(|_| X::narrow(X::Wide::from_f64(2.0 * next()))).collect()
}

/// Query heads, key heads, tokens, size, value size, and of the cache: length, capacity, page size, window.
type Sizes = (usize, usize, usize, usize, usize, usize, usize, usize, Option<usize>);

/// The largest error of output and figures, of numbers above 1 the relative one.
fn error<X: Stored>(sizes: Sizes) -> f64 {
    let (heads, key_heads, tokens, size, value_size, length, capacity, page, window) = sizes;
    let pages_a_sequence = capacity.div_ceil(page);
    let all = 2 * pages_a_sequence;
    // Pages lie in the arrays from the last to the first.
    let pages: Vec<_> = (0..all).rev().collect();
    let q: Vec<X> = numbers(2 * heads * tokens * size, 1);
    let k: Vec<X> = numbers(all * key_heads * page * size, 2);
    let v: Vec<X> = numbers(all * key_heads * page * value_size, 3);
    let lengths = [length, length / 2];
    let slopes: Vec<_> = (0..heads).map(|head| X::Wide::from_f64(0.01 * head as f64)).collect();
    let sinks: Vec<_> = (0..heads).map(|head| X::Wide::from_f64(head as f64 - 1.0)).collect();
    let problem = Decoding {
        queries: Heads::contiguous(&q, [2, heads, tokens, size]),
        keys: Heads::contiguous(&k, [all, key_heads, page, size]),
        values: Heads::contiguous(&v, [all, key_heads, page, value_size]),
        pages: &pages,
        lengths: &lengths,
        capacity,
        window,
        scale: X::Wide::from_f64(0.3),
        inv_temperature: None,
        softcap: X::Wide::from_f64(3.0),
        slopes: Some(&slopes),
        sinks: Some(&sinks),
    };
    let rows = 2 * heads * tokens;
    let nan = X::Wide::NAN;
    let mut out = vec![X::narrow(nan); rows * value_size];
    let mut figures = vec![nan; 8 * rows];
    let run = |out: &mut Vec<X>, figures: &mut Vec<X::Wide>| {
        let (max_logit, rest) = figures.split_at_mut(rows);
        let (inv_sum, rest) = rest.split_at_mut(rows);
        let (lse, rest) = rest.split_at_mut(rows);
        let (entropy, rest) = rest.split_at_mut(rows);
        let (count, rest) = rest.split_at_mut(rows);
        let (mean, rest) = rest.split_at_mut(rows);
        let (m2, variance) = rest.split_at_mut(rows);
        let statistics = Statistics {
            max_logit,
            inv_sum,
            lse,
            entropy: Some(entropy),
            logits: Some(Logits { count, mean, m2 }),
            variance: Some(variance),
        };
        decode(&problem, out, statistics, &Cancel::default()).unwrap();
    };
    run(&mut out, &mut figures);
    for threads in [2, 3, 8] {
        threads::set_num_threads(threads);
        let (mut again, mut other) = (vec![X::narrow(nan); out.len()], vec![nan; figures.len()]);
        run(&mut again, &mut other);
        assert!(again.iter().zip(&out).all(|(a, b)| a.widen() == b.widen()) && other == figures);
    }
    threads::set_num_threads(0);
    let number = |x: &X| x.widen().to_f64();
    let mut worst = 0.0_f64;
    for row in 0..rows {
        let (batch, head, token) = (row / tokens / heads, row / tokens % heads, row % tokens);
        let position = (lengths[batch] + token).checked_sub(tokens);
        let (mut scores, mut places) = (Vec::new(), Vec::new());
        for held in lengths[batch].saturating_sub(capacity)..position.map_or(0, |position| position + 1) {
            let distance = position.unwrap() - held;
            if window.is_some_and(|window| distance > window) {
                continue;
            }
            let place = held % capacity;
            let page_number = pages[batch * pages_a_sequence + place / page];
            let at = (page_number * key_heads + head / (heads / key_heads)) * page + place % page;
            let dot: f64 = (0..size).map(|c| number(&q[row * size + c]) * number(&k[at * size + c])).sum();
            scores.push(3.0 * (0.3 * dot / 3.0).tanh() - 0.01 * head as f64 * distance as f64);
            places.push(at);
        }
        let sink = head as f64 - 1.0;
        let total = scores.iter().map(|s| s.exp()).sum::<f64>() + sink.exp();
        let nats = |s: f64| -(s.exp() / total) * (s - total.ln());
        let entropy = scores.iter().map(|&s| nats(s)).sum::<f64>() + nats(sink);
        let mut check =
            |got: f64, wanted: f64| worst = worst.max((got - wanted).abs() / wanted.abs().max(1.0));
        check(figures[2 * rows + row].to_f64(), total.ln());
        check(figures[3 * rows + row].to_f64(), entropy);
        let n = scores.len() as f64;
        let mean = scores.iter().sum::<f64>() / n.max(1.0);
        let m2 = scores.iter().map(|s| (s - mean).powi(2)).sum::<f64>();
        check(figures[4 * rows + row].to_f64(), n);
        check(figures[5 * rows + row].to_f64(), mean);
        check(figures[6 * rows + row].to_f64() / n.max(1.0), m2 / n.max(1.0));
        let weighted = scores.iter().chain([&sink]).map(|s| (s.exp() / total, s));
        let mean = weighted.clone().map(|(p, s)| p * s).sum::<f64>();
        let variance = weighted.map(|(p, s)| p * (s - mean).powi(2)).sum::<f64>();
        check(figures[7 * rows + row].to_f64(), variance);
        for c in 0..value_size {
            let terms = scores.iter().zip(&places);
            let wanted: f64 = terms.map(|(s, at)| s.exp() / total * number(&v[at * value_size + c])).sum();
            check(number(&out[row * value_size + c]), wanted);
        }
    }
    worst
}

const CASES: [Sizes; 9] = [
    (1, 1, 1, 16, 16, 20, 40, 40, None),
    (4, 4, 1, 128, 128, 513, 600, 600, None),
    (4, 4, 1, 128, 128, 1025, 1100, 1100, None),
    (14, 2, 1, 64, 80, 1030, 1030, 1030, Some(100)),
    (3, 1, 11, 40, 21, 530, 530, 530, None),
    // A ring that has gone round.
    (2, 1, 1, 8, 8, 1700, 600, 600, None),
    // Pages; a length below the number of tokens.
    (4, 2, 3, 33, 17, 100, 128, 16, None),
    (2, 2, 5, 8, 3, 7, 16, 4, Some(2)),
    // Two chunks a piece, and one left over; a ring.
    (16, 16, 1, 64, 16, 5000, 4500, 4500, Some(2500)),
];

#[test]
fn decoding_is_attention_over_what_the_cache_holds() {
    each_isa(|isa| {
        for sizes in CASES {
            let wide = error::<f64>(sizes);
            assert!(wide < 1e-13, "{wide} in f64 on {}: {sizes:?}", isa.name());
            for (error, limit) in
                [(error::<f32>(sizes), 1e-5), (error::<F16>(sizes), 1e-3), (error::<BF16>(sizes), 8e-3)]
            {
                assert!(error < limit, "{error} on {}: {sizes:?}", isa.name());
            }
        }
    });
}
