// cross_entropy: losses of the target's probability p = softmax(z)[target], phi(-ln p), their gradient and statistics.
// x, masses, dx: (rows, columns), classes: (rows), weight: (columns), factors: (rows or 1, 2), numbers: (rows, 8).
// A workgroup takes GROUP / WIDTH rows, one for each team of WIDTH threads.
#use loss_sums

@group(0) @binding(6) var<storage, read_write> numbers: array<u32>;
@group(0) @binding(7) var<storage, read_write> dx: array<Stored>;

@compute @workgroup_size(GROUP)
fn main(in: Builtins) {
    let live = take_row(in);
    let target_class = classes[shift(1u) + select(own_row, 0u, has(SOFT))];
    let ignored = !has(SOFT) && target_class == IGNORED;
    let largest = largest_of(in);
    let heaviest = heaviest_of(in);
    let label = select(select(target_class, 0u, ignored), heaviest, has(SOFT));
    let own = select(label, largest.column, has(SOFT));
    let others = others_of(in, largest.top, largest.kind, own, label);
    let found = Found(
        largest.top, largest.kind, largest.seen, largest.column, others.x, others.y, others.z, others.w, logit(own),
        logit(label),
    );
    let sums = sums_of(found);
    let targets = targets_of(in, own, sums);
    if (!live) {
        return;
    }
    let loss = loss_of(sums, targets, own);
    if (lane == 0u) {
        let of_row = numbers_of(found, sums, loss, ignored);
        for (var place = 0u; place < 8u; place++) {
            numbers[shift(5u) + own_row * 8u + place] = of_row[place];
        }
    }
    if (!has(GRADIENT)) {
        return;
    }
    let upstream = upstream_of(sums);
    let count = count_of_columns();
    for (var place = 0u; place < count; place++) {
        let column = column_of(place);
        let bits = gradient_of(column, z_bits(place), own, ignored, sums, loss, upstream);
        dx[shift(6u) + own_row * params.width + column] = pack(bits);
    }
}

/// The first of the classes with the largest mass; 0 where there are no masses.
fn heaviest_of(in: Builtins) -> u32 {
    let count = select(0u, count_of_columns(), has(SOFT));
    var mass = LEAST;
    for (var place = 0u; place < count; place++) {
        mass = max(mass, mass_given(column_of(place)));
    }
    let heaviest = team_max(in, vec2<f32>(mass, 0.0)).x;
    var first = params.width;
    for (var place = 0u; place < count; place++) {
        if (mass_given(column_of(place)) == heaviest) {
            first = min(first, column_of(place));
        }
    }
    return first_of(in, first);
}
