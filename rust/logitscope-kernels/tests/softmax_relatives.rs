//! Statistics, sparsemax, 1.5-entmax, `StableMax` and top-k softmax against `f64`, on every instruction set.

use logitscope_kernels::softmax_stats::softmax_stats;
use logitscope_kernels::sparsemax::{Sparse, sparse, sparse_backward};
use logitscope_kernels::stablemax::{Scale, stablemax, stablemax_backward};
use logitscope_kernels::topk_softmax::{Selected, topk_softmax};
use logitscope_kernels::{Cancel, Error};
use logitscope_testing::{self as testing, Random, assert_within_ulps, each_isa, sizes};

fn numbers(random: &mut Random, n: usize, deviation: f64) -> Vec<f32> {
    (0..n).map(|_| random.normal(0.0, deviation) as f32).collect()
}

fn in_f64(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&x| f64::from(x)).collect()
}

#[test]
fn statistics_are_those_of_f64() {
    let mut random = Random::new(1);
    for columns in sizes::<f32>().into_iter().filter(|&columns| columns > 0) {
        let row = numbers(&mut random, columns, 4.0);
        let exact = in_f64(&row);
        let n = columns as f64;
        let mean = exact.iter().sum::<f64>() / n;
        let deviation = (exact.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n).sqrt();
        let entropy: f64 = testing::softmax(&exact).iter().filter(|&&p| p > 0.0).map(|p| -p * p.ln()).sum();
        each_isa(|isa| {
            let stats = softmax_stats(&row, columns, &Cancel::default()).unwrap()[0];
            let largest = exact.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            assert_eq!(stats.max, largest);
            assert_eq!(Some(stats.argmax), exact.iter().position(|&x| x == largest));
            let got = [stats.lse, stats.entropy, stats.mean, stats.deviation];
            let want = [testing::log_sum_exp(&exact), entropy, mean, deviation];
            for (got, want) in got.into_iter().zip(want) {
                assert!((got - want).abs() < 2e-6, "{columns} on {}: {got}, want {want}", isa.name());
            }
        });
    }
}

/// The probabilities from the threshold that bisection finds.
fn by_bisection(kind: Sparse, row: &[f64]) -> Vec<f64> {
    let max = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let (half, power) = if kind == Sparse::Sparsemax { (1.0, 1) } else { (0.5, 2) };
    let at = |t: f64| row.iter().map(move |x| ((x - max) * half - t).max(0.0).powi(power));
    let (mut low, mut high) = (-1.0, 0.0);
    for _ in 0..80 {
        let middle = 0.5 * (low + high);
        if at(middle).sum::<f64>() > 1.0 { low = middle } else { high = middle }
    }
    at(low).collect()
}

#[test]
fn sparse_probabilities_are_those_of_bisection() {
    let mut random = Random::new(2);
    for kind in [Sparse::Sparsemax, Sparse::Entmax15] {
        for columns in sizes::<f32>().into_iter().filter(|&columns| columns > 0) {
            for deviation in [0.01, 1.0, 20.0] {
                let x = numbers(&mut random, 2 * columns, deviation);
                let want: Vec<f64> =
                    in_f64(&x).chunks(columns).flat_map(|row| by_bisection(kind, row)).collect();
                each_isa(|isa| {
                    let mut y = vec![7.0; x.len()];
                    sparse(&x, columns, kind, &mut y, &Cancel::default()).unwrap();
                    assert_within_ulps(&y, &want, 1.0, 1e-14, &format!("{kind:?} {columns} {}", isa.name()));
                });
            }
        }
    }
}

#[test]
fn sparse_gradients_stay_on_the_support_and_sum_to_nothing() {
    let mut dx = [7.0_f32; 4];
    let (y, dy) = ([0.5, 0.0, 0.25, 0.25], [1.0, 9.0, 2.0, -3.0]);
    sparse_backward(&y, &dy, 4, Sparse::Sparsemax, &mut dx, &Cancel::default()).unwrap();
    assert_eq!(dx, [1.0, 0.0, 2.0, -3.0]);
    sparse_backward(&[0.25, 0.0, 0.0, 0.25], &dy, 4, Sparse::Entmax15, &mut dx, &Cancel::default()).unwrap();
    assert_eq!(dx, [1.0, 0.0, 0.0, -1.0]);
}

#[test]
fn stablemax_is_the_softmax_of_signed_logarithms() {
    let mut random = Random::new(3);
    for columns in sizes::<f32>().into_iter().filter(|&columns| columns > 0) {
        let x = numbers(&mut random, columns, 30.0);
        let logarithms: Vec<f64> = in_f64(&x).iter().map(|x| x.signum() * x.abs().ln_1p()).collect();
        let want = testing::softmax(&logarithms);
        let lse = testing::log_sum_exp(&logarithms);
        let want_log: Vec<f64> = logarithms.iter().map(|x| x - lse).collect();
        each_isa(|isa| {
            let mut y = vec![7.0; columns];
            stablemax(&x, columns, Scale::Linear, &mut y, &Cancel::default()).unwrap();
            assert_within_ulps(&y, &want, 4.0, 0.0, isa.name());
            stablemax(&x, columns, Scale::Log, &mut y, &Cancel::default()).unwrap();
            assert_within_ulps(&y, &want_log, 4.0, 1e-12, isa.name());
        });
    }
}

#[test]
fn stablemax_does_not_lose_the_gradient_that_softmax_loses() {
    each_isa(|_| {
        let x = [40.0_f32, 0.0, 0.0];
        let (mut y, mut dx) = ([0.0; 3], [0.0; 3]);
        stablemax(&x, 3, Scale::Log, &mut y, &Cancel::default()).unwrap();
        assert_within_ulps(&y[..1], &[-(43.0_f64 / 41.0).ln()], 2.0, 0.0, "log p");
        let dy = [-1.0, 0.0, 0.0];
        stablemax_backward([&x, &y, &dy], 3, Scale::Log, &mut dx, &Cancel::default()).unwrap();
        let want = [-2.0 / 43.0 / 41.0, 1.0 / 43.0, 1.0 / 43.0];
        assert_within_ulps(&dx, &want, 32.0, 0.0, "gradient of -log p");
    });
}

#[test]
fn the_largest_are_taken_in_order_and_the_first_of_equal_ones() {
    let mut random = Random::new(4);
    let x: Vec<f32> = (0..900).map(|_| (random.normal(0.0, 3.0) as f32).round()).collect();
    let mut order: Vec<usize> = (0..300).collect();
    // The two zeros are equal.
    order.sort_by(|&a, &b| x[300 + b].partial_cmp(&x[300 + a]).unwrap());
    each_isa(|_| {
        for k in [1, 2, 32, 33, 300] {
            let (mut weights, mut indices) = (vec![7.0; 3 * k], vec![-1; 3 * k]);
            let sparse = Selected::Sparse { weights: &mut weights, indices: &mut indices };
            topk_softmax(&x, 300, k, sparse, &Cancel::default()).unwrap();
            let want: Vec<i64> = order[..k].iter().map(|&index| index as i64).collect();
            assert_eq!(indices[k..2 * k], want);
            let top: Vec<f64> = order[..k].iter().map(|&index| f64::from(x[300 + index])).collect();
            assert_within_ulps(&weights[k..2 * k], &testing::softmax(&top), 1.0, 1e-37, "weights");
            let mut dense = vec![7.0; 900];
            topk_softmax(&x, 300, k, Selected::Dense(&mut dense), &Cancel::default()).unwrap();
            let mut scattered = vec![0.0; 900];
            for (place, (&weight, &index)) in weights.iter().zip(&indices).enumerate() {
                scattered[place / k * 300 + index as usize] = weight;
            }
            assert_eq!(dense, scattered);
        }
    });
}

#[test]
fn a_k_that_does_not_fit_is_refused() {
    let run = |k: usize| {
        let (mut weights, mut indices) = (vec![0.0; k], vec![0; k]);
        let sparse = Selected::Sparse { weights: &mut weights, indices: &mut indices };
        topk_softmax(&[0.0_f32; 3], 3, k, sparse, &Cancel::default())
    };
    assert_eq!(run(3), Ok(()));
    assert!(matches!(run(0), Err(Error::Argument { argument: "k", .. })));
    assert_eq!(run(4).unwrap_err().to_string(), "topk_softmax: k is 4; use 1..3");
}
