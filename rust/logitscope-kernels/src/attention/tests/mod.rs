//! Attention against a dense computation in `f64` that shares no code with it.

mod case;
mod half;
mod hidden;
mod steps;
mod tiles;
mod top_keys;

use super::*;
use crate::threads::{self, Cancel};
use crate::view::{Heads, HeadsMut, Mask, Order};
use case::{Case, Hidden, Numbers, Results, Sizes};
use logitscope_simd::Element;
use steps::with_steps;

/// The largest difference relative to the largest number of the reference.
fn error<T: Element>(got: &[T], wanted: &[f64]) -> f64 {
    assert_eq!(got.len(), wanted.len());
    let size = wanted.iter().filter(|x| x.is_finite()).fold(1e-3_f64, |a, b| a.max(b.abs()));
    let difference = |(a, b): (&T, &f64)| if a.to_f64() == *b { 0.0 } else { (a.to_f64() - b).abs() / size };
    got.iter().zip(wanted).map(difference).fold(0.0, |a, b| if b > a || b.is_nan() { b } else { a })
}

fn cases() -> Vec<(Sizes, Hidden)> {
    use Align::{BottomRight, TopLeft};
    let window = |align, left, right| Hidden { align, left, right, ..Hidden::default() };
    let lengths = |queries: &[usize], keys: &[usize], rest| Hidden {
        query_lengths: Some(queries.to_vec()),
        key_lengths: Some(keys.to_vec()),
        ..rest
    };
    // A third of the scores hidden, and whole tiles of the first queries.
    let scattered = |n: usize, strides: [usize; 4]| {
        let mut numbers = Numbers(3);
        let cells = (0..n).map(|i| u8::from(i > n / 3 && numbers.next() > -0.3)).collect();
        Hidden { scores: Some((cells, strides)), ..Hidden::default() }
    };
    vec![
        (Sizes(1, 1, 1, 1, 1, 1, 1), Hidden::default()),
        (Sizes(2, 2, 2, 17, 15, 8, 5), Hidden::default()),
        (Sizes(1, 4, 2, 127, 131, 40, 16), Hidden::causal(Align::BottomRight)),
        (Sizes(1, 2, 1, 67, 67, 33, 64), Hidden::causal(TopLeft)),
        (Sizes(1, 1, 1, 150, 20, 16, 16), Hidden::causal(Align::BottomRight)),
        (Sizes(1, 1, 1, 20, 300, 16, 16), Hidden::causal(TopLeft)),
        (Sizes(1, 8, 1, 3, 257, 64, 80), Hidden::causal(Align::BottomRight)),
        (Sizes(1, 1, 1, 5, 0, 4, 4), Hidden::default()),
        (Sizes(1, 1, 1, 31, 129, 128, 128), Hidden::default()),
        // Few key heads and many queries: more than one span.
        (Sizes(1, 4, 1, 520, 67, 8, 5), Hidden::default()),
        (Sizes(1, 1, 1, 2060, 200, 4, 4), Hidden::causal(TopLeft)),
        (Sizes(1, 2, 1, 131, 400, 16, 16), window(BottomRight, Some(40), Some(0))),
        (Sizes(1, 1, 1, 211, 127, 8, 8), window(BottomRight, Some(5), Some(3))),
        (Sizes(1, 1, 1, 127, 211, 8, 8), window(TopLeft, Some(17), None)),
        (Sizes(1, 1, 1, 211, 67, 8, 8), window(TopLeft, Some(0), Some(0))),
        (Sizes(1, 1, 1, 67, 67, 8, 8), window(BottomRight, None, Some(usize::MAX))),
        (Sizes(4, 2, 1, 83, 150, 8, 8), lengths(&[83, 0, 5, 70], &[150, 7, 0, 129], Hidden::default())),
        (
            Sizes(3, 4, 2, 83, 150, 8, 8),
            lengths(&[83, 70, 17], &[13, 129, 150], Hidden::causal(Align::BottomRight)),
        ),
        (
            Sizes(2, 2, 1, 83, 150, 8, 8),
            lengths(&[83, 40], &[150, 131], window(BottomRight, Some(9), Some(2))),
        ),
        (Sizes(2, 2, 1, 83, 150, 8, 8), lengths(&[83, 40], &[150, 31], window(TopLeft, Some(9), Some(2)))),
        (Sizes(2, 4, 2, 67, 151, 8, 8), scattered(2 * 4 * 67 * 151, [4 * 67 * 151, 67 * 151, 151, 1])),
        (Sizes(2, 4, 2, 67, 151, 8, 8), scattered(2 * 151, [151, 0, 0, 1])),
        (Sizes(2, 4, 2, 67, 151, 8, 8), scattered(67 * 151, [0, 0, 1, 67])),
        (Sizes(2, 4, 2, 67, 151, 8, 8), scattered(4 * 67, [0, 67, 1, 0])),
        (
            Sizes(2, 2, 1, 200, 211, 8, 8),
            lengths(
                &[190, 200],
                &[211, 150],
                Hidden { left: Some(100), right: Some(1), ..scattered(200 * 211, [0, 0, 211, 1]) },
            ),
        ),
    ]
}

fn assert_agrees<T: Element>(case: &Case<T>, what: &str, limit: f64) {
    let (got, wanted) = (case.run(), case.dense());
    let errors = [
        ("out", error(&got.out, &wanted.out)),
        ("max_logit", error(&got.max_logit, &wanted.max_logit)),
        ("inv_sum", error(&got.inv_sum, &wanted.inv_sum)),
        ("lse", error(&got.lse, &wanted.lse)),
        ("entropy", error(&got.entropy, &wanted.entropy)),
        ("logit_count", error(&got.logit_count, &wanted.logit_count)),
        ("logit_mean", error(&got.logit_mean, &wanted.logit_mean)),
        ("logit_m2", error(&got.logit_m2, &wanted.logit_m2)),
        ("variance", error(&got.variance, &wanted.variance)),
        ("top_weights", error(&got.top_weights, &wanted.top_weights)),
        ("dq", error(&got.dq, &wanted.dq)),
        ("dk", error(&got.dk, &wanted.dk)),
        ("dv", error(&got.dv, &wanted.dv)),
        ("dtemperature", error(&got.dtemperature, &wanted.dtemperature)),
        ("dsinks", error(&got.dsinks, &wanted.dsinks)),
        ("dslopes", error(&got.dslopes, &wanted.dslopes)),
        ("dsigmoid", error(&got.dsigmoid, &wanted.dsigmoid)),
        ("dbias", error(&got.dbias, &wanted.dbias)),
    ];
    for (name, error) in errors {
        assert!(
            error <= limit,
            "{name} of {:?} {:?} {what}: {error:e} on {:?}",
            case.sizes,
            case.hidden,
            logitscope_simd::Isa::current()
        );
    }
}

fn agrees<T: Element>(limit: f64) {
    for (sizes, hidden) in cases() {
        for with_sinks in [false, true] {
            let mut case = Case::<T>::new(sizes, hidden.clone());
            // One sink that outweighs all scores, one that vanishes, and two like the scores.
            case.sinks = with_sinks.then(|| {
                (0..sizes.1).map(|h| T::from_f64([0.5, 30.0, f64::NEG_INFINITY, -1.0][h % 4])).collect()
            });
            assert_agrees(&case, if with_sinks { "with sinks" } else { "" }, limit);
        }
    }
}

#[test]
fn forward_and_gradients_agree_with_a_dense_computation_on_every_isa() {
    logitscope_testing::each_isa(|_| {
        agrees::<f64>(1e-12);
        agrees::<f32>(2e-5);
    });
}

#[test]
fn results_have_the_same_bits_at_any_number_of_threads() {
    let hidden = Hidden {
        left: Some(90),
        right: Some(4),
        key_lengths: Some(vec![200, 170]),
        scores: Some(((0..200).map(|j| u8::from(j % 7 > 0)).collect(), [0, 0, 0, 1])),
        ..Hidden::default()
    };
    let mut masked = Case::<f32>::new(Sizes(2, 6, 3, 200, 200, 32, 32), hidden);
    masked.sinks = Some(vec![0.3; 6]);
    let few_key_heads = with_steps::<f32>(Sizes(1, 16, 1, 200, 100, 16, 16), Hidden::default(), 7);
    let sigmoid = with_steps::<f32>(Sizes(2, 4, 2, 200, 300, 16, 16), Hidden::causal(Align::TopLeft), 23);
    let mut dropped = with_steps::<f32>(Sizes(1, 16, 1, 200, 100, 16, 16), Hidden::default(), 15);
    dropped.dropout = Some(Dropout { rate: 0.2, seed: 5 });
    for case in [masked, few_key_heads, sigmoid, dropped] {
        threads::set_num_threads(1);
        let wanted = case.run();
        for count in [2, 3, 8] {
            threads::set_num_threads(count);
            assert!(case.run() == wanted, "{count} threads");
        }
    }
    threads::set_num_threads(0);
}

#[test]
fn a_sink_of_zero_is_a_key_of_zeros_and_one_of_minus_infinity_is_none() {
    let sizes = Sizes(1, 2, 2, 19, 40, 8, 8);
    let mut case = Case::<f64>::new(sizes, Hidden::default());
    let plain = case.run();
    case.sinks = Some(vec![f64::NEG_INFINITY; 2]);
    let vanished = case.run();
    assert_eq!(vanished.dsinks, [0.0; 2]);
    assert!(vanished == Results { dsinks: vec![0.0; 2], ..plain });
    case.sinks = Some(vec![0.0; 2]);
    let sunk = case.run();
    let mut longer = Case::<f64>::new(Sizes(1, 2, 2, 19, 41, 8, 8), Hidden::default());
    (longer.q, longer.temperature) = (case.q.clone(), case.temperature.clone());
    for (from, to) in [(&case.k, &mut longer.k), (&case.v, &mut longer.v)] {
        to.fill(0.0);
        to[..320].copy_from_slice(&from[..320]);
        to[328..648].copy_from_slice(&from[320..]);
    }
    let longer = longer.run();
    assert!(error(&sunk.out, &longer.out) < 1e-14);
    assert!(error(&sunk.lse, &longer.lse) < 1e-14);
    assert!(error(&sunk.entropy, &longer.entropy) < 1e-14);
}

#[test]
fn a_large_common_offset_costs_no_accuracy() {
    // k = offset in one dimension shifts all scores of a row alike.
    let mut case = Case::<f32>::new(Sizes(1, 1, 1, 33, 65, 4, 4), Hidden::default());
    case.scale = 1.0;
    case.temperature.fill(1.0);
    case.q.chunks_mut(4).for_each(|q| q[3] = 1.0);
    case.k.chunks_mut(4).for_each(|k| k[3] = 65536.0);
    case.dout.fill(1.0);
    case.dlse.fill(0.0);
    case.dentropy.fill(0.0);
    let got = case.run();
    let total: f32 = got.dv.iter().step_by(4).sum();
    assert!((total / 33.0 - 1.0).abs() < 1e-5, "weights sum to {}", total / 33.0);
    // Up there the scores themselves are rounded to multiples of 2^-7; their spread is lost in their squares.
    let error = error(&got.logit_m2, &case.dense().logit_m2);
    assert!(error < 2e-3, "the spread of the scores is off by {error}");
}

fn wide<T: Element>(data: &[T], shape: [usize; 4]) -> Operand<'_, T> {
    Operand::Wide(Heads::contiguous(data, shape))
}

#[test]
fn the_map_is_the_pooled_dense_map() {
    for pooling in [Pooling::Mean, Pooling::Max] {
        map_is_pooled(pooling);
    }
}

fn map_is_pooled(pooling: Pooling) {
    let Sizes(b, h, _, lq, lk, d, dv) = Sizes(2, 2, 2, 150, 170, 8, 4);
    let mut numbers = Numbers(7);
    let (q, k): (Vec<f64>, Vec<f64>) = (numbers.vec(b * h * lq * d), numbers.vec(b * h * lk * d));
    // Values that are one-hot columns hand out the dense weights.
    let v = vec![0.0; b * h * lk * dv];
    let problem = Problem {
        queries: wide(&q, [b, h, lq, d]),
        keys: wide(&k, [b, h, lk, d]),
        values: wide(&v, [b, h, lk, dv]),
        scale: 1.0,
        inv_temperature: None,
        masks: Masks::causal(Align::BottomRight),
        softcap: 0.0,
        bias: None,
        slopes: None,
        weighting: Weighting::Softmax(None),
        dropout: None,
    };
    let bins = MapBins { rows: 37, columns: 50, pooling };
    let mut map = vec![f64::NAN; b * h * 37 * 50];
    let (mut out, mut stats) = (vec![0.0; b * h * lq * dv], vec![0.0; 3 * b * h * lq]);
    let (max_logit, rest) = stats.split_at_mut(b * h * lq);
    let (inv_sum, lse) = rest.split_at_mut(b * h * lq);
    let statistics = Statistics { max_logit, inv_sum, lse, entropy: None, logits: None, variance: None };
    let out = HeadsMut::new(&mut out, [b, h, lq, dv], Order::HeadsFirst);
    let output = Output { out, statistics, map: Some((bins, &mut map)), top: None };
    forward(&problem, output, &Cancel::default()).unwrap();
    let mut wanted: Vec<f64> = vec![0.0; map.len()];
    for head in 0..b * h {
        for i in 0..lq {
            let visible = i + 1 + lk - lq;
            let s: Vec<f64> = (0..visible)
                .map(|j| (0..d).map(|c| q[(head * lq + i) * d + c] * k[(head * lk + j) * d + c]).sum())
                .collect();
            let total: f64 = s.iter().map(|s| s.exp()).sum();
            let row = (0..37).rfind(|&r| bin_edge(r, lq, 37) <= i).unwrap();
            let count = (bin_edge(row + 1, lq, 37) - bin_edge(row, lq, 37)) as f64;
            for (j, s) in s.iter().enumerate() {
                let column = (0..50).rfind(|&c| bin_edge(c, lk, 50) <= j).unwrap();
                let cell = &mut wanted[(head * 37 + row) * 50 + column];
                *cell = match pooling {
                    Pooling::Mean => *cell + s.exp() / total / count,
                    Pooling::Max => cell.max(s.exp() / total),
                };
            }
        }
    }
    assert!(error(&map, &wanted) < 1e-12, "{}", error(&map, &wanted));
    if pooling == Pooling::Mean {
        for row in map.chunks(50) {
            assert!((row.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        }
    }
}

#[test]
fn shapes_that_do_not_fit_are_refused_by_name() {
    let data = vec![0.0_f32; 1000];
    let heads = |shape| wide(&data, shape);
    let problem = |q, k, v| Problem {
        queries: heads(q),
        keys: heads(k),
        values: heads(v),
        scale: 1.0,
        inv_temperature: None,
        masks: Masks::default(),
        softcap: 0.0,
        bias: None,
        slopes: None,
        weighting: Weighting::Softmax(None),
        dropout: None,
    };
    let refused = |q, k, v| problem(q, k, v).check().unwrap_err().to_string();
    assert_eq!(
        refused([1, 2, 3, 4], [1, 2, 3, 5], [1, 2, 3, 4]),
        "attention: k has shape [1, 2, 3, 5]; use (1, key heads, keys, 4) as q has shape [1, 2, 3, 4]"
    );
    assert_eq!(
        refused([1, 3, 3, 4], [1, 2, 3, 4], [1, 2, 3, 4]),
        "attention: k has shape [1, 2, 3, 4]; use a number of heads that divides the 3 heads of q"
    );
    assert_eq!(
        refused([1, 2, 3, 4], [1, 2, 3, 4], [1, 2, 4, 4]),
        "attention: v has shape [1, 2, 4, 4]; use (1, 2, 3, any) as k"
    );
    let good = problem([1, 2, 3, 4], [1, 2, 5, 4], [1, 2, 5, 4]);
    let refused = |masks, sinks| {
        let weighting = Weighting::Softmax(sinks);
        Problem { masks, weighting, ..good }.check().unwrap_err().to_string()
    };
    assert_eq!(
        refused(Masks { key_lengths: Some(&[6]), ..Masks::default() }, None),
        "attention: kv_len is 6; use lengths of 0..5"
    );
    assert_eq!(
        refused(Masks { query_lengths: Some(&[1, 1]), ..Masks::default() }, None),
        "attention: q_len has shape (2); use one length for each of 1 batch elements"
    );
    let mask = Mask::new(&[1; 30], [1, 2, 5, 3], [0, 15, 3, 1]);
    assert_eq!(
        refused(Masks { scores: Some(mask), ..Masks::default() }, None),
        "attention: mask has shape [1, 2, 5, 3]; use [1, 2, 3, 5]"
    );
    let all = Problem { dropout: Some(Dropout { rate: 1.0, seed: 0 }), ..good };
    assert_eq!(all.check().unwrap_err().to_string(), "attention: dropout_p is 1; use 0 or more, below 1");
    assert_eq!(
        refused(Masks::default(), Some(&[0.0])),
        "attention: sinks has shape (1); use (2), one number for each head of q"
    );
}
