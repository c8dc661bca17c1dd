// Sums over a row of logits by a team of WIDTH threads: the largest, the sum of exponentials, the targets.
#use loss
#use reduce

var<private> kept: array<u32, max(KEEP, 1u)>;
var<private> lane: u32;

/// Finds the row of a thread; false beyond the last, where a thread reads the last row and writes nothing.
fn take_row(in: Builtins) -> bool {
    let place = index_of_group(in.group) * (GROUP / WIDTH) + in.thread / WIDTH;
    own_row = min(place, params.rows - 1u);
    lane = in.thread % WIDTH;
    return place < params.rows;
}

/// How many columns a thread has: lane, lane + WIDTH, ...
fn count_of_columns() -> u32 {
    return (params.width + WIDTH - 1u - lane) / WIDTH;
}

fn column_of(place: u32) -> u32 {
    return lane + place * WIDTH;
}

fn z_bits(place: u32) -> u32 {
    if (KEEP > 0u) {
        return kept[place];
    }
    return logit(column_of(place));
}

/// The least of the columns that threads have; 0 where nobody has one.
fn first_of(in: Builtins, mine: u32) -> u32 {
    // Columns are fewer than 2^24: a float holds them exactly.
    let found = team_max(in, vec2<f32>(-f32(mine), 0.0)).x;
    let first = u32(-found);
    return select(first, 0u, first >= params.width);
}

struct Largest {
    top: f32,
    kind: f32,
    seen: f32,
    /// Its first column.
    column: u32,
}

/// The largest logit of the row; keeps its logits where they are kept.
fn largest_of(in: Builtins) -> Largest {
    let count = count_of_columns();
    var top = LEAST;
    var kind = FINE;
    var finite = 0.0;
    for (var place = 0u; place < count; place++) {
        let bits = logit(column_of(place));
        if (KEEP > 0u) {
            kept[place] = bits;
        }
        kind = max(kind, kind_of(bits));
        if (kind_of(bits) == FINE && !is_hidden(bits)) {
            top = max(top, bitcast<f32>(bits));
            finite += 1.0;
        }
    }
    let found = team_max(in, vec2<f32>(top, kind));
    let seen = team_sum(in, vec2<f32>(finite, 0.0)).x;
    var first = params.width;
    for (var place = 0u; place < count; place++) {
        let bits = z_bits(place);
        let is_top = kind_of(bits) == INFINITE || (found.y != INFINITE && kind_of(bits) == FINE && !is_hidden(bits)
            && bitcast<f32>(bits) == found.x);
        if (is_top) {
            first = min(first, column_of(place));
        }
    }
    return Largest(found.x, found.y, seen, first_of(in, first));
}

/// The sums without the own class, (e^(z - top), that times its distance), and the largest of the others than the label.
fn others_of(in: Builtins, top: f32, kind: f32, own: u32, label: u32) -> vec4<f32> {
    let count = count_of_columns();
    let scale = scale_of_logits();
    var sums = vec2<f32>(0.0, 0.0);
    var rival = vec2<f32>(LEAST, 0.0);
    for (var place = 0u; place < count; place++) {
        let bits = z_bits(place);
        let class_ = params.first + column_of(place);
        if (kind == FINE && !is_hidden(bits)) {
            let z = bitcast<f32>(bits);
            if (class_ != own) {
                let power = exp_below(z, top, scale);
                sums += vec2<f32>(power, select(0.0, power * distance_of(top, z, scale), power > 0.0));
            }
            if (class_ != label) {
                rival = vec2<f32>(max(rival.x, z), 1.0);
            }
        }
    }
    return vec4<f32>(team_sum(in, sums), team_max(in, rival));
}

/// The sums of the targets of the columns that there are.
fn targets_of(in: Builtins, own: u32, sums: Sums) -> Targets {
    let count = count_of_columns();
    var targets = Targets(vec2<f32>(0.0, 0.0), vec2<f32>(0.0, 0.0), 0.0);
    if (is_spread()) {
        for (var place = 0u; place < count; place++) {
            add_target(&targets, params.first + column_of(place), own, z_bits(place), sums);
        }
    }
    let others = team_sum(in, targets.others);
    let of_own = team_sum(in, targets.own);
    return Targets(others, of_own, team_max(in, vec2<f32>(targets.infinite, 0.0)).x);
}
