// attention_map: the weights of a head averaged over bins of queries and summed over bins of keys, or the largest of each bin.
// q, k: see shared/attention.wgsl; state: (rows, 5), map: (batch, heads, map_rows, map_columns).
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
        let from_state = shift(5u) + (pair * params.queries + query) * 5u;
        let most = state[from_state + 1u];
        let inv_sum = state[from_state + 2u];
        kind = max(kind, kind_of(inv_sum));
        if (kind != FINE) {
            continue;
        }
        let span = span_of(batch, query);
        let row = row_of_state(head, most, real(state[from_state + 4u]));
        let bias = sigmoid_bias_of(batch, head, query);
        let factor = select(abs(real(inv_sum)), 1.0, has(SIGMOID));
        let temperature = temperature_of(batch, head, query);
        let is_marked = real(inv_sum) < 0.0;
        // An empty row may be NaN where it was asked for; its sum is not.
        if (!is_marked && (is_hidden(most) || kind_of(most) != FINE)) {
            continue;
        }
        for (var key = max(first_key, span.x); key < min(end_key, span.y); key++) {
            var one = FarScore(Score(LEAST, false, FINE, 0.0), 0.0);
            if (is_marked) {
                one = far_score(batch, head, query, key, span, temperature);
            } else {
                var dot = 0.0;
                for (var column = 0u; column < params.dim; column++) {
                    dot += of_query(pair, query, column) * of_key(key_pair, key, column);
                }
                one.one = score(batch, head, query, key, span, dot, temperature);
            }
            if (one.one.seen) {
                let weight = far_weight(row, one, bias) * factor;
                sum = select(sum + weight, max(sum, weight), has(MAX_POOLING));
            }
        }
    }
    var pooled = sum / select(f32(max(end - first, 1u)), 1.0, has(MAX_POOLING));
    if (has(ADDS)) {
        let earlier = map[shift(6u) + index];
        kind = max(kind, kind_of(earlier));
        pooled = select(pooled + real(earlier), max(pooled, real(earlier)), has(MAX_POOLING));
    }
    map[shift(6u) + index] = select(bitcast<u32>(pooled), NAN_BITS, kind != FINE);
}
