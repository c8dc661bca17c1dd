// attention: o = softmax(s) v, or sigmoid(s) v, for each query, and lse, largest score, 1 / sum and entropy of its row.
// q, k, v: see shared/attention.wgsl; out: (batch, heads, queries, value_dim), state: (batch, heads, queries, 4).
// A workgroup takes BR queries of a head, TPR threads for each, and goes through the keys in tiles of BC; the sums are
// rescaled whenever the maximum grows (Milakov and Gimelshein, arXiv 1805.02867).
#use attention

@group(0) @binding(6) var<storage, read_write> out: array<Stored>;
@group(0) @binding(7) var<storage, read_write> state: array<u32>;

/// Columns of queries and values that a thread keeps.
const OWN: u32 = SIZE / TPR;

/// A tile of keys, and then of values.
var<workgroup> tile: array<f32, BC * SIZE>;
var<workgroup> q_tile: array<f32, BR * (SIZE + 1u)>;
/// Scores, then weights; below 0 where a key is hidden.
var<workgroup> weights: array<f32, BR * BC>;
var<workgroup> worst: array<f32, BR * TPR>;

@compute @workgroup_size(BR * TPR)
fn main(@builtin(local_invocation_index) thread: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let blocks = (params.queries + BR - 1u) / BR;
    let index = group.x + group.y * params.wide;
    let pair = index / blocks;
    if (pair >= params.batch * params.heads) {
        return;
    }
    let batch = pair / params.heads;
    let head = pair % params.heads;
    let block = index % blocks * BR;
    let own_row = thread / TPR;
    let lane = thread % TPR;
    let query = min(block + own_row, params.queries - 1u);
    let live = block + own_row < params.queries;
    let key_pair = batch * (params.heads / params.share) + head / params.share;
    let temperature = temperature_of(batch, head, query);
    let span = span_of(batch, query);
    let is_sigmoid = has(SIGMOID);
    let shift_of_row = sigmoid_bias_of(batch, head, query);

    for (var place = thread; place < BR * SIZE; place += BR * TPR) {
        let row = place / SIZE;
        let column = place % SIZE;
        var number = 0.0;
        if (block + row < params.queries && column < params.dim) {
            number = real(unpack(q[shift(0u) + (pair * params.queries + block + row) * params.dim + column]));
        }
        q_tile[row * (SIZE + 1u) + column] = number;
    }

    var top = LEAST;
    var most = LEAST;
    var sum = 0.0;
    var moment = 0.0;
    var kind = FINE;
    var seen_any = false;
    if (has(SINKS) && !is_hidden(bitcast<u32>(sink_of(head)))) {
        top = sink_of(head);
        sum = 1.0;
    }
    var mixed: array<f32, OWN>;
    for (var column = 0u; column < OWN; column++) {
        mixed[column] = 0.0;
    }

    // Whole tiles that no query of the block sees are left out: the spans of its first and last query bound it.
    let last = min(block + BR, params.queries) - 1u;
    let ends = vec2<u32>(span_of(batch, block).x, span_of(batch, min(last, max(real_queries(batch), 1u) - 1u)).y);
    let begin = ends.x / BC * BC;
    for (var start = begin; start < ends.y; start += BC) {
        workgroupBarrier();
        for (var place = thread; place < BC * SIZE; place += BR * TPR) {
            let row = start + place / SIZE;
            let column = place % SIZE;
            var number = 0.0;
            if (row < ends.y && column < params.dim) {
                number = real(unpack(k[shift(1u) + (key_pair * params.keys + row) * params.dim + column]));
            }
            tile[place] = number;
        }
        workgroupBarrier();
        var tile_top = LEAST;
        var tile_kind = FINE;
        for (var key = lane; key < BC; key += TPR) {
            var dot = 0.0;
            for (var column = 0u; column < params.dim; column++) {
                dot += q_tile[own_row * (SIZE + 1u) + column] * tile[key * SIZE + column];
            }
            let one = score(batch, head, query, start + key, span, dot, temperature);
            tile_kind = max(tile_kind, one.kind);
            // A hidden key is marked by the least number; no score that can be computed with is as low.
            weights[own_row * BC + key] = select(LEAST, max(one.s, LEAST * 0.999999), one.seen && one.kind == FINE);
        }
        worst[thread] = tile_kind;
        workgroupBarrier();
        for (var other = 0u; other < TPR; other++) {
            kind = max(kind, worst[own_row * TPR + other]);
        }
        for (var key = 0u; key < BC; key++) {
            tile_top = max(tile_top, weights[own_row * BC + key]);
        }
        most = max(most, tile_top);
        seen_any = seen_any || tile_top > LEAST;
        let next = max(top, tile_top);
        let shrink = select(exp_below(top, next, 1.0), 1.0, is_sigmoid);
        if (!is_sigmoid && sum > 0.0 && shrink > 0.0) {
            moment = shrink * (moment - distance(next, top) * sum);
        } else if (!is_sigmoid) {
            moment = 0.0;
        }
        sum *= shrink;
        top = next;
        for (var column = 0u; column < OWN; column++) {
            mixed[column] *= shrink;
        }
        workgroupBarrier();
        for (var key = lane; key < BC; key += TPR) {
            let s = weights[own_row * BC + key];
            var weight = -1.0;
            if (s > LEAST) {
                weight = select(exp_below(s, top, 1.0), sigmoid(s + shift_of_row), is_sigmoid);
            }
            weights[own_row * BC + key] = weight;
            worst[thread] = 0.0;
        }
        workgroupBarrier();
        for (var place = thread; place < BC * SIZE; place += BR * TPR) {
            let row = start + place / SIZE;
            let column = place % SIZE;
            var number = 0.0;
            if (row < ends.y && column < params.value_dim) {
                number = real(unpack(v[shift(2u) + (key_pair * params.keys + row) * params.value_dim + column]));
            }
            tile[place] = number;
        }
        workgroupBarrier();
        for (var key = 0u; key < BC; key++) {
            let weight = weights[own_row * BC + key];
            // What is hidden may hold a NaN: it is passed over, not multiplied by 0.
            if (weight >= 0.0) {
                sum += weight;
                if (weight > 0.0) {
                    moment += weight * ln_of_number(weight);
                }
                for (var column = 0u; column < OWN; column++) {
                    mixed[column] += weight * tile[key * SIZE + lane + column * TPR];
                }
            }
        }
    }
    if (!live) {
        return;
    }
    let row = pair * params.queries + query;
    let is_empty = !seen_any && has(EMPTY_IS_NAN);
    let is_nan = kind != FINE || is_empty;
    let factor = select(select(0.0, 1.0 / max(sum, 1e-37), sum > 0.0), 1.0, is_sigmoid);
    for (var column = 0u; column < OWN; column++) {
        let place = lane + column * TPR;
        if (place < params.value_dim) {
            let bits = bitcast<u32>(mixed[column] * factor);
            out[shift(5u) + row * params.value_dim + place] = pack(select(bits, NAN_BITS, is_nan));
        }
    }
    if (lane != 0u) {
        return;
    }
    let base = select(top, 0.0, is_sigmoid);
    let lse = select(bitcast<u32>(base + ln_of_number(sum)), MINUS_INFINITY_BITS, sum <= 0.0);
    let spread = max(ln_of_number(sum) - moment / max(sum, 1e-37), 0.0);
    let place = shift(6u) + row * 4u;
    state[place] = select(lse, NAN_BITS, is_nan);
    state[place + 1u] = select(select(MINUS_INFINITY_BITS, bitcast<u32>(most), seen_any), NAN_BITS, is_nan);
    state[place + 2u] = select(bitcast<u32>(select(0.0, 1.0 / max(sum, 1e-37), sum > 0.0)), NAN_BITS, kind != FINE);
    state[place + 3u] = select(bitcast<u32>(select(0.0, spread, sum > 0.0 && seen_any)), NAN_BITS, is_nan);
}

/// a - b for a >= b, not above the largest number.
fn distance(a: f32, b: f32) -> f32 {
    let half = 0.5 * a - 0.5 * b;
    return select(2.0 * half, 3.0e38, half > 1.5e38);
}
