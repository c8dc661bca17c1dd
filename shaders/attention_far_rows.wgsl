// attention_far_rows: for the gradients, the tops of the rows whose products left the range of float32.
// q, k: see shared/attention.wgsl; rows: (rows, 12).
// A thread takes a row, and leaves it if it is not marked. Between parts of the keys the tops are where the gradients of the row
// come later.
#use attention_far_tops

@group(0) @binding(6) var<storage, read_write> rows: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(local_invocation_index) thread: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let index = index_of_group(group) * 64u + thread;
    if (index >= params.batch * params.heads * params.queries) {
        return;
    }
    let place = shift(5u) + index * 12u;
    let is_marked = rows[place + 1u] < 0.0;
    if (!is_marked) {
        return;
    }
    let head = index / params.queries % params.heads;
    var tops = no_tops();
    if (has(ADDS)) {
        tops.above = rows[place + 6u];
        tops.below = rows[place + 7u];
        tops.near = rows[place + 8u];
    }
    tops = with_keys(tops, index / (params.heads * params.queries), head, index % params.queries);
    rows[place + 6u] = tops.above;
    rows[place + 7u] = tops.below;
    rows[place + 8u] = tops.near;
    let row = row_of_tops(tops, head);
    rows[place] = row.top;
    rows[place + 10u] = select(0.0, 1.0, row.is_far);
}
