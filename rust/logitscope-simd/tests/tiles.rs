//! Products of tiles against sums in `f64`, by vectors on every instruction set and by AMX, emulated where the CPU has none.

use logitscope_simd::{BF16, Element, Kernel, Simd, Stored, TileProduct};
use logitscope_testing::{Random, each_isa, with_tiles};
use std::panic::{AssertUnwindSafe, catch_unwind};

const A_STRIDE: usize = 50;
const WIDTH: usize = 3;
const ROWS: usize = 32;
const DEPTH: usize = 48;

/// One product of so many tiles; gives `c`, and whether tiles made it.
struct Product<'a> {
    a: &'a [f32],
    b: &'a [[f32; 16]],
    c: Vec<[f32; 16]>,
    tiles: [usize; 3],
    adds: bool,
}

impl Kernel<f32> for Product<'_> {
    type Output = (Vec<[f32; 16]>, bool);

    #[inline(always)]
    fn run<S: Simd<f32>>(self, simd: S) -> Self::Output {
        let Self { a, b, mut c, tiles: [row_tiles, column_tiles, depth], adds } = self;
        let (a_stride, b_width, c_width) = (A_STRIDE, WIDTH, WIDTH);
        simd.multiply_tiles(TileProduct {
            a,
            a_stride,
            b,
            b_width,
            c: &mut c,
            c_width,
            row_tiles,
            column_tiles,
            depth,
            adds,
        });
        (c, S::HAS_TILES)
    }
}

struct Inputs {
    a: Vec<f32>,
    b: Vec<[f32; 16]>,
    c: Vec<[f32; 16]>,
}

impl Inputs {
    fn new() -> Self {
        let mut random = Random::new(3);
        let mut number = || BF16::narrow(random.uniform(-2.0, 2.0) as f32);
        let mut pairs = |n: usize| -> Vec<f32> { (0..n).map(|_| BF16::pair(number(), number())).collect() };
        let mut blocks = |n: usize| -> Vec<[f32; 16]> { pairs(16 * n).as_chunks().0.to_vec() };
        let b = blocks(DEPTH * WIDTH);
        let c = blocks(ROWS * WIDTH).iter().map(|block| block.map(|pair| pair.halves().1)).collect();
        Self { a: pairs(ROWS * A_STRIDE), b, c }
    }

    fn product(&self, tiles: [usize; 3], adds: bool) -> Product<'_> {
        Product { a: &self.a, b: &self.b, c: self.c.clone(), tiles, adds }
    }

    /// By the definition; what is no part of the product stays.
    fn truth(&self, [row_tiles, column_tiles, depth]: [usize; 3], adds: bool) -> Vec<[f64; 16]> {
        let mut c: Vec<_> = self.c.iter().map(|block| block.map(f64::from)).collect();
        for row in 0..16 * row_tiles {
            for column in 0..column_tiles {
                for (lane, cell) in c[row * WIDTH + column].iter_mut().enumerate() {
                    let products = (0..16 * depth).map(|k| {
                        let (x, y) = (self.a[row * A_STRIDE + k], self.b[k * WIDTH + column][lane]);
                        let ((x, x_high), (y, y_high)) = (x.halves(), y.halves());
                        f64::from(x) * f64::from(y) + f64::from(x_high) * f64::from(y_high)
                    });
                    *cell = if adds { *cell } else { 0.0 } + products.sum::<f64>();
                }
            }
        }
        c
    }
}

fn check(by_tiles: bool) {
    let inputs = Inputs::new();
    for tiles in [[1, 1, 1], [1, 2, 2], [2, 1, 3], [2, 2, 1], [2, 2, 3]] {
        for adds in [false, true] {
            let product = inputs.product(tiles, adds);
            let (c, were_tiles) =
                if by_tiles { f32::dispatch_tiles(product) } else { f32::dispatch(product) };
            assert_eq!(were_tiles, by_tiles);
            let truth = inputs.truth(tiles, adds);
            for (got, wanted) in c.as_flattened().iter().zip(truth.as_flattened()) {
                assert!((f64::from(*got) - wanted).abs() < 1e-4, "{got} for {wanted}: {tiles:?}, {adds}");
            }
        }
    }
}

#[test]
fn vectors_multiply_tiles_on_every_isa() {
    each_isa(|_| check(false));
}

#[test]
fn tiles_are_multiplied_by_amx() {
    with_tiles(|| check(true));
}

#[test]
fn tiles_beyond_a_matrix_are_refused_and_given_back() {
    with_tiles(|| {
        let inputs = Inputs::new();
        for tiles in [[2, 2, 4], [3, 1, 1], [1, 0, 1], [1, 1, 0]] {
            let run = || f32::dispatch_tiles(inputs.product(tiles, false));
            assert!(catch_unwind(AssertUnwindSafe(run)).is_err(), "{tiles:?}");
            assert!(!logitscope_testing::has_configured_tiles(), "{tiles:?}");
        }
        let short = Product { c: vec![[0.0; 16]; 15 * WIDTH], ..inputs.product([1, 1, 1], false) };
        assert!(catch_unwind(AssertUnwindSafe(|| f32::dispatch_tiles(short))).is_err());
    });
}
