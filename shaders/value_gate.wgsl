// value_gate: y = gate v, each value times the gate of its key; zeros where the key is not real.
// v, gate, lengths: see shared/value_gate.wgsl; y: as v.
// A thread makes a number.
#use value_gate

@group(0) @binding(4) var<storage, read_write> y: array<Stored>;

@compute @workgroup_size(256)
fn main(@builtin(local_invocation_index) thread: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let place = index_of_group(group) * 256u + thread;
    if (place < params.count * params.width) {
        y[shift(3u) + place] = gated(v[shift(0u) + place], place / params.width);
    }
}
