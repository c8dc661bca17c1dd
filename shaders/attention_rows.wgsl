// attention_rows: what the gradients of attention need of each row, from its forward pass and the gradients of its results.
// out, dout: (batch, heads, queries, value_dim), state: (rows, 4), upstream: (rows, 2) of dlse and dentropy, rows: (rows, 12).
// A thread takes a row.
#use attention

@group(0) @binding(6) var<storage, read> out: array<Stored>;
@group(0) @binding(7) var<storage, read> dout: array<Stored>;
@group(0) @binding(8) var<storage, read> state: array<u32>;
@group(0) @binding(9) var<storage, read> upstream: array<f32>;
@group(0) @binding(10) var<storage, read_write> rows: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(local_invocation_index) thread: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let row = (group.x + group.y * params.wide) * 64u + thread;
    if (row >= params.batch * params.heads * params.queries) {
        return;
    }
    let head = row / params.queries % params.heads;
    var delta = 0.0;
    for (var column = 0u; column < params.value_dim; column++) {
        let place = row * params.value_dim + column;
        delta += real(unpack(out[shift(5u) + place])) * real(unpack(dout[shift(6u) + place]));
    }
    let from_state = shift(7u) + row * 4u;
    let most = state[from_state + 1u];
    var top = real(most);
    if (has(SINKS) && kind_of(most) == FINE && !is_hidden(bitcast<u32>(sink_of(head)))) {
        top = select(max(top, sink_of(head)), sink_of(head), is_hidden(most));
    }
    let place = shift(9u) + row * 12u;
    let from_upstream = shift(8u) + 2u * row;
    rows[place] = top;
    rows[place + 1u] = real(state[from_state + 2u]);
    rows[place + 2u] = real(state[from_state + 3u]);
    rows[place + 3u] = select(0.0, upstream[select(0u, from_upstream, has(DLSE))], has(DLSE));
    rows[place + 4u] = select(0.0, upstream[select(0u, from_upstream + 1u, has(DENTROPY))], has(DENTROPY));
    rows[place + 5u] = delta;
}
