// attention_far_rows: for the gradients, the tops of the rows whose products left the range of float32.
// q, k: see shared/attention.wgsl; rows: (rows, 12).
// A thread takes a row, and leaves it if it is not marked.
#use attention_far

@group(0) @binding(6) var<storage, read_write> rows: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(local_invocation_index) thread: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let index = index_of_group(group) * 64u + thread;
    if (index >= params.batch * params.heads * params.queries) {
        return;
    }
    let place = shift(5u) + index * 12u;
    if (rows[place + 1u] < 0.0) {
        let row = far_row(
            index / (params.heads * params.queries), index / params.queries % params.heads, index % params.queries,
        );
        rows[place] = row.top;
        rows[place + 10u] = select(0.0, 1.0, row.is_far);
    }
}
