//! The packed matrix product against `f64`, on every instruction set.

use logitscope_kernels::gemm::{Factor, Start, product};
use logitscope_kernels::{Cancel, Error, Matrix, threads};
use logitscope_simd::{BF16, Element, F16, Stored};
use logitscope_testing::{Random, assert_within_ulps, each_isa, same_bits};

/// Rows, depth and columns around micro-tiles, vectors and tiles.
const SHAPES: [[usize; 3]; 10] = [
    [1, 1, 1],
    [1, 7, 33],
    [5, 3, 2],
    [12, 16, 32],
    [13, 17, 31],
    [25, 513, 65],
    [270, 30, 17],
    [7, 600, 1030],
    [3, 0, 5],
    [0, 4, 5],
];

/// A matrix with rows a little apart, as it is read.
struct Given<T> {
    data: Vec<T>,
    rows: usize,
    columns: usize,
    transposed: bool,
}

impl<T: Element> Given<T> {
    fn new(random: &mut Random, rows: usize, columns: usize, transposed: bool) -> Self {
        let (outer, inner) = if transposed { (columns, rows) } else { (rows, columns) };
        let data = (0..outer * (inner + 3)).map(|_| T::from_f64(random.normal(0.0, 1.0))).collect();
        Self { data, rows, columns, transposed }
    }

    fn factor(&self) -> Factor<'_, T> {
        if self.transposed {
            Factor::transposed(Matrix::new(&self.data, self.columns, self.rows, self.rows + 3))
        } else {
            Factor::plain(Matrix::new(&self.data, self.rows, self.columns, self.columns + 3))
        }
    }

    fn at(&self, row: usize, column: usize) -> f64 {
        let index =
            if self.transposed { column * (self.rows + 3) + row } else { row * (self.columns + 3) + column };
        self.data[index].to_f64()
    }
}

fn multiply<T: Element>(a: &Given<T>, b: &Given<T>, start: Start<'_, T>, stride: usize) -> Vec<T> {
    let mut c = vec![T::from_f64(0.5); a.rows * stride];
    product(a.factor(), b.factor(), start, &mut c, stride, &Cancel::default()).unwrap();
    c
}

fn check_values<T: Element>(epsilon: f64) {
    let mut random = Random::new(3);
    for [rows, depth, columns] in SHAPES {
        for (turn_a, turn_b) in [(false, false), (false, true), (true, false), (true, true)] {
            let a = Given::<T>::new(&mut random, rows, depth, turn_a);
            let b = Given::<T>::new(&mut random, depth, columns, turn_b);
            let row: Vec<T> = (0..columns).map(|j| T::from_f64(j as f64)).collect();
            let stride = columns + 1;
            for (start, what) in [(Start::Zero, 0), (Start::Kept, 1), (Start::Row(&row), 2)] {
                let c = multiply(&a, &b, start, stride);
                for (i, got) in c.chunks(stride).enumerate() {
                    assert_eq!(got[columns].to_f64(), 0.5, "written beyond a row");
                    let want: Vec<f64> = (0..columns)
                        .map(|j| {
                            let from = [0.0, 0.5, j as f64][what];
                            from + (0..depth).map(|k| a.at(i, k) * b.at(k, j)).sum::<f64>()
                        })
                        .collect();
                    let floor = epsilon * (1.0 + depth as f64 + columns as f64);
                    let name = format!("{rows} {depth} {columns} {turn_a} {turn_b} row {i}");
                    assert_within_ulps(&got[..columns], &want, 0.0, floor, &name);
                }
            }
        }
    }
}

#[test]
fn products_agree_with_f64() {
    each_isa(|_| {
        check_values::<f32>(3e-7);
        check_values::<f64>(5e-16);
    });
}

#[test]
fn every_number_of_threads_gives_the_same_bits() {
    let mut random = Random::new(4);
    let a = Given::<f32>::new(&mut random, 300, 600, false);
    let b = Given::<f32>::new(&mut random, 600, 500, true);
    each_isa(|_| {
        threads::set_num_threads(1);
        let want = multiply(&a, &b, Start::Zero, 500);
        for count in [2, 3, 8] {
            threads::set_num_threads(count);
            assert!(same_bits(&multiply(&a, &b, Start::Zero, 500), &want), "{count} threads");
        }
        threads::set_num_threads(0);
    });
}

#[test]
fn sparse_factors_pass_over_what_is_zero() {
    each_isa(|_| {
        let mut random = Random::new(5);
        let mut a = Given::<f32>::new(&mut random, 40, 9, false);
        a.data[..24 * 12].fill(0.0);
        let mut b = Given::<f32>::new(&mut random, 9, 6, false);
        let dense = multiply(&a, &b, Start::Zero, 6);
        let run = |b: &Given<f32>| {
            let mut c = vec![7.0; 40 * 6];
            product(a.factor().sparse(), b.factor(), Start::Zero, &mut c, 6, &Cancel::default()).unwrap();
            c
        };
        assert!(same_bits(&run(&b), &dense));
        b.data[0] = f32::NAN;
        let passed = run(&b);
        assert!(passed[..24 * 6].iter().all(|x| *x == 0.0), "a panel of zeros was multiplied");
        assert!(passed[24 * 6].is_nan(), "a panel that is not zero was passed over");
    });
}

fn check_stored<X: Stored<Wide = f32>>() {
    let mut random = Random::new(6);
    for [rows, depth, columns] in SHAPES {
        for turned in [false, true] {
            let a = Given::<f32>::new(&mut random, rows, depth, false);
            let mut b = Given::<f32>::new(&mut random, depth, columns, turned);
            let stored: Vec<X> = b.data.iter().map(|&x| X::narrow(x)).collect();
            X::widen_into(&stored, &mut b.data);
            let factor = if turned {
                Factor::transposed(Matrix::new(&stored, columns, depth, depth + 3))
            } else {
                Factor::plain(Matrix::new(&stored, depth, columns, columns + 3))
            };
            let mut c = vec![0.0; rows * columns];
            product(a.factor(), factor, Start::Zero, &mut c, columns, &Cancel::default()).unwrap();
            let want = multiply(&a, &b, Start::Zero, columns);
            assert!(same_bits(&c, &want), "{} {rows} {depth} {columns} {turned}", X::FORMAT);
        }
    }
}

#[test]
fn factors_of_16_bits_give_the_bits_of_wide_ones() {
    each_isa(|_| {
        check_stored::<F16>();
        check_stored::<BF16>();
    });
}

#[test]
fn shapes_that_do_not_fit_are_errors() {
    let data = vec![0.0_f32; 12];
    let matrix = |rows, columns| Factor::plain(Matrix::new(&data, rows, columns, columns));
    let mut c = vec![0.0; 6];
    let cancel = Cancel::default();
    for (a, b, stride) in
        [(matrix(2, 3), matrix(2, 3), 3), (matrix(2, 3), matrix(3, 3), 2), (matrix(3, 3), matrix(3, 3), 3)]
    {
        let result = product(a, b, Start::Zero, &mut c, stride, &cancel);
        assert!(matches!(result, Err(Error::Shape { operation: "product", .. })));
    }
}
