// Dropout of attention: a weight counts 1 over the share that is kept, or not at all. Which ones count is a function of
// seed, batch element, head, query and key of the whole problem, with the bits of the CPU: Philox4x32-10, whose counter is
// (key / 8, query, head, batch element), gives eight numbers of 16 bits, and a weight is dropped below the threshold.
#use attention

/// The upper half of a product.
fn high_product(a: u32, b: u32) -> u32 {
    let low = (a & 0xffffu) * (b & 0xffffu);
    let middle = (a >> 16u) * (b & 0xffffu) + (low >> 16u);
    let other = (a & 0xffffu) * (b >> 16u) + (middle & 0xffffu);
    return (a >> 16u) * (b >> 16u) + (middle >> 16u) + (other >> 16u);
}

fn philox(counter: vec4<u32>) -> vec4<u32> {
    var words = counter;
    var key = vec2<u32>(params.seed_low, params.seed_high);
    for (var round = 0u; round < 10u; round++) {
        words = vec4<u32>(
            high_product(0xCD9E8D57u, words.z) ^ words.y ^ key.x, 0xCD9E8D57u * words.z,
            high_product(0xD2511F53u, words.x) ^ words.w ^ key.y, 0xD2511F53u * words.x,
        );
        key += vec2<u32>(0x9E3779B9u, 0xBB67AE85u);
    }
    return words;
}

/// Which of the eight keys of a group, counted from the first of all keys, are dropped: a bit each.
fn dropped_keys(batch: u32, head: u32, query: u32, group: u32) -> u32 {
    var words = philox(vec4<u32>(
        group, params.first_query + query, params.first_head + head, params.first_batch + batch,
    ));
    var dropped = 0u;
    for (var number = 0u; number < 8u; number++) {
        let drawn = (words[number / 2u] >> (number % 2u * 16u)) & 0xffffu;
        dropped |= select(0u, 1u << number, drawn < params.dropped);
    }
    return dropped;
}

/// What the weight of a key of this part is multiplied by.
fn kept_share(batch: u32, head: u32, query: u32, key: u32) -> f32 {
    if (!has(DROPOUT)) {
        return 1.0;
    }
    let place = params.first_key + key;
    let dropped = dropped_keys(batch, head, query, place / 8u);
    return select(params.kept, 0.0, ((dropped >> (place % 8u)) & 1u) != 0u);
}
