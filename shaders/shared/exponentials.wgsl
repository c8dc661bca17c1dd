// The sum of the exponentials of a row of x, seen from its maximum. Up to KEEP numbers a thread stay in registers, so
// that rows of up to WIDTH * KEEP columns are read once.
#use rows

@group(0) @binding(1) var<storage, read> x: array<Stored>;

var<private> kept: array<u32, max(KEEP, 1u)>;

struct Sum {
    max: f32,
    /// Of the exponentials below 1.
    below: f32,
    /// How many are 1.
    at_max: f32,
    /// FINE, or what makes the row one that cannot be computed with.
    kind: f32,
}

fn bits_at(part: Part, place: u32) -> u32 {
    if (KEEP > 0u) {
        return kept[place];
    }
    return unpack(x[index_of(part, 0u, place)]);
}

fn sum_of_row(in: Builtins, part: Part) -> Sum {
    var top = LEAST;
    var kind = FINE;
    for (var place = 0u; place < part.count; place++) {
        let bits = unpack(x[index_of(part, 0u, place)]);
        if (KEEP > 0u) {
            kept[place] = bits;
        }
        kind = max(kind, kind_of(bits));
        if (kind == FINE && !is_hidden(bits)) {
            top = max(top, bitcast<f32>(bits));
        }
    }
    let found = team_max(in, vec2<f32>(top, kind));
    var sums = vec2<f32>(0.0, 0.0);
    for (var place = 0u; place < part.count; place++) {
        let bits = bits_at(part, place);
        if (found.y == FINE && !is_hidden(bits)) {
            let number = bitcast<f32>(bits);
            if (number == found.x) {
                sums.y += 1.0;
            } else {
                sums.x += exp_below(number, found.x, params.scale);
            }
        }
    }
    let total = team_sum(in, sums);
    return Sum(found.x, total.x, total.y, found.y);
}

fn ln_of(sum: Sum) -> f32 {
    return ln_1p(sum.below + (sum.at_max - 1.0));
}
