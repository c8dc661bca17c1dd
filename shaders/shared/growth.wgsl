// s(x) of StableMax: x + 1 from 0 up, 1 / (1 - x) below; and the sum over a row, seen from its largest.
#use largest

/// a / b for a, b > 0; a driver's reciprocal of the largest numbers may be no normal number.
fn quotient(a: f32, b: f32) -> f32 {
    return (0.0625 * a) / (0.0625 * b);
}

/// s(x) / s(max) for x <= max.
fn grown(x: f32, max: f32) -> f32 {
    let size = 1.0 + abs(x);
    let largest = 1.0 + abs(max);
    if (max < 0.0) {
        return quotient(largest, size);
    }
    return select(quotient(size, largest), quotient(quotient(1.0, size), largest), x < 0.0);
}

struct Growth {
    max: f32,
    /// The sum of s(x) / s(max) over what is below the maximum.
    below: f32,
    /// How many are at it.
    at_max: f32,
    kind: f32,
}

fn growth_of_row(in: Builtins, part: Part) -> Growth {
    let found = largest(in, part);
    var sums = vec2<f32>(0.0, 0.0);
    for (var place = 0u; place < part.count; place++) {
        let bits = bits_of(part, place);
        if (found.y == FINE && !is_hidden(bits)) {
            let number = bitcast<f32>(bits);
            if (number == found.x) {
                sums.y += 1.0;
            } else {
                sums.x += grown(number, found.x);
            }
        }
    }
    let total = team_sum(in, sums);
    return Growth(found.x, total.x, total.y, found.y);
}
