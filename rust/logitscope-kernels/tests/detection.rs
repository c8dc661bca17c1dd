//! Overlaps and suppression against loops over all pairs, and the matching by hand, on every instruction set.

use logitscope_kernels::detection::{Matching, Method, Options, box_iou, coco_match, soft_nms};
use logitscope_kernels::{Cancel, Error, threads};
use logitscope_simd::Element;
use logitscope_testing::{Random, each_isa, same_bits, sizes};

fn options(method: Method) -> Options {
    Options {
        operation: "soft_nms",
        method,
        hard_cut: None,
        score_threshold: 1e-3,
        prefilter: true,
        max_output: usize::MAX,
        offset: 0.0,
    }
}

/// Boxes on a small canvas, so that many overlap, and scores with some that are equal.
fn scene<T: Element>(random: &mut Random, count: usize) -> (Vec<T>, Vec<T>) {
    let mut boxes = Vec::new();
    for _ in 0..count {
        let (x, y) = (random.uniform(0.0, 100.0), random.uniform(0.0, 100.0));
        let (w, h) = (random.uniform(5.0, 40.0), random.uniform(5.0, 40.0));
        boxes.extend([x, y, x + w, y + h].map(T::from_f64));
    }
    let scores = (0..count).map(|_| T::from_f64((random.uniform(0.0, 64.0)).round() / 64.0)).collect();
    (boxes, scores)
}

/// The overlap of two boxes, in the element type.
fn overlap<T: Element>(a: &[T], b: &[T], offset: T) -> T {
    let larger = |a: T, b: T| if a > b { a } else { b };
    let smaller = |a: T, b: T| if a < b { a } else { b };
    let side = |low: T, high: T| larger(high - low + offset, T::ZERO);
    let area = |x: &[T]| side(x[0], x[2]) * side(x[1], x[3]);
    let width = side(larger(a[0], b[0]), smaller(a[2], b[2]));
    let intersection = width * side(larger(a[1], b[1]), smaller(a[3], b[3]));
    let union = area(a) + area(b) - intersection;
    if union > T::ZERO { intersection / union } else { T::ZERO }
}

/// The loop of the paper, in `f64`.
fn by_the_book(boxes: &[f64], scores: &[f64], options: &Options) -> Vec<(usize, f64)> {
    let mut left: Vec<(usize, f64)> = scores.iter().copied().enumerate().collect();
    if options.prefilter {
        left.retain(|x| x.1 >= options.score_threshold);
    }
    let mut chosen = Vec::new();
    while !left.is_empty() && chosen.len() < options.max_output {
        let best = (0..left.len()).fold(0, |best, i| if left[i].1 > left[best].1 { i } else { best });
        let (m, score) = left.remove(best);
        chosen.push((m, score));
        left.retain_mut(|(i, score)| {
            let o = overlap(&boxes[4 * m..4 * m + 4], &boxes[4 * *i..4 * *i + 4], options.offset);
            let cut = options.hard_cut.is_some_and(|cut| o > cut);
            let weight = match options.method {
                _ if cut => 0.0,
                Method::Hard { threshold } => f64::from(o <= threshold),
                Method::Linear { threshold } if o <= threshold => 1.0,
                Method::Linear { .. } => 1.0 - o,
                Method::Gaussian { sigma } => (-o * o / sigma).exp(),
            };
            *score *= weight;
            weight > 0.0 && *score >= options.score_threshold
        });
    }
    chosen
}

fn chosen<T: Element>(
    boxes: &[T],
    scores: &[T],
    classes: Option<&[i64]>,
    options: &Options,
) -> Vec<(usize, T)> {
    let (mut keep, mut kept) = (vec![-1; scores.len()], vec![T::NAN; scores.len()]);
    let count = soft_nms(boxes, scores, classes, options, &mut keep, &mut kept, &Cancel::default()).unwrap();
    keep[..count].iter().map(|&index| index as usize).zip(kept).collect()
}

fn all_options() -> Vec<Options> {
    let methods =
        [Method::Hard { threshold: 0.5 }, Method::Linear { threshold: 0.3 }, Method::Gaussian { sigma: 0.5 }];
    let variants = |method| {
        let plain = options(method);
        [
            plain,
            Options { offset: 1.0, ..plain },
            Options { hard_cut: Some(0.4), score_threshold: 0.0, ..plain },
            Options { prefilter: false, score_threshold: 0.3, max_output: 11, ..plain },
        ]
    };
    methods.into_iter().flat_map(variants).collect()
}

#[test]
fn overlaps_have_the_bits_of_a_plain_loop() {
    fn check<T: Element>(random: &mut Random) {
        for columns in sizes::<T>().into_iter().filter(|&n| n < 1000) {
            let (a, b) = (scene::<T>(random, 5).0, scene::<T>(random, columns).0);
            for offset in [T::ZERO, T::ONE] {
                let pairs = a.chunks(4).flat_map(|a| b.chunks(4).map(move |b| overlap(a, b, offset)));
                let want: Vec<T> = pairs.collect();
                each_isa(|isa| {
                    let mut out = vec![T::NAN; 5 * columns];
                    box_iou(&a, &b, offset.to_f64(), &mut out, &Cancel::default()).unwrap();
                    assert!(same_bits(&out, &want), "{columns} on {}", isa.name());
                });
            }
        }
    }
    let mut random = Random::new(1);
    check::<f32>(&mut random);
    check::<f64>(&mut random);
}

#[test]
fn chosen_boxes_are_those_of_the_paper_s_loop() {
    let mut random = Random::new(2);
    for count in [0, 1, 2, 7, 8, 9, 33, 64, 257, 500] {
        let (boxes, scores) = scene::<f64>(&mut random, count);
        for options in all_options() {
            let want = by_the_book(&boxes, &scores, &options);
            each_isa(|isa| {
                let got = chosen(&boxes, &scores, None, &options);
                let what = format!("{count} boxes, {options:?}, {}", isa.name());
                let places = |list: &[(usize, f64)]| list.iter().map(|x| x.0).collect::<Vec<_>>();
                assert_eq!(places(&got), places(&want), "{what}");
                for (got, want) in got.iter().zip(&want) {
                    assert!((got.1 - want.1).abs() <= 1e-12, "{what}: {got:?}, want {want:?}");
                }
            });
        }
    }
}

#[test]
fn single_precision_gives_the_same_bits_on_every_instruction_set() {
    let mut random = Random::new(3);
    let (boxes, scores) = scene::<f32>(&mut random, 300);
    for options in all_options() {
        let mut first: Option<Vec<(usize, f32)>> = None;
        each_isa(|isa| {
            let got = chosen(&boxes, &scores, None, &options);
            assert_eq!(first.get_or_insert_with(|| got.clone()), &got, "{options:?} {}", isa.name());
            assert!(got.is_sorted_by(|a, b| a.1 >= b.1));
        });
    }
}

#[test]
fn classes_do_not_touch_each_other_at_any_number_of_threads() {
    let mut random = Random::new(4);
    let (boxes, scores) = scene::<f32>(&mut random, 2000);
    let classes: Vec<i64> = (0..2000).map(|_| random.below(9) as i64 - 4).collect();
    let options = options(Method::Gaussian { sigma: 0.5 });
    let mut want = Vec::new();
    for class in -4..5 {
        let own: Vec<usize> = (0..2000).filter(|&index| classes[index] == class).collect();
        let own_boxes: Vec<f32> =
            own.iter().flat_map(|&index| boxes[4 * index..4 * index + 4].to_vec()).collect();
        let own_scores: Vec<f32> = own.iter().map(|&index| scores[index]).collect();
        want.extend(chosen(&own_boxes, &own_scores, None, &options).into_iter().map(|x| (own[x.0], x.1)));
    }
    want.sort_by(|a, b| b.1.partial_cmp(&a.1).unwrap().then(a.0.cmp(&b.0)));
    for count in [1, 2, 8] {
        threads::set_num_threads(count);
        assert_eq!(chosen(&boxes, &scores, Some(&classes), &options), want);
    }
    threads::set_num_threads(0);
}

#[test]
fn boxes_and_options_that_are_none_are_refused() {
    let run = |boxes: &[f32], scores: &[f32], options: &Options| {
        let (mut keep, mut kept) = (vec![0; scores.len()], vec![0.0; scores.len()]);
        soft_nms(boxes, scores, None, options, &mut keep, &mut kept, &Cancel::default())
    };
    let (good, scores) = ([0.0, 0.0, 1.0, 1.0], [0.5]);
    let gaussian = options(Method::Gaussian { sigma: 0.5 });
    assert_eq!(run(&good, &scores, &gaussian), Ok(1));
    for bad in [
        [2.0, 0.0, 1.0, 1.0],
        [0.0, f32::NAN, 1.0, 1.0],
        [0.0, 0.0, f32::INFINITY, 1.0],
        [0.0, 0.0, 2e19, 2e19],
    ] {
        let twice: Vec<f32> = good.into_iter().chain(bad).collect();
        let message = run(&twice, &[0.5; 2], &gaussian).unwrap_err().to_string();
        assert!(
            message.starts_with("soft_nms: boxes is (") && message.contains(" in row 1; use "),
            "{message}"
        );
    }
    let message = run(&good, &[f32::INFINITY], &gaussian).unwrap_err().to_string();
    assert_eq!(message, "soft_nms: scores is inf in row 0; use finite numbers");
    assert!(matches!(run(&good, &[0.5; 2], &gaussian), Err(Error::Shape { argument: "scores", .. })));
    for method in [
        Method::Gaussian { sigma: 0.0 },
        Method::Gaussian { sigma: 1e-40 },
        Method::Gaussian { sigma: f64::NAN },
        Method::Linear { threshold: -0.1 },
        Method::Hard { threshold: 1.5 },
    ] {
        assert!(matches!(run(&good, &scores, &options(method)), Err(Error::Argument { .. })), "{method:?}");
    }
}

#[test]
fn detections_take_the_best_true_box_and_those_that_do_not_count_last() {
    // One image: two true boxes, the second does not count; three detections by falling score.
    let truths = [[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 9.0]].concat();
    let detections = [[0.0, 0.0, 10.0, 9.0], [0.0, 0.0, 10.0, 9.0], [50.0, 50.0, 60.0, 60.0]].concat();
    let run = |crowd: &[bool], thresholds: &[f64]| {
        let matching = Matching {
            detections: &detections,
            truths: &truths,
            groups: &[(3, 2)],
            crowd,
            ranges: 1,
            ignored: &[false, true],
            outside: &[false, false, true],
            thresholds,
        };
        let (mut matched, mut ignored) =
            (vec![false; 3 * thresholds.len()], vec![false; 3 * thresholds.len()]);
        coco_match(&matching, &mut matched, &mut ignored, &Cancel::default()).unwrap();
        (matched, ignored)
    };
    assert_eq!(run(&[false; 2], &[0.5]), (vec![true, true, false], vec![false, true, true]));
    // At 0.95 the one that counts is too far away; the other is taken once, or by all if it is a crowd.
    assert_eq!(run(&[false; 2], &[0.95]), (vec![true, false, false], vec![true, false, true]));
    assert_eq!(run(&[false, true], &[0.95]), (vec![true, true, false], vec![true, true, true]));
    let (matched, _) = run(&[false; 2], &[0.5, 1.0]);
    assert_eq!(matched, [true, true, true, false, false, false]);
}
