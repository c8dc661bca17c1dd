// Moments of the scores of a row: of all its keys alike, and under their weights. A thread takes in those that it has made
// itself, and at the end the first one of a row puts them together in the order of the threads. In a variant with MOMENTS of 0
// there are none.
#use moments

/// (batch, heads, queries, 5): count, mean and sum of squared deviations, and under the weights the mean as a distance from
/// the top and the variance. Between parts of the keys the first mean is a distance, too, and the last number a sum.
@group(0) @binding(8) var<storage, read_write> moments: array<u32>;

/// Seen from the largest score, and from the top of the row.
var<private> of_scores: Moments;
var<private> of_weights: Moments;
/// Scores of +inf, which count and have no mean.
var<private> infinite: f32;

/// Goes on from what an earlier part has left; `sum` is that of the weights so far.
fn begin_moments(row: u32, lane: u32, sum: f32) {
    if (MOMENTS == 0u) {
        return;
    }
    of_scores = no_moments();
    of_weights = no_moments();
    infinite = 0.0;
    if (lane != 0u) {
        return;
    }
    of_weights = Moments(sum, 0.0, 0.0);
    if (has(ADDS)) {
        let place = shift(7u) + row * 5u;
        of_scores = Moments(real(moments[place]), real(moments[place + 1u]), real(moments[place + 2u]));
        of_weights = Moments(sum, real(moments[place + 3u]), real(moments[place + 4u]));
    }
}

/// The largest score and the top have grown, and weights shrink.
fn move_moments(by_score: f32, by_top: f32, shrink: f32) {
    if (MOMENTS == 1u) {
        of_scores = moved(of_scores, by_score, 1.0);
        of_weights = moved(of_weights, by_top, shrink);
    }
}

/// Takes in a score by how far it is below the largest one, and below the top.
fn take_score(below: f32, below_top: f32, weight: f32) {
    if (MOMENTS == 1u) {
        of_scores = merged(of_scores, Moments(1.0, -below, 0.0));
        of_weights = merged(of_weights, Moments(weight, -below_top, 0.0));
    }
}

fn count_infinite(kind: f32) {
    if (MOMENTS == 1u && kind == INFINITE) {
        infinite += 1.0;
    }
}

/// Gives the first thread of each row what all have.
fn gather_moments(thread: u32, lane: u32) {
    if (MOMENTS == 1u) {
        of_scores = of_all(thread, lane, of_scores);
        of_weights = of_all(thread, lane, of_weights);
        of_scores.weight += of_all(thread, lane, Moments(infinite, 0.0, 0.0)).weight;
    }
}

fn of_all(thread: u32, lane: u32, mine: Moments) -> Moments {
    var numbers: array<array<f32, TPR>, 3>;
    for (var place = 0u; place < 3u; place++) {
        workgroupBarrier();
        notes[thread] = bitcast<u32>(select(select(mine.mean, mine.m2, place == 2u), mine.weight, place == 0u));
        workgroupBarrier();
        for (var other = 0u; other < TPR; other++) {
            numbers[place][other] = bitcast<f32>(notes[thread - lane + other]);
        }
    }
    var all = no_moments();
    for (var other = 0u; other < TPR; other++) {
        all = merged(all, Moments(numbers[0][other], numbers[1][other], numbers[2][other]));
    }
    return all;
}

fn write_moments(row: u32, most: f32, is_nan: bool) {
    if (MOMENTS == 0u) {
        return;
    }
    let place = shift(7u) + row * 5u;
    moments[place] = bitcast<u32>(of_scores.weight);
    moments[place + 3u] = bitcast<u32>(of_weights.mean);
    if (has(OPEN)) {
        moments[place + 1u] = bitcast<u32>(of_scores.mean);
        moments[place + 2u] = bitcast<u32>(of_scores.m2);
        moments[place + 4u] = bitcast<u32>(of_weights.m2);
        return;
    }
    let mean = select(0.0, of_scores.mean + most, of_scores.weight > 0.0);
    moments[place + 1u] = select(bitcast<u32>(mean), NAN_BITS, is_nan);
    moments[place + 2u] = select(squares_bits(of_scores.m2), NAN_BITS, is_nan);
    moments[place + 4u] = select(variance_bits(of_weights), NAN_BITS, is_nan);
}
