//! 16-bit numbers: what f32 gives for them, rounded once; and products of pairs, which round the weights as well.

use super::super::*;
use super::case::Numbers;
use crate::threads::Cancel;
use crate::view::{Heads, HeadsMut, Order};
use logitscope_simd::{BF16, F16, Isa, Stored};
use logitscope_testing::each_isa;

const QUERIES: [usize; 4] = [1, 4, 70, 33];
const KEYS: [usize; 4] = [1, 2, 151, 33];
const VALUES: [usize; 4] = [1, 2, 151, 20];

/// Queries, keys and values that a 16-bit type holds exactly.
fn inputs<X: Stored<Wide = f32>>() -> [Vec<X>; 3] {
    let mut numbers = Numbers(5);
    [QUERIES, KEYS, VALUES].map(|shape| {
        let wide: Vec<f32> = numbers.vec(shape.iter().product());
        wide.into_iter().map(X::narrow).collect()
    })
}

/// Output and log-sum-exp, causal.
fn run<X: Stored<Wide = f32>>([q, k, v]: &[Vec<X>; 3]) -> (Vec<X>, Vec<f32>) {
    let (q, k) = (Heads::contiguous(q, QUERIES), Heads::contiguous(k, KEYS));
    let v = Heads::contiguous(v, VALUES);
    let problem = Problem {
        queries: Operand::new(&q),
        keys: Operand::new(&k),
        values: Operand::new(&v),
        scale: 0.3,
        inv_temperature: None,
        masks: Masks::causal(Align::BottomRight),
        softcap: 0.0,
        bias: None,
        slopes: None,
        weighting: Weighting::Softmax(None),
        dropout: None,
    };
    let (rows, shape) = (4 * 70, [1, 4, 70, 20]);
    let mut out = vec![X::narrow(f32::NAN); rows * 20];
    let (mut max_logit, mut inv_sum, mut lse) = (vec![0.0; rows], vec![0.0; rows], vec![0.0; rows]);
    let output = Output {
        out: HeadsMut::new(&mut out, shape, Order::HeadsFirst),
        statistics: Statistics {
            max_logit: &mut max_logit,
            inv_sum: &mut inv_sum,
            lse: &mut lse,
            entropy: None,
            logits: None,
            variance: None,
        },
        map: None,
        top: None,
    };
    forward(&problem, output, &Cancel::default()).unwrap();
    (out, lse)
}

fn check<X: Stored<Wide = f32>>(isa: Isa) {
    let halves = inputs::<X>();
    let wide = halves.each_ref().map(|list| list.iter().map(|x| x.widen()).collect::<Vec<f32>>());
    let ((out, lse), (exact, exact_lse)) = (run(&halves), run(&wide));
    assert_eq!(lse, exact_lse, "{} on {}", X::FORMAT, isa.name());
    let same = |(got, &exact): (&X, &f32)| got.widen() == X::narrow(exact).widen();
    assert!(out.iter().zip(&exact).all(same), "{} on {}", X::FORMAT, isa.name());
    // The instruction for pairs, where there is one.
    Isa::select("auto").unwrap();
    let (out, lse) = run(&halves);
    let error = |a: f32, b: f32| (a - b).abs();
    assert!(lse.iter().zip(&exact_lse).all(|(&a, &b)| error(a, b) < 1e-5), "{} of pairs", X::FORMAT);
    let largest = exact.iter().fold(0.0, |max: f32, x| max.max(x.abs()));
    let worst = out.iter().zip(&exact).fold(0.0, |max: f32, (a, &b)| max.max(error(a.widen(), b)));
    assert!(worst < largest * f32::powi(2.0, -7), "{} of pairs: {worst} of {largest}", X::FORMAT);
}

#[test]
fn sixteen_bit_numbers_are_computed_in_f32_and_rounded_once() {
    each_isa(|isa| {
        check::<F16>(isa);
        Isa::select(isa.name()).unwrap();
        check::<BF16>(isa);
    });
}
