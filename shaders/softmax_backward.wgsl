// softmax_backward: dx = s y (dy - sum y dy) with s = 1 / temperature.
// y, dy, dx: (rows, columns).
// A workgroup takes GROUP / WIDTH rows, one for each team of WIDTH threads.
#use rows

@group(0) @binding(1) var<storage, read> y: array<Stored>;
@group(0) @binding(2) var<storage, read> dy: array<Stored>;
@group(0) @binding(3) var<storage, read_write> dx: array<Stored>;

@compute @workgroup_size(GROUP)
fn main(in: Builtins) {
    let part = part_of(in);
    var sum = 0.0;
    for (var place = 0u; place < part.count; place++) {
        let p = bitcast<f32>(unpack(y[index_of(part, 0u, place)]));
        sum += p * bitcast<f32>(unpack(dy[index_of(part, 1u, place)]));
    }
    let mean = team_sum(in, vec2<f32>(sum, 0.0)).x;
    if (!part.live) {
        return;
    }
    for (var place = 0u; place < part.count; place++) {
        let p = bitcast<f32>(unpack(y[index_of(part, 0u, place)]));
        let upstream = bitcast<f32>(unpack(dy[index_of(part, 1u, place)]));
        dx[index_of(part, 2u, place)] = pack(flushed(p * (upstream - mean) * params.scale));
    }
}
