//! The keys with the largest scores, in their order.

use super::super::Align;
use super::case::{Case, Hidden, Sizes, TOP};
use super::with_steps;

#[test]
fn the_top_keys_are_those_of_a_sorted_row_on_every_isa() {
    let windowed = Hidden { left: Some(90), right: Some(3), ..Hidden::default() };
    logitscope_testing::each_isa(|_| {
        for steps in (0..32).step_by(5) {
            for (sizes, hidden) in [
                (Sizes(2, 4, 2, 83, 300, 8, 5), Hidden::causal(Align::BottomRight)),
                (Sizes(1, 3, 1, 150, 83, 8, 5), windowed.clone()),
            ] {
                let case = with_steps::<f64>(sizes, hidden, steps);
                assert!(case.run().top_keys == case.dense().top_keys, "steps {steps} of {sizes:?}");
            }
        }
    });
}

#[test]
fn of_equal_scores_the_first_keys_are_the_top_and_missing_ones_are_minus_one() {
    let mut case = Case::<f32>::new(Sizes(1, 1, 1, 3, 200, 4, 4), Hidden::causal(Align::TopLeft));
    case.q.fill(0.0);
    let got = case.run();
    assert_eq!(got.top_keys, [0, -1, -1, -1, -1, 0, 1, -1, -1, -1, 0, 1, 2, -1, -1]);
    assert_eq!(got.top_weights[TOP..2 * TOP], [0.5, 0.5, 0.0, 0.0, 0.0]);
    // The last three keys of the last tile tie with each other, above all others.
    let mut case = Case::<f32>::new(Sizes(1, 1, 1, 1, 200, 1, 1), Hidden::default());
    (case.q[0], case.temperature[0]) = (1.0, 1.0);
    case.k.fill(0.25);
    case.k[197..].fill(1.0);
    assert_eq!(case.run().top_keys, [197, 198, 199, 0, 1]);
}

#[test]
fn what_has_no_score_is_no_top_key() {
    let mut case = Case::<f32>::new(Sizes(1, 1, 1, 1, 6, 1, 1), Hidden::default());
    (case.q[0], case.temperature[0]) = (1.0, 1.0);
    case.k = vec![1.0, f32::NEG_INFINITY, 2.0, f32::NEG_INFINITY, 3.0, 0.5];
    assert_eq!(case.run().top_keys, [4, 2, 0, 5, -1]);
    case.k[2] = f32::NAN;
    let got = case.run();
    assert_eq!(got.top_keys, [4, 0, 5, -1, -1]);
    assert!(got.top_weights[0].is_nan());
}

#[test]
fn scores_with_many_equals_rising_or_falling_give_the_keys_of_a_sorted_row_on_every_isa() {
    let scores: [fn(usize) -> f32; 4] = [
        |key| (key * 7919 % 5) as f32,
        |key| (key / 3) as f32,
        |key| -((key / 2) as f32),
        |key| if key % 97 == 13 { 1.0 } else { -((key * 31 % 4) as f32) },
    ];
    logitscope_testing::each_isa(|isa| {
        for (index, score) in scores.iter().enumerate() {
            for keys in [3, 40, 128, 129, 500] {
                let hidden = Hidden::causal(Align::BottomRight);
                let mut case = Case::<f32>::new(Sizes(1, 1, 1, 37.min(keys), keys, 1, 1), hidden);
                case.scale = 1.0;
                case.q.fill(1.0);
                case.temperature.fill(1.0);
                case.k = (0..keys).map(score).collect();
                let what = format!("scores {index} of {keys} keys on {}", isa.name());
                assert!(case.run().top_keys == case.dense().top_keys, "{what}");
            }
        }
    });
}
