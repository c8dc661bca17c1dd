// attention_top_keys: of each query the keys with the largest scores, the largest first and of equal ones the first key, and
// their weights before dropout.
// q, k: see shared/attention.wgsl; state: (rows, 5), ranks: (rows, count, 2), keys: (rows, count), weights: (rows, count).
// A thread takes a row: its scores are computed anew, and a key goes into the list where it belongs. Where an earlier part had
// other keys it goes on with its list.
#use attention_far

@group(0) @binding(6) var<storage, read> state: array<u32>;
/// What the keys of a list are ordered by: whether a score is beyond the range of float32 (-1, 0 or 1), then itself.
@group(0) @binding(7) var<storage, read_write> ranks: array<f32>;
@group(0) @binding(8) var<storage, read_write> keys: array<u32>;
@group(0) @binding(9) var<storage, read_write> weights: array<u32>;

/// Stands for no key.
const NONE: u32 = 0xffffffffu;

@compute @workgroup_size(64)
fn main(@builtin(local_invocation_index) thread: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let index = index_of_group(group) * 64u + thread;
    if (index >= params.batch * params.heads * params.queries) {
        return;
    }
    let count = params.map_columns;
    let list = index * count;
    var found = 0u;
    if (has(ADDS)) {
        while (found < count && keys[shift(7u) + list + found] != NONE) {
            found++;
        }
    }
    let batch = index / (params.heads * params.queries);
    let head = index / params.queries % params.heads;
    let query = index % params.queries;
    let span = span_of(batch, query);
    let temperature = temperature_of(batch, head, query);
    let sigmoid_bias = sigmoid_bias_of(batch, head, query);
    let from_state = shift(5u) + index * 5u;
    let inv_sum = state[from_state + 2u];
    let is_spoilt = kind_of(inv_sum) != FINE;
    let row = row_of_state(head, state[from_state + 1u], real(state[from_state + 4u]));
    let factor = select(abs(real(inv_sum)), 1.0, has(SIGMOID));
    for (var key = span.x; key < span.y; key++) {
        let one = far_score(batch, head, query, key, span, temperature);
        if (!one.one.seen || one.one.kind != FINE) {
            continue;
        }
        let rank = vec2<f32>(sign(one.far), select(one.one.s, one.far, one.far != 0.0));
        var place = found;
        while (place > 0u && is_above(rank, rank_at(list + place - 1u))) {
            place--;
        }
        if (place == count) {
            continue;
        }
        found = min(found + 1u, count);
        for (var other = found - 1u; other > place; other--) {
            move_to(list + other);
        }
        let weight = far_weight(row, one, sigmoid_bias) * factor;
        put(list + place, params.first_key + key, rank, select(bitcast<u32>(weight), NAN_BITS, is_spoilt));
    }
    for (var place = found; place < count; place++) {
        put(list + place, NONE, vec2<f32>(0.0, 0.0), 0u);
    }
}

fn is_above(a: vec2<f32>, b: vec2<f32>) -> bool {
    return a.x > b.x || (a.x == b.x && a.y > b.y);
}

fn rank_at(place: u32) -> vec2<f32> {
    return vec2<f32>(ranks[shift(6u) + 2u * place], ranks[shift(6u) + 2u * place + 1u]);
}

fn put(place: u32, key: u32, rank: vec2<f32>, weight: u32) {
    ranks[shift(6u) + 2u * place] = rank.x;
    ranks[shift(6u) + 2u * place + 1u] = rank.y;
    keys[shift(7u) + place] = key;
    weights[shift(8u) + place] = weight;
}

/// Moves what is at the place before.
fn move_to(place: u32) {
    put(place, keys[shift(7u) + place - 1u], rank_at(place - 1u), weights[shift(8u) + place - 1u]);
}
