// attention_backward_q: dq = temperature scale sum_j dz_j k_j for each query, and the parts of its row in the gradients of
// temperature, sink, slope and sigmoid bias.
// q, k, v: see shared/attention.wgsl; dout: as out, rows: (rows, 12), dq: as q.
// A workgroup takes BR queries of a head, TPR threads for each, and goes through the keys in tiles of BC.
#use attention_gradient

@group(0) @binding(6) var<storage, read> dout: array<Stored>;
@group(0) @binding(7) var<storage, read_write> rows: array<f32>;
@group(0) @binding(8) var<storage, read_write> dq: array<Stored>;

const OWN: u32 = SIZE / TPR;

var<workgroup> k_tile: array<f32, BC * SIZE>;
var<workgroup> v_tile: array<f32, BC * SIZE>;
var<workgroup> q_tile: array<f32, BR * (SIZE + 1u)>;
var<workgroup> dout_tile: array<f32, BR * (SIZE + 1u)>;
var<workgroup> parts: array<f32, BR * BC>;
var<workgroup> sums: array<vec4<f32>, BR * TPR>;

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
    let place_of_row = shift(6u) + (pair * params.queries + query) * 12u;
    let row = Row(
        rows[place_of_row], rows[place_of_row + 1u], rows[place_of_row + 2u], rows[place_of_row + 3u],
        rows[place_of_row + 4u], rows[place_of_row + 5u], temperature_of(batch, head, query), span_of(batch, query),
        kind_of(bitcast<u32>(rows[place_of_row])),
    );

    for (var place = thread; place < BR * SIZE; place += BR * TPR) {
        let of_block = place / SIZE;
        let column = place % SIZE;
        let start = pair * params.queries + block + of_block;
        var number = 0.0;
        var gradient = 0.0;
        if (block + of_block < params.queries && column < params.dim) {
            number = real(unpack(q[shift(0u) + start * params.dim + column]));
        }
        if (block + of_block < params.queries && column < params.value_dim) {
            gradient = real(unpack(dout[shift(5u) + start * params.value_dim + column]));
        }
        q_tile[of_block * (SIZE + 1u) + column] = number;
        dout_tile[of_block * (SIZE + 1u) + column] = gradient;
    }

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
        for (var place = thread; place < BC * SIZE; place += BR * TPR) {
            let key = start + place / SIZE;
            let column = place % SIZE;
            var of_key = 0.0;
            var of_value = 0.0;
            if (key < ends.y && column < params.dim) {
                of_key = real(unpack(k[shift(1u) + (key_pair * params.keys + key) * params.dim + column]));
            }
            if (key < ends.y && column < params.value_dim) {
                of_value = real(unpack(v[shift(2u) + (key_pair * params.keys + key) * params.value_dim + column]));
            }
            k_tile[place] = of_key;
            v_tile[place] = of_value;
        }
        workgroupBarrier();
        for (var key = lane; key < BC; key += TPR) {
            var dot = 0.0;
            for (var column = 0u; column < params.dim; column++) {
                dot += q_tile[own_row * (SIZE + 1u) + column] * k_tile[key * SIZE + column];
            }
            var dp = 0.0;
            for (var column = 0u; column < params.value_dim; column++) {
                dp += dout_tile[own_row * (SIZE + 1u) + column] * v_tile[key * SIZE + column];
            }
            let one = gradient_of(row, batch, head, query, start + key, dot, dp);
            parts[own_row * BC + key] = one.dz;
            of_bias += one.ds;
            of_slope -= one.ds * abs(f32(position_of(batch, query) - i32(start + key)));
        }
        workgroupBarrier();
        for (var key = 0u; key < BC; key++) {
            let dz = parts[own_row * BC + key];
            // What is hidden may hold a NaN: it is passed over, not multiplied by 0.
            if (dz != 0.0) {
                for (var column = 0u; column < OWN; column++) {
                    mixed[column] += dz * k_tile[key * SIZE + lane + column * TPR];
                }
            }
        }
    }
    var of_temperature = 0.0;
    for (var column = 0u; column < OWN; column++) {
        let gradient = mixed[column] * params.scale;
        of_temperature += gradient * q_tile[own_row * (SIZE + 1u) + lane + column * TPR];
        if (live && lane + column * TPR < params.dim) {
            let place = (pair * params.queries + query) * params.dim + lane + column * TPR;
            dq[shift(7u) + place] = pack(flushed(gradient * row.temperature));
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
    if (has(SINKS) && row.kind == FINE && !is_hidden(bitcast<u32>(sink_of(head)))) {
        let p = exp_below(sink_of(head), row.top, 1.0) * row.inv_sum;
        of_sink = p * (row.dlse - row.delta - row.dentropy * (ln_of_number(p) + row.entropy));
    }
    rows[place_of_row + 6u] = total.x;
    rows[place_of_row + 7u] = of_sink;
    rows[place_of_row + 8u] = total.y;
    rows[place_of_row + 9u] = total.z;
}
