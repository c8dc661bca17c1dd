// The largest scores of a row of attention whose products left the range of float32, over all keys of a part; further parts go
// on with them.
#use attention_far

struct FarTops {
    /// The worst kind of a score, and whether the row sees a key.
    kind: f32,
    seen: bool,
    /// The largest scores above the range and below it, in units of 2^140, and within; 0 and LEAST where there is none.
    above: f32,
    below: f32,
    near: f32,
}

fn no_tops() -> FarTops {
    return FarTops(FINE, false, 0.0, LEAST, LEAST);
}

fn with_keys(earlier: FarTops, batch: u32, head: u32, query: u32) -> FarTops {
    let span = span_of(batch, query);
    let temperature = temperature_of(batch, head, query);
    var tops = earlier;
    for (var key = span.x; key < span.y; key++) {
        let one = far_score(batch, head, query, key, span, temperature);
        if (!one.one.seen) {
            continue;
        }
        tops.seen = true;
        tops.kind = max(tops.kind, one.one.kind);
        if (one.far > 0.0) {
            tops.above = max(tops.above, one.far);
        } else if (one.far < 0.0) {
            tops.below = max(tops.below, one.far);
        } else if (one.one.kind == FINE) {
            tops.near = max(tops.near, one.one.s);
        }
    }
    return tops;
}

fn row_of_tops(tops: FarTops, head: u32) -> FarRow {
    let has_near = has_sink(head) || tops.near > LEAST;
    if (tops.above > 0.0 || !has_near) {
        return FarRow(true, select(tops.below, tops.above, tops.above > 0.0));
    }
    return FarRow(false, select(tops.near, max(tops.near, sink_of(head)), has_sink(head)));
}
