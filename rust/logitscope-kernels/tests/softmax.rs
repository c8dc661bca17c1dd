//! Softmax and its gradient against `f64`, on every instruction set.

use logitscope_kernels::softmax::{Algorithm, Options, softmax, softmax_backward};
use logitscope_kernels::{Cancel, Empty, Error, threads};
use logitscope_simd::Element;
use logitscope_testing::{self as testing, Random, assert_within_ulps, each_isa, same_bits, sizes};

const ALGORITHMS: [Algorithm; 4] =
    [Algorithm::ThreePassRecompute, Algorithm::ThreePassReload, Algorithm::TwoPass, Algorithm::Online];

fn forward<T: Element>(x: &[T], columns: usize, options: Options) -> Vec<T> {
    let mut y = vec![T::from_f64(7.0); x.len()];
    softmax(x, columns, options, &mut y, &Cancel::default()).unwrap();
    y
}

fn numbers<T: Element>(random: &mut Random, n: usize, deviation: f64) -> Vec<T> {
    (0..n).map(|_| T::from_f64(random.normal(0.0, deviation))).collect()
}

/// The truth, 0 where the result would not be a normal number.
fn truth<T: Element>(x: &[T], columns: usize, temperature: f64) -> Vec<f64> {
    let scaled: Vec<f64> = x.iter().map(|x| x.to_f64() / temperature).collect();
    scaled.chunks(columns).flat_map(testing::softmax).collect()
}

fn check_values<T: Element>(bound: f64) {
    // Below this a result may or may not be flushed.
    let floor = 4.0 * T::MIN_POSITIVE.to_f64();
    let mut random = Random::new(1);
    for columns in sizes::<T>().into_iter().filter(|&columns| columns > 0) {
        for (deviation, offset) in [(1.0, 0.0), (10.0, 3.0), (30.0, -50.0)] {
            let mut x = numbers::<T>(&mut random, 3 * columns, deviation);
            for x in &mut x {
                *x += T::from_f64(offset);
            }
            let want = truth(&x, columns, 1.0);
            each_isa(|isa| {
                for algorithm in ALGORITHMS {
                    let y = forward(&x, columns, Options { algorithm, ..Options::default() });
                    let name = format!("{algorithm:?} of {columns} {} on {}", T::NAME, isa.name());
                    assert_within_ulps(&y, &want, bound, floor, &name);
                    if columns == 1 {
                        assert!(y.iter().all(|&y| y == T::ONE), "{name}: one element has probability 1");
                    }
                }
            });
        }
    }
}

#[test]
fn f32_is_within_six_units_of_the_truth_for_every_probability() {
    check_values::<f32>(6.0);
}

#[test]
fn f64_is_within_the_oracles_own_error() {
    check_values::<f64>(300.0);
}

#[test]
fn a_temperature_divides_the_logits() {
    let x = numbers::<f32>(&mut Random::new(2), 300, 5.0);
    for temperature in [0.25, 0.3, 2.0, 77.0] {
        let want = truth(&x, 100, temperature);
        each_isa(|isa| {
            for algorithm in ALGORITHMS {
                let y = forward(&x, 100, Options { temperature, algorithm, ..Options::default() });
                // The reciprocal is rounded: half a unit of every logit.
                assert_within_ulps(
                    &y,
                    &want,
                    100.0,
                    1e-37,
                    &format!("temperature {temperature} on {}", isa.name()),
                );
            }
        });
    }
}

#[test]
fn a_common_offset_changes_nothing() {
    // Multiples of 1/64 stay exact under the offsets.
    let mut random = Random::new(3);
    let x: Vec<f32> = (0..257).map(|_| (random.normal(0.0, 8.0) * 64.0).round() as f32 / 64.0).collect();
    each_isa(|_| {
        for algorithm in ALGORITHMS {
            let options = Options { algorithm, ..Options::default() };
            let want = forward(&x, 257, options);
            for offset in [1.0, -777.0, 1e4, -65_536.0, 1e5] {
                let shifted: Vec<f32> = x.iter().map(|x| x + offset).collect();
                let want: Vec<f64> = want.iter().map(|&y| f64::from(y)).collect();
                assert_within_ulps(&forward(&shifted, 257, options), &want, 6.0, 1e-37, "shifted");
            }
        }
    });
}

#[test]
fn nan_or_positive_infinity_in_any_lane_spoils_its_row_alone() {
    let columns = 4 * 16 + 3;
    let clean = numbers::<f32>(&mut Random::new(4), 3 * columns, 2.0);
    each_isa(|_| {
        for algorithm in ALGORITHMS {
            let options = Options { algorithm, ..Options::default() };
            let want = forward(&clean, columns, options);
            for lane in 0..columns {
                for bad in [f32::NAN, f32::INFINITY] {
                    let mut x = clean.clone();
                    x[columns + lane] = bad;
                    let y = forward(&x, columns, options);
                    assert!(y[columns..2 * columns].iter().all(|y| y.is_nan()), "{bad} in lane {lane}");
                    assert!(same_bits(&y[..columns], &want[..columns]));
                    assert!(same_bits(&y[2 * columns..], &want[2 * columns..]));
                }
            }
        }
    });
}

#[test]
fn negative_infinity_has_probability_zero_and_a_row_of_it_is_empty() {
    let infinite = f32::NEG_INFINITY;
    each_isa(|_| {
        for algorithm in ALGORITHMS {
            for columns in [3, 40, 2500] {
                let mut x = vec![infinite; 3 * columns];
                x[columns - 1] = -5.0;
                x[3 * columns - 1] = f32::NAN;
                let y = forward(&x, columns, Options { algorithm, ..Options::default() });
                assert!(y[..columns - 1].iter().all(|&y| y == 0.0) && y[columns - 1] == 1.0);
                assert!(y[columns..].iter().all(|y| y.is_nan()));
                let y = forward(&x, columns, Options { algorithm, empty: Empty::Zero, ..Options::default() });
                assert!(y[columns..2 * columns].iter().all(|&y| y == 0.0));
                assert!(y[2 * columns..].iter().all(|y| y.is_nan()));
            }
        }
    });
}

#[test]
fn huge_logits_neither_overflow_nor_leave_denormals() {
    each_isa(|_| {
        for algorithm in ALGORITHMS {
            let options = Options { algorithm, ..Options::default() };
            for huge in [88.8, 1000.0, 1e6, 1e8, 3e38_f32] {
                assert_eq!(forward(&[huge, -huge, huge], 3, options), [0.5, 0.0, 0.5]);
            }
            let x: Vec<f32> = (0..1000).map(|i| -0.11 * i as f32).collect();
            let y = forward(&x, 1000, options);
            assert!(y.iter().all(|&y| y == 0.0 || y >= f32::MIN_POSITIVE));
        }
    });
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    let (rows, columns) = (300, 1000);
    let x = numbers::<f32>(&mut Random::new(5), rows * columns, 5.0);
    let dy = numbers::<f32>(&mut Random::new(6), rows * columns, 1.0);
    let run = || {
        let y = forward(&x, columns, Options::default());
        let mut dx = vec![0.0; y.len()];
        softmax_backward(&y, &dy, columns, 1.0, &mut dx, &Cancel::default()).unwrap();
        (y, dx)
    };
    // The lock of `each_isa` also keeps other tests from changing the number of threads.
    each_isa(|_| {
        threads::set_num_threads(1);
        let want = run();
        for count in [2, 3, 8] {
            threads::set_num_threads(count);
            assert!(run() == want, "{count} threads");
        }
        threads::set_num_threads(0);
    });
}

#[test]
fn the_gradient_is_that_of_f64() {
    let mut random = Random::new(7);
    for columns in sizes::<f32>().into_iter().filter(|&columns| columns > 0) {
        let x = numbers::<f32>(&mut random, 2 * columns, 3.0);
        let dy = numbers::<f32>(&mut random, 2 * columns, 1.0);
        let temperature = 0.5;
        each_isa(|isa| {
            let y = forward(&x, columns, Options { temperature, ..Options::default() });
            let mut dx = vec![f32::NAN; y.len()];
            softmax_backward(&y, &dy, columns, temperature, &mut dx, &Cancel::default()).unwrap();
            for row in 0..2 {
                let part = row * columns..(row + 1) * columns;
                let (y, dy, dx) = (&y[part.clone()], &dy[part.clone()], &dx[part]);
                let pairs = || y.iter().zip(dy).map(|(&y, &dy)| (f64::from(y), f64::from(dy)));
                let mean: f64 = pairs().map(|(y, dy)| y * dy).sum();
                let want: Vec<f64> = pairs().map(|(y, dy)| y * (dy - mean) / temperature).collect();
                // Cancellation in dy - mean is measured against y, not against what is left.
                let floor = 1e-6 * f64::from(y.iter().copied().fold(0.0, f32::max));
                assert_within_ulps(dx, &want, 8.0, floor, &format!("{columns} on {}", isa.name()));
            }
        });
    }
}

#[test]
fn what_does_not_fit_is_refused_with_its_numbers() {
    let run = |len: usize, columns, temperature, out: usize| {
        let options = Options { temperature, ..Options::default() };
        softmax(&vec![0.0_f32; len], columns, options, &mut vec![0.0; out], &Cancel::default())
    };
    assert_eq!(run(6, 3, 1.0, 6), Ok(()));
    assert_eq!(run(0, 3, 1.0, 0), Ok(()));
    assert!(matches!(run(7, 3, 1.0, 7), Err(Error::Shape { .. })));
    assert!(matches!(run(0, 0, 1.0, 0), Err(Error::Shape { .. })));
    let message = run(6, 3, 1.0, 5).unwrap_err().to_string();
    assert_eq!(message, "softmax: y has shape of 5 elements; use one of 6 elements");
    for temperature in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e-60, 1e60] {
        assert!(matches!(run(6, 3, temperature, 6), Err(Error::Argument { argument: "temperature", .. })));
    }
    let message = run(6, 3, -1.0, 6).unwrap_err().to_string();
    assert!(message.starts_with("softmax: temperature is -1.0; use a positive finite number"), "{message}");
}

#[test]
fn long_rows_are_cut_into_blocks_and_agree_at_any_number_of_threads() {
    for columns in [131_071, 131_072, 140_001, 262_145] {
        let x = numbers::<f32>(&mut Random::new(8), 2 * columns, 4.0);
        for temperature in [1.0, 0.7] {
            let want = truth(&x, columns, temperature);
            each_isa(|isa| {
                for algorithm in ALGORITHMS {
                    let options = Options { algorithm, temperature, ..Options::default() };
                    threads::set_num_threads(1);
                    let y = forward(&x, columns, options);
                    let bound = if temperature == 1.0 { 6.0 } else { 30.0 };
                    let name = format!("{algorithm:?} of {columns} on {}", isa.name());
                    assert_within_ulps(&y, &want, bound, 5e-38, &name);
                    threads::set_num_threads(3);
                    assert!(same_bits(&forward(&x, columns, options), &y), "{name}: threads");
                    threads::set_num_threads(0);
                }
            });
        }
    }
}

#[test]
fn special_values_anywhere_in_a_long_row_do_what_they_do_in_a_short_one() {
    let columns = 3 * 65_536 + 17;
    let clean = numbers::<f32>(&mut Random::new(9), columns, 4.0);
    each_isa(|_| {
        for algorithm in ALGORITHMS {
            let options = Options { algorithm, empty: Empty::Zero, ..Options::default() };
            for at in [0, 65_535, 65_536, columns - 1] {
                for bad in [f32::NAN, f32::INFINITY] {
                    let mut x = clean.clone();
                    x[at] = bad;
                    assert!(forward(&x, columns, options).iter().all(|y| y.is_nan()), "{bad} at {at}");
                }
                let mut x = vec![f32::NEG_INFINITY; columns];
                assert!(forward(&x, columns, options).iter().all(|&y| y == 0.0));
                x[at] = 3e38;
                let y = forward(&x, columns, options);
                assert!(y.iter().enumerate().all(|(i, &y)| y == f32::from(u8::from(i == at))));
            }
        }
    });
}

#[test]
fn pairs_that_would_not_be_exact_give_way_to_differences() {
    // Multiples of 1/8 below 2^20 and of 8 below 2^26 are exact.
    let x: Vec<f32> = (0..300).map(|i| -(i as f32) / 8.0).collect();
    each_isa(|isa| {
        for offset in [-1_000_000.0, -200_000.0, -181_000.0, 181_000.0, 200_000.0, 1_000_000.0_f32] {
            let shifted: Vec<f32> = x.iter().map(|x| x + offset).collect();
            let want = truth(&shifted, 300, 1.0);
            let y = forward(&shifted, 300, Options { algorithm: Algorithm::TwoPass, ..Options::default() });
            assert_within_ulps(&y, &want, 6.0, 1e-37, &format!("{offset} on {}", isa.name()));
        }
        let y = forward(
            &[1e8_f32, 1e8 - 8.0, -1e8],
            3,
            Options { algorithm: Algorithm::TwoPass, ..Options::default() },
        );
        assert_within_ulps(&y, &testing::softmax(&[1e8, 1e8 - 8.0, -1e8]), 4.0, 1e-37, isa.name());
    });
}

#[test]
fn the_rule_of_auto_gives_one_of_the_named() {
    for columns in [1, 1000, 131_072, 131_073, 1 << 24] {
        let chosen = Algorithm::Auto.for_rows::<f32>(columns);
        assert!(ALGORITHMS.contains(&chosen) && Algorithm::NAMED.contains(&(chosen.name(), chosen)));
    }
}
