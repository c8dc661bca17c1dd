//! What is hidden changes no bit, whatever it holds, however products are computed.

use super::super::Align;
use super::case::{Case, Hidden, Numbers, Sizes, TOP};
use super::steps::with_steps;
use logitscope_simd::{BF16, Stored};

/// Runs a test with f32, and with bfloat16 as it is widened, in pairs and in tiles.
fn with_each_path(test: [fn(); 2]) {
    let [wide, halved] = test;
    logitscope_testing::each_isa(|_| {
        wide();
        halved();
    });
    logitscope_testing::at_best(halved);
    logitscope_testing::with_tiles(halved);
}

#[test]
fn what_is_hidden_cannot_leak() {
    with_each_path([future_leaks_not::<f32>, future_leaks_not::<BF16>]);
}

fn future_leaks_not<X: Stored<Wide = f32>>() {
    let (sizes, hidden) = (Sizes(1, 1, 1, 80, 80, 16, 16), Hidden::causal(Align::BottomRight));
    let clean = Case::<f32>::new(sizes, hidden.clone());
    let wanted = clean.run_stored_as::<X>();
    for poison in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut case = Case::<f32>::new(sizes, hidden.clone());
        // The last position: hidden from all queries but the last, and the last query sees all keys.
        let last = 79 * 16;
        for data in [&mut case.q, &mut case.k, &mut case.v, &mut case.dout] {
            data[last..].fill(poison);
        }
        let got = case.run_stored_as::<X>();
        assert!(got.out[..last] == wanted.out[..last], "out with {poison}");
        assert!(got.dq[..last] == wanted.dq[..last], "dq with {poison}");
        assert!(got.lse[..79] == wanted.lse[..79], "lse with {poison}");
        assert!(got.out[last..].iter().all(|x| x.is_nan()), "the poisoned row with {poison}");
    }
}

#[test]
fn a_poisoned_query_changes_no_gradient_of_keys_that_it_does_not_see() {
    with_each_path([poisoned_query::<f32>, poisoned_query::<BF16>]);
}

fn poisoned_query<X: Stored<Wide = f32>>() {
    let (sizes, hidden) = (Sizes(1, 1, 1, 80, 80, 16, 16), Hidden::causal(Align::BottomRight));
    let wanted = Case::<f32>::new(sizes, hidden.clone()).run_stored_as::<X>();
    let mut case = Case::<f32>::new(sizes, hidden.clone());
    case.q[..16].fill(f32::NAN);
    let got = case.run_stored_as::<X>();
    assert!(got.dk[16..] == wanted.dk[16..]);
    assert!(got.dv[16..] == wanted.dv[16..]);
    assert!(got.dk[..16].iter().all(|x| x.is_nan()));
}

#[test]
fn nothing_leaks_out_of_padding_nor_past_a_mask() {
    with_each_path([padding_leaks_not::<f32>, padding_leaks_not::<BF16>]);
}

fn padding_leaks_not<X: Stored<Wide = f32>>() {
    let every_third: Vec<u8> = (0..150).map(|j| u8::from(j % 3 != 1)).collect();
    let padded = Hidden {
        query_lengths: Some(vec![70, 83]),
        key_lengths: Some(vec![150, 131]),
        left: Some(60),
        right: Some(0),
        ..Hidden::default()
    };
    let masked = Hidden { scores: Some((every_third, [0, 0, 0, 1])), ..padded.clone() };
    for hidden in [padded, masked] {
        let sizes = Sizes(2, 2, 1, 83, 150, 32, 32);
        let mut case = Case::<f32>::new(sizes, hidden.clone());
        case.sinks = Some(vec![0.5, -0.5]);
        let wanted = case.run_stored_as::<X>();
        for (b, i) in (0..2).flat_map(|b| (0..83).map(move |i| (b, i))) {
            if !(0..150).any(|j| hidden.sees([b, 0, i, j], 83, 150)) {
                for h in 0..2 {
                    let row = (b * 2 + h) * 83 + i;
                    case.q[row * 32..][..32].fill(f32::NAN);
                    case.dout[row * 32..][..32].fill(f32::NAN);
                    case.temperature[row] = f32::NAN;
                }
            }
        }
        for (b, j) in (0..2).flat_map(|b| (0..150).map(move |j| (b, j))) {
            if !(0..83).any(|i| hidden.sees([b, 0, i, j], 83, 150)) {
                case.k[(b * 150 + j) * 32..][..32].fill(f32::NAN);
                case.v[(b * 150 + j) * 32..][..32].fill(f32::NEG_INFINITY);
            }
        }
        assert!(case.q.iter().any(|x| x.is_nan()) && case.v.iter().any(|x| x.is_infinite()));
        assert!(case.run_stored_as::<X>() == wanted, "{hidden:?}");
    }
}

#[test]
fn a_poisoned_row_changes_no_key_that_the_mask_hides_from_it() {
    with_each_path([masked_row::<f32>, masked_row::<BF16>]);
}

fn masked_row<X: Stored<Wide = f32>>() {
    let mut cells = vec![1; 80 * 80];
    cells[7 * 80 + 3] = 0;
    let hidden = Hidden { scores: Some((cells, [0, 0, 80, 1])), ..Hidden::default() };
    let sizes = Sizes(1, 1, 1, 80, 80, 16, 16);
    let wanted = Case::<f32>::new(sizes, hidden.clone()).run_stored_as::<X>();
    let mut case = Case::<f32>::new(sizes, hidden);
    case.q[7 * 16..8 * 16].fill(f32::NAN);
    case.dout[7 * 16..8 * 16].fill(f32::INFINITY);
    let got = case.run_stored_as::<X>();
    let key = 3 * 16..4 * 16;
    assert!(got.dk[key.clone()] == wanted.dk[key.clone()]);
    assert!(got.dv[key.clone()] == wanted.dv[key]);
    assert!(got.dk[..48].iter().all(|x| x.is_nan()));
}

#[test]
fn rows_and_keys_that_see_nothing_poisoned_keep_their_bits_at_every_step() {
    with_each_path([poisoned_class::<f32>, poisoned_class::<BF16>]);
}

/// Queries see keys of their own class alone, and each tile holds all four: what is not finite is in the first.
fn poisoned_class<X: Stored<Wide = f32>>() {
    let sizes = Sizes(1, 2, 1, 83, 150, 33, 20);
    let cells = (0..83 * 150).map(|at| u8::from(at / 150 % 4 == at % 150 % 4)).collect();
    let mask = Some((cells, [0, 0, 150, 1]));
    for steps in [0, 1, 2, 7, 13, 17, 31] {
        for hidden in [Hidden::default(), Hidden::causal(Align::BottomRight)] {
            let clean = with_steps::<f32>(sizes, Hidden { scores: mask.clone(), ..hidden }, steps);
            let wanted = clean.run_stored_as::<X>();
            for poison in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                let got = poisoned(&clean, poison, steps).run_stored_as::<X>();
                let mut spoilt = 0;
                for (got, wanted, rows, columns) in [
                    (&got.out, &wanted.out, 83, 20),
                    (&got.lse, &wanted.lse, 83, 1),
                    (&got.entropy, &wanted.entropy, 83, 1),
                    (&got.variance, &wanted.variance, 83, 1),
                    (&got.top_weights, &wanted.top_weights, 83, TOP),
                    (&got.dq, &wanted.dq, 83, 33),
                    (&got.dtemperature, &wanted.dtemperature, 83, 1),
                    (&got.dk, &wanted.dk, 150, 33),
                    (&got.dv, &wanted.dv, 150, 20),
                ] {
                    for (at, (a, b)) in got.iter().zip(wanted).enumerate() {
                        if at / columns % rows % 4 > 0 {
                            assert_eq!(a.to_bits(), b.to_bits(), "{poison} with steps {steps}: {a} {b}");
                        } else {
                            spoilt += usize::from(!a.is_finite());
                        }
                    }
                }
                assert!(spoilt > 83 * 20, "{poison} with steps {steps} spoils {spoilt} numbers");
            }
        }
    }
}

/// A case with `poison` in some of the numbers of the first class.
fn poisoned(clean: &Case<f32>, poison: f32, steps: usize) -> Case<f32> {
    let mut case = with_steps::<f32>(clean.sizes, clean.hidden.clone(), steps);
    let mut numbers = Numbers(9);
    let lists = [&mut case.q, &mut case.dout, &mut case.temperature, &mut case.k, &mut case.v];
    for (list, (rows, columns)) in lists.into_iter().zip([(83, 33), (83, 20), (83, 1), (150, 33), (150, 20)])
    {
        for (at, number) in list.iter_mut().enumerate() {
            if at / columns % rows % 4 == 0 && numbers.next() > 0.8 {
                *number = poison;
            }
        }
    }
    case
}
