//! Links: what a loss makes of v = -ln p of the target.
//!
//! Every loss of the target's probability alone is phi(v), and its gradient phi'(v) (p - [k = y]): one kernel
//! serves them all.

use crate::error::{Error, Result};

/// phi of a loss phi(v).
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Link {
    /// v: cross entropy.
    CrossEntropy,
    /// (e^{(1 - tau) v} - 1) / (1 - tau): comp-sum (Mao, Mohri and Zhong, arXiv 2304.07288). 0 is the sum of
    /// exponentials, 1 cross entropy, 1 + q generalized cross entropy, 2 the mean absolute error 1 - p.
    CompSum {
        /// tau >= 0.
        tau: f64,
    },
    /// (1 - p)^gamma v: focal.
    Focal {
        /// gamma >= 0.
        gamma: f64,
    },
    /// v + epsilon (1 - p): the first term of `PolyLoss`.
    Poly {
        /// Any finite number.
        epsilon: f64,
    },
    /// a v - b A (1 - p): symmetric cross entropy, A standing for the logarithm of 0.
    Symmetric {
        /// Weight of cross entropy.
        a: f64,
        /// Weight of reverse cross entropy.
        b: f64,
        /// A < 0.
        log_zero: f64,
    },
    /// (1 - p^q) / q where p > k, and what that is at k below: truncated generalized cross entropy.
    Truncated {
        /// 0 < q <= 1.
        q: f64,
        /// 0 < k < 1.
        k: f64,
    },
}

/// The names that Python knows the links by, with those of their parameters.
const NAMED: [(&str, &[&str]); 8] = [
    ("ce", &[]),
    ("comp_sum", &["tau"]),
    ("gce", &["q"]),
    ("mae", &[]),
    ("focal", &["gamma"]),
    ("poly", &["epsilon"]),
    ("symmetric", &["a", "b", "log_zero"]),
    ("truncated_gce", &["q", "k"]),
];

impl Link {
    /// The link with a name and the values of its parameters, by their names.
    ///
    /// # Errors
    /// [`Error::Argument`] for an unknown name, for parameters other than those it has, and for values outside
    /// of what it is defined for.
    pub fn named(operation: &'static str, name: &str, parameters: &[(String, f64)]) -> Result<Self> {
        let Some((_, names)) = NAMED.iter().find(|(known, _)| *known == name) else {
            let known: Vec<_> = NAMED.iter().map(|(known, _)| format!("'{known}'")).collect();
            return Err(wrong(operation, "link", format!("'{name}'"), known.join(", ")));
        };
        let mut values = Vec::new();
        for &wanted in *names {
            values.extend(parameters.iter().filter(|(given, _)| given == wanted).map(|&(_, value)| value));
        }
        if values.len() != names.len() || parameters.len() != names.len() {
            let given: Vec<_> = parameters.iter().map(|(given, _)| given.as_str()).collect();
            let expected = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            return Err(wrong(
                operation,
                "link_params",
                format!("({}) for link '{name}'", given.join(", ")),
                format!("({expected})"),
            ));
        }
        let link = match (name, values.as_slice()) {
            ("comp_sum", &[tau]) => Link::CompSum { tau },
            ("gce", &[q]) => Link::CompSum { tau: 1.0 + q },
            ("mae", _) => Link::CompSum { tau: 2.0 },
            ("focal", &[gamma]) => Link::Focal { gamma },
            ("poly", &[epsilon]) => Link::Poly { epsilon },
            ("symmetric", &[a, b, log_zero]) => Link::Symmetric { a, b, log_zero },
            ("truncated_gce", &[q, k]) => Link::Truncated { q, k },
            _ => Link::CrossEntropy,
        };
        for ((&parameter, &value), expected) in names.iter().zip(&values).zip(expectations(name)) {
            let (fits, expected) = expected(value);
            if !(fits && value.is_finite()) {
                return Err(wrong(operation, parameter, format!("{value:?}"), expected.to_owned()));
            }
        }
        Ok(link)
    }

    /// phi(v).
    pub(crate) fn value(self, v: f64) -> f64 {
        match self {
            Link::CrossEntropy => v,
            Link::CompSum { tau } => comp_sum(tau, v),
            Link::Focal { gamma } => wrongness(v).powf(gamma) * v,
            Link::Poly { epsilon } => v + epsilon * wrongness(v),
            Link::Symmetric { a, b, log_zero } => weighted(a, v) - b * log_zero * wrongness(v),
            Link::Truncated { q, k } => comp_sum(1.0 + q, v.min(-k.ln())),
        }
    }

    /// phi'(v).
    pub(crate) fn slope(self, v: f64) -> f64 {
        match self {
            Link::CrossEntropy => 1.0,
            Link::CompSum { tau } => weighted(1.0 - tau, v).exp(),
            Link::Focal { gamma } => {
                let u = wrongness(v);
                // At both ends the second term has the limit 0, and is 0 times infinity.
                let second = if v > 0.0 && v < f64::INFINITY {
                    gamma * (-v).exp() * u.powf(gamma - 1.0) * v
                } else {
                    0.0
                };
                u.powf(gamma) + second
            }
            Link::Poly { epsilon } => 1.0 + epsilon * (-v).exp(),
            Link::Symmetric { a, b, log_zero } => a - b * log_zero * (-v).exp(),
            Link::Truncated { q, k } => {
                if v < -k.ln() {
                    (-q * v).exp()
                } else {
                    0.0
                }
            }
        }
    }

    /// Whether it has a meaning for targets that are spread over classes.
    pub(crate) fn spreads(self) -> bool {
        matches!(self, Link::CrossEntropy | Link::CompSum { .. })
    }
}

/// 1 - p.
fn wrongness(v: f64) -> f64 {
    -(-v).exp_m1()
}

/// `factor * v`, 0 for a factor of 0 even where v is infinite.
fn weighted(factor: f64, v: f64) -> f64 {
    if factor == 0.0 { 0.0 } else { factor * v }
}

fn comp_sum(tau: f64, v: f64) -> f64 {
    let power = 1.0 - tau;
    // A power of 0 is the limit; near it the quotient needs no series, since `exp_m1` is accurate there.
    if power == 0.0 { v } else { (power * v).exp_m1() / power }
}

/// Whether a value of a parameter fits, and what would.
type Expectation = fn(f64) -> (bool, &'static str);

fn expectations(name: &str) -> &'static [Expectation] {
    match name {
        "comp_sum" | "focal" => &[|x| (x >= 0.0, "a finite number, at least 0")],
        "gce" => &[|x| (x > 0.0 && x <= 1.0, "a number above 0, at most 1")],
        "truncated_gce" => &[
            |x| (x > 0.0 && x <= 1.0, "a number above 0, at most 1"),
            |x| (x > 0.0 && x < 1.0, "a number between 0 and 1"),
        ],
        "poly" => &[|_| (true, "a finite number")],
        "symmetric" => &[
            |x| (x >= 0.0, "a finite number, at least 0"),
            |x| (x >= 0.0, "a finite number, at least 0"),
            |x| (x < 0.0, "a finite number below 0"),
        ],
        _ => &[],
    }
}

fn wrong(operation: &'static str, argument: &'static str, got: String, expected: String) -> Error {
    Error::Argument { operation, argument, got, expected }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINKS: [Link; 12] = [
        Link::CrossEntropy,
        Link::CompSum { tau: 0.0 },
        Link::CompSum { tau: 0.3 },
        Link::CompSum { tau: 1.0 },
        Link::CompSum { tau: 1.7 },
        Link::CompSum { tau: 3.0 },
        Link::Focal { gamma: 0.0 },
        Link::Focal { gamma: 0.5 },
        Link::Focal { gamma: 2.0 },
        Link::Poly { epsilon: -0.5 },
        Link::Symmetric { a: 0.1, b: 1.0, log_zero: -4.0 },
        Link::Truncated { q: 0.7, k: 0.3 },
    ];

    #[test]
    fn slopes_are_the_derivatives_of_values() {
        for link in LINKS {
            for v in [1e-3, 0.1, 1.0, 1.3, 5.0, 20.0] {
                let step = 1e-6 * v;
                let numeric = (link.value(v + step) - link.value(v - step)) / (2.0 * step);
                let slope = link.slope(v);
                assert!((numeric - slope).abs() <= 1e-7 * slope.abs().max(1e-3), "{link:?} at {v}");
            }
        }
    }

    #[test]
    fn both_ends_have_their_limits() {
        for link in LINKS {
            assert_eq!(link.value(0.0), 0.0, "{link:?}");
            assert!(link.slope(0.0) >= 0.0, "{link:?}");
            assert!(link.value(f64::INFINITY) > 0.0, "{link:?}");
            assert!(link.slope(f64::INFINITY) >= 0.0, "{link:?}");
        }
        assert_eq!(Link::CompSum { tau: 3.0 }.value(f64::INFINITY), 0.5);
        assert_eq!(Link::Symmetric { a: 0.0, b: 1.0, log_zero: -4.0 }.value(f64::INFINITY), 4.0);
    }

    #[test]
    fn near_tau_1_comp_sum_is_cross_entropy() {
        for tau in [1.0 - 1e-7, 1.0 + 1e-7, 1.0 - 1e-13, 1.0] {
            for v in [1e-30, 1e-3, 1.0, 2.0] {
                assert!((Link::CompSum { tau }.value(v) - v).abs() <= 1e-6 * v, "{tau} {v}");
            }
        }
    }

    #[test]
    fn names_and_parameters_are_checked() {
        let of = |name: &str, given: &[(&str, f64)]| {
            let given: Vec<_> = given.iter().map(|&(name, value)| (name.to_owned(), value)).collect();
            Link::named("cross_entropy", name, &given).map_err(|error| error.to_string())
        };
        assert_eq!(of("gce", &[("q", 0.5)]), Ok(Link::CompSum { tau: 1.5 }));
        assert_eq!(
            of("symmetric", &[("log_zero", -4.0), ("b", 1.0), ("a", 0.5)]),
            Ok(Link::Symmetric { a: 0.5, b: 1.0, log_zero: -4.0 })
        );
        assert_eq!(
            of("comp_sum", &[("tau", -1.0)]).unwrap_err(),
            "cross_entropy: tau is -1.0; use a finite number, at least 0"
        );
        assert_eq!(
            of("focal", &[("tau", 1.0)]).unwrap_err(),
            "cross_entropy: link_params is (tau) for link 'focal'; use (gamma)"
        );
        assert_eq!(
            of("mae", &[("q", 1.0)]).unwrap_err(),
            "cross_entropy: link_params is (q) for link 'mae'; use (none)"
        );
        assert!(
            of("huber", &[]).unwrap_err().starts_with("cross_entropy: link is 'huber'; use 'ce', 'comp_sum'")
        );
    }
}
