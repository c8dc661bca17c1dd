// attention_rows: what the gradients of attention need of each row, from its forward pass and the gradients of its results.
// out, dout: (batch, heads, queries, value_dim), most, inv_sum, entropy, dlse, dentropy: (batch, heads, queries), aside: see
// shared/attention.wgsl, rows: (batch, heads, queries, 12).
// A thread takes a row.
#use format
#use numbers
#use call

struct Params {
    call: Call,
    count: u32,
    heads: u32,
    queries: u32,
    value_dim: u32,
    flags: u32,
    first_head: u32,
}

const SINKS: u32 = 1u;
const ENTROPY: u32 = 2u;
const DLSE: u32 = 4u;
const DENTROPY: u32 = 8u;

@group(0) @binding(1) var<storage, read> aside: array<f32>;
@group(0) @binding(2) var<storage, read> out: array<Stored>;
@group(0) @binding(3) var<storage, read> dout: array<Stored>;
@group(0) @binding(4) var<storage, read> most: array<u32>;
@group(0) @binding(5) var<storage, read> inv_sum: array<u32>;
@group(0) @binding(6) var<storage, read> entropy: array<f32>;
@group(0) @binding(7) var<storage, read> dlse: array<f32>;
@group(0) @binding(8) var<storage, read> dentropy: array<f32>;
@group(0) @binding(9) var<storage, read_write> rows: array<u32>;

fn has(flag: u32) -> bool {
    return (params.flags & flag) != 0u;
}

@compute @workgroup_size(64)
fn main(@builtin(local_invocation_index) thread: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let row = index_of_group(group) * 64u + thread;
    if (row >= params.count) {
        return;
    }
    var delta = 0.0;
    for (var column = 0u; column < params.value_dim; column++) {
        let place = row * params.value_dim + column;
        delta += bitcast<f32>(unpack(out[shift(1u) + place])) * bitcast<f32>(unpack(dout[shift(2u) + place]));
    }
    var top = most[shift(3u) + row];
    let sum = inv_sum[shift(4u) + row];
    // An empty row may be NaN where it was asked for; its sum is not. A negative sum marks a row that is no empty one.
    let is_marked = kind_of(sum) == FINE && bitcast<f32>(sum) < 0.0;
    let is_empty = !is_marked && (is_hidden(top) || (kind_of(top) != FINE && kind_of(sum) == FINE));
    top = select(top, MINUS_INFINITY_BITS, is_empty);
    if (has(SINKS) && kind_of(top) == FINE) {
        let sink = aside[shift(0u) + 3u * (params.first_head + row / params.queries % params.heads) + 1u];
        if (!is_hidden(bitcast<u32>(sink))) {
            top = bitcast<u32>(select(max(bitcast<f32>(top), sink), sink, is_empty));
        }
    }
    let place = shift(8u) + row * 12u;
    rows[place] = top;
    rows[place + 1u] = sum;
    rows[place + 2u] = bitcast<u32>(select(0.0, entropy[shift(5u) + select(0u, row, has(ENTROPY))], has(ENTROPY)));
    rows[place + 3u] = bitcast<u32>(select(0.0, dlse[shift(6u) + select(0u, row, has(DLSE))], has(DLSE)));
    rows[place + 4u] = bitcast<u32>(select(0.0, dentropy[shift(7u) + select(0u, row, has(DENTROPY))], has(DENTROPY)));
    rows[place + 5u] = bitcast<u32>(select(delta, 0.0, is_empty));
}
