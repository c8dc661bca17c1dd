// attention_far: the rows of attention whose products left the range of float32, computed anew.
// q, k, v: see shared/attention.wgsl; out: (batch, heads, queries, value_dim), state: (batch, heads, queries, 4).
// A thread takes a row, and leaves it if it is as it should be.
#use attention_far
#use attention_dropout

@group(0) @binding(6) var<storage, read_write> out: array<Stored>;
@group(0) @binding(7) var<storage, read_write> state: array<u32>;

/// Columns of the output that are made at once.
const COLUMNS: u32 = 16u;

@compute @workgroup_size(64)
fn main(@builtin(local_invocation_index) thread: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let index = index_of_group(group) * 64u + thread;
    if (index >= params.batch * params.heads * params.queries) {
        return;
    }
    let place = shift(6u) + index * 4u;
    let most = state[place + 1u];
    let batch = index / (params.heads * params.queries);
    let head = index / params.queries % params.heads;
    let query = index % params.queries;
    let span = span_of(batch, query);
    if (span.x >= span.y || !(is_hidden(most) || kind_of(most) != FINE)) {
        return;
    }
    let row = far_row(batch, head, query);
    if (row.kind != FINE || !row.seen) {
        return;
    }
    let temperature = temperature_of(batch, head, query);
    let sigmoid_bias = sigmoid_bias_of(batch, head, query);
    let inv_sum = select(0.0, 1.0 / max(row.sum, 1e-37), row.sum > 0.0);
    let factor = select(inv_sum, 1.0, has(SIGMOID));
    let key_pair = batch * (params.heads / params.share) + head / params.share;
    for (var first = 0u; first < params.value_dim; first += COLUMNS) {
        var mixed: array<f32, COLUMNS>;
        for (var column = 0u; column < COLUMNS; column++) {
            mixed[column] = 0.0;
        }
        for (var key = span.x; key < span.y; key++) {
            let one = far_score(batch, head, query, key, span, temperature);
            if (one.one.seen) {
                let weight = far_weight(row, one, sigmoid_bias) * factor * kept_share(batch, head, query, key);
                let start = shift(2u) + (key_pair * params.keys + key) * params.value_dim;
                for (var column = first; column < min(first + COLUMNS, params.value_dim); column++) {
                    mixed[column - first] += weight * real(unpack(v[start + column]));
                }
            }
        }
        for (var column = first; column < min(first + COLUMNS, params.value_dim); column++) {
            out[shift(5u) + index * params.value_dim + column] = pack(bitcast<u32>(mixed[column - first]));
        }
    }
    let is_far = row.is_far && !has(SIGMOID);
    let lse = select(row.top, 0.0, has(SIGMOID)) + ln_of_number(row.sum);
    let far_lse = select(MINUS_INFINITY_BITS, INFINITY_BITS, row.top > 0.0);
    state[place] = select(select(bitcast<u32>(lse), far_lse, is_far), MINUS_INFINITY_BITS, row.sum <= 0.0);
    let far_most = select(MINUS_INFINITY_BITS, INFINITY_BITS, row.most > 0.0);
    state[place + 1u] = select(bitcast<u32>(row.most), far_most, row.most_is_far);
    state[place + 2u] = bitcast<u32>(-inv_sum);
    let entropy = max(ln_of_number(row.sum) - row.moment / max(row.sum, 1e-37), 0.0);
    state[place + 3u] = bitcast<u32>(select(0.0, entropy, row.sum > 0.0));
}
