// The gradient of one score of attention, from what attention_rows has put together.
#use attention_far
#use attention_dropout

/// As out.
@group(0) @binding(6) var<storage, read> dout: array<Stored>;
/// (rows, 12).
@group(0) @binding(7) var<storage, read_write> rows: array<f32>;

/// What a query's row gave, and the gradients of its results.
struct Row {
    top: f32,
    inv_sum: f32,
    entropy: f32,
    dlse: f32,
    dentropy: f32,
    delta: f32,
    temperature: f32,
    span: vec2<u32>,
    kind: f32,
    /// Whether products left the range of float32, and whether the top did.
    marked: bool,
    is_far: bool,
}

/// The weight of a key, after dropout, and the gradients of its score and of the dot product (times scale and temperature) below it.
struct Gradient {
    p: f32,
    ds: f32,
    dz: f32,
    seen: bool,
}

fn gradient_of(row: Row, batch: u32, head: u32, query: u32, key: u32, dot: f32, dp: f32) -> Gradient {
    let share = kept_share(batch, head, query, key);
    var one = gradient_of_weight(row, batch, head, query, key, dot, dp * share);
    one.p *= share;
    return one;
}

fn gradient_of_weight(row: Row, batch: u32, head: u32, query: u32, key: u32, dot: f32, dp: f32) -> Gradient {
    if (row.marked) {
        return far_gradient(row, batch, head, query, key, dp);
    }
    let one = score(batch, head, query, key, row.span, dot, row.temperature);
    if (!one.seen) {
        return Gradient(0.0, 0.0, 0.0, false);
    }
    if (one.kind != FINE || row.kind != FINE) {
        // NaN times anything: the runtime's, since the compiler assumes that there is none.
        let spoilt = select(row.delta, row.top, row.kind != FINE) + select(0.0, one.s, one.kind != FINE);
        return Gradient(spoilt, spoilt, spoilt, true);
    }
    if (has(SIGMOID)) {
        let x = one.s + sigmoid_bias_of(batch, head, query);
        let e = exp_below(-abs(x), 0.0, 1.0);
        let weight = sigmoid(x);
        let ds = e / ((1.0 + e) * (1.0 + e)) * (dp + of_sum(row, weight));
        return Gradient(weight, ds, ds * one.slope, true);
    }
    let p = exp_below(one.s, max(row.top, one.s), 1.0) * row.inv_sum;
    if (p == 0.0) {
        return Gradient(0.0, 0.0, 0.0, true);
    }
    let ds = p * (dp - row.delta + row.dlse - row.dentropy * (ln_of_number(p) + row.entropy));
    return Gradient(p, ds, ds * one.slope, true);
}

/// What the gradients of lse and entropy give a weight of the sigmoid, which are those of its share in their sum.
fn of_sum(row: Row, weight: f32) -> f32 {
    let p = weight * row.inv_sum;
    return select(0.0, (row.dlse - row.dentropy * (ln_of_number(p) + row.entropy)) * row.inv_sum, p > 0.0);
}

/// The same in a row whose products left the range.
fn far_gradient(row: Row, batch: u32, head: u32, query: u32, key: u32, dp: f32) -> Gradient {
    if (key < row.span.x || key >= row.span.y) {
        return Gradient(0.0, 0.0, 0.0, false);
    }
    let one = far_score(batch, head, query, key, row.span, row.temperature);
    if (!one.one.seen) {
        return Gradient(0.0, 0.0, 0.0, false);
    }
    let found = FarRow(row.is_far, row.top);
    let bias = sigmoid_bias_of(batch, head, query);
    let weight = far_weight(found, one, bias);
    if (has(SIGMOID)) {
        let e = exp_below(-abs(one.one.s + bias), 0.0, 1.0);
        let ds = select(e / ((1.0 + e) * (1.0 + e)) * (dp + of_sum(row, weight)), 0.0, one.far != 0.0);
        return Gradient(weight, ds, ds * one.one.slope, true);
    }
    let p = weight * row.inv_sum;
    if (p == 0.0) {
        return Gradient(0.0, 0.0, 0.0, true);
    }
    let ds = p * (dp - row.delta + row.dlse - row.dentropy * (ln_of_number(p) + row.entropy));
    return Gradient(p, ds, ds * one.one.slope, true);
}

/// What is known of the row of a query; `pair` is its head among all of the batch.
fn row_of(batch: u32, head: u32, pair: u32, query: u32) -> Row {
    let place = shift(6u) + (pair * params.queries + query) * 12u;
    // Rows whose products left the range of float32 are marked.
    let inv_sum = rows[place + 1u];
    let marked = inv_sum < 0.0;
    let kind = max(kind_of(bitcast<u32>(rows[place])), kind_of(bitcast<u32>(inv_sum)));
    return Row(
        rows[place], abs(inv_sum), rows[place + 2u], rows[place + 3u], rows[place + 4u], rows[place + 5u],
        temperature_of(batch, head, query), span_of(batch, query), select(kind, FINE, marked), marked,
        marked && rows[place + 10u] > 0.0,
    );
}

/// A column of a query and of the gradient of its output, zeros beyond their ends.
fn both_of_query(pair: u32, query: u32, column: u32) -> vec2<f32> {
    var gradient = 0.0;
    if (query < params.queries && column < params.value_dim) {
        gradient = real(unpack(dout[shift(5u) + (pair * params.queries + query) * params.value_dim + column]));
    }
    return vec2<f32>(of_query(pair, query, column), gradient);
}

/// A column of a key and of its value, zeros beyond their ends.
fn both_of_key(key_pair: u32, key: u32, column: u32) -> vec2<f32> {
    return vec2<f32>(of_key(key_pair, key, column), of_value(key_pair, key, column));
}
