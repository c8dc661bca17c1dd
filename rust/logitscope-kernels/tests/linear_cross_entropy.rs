//! A linear layer and its loss in one against the loss of logits made in `f64`, on every instruction set.

use logitscope_kernels::cross_entropy::{self, Link, Options, Reduction, Statistics, Targets, cross_entropy};
use logitscope_kernels::linear_cross_entropy::{
    Gradients, Output, Problem, chunked, recompute, recompute_backward,
};
use logitscope_kernels::{Cancel, Error, Heads, Matrix, threads};
use logitscope_simd::{BF16, Element, F16, Stored};
use logitscope_testing::{Random, each_isa, same_bits};

const IGNORE: i64 = -100;

struct Case<T> {
    rows: usize,
    classes: usize,
    columns: usize,
    input: Vec<T>,
    weight: Vec<T>,
    bias: Vec<T>,
    targets: Vec<i64>,
    upstream: Vec<T>,
}

/// Everything one call gives; gradients are of what arrays hold.
#[derive(Debug, PartialEq)]
struct Everything<T, X = T> {
    reduced: f64,
    losses: Vec<T>,
    lse: Vec<T>,
    entropy: Vec<T>,
    argmax: Vec<i64>,
    input: Vec<X>,
    weight: Vec<X>,
    bias: Vec<X>,
}

impl<T: Element> Case<T> {
    fn new(rows: usize, classes: usize, columns: usize) -> Self {
        let mut random = Random::new((rows + classes) as u64);
        let mut list = |len: usize, deviation: f64| -> Vec<T> {
            (0..len).map(|_| T::from_f64(random.normal(0.0, deviation))).collect()
        };
        let (input, weight, bias) =
            (list(rows * columns, 1.0), list(classes * columns, 0.7), list(classes, 1.0));
        let upstream = list(rows, 1.0);
        let targets =
            (0..rows).map(|row| if row % 5 == 3 { IGNORE } else { (row * 7 % classes) as i64 }).collect();
        Self { rows, classes, columns, input, weight, bias, targets, upstream }
    }

    fn problem<'a>(&'a self, options: Options<'a>) -> Problem<'a, T> {
        Problem {
            input: Matrix::new(&self.input, self.rows, self.columns, self.columns),
            weight: Matrix::new(&self.weight, self.classes, self.columns, self.columns),
            bias: Some(&self.bias),
            targets: Targets::Classes { of_rows: &self.targets, ignore_index: IGNORE },
            class_weight: None,
            options,
            filter: None,
        }
    }

    /// Calls `run` with arrays to fill.
    fn everything<X: Stored<Wide = T>>(&self, run: impl FnOnce(Output<'_, X>) -> f64) -> Everything<T, X> {
        let (nothing, no_gradient) = (T::NAN, X::narrow(T::NAN));
        let mut all = Everything {
            reduced: 0.0,
            losses: vec![nothing; self.rows],
            lse: vec![nothing; self.rows],
            entropy: vec![nothing; self.rows],
            argmax: vec![-1; self.rows],
            input: vec![no_gradient; self.input.len()],
            weight: vec![no_gradient; self.weight.len()],
            bias: vec![no_gradient; self.classes],
        };
        all.reduced = run(Output {
            losses: &mut all.losses,
            gradients: Some(Gradients {
                input: Some(&mut all.input),
                weight: Some(&mut all.weight),
                bias: Some(&mut all.bias),
                upstream: Some(&self.upstream),
            }),
            statistics: Statistics {
                lse: Some(&mut all.lse),
                entropy: Some(&mut all.entropy),
                argmax: Some(&mut all.argmax),
                ..Statistics::default()
            },
        });
        all
    }

    fn chunked(&self, options: Options<'_>, chunk: usize) -> Everything<T> {
        let problem = self.problem(options);
        self.everything(|output| chunked(&problem, chunk, output, &Cancel::default()).unwrap())
    }

    fn recompute(&self, options: Options<'_>) -> Everything<T> {
        let problem = self.problem(options);
        let mut states = vec![[0.0; 4]; self.rows];
        self.everything(|output| recompute(&problem, &mut states, output, &Cancel::default()).unwrap())
    }

    /// The same in `f64` from logits that are all there.
    fn oracle(&self, options: Options<'_>) -> Everything<f64> {
        let wide = |x: &[T]| -> Vec<f64> { x.iter().map(|x| x.to_f64()).collect() };
        let (input, weight, bias) = (wide(&self.input), wide(&self.weight), wide(&self.bias));
        let d = self.columns;
        let mut logits = vec![0.0; self.rows * self.classes];
        for (i, logits) in logits.chunks_exact_mut(self.classes).enumerate() {
            for (k, logit) in logits.iter_mut().enumerate() {
                *logit = bias[k] + (0..d).map(|j| input[i * d + j] * weight[k * d + j]).sum::<f64>();
            }
        }
        let mut all = Everything {
            reduced: 0.0,
            losses: vec![0.0; self.rows],
            lse: vec![0.0; self.rows],
            entropy: vec![0.0; self.rows],
            argmax: vec![0; self.rows],
            input: vec![0.0; input.len()],
            weight: vec![0.0; weight.len()],
            bias: vec![0.0; self.classes],
        };
        let mut gradient = vec![0.0; logits.len()];
        let upstream = wide(&self.upstream);
        let problem = cross_entropy::Problem {
            logits: Heads::contiguous(&logits, [1, 1, self.rows, self.classes]),
            targets: Targets::Classes { of_rows: &self.targets, ignore_index: IGNORE },
            weight: None,
            options,
        };
        let output = cross_entropy::Output {
            losses: &mut all.losses,
            gradient: Some(cross_entropy::Gradient { logits: &mut gradient, upstream: Some(&upstream) }),
            statistics: Statistics {
                lse: Some(&mut all.lse),
                entropy: Some(&mut all.entropy),
                argmax: Some(&mut all.argmax),
                ..Statistics::default()
            },
        };
        all.reduced = cross_entropy(&problem, output, &Cancel::default()).unwrap();
        for i in 0..self.rows {
            for k in 0..self.classes {
                let g = gradient[i * self.classes + k];
                all.bias[k] += g;
                for j in 0..d {
                    all.input[i * d + j] += g * weight[k * d + j];
                    all.weight[k * d + j] += g * input[i * d + j];
                }
            }
        }
        all
    }
}

fn assert_close<T: Element>(got: &Everything<T>, want: &Everything<f64>, limit: f64, what: &str) {
    let lists = [
        (&got.losses, &want.losses, "losses"),
        (&got.lse, &want.lse, "lse"),
        (&got.entropy, &want.entropy, "entropy"),
        (&got.input, &want.input, "input"),
        (&got.weight, &want.weight, "weight"),
        (&got.bias, &want.bias, "bias"),
    ];
    for (got, want, name) in lists {
        for (i, (got, want)) in got.iter().zip(want).enumerate() {
            let error = (got.to_f64() - want).abs();
            assert!(error <= limit * (1.0 + want.abs()), "{what}: {name} {i}: {got} for {want}");
        }
    }
    assert!((got.reduced - want.reduced).abs() <= limit * (1.0 + want.reduced.abs()), "{what}");
    assert_eq!(got.argmax, want.argmax, "{what}");
}

fn options() -> Vec<Options<'static>> {
    let plain = Options { reduction: Reduction::None, ..Options::default() };
    vec![
        plain,
        Options { reduction: Reduction::Mean, ..plain },
        Options { temperature: 0.7, link: Link::Focal { gamma: 1.5 }, ..plain },
        Options { softcap: Some(3.0), lse_square_scale: 0.1, entropy_weight: 0.3, temperature: 1.3, ..plain },
        Options { lse_square_scale: 0.1, entropy_weight: -0.3, temperature: 1.3, ..plain },
    ]
}

fn check_values<T: Element>(limit: f64) {
    for (rows, classes, columns) in [(1, 1, 1), (1, 40, 3), (9, 1030, 5), (37, 129, 20), (4, 1, 2)] {
        let case = Case::<T>::new(rows, classes, columns);
        for (index, options) in options().into_iter().enumerate() {
            let want = case.oracle(options);
            for chunk in [1, 7, rows] {
                let what = format!("{rows} {classes} options {index} chunk {chunk}");
                assert_close(&case.chunked(options, chunk), &want, limit, &what);
            }
            let what = format!("{rows} {classes} options {index} recompute");
            assert_close(&case.recompute(options), &want, limit, &what);
        }
    }
}

#[test]
fn losses_gradients_and_statistics_agree_with_f64() {
    each_isa(|_| {
        check_values::<f32>(2e-5);
        check_values::<f64>(2e-13);
    });
}

#[test]
fn every_number_of_threads_gives_the_same_bits() {
    let case = Case::<f32>::new(150, 1500, 40);
    each_isa(|_| {
        for options in options() {
            threads::set_num_threads(1);
            let want = (case.chunked(options, 64), case.recompute(options));
            for count in [2, 3, 8] {
                threads::set_num_threads(count);
                assert_eq!(case.chunked(options, 64), want.0, "chunked, {count} threads");
                assert_eq!(case.recompute(options), want.1, "recompute, {count} threads");
            }
            threads::set_num_threads(0);
        }
    });
}

#[test]
fn what_lies_in_an_ignored_row_reaches_nothing() {
    let mut case = Case::<f32>::new(9, 20, 4);
    let clean = case.chunked(Options::default(), 4);
    for row in (0..9).filter(|row| row % 5 == 3) {
        case.input[row * 4..(row + 1) * 4].fill(f32::NAN);
    }
    for all in [case.chunked(Options::default(), 4), case.recompute(Options::default())] {
        assert!(same_bits(&all.losses, &clean.losses) || all.losses.iter().all(|x| x.is_finite()));
        assert!(all.weight.iter().chain(&all.bias).chain(&all.input).all(|x| x.is_finite()));
        assert!(all.input[3 * 4..4 * 4].iter().all(|x| *x == 0.0));
    }
}

/// The same problem in 16 bits gives the losses of the widened one, and its gradients rounded once.
fn check_stored<X: Stored<Wide = f32>>(rows: usize, classes: usize, columns: usize, soft: bool) {
    let mut case = Case::<f32>::new(rows, classes, columns);
    let narrow = |list: &[f32]| -> Vec<X> { list.iter().map(|&x| X::narrow(x)).collect() };
    let (input, weight) = (narrow(&case.input), narrow(&case.weight));
    X::widen_into(&input, &mut case.input);
    X::widen_into(&weight, &mut case.weight);
    let masses: Vec<X> = (0..rows * classes).map(|i| X::narrow((i % 7) as f32 / 8.0)).collect();
    let wide_masses: Vec<f32> = masses.iter().map(|&x| x.widen()).collect();
    let options = Options { reduction: Reduction::Sum, ..Options::default() };
    let problem = Problem {
        input: Matrix::new(&input, rows, columns, columns),
        weight: Matrix::new(&weight, classes, columns, columns),
        bias: Some(&case.bias),
        targets: if soft {
            Targets::Masses(&masses)
        } else {
            Targets::Classes { of_rows: &case.targets, ignore_index: IGNORE }
        },
        class_weight: None,
        options,
        filter: None,
    };
    let mut wide = case.problem(options);
    if soft {
        wide.targets = Targets::Masses(&wide_masses);
    }
    let (mut states, cancel) = (vec![[0.0; 4]; rows], Cancel::default());
    for again in [false, true] {
        if again && soft {
            continue;
        }
        let got = case.everything::<X>(|output| {
            if again {
                recompute(&problem, &mut states, output, &cancel).unwrap()
            } else {
                chunked(&problem, 7, output, &cancel).unwrap()
            }
        });
        let want = case.everything::<f32>(|output| {
            if again {
                recompute(&wide, &mut states, output, &cancel).unwrap()
            } else {
                chunked(&wide, 7, output, &cancel).unwrap()
            }
        });
        let what = format!("{} {rows} {classes} {columns} recompute {again}", X::FORMAT);
        assert_eq!(
            (got.reduced, &got.losses, &got.argmax),
            (want.reduced, &want.losses, &want.argmax),
            "{what}"
        );
        for (got, want) in [(&got.input, &want.input), (&got.weight, &want.weight), (&got.bias, &want.bias)] {
            let got: Vec<f32> = got.iter().map(|x| x.widen()).collect();
            let want: Vec<f32> = want.iter().map(|&x| X::narrow(x).widen()).collect();
            assert!(same_bits(&got, &want), "{what}");
        }
    }
}

#[test]
fn arrays_of_16_bits_give_the_losses_of_wide_ones_and_gradients_rounded_once() {
    each_isa(|_| {
        for (rows, classes, columns) in [(1, 1, 1), (9, 40, 5), (37, 129, 20), (1100, 1100, 3), (5, 30, 0)] {
            check_stored::<F16>(rows, classes, columns, false);
            check_stored::<BF16>(rows, classes, columns, false);
        }
        check_stored::<BF16>(9, 40, 5, true);
    });
}

#[test]
fn gradients_can_be_made_from_states_alone() {
    let case = Case::<f64>::new(11, 50, 4);
    let problem = case.problem(Options { entropy_weight: 0.2, ..Options::default() });
    let mut states = vec![[0.0; 4]; 11];
    let cancel = Cancel::default();
    let want = case.everything(|output| recompute(&problem, &mut states, output, &cancel).unwrap());
    let got = case.everything(|output| {
        recompute_backward(&problem, &states, output.gradients.unwrap(), &cancel).unwrap();
        0.0
    });
    assert!(same_bits(&got.input, &want.input) && same_bits(&got.weight, &want.weight));
    assert!(same_bits(&got.bias, &want.bias));
}

#[test]
fn a_filter_drops_blocks_that_are_small_everywhere() {
    let mut case = Case::<f64>::new(8, 3000, 4);
    case.bias[1024..2048].fill(-60.0);
    let run = |filter| {
        let problem = Problem { filter, ..case.problem(Options::default()) };
        case.everything(|output| chunked(&problem, 8, output, &Cancel::default()).unwrap())
    };
    let (exact, filtered) = (run(None), run(Some(1e-15)));
    let targets = |classes: std::ops::Range<i64>| case.targets.iter().any(|target| classes.contains(target));
    assert!(!targets(1024..2048), "the middle block has no target");
    assert!(exact.bias[1024..2048].iter().all(|x| *x != 0.0));
    assert!(filtered.bias[1024..2048].iter().all(|x| *x == 0.0));
    assert!(same_bits(&filtered.bias[..1024], &exact.bias[..1024]));
    let error = |a: &[f64], b: &[f64]| a.iter().zip(b).fold(0.0_f64, |m, (a, b)| m.max((a - b).abs()));
    assert!(error(&filtered.weight, &exact.weight) < 1e-14 && error(&filtered.input, &exact.input) < 1e-14);
}

#[test]
fn what_a_mode_cannot_do_is_an_error() {
    let case = Case::<f32>::new(4, 6, 3);
    let cancel = Cancel::default();
    let mut losses = vec![0.0; 4];
    let mut attempt = |problem: &Problem<'_, f32>, again: bool| {
        let output = Output { losses: &mut losses, gradients: None, statistics: Statistics::default() };
        if again {
            recompute(problem, &mut [[0.0; 4]; 4], output, &cancel).unwrap_err().to_string()
        } else {
            chunked(problem, 2, output, &cancel).unwrap_err().to_string()
        }
    };
    let smoothed = case.problem(Options { label_smoothing: 0.1, ..Options::default() });
    assert_eq!(
        attempt(&smoothed, true),
        "cross_entropy: label_smoothing is above 0 in mode 'recompute'; use mode 'chunked' for that"
    );
    let wrong = [0, 1, 6, 0];
    let targets = Targets::Classes { of_rows: &wrong, ignore_index: IGNORE };
    let problem = Problem { targets, ..case.problem(Options::default()) };
    for again in [false, true] {
        assert_eq!(attempt(&problem, again), "cross_entropy: target 6 in row 2 is no class; use 0..5");
    }
    let problem = Problem { filter: Some(-1.0), ..case.problem(Options::default()) };
    assert!(attempt(&problem, false).contains("filter_eps is -1.0"));
    let narrow = Matrix::new(&case.weight, 6, 2, 3);
    let problem = Problem { weight: narrow, ..case.problem(Options::default()) };
    let mut losses = vec![0.0; 4];
    let output = Output { losses: &mut losses, gradients: None, statistics: Statistics::default() };
    assert!(matches!(chunked(&problem, 2, output, &cancel), Err(Error::Shape { argument: "weight", .. })));
}
