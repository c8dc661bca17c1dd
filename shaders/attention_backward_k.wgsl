// attention_backward_k: dv = sum_i p_i dout_i and dk = scale sum_i temperature_i dz_i q_i for each key, over all queries
// and heads that it serves, in their order.
// q, k, v: see shared/attention.wgsl; dout: as out, rows: (rows, 12), dk: as k, dv: as v.
// A workgroup takes BR keys of a key head, TPR threads for each, and goes through the queries in tiles of BC.
#use attention_gradient

@group(0) @binding(6) var<storage, read> dout: array<Stored>;
@group(0) @binding(7) var<storage, read_write> rows: array<f32>;
@group(0) @binding(8) var<storage, read_write> dk: array<Stored>;
@group(0) @binding(9) var<storage, read_write> dv: array<Stored>;

const OWN: u32 = SIZE / TPR;

var<workgroup> q_tile: array<f32, BC * SIZE>;
var<workgroup> dout_tile: array<f32, BC * SIZE>;
var<workgroup> k_tile: array<f32, BR * (SIZE + 1u)>;
var<workgroup> v_tile: array<f32, BR * (SIZE + 1u)>;
/// Weights and gradients of dot products; weights are below 0 where the key is hidden.
var<workgroup> parts: array<vec2<f32>, BR * BC>;

@compute @workgroup_size(BR * TPR)
fn main(@builtin(local_invocation_index) thread: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let blocks = (params.keys + BR - 1u) / BR;
    let index = group.x + group.y * params.wide;
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

    for (var place = thread; place < BR * SIZE; place += BR * TPR) {
        let of_block = place / SIZE;
        let column = place % SIZE;
        let start = key_pair * params.keys + block + of_block;
        var of_key = 0.0;
        var of_value = 0.0;
        if (block + of_block < params.keys && column < params.dim) {
            of_key = real(unpack(k[shift(1u) + start * params.dim + column]));
        }
        if (block + of_block < params.keys && column < params.value_dim) {
            of_value = real(unpack(v[shift(2u) + start * params.value_dim + column]));
        }
        k_tile[of_block * (SIZE + 1u) + column] = of_key;
        v_tile[of_block * (SIZE + 1u) + column] = of_value;
    }

    var to_key: array<f32, OWN>;
    var to_value: array<f32, OWN>;
    for (var column = 0u; column < OWN; column++) {
        to_key[column] = 0.0;
        to_value[column] = 0.0;
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
            for (var place = thread; place < BC * SIZE; place += BR * TPR) {
                let query = start + place / SIZE;
                let column = place % SIZE;
                var number = 0.0;
                var gradient = 0.0;
                if (query < params.queries && column < params.dim) {
                    number = real(unpack(q[shift(0u) + (pair * params.queries + query) * params.dim + column]));
                }
                if (query < params.queries && column < params.value_dim) {
                    let source = (pair * params.queries + query) * params.value_dim + column;
                    gradient = real(unpack(dout[shift(5u) + source]));
                }
                q_tile[place] = number;
                dout_tile[place] = gradient;
            }
            workgroupBarrier();
            for (var other = lane; other < BC; other += TPR) {
                let query = min(start + other, params.queries - 1u);
                var dot = 0.0;
                for (var column = 0u; column < params.dim; column++) {
                    dot += k_tile[own_row * (SIZE + 1u) + column] * q_tile[other * SIZE + column];
                }
                var dp = 0.0;
                for (var column = 0u; column < params.value_dim; column++) {
                    dp += v_tile[own_row * (SIZE + 1u) + column] * dout_tile[other * SIZE + column];
                }
                let source = shift(6u) + (pair * params.queries + query) * 12u;
                let row = Row(
                    rows[source], rows[source + 1u], rows[source + 2u], rows[source + 3u], rows[source + 4u], rows[source + 5u],
                    temperature_of(batch, head, query), span_of(batch, query), kind_of(bitcast<u32>(rows[source])),
                );
                let one = gradient_of(row, batch, head, query, key, dot, dp);
                let seen = one.seen && start + other < params.queries && live;
                let both = vec2<f32>(one.p, one.dz * row.temperature * params.scale);
                parts[own_row * BC + other] = select(vec2<f32>(-1.0, 0.0), both, seen);
            }
            workgroupBarrier();
            for (var other = 0u; other < BC; other++) {
                let part = parts[own_row * BC + other];
                // Not "at least 0", which a NaN is not.
                if (part.x != -1.0) {
                    for (var column = 0u; column < OWN; column++) {
                        to_value[column] += part.x * dout_tile[other * SIZE + lane + column * TPR];
                        to_key[column] += part.y * q_tile[other * SIZE + lane + column * TPR];
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
            dk[shift(7u) + row * params.dim + place] = pack(flushed(to_key[column]));
        }
        if (place < params.value_dim) {
            dv[shift(8u) + row * params.value_dim + place] = pack(flushed(to_value[column]));
        }
    }
}
