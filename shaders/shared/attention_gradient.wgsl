// The gradient of one score of attention, from what attention_rows has put together.
#use attention

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
}

/// The weight of a key and the gradients of its score and of the dot product (times scale and temperature) below it.
struct Gradient {
    p: f32,
    ds: f32,
    dz: f32,
    seen: bool,
}

fn gradient_of(row: Row, batch: u32, head: u32, query: u32, key: u32, dot: f32, dp: f32) -> Gradient {
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
        let x = one.s + sigmoid_bias_of(head);
        let e = exp_below(-abs(x), 0.0, 1.0);
        let ds = e / ((1.0 + e) * (1.0 + e)) * dp;
        return Gradient(sigmoid(x), ds, ds * one.slope, true);
    }
    let p = exp_below(one.s, max(row.top, one.s), 1.0) * row.inv_sum;
    if (p == 0.0) {
        return Gradient(0.0, 0.0, 0.0, true);
    }
    let ds = p * (dp - row.delta + row.dlse - row.dentropy * (ln_of_number(p) + row.entropy));
    return Gradient(p, ds, ds * one.slope, true);
}
