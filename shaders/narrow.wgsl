// narrow: y[i] = x[index[i]], x in float32, zeros where the index is none.
// x: (rows, width), index: (count), y: (count, width).
// A thread takes a number.
#use gather

@group(0) @binding(2) var<storage, read> x: array<u32>;
@group(0) @binding(3) var<storage, read_write> y: array<Stored>;

@compute @workgroup_size(256)
fn main(@builtin(local_invocation_index) thread: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let place = place_of(thread, group);
    if (place < params.count * params.width) {
        let source = source_of(place);
        var bits = 0u;
        if (source != ABSENT) {
            bits = x[shift(1u) + source];
        }
        y[shift(2u) + place] = pack(bits);
    }
}
