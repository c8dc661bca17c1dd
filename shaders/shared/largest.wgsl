// The largest number of a row of x, and whether it can be computed with.
#use rows

@group(0) @binding(1) var<storage, read> x: array<Stored>;

fn bits_of(part: Part, place: u32) -> u32 {
    return unpack(x[index_of(part, 0u, place)]);
}

/// The maximum, and FINE unless there is none, or a NaN or +inf.
fn largest(in: Builtins, part: Part) -> vec2<f32> {
    var top = LEAST;
    var kind = FINE;
    var seen = 0.0;
    for (var place = 0u; place < part.count; place++) {
        let bits = bits_of(part, place);
        kind = max(kind, kind_of(bits));
        if (kind == FINE && !is_hidden(bits)) {
            top = max(top, bitcast<f32>(bits));
            seen = 1.0;
        }
    }
    let found = team_max(in, vec2<f32>(top, kind));
    let any = team_max(in, vec2<f32>(seen, 0.0)).x;
    return vec2<f32>(found.x, select(found.y, NAN, any == 0.0));
}
