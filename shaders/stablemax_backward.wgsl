// stablemax_backward: dx = y (dy - sum y dy) / (1 + |x|); 0 where x is -inf.
// x, y, dy, dx: (rows, columns).
// A workgroup takes GROUP / WIDTH rows, one for each team of WIDTH threads.
#use rows

@group(0) @binding(1) var<storage, read> x: array<Stored>;
@group(0) @binding(2) var<storage, read> y: array<Stored>;
@group(0) @binding(3) var<storage, read> dy: array<Stored>;
@group(0) @binding(4) var<storage, read_write> dx: array<Stored>;

@compute @workgroup_size(GROUP)
fn main(in: Builtins) {
    let part = part_of(in);
    var sum = 0.0;
    for (var place = 0u; place < part.count; place++) {
        let upstream = bitcast<f32>(unpack(dy[index_of(part, 2u, place)]));
        let p = bitcast<f32>(unpack(y[index_of(part, 1u, place)]));
        sum += p * upstream;
    }
    let total = team_sum(in, vec2<f32>(sum, 0.0)).x;
    if (!part.live) {
        return;
    }
    for (var place = 0u; place < part.count; place++) {
        let bits = unpack(x[index_of(part, 0u, place)]);
        let upstream = bitcast<f32>(unpack(dy[index_of(part, 2u, place)]));
        let p = bitcast<f32>(unpack(y[index_of(part, 1u, place)]));
        let gradient = (p * (upstream - total)) / (1.0 + abs(bitcast<f32>(bits)));
        dx[index_of(part, 3u, place)] = pack(select(flushed(gradient), 0u, is_hidden(bits)));
    }
}
