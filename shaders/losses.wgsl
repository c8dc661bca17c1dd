// losses: from what cross_entropy says of each row to its loss, loss + penalty, or to one number, the sum of
// loss * factor + penalty * factor over all rows.
// numbers: (rows, 8), factors: (rows or 1, 2), answer: (rows) or (1).
// For single losses a thread takes a row; for the sum one workgroup takes all, in a fixed order.
#use numbers
#use reduce
#use call

struct Params {
    call: Call,
    rows: u32,
    is_sum: u32,
    factor_per_row: u32,
}

@group(0) @binding(1) var<storage, read> numbers: array<u32>;
@group(0) @binding(2) var<storage, read> factors: array<f32>;
@group(0) @binding(3) var<storage, read_write> answer: array<u32>;

/// loss * a + penalty * b in x, and the worst kind among them in y.
fn of_row(row: u32, a: f32, b: f32) -> vec2<f32> {
    let start = shift(0u) + row * 8u;
    let loss = numbers[start];
    let penalty = numbers[start + 1u];
    let kind = max(kind_of(loss), kind_of(penalty));
    if (kind != FINE) {
        return vec2<f32>(0.0, kind);
    }
    return vec2<f32>(bitcast<f32>(loss) * a + bitcast<f32>(penalty) * b, FINE);
}

fn bits_of(x: vec2<f32>) -> u32 {
    return select(select(bitcast<u32>(x.x), INFINITY_BITS, x.y == INFINITE), NAN_BITS, x.y == NAN);
}

@compute @workgroup_size(GROUP)
fn main(in: Builtins) {
    if (params.is_sum == 0u) {
        let row = index_of_group(in.group) * GROUP + in.thread;
        if (row < params.rows) {
            answer[shift(2u) + row] = bits_of(of_row(row, 1.0, 1.0));
        }
        return;
    }
    var sum = 0.0;
    var kind = FINE;
    for (var row = in.thread; row < params.rows; row += GROUP) {
        let place = shift(1u) + select(0u, 2u * row, params.factor_per_row != 0u);
        let one = of_row(row, factors[place], factors[place + 1u]);
        sum += one.x;
        kind = max(kind, one.y);
    }
    let total = team_sum(in, vec2<f32>(sum, 0.0));
    let worst = team_max(in, vec2<f32>(kind, 0.0));
    if (in.thread == 0u) {
        answer[shift(2u)] = bits_of(vec2<f32>(total.x, worst.x));
    }
}
