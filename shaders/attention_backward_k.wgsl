// attention_backward_k: dv = sum_i p_i dout_i and dk = scale sum_i temperature_i dz_i q_i for each key, over all queries
// and heads that it serves, in their order.
// q, k, v: see shared/attention.wgsl; dout: as out, rows: (rows, 12), dk: as k, dv: as v.
// A workgroup takes BR keys of a key head, TPR threads for each, and goes through the queries in tiles of BC.
#use attention_tiles

@group(0) @binding(8) var<storage, read_write> dk: array<Stored>;
@group(0) @binding(9) var<storage, read_write> dv: array<Stored>;

/// Weights and gradients of dot products; weights are below 0 where the key is hidden.
var<workgroup> parts: array<vec2<f32>, BR * BC>;

@compute @workgroup_size(BR * TPR)
fn main(@builtin(local_invocation_index) thread: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let blocks = (params.keys + BR - 1u) / BR;
    let index = index_of_group(group);
    let key_pair = index / blocks;
    let key_heads = params.heads / params.share;
    if (key_pair >= params.batch * key_heads) {
        return;
    }
    let batch = key_pair / key_heads;
    let block = index % blocks * BR;
    let own_row = thread / TPR;
    let lane = thread % TPR;
    let key = block + own_row;
    let live = key < params.keys;

    load_own(thread, false, key_pair, block);
    // To the key in x, to its value in y.
    var mixed: array<vec2<f32>, OWN>;
    for (var column = 0u; column < OWN; column++) {
        mixed[column] = vec2<f32>(0.0, 0.0);
        if (has(ADDS)) {
            mixed[column] = earlier(key_pair * params.keys + min(key, params.keys - 1u), lane + column * TPR);
        }
    }
    for (var member = 0u; member < params.share; member++) {
        let head = key_pair % key_heads * params.share + member;
        let pair = batch * params.heads + head;
        for (var start = 0u; start < params.queries; start += BC) {
            let last = min(start + BC, params.queries) - 1u;
            let first_key = span_of(batch, start).x;
            let end_key = span_of(batch, min(last, max(real_queries(batch), 1u) - 1u)).y;
            // Spans move forward with the queries: a tile none of which sees a key of the block is left out.
            if (block >= end_key || block + BR <= first_key) {
                continue;
            }
            workgroupBarrier();
            load_seen(thread, true, pair, start, params.queries);
            workgroupBarrier();
            for (var other = lane; other < BC; other += TPR) {
                let query = min(start + other, params.queries - 1u);
                let products = products_of(own_row, other);
                let row = row_of(batch, head, pair, query);
                let one = gradient_of(row, batch, head, query, key, products.x, products.y);
                let is_seen = one.seen && start + other < params.queries && live;
                let both = vec2<f32>(one.dz * row.temperature * params.scale, one.p);
                parts[own_row * BC + other] = select(vec2<f32>(0.0, -1.0), both, is_seen);
            }
            workgroupBarrier();
            for (var other = 0u; other < BC; other++) {
                let part = parts[own_row * BC + other];
                // Not "at least 0", which a NaN is not.
                if (part.y != -1.0) {
                    for (var column = 0u; column < OWN; column++) {
                        mixed[column] += part * seen[other * SIZE + lane + column * TPR];
                    }
                }
            }
        }
    }
    if (!live) {
        return;
    }
    let row = key_pair * params.keys + key;
    for (var column = 0u; column < OWN; column++) {
        let place = lane + column * TPR;
        if (place < params.dim) {
            dk[shift(7u) + row * params.dim + place] = pack(flushed(mixed[column].x));
        }
        if (place < params.value_dim) {
            dv[shift(8u) + row * params.value_dim + place] = pack(flushed(mixed[column].y));
        }
    }
}

/// What earlier parts of the queries have left.
fn earlier(row: u32, column: u32) -> vec2<f32> {
    var both = vec2<f32>(0.0, 0.0);
    if (column < params.dim) {
        both.x = real(unpack(dk[shift(7u) + row * params.dim + column]));
    }
    if (column < params.value_dim) {
        both.y = real(unpack(dv[shift(8u) + row * params.value_dim + column]));
    }
    return both;
}
