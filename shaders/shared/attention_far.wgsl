// Rows of attention some of whose products leave the range of float32 where the result does not: they are computed anew,
// with products in units of 2^140. A row whose largest score is beyond the range gives all weight to it (and to its
// equals); else what lies below the range has no weight. Such rows are marked by a negative 1 / sum, as on the CPU.
#use attention

/// 2^-70.
const TINY: f32 = 8.470329472543003e-22;

/// A score; `far` is not 0 where it lies beyond the range, and then its multiple of 2^140.
struct FarScore {
    one: Score,
    far: f32,
}

/// What a row comes to: its top, in units of 2^140 if it is far.
struct FarRow {
    is_far: bool,
    top: f32,
}

fn is_special(x: f32) -> bool {
    return (bitcast<u32>(x) & INFINITY_BITS) == INFINITY_BITS;
}

fn far_score(batch: u32, head: u32, query: u32, key: u32, span: vec2<u32>, temperature: f32) -> FarScore {
    let q_start = shift(0u) + ((batch * params.heads + head) * params.queries + query) * params.dim;
    let key_pair = batch * (params.heads / params.share) + head / params.share;
    let k_start = shift(1u) + (key_pair * params.keys + key) * params.dim;
    var dot = 0.0;
    var small = 0.0;
    for (var column = 0u; column < params.dim; column++) {
        let of_query = real(unpack(q[q_start + column]));
        let of_key = real(unpack(k[k_start + column]));
        dot += of_query * of_key;
        small += (of_query * TINY) * (of_key * TINY);
    }
    let product = dot * params.scale * temperature;
    let is_lost = is_special(params.scale) || is_special(temperature) || is_special(small);
    if (!is_special(product) || is_lost) {
        // An input that is no number makes none of small, too.
        return FarScore(score_of_product(batch, head, query, key, span, product), 0.0);
    }
    // Factors are taken apart: their product may be below all numbers where the score is not.
    let rest = small * fraction_of(params.scale) * fraction_of(temperature);
    let shift_of_rest = exponent_of(params.scale) + exponent_of(temperature);
    let exponent = exponent_of(rest) + shift_of_rest;
    if (rest == 0.0 || exponent + 140 <= 126) {
        let near = lifted(rest, max(shift_of_rest + 140, -250));
        return FarScore(score_of_product(batch, head, query, key, span, near), 0.0);
    }
    let largest = select(-3.0e38, 3.0e38, rest > 0.0);
    if (has(SOFTCAP)) {
        return FarScore(score_of_product(batch, head, query, key, span, largest), 0.0);
    }
    var far = largest;
    if (exponent <= 126) {
        far = lifted(rest, shift_of_rest);
    }
    return FarScore(score_of_product(batch, head, query, key, span, 0.0), far);
}

/// x = fraction 2^exponent with a fraction of 1 to 2; numbers below the normal ones count as 0.
fn exponent_of(x: f32) -> i32 {
    return i32((bitcast<u32>(x) >> 23u) & 255u) - 127;
}

fn fraction_of(x: f32) -> f32 {
    let bits = bitcast<u32>(x);
    return select(bitcast<f32>((bits & 0x807fffffu) | 0x3f800000u), 0.0, (bits & INFINITY_BITS) == 0u);
}

/// x 2^n for n from -252 to 254.
fn lifted(x: f32, n: i32) -> f32 {
    let half = n / 2;
    return x * bitcast<f32>(u32(half + 127) << 23u) * bitcast<f32>(u32(n - half + 127) << 23u);
}

/// The weight of a key, before it is divided by the sum.
fn far_weight(row: FarRow, one: FarScore, sigmoid_bias: f32) -> f32 {
    if (has(SIGMOID)) {
        return select(sigmoid(one.one.s + sigmoid_bias), select(0.0, 1.0, one.far > 0.0), one.far != 0.0);
    }
    if (row.is_far) {
        return select(0.0, 1.0, one.far == row.top);
    }
    return select(exp_below(one.one.s, max(row.top, one.one.s), 1.0), 0.0, one.far != 0.0);
}

/// A marked row, or another one, of which the forward pass has left the largest score and, if it is far, the top.
fn row_of_state(head: u32, most: u32, far_top: f32) -> FarRow {
    if (far_top != 0.0) {
        return FarRow(true, far_top);
    }
    var top = LEAST;
    if (!is_hidden(most)) {
        top = real(most);
    }
    if (has_sink(head)) {
        top = max(top, sink_of(head));
    }
    return FarRow(false, top);
}
