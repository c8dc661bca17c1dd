// Links of losses: phi(v) and phi'(v) of v = -ln p of the target. The values at infinity come with the parameters.

const CROSS_ENTROPY: u32 = 0u;
const COMP_SUM: u32 = 1u;
const FOCAL: u32 = 2u;
const POLY: u32 = 3u;
const SYMMETRIC: u32 = 4u;
const TRUNCATED: u32 = 5u;

fn comp_sum(power: f32, v: f32) -> f32 {
    if (power == 0.0) {
        return v;
    }
    let bounded = clamp(power * v, -100.0, 88.0);
    return select(exp_m1(bounded), grown_exp(bounded) - 1.0, bounded > 0.125) / power;
}

/// u^power for u >= 0.
fn power_of(u: f32, power: f32) -> f32 {
    if (power == 0.0) {
        return 1.0;
    }
    return select(grown_exp(clamp(power * ln_of_number(u), -100.0, 88.0)), 0.0, u <= 0.0);
}

fn phi(v: f32) -> f32 {
    let wrong = -exp_m1(-v);
    switch (params.link) {
        case COMP_SUM: {
            return comp_sum(params.link_a, v);
        }
        case FOCAL: {
            return power_of(wrong, params.link_a) * v;
        }
        case POLY: {
            return v + params.link_a * wrong;
        }
        case SYMMETRIC: {
            return params.link_a * v - params.link_b * wrong;
        }
        case TRUNCATED: {
            return comp_sum(-params.link_a, min(v, params.link_b));
        }
        default: {
            return v;
        }
    }
}

fn phi_slope(v: f32) -> f32 {
    let p = exp_below(-v, 0.0, 1.0);
    let wrong = -exp_m1(-v);
    switch (params.link) {
        case COMP_SUM: {
            return grown_exp(clamp(params.link_a * v, -100.0, 88.0));
        }
        case FOCAL: {
            // At 0 the second term has the limit 0, and is 0 times infinity.
            let second = params.link_a * p * power_of(wrong, params.link_a - 1.0) * v;
            return power_of(wrong, params.link_a) + select(0.0, second, v > 0.0 && wrong > 0.0);
        }
        case POLY: {
            return 1.0 + params.link_a * p;
        }
        case SYMMETRIC: {
            return params.link_a - params.link_b * p;
        }
        case TRUNCATED: {
            return select(0.0, exp_below(-params.link_a * v, 0.0, 1.0), v < params.link_b);
        }
        default: {
            return 1.0;
        }
    }
}
