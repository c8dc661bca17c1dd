//! Why an operation refused its arguments or stopped.

use std::fmt;

/// What the operations return.
pub type Result<T> = std::result::Result<T, Error>;

/// Why an operation refused its arguments or stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// An array whose shape does not fit the operation or the other arrays.
    Shape {
        /// Name of the operation, such as `"attention"`.
        operation: &'static str,
        /// Name of the argument.
        argument: &'static str,
        /// What came.
        got: String,
        /// What would work.
        expected: String,
    },
    /// An option outside of what the operation accepts.
    Argument {
        /// Name of the operation.
        operation: &'static str,
        /// Name of the argument.
        argument: &'static str,
        /// What came.
        got: String,
        /// What would work.
        expected: String,
    },
    /// A class index outside of the classes.
    Target {
        /// Name of the operation.
        operation: &'static str,
        /// Index of the row, in row-major order.
        row: usize,
        /// The class index that came.
        value: i64,
        /// How many classes there are.
        classes: usize,
    },
    /// Numbers that cannot be computed with.
    Numerical {
        /// Name of the operation.
        operation: &'static str,
        /// What there is.
        got: String,
        /// What would work.
        expected: String,
    },
    /// The caller asked to stop ([`crate::Cancel`]).
    Interrupted,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Shape { operation, argument, got, expected } => {
                write!(f, "{operation}: {argument} has shape {got}; use {expected}")
            }
            Error::Argument { operation, argument, got, expected } => {
                write!(f, "{operation}: {argument} is {got}; use {expected}")
            }
            Error::Target { operation, row, value, classes } => {
                write!(
                    f,
                    "{operation}: target {value} in row {row} is no class; use 0..{}",
                    classes.saturating_sub(1)
                )
            }
            Error::Numerical { operation, got, expected } => {
                write!(f, "{operation}: {got}; use {expected}")
            }
            Error::Interrupted => write!(f, "interrupted"),
        }
    }
}

impl std::error::Error for Error {}
