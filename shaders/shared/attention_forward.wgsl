// The forward pass of attention in tiles: what the shaders of it share. A workgroup takes BR queries of a head, TPR threads for
// each, and goes through the keys in tiles of BC; the sums are rescaled whenever the maximum grows (Milakov and Gimelshein,
// arXiv 1805.02867). Where an earlier part had other keys it goes on from what that one wrote. How the two products are made
// is in another piece: in shared/attention_products.wgsl or in shared/attention_matrices.wgsl.
#use attention_block
#use attention_dropout
#use attention_moments

@group(0) @binding(6) var<storage, read_write> out: array<Stored>;
@group(0) @binding(7) var<storage, read_write> state: array<u32>;

/// Scores, then weights; below 0 where a key is hidden.
var<workgroup> weights: array<f32, BR * BC>;
/// Of each thread the worst kind of its scores; then which of eight keys of its row are dropped.
var<workgroup> notes: array<u32, BR * TPR>;

@compute @workgroup_size(BR * TPR)
fn main(in: Builtins) {
    let thread = in.thread;
    let block = block_of(in.group);
    if (is_beyond(block)) {
        return;
    }
    let seat = seat_of(block, thread);
    let batch = block.batch;
    let head = block.head;
    let query = seat.query;
    let own_row = seat.row;
    let lane = seat.lane;
    let temperature = temperature_of(batch, head, query);
    let span = span_of(batch, query);
    let is_sigmoid = has(SIGMOID);
    let shift_of_row = sigmoid_bias_of(batch, head, query);

    for (var place = thread; place < BR * SIZE; place += BR * TPR) {
        let row = place / SIZE;
        let column = place % SIZE;
        put_query(row, column, of_query(block.pair, block.first + row, column));
    }

    var top = LEAST;
    var most = LEAST;
    var sum = 0.0;
    var moment = 0.0;
    var kind = FINE;
    var seen_any = false;
    if (has_sink(head)) {
        top = sink_of(head);
        sum = 1.0;
    }
    var mixed: array<f32, OWN>;
    for (var column = 0u; column < OWN; column++) {
        mixed[column] = 0.0;
    }
    let row = block.pair * params.queries + query;
    let place_of_row = shift(6u) + row * 5u;
    if (has(ADDS)) {
        let inv_sum = state[place_of_row + 2u];
        kind = kind_of(inv_sum);
        seen_any = kind == FINE && !is_hidden(state[place_of_row + 1u]);
        if (seen_any) {
            most = real(state[place_of_row + 1u]);
            top = max(top, most);
        }
        if (kind == FINE && real(inv_sum) > 0.0) {
            sum = 1.0 / real(inv_sum);
            moment = sum * (ln_of_number(sum) - real(state[place_of_row + 3u]));
            for (var column = 0u; column < OWN; column++) {
                let place = lane + column * TPR;
                if (place < params.value_dim) {
                    let earlier = real(unpack(out[shift(5u) + row * params.value_dim + place]));
                    mixed[column] = earlier * select(sum, 1.0, is_sigmoid);
                }
            }
        }
    }

    begin_moments(row, lane, sum);

    // Whole tiles that no query of the block sees are left out.
    let keys = keys_of(block);
    for (var start = keys.x; start < keys.y; start += BC) {
        workgroupBarrier();
        for (var place = thread; place < BC * SIZE; place += BR * TPR) {
            var number = 0.0;
            if (start + place / SIZE < keys.y) {
                number = of_key(block.key_pair, start + place / SIZE, place % SIZE);
            }
            put_in_tile(place, number);
        }
        workgroupBarrier();
        multiply_keys(in);
        var tile_top = LEAST;
        var tile_kind = FINE;
        for (var key = lane; key < BC; key += TPR) {
            let one = score(batch, head, query, start + key, span, dot_of(own_row, key), temperature);
            tile_kind = max(tile_kind, one.kind);
            count_infinite(one.kind);
            // A hidden key is marked by the least number; no score that can be computed with is as low.
            weights[own_row * BC + key] = select(LEAST, max(one.s, LEAST * 0.999999), one.seen && one.kind == FINE);
        }
        notes[thread] = bitcast<u32>(tile_kind);
        workgroupBarrier();
        for (var other = 0u; other < TPR; other++) {
            kind = max(kind, bitcast<f32>(notes[own_row * TPR + other]));
        }
        for (var key = 0u; key < BC; key++) {
            tile_top = max(tile_top, weights[own_row * BC + key]);
        }
        let earlier_most = most;
        most = max(most, tile_top);
        seen_any = seen_any || tile_top > LEAST;
        let next = max(top, tile_top);
        let shrink = select(exp_below(top, next, 1.0), 1.0, is_sigmoid);
        if (!is_sigmoid && sum > 0.0 && shrink > 0.0) {
            moment = shrink * (moment - distance(next, top) * sum);
        } else if (!is_sigmoid) {
            moment = 0.0;
        }
        move_moments(distance(most, earlier_most), distance(next, top), shrink);
        sum *= shrink;
        top = next;
        for (var column = 0u; column < OWN; column++) {
            mixed[column] *= shrink;
        }
        workgroupBarrier();
        for (var key = lane; key < BC; key += TPR) {
            let s = weights[own_row * BC + key];
            var weight = -1.0;
            if (s > LEAST) {
                weight = select(exp_below(s, top, 1.0), sigmoid(s + shift_of_row), is_sigmoid);
                take_score(distance(most, s), distance(top, s), weight);
            }
            weights[own_row * BC + key] = weight;
        }
        if (has(DROPOUT)) {
            notes[thread] = dropped_keys(batch, head, query, (params.first_key + start) / 8u + lane);
        }
        workgroupBarrier();
        for (var place = thread; place < BC * SIZE; place += BR * TPR) {
            var number = 0.0;
            if (start + place / SIZE < keys.y) {
                number = of_value(block.key_pair, start + place / SIZE, place % SIZE);
            }
            put_in_tile(place, number);
        }
        put_shares(own_row, lane, start);
        workgroupBarrier();
        multiply_values(in);
        for (var key = 0u; key < BC; key++) {
            let weight = weights[own_row * BC + key];
            if (weight >= 0.0) {
                sum += weight;
            }
            if (weight > 0.0) {
                moment += weight * ln_of_number(weight);
            }
        }
        add_values(&mixed, own_row, lane, start);
    }
    gather_moments(thread, lane);
    if (!seat.live) {
        return;
    }
    let is_spoilt = kind != FINE;
    let is_nan = is_spoilt || (!seen_any && has(EMPTY_IS_NAN) && !has(OPEN));
    let factor = select(select(0.0, 1.0 / max(sum, 1e-37), sum > 0.0), 1.0, is_sigmoid);
    for (var column = 0u; column < OWN; column++) {
        let place = lane + column * TPR;
        if (place < params.value_dim) {
            let bits = bitcast<u32>(mixed[column] * factor);
            out[shift(5u) + row * params.value_dim + place] = pack(select(bits, NAN_BITS, is_nan));
        }
    }
    if (lane != 0u) {
        return;
    }
    write_moments(row, most, is_nan);
    let base = select(top, 0.0, is_sigmoid);
    let lse = select(bitcast<u32>(base + ln_of_number(sum)), MINUS_INFINITY_BITS, sum <= 0.0);
    let spread = max(ln_of_number(sum) - moment / max(sum, 1e-37), 0.0);
    let inv_sum = select(0.0, 1.0 / max(sum, 1e-37), sum > 0.0);
    state[place_of_row] = select(lse, NAN_BITS, is_nan);
    state[place_of_row + 1u] = select(select(MINUS_INFINITY_BITS, bitcast<u32>(most), seen_any), NAN_BITS, is_nan);
    state[place_of_row + 2u] = select(bitcast<u32>(inv_sum), NAN_BITS, is_spoilt);
    state[place_of_row + 3u] = select(bitcast<u32>(select(0.0, spread, sum > 0.0 && seen_any)), NAN_BITS, is_nan);
    state[place_of_row + 4u] = 0u;
}

/// What the weight of a key of the tile is multiplied by.
fn kept_in_tile(own_row: u32, start: u32, key: u32) -> f32 {
    if (!has(DROPOUT)) {
        return 1.0;
    }
    let first = params.first_key + start;
    let dropped = notes[own_row * TPR + (first + key) / 8u - first / 8u];
    return select(params.kept, 0.0, ((dropped >> ((first + key) % 8u)) & 1u) != 0u);
}
