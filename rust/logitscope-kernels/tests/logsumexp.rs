//! Logsumexp, log-softmax and their gradients against `f64`, on every instruction set.

use logitscope_kernels::Cancel;
use logitscope_kernels::log_softmax::{log_softmax, log_softmax_backward};
use logitscope_kernels::logsumexp::{logsumexp, logsumexp_backward};
use logitscope_simd::Element;
use logitscope_testing::{Random, assert_within_ulps, each_isa, log_sum_exp, sizes, softmax};

fn lse<T: Element>(x: &[T], columns: usize) -> Vec<T> {
    let mut lse = vec![T::NAN; x.len() / columns];
    logsumexp(x, columns, &mut lse, &Cancel::default()).unwrap();
    lse
}

fn log_probabilities<T: Element>(x: &[T], columns: usize, temperature: f64) -> Vec<T> {
    let mut y = vec![T::from_f64(7.0); x.len()];
    log_softmax(x, columns, temperature, &mut y, &Cancel::default()).unwrap();
    y
}

fn numbers<T: Element>(random: &mut Random, n: usize, deviation: f64) -> Vec<T> {
    (0..n).map(|_| T::from_f64(random.normal(0.0, deviation))).collect()
}

fn in_f64<T: Element>(x: &[T]) -> Vec<f64> {
    x.iter().map(|x| x.to_f64()).collect()
}

fn check_values<T: Element>(floor: f64) {
    let mut random = Random::new(1);
    for columns in sizes::<T>().into_iter().filter(|&columns| columns > 0) {
        for deviation in [1.0, 20.0] {
            let x = numbers::<T>(&mut random, 3 * columns, deviation);
            let want: Vec<f64> = in_f64(&x).chunks(columns).map(log_sum_exp).collect();
            let want_log: Vec<f64> =
                in_f64(&x).iter().enumerate().map(|(i, x)| x - want[i / columns]).collect();
            each_isa(|isa| {
                let name = format!("{columns} {} on {}", T::NAME, isa.name());
                assert_within_ulps(&lse(&x, columns), &want, 2.0, floor, &name);
                let y = log_probabilities(&x, columns, 1.0);
                assert!(y.iter().all(|&y| y <= T::ZERO), "{name}: a probability above 1");
                assert_within_ulps(&y, &want_log, 4.0, floor, &name);
            });
        }
    }
}

#[test]
fn f32_is_within_a_few_units_of_the_truth() {
    check_values::<f32>(2e-7);
}

#[test]
fn f64_is_within_a_few_units_of_the_truth() {
    check_values::<f64>(2e-14);
}

#[test]
fn the_logarithm_of_a_probability_near_one_keeps_its_digits() {
    each_isa(|isa| {
        for gap in [10.0_f32, 17.0, 40.0, 80.0] {
            let want = -(-f64::from(gap)).exp().ln_1p();
            let y = log_probabilities(&[0.5, 0.5 - gap], 2, 1.0);
            assert_within_ulps(&y[..1], &[want], 8.0, 0.0, &format!("gap {gap} on {}", isa.name()));
        }
        assert_eq!(log_probabilities(&[3.7_f32], 1, 1.0), [0.0]);
    });
}

#[test]
fn offsets_cost_nothing() {
    each_isa(|_| {
        for offset in [0.0, 1e4, 1e6, -16_777_000.0_f32] {
            let y = log_probabilities(&[offset, offset + 1.0], 2, 1.0);
            let small = -1.0_f64.exp().ln_1p();
            assert_within_ulps(&y, &[small, small + 1.0], 2.0, 0.0, "a common offset");
        }
    });
}

#[test]
fn a_maximum_that_rises_from_block_to_block_is_followed() {
    let x: Vec<f32> = (0..5000).map(|i| i as f32 * 0.05 - 300.0).collect();
    let want = log_sum_exp(&in_f64(&x));
    let falling: Vec<f32> = x.iter().rev().copied().collect();
    each_isa(|_| {
        assert_within_ulps(&lse(&x, 5000), &[want], 1.0, 0.0, "rising");
        assert_within_ulps(&lse(&falling, 5000), &[want], 1.0, 0.0, "falling");
    });
}

#[test]
fn special_values_follow_the_limits() {
    let (nan, inf) = (f32::NAN, f32::INFINITY);
    each_isa(|_| {
        for columns in [1, 2, 20, 3000] {
            let row = |value: f32, last: f32| {
                let mut row = vec![value; columns];
                row[columns - 1] = last;
                row
            };
            assert_eq!(lse(&row(-inf, -inf), columns), [-inf]);
            assert_eq!(lse(&row(-inf, 2.5), columns), [2.5]);
            assert_eq!(lse(&row(1.0, inf), columns), [inf]);
            assert!(lse(&row(-inf, nan), columns)[0].is_nan());
            assert!(lse(&row(nan, inf), columns)[0].is_nan() || columns == 1);
            for row in [row(-inf, -inf), row(1.0, inf), row(-inf, nan), row(1.0, nan)] {
                assert!(log_probabilities(&row, columns, 1.0).iter().all(|y| y.is_nan()));
            }
            let y = log_probabilities(&row(-inf, 2.5), columns, 1.0);
            assert!(y[columns - 1] == 0.0 && y[..columns - 1].iter().all(|&y| y == -inf));
        }
    });
}

#[test]
fn gradients_are_those_of_f64() {
    let mut random = Random::new(3);
    for columns in sizes::<f32>().into_iter().filter(|&columns| columns > 0) {
        for offset in [0.0, 3e4] {
            let mut x = numbers::<f32>(&mut random, 2 * columns, 3.0);
            for x in &mut x {
                *x += offset;
            }
            let dy = numbers::<f32>(&mut random, 2 * columns, 1.0);
            let dlse = [1.5_f32, -0.3];
            let p: Vec<f64> = in_f64(&x).chunks(columns).flat_map(softmax).collect();
            let want_lse: Vec<f64> = (0..p.len()).map(|i| p[i] * f64::from(dlse[i / columns])).collect();
            let totals: Vec<f64> = dy.chunks(columns).map(|dy| in_f64(dy).iter().sum()).collect();
            let want_log: Vec<f64> =
                (0..p.len()).map(|i| (f64::from(dy[i]) - p[i] * totals[i / columns]) / 2.0).collect();
            each_isa(|isa| {
                let name = format!("{columns}, offset {offset} on {}", isa.name());
                let mut dx = vec![f32::NAN; x.len()];
                logsumexp_backward(&x, columns, &lse(&x, columns), &dlse, &mut dx, &Cancel::default())
                    .unwrap();
                assert_within_ulps(&dx, &want_lse, 4.0, 1e-37, &name);
                let y = log_probabilities(&x, columns, 1.0);
                log_softmax_backward(&y, &dy, columns, 2.0, &mut dx, &Cancel::default()).unwrap();
                assert_within_ulps(&dx, &want_log, 16.0, 1e-5, &name);
            });
        }
    }
}

#[test]
fn lengths_that_do_not_fit_are_refused() {
    let cancel = Cancel::default();
    let message = logsumexp(&[0.0_f32; 6], 3, &mut [0.0; 3], &cancel).unwrap_err().to_string();
    assert_eq!(message, "logsumexp: lse has shape of 3 elements; use one of 2 elements");
    let message = log_softmax(&[0.0_f32; 6], 4, 1.0, &mut [0.0; 6], &cancel).unwrap_err().to_string();
    assert!(message.starts_with("log_softmax: x has shape of 6 elements in rows of 4"), "{message}");
    assert!(logsumexp_backward(&[0.0_f32; 6], 3, &[0.0; 2], &[0.0; 1], &mut [0.0; 6], &cancel).is_err());
}
