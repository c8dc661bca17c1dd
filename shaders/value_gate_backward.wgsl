// value_gate_backward: dgate = sum_d v_d dgated_d for each key; 0 where the key is not real.
// v, lengths: see shared/value_gate.wgsl; dgated: as v, dgate: (batch, key heads, keys).
// A thread takes a key.
#use value_gate

@group(0) @binding(4) var<storage, read> dgated: array<Stored>;
@group(0) @binding(5) var<storage, read_write> dgate: array<f32>;

@compute @workgroup_size(256)
fn main(@builtin(local_invocation_index) thread: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let row = index_of_group(group) * 256u + thread;
    if (row >= params.count) {
        return;
    }
    var sum = 0.0;
    if (is_real(row)) {
        for (var column = row * params.width; column < (row + 1u) * params.width; column++) {
            sum += bitcast<f32>(unpack(v[shift(0u) + column])) * bitcast<f32>(unpack(dgated[shift(3u) + column]));
        }
    }
    dgate[shift(4u) + row] = sum;
}
