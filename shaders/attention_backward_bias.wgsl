// attention_backward_bias: the gradient of the bias, ds summed over the axes along which it is broadcast, in their order.
// q, k, v: see shared/attention.wgsl; dout: as out, rows: (rows, 12), dbias: the bias without its broadcast axes.
// A thread takes a number of the bias: its scores are computed anew, none is kept.
#use attention_gradient

@group(0) @binding(8) var<storage, read_write> dbias: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(local_invocation_index) thread: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let lengths = vec4<u32>(params.batch, params.heads, params.queries, params.keys);
    let is_kept = (vec4<u32>(params.map_rows) & vec4<u32>(1u, 2u, 4u, 8u)) != vec4<u32>(0u);
    let kept = select(vec4<u32>(1u), lengths, is_kept);
    let index = index_of_group(group) * 64u + thread;
    if (index >= kept.x * kept.y * kept.z * kept.w) {
        return;
    }
    let place = vec4<u32>(
        index / (kept.y * kept.z * kept.w), index / (kept.z * kept.w) % kept.y, index / kept.w % kept.z, index % kept.w,
    );
    let first = select(vec4<u32>(0u), place, is_kept);
    let end = select(lengths, place + 1u, is_kept);
    var sum = 0.0;
    for (var batch = first.x; batch < end.x; batch++) {
        for (var head = first.y; head < end.y; head++) {
            let pair = batch * params.heads + head;
            let key_pair = batch * (params.heads / params.share) + head / params.share;
            for (var query = first.z; query < end.z; query++) {
                let row = row_of(batch, head, pair, query);
                for (var key = max(first.w, row.span.x); key < min(end.w, row.span.y); key++) {
                    var products = vec2<f32>(0.0, 0.0);
                    for (var column = 0u; column < max(params.dim, params.value_dim); column += 8u) {
                        products += four(pair, query, key_pair, key, column);
                        products += four(pair, query, key_pair, key, column + 4u);
                    }
                    sum += gradient_of(row, batch, head, query, key, products.x, products.y).ds;
                }
            }
        }
    }
    let strides = vec4<u32>(params.dbias_batch, params.dbias_head, params.dbias_query, params.dbias_key);
    let steps = select(vec4<u32>(0u), place + vec4<u32>(0u, 0u, 0u, params.first_key), is_kept) * strides;
    let at = shift(7u) + steps.x + steps.y + steps.z + steps.w;
    if (has(ADDS)) {
        sum += dbias[at];
    }
    dbias[at] = sum;
}

/// What four columns add to the products of query and key, and of the output's gradient and value.
fn four(pair: u32, query: u32, key_pair: u32, key: u32, column: u32) -> vec2<f32> {
    return both_of_query(pair, query, column) * both_of_key(key_pair, key, column)
        + both_of_query(pair, query, column + 1u) * both_of_key(key_pair, key, column + 1u)
        + both_of_query(pair, query, column + 2u) * both_of_key(key_pair, key, column + 2u)
        + both_of_query(pair, query, column + 3u) * both_of_key(key_pair, key, column + 3u);
}
