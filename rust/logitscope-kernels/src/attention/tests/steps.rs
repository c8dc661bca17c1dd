//! The steps between product and weight, in combination: softcap, bias, distances, sinks, sigmoid weighting, dropout.

use super::super::{Align, Dropout};
use super::case::{Case, Hidden, Numbers, Sizes};
use super::{assert_agrees, error};
use logitscope_simd::Element;

/// Every step between product and weight, each in half of the cases that the bits of `steps` number.
pub(super) fn with_steps<T: Element>(sizes: Sizes, hidden: Hidden, steps: usize) -> Case<T> {
    let Sizes(b, h, _, lq, lk, ..) = sizes;
    let mut case = Case::<T>::new(sizes, hidden);
    let mut numbers = Numbers(5 + steps as u64);
    if steps & 1 > 0 {
        case.softcap = T::from_f64(1.5);
    }
    if steps & 2 > 0 {
        let strides = match steps % 7 {
            0 => [h * lq * lk, lq * lk, lk, 1],
            1 => [0, lq * lk, lk, 1],
            2 => [lk, 0, 0, 1],
            3 => [0, 0, lk, 1],
            4 => [0, lq, 1, 0],
            5 => [h * lk * lq, lk * lq, 1, lq],
            _ => [0, 1, 0, 0],
        };
        let mut bias = numbers.vec::<T>(b * h * lq * lk);
        if !steps.is_multiple_of(3) {
            // Some hidden keys, and whole tiles of them.
            bias.iter_mut().step_by(5).for_each(|x| *x = T::NEG_INFINITY);
            if strides[2..] != [0, 1] && strides[2..] != [0, 0] {
                bias.iter_mut().take(lq * lk / 3).for_each(|x| *x = T::NEG_INFINITY);
            }
        }
        case.bias = Some((bias, strides));
    }
    if steps & 4 > 0 {
        case.slopes = Some((0..h).map(|h| T::from_f64([0.05, 0.0, -0.01][h % 3])).collect());
    }
    if steps % 5 == 3 {
        case.dropout = Some(Dropout { rate: 0.3, seed: 1 << 40 | steps as u64 });
    }
    match steps / 8 % 4 {
        0 => {}
        1 => case.sinks = Some((0..h).map(|h| T::from_f64(h as f64 - 1.0)).collect()),
        2 => case.sigmoid = Some(Vec::new()),
        _ => case.sigmoid = Some((0..h).map(|h| T::from_f64(-(h as f64) - 1.0)).collect()),
    }
    case
}

#[test]
fn every_combination_of_steps_agrees_with_a_dense_computation_on_every_isa() {
    let windowed = Hidden { left: Some(90), right: Some(3), ..Hidden::default() };
    let padded = Hidden {
        query_lengths: Some(vec![83, 40]),
        key_lengths: Some(vec![150, 131]),
        ..Hidden::causal(Align::BottomRight)
    };
    let every_third = (0..150).map(|j| u8::from(j % 3 != 1)).collect();
    let masked = Hidden { scores: Some((every_third, [0, 0, 0, 1])), ..Hidden::causal(Align::TopLeft) };
    logitscope_testing::each_isa(|_| {
        for steps in 0..64 {
            for (sizes, hidden) in [
                (Sizes(2, 4, 2, 83, 150, 8, 5), Hidden::default()),
                (Sizes(2, 2, 1, 83, 150, 8, 5), padded.clone()),
                (Sizes(1, 3, 1, 150, 83, 8, 5), windowed.clone()),
                (Sizes(1, 2, 2, 83, 150, 8, 5), masked.clone()),
            ] {
                let what = format!("steps {steps}");
                assert_agrees(&with_steps::<f64>(sizes, hidden.clone(), steps % 32), &what, 1e-12);
                assert_agrees(&with_steps::<f32>(sizes, hidden, steps % 32 + 32 * (steps / 32)), &what, 2e-5);
            }
        }
    });
}

#[test]
fn scores_beyond_the_range_of_f32_give_what_they_give_in_f64() {
    for steps in [0, 1, 2, 3, 4, 6, 7, 8, 9, 12, 24, 25, 26, 28] {
        let hidden = Hidden { left: Some(40), right: Some(5), ..Hidden::default() };
        let mut case = with_steps::<f32>(Sizes(1, 2, 1, 70, 131, 8, 5), hidden, steps);
        case.temperature.fill(1.0);
        for (row, q) in case.q.chunks_mut(8).enumerate() {
            match row % 5 {
                // Both products overflow, and their sum does not.
                0 => (q[0], q[1]) = (1e30, 1e30),
                // All scores overflow, to either side.
                1 => q[0] = 1e30,
                _ => {}
            }
        }
        for k in case.k.chunks_mut(8) {
            let offset = 1e15 * (k[0] + 3.0);
            (k[0], k[1]) = (offset, -offset);
        }
        let (got, wanted) = (case.run(), case.dense());
        for (row, got) in got.out.chunks(5).enumerate() {
            let wanted = &wanted.out[row * 5..][..5];
            assert!(error(got, wanted) <= 1e-5, "row {row} of steps {steps}: {got:?} {wanted:?}");
        }
        assert!(error(&got.entropy, &wanted.entropy) <= 1e-5, "entropy of steps {steps}");
        let errors = [
            ("top_weights", error(&got.top_weights, &wanted.top_weights)),
            ("dv", error(&got.dv, &wanted.dv)),
            ("dsinks", error(&got.dsinks, &wanted.dsinks)),
            ("dbias", error(&got.dbias, &wanted.dbias)),
        ];
        for (name, error) in errors {
            assert!(error <= 2e-5, "{name} of steps {steps}: {error:e}");
        }
    }
}
