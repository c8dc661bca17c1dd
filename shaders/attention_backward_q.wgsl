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
    let block = block_of(group);
    if (is_beyond(block)) {
        return;
    }
    let seat = seat_of(block, thread);
    let row = row_of(block.batch, block.head, block.pair, seat.query);

    load_own(thread, true, block.pair, block.first);
    var mixed: array<f32, OWN>;
    for (var column = 0u; column < OWN; column++) {
        mixed[column] = 0.0;
    }
    var of_slope = 0.0;
    var of_bias = 0.0;
    let keys = keys_of(block);
    for (var start = keys.x; start < keys.y; start += BC) {
        workgroupBarrier();
        load_seen(thread, false, block.key_pair, start, keys.y);
        workgroupBarrier();
        for (var key = seat.lane; key < BC; key += TPR) {
            let products = products_of(seat.row, key);
            let one = gradient_of(row, block.batch, block.head, seat.query, start + key, products.x, products.y);
            parts[seat.row * BC + key] = one.dz;
            of_bias += one.ds;
            of_slope -= one.ds * distance_of(block.batch, seat.query, start + key);
        }
        workgroupBarrier();
        for (var key = 0u; key < BC; key++) {
            let dz = parts[seat.row * BC + key];
            // What is hidden may hold a NaN: it is passed over, not multiplied by 0.
            if (dz != 0.0) {
                for (var column = 0u; column < OWN; column++) {
                    mixed[column] += dz * seen[key * SIZE + seat.lane + column * TPR].x;
                }
            }
        }
    }
    var of_temperature = 0.0;
    for (var column = 0u; column < OWN; column++) {
        let gradient = mixed[column] * params.scale;
        of_temperature += gradient * own[seat.row * (SIZE + 1u) + seat.lane + column * TPR].x;
        if (seat.live && seat.lane + column * TPR < params.dim) {
            let place = shift(7u) + (block.pair * params.queries + seat.query) * params.dim + seat.lane + column * TPR;
            var earlier = 0.0;
            if (has(ADDS)) {
                earlier = real(unpack(dq[place]));
            }
            dq[place] = pack(flushed(earlier + gradient * row.temperature));
        }
    }
    sums[thread] = vec4<f32>(of_temperature, of_slope, of_bias, 0.0);
    workgroupBarrier();
    if (!seat.live || seat.lane != 0u) {
        return;
    }
    var total = vec4<f32>(0.0, 0.0, 0.0, 0.0);
    for (var other = 0u; other < TPR; other++) {
        total += sums[thread + other];
    }
    var of_sink = 0.0;
    if (has_sink(block.head) && row.kind == FINE && !row.is_far) {
        let p = exp_below(sink_of(block.head), row.top, 1.0) * row.inv_sum;
        of_sink = p * (row.dlse - row.delta - row.dentropy * (ln_of_number(p) + row.entropy));
    }
    let place_of_row = shift(6u) + (block.pair * params.queries + seat.query) * 12u;
    if (has(ADDS)) {
        total += vec4<f32>(rows[place_of_row + 6u], rows[place_of_row + 8u], rows[place_of_row + 9u], 0.0);
    }
    rows[place_of_row + 6u] = total.x;
    rows[place_of_row + 7u] = of_sink;
    rows[place_of_row + 8u] = total.y;
    rows[place_of_row + 9u] = total.z;
}
