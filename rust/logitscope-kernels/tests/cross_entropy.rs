//! Cross entropy and its gradient against `f64`, on every instruction set.

use logitscope_kernels::cross_entropy::{
    Gradient, Link, Options, Output, Problem, Reduction, Statistics, Targets, cross_entropy,
};
use logitscope_kernels::{Cancel, Empty, Error, Heads, threads};
use logitscope_simd::Element;
use logitscope_testing::{self as testing, Random, assert_within_ulps, each_isa, same_bits, sizes};

const IGNORE: i64 = -100;

/// Everything one call gives.
#[derive(Debug)]
struct Everything<T> {
    reduced: f64,
    losses: Vec<T>,
    gradient: Vec<T>,
    lse: Vec<T>,
    argmax: Vec<i64>,
}

fn problem<'a, T: Element>(
    logits: &'a [T],
    classes: usize,
    targets: &'a [i64],
    reduction: Reduction,
) -> Problem<'a, T> {
    let rows = logits.len().checked_div(classes).unwrap_or(0);
    let logits = Heads::contiguous(logits, [1, 1, rows, classes]);
    let targets = Targets::Classes { of_rows: targets, ignore_index: IGNORE };
    Problem { logits, targets, weight: None, options: Options { reduction, ..Options::default() } }
}

fn run<T: Element>(problem: &Problem<'_, T>, upstream: Option<&[T]>) -> Result<Everything<T>, Error> {
    let (rows, _) = problem.size();
    let fill = T::from_f64(7.0);
    let (mut losses, mut lse, mut argmax) = (vec![fill; rows], vec![fill; rows], vec![7; rows]);
    let mut gradient = vec![T::NAN; problem.logits.shape().iter().product()];
    let output = Output {
        losses: &mut losses,
        gradient: Some(Gradient { logits: &mut gradient, upstream }),
        statistics: Statistics { lse: Some(&mut lse), argmax: Some(&mut argmax), ..Statistics::default() },
    };
    let reduced = cross_entropy(problem, output, &Cancel::default())?;
    Ok(Everything { reduced, losses, gradient, lse, argmax })
}

fn losses_alone<T: Element>(problem: &Problem<'_, T>) -> Vec<T> {
    let mut losses = vec![T::NAN; problem.size().0];
    let output = Output { losses: &mut losses, gradient: None, statistics: Statistics::default() };
    cross_entropy(problem, output, &Cancel::default()).unwrap();
    losses
}

fn in_f64<T: Element>(x: &[T]) -> Vec<f64> {
    x.iter().map(|x| x.to_f64()).collect()
}

fn check_values<T: Element>(bound: f64) {
    let mut random = Random::new(1);
    for classes in sizes::<T>().into_iter().filter(|&classes| classes > 0) {
        for deviation in [1.0, 15.0] {
            let rows = 5;
            let logits: Vec<T> =
                (0..rows * classes).map(|_| T::from_f64(random.normal(0.0, deviation))).collect();
            let mut targets: Vec<i64> = (0..rows).map(|_| random.below(classes) as i64).collect();
            targets[0] = 0;
            targets[1] = classes as i64 - 1;
            targets[3] = IGNORE;
            let upstream: Vec<T> = (0..rows).map(|_| T::from_f64(random.normal(0.0, 1.0))).collect();
            let (mut losses, mut gradient) = (Vec::new(), Vec::new());
            for (row, logits) in in_f64(&logits).chunks(classes).enumerate() {
                if targets[row] == IGNORE {
                    losses.push(0.0);
                    gradient.extend(vec![0.0; classes]);
                } else {
                    let (loss, of_row) = testing::cross_entropy(logits, targets[row] as usize);
                    losses.push(loss);
                    gradient.extend(of_row.iter().map(|g| g * upstream[row].to_f64() / 4.0));
                }
            }
            let lse: Vec<f64> = in_f64(&logits).chunks(classes).map(testing::log_sum_exp).collect();
            let problem = problem(&logits, classes, &targets, Reduction::Mean);
            each_isa(|isa| {
                let name = format!("{classes} classes, {} on {}", T::NAME, isa.name());
                let got = run(&problem, Some(&upstream)).unwrap();
                assert_within_ulps(&got.losses, &losses, bound, 0.0, &name);
                assert_within_ulps(&got.gradient, &gradient, bound, 1e-37, &name);
                assert_within_ulps(&got.lse, &lse, bound, 1e-6, &name);
                for (row, logits) in logits.chunks(classes).enumerate() {
                    let largest =
                        logits.iter().copied().fold(T::NEG_INFINITY, |m, x| if x > m { x } else { m });
                    let first = logits.iter().position(|&x| x == largest).unwrap();
                    assert_eq!(got.argmax[row], first as i64, "{name}: argmax of row {row}");
                }
                let mean = got.losses.iter().map(|x| x.to_f64()).sum::<f64>() / 4.0;
                assert!((got.reduced - mean).abs() <= 1e-12 * mean.abs(), "{name}: mean");
                assert!(same_bits(&losses_alone(&problem), &got.losses), "{name}: losses without the rest");
            });
        }
    }
}

#[test]
fn f32_is_within_a_few_units_of_the_truth() {
    check_values::<f32>(6.0);
}

#[test]
fn f64_is_within_the_oracles_own_error() {
    check_values::<f64>(80.0);
}

#[test]
fn confident_rows_keep_their_digits() {
    each_isa(|isa| {
        for gap in [10.0_f32, 16.0, 17.0, 20.0, 40.0, 80.0, 86.0] {
            let v = (-f64::from(gap)).exp().ln_1p();
            let p = (-f64::from(gap)).exp() / (1.0 + (-f64::from(gap)).exp());
            let got = run(&problem(&[gap, 0.0], 2, &[0], Reduction::Sum), None).unwrap();
            let name = format!("gap {gap} on {}", isa.name());
            assert_within_ulps(&got.losses, &[v], 2.0, 0.0, &name);
            assert_within_ulps(&got.gradient, &[-p, p], 3.0, 0.0, &name);
        }
    });
}

#[test]
fn offsets_change_no_loss() {
    each_isa(|_| {
        for offset in [0.0, 1e4, 1e6, 1e7_f32] {
            let losses = losses_alone(&problem(&[offset, offset + 1.0], 2, &[0], Reduction::Sum));
            assert_within_ulps(&losses, &[1.0_f64.exp().ln_1p()], 2.0, 0.0, "a common offset");
        }
    });
}

#[test]
fn special_rows_follow_their_limits() {
    let (nan, inf) = (f32::NAN, f32::INFINITY);
    each_isa(|_| {
        let row = |logits: &[f32], target| {
            let got = run(&problem(logits, logits.len(), &[target], Reduction::Sum), None).unwrap();
            (got.losses[0], got.gradient)
        };
        // The target alone is possible.
        assert_eq!(row(&[-inf, 3.0, -inf], 1), (0.0, vec![0.0; 3]));
        assert_eq!(row(&[2.0], 0), (0.0, vec![0.0]));
        // Another class is impossible.
        let (loss, gradient) = row(&[0.0, -inf, 0.0], 0);
        assert_within_ulps(&[loss], &[2.0_f64.ln()], 1.0, 0.0, "one of two");
        assert_eq!(gradient, [-0.5, 0.0, 0.5]);
        // The target is impossible.
        assert_eq!(row(&[-inf, 1.0, 1.0], 0), (inf, vec![-1.0, 0.5, 0.5]));
        // So far apart that the difference overflows.
        assert_eq!(row(&[-3e38, 3e38], 0), (inf, vec![-1.0, 1.0]));
        assert_eq!(row(&[3e38, -3e38], 0), (0.0, vec![0.0, 0.0]));
        // Nothing can be said.
        for target in 0..2 {
            for logits in
                [[-inf, -inf], [inf, 0.0], [0.0, inf], [inf, inf], [inf, -inf], [nan, 0.0], [0.0, nan]]
            {
                let (loss, gradient) = row(&logits, target);
                assert!(loss.is_nan() && gradient.iter().all(|g| g.is_nan()), "{logits:?}, target {target}");
            }
        }
    });
}

#[test]
fn nan_in_any_lane_spoils_its_row_and_no_other() {
    let classes = 67;
    let mut random = Random::new(2);
    let clean: Vec<f32> = (0..3 * classes).map(|_| random.normal(0.0, 2.0) as f32).collect();
    each_isa(|_| {
        for (lane, target) in (0..classes).flat_map(|lane| [(lane, 0), (lane, 16), (lane, lane), (lane, 66)])
        {
            let targets = [5, target as i64, 5];
            let mut logits = clean.clone();
            let want = run(&problem(&logits, classes, &targets, Reduction::None), None).unwrap();
            logits[classes + lane] = f32::NAN;
            let got = run(&problem(&logits, classes, &targets, Reduction::None), None).unwrap();
            assert!(got.losses[1].is_nan() && got.lse[1].is_nan(), "lane {lane}, target {target}");
            assert!(got.gradient[classes..2 * classes].iter().all(|g| g.is_nan()));
            for row in [0, 2] {
                let part = row * classes..(row + 1) * classes;
                assert!(same_bits(&got.losses[row..=row], &want.losses[row..=row]));
                assert!(same_bits(&got.gradient[part.clone()], &want.gradient[part]));
            }
        }
    });
}

#[test]
fn an_ignored_row_counts_for_nothing_whatever_it_holds() {
    each_isa(|_| {
        let logits = [1.0, f32::NAN, 0.0, 0.0];
        let got = run(&problem(&logits, 2, &[IGNORE, 1], Reduction::Mean), None).unwrap();
        assert_eq!(got.losses[0], 0.0);
        assert_eq!(got.gradient, [0.0, 0.0, 0.5, -0.5]);
        assert!((got.reduced - 2.0_f64.ln()).abs() < 1e-7);
    });
}

#[test]
fn rows_may_lie_apart() {
    let mut random = Random::new(5);
    let all: Vec<f32> = (0..2 * 3 * 4 * 5).map(|_| random.normal(0.0, 2.0) as f32).collect();
    // Without the last row of each of the 2 x 3 groups.
    let mut apart = problem(&all, 5, &[], Reduction::Mean);
    apart.logits = Heads::new(&all, [2, 3, 3, 5], [60, 20, 5]);
    let together: Vec<f32> = all.chunks(20).flat_map(|group| group[..15].to_vec()).collect();
    let targets: Vec<i64> = (0..18).map(|i| i % 5).collect();
    apart.targets = Targets::Classes { of_rows: &targets, ignore_index: IGNORE };
    let want = run(&problem(&together, 5, &targets, Reduction::Mean), None).unwrap();
    let got = run(&apart, None).unwrap();
    assert_eq!((got.reduced, got.gradient), (want.reduced, want.gradient));
}

#[test]
fn a_valid_class_can_be_the_ignored_one() {
    let mut problem = problem(&[1.0_f32, 2.0, 3.0, 4.0], 2, &[1, 0], Reduction::Sum);
    problem.targets = Targets::Classes { of_rows: &[1, 0], ignore_index: 1 };
    let got = run(&problem, None).unwrap();
    assert_eq!(got.losses[0], 0.0);
    assert!(got.losses[1] > 1.0);
}

#[test]
fn a_mean_of_nothing_is_nan_or_zero_and_a_sum_of_nothing_zero() {
    for (logits, targets) in [(vec![1.0_f32, 2.0], vec![IGNORE]), (vec![], vec![])] {
        let mut problem = problem(&logits, 2, &targets, Reduction::Mean);
        let got = run(&problem, None).unwrap();
        assert!(got.reduced.is_nan());
        assert!(got.gradient.iter().all(|&g| g == 0.0));
        problem.options.empty = Empty::Zero;
        assert_eq!(run(&problem, None).unwrap().reduced, 0.0);
        problem.options.empty = Empty::Nan;
        problem.options.reduction = Reduction::Sum;
        assert_eq!(run(&problem, None).unwrap().reduced, 0.0);
    }
}

#[test]
fn gradients_of_a_row_sum_to_zero() {
    let mut random = Random::new(3);
    let logits: Vec<f32> = (0..1000).map(|_| random.normal(0.0, 4.0) as f32).collect();
    each_isa(|_| {
        let got = run(&problem(&logits, 1000, &[17], Reduction::Sum), None).unwrap();
        assert!(in_f64(&got.gradient).iter().sum::<f64>().abs() < 1e-6);
    });
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    let (rows, classes) = (3000, 257);
    let mut random = Random::new(4);
    let logits: Vec<f32> = (0..rows * classes).map(|_| random.normal(0.0, 4.0) as f32).collect();
    let targets: Vec<i64> = (0..rows).map(|_| random.below(classes) as i64).collect();
    let problem = problem(&logits, classes, &targets, Reduction::Mean);
    // The lock of `each_isa` also keeps other tests from changing the number of threads.
    each_isa(|_| {
        threads::set_num_threads(1);
        let want = run(&problem, None).unwrap();
        for count in [2, 3, 8] {
            threads::set_num_threads(count);
            let got = run(&problem, None).unwrap();
            assert_eq!(got.reduced.to_bits(), want.reduced.to_bits(), "{count} threads");
            assert!(same_bits(&got.gradient, &want.gradient), "{count} threads");
        }
        threads::set_num_threads(0);
    });
}

#[test]
fn a_target_that_is_no_class_is_named_before_anything_is_written() {
    for value in [3, -1, i64::MAX, i64::MIN] {
        let error = run(&problem(&[0.0_f32; 6], 3, &[0, value], Reduction::Mean), None).unwrap_err();
        assert_eq!(error, Error::Target { operation: "cross_entropy", row: 1, value, classes: 3 });
    }
    let error = run(&problem(&[0.0_f32; 6], 3, &[0, 3], Reduction::Mean), None).unwrap_err();
    assert_eq!(error.to_string(), "cross_entropy: target 3 in row 1 is no class; use 0..2");
}

#[test]
fn lengths_that_do_not_fit_are_refused() {
    assert!(matches!(run(&problem(&[0.0_f32; 6], 3, &[0], Reduction::Mean), None), Err(Error::Shape { .. })));
    assert!(matches!(run(&problem::<f32>(&[], 0, &[], Reduction::Mean), None), Err(Error::Shape { .. })));
    let short = run(&problem(&[0.0_f32; 6], 3, &[0, 1], Reduction::Mean), Some(&[1.0]));
    assert!(matches!(short, Err(Error::Shape { argument: "upstream", .. })));
}

/// The options that send a row through every step there is.
fn everything() -> Options<'static> {
    Options {
        temperature: 1.25,
        softcap: Some(5.0),
        label_smoothing: 0.1,
        lse_square_scale: 0.02,
        entropy_weight: -0.05,
        reduction: Reduction::Sum,
        ..Options::default()
    }
}

#[test]
fn the_gradient_of_every_option_at_once_agrees_with_differences() {
    let (rows, classes) = (3, 21);
    let mut random = Random::new(6);
    let logits: Vec<f64> = (0..rows * classes).map(|_| random.normal(0.0, 3.0)).collect();
    let weight: Vec<f64> = (0..classes).map(|_| random.uniform(0.2, 2.0)).collect();
    let masses: Vec<f64> = (0..rows * classes).map(|_| random.uniform(0.0, 0.2)).collect();
    let indices = [4, IGNORE, 20];
    let targets = [Targets::Classes { of_rows: &indices, ignore_index: IGNORE }, Targets::Masses(&masses)];
    for (targets, link) in targets.into_iter().zip([Link::CompSum { tau: 1.6 }, Link::CrossEntropy]) {
        let options = Options { link, ..everything() };
        let of = |logits: &[f64]| {
            let logits = Heads::contiguous(logits, [1, 1, rows, classes]);
            run(&Problem { logits, targets, weight: Some(&weight), options }, None).unwrap()
        };
        each_isa(|isa| {
            let got = of(&logits);
            for index in 0..logits.len() {
                let step = 1e-5;
                let mut moved = logits.clone();
                moved[index] += step;
                let above = of(&moved).reduced;
                moved[index] -= 2.0 * step;
                let numeric = (above - of(&moved).reduced) / (2.0 * step);
                let error = (numeric - got.gradient[index]).abs();
                assert!(error < 1e-8, "{link:?} at {index} on {}: {error}", isa.name());
            }
        });
    }
}

#[test]
fn every_option_at_once_gives_the_same_bits_at_any_number_of_threads() {
    let (rows, classes) = (3000, 67);
    let mut random = Random::new(7);
    let logits: Vec<f32> = (0..rows * classes).map(|_| random.normal(0.0, 4.0) as f32).collect();
    let targets: Vec<i64> = (0..rows).map(|_| random.below(classes) as i64).collect();
    let mut problem = problem(&logits, classes, &targets, Reduction::Mean);
    problem.options = Options { reduction: Reduction::Mean, ..everything() };
    each_isa(|_| {
        threads::set_num_threads(1);
        let want = run(&problem, None).unwrap();
        for count in [2, 8] {
            threads::set_num_threads(count);
            let got = run(&problem, None).unwrap();
            assert_eq!(got.reduced.to_bits(), want.reduced.to_bits(), "{count} threads");
            assert!(same_bits(&got.gradient, &want.gradient), "{count} threads");
        }
        threads::set_num_threads(0);
    });
}

#[test]
fn options_out_of_range_are_refused_by_name() {
    let refused = |change: fn(&mut Options<'_>)| {
        let mut problem = problem(&[0.0_f32; 6], 3, &[0, 1], Reduction::Mean);
        change(&mut problem.options);
        run(&problem, None).unwrap_err().to_string()
    };
    let of = "cross_entropy: ";
    assert_eq!(
        refused(|o| o.label_smoothing = 1.5),
        format!("{of}label_smoothing is 1.5; use a number in 0..1")
    );
    assert_eq!(
        refused(|o| o.softcap = Some(0.0)),
        format!("{of}softcap is 0.0; use a positive finite number")
    );
    assert!(refused(|o| o.temperature = -1.0).starts_with("cross_entropy: temperature is -1.0; use"));
    assert!(
        refused(|o| o.lse_square_scale = -1.0).starts_with("cross_entropy: lse_square_scale is -1.0; use")
    );
    assert!(
        refused(|o| o.entropy_weight = f64::NAN).starts_with("cross_entropy: entropy_weight is NaN; use")
    );
    assert!(
        refused(|o| (o.link, o.label_smoothing) = (Link::Focal { gamma: 2.0 }, 0.1))
            .starts_with("cross_entropy: link is one of a single class")
    );
}
