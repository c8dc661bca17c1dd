//! bfloat16 in tiles (AMX) against the plain path, which widens it, and against the dense computation.
//! On a CPU without tiles their instructions are emulated.

use super::super::Align;
use super::case::{Case, Hidden, Results, Sizes, narrowed};
use super::error;
use super::steps::with_steps;
use logitscope_simd::{BF16, Isa, Stored};
use logitscope_testing::with_tiles;

/// Shapes around tiles of 16 keys, 16 queries and 32 numbers of a head; their steps between product and weight.
fn cases() -> Vec<Case<f32>> {
    let causal = || Hidden::causal(Align::BottomRight);
    let windowed = || Hidden { left: Some(21), right: Some(3), ..Hidden::default() };
    let every_third = (0..150).map(|j| u8::from(j % 3 != 1)).collect();
    let masked = Hidden { scores: Some((every_third, [0, 0, 0, 1])), ..Hidden::causal(Align::TopLeft) };
    let padded = Hidden { query_lengths: Some(vec![40]), key_lengths: Some(vec![99]), ..causal() };
    let mut cases = vec![
        with_steps(Sizes(1, 2, 1, 64, 128, 64, 64), Hidden::default(), 0),
        with_steps(Sizes(1, 1, 1, 16, 16, 32, 16), Hidden::default(), 0),
        with_steps(Sizes(1, 1, 1, 15, 15, 31, 15), Hidden::default(), 0),
        with_steps(Sizes(1, 1, 1, 33, 47, 40, 80), Hidden::default(), 4),
        with_steps(Sizes(1, 4, 2, 70, 151, 33, 20), causal(), 1),
        with_steps(Sizes(1, 1, 1, 130, 130, 64, 128), causal(), 8),
        with_steps(Sizes(1, 2, 1, 100, 150, 32, 48), masked, 16),
        with_steps(Sizes(1, 1, 1, 90, 131, 66, 34), windowed(), 3),
        with_steps(Sizes(1, 2, 2, 83, 150, 32, 32), padded, 30),
    ];
    for case in &mut cases {
        for list in [&mut case.q, &mut case.k, &mut case.v, &mut case.dout] {
            *list = narrowed::<BF16>(list).into_iter().map(Stored::widen).collect();
        }
    }
    cases
}

fn assert_close(case: &Case<f32>, got: &Results<f32>, other: &Results<f64>, exact: f64, what: &str) {
    // Weights, gradients of scores and results are rounded to bfloat16.
    let limit = f64::powi(2.0, -6);
    let errors = [
        ("lse", error(&got.lse, &other.lse), exact),
        ("max_logit", error(&got.max_logit, &other.max_logit), exact),
        ("entropy", error(&got.entropy, &other.entropy), exact),
        ("out", error(&got.out, &other.out), limit),
        ("dq", error(&got.dq, &other.dq), limit),
        ("dk", error(&got.dk, &other.dk), limit),
        ("dv", error(&got.dv, &other.dv), limit),
        // The sum of a row's rounded gradients, most of which cancel.
        ("dtemperature", error(&got.dtemperature, &other.dtemperature), 4.0 * limit),
    ];
    for (name, error, limit) in errors {
        assert!(error <= limit, "{name} of {:?} {:?}: {error:e} from {what}", case.sizes, case.hidden);
    }
}

/// The numbers that are compared, in f64.
fn widened(results: &Results<f32>) -> Results<f64> {
    let wide = |list: &[f32]| list.iter().map(|&x| x.into()).collect();
    Results {
        lse: wide(&results.lse),
        max_logit: wide(&results.max_logit),
        entropy: wide(&results.entropy),
        out: wide(&results.out),
        dq: wide(&results.dq),
        dk: wide(&results.dk),
        dv: wide(&results.dv),
        dtemperature: wide(&results.dtemperature),
        ..Results::default()
    }
}

#[test]
fn tiles_give_what_the_plain_path_and_a_dense_computation_give() {
    with_tiles(|| {
        for case in cases() {
            Isa::select("avx512").expect("tiles are beside its vectors");
            let plain = case.run_stored_as::<BF16>();
            Isa::select("auto").expect("every CPU runs something");
            assert!(Isa::uses_tiles());
            let got = case.run_stored_as::<BF16>();
            assert_close(&case, &got, &widened(&plain), 1e-5, "the plain path");
            assert_close(&case, &got, &case.dense(), 2e-5, "the dense computation");
        }
    });
}

#[test]
fn tiles_give_the_same_bits_at_any_number_of_threads_and_in_every_run() {
    let case = &cases()[4];
    with_tiles(|| {
        let wanted = case.run_stored_as::<BF16>();
        for threads in [1, 3, 8, 8] {
            crate::threads::set_num_threads(threads);
            assert!(case.run_stored_as::<BF16>() == wanted, "{threads} threads");
        }
        crate::threads::set_num_threads(0);
    });
}
