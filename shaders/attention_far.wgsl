// attention_far: the rows of attention whose products left the range of float32, computed anew.
// q, k, v: see shared/attention.wgsl; out: (batch, heads, queries, value_dim), state: (batch, heads, queries, 5), moments: see
// shared/attention_moments.wgsl, far: (batch, heads, queries, 12).
// A thread takes a row, and leaves it if it is as it should be. Where the keys are in parts, all of them are gone through for
// the tops of the rows first, and then for everything else.
#use attention_far_tops
#use attention_dropout
#use moments

@group(0) @binding(6) var<storage, read_write> out: array<Stored>;
@group(0) @binding(7) var<storage, read_write> state: array<u32>;
@group(0) @binding(8) var<storage, read_write> moments: array<u32>;
/// Between parts: kind, whether a key is seen, tops; sum, sum of w ln w, and the moments.
@group(0) @binding(9) var<storage, read_write> far: array<f32>;

/// Columns of the output that are made at once.
const COLUMNS: u32 = 16u;

/// What a call does: params.map_rows is one of these, or both.
const TOPS: u32 = 1u;
const SUMS: u32 = 2u;

/// The sums of a row.
struct Sums {
    weights: f32,
    /// Of w ln w.
    logarithms: f32,
    /// In units of 2^140 where there are scores beyond the range.
    of_scores: Moments,
    of_weights: Moments,
}

@compute @workgroup_size(64)
fn main(@builtin(local_invocation_index) thread: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let index = index_of_group(group) * 64u + thread;
    if (index >= params.batch * params.heads * params.queries) {
        return;
    }
    let batch = index / (params.heads * params.queries);
    let head = index / params.queries % params.heads;
    let query = index % params.queries;
    let most = state[shift(6u) + index * 5u + 1u];
    let whole_span = whole_span_of(batch, query);
    if (whole_span.x >= whole_span.y || !(is_hidden(most) || kind_of(most) != FINE)) {
        return;
    }
    let place = shift(8u) + index * 12u;
    let is_whole = params.map_rows == (TOPS | SUMS);
    var tops = no_tops();
    if (!is_whole && (params.map_rows == SUMS || has(ADDS))) {
        tops = FarTops(far[place], far[place + 1u] > 0.0, far[place + 2u], far[place + 3u], far[place + 4u]);
    }
    if ((params.map_rows & TOPS) != 0u) {
        tops = with_keys(tops, batch, head, query);
    }
    if (params.map_rows == TOPS) {
        far[place] = tops.kind;
        far[place + 1u] = select(0.0, 1.0, tops.seen);
        far[place + 2u] = tops.above;
        far[place + 3u] = tops.below;
        far[place + 4u] = tops.near;
        return;
    }
    if (tops.kind == FINE && tops.seen) {
        make(index, batch, head, query, tops);
    }
}

/// Whether the moments of all scores are in units of 2^140.
fn is_in_units(tops: FarTops) -> bool {
    return tops.above > 0.0 || tops.below > LEAST;
}

/// Whether the moments under the weights are.
fn is_of_units(tops: FarTops) -> bool {
    return has(SIGMOID) && tops.above > 0.0;
}

/// The largest score, in such units if they are.
fn most_of(tops: FarTops) -> f32 {
    if (tops.above > 0.0 || tops.near == LEAST) {
        return select(tops.below, tops.above, tops.above > 0.0);
    }
    return select(tops.near, tops.near * TINY * TINY, is_in_units(tops));
}

fn make(index: u32, batch: u32, head: u32, query: u32, tops: FarTops) {
    let row = row_of_tops(tops, head);
    let span = span_of(batch, query);
    let temperature = temperature_of(batch, head, query);
    let sigmoid_bias = sigmoid_bias_of(batch, head, query);
    var sums = Sums(0.0, 0.0, no_moments(), no_moments());
    if (has(ADDS)) {
        sums = sums_at(shift(8u) + index * 12u + 5u);
    } else if (!row.is_far && has_sink(head)) {
        sums.weights = exp_below(sink_of(head), row.top, 1.0);
        sums.logarithms = select(0.0, sums.weights * ln_of_number(sums.weights), sums.weights > 0.0);
        sums.of_weights = Moments(sums.weights, -distance(row.top, sink_of(head)), 0.0);
    }
    let earlier = select(sums.weights, 1.0, has(SIGMOID));
    let most = most_of(tops);
    for (var key = span.x; key < span.y; key++) {
        let one = far_score(batch, head, query, key, span, temperature);
        if (!one.one.seen) {
            continue;
        }
        let weight = far_weight(row, one, sigmoid_bias);
        sums.weights += weight;
        sums.logarithms += select(0.0, weight * ln_of_number(weight), weight > 0.0);
        var s = one.one.s;
        if (is_in_units(tops)) {
            s = select(s * TINY * TINY, one.far, one.far != 0.0);
        }
        let below = distance(most, s);
        sums.of_scores = merged(sums.of_scores, Moments(1.0, -below, 0.0));
        if (weight > 0.0) {
            // With softmax, scores beyond the range are equal or have no weight; with the sigmoid, those below have none.
            let reference = select(row.top, tops.near, has(SIGMOID));
            let below_near = distance(max(reference, one.one.s), one.one.s);
            let mean = -select(select(below_near, 0.0, row.is_far), below, is_of_units(tops));
            sums.of_weights = merged(sums.of_weights, Moments(weight, mean, 0.0));
        }
    }
    let inv_sum = select(0.0, 1.0 / max(sums.weights, 1e-37), sums.weights > 0.0);
    let factor = select(inv_sum, 1.0, has(SIGMOID));
    let key_pair = batch * (params.heads / params.share) + head / params.share;
    for (var first = 0u; first < params.value_dim; first += COLUMNS) {
        let end = min(first + COLUMNS, params.value_dim);
        var mixed: array<f32, COLUMNS>;
        for (var column = first; column < end; column++) {
            mixed[column - first] = 0.0;
            if (has(ADDS)) {
                let given = unpack(out[shift(5u) + index * params.value_dim + column]);
                mixed[column - first] = select(0.0, real(given) * earlier, earlier > 0.0);
            }
        }
        for (var key = span.x; key < span.y; key++) {
            let one = far_score(batch, head, query, key, span, temperature);
            if (one.one.seen) {
                let weight = far_weight(row, one, sigmoid_bias) * kept_share(batch, head, query, key);
                for (var column = first; column < end; column++) {
                    mixed[column - first] += weight * of_value(key_pair, key, column);
                }
            }
        }
        for (var column = first; column < end; column++) {
            out[shift(5u) + index * params.value_dim + column] = pack(bitcast<u32>(mixed[column - first] * factor));
        }
    }
    if (has(OPEN)) {
        put_sums(shift(8u) + index * 12u + 5u, sums);
    } else {
        write_state(index, tops, row, sums, inv_sum);
    }
}

fn sums_at(place: u32) -> Sums {
    return Sums(
        far[place], far[place + 1u], Moments(far[place + 2u], far[place + 3u], far[place + 4u]),
        Moments(far[place], far[place + 5u], far[place + 6u]),
    );
}

/// The weight of the second moments is the sum of the weights.
fn put_sums(place: u32, sums: Sums) {
    far[place] = sums.weights;
    far[place + 1u] = sums.logarithms;
    far[place + 2u] = sums.of_scores.weight;
    far[place + 3u] = sums.of_scores.mean;
    far[place + 4u] = sums.of_scores.m2;
    far[place + 5u] = sums.of_weights.mean;
    far[place + 6u] = sums.of_weights.m2;
}

fn write_state(index: u32, tops: FarTops, row: FarRow, sums: Sums, inv_sum: f32) {
    let place = shift(6u) + index * 5u;
    let is_far = row.is_far && !has(SIGMOID);
    let lse = select(row.top, 0.0, has(SIGMOID)) + ln_of_number(sums.weights);
    let far_lse = select(MINUS_INFINITY_BITS, INFINITY_BITS, row.top > 0.0);
    state[place] = select(select(bitcast<u32>(lse), far_lse, is_far), MINUS_INFINITY_BITS, sums.weights <= 0.0);
    let far_most = select(MINUS_INFINITY_BITS, INFINITY_BITS, tops.above > 0.0);
    let most_is_far = tops.above > 0.0 || tops.near == LEAST;
    state[place + 1u] = select(bitcast<u32>(tops.near), far_most, most_is_far);
    state[place + 2u] = bitcast<u32>(-inv_sum);
    let entropy = max(ln_of_number(sums.weights) - sums.logarithms / max(sums.weights, 1e-37), 0.0);
    state[place + 3u] = bitcast<u32>(select(0.0, entropy, sums.weights > 0.0));
    state[place + 4u] = bitcast<u32>(select(0.0, row.top, row.is_far));
    if (MOMENTS == 0u) {
        return;
    }
    let at = shift(7u) + index * 5u;
    moments[at] = bitcast<u32>(sums.of_scores.weight);
    let mean = most_of(tops) + sums.of_scores.mean;
    if (is_in_units(tops)) {
        moments[at + 1u] = bits_of_units(mean);
        moments[at + 2u] = select(0u, INFINITY_BITS, sums.of_scores.m2 > 0.0);
    } else {
        moments[at + 1u] = bitcast<u32>(mean);
        moments[at + 2u] = squares_bits(sums.of_scores.m2);
    }
    let spread = select(0u, INFINITY_BITS, sums.of_weights.m2 > 0.0);
    moments[at + 4u] = select(variance_bits(sums.of_weights), spread, is_of_units(tops));
}

/// The bits of x 2^140.
fn bits_of_units(x: f32) -> u32 {
    if (exponent_of(x) + 140 > 127) {
        return select(MINUS_INFINITY_BITS, INFINITY_BITS, x > 0.0);
    }
    return bitcast<u32>(lifted(x, 140));
}
