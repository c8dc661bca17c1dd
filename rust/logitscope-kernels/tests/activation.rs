//! `PolyReLU` and `PolyNorm` against `f64`, and their gradients against differences, on every instruction set.

use logitscope_kernels::activation::{
    NormScale, poly_norm, poly_norm_backward, poly_relu, poly_relu_backward,
};
use logitscope_kernels::{Cancel, threads};
use logitscope_simd::Element;
use logitscope_testing::{Random, each_isa, same_bits, sizes};

const WEIGHTS: [f64; 5] = [0.3, -0.7, 0.2, 0.9, -0.4];
const EPS: f64 = 1e-6;

fn numbers<T: Element>(random: &mut Random, count: usize) -> Vec<T> {
    (0..count).map(|_| T::from_f64(random.normal(0.0, 1.5))).collect()
}

fn in_f64<T: Element>(x: &[T]) -> Vec<f64> {
    x.iter().map(|x| x.to_f64()).collect()
}

/// The value of `PolyReLU`, and the sum of the magnitudes of its terms.
fn relu(x: f64, weight: &[f64], bias: f64) -> (f64, f64) {
    let terms = weight.iter().rev().enumerate().map(|(k, w)| w * x.max(0.0).powi(k as i32 + 1));
    terms.fold((bias, bias.abs()), |sum, term| (sum.0 + term, sum.1 + term.abs()))
}

/// `PolyNorm` of a row as the paper's code writes it, and the sums of the magnitudes of its terms.
fn norm(x: &[f64], weight: &[f64], bias: f64, scale: NormScale) -> Vec<(f64, f64)> {
    let count = if scale == NormScale::Rms { x.len() as f64 } else { 1.0 };
    let mut y = vec![(bias, bias.abs()); x.len()];
    for (k, w) in weight.iter().rev().enumerate() {
        let powers: Vec<f64> = x.iter().map(|x| x.powi(k as i32 + 1)).collect();
        let root = (powers.iter().map(|u| u * u).sum::<f64>() / count + EPS).sqrt();
        for (y, power) in y.iter_mut().zip(powers) {
            *y = (y.0 + w * power / root, y.1 + (w * power / root).abs());
        }
    }
    y
}

fn assert_near<T: Element>(got: &[T], want: &[(f64, f64)], limit: f64, what: &str) {
    assert_eq!(got.len(), want.len());
    for (place, (got, want)) in got.iter().zip(want).enumerate() {
        let error = (got.to_f64() - want.0).abs();
        assert!(error <= limit * want.1, "{what}: {got} at {place}, want {}", want.0);
    }
}

/// A few rounding errors of the element type.
fn limit<T: Element>() -> f64 {
    if T::LANES == 16 { 1e-6 } else { 4e-15 }
}

#[test]
fn values_are_those_of_the_formulas() {
    fn check<T: Element>(random: &mut Random) {
        for columns in sizes::<T>() {
            let x: Vec<T> = numbers(random, 3 * columns);
            let exact = in_f64(&x);
            for order in 1..=5 {
                let weight = &WEIGHTS[..order];
                each_isa(|isa| {
                    let what = format!("{columns}, order {order}, {}", isa.name());
                    let mut y = vec![T::NAN; x.len()];
                    poly_relu(&x, weight, 0.25, &mut y, &Cancel::default()).unwrap();
                    let want: Vec<_> = exact.iter().map(|&x| relu(x, weight, 0.25)).collect();
                    assert_near(&y, &want, limit::<T>(), &what);
                    if columns == 0 {
                        return;
                    }
                    for scale in [NormScale::Rms, NormScale::L2] {
                        let mut saved = vec![T::NAN; 3 * (order + 1)];
                        let norms = (EPS, scale);
                        poly_norm(&x, columns, (weight, 0.25), norms, &mut y, &mut saved, &Cancel::default())
                            .unwrap();
                        let want: Vec<_> =
                            exact.chunks(columns).flat_map(|x| norm(x, weight, 0.25, scale)).collect();
                        assert_near(&y, &want, 2.0 * limit::<T>(), &what);
                    }
                });
            }
        }
    }
    let mut random = Random::new(1);
    check::<f32>(&mut random);
    check::<f64>(&mut random);
}

/// The gradient of sum dy f(x, weight, bias) by central differences: of x, then of the weights, then of the bias.
fn by_differences(
    x: &[f64],
    dy: &[f64],
    weight: &[f64],
    value: impl Fn(&[f64], &[f64], f64) -> Vec<f64>,
) -> Vec<f64> {
    let score = |x: &[f64], weight: &[f64], bias: f64| -> f64 {
        value(x, weight, bias).iter().zip(dy).map(|(y, dy)| y * dy).sum()
    };
    let all: Vec<f64> = x.iter().chain(weight).chain(&[0.25]).copied().collect();
    (0..all.len())
        .map(|place| {
            let at = |step: f64| {
                let mut moved = all.clone();
                moved[place] += step;
                let (x, rest) = moved.split_at(x.len());
                score(x, &rest[..weight.len()], rest[weight.len()])
            };
            (at(1e-5) - at(-1e-5)) / 2e-5
        })
        .collect()
}

#[test]
fn gradients_are_those_of_differences() {
    let mut random = Random::new(2);
    for columns in [1, 2, 7, 8, 9, 33] {
        for order in 1..=5 {
            let (x, dy): (Vec<f64>, Vec<f64>) =
                (numbers(&mut random, columns), numbers(&mut random, columns));
            let weight = &WEIGHTS[..order];
            let compare = |dx: &[f64], sums: &[f64], want: &[f64], what: &str| {
                for (place, (got, want)) in dx.iter().chain(sums).zip(want).enumerate() {
                    let near = (got - want).abs() < 2e-6 * (1.0 + want.abs());
                    assert!(near, "{what}, {columns}, order {order}: {got} at {place}, want {want}");
                }
            };
            each_isa(|isa| {
                let mut dx = vec![f64::NAN; columns];
                let sums = poly_relu_backward(&x, &dy, weight, &mut dx, &Cancel::default()).unwrap();
                let want =
                    by_differences(&x, &dy, weight, |x, w, b| x.iter().map(|&x| relu(x, w, b).0).collect());
                compare(&dx, &sums, &want, &format!("relu {}", isa.name()));
                for scale in [NormScale::Rms, NormScale::L2] {
                    let (mut y, mut saved) = (vec![0.0; columns], vec![0.0; order + 1]);
                    poly_norm(
                        &x,
                        columns,
                        (weight, 0.25),
                        (EPS, scale),
                        &mut y,
                        &mut saved,
                        &Cancel::default(),
                    )
                    .unwrap();
                    let rows = [x.as_slice(), &dy];
                    let sums =
                        poly_norm_backward(rows, columns, weight, &saved, scale, &mut dx, &Cancel::default())
                            .unwrap();
                    let want = by_differences(&x, &dy, weight, |x, w, b| {
                        norm(x, w, b, scale).iter().map(|y| y.0).collect()
                    });
                    compare(&dx, &sums, &want, &format!("norm {scale:?} {}", isa.name()));
                }
            });
        }
    }
}

#[test]
fn huge_tiny_and_empty_rows_keep_their_values_and_gradients() {
    let third = [1.0 / 3.0; 3];
    let shape = [1.0, -0.5, 0.25, 2.0];
    each_isa(|isa| {
        for size in [0.0, 1e-42, 1e-20, 1e-10, 1e-3, 1e10, 1e30, 1.6e38] {
            let x: Vec<f32> = shape.iter().map(|x| (size * x) as f32).collect();
            let dy = [1.0_f32, 0.5, -0.25, 0.125];
            let (mut y, mut saved, mut dx) = ([0.0_f32; 4], [0.0_f32; 4], [0.0_f32; 4]);
            poly_norm(&x, 4, (&third, 0.5), (EPS, NormScale::Rms), &mut y, &mut saved, &Cancel::default())
                .unwrap();
            poly_norm_backward([&x, &dy], 4, &third, &saved, NormScale::Rms, &mut dx, &Cancel::default())
                .unwrap();
            let want = norm(&in_f64(&x), &third, 0.5, NormScale::Rms);
            assert_near(&y, &want, 1e-6, &format!("{size} on {}", isa.name()));
            if size < 1e-15 {
                // Nothing but the linear part is left: dx = w dy / sqrt(eps).
                let want: Vec<_> = dy.iter().map(|dy| f64::from(*dy) / 3e-3).map(|x| (x, x.abs())).collect();
                assert_near(&dx, &want, 1e-5, "gradient of a tiny row");
            }
            assert!(dx.iter().all(|x| x.is_finite()));
        }
    });
}

#[test]
fn nan_stays_where_it_is() {
    each_isa(|_| {
        let mut x = vec![1.0_f32; 3 * 20];
        (x[25], x[59]) = (f32::NAN, f32::INFINITY);
        let (mut y, mut saved) = (vec![0.0; 60], vec![0.0; 12]);
        let weight = &WEIGHTS[..3];
        poly_norm(&x, 20, (weight, 0.0), (EPS, NormScale::Rms), &mut y, &mut saved, &Cancel::default())
            .unwrap();
        assert!(y[..20].iter().all(|y| y.is_finite()) && y[20..].iter().all(|y| y.is_nan()));
        poly_relu(&x, weight, 0.0, &mut y, &Cancel::default()).unwrap();
        assert_eq!(y.iter().filter(|y| y.is_nan()).count(), 1);
        assert!(y[25].is_nan() && y[59] == f32::INFINITY);
        // As relu, even of infinity.
        poly_relu(&x, &[0.0, 0.0, 1.0], 0.0, &mut y, &Cancel::default()).unwrap();
        assert!(same_bits(&y, &x));
    });
}

#[test]
fn sums_have_the_same_bits_at_any_number_of_threads() {
    let mut random = Random::new(3);
    let (x, dy): (Vec<f32>, Vec<f32>) = (numbers(&mut random, 700 * 513), numbers(&mut random, 700 * 513));
    let weight = &WEIGHTS[..3];
    let mut results = Vec::new();
    for count in [1, 2, 8] {
        threads::set_num_threads(count);
        let (mut y, mut dx, mut saved) = (vec![0.0; x.len()], vec![0.0; x.len()], vec![0.0; 700 * 4]);
        let relu = poly_relu_backward(&x, &dy, weight, &mut dx, &Cancel::default()).unwrap();
        let norms = (EPS, NormScale::Rms);
        poly_norm(&x, 513, (weight, 0.0), norms, &mut y, &mut saved, &Cancel::default()).unwrap();
        let rows = [x.as_slice(), &dy];
        let norm = poly_norm_backward(rows, 513, weight, &saved, NormScale::Rms, &mut dx, &Cancel::default())
            .unwrap();
        results.push((relu, norm, dx));
    }
    threads::set_num_threads(0);
    assert_eq!(results[0], results[1]);
    assert_eq!(results[0], results[2]);
}

#[test]
fn polynomials_of_no_order_and_an_eps_of_0_are_refused() {
    let run = |weight: &[f64], eps: f64| {
        let (mut y, mut saved) = ([0.0], vec![0.0; weight.len() + 1]);
        let norms = (eps, NormScale::Rms);
        poly_norm(&[1.0_f32], 1, (weight, 0.0), norms, &mut y, &mut saved, &Cancel::default())
            .map_err(|error| error.to_string())
    };
    assert_eq!(run(&[1.0], 1e-6), Ok(()));
    let message = "poly_norm: weight is of 0 coefficients; use 1 to 5 of them";
    assert_eq!(run(&[], 1e-6), Err(message.to_owned()));
    assert!(run(&[1.0; 6], 1e-6).is_err());
    assert_eq!(run(&[1.0], 0.0), Err("poly_norm: eps is 0.0; use a positive finite number".to_owned()));
}
