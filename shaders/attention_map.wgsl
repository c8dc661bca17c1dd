// attention_map: the weights of a head averaged over bins of queries and summed over bins of keys.
// q, k: see shared/attention.wgsl; state: (rows, 4), map: (batch, heads, map_rows, map_columns).
// A thread takes a bin: its scores are computed anew, none is kept.
#use attention_far

@group(0) @binding(6) var<storage, read> state: array<u32>;
@group(0) @binding(7) var<storage, read_write> map: array<u32>;

@compute @workgroup_size(64)
fn main(@builtin(local_invocation_index) thread: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let index = index_of_group(group) * 64u + thread;
    let bins = params.map_rows * params.map_columns;
    if (index >= params.batch * params.heads * bins) {
        return;
    }
    let pair = index / bins;
    let batch = pair / params.heads;
    let head = pair % params.heads;
    let key_pair = batch * (params.heads / params.share) + head / params.share;
    let bin_row = index % bins / params.map_columns;
    let bin_column = index % params.map_columns;
    // Bins are those of all queries and keys, of which this part may have some.
    let first = bin_row * params.all_queries / params.map_rows;
    let end = (bin_row + 1u) * params.all_queries / params.map_rows;
    let first_query = max(first, params.first_query) - params.first_query;
    let end_query = clamp(end, params.first_query, params.first_query + params.queries) - params.first_query;
    let end_of_part = params.first_key + params.keys;
    let first_of_bin = bin_column * params.all_keys / params.map_columns;
    let end_of_bin = (bin_column + 1u) * params.all_keys / params.map_columns;
    let first_key = clamp(first_of_bin, params.first_key, end_of_part) - params.first_key;
    let end_key = clamp(end_of_bin, params.first_key, end_of_part) - params.first_key;
    var sum = 0.0;
    var kind = FINE;
    for (var query = first_query; query < end_query; query++) {
        let span = span_of(batch, query);
        let from_state = shift(5u) + (pair * params.queries + query) * 4u;
        let most = state[from_state + 1u];
        kind = max(kind, kind_of(state[from_state + 2u]));
        if (kind == FINE && real(state[from_state + 2u]) < 0.0) {
            sum += far_share(batch, head, query, max(first_key, span.x), min(end_key, span.y));
            continue;
        }
        // An empty row may be NaN where it was asked for; its sum is not.
        if (kind != FINE || is_hidden(most) || kind_of(most) != FINE) {
            continue;
        }
        var top = real(most);
        if (has(SINKS) && !is_hidden(bitcast<u32>(sink_of(head)))) {
            top = max(top, sink_of(head));
        }
        let inv_sum = real(state[from_state + 2u]);
        let temperature = temperature_of(batch, head, query);
        for (var key = max(first_key, span.x); key < min(end_key, span.y); key++) {
            var dot = 0.0;
            for (var column = 0u; column < params.dim; column++) {
                let of_query = real(unpack(q[shift(0u) + (pair * params.queries + query) * params.dim + column]));
                dot += of_query * real(unpack(k[shift(1u) + (key_pair * params.keys + key) * params.dim + column]));
            }
            let one = score(batch, head, query, key, span, dot, temperature);
            if (one.seen && has(SIGMOID)) {
                sum += sigmoid(one.s + sigmoid_bias_of(batch, head, query));
            } else if (one.seen) {
                sum += exp_below(one.s, max(top, one.s), 1.0) * inv_sum;
            }
        }
    }
    var mean = sum / f32(max(end - first, 1u));
    if (has(ADDS)) {
        let earlier = map[shift(6u) + index];
        kind = max(kind, kind_of(earlier));
        mean += real(earlier);
    }
    map[shift(6u) + index] = select(bitcast<u32>(mean), NAN_BITS, kind != FINE);
}

/// The weights of some keys of a row whose products left the range of float32.
fn far_share(batch: u32, head: u32, query: u32, first: u32, end: u32) -> f32 {
    let row = far_row(batch, head, query);
    let span = span_of(batch, query);
    let temperature = temperature_of(batch, head, query);
    let bias = sigmoid_bias_of(batch, head, query);
    var sum = 0.0;
    for (var key = first; key < end; key++) {
        let one = far_score(batch, head, query, key, span, temperature);
        if (one.one.seen) {
            sum += far_weight(row, one, bias);
        }
    }
    return sum / select(max(row.sum, 1e-37), 1.0, has(SIGMOID));
}
