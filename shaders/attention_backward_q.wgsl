// attention_backward_q: dq = temperature scale sum_j dz_j k_j for each query, and the parts of its row in the gradients of
// temperature, sink, slope and sigmoid bias.
// q, k, v: see shared/attention.wgsl; dout: as out, rows: (rows, 12), dq: as q.
// A workgroup takes BR queries of a head, TPR threads for each, and goes through the keys in tiles of BC.
#use attention_tiles

@group(0) @binding(8) var<storage, read_write> dq: array<Stored>;

var<workgroup> parts: array<f32, BR * BC>;
var<workgroup> sums: array<vec4<f32>, BR * TPR>;

@compute @workgroup_size(BR * TPR)
fn main(@builtin(local_invocation_index) thread: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let blocks = (params.queries + BR - 1u) / BR;
    let index = index_of_group(group);
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
    let row = row_of(batch, head, pair, query);

    load_own(thread, true, pair, block);
    var mixed: array<f32, OWN>;
    for (var column = 0u; column < OWN; column++) {
        mixed[column] = 0.0;
    }
    var of_slope = 0.0;
    var of_bias = 0.0;
    let last = min(block + BR, params.queries) - 1u;
    let ends = vec2<u32>(span_of(batch, block).x, span_of(batch, min(last, max(real_queries(batch), 1u) - 1u)).y);
    let begin = ends.x / BC * BC;
    for (var start = begin; start < ends.y; start += BC) {
        workgroupBarrier();
        load_seen(thread, false, key_pair, start, ends.y);
        workgroupBarrier();
        for (var key = lane; key < BC; key += TPR) {
            let products = products_of(own_row, key);
            let one = gradient_of(row, batch, head, query, start + key, products.x, products.y);
            parts[own_row * BC + key] = one.dz;
            of_bias += one.ds;
            of_slope -= one.ds * distance_of(batch, query, start + key);
        }
        workgroupBarrier();
        for (var key = 0u; key < BC; key++) {
            let dz = parts[own_row * BC + key];
            // What is hidden may hold a NaN: it is passed over, not multiplied by 0.
            if (dz != 0.0) {
                for (var column = 0u; column < OWN; column++) {
                    mixed[column] += dz * seen[key * SIZE + lane + column * TPR].x;
                }
            }
        }
    }
    var of_temperature = 0.0;
    for (var column = 0u; column < OWN; column++) {
        let gradient = mixed[column] * params.scale;
        of_temperature += gradient * own[own_row * (SIZE + 1u) + lane + column * TPR].x;
        if (live && lane + column * TPR < params.dim) {
            let place = shift(7u) + (pair * params.queries + query) * params.dim + lane + column * TPR;
            var earlier = 0.0;
            if (has(ADDS)) {
                earlier = real(unpack(dq[place]));
            }
            dq[place] = pack(flushed(earlier + gradient * row.temperature));
        }
    }
    sums[thread] = vec4<f32>(of_temperature, of_slope, of_bias, 0.0);
    workgroupBarrier();
    if (!live || lane != 0u) {
        return;
    }
    var total = vec4<f32>(0.0, 0.0, 0.0, 0.0);
    for (var other = 0u; other < TPR; other++) {
        total += sums[thread + other];
    }
    var of_sink = 0.0;
    if (has(SINKS) && row.kind == FINE && !row.is_far && !is_hidden(bitcast<u32>(sink_of(head)))) {
        let p = exp_below(sink_of(head), row.top, 1.0) * row.inv_sum;
        of_sink = p * (row.dlse - row.delta - row.dentropy * (ln_of_number(p) + row.entropy));
    }
    let place_of_row = shift(6u) + (pair * params.queries + query) * 12u;
    if (has(ADDS)) {
        total += vec4<f32>(rows[place_of_row + 6u], rows[place_of_row + 8u], rows[place_of_row + 9u], 0.0);
    }
    rows[place_of_row + 6u] = total.x;
    rows[place_of_row + 7u] = of_sink;
    rows[place_of_row + 8u] = total.y;
    rows[place_of_row + 9u] = total.z;
}
