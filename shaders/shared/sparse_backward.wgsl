// The gradient of sparsemax and 1.5-entmax: dx = r (dy - sum r dy / sum r), r being what a file that uses this says.
#use rows

@group(0) @binding(1) var<storage, read> y: array<Stored>;
@group(0) @binding(2) var<storage, read> dy: array<Stored>;
@group(0) @binding(3) var<storage, read_write> dx: array<Stored>;

fn write_row(in: Builtins) {
    let part = part_of(in);
    var sums = vec2<f32>(0.0, 0.0);
    var kind = FINE;
    for (var place = 0u; place < part.count; place++) {
        let p = unpack(y[index_of(part, 0u, place)]);
        kind = max(kind, kind_of(p));
        let weight = weight_of(bitcast<f32>(p));
        if (weight > 0.0) {
            sums += vec2<f32>(weight * bitcast<f32>(unpack(dy[index_of(part, 1u, place)])), weight);
        }
    }
    let total = team_sum(in, sums);
    let worst = team_max(in, vec2<f32>(kind, 0.0)).x;
    if (!part.live) {
        return;
    }
    let mean = total.x / max(total.y, 1e-30);
    for (var place = 0u; place < part.count; place++) {
        let weight = weight_of(bitcast<f32>(unpack(y[index_of(part, 0u, place)])));
        var answer = 0u;
        if (worst != FINE) {
            answer = NAN_BITS;
        } else if (weight > 0.0) {
            answer = flushed(weight * (bitcast<f32>(unpack(dy[index_of(part, 1u, place)])) - mean));
        }
        dx[index_of(part, 2u, place)] = pack(answer);
    }
}
